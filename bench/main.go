// Bench compares the library with hand-written SQL on pgx, and with what people use instead, on a PostgreSQL of
// its own. make bench runs it: it prints a table and writes it to RESULTS.md.
//
// All peers have the same tables, data and number of connections, and are checked to return and store the same
// before they are measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/soultribe-chat/soultribe/internal/pgserver" //nolint:depguard // the benchmark is no part of the library, and runs where its tests do
)

func main() {
	passes := flag.Int("passes", 7, "how often each peer runs each operation")
	slice := flag.Duration("slice", 30*time.Millisecond, "how long the reference runs an operation in a pass")
	people := flag.Int("people", 1000, "how many people have slots")
	only := flag.String("run", "", "a regular expression of the operations to run; the others are left out")
	against := flag.String("peers", "", "a regular expression of the peers to run; the others are left out, but for the reference")
	out := flag.String("out", "RESULTS.md", "the file to write")
	flag.Parse()

	ops, err := matching(*only)
	isPeer, errPeers := regexp.Compile(*against)
	if err := errors.Join(err, errPeers); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, os.Stdout, os.Stderr, *out, *people, ops, isPeer, method{*passes, *slice})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// matching returns the operations whose names match.
func matching(pattern string) ([]operation, error) {
	match, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(operations(), func(op operation) bool { return !match.MatchString(op.name) }), nil
}

func run(ctx context.Context, table, progress io.Writer, out string, people int, ops []operation, isPeer *regexp.Regexp, m method) (err error) {
	if m.passes < 1 || m.slice <= 0 || people < 2*askers+2 {
		return fmt.Errorf("one pass, a slice and %d people are needed", 2*askers+2)
	}
	server, err := pgserver.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Stop()
	databaseURL, drop, err := createDatabase(ctx, server.URL)
	if drop != nil {
		defer func() { err = errors.Join(err, drop()) }()
	}
	if err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	d, err := fill(ctx, pool, people)
	if err != nil {
		return err
	}
	peers, closePeers, err := openPeers(ctx, environment{databaseURL, epoch})
	defer closePeers()
	if err != nil {
		return err
	}
	peers = slices.DeleteFunc(slices.Clone(peers), func(p peer) bool { return p.name != nameReference && !isPeer.MatchString(p.name) })
	if err := compare(ctx, d, peers, ops); err != nil {
		return err
	}
	begin := time.Now()
	results, err := measure(ctx, progress, d, peers, ops, m)
	if err != nil {
		return err
	}
	r := report{samples: results, peers: peers, ops: ops, people: people, method: m, took: time.Since(begin), server: server.Description}
	text := r.text()
	if _, err := io.WriteString(table, text); err != nil {
		return err
	}
	return os.WriteFile(out, []byte(text), 0o644) //nolint:gosec // for everyone to read
}

// The names of the peers that figures are compared with, or by.
const (
	nameReference = "pgx"
	nameAgain     = "pgx again"
	nameVariant   = "pgx, otherwise"
	nameLibrary   = "soultribe"
)

// openPeers opens all peers, the reference first. The caller calls closePeers at the end, also after an error.
func openPeers(ctx context.Context, env environment) (peers []peer, closePeers func(), err error) {
	closePeers = func() {
		for _, p := range peers {
			p.close()
		}
	}
	for _, open := range []func(context.Context, environment) (peer, error){
		newReference(nameReference), newReference(nameAgain), newVariants, newLibrary, newBuilder, newSqlc,
		newGORM, newTunedGORM, newEnt, newBun, newSqlx,
	} {
		p, err := open(ctx, env)
		if err != nil {
			return peers, closePeers, err
		}
		peers = append(peers, p)
	}
	return peers, closePeers, nil
}
