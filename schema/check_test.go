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
	require.EqualError(t, schema.Check(t.Context(), pool), `soultribe: schema "public" is at version 0 of 2: run schema.Migrate`)
	exec(t, pool, `DROP TABLE meetup`)
	require.EqualError(t, schema.Check(t.Context(), pool), `soultribe: schema "public" is at version 0 of 2: run schema.Migrate`)
}

func TestCheckAnotherShape(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	for change, want := range map[string]string{
		`DROP TABLE profile`:                                                                      "table profile is missing",
		`DROP TABLE soultribe_booking`:                                                            "table soultribe_booking is missing",
		`ALTER TABLE meetup DROP COLUMN status`:                                                   "column meetup.status is missing; index meetup_live_key on meetup is missing",
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
		exec(t, tx, change)
		err = schema.Check(t.Context(), tx)
		require.NoError(t, tx.Rollback(t.Context()))
		if want == "" {
			require.NoError(t, err, change)
			continue
		}
		require.ErrorIs(t, err, soultribe.ErrSchema, change)
		require.EqualError(t, err, `soultribe: schema "public" is of another shape (version 2 of 2): `+want, change)
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

// The names are for life: errors are told apart by them.
func TestNames(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	want := []string{
		"availabilityslot: availabilityslot_no_overlap", "availabilityslot: availabilityslot_period_check",
		"availabilityslot: availabilityslot_pkey", "availabilityslot: availabilityslot_start_end_user_idx",
		"availabilityslot: availabilityslot_user_id_fkey", "availabilityslot: availabilityslot_user_start_idx",
		"availabilityslot: ix_availabilityslot_user_id",
		"emailverificationtoken: emailverificationtoken_pkey", "emailverificationtoken: emailverificationtoken_plaintext_idx",
		"emailverificationtoken: emailverificationtoken_user_id_fkey", "emailverificationtoken: ix_emailverificationtoken_token",
		"emailverificationtoken: ix_emailverificationtoken_user_id",
		"match: match_created_idx", "match: match_not_self_check", "match: match_pair_key", "match: match_pending_idx",
		"match: match_pkey", "match: match_user1_created_idx", "match: match_user1_id_fkey", "match: match_user2_created_idx",
		"match: match_user2_id_fkey", "match: soultribe_keep_pair",
		"meetup: meetup_duration_check", "meetup: meetup_live_key", "meetup: meetup_match_id_fkey",
		"meetup: meetup_match_scheduled_idx", "meetup: meetup_pkey", "meetup: meetup_scheduled_idx", "meetup: soultribe_book_meetup",
		"passwordresettoken: ix_passwordresettoken_token", "passwordresettoken: ix_passwordresettoken_user_id",
		"passwordresettoken: passwordresettoken_pkey", "passwordresettoken: passwordresettoken_plaintext_idx",
		"passwordresettoken: passwordresettoken_user_id_fkey",
		"profile: profile_pkey", "profile: profile_user_id_fkey",
		"soultribe_booking: soultribe_booking_meetup_id_fkey", "soultribe_booking: soultribe_booking_meetup_idx",
		"soultribe_booking: soultribe_booking_no_overlap", "soultribe_booking: soultribe_booking_period_check",
		"soultribe_booking: soultribe_booking_pkey",
		"soultribe_schema_version: soultribe_schema_version_pkey",
		"user: ix_user_email", "user: user_email_lower_key", "user: user_pkey",
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
