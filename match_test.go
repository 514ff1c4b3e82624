package soultribe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// tally counts what calls of several goroutines came to, by [soultribe.Code]: "" is success.
type tally struct {
	mu      sync.Mutex
	counts  map[string]int
	changed int
}

func (c *tally) add(changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = make(map[string]int)
	}
	c.counts[soultribe.Code(err)]++
	if changed {
		c.changed++
	}
}

// requireOnly logs the counts, and fails for any code but these: a deadlock is "retry".
func (c *tally) requireOnly(t *testing.T, codes ...string) {
	t.Helper()
	t.Logf("outcomes: %v, of which %d changed something", c.counts, c.changed)
	for code := range c.counts {
		require.Contains(t, append(codes, ""), code)
	}
}

// requireSound is the verdict after an attack: what must hold of the tables of matches and meetups.
func requireSound(t *testing.T, db *soultribetest.DB) {
	t.Helper()
	for rule, sql := range map[string]string{
		"one row a pair": `SELECT least(user1_id, user2_id), greatest(user1_id, user2_id), count(*) FROM match GROUP BY 1, 2 HAVING count(*) > 1`,

		"nobody with themself": `SELECT id FROM match WHERE user1_id = user2_id`,

		"one live meetup a match": `SELECT match_id, count(*) FROM meetup WHERE status IN ('proposed', 'confirmed') GROUP BY 1 HAVING count(*) > 1`,

		"live meetups in accepted matches": `SELECT mt.id, mt.status, m.status FROM meetup mt JOIN match m ON m.id = mt.match_id
			WHERE mt.status IN ('proposed', 'confirmed') AND m.status <> 'accepted'`,

		"a proposer who is one of the two": `SELECT mt.id FROM meetup mt JOIN match m ON m.id = mt.match_id WHERE mt.proposer_id NOT IN (m.user1_id, m.user2_id)`,

		"nobody confirmed twice": `WITH taken AS (
				SELECT person.id AS person, mt.id, tsrange(mt.scheduled_time, mt.scheduled_time + coalesce(mt.duration_seconds, 3600) * interval '1 second') AS during
				FROM meetup mt JOIN match m ON m.id = mt.match_id CROSS JOIN LATERAL (VALUES (m.user1_id), (m.user2_id)) person (id)
				WHERE mt.status = 'confirmed')
			SELECT a.person, a.id, b.id FROM taken a JOIN taken b ON a.person = b.person AND a.id < b.id AND a.during && b.during`,

		"bookings are the confirmed meetups, to the second": `WITH taken AS (
				SELECT person.id AS user_id, mt.id AS meetup_id, date_trunc('second', mt.scheduled_time) AS starts_at,
					date_trunc('second', mt.scheduled_time) + coalesce(mt.duration_seconds, 3600) * interval '1 second' AS ends_at
				FROM meetup mt JOIN match m ON m.id = mt.match_id CROSS JOIN LATERAL (VALUES (m.user1_id), (m.user2_id)) person (id)
				WHERE mt.status = 'confirmed'),
			booked AS (SELECT user_id, meetup_id, date_trunc('second', starts_at), date_trunc('second', ends_at) FROM soultribe_booking)
			(TABLE taken EXCEPT TABLE booked) UNION ALL (TABLE booked EXCEPT TABLE taken)`,
	} {
		require.Empty(t, db.Query(t, sql), rule)
	}
}

// recordSteps has the database itself write down each step of a match or meetup, for the verdict of
// requireSteps.
func recordSteps(t *testing.T, db *soultribetest.DB, table string) {
	t.Helper()
	_, err := db.Pool.Exec(t.Context(), `
		CREATE TABLE step (table_name text, row_id bigint, step text);
		CREATE FUNCTION record_step() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			-- An update that changes nothing is a lock.
			IF TG_OP = 'INSERT' OR NEW IS DISTINCT FROM OLD THEN
				INSERT INTO step VALUES (TG_TABLE_NAME, NEW.id, coalesce(OLD.status, '') || '-' || NEW.status);
			END IF;
			RETURN NULL;
		END $$;
		CREATE TRIGGER record_step AFTER INSERT OR UPDATE ON `+table+` FOR EACH ROW EXECUTE FUNCTION record_step()`)
	require.NoError(t, err)
}

// requireSteps checks that as many steps were taken as calls were told that they changed something, and
// only such as the rules allow.
func requireSteps(t *testing.T, db *soultribetest.DB, changed int, allowed ...string) {
	t.Helper()
	require.Equal(t, []string{fmt.Sprint(changed)}, db.Query(t, `SELECT count(*) FROM step`))
	require.Empty(t, db.Query(t, `SELECT * FROM step WHERE step <> ALL ($1)`, allowed))
	t.Logf("steps: %v", db.Query(t, `SELECT step, count(*) FROM step GROUP BY step ORDER BY step`))
}

// without cool-downs a match can be moved for ever at one instant.
var withoutCooldowns = soultribe.WithCooldowns(soultribe.Cooldowns{Rejected: -1, Cancelled: -1})

// TestRequestsMeet has both of a pair ask each other many times at one moment.
func TestRequestsMeet(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	const pairs, requests = 12, 64
	st := opened(t, db, 32)
	var outcomes tally
	for range pairs {
		a, b := db.User(t).ID, db.User(t).ID
		atOnce(requests, func(i int) error {
			actor, to := a, b
			if i%2 == 1 {
				actor, to = b, a
			}
			r, err := st.RequestMatch(t.Context(), actor, to)
			outcomes.add(r.Changed, err)
			return err
		})
		require.Equal(t, []string{"accepted"}, db.Query(t, `SELECT status FROM match WHERE $1 IN (user1_id, user2_id)`, int64(a)))
	}
	outcomes.requireOnly(t)
	require.Equal(t, 2*pairs, outcomes.changed)
	require.Equal(t, []string{"12"}, db.Query(t, `SELECT count(*) FROM match`))
	requireSound(t, db)
}

// TestMatchStorm has both of each pair take any step, and propose and confirm, at any moment. The
// database has then seen only steps of the rules, and as many as the callers were told of.
func TestMatchStorm(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	const pairs, workers, steps = 20, 24, 60
	st := opened(t, db, workers, withoutCooldowns)
	people := make([][2]soultribe.UserID, pairs)
	matches := make([]soultribe.MatchID, pairs)
	for i := range people {
		people[i] = [2]soultribe.UserID{db.User(t).ID, db.User(t).ID}
		m, err := st.RequestMatch(t.Context(), people[i][0], people[i][1])
		require.NoError(t, err)
		matches[i] = m.ID
	}
	recordSteps(t, db, "match")
	var outcomes tally
	atOnce(workers, func(worker int) error {
		random := rand.New(rand.NewPCG(uint64(worker), 1))
		for range steps {
			pair := random.IntN(pairs)
			side := random.IntN(2)
			actor, other := people[pair][side], people[pair][1-side]
			var r soultribe.MatchResult
			var err error
			switch random.IntN(6) {
			case 0, 1, 2:
				r, err = st.RequestMatch(t.Context(), actor, other)
			case 3:
				r, err = st.AcceptMatch(t.Context(), actor, matches[pair])
			case 4:
				r, err = st.RejectMatch(t.Context(), actor, matches[pair])
			case 5:
				r, err = st.CancelMatch(t.Context(), actor, matches[pair])
			}
			outcomes.add(r.Changed, err)
			_, err = st.ProposeMeetup(t.Context(), actor, soultribe.NewMeetup{
				MatchID: matches[pair], Times: soultribe.Times{Start: soultribetest.Epoch.Add(time.Duration(1+random.IntN(3)) * time.Hour)},
			})
			outcomes.add(false, err)
		}
		return nil
	})
	outcomes.requireOnly(t, "wrong_side", "transition", "meetup_exists")
	require.Equal(t, []string{"20"}, db.Query(t, `SELECT count(*) FROM match`))
	requireSteps(t, db, outcomes.changed,
		"pending-accepted", "pending-rejected", "pending-cancelled", "accepted-cancelled", "rejected-pending", "cancelled-pending")
	requireSound(t, db)
}

// TestMatchesRaceDeletion has people delete their accounts while others ask, answer and cancel.
func TestMatchesRaceDeletion(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	const people, workers, steps = 40, 16, 60
	st := opened(t, db, workers, withoutCooldowns)
	ids := make([]soultribe.UserID, people)
	for i := range ids {
		ids[i] = db.User(t).ID
	}
	var outcomes, deletions tally
	atOnce(workers, func(worker int) error {
		random := rand.New(rand.NewPCG(uint64(worker), 2))
		for step := range steps {
			if worker < 2 {
				if step < people/2-2 {
					_, err := st.DeleteUser(t.Context(), ids[step*2+worker])
					deletions.add(true, err)
				}
				continue
			}
			a, b := ids[random.IntN(people)], ids[random.IntN(people)]
			if a == b {
				continue
			}
			r, err := st.RequestMatch(t.Context(), a, b)
			outcomes.add(r.Changed, err)
			if err == nil && random.IntN(2) == 0 {
				r, err = st.CancelMatch(t.Context(), a, r.ID)
				outcomes.add(r.Changed, err)
			}
		}
		return nil
	})
	outcomes.requireOnly(t, "not_found", "wrong_side", "transition")
	deletions.requireOnly(t)
	require.Equal(t, []string{"4"}, db.Query(t, `SELECT count(*) FROM "user"`))
	require.Empty(t, db.Query(t, `SELECT m.id FROM match m WHERE (SELECT count(*) FROM "user" u WHERE u.id IN (m.user1_id, m.user2_id)) <> 2`))
	requireSound(t, db)
}

// TestMatchConstraints writes with plain SQL what must not be.
func TestMatchConstraints(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	a, b, c := db.User(t).ID, db.User(t).ID, db.User(t).ID
	m := db.Matched(t, a, b)
	const insert = `INSERT INTO match (user1_id, user2_id, status, created_at, updated_at) VALUES ($1, $2, 'pending', now(), now())`
	tests := []struct {
		name, sql        string
		args             []any
		code, constraint string
	}{
		{"the pair again", insert, []any{a, b}, "23505", "match_pair_key"},
		{"the pair the other way round", insert, []any{b, a}, "23505", "match_pair_key"},
		{"oneself", insert, []any{c, c}, "23514", "match_not_self_check"},
		{"an update to oneself", `UPDATE match SET user2_id = user1_id WHERE id = $1`, []any{m.ID}, "23514", "match_not_self_check"},
		{"an update to others", `UPDATE match SET user2_id = $2 WHERE id = $1`, []any{m.ID, c}, "23514", "match_pair_kept_check"},
	}
	for _, test := range tests {
		_, err := db.Pool.Exec(t.Context(), test.sql, test.args...)
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg, test.name)
		require.Equal(t, test.code, pg.Code, test.name)
		require.Equal(t, test.constraint, pg.ConstraintName, test.name)
	}
	_, err := db.Pool.Exec(t.Context(), `UPDATE match SET user1_id = user2_id, user2_id = user1_id WHERE id = $1`, m.ID)
	require.NoError(t, err) // the two may trade places
	requireSound(t, db)
}

// TestForeignMatchStatuses has matches in statuses that another application stored: they are read as they
// are, and nothing moves them.
func TestForeignMatchStatuses(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx, st := t.Context(), db.Store
	for _, status := range []string{"suggested", "canceled", "PENDING", "", "Accepted"} {
		a, b := db.User(t).ID, db.User(t).ID
		m := db.Matched(t, a, b)
		_, err := db.Pool.Exec(ctx, `UPDATE match SET status = $2 WHERE id = $1`, m.ID, status)
		require.NoError(t, err)
		m.Status = soultribe.MatchStatus(status)
		db.Clock.Advance(1000 * time.Hour)

		step := func(to string, err error) {
			t.Helper()
			var transition *soultribe.TransitionError
			require.ErrorAs(t, err, &transition)
			require.Equal(t, soultribe.TransitionError{From: status, To: to}, *transition)
		}
		for _, actor := range []soultribe.UserID{a, b} {
			_, err = st.RequestMatch(ctx, actor, m.Partner(actor))
			step("pending", err)
			_, err = st.AcceptMatch(ctx, actor, m.ID)
			step("accepted", err)
			_, err = st.RejectMatch(ctx, actor, m.ID)
			step("rejected", err)
			_, err = st.CancelMatch(ctx, actor, m.ID)
			step("cancelled", err)
			_, err = st.ProposeMeetup(ctx, actor, soultribe.NewMeetup{MatchID: m.ID, Times: soultribe.Times{Start: db.Clock.Now().Add(time.Hour)}})
			step("proposed", err)
		}
		got, err := st.Match(ctx, a, m.ID)
		require.NoError(t, err)
		require.Equal(t, m, got)
		page, err := st.Matches(ctx, b, soultribe.MatchQuery{Status: []soultribe.MatchStatus{m.Status}})
		require.NoError(t, err)
		require.Equal(t, []soultribe.Match{m}, page.Items)
	}
	stats, err := st.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, map[soultribe.MatchStatus]int64{"suggested": 1, "canceled": 1, "PENDING": 1, "": 1, "Accepted": 1}, stats.Matches)
}

// TestUnverifiedMatches has people in matches whose addresses are not verified, as another application may
// have allowed: verification is judged at request and accept alone.
func TestUnverifiedMatches(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx, st := t.Context(), db.Store
	match := func(status string, user1, user2 bool) soultribe.Match {
		t.Helper()
		m := db.Matched(t, db.User(t).ID, db.User(t).ID)
		_, err := db.Pool.Exec(ctx, `UPDATE match SET status = $2 WHERE id = $1`, m.ID, status)
		require.NoError(t, err)
		for id, verified := range map[soultribe.UserID]bool{m.User1ID: user1, m.User2ID: user2} {
			if !verified {
				_, err := db.Pool.Exec(ctx, `UPDATE "user" SET email_verified_at = NULL WHERE id = $1`, id)
				require.NoError(t, err)
			}
		}
		m.Status = soultribe.MatchStatus(status)
		return m
	}
	unchanged := func(m soultribe.Match) {
		t.Helper()
		got, err := st.Match(ctx, m.User1ID, m.ID)
		require.NoError(t, err)
		require.Equal(t, m, got)
	}

	m := match("pending", true, false)
	_, err := st.AcceptMatch(ctx, m.User2ID, m.ID)
	require.ErrorIs(t, err, soultribe.ErrUnverified)
	_, err = st.AcceptMatch(ctx, m.User1ID, m.ID)
	require.ErrorIs(t, err, soultribe.ErrWrongSide)
	_, err = st.RequestMatch(ctx, m.User2ID, m.User1ID)
	require.ErrorIs(t, err, soultribe.ErrUnverified)
	_, err = st.RequestMatch(ctx, m.User1ID, m.User2ID)
	require.ErrorIs(t, err, soultribe.ErrNotFound)
	unchanged(m)
	_, err = st.RejectMatch(ctx, m.User2ID, m.ID)
	require.NoError(t, err)

	m = match("pending", false, true)
	_, err = st.AcceptMatch(ctx, m.User2ID, m.ID)
	require.ErrorIs(t, err, soultribe.ErrNotFound)
	unchanged(m)
	_, err = st.CancelMatch(ctx, m.User1ID, m.ID)
	require.NoError(t, err)

	m = match("pending", false, false)
	_, err = st.AcceptMatch(ctx, m.User2ID, m.ID)
	require.ErrorIs(t, err, soultribe.ErrUnverified)
	unchanged(m)

	m = match("accepted", false, false)
	same, err := st.AcceptMatch(ctx, m.User2ID, m.ID)
	require.NoError(t, err)
	require.Equal(t, soultribe.MatchResult{Match: m}, same)
	meetup := db.Meetup(t, m, soultribe.Times{Start: db.Clock.Now().Add(time.Hour)})
	require.Equal(t, soultribe.MeetupConfirmed, meetup.Status)
	ended, err := st.CancelMatch(ctx, m.User2ID, m.ID)
	require.NoError(t, err)
	require.True(t, ended.Changed)
	requireSound(t, db)
}

// TestEndlessTimes has matches that were made at the beginning or the end of time: every list holds each
// of them once, and ends.
func TestEndlessTimes(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx, st := t.Context(), db.Store
	me := db.User(t).ID
	const matches = 9
	for range matches {
		_, err := st.RequestMatch(ctx, me, db.User(t).ID)
		require.NoError(t, err)
	}
	_, err := db.Pool.Exec(ctx, `UPDATE match SET updated_at = at, created_at = at FROM (SELECT id, CASE id % 3 WHEN 0 THEN timestamp '-infinity' WHEN 1 THEN 'infinity' ELSE created_at END AS at FROM match) x WHERE x.id = match.id`)
	require.NoError(t, err)
	require.Equal(t, []string{"6"}, db.Query(t, `SELECT count(*) FROM match WHERE NOT isfinite(created_at)`))

	for _, limit := range []int{1, 2, 4} {
		seen := map[soultribe.MatchID]int{}
		count := func(m soultribe.Match, err error) {
			t.Helper()
			require.NoError(t, err)
			seen[m.ID]++
			require.LessOrEqual(t, seen[m.ID], 3)
		}
		for m, err := range soultribe.All(func(after soultribe.Cursor) (soultribe.Page[soultribe.Match], error) {
			return st.Matches(ctx, me, soultribe.MatchQuery{Limit: limit, After: after})
		}) {
			count(m, err)
		}
		for m, err := range soultribe.All(func(after soultribe.Cursor) (soultribe.Page[soultribe.Match], error) {
			return st.ScanMatches(ctx, soultribe.MatchQuery{Limit: limit, After: after})
		}) {
			count(m, err)
		}
		for m, err := range soultribe.All(func(after soultribe.Cursor) (soultribe.Page[soultribe.PendingMatch], error) {
			return st.PendingMatches(ctx, soultribe.PageQuery{Limit: limit, After: after})
		}) {
			count(m.Match, err)
		}
		require.Len(t, seen, matches)
		for id, times := range seen {
			require.Equal(t, 3, times, id)
		}
	}
}

// TestRequestMeetsPlainSQL has a pair's row appear, by plain SQL, while a request waits for it.
func TestRequestMeetsPlainSQL(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"commit", "rollback"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			db := soultribetest.New(t)
			ctx := t.Context()
			a, b := db.User(t).ID, db.User(t).ID
			plain, err := db.Pool.Begin(ctx)
			require.NoError(t, err)
			_, err = plain.Exec(ctx, `INSERT INTO match (user1_id, user2_id, status, created_at, updated_at) VALUES ($1, $2, 'pending', $3, $3)`, b, a, soultribetest.Epoch)
			require.NoError(t, err)

			var got soultribe.MatchResult
			done := make(chan error)
			go func() {
				done <- db.Store.InTx(ctx, func(ctx context.Context, tx pgx.Tx, st soultribe.Store) (err error) {
					if got, err = st.RequestMatch(ctx, a, b); err != nil {
						return err
					}
					_, err = tx.Exec(ctx, `CREATE TABLE mark ()`)
					return err
				})
			}()
			waitForBlocked(t, db)
			if end == "commit" {
				require.NoError(t, plain.Commit(ctx))
			} else {
				require.NoError(t, plain.Rollback(ctx))
			}
			require.NoError(t, <-done)
			require.True(t, got.Changed)
			want := "1|pending"
			if end == "commit" {
				want = "1|accepted"
			}
			require.Equal(t, []string{want}, db.Query(t, `SELECT count(*), min(status) FROM match`))
			require.Equal(t, []string{"mark"}, db.Query(t, `SELECT to_regclass('mark')::text`))
		})
	}
}

// TestMatchesInStricterIsolation has another session commit first: the transaction of a stricter level
// hears that it must be run again.
func TestMatchesInStricterIsolation(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ctx := t.Context()
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		a, b := db.User(t).ID, db.User(t).ID
		tx, err := db.Pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: level})
		require.NoError(t, err)
		st := db.Store.WithTx(tx)
		_, err = st.MatchBetween(ctx, a, b)
		require.ErrorIs(t, err, soultribe.ErrNotFound)
		_, err = db.Store.RequestMatch(ctx, a, b)
		require.NoError(t, err)

		_, err = st.RequestMatch(ctx, b, a)
		require.ErrorIs(t, err, soultribe.ErrRetry)
		require.ErrorIs(t, err, soultribe.ErrConflict)
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg)
		require.Equal(t, "40001", pg.Code)
		require.NoError(t, tx.Rollback(ctx))

		require.NoError(t, pgx.BeginTxFunc(ctx, db.Pool, pgx.TxOptions{IsoLevel: level}, func(tx pgx.Tx) error {
			m, err := db.Store.WithTx(tx).RequestMatch(ctx, b, a)
			require.Equal(t, soultribe.MatchAccepted, m.Status)
			return err
		}))
	}
}

func TestMatchJSON(t *testing.T) {
	t.Parallel()
	at := soultribetest.Epoch
	m := soultribe.Match{ID: 1, User1ID: 2, User2ID: 3, Status: soultribe.MatchPending, CreatedAt: at, UpdatedAt: at.Add(time.Microsecond)}
	const members = `"id":1,"user1_id":2,"user2_id":3,"status":"pending","created_at":"2026-03-02T09:00:00Z","updated_at":"2026-03-02T09:00:00.000001Z"`
	for want, value := range map[string]any{
		`{` + members + `}`:                                                 m,
		`{` + members + `,"changed":true}`:                                  soultribe.MatchResult{Match: m, Changed: true},
		`{` + members + `,"changed":false}`:                                 soultribe.MatchResult{Match: m},
		`{"items":[],"next":"x"}`:                                           soultribe.Page[soultribe.Match]{Items: []soultribe.Match{}, Next: "x"},
		`{"items":[{` + members + `}]}`:                                     soultribe.Page[soultribe.Match]{Items: []soultribe.Match{m}},
		`{` + members + `,"user1_email":"a@x.org","user2_email":"b@x.org"}`: soultribe.PendingMatch{Match: m, User1Email: "a@x.org", User2Email: "b@x.org"},
	} {
		got, err := json.Marshal(value)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	require.Equal(t, soultribe.UserID(3), m.Partner(2))
	require.Equal(t, soultribe.UserID(2), m.Partner(3))
}

// TestStricterIsolation has a caller whose snapshot is from before a meetup was made. It cannot see the
// meetup, and so must not end its match.
func TestStricterIsolation(t *testing.T) {
	t.Parallel()
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		t.Run(string(level), func(t *testing.T) {
			t.Parallel()
			db := soultribetest.New(t)
			ann, bob := db.User(t), db.User(t)
			match := db.Matched(t, ann.ID, bob.ID)
			tx, err := db.Pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
			require.NoError(t, err)
			defer func() { _ = tx.Rollback(context.Background()) }()
			st := db.Store.WithTx(tx)
			_, err = st.User(t.Context(), ann.ID)
			require.NoError(t, err)

			db.Meetup(t, match, soultribe.Times{Start: db.Clock.Now().Add(time.Hour)})
			_, err = st.CancelMatch(t.Context(), ann.ID, match.ID)
			require.ErrorIs(t, err, soultribe.ErrRetry)
			require.Equal(t, []string{"accepted|confirmed"},
				db.Query(t, "SELECT m.status, x.status FROM match m JOIN meetup x ON x.match_id = m.id"))
		})
	}
}

// TestCancelMatchSettles cancels a match whose meetup took place, which nobody has settled.
func TestCancelMatchSettles(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ann, bob := db.User(t), db.User(t)
	match := db.Matched(t, ann.ID, bob.ID)
	db.Meetup(t, match, soultribe.Times{Start: db.Clock.Now().Add(time.Hour)})
	db.Clock.Advance(2 * time.Hour)
	_, err := db.Store.CancelMatch(t.Context(), ann.ID, match.ID)
	require.NoError(t, err)
	require.Equal(t, []string{"cancelled|completed"},
		db.Query(t, "SELECT m.status, x.status FROM match m JOIN meetup x ON x.match_id = m.id"))
}
