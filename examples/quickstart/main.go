// Quickstart tells the whole story on a real PostgreSQL: two people register and verify, say when they
// are free in their own time zones, find each other, match, and meet, while clocks change in one of the
// two cities. Somebody else then wants the same hour.
//
// It uses the database at DATABASE_URL, in a schema of its own that it removes afterwards, or else a
// PostgreSQL that it provides itself and removes too.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/internal/pgserver"
	"github.com/soultribe-chat/soultribe/schema"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Stdout, os.Getenv("DATABASE_URL"))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run tells the story on the database at databaseURL, or on one of its own.
func run(ctx context.Context, out io.Writer, databaseURL string) (err error) {
	where := "the database at DATABASE_URL"
	if databaseURL == "" {
		server, err := pgserver.Start(ctx)
		if err != nil {
			return err
		}
		defer server.Stop()
		databaseURL, where = server.URL, server.Description
	}
	config, err := soultribe.PoolConfig(databaseURL)
	if err != nil {
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()

	// This run's alone: nothing of the database's owner is touched.
	name := "soultribe_quickstart_" + strings.ToLower(rand.Text()[:8])
	if err := schema.Migrate(ctx, pool, schema.In(name)); err != nil {
		return err
	}
	defer func() {
		_, dropped := pool.Exec(context.WithoutCancel(ctx), "DROP SCHEMA "+pgx.Identifier{name}.Sanitize()+" CASCADE")
		err = errors.Join(err, dropped)
	}()

	s := &story{out: out, now: friday}
	s.store, err = soultribe.New(pool, soultribe.WithSchema(name), soultribe.WithClock(func() time.Time { return s.now }))
	if err != nil {
		return err
	}
	s.line("soultribe on %s", where)
	return s.tell(ctx)
}
