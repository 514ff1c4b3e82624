package soultribe_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/internal/pgserver"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// TestConformance runs the suite in every way in which a service may hand over its database.
func TestConformance(t *testing.T) {
	t.Parallel()
	lanes := []struct {
		name      string
		configure func(*pgxpool.Config)
		on        func(t *testing.T, pool *pgxpool.Pool) soultribe.DB // nil means the pool
		schema    string
		setup     soultribetest.Option
		decorate  bool
		pooled    bool // by way of PgBouncer
	}{
		{name: "pool"},
		{name: "simple_protocol, hostile session", configure: func(c *pgxpool.Config) {
			hostileSession(c)
			inMode(pgx.QueryExecModeSimpleProtocol)(c)
		}},
		{name: "cache_describe, schema and search path", schema: `So"ul Tribe? $1`, setup: soultribetest.WithSetup("traps", layTraps), configure: func(c *pgxpool.Config) {
			trapped(c)
			inMode(pgx.QueryExecModeCacheDescribe)(c)
		}},
		{name: "exec, connection", configure: inMode(pgx.QueryExecModeExec), on: func(t *testing.T, pool *pgxpool.Pool) soultribe.DB {
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
			return usableTx{tx, t}
		}},
		{name: "cache_describe, PgBouncer, decorated", pooled: true, decorate: true, configure: func(c *pgxpool.Config) {
			c.ConnConfig.RuntimeParams["timezone"] = "Asia/Kolkata"
			inMode(pgx.QueryExecModeCacheDescribe)(c)
		}},
	}
	for _, lane := range lanes {
		t.Run(lane.name, func(t *testing.T) {
			t.Parallel()
			var bouncer *pgserver.PgBouncer
			if lane.pooled {
				bouncer = startPgBouncer(t, soultribetest.New(t).URL)
			}
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
				if lane.setup != nil {
					options = append(options, lane.setup)
				}
				db := soultribetest.New(t, options...)
				pool := db.Pool
				switch {
				case lane.pooled:
					pool = newPooled(t, bouncer, db, lane.configure)
				case lane.configure != nil:
					pool = newPool(t, db.URL, lane.configure)
				}
				var on soultribe.DB = pool
				if lane.on != nil {
					on = lane.on(t, pool)
				}
				store := newStore(t, db, on, opts...)
				if lane.decorate {
					wrap := func(s soultribe.Store) soultribe.Store { return struct{ soultribe.Store }{s} }
					return soultribe.Decorate(soultribe.Decorate(store, wrap), wrap), db.Clock
				}
				return store, db.Clock
			})
		})
	}
}

// usableTx is a transaction that fails the test when a call begins in it, or it is to be committed, after an
// error has ended it: what no conflict does. Only the rollback to a savepoint may come then.
type usableTx struct {
	pgx.Tx
	t testing.TB
}

func (u usableTx) check(call string) {
	u.t.Helper()
	if status := u.Conn().PgConn().TxStatus(); status == 'E' {
		u.t.Errorf("an error has ended the transaction in which comes %s", call)
	}
}

func (u usableTx) Begin(ctx context.Context) (pgx.Tx, error) {
	u.check("Begin")
	tx, err := u.Tx.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return usableTx{tx, u.t}, nil
}

func (u usableTx) Commit(ctx context.Context) error {
	u.check("Commit")
	return u.Tx.Commit(ctx)
}

func (u usableTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if !strings.HasPrefix(sql, "ROLLBACK TO SAVEPOINT ") {
		u.check(sql)
	}
	return u.Tx.Exec(ctx, sql, args...)
}

func (u usableTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	u.check(sql)
	return u.Tx.Query(ctx, sql, args...)
}

func (u usableTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	u.check(sql)
	return u.Tx.QueryRow(ctx, sql, args...)
}

func (u usableTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	u.check(b.QueuedQueries[0].SQL)
	return u.Tx.SendBatch(ctx, b)
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

// inMode is a pool in a mode of pgx.
func inMode(mode pgx.QueryExecMode) func(*pgxpool.Config) {
	return func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode }
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
