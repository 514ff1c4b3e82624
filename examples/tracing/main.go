// Tracing shows what a service sees of the library from outside: a span for each statement, under the name that the
// statement begins with, in traces and in pg_stat_statements; and what the library logs, where it is given a logger.
//
// It uses the database at DATABASE_URL, in a schema of its own that it removes afterwards, or else a
// PostgreSQL that it provides itself and removes too.
package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/internal/example"
	"github.com/soultribe-chat/soultribe/schema"
)

func main() { example.Main("tracing", run) }

// run tells the story on the database at databaseURL, or on one of its own.
func run(ctx context.Context, out io.Writer, databaseURL string) (err error) {
	// The library may come in a package of its own.
	db, err := example.Prepare(ctx, "tracing", databaseURL, "shared_preload_libraries=pg_stat_statements")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Remove(ctx)) }()
	config, err := soultribe.PoolConfig(db.URL)
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

	if err := schema.Migrate(ctx, pool, schema.In(db.Schema)); err != nil {
		return err
	}
	s := &story{out: out, pool: pool, config: config, schema: db.Schema, spans: spans, provider: provider}
	s.store, err = soultribe.New(pool, soultribe.WithSchema(db.Schema), soultribe.WithLogger(logger(out)))
	if err != nil {
		return err
	}
	s.say("soultribe on %s", db.Where)
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
