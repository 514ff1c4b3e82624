// Sharedtx has a sign-up that is one transaction: the library's account, a row of the host's own table, and a job of
// River that mails. None of them is there without the others. A worker issues the secret when it mails, and somebody
// who registers with an address that is taken is told the same as everybody, while its owner gets a mail.
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
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/soultribe-chat/soultribe/internal/example"
)

func main() { example.Main("sharedtx", run) }

// run tells the story on the database at databaseURL, or on one of its own.
func run(ctx context.Context, out io.Writer, databaseURL string) (err error) {
	db, err := example.Prepare(ctx, "sharedtx", databaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Remove(ctx)) }()
	// Not of soultribe.PoolConfig: River waits for notifications, and in a pool of that such a wait ends a second
	// after its context.
	pool, err := pgxpool.New(ctx, db.URL)
	if err != nil {
		return err
	}
	defer pool.Close()

	if err := migrate(ctx, pool, db.Schema); err != nil {
		return err
	}
	outbox := make(chan mail)
	s := &story{out: out, pool: pool, schema: db.Schema, outbox: outbox}
	s.service, err = newService(pool, db.Schema, func(ctx context.Context, m mail) error {
		select {
		case outbox <- m:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if err != nil {
		return err
	}
	s.say("soultribe and River on %s", db.Where)
	return s.tell(ctx)
}

type story struct {
	out     io.Writer
	pool    *pgxpool.Pool
	schema  string
	service *service
	outbox  <-chan mail
}

func (s *story) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.out, format+"\n", args...) // a reader who left is no error of the story
}

func (s *story) tell(ctx context.Context) error {
	anna := signUp{Email: "anna@example.org", Password: rand.Text(), Name: "Anna", Source: "the form at the fair"}
	s.say("\nAnna signs up: her account, her consent to the newsletter and the job are one transaction")
	if err := s.service.signUp(ctx, anna); err != nil {
		return err
	}
	if err := s.list(ctx); err != nil {
		return err
	}

	s.say("\nThe host's table refuses what Ben sends: nothing of his sign-up stays")
	err := s.service.signUp(ctx, signUp{Email: "ben@example.org", Password: rand.Text(), Name: "Ben"})
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return fmt.Errorf("a consent from nowhere is stored: %w", err)
	}
	s.say("  %s %s", refused.Code, refused.ConstraintName)
	if err := s.list(ctx); err != nil {
		return err
	}

	s.say("\nA worker takes the job, issues a secret and mails it: the job holds none")
	// It works until Stop, also for Stop, which lets it finish.
	if err := s.service.queue.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	defer func() { _ = s.service.queue.StopAndCancel(context.WithoutCancel(ctx)) }() // does nothing after Stop
	m, err := s.receive(ctx)
	if err != nil {
		return err
	}
	user, err := s.service.store.VerifyEmail(ctx, m.Secret)
	if err != nil {
		return err
	}
	s.say("  Anna follows the link: her address is verified: %t", user.EmailVerifiedAt != nil)

	s.say("\nSomebody signs up with her address in capitals, is told what she was told, and Anna gets a mail")
	anna.Email, anna.Password = strings.ToUpper(anna.Email), rand.Text()
	if err := s.service.signUp(ctx, anna); err != nil {
		return err
	}
	if _, err := s.receive(ctx); err != nil {
		return err
	}
	if err := s.service.queue.Stop(ctx); err != nil {
		return err
	}
	return s.list(ctx)
}

// receive waits for the next mail.
func (s *story) receive(ctx context.Context) (mail, error) {
	select {
	case m := <-s.outbox:
		s.say("  To %s: %s", m.To, m.Subject)
		if m.Secret != "" {
			s.say("  with a secret of %d characters", len(m.Secret))
		}
		return m, nil
	case <-ctx.Done():
		return mail{}, ctx.Err()
	}
}

// list prints the rows that are there.
func (s *story) list(ctx context.Context) error {
	rows, err := s.pool.Query(ctx, strings.ReplaceAll(`
		SELECT line FROM (
			SELECT 1, id, 'user ' || id || ', ' || email FROM SCHEMA."user"
			UNION ALL SELECT 2, user_id, 'newsletter of user ' || user_id || ', from ' || source FROM SCHEMA.newsletter
			UNION ALL SELECT 3, id, 'job ' || kind || ' ' || args FROM SCHEMA.river_job
		) t (kind, id, line) ORDER BY kind, id`, "SCHEMA", s.schema))
	if err != nil {
		return err
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, line := range lines {
		s.say("  Stored: %s", line)
	}
	return err
}
