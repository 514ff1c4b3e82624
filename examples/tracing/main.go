// Tracing shows what a service sees of the library from outside: a span for each statement, under the name that the
// statement begins with, in traces and in pg_stat_statements; and what the library logs, where it is given a logger.
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
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/internal/pgserver"
	"github.com/soultribe-chat/soultribe/schema"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Stdout, os.Getenv("DATABASE_URL"))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tracing:", err)
		os.Exit(1)
	}
}

// run tells the story on the database at databaseURL, or on one of its own.
func run(ctx context.Context, out io.Writer, databaseURL string) (err error) {
	where := "the database at DATABASE_URL"
	if databaseURL == "" {
		server, err := pgserver.Start(ctx, "shared_preload_libraries=pg_stat_statements")
		if err != nil { // it may come in a package of its own
			server, err = pgserver.Start(ctx)
		}
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
	spans := &printer{out: out}
	provider := trace.NewTracerProvider(trace.WithSyncer(spans))
	defer func() { err = errors.Join(err, provider.Shutdown(context.WithoutCancel(ctx))) }()
	config.ConnConfig.Tracer = otelpgx.NewTracer(tracerOptions(provider)...)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()

	// This run's alone: nothing of the database's owner is touched.
	name := "soultribe_tracing_" + strings.ToLower(rand.Text()[:8])
	if err := schema.Migrate(ctx, pool, schema.In(name)); err != nil {
		return err
	}
	defer func() {
		_, dropped := pool.Exec(context.WithoutCancel(ctx), "DROP SCHEMA "+pgx.Identifier{name}.Sanitize()+" CASCADE")
		err = errors.Join(err, dropped)
	}()
	s := &story{out: out, pool: pool, config: config, schema: name, spans: spans, provider: provider}
	s.store, err = soultribe.New(pool, soultribe.WithSchema(name), soultribe.WithLogger(logger(out)))
	if err != nil {
		return err
	}
	s.say("soultribe on %s", where)
	return s.tell(ctx)
}

// tracerOptions have otelpgx name spans as the statements are named.
func tracerOptions(provider *trace.TracerProvider, more ...otelpgx.Option) []otelpgx.Option {
	return append(more,
		otelpgx.WithTracerProvider(provider),
		otelpgx.WithSpanNameFunc(statementName),
		otelpgx.WithDisableAcquireTracer(),
	)
}

// statementName is what the first line of a statement says, as in "-- name: UserByEmail", or else its first word.
func statementName(sql string) string {
	if line, ok := strings.CutPrefix(sql, "-- name: "); ok {
		name, _, _ := strings.Cut(line, "\n")
		return name
	}
	return otelpgx.SQLOperationName(context.Background(), sql)
}

// logger writes no times, so that each run prints the same.
func logger(out io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}
