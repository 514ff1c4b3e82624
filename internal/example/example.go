// Package example has what the example programs begin with: the database at DATABASE_URL, or else a PostgreSQL that
// is provided, and a schema of their own in it.
package example

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

	"github.com/jackc/pgx/v5"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/internal/pgserver"
)

// Main runs an example on the database at DATABASE_URL, or on one of its own where that is not set, and exits.
func Main(name string, run func(ctx context.Context, out io.Writer, databaseURL string) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Stdout, os.Getenv("DATABASE_URL"))
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Database is where an example runs.
type Database struct {
	URL    string
	Where  string // in a line
	Schema string // empty, and this run's alone: nothing of the database's owner is touched

	server *pgserver.Server
}

// Prepare makes a schema in the database at databaseURL, or in one that it provides where that is "". The caller removes it.
// Settings, in the form name=value, are for a server that it starts, if that can have them.
func Prepare(ctx context.Context, name, databaseURL string, settings ...string) (*Database, error) {
	d := &Database{URL: databaseURL, Where: "the database at DATABASE_URL", Schema: "soultribe_" + name + "_" + strings.ToLower(rand.Text()[:8])}
	if databaseURL == "" {
		server, err := pgserver.Start(ctx, settings...)
		if err != nil && len(settings) > 0 {
			server, err = pgserver.Start(ctx)
		}
		if err != nil {
			return nil, err
		}
		d.URL, d.Where, d.server = server.URL, server.Description, server
	}
	if err := d.exec(ctx, "CREATE SCHEMA "+d.Schema); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

// Remove drops the schema, and ends a server that was provided.
func (d *Database) Remove(ctx context.Context) error {
	defer d.stop()
	return d.exec(context.WithoutCancel(ctx), "DROP SCHEMA "+d.Schema+" CASCADE")
}

func (d *Database) stop() {
	if d.server != nil {
		d.server.Stop()
	}
}

func (d *Database) exec(ctx context.Context, sql string) error {
	config, err := soultribe.PoolConfig(d.URL)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}
