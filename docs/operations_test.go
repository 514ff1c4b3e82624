package docs_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/schema"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// ready is what a load balancer asks.
func ready(ctx context.Context, store soultribe.MaintenanceStore) error {
	err := store.Ready(ctx)
	if mismatch, ok := errors.AsType[*soultribe.SchemaError](err); ok && mismatch.Have > mismatch.Want {
		return nil // another instance has migrated, and this one is about to be replaced
	}
	return err
}

// migrate runs before the service listens.
func migrate(ctx context.Context, pool *pgxpool.Pool) error {
	err := schema.Migrate(ctx, pool)
	if mismatch, ok := errors.AsType[*schema.MismatchError](err); ok && mismatch.Have > mismatch.Want {
		return nil
	}
	return err
}

// TestOperationsNewerSchema has an instance of this version meet the schema of the next, and one that is older.
func TestOperationsNewerSchema(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("operations_test.go")
	require.NoError(t, err)
	_, functions, _ := strings.Cut(string(source), "// ready is")
	functions, _, _ = strings.Cut(functions, "\n// TestOperationsNewerSchema")
	require.Contains(t, read(t, "operations.md"), "```go\n// ready is"+functions+"```\n")

	w := newWorld(t, "public")
	_, err = w.Pool.Exec(t.Context(), "INSERT INTO soultribe_schema_version (version_id, is_applied) VALUES ($1, true)", soultribe.SchemaVersion+1)
	require.NoError(t, err)
	require.ErrorIs(t, w.Store.Ready(t.Context()), soultribe.ErrSchema)
	require.ErrorIs(t, schema.Migrate(t.Context(), w.Pool), soultribe.ErrSchema)
	require.NoError(t, ready(t.Context(), w.Store))
	require.NoError(t, migrate(t.Context(), w.Pool))
	_, err = w.Store.MutualAvailability(t.Context(), w.id("ann"), w.id("ben"), soultribe.MutualQuery{})
	require.NoError(t, err)
	_, err = w.Store.CancelMeetup(t.Context(), w.id("ann"), w.theMeetup(t).ID)
	require.NoError(t, err)

	_, err = w.Pool.Exec(t.Context(), "DELETE FROM soultribe_schema_version WHERE version_id >= $1", soultribe.SchemaVersion)
	require.NoError(t, err)
	require.ErrorIs(t, ready(t.Context(), w.Store), soultribe.ErrSchema)
}

// TestOperationsPool holds the table of defaults to those of a pool.
func TestOperationsPool(t *testing.T) {
	t.Parallel()
	guide := read(t, "operations.md")
	config, err := soultribe.PoolConfig("postgres://u@h/d")
	require.NoError(t, err)
	short := func(d time.Duration) string {
		return regexp.MustCompile(`([hm])0m?0?s$`).ReplaceAllString(d.String(), "$1")
	}
	for parameter, value := range map[string]time.Duration{
		"pool_max_conn_lifetime": config.MaxConnLifetime, "pool_max_conn_lifetime_jitter": config.MaxConnLifetimeJitter,
		"pool_max_conn_idle_time": config.MaxConnIdleTime, "pool_health_check_period": config.HealthCheckPeriod,
		"connect_timeout": config.ConnConfig.ConnectTimeout,
	} {
		require.Regexp(t, "\n\\| `"+parameter+"` \\| "+short(value)+"[ ,]", guide)
	}
	config, err = soultribe.PoolConfig("postgres://u@h/d?pool_max_conns=7&pool_max_conn_lifetime=2h&pool_max_conn_lifetime_jitter=10m&pool_max_conn_idle_time=3m&pool_health_check_period=4m&connect_timeout=5")
	require.NoError(t, err)
	require.Equal(t, []any{int32(7), 2 * time.Hour, 10 * time.Minute, 3 * time.Minute, 4 * time.Minute, 5 * time.Second}, []any{
		config.MaxConns, config.MaxConnLifetime, config.MaxConnLifetimeJitter, config.MaxConnIdleTime, config.HealthCheckPeriod, config.ConnConfig.ConnectTimeout,
	})
}

// TestOperationsFailover has a URL of two hosts, of which the first does not answer.
func TestOperationsFailover(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	u, err := url.Parse(db.URL)
	require.NoError(t, err)
	u.Host = "127.0.0.1:1," + u.Host
	query := u.Query()
	query.Set("target_session_attrs", "read-write")
	u.RawQuery = query.Encode()
	store, err := soultribe.Open(t.Context(), u.String())
	require.NoError(t, err)
	t.Cleanup(store.Close)
	require.NoError(t, store.Ready(t.Context()))

	// Where no host can be written to, none is taken.
	query.Set("default_transaction_read_only", "on")
	u.RawQuery = query.Encode()
	store, err = soultribe.Open(t.Context(), u.String())
	require.NoError(t, err)
	t.Cleanup(store.Close)
	require.ErrorContains(t, store.Ready(t.Context()), "read only")
}

// TestOperationsStatements runs what the guide has outside of what to watch.
func TestOperationsStatements(t *testing.T) {
	t.Parallel()
	guide := read(t, "operations.md")
	before, rest, found := strings.Cut(guide, "\n## What to watch\n")
	require.True(t, found)
	_, after, found := strings.Cut(rest, "\n## Incidents\n")
	require.True(t, found)
	documented := append(sections(t, before), sections(t, after)...)
	tests := map[string]func(t *testing.T, w *world, s section){
		"Limits for the application's role": func(t *testing.T, w *world, s section) {
			t.Helper()
			role := strings.ReplaceAll(w.Query(t, "SELECT current_database()::text")[0], "_test_", "_role_")
			w.run(t, "CREATE ROLE "+role)
			t.Cleanup(func() {
				_, err := w.Pool.Exec(context.Background(), "DROP ROLE "+role)
				require.NoError(t, err)
			})
			w.run(t, interpolate(t, s.sql, map[string]string{"role": role}))
			require.Equal(t, []string{"idle_in_transaction_session_timeout=1min|lock_timeout=10s|statement_timeout=30s"},
				w.Query(t, "SELECT string_agg(c, '|' ORDER BY c) FROM pg_roles, unnest(rolconfig) AS c WHERE rolname = $1", role))
		},
		"Settings for the tables that churn": func(t *testing.T, w *world, s section) {
			t.Helper()
			w.run(t, s.sql)
			require.NoError(t, schema.Check(t.Context(), w.Pool))
			require.Len(t, w.Query(t, "SELECT FROM pg_class WHERE array_to_string(reloptions, ',') ~ 'autovacuum_vacuum_scale_factor=0.0[25]'"), 5)
		},
		"How much is dead, and when vacuum last came": func(t *testing.T, w *world, s section) {
			t.Helper()
			w.run(t, "VACUUM ANALYZE availabilityslot")
			var slots []string
			rows := lines(t, session(t, w.URL, w.schema, "Asia/Kolkata"), s.sql)
			require.Len(t, rows, len(tableNames))
			for _, r := range rows {
				if strings.HasPrefix(r, "availabilityslot|") {
					slots = strings.Split(r, "|")
				}
			}
			require.Len(t, slots, 6)
			require.NotEmpty(t, slots[4], "it has just been vacuumed")
			require.NotEmpty(t, slots[5])
		},
		"How new a backup is": func(t *testing.T, w *world, s section) {
			t.Helper()
			newest := w.Query(t, "SELECT max(updated_at)::text FROM match")
			require.Equal(t, newest, lines(t, session(t, w.URL, w.schema, "America/St_Johns"), s.sql))
		},
		"End all secrets": func(t *testing.T, w *world, s section) {
			t.Helper()
			token, ok, err := w.Store.IssuePasswordReset(t.Context(), w.people["eva"].Email)
			require.NoError(t, err)
			require.True(t, ok)
			lines(t, session(t, w.URL, w.schema, "Asia/Kolkata"), s.sql)
			require.ErrorIs(t, w.Store.CheckPasswordReset(t.Context(), token.Secret()), soultribe.ErrTokenUsed)
			export, err := w.Store.Export(t.Context(), w.id("eva"))
			require.NoError(t, err)
			w.isNow(t, *export.PasswordResets[0].UsedAt)
			export, err = w.Store.Export(t.Context(), w.id("new"))
			require.NoError(t, err)
			w.isNow(t, *export.EmailVerifications[1].UsedAt)
		},
		"Indexes that depend on the collation of the database": func(t *testing.T, w *world, s section) {
			t.Helper()
			indexes := lines(t, session(t, w.URL, w.schema, "UTC"), s.sql)
			slices.Sort(indexes)
			require.Equal(t, []string{
				"emailverificationtoken_plaintext_idx", "ix_emailverificationtoken_token", "ix_passwordresettoken_token",
				"ix_user_email", "passwordresettoken_plaintext_idx",
			}, indexes)
			require.Equal(t, []string{"C"}, w.Query(t, `SELECT collname::text FROM pg_index, pg_collation c
				WHERE indexrelid = 'user_email_lower_key'::regclass AND c.oid = indcollation[0]`))
			for _, index := range indexes {
				w.run(t, "REINDEX INDEX CONCURRENTLY "+index)
			}
			require.NoError(t, schema.Check(t.Context(), w.Pool))
		},
		"An id column has no number left": func(t *testing.T, w *world, s section) {
			t.Helper()
			w.run(t, "SELECT setval('availabilityslot_id_seq', 2147483647)")
			slot := soultribe.NewSlot{Start: w.now.Add(time.Hour), End: w.now.Add(2 * time.Hour), Timezone: "UTC"}
			_, err := w.Store.AddSlot(t.Context(), w.id("gus"), slot)
			require.Equal(t, "2200H", sqlState(err))
			w.run(t, s.sql)
			w.Pool.Reset()
			added, err := w.Store.AddSlot(t.Context(), w.id("gus"), slot)
			require.NoError(t, err)
			require.EqualValues(t, 2147483648, added.ID)
			require.NoError(t, schema.Check(t.Context(), w.Pool))
			w.widen(t)
			w.Pool.Reset()
			require.NoError(t, schema.Check(t.Context(), w.Pool))
			late := w.User(t)
			require.EqualValues(t, 2147483648, late.ID)
			w.Meetup(t, w.Matched(t, late.ID, w.id("fay")), soultribe.Times{Start: w.now.Add(time.Hour)})
		},
	}
	require.Len(t, documented, len(tests))
	for _, s := range documented {
		t.Run(s.heading, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, tests, s.heading)
			tests[s.heading](t, newWorld(t, "public"), s)
		})
	}
}

// run runs statements, each by itself.
func (w *world) run(t *testing.T, sql string) {
	t.Helper()
	for statement := range strings.SplitSeq(strings.TrimSuffix(strings.TrimSpace(sql), ";"), ";\n") {
		_, err := w.Pool.Exec(t.Context(), statement, pgx.QueryExecModeExec)
		require.NoError(t, err, statement)
	}
}

// widen makes all ids of the guide to the data 64 bits wide, as the guide says in words.
func (w *world) widen(t *testing.T) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(t.Context(), w.Pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(t.Context(), "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'match'::regclass AND NOT tgisinternal")
		require.NoError(t, err)
		triggers, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.Len(t, triggers, 2)
		for _, definition := range triggers {
			_, err := tx.Exec(t.Context(), "DROP TRIGGER "+strings.Fields(definition)[2]+" ON match")
			require.NoError(t, err)
		}
		for _, c := range documentedColumns(t) {
			if c.table != "soultribe_schema_version" && (c.column == "id" || strings.HasSuffix(c.column, "_id")) {
				_, err := tx.Exec(t.Context(), fmt.Sprintf("ALTER TABLE %q ALTER COLUMN %s TYPE bigint", c.table, c.column))
				require.NoError(t, err)
			}
		}
		for _, definition := range triggers {
			_, err := tx.Exec(t.Context(), definition)
			require.NoError(t, err)
		}
		_, err = tx.Exec(t.Context(), "ALTER SEQUENCE user_id_seq AS bigint; SELECT setval('user_id_seq', 2147483647)", pgx.QueryExecModeSimpleProtocol)
		return err
	}))
}

func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// TestOperationsWatch has each number to watch be small where all is well, and grow with what it is to show.
func TestOperationsWatch(t *testing.T) {
	t.Parallel()
	_, watch, found := strings.Cut(read(t, "operations.md"), "\n## What to watch\n")
	require.True(t, found)
	watch, _, found = strings.Cut(watch, "\n## Incidents\n")
	require.True(t, found)
	type bounds struct {
		calm int64 // at most, where all is well
		stir func(t *testing.T, w *world)
		from int64 // at least, then
		to   int64
	}
	tests := map[string]bounds{
		"Seconds that settling lags": {
			calm: 0,
			stir: func(t *testing.T, w *world) {
				t.Helper()
				w.run(t, fmt.Sprintf("UPDATE meetup SET scheduled_time = '%s', status = 'confirmed' WHERE id = %d", stamp(time.Now().Add(-2*time.Hour)), w.theMeetup(t).ID))
			},
			from: 4500, to: 4800, // its 45 minutes begin two hours ago
		},
		"Secrets that nothing purges": {
			stir: func(t *testing.T, w *world) {
				t.Helper()
				// Of each kind one that expired two hours more than 90 days ago, and one an hour less.
				for _, at := range []time.Duration{-2 * time.Hour, time.Hour} {
					w.at(-90*24*time.Hour + at - time.Hour)
					_, _, err := w.Store.IssuePasswordReset(t.Context(), w.people["fay"].Email)
					require.NoError(t, err)
					w.at(-90*24*time.Hour + at - 24*time.Hour)
					_, err = w.Store.IssueEmailVerification(t.Context(), w.id("stale"))
					require.NoError(t, err)
				}
			},
			from: 2, to: 2,
		},
		"Seconds of the oldest open transaction": {calm: 60, stir: hold, from: 0, to: 60},
		"Sessions that wait for a lock": {stir: func(t *testing.T, w *world) {
			t.Helper()
			hold(t, w)
			waiter := session(t, w.URL, w.schema, "UTC")
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = waiter.Exec(t.Context(), "SELECT FROM profile") // until the test ends
			}()
			t.Cleanup(func() { <-done })
			require.Eventually(t, func() bool {
				return w.Query(t, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $1", int64(waiter.PgConn().PID()))[0] == "Lock"
			}, 10*time.Second, 5*time.Millisecond)
		}, from: 1, to: 1},
		"Deadlocks so far":                       {to: 0},
		"Per cent of connections that are taken": {calm: 100, to: 100},
		"Per cent of a column's numbers that are used": {
			stir: func(t *testing.T, w *world) {
				t.Helper()
				w.run(t, "SELECT setval('match_id_seq', 1100000000)")
			},
			from: 51, to: 51,
		},
		"Per cent of the way to a forced vacuum of everything": {calm: 1, to: 1},
		"Bytes that the farthest standby is behind":            {to: 0},
	}
	documented := sections(t, watch)
	require.Len(t, documented, len(tests))
	for _, s := range documented {
		name, _, _ := strings.Cut(s.heading, " (alert: ")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, tests, name)
			test := tests[name]
			w := newWorld(t, "public")
			_, err := w.Store.Settle(t.Context(), soultribe.SettlePolicy{})
			require.NoError(t, err)
			number := func(zone string) int64 {
				rows := lines(t, session(t, w.URL, w.schema, zone), s.sql)
				require.Len(t, rows, 1)
				n, err := strconv.ParseInt(rows[0], 10, 64)
				require.NoError(t, err)
				return n
			}
			for _, zone := range zones {
				require.LessOrEqual(t, number(zone), test.calm, zone)
			}
			if test.stir != nil {
				test.stir(t, w)
			}
			for _, zone := range zones {
				n := number(zone)
				require.GreaterOrEqual(t, n, test.from, zone)
				require.LessOrEqual(t, n, test.to, zone)
			}
		})
	}
}

// hold keeps a transaction open that has read from the profiles, until the test ends.
func hold(t *testing.T, w *world) {
	t.Helper()
	conn := session(t, w.URL, w.schema, "UTC")
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE profile")
	require.NoError(t, err)
}
