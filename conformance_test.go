package soultribe_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// TestConformance runs the suite in every way in which a service may hand over its database.
func TestConformance(t *testing.T) {
	t.Parallel()
	mode := func(m pgx.QueryExecMode) func(*pgxpool.Config) {
		return func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = m }
	}
	lanes := []struct {
		name      string
		configure func(*pgxpool.Config)
		on        func(t *testing.T, pool *pgxpool.Pool) soultribe.DB // nil means the pool
		schema    string
		decorate  bool
	}{
		{name: "pool"},
		{name: "decorated", decorate: true},
		{name: "cache_describe", configure: mode(pgx.QueryExecModeCacheDescribe)},
		{name: "describe_exec", configure: mode(pgx.QueryExecModeDescribeExec)},
		{name: "exec", configure: mode(pgx.QueryExecModeExec)},
		{name: "simple_protocol", configure: mode(pgx.QueryExecModeSimpleProtocol)},
		{name: "hostile session", configure: hostileSession},
		{name: "schema", schema: `So"ul Tribe? $1`},
		{name: "connection", on: func(t *testing.T, pool *pgxpool.Pool) soultribe.DB {
			t.Helper()
			conn, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close(context.Background()) })
			return conn
		}},
		{name: "transaction", on: func(t *testing.T, pool *pgxpool.Pool) soultribe.DB {
			t.Helper()
			tx, err := pool.Begin(t.Context())
			require.NoError(t, err)
			// The suite leaves the transaction usable, whatever conflicts it met.
			t.Cleanup(func() { require.NoError(t, tx.Commit(context.Background())) })
			return tx
		}},
	}
	for _, lane := range lanes {
		t.Run(lane.name, func(t *testing.T) {
			t.Parallel()
			soultribetest.TestStore(t, func(t *testing.T, opts ...soultribe.Option) (soultribe.Store, *soultribetest.Clock) {
				t.Helper()
				options := []soultribetest.Option{}
				if lane.schema != "" {
					opts = append(opts, soultribe.WithSchema(lane.schema))
					options = append(options, soultribetest.WithSchema(lane.schema),
						soultribetest.WithSetup("foreign", func(ctx context.Context, pool *pgxpool.Pool) error {
							_, err := pool.Exec(ctx, `CREATE TABLE public."user" (name text); CREATE TABLE public.match (x int)`)
							return err
						}))
				}
				db := soultribetest.New(t, options...)
				pool := db.Pool
				if lane.configure != nil {
					pool = newPool(t, db.URL, lane.configure)
				}
				var on soultribe.DB = pool
				if lane.on != nil {
					on = lane.on(t, pool)
				}
				store := newStore(t, db, on, opts...)
				if lane.decorate {
					return soultribe.Decorate(store, func(s soultribe.Store) soultribe.Store { return struct{ soultribe.Store }{s} }), db.Clock
				}
				return store, db.Clock
			})
		})
	}
}

// newPool opens a pool of the test's own.
func newPool(t testing.TB, url string, configure ...func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	for _, f := range configure {
		f(config)
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// newStore makes a Store on on, with the clock and the cheap passwords of db.
func newStore(t testing.TB, db *soultribetest.DB, on soultribe.DB, opts ...soultribe.Option) *soultribe.Postgres {
	t.Helper()
	store, err := soultribe.New(on, append([]soultribe.Option{
		soultribe.WithClock(db.Clock.Now), soultribe.WithPasswordParams(soultribetest.PasswordParams),
	}, opts...)...)
	require.NoError(t, err)
	return store
}

// hostileSession is a host whose codec takes timestamps for local time, and whose session is far from
// UTC and finds other tables first.
func hostileSession(c *pgxpool.Config) {
	vienna, err := time.LoadLocation("Europe/Vienna")
	if err != nil {
		panic(err)
	}
	c.ConnConfig.RuntimeParams["timezone"] = "Asia/Kolkata"
	c.ConnConfig.RuntimeParams["search_path"] = "pg_temp, pg_catalog"
	c.ConnConfig.RuntimeParams["default_transaction_isolation"] = "read committed"
	c.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{Name: "timestamp", OID: pgtype.TimestampOID, Codec: &pgtype.TimestampCodec{ScanLocation: vienna}})
		conn.TypeMap().RegisterType(&pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: vienna}})
		return nil
	}
}
