package soultribe_test

import (
	"context"
	"fmt"
	"testing"
	"time"

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
	require.LessOrEqual(t, sum.EmailVerifications, int64(accounts)) // others went with their accounts
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

// TestPurgeInUse has a foreign table of the host's refer to an account that would be purged.
func TestPurgeInUse(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx, st := t.Context(), db.Store
	hash, err := st.HashPassword(ctx, "correct horse battery")
	require.NoError(t, err)
	u, err := st.CreateUser(ctx, soultribe.NewUser{Email: "idle@example.org", Hash: hash})
	require.NoError(t, err)
	keeper := db.User(t)
	_, err = st.AddSlot(ctx, keeper.ID, soultribe.NewSlot{Start: soultribetest.Epoch, End: soultribetest.Epoch.Add(time.Hour), Timezone: "UTC"})
	require.NoError(t, err)
	_, err = db.Pool.Exec(ctx, `CREATE TABLE invoice (user_id integer CONSTRAINT invoice_user_fkey REFERENCES "user" (id))`)
	require.NoError(t, err)
	_, err = db.Pool.Exec(ctx, `INSERT INTO invoice VALUES ($1)`, u.ID)
	require.NoError(t, err)
	db.Clock.Advance(1000 * time.Hour)

	refuse := func(st soultribe.Store) {
		t.Helper()
		purged, err := st.Purge(ctx, soultribe.PurgePolicy{Slots: time.Hour, Unverified: time.Hour})
		require.Equal(t, soultribe.Purged{}, purged)
		require.ErrorIs(t, err, soultribe.ErrInUse)
		var inUse *soultribe.InUseError
		require.ErrorAs(t, err, &inUse)
		require.Equal(t, soultribe.InUseError{Schema: "public", Table: "invoice", Constraint: "invoice_user_fkey"}, *inUse)
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg)
	}
	refuse(st)
	tx, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	require.NoError(t, st.WithTx(tx).MarkVerified(ctx, keeper.ID))
	refuse(st.WithTx(tx))
	_, err = st.WithTx(tx).User(ctx, u.ID) // the transaction goes on
	require.NoError(t, err)
	require.NoError(t, tx.Commit(ctx))
	require.Equal(t, []string{"1"}, db.Query(t, `SELECT count(*) FROM availabilityslot`))

	purged, err := st.Purge(ctx, soultribe.PurgePolicy{Slots: time.Hour})
	require.NoError(t, err)
	require.Equal(t, soultribe.Purged{Slots: 1}, purged)
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
	require.Equal(t, soultribe.Purged{Users: 1}, purged) // holder
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
