package soultribe_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// TestRegistrationRace has 32 visitors register one address in several spellings at one time, half of them in
// transactions, of which the next statement must see the account that won.
func TestRegistrationRace(t *testing.T) {
	t.Parallel()
	const calls = 32
	ctx := t.Context()
	db := soultribetest.New(t)
	st := opened(t, db, calls)
	for round := range 10 {
		spellings := []string{"Ann%d@x.org", "ann%d@x.org", "ANN%d@X.ORG", "aNN%d@x.Org"}
		var winner atomic.Int64
		counts := atOnce(calls, func(i int) error {
			email := fmt.Sprintf(spellings[i/2%4], round)
			register := func(ctx context.Context, st soultribe.Store) error {
				u, err := st.CreateUser(ctx, soultribe.NewUser{Email: email, Password: otherPassword, Profile: &soultribe.NewProfile{DisplayName: fmt.Sprint(i)}})
				if err == nil {
					winner.Store(int64(u.ID))
				}
				return err
			}
			if i%2 == 0 {
				return register(ctx, st)
			}
			var result error
			if err := st.InTx(ctx, func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
				result = register(ctx, st)
				if _, err := st.AccountByEmail(ctx, email); err != nil {
					return fmt.Errorf("the transaction sees no account: %w", err)
				}
				return nil
			}); err != nil {
				return err
			}
			return result
		})
		require.Equal(t, map[string]int{"": 1, "email_taken": calls - 1}, counts)
		require.Equal(t, []string{fmt.Sprintf("%d|%d", winner.Load(), winner.Load())},
			db.Query(t, `SELECT u.id, p.user_id FROM "user" u LEFT JOIN profile p ON p.user_id = u.id WHERE lower(u.email) = $1`, fmt.Sprintf("ann%d@x.org", round)))
	}
	require.Equal(t, []string{"10|10"}, db.Query(t, `SELECT (SELECT count(*) FROM "user"), (SELECT count(*) FROM profile)`))
}

// TestTakenAddressSparesSequence signs up for a taken address again and again: no id is used up.
func TestTakenAddressSparesSequence(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	first := signUp(t, db, "ann@x.org")
	for range 50 {
		_, err := db.Store.CreateUser(ctx, soultribe.NewUser{Email: "ANN@x.org", Password: otherPassword})
		require.ErrorIs(t, err, soultribe.ErrEmailTaken)
	}
	require.Equal(t, first.ID+1, signUp(t, db, "bob@x.org").ID)
}

// TestOpenRegistrationDecides has a visitor wait for one whose transaction is rolled back, and so get the address.
func TestOpenRegistrationDecides(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	for _, commit := range []bool{false, true} {
		tx, err := db.Pool.Begin(ctx)
		require.NoError(t, err)
		_, err = db.Store.WithTx(tx).CreateUser(ctx, soultribe.NewUser{Email: "Ann@x.org", Password: otherPassword})
		if commit {
			require.ErrorIs(t, err, soultribe.ErrEmailTaken)
			require.NoError(t, tx.Commit(ctx))
			continue
		}
		require.NoError(t, err)
		result := make(chan error)
		go func() {
			_, err := db.Store.CreateUser(ctx, soultribe.NewUser{Email: "ann@x.org", Password: otherPassword})
			result <- err
		}()
		waitForBlocked(t, db)
		require.NoError(t, tx.Rollback(ctx))
		require.NoError(t, <-result)
	}
	require.Equal(t, []string{"ann@x.org"}, db.Query(t, `SELECT email FROM "user"`))
}

// TestErrorsTellNoAddress has the host's trigger quote what it is given.
func TestErrorsTellNoAddress(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	_, err := db.Pool.Exec(ctx, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			RAISE EXCEPTION 'I do not like % %', NEW.email, NEW.password_hash USING ERRCODE = split_part(NEW.email, '@', 1); END $$;
		CREATE TRIGGER refuse BEFORE INSERT ON "user" FOR EACH ROW EXECUTE FUNCTION refuse()`)
	require.NoError(t, err)
	for _, code := range []string{"P0001", "23514", "23505", "22023"} {
		_, err := db.Store.CreateUser(ctx, soultribe.NewUser{Email: code + "@canary.org", Password: otherPassword})
		require.Error(t, err)
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg)
		require.Equal(t, code, pg.Code)
		for _, text := range []string{err.Error(), fmt.Sprintf("%v", err), fmt.Sprintf("%s", err)} {
			require.NotContains(t, text, "canary")
			require.NotContains(t, text, "argon2")
		}
	}
}

// TestDirtyUsers reads rows that other applications stored.
func TestDirtyUsers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	first, last := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	for i, test := range []struct {
		email, created, verified, changed string
		want                              soultribe.User
	}{
		{"no address", "2025-01-01", "", "", soultribe.User{CreatedAt: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)}},
		{"", "infinity", "infinity", "", soultribe.User{CreatedAt: last, EmailVerifiedAt: &last}},
		{"a@b@c", "-infinity", "-infinity", "infinity", soultribe.User{CreatedAt: first, EmailVerifiedAt: &first, CredentialsChangedAt: last}},
		{"Ünï <x>", "4713-01-01 BC", "294276-12-31 23:59:59.999999", "0044-03-15 BC", soultribe.User{CreatedAt: first, EmailVerifiedAt: &last, CredentialsChangedAt: first}},
		{"x" + strings.Repeat("y", 1000) + "\n", "9999-12-31 23:59:59.999999", "", "10000-01-01", soultribe.User{CreatedAt: last, CredentialsChangedAt: last}},
	} {
		var id int64
		require.NoError(t, db.Pool.QueryRow(ctx, `INSERT INTO "user" (email, password_hash, created_at, email_verified_at, credentials_changed_at)
			VALUES ($1, 'x', $2::text::timestamp, nullif($3, '')::timestamp, nullif($4, '')::timestamp) RETURNING id`,
			test.email, test.created, test.verified, test.changed).Scan(&id))
		test.want.ID, test.want.Email = soultribe.UserID(id), test.email
		if test.changed == "" {
			test.want.CredentialsChangedAt = test.want.CreatedAt
		}
		u, err := db.Store.User(ctx, test.want.ID)
		require.NoError(t, err, i)
		require.Equal(t, test.want, u)
		e, err := db.Store.Export(ctx, test.want.ID)
		require.NoError(t, err, i)
		require.Equal(t, test.want, e.User)
		if test.email != "" && len(test.email) <= 254 {
			u, err = db.Store.UserByEmail(ctx, test.email)
			require.NoError(t, err)
			require.Equal(t, test.want, u)
		}
		_, err = json.Marshal(e)
		require.NoError(t, err)
	}
	page, err := db.Store.Users(ctx, soultribe.UserQuery{})
	require.NoError(t, err)
	require.Len(t, page.Items, 5)
}

// population is an account with rows in every table, a partner who shares them, and a bystander.
type population struct {
	ann, bob, eve soultribe.User
	pending, live soultribe.Match
	meetup        soultribe.Meetup
}

func populate(t testing.TB, db *soultribetest.DB) population {
	t.Helper()
	ctx := t.Context()
	p := population{ann: db.User(t), bob: db.User(t), eve: db.User(t)}
	require.NoError(t, db.Store.SetPassword(ctx, p.ann.ID, otherPassword))
	r, err := db.Store.RequestMatch(ctx, p.eve.ID, p.ann.ID)
	require.NoError(t, err)
	p.pending = r.Match
	p.live = db.Matched(t, p.bob.ID, p.ann.ID)
	p.meetup = db.Meetup(t, p.live, soultribe.Times{Start: db.Clock.Now().Add(time.Hour), Duration: time.Hour})
	db.Meetup(t, db.Matched(t, p.bob.ID, p.eve.ID), soultribe.Times{Start: db.Clock.Now().Add(4 * time.Hour), Duration: time.Hour})
	for _, u := range []soultribe.User{p.ann, p.bob, p.eve} {
		start := db.Clock.Now().Add(24 * time.Hour)
		_, err := db.Store.AddSlots(ctx, u.ID, []soultribe.NewSlot{
			{Start: start, End: start.Add(time.Hour), Timezone: "Europe/Vienna"}, {Start: start.Add(2 * time.Hour), End: start.Add(3 * time.Hour), Timezone: "Asia/Tokyo"},
		})
		require.NoError(t, err)
		_, _, err = db.Store.IssuePasswordReset(ctx, u.Email)
		require.NoError(t, err)
		sqlToken(t, db, "emailverificationtoken", u.ID, fmt.Sprint("plain text of ", u.ID), "2026-04-01")
	}
	_, err = db.Store.IssueEmailChange(ctx, p.ann.ID, otherPassword, "new@x.org")
	require.NoError(t, err)
	db.Clock.Advance(time.Second)
	p.ann, err = db.Store.User(ctx, p.ann.ID)
	require.NoError(t, err)
	return p
}

// rowsOf counts the rows of each table that name a user.
func rowsOf(t testing.TB, db *soultribetest.DB, id soultribe.UserID) string {
	t.Helper()
	return db.Query(t, `SELECT (SELECT count(*) FROM "user" WHERE id = $1), (SELECT count(*) FROM profile WHERE user_id = $1),
		(SELECT count(*) FROM availabilityslot WHERE user_id = $1), (SELECT count(*) FROM emailverificationtoken WHERE user_id = $1),
		(SELECT count(*) FROM passwordresettoken WHERE user_id = $1), (SELECT count(*) FROM match WHERE $1 IN (user1_id, user2_id)),
		(SELECT count(*) FROM meetup mt LEFT JOIN match m ON m.id = mt.match_id WHERE $1 IN (m.user1_id, m.user2_id, mt.proposer_id) OR m.id IS NULL),
		(SELECT count(*) FROM soultribe_booking b LEFT JOIN meetup mt ON mt.id = b.meetup_id WHERE b.user_id = $1 OR mt.id IS NULL)`, int64(id))[0]
}

// TestDeleteUserLeavesNothing deletes an account, whatever the foreign keys do on deletion.
func TestDeleteUserLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, action := range []string{"CASCADE", "NO ACTION", "RESTRICT"} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			db := soultribetest.New(t)
			if action != "CASCADE" {
				_, err := db.Pool.Exec(ctx, `DO $$ DECLARE c record; BEGIN
					FOR c IN SELECT conrelid::regclass AS tab, conname, replace(pg_get_constraintdef(oid), 'CASCADE', '`+action+`') AS def FROM pg_constraint
						WHERE contype = 'f' AND conrelid::regclass::text <> 'soultribe_booking' LOOP
						EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.tab, c.conname);
						EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s', c.tab, c.conname, c.def);
					END LOOP; END $$`)
				require.NoError(t, err)
			}
			p := populate(t, db)
			require.Equal(t, "1|1|2|2|1|2|1|1", rowsOf(t, db, p.ann.ID))
			bob, eve := rowsOf(t, db, p.bob.ID), rowsOf(t, db, p.eve.ID)
			require.Equal(t, "1|1|2|1|1|2|2|2", bob)
			require.Equal(t, "1|1|2|1|1|2|1|1", eve)

			deleted, err := db.Store.DeleteUser(ctx, p.ann.ID)
			require.NoError(t, err)
			require.Equal(t, soultribe.Deleted{UserID: p.ann.ID, Matches: []soultribe.Match{p.pending, p.live}, Meetups: []soultribe.Meetup{p.meetup}}, deleted)
			require.Equal(t, "0|0|0|0|0|0|0|0", rowsOf(t, db, p.ann.ID))
			require.Equal(t, "1|1|2|1|1|1|1|1", rowsOf(t, db, p.bob.ID))
			require.Equal(t, "1|1|2|1|1|1|1|1", rowsOf(t, db, p.eve.ID))
			// The hour is free again.
			db.Meetup(t, db.Matched(t, p.bob.ID, db.User(t).ID), p.meetup.Times)
		})
	}
}

// TestDeleteUserInUse has rows of the host's in the way.
func TestDeleteUserInUse(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	p := populate(t, db)
	_, err := db.Pool.Exec(ctx, `CREATE SCHEMA host; CREATE TABLE host."Refresh Token" (id serial, owner int CONSTRAINT owner_fkey REFERENCES "user" (id));
		CREATE TABLE host.note (meetup int CONSTRAINT note_fkey REFERENCES meetup (id));
		CREATE TABLE host.late (owner int CONSTRAINT late_fkey REFERENCES "user" (id) DEFERRABLE INITIALLY DEFERRED);
		CREATE TABLE host.gone (owner int REFERENCES "user" (id) ON DELETE CASCADE);
		CREATE TABLE host.freed (owner int REFERENCES "user" (id) ON DELETE SET NULL)`)
	require.NoError(t, err)
	before, all := rowsOf(t, db, p.ann.ID), everyValue(t, db)
	_, err = db.Pool.Exec(ctx, `INSERT INTO host.gone VALUES ($1)`, int64(p.ann.ID))
	require.NoError(t, err)
	_, err = db.Pool.Exec(ctx, `INSERT INTO host.freed VALUES ($1)`, int64(p.ann.ID))
	require.NoError(t, err)

	inUse := func(err error, want soultribe.InUseError) {
		t.Helper()
		require.ErrorIs(t, err, soultribe.ErrInUse)
		require.ErrorIs(t, err, soultribe.ErrConflict)
		var got *soultribe.InUseError
		require.ErrorAs(t, err, &got)
		require.Equal(t, want, *got)
		require.Contains(t, err.Error(), want.Table)
	}
	for _, test := range []struct {
		table, insert string
		id            int64
		want          soultribe.InUseError
		deferred      bool
	}{
		{`host."Refresh Token"`, `INSERT INTO host."Refresh Token" (owner) VALUES ($1)`, int64(p.ann.ID), soultribe.InUseError{Schema: "host", Table: "Refresh Token", Constraint: "owner_fkey"}, false},
		{"host.note", `INSERT INTO host.note VALUES ($1)`, int64(p.meetup.ID), soultribe.InUseError{Schema: "host", Table: "note", Constraint: "note_fkey"}, false},
		{"host.late", `INSERT INTO host.late VALUES ($1)`, int64(p.ann.ID), soultribe.InUseError{Schema: "host", Table: "late", Constraint: "late_fkey"}, true},
	} {
		_, err := db.Pool.Exec(ctx, test.insert, test.id)
		require.NoError(t, err)
		deleted, err := db.Store.DeleteUser(ctx, p.ann.ID)
		inUse(err, test.want)
		require.Equal(t, soultribe.Deleted{}, deleted)
		if !test.deferred { // a deferred one speaks at the caller's commit
			require.NoError(t, db.Store.InTx(ctx, func(ctx context.Context, tx pgx.Tx, st soultribe.Store) error {
				_, err := st.DeleteUser(ctx, p.ann.ID)
				inUse(err, test.want)
				_, err = tx.Exec(ctx, `DELETE FROM `+test.table)
				require.NoError(t, err)
				_, err = st.User(ctx, p.ann.ID)
				return err
			}))
		}
		require.Equal(t, before, rowsOf(t, db, p.ann.ID))
		require.ElementsMatch(t, all, everyValue(t, db))
		_, err = db.Pool.Exec(ctx, `DELETE FROM `+test.table)
		require.NoError(t, err)
	}
	_, err = db.Store.DeleteUser(ctx, p.ann.ID)
	require.NoError(t, err)
	require.Equal(t, "0|0|0|0|0|0|0|0", rowsOf(t, db, p.ann.ID))
	require.Equal(t, []string{"0|1|"}, db.Query(t, `SELECT (SELECT count(*) FROM host.gone), count(*), max(owner) FROM host.freed`))
}

// TestDeleteUserInTransaction deletes and thinks better of it.
func TestDeleteUserInTransaction(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	p := populate(t, db)
	before := everyValue(t, db)
	failure := errors.New("the caller's own")
	require.Equal(t, failure, db.Store.InTx(ctx, func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
		deleted, err := st.DeleteUser(ctx, p.ann.ID)
		require.NoError(t, err)
		require.Len(t, deleted.Meetups, 1)
		_, err = st.DeleteUser(ctx, p.ann.ID)
		require.ErrorIs(t, err, soultribe.ErrNotFound)
		return failure
	}))
	require.ElementsMatch(t, before, everyValue(t, db))
	require.Equal(t, "1|1|2|2|1|2|1|1", rowsOf(t, db, p.ann.ID))
}

// TestDeleteUserRace deletes, at one time, people who all share matches and meetups with each other, each by
// two calls, while a worker settles the meetups, which have just ended.
func TestDeleteUserRace(t *testing.T) {
	t.Parallel()
	const people, rounds, settlers = 6, 8, 4
	ctx := t.Context()
	db := soultribetest.New(t)
	st := opened(t, db, 2*people+settlers)
	var settled atomic.Int64
	for range rounds {
		var users [people]soultribe.User
		hours := 0
		for i := range users {
			users[i] = db.User(t)
			for j := range i {
				hours++
				db.Meetup(t, db.Matched(t, users[i].ID, users[j].ID), soultribe.Times{Start: db.Clock.Now().Add(time.Duration(hours) * time.Hour), Duration: time.Hour})
			}
		}
		db.Clock.Advance(time.Duration(hours+1) * time.Hour)
		counts := atOnce(2*people+settlers, func(i int) error {
			if i >= 2*people {
				s, err := st.Settle(ctx, soultribe.SettlePolicy{Limit: 5})
				settled.Add(int64(len(s.Completed)))
				return err
			}
			_, err := st.DeleteUser(ctx, users[i/2].ID)
			return err
		})
		require.Equal(t, map[string]int{"": people + settlers, "not_found": people}, counts)
	}
	for _, table := range []string{`"user"`, "profile", "match", "meetup", "soultribe_booking"} {
		require.Empty(t, db.Query(t, `SELECT * FROM `+table))
	}
	t.Logf("%d people deleted in %d rounds, %d meetups settled meanwhile", people*rounds, rounds, settled.Load())
}

// TestDeleteUserStorm deletes people in the midst of all that the others do with them. Nobody is a victim of
// a deadlock, and nothing is left of who is gone.
func TestDeleteUserStorm(t *testing.T) {
	t.Parallel()
	const people, rounds, callers = 4, 12, 24
	ctx := t.Context()
	db := soultribetest.New(t)
	st := opened(t, db, callers, soultribe.WithCooldowns(soultribe.Cooldowns{Token: -1, Rejected: -1, Cancelled: -1}))
	total := map[string]int{}
	for round := range rounds {
		var users [people]soultribe.User
		for i := range users {
			users[i] = db.User(t)
		}
		counts := atOnce(callers, func(i int) error {
			random := rand.New(rand.NewPCG(uint64(round), uint64(i))) // so that it can be repeated
			for range 30 {
				a, b := users[random.IntN(people)], users[random.IntN(people)]
				if a.ID == b.ID {
					continue
				}
				m, err := st.MatchBetween(ctx, a.ID, b.ID)
				times := soultribe.Times{Start: db.Clock.Now().Add(time.Duration(1+random.IntN(3)) * time.Hour), Duration: time.Hour}
				latest := func() (soultribe.Meetup, error) {
					page, err := st.Meetups(ctx, a.ID, soultribe.MeetupQuery{MatchID: m.ID, Latest: true, Limit: 1})
					if err == nil && len(page.Items) == 0 {
						err = soultribe.ErrNotFound
					}
					return append(page.Items, soultribe.Meetup{})[0], err
				}
				if err == nil || soultribe.Code(err) == "not_found" {
					switch random.IntN(9) {
					case 0, 1:
						_, err = st.RequestMatch(ctx, a.ID, b.ID)
					case 2:
						if err == nil {
							_, err = st.CancelMatch(ctx, a.ID, m.ID)
						}
					case 3, 4:
						if err == nil {
							_, err = st.ProposeMeetup(ctx, a.ID, soultribe.NewMeetup{MatchID: m.ID, Times: times})
						}
					case 5, 6:
						var meetup soultribe.Meetup
						if meetup, err = latest(); err == nil {
							_, err = st.ConfirmMeetup(ctx, a.ID, meetup.ID, meetup.Times)
						}
					case 7:
						var meetup soultribe.Meetup
						if meetup, err = latest(); err == nil {
							_, err = st.RescheduleMeetup(ctx, a.ID, meetup.ID, soultribe.Reschedule{Seen: meetup.Times, To: times})
						}
					case 8:
						if random.IntN(8) == 0 {
							_, err = st.DeleteUser(ctx, a.ID)
						} else {
							_, err = st.ReplaceSlots(ctx, a.ID, soultribe.Window{Start: times.Start, End: times.End()}, []soultribe.NewSlot{{Start: times.Start, End: times.End(), Timezone: "UTC"}})
						}
					}
				}
				if code := soultribe.Code(err); code == "retry" || code == "internal" || code == "in_use" {
					return err
				}
			}
			_, err := st.DeleteUser(ctx, users[i%people].ID)
			return err
		})
		for code, n := range counts {
			total[code] += n
		}
		require.Equal(t, callers, counts[""]+counts["not_found"], "%v", counts)
	}
	t.Logf("%d rounds of %d callers ended in %v", rounds, callers, total)
	for _, table := range []string{`"user"`, "profile", "availabilityslot", "match", "meetup", "soultribe_booking"} {
		require.Empty(t, db.Query(t, `SELECT * FROM `+table))
	}
}

// TestDeleteUserWaitsForSettle deletes an account whose meetup a worker is about to settle. Both go on.
func TestDeleteUserWaitsForSettle(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	p := populate(t, db)
	db.Clock.Advance(3 * time.Hour)
	// As Settle does: the meetup first, then, by the trigger, its bookings.
	tx, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `SELECT FROM meetup WHERE id = $1 FOR NO KEY UPDATE`, int64(p.meetup.ID))
	require.NoError(t, err)
	type result struct {
		deleted soultribe.Deleted
		err     error
	}
	results := make(chan result)
	go func() {
		deleted, err := db.Store.DeleteUser(ctx, p.ann.ID)
		results <- result{deleted, err}
	}()
	waitForBlocked(t, db)
	_, err = tx.Exec(ctx, `UPDATE meetup SET status = 'completed' WHERE id = $1`, int64(p.meetup.ID))
	require.NoError(t, err)
	require.NoError(t, tx.Commit(ctx))
	r := <-results
	require.NoError(t, r.err)
	require.Empty(t, r.deleted.Meetups) // it was over
	require.Equal(t, "0|0|0|0|0|0|0|0", rowsOf(t, db, p.ann.ID))
}

// TestExportEqualsTables compares an export with what SQL finds, dirt included.
func TestExportEqualsTables(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	p := populate(t, db)
	third := db.User(t)
	for _, sql := range []string{
		`UPDATE profile SET bio = NULL, timezone = 'Mars/Olympus' WHERE user_id = $1`,
		`INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
			VALUES ($1, '2020-02-29 23:30:00.000001', '2020-03-01 01:00', '2020-03-01', '2020-03-01', 'nowhere', '-infinity', '2020-01-01')`,
		`INSERT INTO emailverificationtoken (user_id, token, expires_at, used_at, created_at) VALUES ($1, 'canary', 'infinity', '2020-01-01 00:00:00.5', '0044-03-15 BC')`,
		`INSERT INTO match (user1_id, user2_id, status, created_at, updated_at) SELECT max(id), $1, 'suggested', '2020-01-01', '294276-01-01' FROM "user"`,
		`INSERT INTO meetup (match_id, scheduled_time, status, created_at, updated_at) SELECT max(id), '2020-01-01 12:34:56.789', 'canceled', '2020-01-01', '2020-01-01' FROM match WHERE user2_id = $1`,
	} {
		_, err := db.Pool.Exec(ctx, sql, int64(p.ann.ID))
		require.NoError(t, err)
	}
	e, err := db.Store.Export(ctx, p.ann.ID)
	require.NoError(t, err)

	at := func(v time.Time) string { return v.Format("2006-01-02 15:04:05.000000") }
	optional := func(v *time.Time) string {
		if v == nil {
			return ""
		}
		return at(*v)
	}
	sqlAt := func(column string) string {
		return "to_char(least(greatest(" + column + ", '0001-01-01'), '9999-12-31 23:59:59.999999'), 'YYYY-MM-DD HH24:MI:SS.US')"
	}
	id := int64(p.ann.ID)
	want := db.Query(t, `SELECT id, email, `+sqlAt("email_verified_at")+`, `+sqlAt("created_at")+`, `+sqlAt("credentials_changed_at")+` FROM "user" WHERE id = $1`, id)
	require.Equal(t, want, []string{fmt.Sprintf("%d|%s|%s|%s|%s", e.User.ID, e.User.Email, optional(e.User.EmailVerifiedAt), at(e.User.CreatedAt), at(e.User.CredentialsChangedAt))})
	want = db.Query(t, `SELECT user_id, full_name, display_name, bio, timezone, `+sqlAt("created_at")+`, `+sqlAt("updated_at")+` FROM profile WHERE user_id = $1`, id)
	require.Equal(t, want, []string{fmt.Sprintf("%d|%s|%s|%s|%s|%s|%s", e.Profile.UserID, e.Profile.FullName, e.Profile.DisplayName, e.Profile.Bio, e.Profile.Timezone, at(e.Profile.CreatedAt), at(e.Profile.UpdatedAt))})
	var slots, matches, meetups []string
	for _, s := range e.Slots {
		slots = append(slots, fmt.Sprintf("%d|%d|%s|%s|%s|%s|%s", s.ID, s.UserID, at(s.Start), at(s.End), s.Timezone, at(s.CreatedAt), at(s.UpdatedAt)))
	}
	require.Len(t, slots, 3)
	require.Equal(t, db.Query(t, `SELECT id, user_id, `+sqlAt("start_dt_utc")+`, `+sqlAt("end_dt_utc")+`, timezone, `+sqlAt("created_at")+`, `+sqlAt("updated_at")+
		` FROM availabilityslot WHERE user_id = $1 ORDER BY id`, id), slots)
	for table, tokens := range map[string][]soultribe.TokenRecord{"emailverificationtoken": e.EmailVerifications, "passwordresettoken": e.PasswordResets} {
		var lines []string
		for _, r := range tokens {
			lines = append(lines, fmt.Sprintf("%s|%s|%s|%s", r.Email, at(r.CreatedAt), at(r.ExpiresAt), optional(r.UsedAt)))
		}
		require.NotEmpty(t, lines)
		used := "CASE WHEN used_at IS NOT NULL THEN " + sqlAt("used_at") + " END"
		require.Equal(t, db.Query(t, `SELECT sent_to, `+sqlAt("created_at")+`, `+sqlAt("expires_at")+`, `+used+` FROM `+table+` WHERE user_id = $1 ORDER BY id`, id), lines)
	}
	for _, m := range e.Matches {
		matches = append(matches, fmt.Sprintf("%d|%d|%d|%s|%s|%s", m.ID, m.User1ID, m.User2ID, m.Status, at(m.CreatedAt), at(m.UpdatedAt)))
	}
	require.Len(t, matches, 3)
	require.Equal(t, db.Query(t, `SELECT id, user1_id, user2_id, status, `+sqlAt("created_at")+`, `+sqlAt("updated_at")+
		` FROM match WHERE $1 IN (user1_id, user2_id) ORDER BY id`, id), matches)
	for _, m := range e.Meetups {
		meetups = append(meetups, fmt.Sprintf("%d|%d|%d|%d|%d|%s|%d|%s|%s|%s", m.ID, m.MatchID, m.User1ID, m.User2ID, m.ProposerID, at(m.Start), int(m.Duration.Seconds()),
			m.Status, at(m.CreatedAt), at(m.UpdatedAt)))
	}
	require.Len(t, meetups, 2)
	require.Equal(t, db.Query(t, `SELECT mt.id, mt.match_id, m.user1_id, m.user2_id, coalesce(mt.proposer_id, 0), `+sqlAt("date_trunc('second', mt.scheduled_time)")+
		`, coalesce(mt.duration_seconds, 3600), mt.status, `+sqlAt("mt.created_at")+`, `+sqlAt("mt.updated_at")+
		` FROM meetup mt JOIN match m ON m.id = mt.match_id WHERE $1 IN (m.user1_id, m.user2_id) ORDER BY mt.id`, id), meetups)

	// The methods that read the same rows say the same.
	account, err := db.Store.Account(ctx, p.ann.ID)
	require.NoError(t, err)
	require.Equal(t, account.User, e.User)
	require.Equal(t, account.Profile, e.Profile)
	for _, m := range e.Matches {
		got, err := db.Store.Match(ctx, p.ann.ID, m.ID)
		require.NoError(t, err)
		require.Equal(t, m, got)
	}
	for _, m := range e.Meetups {
		got, err := db.Store.Meetup(ctx, p.ann.ID, m.ID)
		require.NoError(t, err)
		require.Equal(t, m, got)
	}
	for _, s := range e.Slots {
		got, err := db.Store.Slot(ctx, p.ann.ID, s.ID)
		require.NoError(t, err)
		require.Equal(t, s, got)
	}

	text, err := json.Marshal(e)
	require.NoError(t, err)
	for _, secret := range []string{p.bob.Email, p.eve.Email, third.Email, "argon2", "sha256:", "canary", "plain text of"} {
		require.NotContains(t, string(text), secret)
	}
}

// TestExportIsOneInstant exports while the profile and the address change together: never one without the other.
func TestExportIsOneInstant(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	st := opened(t, db, 8)
	u := db.User(t)
	_, err := db.Pool.Exec(ctx, `UPDATE "user" SET email = '0'; UPDATE profile SET bio = '0'`)
	require.NoError(t, err)
	counts := atOnce(8, func(i int) error {
		for n := range 25 {
			if i == 0 {
				if err := pgx.BeginFunc(ctx, db.Pool, func(tx pgx.Tx) error {
					_, err := tx.Exec(ctx, `UPDATE "user" SET email = $1`, fmt.Sprint(n))
					if err == nil {
						_, err = tx.Exec(ctx, `UPDATE profile SET bio = $1`, fmt.Sprint(n))
					}
					return err
				}); err != nil {
					return err
				}
				continue
			}
			e, err := st.Export(ctx, u.ID)
			if err != nil {
				return err
			}
			if e.User.Email != e.Profile.Bio {
				return fmt.Errorf("%s and %s", e.User.Email, e.Profile.Bio)
			}
		}
		return nil
	})
	require.Equal(t, map[string]int{"": 8}, counts)
}
