package soultribe_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
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

// TestPurgeRacesItsOwners has people use their accounts, and the host refer to them, at the moment when these would
// be purged: what they were told was stored is, and the others' accounts are gone.
func TestPurgeRacesItsOwners(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx := t.Context()
	const accounts, purgers, rounds = 14, 3, 40
	st := opened(t, db, accounts+purgers)
	hash, err := st.HashPassword(ctx, otherPassword)
	require.NoError(t, err)
	_, err = db.Pool.Exec(ctx, `CREATE TABLE note (owner integer CONSTRAINT note_owner_fkey REFERENCES "user" ON DELETE CASCADE)`)
	require.NoError(t, err)
	keeper := db.User(t).ID
	uses := []func(u soultribe.User) error{
		func(u soultribe.User) error {
			start := db.Clock.Now().Add(time.Hour)
			return failure(st.AddSlot(ctx, u.ID, soultribe.NewSlot{Start: start, End: start.Add(time.Hour), Timezone: "UTC"}))
		},
		func(u soultribe.User) error { return failure(st.IssueEmailVerification(ctx, u.ID)) },
		func(u soultribe.User) error { return st.MarkVerified(ctx, u.ID) },
		func(u soultribe.User) error {
			if err := st.MarkVerified(ctx, u.ID); err != nil {
				return err
			}
			return failure(st.RequestMatch(ctx, u.ID, keeper))
		},
		func(u soultribe.User) error {
			_, issued, err := st.IssuePasswordReset(ctx, u.Email)
			if err == nil && !issued {
				return soultribe.ErrNotFound
			}
			return err
		},
		func(u soultribe.User) error {
			_, err := db.Pool.Exec(ctx, `INSERT INTO note VALUES ($1)`, u.ID)
			var pg *pgconn.PgError
			if errors.As(err, &pg) && pg.ConstraintName == "note_owner_fkey" {
				return soultribe.ErrNotFound
			}
			return err
		},
		// Who only logs in holds nothing.
		func(u soultribe.User) error { return failure(st.Authenticate(ctx, u.Email, otherPassword)) },
	}
	logsIn := len(uses) - 1
	var purged, kept int64
	for round := range rounds {
		users := make([]soultribe.User, accounts)
		for i := range users {
			users[i], err = st.CreateUser(ctx, soultribe.NewUser{
				Email: fmt.Sprintf("r%da%d@example.org", round, i), Hash: hash, Profile: &soultribe.NewProfile{DisplayName: "Idle"},
			})
			require.NoError(t, err)
		}
		db.Clock.Advance(time.Hour)
		policy := soultribe.PurgePolicy{Tokens: time.Minute, Slots: time.Minute, Unverified: time.Minute, Limit: 1 + round%5}
		used := make([]bool, accounts)
		gone := make([]int64, purgers)
		counts := atOnce(accounts+purgers, func(i int) error {
			if i < accounts {
				err := uses[i%len(uses)](users[i])
				used[i] = err == nil && i%len(uses) != logsIn
				return err
			}
			for more := true; more; {
				p, err := st.Purge(ctx, policy)
				if err != nil {
					return err
				}
				more = p.More
				gone[i-accounts] += p.Users
			}
			return nil
		})
		for code := range counts {
			require.Contains(t, []string{"", "not_found", "invalid_credentials"}, code)
		}
		// What the others had locked at the last look of each is left for the next.
		all := purgeAll(ctx, t, st, policy).Users
		for _, n := range gone {
			all += n
		}
		var alive int64
		for i, u := range users {
			_, err := st.Account(ctx, u.ID)
			require.Equal(t, used[i], err == nil, "account %d of round %d was used: %t, and is there: %v", i, round, used[i], err)
			if used[i] {
				alive++
			}
		}
		require.EqualValues(t, accounts, all+alive)
		purged, kept = purged+all, kept+alive
		lost := fmt.Sprintf(`SELECT u.id FROM "user" u WHERE u.email LIKE 'r%da%%' AND u.email_verified_at IS NULL
			AND NOT EXISTS (SELECT FROM availabilityslot o WHERE o.user_id = u.id) AND NOT EXISTS (SELECT FROM emailverificationtoken o WHERE o.user_id = u.id)
			AND NOT EXISTS (SELECT FROM passwordresettoken o WHERE o.user_id = u.id) AND NOT EXISTS (SELECT FROM note o WHERE o.owner = u.id)`, round)
		require.Empty(t, db.Query(t, lost), "accounts that hold nothing, or no longer what their owners were told")
		for _, u := range users {
			if err := st.MarkVerified(ctx, u.ID); !errors.Is(err, soultribe.ErrNotFound) { // out of the way of later rounds
				require.NoError(t, err)
			}
		}
	}
	t.Logf("%d accounts purged, %d used in time", purged, kept)
	require.Positive(t, purged)
	require.Positive(t, kept)
}

// TestPurgeGoesOn has a call end while it waits in the middle of its work, and another one begin.
func TestPurgeGoesOn(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, db *soultribetest.DB, pid string, cancel func()) string{
		"cancelled": func(_ *testing.T, _ *soultribetest.DB, _ string, cancel func()) string { cancel(); return "canceled" },
		"disconnected": func(t *testing.T, db *soultribetest.DB, pid string, _ func()) string {
			t.Helper()
			require.Equal(t, []string{"true"}, db.Query(t, `SELECT pg_terminate_backend($1::text::integer)`, pid))
			return "internal"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := soultribetest.New(t)
			s := newPurgeScene(t, db)
			s.policy.Limit = 10
			// Another client has locked a secret of an account that goes.
			tx, err := db.Pool.Begin(t.Context())
			require.NoError(t, err)
			_, err = tx.Exec(t.Context(), `SELECT FROM emailverificationtoken WHERE id = $1 FOR UPDATE`, s.token)
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			result := make(chan error, 1)
			go func() { result <- failure(db.Store.Purge(ctx, s.policy)) }()
			waitForBlocked(t, db)
			pids := db.Query(t, `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0`)
			require.Len(t, pids, 1)
			code := end(t, db, pids[0], cancel)
			err = <-result
			require.Equal(t, code, soultribe.Code(err), "%v", err)
			// The server, too, has given up what the client did, and before it could go on.
			for len(pids) > 0 {
				pids = db.Query(t, `SELECT pid FROM pg_stat_activity WHERE pid = $1::text::integer`, pids[0])
			}
			require.NoError(t, tx.Rollback(t.Context()))
			require.Equal(t, s.whole, purgeAll(t.Context(), t, db.Store, s.policy))
			require.Equal(t, []string{"2|1"}, db.Query(t, `SELECT count(*), count(DISTINCT m.id) FROM "user", match m`))
		})
	}
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
		"a profile":                            {`CREATE TABLE note (id integer REFERENCES profile (user_id))`, insert, profile},
		"a profile, cascade":                   {`CREATE TABLE note (id integer REFERENCES profile (user_id) ON DELETE CASCADE)`, insert, profile},
		"a secret":                             {`CREATE TABLE note (id integer REFERENCES emailverificationtoken)`, insert, token},
		"a secret, cascade":                    {`CREATE TABLE note (id integer REFERENCES emailverificationtoken ON DELETE CASCADE)`, insert, gone(token)},
		"a slot":                               {`CREATE TABLE note (id integer REFERENCES availabilityslot)`, insert, slot},
		"a slot, set null":                     {`CREATE TABLE note (id integer REFERENCES availabilityslot ON DELETE SET NULL)`, insert, gone(slot)},
		"a slot, set null where it may not be": {`CREATE TABLE note (id integer NOT NULL REFERENCES availabilityslot ON DELETE SET NULL)`, insert, slot},
		"a slot, cascade to what is referred to": {
			`CREATE TABLE note (id integer PRIMARY KEY REFERENCES availabilityslot ON DELETE CASCADE, up integer REFERENCES note ON DELETE CASCADE);
			CREATE TABLE note2 (id integer PRIMARY KEY REFERENCES note ON DELETE CASCADE); CREATE TABLE note3 (id integer REFERENCES note2)`,
			// The other slot's note goes, as nothing refers to it.
			`WITH n AS (INSERT INTO note SELECT id FROM availabilityslot), n2 AS (INSERT INTO note2 VALUES ($1)) INSERT INTO note3 VALUES ($1)`, slot,
		},
		"a meetup":          {`CREATE TABLE note (id integer REFERENCES meetup)`, insert, meetup},
		"a meetup, cascade": {`CREATE TABLE note (id integer REFERENCES meetup ON DELETE CASCADE)`, insert, gone(meetup)},
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

// TestStatsEstimates has tables that the planner takes for a thousand times as large as they are, as if so many more
// rows had been sampled.
func TestStatsEstimates(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx := t.Context()
	_, err := db.Pool.Exec(ctx, `
		ALTER TABLE availabilityslot DROP CONSTRAINT availabilityslot_no_overlap; ALTER TABLE meetup DISABLE TRIGGER USER;
		ALTER TABLE "user" SET (autovacuum_enabled = false); ALTER TABLE availabilityslot SET (autovacuum_enabled = false);
		ALTER TABLE match SET (autovacuum_enabled = false); ALTER TABLE meetup SET (autovacuum_enabled = false)`)
	require.NoError(t, err)
	_, err = db.Pool.Exec(ctx, `
		INSERT INTO "user" (id, email, password_hash, created_at, email_verified_at)
		SELECT i, i || '@example.org', '', timestamp '2026-01-01', CASE WHEN i % 4 > 0 THEN timestamp '2026-01-01' + i * interval '1 minute' END FROM generate_series(1, 2000) i`)
	require.NoError(t, err)
	// One in five is over, and of the others some are under way.
	_, err = db.Pool.Exec(ctx, `
		INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
		SELECT i, s, s + interval '1 hour', s, s + interval '1 hour', 'UTC', s, s
		FROM (SELECT i, $1::timestamp + (i - 400) * interval '1 minute' - interval '1 hour' AS s FROM generate_series(1, 2000) i) x`, db.Clock.Now())
	require.NoError(t, err)
	_, err = db.Pool.Exec(ctx, `
		INSERT INTO match (id, user1_id, user2_id, status, created_at, updated_at)
		SELECT i, i, i + 1, CASE WHEN i <= 30 THEN 'pending' WHEN i <= 230 THEN 'rejected' ELSE 'accepted' END, timestamp '2026-01-01', timestamp '2026-01-01'
		FROM generate_series(1, 1000) i`)
	require.NoError(t, err)
	_, err = db.Pool.Exec(ctx, `
		INSERT INTO meetup (match_id, scheduled_time, status, created_at, updated_at)
		SELECT i, timestamp '2026-01-01', CASE WHEN i <= 2 THEN 'proposed' WHEN i <= 5 THEN 'confirmed' WHEN i <= 105 THEN 'canceled' ELSE 'completed' END, timestamp '2026-01-01', timestamp '2026-01-01'
		FROM generate_series(1, 1000) i`)
	require.NoError(t, err)
	stats := func(st soultribe.Store) soultribe.Stats {
		t.Helper()
		s, err := st.Stats(ctx)
		require.NoError(t, err)
		require.Positive(t, s.DatabaseBytes)
		s.DatabaseBytes = 0
		return s
	}
	exact := soultribe.Stats{
		Users: 2000, Verified: 1500, SlotsAhead: 1600,
		Matches: map[soultribe.MatchStatus]int64{"pending": 30, "rejected": 200, "accepted": 770},
		Meetups: map[soultribe.MeetupStatus]int64{"proposed": 2, "confirmed": 3, "canceled": 100, "completed": 895},
	}
	require.Equal(t, exact, stats(db.Store))
	_, err = db.Pool.Exec(ctx, `ANALYZE`)
	require.NoError(t, err)
	require.Equal(t, exact, stats(db.Store))
	enlarge := `UPDATE pg_class SET reltuples = reltuples * 1000 WHERE oid IN ('"user"'::regclass, 'availabilityslot'::regclass, 'match'::regclass, 'meetup'::regclass)`
	_, err = db.Pool.Exec(ctx, enlarge)
	require.NoError(t, err)

	// What is live or ahead is counted still, as it is few.
	require.Equal(t, soultribe.Stats{
		Users: 2_000_000, Verified: 1_500_000, SlotsAhead: 1600, Estimated: true,
		Matches: map[soultribe.MatchStatus]int64{"pending": 30, "rejected": 200_000, "accepted": 770_000},
		Meetups: map[soultribe.MeetupStatus]int64{"proposed": 2, "confirmed": 3, "canceled": 100_000, "completed": 895_000},
	}, stats(db.Store))
	// None is none, whatever the sample had.
	_, err = db.Pool.Exec(ctx, `UPDATE match SET status = 'accepted' WHERE status = 'pending'; UPDATE meetup SET status = 'cancelled' WHERE status IN ('proposed', 'confirmed')`)
	require.NoError(t, err)
	got := stats(db.Store)
	require.NotContains(t, got.Matches, soultribe.MatchPending)
	require.NotContains(t, got.Meetups, soultribe.MeetupProposed)
	require.NotContains(t, got.Meetups, soultribe.MeetupConfirmed)
	// A table that grew is estimated by its size now.
	_, err = db.Pool.Exec(ctx, `INSERT INTO "user" (id, email, password_hash, created_at) SELECT i + 2000, i || '@example.com', '', timestamp '2026-01-01' FROM generate_series(1, 2000) i`)
	require.NoError(t, err)
	require.InEpsilon(t, 4_000_000, stats(db.Store).Users, 0.1)

	// A role that row security keeps from the statistics counts what it sees.
	role := "soultribe_stats_" + strings.ToLower(rand.Text()[:8])
	_, err = db.Pool.Exec(ctx, `CREATE ROLE `+role+`; GRANT SELECT ON "user", availabilityslot, match, meetup TO `+role+`;
		ALTER TABLE "user" ENABLE ROW LEVEL SECURITY; CREATE POLICY early ON "user" FOR SELECT USING (id <= 500)`)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := db.Pool.Exec(context.Background(), `DROP OWNED BY `+role+`; DROP ROLE `+role)
		require.NoError(t, err)
	})
	got = stats(newStore(t, db, newPool(t, db.URL, func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `SET ROLE `+role)
			return err
		}
	})))
	require.EqualValues(t, 500, got.Users)
	require.EqualValues(t, 375, got.Verified)
	require.True(t, got.Estimated) // the others are
}

// TestStatsLarge has more rows than Stats counts. It reads no more of them than it may, but where it has nothing to
// estimate them by.
func TestStatsLarge(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx := t.Context()
	_, err := db.Pool.Exec(ctx, `
		ALTER TABLE availabilityslot DROP CONSTRAINT availabilityslot_no_overlap; ALTER TABLE availabilityslot SET (autovacuum_enabled = false);
		DROP INDEX availabilityslot_group_start_idx, availabilityslot_user_start_idx`)
	require.NoError(t, err)
	owner := db.User(t).ID
	const slots = 240_000
	_, err = db.Pool.Exec(ctx, `
		INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
		SELECT $2, s, s + interval '1 hour', s, s + interval '1 hour', 'UTC', s, s
		FROM (SELECT i, $1::timestamp + (i - 80000) * interval '1 minute' - interval '1 hour' AS s FROM generate_series(1, 240000) i ORDER BY i % 1009) x`, db.Clock.Now(), owner)
	require.NoError(t, err)
	read := func() (s soultribe.Stats, rows int64) {
		t.Helper()
		tx, err := newPool(t, db.URL).Begin(ctx) // in a session that has read nothing
		require.NoError(t, err)
		defer func() { require.NoError(t, tx.Rollback(ctx)) }()
		s, err = db.Store.WithTx(tx).Stats(ctx)
		require.NoError(t, err)
		require.NoError(t, tx.QueryRow(ctx, `SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'availabilityslot'`).Scan(&rows))
		return s, rows
	}
	const ahead = 160_000
	s, _ := read()
	require.EqualValues(t, ahead, s.SlotsAhead)
	require.False(t, s.Estimated)
	require.EqualValues(t, 1, s.Users)

	// Until no snapshot of the server's own has it see what another could not.
	for visible := ""; visible != "true"; {
		_, err = db.Pool.Exec(ctx, `VACUUM ANALYZE availabilityslot`)
		require.NoError(t, err)
		visible = db.Query(t, `SELECT relallvisible = relpages FROM pg_class WHERE oid = 'availabilityslot'::regclass`)[0]
	}
	s, rows := read()
	require.InDelta(t, ahead, s.SlotsAhead, slots/100)
	require.True(t, s.Estimated)
	require.Zero(t, rows, "rows read one after the other")
	require.EqualValues(t, 1, s.Users)
	// It is counted again when that many are ahead.
	db.Clock.Advance((ahead - 100_000) * time.Minute)
	s, _ = read()
	require.EqualValues(t, 100_000, s.SlotsAhead)
	require.False(t, s.Estimated)
	db.Clock.Advance(-time.Minute)
	s, _ = read()
	require.InDelta(t, 100_001, s.SlotsAhead, slots/100)
	require.Greater(t, s.SlotsAhead, int64(100_000))
	require.True(t, s.Estimated)
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

// heldRow is what random rows have in common: an id, and whether a table of the host's refers to it.
type heldRow struct {
	id       int
	referred bool
}

// TestPurgeRandom purges random rows, of ages at the very edges, under random policies. What is left is what a plain
// reading of the rules says, and what went is what the preview counted. It prints the seed of a failure.
func TestPurgeRandom(t *testing.T) {
	t.Parallel()
	for _, host := range []bool{false, true} {
		t.Run(fmt.Sprintf("host %t", host), func(t *testing.T) {
			t.Parallel()
			db := soultribetest.New(t)
			// Rows that overlap, and bookings, are not what this is about.
			_, err := db.Pool.Exec(t.Context(), `ALTER TABLE availabilityslot DROP CONSTRAINT availabilityslot_no_overlap;
				ALTER TABLE meetup DISABLE TRIGGER USER`)
			require.NoError(t, err)
			if host {
				_, err := db.Pool.Exec(t.Context(), `
					CREATE TABLE note_user (id integer REFERENCES "user" ON DELETE CASCADE);
					CREATE TABLE note_availabilityslot (id integer REFERENCES availabilityslot);
					CREATE TABLE note_emailverificationtoken (id integer REFERENCES emailverificationtoken ON DELETE RESTRICT);
					CREATE TABLE note_meetup (id integer REFERENCES meetup DEFERRABLE INITIALLY DEFERRED)`)
				require.NoError(t, err)
			}
			var sum soultribe.Purged
			for seed := range uint64(60) {
				r := randomRows{T: t, db: db, rand: mathrand.New(mathrand.NewPCG(seed, 0)), host: host, now: soultribetest.Epoch}
				r.make()
				db.Clock.Set(r.now)
				left := r.left()
				sum = addPurged(sum, purgeAll(t.Context(), t, db.Store, r.policy))
				for table, want := range left {
					lines := []string{}
					for _, id := range want {
						lines = append(lines, fmt.Sprint(id))
					}
					require.ElementsMatch(t, lines, db.Query(t, `SELECT id FROM `+table), "%s of seed %d, policy %+v", table, seed, r.policy)
				}
			}
			t.Logf("purged %+v", sum)
			for _, n := range []int64{sum.Users, sum.EmailVerifications, sum.PasswordResets, sum.Slots, sum.Meetups} {
				require.Positive(t, n)
			}
		})
	}
}

// randomRows are the rows of a few accounts, half of which nobody verified.
type randomRows struct {
	*testing.T
	db     *soultribetest.DB
	rand   *mathrand.Rand
	host   bool
	now    time.Time
	policy soultribe.PurgePolicy

	accounts []randomAccount
	tokens   map[string][]randomToken
	slots    []randomSlot
	matches  [][2]int
	meetups  []randomMeetup
}

type (
	randomAccount struct {
		heldRow
		verified bool
		created  time.Time
	}
	randomToken struct {
		heldRow
		user    int
		used    *time.Time
		expires time.Time
	}
	randomSlot struct {
		heldRow
		user int
		end  time.Time
	}
	randomMeetup struct {
		heldRow
		status       string
		end, updated time.Time
		infinite     bool
	}
)

// age is none, or some hours.
func (r *randomRows) age() time.Duration {
	return time.Duration(r.rand.IntN(4)) * 10 * time.Hour
}

// at is a time about which a cutoff may be wrong: at, just before or just after it, or now.
func (r *randomRows) at(age time.Duration) time.Time {
	if r.rand.IntN(2) == 0 {
		age = []time.Duration{0, -time.Hour, 2 * age, 100 * time.Hour}[r.rand.IntN(4)]
	}
	return r.now.Add(-age + time.Duration(r.rand.IntN(3)-1)*time.Microsecond)
}

func (r *randomRows) insert(sql string, args ...any) (id int) {
	r.Helper()
	require.NoError(r, r.db.Pool.QueryRow(r.Context(), sql+` RETURNING id`, args...).Scan(&id))
	return id
}

// held has the host refer to a row now and then.
func (r *randomRows) held(table string, id int) heldRow {
	r.Helper()
	row := heldRow{id, r.host && r.rand.IntN(4) == 0}
	if row.referred {
		_, err := r.db.Pool.Exec(r.Context(), `INSERT INTO note_`+strings.Trim(table, `"`)+` VALUES ($1)`, id)
		require.NoError(r, err)
	}
	return row
}

func (r *randomRows) make() {
	r.Helper()
	_, err := r.db.Pool.Exec(r.Context(), `TRUNCATE "user" CASCADE`)
	require.NoError(r, err)
	r.policy = soultribe.PurgePolicy{Tokens: r.age(), Slots: r.age(), Meetups: r.age(), Unverified: r.age(), Limit: 1 + r.rand.IntN(4)}
	for i := range 8 {
		a := randomAccount{verified: r.rand.IntN(3) == 0, created: r.at(r.policy.Unverified)}
		a.heldRow = r.held("user", r.insert(`INSERT INTO "user" (email, password_hash, created_at, email_verified_at) VALUES ($1, '', $2::timestamp, CASE WHEN $3::boolean THEN $2::timestamp END)`,
			fmt.Sprintf("%d@example.org", i), a.created, a.verified))
		r.accounts = append(r.accounts, a)
	}
	anyone := func() int { return r.accounts[r.rand.IntN(len(r.accounts))].id }
	r.tokens = map[string][]randomToken{}
	for _, table := range []string{"emailverificationtoken", "passwordresettoken"} {
		for i := range 5 {
			token := randomToken{user: anyone(), expires: r.at(r.policy.Tokens)}
			if r.rand.IntN(2) == 0 {
				used := r.at(r.policy.Tokens)
				token.used = &used
			}
			token.id = r.insert(`INSERT INTO `+table+` (user_id, token, created_at, expires_at, used_at) VALUES ($1, $2, $3::timestamp, $3::timestamp, $4)`, token.user, fmt.Sprint(i), token.expires, token.used)
			if table == "emailverificationtoken" {
				token.heldRow = r.held(table, token.id)
			}
			r.tokens[table] = append(r.tokens[table], token)
		}
	}
	for range 5 {
		s := randomSlot{user: anyone(), end: r.at(r.policy.Slots)}
		s.heldRow = r.held("availabilityslot", r.insert(`INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
			VALUES ($1, $2::timestamp, $3::timestamp, $2::timestamp, $3::timestamp, 'UTC', $2::timestamp, $2::timestamp)`, s.user, s.end.Add(-time.Hour), s.end))
		r.slots = append(r.slots, s)
	}
	for i := range 4 {
		one, other := r.accounts[i].id, r.accounts[7-i].id
		match := r.insert(`INSERT INTO match (user1_id, user2_id, status, created_at, updated_at) VALUES ($1, $2, 'accepted', $3::timestamp, $3::timestamp)`, one, other, r.now)
		if r.rand.IntN(2) == 0 {
			_, err := r.db.Pool.Exec(r.Context(), `DELETE FROM match WHERE id = $1`, match)
			require.NoError(r, err)
			continue
		}
		r.matches = append(r.matches, [2]int{one, other})
		// One of a match may be live.
		statuses := []string{"completed", "cancelled", "completed", "cancelled", "canceled", "suggested", "proposed", "confirmed"}
		for range 2 {
			m := randomMeetup{status: statuses[r.rand.IntN(len(statuses))], end: r.at(r.policy.Meetups), updated: r.at(r.policy.Meetups), infinite: r.rand.IntN(8) == 0}
			if m.status == "proposed" || m.status == "confirmed" {
				statuses = statuses[:6]
			}
			seconds := []int{0, 900, 3600, 86400}[r.rand.IntN(4)] // 0 is NULL, an hour
			start := "infinity"
			if !m.infinite {
				start = m.end.Add(-time.Duration(cmp.Or(seconds, 3600)) * time.Second).Format("2006-01-02 15:04:05.999999")
			}
			m.heldRow = r.held("meetup", r.insert(`INSERT INTO meetup (match_id, scheduled_time, duration_seconds, status, created_at, updated_at)
				VALUES ($1, $2::text::timestamp, nullif($3::integer, 0), $4, $5::timestamp, $5::timestamp)`, match, start, seconds, m.status, m.updated))
			r.meetups = append(r.meetups, m)
		}
	}
}

// left are the ids of what must be left in each table.
func (r *randomRows) left() map[string][]int {
	over := func(at time.Time, age time.Duration) bool { return age != 0 && at.Before(r.now.Add(-age)) }
	left := map[string][]int{}
	holds := map[int]bool{} // accounts that hold something
	owned := map[string]map[int]int{"emailverificationtoken": {}, "passwordresettoken": {}, "availabilityslot": {}}
	for table, tokens := range r.tokens {
		for _, token := range tokens {
			done := token.expires
			if token.used != nil && token.used.Before(done) {
				done = *token.used
			}
			if token.referred || token.used == nil && token.expires.After(r.now) {
				holds[token.user] = true
			}
			if token.referred || !over(done, r.policy.Tokens) {
				owned[table][token.id] = token.user
			}
		}
	}
	for _, s := range r.slots {
		if s.referred || !over(s.end, r.policy.Slots) {
			holds[s.user] = true
			owned["availabilityslot"][s.id] = s.user
		}
	}
	for _, m := range r.matches {
		holds[m[0]], holds[m[1]] = true, true
	}
	stays := map[int]bool{}
	for _, a := range r.accounts {
		if stays[a.id] = a.verified || a.referred || holds[a.id] || !over(a.created, r.policy.Unverified); stays[a.id] {
			left[`"user"`] = append(left[`"user"`], a.id)
		}
	}
	for table, rows := range owned {
		left[table] = []int{}
		for id, user := range rows {
			if stays[user] {
				left[table] = append(left[table], id)
			}
		}
	}
	for _, m := range r.meetups {
		ended := m.status == "completed" || m.status == "cancelled"
		if m.referred || !ended || m.infinite || !over(m.end, r.policy.Meetups) || !over(m.updated, r.policy.Meetups) {
			left["meetup"] = append(left["meetup"], m.id)
		}
	}
	return left
}
