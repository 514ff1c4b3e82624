package soultribe_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// failing has a trigger end so many of the next inserts of users and changes of tokens with an SQLSTATE. A sequence counts them,
// which no rollback turns back.
func failing(t *testing.T, db *soultribetest.DB, state string, times int) {
	t.Helper()
	_, err := db.Pool.Exec(t.Context(), fmt.Sprintf(`
		DROP SEQUENCE IF EXISTS failures; CREATE SEQUENCE failures;
		CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF nextval('public.failures') <= %d THEN RAISE EXCEPTION USING ERRCODE = '%s'; END IF;
			RETURN NEW;
		END $$;
		CREATE OR REPLACE TRIGGER fail BEFORE INSERT ON "user" FOR EACH ROW EXECUTE FUNCTION fail();
		CREATE OR REPLACE TRIGGER fail BEFORE INSERT ON passwordresettoken FOR EACH ROW EXECUTE FUNCTION fail();
		CREATE OR REPLACE TRIGGER fail BEFORE INSERT ON availabilityslot FOR EACH ROW EXECUTE FUNCTION fail()`, times, state))
	require.NoError(t, err)
}

func TestRetries(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	hash, err := db.Store.HashPassword(ctx, "a password of the test")
	require.NoError(t, err)
	ann := db.User(t)
	n := 0
	calls := map[string]func(st soultribe.Store) error{
		"one statement": func(st soultribe.Store) error {
			n++
			_, err := st.CreateUser(ctx, soultribe.NewUser{Email: fmt.Sprintf("new%d@example.org", n), Hash: hash})
			return err
		},
		"a batch": func(st soultribe.Store) error {
			db.Clock.Advance(time.Hour)
			token, ok, err := st.IssuePasswordReset(ctx, ann.Email)
			if err == nil && (!ok || token.Secret() == "") {
				return errors.New("nothing was issued")
			}
			return err
		},
		"a batch that returns rows": func(st soultribe.Store) error {
			start := db.Clock.Now().Add(time.Hour)
			slots, err := st.AddSlots(ctx, ann.ID, []soultribe.NewSlot{
				{Start: start, End: start.Add(20 * time.Minute), Timezone: "UTC"},
				{Start: start.Add(30 * time.Minute), End: start.Add(50 * time.Minute), Timezone: "UTC"},
			})
			db.Clock.Advance(time.Hour)
			if err == nil && len(slots) != 2 {
				return fmt.Errorf("%d slots were returned", len(slots))
			}
			return err
		},
	}
	conn, err := pgx.Connect(ctx, db.URL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	tried := func() string { return db.Query(t, "SELECT last_value FROM failures")[0] }
	for name, call := range calls {
		for _, state := range []string{"40001", "40P01"} {
			failing(t, db, state, 3)
			require.NoError(t, call(db.Store), name)
			failing(t, db, state, 3)
			require.NoError(t, call(newStore(t, db, conn)), name)

			failing(t, db, state, 100)
			require.ErrorIs(t, call(db.Store), soultribe.ErrRetry, name)
			require.Equal(t, "4", tried(), name)

			// A transaction is for its owner to begin again, and so is a connection in one.
			failing(t, db, state, 100)
			require.ErrorIs(t, db.Store.InTx(ctx, func(_ context.Context, _ pgx.Tx, st soultribe.Store) error { return call(st) }), soultribe.ErrRetry, name)
			require.Equal(t, "1", tried(), name)
			_, err := conn.Exec(ctx, "BEGIN")
			require.NoError(t, err)
			failing(t, db, state, 100)
			require.ErrorIs(t, call(newStore(t, db, conn)), soultribe.ErrRetry, name)
			require.Equal(t, "1", tried(), name)
			_, err = conn.Exec(ctx, "ROLLBACK")
			require.NoError(t, err)
			// What wraps a transaction may hide it.
			failing(t, db, state, 100)
			require.ErrorIs(t, call(newStore(t, db, wrapped{db.Pool})), soultribe.ErrRetry, name)
			require.Equal(t, "1", tried(), name)
		}
		// Others are no reason.
		failing(t, db, "P0001", 100)
		require.Error(t, call(db.Store), name)
		require.Equal(t, "1", tried(), name)
	}

	// A context that ends ends the wait.
	failing(t, db, "40001", 100)
	short, cancel := context.WithCancel(ctx)
	pool := newPool(t, db.URL, func(c *pgxpool.Config) { c.ConnConfig.Tracer = cancelling{cancel} })
	_, err = newStore(t, db, pool).CreateUser(short, soultribe.NewUser{Email: "short@example.org", Hash: hash})
	require.Error(t, err)
	require.Equal(t, "1", tried())
}

// wrapped is a pool of which it cannot be told that it is one.
type wrapped struct{ soultribe.DB }

// cancelling ends a context when a statement has failed.
type cancelling struct{ cancel func() }

func (cancelling) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (c cancelling) TraceQueryEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	if data.Err != nil {
		c.cancel()
	}
}

// flaky is a network of which the next writes or reads fail.
type flaky struct {
	net.Conn
	writes, reads *atomic.Int32
}

func (f flaky) Write(b []byte) (int, error) {
	if f.writes.Add(-1) >= 0 {
		_ = f.Conn.Close()
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: errors.New("broken pipe")}
	}
	return f.Conn.Write(b)
}

// Read gives what was asked for a moment to come to pass before the answer is lost.
func (f flaky) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if f.reads.Add(-1) >= 0 {
		_ = f.Conn.Close()
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: errors.New("connection reset by peer")}
	}
	return n, err
}

// TestLostConnection loses the connection before a statement is sent, of which nobody is to notice, and after it was
// sent, when it may have been carried out.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	var writes, reads atomic.Int32
	count := new(counter)
	pool := newPool(t, db.URL, func(c *pgxpool.Config) {
		c.MaxConns = 1
		c.ConnConfig.Tracer = count
		c.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false } // which would notice first
		dial := c.ConnConfig.DialFunc
		c.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			return flaky{conn, &writes, &reads}, err
		}
	})
	st := newStore(t, db, pool)
	hash, err := st.HashPassword(ctx, "a password of the test")
	require.NoError(t, err)
	create := func(email string) error {
		_, err := st.CreateUser(ctx, soultribe.NewUser{Email: email, Hash: hash})
		return err
	}
	stored := func(email string) []string {
		return db.Query(t, `SELECT count(*) FROM "user" WHERE email = $1`, email)
	}
	require.NoError(t, create("first@example.org")) // the statement is prepared

	count.reset()
	writes.Store(1)
	require.NoError(t, create("before@example.org"))
	require.Equal(t, []string{"1"}, stored("before@example.org"))
	require.GreaterOrEqual(t, count.roundTrips, 2)

	// On this connection it is prepared, and so the answer that is lost is that of the statement itself.
	count.reset()
	reads.Store(1)
	err = create("after@example.org")
	require.Error(t, err)
	require.Equal(t, "internal", soultribe.Code(err))
	require.Equal(t, 1, count.roundTrips)
	require.Equal(t, []string{"1"}, stored("after@example.org"), "the flaw of this test: the server did not get so far")

	// In a transaction it is not made again.
	var inside error
	err = st.InTx(ctx, func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
		count.reset()
		writes.Store(1)
		_, inside = st.CreateUser(ctx, soultribe.NewUser{Email: "inside@example.org", Hash: hash})
		return inside
	})
	require.Error(t, err)
	require.Error(t, inside)
	var pg *pgconn.PgError
	require.NotErrorAs(t, err, &pg)
	require.Equal(t, []string{"0"}, stored("inside@example.org"))
	require.NoError(t, create("inside@example.org"))
}
