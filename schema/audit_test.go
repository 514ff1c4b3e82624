package schema_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/schema"
)

// audited are rows without fault for a database that sqlalchemy made. Users 5 and 6, their match and its
// cancelled meetup have nothing to do with the others.
const audited = `
INSERT INTO "user" (id, email, password_hash, created_at)
	SELECT n, 'u' || n || '@x.org', '$argon2id$v=19$m=102400,t=2,p=8$Y53fTtr1rTH8D3HTnEquBg$vUTstBPk13W9sTn9fhenKA', '2024-01-01' FROM generate_series(1, 6) AS n;
INSERT INTO profile SELECT id, '', 'U', NULL, (ARRAY['Europe/Vienna', '', NULL])[id % 3 + 1], created_at, created_at FROM "user" WHERE id <> 4;
INSERT INTO availabilityslot (id, user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at) VALUES
	(1, 1, '2024-03-31 00:30', '2024-03-31 01:30:00.000001', '2024-03-31 01:30', '2024-03-31 03:30:00.000001', 'Europe/Vienna', '2024-01-01', '2024-01-01'),
	(2, 1, '2024-10-27 00:30', '2024-10-27 00:45', '2024-10-27 02:30', '2024-10-27 02:45', 'Europe/Vienna', '2024-01-01', '2024-01-01'),
	(3, 1, '2024-10-27 01:30', '2024-10-28 01:30', '2024-10-27 02:30', '2024-10-28 02:30', 'Europe/Vienna', '2024-01-01', '2024-01-01'),
	(4, 2, '9999-12-31 23:00', '9999-12-31 23:30', '10000-01-01 12:00', '10000-01-01 12:30', 'Pacific/Auckland', '2024-01-01', '2024-01-01'),
	(5, 5, '2024-05-01 10:00', '2024-05-01 11:00', '2024-05-01 10:00', '2024-05-01 11:00', 'UTC', '2024-01-01', '2024-01-01');
INSERT INTO emailverificationtoken (id, user_id, token, expires_at, created_at) VALUES
	(1, 1, repeat('A', 43), '2024-01-01', '2024-01-01'), (5, 5, 'sha256:' || repeat('0a', 32), '2024-01-01', '2024-01-01');
INSERT INTO passwordresettoken (id, user_id, token, expires_at, created_at)
	SELECT id, user_id, token, expires_at, created_at FROM emailverificationtoken;
INSERT INTO match (id, user1_id, user2_id, status, created_at, updated_at) VALUES
	(1, 1, 2, 'accepted', '2024-01-01', '2024-01-01'), (2, 3, 1, 'accepted', '2024-01-01', '2024-01-01'), (3, 2, 3, 'accepted', '2024-01-01', '2024-01-01'),
	(4, 1, 4, 'pending', '2024-01-01', '2024-01-01'), (5, 5, 6, 'rejected', '2024-01-01', '2024-01-01'), (6, 4, 2, 'cancelled', '2024-01-01', '2024-01-01');
INSERT INTO meetup (id, match_id, scheduled_time, status, created_at, updated_at) VALUES
	(1, 1, '2024-05-01 10:00:00.9', 'confirmed', '2024-01-01', '2024-01-01'), (2, 2, '2024-05-01 11:00', 'confirmed', '2024-01-01', '2024-01-01'),
	(3, 2, '2024-05-01 10:00', 'completed', '2024-01-01', '2024-01-01'), (4, 3, '2024-05-01', 'proposed', '2024-01-01', '2024-01-01'),
	(5, 5, '2024-05-01', 'cancelled', '2024-01-01', '2024-01-01');`

// gut takes away all that holds a rule.
const gut = `
DO $$
DECLARE
	statement text;
BEGIN
	FOR statement IN
		SELECT format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I CASCADE', conrelid::regclass, conname)
		FROM pg_constraint WHERE connamespace = current_schema()::regnamespace AND conrelid <> 0
		UNION ALL SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass) FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
		WHERE NOT tgisinternal AND c.relnamespace = current_schema()::regnamespace
		UNION ALL SELECT format('ALTER TABLE %I ALTER COLUMN %I DROP NOT NULL', table_name, column_name)
		FROM information_schema.columns WHERE table_schema = current_schema() AND is_nullable = 'NO' AND is_identity = 'NO'
	LOOP
		EXECUTE statement;
	END LOOP;
	FOR statement IN
		SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index JOIN pg_class c ON c.oid = indrelid
		WHERE indisunique AND c.relnamespace = current_schema()::regnamespace
	LOOP
		EXECUTE statement;
	END LOOP;
END
$$`

// plants break the rule that they are for. Where nothing else is said, the row with id 11 breaks it alone.
var plants = map[string]struct {
	sql  string
	want []string
}{
	"user_email_lower_key": {`INSERT INTO "user" SELECT 11, 'U1@X.org', password_hash, NULL, created_at FROM "user" WHERE id = 1`,
		[]string{"1+11"}},
	"profile_user_id_key": {`INSERT INTO profile SELECT * FROM profile WHERE user_id = 1`, []string{"1"}},
	"availabilityslot_period_check": {`
		INSERT INTO availabilityslot SELECT 11, 1, end_dt_utc, start_dt_utc, end_dt_local, start_dt_local, timezone, created_at, updated_at FROM availabilityslot WHERE id = 5;
		INSERT INTO availabilityslot SELECT 12, 2, end_dt_utc, end_dt_utc + '24:00:00.000001', end_dt_local, end_dt_local + '24:00:00.000001', timezone, created_at, updated_at
			FROM availabilityslot WHERE id = 5`, []string{"11", "12"}},
	"availabilityslot_no_overlap": {`
		INSERT INTO availabilityslot SELECT 11, 5, end_dt_utc - '1us'::interval, end_dt_utc + '1h', end_dt_local - '1us'::interval, end_dt_local + '1h', timezone, created_at, updated_at
			FROM availabilityslot WHERE id = 5`, []string{"5+11"}},
	"emailverificationtoken_token_key": {`INSERT INTO emailverificationtoken SELECT 11, 2, token, expires_at, NULL, created_at FROM emailverificationtoken WHERE id = 1`,
		[]string{"1+11"}},
	"passwordresettoken_token_key": {`INSERT INTO passwordresettoken SELECT 11, 2, token, expires_at, NULL, created_at FROM passwordresettoken WHERE id = 5`,
		[]string{"5+11"}},
	"match_not_self_check":  {sql: `INSERT INTO match VALUES (11, 4, 4, 'pending', '2024-01-01', '2024-01-01')`},
	"match_pair_key":        {`INSERT INTO match VALUES (11, 2, 1, 'pending', '2024-01-01', '2024-01-01')`, []string{"1+11"}},
	"meetup_duration_check": {`UPDATE meetup SET duration_seconds = CASE id WHEN 1 THEN 899 WHEN 5 THEN 86401 END`, []string{"1", "5"}},
	"meetup_live_key":       {`INSERT INTO meetup VALUES (11, 3, '2024-07-01', 'proposed', '2024-01-01', '2024-01-01')`, []string{"4+11"}},
	"soultribe_booking_period_check": {`
		UPDATE meetup SET scheduled_time = 'infinity' WHERE id = 1;
		DELETE FROM soultribe_booking WHERE meetup_id = 1`, []string{"meetup_time_check 1", "1"}},
	"soultribe_booking_no_overlap": {`
		UPDATE meetup SET status = 'confirmed', scheduled_time = '2024-05-01 10:59:59', duration_seconds = 900 WHERE id = 4;
		INSERT INTO soultribe_booking SELECT u, 4, '2024-05-01 10:59:59', '2024-05-01 11:14:59' FROM generate_series(2, 3) AS u`,
		[]string{"1+4", "2+4"}},

	"profile_user_id_fkey":                {`UPDATE profile SET user_id = 99 WHERE user_id = 5`, []string{"99"}},
	"availabilityslot_user_id_fkey":       {`UPDATE availabilityslot SET user_id = 99 WHERE id = 5`, []string{"5"}},
	"emailverificationtoken_user_id_fkey": {`UPDATE emailverificationtoken SET user_id = 99 WHERE id = 5`, []string{"5"}},
	"passwordresettoken_user_id_fkey":     {`UPDATE passwordresettoken SET user_id = 99 WHERE id = 5`, []string{"5"}},
	"match_user1_id_fkey":                 {`UPDATE match SET user1_id = 99 WHERE id = 5`, []string{"5"}},
	"match_user2_id_fkey":                 {`UPDATE match SET user2_id = 99 WHERE id = 5`, []string{"5"}},
	"meetup_match_id_fkey":                {`UPDATE meetup SET match_id = 99 WHERE id = 5`, []string{"5"}},

	"user_time_check": {`UPDATE "user" SET credentials_changed_at = CASE id WHEN 1 THEN timestamp 'infinity' END,
		email_verified_at = CASE id WHEN 2 THEN timestamp '0001-12-31 BC' WHEN 3 THEN '9999-12-31 23:59:59.999999' WHEN 4 THEN '0001-01-01' END`, []string{"1", "2"}},
	"profile_time_check":                {`UPDATE profile SET updated_at = '-infinity' WHERE user_id = 5`, []string{"5"}},
	"availabilityslot_time_check":       {`UPDATE availabilityslot SET created_at = '10000-01-01' WHERE id = 5`, []string{"5"}},
	"emailverificationtoken_time_check": {`UPDATE emailverificationtoken SET expires_at = 'infinity' WHERE id = 5`, []string{"5"}},
	"passwordresettoken_time_check":     {`UPDATE passwordresettoken SET used_at = 'infinity' WHERE id = 5`, []string{"5"}},
	"match_time_check":                  {`UPDATE match SET updated_at = 'infinity' WHERE id = 5`, []string{"5"}},
	"meetup_time_check":                 {`UPDATE meetup SET scheduled_time = 'infinity' WHERE id = 5`, []string{"5"}},

	"user_email_check": {`
		UPDATE "user" SET email = (ARRAY['', ' a@x.org', U&'b@x.org\2003', 'c@x.org' || chr(10), repeat('ü', 125) || '@x.or', repeat('ü', 124) || '@x.org'])[id]`,
		[]string{"1", "2", "3", "4", "5"}},
	"user_password_hash_check": {`UPDATE "user" SET password_hash = 'argon2$dev' WHERE id = 5`, []string{"5"}},
	"profile_timezone_check": {`UPDATE profile SET timezone = (ARRAY['Local', '../UTC', 'Mars/Olympus', NULL, 'europe/vienna', 'Etc/GMT+5'])[user_id]`,
		[]string{"1", "2", "3", "5"}},
	"availabilityslot_timezone_check": {`UPDATE availabilityslot SET timezone = (ARRAY['', 'Local', repeat('A', 100), 'Pacific/Auckland', ' UTC'])[id]`,
		[]string{"1", "2", "3", "5"}},
	"availabilityslot_local_check": {`
		UPDATE availabilityslot SET start_dt_local = start_dt_local - '1us'::interval WHERE id = 1;
		UPDATE availabilityslot SET end_dt_local = end_dt_local - '1h'::interval WHERE id = 2;
		UPDATE availabilityslot SET end_dt_local = 'infinity' WHERE id = 4;
		UPDATE availabilityslot SET start_dt_local = '-infinity', end_dt_local = '294276-12-31' WHERE id = 5`, []string{"1", "2", "4", "5"}},
	"availabilityslot_length_check": {`
		UPDATE availabilityslot SET end_dt_utc = start_dt_utc + '899.999999s'::interval, end_dt_local = start_dt_local + '899.999999s'::interval WHERE id = 2`, []string{"2"}},
	"emailverificationtoken_token_check": {`
		INSERT INTO emailverificationtoken SELECT n, 1, (ARRAY['', 'sha256:', 'sha256:' || repeat('0A', 32), 'sha256:' || repeat('0a', 33), repeat('ü', 512) || 'x', repeat('ü', 512)])[n], created_at, NULL, created_at
		FROM emailverificationtoken, generate_series(1, 6) AS n WHERE id = 5;
		DELETE FROM emailverificationtoken WHERE id = 5 AND token ~ '^sha256:[0-9a-f]{64}$'`, []string{"1", "2", "3", "4", "5"}},
	"emailverificationtoken_change_check": {`UPDATE emailverificationtoken SET changes_email = true, sent_to = CASE id WHEN 1 THEN 'a@x.org' END`, []string{"5"}},
	"passwordresettoken_token_check":      {`UPDATE passwordresettoken SET token = 'sha256:abc' WHERE id = 5`, []string{"5"}},
	"match_status_check":                  {`UPDATE match SET status = 'suggested' WHERE id = 5`, []string{"5"}},
	"meetup_status_check":                 {`UPDATE meetup SET status = 'canceled' WHERE id = 5`, []string{"5"}},
	"meetup_match_accepted_check": {`
		UPDATE match SET status = 'cancelled' WHERE id = 1;
		UPDATE meetup SET status = 'proposed' WHERE id = 5`, []string{"1", "5"}},
	"meetup_proposer_check": {`UPDATE meetup SET proposer_id = (ARRAY[2, 3, 2, 99, 5])[id]`, []string{"3", "4"}},
	"meetup_booked_check": {`
		UPDATE soultribe_booking SET starts_at = starts_at + '1s'::interval WHERE meetup_id = 1 AND user_id = 2;
		DELETE FROM soultribe_booking WHERE meetup_id = 2 AND user_id = 3`, []string{"1", "2"}},
	"soultribe_booking_meetup_check": {`
		INSERT INTO soultribe_booking SELECT u, m, '2024-06-01', '2024-06-02' FROM (VALUES (5, 5), (99, 1), (1, 99)) AS v (u, m)`, []string{"1", "5", "99"}},

	// A booking without a value is not that of its meetup.
	"soultribe_booking_user_id_not_null":   {`UPDATE soultribe_booking SET user_id = NULL WHERE user_id = 3`, []string{"2", "meetup_booked_check 2"}},
	"soultribe_booking_meetup_id_not_null": {`UPDATE soultribe_booking SET meetup_id = NULL WHERE user_id = 3`, []string{"0", "meetup_booked_check 2"}},
	"soultribe_booking_starts_at_not_null": {`UPDATE soultribe_booking SET starts_at = NULL WHERE user_id = 3`, []string{"2", "meetup_booked_check 2"}},
	"soultribe_booking_ends_at_not_null":   {`UPDATE soultribe_booking SET ends_at = NULL WHERE user_id = 3`, []string{"2", "meetup_booked_check 2"}},
}

// nullPlant empties a column of row 5, which nothing refers to: the rows that do go first.
func nullPlant(rule schema.Rule) (sql, id string) {
	column := strings.TrimSuffix(strings.TrimPrefix(rule.Name, rule.Table+"_"), "_not_null")
	key, id := "id", "5"
	if rule.Table == "profile" {
		key = "user_id"
	}
	if column == key {
		id = "0"
	}
	sql = fmt.Sprintf(`UPDATE %q SET %s = NULL WHERE %s = 5`, rule.Table, column, key)
	switch {
	case rule.Table == "user" && column == "id":
		sql = `UPDATE "user" SET id = NULL WHERE id = 6; UPDATE match SET user2_id = 4 WHERE id = 5;
			DELETE FROM profile WHERE user_id = 6`
	case rule.Table == "match" && column == "id":
		sql = `DELETE FROM meetup WHERE id = 5; ` + sql
	}
	return sql, id
}

// Every rule finds the row that breaks it, and no other rule does.
func TestAuditFindsWhatBreaksEachRule(t *testing.T) {
	t.Parallel()
	pool := newPool(t, sqlalchemy, audited)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	exec(t, pool, gut)
	requireClean(t, pool)
	rules := schema.Rules()
	require.Len(t, plants, len(slices.DeleteFunc(slices.Clone(rules), func(r schema.Rule) bool {
		_, special := plants[r.Name]
		return !special
	})), "a plant for no rule")
	for _, rule := range rules {
		plant, ok := plants[rule.Name]
		if !ok && strings.HasSuffix(rule.Name, "_not_null") {
			var id string
			plant.sql, id = nullPlant(rule)
			plant.want = []string{id}
		}
		require.NotEmpty(t, plant.sql, "no plant for %s", rule.Name)
		if plant.want == nil {
			plant.want = []string{"11"}
		}
		found := auditOf(t, pool, plant.sql)
		var got []string
		for _, v := range found {
			_, ids, ok := strings.Cut(strings.TrimSuffix(v.String(), ": "+rule.Text+" ("+rule.Name+")"), " ")
			require.True(t, ok)
			if v.Rule == rule.Name {
				require.Equal(t, rule.Table, v.Table)
			} else {
				ids = v.Rule + " " + strings.SplitN(ids, ":", 2)[0]
			}
			got = append(got, ids)
		}
		require.ElementsMatch(t, plant.want, got, "%s: %v", rule.Name, found)
	}
	requireClean(t, pool)
}

// auditOf is what is found in what a statement would leave.
func auditOf(t *testing.T, pool *pgxpool.Pool, statement string) []schema.Violation {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	exec(t, tx, statement)
	found, err := schema.Audit(t.Context(), tx)
	require.NoError(t, err, statement)
	return found
}

func requireClean(t *testing.T, db soultribe.DB, opts ...schema.Option) {
	t.Helper()
	found, err := schema.Audit(t.Context(), db, opts...)
	require.NoError(t, err)
	require.Empty(t, found)
}

// newStore is a Store on pool whose clock the test moves, and whose passwords cost next to nothing.
func newStore(t *testing.T, pool *pgxpool.Pool, now *time.Time, opts ...soultribe.Option) *soultribe.Postgres {
	t.Helper()
	opts = append(opts, soultribe.WithClock(func() time.Time { return *now }),
		soultribe.WithPasswordParams(soultribe.PasswordParams{MemoryKiB: 64, Iterations: 1, Parallelism: 1}))
	store, err := soultribe.New(pool, opts...)
	require.NoError(t, err)
	return store
}

// What the library itself stores is without fault.
func TestAuditOfWhatTheStoreWrites(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := newPool(t)
	require.NoError(t, schema.Migrate(ctx, pool))
	requireClean(t, pool)
	now := time.Date(2026, 3, 2, 9, 0, 0, 123_456_000, time.UTC)
	store := newStore(t, pool, &now)

	// A week plan over a year, so that all clocks change twice; between them the zones have most offsets.
	zones := []string{"Europe/Vienna", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Kiritimati", "Africa/Casablanca", "UTC"}
	week := []soultribe.Weekly{{Day: time.Saturday, From: 0, To: 23 * time.Hour}, {Day: time.Sunday, From: 30 * time.Minute, To: 3 * time.Hour}}
	users := make([]soultribe.UserID, len(zones))
	for i, zone := range zones {
		u, err := store.CreateUser(ctx, soultribe.NewUser{Email: fmt.Sprintf(" Üser%d@example.org\n", i), Password: "correct horse",
			Profile: &soultribe.NewProfile{DisplayName: "U", Timezone: zone}})
		require.NoError(t, err)
		users[i] = u.ID
		require.NoError(t, store.MarkVerified(ctx, u.ID))
		slots, err := soultribe.WeeklySlots(week, zone, now.Add(24*time.Hour), now.AddDate(1, 0, 0), soultribe.DSTCompatible)
		require.NoError(t, err)
		_, err = store.AddSlots(ctx, u.ID, slots)
		require.NoError(t, err)
		start := time.Date(9999, 12, 31, 23, 0, 0, 1_999, time.UTC)
		slot, err := store.AddSlot(ctx, u.ID, soultribe.NewSlot{Start: start, End: start.Add(15 * time.Minute), Timezone: zone})
		require.NoError(t, err)
		_, err = store.UpdateSlot(ctx, u.ID, slot.ID, soultribe.NewSlot{Start: start.Add(time.Minute), End: start.Add(30 * time.Minute), Timezone: zones[(i+1)%len(zones)]})
		require.NoError(t, err)
	}

	// Each pair gets as far as its number has it.
	var n int
	for i, a := range users {
		for _, b := range users[i+1:] {
			n++
			m, err := store.RequestMatch(ctx, a, b)
			require.NoError(t, err)
			switch n % 7 {
			case 0:
				continue
			case 1:
				_, err = store.RejectMatch(ctx, b, m.ID)
				require.NoError(t, err)
				continue
			}
			_, err = store.AcceptMatch(ctx, b, m.ID)
			require.NoError(t, err)
			times := soultribe.Times{Start: now.Add(time.Duration(n) * 2 * time.Hour), Duration: 45*time.Minute + time.Millisecond}
			meetup, err := store.ProposeMeetup(ctx, a, soultribe.NewMeetup{MatchID: m.ID, Times: times})
			require.NoError(t, err)
			if n%7 > 2 {
				meetup, err = store.ConfirmMeetup(ctx, b, meetup.ID, meetup.Times)
				require.NoError(t, err)
			}
			switch n % 7 {
			case 4:
				_, err = store.RescheduleMeetup(ctx, b, meetup.ID, soultribe.Reschedule{Seen: meetup.Times, To: soultribe.Times{Start: times.Start.Add(time.Minute)}})
			case 5:
				_, err = store.CancelMeetup(ctx, b, meetup.ID)
			case 6:
				_, err = store.CancelMatch(ctx, a, m.ID)
			}
			require.NoError(t, err)
		}
	}
	reset, ok, err := store.IssuePasswordReset(ctx, "Üser0@example.org")
	require.NoError(t, err)
	require.True(t, ok)
	change, err := store.IssueEmailChange(ctx, users[1], "correct horse", "new@example.org")
	require.NoError(t, err)
	requireClean(t, pool)
	now = now.Add(time.Minute)
	_, err = store.ResetPassword(ctx, reset.Secret(), "battery staple")
	require.NoError(t, err)
	_, err = store.VerifyEmail(ctx, change.Secret())
	require.NoError(t, err)
	_, err = store.IssueEmailChange(ctx, users[1], "correct horse", "newer@example.org")
	require.NoError(t, err)

	_, err = store.DeleteUser(ctx, users[2])
	require.NoError(t, err)
	require.NotEmpty(t, lines(t, pool, `SELECT DISTINCT status FROM meetup WHERE status = 'confirmed'`))
	now = now.Add(24 * time.Hour)
	settled, err := store.Settle(ctx, soultribe.SettlePolicy{})
	require.NoError(t, err)
	require.NotEmpty(t, settled.Completed)
	requireClean(t, pool)
}

// A hash is reported when, and only when, a Store says that it cannot be used.
func TestAuditOfPasswordHashes(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	const salt, key = "Y53fTtr1rTH8D3HTnEquBg", "vUTstBPk13W9sTn9fhenKA"
	phc := func(params, salt, key string) string { return "$argon2id$v=19$" + params + "$" + salt + "$" + key }
	hashes := []string{
		"", "argon2$dev", "x", phc("m=64,t=1,p=1", salt, key), phc("m=64,t=1,p=8", salt, key), phc("m=63,t=1,p=8", salt, key),
		phc("m=8,t=1,p=1", salt, key), phc("m=7,t=1,p=1", salt, key), phc("m=64,t=0,p=1", salt, key), phc("m=64,t=1,p=0", salt, key),
		phc("m=64,t=100,p=1", salt, key), phc("m=64,t=101,p=1", salt, key), phc("m=2040,t=1,p=255", salt, key), phc("m=2048,t=1,p=256", salt, key),
		phc("m=4294967295,t=1,p=1", salt, key), phc("m=4194305,t=1,p=1", salt, key), phc("m=99999999999999999999,t=1,p=1", salt, key),
		phc("m=064,t=1,p=1", salt, key), phc("m=64,t=01,p=1", salt, key), phc("m=64,t=1,p=1,x=1", salt, key), phc("t=1,m=64,p=1", salt, key),
		phc("m=64,t=1,p=1", salt[:10], key), phc("m=64,t=1,p=1", salt[:11], key), phc("m=64,t=1,p=1", "AAAAAAAAAAA", key), phc("m=64,t=1,p=1", "", key),
		phc("m=64,t=1,p=1", salt, "AAAAAAAAAAAAAAAAAAAAAA"), phc("m=64,t=1,p=1", salt, "AAAAAAAAAAAAAAAAAAAAAB"), phc("m=64,t=1,p=1", salt, "AAAAAAAAAAAAAAAAAAAAA"),
		phc("m=64,t=1,p=1", salt, "AAAAAAAAAAAAAAAAAAAA"), phc("m=64,t=1,p=1", salt, ""), phc("m=64,t=1,p=1", salt, key+"=="), phc("m=64,t=1,p=1", salt, key+"\n"),
		phc("m=64,t=1,p=1", salt, "AAAAAAAAAAAAAAAAAAAAAAA"), phc("m=64,t=1,p=1", salt, "AAAAAAAAAAAAAAAAAAAAAAB"), phc("m=64,t=1,p=1", salt, "-_AAAAAAAAAAAAAAAAAAAA"),
		phc("m=64,t=1,p=1", salt, strings.Repeat("AAAA", 341)+"AA"), phc("m=64,t=1,p=1", salt, strings.Repeat("AAAA", 341)+"AAA"),
		phc("m=64,t=1,p=1", strings.Repeat("AAAA", 1000), key), phc("m=64,t=1,p=1", strings.Repeat("AAAA", 1012), key),
		"$argon2i$v=19$m=64,t=1,p=1$" + salt + "$" + key, "$argon2id$v=16$m=64,t=1,p=1$" + salt + "$" + key, " " + phc("m=64,t=1,p=1", salt, key),
		"$argon2id$m=64,t=1,p=1$" + salt + "$" + key, phc("m=64,t=1,p=1", salt, key) + "$",
	}
	now := time.Now()
	var log strings.Builder
	store := newStore(t, pool, &now, soultribe.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	unusable := []int64{}
	for i, hash := range hashes {
		email := fmt.Sprintf("u%d@x.org", i)
		_, err := pool.Exec(t.Context(), `INSERT INTO "user" (id, email, password_hash, created_at) VALUES ($1, $2, $3, '2024-01-01')`, i+1, email, hash)
		require.NoError(t, err)
		log.Reset()
		_, err = store.Authenticate(t.Context(), email, "correct horse")
		require.ErrorIs(t, err, soultribe.ErrInvalidCredentials)
		if log.Len() > 0 {
			unusable = append(unusable, int64(i+1))
		}
	}
	found, err := schema.Audit(t.Context(), pool)
	require.NoError(t, err)
	reported := []int64{}
	for _, v := range found {
		require.Equal(t, "user_password_hash_check", v.Rule)
		reported = append(reported, v.IDs...)
	}
	require.Equal(t, unusable, reported)
	require.Less(t, len(reported), len(hashes)-5)
}

// texts are violations as they print.
func texts(violations []schema.Violation) []string {
	all := []string{}
	for _, v := range violations {
		all = append(all, v.String())
	}
	return all
}

// dirtOfPeople are the violations in [people].
var dirtOfPeople = []string{
	"user 1: password hashes that no password matches: not argon2id, malformed, or out of bounds (user_password_hash_check)",
	"user 2: password hashes that no password matches: not argon2id, malformed, or out of bounds (user_password_hash_check)",
	"user 3: password hashes that no password matches: not argon2id, malformed, or out of bounds (user_password_hash_check)",
	"user 4: password hashes that no password matches: not argon2id, malformed, or out of bounds (user_password_hash_check)",
	"profile 1: time zones that are not known (profile_timezone_check)",
	"availabilityslot 2: time zones that are not known (availabilityslot_timezone_check)",
	"passwordresettoken 1: tokens that no secret matches: empty, longer than 1,024 bytes, or not the hash that they are marked as (passwordresettoken_token_check)",
	"match 3: statuses that the library does not know (match_status_check)",
	"meetup 3: statuses that the library does not know (meetup_status_check)",
}

// Before and after Migrate, in whatever schema and session.
func TestAuditInAnySession(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	names := []string{"public", "it's", "{{outside}}", `a\b "c"`, "old.user"}
	plain := connect(t, databaseURL)
	for _, name := range names {
		quoted := pgx.Identifier{name}.Sanitize()
		exec(t, plain, "BEGIN; CREATE SCHEMA IF NOT EXISTS "+quoted+"; SET LOCAL search_path = "+quoted+";"+sqlalchemy+people+`
			INSERT INTO availabilityslot SELECT 4, user_id, end_dt_utc - interval '1 minute', end_dt_utc + interval '1 hour',
				end_dt_local - interval '1 minute', end_dt_local + interval '1 hour', timezone, created_at, updated_at FROM availabilityslot WHERE id = 3;
			COMMIT`)
	}
	overlap := "availabilityslot 3+4: overlapping slots of a user (availabilityslot_no_overlap)"
	modes := []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe,
		pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}
	for i, name := range names {
		pool := connect(t, databaseURL, maxConns(1), func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = modes[i] },
			setting("TimeZone", "Pacific/Kiritimati"), setting("DateStyle", "SQL, DMY"), setting("search_path", "nowhere"),
			setting("default_transaction_isolation", "serializable"), setting("standard_conforming_strings", "off"),
			setting("IntervalStyle", "iso_8601"), setting("bytea_output", "escape"))
		found, err := schema.Audit(t.Context(), pool, schema.In(name))
		require.NoError(t, err)
		require.Equal(t, append([]string{overlap}, dirtOfPeople...), texts(found), "%s %v", name, modes[i])

		exec(t, plain, "DELETE FROM "+pgx.Identifier{name, "availabilityslot"}.Sanitize()+" WHERE id = 4")
		require.NoError(t, schema.Migrate(t.Context(), plain, schema.In(name)))
		found, err = schema.Audit(t.Context(), pool, schema.In(name))
		require.NoError(t, err)
		require.Equal(t, dirtOfPeople, texts(found), "%s %v", name, modes[i])
		require.Equal(t, []string{"nowhere off"}, lines(t, pool,
			`SELECT current_setting('search_path') || ' ' || current_setting('transaction_read_only')`, pgx.QueryExecModeExec))
	}
}

// A caller's transaction stays the caller's, with its settings; what the audit does in it is read.
func TestAuditInsideATransaction(t *testing.T) {
	t.Parallel()
	pool := newPool(t, sqlalchemy, audited)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	before := dump(t, pool)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	for name, begin := range map[string]func() (soultribe.DB, func()){
		"pgx": func() (soultribe.DB, func()) {
			tx, err := conn.Begin(t.Context())
			require.NoError(t, err)
			return tx, func() { _ = tx.Rollback(t.Context()) }
		},
		"plain": func() (soultribe.DB, func()) {
			exec(t, conn, "BEGIN")
			return conn, func() { exec(t, conn, "ROLLBACK") }
		},
		"connection": func() (soultribe.DB, func()) {
			exec(t, conn, "BEGIN")
			return conn.Conn(), func() { exec(t, conn, "ROLLBACK") }
		},
	} {
		db, end := begin()
		exec(t, db, `SET LOCAL search_path = nowhere`, `UPDATE public.match SET status = 'suggested' WHERE id = 5`)
		found, err := schema.Audit(t.Context(), db)
		require.NoError(t, err, name)
		require.Equal(t, []string{"match 5: statuses that the library does not know (match_status_check)"}, texts(found), name)
		exec(t, db, `UPDATE public.match SET status = 'rejected' WHERE id = 5`) // it may still write
		requireClean(t, db)
		require.Equal(t, []string{"nowhere off on"}, lines(t, db,
			`SELECT concat_ws(' ', current_setting('search_path'), current_setting('transaction_read_only'), current_setting('row_security'))`), name)
		end()
	}
	require.Equal(t, before, dump(t, pool))
}

// An audit that runs keeps nobody waiting, and sees one state of the database.
func TestAuditBesideWriters(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	writer := connect(t, databaseURL, setting("lock_timeout", "1"))
	exec(t, writer, sqlalchemy, audited)
	require.NoError(t, schema.Migrate(t.Context(), writer))
	write := func(ctx context.Context) {
		_, err := writer.Exec(ctx, `
			UPDATE "user" SET email = email || ' '; UPDATE profile SET timezone = 'x'; UPDATE availabilityslot SET timezone = 'x';
			UPDATE emailverificationtoken SET token = token || ' '; UPDATE passwordresettoken SET token = token || ' ';
			UPDATE match SET status = 'x'; UPDATE meetup SET status = 'x'; DELETE FROM meetup WHERE id = 2`)
		require.NoError(t, err)
	}
	beside := &besideRules{do: map[int]func(context.Context){
		2: write,
		len(schema.Rules()): func(ctx context.Context) {
			write(ctx)
			require.Equal(t, []string{"AccessShareLock"}, lines(t, writer, `SELECT DISTINCT mode FROM pg_locks JOIN pg_stat_activity USING (pid)
				WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND locktype = 'relation'`))
		},
	}}
	pool := connect(t, databaseURL, maxConns(1), func(c *pgxpool.Config) { c.ConnConfig.Tracer = beside })
	requireClean(t, pool)
	require.Equal(t, len(schema.Rules()), beside.begun)
	found, err := schema.Audit(t.Context(), pool)
	require.NoError(t, err)
	require.Len(t, found, 6+5+5+1+1+6+4)
}

// besideRules does something when the search for what breaks the n-th rule begins.
type besideRules struct {
	begun int
	do    map[int]func(context.Context)
}

func (b *besideRules) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.HasPrefix(data.SQL, "-- name: ") {
		b.begun++
		if do := b.do[b.begun]; do != nil {
			do(ctx)
		}
	}
	return ctx
}

func (b *besideRules) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestAuditRefuses(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	for name, test := range map[string]struct{ change, want string }{
		"columns": {`ALTER TABLE match RENAME COLUMN user1_id TO a_user_id; ALTER TABLE match RENAME COLUMN user2_id TO b_user_id`,
			"is of another shape (version 0 of " + latest + "): column match.user1_id is missing; column match.user2_id is missing"},
		"types": {`ALTER TABLE match ALTER COLUMN created_at TYPE timestamptz; ALTER TABLE meetup ADD COLUMN proposer_id uuid`,
			"is of another shape (version 0 of " + latest + "): column match.created_at is timestamp with time zone, not timestamp without time zone; " +
				"column meetup.proposer_id is uuid, not integer or bigint"},
		"a view":   {`DROP TABLE profile; CREATE VIEW profile AS SELECT 1 AS user_id`, "is of another shape (version 0 of " + latest + "): profile is not a table"},
		"a newer":  {newerVersion, "is at version 99, this library knows " + latest + ": upgrade the library"},
		"no table": {`DROP TABLE "user", profile, availabilityslot, emailverificationtoken, passwordresettoken, match, meetup, refreshtoken`, "has none of the tables: run schema.Migrate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, in := newSchema(t, databaseURL, sqlalchemy, test.change)
			found, err := schema.Audit(t.Context(), pool, in)
			require.Nil(t, found)
			var mismatch *schema.MismatchError
			require.ErrorAs(t, err, &mismatch)
			require.ErrorIs(t, err, soultribe.ErrSchema)
			require.EqualError(t, err, fmt.Sprintf("soultribe: schema %q %s", mismatch.Schema, test.want))
		})
	}
}

const newerVersion = `CREATE TABLE soultribe_schema_version (id int, version_id bigint, is_applied boolean, tstamp timestamp);
	INSERT INTO soultribe_schema_version VALUES (1, 99, true, now())`

// What is not there is not looked for, and what holds no rule does not matter.
func TestAuditOfSomeTables(t *testing.T) {
	t.Parallel()
	databaseURL := newDatabase(t)
	for name, change := range map[string]string{
		"no meetup":     `DROP TABLE meetup`,
		"only user":     `DROP TABLE meetup, match, profile, availabilityslot, emailverificationtoken, passwordresettoken`,
		"no user":       `DROP TABLE "user" CASCADE`,
		"no match":      `DROP TABLE match CASCADE`,
		"no keys":       gut,
		"our columns":   `ALTER TABLE meetup ADD COLUMN duration_seconds bigint, ADD COLUMN proposer_id bigint; ALTER TABLE "user" ADD COLUMN credentials_changed_at timestamp`,
		"other columns": `ALTER TABLE match ADD COLUMN score int NOT NULL DEFAULT 1; ALTER TABLE meetup ADD COLUMN held_at timestamptz DEFAULT 'infinity'`,
		"other rules":   `ALTER TABLE match ADD CONSTRAINT match_not_self_check CHECK (true); ALTER TABLE meetup ALTER COLUMN id DROP DEFAULT`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, in := newSchema(t, databaseURL, sqlalchemy, audited, change)
			requireClean(t, pool, in)
		})
	}
}

// A number that is out of all bounds is reported, and does not end the audit.
func TestAuditOfWhatOverflows(t *testing.T) {
	t.Parallel()
	pool := newPool(t, sqlalchemy, audited)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	exec(t, pool, gut, `
		ALTER TABLE meetup ALTER COLUMN duration_seconds TYPE bigint;
		UPDATE meetup SET status = 'confirmed', scheduled_time = '294276-12-31 23:59', duration_seconds = 9223372036854775807 WHERE id = 1;
		UPDATE meetup SET status = 'confirmed', scheduled_time = '4713-11-24 00:00:00 BC', duration_seconds = -9223372036854775808 WHERE id = 2;
		UPDATE availabilityslot SET start_dt_utc = '294276-12-31 23:59', end_dt_utc = '294276-12-31 23:59:59', start_dt_local = '294276-12-31', end_dt_local = '-infinity' WHERE id = 1;
		UPDATE availabilityslot SET start_dt_utc = '4713-11-24 00:00:00 BC', end_dt_utc = 'infinity' WHERE id = 2`)
	found, err := schema.Audit(t.Context(), pool)
	require.NoError(t, err)
	var rules []string
	for _, v := range found {
		rules = append(rules, fmt.Sprint(v.Rule, v.IDs))
	}
	require.Equal(t, []string{
		"availabilityslot_period_check[1]", "availabilityslot_period_check[2]", "availabilityslot_no_overlap[1 2 3]", "meetup_duration_check[1]", "meetup_duration_check[2]",
		"soultribe_booking_period_check[1]", "availabilityslot_time_check[1]", "availabilityslot_time_check[2]", "meetup_time_check[1]", "meetup_time_check[2]",
	}, rules)
}

// Rows that a policy hides are not taken for faultless.
func TestAuditSeesThroughPolicies(t *testing.T) {
	t.Parallel()
	role := "schema_audit_" + run
	admin(t, "CREATE ROLE "+role)
	databaseURL := newDatabase(t)
	t.Cleanup(func() { admin(t, "DROP ROLE "+role) })
	plain := connect(t, databaseURL)
	exec(t, plain, sqlalchemy, people, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO "+role,
		`ALTER TABLE match ENABLE ROW LEVEL SECURITY`, "CREATE POLICY mine ON match TO "+role+" USING (user1_id = 1)")
	conn, err := plain.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	exec(t, conn, "SET ROLE "+role)
	found, err := schema.Audit(t.Context(), conn)
	require.Equal(t, "42501", sqlState(err), "%v", err)
	require.Nil(t, found)
	require.ErrorContains(t, err, `soultribe: audit schema "public": `)
	exec(t, conn, "RESET ROLE; DROP OWNED BY "+role)
}

// Names are for life: what is reported is sorted out by them.
func TestRules(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, rule := range schema.Rules() {
		require.False(t, names[rule.Name], rule.Name)
		names[rule.Name] = true
		require.True(t, strings.HasPrefix(rule.Name, rule.Table+"_") || strings.HasPrefix(rule.Name, "soultribe_booking_"), rule.Name)
		require.Equal(t, rule.Table+" 1+2: "+rule.Text+" ("+rule.Name+")", schema.Violation{Rule: rule.Name, Table: rule.Table, IDs: []int64{1, 2}}.String())
	}
	require.Len(t, names, 85)
	require.Equal(t, "match 3: other", schema.Violation{Rule: "other", Table: "match", IDs: []int64{3}}.String())
}
