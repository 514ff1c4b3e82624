package schema_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/schema"
)

func TestMigrateTakesOver(t *testing.T) {
	t.Parallel()
	pool := newPool(t, sqlalchemy, people)
	old := dump(t, pool)
	relations := `SELECT c.oid || ' ' || c.relname || ' ' || c.relfilenode FROM pg_class c
		WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1`
	before := lines(t, pool, relations)

	require.NoError(t, schema.Migrate(t.Context(), pool))
	require.NoError(t, schema.Check(t.Context(), pool))

	// Nothing was dropped, renamed or rewritten: each relation and each line of the old description is
	// there as it was, but that rows of three tables have gained empty columns.
	require.Subset(t, lines(t, pool, relations), before)
	now := strings.Split(dump(t, pool), "\n")
	for line := range strings.Lines(old) {
		line = strings.TrimSuffix(line, "\n")
		if row, ok := strings.CutSuffix(line, ")"); ok && strings.HasPrefix(line, "(") {
			require.Condition(t, func() bool {
				for _, gained := range []string{")", ",)", ",,)"} {
					for _, l := range now {
						if l == row+gained {
							return true
						}
					}
				}
				return false
			}, line)
			continue
		}
		require.Contains(t, now, line)
	}
	// What there was for the purpose was not made again.
	require.Equal(t, []string{"ix_emailverificationtoken_token", "ix_passwordresettoken_token", "profile_pkey"}, lines(t, pool, `
SELECT i.relname::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
WHERE x.indrelid IN ('profile'::regclass, 'emailverificationtoken'::regclass, 'passwordresettoken'::regclass)
AND x.indisunique AND i.relname NOT LIKE '%token\_pkey' ORDER BY 1`))
	require.Equal(t, []string{"1 1", "1 2", "2 1", "2 3"},
		lines(t, pool, `SELECT meetup_id || ' ' || user_id FROM soultribe_booking ORDER BY 1`))
	require.Equal(t, []string{"2024-05-01 10:00:00 2024-05-01 11:00:00"},
		lines(t, pool, `SELECT DISTINCT starts_at || ' ' || ends_at FROM soultribe_booking WHERE meetup_id = 1`))
}

func TestMigrateCompletesSomeTables(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	for name, change := range map[string]string{
		"no meetup":      `DROP TABLE meetup`,
		"only user":      `DROP TABLE meetup, match, profile, availabilityslot, emailverificationtoken, passwordresettoken`,
		"all but user":   `DROP TABLE "user" CASCADE`,
		"no tokens":      `DROP TABLE emailverificationtoken, passwordresettoken`,
		"no foreign key": `ALTER TABLE meetup DROP CONSTRAINT meetup_match_id_fkey`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, in := newSchema(t, databaseURL, sqlalchemy, people, change)
			if name == "all but user" {
				exec(t, pool, `TRUNCATE profile, availabilityslot, emailverificationtoken, passwordresettoken, match, meetup`)
			}
			require.NoError(t, schema.Migrate(t.Context(), pool, in))
			require.NoError(t, schema.Check(t.Context(), pool, in))
		})
	}
}

// Databases differ in what does not matter.
func TestMigrateAccepts(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	for name, change := range map[string]string{
		"text":            `ALTER TABLE match ALTER COLUMN status TYPE text; ALTER TABLE passwordresettoken ALTER COLUMN token TYPE text; ALTER TABLE "user" ALTER COLUMN email TYPE text`,
		"varchar bio":     `ALTER TABLE profile ALTER COLUMN bio TYPE varchar`,
		"profile index":   `ALTER TABLE profile DROP CONSTRAINT profile_pkey; CREATE UNIQUE INDEX one_profile ON profile (user_id)`,
		"no profile key":  `ALTER TABLE profile DROP CONSTRAINT profile_pkey`,
		"no token key":    `DROP INDEX ix_emailverificationtoken_token`,
		"plain token key": `DROP INDEX ix_passwordresettoken_token; CREATE INDEX ix_passwordresettoken_token ON passwordresettoken (token)`,
		"constraint":      `DROP INDEX ix_passwordresettoken_token; ALTER TABLE passwordresettoken ADD UNIQUE (token)`,
		"no index":        `DROP INDEX ix_emailverificationtoken_user_id, ix_user_email`,
		"nullable":        `ALTER TABLE match ALTER COLUMN status DROP NOT NULL; ALTER TABLE "user" ALTER COLUMN created_at DROP NOT NULL`,
		"defaults":        `ALTER TABLE match ALTER COLUMN created_at SET DEFAULT now()`,
		"identity":        `ALTER TABLE match ALTER COLUMN id DROP DEFAULT; ALTER TABLE match ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY`,
		"dropped column":  `ALTER TABLE match ADD COLUMN a_user_id uuid; ALTER TABLE match DROP COLUMN a_user_id`,
		"our column":      `ALTER TABLE meetup ADD COLUMN duration_seconds integer; UPDATE meetup SET duration_seconds = 1800`,
		"bigint": `ALTER TABLE "user" ALTER COLUMN id TYPE bigint; ALTER TABLE meetup ALTER COLUMN id TYPE bigint;
			ALTER TABLE match ALTER COLUMN user1_id TYPE bigint; ALTER TABLE availabilityslot ALTER COLUMN user_id TYPE bigint`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, in := newSchema(t, databaseURL, sqlalchemy, people, change)
			require.NoError(t, schema.Migrate(t.Context(), pool, in))
			require.NoError(t, schema.Check(t.Context(), pool, in))
			switch name {
			case "bigint":
				require.Equal(t, []string{"meetup.proposer_id bigint", "soultribe_booking.meetup_id bigint", "soultribe_booking.user_id bigint"},
					lines(t, pool, `SELECT table_name || '.' || column_name || ' ' || data_type FROM information_schema.columns
					WHERE table_schema = current_schema() AND (table_name, column_name) IN (('meetup', 'proposer_id'), ('soultribe_booking', 'user_id'), ('soultribe_booking', 'meetup_id')) ORDER BY 1`))
			case "nullable":
				refused23502(t, pool, `UPDATE match SET status = NULL`)
			case "no profile key":
				refused(t, pool, `INSERT INTO profile SELECT * FROM profile`, "23505", "profile_user_id_key")
			case "no token key", "plain token key":
				require.Len(t, lines(t, pool, `SELECT relname::text FROM pg_class WHERE relname ~ 'token_token_key$' AND relnamespace = current_schema()::regnamespace`), 1)
			case "our column":
				require.Equal(t, []string{"00:30:00"}, lines(t, pool, `SELECT DISTINCT (ends_at - starts_at)::text FROM soultribe_booking`))
			}
		})
	}
}

func refused23502(t *testing.T, db execer, statement string) {
	t.Helper()
	_, err := db.Exec(t.Context(), statement)
	require.Equal(t, "23502", sqlState(err), "%v", err)
}

func TestMigrateRefusesAnotherShape(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	for change, want := range map[string][]string{
		`ALTER TABLE match RENAME COLUMN user1_id TO a_user_id; ALTER TABLE match RENAME COLUMN user2_id TO b_user_id`: {
			"column match.user1_id is missing", "column match.user2_id is missing"},
		`ALTER TABLE match ALTER COLUMN created_at TYPE timestamptz; ALTER TABLE "user" ALTER COLUMN created_at TYPE timestamp(0)`: {
			"column user.created_at is timestamp(0) without time zone, not timestamp without time zone",
			"column match.created_at is timestamp with time zone, not timestamp without time zone"},
		`ALTER TABLE "user" ALTER COLUMN email TYPE varchar(255)`: {
			"column user.email is character varying(255), not character varying or text"},
		`ALTER TABLE availabilityslot DROP COLUMN user_id; ALTER TABLE availabilityslot ADD COLUMN user_id uuid`: {
			"column availabilityslot.user_id is uuid, not integer or bigint"},
		`UPDATE profile SET bio = ''; ALTER TABLE profile ALTER COLUMN bio SET NOT NULL`: {"column profile.bio is NOT NULL"},
		`ALTER TABLE meetup ALTER COLUMN id DROP DEFAULT`:                                {"column meetup.id has no default"},
		`ALTER TABLE meetup DROP CONSTRAINT meetup_pkey`:                                 {"table meetup has no unique index on (id)"},
		`ALTER TABLE meetup DROP CONSTRAINT meetup_pkey; CREATE UNIQUE INDEX ON meetup (id) WHERE id > 0`: {
			"table meetup has no unique index on (id)"},
		`ALTER TABLE profile DROP COLUMN timezone; ALTER TABLE profile ADD COLUMN timezone varchar GENERATED ALWAYS AS ('UTC') STORED`: {
			"column profile.timezone is generated"},
		`ALTER TABLE "user" ADD COLUMN credentials_changed_at timestamptz`: {
			"column user.credentials_changed_at is timestamp with time zone, not timestamp without time zone"},
		`ALTER TABLE meetup ADD COLUMN proposer_id uuid NOT NULL`: {
			"column meetup.proposer_id is uuid, not integer or bigint", "column meetup.proposer_id is NOT NULL"},
		`CREATE INDEX match_created_idx ON match (created_at)`: {"index match_created_idx is not the one that match needs"},
		`CREATE INDEX match_pair_key ON "user" (email)`:        {"index match_pair_key is not the one that match needs"},
		`ALTER TABLE match ADD CONSTRAINT match_not_self_check UNIQUE (id)`: {
			"constraint match_not_self_check on match is of another kind"},
		`ALTER TABLE match ADD CONSTRAINT match_not_self_check CHECK (user1_id <> user2_id) NOT VALID`: {
			"constraint match_not_self_check on match is not validated"},
		`DROP TABLE profile; CREATE VIEW profile AS SELECT 1 AS user_id`: {"profile is not a table"},
		`CREATE TABLE soultribe_booking (user_id int, meetup_id int, during tsrange)`: {
			"column soultribe_booking.user_id is not NOT NULL", "column soultribe_booking.meetup_id is not NOT NULL",
			"column soultribe_booking.starts_at is missing", "column soultribe_booking.ends_at is missing",
			"constraint soultribe_booking_period_check on soultribe_booking is missing",
			"constraint soultribe_booking_no_overlap on soultribe_booking is missing",
			"table soultribe_booking has no unique index on (user_id,meetup_id)"},
		`ALTER TABLE "user" DROP COLUMN email, DROP COLUMN password_hash; DROP TABLE profile`: {
			"column user.email is missing", "column user.password_hash is missing"},
	} {
		t.Run(want[0], func(t *testing.T) {
			t.Parallel()
			pool, in := newSchema(t, databaseURL, sqlalchemy)
			if !strings.Contains(change, "proposer_id") && !strings.Contains(change, "user_id uuid") {
				exec(t, pool, people)
			}
			exec(t, pool, change)
			before := dump(t, pool)
			err := schema.Migrate(t.Context(), pool, in)
			require.ErrorIs(t, err, soultribe.ErrSchema)
			var mismatch *schema.MismatchError
			require.ErrorAs(t, err, &mismatch)
			require.Equal(t, want, mismatch.Differences)
			require.ErrorContains(t, err, ` is of another shape (version 0 of `+latest+`): `+strings.Join(want, "; "))
			require.Equal(t, before, dump(t, pool))
			require.ErrorAs(t, schema.Check(t.Context(), pool, in), &mismatch)
			require.Subset(t, mismatch.Differences, want)
		})
	}
}

func TestMigrateStopsAtDirt(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	const slot = `INSERT INTO availabilityslot (id, user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
		SELECT id, user_id, s, e, s, e, 'UTC', s, s FROM (VALUES %s) AS v (id, user_id, s, e)`
	const meetup = `INSERT INTO meetup (id, match_id, scheduled_time, status, created_at, updated_at)
		SELECT id, match_id, s, status, '2024-01-01', '2024-01-01' FROM (VALUES %s) AS v (id, match_id, s, status)`
	const match = `INSERT INTO match (id, user1_id, user2_id, status, created_at, updated_at)
		SELECT id, user1_id, user2_id, 'pending', '2024-01-01', '2024-01-01' FROM (VALUES %s) AS v (id, user1_id, user2_id)`
	type violations = []schema.Violation
	for _, test := range []struct {
		name, dirt, mend string
		want             violations
	}{
		{
			"addresses",
			`INSERT INTO "user" (id, email, password_hash, created_at) VALUES (5, 'ann@X.org', '', '2024-01-01'),
				(6, 'ÄNN@x.org', '', '2024-01-01'), (7, 'änn@x.org', '', '2024-01-01')`,
			`DELETE FROM "user" WHERE id = 5`,
			violations{{"user_email_lower_key", "user", []int64{1, 5}}},
		},
		{
			"the same address twice",
			`DROP INDEX ix_user_email; INSERT INTO "user" (id, email, password_hash, created_at) VALUES (5, 'Ann@x.org', '', '2024-01-01')`,
			`DELETE FROM "user" WHERE id = 5`,
			violations{{"user_email_lower_key", "user", []int64{1, 5}}},
		},
		{
			"profiles",
			`ALTER TABLE profile DROP CONSTRAINT profile_pkey; INSERT INTO profile SELECT * FROM profile`,
			`DELETE FROM profile`,
			violations{{"profile_user_id_key", "profile", []int64{1}}},
		},
		{
			"periods",
			fmt.Sprintf(slot, `(5, 2, timestamp '2024-06-01 12:00', timestamp '2024-06-01 11:00'), (6, 2, '2024-06-01 12:00', '2024-06-01 12:00'),
				(7, 2, '2024-06-02', '2024-06-03 00:00:00.000001'), (8, 2, '2024-06-04', '2024-06-05'), (9, 3, '-infinity', 'infinity'),
				(10, 4, 'infinity', 'infinity'), (11, 4, '294276-12-31 23:00', '294276-12-31 23:30')`),
			`DELETE FROM availabilityslot WHERE id IN (5, 6, 7, 9, 10, 11)`,
			violations{{"availabilityslot_period_check", "availabilityslot", []int64{5}}, {"availabilityslot_period_check", "availabilityslot", []int64{6}},
				{"availabilityslot_period_check", "availabilityslot", []int64{7}}, {"availabilityslot_period_check", "availabilityslot", []int64{9}},
				{"availabilityslot_period_check", "availabilityslot", []int64{10}}, {"availabilityslot_period_check", "availabilityslot", []int64{11}}},
		},
		{
			"overlapping slots", // 5 holds 6 and touches 7; 8 and 9 are the same; 10 is another's
			fmt.Sprintf(slot, `(5, 2, timestamp '2024-06-01 10:00', timestamp '2024-06-01 14:00'), (6, 2, '2024-06-01 11:00', '2024-06-01 12:00'),
				(7, 2, '2024-06-01 14:00', '2024-06-01 15:00'), (8, 2, '2024-06-01 16:00', '2024-06-01 17:00'), (9, 2, '2024-06-01 16:00', '2024-06-01 17:00'),
				(10, 3, '2024-06-01 10:00', '2024-06-01 14:00'), (11, 2, '2024-06-01 13:59:59', '2024-06-01 14:00')`),
			`DELETE FROM availabilityslot WHERE id IN (5, 9)`,
			violations{{"availabilityslot_no_overlap", "availabilityslot", []int64{5, 6, 11}}, {"availabilityslot_no_overlap", "availabilityslot", []int64{8, 9}}},
		},
		{
			"tokens",
			`DROP INDEX ix_emailverificationtoken_token, ix_passwordresettoken_token;
			INSERT INTO emailverificationtoken (id, user_id, token, expires_at, created_at) SELECT 5, 2, token, expires_at, created_at FROM emailverificationtoken;
			INSERT INTO passwordresettoken (id, user_id, token, expires_at, created_at) SELECT 6, 2, token, expires_at, created_at FROM passwordresettoken`,
			`DELETE FROM emailverificationtoken WHERE id = 5; DELETE FROM passwordresettoken WHERE id = 6`,
			violations{{"emailverificationtoken_token_key", "emailverificationtoken", []int64{1, 5}}, {"passwordresettoken_token_key", "passwordresettoken", []int64{1, 6}}},
		},
		{
			"matches",
			fmt.Sprintf(match, `(5, 2, 2), (6, 2, 1), (7, 1, 2), (8, 3, 4)`),
			`DELETE FROM match WHERE id IN (5, 6, 7)`,
			violations{{"match_not_self_check", "match", []int64{5}}, {"match_pair_key", "match", []int64{1, 6, 7}}},
		},
		{
			"live meetups",
			fmt.Sprintf(meetup, `(5, 1, timestamp '2024-07-01', 'proposed'), (6, 4, '2024-07-01', 'proposed'), (7, 4, '2024-07-02', 'proposed')`),
			`UPDATE meetup SET status = 'cancelled' WHERE id IN (5, 6)`,
			violations{{"meetup_live_key", "meetup", []int64{1, 5}}, {"meetup_live_key", "meetup", []int64{6, 7}}},
		},
		{
			"durations",
			`ALTER TABLE meetup ADD COLUMN duration_seconds integer; UPDATE meetup SET duration_seconds = id * 600`,
			`UPDATE meetup SET duration_seconds = 900`,
			violations{{"meetup_duration_check", "meetup", []int64{1}}},
		},
		{
			"double booking", // of 2 and of 3
			fmt.Sprintf(meetup, `(5, 4, timestamp '2024-05-01 10:59:59', 'confirmed')`),
			`UPDATE meetup SET status = 'canceled' WHERE id = 5`,
			violations{{"soultribe_booking_no_overlap", "meetup", []int64{1, 5}}, {"soultribe_booking_no_overlap", "meetup", []int64{2, 5}}},
		},
		{
			"double booking of both",
			fmt.Sprintf(match, `(5, 2, 1)`) + ";" + fmt.Sprintf(meetup, `(5, 5, timestamp '2024-05-01 10:30', 'confirmed')`),
			`DELETE FROM match WHERE id = 5`,
			violations{{"match_pair_key", "match", []int64{1, 5}}, {"soultribe_booking_no_overlap", "meetup", []int64{1, 2, 5}},
				{"soultribe_booking_no_overlap", "meetup", []int64{1, 5}}},
		},
		{
			"a meetup at no time",
			fmt.Sprintf(meetup, `(5, 4, timestamp 'infinity', 'confirmed'), (6, 3, '294276-12-31 23:59', 'confirmed')`),
			`DELETE FROM meetup WHERE id IN (5, 6)`,
			violations{{"soultribe_booking_period_check", "meetup", []int64{5}}, {"soultribe_booking_period_check", "meetup", []int64{6}}},
		},
		{
			"nulls",
			`ALTER TABLE availabilityslot ALTER COLUMN user_id DROP NOT NULL, ALTER COLUMN end_dt_utc DROP NOT NULL; UPDATE availabilityslot SET user_id = NULL;
			UPDATE availabilityslot SET end_dt_utc = NULL WHERE id = 2; ALTER TABLE profile ALTER COLUMN full_name DROP NOT NULL; UPDATE profile SET full_name = NULL`,
			`DELETE FROM availabilityslot; UPDATE profile SET full_name = ''`,
			violations{{"profile_full_name_not_null", "profile", []int64{1}}, {"availabilityslot_user_id_not_null", "availabilityslot", []int64{1}},
				{"availabilityslot_user_id_not_null", "availabilityslot", []int64{2}}, {"availabilityslot_user_id_not_null", "availabilityslot", []int64{3}},
				{"availabilityslot_end_dt_utc_not_null", "availabilityslot", []int64{2}}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pool, in := newSchema(t, databaseURL, sqlalchemy, people, test.dirt)
			before := dump(t, pool)
			err := schema.Migrate(t.Context(), pool, in)
			require.ErrorIs(t, err, soultribe.ErrSchema)
			var dirt *schema.DirtError
			require.ErrorAs(t, err, &dirt)
			require.Equal(t, test.want, dirt.Rows)
			for _, v := range test.want {
				require.ErrorContains(t, err, v.Rule)
			}
			require.NotContains(t, err.Error(), "@")
			require.Equal(t, before, dump(t, pool))

			exec(t, pool, test.mend)
			require.NoError(t, schema.Migrate(t.Context(), pool, in))
			require.NoError(t, schema.Check(t.Context(), pool, in))
		})
	}
}

func TestDirtErrorText(t *testing.T) {
	t.Parallel()
	pool := newPool(t, sqlalchemy, people, `
		INSERT INTO "user" (id, email, password_hash, created_at) SELECT n, CASE WHEN n < 60 THEN 'ANN@x.org' || repeat(' ', n) ELSE 'BOB@x.org' END, '', '2024-01-01'
		FROM generate_series(50, 60) AS n;
		INSERT INTO match (id, user1_id, user2_id, status, created_at, updated_at) SELECT n, 2, 2, 'pending', '2024-01-01', '2024-01-01' FROM generate_series(10, 49) AS n`)
	err := schema.Migrate(t.Context(), pool)
	require.EqualError(t, err, `soultribe: schema "public" has rows that break the rules to come; nothing was changed:
	user: addresses that differ in ASCII case at most (user_email_lower_key): 2+60
	match: matches of a user with themself (match_not_self_check): 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29 and 20 more
	match: more than one match of the same two users (match_pair_key): 10+11+12+13+14+15+16+17+18+19+20+21+22+23+24+25+26+27+28+29+(20 more)`)
	var dirt *schema.DirtError
	require.ErrorAs(t, err, &dirt)
	require.Len(t, dirt.Rows, 42)
}

// An index is also built of rows that were deleted while another transaction, in whatever database, runs.
func TestMigrateAfterMendingBesideAnOldTransaction(t *testing.T) {
	t.Parallel()
	old, err := newPool(t).Begin(t.Context())
	require.NoError(t, err)
	exec(t, old, `CREATE TABLE x ()`)
	pool := newPool(t, sqlalchemy, people, `INSERT INTO availabilityslot SELECT 5, 2, end_dt_utc, start_dt_utc, end_dt_utc, end_dt_utc, timezone, created_at, updated_at
		FROM availabilityslot WHERE id = 1`)
	require.ErrorAs(t, schema.Migrate(t.Context(), pool), new(*schema.DirtError))
	exec(t, pool, `DELETE FROM availabilityslot WHERE id = 5`)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	require.NoError(t, old.Rollback(t.Context()))
}

// A row that comes after the search and before the lock is reported like any other.
func TestMigrateStopsAtLateDirt(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	other := connect(t, databaseURL)
	exec(t, other, sqlalchemy, people)
	late := &lateRow{insert: func(ctx context.Context) {
		_, err := other.Exec(ctx, `INSERT INTO "user" (id, email, password_hash, created_at) VALUES (9, 'BOB@x.org', '', '2024-01-01')`)
		require.NoError(t, err)
	}}
	pool := connect(t, databaseURL, func(c *pgxpool.Config) { c.ConnConfig.Tracer = late })
	var dirt *schema.DirtError
	require.ErrorAs(t, schema.Migrate(t.Context(), pool), &dirt)
	require.Equal(t, []schema.Violation{{Rule: "user_email_lower_key", Table: "user", IDs: []int64{2, 9}}}, dirt.Rows)
	state, err := schema.Status(t.Context(), pool)
	require.NoError(t, err)
	require.Zero(t, state.Version)
}

type lateRow struct {
	once   sync.Once
	insert func(context.Context)
}

func (l *lateRow) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.Contains(data.SQL, "LOCK TABLE") {
		l.once.Do(func() { l.insert(ctx) })
	}
	return ctx
}

func (l *lateRow) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// The host's own, in the seven tables and beside them, is after Migrate what it was, down to the place of each
// row: nothing was written there.
func TestMigrateLeavesTheHostsOwnAlone(t *testing.T) {
	t.Parallel()
	pool := newPool(t, sqlalchemy, people, `
		ALTER TABLE "user" ADD COLUMN "Plan" varchar(20) NOT NULL DEFAULT 'free', ADD COLUMN score numeric(6,2);
		ALTER TABLE match ADD COLUMN note text COLLATE "C", ADD CONSTRAINT note_check CHECK (note <> '') NOT VALID;
		UPDATE match SET note = E'\\x00 ü\n' WHERE id = 1;
		CREATE INDEX "Notes" ON match (note text_pattern_ops) WHERE note IS NOT NULL;
		CREATE UNIQUE INDEX refreshtoken_hash ON refreshtoken USING btree (md5(token));
		COMMENT ON COLUMN match.note IS 'ours';
		ALTER TABLE refreshtoken ADD CONSTRAINT refreshtoken_token_check CHECK (token <> ''), ALTER COLUMN token SET STORAGE EXTERNAL;
		CREATE VIEW matched AS SELECT m.*, u.locale FROM match m JOIN "user" u ON u.id = m.user1_id;
		CREATE FUNCTION host() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
		CREATE TRIGGER host BEFORE UPDATE ON "user" FOR EACH ROW EXECUTE FUNCTION host();
		GRANT SELECT ON refreshtoken TO PUBLIC; GRANT UPDATE (note) ON match TO PUBLIC`)
	// What is said of the tables as a whole changes with what is added to them; 16384 is the first oid of a host.
	catalog := []string{
		`SELECT (c.oid, relname, relfilenode, relowner, relacl, reloptions, relnatts)::text FROM pg_class c
			WHERE relnamespace = 'public'::regnamespace AND relname NOT IN ('user', 'meetup', 'emailverificationtoken', 'passwordresettoken')`,
		`SELECT a::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE relnamespace = 'public'::regnamespace`,
		`SELECT d::text FROM pg_attrdef d`, `SELECT x::text FROM pg_index x WHERE indrelid >= 16384`, `SELECT k::text FROM pg_constraint k WHERE conrelid >= 16384`,
		`SELECT g::text FROM pg_trigger g`, `SELECT r::text FROM pg_rewrite r WHERE ev_class >= 16384`, `SELECT d::text FROM pg_description d WHERE objoid >= 16384`,
		`SELECT p::text FROM pg_proc p WHERE pronamespace = 'public'::regnamespace`, `SELECT s::text FROM pg_sequence s`,
	}
	rows := []string{
		`SELECT (ctid, xmin, id, email, password_hash, email_verified_at, created_at, locale, "Plan", score)::text FROM "user"`,
		`SELECT (ctid, xmin, p)::text FROM profile p`, `SELECT (ctid, xmin, s)::text FROM availabilityslot s`,
		`SELECT (ctid, xmin, id, user_id, token, expires_at, used_at, created_at)::text FROM emailverificationtoken`,
		`SELECT (ctid, xmin, id, user_id, token, expires_at, used_at, created_at)::text FROM passwordresettoken`,
		`SELECT (ctid, xmin, m)::text FROM match m`, `SELECT (ctid, xmin, id, match_id, scheduled_time, status, created_at, updated_at)::text FROM meetup`,
		`SELECT (ctid, xmin, r)::text FROM refreshtoken r`, `SELECT (ctid, xmin, a)::text FROM alembic_version a`,
		`SELECT (schemaname, sequencename, last_value)::text FROM pg_sequences WHERE sequencename NOT LIKE 'soultribe%'`,
	}
	foreign := `SELECT (relname, relkind, relnatts, relchecks, relhasindex, relhasrules, relhastriggers)::text FROM pg_class
		WHERE relname IN ('refreshtoken', 'alembic_version', 'refreshtoken_id_seq', 'matched', 'refreshtoken_hash', 'Notes')
		UNION ALL SELECT (relname, indexrelid)::text FROM pg_index JOIN pg_class ON pg_class.oid = indrelid WHERE relname IN ('refreshtoken', 'alembic_version')
		UNION ALL SELECT (relname, conname)::text FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid WHERE relname IN ('refreshtoken', 'alembic_version')`
	before := map[string][]string{}
	for _, query := range append(append([]string{foreign}, catalog...), rows...) {
		before[query] = lines(t, pool, query)
		require.NotEmpty(t, before[query], query)
	}
	require.NoError(t, schema.Migrate(t.Context(), pool))
	for _, query := range catalog {
		require.Subset(t, lines(t, pool, query), before[query], query)
	}
	for _, query := range append(rows, foreign) {
		require.ElementsMatch(t, before[query], lines(t, pool, query), query)
	}
}

// A column that no INSERT of the library fills keeps nobody from migrating; Check names it before and after.
func TestCheckNamesWhatAnInsertCannotFill(t *testing.T) {
	t.Parallel()
	pool := newPool(t, sqlalchemy, `
		ALTER TABLE "user" ADD COLUMN plan text NOT NULL;
		ALTER TABLE availabilityslot ADD COLUMN room int NOT NULL, ADD COLUMN floor int NOT NULL DEFAULT 0;
		ALTER TABLE refreshtoken ADD COLUMN device text NOT NULL`)
	want := []string{
		"column user.plan is NOT NULL without a default, so that the library cannot insert rows",
		"column availabilityslot.room is NOT NULL without a default, so that the library cannot insert rows",
	}
	var mismatch *schema.MismatchError
	require.ErrorAs(t, schema.Check(t.Context(), pool), &mismatch)
	require.Equal(t, want, mismatch.Differences)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	require.ErrorAs(t, schema.Check(t.Context(), pool), &mismatch)
	require.Equal(t, want, mismatch.Differences)
	exec(t, pool, `ALTER TABLE "user" ALTER COLUMN plan SET DEFAULT ''; ALTER TABLE availabilityslot ALTER COLUMN room DROP NOT NULL`)
	require.NoError(t, schema.Check(t.Context(), pool))
}

// All that is wrong is in one report, and the text has each rule and row, too.
func TestMigrateReportsAllDirtAtOnce(t *testing.T) {
	t.Parallel()
	pool := newPool(t, sqlalchemy, audited, `
		DROP INDEX ix_user_email, ix_emailverificationtoken_token, ix_passwordresettoken_token;
		ALTER TABLE profile DROP CONSTRAINT profile_pkey;
		ALTER TABLE meetup ADD COLUMN duration_seconds int`)
	var want, text []string
	columns := lines(t, pool, `SELECT table_name || ' ' || column_name FROM information_schema.columns WHERE table_schema = 'public' AND is_nullable = 'NO'
		AND column_name <> 'id' AND table_name IN ('user', 'profile', 'availabilityslot', 'emailverificationtoken', 'passwordresettoken', 'match', 'meetup')`)
	nulls := map[string][]string{}
	for _, c := range columns {
		table, column, _ := strings.Cut(c, " ")
		exec(t, pool, fmt.Sprintf(`ALTER TABLE %q ALTER COLUMN %s DROP NOT NULL`, table, column))
		nulls[table] = append(nulls[table], column)
	}
	// A row without any value, of each table.
	for table, columns := range nulls {
		id := "[20]"
		if table == "profile" {
			exec(t, pool, `INSERT INTO profile (bio) VALUES (NULL)`)
		} else {
			exec(t, pool, fmt.Sprintf(`INSERT INTO %q (id) VALUES (20)`, table))
		}
		for _, column := range columns {
			if table == "profile" {
				id = "[0]"
			}
			want = append(want, table+"_"+column+"_not_null "+id)
		}
	}
	exec(t, pool, `
		INSERT INTO "user" SELECT 11, 'U1@X.org', password_hash, NULL, created_at FROM "user" WHERE id = 1;
		INSERT INTO profile SELECT * FROM profile WHERE user_id IN (1, 2);
		INSERT INTO availabilityslot SELECT 11, 3, end_dt_utc, start_dt_utc, end_dt_local, start_dt_local, timezone, created_at, updated_at FROM availabilityslot WHERE id IN (5);
		INSERT INTO availabilityslot SELECT 12, 4, end_dt_utc, end_dt_utc, end_dt_local, end_dt_local, timezone, created_at, updated_at FROM availabilityslot WHERE id IN (5);
		INSERT INTO availabilityslot SELECT n, 6, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at FROM availabilityslot, generate_series(13, 16) AS n WHERE id = 5;
		INSERT INTO emailverificationtoken SELECT 11, 2, token, expires_at, NULL, created_at FROM emailverificationtoken WHERE id = 1;
		INSERT INTO passwordresettoken SELECT 11, 2, token, expires_at, NULL, created_at FROM passwordresettoken WHERE id = 5;
		INSERT INTO match SELECT id + 10, user2_id, user1_id, 'pending', created_at, updated_at FROM match WHERE id IN (1, 5);
		INSERT INTO match SELECT n, n - 10, n - 10, 'pending', created_at, updated_at FROM match, generate_series(12, 13) AS n WHERE id = 1;
		UPDATE meetup SET duration_seconds = 60 WHERE id = 5;
		INSERT INTO meetup SELECT 11, 3, '2024-07-01', 'proposed', created_at, updated_at FROM meetup WHERE id = 1;
		INSERT INTO meetup SELECT 12, 6, 'infinity', 'confirmed', created_at, updated_at FROM meetup WHERE id = 1;
		UPDATE meetup SET status = 'confirmed' WHERE id = 3`)
	want = append(want, "user_email_lower_key [1 11]", "profile_user_id_key [1]", "profile_user_id_key [2]",
		"availabilityslot_period_check [11]", "availabilityslot_period_check [12]", "availabilityslot_no_overlap [13 14 15 16]",
		"emailverificationtoken_token_key [1 11]", "passwordresettoken_token_key [5 11]",
		"match_not_self_check [12]", "match_not_self_check [13]", "match_pair_key [1 11]", "match_pair_key [5 15]",
		"meetup_duration_check [5]", "meetup_live_key [2 3]", "meetup_live_key [4 11]",
		"soultribe_booking_period_check [12]", "soultribe_booking_no_overlap [1 3]")
	before := dump(t, pool)
	err := schema.Migrate(t.Context(), pool)
	var dirt *schema.DirtError
	require.ErrorAs(t, err, &dirt)
	for _, v := range dirt.Rows {
		text = append(text, fmt.Sprint(v.Rule, " ", v.IDs))
		require.ErrorContains(t, err, v.Rule)
	}
	require.ElementsMatch(t, want, text)
	require.Equal(t, before, dump(t, pool))
	// An audit finds all of it, and says more.
	audit, err := schema.Audit(t.Context(), pool)
	require.NoError(t, err)
	require.Subset(t, audit, dirt.Rows)

	for table := range nulls {
		if table != "profile" {
			exec(t, pool, fmt.Sprintf(`DELETE FROM %q WHERE id BETWEEN 11 AND 20`, table))
		}
	}
	exec(t, pool, `DELETE FROM profile a USING profile b WHERE a.user_id = b.user_id AND a.ctid > b.ctid OR a.user_id IS NULL;
		UPDATE meetup SET duration_seconds = NULL; UPDATE meetup SET status = 'completed' WHERE id = 3`)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	require.NoError(t, schema.Check(t.Context(), pool))
	requireClean(t, pool)
}
