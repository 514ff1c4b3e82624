package soultribe_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// hourAfter is an hour that begins so long after the Epoch.
func hourAfter(d time.Duration) soultribe.Times {
	return soultribe.Times{Start: soultribetest.Epoch.Add(d), Duration: time.Hour}
}

// proposed makes a match, for which a asked and in which a proposes.
func proposed(t *testing.T, db *soultribetest.DB, a, b soultribe.UserID, times soultribe.Times) soultribe.Meetup {
	t.Helper()
	return propose(t, db, db.Matched(t, a, b), a, times)
}

func propose(t *testing.T, db *soultribetest.DB, m soultribe.Match, actor soultribe.UserID, times soultribe.Times) soultribe.Meetup {
	t.Helper()
	r, err := db.Store.ProposeMeetup(t.Context(), actor, soultribe.NewMeetup{MatchID: m.ID, Times: times})
	require.NoError(t, err)
	return r.Meetup
}

// TestOnlyOneIsConfirmed confirms at one moment meetups of one person with many others that all overlap.
func TestOnlyOneIsConfirmed(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	const meetups, rounds = 64, 3
	st := opened(t, db, 32)
	var outcomes tally
	for round := range rounds {
		shared := db.User(t).ID
		confirmers := make([]soultribe.UserID, meetups)
		made := make([]soultribe.Meetup, meetups)
		for i := range made {
			// All have the minute from the hour on in common, and the two take turns in who confirms.
			other := db.User(t).ID
			m := db.Matched(t, other, shared)
			proposer, confirmer := other, shared
			if i%2 == 1 {
				proposer, confirmer = shared, other
			}
			confirmers[i] = confirmer
			made[i] = propose(t, db, m, proposer, hourAfter(time.Duration(round)*24*time.Hour+2*time.Hour-time.Duration(i)*30*time.Second))
		}
		counts := atOnce(meetups, func(i int) error {
			r, err := st.ConfirmMeetup(t.Context(), confirmers[i], made[i].ID, made[i].Times)
			outcomes.add(r.Changed, err)
			if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
				return errors.New("it came to the constraint, which is for those who lock nobody")
			}
			return err
		})
		require.Equal(t, map[string]int{"": 1, "double_booked": meetups - 1}, counts)
		require.Equal(t, []string{"1"}, db.Query(t,
			`SELECT count(*) FROM meetup mt JOIN match m ON m.id = mt.match_id WHERE mt.status = 'confirmed' AND $1 IN (m.user1_id, m.user2_id)`, int64(shared)))
	}
	outcomes.requireOnly(t, "double_booked")
	require.Equal(t, rounds, outcomes.changed)
	requireSound(t, db)
}

// TestConfirmationsInARing confirms at one moment meetups at one hour in a ring of people, where each
// shares one with the next: the order in which people are locked must not close the ring.
func TestConfirmationsInARing(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	const people, rounds = 12, 6
	st := opened(t, db, 2*people)
	ids := make([]soultribe.UserID, people)
	for i := range ids {
		ids[i] = db.User(t).ID
	}
	matches := make([]soultribe.Match, people)
	for i := range matches {
		matches[i] = db.Matched(t, ids[i], ids[(i+1)%people])
	}
	var outcomes tally
	for range rounds {
		db.Clock.Advance(48 * time.Hour)
		made := make([]soultribe.Meetup, people)
		for i, m := range matches {
			made[i] = propose(t, db, m, m.User1ID, soultribe.Times{Start: db.Clock.Now().Add(time.Hour)})
		}
		atOnce(2*people, func(i int) error {
			m := made[i%people]
			r, err := st.ConfirmMeetup(t.Context(), m.User2ID, m.ID, m.Times)
			outcomes.add(r.Changed, err)
			return err
		})
		// Whoever was refused has a neighbour who was not.
		confirmed := map[soultribe.UserID]bool{}
		var refused []soultribe.Meetup
		for _, m := range made {
			now, err := st.Meetup(t.Context(), m.User1ID, m.ID)
			require.NoError(t, err)
			if now.Status == soultribe.MeetupConfirmed {
				confirmed[m.User1ID], confirmed[m.User2ID] = true, true
			} else {
				refused = append(refused, m)
			}
		}
		for _, m := range refused {
			require.True(t, confirmed[m.User1ID] || confirmed[m.User2ID], "%v was refused for nothing", m)
		}
		requireSound(t, db)
	}
	outcomes.requireOnly(t, "double_booked")
}

// TestPlainSQLCannotDoubleBook has another client write what the rules forbid.
func TestPlainSQLCannotDoubleBook(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx := t.Context()
	a := db.User(t).ID
	db.Meetup(t, db.Matched(t, a, db.User(t).ID), hourAfter(10*time.Hour))
	rival := proposed(t, db, db.User(t).ID, a, hourAfter(10*time.Hour+30*time.Minute))
	adjacent := db.Meetup(t, db.Matched(t, db.User(t).ID, a), hourAfter(11*time.Hour))
	unmatched := db.Matched(t, db.User(t).ID, a)
	tests := []struct {
		name, sql        string
		args             []any
		code, constraint string
	}{
		{"confirm", `UPDATE meetup SET status = 'confirmed' WHERE id = $1`, []any{rival.ID}, "23P01", "soultribe_booking_no_overlap"},
		{"confirm all", `UPDATE meetup SET status = 'confirmed'`, nil, "23P01", "soultribe_booking_no_overlap"},
		{"move", `UPDATE meetup SET scheduled_time = scheduled_time - interval '1 second' WHERE id = $1`, []any{adjacent.ID}, "23P01", "soultribe_booking_no_overlap"},
		{"prolong", `UPDATE meetup SET duration_seconds = 3601 WHERE scheduled_time = $1`, []any{soultribetest.Epoch.Add(10 * time.Hour)}, "23P01", "soultribe_booking_no_overlap"},
		{
			"insert", `INSERT INTO meetup (match_id, scheduled_time, status, created_at, updated_at) VALUES ($1, $2, 'confirmed', $2, $2)`,
			[]any{unmatched.ID, soultribetest.Epoch.Add(10 * time.Hour)}, "23P01", "soultribe_booking_no_overlap",
		},
		{"give to another match", `UPDATE meetup SET match_id = $2, proposer_id = NULL, status = 'confirmed' WHERE id = $1`, []any{rival.ID, unmatched.ID}, "23P01", "soultribe_booking_no_overlap"},
		{
			"a second live one", `INSERT INTO meetup (match_id, scheduled_time, status, created_at, updated_at) VALUES ($1, $2, 'proposed', $2, $2)`,
			[]any{rival.MatchID, soultribetest.Epoch.Add(99 * time.Hour)}, "23505", "meetup_live_key",
		},
		{"too short", `UPDATE meetup SET duration_seconds = 899 WHERE id = $1`, []any{rival.ID}, "23514", "meetup_duration_check"},
		{"too long", `UPDATE meetup SET duration_seconds = 86401 WHERE id = $1`, []any{rival.ID}, "23514", "meetup_duration_check"},
		{"a stranger proposes", `UPDATE meetup SET proposer_id = $2 WHERE id = $1`, []any{rival.ID, unmatched.User1ID}, "23514", "meetup_proposer_check"},
	}
	before := db.Query(t, `SELECT * FROM meetup ORDER BY id`)
	for _, test := range tests {
		_, err := db.Pool.Exec(ctx, test.sql, test.args...)
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg, test.name)
		require.Equal(t, test.code, pg.Code, test.name)
		require.Equal(t, test.constraint, pg.ConstraintName, test.name)
	}
	require.Equal(t, before, db.Query(t, `SELECT * FROM meetup ORDER BY id`))
	requireSound(t, db)

	// What plain SQL may do keeps the bookings in step.
	for _, sql := range []string{
		`UPDATE meetup SET status = 'canceled' WHERE status = 'confirmed' AND scheduled_time >= $1`,
		`UPDATE meetup SET status = 'confirmed' WHERE status = 'proposed' AND $1::timestamp IS NOT NULL`,
		`UPDATE meetup SET scheduled_time = scheduled_time + interval '1 year', duration_seconds = NULL WHERE $1::timestamp IS NOT NULL`,
		`DELETE FROM meetup WHERE scheduled_time < $1::timestamp + interval '400 days' AND status = 'confirmed'`,
	} {
		_, err := db.Pool.Exec(ctx, sql, soultribetest.Epoch.Add(10*time.Hour))
		require.NoError(t, err)
		requireSound(t, db)
	}
	require.Empty(t, db.Query(t, `SELECT user_id FROM soultribe_booking`))
}

// TestConfirmRacesReschedule has one confirm the times seen while the other moves them: a confirmation
// never is of times that were not seen.
func TestConfirmRacesReschedule(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	st := opened(t, db, 8)
	const rounds = 60
	m := db.Matched(t, db.User(t).ID, db.User(t).ID)
	var confirms, moves tally
	for range rounds {
		db.Clock.Advance(100 * time.Hour)
		seen := soultribe.Times{Start: db.Clock.Now().Add(time.Hour), Duration: time.Hour}
		to := soultribe.Times{Start: seen.Start.Add(time.Hour), Duration: 2 * time.Hour}
		meetup := propose(t, db, m, m.User1ID, seen)
		atOnce(8, func(i int) error {
			if i%2 == 0 {
				r, err := st.ConfirmMeetup(t.Context(), m.User2ID, meetup.ID, seen)
				confirms.add(r.Changed, err)
				return err
			}
			r, err := st.RescheduleMeetup(t.Context(), m.User1ID, meetup.ID, soultribe.Reschedule{Seen: seen, To: to})
			moves.add(r.Changed, err)
			return err
		})
		// Confirmed before or not, it was moved from the times that its mover saw.
		got, err := st.Meetup(t.Context(), m.User1ID, meetup.ID)
		require.NoError(t, err)
		require.Equal(t, soultribe.MeetupProposed, got.Status)
		require.Equal(t, to, got.Times)
		require.Equal(t, m.User1ID, got.ProposerID)
		requireSound(t, db)
	}
	confirms.requireOnly(t, "meetup_changed")
	moves.requireOnly(t)
	require.Equal(t, rounds, moves.changed)
}

// TestBothReschedule has both move a meetup from the same times: one of them wins.
func TestBothReschedule(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	st := opened(t, db, 16)
	m := db.Matched(t, db.User(t).ID, db.User(t).ID)
	meetup := propose(t, db, m, m.User1ID, hourAfter(time.Hour))
	var outcomes tally
	for round := range 20 {
		outcomes = tally{}
		atOnce(16, func(i int) error {
			actor := m.User1ID
			if i%2 == 1 {
				actor = m.User2ID
			}
			to := hourAfter(time.Duration(round+1)*24*time.Hour + time.Duration(i)*time.Minute)
			r, err := st.RescheduleMeetup(t.Context(), actor, meetup.ID, soultribe.Reschedule{Seen: meetup.Times, To: to})
			outcomes.add(r.Changed, err)
			return err
		})
		require.Equal(t, map[string]int{"": 1, "meetup_changed": 15}, outcomes.counts)
		require.Equal(t, 1, outcomes.changed)
		var err error
		meetup, err = st.Meetup(t.Context(), m.User1ID, meetup.ID)
		require.NoError(t, err)
	}
	requireSound(t, db)
}

// TestBothPropose has both propose many times at one moment.
func TestBothPropose(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	st := opened(t, db, 32)
	const rounds, proposals = 12, 32
	m := db.Matched(t, db.User(t).ID, db.User(t).ID)
	var outcomes tally
	for range rounds {
		db.Clock.Advance(100 * time.Hour) // the one before is forgotten
		atOnce(proposals, func(i int) error {
			actor := m.User1ID
			if i%2 == 1 {
				actor = m.User2ID
			}
			r, err := st.ProposeMeetup(t.Context(), actor, soultribe.NewMeetup{
				MatchID: m.ID, Times: soultribe.Times{Start: db.Clock.Now().Add(time.Duration(1+i) * time.Hour)},
			})
			outcomes.add(r.Changed, err)
			return err
		})
	}
	outcomes.requireOnly(t, "meetup_exists")
	require.Equal(t, rounds, outcomes.changed)
	require.Equal(t, []string{"cancelled|11", "proposed|1"}, db.Query(t, `SELECT status, count(*) FROM meetup GROUP BY 1 ORDER BY 1`))
	requireSound(t, db)
}

// TestCancelMatchRacesMeetups has one end the match while both propose, confirm and move meetups in it.
func TestCancelMatchRacesMeetups(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	st := opened(t, db, 8, withoutCooldowns)
	const rounds = 40
	m := db.Matched(t, db.User(t).ID, db.User(t).ID)
	var outcomes, cancels tally
	for range rounds {
		db.Clock.Advance(100 * time.Hour)
		seen := soultribe.Times{Start: db.Clock.Now().Add(time.Hour), Duration: time.Hour}
		meetup := propose(t, db, m, m.User1ID, seen)
		atOnce(8, func(i int) error {
			var r soultribe.MeetupResult
			var err error
			switch i % 4 {
			case 0:
				c, err := st.CancelMatch(t.Context(), m.User2ID, m.ID)
				cancels.add(c.Changed, err)
				return err
			case 1:
				r, err = st.ConfirmMeetup(t.Context(), m.User2ID, meetup.ID, seen)
			case 2:
				r, err = st.ProposeMeetup(t.Context(), m.User2ID, soultribe.NewMeetup{MatchID: m.ID, Times: soultribe.Times{Start: seen.Start.Add(time.Minute)}})
			case 3:
				r, err = st.RescheduleMeetup(t.Context(), m.User1ID, meetup.ID, soultribe.Reschedule{Seen: seen, To: soultribe.Times{Start: seen.Start.Add(time.Hour)}})
			}
			outcomes.add(r.Changed, err)
			return err
		})
		require.Equal(t, []string{"cancelled"}, db.Query(t, `SELECT status FROM match`))
		require.Empty(t, db.Query(t, `SELECT id FROM meetup WHERE status <> 'cancelled'`))
		requireSound(t, db)
		for _, actor := range []soultribe.UserID{m.User1ID, m.User2ID} {
			_, err := st.RequestMatch(t.Context(), actor, m.Partner(actor))
			require.NoError(t, err)
		}
	}
	outcomes.requireOnly(t, "transition", "meetup_exists", "meetup_changed")
	cancels.requireOnly(t)
	require.Equal(t, rounds, cancels.changed)
}

// TestCancelMatchWaitsForProposal has a match end while a proposal in it is not committed yet: the two
// know of each other, whichever comes first.
func TestCancelMatchWaitsForProposal(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"propose", "cancel"} {
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			db := soultribetest.New(t)
			ctx := t.Context()
			m := db.Matched(t, db.User(t).ID, db.User(t).ID)
			steps := map[string]func(st soultribe.Store) error{
				"propose": func(st soultribe.Store) error {
					_, err := st.ProposeMeetup(ctx, m.User1ID, soultribe.NewMeetup{MatchID: m.ID, Times: hourAfter(time.Hour)})
					return err
				},
				"cancel": func(st soultribe.Store) error { _, err := st.CancelMatch(ctx, m.User2ID, m.ID); return err },
			}
			tx, err := db.Pool.Begin(ctx)
			require.NoError(t, err)
			require.NoError(t, steps[first](db.Store.WithTx(tx)))
			delete(steps, first)
			done := make(chan error)
			for _, second := range steps {
				go func() { done <- second(db.Store) }()
			}
			waitForBlocked(t, db)
			require.NoError(t, tx.Commit(ctx))
			if err := <-done; first == "cancel" {
				require.Equal(t, "transition", soultribe.Code(err))
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, []string{"cancelled"}, db.Query(t, `SELECT status FROM match`))
			require.Empty(t, db.Query(t, `SELECT id FROM meetup WHERE status <> 'cancelled'`))
		})
	}
}

// TestMeetupStorm has the people of a small crowd take any step with any of their meetups, while jobs
// settle and the clock runs.
func TestMeetupStorm(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	const people, workers, steps = 8, 24, 60
	st := opened(t, db, workers)
	ids := make([]soultribe.UserID, people)
	for i := range ids {
		ids[i] = db.User(t).ID
	}
	var matches []soultribe.Match
	for i, a := range ids {
		for _, b := range ids[:i] {
			matches = append(matches, db.Matched(t, a, b))
		}
	}
	recordSteps(t, db, "meetup")
	var outcomes tally
	var settled tally
	atOnce(workers, func(worker int) error {
		random := rand.New(rand.NewPCG(uint64(worker), 3))
		for range steps {
			if worker == 0 {
				db.Clock.Advance(20 * time.Minute)
				s, err := st.Settle(t.Context(), soultribe.SettlePolicy{Limit: 5})
				for range len(s.Cancelled) + len(s.Completed) {
					settled.add(true, err)
				}
				continue
			}
			m := matches[random.IntN(len(matches))]
			actor := m.User1ID
			if random.IntN(2) == 0 {
				actor = m.User2ID
			}
			times := soultribe.Times{Start: db.Clock.Now().Add(time.Duration(1+random.IntN(8)) * 10 * time.Minute), Duration: time.Duration(1+random.IntN(4)) * 15 * time.Minute}
			page, err := st.Meetups(t.Context(), actor, soultribe.MeetupQuery{MatchID: m.ID, Latest: true, Limit: 1})
			outcomes.add(false, err)
			if len(page.Items) == 0 || random.IntN(6) == 0 {
				r, err := st.ProposeMeetup(t.Context(), actor, soultribe.NewMeetup{MatchID: m.ID, Times: times})
				outcomes.add(r.Changed, err)
				continue
			}
			last := page.Items[0]
			var r soultribe.MeetupResult
			switch random.IntN(12) {
			default:
				r, err = st.ConfirmMeetup(t.Context(), actor, last.ID, last.Times)
			case 0:
				r, err = st.RescheduleMeetup(t.Context(), actor, last.ID, soultribe.Reschedule{Seen: last.Times, To: times})
			case 1:
				r, err = st.CancelMeetup(t.Context(), actor, last.ID)
			case 2:
				r, err = st.CompleteMeetup(t.Context(), actor, last.ID)
			}
			outcomes.add(r.Changed, err)
		}
		return nil
	})
	outcomes.requireOnly(t, "wrong_side", "transition", "meetup_exists", "meetup_changed", "past", "double_booked")
	settled.requireOnly(t)
	require.Empty(t, db.Query(t, `SELECT * FROM step WHERE step NOT IN ('-proposed', 'proposed-confirmed', 'proposed-proposed', 'confirmed-proposed',
		'proposed-cancelled', 'confirmed-cancelled', 'confirmed-completed')`))
	t.Logf("steps: %v", db.Query(t, `SELECT step, count(*) FROM step GROUP BY step ORDER BY step`))
	requireSound(t, db)
}

// TestMeetupsRaceDeletion has people delete their accounts while others propose, confirm, cancel and settle.
func TestMeetupsRaceDeletion(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	const rounds, people = 5, 10
	st := opened(t, db, 24)
	var outcomes, deletions tally
	for range rounds {
		ids := make([]soultribe.UserID, people)
		for i := range ids {
			ids[i] = db.User(t).ID
		}
		// Each has meetups that are over with some, and ahead with others.
		var over, ahead []soultribe.Meetup
		for i := range ids {
			over = append(over, db.Meetup(t, db.Matched(t, ids[i], ids[(i+1)%people]), soultribe.Times{Start: db.Clock.Now().Add(time.Duration(1+i) * time.Hour)}))
			ahead = append(ahead, proposed(t, db, ids[i], ids[(i+3)%people], soultribe.Times{Start: db.Clock.Now().Add(100*time.Hour + time.Duration(i%2)*time.Hour)}))
		}
		db.Clock.Advance(50 * time.Hour)
		atOnce(3*people, func(i int) error {
			m := ahead[i%people]
			switch {
			case i < people/2:
				_, err := st.DeleteUser(t.Context(), ids[2*i])
				deletions.add(true, err)
			case i < people:
				s, err := st.Settle(t.Context(), soultribe.SettlePolicy{Limit: 4})
				outcomes.add(len(s.Completed) > 0, err)
			case i < 2*people:
				r, err := st.ConfirmMeetup(t.Context(), m.User2ID, m.ID, m.Times)
				outcomes.add(r.Changed, err)
			default:
				r, err := st.CompleteMeetup(t.Context(), over[i%people].User1ID, over[i%people].ID)
				outcomes.add(r.Changed, err)
				r, err = st.CancelMeetup(t.Context(), m.User1ID, m.ID)
				outcomes.add(r.Changed, err)
			}
			return nil
		})
		requireSound(t, db)
	}
	outcomes.requireOnly(t, "not_found", "double_booked", "transition")
	deletions.requireOnly(t)
	require.Equal(t, []string{fmt.Sprint(rounds * people / 2)}, db.Query(t, `SELECT count(*) FROM "user"`))
}

// TestConfirmMeetsPlainSQL has another client, which locks nobody, confirm a rival meetup while one is
// confirmed here in the caller's transaction: the constraint refuses, and the transaction goes on.
func TestConfirmMeetsPlainSQL(t *testing.T) {
	t.Parallel()
	for _, inTransaction := range []bool{true, false} {
		t.Run(fmt.Sprintf("in a transaction: %t", inTransaction), func(t *testing.T) {
			t.Parallel()
			db := soultribetest.New(t)
			ctx := t.Context()
			a := db.User(t).ID
			rival := proposed(t, db, a, db.User(t).ID, hourAfter(time.Hour))
			mine := proposed(t, db, db.User(t).ID, a, hourAfter(time.Hour))
			plain, err := db.Pool.Begin(ctx)
			require.NoError(t, err)
			_, err = plain.Exec(ctx, `UPDATE meetup SET status = 'confirmed' WHERE id = $1`, rival.ID)
			require.NoError(t, err)

			confirm := func(ctx context.Context, st soultribe.Store) error {
				_, err := st.ConfirmMeetup(ctx, a, mine.ID, mine.Times)
				return err
			}
			refusal, done := make(chan error, 1), make(chan error, 1)
			go func() {
				if !inTransaction {
					refusal <- confirm(ctx, db.Store)
					done <- nil
					return
				}
				done <- db.Store.InTx(ctx, func(ctx context.Context, tx pgx.Tx, st soultribe.Store) error {
					if _, err := tx.Exec(ctx, `CREATE TABLE before ()`); err != nil {
						return err
					}
					refusal <- confirm(ctx, st)
					_, err := tx.Exec(ctx, `CREATE TABLE after ()`)
					return err
				})
			}()
			waitForBlocked(t, db)
			require.NoError(t, plain.Commit(ctx))
			err = <-refusal
			require.ErrorIs(t, err, soultribe.ErrDoubleBooked)
			var pg *pgconn.PgError
			require.ErrorAs(t, err, &pg)
			require.Equal(t, "23P01", pg.Code)
			require.Equal(t, "soultribe_booking_no_overlap", pg.ConstraintName)
			require.NoError(t, <-done)
			if inTransaction {
				require.Equal(t, []string{"before|after"}, db.Query(t, `SELECT to_regclass('before')::text, to_regclass('after')::text`))
			}
			require.Equal(t, []string{"confirmed", "proposed"}, db.Query(t, `SELECT status FROM meetup ORDER BY id`))
			requireSound(t, db)
		})
	}
}

// TestProposeMeetsPlainSQL has another client insert a live meetup while one is proposed here.
func TestProposeMeetsPlainSQL(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx := t.Context()
	m := db.Matched(t, db.User(t).ID, db.User(t).ID)
	plain, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = plain.Exec(ctx, `INSERT INTO meetup (match_id, scheduled_time, status, created_at, updated_at) VALUES ($1, $2, 'proposed', $2, $2)`,
		m.ID, soultribetest.Epoch.Add(time.Hour))
	require.NoError(t, err)
	refusal, done := make(chan error, 1), make(chan error, 1)
	go func() {
		done <- db.Store.InTx(ctx, func(ctx context.Context, tx pgx.Tx, st soultribe.Store) error {
			_, err := st.ProposeMeetup(ctx, m.User1ID, soultribe.NewMeetup{MatchID: m.ID, Times: hourAfter(2 * time.Hour)})
			refusal <- err
			_, err = tx.Exec(ctx, `CREATE TABLE after ()`)
			return err
		})
	}()
	waitForBlocked(t, db)
	require.NoError(t, plain.Commit(ctx))
	require.ErrorIs(t, <-refusal, soultribe.ErrMeetupExists)
	require.NoError(t, <-done)
	require.Equal(t, []string{"after"}, db.Query(t, `SELECT to_regclass('after')::text`))
	requireSound(t, db)
}

// TestForeignMeetups has meetups as another application stores them: no proposer, no duration, fractions
// of seconds.
func TestForeignMeetups(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx, st := t.Context(), db.Store
	foreign := func(status string, at time.Time) soultribe.Meetup {
		t.Helper()
		m := db.Matched(t, db.User(t).ID, db.User(t).ID)
		var id int64
		require.NoError(t, db.Pool.QueryRow(ctx, `INSERT INTO meetup (match_id, scheduled_time, status, created_at, updated_at) VALUES ($1, $2, $3, $4, $4) RETURNING id`,
			m.ID, at, status, soultribetest.Epoch).Scan(&id))
		return soultribe.Meetup{
			ID: soultribe.MeetupID(id), MatchID: m.ID, User1ID: m.User1ID, User2ID: m.User2ID,
			Times:  soultribe.Times{Start: at.Truncate(time.Second), Duration: time.Hour},
			Status: soultribe.MeetupStatus(status), CreatedAt: soultribetest.Epoch, UpdatedAt: soultribetest.Epoch,
		}
	}
	at := soultribetest.Epoch.Add(time.Hour + 750*time.Millisecond)

	// Either may confirm one of which nobody knows who proposed it.
	for side := range 2 {
		m := foreign("proposed", at)
		actor := []soultribe.UserID{m.User1ID, m.User2ID}[side]
		got, err := st.Meetup(ctx, actor, m.ID)
		require.NoError(t, err)
		require.Equal(t, m, got)
		b, err := json.Marshal(got)
		require.NoError(t, err)
		require.NotContains(t, string(b), "proposer_id")
		for _, seen := range []soultribe.Times{m.Times, got.Times, {Start: at}} {
			r, err := st.ConfirmMeetup(ctx, actor, m.ID, seen)
			require.NoError(t, err)
			require.Equal(t, soultribe.MeetupConfirmed, r.Status)
			require.Zero(t, r.ProposerID)
		}
		again, err := st.ConfirmMeetup(ctx, soultribe.Match{User1ID: m.User1ID, User2ID: m.User2ID}.Partner(actor), m.ID, m.Times)
		require.NoError(t, err)
		require.False(t, again.Changed)
		requireSound(t, db)
		r, err := st.RescheduleMeetup(ctx, actor, m.ID, soultribe.Reschedule{Seen: m.Times, To: hourAfter(5 * time.Hour)})
		require.NoError(t, err)
		require.Equal(t, actor, r.ProposerID)
		require.Equal(t, []string{"true|3600"}, db.Query(t, `SELECT scheduled_time = $2, duration_seconds FROM meetup WHERE id = $1`, m.ID, r.Start))
	}

	// The second in which it begins is the one that is shown.
	m := foreign("proposed", at)
	db.Clock.Set(m.Start.Add(-time.Microsecond))
	r, err := st.CancelMeetup(ctx, m.User1ID, m.ID)
	require.NoError(t, err)
	require.True(t, r.Changed)
	m = foreign("proposed", at)
	db.Clock.Set(m.Start)
	_, err = st.ConfirmMeetup(ctx, m.User1ID, m.ID, m.Times)
	require.ErrorIs(t, err, soultribe.ErrPast)
	settled, err := st.Settle(ctx, soultribe.SettlePolicy{})
	require.NoError(t, err)
	require.Len(t, settled.Cancelled, 1)
	require.Equal(t, m.Times, settled.Cancelled[0].Times)
	require.Zero(t, settled.Cancelled[0].ProposerID)

	m = foreign("confirmed", at)
	db.Clock.Set(m.End())
	r, err = st.CompleteMeetup(ctx, m.User2ID, m.ID)
	require.NoError(t, err)
	require.Equal(t, soultribe.MeetupCompleted, r.Status)
	requireSound(t, db)

	// Nothing moves a status that is not ours, and none of those is in the way of a proposal.
	for _, status := range []string{"suggested", "canceled", "CONFIRMED", ""} {
		ahead := foreign(status, db.Clock.Now().Add(time.Hour))
		past := foreign(status, db.Clock.Now().Add(-100*time.Hour))
		for _, m := range []soultribe.Meetup{ahead, past} {
			step := func(to string, err error) {
				t.Helper()
				var transition *soultribe.TransitionError
				require.ErrorAs(t, err, &transition)
				require.Equal(t, soultribe.TransitionError{From: status, To: to}, *transition)
			}
			for _, actor := range []soultribe.UserID{m.User1ID, m.User2ID} {
				_, err := st.ConfirmMeetup(ctx, actor, m.ID, m.Times)
				step("confirmed", err)
				_, err = st.RescheduleMeetup(ctx, actor, m.ID, soultribe.Reschedule{Seen: m.Times, To: soultribe.Times{Start: db.Clock.Now().Add(9 * time.Hour)}})
				step("proposed", err)
				_, err = st.CancelMeetup(ctx, actor, m.ID)
				step("cancelled", err)
				_, err = st.CompleteMeetup(ctx, actor, m.ID)
				step("completed", err)
			}
			settled, err := st.Settle(ctx, soultribe.SettlePolicy{})
			require.NoError(t, err)
			require.Empty(t, append(settled.Cancelled, settled.Completed...))
			purged, err := st.Purge(ctx, soultribe.PurgePolicy{Meetups: time.Hour})
			require.NoError(t, err)
			require.NotContains(t, db.Query(t, `SELECT count(*) FROM meetup WHERE id = $1`, m.ID), "0", "%v", purged)
			r, err := st.ProposeMeetup(ctx, m.User1ID, soultribe.NewMeetup{MatchID: m.MatchID, Times: soultribe.Times{Start: db.Clock.Now().Add(9 * time.Hour)}})
			require.NoError(t, err)
			require.True(t, r.Changed)
			_, err = st.CancelMatch(ctx, m.User1ID, m.MatchID)
			require.NoError(t, err)
			got, err := st.Meetup(ctx, m.User1ID, m.ID)
			require.NoError(t, err)
			require.Equal(t, m, got)
		}
		page, err := st.ScanMeetups(ctx, soultribe.MeetupQuery{Status: []soultribe.MeetupStatus{soultribe.MeetupStatus(status)}})
		require.NoError(t, err)
		require.Equal(t, []soultribe.Meetup{past, ahead}, page.Items)
	}
	requireSound(t, db)
}

// TestMeetupsOfUnacceptedMatches has live meetups where no rule would have let them come to be.
func TestMeetupsOfUnacceptedMatches(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx, st := t.Context(), db.Store
	_, err := db.Pool.Exec(ctx, `ALTER TABLE match DISABLE TRIGGER soultribe_cancel_meetup`)
	require.NoError(t, err)
	for _, status := range []string{"pending", "cancelled", "suggested"} {
		m := proposed(t, db, db.User(t).ID, db.User(t).ID, hourAfter(time.Hour))
		_, err = db.Pool.Exec(ctx, `UPDATE match SET status = $2 WHERE id = $1`, m.MatchID, status)
		require.NoError(t, err)
		step := func(to string, err error) {
			t.Helper()
			var transition *soultribe.TransitionError
			require.ErrorAs(t, err, &transition)
			require.Equal(t, soultribe.TransitionError{From: status, To: to}, *transition)
		}
		_, err = st.ConfirmMeetup(ctx, m.User2ID, m.ID, m.Times)
		step("confirmed", err)
		_, err = st.RescheduleMeetup(ctx, m.User2ID, m.ID, soultribe.Reschedule{Seen: m.Times, To: hourAfter(2 * time.Hour)})
		step("proposed", err)
		_, err = st.ProposeMeetup(ctx, m.User1ID, soultribe.NewMeetup{MatchID: m.MatchID, Times: m.Times})
		step("proposed", err)
		// It can be called off.
		r, err := st.CancelMeetup(ctx, m.User2ID, m.ID)
		require.NoError(t, err)
		require.True(t, r.Changed)
	}
	requireSound(t, db)
}

// TestEndlessMeetups has meetups at the end and the beginning of time, and some within one second.
func TestEndlessMeetups(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx, st := t.Context(), db.Store
	me := db.User(t).ID
	m := db.Matched(t, me, db.User(t).ID)
	for _, at := range []string{"infinity", "-infinity", "infinity", "-infinity", "2026-03-02 10:00:00.9", "2026-03-02 10:00:00.1", "2026-03-02 10:00:00.5", "4000-01-01 BC", "4000-01-01 BC"} {
		_, err := db.Pool.Exec(ctx, `INSERT INTO meetup (match_id, scheduled_time, status, created_at, updated_at) VALUES ($1, $2::text::timestamp, 'cancelled', $3, $3)`,
			m.ID, at, soultribetest.Epoch)
		require.NoError(t, err)
	}
	want := db.Query(t, `SELECT id FROM meetup ORDER BY scheduled_time, id`)
	for _, latest := range []bool{false, true} {
		if latest {
			want = db.Query(t, `SELECT id FROM meetup ORDER BY scheduled_time DESC, id DESC`)
		}
		for _, limit := range []int{1, 2, 50} {
			var mine, all []string
			for meetup, err := range soultribe.All(func(after soultribe.Cursor) (soultribe.Page[soultribe.Meetup], error) {
				return st.Meetups(ctx, me, soultribe.MeetupQuery{Latest: latest, Limit: limit, After: after})
			}) {
				require.NoError(t, err)
				mine = append(mine, fmt.Sprint(meetup.ID))
				require.LessOrEqual(t, len(mine), len(want))
			}
			for meetup, err := range soultribe.All(func(after soultribe.Cursor) (soultribe.Page[soultribe.Meetup], error) {
				return st.ScanMeetups(ctx, soultribe.MeetupQuery{Latest: latest, Limit: limit, After: after})
			}) {
				require.NoError(t, err)
				all = append(all, fmt.Sprint(meetup.ID))
				require.LessOrEqual(t, len(all), len(want))
			}
			require.Equal(t, want, mine, "latest %t, pages of %d", latest, limit)
			require.Equal(t, want, all)
		}
	}
	// A proposal for ever is neither over nor ahead of what can be told: it can be called off.
	_, err := db.Pool.Exec(ctx, `UPDATE meetup SET status = 'proposed' WHERE id = (SELECT max(id) FROM meetup WHERE scheduled_time = 'infinity')`)
	require.NoError(t, err)
	settled, err := st.Settle(ctx, soultribe.SettlePolicy{})
	require.NoError(t, err)
	require.Empty(t, settled.Cancelled)
	page, err := st.Meetups(ctx, me, soultribe.MeetupQuery{Status: []soultribe.MeetupStatus{soultribe.MeetupProposed}})
	require.NoError(t, err)
	require.Len(t, page.Items, 1)
	r, err := st.CancelMeetup(ctx, me, page.Items[0].ID)
	require.NoError(t, err)
	require.True(t, r.Changed)
}

func TestMeetupJSON(t *testing.T) {
	t.Parallel()
	at := soultribetest.Epoch
	times := soultribe.Times{Start: at.Add(time.Hour), Duration: 15*time.Minute + 999*time.Millisecond}
	m := soultribe.Meetup{ID: 1, MatchID: 2, User1ID: 3, User2ID: 4, ProposerID: 3, Times: times, Status: soultribe.MeetupProposed, CreatedAt: at, UpdatedAt: at}
	foreign := m
	foreign.ProposerID = 0
	const (
		when    = `"start":"2026-03-02T10:00:00Z","duration_seconds":900`
		rest    = `"status":"proposed","created_at":"2026-03-02T09:00:00Z","updated_at":"2026-03-02T09:00:00Z"`
		members = `"id":1,"match_id":2,"user1_id":3,"user2_id":4,"proposer_id":3,` + when + `,` + rest
	)
	for want, value := range map[string]any{
		`{` + when + `}`:    times,
		`{` + members + `}`: m,
		`{"id":1,"match_id":2,"user1_id":3,"user2_id":4,` + when + `,` + rest + `}`: foreign,
		`{` + members + `,"changed":true}`:                                          soultribe.MeetupResult{Meetup: m, Changed: true},
		`{` + members + `,"changed":false}`:                                         soultribe.MeetupResult{Meetup: m},
		`{"match_id":2,` + when + `}`:                                               soultribe.NewMeetup{MatchID: 2, Times: times},
		`{"seen":{` + when + `},"to":{` + when + `}}`:                               soultribe.Reschedule{Seen: times, To: times},
		`{"cancelled":[],"completed":[],"more":false}`:                              soultribe.Settled{Cancelled: []soultribe.Meetup{}, Completed: []soultribe.Meetup{}},
		`{"start":"0001-01-01T00:00:00Z","duration_seconds":0}`:                     soultribe.Times{},
	} {
		got, err := json.Marshal(value)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}

	// What a client leaves out is zero, and a number of seconds that no duration holds is not another one.
	var n soultribe.NewMeetup
	require.NoError(t, json.Unmarshal([]byte(`{"match_id":2,"start":"2026-03-02T11:00:00+01:00"}`), &n))
	require.Equal(t, soultribe.MatchID(2), n.MatchID)
	require.True(t, n.Start.Equal(at.Add(time.Hour)))
	require.Zero(t, n.Duration)
	for _, seconds := range []int64{18446744073 + 3600, -18446744073, math.MaxInt64, math.MinInt64} {
		require.NoError(t, json.Unmarshal(fmt.Appendf(nil, `{"duration_seconds":%d}`, seconds), &n))
		require.Greater(t, n.Duration.Abs(), 250*365*24*time.Hour)
		require.Equal(t, seconds < 0, n.Duration < 0)
	}
	for _, bad := range []string{`{"duration_seconds":1.5}`, `{"duration_seconds":1e30}`, `{"start":"tomorrow"}`, `[]`} {
		require.Error(t, json.Unmarshal([]byte(bad), &n), bad)
	}
}
