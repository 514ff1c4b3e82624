package schema_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/schema"
)

func TestCheckMissing(t *testing.T) {
	t.Parallel()
	pool := newPool(t, `CREATE TABLE alembic_version (version_num varchar)`)
	for _, name := range []string{"public", "nowhere"} {
		err := schema.Check(t.Context(), pool, schema.In(name))
		require.EqualError(t, err, `soultribe: schema "`+name+`" has none of the tables: run schema.Migrate`)
		require.ErrorIs(t, err, soultribe.ErrSchema)
		var mismatch *schema.MismatchError
		require.ErrorAs(t, err, &mismatch)
		require.True(t, mismatch.Missing)
		require.Equal(t, soultribe.SchemaVersion, mismatch.Want)
		state, err := schema.Status(t.Context(), pool, schema.In(name))
		require.NoError(t, err)
		require.Zero(t, state.Version)
	}
}

func TestCheckOlder(t *testing.T) {
	t.Parallel()
	pool := newPool(t, sqlalchemy)
	require.EqualError(t, schema.Check(t.Context(), pool), `soultribe: schema "public" is at version 0 of `+latest+`: run schema.Migrate`)
	exec(t, pool, `DROP TABLE meetup`)
	require.EqualError(t, schema.Check(t.Context(), pool), `soultribe: schema "public" is at version 0 of `+latest+`: run schema.Migrate`)
}

func TestCheckAnotherShape(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	for change, want := range map[string]string{
		`DROP TABLE profile`:                                                                      "table profile is missing",
		`DROP TABLE soultribe_booking`:                                                            "table soultribe_booking is missing",
		`ALTER TABLE meetup DROP COLUMN status`:                                                   "column meetup.status is missing; index meetup_live_key on meetup is missing; index meetup_live_scheduled_idx on meetup is missing",
		`ALTER TABLE meetup DROP proposer_id`:                                                     "column meetup.proposer_id is missing",
		`DROP INDEX match_pair_key`:                                                               "index match_pair_key on match is missing",
		`DROP INDEX ix_passwordresettoken_token`:                                                  "table passwordresettoken has no unique index on (token)",
		`DROP INDEX ix_user_email`:                                                                "",
		`ALTER TABLE profile DROP CONSTRAINT profile_pkey`:                                        "table profile has no unique index on (user_id)",
		`ALTER TABLE soultribe_booking DROP CONSTRAINT soultribe_booking_pkey`:                    "table soultribe_booking has no unique index on (user_id,meetup_id)",
		`ALTER TABLE availabilityslot DROP CONSTRAINT availabilityslot_no_overlap`:                "constraint availabilityslot_no_overlap on availabilityslot is missing",
		`ALTER TABLE soultribe_booking DROP CONSTRAINT soultribe_booking_no_overlap`:              "constraint soultribe_booking_no_overlap on soultribe_booking is missing",
		`ALTER TABLE meetup DISABLE TRIGGER soultribe_book_meetup`:                                "trigger soultribe_book_meetup on meetup is disabled",
		`DROP TRIGGER soultribe_book_meetup ON meetup`:                                            "trigger soultribe_book_meetup on meetup is missing",
		`DROP TRIGGER soultribe_keep_pair ON match`:                                               "trigger soultribe_keep_pair on match is missing",
		`DROP FUNCTION soultribe_refuse`:                                                          "function soultribe_refuse is missing",
		`ALTER TABLE match ALTER COLUMN status DROP NOT NULL`:                                     "column match.status is not NOT NULL",
		`UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'match_created_idx'::regclass`: "index match_created_idx on match is not valid",
		`DROP FUNCTION soultribe_refuse; CREATE FUNCTION soultribe_refuse(text) RETURNS text LANGUAGE sql AS 'SELECT $1'`:       "function soultribe_refuse is missing",
		`CREATE FUNCTION soultribe_refuse(text) RETURNS text LANGUAGE sql AS 'SELECT $1'`:                                       "",
		`ALTER INDEX match_pair_key SET (fillfactor = 70); ALTER INDEX meetup_live_key SET (fillfactor = 70)`:                   "",
		`ALTER TABLE match ENABLE ALWAYS TRIGGER soultribe_keep_pair`:                                                           "",
		`SET LOCAL IntervalStyle = iso_8601; SET LOCAL quote_all_identifiers = on; SET LOCAL standard_conforming_strings = off`: "",
		`ALTER TABLE meetup ALTER duration_seconds TYPE bigint, ALTER status TYPE text`:                                         "",
		// What a restore makes of an IN.
		`DROP INDEX meetup_live_key; CREATE UNIQUE INDEX meetup_live_key ON meetup (match_id)
			WHERE status::text = ANY (ARRAY['proposed'::varchar::text, 'confirmed'::varchar::text])`: "",
		// What the host has besides is its own affair, unless the library cannot insert.
		`ALTER TABLE "user" ADD COLUMN plan text; ALTER TABLE match ADD COLUMN score int NOT NULL DEFAULT 0; CREATE TABLE x (); ALTER TABLE meetup ADD COLUMN n serial`: "",
		`ALTER TABLE "user" ADD COLUMN plan text NOT NULL; ALTER TABLE soultribe_booking ADD COLUMN room int NOT NULL`: "" +
			"column user.plan is NOT NULL without a default, so that the library cannot insert rows; " +
			"column soultribe_booking.room is NOT NULL without a default, so that the library cannot insert rows",
		`ALTER TABLE meetup DROP CONSTRAINT meetup_match_id_fkey`:                                           "",
		`ALTER TABLE availabilityslot DROP CONSTRAINT availabilityslot_pkey, ADD PRIMARY KEY (user_id, id)`: "",
	} {
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), change)
		if err != nil {
			_ = tx.Rollback(t.Context())
			require.NoError(t, err, change)
		}
		err = schema.Check(t.Context(), tx)
		require.NoError(t, tx.Rollback(t.Context()))
		if want == "" {
			require.NoError(t, err, change)
			continue
		}
		require.ErrorIs(t, err, soultribe.ErrSchema, change)
		require.EqualError(t, err, `soultribe: schema "public" is of another shape (version `+latest+` of `+latest+`): `+want, change)
	}
}

// gutted are rules that have the name and the kind, and do not hold.
var gutted = []struct{ name, change, want string }{
	{"check", `ALTER TABLE match DROP CONSTRAINT IF EXISTS match_not_self_check, ADD CONSTRAINT match_not_self_check CHECK (true)`,
		"constraint match_not_self_check is not the one that match needs"},
	{"period", `ALTER TABLE availabilityslot DROP CONSTRAINT IF EXISTS availabilityslot_period_check,
		ADD CONSTRAINT availabilityslot_period_check CHECK (end_dt_utc > start_dt_utc AND end_dt_utc <= start_dt_utc + interval '24 days')`,
		"constraint availabilityslot_period_check is not the one that availabilityslot needs"},
	{"exclusion", `ALTER TABLE availabilityslot DROP CONSTRAINT IF EXISTS availabilityslot_no_overlap,
		ADD CONSTRAINT availabilityslot_no_overlap EXCLUDE USING btree (id WITH =)`,
		"constraint availabilityslot_no_overlap is not the one that availabilityslot needs"},
	{"deferred", `ALTER TABLE availabilityslot DROP CONSTRAINT IF EXISTS availabilityslot_no_overlap,
		ADD CONSTRAINT availabilityslot_no_overlap EXCLUDE USING gist (int8range(user_id, user_id, '[]') WITH &&,
			tsrange(start_dt_utc, greatest(start_dt_utc, end_dt_utc)) WITH &&) DEFERRABLE INITIALLY DEFERRED`,
		"constraint availabilityslot_no_overlap is not the one that availabilityslot needs"},
	{"pair", `DROP INDEX IF EXISTS match_pair_key; CREATE UNIQUE INDEX match_pair_key ON match ((user1_id + id), (user2_id + id))`,
		"index match_pair_key is not the one that match needs"},
	{"address", `DROP INDEX IF EXISTS user_email_lower_key; CREATE UNIQUE INDEX user_email_lower_key ON "user" (lower(id::text || email))`,
		"index user_email_lower_key is not the one that user needs"},
	{"collation", `DROP INDEX IF EXISTS user_email_lower_key; CREATE UNIQUE INDEX user_email_lower_key ON "user" (lower(email))`,
		"index user_email_lower_key is not the one that user needs"},
	{"predicate", `DROP INDEX IF EXISTS meetup_live_key; CREATE UNIQUE INDEX meetup_live_key ON meetup (match_id) WHERE status = 'nonsense'`,
		"index meetup_live_key is not the one that meetup needs"},
	{"white space", `DROP INDEX IF EXISTS meetup_live_key; CREATE UNIQUE INDEX meetup_live_key ON meetup (match_id) WHERE status IN ('pro posed', 'confirmed')`,
		"index meetup_live_key is not the one that meetup needs"},
	{"method", `DROP INDEX IF EXISTS soultribe_booking_meetup_idx, match_created_idx; CREATE INDEX match_created_idx ON match USING brin (created_at, id)`,
		"index match_created_idx is not the one that match needs"},
	{"not an index", `DROP INDEX IF EXISTS match_pair_key; CREATE SEQUENCE match_pair_key`, "match_pair_key is not an index on match"},
	{"another's index", `DROP INDEX IF EXISTS match_pair_key; CREATE INDEX match_pair_key ON refreshtoken (token)`, "match_pair_key is not an index on match"},
	{"not valid", `ALTER TABLE match DROP CONSTRAINT IF EXISTS match_not_self_check, ADD CONSTRAINT match_not_self_check CHECK (user1_id <> user2_id) NOT VALID`,
		"constraint match_not_self_check on match is not validated"},
	{"invalid index", `CREATE INDEX IF NOT EXISTS match_created_idx ON match (created_at, id);
		UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'match_created_idx'::regclass`, "index match_created_idx on match is not valid"},
	{"source", `CREATE OR REPLACE FUNCTION soultribe_book_meetup() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
		SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN NULL; END $$`, "function soultribe_book_meetup is not the one that the library needs"},
	{"kept pair", `CREATE OR REPLACE FUNCTION soultribe_keep_pair() RETURNS trigger LANGUAGE plpgsql
		SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN NULL; END $$`, "function soultribe_keep_pair is not the one that the library needs"},
	{"refusal", `CREATE OR REPLACE FUNCTION soultribe_refuse(errcode text, constraint_name text, detail text) RETURNS boolean
		LANGUAGE sql AS 'SELECT true'`, "function soultribe_refuse is not the one that the library needs"},
}

func TestCheckGutted(t *testing.T) {
	t.Parallel()
	pool := newPool(t, sqlalchemy, people)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	after := []struct{ name, change, want string }{
		{"rights", `ALTER FUNCTION soultribe_book_meetup() SECURITY INVOKER`, "function soultribe_book_meetup is not the one that the library needs"},
		{"setting", `ALTER FUNCTION soultribe_book_meetup() RESET search_path`, "function soultribe_book_meetup is not the one that the library needs"},
		{"strict", `ALTER FUNCTION soultribe_refuse(text, text, text) STRICT`, "function soultribe_refuse is not the one that the library needs"},
		{"disabled", `ALTER TABLE match DISABLE TRIGGER soultribe_keep_pair`, "trigger soultribe_keep_pair on match is disabled"},
		{"replica", `ALTER TABLE match ENABLE REPLICA TRIGGER soultribe_keep_pair`, "trigger soultribe_keep_pair on match is disabled"},
		{"when", `CREATE OR REPLACE TRIGGER soultribe_keep_pair AFTER UPDATE ON match FOR EACH ROW WHEN (false) EXECUTE FUNCTION soultribe_keep_pair()`,
			"trigger soultribe_keep_pair is not the one that match needs"},
		{"event", `CREATE OR REPLACE TRIGGER soultribe_book_meetup AFTER INSERT OR UPDATE OF proposer_id ON meetup FOR EACH ROW EXECUTE FUNCTION soultribe_book_meetup()`,
			"trigger soultribe_book_meetup is not the one that meetup needs"},
		{"function", `CREATE SCHEMA other; CREATE FUNCTION other.soultribe_book_meetup() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
			CREATE OR REPLACE TRIGGER soultribe_book_meetup AFTER INSERT OR UPDATE ON meetup FOR EACH ROW EXECUTE FUNCTION other.soultribe_book_meetup()`,
			"trigger soultribe_book_meetup is not the one that meetup needs"},
		{"booking", `ALTER TABLE soultribe_booking DROP CONSTRAINT soultribe_booking_no_overlap,
			ADD CONSTRAINT soultribe_booking_no_overlap EXCLUDE USING gist (int8range(user_id, user_id, '[]') WITH &&, int8range(meetup_id, meetup_id, '[]') WITH &&)`,
			"constraint soultribe_booking_no_overlap is not the one that soultribe_booking needs"},
	}
	for _, test := range append(after, gutted...) {
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), test.change)
		if err != nil {
			_ = tx.Rollback(t.Context())
			require.NoError(t, err, test.name)
		}
		err = schema.Check(t.Context(), tx)
		require.NoError(t, tx.Rollback(t.Context()))
		var mismatch *schema.MismatchError
		require.ErrorAs(t, err, &mismatch, test.name)
		require.Contains(t, mismatch.Differences, test.want, test.name)
	}
	require.NoError(t, schema.Check(t.Context(), pool))
}

// What has the name of a rule to come, and does not hold, is not taken for it.
func TestMigrateRefusesGutted(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	for _, test := range gutted {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pool, in := newSchema(t, databaseURL, sqlalchemy, people, test.change)
			before := dump(t, pool)
			err := schema.Migrate(t.Context(), pool, in)
			var mismatch *schema.MismatchError
			require.ErrorAs(t, err, &mismatch)
			require.Equal(t, []string{test.want}, mismatch.Differences)
			require.Equal(t, before, dump(t, pool))
		})
	}
}

// A schema's name can look like a part of a definition.
func TestCheckInAnySchema(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	for _, name := range []string{"old", "new", "x ON match USING btree (id)", "a::text", "it's", " EXECUTE FUNCTION ", "match", "%I", `a\b`} {
		require.NoError(t, schema.Migrate(t.Context(), pool, schema.In(name)), name)
		require.NoError(t, schema.Check(t.Context(), pool, schema.In(name)), name)
	}
}

// Check and Status take whatever there is, leave it usable, and need no right to write.
func TestCheckInsideATransaction(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	require.NoError(t, schema.Check(t.Context(), conn))
	require.NoError(t, schema.Check(t.Context(), conn.Conn()))

	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	exec(t, tx, `SET TRANSACTION READ ONLY`, `SET LOCAL search_path = nowhere`)
	require.NoError(t, schema.Check(t.Context(), tx))
	require.Error(t, schema.Check(t.Context(), tx, schema.In("nowhere")))
	state, err := schema.Status(t.Context(), tx)
	require.NoError(t, err)
	require.Equal(t, soultribe.SchemaVersion, state.Version)
	require.Equal(t, []string{"nowhere"}, lines(t, tx, `SELECT current_setting('search_path')`))
	require.NoError(t, tx.Rollback(t.Context()))
}

// A transaction that the caller has begun in plain SQL stays the caller's.
func TestCheckInsideAPlainTransaction(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	for name, db := range map[string]soultribe.DB{"pool's": conn, "plain": conn.Conn()} {
		exec(t, conn, `BEGIN`, `SET LOCAL search_path = nowhere`, `CREATE TABLE public.mine ()`)
		require.NoError(t, schema.Check(t.Context(), db), name)
		require.ErrorIs(t, schema.Check(t.Context(), db, schema.In("nowhere")), soultribe.ErrSchema, name)
		state, err := schema.Status(t.Context(), db)
		require.NoError(t, err, name)
		require.Equal(t, soultribe.SchemaVersion, state.Version, name)
		require.Equal(t, byte('T'), conn.Conn().PgConn().TxStatus(), name)
		require.Equal(t, []string{"nowhere"}, lines(t, conn, `SELECT current_setting('search_path')`), name)

		// What fails within is undone, and the transaction goes on.
		exec(t, conn, `ALTER TABLE public.soultribe_schema_version RENAME COLUMN tstamp TO at`)
		_, err = schema.Status(t.Context(), db)
		require.Equal(t, "42703", sqlState(err), "%v", err)
		require.Equal(t, []string{"0"}, lines(t, conn, `SELECT count(*)::text FROM public.mine`), name)
		_, err = conn.Exec(t.Context(), `SELECT FROM public.nothing`)
		require.Error(t, err)
		require.Equal(t, "25P02", sqlState(schema.Check(t.Context(), db)), name)
		require.Equal(t, byte('E'), conn.Conn().PgConn().TxStatus(), name)
		exec(t, conn, `ROLLBACK`)
		require.NoError(t, schema.Check(t.Context(), db), name)
		require.Equal(t, byte('I'), conn.Conn().PgConn().TxStatus(), name)
	}
}

// The names are for life: errors are told apart by them.
func TestNames(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	want := []string{
		"availabilityslot: availabilityslot_group_start_idx",
		"availabilityslot: availabilityslot_no_overlap", "availabilityslot: availabilityslot_period_check",
		"availabilityslot: availabilityslot_pkey", "availabilityslot: availabilityslot_start_end_user_idx",
		"availabilityslot: availabilityslot_user_id_fkey", "availabilityslot: availabilityslot_user_start_idx",
		"availabilityslot: ix_availabilityslot_user_id",
		"emailverificationtoken: emailverificationtoken_pkey", "emailverificationtoken: emailverificationtoken_plaintext_idx",
		"emailverificationtoken: emailverificationtoken_user_id_fkey", "emailverificationtoken: ix_emailverificationtoken_token",
		"emailverificationtoken: ix_emailverificationtoken_user_id",
		"match: match_created_idx", "match: match_not_self_check", "match: match_pair_key", "match: match_pending_idx",
		"match: match_pkey", "match: match_user1_created_idx", "match: match_user1_id_fkey", "match: match_user2_created_idx",
		"match: match_user2_id_fkey", "match: soultribe_cancel_meetup", "match: soultribe_keep_pair",
		"meetup: meetup_duration_check", "meetup: meetup_live_key", "meetup: meetup_live_scheduled_idx", "meetup: meetup_match_id_fkey",
		"meetup: meetup_match_scheduled_idx", "meetup: meetup_pkey", "meetup: meetup_scheduled_idx", "meetup: soultribe_book_meetup",
		"passwordresettoken: ix_passwordresettoken_token", "passwordresettoken: ix_passwordresettoken_user_id",
		"passwordresettoken: passwordresettoken_pkey", "passwordresettoken: passwordresettoken_plaintext_idx",
		"passwordresettoken: passwordresettoken_user_id_fkey",
		"profile: profile_pkey", "profile: profile_user_id_fkey",
		"soultribe_booking: soultribe_booking_meetup_id_fkey", "soultribe_booking: soultribe_booking_meetup_idx",
		"soultribe_booking: soultribe_booking_no_overlap", "soultribe_booking: soultribe_booking_period_check",
		"soultribe_booking: soultribe_booking_pkey",
		"soultribe_schema_version: soultribe_schema_version_pkey",
		"user: ix_user_email", "user: user_email_lower_key", "user: user_pkey", "user: user_unverified_idx",
	}
	// PostgreSQL 18 has a constraint for each NOT NULL.
	have := lines(t, pool, `
SELECT c.relname || ': ' || k.conname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE k.connamespace = 'public'::regnamespace AND k.contype <> 'n'
UNION SELECT c.relname || ': ' || i.relname FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
WHERE i.relnamespace = 'public'::regnamespace
UNION SELECT c.relname || ': ' || g.tgname FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid WHERE NOT g.tgisinternal`)
	require.ElementsMatch(t, want, have)
	for name, table := range schema.Names() {
		require.Contains(t, have, table+": "+name)
	}
}
