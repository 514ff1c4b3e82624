// Adoption takes over the database of a running application that was written in another language: it finds the
// rows that no constraint stopped, mends them, migrates while the application goes on, and lets people in with
// the passwords and links that they have.
//
// It uses the database at DATABASE_URL, in a schema of its own that it removes afterwards, or else a
// PostgreSQL that it provides itself and removes too.
package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/crypto/argon2"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/internal/example"
	"github.com/soultribe-chat/soultribe/schema"
)

// tables are the application's.
//
//go:embed sqlalchemy.sql
var tables string

// rows are what the application has stored over the years: some of them break the rules.
//
//go:embed rows.sql
var rows string

// mending is what its owners decide to do about that.
//
//go:embed mending.sql
var mending string

func main() { example.Main("adoption", run) }

// run tells the story on the database at databaseURL, or on one of its own.
func run(ctx context.Context, out io.Writer, databaseURL string) (err error) {
	db, err := example.Prepare(ctx, "adoption", databaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Remove(ctx)) }()
	config, err := soultribe.PoolConfig(db.URL)
	if err != nil {
		return err
	}
	// The application names no schema. The library names its own, and pays no heed to this.
	config.ConnConfig.RuntimeParams["search_path"] = db.Schema
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	s := &story{out: out, pool: pool, schema: db.Schema, password: rand.Text(), link: link()}
	s.say("soultribe on %s", db.Where)
	for _, chapter := range []func(context.Context) error{s.before, s.look, s.mend, s.migrate, s.after} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return nil
}

type story struct {
	out    io.Writer
	pool   *pgxpool.Pool
	schema string

	password string // Ann's
	link     string // the secret in a mail that the application has sent to Dee
}

func (s *story) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.out, format+"\n", args...) // a reader who left is no error of the story
}

// link is a secret as the application makes them, and stores them.
func link() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// before has the application at work.
func (s *story) before(ctx context.Context) error {
	s.say("\nAn application has kept its people in seven tables, which SQLAlchemy made")
	if _, err := s.pool.Exec(ctx, tables+rows); err != nil {
		return err
	}
	if _, err := s.pool.Exec(ctx, `UPDATE "user" SET password_hash = $1 WHERE id = 1`, argon2cffi(s.password)); err != nil {
		return err
	}
	_, err := s.pool.Exec(ctx, `INSERT INTO passwordresettoken (user_id, token, expires_at, created_at)
		VALUES (4, $1, now() AT TIME ZONE 'UTC' + interval '1 hour', now() AT TIME ZONE 'UTC')`, s.link)
	return err
}

// argon2cffi hashes a password as Python's argon2-cffi does by default.
func argon2cffi(password string) string {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	key := argon2.IDKey([]byte(password), salt, 3, 64<<10, 4, 32)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=65536,t=3,p=4$%s$%s", argon2.Version, b64.EncodeToString(salt), b64.EncodeToString(key))
}

// look searches the rows, and sees that a migration would stop.
func (s *story) look(ctx context.Context) error {
	s.say("\nThe audit, which only reads, finds what no constraint stopped")
	if err := s.audit(ctx); err != nil {
		return err
	}
	err := schema.Migrate(ctx, s.pool, schema.In(s.schema))
	var dirt *schema.DirtError
	if !errors.As(err, &dirt) {
		return fmt.Errorf("migrated although rows break the rules: %w", err)
	}
	s.say("\nMigrate stops at those of them that a constraint will stop: %d. It has changed nothing", len(dirt.Rows))
	return nil
}

func (s *story) mend(ctx context.Context) error {
	s.say("\nIts owners mend the rows, and leave what does no harm: nobody can log in with such a hash")
	if _, err := s.pool.Exec(ctx, mending); err != nil {
		return err
	}
	return s.audit(ctx)
}

func (s *story) audit(ctx context.Context) error {
	found, err := schema.Audit(ctx, s.pool, schema.In(s.schema))
	for _, v := range found {
		s.say("  %s", v)
	}
	return err
}

// migrate takes the database over while the application goes on.
func (s *story) migrate(ctx context.Context) error {
	working, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- s.work(working) }()
	if err := schema.Migrate(ctx, s.pool, schema.In(s.schema)); err != nil {
		return err
	}
	stop()
	if err := <-done; err != nil {
		return fmt.Errorf("the application: %w", err)
	}
	s.say("\nMigrate goes through. No statement of the application failed meanwhile")
	if err := schema.Check(ctx, s.pool, schema.In(s.schema)); err != nil {
		return err
	}
	s.say("  Check has nothing to say")
	return nil
}

// work is the application reading and writing, until ctx ends.
func (s *story) work(ctx context.Context) error {
	for ctx.Err() == nil {
		_, err := s.pool.Exec(context.WithoutCancel(ctx), `UPDATE profile SET bio = 'At work', updated_at = now() AT TIME ZONE 'UTC' WHERE user_id = 1`)
		if err != nil {
			return err
		}
		var slots int
		err = s.pool.QueryRow(context.WithoutCancel(ctx), `SELECT count(*) FROM availabilityslot WHERE user_id = 1`).Scan(&slots)
		if err != nil {
			return err
		}
	}
	return nil
}

// after has the library and the application on the same tables.
func (s *story) after(ctx context.Context) error {
	store, err := soultribe.New(s.pool, soultribe.WithSchema(s.schema))
	if err != nil {
		return err
	}
	s.say("\nThe library works on the same tables")
	ann, err := store.Authenticate(ctx, "ann@EXAMPLE.org", s.password)
	if err != nil {
		return err
	}
	s.say("  Ann logs in with the password that she has: user %d, %s", ann.ID, ann.Email)
	dee, err := store.ResetPassword(ctx, s.link, rand.Text())
	if err != nil {
		return err
	}
	s.say("  Dee uses the link that the application mailed to her: user %d, %s", dee.ID, dee.Email)
	_, err = store.ResetPassword(ctx, s.link, rand.Text())
	s.say("  It works once: %s", soultribe.Code(err))
	match, err := store.MatchBetween(ctx, ann.ID, dee.ID)
	if err != nil {
		return err
	}
	s.say("  A status that it does not know is read as it is: %s", match.Status)

	s.say("\nThe application goes on, and can no longer store what is wrong")
	_, err = s.pool.Exec(ctx, `INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
		VALUES (1, '2031-05-01 10:30', '2031-05-01 11:30', '2031-05-01 12:30', '2031-05-01 13:30', 'Europe/Vienna', now(), now())`)
	s.say("  A slot of Ann's over another: %s", refusal(err))
	_, err = s.pool.Exec(ctx, `INSERT INTO match (user1_id, user2_id, status, created_at, updated_at) VALUES (4, 1, 'pending', now(), now())`)
	s.say("  A second match of two people: %s", refusal(err))
	_, err = s.pool.Exec(ctx, `UPDATE meetup SET status = 'confirmed' WHERE id = 2`)
	s.say("  A second meetup of Ann's at that time: %s", refusal(err))
	return nil
}

// refusal is what PostgreSQL says.
func refusal(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return fmt.Sprintf("not refused: %v", err)
	}
	return pg.Code + " " + pg.ConstraintName
}
