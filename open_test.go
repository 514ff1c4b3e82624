package soultribe_test

import (
	"context"
	"net"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	u, err := url.Parse(db.URL)
	require.NoError(t, err)
	rest := strings.TrimPrefix(db.URL, u.Scheme+"://")
	for _, scheme := range []string{"postgres", "postgresql", "postgresql+psycopg2", "postgresql+asyncpg", "postgres+psycopg", "POSTGRESQL"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			store, err := soultribe.Open(t.Context(), " "+scheme+"://"+rest+"\n")
			require.NoError(t, err)
			require.NoError(t, store.Ready(t.Context()))
			store.Close()
			require.Error(t, store.Ready(t.Context()), "the pool is closed")
		})
	}
}

// TestOpenPassword reads passwords that a URL makes hard to write, in the ways that SQLAlchemy
// takes them.
func TestOpenPassword(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ written, password string }{
		{"p%40ss%2Fw%3Ard%25", "p@ss/w:rd%"},
		{"p#s/s?w:d", "p#s/s?w:d"},
		{"2024/s3", "2024/s3"},
		{"p+s%20s", "p+s s"},
		{"%C3%A4%E2%82%AC", "ä€"},
	} {
		got, err := soultribe.URLPassword("postgresql+psycopg2://soultribe:" + tt.written + "@127.0.0.1:5432/soultribe")
		require.NoError(t, err, tt.written)
		require.Equal(t, tt.password, got)
	}
}

func TestOpenNeverTellsThePassword(t *testing.T) {
	t.Parallel()
	const canary = "canary-in-the-url"
	for _, databaseURL := range []string{
		"",
		canary,
		"mysql://u:" + canary + "@h/d",
		"postgres://u:" + canary + "%zz@h/d",
		"postgres://u:" + canary + "@h:port/d",
		"postgres://u:" + canary + "@h:99999999/d",
		"postgres://u:" + canary + "@h/d?sslmode=" + canary,
		"postgres://u:" + canary + "@h/d?pool_max_conns=" + canary,
		"postgres://u:" + canary + "@h/d?connect_timeout=" + canary,
		"postgres://u:" + canary + "@[::1/d",
		"postgres://u:" + canary + "@h/d?sslmode=verify-full&sslrootcert=/" + canary,
	} {
		_, err := soultribe.Open(t.Context(), databaseURL)
		require.ErrorIs(t, err, soultribe.ErrInvalid, databaseURL)
		require.NotContains(t, err.Error(), canary)
	}

	store, err := soultribe.Open(t.Context(), "postgres://u:"+canary+"@127.0.0.1:1/d?connect_timeout=1")
	require.NoError(t, err, "Open does not connect")
	t.Cleanup(store.Close)
	err = store.Ready(t.Context())
	require.Error(t, err)
	require.NotContains(t, err.Error(), canary)
}

// TestOpenCancel sees that a context that ends has the server end the statement, and the connection live on.
func TestOpenCancel(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	config, err := soultribe.PoolConfig(db.URL)
	require.NoError(t, err)
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	st := newStore(t, db, pool)
	me := db.User(t).ID
	var before, after int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&before))

	tx, err := db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), `SELECT FROM "user" WHERE id = $1 FOR UPDATE`, me)
	require.NoError(t, err)
	waits := func() bool {
		var n int
		err := db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'", before).Scan(&n)
		return err == nil && n == 1
	}
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := st.SetProfile(ctx, me, soultribe.NewProfile{DisplayName: "Me"})
			done <- err
		}()
		require.Eventually(t, waits, 10*time.Second, time.Millisecond)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		require.False(t, waits())
	}
	// What is still on its way would cancel this.
	for range 20 {
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&after))
		require.Equal(t, before, after)
	}
}

// late is a connection on which a request arrives when arrives is closed, whatever its sender has done meanwhile.
type late struct {
	net.Conn
	sent, arrives, answered chan struct{}
}

func (l late) Write(b []byte) (int, error) {
	request := slices.Clone(b)
	go func() {
		defer close(l.answered)
		<-l.arrives
		_ = l.Conn.SetDeadline(time.Time{})
		_, _ = l.Conn.Write(request)
		_, _ = l.Read(make([]byte, 1))
		_ = l.Conn.Close()
	}()
	close(l.sent)
	return len(b), nil
}

func (late) Close() error { return nil }

// TestOpenCancelLate has the request to cancel a statement, which has ended by itself, arrive during the next one.
func TestOpenCancelLate(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	config := poolConfig(t, db.URL)
	config.MaxConns = 1
	l := late{nil, make(chan struct{}), make(chan struct{}), make(chan struct{})}
	var open atomic.Bool // the pool's one connection is: the next is for the request to cancel
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil && open.CompareAndSwap(true, false) {
			l.Conn = conn
			return l, nil
		}
		return conn, err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	st := newStore(t, db, pool)
	me := db.User(t).ID
	require.NoError(t, st.Ready(t.Context()))
	open.Store(true)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, during := range []func(){
		func() { cancel(); <-l.sent },
		func() { close(l.arrives); <-l.answered },
	} {
		locked, err := db.Pool.Begin(t.Context())
		require.NoError(t, err)
		require.NoError(t, failure(locked.Exec(t.Context(), `SELECT FROM profile FOR UPDATE`)))
		result := make(chan error, 1)
		go func(ctx context.Context) {
			result <- failure(st.UpdateProfile(ctx, me, soultribe.ProfileUpdate{Bio: new(string)}))
		}(ctx)
		waitForBlocked(t, db)
		during()
		require.NoError(t, locked.Rollback(t.Context()))
		require.NoError(t, <-result)
		ctx = t.Context()
	}
}

// TestNoGoroutineStays ends contexts before calls and in the midst of them.
//
//nolint:paralleltest // it counts those of the whole process
func TestNoGoroutineStays(t *testing.T) {
	db := soultribetest.New(t)
	pool, err := pgxpool.NewWithConfig(t.Context(), poolConfig(t, db.URL))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	st := newStore(t, db, pool)
	me := db.User(t).ID
	tx, err := db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	require.NoError(t, failure(tx.Exec(t.Context(), `SELECT FROM profile FOR UPDATE`)))
	call := func(timeout time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		require.ErrorIs(t, failure(st.UpdateProfile(ctx, me, soultribe.ProfileUpdate{Bio: new(string)})), context.DeadlineExceeded)
		require.ErrorIs(t, failure(st.ResetPassword(ctx, "no secret", otherPassword)), context.DeadlineExceeded)
	}
	call(50 * time.Millisecond) // the pool has a goroutine for each connection
	before := runtime.NumGoroutine()
	for range 10 {
		call(0)
		call(20 * time.Millisecond)
	}
	waitUntil(t, func() bool { return runtime.NumGoroutine() <= before }, "goroutines stay")
}
