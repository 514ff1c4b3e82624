package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/soultribe-chat/soultribe"
)

type story struct {
	out      io.Writer
	pool     *pgxpool.Pool
	config   *pgxpool.Config
	schema   string
	spans    *printer
	provider *trace.TracerProvider
	store    soultribe.Store

	anna   soultribe.User
	secret string
}

const (
	annaEmail = "anna@example.org"
	password  = "password of Anna"
)

func (s *story) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.out, format+"\n", args...) // a reader who left is no error of the story
}

// request has the host's own span around what a handler does; it is printed, with those within, when it ends.
func (s *story) request(ctx context.Context, name string, handle func(context.Context) error) error {
	ctx, span := s.provider.Tracer("tracing").Start(ctx, name)
	defer span.End()
	return handle(ctx)
}

func (s *story) tell(ctx context.Context) error {
	for _, chapter := range []func(context.Context) error{s.signUp, s.verify, s.conflict, s.parameters, s.logger, s.statistics} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) signUp(ctx context.Context) error {
	s.say("\nA transaction: the statements have the names of the methods")
	hash, err := s.store.HashPassword(ctx, password)
	if err != nil {
		return err
	}
	return s.request(ctx, "POST /people", func(ctx context.Context) error {
		return s.store.InTx(ctx, func(ctx context.Context, _ pgx.Tx, st soultribe.Store) (err error) {
			s.anna, err = st.CreateUser(ctx, soultribe.NewUser{Email: annaEmail, Hash: hash})
			return err
		})
	})
}

func (s *story) verify(ctx context.Context) error {
	s.say("\nA batch: two statements, which go to the server together")
	err := s.request(ctx, "job verification mail", func(ctx context.Context) error {
		token, err := s.store.IssueEmailVerification(ctx, s.anna.ID)
		s.secret = token.Secret()
		return err
	})
	if err != nil {
		return err
	}
	return s.request(ctx, "GET /verify", func(ctx context.Context) error {
		_, err := s.store.VerifyEmail(ctx, s.secret)
		return err
	})
}

func (s *story) conflict(ctx context.Context) error {
	s.say("\nA conflict that is to be expected is no error of the database: no span fails")
	hash, err := s.store.HashPassword(ctx, rand.Text())
	if err != nil {
		return err
	}
	err = s.request(ctx, "POST /people", func(ctx context.Context) error {
		_, err := s.store.CreateUser(ctx, soultribe.NewUser{Email: annaEmail, Hash: hash})
		return err
	})
	if !errors.Is(err, soultribe.ErrEmailTaken) {
		return fmt.Errorf("two accounts have an address: %w", err)
	}
	s.say("  The caller sees: %s", soultribe.Code(err))

	for _, private := range []string{annaEmail, s.secret, password, "$argon2id$"} {
		if s.spans.contain(private) {
			return errors.New("a span tells what it must not")
		}
	}
	s.say("\nNo span so far tells her address, secret, password or hash, in whatever attribute")
	return nil
}

// parameters asks for the parameters of the statements of one name.
func (s *story) parameters(ctx context.Context) error {
	s.say("\nParameters are in spans only where the host asks, and the names of the statements help to choose")
	config := s.config.Copy()
	config.ConnConfig.Tracer = otelpgx.NewTracer(tracerOptions(s.provider,
		otelpgx.WithIncludeQueryParameters(func(sql string) bool { return statementName(sql) == "Account" }))...)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := pool.Ping(ctx); err != nil { // else the first span would have a connection to make
		return err
	}
	store, err := soultribe.New(pool, soultribe.WithSchema(s.schema))
	if err != nil {
		return err
	}
	return s.request(ctx, "GET /people/anna", func(ctx context.Context) error {
		anna, err := store.UserByEmail(ctx, annaEmail)
		if err != nil {
			return err
		}
		_, err = store.Account(ctx, anna.ID)
		return err
	})
}

// logger has the library meet what an operator must know: a stored hash that is none.
func (s *story) logger(ctx context.Context) error {
	s.say("\nThe library logs what no caller hears of, and only to the logger that it is given")
	_, err := s.pool.Exec(ctx, `UPDATE `+s.schema+`."user" SET password_hash = 'argon2$dev' WHERE id = $1`, s.anna.ID)
	if err != nil {
		return err
	}
	_, err = s.store.Authenticate(ctx, annaEmail, password)
	if !errors.Is(err, soultribe.ErrInvalidCredentials) {
		return fmt.Errorf("no hash lets somebody in: %w", err)
	}
	s.say("  The caller sees: %s", soultribe.Code(err))
	return nil
}

// statistics reads pg_stat_statements, which the server has where it was told to load it at its start.
func (s *story) statistics(ctx context.Context) error {
	var loaded bool
	err := s.pool.QueryRow(ctx, "SELECT current_setting('pg_stat_statements.max', true) IS NOT NULL").Scan(&loaded)
	if err != nil {
		return err
	}
	if !loaded {
		s.say("\npg_stat_statements would have the same names: shared_preload_libraries of this server does not name it")
		return nil
	}
	s.say("\npg_stat_statements has the same names")
	// In this run's schema, and gone with it, unless the database has it already.
	_, err = s.pool.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA "+s.schema)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42501" {
		s.say("  but not in this database, and this role may not add it")
		return nil
	}
	if err != nil {
		return err
	}
	var in string
	err = s.pool.QueryRow(ctx, "SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'pg_stat_statements'").Scan(&in)
	if err != nil {
		return err
	}
	rows, err := s.pool.Query(ctx, `SELECT substring(query FROM '^-- name: (\w+)'), sum(calls)::bigint FROM `+in+`.pg_stat_statements
		WHERE query LIKE '-- name: %' AND position($1 IN query) > 0 GROUP BY 1 ORDER BY 1`, s.schema)
	if err != nil {
		return err
	}
	var name string
	var calls int64
	_, err = pgx.ForEachRow(rows, []any{&name, &calls}, func() error {
		s.say("  %-24s calls %d", name, calls)
		return nil
	})
	return err
}
