package soultribe_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	pool := newPool(t, "postgres://localhost:1/none")
	var nilPool *pgxpool.Pool
	var nilConn *pgx.Conn
	tests := []struct {
		name   string
		db     soultribe.DB
		opts   []soultribe.Option
		fields []string
	}{
		{"nil", nil, nil, []string{"db"}},
		{"nil pool", nilPool, nil, []string{"db"}},
		{"nil connection", nilConn, nil, []string{"db"}},
		{"no schema", pool, []soultribe.Option{soultribe.WithSchema("")}, []string{"schema"}},
		{"NUL in schema", pool, []soultribe.Option{soultribe.WithSchema("a\x00b")}, []string{"schema"}},
		{"long schema", pool, []soultribe.Option{soultribe.WithSchema(strings.Repeat("s", 64))}, []string{"schema"}},
		{"nil clock", pool, []soultribe.Option{soultribe.WithClock(nil)}, []string{"clock"}},
		{"no parallelism", pool, []soultribe.Option{soultribe.WithPasswordParams(soultribe.PasswordParams{MemoryKiB: 64, Iterations: 1})}, []string{"parallelism"}},
		{"no memory for one hash", pool, []soultribe.Option{soultribe.WithHashMemory(64<<10 - 1)}, []string{"hash_memory"}},
		{"negative lifetime", pool, []soultribe.Option{soultribe.WithTokenLifetimes(soultribe.TokenLifetimes{PasswordReset: -1})}, []string{"token_lifetimes"}},
		{"all together", nil, []soultribe.Option{soultribe.WithSchema(""), soultribe.WithClock(nil)}, []string{"db", "schema", "clock"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store, err := soultribe.New(tt.db, tt.opts...)
			require.Nil(t, store)
			require.ErrorIs(t, err, soultribe.ErrInvalid)
			var fields []string
			for _, v := range soultribe.ValidationErrors(err) {
				fields = append(fields, v.Field)
			}
			require.Equal(t, tt.fields, fields)
		})
	}
}

func TestNewNeverCloses(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	db.Store.Close()
	require.NoError(t, db.Pool.Ping(t.Context()))
}

func TestSchemaVersions(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	require.NoError(t, db.Store.Ready(t.Context()))
	for _, tt := range []struct {
		sql, text string
		have      int
	}{
		{"DELETE FROM soultribe_schema_version WHERE version_id > 1", fmt.Sprintf("older, version 1 of %d", soultribe.SchemaVersion), 1},
		{"INSERT INTO soultribe_schema_version (version_id, is_applied, tstamp) VALUES (99, true, now())", "newer, version 99", 99},
		{"DROP TABLE soultribe_schema_version", "missing", 0},
	} {
		_, err := db.Pool.Exec(t.Context(), tt.sql)
		require.NoError(t, err)
		err = db.Store.Ready(t.Context())
		require.ErrorIs(t, err, soultribe.ErrSchema)
		require.ErrorContains(t, err, tt.text)
		var schema *soultribe.SchemaError
		require.ErrorAs(t, err, &schema)
		require.Equal(t, tt.have, schema.Have)
	}
}

func TestNoSchemaAtAll(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	st := newStore(t, db, db.Pool, soultribe.WithSchema("elsewhere"))
	require.ErrorIs(t, st.Ready(t.Context()), soultribe.ErrSchema)
	_, err := st.User(t.Context(), 1)
	require.ErrorIs(t, err, soultribe.ErrSchema)
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	_, err = st.AddSlots(t.Context(), 1, nil)
	require.ErrorIs(t, err, soultribe.ErrSchema)
}

func TestInTx(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	_, err := db.Pool.Exec(t.Context(), "CREATE TABLE host (email text)")
	require.NoError(t, err)
	user := func(st soultribe.Store, email string) error {
		_, err := st.CreateUser(t.Context(), soultribe.NewUser{Email: email, Password: "correct horse battery"})
		return err
	}
	stop := errors.New("stop")

	err = db.Store.InTx(t.Context(), func(ctx context.Context, tx pgx.Tx, st soultribe.Store) error {
		require.NoError(t, user(st, "kept@example.org"))
		_, err := tx.Exec(ctx, "INSERT INTO host VALUES ('kept@example.org')")
		require.NoError(t, err)
		// A savepoint, of which nothing stays.
		err = st.InTx(ctx, func(_ context.Context, _ pgx.Tx, st soultribe.Store) error {
			require.NoError(t, user(st, "inner@example.org"))
			return stop
		})
		require.ErrorIs(t, err, stop)
		return nil
	})
	require.NoError(t, err)

	err = db.Store.InTx(t.Context(), func(_ context.Context, _ pgx.Tx, st soultribe.Store) error {
		require.NoError(t, user(st, "gone@example.org"))
		return stop
	})
	require.Same(t, stop, err)

	require.PanicsWithValue(t, "panic", func() {
		_ = db.Store.InTx(t.Context(), func(_ context.Context, _ pgx.Tx, st soultribe.Store) error {
			require.NoError(t, user(st, "panic@example.org"))
			panic("panic")
		})
	})

	ctx, cancel := context.WithCancel(t.Context())
	err = db.Store.InTx(ctx, func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
		require.NoError(t, user(st, "cancelled@example.org"))
		cancel()
		return ctx.Err()
	})
	require.ErrorIs(t, err, context.Canceled)

	require.Equal(t, []string{"kept@example.org"}, db.Query(t, `SELECT email FROM "user"`))
	require.Equal(t, []string{"kept@example.org"}, db.Query(t, "SELECT email FROM host"))
	require.Zero(t, db.Pool.Stat().AcquiredConns())
}

func TestInTxEndedContext(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx := t.Context()
	u := db.User(t)
	// The context ends in the inner function, which does not look.
	err := db.Store.InTx(ctx, func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
		inner, cancel := context.WithCancel(ctx)
		err := st.InTx(inner, func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
			_, err := st.DeleteUser(ctx, u.ID)
			cancel()
			return err
		})
		require.ErrorIs(t, err, context.Canceled)
		return nil // the caller goes on without it
	})
	require.NoError(t, err)
	_, err = db.Store.User(ctx, u.ID)
	require.NoError(t, err, "the inner InTx failed, and yet took effect")
}

func TestInTxEndedContextOnConnection(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
	st := newStore(t, db, conn)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	err = st.InTx(ended, func(context.Context, pgx.Tx, soultribe.Store) error { return nil })
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, st.Ready(t.Context()), "the connection was closed")
}

func TestWithTxIsTheCallers(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	tx, err := db.Pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = db.Store.WithTx(tx).CreateUser(t.Context(), soultribe.NewUser{Email: "a@example.org", Password: "correct horse battery"})
	require.NoError(t, err)
	require.Empty(t, db.Query(t, `SELECT 1 FROM "user"`), "another connection sees nothing yet")
	require.NoError(t, tx.Rollback(t.Context()))
	require.Empty(t, db.Query(t, `SELECT 1 FROM "user"`))
}

// loud is a decorator that notes whom its Store looks up.
type loud struct {
	soultribe.Store
	seen *[]soultribe.UserID
}

func (l loud) User(ctx context.Context, id soultribe.UserID) (soultribe.User, error) {
	*l.seen = append(*l.seen, id)
	return l.Store.User(ctx, id)
}

func TestDecorateStaysOn(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	id := db.User(t).ID
	var seen []soultribe.UserID
	st := soultribe.Decorate(db.Store, func(s soultribe.Store) soultribe.Store { return loud{s, &seen} })
	look := func(st soultribe.Store) {
		_, err := st.User(t.Context(), id)
		require.NoError(t, err)
	}
	look(st)
	require.NoError(t, st.InTx(t.Context(), func(ctx context.Context, tx pgx.Tx, st soultribe.Store) error {
		look(st)
		look(st.WithTx(tx))
		return st.InTx(ctx, func(_ context.Context, _ pgx.Tx, st soultribe.Store) error {
			look(st)
			return nil
		})
	}))
	require.Equal(t, []soultribe.UserID{id, id, id, id}, seen)
}

func TestCancelledContext(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	store, err := soultribe.Open(t.Context(), db.URL, soultribe.WithClock(db.Clock.Now), soultribe.WithPasswordParams(soultribetest.PasswordParams))
	require.NoError(t, err)
	t.Cleanup(store.Close)
	ann := db.User(t)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = store.CreateUser(ended, soultribe.NewUser{Email: "new@example.org", Password: "correct horse battery"})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, "canceled", soultribe.Code(err))

	// A call that waits for a lock gives up when its context ends, and has done nothing.
	tx, err := db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), `SELECT FROM "user" WHERE id = $1 FOR UPDATE`, int64(ann.ID))
	require.NoError(t, err)
	waiting, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = store.ReplaceSlots(waiting, ann.ID, soultribe.Window{Start: soultribetest.Epoch, End: soultribetest.Epoch.AddDate(0, 0, 1)}, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, "timeout", soultribe.Code(err))
	require.NoError(t, tx.Rollback(t.Context()))

	_, err = store.User(t.Context(), ann.ID)
	require.NoError(t, err)
	require.Equal(t, []string{"1"}, db.Query(t, `SELECT count(*) FROM "user"`))
}

// TestConnectionKilled has the server end connections in the middle of transactions: nothing of them
// stays, the error is pgx's, and the pool goes on.
func TestConnectionKilled(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ann := db.User(t)
	err := db.Store.InTx(t.Context(), func(ctx context.Context, tx pgx.Tx, st soultribe.Store) error {
		_, err := st.SetProfile(ctx, ann.ID, soultribe.NewProfile{DisplayName: "killed"})
		require.NoError(t, err)
		var pid int
		require.NoError(t, tx.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid))
		require.Equal(t, []string{"true"}, db.Query(t, "SELECT pg_terminate_backend($1, 5000)", pid))
		_, err = st.User(ctx, ann.ID)
		return err
	})
	require.Error(t, err)
	require.False(t, errors.Is(err, soultribe.ErrNotFound) || errors.Is(err, soultribe.ErrConflict))
	require.Equal(t, "internal", soultribe.Code(err))
	// Which of the two it is, is a matter of who comes first.
	var pg *pgconn.PgError
	var network *net.OpError
	require.True(t, errors.As(err, &pg) && pg.Code == "57P01" || errors.As(err, &network), "%v", err)

	profile, err := db.Store.Profile(t.Context(), ann.ID)
	require.NoError(t, err)
	require.NotEqual(t, "killed", profile.DisplayName)
}

func TestErrorCodes(t *testing.T) {
	t.Parallel()
	tests := map[string]error{
		"":                    nil,
		"invalid":             &soultribe.ValidationError{Field: "email", Reason: "is required"},
		"not_found":           soultribe.ErrNotFound,
		"invalid_credentials": soultribe.ErrInvalidCredentials,
		"forbidden":           soultribe.ErrForbidden,
		"unverified":          soultribe.ErrUnverified,
		"wrong_side":          soultribe.ErrWrongSide,
		"token_invalid":       soultribe.ErrTokenInvalid,
		"token_used":          soultribe.ErrTokenUsed,
		"token_expired":       soultribe.ErrTokenExpired,
		"conflict":            soultribe.ErrConflict,
		"transition":          &soultribe.TransitionError{From: "a", To: "b"},
		"email_taken":         soultribe.ErrEmailTaken,
		"slot_overlap":        &soultribe.OverlapError{Index: 3},
		"meetup_exists":       soultribe.ErrMeetupExists,
		"meetup_changed":      soultribe.ErrMeetupChanged,
		"past":                soultribe.ErrPast,
		"double_booked":       soultribe.ErrDoubleBooked,
		"already_verified":    soultribe.ErrAlreadyVerified,
		"in_use":              &soultribe.InUseError{},
		"retry":               soultribe.ErrRetry,
		"cooldown":            &soultribe.CooldownError{},
		"schema":              &soultribe.SchemaError{},
		"nonexistent_time":    soultribe.ErrNonexistentTime,
		"ambiguous_time":      soultribe.ErrAmbiguousTime,
		"canceled":            fmt.Errorf("x: %w", context.Canceled),
		"timeout":             context.DeadlineExceeded,
		"internal":            errors.New("x"),
	}
	for code, err := range tests {
		require.Equal(t, code, soultribe.Code(err))
		if err != nil {
			require.Equal(t, code, soultribe.Code(&soultribe.Error{Op: "X", Err: err}), "as the Store returns it")
		}
	}
	require.Equal(t, "soultribe: X: not found", (&soultribe.Error{Op: "X", Err: soultribe.ErrNotFound}).Error())
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"22P02", "23505", "P0001", "BL001", ""} {
		err := &soultribe.Error{Op: "X", Cause: &pgconn.PgError{Code: code, Message: "ann@example.org", Detail: "ann@example.org"}}
		require.NotContains(t, err.Error(), "example.org")
		require.Contains(t, err.Error(), code)
	}
	err := &soultribe.Error{Op: "X", Cause: &pgconn.PgError{Code: "42P01", Message: `relation "user" does not exist`}}
	require.Equal(t, `soultribe: X: relation "user" does not exist (SQLSTATE 42P01)`, err.Error())
}

// TestConstraintsHaveErrors reads every constraint and unique index of the tables, and fails for one
// whose violation would come out without a meaning.
func TestConstraintsHaveErrors(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	names := db.Query(t, `
		SELECT c.conname FROM pg_constraint c WHERE c.connamespace = 'public'::regnamespace AND c.contype IN ('c', 'x')
		UNION
		SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
		WHERE t.relnamespace = 'public'::regnamespace AND i.indisunique AND NOT i.indisprimary
		ORDER BY 1`)
	require.NotEmpty(t, names)
	for _, name := range names {
		if strings.HasPrefix(name, "soultribe_schema_version") {
			continue // the migrations' own
		}
		require.True(t, soultribe.ConstraintHasError(name), "%s has no error", name)
	}
}

// TestInTxOnBegunConnection has a caller who began a transaction by SQL, which pgx does not know of.
func TestInTxOnBegunConnection(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
	_, err = conn.Exec(t.Context(), "BEGIN")
	require.NoError(t, err)
	st := newStore(t, db, conn)
	require.ErrorIs(t, st.InTx(t.Context(), func(context.Context, pgx.Tx, soultribe.Store) error { return nil }), soultribe.ErrInvalid)
	require.EqualValues(t, 'T', conn.PgConn().TxStatus(), "the transaction is the caller's to end")
	_, err = conn.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
}

// TestForeignFunctions has a function in the way of the library's, which PostgreSQL would prefer for its
// parameter's type.
func TestForeignFunctions(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ann := db.User(t)
	_, err := db.Pool.Exec(t.Context(), `CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE sql AS $$ SELECT 'mallory@example.org' $$`)
	require.NoError(t, err)
	_, err = db.Store.UserByEmail(t.Context(), "mallory@example.org")
	require.ErrorIs(t, err, soultribe.ErrNotFound)
	_, ok, err := db.Store.IssuePasswordReset(t.Context(), "mallory@example.org")
	require.NoError(t, err)
	require.False(t, ok)
	u, err := db.Store.UserByEmail(t.Context(), ann.Email)
	require.NoError(t, err)
	require.Equal(t, ann.ID, u.ID)
}
