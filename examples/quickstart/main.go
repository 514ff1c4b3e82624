// Quickstart tells the whole story on a real PostgreSQL: two people register and verify, say when they
// are free in their own time zones, find each other, match, and meet, while clocks change in one of the
// two cities. Somebody else then wants the same hour.
//
// It uses the database at DATABASE_URL, in a schema of its own that it removes afterwards, or else a
// PostgreSQL that it provides itself and removes too.
package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/internal/example"
	"github.com/soultribe-chat/soultribe/schema"
)

func main() { example.Main("quickstart", run) }

// run tells the story on the database at databaseURL, or on one of its own.
func run(ctx context.Context, out io.Writer, databaseURL string) (err error) {
	db, err := example.Prepare(ctx, "quickstart", databaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Remove(ctx)) }()
	config, err := soultribe.PoolConfig(db.URL)
	if err != nil {
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()

	if err := schema.Migrate(ctx, pool, schema.In(db.Schema)); err != nil {
		return err
	}
	s := &story{out: out, now: friday}
	s.store, err = soultribe.New(pool, soultribe.WithSchema(db.Schema), soultribe.WithClock(func() time.Time { return s.now }))
	if err != nil {
		return err
	}
	s.line("soultribe on %s", db.Where)
	return s.tell(ctx)
}
