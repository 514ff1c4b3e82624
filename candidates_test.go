package soultribe_test

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// A town is a few people, of whom the first asks, and their time in cells of 15 minutes. What the library
// computes with slots is here read off the cells, one by one.
type town struct {
	base    time.Time // of cell 0
	people  []resident
	pairs   []pair
	firstID int
}

type resident struct {
	name     string // "" is no profile
	verified bool
	slots    []cells
}

// pair is a match of two people, by their place in the town.
type pair struct {
	user1, user2 int
	status       string
	updated      time.Time
	meetup       cells // that is confirmed; empty is none
}

// cells are those from one up to another.
type cells struct{ from, to int }

const (
	townDays = 4
	dayCells = 24 * 4
)

// calendar has the cells of the days of a town, and of a day before and two after them.
type calendar [(townDays + 3) * dayCells]bool

func (c *calendar) set(span cells, value bool) {
	for i := span.from; i < span.to; i++ {
		c[i+dayCells] = value
	}
}

func (w *town) id(i int) soultribe.UserID { return soultribe.UserID(w.firstID + i) }

func (w *town) at(cell int) time.Time { return w.base.Add(time.Duration(cell) * quarter) }

// free is when someone is free; without their confirmed meetups, if asked.
func (w *town) free(i int, withoutMeetups bool) *calendar {
	var c calendar
	for _, s := range w.people[i].slots {
		c.set(s, true)
	}
	for _, p := range w.pairs {
		if withoutMeetups && (p.user1 == i || p.user2 == i) {
			c.set(p.meetup, false)
		}
	}
	return &c
}

// shared are the windows in which two calendars are free, between two times and of some length.
func (w *town) shared(a, b *calendar, from, to time.Time, atLeast time.Duration) []soultribe.Window {
	windows := []soultribe.Window{}
	for i := 0; i < len(a); i++ {
		begin := i
		for i < len(a) && a[i] && b[i] {
			i++
		}
		start, end := w.at(begin-dayCells), w.at(i-dayCells)
		if start.Before(from) {
			start = from
		}
		if end.After(to) {
			end = to
		}
		if start.Before(end) && end.Sub(start) >= atLeast {
			windows = append(windows, soultribe.Window{Start: start, End: end})
		}
	}
	return windows
}

// askable tells whether the first resident may ask another for a match.
func (w *town) askable(i int, now time.Time) bool {
	for _, p := range w.pairs {
		ofBoth := p.user1 == 0 && p.user2 == i || p.user1 == i && p.user2 == 0
		if ofBoth && (p.status != "cancelled" || now.Sub(p.updated) < 24*time.Hour) {
			return false
		}
	}
	return true
}

// beginning is the slot of someone's in which a time is: of several the one that lasts longest, which is the shortest of these.
func (w *town) beginning(i int, t time.Time) cells {
	return slices.MaxFunc(w.people[i].slots, func(a, b cells) int {
		in := func(s cells) int {
			if t.Before(w.at(s.from)) || !t.Before(w.at(s.to)) {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(in(a), in(b)), cmp.Compare(a.to, b.to), cmp.Compare(a.from, b.from))
	})
}

// candidates are those of the first resident, in order, with all their windows.
func (w *town) candidates(q soultribe.CandidateQuery, now time.Time) []soultribe.Candidate {
	list := []soultribe.Candidate{}
	asker := w.free(0, true)
	for i := 1; i < len(w.people); i++ {
		p := w.people[i]
		windows := w.shared(asker, w.free(i, false), q.From, q.To, cmp.Or(q.AtLeast, time.Hour))
		if !p.verified || !w.askable(i, now) || len(windows) == 0 {
			continue
		}
		c := soultribe.Candidate{UserID: w.id(i), DisplayName: p.name, Windows: windows}
		if p.name != "" {
			c.Timezone = "Europe/Vienna"
		}
		for _, window := range windows {
			c.Total += window.End.Sub(window.Start)
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b soultribe.Candidate) int {
		if q.Order == soultribe.MostTimeFirst {
			return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.UserID, b.UserID))
		}
		// Those who come equally soon are in the order of the slots with which they come: backward when the asker's
		// window begins then, as their slots have begun, each before the other.
		firstA, firstB := a.Windows[0].Start, b.Windows[0].Start
		slotA, slotB := w.beginning(int(a.UserID)-w.firstID, firstA), w.beginning(int(b.UserID)-w.firstID, firstB)
		bySlot := cmp.Or(cmp.Compare(slotA.from, slotB.from), cmp.Compare(slotA.to, slotB.to), cmp.Compare(a.UserID, b.UserID))
		if firstA.Equal(q.From) || !asker[firstA.Sub(w.base)/quarter-1+dayCells] {
			bySlot = -bySlot
		}
		return cmp.Or(firstA.Compare(firstB), bySlot)
	})
	for i := range list {
		list[i].Windows = list[i].Windows[:min(len(list[i].Windows), cmp.Or(q.MaxWindows, 5))]
	}
	return list
}

// randomTown makes a town whose ids begin at firstID. Where it is disorderly people have slots that overlap, twice, or that end
// before they begin.
func randomTown(r *rand.Rand, base, now time.Time, firstID int, disorderly bool) *town {
	w := &town{base: base, firstID: firstID}
	for i := range 2 + r.IntN(9) {
		p := resident{verified: i == 0 || r.IntN(6) > 0, slots: randomSlots(r)}
		for range r.IntN(2 * len(p.slots)) {
			if s := p.slots[r.IntN(len(p.slots))]; disorderly {
				p.slots = append(p.slots, cells{s.from - r.IntN(3), s.to - r.IntN(5) + r.IntN(3)})
			}
		}
		p.slots = slices.DeleteFunc(p.slots, func(s cells) bool { return s.to-s.from > dayCells || s.from < -dayCells })
		if r.IntN(5) > 0 {
			p.name = fmt.Sprintf("person %d", i)
		}
		w.people = append(w.people, p)
	}
	statuses := []string{"pending", "accepted", "accepted", "rejected", "cancelled", "cancelled", "cancelled", "suggested", "canceled"}
	taken := make([]calendar, len(w.people)) // by meetups
	for i := range w.people {
		for j := range i {
			if r.IntN(5) > 1 {
				continue
			}
			p := pair{user1: i, user2: j, status: statuses[r.IntN(len(statuses))]}
			if r.IntN(2) == 0 {
				p.user1, p.user2 = p.user2, p.user1
			}
			// The cool-down of 24 hours has just ended, is about to end, or is far from it.
			p.updated = now.Add(-24 * time.Hour).Add([]time.Duration{0, -time.Hour, time.Microsecond, time.Hour}[r.IntN(4)])
			m := cells{from: r.IntN(townDays * dayCells)}
			m.to = m.from + 1 + r.IntN(16)
			if p.status == "accepted" && !taken[i].any(m) && !taken[j].any(m) {
				taken[i].set(m, true)
				taken[j].set(m, true)
				p.meetup = m
			}
			w.pairs = append(w.pairs, p)
		}
	}
	return w
}

func (c *calendar) any(span cells) bool {
	return slices.Contains(c[span.from+dayCells:span.to+dayCells], true)
}

// randomSlots begin up to a day before the town. Many are adjacent.
func randomSlots(r *rand.Rand) []cells {
	var slots []cells
	sparse := 1 + r.IntN(60)
	for at := r.IntN(dayCells) - dayCells; at < townDays*dayCells; {
		s := cells{from: at, to: at + 1 + r.IntN(12)}
		switch r.IntN(12) {
		case 0:
			s.to = at + dayCells
		case 1, 2:
			s.to = at + 1
		}
		slots = append(slots, s)
		at = s.to
		if r.IntN(3) > 0 {
			at += r.IntN(sparse)
		}
	}
	return slots
}

// store writes a town as another application would.
func (w *town) store(ctx context.Context, pool *pgxpool.Pool) error {
	var b pgx.Batch
	for i, p := range w.people {
		id := int64(w.id(i))
		b.Queue(`INSERT INTO "user" (id, email, password_hash, email_verified_at, created_at)
			VALUES ($1, $2, 'x', CASE WHEN $3::boolean THEN $4::timestamp END, $4)`, id, fmt.Sprintf("%d@example.org", id), p.verified, w.base)
		if p.name != "" {
			b.Queue(`INSERT INTO profile (user_id, full_name, display_name, timezone, created_at, updated_at)
				VALUES ($1, 'secret', $2, 'Europe/Vienna', $3, $3)`, id, p.name, w.base)
		}
		var starts, ends []time.Time
		for _, s := range p.slots {
			starts, ends = append(starts, w.at(s.from)), append(ends, w.at(s.to))
		}
		b.Queue(`INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
			SELECT $1, s, e, s, e, 'UTC', s, s FROM unnest($2::timestamp[], $3::timestamp[]) AS t (s, e)`, id, starts, ends)
	}
	for _, p := range w.pairs {
		b.Queue(`INSERT INTO match (user1_id, user2_id, status, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)`,
			int64(w.id(p.user1)), int64(w.id(p.user2)), p.status, p.updated)
		if p.meetup != (cells{}) {
			b.Queue(`INSERT INTO meetup (match_id, scheduled_time, duration_seconds, status, created_at, updated_at)
				SELECT m.id, $3, $4, 'confirmed', $3, $3 FROM match m WHERE m.user1_id = $1 AND m.user2_id = $2`,
				int64(w.id(p.user1)), int64(w.id(p.user2)), w.at(p.meetup.from), (p.meetup.to-p.meetup.from)*900)
		}
	}
	return pool.SendBatch(ctx, &b).Close()
}

// randomQuery asks for a part of a town, not always at the border of a cell.
func randomQuery(r *rand.Rand, w *town) soultribe.CandidateQuery {
	from := w.base.Add(time.Duration(r.IntN(townDays*24*60/2)) * time.Minute)
	return soultribe.CandidateQuery{
		From:       from,
		To:         from.Add(time.Duration(1+r.IntN(townDays*24*60/2)) * time.Minute),
		AtLeast:    []time.Duration{0, 0, 15 * time.Minute, 37 * time.Minute, 2 * time.Hour, 6 * time.Hour, 30 * time.Hour}[r.IntN(7)],
		MaxWindows: []int{0, 0, 1, 2, 20}[r.IntN(5)],
	}
}

// TestTimeInRandomTowns compares candidates and mutual time with what the cells say, row for row.
func TestTimeInRandomTowns(t *testing.T) {
	t.Parallel()
	const lanes, towns = 4, 120 // of each lane
	orderly, disorderly := soultribetest.New(t), soultribetest.New(t)
	_, err := disorderly.Pool.Exec(t.Context(), `ALTER TABLE availabilityslot DROP CONSTRAINT availabilityslot_no_overlap,
		DROP CONSTRAINT availabilityslot_period_check`)
	require.NoError(t, err)
	for lane := range lanes {
		db := orderly
		if lane%2 == 1 {
			db = disorderly
		}
		t.Run(fmt.Sprint(lane), func(t *testing.T) {
			t.Parallel()
			found := 0
			for n := range towns {
				number := lane*towns + n
				r := rand.New(rand.NewPCG(uint64(number), 0))
				// The towns are apart in time, and so nobody is found from another.
				base := soultribetest.Epoch.Truncate(24*time.Hour).AddDate(0, 0, 1+10*number)
				w := randomTown(r, base, db.Clock.Now(), 1+100*number, db == disorderly)
				require.NoError(t, w.store(t.Context(), db.Pool), "town %d", number)
				found += w.compare(t, db, r, fmt.Sprintf("town %d", number))
			}
			require.Greater(t, found, 2*towns, "the towns are too lonely to tell")
		})
	}
}

// compare asks the library about a town, and returns how many candidates there were.
func (w *town) compare(t *testing.T, db *soultribetest.DB, r *rand.Rand, name string) (found int) {
	t.Helper()
	ctx := t.Context()
	q := randomQuery(r, w)
	for _, order := range []soultribe.CandidateOrder{soultribe.SoonestFirst, soultribe.MostTimeFirst} {
		q.Order = order
		want := w.candidates(q, db.Clock.Now())
		found += len(want)
		for _, limit := range []int{200, 1 + r.IntN(3)} {
			q.Limit, q.Within = limit, 0
			switch {
			case order == soultribe.MostTimeFirst && r.IntN(2) == 0:
				q.Within = time.Hour // which has it look at one group of people after the other
			case order == soultribe.SoonestFirst && r.IntN(2) == 0:
				q.Within = []time.Duration{1, 100 * time.Microsecond, time.Hour}[r.IntN(3)] // it ends anywhere, and goes on
			}
			got := []soultribe.Candidate{}
			for c, err := range soultribe.All(func(after soultribe.Cursor) (soultribe.Page[soultribe.Candidate], error) {
				q := q
				q.After = after
				return db.Store.Candidates(ctx, w.id(0), q)
			}) {
				require.NoError(t, err, name)
				got = append(got, c)
				require.LessOrEqual(t, len(got), len(w.people), "%s: someone comes again and again", name)
			}
			require.Equal(t, want, got, "%s: %+v", name, q)
		}
	}
	for other := 1; other < min(4, len(w.people)); other++ {
		want := w.shared(w.free(0, true), w.free(other, true), q.From, q.To, q.AtLeast)
		for _, pair := range [][2]soultribe.UserID{{w.id(0), w.id(other)}, {w.id(other), w.id(0)}} {
			got, err := db.Store.MutualAvailability(ctx, pair[0], pair[1], soultribe.MutualQuery{From: q.From, To: q.To, AtLeast: q.AtLeast})
			require.NoError(t, err, name)
			require.Equal(t, want, got, "%s: mutual time with %d, %+v", name, other, q)
		}
	}
	return found + w.page(t, db, r, q, name)
}

// page has everybody, and who is new, make slots while the first resident looks for who is free soonest: the pages stay those of
// the first.
func (w *town) page(t *testing.T, db *soultribetest.DB, r *rand.Rand, q soultribe.CandidateQuery, name string) (found int) {
	t.Helper()
	q.Order, q.Within, q.Limit = soultribe.SoonestFirst, 0, 1+r.IntN(3)
	want := w.candidates(q, db.Clock.Now())
	got := []soultribe.Candidate{}
	for range len(want) + 1 {
		page, err := db.Store.Candidates(t.Context(), w.id(0), q)
		require.NoError(t, err, name)
		got, q.After = append(got, page.Items...), page.Next
		if q.After == "" {
			break
		}
		id := w.firstID + len(w.people) + r.IntN(3)
		_, err = db.Pool.Exec(t.Context(), `INSERT INTO "user" (id, email, password_hash, email_verified_at, created_at)
			VALUES ($1, $2, 'x', $3, $3) ON CONFLICT DO NOTHING`, id, fmt.Sprintf("%d@example.org", id), w.base)
		require.NoError(t, err)
		for i := range len(w.people) + 3 {
			for _, s := range randomSlots(r) {
				_, err := db.Pool.Exec(t.Context(), `INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
					SELECT u.id, $2, $3, $2, $3, 'UTC', $2, $2 FROM "user" u WHERE u.id = $1 ON CONFLICT DO NOTHING`, int64(w.id(i)), w.at(s.from), w.at(s.to))
				require.NoError(t, err)
			}
		}
	}
	require.Equal(t, want, got, "%s, while slots are made: %+v", name, q)
	return len(got)
}

// crowd makes so many people who have two hours in common with the asker, who is returned.
func crowd(t *testing.T, db *soultribetest.DB, people int) (asker soultribe.UserID) {
	t.Helper()
	asker = db.User(t).ID
	_, err := db.Store.AddSlot(t.Context(), asker, spanFrom(spring, 0, 16, "UTC"))
	require.NoError(t, err)
	_, err = db.Pool.Exec(t.Context(), `WITH people AS (INSERT INTO "user" (email, password_hash, email_verified_at, created_at)
			SELECT n || '@example.org', 'x', now(), now() FROM generate_series(1, $1::integer) n RETURNING id)
		INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
		SELECT id, $2, $3, $2, $3, 'UTC', $2, $2 FROM people`, people, spring, spring.Add(2*time.Hour))
	require.NoError(t, err)
	return asker
}

// TestMostTimeOfSome looks at a share of the people, in turn.
func TestMostTimeOfSome(t *testing.T) {
	t.Parallel()
	const people, groups = 200, 64
	db := soultribetest.New(t)
	me := crowd(t, db, people)
	// found are all pages of a search, in the course of which Covered stays as it is.
	found := func(me soultribe.UserID, q soultribe.CandidateQuery) (ids []soultribe.UserID, covered float64) {
		q.From, q.Order, q.Limit = spring, soultribe.MostTimeFirst, 2
		for {
			page, err := db.Store.Candidates(t.Context(), me, q)
			require.NoError(t, err)
			for _, c := range page.Items {
				ids = append(ids, c.UserID)
			}
			require.True(t, q.After == "" || page.Covered == covered, "%v, then %v", covered, page.Covered)
			q.After, covered = page.Next, page.Covered
			if q.After == "" {
				return ids, covered
			}
		}
	}
	for _, search := range []struct {
		name     string
		q        soultribe.CandidateQuery
		looked   int // at so many groups
		searches int // which together see everyone
	}{
		{"all", soultribe.CandidateQuery{Share: 1}, 64, 1},
		{"half", soultribe.CandidateQuery{Share: 0.5}, 32, 2},
		{"a 64th", soultribe.CandidateQuery{Share: 1. / groups}, 1, groups},
		{"less", soultribe.CandidateQuery{Share: 1e-9}, 1, groups},
		{"a little more", soultribe.CandidateQuery{Share: 1.5 / groups}, 2, groups / 2},
		{"all in no time", soultribe.CandidateQuery{Within: 1}, 1, groups},
		{"all in time", soultribe.CandidateQuery{Within: time.Hour}, 64, 1},
		{"by default", soultribe.CandidateQuery{}, 64, 1},
	} {
		seen := map[soultribe.UserID]bool{}
		for range search.searches {
			ids, covered := found(me, search.q)
			require.InDelta(t, float64(search.looked)/groups, covered, 1e-9, search.name)
			inGroups := map[soultribe.UserID]bool{}
			for _, id := range ids {
				require.False(t, seen[id], "%s: %d comes again", search.name, id)
				seen[id], inGroups[id%groups] = true, true
			}
			require.Len(t, inGroups, search.looked, search.name)
		}
		require.Len(t, seen, people, search.name)
	}

	// Two take turns.
	other := db.User(t).ID
	_, err := db.Store.AddSlot(t.Context(), other, spanFrom(spring, 0, 16, "UTC"))
	require.NoError(t, err)
	seen := map[[2]soultribe.UserID]bool{}
	for i := range 4 {
		asker := []soultribe.UserID{me, other}[i%2]
		ids, _ := found(asker, soultribe.CandidateQuery{Share: 0.5})
		for _, id := range ids {
			seen[[2]soultribe.UserID{asker, id}] = true
		}
	}
	require.Len(t, seen, 2*(people+1)) // and each other

	// The Store looks at fewer by itself where the table is said to have more.
	for slots, looked := range map[int]int{999_999: 64, 2_000_000: 32, 8_000_000: 8, 1_000_000_000: 1} {
		_, err := db.Pool.Exec(t.Context(), `UPDATE pg_class SET reltuples = $1 WHERE oid = 'availabilityslot'::regclass`, slots)
		require.NoError(t, err)
		_, covered := found(me, soultribe.CandidateQuery{})
		require.InDelta(t, float64(looked)/groups, covered, 1e-9)
		_, covered = found(me, soultribe.CandidateQuery{Share: 1})
		require.InDelta(t, 1, covered, 1e-9)
	}

	for _, q := range []soultribe.CandidateQuery{
		{Order: soultribe.MostTimeFirst, Share: -0.1}, {Order: soultribe.MostTimeFirst, Share: 1.1}, {Order: soultribe.MostTimeFirst, Share: math.NaN()},
		{Share: 1}, {Order: soultribe.MostTimeFirst, Within: -1}, {Within: -1},
	} {
		_, err := db.Store.Candidates(t.Context(), me, q)
		require.ErrorIs(t, err, soultribe.ErrInvalid, "%+v", q)
	}
}

// TestSoonestWithin has a search that nobody meets end at its first look, with where it goes on, and get to its end from
// there.
func TestSoonestWithin(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	me := crowd(t, db, 300) // of whom nobody has more than two hours
	q := soultribe.CandidateQuery{From: spring, AtLeast: 3 * time.Hour, Limit: 20}
	page, err := db.Store.Candidates(t.Context(), me, q)
	require.NoError(t, err)
	require.Empty(t, page.Items)
	require.Empty(t, page.Next)

	q.Within = 1
	pages := 0
	for ; pages == 0 || q.After != ""; pages++ {
		require.LessOrEqual(t, pages, 301)
		page, err := db.Store.Candidates(t.Context(), me, q)
		require.NoError(t, err)
		require.Empty(t, page.Items)
		q.After = page.Next
	}
	require.Greater(t, pages, 200, "a search without any time looks at one slot after the other")
}

// TestSoonestWhileTheAskerAdds has the asker add a slot between the two round trips of the first page: who shares it comes once,
// with the time that the asker had when the search began.
func TestSoonestWhileTheAskerAdds(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	me := crowd(t, db, 3)
	other := me + 1
	early := soultribe.NewSlot{Start: spring.Add(-4 * time.Hour), End: spring.Add(-2 * time.Hour), Timezone: "UTC"}
	_, err := db.Store.AddSlot(t.Context(), other, early)
	require.NoError(t, err)
	last := new(lastQuery)
	last.before = func(sql string) {
		if strings.Contains(sql, "-- name: CandidatesSoonest\n") {
			_, err := db.Store.AddSlot(t.Context(), me, early)
			require.NoError(t, err)
		}
	}
	st := newStore(t, db, newPool(t, db.URL, func(c *pgxpool.Config) { c.ConnConfig.Tracer = last }))
	found := map[soultribe.UserID]int{}
	q := soultribe.CandidateQuery{From: early.Start, Limit: 1}
	for c, err := range soultribe.All(func(after soultribe.Cursor) (soultribe.Page[soultribe.Candidate], error) {
		q.After = after
		return st.Candidates(t.Context(), me, q)
	}) {
		require.NoError(t, err)
		require.Equal(t, spring, c.Windows[0].Start)
		found[c.UserID]++
	}
	require.Equal(t, map[soultribe.UserID]int{other: 1, other + 1: 1, other + 2: 1}, found)
}

// lastQuery keeps the last statement that a pool was asked for.
type lastQuery struct {
	sql    string
	args   []any
	before func(sql string) // may be nil
}

func (q *lastQuery) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	q.sql, q.args = data.SQL, data.Args
	if q.before != nil {
		q.before(q.sql)
	}
	return ctx
}

func (*lastQuery) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestSoonestReadsNoMoreOfMore sees that the first page and a later one read as much among 400 people as among 16,000.
func TestSoonestReadsNoMoreOfMore(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	last := new(lastQuery)
	pool := newPool(t, db.URL, func(c *pgxpool.Config) { c.ConnConfig.Tracer = last })
	st := newStore(t, db, pool)
	me := db.User(t).ID
	noon := spring.Truncate(24 * time.Hour).Add(36 * time.Hour)
	for _, s := range []soultribe.Window{{Start: noon, End: noon.Add(4 * time.Hour)}, {Start: noon.Add(24 * time.Hour), End: noon.Add(28 * time.Hour)}} {
		_, err := db.Store.AddSlot(ctx, me, soultribe.NewSlot{Start: s.Start, End: s.End, Timezone: "UTC"})
		require.NoError(t, err)
	}
	blocks, costs := map[string][]float64{}, map[string][]float64{}
	for people := 0; people < 16_000; people = max(400, 40*people) {
		// Each is free for two hours of each of three days, at any time of the day: most of those who began before
		// the asker are through by then.
		_, err := db.Pool.Exec(ctx, `WITH people AS (INSERT INTO "user" (email, password_hash, email_verified_at, created_at)
				SELECT n || '@example.org', 'x', now(), now() FROM generate_series($1::integer, $2::integer) n RETURNING id)
			INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
			SELECT id, s, s + interval '2 hours', s, s, 'UTC', s, s FROM people, generate_series(0, 2) AS day,
				LATERAL (SELECT $3::timestamp + day * interval '1 day' + (id * 7919 + day * 104729) % 88 * interval '15 minutes') AS t (s)`,
			people, max(400, 40*people)-1, noon.Add(-36*time.Hour))
		require.NoError(t, err)
		_, err = db.Pool.Exec(ctx, `VACUUM ANALYZE "user", availabilityslot`)
		require.NoError(t, err)
		q := soultribe.CandidateQuery{From: noon.Add(-time.Hour), Limit: 10}
		for _, name := range []string{"first page", "second page"} {
			page, err := st.Candidates(ctx, me, q)
			require.NoError(t, err)
			require.Len(t, page.Items, 10)
			q.After = page.Next
			var plan []struct {
				Plan struct {
					Hit  float64 `json:"Shared Hit Blocks"`
					Read float64 `json:"Shared Read Blocks"`
					Cost float64 `json:"Total Cost"`
				}
			}
			sql, args := last.sql, last.args
			require.NoError(t, pool.QueryRow(ctx, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+sql, args...).Scan(&plan))
			blocks[name] = append(blocks[name], plan[0].Plan.Hit+plan[0].Plan.Read)
			costs[name] = append(costs[name], plan[0].Plan.Cost)
		}
	}
	t.Logf("blocks: %v, costs: %v", blocks, costs)
	for name, read := range blocks {
		require.Len(t, read, 2)
		require.Less(t, read[1], 2*read[0], name)
		// Far from the 100,000 from which on PostgreSQL compiles a plan, which takes a second.
		require.Less(t, costs[name][1], 30_000., name)
	}
}

// TestCandidatesRoundTrips counts what goes to the server, whatever the number of people.
func TestCandidatesRoundTrips(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	count := new(counter)
	st := newStore(t, db, newPool(t, db.URL, func(c *pgxpool.Config) { c.ConnConfig.Tracer = count }))
	me := db.User(t).ID
	_, err := st.AddSlot(ctx, me, spanFrom(spring, 0, 16, "UTC"))
	require.NoError(t, err)
	for people, batch := 0, 1; people < 400; batch *= 20 {
		_, err := db.Pool.Exec(ctx, `WITH people AS (INSERT INTO "user" (email, password_hash, email_verified_at, created_at)
				SELECT n || '@example.org', 'x', now(), now() FROM generate_series($1::integer, $2::integer) n RETURNING id)
			INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
			SELECT id, $3, $4, $3, $4, 'UTC', $3, $3 FROM people`, people+1, people+batch, spring, spring.Add(2*time.Hour))
		require.NoError(t, err)
		people += batch
		for _, order := range []soultribe.CandidateOrder{soultribe.SoonestFirst, soultribe.MostTimeFirst} {
			q := soultribe.CandidateQuery{Order: order, From: spring, Limit: 200}
			for left := people; left > 0; left -= 200 {
				count.reset()
				page, err := st.Candidates(ctx, me, q)
				require.NoError(t, err)
				require.Len(t, page.Items, min(left, 200))
				require.Equal(t, 2, count.roundTrips)
				q.After = page.Next
			}
			require.Empty(t, q.After)
		}
	}
	// Who has no time to share is not looked for.
	count.reset()
	page, err := st.Candidates(ctx, me, soultribe.CandidateQuery{From: spring.Add(24 * time.Hour)})
	require.NoError(t, err)
	require.Equal(t, soultribe.Page[soultribe.Candidate]{Items: []soultribe.Candidate{}}, page)
	require.Equal(t, 1, count.roundTrips)
}

// TestManyPieces adds up the time of a person of so many slots that they are merged, though none touch.
func TestManyPieces(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	me, other := db.User(t), db.User(t)
	for _, slots := range []struct {
		user         soultribe.UserID
		length, step string
	}{{me.ID, "24 hours", "24 hours"}, {other.ID, "15 minutes", "15 minutes 1 second"}} {
		_, err := db.Pool.Exec(ctx, `
			INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
				SELECT $1, s, s + $2::text::interval, s, s, 'UTC', s, s
				FROM generate_series($4::timestamp, $4::timestamp + interval '10 days', $3::text::interval) AS s`,
			slots.user, slots.length, slots.step, db.Clock.Now())
		require.NoError(t, err)
	}
	page, err := db.Store.Candidates(ctx, me.ID, soultribe.CandidateQuery{AtLeast: 15 * time.Minute, Order: soultribe.MostTimeFirst})
	require.NoError(t, err)
	require.Len(t, page.Items, 1)
	number := db.Query(t, "SELECT count(*) FROM availabilityslot WHERE user_id = $1", other.ID)
	require.Equal(t, fmt.Sprint(int64(page.Items[0].Total/(15*time.Minute))), number[0])
}

// TestSoonestOfManySlots has one person whose slots would each be merged with all the others: the search reads no more
// of it, for each slot, when there are five times as many.
func TestSoonestOfManySlots(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, pieces := range []struct {
		name    string
		gap     time.Duration // between slots of a quarter of an hour
		atLeast time.Duration
		newer   bool // than the first page
	}{
		{"apart", time.Second, 15 * time.Minute, false},
		{"adjacent", 0, time.Hour, false},
		{"apart and newer", time.Second, 15 * time.Minute, true},
		{"adjacent and newer", 0, time.Hour, true},
	} {
		t.Run(pieces.name, func(t *testing.T) {
			t.Parallel()
			db := soultribetest.New(t)
			last := new(lastQuery)
			pool := newPool(t, db.URL, func(c *pgxpool.Config) { c.ConnConfig.Tracer = last })
			st := newStore(t, db, pool)
			me, other := db.User(t).ID, db.User(t).ID
			for day := range 20 { // free all the time
				_, err := db.Store.AddSlot(ctx, me, soultribe.NewSlot{Start: spring.AddDate(0, 0, day), End: spring.AddDate(0, 0, day+1), Timezone: "UTC"})
				require.NoError(t, err)
			}
			q := soultribe.CandidateQuery{From: spring.Add(-time.Minute), AtLeast: pieces.atLeast}
			found := 1
			if pieces.newer {
				for range 3 { // of whom the first is on the first page
					_, err := db.Store.AddSlot(ctx, db.User(t).ID, soultribe.NewSlot{Start: spring, End: spring.Add(time.Hour), Timezone: "UTC"})
					require.NoError(t, err)
				}
				q.Limit = 1
				page, err := st.Candidates(ctx, me, q)
				require.NoError(t, err)
				q.Limit, q.After, found = 0, page.Next, 2
			}
			perSlot := []float64{}
			slots, start := 0, spring
			for _, more := range []int{200, 800} {
				var list []soultribe.NewSlot
				for range more {
					list = append(list, soultribe.NewSlot{Start: start, End: start.Add(15 * time.Minute), Timezone: "UTC"})
					start = start.Add(15*time.Minute + pieces.gap)
				}
				slots += more
				_, err := db.Store.AddSlots(ctx, other, list)
				require.NoError(t, err)
				_, err = db.Pool.Exec(ctx, "VACUUM ANALYZE availabilityslot")
				require.NoError(t, err)
				page, err := st.Candidates(ctx, me, q)
				require.NoError(t, err)
				require.Len(t, page.Items, found)
				var plan []struct {
					Plan struct {
						Hit float64 `json:"Shared Hit Blocks"`
					}
				}
				sql, args := last.sql, last.args
				require.NoError(t, pool.QueryRow(ctx, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+sql, args...).Scan(&plan))
				perSlot = append(perSlot, plan[0].Plan.Hit/float64(slots))
			}
			t.Logf("blocks a slot: %.1f", perSlot)
			require.Less(t, perSlot[1], 1.7*perSlot[0])
		})
	}
}

// TestSoonestAtTheEnds finds who has the smallest id, and, in a database that has lost its constraints, who is free for ever.
func TestSoonestAtTheEnds(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	me := crowd(t, db, 1)
	const smallest = soultribe.UserID(math.MinInt32)
	_, err := db.Pool.Exec(t.Context(), `ALTER TABLE availabilityslot DROP CONSTRAINT availabilityslot_period_check;
		UPDATE pg_class SET reltuples = -1 WHERE oid = 'availabilityslot'::regclass;
		INSERT INTO "user" (id, email, password_hash, email_verified_at, created_at) VALUES (`+fmt.Sprint(int64(smallest))+`, 'smallest@example.org', 'x', now(), now())`)
	require.NoError(t, err)
	_, err = db.Pool.Exec(t.Context(), `INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
		VALUES ($1, $2, 'infinity', $2, 'infinity', 'UTC', $2, $2)`, int64(smallest), spring.Add(-time.Hour))
	require.NoError(t, err)
	for _, order := range []soultribe.CandidateOrder{soultribe.SoonestFirst, soultribe.MostTimeFirst} {
		page, err := db.Store.Candidates(t.Context(), me, soultribe.CandidateQuery{From: spring, Order: order})
		require.NoError(t, err)
		require.Len(t, page.Items, 2)
		require.Equal(t, 4*time.Hour, max(page.Items[0].Total, page.Items[1].Total)) // the asker's
	}
}
