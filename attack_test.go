package soultribe_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// attacks are what many do at one time to break a rule, and the codes of the refusals that they may meet.
var attacks = []struct {
	name       string
	goroutines int
	run        func(t *testing.T, a *attack)
	refusals   []string
	plainSQL   bool // by clients that know no rules: their locks are their own affair
}{
	{"slots: every step on one user", 48, attackSlots, []string{"slot_overlap", "not_found"}, false},
	{"slots: AddSlot, deleters beside it", 48, attackAddSlot, []string{"slot_overlap"}, false},
	{"slots: plain SQL", 16, attackSlotsBySQL, []string{"23P01", "23514", lockTimeout}, true},
	{"pairs: both sides ask", 64, attackPairs, []string{"invalid", unchanged}, false},
	{"pairs: plain SQL", 16, attackPairsBySQL, []string{"23505", "23514"}, true},
	{"meetups: overlapping confirms", 64, attackConfirms, []string{"double_booked"}, false},
	{"meetups: plain SQL", 32, attackMeetupsBySQL, []string{"23P01", "23505"}, false},
	{"meetups: both propose", 64, attackProposals, []string{"meetup_exists"}, false},
	{"meetups: the match is cancelled", 32, attackCancelledMatch, []string{"transition", "meetup_exists", "meetup_changed", unchanged}, false},
	{"meetups: the time is moved", 32, attackMovedMeetup, []string{"meetup_changed", unchanged}, false},
	{"tokens: VerifyEmail", 64, attackVerification, []string{"token_used"}, false},
	{"tokens: change of address", 64, attackEmailChange, []string{"token_used"}, false},
	{"tokens: ResetPassword", 64, attackReset, []string{"token_used"}, false},
	{"tokens: what is stored is presented", 64, attackByDump, []string{"token_invalid"}, false},
	{"tokens: looked at, READ ONLY", 16, attackByLooking, []string{unchanged}, false},
	{"tokens: issued at once", 32, attackIssue, []string{"cooldown", unchanged}, false},
	{"accounts: one address registered", 32, attackRegistration, []string{"email_taken"}, false},
	{"accounts: logins against a reset", 32, attackRehash, []string{"invalid_credentials", unchanged}, false},
	{"accounts: deleted under writers", 24, attackDeletion, []string{
		"not_found", "in_use", "wrong_side", "transition", "meetup_exists", "meetup_changed", "double_booked", "slot_overlap", "cooldown", unchanged,
	}, false},
}

const (
	unchanged   = "unchanged" // a success that changed nothing
	lockTimeout = "55P03"     // what clients of plain SQL get rather than a deadlock
)

// TestAttack has crowds attack the rules that the database keeps, and asks the tables what came of it. make
// attack does so for longer: SOULTRIBE_ATTACK_SECONDS is how long each attack goes on.
func TestAttack(t *testing.T) {
	t.Parallel()
	seconds, connections := 0.2, 16 // for a connection costs more than it does in so short a time
	if s := os.Getenv("SOULTRIBE_ATTACK_SECONDS"); s != "" {
		var err error
		seconds, err = strconv.ParseFloat(s, 64)
		require.NoError(t, err)
		connections = math.MaxInt
	}
	lines := make([]*attack, len(attacks))
	t.Cleanup(func() { logAttacks(t, lines) })
	for i, test := range attacks {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := newAttack(t, min(test.goroutines, connections), test.plainSQL)
			a.name, a.goroutines = test.name, test.goroutines
			a.lasts = time.Duration(seconds * float64(time.Second))
			lines[i] = a
			defer a.end(t, test.refusals)
			test.run(t, a)
		})
	}
}

func logAttacks(t *testing.T, lines []*attack) {
	t.Helper()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprint(w, "\nattack\tgoroutines\tattempts\twinners\tdeadlocks\tof callers\tother errors\tattempts/s\trows wrong\trefusals\n")
	for _, a := range lines {
		for ; a != nil; a = a.beside {
			var refusals []string
			for _, code := range slices.Sorted(maps.Keys(a.outcomes)) {
				if code != "" {
					refusals = append(refusals, fmt.Sprintf("%s %d", code, a.outcomes[code]))
				}
			}
			_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%.0f\t%d\t%s\n", a.name, a.goroutines, a.attempts(), a.outcomes[""], a.deadlocks,
				a.outcomes["retry"]+a.outcomes["40P01"], a.others, a.perSecond(), a.wrong, strings.Join(refusals, ", "))
		}
	}
	if err := w.Flush(); err != nil {
		t.Error(err)
	}
	t.Log(b.String())
}

// attack is a line of the table.
type attack struct {
	*soultribetest.DB
	pool   *pgxpool.Pool       // with all connections open
	st     *soultribe.Postgres // on pool
	beside *attack             // what it is compared with

	name       string
	goroutines int
	lasts      time.Duration

	mu        sync.Mutex
	outcomes  map[string]int // by code; "" made a change
	spent     time.Duration  // in which the crowd was at it
	plainSQL  bool
	broken    []string // what the server said of the deadlocks that it broke, also to a call that was made again
	deadlocks int      // that it counted
	others    int      // outcomes that may not be
	wrong     int      // rows
}

func newAttack(t *testing.T, connections int, plainSQL bool) *attack {
	t.Helper()
	a := &attack{DB: soultribetest.New(t), plainSQL: plainSQL, outcomes: make(map[string]int)}
	a.pool = newPool(t, a.URL, func(c *pgxpool.Config) {
		c.MaxConns = int32(connections)
		c.ConnConfig.RuntimeParams["application_name"] = "attack"
		fatal := c.ConnConfig.OnPgError
		c.ConnConfig.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
			if err.Code == "40P01" {
				a.mu.Lock()
				defer a.mu.Unlock()
				a.broken = append(a.broken, err.Where+": "+err.Detail)
			}
			return fatal(conn, err)
		}
		if plainSQL {
			c.ConnConfig.RuntimeParams["lock_timeout"] = "100ms"
		}
	})
	a.st = newStore(t, a.DB, a.pool, withoutCooldowns)
	require.Equal(t, map[string]int{"": connections}, atOnce(connections, func(int) error { return a.st.Ready(t.Context()) }))
	return a
}

// exec prepares the stage.
func (a *attack) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := a.Pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// tried takes down what a call came to, and returns it: a code of the library, or the SQLSTATE of plain SQL.
func (a *attack) tried(changed bool, err error) string {
	code := soultribe.Code(err)
	var ours *soultribe.Error
	var pg *pgconn.PgError
	switch {
	case err == nil && !changed:
		code = unchanged
	case !errors.As(err, &ours) && errors.As(err, &pg):
		code = pg.Code
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.outcomes[code]++
	return code
}

// storm has each goroutine take one step after the other until the time is over.
func (a *attack) storm(t *testing.T, step func(i int, r *rand.Rand)) {
	t.Helper()
	a.stormWith(t, a.lasts, nil, step)
}

// stormWith is a storm in which others do their own thing until its end.
func (a *attack) stormWith(t *testing.T, lasts time.Duration, others []func(over context.Context), step func(i int, r *rand.Rand)) {
	t.Helper()
	over, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	began := time.Now()
	stampede(a.goroutines+len(others), func(i int) {
		if i >= a.goroutines {
			others[i-a.goroutines](over)
			return
		}
		for r := rand.New(rand.NewPCG(uint64(i), 1)); over.Err() == nil; {
			step(i, r)
		}
	})
	a.spent += time.Since(began)
}

// rounds has the stage set, and all call at one moment, again and again until the time is over or the test
// has failed. It returns how many there were.
func (a *attack) rounds(t *testing.T, round func(n int)) int {
	t.Helper()
	over, cancel := context.WithTimeout(t.Context(), a.lasts)
	defer cancel()
	n := 0
	for ; over.Err() == nil && !t.Failed(); n++ {
		round(n)
	}
	return n
}

// atOnce has all make a call at one moment, and returns the codes of this round.
func (a *attack) atOnce(call func(i int) (changed bool, err error)) map[string]int {
	var mu sync.Mutex
	counts := make(map[string]int)
	began := time.Now()
	stampede(a.goroutines, func(i int) {
		code := a.tried(call(i))
		mu.Lock()
		defer mu.Unlock()
		counts[code]++
	})
	a.spent += time.Since(began)
	return counts
}

// wantCounts leaves the last word to a verdict.
func wantCounts(t *testing.T, want, got map[string]int) {
	t.Helper()
	if !maps.Equal(want, got) {
		t.Errorf("outcomes are %v, not %v", got, want)
	}
}

// verdict fails for each row that sql finds.
func (a *attack) verdict(t *testing.T, rule, sql string, args ...any) {
	t.Helper()
	if rows := a.Query(t, sql, args...); len(rows) > 0 {
		a.wrong += len(rows)
		t.Errorf("%s: %d rows, such as %s", rule, len(rows), rows[0])
	}
}

// end counts what must not have been. The sessions have ended when it asks for the deadlocks, which the
// server takes down at the end of a session, and before that when it likes.
func (a *attack) end(t *testing.T, refusals []string) {
	t.Helper()
	a.pool.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for open := true; open; {
		require.NoError(t, a.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
			AND application_name = 'attack')`).Scan(&open))
	}
	require.NoError(t, a.Pool.QueryRow(ctx, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`).Scan(&a.deadlocks))
	if !a.plainSQL {
		require.Zero(t, a.deadlocks, "deadlocks: %q", a.broken)
	}
	for line := a; line != nil; line = line.beside {
		for code, n := range line.outcomes {
			if code != "" && !slices.Contains(refusals, code) {
				line.others += n
			}
		}
		require.Zero(t, line.others, "%s: %v", line.name, line.outcomes)
	}
}

func (a *attack) attempts() (n int) {
	for _, count := range a.outcomes {
		n += count
	}
	return n
}

func (a *attack) perSecond() float64 { return float64(a.attempts()) / a.spent.Seconds() }

// Slots.

// slotVerdict looks at all slots.
func (a *attack) slotVerdict(t *testing.T) {
	t.Helper()
	require.NotEmpty(t, a.Query(t, `SELECT id FROM availabilityslot`))
	a.verdict(t, "slots that overlap", `SELECT a.id, b.id FROM availabilityslot a JOIN availabilityslot b ON b.user_id = a.user_id AND b.id > a.id
		AND b.start_dt_utc < a.end_dt_utc AND b.end_dt_utc > a.start_dt_utc`)
	a.verdict(t, "slots that are inverted, empty or longer than a day",
		`SELECT id FROM availabilityslot WHERE end_dt_utc <= start_dt_utc OR end_dt_utc > start_dt_utc + interval '24 hours'`)
	requireSoundSlots(t, a.DB)
}

// fiveDays are quarter hours, over which the slots of an attack are strewn.
const fiveDays = 5 * 24 * 4

func attackSlots(t *testing.T, a *attack) {
	t.Helper()
	ctx := t.Context()
	user := a.User(t).ID
	var newest atomic.Int64
	a.storm(t, func(_ int, r *rand.Rand) {
		at := r.IntN(fiveDays)
		slot := spanFrom(spring, at, 1+r.IntN(16), "Europe/Vienna")
		// One of the last few, which others move and delete too.
		recent := soultribe.SlotID(max(1, newest.Load()-r.Int64N(20)))
		var err error
		switch n := r.IntN(100); {
		case n < 40:
			var added soultribe.Slot
			if added, err = a.st.AddSlot(ctx, user, slot); err == nil {
				newest.Store(int64(added.ID))
			}
		case n < 55:
			_, err = a.st.AddSlots(ctx, user, []soultribe.NewSlot{spanFrom(spring, at+8, 4, "UTC"), spanFrom(spring, at, 2, "UTC"), spanFrom(spring, at+4, 4, "UTC")})
		case n < 75:
			_, err = a.st.UpdateSlot(ctx, user, recent, slot)
		case n < 90:
			err = a.st.DeleteSlot(ctx, user, recent)
		default:
			_, err = a.st.ReplaceSlots(ctx, user, soultribe.Window{Start: spanFrom(spring, at, 1, "").Start, End: spanFrom(spring, at+48, 1, "").Start},
				[]soultribe.NewSlot{spanFrom(spring, at+40, 4, "UTC"), spanFrom(spring, at, 8, "UTC")})
		}
		a.tried(true, err)
	})
	a.slotVerdict(t)
}

// attackAddSlot compares AddSlot with the statement that a client would write who knows the constraint: the
// two take turns, on one user and with as many to delete what they add.
func attackAddSlot(t *testing.T, a *attack) {
	t.Helper()
	const turns, deleters = 8, 4
	ctx := t.Context()
	user := a.User(t).ID
	a.beside = &attack{DB: a.DB, pool: a.pool, name: "  INSERT … ON CONFLICT by hand", goroutines: a.goroutines, outcomes: make(map[string]int)}
	added := make(chan int64, fiveDays) // more than fit beside each other
	ways := []struct {
		*attack
		add    func(slot soultribe.NewSlot) (int64, error)
		remove func(id int64) error
	}{
		{a, func(slot soultribe.NewSlot) (int64, error) {
			s, err := a.st.AddSlot(ctx, user, slot)
			return int64(s.ID), err
		}, func(id int64) error { return a.st.DeleteSlot(ctx, user, soultribe.SlotID(id)) }},
		{a.beside, func(slot soultribe.NewSlot) (id int64, err error) {
			err = a.pool.QueryRow(ctx, `INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
				VALUES ($1, $2, $3, $2, $3, $4, $5, $5) ON CONFLICT ON CONSTRAINT availabilityslot_no_overlap DO NOTHING RETURNING id`,
				int64(user), slot.Start, slot.End, slot.Timezone, a.Clock.Now()).Scan(&id)
			if errors.Is(err, pgx.ErrNoRows) {
				err = soultribe.ErrSlotOverlap
			}
			return id, err
		}, func(id int64) error {
			_, err := a.pool.Exec(ctx, `DELETE FROM availabilityslot WHERE user_id = $1 AND id = $2`, int64(user), id)
			return err
		}},
	}
	for range turns {
		slices.Reverse(ways) // the first of a turn finds more time that is free
		for _, way := range ways {
			others := make([]func(over context.Context), deleters)
			for i := range others {
				others[i] = func(over context.Context) {
					for {
						select {
						case <-over.Done():
							return
						case id := <-added:
							if err := way.remove(id); err != nil {
								way.tried(false, err)
							}
						}
					}
				}
			}
			way.stormWith(t, a.lasts/turns, others, func(_ int, r *rand.Rand) {
				id, err := way.add(spanFrom(spring, r.IntN(fiveDays), 1+r.IntN(4), "UTC"))
				way.tried(true, err)
				if err == nil {
					select {
					case added <- id:
					default: // there are more than can be
					}
				}
			})
		}
	}
	a.name += fmt.Sprintf(" (%.2f of the next line)", a.perSecond()/a.beside.perSecond())
	a.slotVerdict(t)
}

func attackSlotsBySQL(t *testing.T, a *attack) {
	t.Helper()
	ctx := t.Context()
	user := a.User(t).ID
	a.storm(t, func(_ int, r *rand.Rand) {
		slot := spanFrom(spring, r.IntN(fiveDays), 1+r.IntN(16), "UTC")
		switch r.IntN(16) {
		case 0:
			slot.End = slot.Start
		case 1:
			slot.Start, slot.End = slot.End, slot.Start
		case 2:
			slot.End = slot.Start.Add(24*time.Hour + time.Microsecond)
		}
		sql := `INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
			VALUES ($1, $2, $3, $2, $3, 'UTC', $2, $2)`
		if r.IntN(2) == 0 {
			sql = `UPDATE availabilityslot SET start_dt_utc = $2, end_dt_utc = $3, start_dt_local = $2, end_dt_local = $3
				WHERE id = (SELECT max(id) FROM availabilityslot WHERE user_id = $1)`
		}
		tag, err := a.pool.Exec(ctx, sql, int64(user), slot.Start, slot.End)
		if err != nil || tag.RowsAffected() > 0 { // there was a slot to move
			a.tried(true, err)
		}
	})
	require.Positive(t, a.outcomes["23P01"])
	a.slotVerdict(t)
}

// Pairs.

func (a *attack) pairVerdict(t *testing.T) {
	t.Helper()
	a.verdict(t, "pairs with two rows", `SELECT least(user1_id, user2_id), greatest(user1_id, user2_id) FROM match GROUP BY 1, 2 HAVING count(*) > 1`)
	a.verdict(t, "people matched with themselves", `SELECT id FROM match WHERE user1_id = user2_id`)
	a.verdict(t, "people without their one match", `SELECT u.id FROM "user" u WHERE (SELECT count(*) FROM match m WHERE u.id IN (m.user1_id, m.user2_id)) <> 1`)
	requireSound(t, a.DB)
}

func attackPairs(t *testing.T, a *attack) {
	t.Helper()
	rounds := a.rounds(t, func(int) {
		one, other := a.User(t).ID, a.User(t).ID
		counts := a.atOnce(func(i int) (bool, error) {
			actor, to := one, other
			if i%2 == 1 {
				actor, to = other, one
			}
			r, err := a.st.RequestMatch(t.Context(), actor, to)
			return r.Changed, err
		})
		wantCounts(t, map[string]int{"": 2, unchanged: a.goroutines - 2}, counts)
		_, err := a.st.RequestMatch(t.Context(), one, one)
		a.tried(true, err)
	})
	require.Equal(t, rounds, a.outcomes["invalid"])
	a.verdict(t, "matches that are not accepted", `SELECT id FROM match WHERE status <> 'accepted'`)
	a.pairVerdict(t)
}

func attackPairsBySQL(t *testing.T, a *attack) {
	t.Helper()
	const insert = `INSERT INTO match (user1_id, user2_id, status, created_at, updated_at) VALUES ($1, $2, 'accepted', now(), now())`
	a.rounds(t, func(int) {
		one, other := a.User(t).ID, a.User(t).ID
		counts := a.atOnce(func(i int) (bool, error) {
			pair := [][2]soultribe.UserID{{one, other}, {other, one}, {one, other}, {one, one}}[i%4]
			_, err := a.pool.Exec(t.Context(), insert, int64(pair[0]), int64(pair[1]))
			return true, err
		})
		wantCounts(t, map[string]int{"": 1, "23505": a.goroutines*3/4 - 1, "23514": a.goroutines / 4}, counts)
		_, err := a.pool.Exec(t.Context(), `UPDATE match SET user2_id = user1_id WHERE user1_id IN ($1, $2)`, int64(one), int64(other))
		require.Equal(t, "23514", a.tried(true, err))
	})
	a.pairVerdict(t)
}

// Meetups.

func (a *attack) meetupVerdict(t *testing.T) {
	t.Helper()
	a.verdict(t, "people in two confirmed meetups at one time", `WITH taken AS (
			SELECT person.id AS person, mt.id, mt.scheduled_time AS starts, mt.scheduled_time + coalesce(mt.duration_seconds, 3600) * interval '1 second' AS ends
			FROM meetup mt JOIN match m ON m.id = mt.match_id CROSS JOIN LATERAL (VALUES (m.user1_id), (m.user2_id)) person (id)
			WHERE mt.status IN ('confirmed', 'completed'))
		SELECT a.person, a.id, b.id FROM taken a JOIN taken b ON a.person = b.person AND a.id < b.id AND a.starts < b.ends AND b.starts < a.ends`)
	a.verdict(t, "matches with two live meetups", `SELECT match_id FROM meetup WHERE status IN ('proposed', 'confirmed') GROUP BY 1 HAVING count(*) > 1`)
	a.verdict(t, "live meetups of unaccepted matches", `SELECT mt.id FROM meetup mt JOIN match m ON m.id = mt.match_id
		WHERE mt.status IN ('proposed', 'confirmed') AND m.status <> 'accepted'`)
	requireSound(t, a.DB)
}

// star are matches of one person with so many others.
func (a *attack) star(t *testing.T) (shared soultribe.UserID, matches []soultribe.Match) {
	t.Helper()
	shared = a.User(t).ID
	for range a.goroutines {
		matches = append(matches, a.Matched(t, a.User(t).ID, shared))
	}
	return shared, matches
}

// proposeAll proposes in each match a meetup of two hours, all of which overlap. The person that all share is
// user2, and one who confirms every other one.
func (a *attack) proposeAll(t *testing.T, matches []soultribe.Match) []soultribe.Meetup {
	t.Helper()
	a.Clock.Advance(100 * time.Hour) // what was before is over
	meetups := make([]soultribe.Meetup, len(matches))
	require.Equal(t, map[string]int{"": len(matches)}, atOnce(len(matches), func(i int) error {
		r, err := a.st.ProposeMeetup(t.Context(), []soultribe.UserID{matches[i].User1ID, matches[i].User2ID}[i%2], soultribe.NewMeetup{
			MatchID: matches[i].ID, Times: soultribe.Times{Start: a.Clock.Now().Add(time.Duration(60+i) * time.Minute), Duration: 2 * time.Hour},
		})
		meetups[i] = r.Meetup
		return err
	}))
	return meetups
}

func attackConfirms(t *testing.T, a *attack) {
	t.Helper()
	shared, matches := a.star(t)
	rounds := a.rounds(t, func(int) {
		meetups := a.proposeAll(t, matches)
		counts := a.atOnce(func(i int) (bool, error) {
			r, err := a.st.ConfirmMeetup(t.Context(), matches[i].Partner(meetups[i].ProposerID), meetups[i].ID, meetups[i].Times)
			return r.Changed, err
		})
		wantCounts(t, map[string]int{"": 1, "double_booked": a.goroutines - 1}, counts)
	})
	a.meetupVerdict(t)
	require.Equal(t, []string{strconv.Itoa(rounds)}, a.Query(t, `SELECT count(*) FROM meetup mt JOIN match m ON m.id = mt.match_id
		WHERE mt.status IN ('confirmed', 'completed') AND m.user2_id = $1`, int64(shared)))
}

// attackMeetupsBySQL confirms by plain UPDATEs: of those at one moment one or, as each waits for the others,
// none wins, and after one has won none.
func attackMeetupsBySQL(t *testing.T, a *attack) {
	t.Helper()
	const confirm = `UPDATE meetup SET status = 'confirmed' WHERE id = $1`
	ctx := t.Context()
	_, matches := a.star(t)
	a.rounds(t, func(int) {
		meetups := a.proposeAll(t, matches)
		counts := a.atOnce(func(i int) (bool, error) {
			_, err := a.pool.Exec(ctx, confirm, int64(meetups[i].ID))
			return true, err
		})
		// The first that is told no more than to wait wins now.
		wins := counts[""]
		for _, m := range meetups {
			tag, err := a.pool.Exec(ctx, confirm+` AND status = 'proposed'`, int64(m.ID))
			if err == nil && tag.RowsAffected() == 0 {
				continue // it had won
			}
			if a.tried(true, err) == "" {
				wins++
			}
		}
		if wins != 1 {
			t.Errorf("%d won", wins)
		}
		_, err := a.pool.Exec(ctx, `INSERT INTO meetup (match_id, scheduled_time, status, created_at, updated_at) VALUES ($1, $2, 'proposed', $2, $2)`,
			int64(matches[0].ID), a.Clock.Now().Add(50*time.Hour))
		if a.tried(true, err) != "23505" {
			t.Errorf("a second live meetup: %v", err)
		}
	})
	a.meetupVerdict(t)
	require.Positive(t, a.outcomes["23P01"])
}

func attackProposals(t *testing.T, a *attack) {
	t.Helper()
	m := a.Matched(t, a.User(t).ID, a.User(t).ID)
	a.rounds(t, func(int) {
		a.Clock.Advance(100 * time.Hour)
		counts := a.atOnce(func(i int) (bool, error) {
			r, err := a.st.ProposeMeetup(t.Context(), []soultribe.UserID{m.User1ID, m.User2ID}[i%2], soultribe.NewMeetup{
				MatchID: m.ID, Times: soultribe.Times{Start: a.Clock.Now().Add(time.Duration(1+i) * time.Hour)},
			})
			return r.Changed, err
		})
		wantCounts(t, map[string]int{"": 1, "meetup_exists": a.goroutines - 1}, counts)
	})
	a.meetupVerdict(t)
}

func attackCancelledMatch(t *testing.T, a *attack) {
	t.Helper()
	ctx := t.Context()
	a.rounds(t, func(int) {
		m := a.Matched(t, a.User(t).ID, a.User(t).ID)
		seen := soultribe.Times{Start: a.Clock.Now().Add(time.Hour), Duration: time.Hour}
		meetup := propose(t, a.DB, m, m.User1ID, seen)
		a.atOnce(func(i int) (bool, error) {
			var r soultribe.MeetupResult
			var err error
			switch i % 4 {
			case 0:
				c, err := a.st.CancelMatch(ctx, []soultribe.UserID{m.User1ID, m.User2ID}[i/4%2], m.ID)
				return c.Changed, err
			case 1:
				r, err = a.st.ConfirmMeetup(ctx, m.User2ID, meetup.ID, seen)
			case 2:
				r, err = a.st.ProposeMeetup(ctx, m.User2ID, soultribe.NewMeetup{MatchID: m.ID, Times: soultribe.Times{Start: seen.Start.Add(time.Minute)}})
			case 3:
				r, err = a.st.RescheduleMeetup(ctx, m.User1ID, meetup.ID, soultribe.Reschedule{Seen: seen, To: soultribe.Times{Start: seen.Start.Add(time.Hour)}})
			}
			return r.Changed, err
		})
	})
	a.verdict(t, "matches that stayed", `SELECT id FROM match WHERE status <> 'cancelled'`)
	a.verdict(t, "meetups that stayed", `SELECT id FROM meetup WHERE status <> 'cancelled'`)
	a.meetupVerdict(t)
}

// attackMovedMeetup has the database write down each confirmation, and who confirms, in the same transaction,
// what they saw. Each move is to a time that never was.
func attackMovedMeetup(t *testing.T, a *attack) {
	t.Helper()
	ctx := t.Context()
	a.exec(t, `CREATE SCHEMA host;
		CREATE TABLE host.sight (transaction bigint, seen timestamp);
		CREATE TABLE host.confirmation (transaction bigint, scheduled_time timestamp);
		CREATE FUNCTION host.confirmed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO host.confirmation VALUES (txid_current(), NEW.scheduled_time); RETURN NULL; END $$;
		CREATE TRIGGER confirmed AFTER UPDATE ON meetup FOR EACH ROW
			WHEN (NEW.status = 'confirmed' AND OLD.status <> 'confirmed') EXECUTE FUNCTION host.confirmed()`)
	m := a.Matched(t, a.User(t).ID, a.User(t).ID)
	id := propose(t, a.DB, m, m.User1ID, hourAfter(time.Hour)).ID
	var moves, confirmations atomic.Int64
	step := func(i int, _ *rand.Rand) {
		now, err := a.st.Meetup(ctx, m.User1ID, id)
		if err != nil {
			a.tried(false, err)
			return
		}
		var r soultribe.MeetupResult
		if i%8 == 0 {
			r, err = a.st.RescheduleMeetup(ctx, m.User1ID, id, soultribe.Reschedule{Seen: now.Times, To: hourAfter(time.Hour + time.Duration(moves.Add(1))*time.Second)})
			a.tried(r.Changed, err)
			return
		}
		err = a.st.InTx(ctx, func(ctx context.Context, tx pgx.Tx, st soultribe.Store) error {
			if _, err := tx.Exec(ctx, `INSERT INTO host.sight VALUES (txid_current(), $1)`, now.Start); err != nil {
				return err
			}
			r, err = st.ConfirmMeetup(ctx, m.User2ID, id, now.Times)
			return err
		})
		if a.tried(r.Changed, err) == "" {
			confirmations.Add(1)
		}
	}
	a.storm(t, step)
	step(1, nil) // so that one is confirmed in the shortest of storms too
	require.Equal(t, []string{strconv.FormatInt(confirmations.Load(), 10)}, a.Query(t, `SELECT count(*) FROM host.confirmation`))
	require.Positive(t, confirmations.Load())
	a.verdict(t, "confirmations of what was not seen", `SELECT c.scheduled_time::text, s.seen::text FROM host.confirmation c LEFT JOIN host.sight s USING (transaction)
		WHERE s.seen IS DISTINCT FROM c.scheduled_time`)
	a.meetupVerdict(t)
}

// Tokens.

// redemption is one way to use a token.
type redemption struct {
	lifetime time.Duration
	issue    func(issuer, soultribe.User) string
	use      func(ctx context.Context, st soultribe.Store, secret string) error
	check    func(soultribe.Store, context.Context, string) error
}

// redeem has all use one of two secrets in the last microsecond in which it works, every other one in a
// transaction.
func (a *attack) redeem(t *testing.T, way redemption) {
	t.Helper()
	ctx := t.Context()
	a.exec(t, `CREATE SCHEMA host;
		CREATE TABLE host.change (user_id bigint);
		CREATE FUNCTION host.changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO host.change VALUES (NEW.id); RETURN NULL; END $$;
		CREATE TRIGGER changed AFTER UPDATE ON "user" FOR EACH ROW WHEN (OLD IS DISTINCT FROM NEW) EXECUTE FUNCTION host.changed()`)
	a.rounds(t, func(n int) {
		u := signUp(t, a.DB, fmt.Sprintf("ann%d@x.org", n))
		first := way.issue(issuer{t, a.DB}, u)
		last := a.Clock.Now().Add(way.lifetime - time.Microsecond)
		second := way.issue(issuer{t, a.DB}, u)
		a.Clock.Set(last)
		require.NoError(t, way.check(a.st, ctx, second))
		counts := a.atOnce(func(i int) (bool, error) {
			return true, inTx(ctx, a.st, i, func(ctx context.Context, st soultribe.Store) error { return way.use(ctx, st, first) })
		})
		wantCounts(t, map[string]int{"": 1, "token_used": a.goroutines - 1}, counts)
		for _, err := range []error{way.check(a.st, ctx, second), way.use(ctx, a.st, second)} {
			if a.tried(true, err) != "token_used" {
				t.Errorf("a sibling: %v", err)
			}
		}
	})
	a.verdict(t, "siblings that live", `SELECT id FROM emailverificationtoken WHERE used_at IS NULL UNION ALL SELECT id FROM passwordresettoken WHERE used_at IS NULL`)
	a.verdict(t, "accounts that did not change once", `SELECT id FROM "user" u WHERE (SELECT count(*) FROM host.change c WHERE c.user_id = u.id) <> 1`)
}

func verifyEmail(ctx context.Context, st soultribe.Store, secret string) error {
	_, err := st.VerifyEmail(ctx, secret)
	return err
}

func resetPassword(ctx context.Context, st soultribe.Store, secret string) error {
	_, err := st.ResetPassword(ctx, secret, "another password")
	return err
}

func attackVerification(t *testing.T, a *attack) {
	t.Helper()
	a.redeem(t, redemption{24 * time.Hour, issuer.verification, verifyEmail, soultribe.Store.CheckEmailVerification})
	a.verdict(t, "accounts that are not verified", `SELECT id FROM "user" WHERE email_verified_at IS NULL`)
}

func attackEmailChange(t *testing.T, a *attack) {
	t.Helper()
	a.redeem(t, redemption{
		24 * time.Hour, func(i issuer, u soultribe.User) string { return i.change(u, "new."+u.Email) }, verifyEmail, soultribe.Store.CheckEmailVerification,
	})
	a.verdict(t, "accounts whose address did not change", `SELECT id FROM "user" WHERE email NOT LIKE 'new.ann%' OR email_verified_at IS NULL`)
}

func attackReset(t *testing.T, a *attack) {
	t.Helper()
	a.redeem(t, redemption{time.Hour, issuer.reset, resetPassword, soultribe.Store.CheckPasswordReset})
	a.verdict(t, "accounts whose password did not change", `SELECT id FROM "user" WHERE credentials_changed_at IS NULL`)
}

// secrets are one of each kind that work, two of which are stored as they are.
func (a *attack) secrets(t *testing.T) (verifications, resets []string) {
	t.Helper()
	issue := issuer{t, a.DB}
	u, other := signUp(t, a.DB, "ann@x.org"), signUp(t, a.DB, "bob@x.org")
	verifications = []string{issue.verification(u), "plain text of a verification"}
	resets = []string{issue.reset(u), "plain text of a reset"}
	sqlToken(t, a.DB, "emailverificationtoken", other.ID, verifications[1], "2026-04-01")
	sqlToken(t, a.DB, "passwordresettoken", other.ID, resets[1], "2026-04-01")
	return verifications, resets
}

// unusedVerdict finds tokens that were used, and then uses each.
func (a *attack) unusedVerdict(t *testing.T, verifications, resets []string) {
	t.Helper()
	a.verdict(t, "tokens that were used", `SELECT id FROM emailverificationtoken WHERE used_at IS NOT NULL UNION ALL
		SELECT id FROM passwordresettoken WHERE used_at IS NOT NULL`)
	for i := range verifications {
		require.NoError(t, verifyEmail(t.Context(), a.st, verifications[i]))
		require.NoError(t, resetPassword(t.Context(), a.st, resets[i]))
	}
}

func attackByDump(t *testing.T, a *attack) {
	t.Helper()
	ctx := t.Context()
	verifications, resets := a.secrets(t)
	// What is stored, and the hash of what is stored as it is, without which a row is not found.
	dump := a.Query(t, `SELECT CASE WHEN token LIKE 'sha256:%' THEN token ELSE 'sha256:' || encode(sha256(token::bytea), 'hex') END
		FROM (SELECT token FROM emailverificationtoken UNION ALL SELECT token FROM passwordresettoken) tokens`)
	require.Len(t, dump, 4)
	for _, hash := range dump {
		dump = append(dump, strings.TrimPrefix(hash, "sha256:"), strings.ToUpper(hash))
	}
	a.storm(t, func(_ int, r *rand.Rand) {
		value := dump[r.IntN(len(dump))]
		switch r.IntN(4) {
		case 0:
			a.tried(true, a.st.CheckEmailVerification(ctx, value))
		case 1:
			a.tried(true, a.st.CheckPasswordReset(ctx, value))
		case 2:
			a.tried(true, verifyEmail(ctx, a.st, value))
		case 3:
			a.tried(true, resetPassword(ctx, a.st, value))
		}
	})
	require.Zero(t, a.outcomes[""])
	a.unusedVerdict(t, verifications, resets)
}

func attackByLooking(t *testing.T, a *attack) {
	t.Helper()
	ctx := t.Context()
	verifications, resets := a.secrets(t)
	a.storm(t, func(i int, _ *rand.Rand) {
		err := pgx.BeginTxFunc(ctx, a.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			st := a.st.WithTx(tx)
			for n := range 50 {
				a.tried(false, st.CheckEmailVerification(ctx, verifications[(i+n)%2]))
				a.tried(false, st.CheckPasswordReset(ctx, resets[(i+n)%2]))
			}
			return nil
		})
		if err != nil {
			a.tried(false, err)
		}
	})
	a.unusedVerdict(t, verifications, resets)
}

// attackIssue has sixteen ask for each of two mails at one moment.
func attackIssue(t *testing.T, a *attack) {
	t.Helper()
	ctx := t.Context()
	u := signUp(t, a.DB, "ann@x.org")
	rounds := a.rounds(t, func(int) {
		a.Clock.Advance(time.Minute)
		counts := a.atOnce(func(i int) (bool, error) {
			if i%2 == 0 {
				_, err := a.st.IssueEmailVerification(ctx, u.ID)
				return true, err
			}
			_, ok, err := a.st.IssuePasswordReset(ctx, []string{"ann@x.org", "ANN@x.org"}[i/2%2])
			return ok, err
		})
		wantCounts(t, map[string]int{"": 2, "cooldown": a.goroutines/2 - 1, unchanged: a.goroutines/2 - 1}, counts)
	})
	for _, table := range []string{"emailverificationtoken", "passwordresettoken"} {
		a.verdict(t, "mails within a minute of another", `SELECT id FROM (SELECT id, created_at - lag(created_at) OVER (ORDER BY created_at, id) AS after FROM `+table+`) t
			WHERE after < interval '1 minute'`)
		require.Equal(t, []string{strconv.Itoa(rounds)}, a.Query(t, `SELECT count(*) FROM `+table))
	}
}

// Accounts.

// attackRegistration has all register one address in two spellings, in a transaction that has written a row of
// the host's.
func attackRegistration(t *testing.T, a *attack) {
	t.Helper()
	ctx := t.Context()
	a.exec(t, `CREATE SCHEMA host; CREATE TABLE host.visit (round int, visitor int, PRIMARY KEY (round, visitor))`)
	rounds := a.rounds(t, func(n int) {
		counts := a.atOnce(func(i int) (bool, error) {
			var result error
			err := a.st.InTx(ctx, func(ctx context.Context, tx pgx.Tx, st soultribe.Store) error {
				if _, err := tx.Exec(ctx, `INSERT INTO host.visit VALUES ($1, $2)`, n, i); err != nil {
					return err
				}
				_, result = st.CreateUser(ctx, soultribe.NewUser{Email: fmt.Sprintf([]string{"Ann%d@x.org", "ann%d@x.org"}[i%2], n), Password: otherPassword})
				return nil
			})
			if err != nil {
				return false, err
			}
			return true, result
		})
		wantCounts(t, map[string]int{"": 1, "email_taken": a.goroutines - 1}, counts)
	})
	a.verdict(t, "addresses with two accounts", `SELECT lower(email) FROM "user" GROUP BY 1 HAVING count(*) > 1`)
	a.verdict(t, "rounds that lack a host's row", `SELECT n FROM generate_series(0, $1::int - 1) n WHERE (SELECT count(*) FROM host.visit v WHERE v.round = n) <> $2::int`,
		rounds, a.goroutines)
	require.Equal(t, []string{strconv.Itoa(rounds)}, a.Query(t, `SELECT count(*) FROM "user"`))
}

// attackRehash has one reset a password whose hash all others' logins would renew.
func attackRehash(t *testing.T, a *attack) {
	t.Helper()
	ctx := t.Context()
	a.exec(t, `CREATE SCHEMA host;
		CREATE TABLE host.hash (user_id bigint, hash text, was_reset boolean);
		CREATE FUNCTION host.hashed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO host.hash VALUES (NEW.id, NEW.password_hash, NEW.credentials_changed_at IS DISTINCT FROM OLD.credentials_changed_at); RETURN NULL; END $$;
		CREATE TRIGGER hashed AFTER UPDATE ON "user" FOR EACH ROW WHEN (OLD.password_hash <> NEW.password_hash) EXECUTE FUNCTION host.hashed()`)
	rounds := a.rounds(t, func(n int) {
		email := fmt.Sprintf("ann%d@x.org", n)
		id, _ := laggingUser(t, a.DB, email)
		tok, _, err := a.st.IssuePasswordReset(ctx, email)
		require.NoError(t, err)
		a.atOnce(func(i int) (bool, error) {
			if i == n%a.goroutines {
				_, err := a.st.ResetPassword(ctx, tok.Secret(), "another password")
				return true, err
			}
			_, err := a.st.Authenticate(ctx, email, otherPassword)
			return false, err
		})
		if err := a.Store.CheckPassword(ctx, id, "another password"); err != nil {
			t.Error(err)
		}
	})
	a.verdict(t, "resets that a login undid", `SELECT u.id FROM "user" u JOIN host.hash h ON h.user_id = u.id AND h.was_reset WHERE h.hash <> u.password_hash`)
	require.Equal(t, rounds, a.outcomes[""])
	require.Equal(t, []string{strconv.Itoa(rounds)}, a.Query(t, `SELECT count(*) FROM host.hash WHERE was_reset`))
}

// attackDeletion has people delete their accounts while all go on to write about them. One of them has a row
// of the host's, which is in the way.
func attackDeletion(t *testing.T, a *attack) {
	t.Helper()
	const people, steps = 5, 12
	ctx := t.Context()
	// No other number in our tables is like the id of a user.
	a.exec(t, `ALTER SEQUENCE user_id_seq RESTART WITH 1000000000;
		CREATE SCHEMA host; CREATE TABLE host.note (owner bigint CONSTRAINT note_owner_fkey REFERENCES "user" (id))`)
	var gone []int64
	rounds := a.rounds(t, func(n int) {
		var ids [people]soultribe.UserID
		for i := range ids {
			ids[i] = a.User(t).ID
		}
		kept := ids[0]
		a.exec(t, `INSERT INTO host.note VALUES ($1)`, int64(kept))
		a.atOnce(func(i int) (bool, error) {
			r := rand.New(rand.NewPCG(uint64(n), uint64(i)))
			for range steps {
				actor, other := ids[r.IntN(people)], ids[r.IntN(people)]
				if actor != other {
					a.tried(a.writeAbout(ctx, r, actor, other))
				}
			}
			id := ids[i%people]
			_, err := a.st.DeleteUser(ctx, id)
			var inUse *soultribe.InUseError
			if id == kept && (!errors.As(err, &inUse) || *inUse != soultribe.InUseError{Schema: "host", Table: "note", Constraint: "note_owner_fkey"}) {
				return false, fmt.Errorf("the host's table is not named by %w", err)
			}
			return true, err
		})
		for _, id := range ids[1:] {
			gone = append(gone, int64(id))
		}
	})
	require.Equal(t, rounds*((a.goroutines+people-1)/people), a.outcomes["in_use"])
	columns := a.Query(t, `SELECT format('%I.%I', table_name, column_name) FROM information_schema.columns
		WHERE table_schema = 'public' AND data_type IN ('integer', 'bigint')`)
	require.Subset(t, columns, []string{`"user".id`, "meetup.proposer_id", "soultribe_booking.user_id"})
	for _, column := range columns {
		table, _, _ := strings.Cut(column, ".")
		a.verdict(t, "rows that name who is gone in "+column, `SELECT `+column+` FROM `+table+` WHERE `+column+` = ANY ($1)`, gone)
	}
	a.verdict(t, "accounts that were deleted in part", `SELECT owner FROM host.note WHERE owner NOT IN (SELECT user_id FROM profile)`)
	requireSound(t, a.DB)
	requireSoundSlots(t, a.DB)
}

// writeAbout takes some step of actor's, with other where it takes two.
func (a *attack) writeAbout(ctx context.Context, r *rand.Rand, actor, other soultribe.UserID) (changed bool, err error) {
	at := time.Duration(1+r.IntN(30)) * time.Hour
	switch r.IntN(5) {
	case 0:
		_, err = a.st.AddSlot(ctx, actor, soultribe.NewSlot{Start: hourAfter(at).Start, End: hourAfter(at).End(), Timezone: "UTC"})
		return true, err
	case 1:
		_, err = a.st.SetProfile(ctx, actor, soultribe.NewProfile{FullName: "Ann", DisplayName: "Ann", Timezone: "UTC"})
		return true, err
	case 2:
		u, err := a.st.User(ctx, actor)
		if err != nil {
			return false, err
		}
		_, ok, err := a.st.IssuePasswordReset(ctx, u.Email)
		return ok, err
	case 3:
		m, err := a.st.RequestMatch(ctx, actor, other)
		return m.Changed, err
	}
	m, err := a.st.MatchBetween(ctx, actor, other)
	if err != nil {
		return false, err
	}
	page, err := a.st.Meetups(ctx, actor, soultribe.MeetupQuery{MatchID: m.ID, Latest: true, Limit: 1})
	if err != nil {
		return false, err
	}
	var meetup soultribe.MeetupResult
	if len(page.Items) == 0 || page.Items[0].Status == soultribe.MeetupCancelled {
		meetup, err = a.st.ProposeMeetup(ctx, actor, soultribe.NewMeetup{MatchID: m.ID, Times: hourAfter(at)})
		return meetup.Changed, err
	}
	meetup, err = a.st.ConfirmMeetup(ctx, actor, page.Items[0].ID, page.Items[0].Times)
	return meetup.Changed, err
}
