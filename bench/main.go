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
	passes := flag.Int("passes", 11, "how often each peer runs each operation")
	slice := flag.Duration("slice", 50*time.Millisecond, "how long the reference runs an operation in a pass")
	people := flag.Int("people", 1000, "how many people have slots")
	only := flag.String("run", "", "a regular expression of the operations to run; the others are left out")
	against := flag.String("peers", "", "a regular expression of the peers to run, by the names that are printed; the others are left out, but for the reference")
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

// matching returns the operations whose names match, of which there must be some.
func matching(pattern string) ([]operation, error) {
	match, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	ops := slices.DeleteFunc(operations(), func(op operation) bool { return !match.MatchString(op.name) })
	if len(ops) == 0 {
		return nil, fmt.Errorf("no operation matches %q", pattern)
	}
	return ops, nil
}

// among returns the peers of which a name is printed that matches, and the reference.
func among(peers []peer, ops []operation, match *regexp.Regexp) ([]peer, error) {
	matches := func(p peer) bool {
		return slices.ContainsFunc(ops, func(op operation) bool { return op.has(p) && match.MatchString(label(op, p.name)) })
	}
	if !slices.ContainsFunc(peers, matches) {
		return nil, fmt.Errorf("no peer matches %q", match)
	}
	return slices.DeleteFunc(slices.Clone(peers), func(p peer) bool { return p.name != nameReference && !matches(p) }), nil
}

func run(ctx context.Context, table, progress io.Writer, out string, people int, ops []operation, isPeer *regexp.Regexp, m method) (err error) {
	if m.passes < 1 || m.slice <= 0 || people < 2*askers+2 {
		return fmt.Errorf("one pass, a slice and %d people are needed", 2*askers+2)
	}
	// What cannot be written is to fail now, and not when everything is measured.
	file, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE, 0o644) //nolint:gosec // for everyone to read
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
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
	peers, err = among(peers, ops, isPeer)
	if err != nil {
		return err
	}
	if err := compare(ctx, d, peers, ops); err != nil {
		return err
	}
	r := report{peers: peers, ops: ops, people: people, method: m, server: server.Description}
	// Those that say what a commit waits for, and what is kept in memory.
	err = pool.QueryRow(ctx, `SELECT string_agg(name || ' ' || current_setting(name), ', ' ORDER BY place)
		FROM unnest(ARRAY['fsync', 'synchronous_commit', 'full_page_writes', 'shared_buffers']) WITH ORDINALITY AS s (name, place)`).Scan(&r.settings)
	if err != nil {
		return err
	}
	begin := time.Now()
	if r.samples, err = measure(ctx, progress, d, peers, ops, m); err != nil {
		return err
	}
	r.took = time.Since(begin)
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
