package soultribe_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// TestManySettle has several workers settle at one time, beside people who take steps themselves: each
// meetup is reported once.
func TestManySettle(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	const meetups, workers = 160, 8
	st := opened(t, db, workers+4)
	var made []soultribe.Meetup
	for i := range meetups {
		m := proposed(t, db, db.User(t).ID, db.User(t).ID, hourAfter(time.Duration(1+i)*time.Minute))
		if i%2 == 0 {
			_, err := st.ConfirmMeetup(t.Context(), m.User2ID, m.ID, m.Times)
			require.NoError(t, err)
		}
		made = append(made, m)
	}
	ahead := proposed(t, db, db.User(t).ID, db.User(t).ID, hourAfter(1000*time.Hour))
	db.Clock.Advance(100 * time.Hour)

	reported := make([][]soultribe.MeetupID, workers+4)
	counts := atOnce(workers+4, func(worker int) error {
		if worker >= workers {
			// People complete some of theirs: those are not reported, but by their own step.
			for i := worker - workers; i < meetups; i += 20 {
				r, err := st.CompleteMeetup(t.Context(), made[i].User1ID, made[i].ID)
				if soultribe.Code(err) == "transition" {
					continue // a proposal
				}
				if err != nil {
					return err
				}
				if r.Changed {
					reported[worker] = append(reported[worker], r.ID)
				}
			}
			return nil
		}
		for idle := 0; idle < 2; {
			s, err := st.Settle(t.Context(), soultribe.SettlePolicy{Limit: 1 + worker})
			if err != nil {
				return err
			}
			for _, m := range s.Cancelled {
				reported[worker] = append(reported[worker], m.ID)
			}
			for _, m := range s.Completed {
				reported[worker] = append(reported[worker], m.ID)
			}
			if len(s.Cancelled)+len(s.Completed) == 0 {
				idle++
			}
		}
		return nil
	})
	require.Equal(t, map[string]int{"": workers + 4}, counts)

	times := map[soultribe.MeetupID]int{}
	var busy int
	for _, ids := range reported {
		for _, id := range ids {
			times[id]++
		}
		if len(ids) > 0 {
			busy++
		}
	}
	t.Logf("%d meetups, reported to %d of %d workers", len(times), busy, len(reported))
	// What was locked at the last look of all workers is left for the next.
	rest, err := st.Settle(t.Context(), soultribe.SettlePolicy{})
	require.NoError(t, err)
	for _, m := range append(rest.Cancelled, rest.Completed...) {
		times[m.ID]++
	}
	for _, m := range made {
		require.Equal(t, 1, times[m.ID], "meetup %d", m.ID)
	}
	require.Zero(t, times[ahead.ID])
	require.Equal(t, []string{"cancelled|80", "completed|80", "proposed|1"}, db.Query(t, `SELECT status, count(*) FROM meetup GROUP BY 1 ORDER BY 1`))
	requireSound(t, db)
}

// TestSettleSkipsLocked has a meetup locked by somebody: Settle does not wait for it.
func TestSettleSkipsLocked(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	locked := proposed(t, db, db.User(t).ID, db.User(t).ID, hourAfter(time.Hour))
	free := proposed(t, db, db.User(t).ID, db.User(t).ID, hourAfter(2*time.Hour))
	db.Clock.Advance(100 * time.Hour)
	tx, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `SELECT FROM meetup WHERE id = $1 FOR UPDATE`, locked.ID)
	require.NoError(t, err)
	s, err := db.Store.Settle(ctx, soultribe.SettlePolicy{})
	require.NoError(t, err)
	require.Len(t, s.Cancelled, 1)
	require.Equal(t, free.ID, s.Cancelled[0].ID)
	require.NoError(t, tx.Rollback(ctx))
	s, err = db.Store.Settle(ctx, soultribe.SettlePolicy{})
	require.NoError(t, err)
	require.Len(t, s.Cancelled, 1)
	require.Equal(t, locked.ID, s.Cancelled[0].ID)
}

// TestManyPurge has several jobs purge at one time, with accounts whose secrets the others purge: each row
// is counted at most once, and no two wait for each other.
func TestManyPurge(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	const accounts, workers = 120, 8
	st := opened(t, db, workers)
	hash, err := st.HashPassword(t.Context(), "correct horse battery")
	require.NoError(t, err)
	keeper := db.User(t)
	for i := range accounts {
		u, err := st.CreateUser(t.Context(), soultribe.NewUser{
			Email: fmt.Sprintf("idle%d@example.org", i), Hash: hash, Profile: &soultribe.NewProfile{DisplayName: "Idle"},
		})
		require.NoError(t, err)
		_, err = st.IssueEmailVerification(t.Context(), u.ID)
		require.NoError(t, err)
		_, _, err = st.IssuePasswordReset(t.Context(), u.Email)
		require.NoError(t, err)
		start := soultribetest.Epoch.Add(time.Duration(i) * time.Hour)
		_, err = st.AddSlot(t.Context(), keeper.ID, soultribe.NewSlot{Start: start, End: start.Add(time.Hour), Timezone: "UTC"})
		require.NoError(t, err)
	}
	db.Clock.Advance(1000 * time.Hour)
	purged := make([]soultribe.Purged, workers)
	counts := atOnce(workers, func(worker int) error {
		policy := soultribe.PurgePolicy{Tokens: time.Hour, Slots: time.Hour, Meetups: time.Hour, Unverified: time.Hour, Limit: 7}
		for idle := 0; idle < 3; {
			p, err := st.Purge(t.Context(), policy)
			if err != nil {
				return err
			}
			if p == (soultribe.Purged{}) {
				idle++
			}
			sum := &purged[worker]
			sum.Users += p.Users
			sum.Slots += p.Slots
			sum.EmailVerifications += p.EmailVerifications
			sum.PasswordResets += p.PasswordResets
		}
		return nil
	})
	require.Equal(t, map[string]int{"": workers}, counts)
	var sum soultribe.Purged
	for _, p := range purged {
		sum.Users += p.Users
		sum.Slots += p.Slots
		sum.EmailVerifications += p.EmailVerifications
		sum.PasswordResets += p.PasswordResets
	}
	t.Logf("purged by %d workers: %+v", workers, sum)
	require.EqualValues(t, accounts, sum.Users)
	require.EqualValues(t, accounts, sum.Slots)
	require.EqualValues(t, accounts, sum.EmailVerifications) // some went with their accounts
	require.EqualValues(t, accounts, sum.PasswordResets)
	for _, table := range []string{"emailverificationtoken", "passwordresettoken", "availabilityslot"} {
		require.Equal(t, []string{"0"}, db.Query(t, `SELECT count(*) FROM `+table), table)
	}
	require.Equal(t, []string{keeper.Email}, db.Query(t, `SELECT email FROM "user"`))
	require.Equal(t, []string{"1"}, db.Query(t, `SELECT count(*) FROM profile`))
}

// TestPurgeRacesItsOwners has people use their accounts at the moment when these would be purged: what
// they were told was stored is.
func TestPurgeRacesItsOwners(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	const accounts, rounds = 12, 40
	st := opened(t, db, accounts+2)
	hash, err := st.HashPassword(t.Context(), "correct horse battery")
	require.NoError(t, err)
	var purged, kept int64
	for round := range rounds {
		ids := make([]soultribe.UserID, accounts)
		for i := range ids {
			u, err := st.CreateUser(t.Context(), soultribe.NewUser{Email: fmt.Sprintf("r%da%d@example.org", round, i), Hash: hash})
			require.NoError(t, err)
			ids[i] = u.ID
		}
		db.Clock.Advance(time.Hour)
		start := db.Clock.Now().Add(time.Hour)
		used := make([]bool, accounts)
		gone := make([]int64, 2)
		counts := atOnce(accounts+2, func(i int) (err error) {
			switch {
			case i >= accounts:
				p, err := st.Purge(t.Context(), soultribe.PurgePolicy{Unverified: time.Minute})
				gone[i-accounts] = p.Users
				return err
			case i%3 == 0:
				_, err = st.AddSlot(t.Context(), ids[i], soultribe.NewSlot{Start: start, End: start.Add(time.Hour), Timezone: "UTC"})
			case i%3 == 1:
				_, err = st.IssueEmailVerification(t.Context(), ids[i])
			default:
				err = st.MarkVerified(t.Context(), ids[i])
			}
			used[i] = err == nil
			return err
		})
		for code := range counts {
			require.Contains(t, []string{"", "not_found"}, code)
		}
		var alive int64
		for i, id := range ids {
			_, err := st.User(t.Context(), id)
			require.Equal(t, used[i], err == nil, "account %d of round %d was used: %t, and is there: %v", i, round, used[i], err)
			if used[i] {
				alive++
				require.NoError(t, st.MarkVerified(t.Context(), id)) // out of the way of later rounds
			}
		}
		require.EqualValues(t, accounts, gone[0]+gone[1]+alive)
		purged, kept = purged+gone[0]+gone[1], kept+alive
	}
	t.Logf("%d accounts purged, %d used in time", purged, kept)
}

// purgeScene has two of each kind of row that Purge removes, of which the host may refer to the first.
type purgeScene struct {
	user, other    soultribe.UserID // not verified, with a profile and a secret that has expired
	token          int64            // user's
	slot           soultribe.SlotID
	meetup         soultribe.MeetupID
	keeper         soultribe.UserID
	policy         soultribe.PurgePolicy
	without, whole soultribe.Purged // what goes where the host refers to user, and where it does not
}

func newPurgeScene(t *testing.T, db *soultribetest.DB) purgeScene {
	t.Helper()
	ctx, st := t.Context(), db.Store
	var s purgeScene
	for _, id := range []*soultribe.UserID{&s.other, &s.user} {
		u := signUp(t, db, fmt.Sprintf("idle%p@example.org", id))
		_, err := st.SetProfile(ctx, u.ID, soultribe.NewProfile{DisplayName: "Idle"})
		require.NoError(t, err)
		_, err = st.IssueEmailVerification(ctx, u.ID)
		require.NoError(t, err)
		*id = u.ID
	}
	require.NoError(t, db.Pool.QueryRow(ctx, `SELECT max(id) FROM emailverificationtoken`).Scan(&s.token))
	s.keeper = db.User(t).ID
	m := db.Matched(t, s.keeper, db.User(t).ID)
	for i := range 2 {
		start := soultribetest.Epoch.Add(time.Duration(2*i) * time.Hour)
		slot, err := st.AddSlot(ctx, s.keeper, soultribe.NewSlot{Start: start, End: start.Add(time.Hour), Timezone: "UTC"})
		require.NoError(t, err)
		s.slot = slot.ID
		s.meetup = propose(t, db, m, s.keeper, hourAfter(time.Duration(1+i)*time.Hour)).ID
		_, err = st.CancelMeetup(ctx, s.keeper, s.meetup)
		require.NoError(t, err)
	}
	db.Clock.Advance(1000 * time.Hour)
	s.policy = soultribe.PurgePolicy{Tokens: time.Hour, Slots: time.Hour, Meetups: time.Hour, Unverified: time.Hour, Limit: 1}
	s.whole = soultribe.Purged{Users: 2, EmailVerifications: 2, Slots: 2, Meetups: 2}
	s.without = s.whole
	s.without.Users = 1
	return s
}

// purgeAll calls Purge until there is no more, checks that it was what a preview said, and returns the sum.
func purgeAll(ctx context.Context, t *testing.T, st soultribe.Store, policy soultribe.PurgePolicy) soultribe.Purged {
	t.Helper()
	policy.DryRun = true
	preview, err := st.Purge(ctx, policy)
	require.NoError(t, err)
	policy.DryRun = false
	var sum soultribe.Purged
	for more := true; more; {
		p, err := st.Purge(ctx, policy)
		require.NoError(t, err)
		more = p.More
		sum = addPurged(sum, p)
	}
	require.Equal(t, preview, sum, "the preview, and what was purged under %+v", policy)
	return sum
}

func addPurged(a, b soultribe.Purged) soultribe.Purged {
	return soultribe.Purged{
		EmailVerifications: a.EmailVerifications + b.EmailVerifications, PasswordResets: a.PasswordResets + b.PasswordResets,
		Slots: a.Slots + b.Slots, Meetups: a.Meetups + b.Meetups, Users: a.Users + b.Users,
	}
}

// TestPurgeSparesWhatTheHostRefersTo has foreign keys of the host's of all sorts. None stops the others' rows from
// being purged, again and again.
func TestPurgeSparesWhatTheHostRefersTo(t *testing.T) {
	t.Parallel()
	user := func(s purgeScene) (any, soultribe.Purged) { return s.user, s.without }
	profile := user
	token := func(s purgeScene) (any, soultribe.Purged) {
		s.without.EmailVerifications = 1
		return s.token, s.without
	}
	slot := func(s purgeScene) (any, soultribe.Purged) { s.whole.Slots = 1; return s.slot, s.whole }
	meetup := func(s purgeScene) (any, soultribe.Purged) { s.whole.Meetups = 1; return s.meetup, s.whole }
	// gone is where the host lets the row go.
	gone := func(referred func(s purgeScene) (any, soultribe.Purged)) func(s purgeScene) (any, soultribe.Purged) {
		return func(s purgeScene) (any, soultribe.Purged) { id, _ := referred(s); return id, s.whole }
	}
	const insert = `INSERT INTO note VALUES ($1)`
	tests := map[string]struct {
		ddl, refer string
		referred   func(s purgeScene) (id any, want soultribe.Purged)
	}{
		"an account":              {`CREATE TABLE note (id integer REFERENCES "user")`, insert, user},
		"an account, restrict":    {`CREATE TABLE note (id integer REFERENCES "user" ON DELETE RESTRICT)`, insert, user},
		"an account, cascade":     {`CREATE TABLE note (id integer REFERENCES "user" ON DELETE CASCADE)`, insert, user},
		"an account, set null":    {`CREATE TABLE note (id integer REFERENCES "user" ON DELETE SET NULL)`, insert, user},
		"an account, set default": {`CREATE TABLE note (id integer DEFAULT NULL REFERENCES "user" ON DELETE SET DEFAULT)`, insert, user},
		"an account, at the end":  {`CREATE TABLE note (id bigint REFERENCES "user" DEFERRABLE INITIALLY DEFERRED)`, insert, user},
		"an account, no row":      {`CREATE TABLE note (id integer REFERENCES "user")`, `SELECT $1::integer`, gone(user)},
		"an account, by its address": {
			`CREATE TABLE note (email varchar REFERENCES "user" (email))`, `INSERT INTO note SELECT email FROM "user" WHERE id = $1`, user,
		},
		"an account, by two columns": {
			`ALTER TABLE "user" ADD UNIQUE (id, email); CREATE TABLE note (email varchar, id integer, FOREIGN KEY (id, email) REFERENCES "user" (id, email))`,
			// A key of which a column is NULL refers to nobody.
			`INSERT INTO note SELECT CASE WHEN id = $1 THEN email END, id FROM "user" WHERE email_verified_at IS NULL`, user,
		},
		"an account, by two columns in another order": {
			`ALTER TABLE "user" ADD UNIQUE (email, id); CREATE TABLE note (id integer, email varchar, FOREIGN KEY (email, id) REFERENCES "user" (email, id))`,
			`INSERT INTO note SELECT id, email FROM "user" WHERE id = $1`, user,
		},
		"an account, by names to quote": {
			`CREATE SCHEMA "Ho""st? $1"; CREATE TABLE "Ho""st? $1"."no'te = ?" ("select * " integer REFERENCES "user")`,
			`INSERT INTO "Ho""st? $1"."no'te = ?" SELECT id FROM "user" WHERE id = $1`, user,
		},
		"an account, by a partition": {
			`CREATE TABLE note (id integer REFERENCES "user") PARTITION BY RANGE (id); CREATE TABLE note1 PARTITION OF note FOR VALUES FROM (0) TO (1000)`, insert, user,
		},
		"an account, by another": {
			`ALTER TABLE "user" ADD referred_by integer REFERENCES "user"`, `UPDATE "user" SET referred_by = $1 WHERE email_verified_at IS NOT NULL`, user,
		},
		"an account, by a column of ours": {
			`ALTER TABLE profile ADD approved_by integer REFERENCES "user"`, `UPDATE profile SET approved_by = $1 WHERE user_id = (SELECT min(user1_id) FROM match)`, user,
		},
		"an account, twice": {
			`CREATE TABLE note (id integer REFERENCES "user"); CREATE TABLE note2 (id integer REFERENCES "user")`,
			`WITH one AS (INSERT INTO note SELECT id FROM "user" WHERE email_verified_at IS NULL AND id <> $1) INSERT INTO note2 VALUES ($1)`,
			func(s purgeScene) (any, soultribe.Purged) { s.whole.Users = 0; return s.user, s.whole },
		},
		"a profile":          {`CREATE TABLE note (id integer REFERENCES profile (user_id))`, insert, profile},
		"a profile, cascade": {`CREATE TABLE note (id integer REFERENCES profile (user_id) ON DELETE CASCADE)`, insert, profile},
		"a secret":           {`CREATE TABLE note (id integer REFERENCES emailverificationtoken)`, insert, token},
		"a secret, cascade":  {`CREATE TABLE note (id integer REFERENCES emailverificationtoken ON DELETE CASCADE)`, insert, gone(token)},
		"a slot":             {`CREATE TABLE note (id integer REFERENCES availabilityslot)`, insert, slot},
		"a slot, set null":   {`CREATE TABLE note (id integer REFERENCES availabilityslot ON DELETE SET NULL)`, insert, gone(slot)},
		"a meetup":           {`CREATE TABLE note (id integer REFERENCES meetup)`, insert, meetup},
		"a meetup, cascade":  {`CREATE TABLE note (id integer REFERENCES meetup ON DELETE CASCADE)`, insert, gone(meetup)},
		// The library's own keys are none of the host's, as another application made them.
		"keys without ON DELETE": {`
			ALTER TABLE profile DROP CONSTRAINT profile_user_id_fkey;
			ALTER TABLE profile ADD FOREIGN KEY (user_id) REFERENCES "user";
			ALTER TABLE emailverificationtoken DROP CONSTRAINT emailverificationtoken_user_id_fkey;
			ALTER TABLE emailverificationtoken ADD FOREIGN KEY (user_id) REFERENCES "user"`, `SELECT $1::integer`, gone(user)},
		"keys twice": {`ALTER TABLE profile ADD CONSTRAINT again FOREIGN KEY (user_id) REFERENCES "user"`, `SELECT $1::integer`, gone(user)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := soultribetest.New(t)
			ctx := t.Context()
			s := newPurgeScene(t, db)
			id, want := test.referred(s)
			_, err := db.Pool.Exec(ctx, test.ddl)
			require.NoError(t, err)
			_, err = db.Pool.Exec(ctx, test.refer, id)
			require.NoError(t, err)

			// In the caller's transaction, which goes on, and then is undone.
			tx, err := db.Pool.Begin(ctx)
			require.NoError(t, err)
			require.Equal(t, want, purgeAll(ctx, t, db.Store.WithTx(tx), s.policy))
			require.NoError(t, db.Store.WithTx(tx).MarkVerified(ctx, s.keeper))
			require.NoError(t, tx.Rollback(ctx))

			require.Equal(t, want, purgeAll(ctx, t, db.Store, s.policy))
			require.Equal(t, soultribe.Purged{}, purgeAll(ctx, t, db.Store, s.policy))
			if want.Users == 1 {
				require.Equal(t, []string{fmt.Sprint(s.user)}, db.Query(t, `SELECT id FROM "user" WHERE email_verified_at IS NULL`))
				require.Equal(t, []string{fmt.Sprint(s.user)}, db.Query(t, `SELECT p.user_id FROM profile p JOIN "user" u ON u.id = p.user_id WHERE email_verified_at IS NULL`))
			}
		})
	}
}

// TestPurgeAsksAgain counts the round trips where the host has tables: the keys are asked for in the first.
func TestPurgeAsksAgain(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx := t.Context()
	s := newPurgeScene(t, db)
	count := new(counter)
	st := newStore(t, db, newPool(t, db.URL, func(c *pgxpool.Config) { c.ConnConfig.Tracer = count; c.MaxConns = 1 }))
	_, err := db.Pool.Exec(ctx, `CREATE TABLE note (id integer REFERENCES "user")`)
	require.NoError(t, err)
	for _, dryRun := range []bool{true, false} {
		count.reset()
		s.policy.DryRun = dryRun
		_, err := st.Purge(ctx, s.policy)
		require.NoError(t, err)
		require.Equal(t, 2, count.roundTrips, count.names)
	}
	_, err = db.Pool.Exec(ctx, `DROP TABLE note`)
	require.NoError(t, err)
	count.reset()
	_, err = st.Purge(ctx, s.policy)
	require.NoError(t, err)
	require.Equal(t, 1, count.roundTrips)
}

// TestPurgeCannotSee has a role that may not read the host's table, or not all of its rows: nothing goes, and the
// error says what is in the way.
func TestPurgeCannotSee(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx := t.Context()
	s := newPurgeScene(t, db)
	role := "soultribe_purge_" + strings.ToLower(rand.Text()[:8])
	_, err := db.Pool.Exec(ctx, `CREATE TABLE note (id integer CONSTRAINT note_user_fkey REFERENCES "user"); CREATE ROLE `+role+`;
		GRANT SELECT, INSERT, UPDATE, DELETE ON "user", profile, availabilityslot, emailverificationtoken, passwordresettoken, match, meetup TO `+role)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := db.Pool.Exec(context.Background(), `DROP OWNED BY `+role+`; DROP ROLE `+role)
		require.NoError(t, err)
	})
	_, err = db.Pool.Exec(ctx, `INSERT INTO note VALUES ($1)`, s.user)
	require.NoError(t, err)
	st := newStore(t, db, newPool(t, db.URL, func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `SET ROLE `+role)
			return err
		}
	}))
	_, err = st.Purge(ctx, s.policy)
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	require.Equal(t, "42501", pg.Code)
	require.ErrorContains(t, err, "permission denied for table note")

	_, err = db.Pool.Exec(ctx, `GRANT SELECT ON note TO `+role+`; ALTER TABLE note ENABLE ROW LEVEL SECURITY`)
	require.NoError(t, err)
	s.policy.Limit = 2
	_, err = st.Purge(ctx, s.policy)
	var inUse *soultribe.InUseError
	require.ErrorAs(t, err, &inUse)
	require.Equal(t, soultribe.InUseError{Schema: "public", Table: "note", Constraint: "note_user_fkey"}, *inUse)
	require.Equal(t, []string{"4|2|2"}, db.Query(t, `SELECT (SELECT count(*) FROM "user"), (SELECT count(*) FROM availabilityslot), (SELECT count(*) FROM meetup)`))

	_, err = db.Pool.Exec(ctx, `CREATE POLICY mine ON note USING (true)`)
	require.NoError(t, err)
	require.Equal(t, s.without, purgeAll(ctx, t, st, s.policy))
}

// TestPurgeUnverifiedInMatches keeps accounts with a match or a plaintext secret of another application.
func TestPurgeUnverifiedInMatches(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx := t.Context()
	m := db.Matched(t, db.User(t).ID, db.User(t).ID)
	holder := db.User(t)
	_, err := db.Pool.Exec(ctx, `UPDATE "user" SET email_verified_at = NULL`)
	require.NoError(t, err)
	_, err = db.Store.CancelMatch(ctx, m.User1ID, m.ID)
	require.NoError(t, err)
	db.Clock.Advance(1000 * time.Hour)
	_, err = db.Pool.Exec(ctx, `INSERT INTO passwordresettoken (user_id, token, expires_at, created_at) VALUES ($1, 'plain words', $2, $2)`,
		holder.ID, db.Clock.Now().Add(time.Microsecond))
	require.NoError(t, err)
	policy := soultribe.PurgePolicy{Tokens: time.Hour, Slots: time.Hour, Meetups: time.Hour, Unverified: time.Hour}
	purged, err := db.Store.Purge(ctx, policy)
	require.NoError(t, err)
	require.Equal(t, soultribe.Purged{}, purged)
	db.Clock.Advance(time.Microsecond)
	purged, err = db.Store.Purge(ctx, policy)
	require.NoError(t, err)
	require.Equal(t, soultribe.Purged{Users: 1, PasswordResets: 1}, purged) // holder's
	require.Equal(t, []string{"2"}, db.Query(t, `SELECT count(*) FROM "user"`))
}

// TestReady has databases that the library cannot work with.
func TestReady(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx := t.Context()
	require.NoError(t, db.Store.Ready(ctx))

	missing := newStore(t, db, db.Pool, soultribe.WithSchema("elsewhere"))
	tests := []struct {
		name  string
		sql   string
		store *soultribe.Postgres
		have  int
	}{
		{"another schema", `SELECT`, missing, 0},
		{"newer", `INSERT INTO soultribe_schema_version (version_id, is_applied, tstamp) VALUES (99, true, now())`, db.Store, 99},
		{"older", `DELETE FROM soultribe_schema_version WHERE version_id > 1`, db.Store, 1},
		{"nothing applied", `DELETE FROM soultribe_schema_version`, db.Store, 0},
		{"no table", `DROP TABLE soultribe_schema_version`, db.Store, 0},
	}
	for _, test := range tests {
		_, err := db.Pool.Exec(ctx, test.sql)
		require.NoError(t, err, test.name)
		err = test.store.Ready(ctx)
		require.ErrorIs(t, err, soultribe.ErrSchema, test.name)
		require.Equal(t, "schema", soultribe.Code(err))
		var mismatch *soultribe.SchemaError
		require.ErrorAs(t, err, &mismatch)
		require.Equal(t, soultribe.SchemaError{Have: test.have, Want: soultribe.SchemaVersion}, *mismatch, test.name)
	}
	// Every other method says the same of tables that are not there.
	_, err := missing.Stats(ctx)
	require.ErrorIs(t, err, soultribe.ErrSchema)
	_, err = missing.RequestMatch(ctx, 1, 2)
	require.ErrorIs(t, err, soultribe.ErrSchema)
	_, err = missing.ProposeMeetup(ctx, 1, soultribe.NewMeetup{MatchID: 1, Times: hourAfter(time.Hour)})
	require.ErrorIs(t, err, soultribe.ErrSchema)
	_, err = missing.Settle(ctx, soultribe.SettlePolicy{})
	require.ErrorIs(t, err, soultribe.ErrSchema)
}

// TestReadOnly has the methods that only read run where nothing may be written, such as a replica.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx := t.Context()
	m := db.Matched(t, db.User(t).ID, db.User(t).ID)
	meetup := db.Meetup(t, m, hourAfter(time.Hour))
	st := newStore(t, db, newPool(t, db.URL, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on" }))
	for name, read := range map[string]func(ctx context.Context) error{
		"Match":        func(ctx context.Context) error { _, err := st.Match(ctx, m.User1ID, m.ID); return err },
		"MatchBetween": func(ctx context.Context) error { _, err := st.MatchBetween(ctx, m.User1ID, m.User2ID); return err },
		"Matches": func(ctx context.Context) error {
			_, err := st.Matches(ctx, m.User1ID, soultribe.MatchQuery{})
			return err
		},
		"Candidates": func(ctx context.Context) error {
			_, err := st.Candidates(ctx, m.User1ID, soultribe.CandidateQuery{})
			return err
		},
		"Meetup": func(ctx context.Context) error { _, err := st.Meetup(ctx, m.User1ID, meetup.ID); return err },
		"Meetups": func(ctx context.Context) error {
			_, err := st.Meetups(ctx, m.User1ID, soultribe.MeetupQuery{})
			return err
		},
		"PendingMatches": func(ctx context.Context) error { _, err := st.PendingMatches(ctx, soultribe.PageQuery{}); return err },
		"ScanMatches":    func(ctx context.Context) error { _, err := st.ScanMatches(ctx, soultribe.MatchQuery{}); return err },
		"ScanMeetups":    func(ctx context.Context) error { _, err := st.ScanMeetups(ctx, soultribe.MeetupQuery{}); return err },
		"Stats":          func(ctx context.Context) error { _, err := st.Stats(ctx); return err },
		"Ready":          st.Ready,
	} {
		require.NoError(t, read(ctx), name)
	}
	_, err := st.CancelMatch(ctx, m.User1ID, m.ID)
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	require.Equal(t, "25006", pg.Code)
}
