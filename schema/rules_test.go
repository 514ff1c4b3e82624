package schema_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/schema"
)

// newRules is a migrated database with [people] in it.
func newRules(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := newPool(t, sqlalchemy, people)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	return pool
}

func TestRulesRefusePlainSQL(t *testing.T) {
	t.Parallel()
	pool := newRules(t)
	for _, test := range []struct{ statement, code, constraint string }{
		{`UPDATE "user" SET email = 'ANN@X.ORG' WHERE id = 2`, "23505", "user_email_lower_key"},
		{`UPDATE availabilityslot SET end_dt_utc = start_dt_utc WHERE id = 1`, "23514", "availabilityslot_period_check"},
		{`UPDATE availabilityslot SET end_dt_utc = start_dt_utc - interval '1 hour' WHERE id = 1`, "23514", "availabilityslot_period_check"},
		{`UPDATE availabilityslot SET end_dt_utc = end_dt_utc + interval '1 microsecond' WHERE id = 2`, "23514", "availabilityslot_period_check"},
		{`UPDATE availabilityslot SET end_dt_utc = 'infinity' WHERE id = 2`, "23514", "availabilityslot_period_check"},
		{`UPDATE availabilityslot SET end_dt_utc = end_dt_utc + interval '1 microsecond' WHERE id = 1`, "23P01", "availabilityslot_no_overlap"},
		{`UPDATE availabilityslot SET user_id = 1 WHERE id = 3`, "23P01", "availabilityslot_no_overlap"},
		{`UPDATE match SET user1_id = 2 WHERE id = 1`, "23514", "match_not_self_check"},
		{`INSERT INTO match (user1_id, user2_id, status, created_at, updated_at) SELECT user2_id, user1_id, status, created_at, updated_at FROM match WHERE id = 1`,
			"23505", "match_pair_key"},
		{`UPDATE match SET user2_id = 4 WHERE id = 4`, "23514", "match_pair_kept_check"},
		{`UPDATE meetup SET status = 'proposed' WHERE id = 3`, "23505", "meetup_live_key"},
		{`UPDATE meetup SET duration_seconds = 899 WHERE id = 3`, "23514", "meetup_duration_check"},
		{`UPDATE meetup SET duration_seconds = 86401 WHERE id = 3`, "23514", "meetup_duration_check"},
		{`UPDATE meetup SET proposer_id = 2 WHERE id = 3`, "23514", "meetup_proposer_check"},
		{`UPDATE meetup SET proposer_id = 99 WHERE id = 3`, "23514", "meetup_proposer_check"},
		{`INSERT INTO meetup (match_id, proposer_id, scheduled_time, status, created_at, updated_at) VALUES (3, 2, '2024-06-01', 'proposed', '2024-01-01', '2024-01-01')`,
			"23514", "meetup_proposer_check"},
		{`INSERT INTO meetup (match_id, scheduled_time, status, created_at, updated_at) VALUES (4, '2024-05-01 10:30', 'confirmed', '2024-01-01', '2024-01-01')`,
			"23P01", "soultribe_booking_no_overlap"},
		{`UPDATE meetup SET scheduled_time = '2024-05-01 10:00:01' WHERE id = 2`, "23P01", "soultribe_booking_no_overlap"},
		{`UPDATE meetup SET duration_seconds = 3601 WHERE id = 1`, "23P01", "soultribe_booking_no_overlap"},
		{`UPDATE meetup SET scheduled_time = 'infinity' WHERE id = 1`, "23514", "soultribe_booking_period_check"},
	} {
		before := dump(t, pool)
		refused(t, pool, test.statement, test.code, test.constraint)
		require.Equal(t, before, dump(t, pool), test.statement)
	}
	exec(t, pool,
		`UPDATE match SET user1_id = user2_id, user2_id = user1_id WHERE id = 1`, // they trade places
		`UPDATE match SET status = 'suggested'`,
		`UPDATE meetup SET proposer_id = 1 WHERE id = 3`,
		`UPDATE availabilityslot SET timezone = 'Nowhere/AtAll'`,
		`INSERT INTO "user" (id, email, password_hash, created_at) VALUES (2147483647, 'max@x.org', '', '2024-01-01')`,
		`INSERT INTO availabilityslot SELECT 2147483647, 2147483647, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at
			FROM availabilityslot WHERE id = 1`)
}

const bookings = `SELECT concat_ws(' ', meetup_id, user_id, to_char(starts_at, 'DD.HH24:MI'), to_char(ends_at, 'DD.HH24:MI'))
	FROM soultribe_booking ORDER BY meetup_id, user_id`

func TestBookings(t *testing.T) {
	t.Parallel()
	pool := newRules(t)
	step := func(statement string, want ...string) {
		t.Helper()
		exec(t, pool, statement)
		require.Equal(t, append([]string{}, want...), append([]string{}, lines(t, pool, bookings)...), statement)
	}
	both := []string{"2 1 01.11:00 01.12:00", "2 3 01.11:00 01.12:00"}
	step(`SELECT`, append([]string{"1 1 01.10:00 01.11:00", "1 2 01.10:00 01.11:00"}, both...)...)
	step(`UPDATE meetup SET scheduled_time = '2024-05-02 10:00', duration_seconds = 900 WHERE id = 1`,
		append([]string{"1 1 02.10:00 02.10:15", "1 2 02.10:00 02.10:15"}, both...)...)
	step(`UPDATE meetup SET duration_seconds = 86400 WHERE id = 1`, append([]string{"1 1 02.10:00 03.10:00", "1 2 02.10:00 03.10:00"}, both...)...)
	step(`UPDATE meetup SET duration_seconds = NULL WHERE id = 1`, append([]string{"1 1 02.10:00 02.11:00", "1 2 02.10:00 02.11:00"}, both...)...)

	// An update that moves nothing writes nothing.
	rows := `SELECT concat_ws(' ', xmin, ctid, meetup_id, user_id) FROM soultribe_booking ORDER BY 1`
	before := lines(t, pool, rows)
	exec(t, pool, `UPDATE meetup SET status = status, scheduled_time = scheduled_time, updated_at = '2025-01-01'`,
		`UPDATE meetup SET proposer_id = 1 WHERE id = 1`)
	require.Equal(t, before, lines(t, pool, rows))

	step(`UPDATE meetup SET status = 'proposed', scheduled_time = '2024-05-01 11:00' WHERE id = 1`, both...)
	refused(t, pool, `UPDATE meetup SET status = 'confirmed' WHERE id = 1`, "23P01", "soultribe_booking_no_overlap")
	step(`UPDATE meetup SET status = 'confirmed', scheduled_time = '2024-05-01 12:00' WHERE id = 1`,
		append([]string{"1 1 01.12:00 01.13:00", "1 2 01.12:00 01.13:00"}, both...)...)
	step(`UPDATE meetup SET match_id = 4, proposer_id = NULL WHERE id = 1`,
		append([]string{"1 2 01.12:00 01.13:00", "1 3 01.12:00 01.13:00"}, both...)...)
	step(`UPDATE meetup SET status = 'completed' WHERE id = 1`, both...)
	step(`UPDATE meetup SET status = 'cancelled' WHERE id = 2`)
	step(`INSERT INTO meetup (id, match_id, scheduled_time, status, duration_seconds, created_at, updated_at)
		VALUES (9, 1, '2024-05-05 10:00', 'confirmed', 1800, '2024-01-01', '2024-01-01')`, "9 1 05.10:00 05.10:30", "9 2 05.10:00 05.10:30")
	step(`UPDATE match SET user1_id = user2_id, user2_id = user1_id WHERE id = 1`, "9 1 05.10:00 05.10:30", "9 2 05.10:00 05.10:30")
	// Fractions of a second, which the library does not store, are no part of a booking.
	step(`UPDATE meetup SET scheduled_time = '2024-05-05 10:00:00.75' WHERE id = 9`, "9 1 05.10:00 05.10:30", "9 2 05.10:00 05.10:30")
	step(`INSERT INTO meetup (id, match_id, scheduled_time, status, created_at, updated_at)
		VALUES (11, 4, '2024-05-05 10:30', 'confirmed', '2024-01-01', '2024-01-01')`,
		"9 1 05.10:00 05.10:30", "9 2 05.10:00 05.10:30", "11 2 05.10:30 05.11:30", "11 3 05.10:30 05.11:30")
	step(`DELETE FROM meetup WHERE id IN (9, 11)`)
	step(`INSERT INTO meetup (id, match_id, scheduled_time, status, created_at, updated_at)
		VALUES (10, 4, '2024-05-05 10:00', 'confirmed', '2024-01-01', '2024-01-01')`, "10 2 05.10:00 05.11:00", "10 3 05.10:00 05.11:00")
	step(`DELETE FROM "user" WHERE id = 3`)
}

// Of meetups that share a person and overlap, one is confirmed.
func TestBookingsAtOnce(t *testing.T) {
	t.Parallel()
	const n = 32
	pool := newPool(t)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	exec(t, pool, `INSERT INTO "user" (id, email, password_hash, created_at) SELECT n, n || '@x.org', '', '2024-01-01' FROM generate_series(0, 32) AS n`,
		`INSERT INTO match (id, user1_id, user2_id, status, created_at, updated_at)
			SELECT n, CASE WHEN n % 2 = 0 THEN n ELSE 0 END, CASE WHEN n % 2 = 0 THEN 0 ELSE n END, 'accepted', '2024-01-01', '2024-01-01' FROM generate_series(1, 32) AS n`,
		`INSERT INTO meetup (id, match_id, scheduled_time, status, created_at, updated_at)
			SELECT n, n, timestamp '2024-05-01 10:00' + n * interval '1 minute', 'proposed', '2024-01-01', '2024-01-01' FROM generate_series(1, 32) AS n`)
	busy := connect(t, pool.Config().ConnString(), maxConns(n))
	errs := make([]error, n)
	var done sync.WaitGroup
	for i := range n {
		done.Go(func() {
			_, errs[i] = busy.Exec(t.Context(), `UPDATE meetup SET status = 'confirmed' WHERE id = $1`, i+1)
		})
	}
	done.Wait()
	confirmed := 0
	for _, err := range errs {
		if err == nil {
			confirmed++
			continue
		}
		pg, _ := errors.AsType[*pgconn.PgError](err)
		require.NotNil(t, pg, err)
		require.Equal(t, "23P01", pg.Code, err)
		require.Equal(t, "soultribe_booking_no_overlap", pg.ConstraintName)
		require.Equal(t, "soultribe_booking", pg.TableName)
	}
	require.Equal(t, 1, confirmed)
	require.Equal(t, []string{"1 2"}, lines(t, pool, `SELECT (SELECT count(*) FROM meetup WHERE status = 'confirmed') || ' ' || (SELECT count(*) FROM soultribe_booking)`))
}

// atOnce has clients run plain statements, each in a transaction of its own and again and again, and returns how
// many went through and how many PostgreSQL refused, by SQLSTATE. Nobody has a lock_timeout, so that a deadlock
// is one.
func atOnce(t *testing.T, pool *pgxpool.Pool, clients, times int, statement func(client, time int) string) map[string]int {
	t.Helper()
	busy := connect(t, pool.Config().ConnString(), maxConns(int32(clients)))
	outcomes := make([]map[string]int, clients)
	var done sync.WaitGroup
	for client := range clients {
		done.Go(func() {
			outcomes[client] = map[string]int{}
			for i := range times {
				_, err := busy.Exec(t.Context(), statement(client, i))
				outcomes[client][sqlState(err)]++
			}
		})
	}
	done.Wait()
	all := map[string]int{}
	for _, o := range outcomes {
		for code, n := range o {
			all[code] += n
		}
	}
	t.Logf("%v", all)
	return all
}

// TestPlainWritersTakeTurns has clients of plain SQL move and confirm meetups that share people, by single
// statements. One is refused where the time is taken, and none for a deadlock.
func TestPlainWritersTakeTurns(t *testing.T) {
	t.Parallel()
	const overlapping = `SELECT count(*)::text FROM soultribe_booking a JOIN soultribe_booking b ON a.user_id = b.user_id AND a.meetup_id < b.meetup_id
		AND a.starts_at < b.ends_at AND b.starts_at < a.ends_at`
	pairs := func(t *testing.T, statement string) *pgxpool.Pool {
		t.Helper()
		pool := newPool(t)
		require.NoError(t, schema.Migrate(t.Context(), pool))
		exec(t, pool, `INSERT INTO "user" (id, email, password_hash, created_at) SELECT n, n || '@x.org', '', '2024-01-01' FROM generate_series(1, 4) AS n`, statement)
		return pool
	}
	t.Run("moves", func(t *testing.T) {
		t.Parallel()
		pool := pairs(t, `INSERT INTO match (id, user1_id, user2_id, status, created_at, updated_at) SELECT n - 1, 1, n, 'accepted', '2024-01-01', '2024-01-01' FROM generate_series(2, 4) AS n;
			INSERT INTO meetup (id, match_id, scheduled_time, status, created_at, updated_at)
				SELECT n, n, timestamp '2024-05-01' + n * interval '1 day', 'confirmed', '2024-01-01', '2024-01-01' FROM generate_series(1, 3) AS n`)
		got := atOnce(t, pool, 8, 60, func(client, i int) string {
			return fmt.Sprintf(`UPDATE meetup SET scheduled_time = timestamp '2024-05-01' + %d * interval '30 minutes' WHERE id = %d`, (client*31+i*7)%12, (client+i)%3+1)
		})
		require.NotZero(t, got[""])
		require.NotZero(t, got["23P01"])
		require.Equal(t, 8*60, got[""]+got["23P01"], "%v", got)
		require.Equal(t, []string{"0"}, lines(t, pool, overlapping))
		require.Equal(t, []string{"6"}, lines(t, pool, `SELECT count(*)::text FROM soultribe_booking`))
	})
	t.Run("confirmations", func(t *testing.T) {
		t.Parallel()
		pool := pairs(t, `INSERT INTO match (id, user1_id, user2_id, status, created_at, updated_at) SELECT row_number() OVER (), greatest(a, b), least(a, b), 'accepted', '2024-01-01', '2024-01-01'
				FROM generate_series(1, 4) AS a, generate_series(1, 4) AS b WHERE a < b;
			INSERT INTO meetup (id, match_id, scheduled_time, status, created_at, updated_at)
				SELECT n, n, '2024-05-01', 'proposed', '2024-01-01', '2024-01-01' FROM generate_series(1, 6) AS n`)
		got := atOnce(t, pool, 12, 40, func(client, i int) string {
			return fmt.Sprintf(`UPDATE meetup SET status = '%s' WHERE id = %d`, []string{"confirmed", "proposed"}[i%2], (client*5+i)%6+1)
		})
		require.NotZero(t, got["23P01"])
		require.Equal(t, 12*40, got[""]+got["23P01"], "%v", got)
		require.Equal(t, []string{"0"}, lines(t, pool, overlapping))
	})
	t.Run("all at once", func(t *testing.T) {
		t.Parallel()
		const n = 12_000 // more than the server has room for locks of
		pool := newPool(t)
		require.NoError(t, schema.Migrate(t.Context(), pool))
		exec(t, pool, fmt.Sprintf(`INSERT INTO "user" (id, email, password_hash, created_at) SELECT n, n || '@x.org', '', '2024-01-01' FROM generate_series(1, %[1]d) AS n;
			INSERT INTO match (id, user1_id, user2_id, status, created_at, updated_at) SELECT n, n, n %% %[1]d + 1, 'accepted', '2024-01-01', '2024-01-01' FROM generate_series(1, %[1]d) AS n;
			INSERT INTO meetup (match_id, scheduled_time, status, created_at, updated_at)
				SELECT n, timestamp '2024-05-01' + n %% 7 * interval '1 day', 'proposed', '2024-01-01', '2024-01-01' FROM generate_series(1, %[1]d) AS n`, n))
		exec(t, pool, `UPDATE meetup SET status = 'confirmed' WHERE match_id % 2 = 0`)
		require.Equal(t, []string{fmt.Sprint(n)}, lines(t, pool, `SELECT count(*)::text FROM soultribe_booking`))
	})
}

// TestConfirmedMeetupHasAMatch has the key to match looked at when the transaction ends, or not at all.
func TestConfirmedMeetupHasAMatch(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	for name, key := range map[string]string{
		"deferred": `ALTER TABLE meetup DROP CONSTRAINT meetup_match_id_fkey, ADD FOREIGN KEY (match_id) REFERENCES match (id) DEFERRABLE INITIALLY DEFERRED`,
		"none":     `ALTER TABLE meetup DROP CONSTRAINT meetup_match_id_fkey`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, in := newSchema(t, databaseURL, sqlalchemy, people, key)
			require.NoError(t, schema.Migrate(t.Context(), pool, in))
			refused(t, pool, `INSERT INTO meetup (match_id, scheduled_time, status, created_at, updated_at) VALUES (900, '2024-05-01', 'confirmed', '2024-01-01', '2024-01-01')`,
				"23503", "meetup_match_id_fkey")
		})
	}
}

// TestMatchTakesItsMeetup has plain SQL cancel matches.
func TestMatchTakesItsMeetup(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	for status, want := range map[string][]string{
		"cancelled": {"1 completed", "2 cancelled", "3 canceled"}, "canceled": {"1 completed", "2 cancelled", "3 canceled"},
		"accepted": {"1 confirmed", "2 confirmed", "3 canceled"}, "suggested": {"1 confirmed", "2 confirmed", "3 canceled"},
	} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			pool, in := newSchema(t, databaseURL, sqlalchemy, people)
			require.NoError(t, schema.Migrate(t.Context(), pool, in))
			// The first is over by then, and the second is not.
			exec(t, pool, `UPDATE match SET status = '`+status+`', updated_at = '2024-05-01 11:00'`)
			require.Equal(t, want, lines(t, pool, `SELECT id || ' ' || status FROM meetup ORDER BY id`))
			require.Len(t, lines(t, pool, bookings), map[string]int{"accepted": 4, "suggested": 4}[status])
		})
	}
}

// evil has a function, an operator or a table for each name that anything might look up.
const evil = `
CREATE SCHEMA evil;
CREATE TABLE evil."user" (LIKE public."user");
CREATE TABLE evil.match (id int, user1_id int, user2_id int);
INSERT INTO evil.match VALUES (1, 666, 667), (2, 666, 667), (3, 666, 667), (4, 666, 667);
CREATE TABLE evil.meetup (id int);
CREATE TABLE evil.soultribe_booking (user_id int, meetup_id int, starts_at timestamp, ends_at timestamp);
CREATE TABLE evil.pg_class AS SELECT * FROM pg_class LIMIT 0;
CREATE TABLE evil.pg_namespace AS SELECT * FROM pg_namespace LIMIT 0;
CREATE FUNCTION evil.fail() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil'; END $$;
CREATE FUNCTION evil.lower(varchar) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT evil.fail()';
CREATE FUNCTION evil.lower(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT evil.fail()';
CREATE FUNCTION evil.encode(bytea, text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT evil.fail()';
CREATE FUNCTION evil.replace(varchar, text, text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT evil.fail()';
CREATE FUNCTION evil.int8range(int, int, text) RETURNS int8range IMMUTABLE LANGUAGE sql AS 'SELECT evil.fail()::int8range';
CREATE FUNCTION evil.tsrange(timestamp, timestamp) RETURNS tsrange IMMUTABLE LANGUAGE sql AS 'SELECT evil.fail()::tsrange';
CREATE FUNCTION evil.octet_length(varchar) RETURNS int LANGUAGE sql AS 'SELECT evil.fail()::int';
CREATE FUNCTION evil.left(varchar, int) RETURNS text LANGUAGE sql AS 'SELECT evil.fail()';
CREATE FUNCTION evil.format_type(oid, int) RETURNS text LANGUAGE sql AS 'SELECT evil.fail()';
CREATE FUNCTION evil.always(int, int) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION evil.always(varchar, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION evil.always(name, text) RETURNS bool LANGUAGE sql AS 'SELECT evil.fail()::bool';
CREATE FUNCTION evil.plus(timestamp, interval) RETURNS timestamp LANGUAGE sql AS 'SELECT evil.fail()::timestamp';
CREATE OPERATOR evil.= (FUNCTION = evil.always, LEFTARG = int, RIGHTARG = int);
CREATE OPERATOR evil.<> (FUNCTION = evil.always, LEFTARG = int, RIGHTARG = int);
CREATE OPERATOR evil.= (FUNCTION = evil.always, LEFTARG = varchar, RIGHTARG = text);
CREATE OPERATOR evil.= (FUNCTION = evil.always, LEFTARG = name, RIGHTARG = text);
CREATE OPERATOR evil.+ (FUNCTION = evil.plus, LEFTARG = timestamp, RIGHTARG = interval);`

func TestHostileSearchPath(t *testing.T) {
	t.Parallel()
	pool := newPool(t, sqlalchemy, people, evil)
	hostile := connect(t, pool.Config().ConnString(), setting("search_path", "evil, pg_catalog, public"))
	_, err := hostile.Exec(t.Context(), `SELECT lower('a'::text)`)
	require.ErrorContains(t, err, "evil")

	require.NoError(t, schema.Migrate(t.Context(), hostile))
	require.NoError(t, schema.Check(t.Context(), hostile))
	state, err := schema.Status(t.Context(), hostile)
	require.NoError(t, err)
	require.Equal(t, soultribe.SchemaVersion, state.Version)
	found, err := schema.Audit(t.Context(), hostile)
	require.NoError(t, err)
	require.Equal(t, dirtOfPeople, texts(found))
	require.Empty(t, lines(t, pool, `SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend
		WHERE refobjid IN (SELECT oid FROM pg_proc WHERE pronamespace = 'evil'::regnamespace UNION SELECT oid FROM pg_operator WHERE oprnamespace = 'evil'::regnamespace)
		AND objid NOT IN (SELECT oid FROM pg_operator) AND deptype = 'n' AND pg_describe_object(classid, objid, objsubid) NOT LIKE '%evil%'`))

	before := lines(t, pool, bookings)
	require.Len(t, before, 4)
	exec(t, hostile, `UPDATE public.meetup SET scheduled_time = scheduled_time OPERATOR(pg_catalog.+) interval '1 day', duration_seconds = 900`)
	require.Equal(t, []string{
		"1 1 02.10:00 02.10:15", "1 2 02.10:00 02.10:15", "2 1 02.11:00 02.11:15", "2 3 02.11:00 02.11:15",
	}, lines(t, pool, bookings))
	refused(t, hostile, `UPDATE public.meetup SET scheduled_time = '2024-05-02 10:00'`, "23P01", "soultribe_booking_no_overlap")
	refused(t, hostile, `UPDATE public.meetup SET proposer_id = 666`, "23514", "meetup_proposer_check")
	refused(t, hostile, `UPDATE public."user" SET email = 'BOB@x.org'`, "23505", "user_email_lower_key")
	refused(t, hostile, `SELECT public.soultribe_refuse('23505', 'x', '')`, "23505", "x")
	exec(t, hostile, `UPDATE public.meetup SET status = 'cancelled'`)
	require.Empty(t, lines(t, pool, bookings))
	require.Equal(t, []string{"0"}, lines(t, pool, `SELECT count(*)::text FROM evil.soultribe_booking`))
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	require.NoError(t, schema.Migrate(t.Context(), pool, schema.In("tribe")))
	_, err := pool.Exec(t.Context(), `SELECT tribe.soultribe_refuse($1, $2, $3)`, "P0001", "some_rule", "why")
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	require.Equal(t, []string{"P0001", "some_rule", "why", "refused by some_rule"}, []string{pg.Code, pg.ConstraintName, pg.Detail, pg.Message})
}

// A secret that was stored as it is is found by its hash, with the index.
func TestPlaintextTokens(t *testing.T) {
	t.Parallel()
	pool := newRules(t)
	secrets := []string{
		strings.Repeat("A", 43), "", `\`, `\\`, `\000`, `a\134b`, `\x41`, "ü€😀\u0301", "'\"\n\t",
		strings.Repeat(`\ü€`, 300), strings.Repeat("x", 100_000), "sha256", "SHA256:x",
	}
	exec(t, pool, `TRUNCATE passwordresettoken, emailverificationtoken`, `DROP INDEX ix_passwordresettoken_token`) // which has no room for the long ones
	for _, secret := range secrets {
		_, err := pool.Exec(t.Context(), `INSERT INTO passwordresettoken (user_id, token, expires_at, created_at) VALUES (1, $1, '2024-01-01', '2024-01-01')`, secret)
		require.NoError(t, err)
	}
	const query = `SELECT token FROM passwordresettoken WHERE token NOT LIKE 'sha256:%' AND
		('sha256:' || encode(sha256(decode(replace(token, E'\\', E'\\\\'), 'escape')), 'hex')) = $1`
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol} {
		for _, secret := range secrets {
			sum := sha256.Sum256([]byte(secret))
			hash := "sha256:" + hex.EncodeToString(sum[:])
			require.Equal(t, []string{secret}, lines(t, pool, query, mode, hash))
		}
	}
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		exec(t, tx, `SET LOCAL enable_seqscan = off`)
		plan := lines(t, tx, `EXPLAIN `+query, pgx.QueryExecModeSimpleProtocol, "sha256:x")
		require.Contains(t, strings.Join(plan, "\n"), "passwordresettoken_plaintext_idx")
		return nil
	}))
	// A row that holds a hash is not one that holds a secret.
	exec(t, pool, `UPDATE passwordresettoken SET token = 'sha256:' || token WHERE token = ''`)
	sum := sha256.Sum256([]byte("sha256:"))
	require.Empty(t, lines(t, pool, query, "sha256:"+hex.EncodeToString(sum[:])))
}

// The goose command understands the version table.
func TestVersionTable(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	require.NoError(t, schema.Migrate(context.Background(), pool))
	want := []string{}
	for version := range soultribe.SchemaVersion + 1 {
		want = append(want, fmt.Sprintf("%d t", version))
	}
	require.Equal(t, want, lines(t, pool, `SELECT version_id || ' ' || is_applied::text::char FROM soultribe_schema_version ORDER BY id`))
}
