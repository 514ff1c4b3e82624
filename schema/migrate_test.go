package schema_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/schema"
)

func TestMigrateFresh(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	before := time.Now().Add(-time.Minute)

	state, err := schema.Status(t.Context(), pool)
	require.NoError(t, err)
	require.Equal(t, schema.State{Latest: soultribe.SchemaVersion}, state)

	require.NoError(t, schema.Migrate(t.Context(), pool))
	require.NoError(t, schema.Check(t.Context(), pool))
	state, err = schema.Status(t.Context(), pool)
	require.NoError(t, err)
	require.Equal(t, soultribe.SchemaVersion, state.Version)
	require.Len(t, state.Applied, soultribe.SchemaVersion)
	for i, a := range state.Applied {
		require.Equal(t, i+1, a.Version)
		require.Equal(t, time.UTC, a.At.Location())
		require.WithinRange(t, a.At, before, time.Now().Add(time.Minute))
	}

	once := dump(t, pool)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	require.Equal(t, once, dump(t, pool))

	// Defaults are the application's affair, except for the ids.
	require.Equal(t, []string{"availabilityslot", "emailverificationtoken", "match", "meetup", "passwordresettoken", "user"},
		lines(t, pool, `
SELECT c.relname::text FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid
WHERE c.relnamespace = 'public'::regnamespace AND c.relname <> 'soultribe_schema_version'
AND pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%' ORDER BY 1`))
	require.Len(t, lines(t, pool, `SELECT adrelid::regclass::text FROM pg_attrdef WHERE adrelid >= 16384`), 7) // and tstamp
}

// The two ways to a database lead to the same one.
func TestMigrateFreshIsAsSQLAlchemy(t *testing.T) {
	t.Parallel()
	fresh, taken := newPool(t), newPool(t, sqlalchemy)
	exec(t, taken, `DROP TABLE alembic_version, refreshtoken`, `ALTER TABLE "user" DROP COLUMN locale`)
	require.NoError(t, schema.Migrate(t.Context(), fresh))
	require.NoError(t, schema.Migrate(t.Context(), taken))
	exec(t, fresh, `DELETE FROM soultribe_schema_version`)
	exec(t, taken, `DELETE FROM soultribe_schema_version`)
	require.Equal(t, dump(t, fresh), dump(t, taken))
}

func TestMigrateTwentyAtOnce(t *testing.T) {
	t.Parallel()
	modes := []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe,
		pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}
	for name, statements := range map[string][]string{"fresh": nil, "taken over": {sqlalchemy, people}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			databaseURL := newDatabase(t)
			exec(t, connect(t, databaseURL), statements...)
			const n = 20
			errs := make([]error, n)
			var start, done sync.WaitGroup
			start.Add(1)
			for i := range n {
				pool := connect(t, databaseURL, maxConns(int32(1+i%2)), func(c *pgxpool.Config) {
					c.ConnConfig.DefaultQueryExecMode = modes[i%len(modes)]
				})
				done.Go(func() {
					start.Wait()
					errs[i] = schema.Migrate(t.Context(), pool, schema.In("Tribe \"1\""))
					if statements != nil {
						errs[i] = errors.Join(errs[i], schema.Migrate(t.Context(), pool))
					}
				})
			}
			start.Done()
			done.Wait()
			require.NoError(t, errors.Join(errs...))
			pool := connect(t, databaseURL)
			require.NoError(t, schema.Check(t.Context(), pool, schema.In("Tribe \"1\"")))
			require.Equal(t, []string{latest, latest},
				lines(t, pool, `SELECT unnest(ARRAY[count(*) - 1, max(version_id)])::text FROM "Tribe ""1""".soultribe_schema_version`))
			require.Empty(t, lines(t, pool, `SELECT locktype FROM pg_locks WHERE locktype = 'advisory' AND database =
				(SELECT oid FROM pg_database WHERE datname = current_database())`))
		})
	}
}

// Whatever the session is set to, the result is the same.
func TestMigrateInAnySession(t *testing.T) {
	t.Parallel()
	plain := newPool(t, sqlalchemy)
	require.NoError(t, schema.Migrate(t.Context(), plain))
	exec(t, plain, `DELETE FROM soultribe_schema_version`)
	want := dump(t, plain)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe,
		pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			databaseURL := newDatabase(t)
			exec(t, connect(t, databaseURL), sqlalchemy)
			pool := connect(t, databaseURL, maxConns(1), func(c *pgxpool.Config) {
				c.ConnConfig.DefaultQueryExecMode = mode
				if mode == pgx.QueryExecModeExec {
					c.ConnConfig.StatementCacheCapacity = 0
					c.ConnConfig.DescriptionCacheCapacity = 0
				}
			}, setting("TimeZone", "Pacific/Kiritimati"), setting("DateStyle", "SQL, DMY"), setting("search_path", "nowhere"),
				setting("default_transaction_isolation", "serializable"), setting("default_transaction_read_only", "on"),
				setting("statement_timeout", "1000000"), setting("lock_timeout", "1"))
			require.NoError(t, schema.Migrate(t.Context(), pool))
			require.NoError(t, schema.Check(t.Context(), pool))
			state, err := schema.Status(t.Context(), pool)
			require.NoError(t, err)
			require.WithinDuration(t, time.Now(), state.Applied[0].At, time.Minute)
			require.Equal(t, []string{"nowhere"}, lines(t, pool, `SELECT current_setting('search_path')`))
			require.Equal(t, []string{"1ms"}, lines(t, pool, `SELECT current_setting('lock_timeout')`))
			require.Empty(t, lines(t, pool, `SELECT name FROM pg_prepared_statements WHERE statement LIKE '%soul' || 'tribe%'`))

			plain := connect(t, databaseURL)
			exec(t, plain, `DELETE FROM soultribe_schema_version`)
			require.Equal(t, want, dump(t, plain))
		})
	}
}

func TestMigrateBesideForeignTables(t *testing.T) {
	t.Parallel()
	pool := newPool(t,
		`CREATE TABLE "user" (uuid uuid PRIMARY KEY, name text NOT NULL)`,
		`CREATE TABLE match (a_user_id int NOT NULL, b_user_id int NOT NULL)`,
		`INSERT INTO match VALUES (1, 1), (1, 1)`)
	require.NoError(t, schema.Migrate(t.Context(), pool, schema.In("tribe")))
	require.NoError(t, schema.Check(t.Context(), pool, schema.In("tribe")))
	require.Equal(t, []string{"match", "user"}, lines(t, pool,
		`SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1`))
	state, err := schema.Status(t.Context(), pool)
	require.NoError(t, err)
	require.Zero(t, state.Version)

	// Two schemas of one database have nothing to do with one another.
	const name = "Größe '2'\n\"{{user_id}}\" $$ -- ; \\"
	require.NoError(t, schema.Migrate(t.Context(), pool, schema.In(name)))
	require.NoError(t, schema.Check(t.Context(), pool, schema.In(name)))
}

// A role that may not create schemas can still fill one that is there.
func TestMigrateWithoutTheRightToCreateSchemas(t *testing.T) {
	t.Parallel()
	role := "schema_test_" + run
	admin(t, "CREATE ROLE "+role)
	t.Cleanup(func() { admin(t, "DROP ROLE "+role) }) // after its tables
	databaseURL := newDatabase(t)
	exec(t, connect(t, databaseURL), "CREATE SCHEMA tribe AUTHORIZATION "+role)
	pool := connect(t, databaseURL, func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "SET SESSION AUTHORIZATION "+role) // however the server authenticates
			return err
		}
	})
	require.NoError(t, schema.Migrate(t.Context(), pool, schema.In("tribe")))
	require.NoError(t, schema.Check(t.Context(), pool, schema.In("tribe")))

	err := schema.Migrate(t.Context(), pool, schema.In("other"))
	require.Equal(t, "42501", sqlState(err), "%v", err)
	require.ErrorContains(t, err, `soultribe: migrate schema "other": `)
}

func TestMigrateByVersions(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	require.NoError(t, schema.Migrate(t.Context(), pool, schema.To(1)))
	// Exactly the contract.
	require.Equal(t, []string{
		"availabilityslot: id user_id start_dt_utc end_dt_utc start_dt_local end_dt_local timezone created_at updated_at",
		"emailverificationtoken: id user_id token expires_at used_at created_at",
		"match: id user1_id user2_id status created_at updated_at",
		"meetup: id match_id scheduled_time status created_at updated_at",
		"passwordresettoken: id user_id token expires_at used_at created_at",
		"profile: user_id full_name display_name bio timezone created_at updated_at",
		"soultribe_schema_version: id version_id is_applied tstamp",
		"user: id email password_hash email_verified_at created_at",
	}, lines(t, pool, `
SELECT c.relname || ': ' || string_agg(a.attname, ' ' ORDER BY a.attnum) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 GROUP BY c.relname ORDER BY 1`))
	require.Equal(t, []string{
		"availabilityslot_pkey", "emailverificationtoken_pkey", "ix_availabilityslot_user_id",
		"ix_emailverificationtoken_token", "ix_emailverificationtoken_user_id", "ix_passwordresettoken_token",
		"ix_passwordresettoken_user_id", "ix_user_email", "match_pkey", "meetup_pkey", "passwordresettoken_pkey",
		"profile_pkey", "soultribe_schema_version_pkey", "user_pkey",
	}, lines(t, pool, `SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'i' ORDER BY 1`))

	err := schema.Check(t.Context(), pool)
	require.ErrorIs(t, err, soultribe.ErrSchema)
	require.EqualError(t, err, `soultribe: schema "public" is at version 1 of `+latest+`: run schema.Migrate`)

	exec(t, pool, `INSERT INTO "user" (email, password_hash, created_at) VALUES ('Ann@x.org', '', '2024-01-01'), ('ann@x.org', '', '2024-01-01')`)
	var dirt *schema.DirtError
	require.ErrorAs(t, schema.Migrate(t.Context(), pool), &dirt)
	require.Equal(t, []schema.Violation{{Rule: "user_email_lower_key", Table: "user", IDs: []int64{1, 2}}}, dirt.Rows)
	state, err := schema.Status(t.Context(), pool)
	require.NoError(t, err)
	require.Equal(t, 1, state.Version)

	exec(t, pool, `DELETE FROM "user" WHERE id = 2`)
	require.NoError(t, schema.Migrate(t.Context(), pool, schema.To(2)))
	require.EqualError(t, schema.Check(t.Context(), pool), `soultribe: schema "public" is at version 2 of `+latest+`: run schema.Migrate`)
	older := lines(t, pool, `SELECT pg_get_functiondef('soultribe_book_meetup'::regproc)`)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	require.NoError(t, schema.Check(t.Context(), pool))

	// A function of an older version does for that version only.
	exec(t, pool, older...)
	require.ErrorContains(t, schema.Check(t.Context(), pool), "function soultribe_book_meetup is not the one that the library needs")
}

// A dump that lacks the version table is taken over as it is.
func TestMigrateWithoutTheVersionTable(t *testing.T) {
	t.Parallel()
	pool := newPool(t, sqlalchemy, people)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	exec(t, pool, `DELETE FROM soultribe_schema_version`)
	want := dump(t, pool)
	exec(t, pool, `DROP TABLE soultribe_schema_version`)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	require.NoError(t, schema.Check(t.Context(), pool))
	exec(t, pool, `DELETE FROM soultribe_schema_version`)
	require.Equal(t, want, dump(t, pool))
}

func TestMigrateNewer(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	exec(t, pool, `INSERT INTO soultribe_schema_version (version_id, is_applied) VALUES (99, true)`,
		`ALTER TABLE meetup DROP COLUMN status`)
	want := dump(t, pool)
	text := `soultribe: schema "public" is at version 99, this library knows ` + latest + `: upgrade the library`
	for _, err := range []error{schema.Migrate(t.Context(), pool), schema.Check(t.Context(), pool)} {
		require.EqualError(t, err, text)
		require.ErrorIs(t, err, soultribe.ErrSchema)
		var mismatch *schema.MismatchError
		require.ErrorAs(t, err, &mismatch)
		require.Equal(t, 99, mismatch.Have)
		require.Equal(t, soultribe.SchemaVersion, mismatch.Want)
	}
	require.Equal(t, want, dump(t, pool))
	state, err := schema.Status(t.Context(), pool)
	require.NoError(t, err)
	require.Equal(t, 99, state.Version)
}

func TestMigrateLockTimeout(t *testing.T) {
	t.Parallel()
	pool := newPool(t, sqlalchemy, people)
	want := dump(t, pool)
	for _, lock := range []string{`SELECT count(*) FROM meetup`, `UPDATE "user" SET email = email`} {
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		exec(t, tx, lock)
		for _, timeout := range []time.Duration{50 * time.Millisecond, time.Second} {
			start := time.Now()
			err = schema.Migrate(t.Context(), pool, schema.LockTimeout(timeout))
			require.Equal(t, "55P03", sqlState(err), "%v", err)
			require.ErrorContains(t, err, `soultribe: migrate schema "public": other transactions held the tables for `+timeout.String())
			require.NotErrorIs(t, err, soultribe.ErrSchema)
			require.InDelta(t, timeout.Seconds(), time.Since(start).Seconds(), 0.8)
		}
		require.NoError(t, tx.Rollback(t.Context()))
	}
	require.Equal(t, want, dump(t, pool))
	require.NoError(t, schema.Migrate(t.Context(), pool))
}

// Clients of an application that knows nothing of the migration neither fail nor wait for long.
func TestMigrateUnderLoad(t *testing.T) {
	t.Parallel()
	pool := newPool(t, sqlalchemy, people)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	client := connect(t, pool.Config().ConnString(), maxConns(8))
	work := []string{
		`BEGIN; UPDATE "user" SET locale = 'en' WHERE id = 2; SELECT pg_sleep(0.02); UPDATE meetup SET status = status WHERE id = 3; COMMIT`,
		`BEGIN; SELECT FROM meetup WHERE id = 3; SELECT pg_sleep(0.02); UPDATE "user" SET locale = locale WHERE id = 1; COMMIT`,
		`SELECT FROM "user" u JOIN profile p ON p.user_id = u.id`,
		`INSERT INTO emailverificationtoken (user_id, token, expires_at, created_at) VALUES (1, gen_random_uuid()::text, '2024-01-01', '2024-01-01')`,
	}
	errs := make([]error, len(work))
	longest := make([]time.Duration, len(work))
	var done sync.WaitGroup
	for i, statement := range work {
		done.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				if _, err := client.Exec(t.Context(), statement); err != nil {
					errs[i] = err
					return
				}
				longest[i] = max(longest[i], time.Since(start))
				<-time.After(rand.N(10 * time.Millisecond))
			}
		})
	}
	require.NoError(t, schema.Migrate(t.Context(), pool, schema.LockTimeout(soon)))
	stop()
	done.Wait()
	require.NoError(t, errors.Join(errs...))
	require.Less(t, slices.Max(longest), 2*time.Second)
	require.NoError(t, schema.Check(t.Context(), pool))
}

// oldClient does what the application does through SQLAlchemy and psycopg2, over and over: all of it for people
// of its own, whom it deletes in the end.
type oldClient struct {
	pool   *pgxpool.Pool
	number int
	rounds atomic.Int64
}

func (c *oldClient) run(ctx context.Context, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := c.round(ctx, fmt.Sprintf("c%dr%d", c.number, c.rounds.Load())); err != nil {
			return err
		}
		c.rounds.Add(1)
	}
}

func (c *oldClient) round(ctx context.Context, name string) error {
	var user [2]int
	for i := range user {
		err := pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
			err := tx.QueryRow(ctx, `INSERT INTO "user" (email, password_hash, email_verified_at, created_at) VALUES ($1, $2, NULL, '2024-01-01 10:00:00.5') RETURNING "user".id`,
				fmt.Sprintf("%s.%d@Example.org", name, i), "$argon2id$v=19$m=65536,t=3,p=4$Y53fTtr1rTH8D3HTnEquBg$vUTstBPk13W9sTn9fhenKA").Scan(&user[i])
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `INSERT INTO profile (user_id, full_name, display_name, bio, timezone, created_at, updated_at) VALUES ($1, 'F', 'D', NULL, 'Europe/Vienna', '2024-01-01', '2024-01-01')`, user[i])
			return err
		})
		if err != nil {
			return err
		}
	}
	var match, meetup, token, slot int
	err := pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `INSERT INTO emailverificationtoken (user_id, token, expires_at, used_at, created_at) VALUES ($1, $2, '2024-01-02', NULL, '2024-01-01') RETURNING emailverificationtoken.id`,
			user[0], name+"e").Scan(&token)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO passwordresettoken (user_id, token, expires_at, used_at, created_at) VALUES ($1, $2, '2024-01-02', NULL, '2024-01-01')`, user[1], name+"p")
		return err
	})
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at) VALUES
			($1, '2024-05-01 10:00', '2024-05-01 11:00', '2024-05-01 12:00', '2024-05-01 13:00', 'Europe/Vienna', '2024-01-01', '2024-01-01') RETURNING availabilityslot.id`, user[0]).Scan(&slot)
	})
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `INSERT INTO match (user1_id, user2_id, status, created_at, updated_at) VALUES ($1, $2, 'accepted', '2024-01-01', '2024-01-01') RETURNING match.id`,
			user[1], user[0]).Scan(&match)
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, `INSERT INTO meetup (match_id, scheduled_time, status, created_at, updated_at) VALUES ($1, '2024-05-01 10:00', 'proposed', '2024-01-01', '2024-01-01') RETURNING meetup.id`,
			match).Scan(&meetup)
	})
	if err != nil {
		return err
	}
	var email, status string
	err = c.pool.QueryRow(ctx, `SELECT "user".email AS user_email, meetup.status AS meetup_status FROM "user" JOIN match ON match.user2_id = "user".id
		JOIN meetup ON meetup.match_id = match.id LEFT OUTER JOIN profile AS profile_1 ON "user".id = profile_1.user_id WHERE "user".email = $1`,
		name+".0@Example.org").Scan(&email, &status)
	if err != nil {
		return err
	}
	for _, update := range []struct {
		sql string
		id  int
	}{
		{`UPDATE meetup SET status='confirmed', updated_at='2024-01-03' WHERE meetup.id = $1`, meetup},
		{`UPDATE emailverificationtoken SET used_at='2024-01-01 12:00' WHERE emailverificationtoken.id = $1`, token},
		{`UPDATE "user" SET email_verified_at='2024-01-01 12:00' WHERE "user".id = $1`, user[0]},
		{`UPDATE availabilityslot SET end_dt_utc='2024-05-01 11:30', end_dt_local='2024-05-01 13:30' WHERE availabilityslot.id = $1`, slot},
		{`DELETE FROM "user" WHERE "user".id = $1`, user[1]},
	} {
		err := pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, update.sql, update.id)
			if err == nil && tag.RowsAffected() != 1 {
				err = fmt.Errorf("%d rows: %s", tag.RowsAffected(), update.sql)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// An old client goes on while Migrate tries in vain, while it migrates, and afterwards. No statement of the
// client's fails, not even one that gives up soon when it has to wait; and what it writes is without fault.
func TestMigrateBesideAnOldClient(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	pool := connect(t, databaseURL)
	exec(t, pool, sqlalchemy, audited, `SELECT setval('user_id_seq', 100), setval('availabilityslot_id_seq', 100), setval('emailverificationtoken_id_seq', 100),
		setval('passwordresettoken_id_seq', 100), setval('match_id_seq', 100), setval('meetup_id_seq', 100)`)
	report, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = report.Rollback(t.Context()) }()
	exec(t, report, `SELECT count(*) FROM meetup`)

	// An attempt takes 0.8 s at most; the rest is for a busy machine.
	theirs := connect(t, databaseURL, setting("lock_timeout", "2500"), func(c *pgxpool.Config) {
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol // as psycopg2
	})
	stop := make(chan struct{})
	clients := make([]*oldClient, 3)
	errs := make([]error, len(clients))
	var done sync.WaitGroup
	for i := range clients {
		clients[i] = &oldClient{pool: theirs, number: i}
		done.Go(func() { errs[i] = clients[i].run(t.Context(), stop) })
	}
	halt := sync.OnceFunc(func() {
		close(stop)
		done.Wait()
	})
	defer halt()
	more := func() { // rounds of each
		t.Helper()
		for _, c := range clients {
			from := c.rounds.Load()
			require.Eventually(t, func() bool { return c.rounds.Load() >= from+3 }, soon, time.Millisecond, "a client has stopped")
		}
	}
	more()
	// Half of the time Migrate lets others go first, and in the other half has them queue behind it.
	err = schema.Migrate(t.Context(), pool, schema.LockTimeout(6*time.Second))
	require.Equal(t, "55P03", sqlState(err), "%v", err)
	more()
	require.NoError(t, report.Rollback(t.Context()))
	require.NoError(t, schema.Migrate(t.Context(), pool, schema.LockTimeout(soon)))
	more()
	halt()
	require.NoError(t, errors.Join(errs...))
	require.NoError(t, schema.Check(t.Context(), pool))
	requireClean(t, pool)
	var rounds int64
	for _, c := range clients {
		rounds += c.rounds.Load()
	}
	require.Equal(t, []string{fmt.Sprint(rounds)}, lines(t, pool, `SELECT count(*)::text FROM "user" u JOIN profile p ON p.user_id = u.id
		JOIN availabilityslot s ON s.user_id = u.id AND s.end_dt_local = '2024-05-01 13:30' JOIN emailverificationtoken k ON k.user_id = u.id AND k.used_at IS NOT NULL
		WHERE u.id > 100 AND u.email_verified_at IS NOT NULL`))
	require.Equal(t, []string{"6"}, lines(t, pool, `SELECT count(*)::text FROM match`))
}

// Those who wait for a process that is migrating give up when their context ends, and no lock stays behind
// a process that dies.
func TestMigrateWaits(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	pool := connect(t, databaseURL)
	exec(t, pool, sqlalchemy)
	want := dump(t, pool)

	blocker, err := pool.Begin(t.Context())
	require.NoError(t, err)
	exec(t, blocker, `LOCK TABLE meetup`)
	dying, die := context.WithCancel(t.Context())
	died := make(chan error)
	its := connect(t, databaseURL)
	go func() { died <- schema.Migrate(dying, its, schema.LockTimeout(time.Minute)) }()
	require.Eventually(t, func() bool {
		return len(lines(t, pool, `SELECT locktype FROM pg_locks WHERE locktype = 'advisory' AND granted AND database =
			(SELECT oid FROM pg_database WHERE datname = current_database())`)) == 1
	}, soon, time.Millisecond)

	waiting := connect(t, databaseURL, maxConns(1))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	require.ErrorIs(t, schema.Migrate(ctx, waiting), context.DeadlineExceeded)
	require.Less(t, time.Since(start), 2*time.Second)
	require.NoError(t, waiting.Ping(t.Context()))

	die()
	require.ErrorIs(t, <-died, context.Canceled)
	require.NoError(t, blocker.Rollback(t.Context()))
	require.Equal(t, want, dump(t, pool))
	require.NoError(t, schema.Migrate(t.Context(), waiting))
	require.NoError(t, schema.Check(t.Context(), waiting))
}

func TestMigrateCancelled(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, schema.Migrate(ctx, pool), context.Canceled)
	_, err := schema.Status(ctx, pool)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, schema.Check(ctx, pool), context.Canceled)
	_, err = schema.Audit(ctx, pool)
	require.ErrorIs(t, err, context.Canceled)
}

// The context can end at any statement: nothing is half-done, and the pool goes on.
func TestMigrateCancelledMidway(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	plain := connect(t, databaseURL)
	exec(t, plain, sqlalchemy, people)
	want := dump(t, plain)
	cut := &cutter{}
	pool := connect(t, databaseURL, maxConns(1), func(c *pgxpool.Config) { c.ConnConfig.Tracer = cut })
	for n := 1; ; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		cut.left, cut.cancel = n, cancel
		err := schema.Migrate(ctx, pool)
		if cut.left > 0 { // it ended before the n-th statement
			require.NoError(t, err)
			cancel()
			require.Greater(t, n, 30)
			break
		}
		require.ErrorIs(t, err, context.Canceled, n)
		require.NoError(t, pool.Ping(t.Context()))
		if state, _ := schema.Status(t.Context(), plain); state.Version > 0 {
			break // it was the COMMIT that was cut off, and it had arrived
		}
		require.Equal(t, want, dump(t, plain), n)
	}
	require.NoError(t, schema.Check(t.Context(), plain))
}

// cutter cancels a context when the left-th statement begins.
type cutter struct {
	left   int
	cancel func()
}

func (c *cutter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.left--
	if c.left == 0 {
		c.cancel()
	}
	return ctx
}

func (c *cutter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestInvalid(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	var noTx *pgxpool.Tx
	var noConn *pgx.Conn
	long := schema.In("ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss")
	for name, call := range map[string]func() error{
		"nil pool":         func() error { return schema.Migrate(t.Context(), nil) },
		"typed nil pool":   func() error { return schema.Check(t.Context(), (*pgxpool.Pool)(nil)) },
		"nil db":           func() error { return schema.Check(t.Context(), nil) },
		"nil connection":   func() error { return schema.Check(t.Context(), noConn) },
		"nil transaction":  func() error { _, err := schema.Status(t.Context(), noTx); return err },
		"nothing to audit": func() error { _, err := schema.Audit(t.Context(), nil); return err },
		"no name to audit": func() error { _, err := schema.Audit(t.Context(), pool, schema.In("")); return err },
		"no name":          func() error { return schema.Migrate(t.Context(), pool, schema.In("")) },
		"long name":        func() error { return schema.Migrate(t.Context(), pool, long) },
		"NUL":              func() error { return schema.Check(t.Context(), pool, schema.In("a\x00")) },
		"not UTF-8":        func() error { return schema.Check(t.Context(), pool, schema.In("a\xff")) },
		"no lock timeout":  func() error { return schema.Migrate(t.Context(), pool, schema.LockTimeout(0)) },
		"neg lock timeout": func() error { return schema.Migrate(t.Context(), pool, schema.LockTimeout(-time.Second)) },
	} {
		require.ErrorIs(t, call(), soultribe.ErrInvalid, name)
	}
	pool.Close()
	require.Error(t, schema.Migrate(t.Context(), pool))
	require.Error(t, schema.Check(t.Context(), pool))
}

func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}
