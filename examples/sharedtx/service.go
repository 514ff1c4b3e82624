package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/schema"
)

// migrate makes the tables of the library, of River and of the host in one PostgreSQL schema.
func migrate(ctx context.Context, pool *pgxpool.Pool, in string) error {
	if err := schema.Migrate(ctx, pool, schema.In(in)); err != nil {
		return err
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: in, Logger: logger()})
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	name := pgx.Identifier{in}.Sanitize()
	_, err = pool.Exec(ctx, "CREATE TABLE "+name+`.newsletter (
		user_id integer PRIMARY KEY REFERENCES `+name+`."user" (id) ON DELETE CASCADE,
		source  text NOT NULL CHECK (source <> ''))`)
	return err
}

// logger has River say on stderr what goes wrong. Without it River would write to stdout.
func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// service embeds the library, and has a table and a queue of its own beside it.
type service struct {
	store      soultribe.Store
	queue      *river.Client[pgx.Tx]
	newsletter string // the table
}

// mail is what deliver sends.
type mail struct{ To, Subject, Secret string }

func newService(pool *pgxpool.Pool, in string, deliver func(context.Context, mail) error, opts ...soultribe.Option) (*service, error) {
	store, err := soultribe.New(pool, append(opts, soultribe.WithSchema(in))...)
	if err != nil {
		return nil, err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &verificationWorker{store: store, deliver: deliver})
	river.AddWorker(workers, &attemptWorker{store: store, deliver: deliver})
	queue, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Schema:  in,
		Workers: workers,
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}},
		Logger:  logger(),
	})
	return &service{store: store, queue: queue, newsletter: pgx.Identifier{in, "newsletter"}.Sanitize()}, err
}

// signUp is what a visitor sends.
type signUp struct{ Email, Password, Name, Source string }

// signUp registers a visitor. It does not tell whether the address has an account: that goes to its owner by mail.
func (s *service) signUp(ctx context.Context, v signUp) error {
	// Before the transaction: it takes a while, in which no connection is held, and no lock.
	hash, err := s.store.HashPassword(ctx, v.Password)
	if err != nil {
		return err
	}
	return s.store.InTx(ctx, func(ctx context.Context, tx pgx.Tx, st soultribe.Store) error {
		user, err := st.CreateUser(ctx, soultribe.NewUser{
			Email:   v.Email,
			Hash:    hash,
			Profile: &soultribe.NewProfile{FullName: v.Name, DisplayName: v.Name},
		})
		if errors.Is(err, soultribe.ErrEmailTaken) { // which leaves the transaction usable
			owner, err := st.UserByEmail(ctx, v.Email)
			if err != nil {
				return err
			}
			// Once a day at most: a stranger must not fill somebody's mailbox.
			_, err = s.queue.InsertTx(ctx, tx, attemptMail{owner.ID},
				&river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true, ByPeriod: 24 * time.Hour}})
			return err
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO "+s.newsletter+" (user_id, source) VALUES ($1, $2)", user.ID, v.Source); err != nil {
			return err
		}
		_, err = s.queue.InsertTx(ctx, tx, verificationMail{user.ID}, nil)
		return err
	})
}

// verificationMail asks for a mail by which a new user verifies the address. A job is a row that anybody may
// read who may read the database: it names the user, and the worker issues the secret.
type verificationMail struct {
	UserID soultribe.UserID `json:"user_id"`
}

// Kind implements [river.JobArgs].
func (verificationMail) Kind() string { return "verification_mail" }

type verificationWorker struct {
	river.WorkerDefaults[verificationMail]
	store   soultribe.TokenStore
	deliver func(context.Context, mail) error
}

// Work implements [river.Worker]. River runs a job again when it failed, or when its process ended before the
// job did. The secret of the run before may have been mailed or not, so there is a new one, which the
// library issues only after a cool-down. The secret is not issued in a transaction with the end of the job:
// a rollback after the mail has left would make the link in it a dead one.
func (w *verificationWorker) Work(ctx context.Context, job *river.Job[verificationMail]) error {
	token, err := w.store.IssueEmailVerification(ctx, job.Args.UserID)
	var early *soultribe.CooldownError
	switch {
	case errors.Is(err, soultribe.ErrAlreadyVerified), errors.Is(err, soultribe.ErrNotFound):
		return nil // the mail has come, or there is nobody left to have it
	case errors.As(err, &early):
		return river.JobSnooze(max(0, time.Until(early.Until)))
	case err != nil:
		return err
	}
	return w.deliver(ctx, mail{To: token.Email, Subject: "please verify your address", Secret: token.Secret()})
}

// attemptMail asks for a mail that tells somebody that their address was used to sign up.
type attemptMail struct {
	UserID soultribe.UserID `json:"user_id"`
}

// Kind implements [river.JobArgs].
func (attemptMail) Kind() string { return "attempt_mail" }

type attemptWorker struct {
	river.WorkerDefaults[attemptMail]
	store   soultribe.UserStore
	deliver func(context.Context, mail) error
}

// Work implements [river.Worker].
func (w *attemptWorker) Work(ctx context.Context, job *river.Job[attemptMail]) error {
	owner, err := w.store.User(ctx, job.Args.UserID)
	if errors.Is(err, soultribe.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return w.deliver(ctx, mail{To: owner.Email, Subject: "you have an account already, did you try to register?"})
}
