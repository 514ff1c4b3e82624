package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/soultribe-chat/soultribe"
)

// recorder keeps the last statement of the pool.
type recorder struct {
	sql  string
	args []any
}

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	r.sql, r.args = data.SQL, data.Args
	return ctx
}

func (*recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

type bench struct {
	st           *soultribe.Postgres
	pool         *pgxpool.Pool
	runs, people int
	report       *report
	statements   *recorder
	temporary    int // blocks that searches wrote to temporary files
}

// askers are how many slots those have who look for candidates.
var askers = []int{1, 5, 20}

func (b *bench) all(ctx context.Context, plans bool) error {
	someone := soultribe.UserID(b.people / 2)
	reads := []struct {
		name string
		call func() error
	}{
		{"UserByEmail", func() error {
			_, err := b.st.UserByEmail(ctx, fmt.Sprintf("PERSON%d@example.org", someone))
			return err
		}},
		{"Slots", func() error {
			_, err := b.st.Slots(ctx, someone, soultribe.SlotQuery{})
			return err
		}},
		{"MutualAvailability", func() error {
			_, err := b.st.MutualAvailability(ctx, someone, someone+1, soultribe.MutualQuery{})
			return err
		}},
		{"Stats", func() error {
			_, err := b.st.Stats(ctx)
			return err
		}},
	}
	for _, read := range reads {
		if err := b.time(read.name, read.call); err != nil {
			return err
		}
	}
	for i, slots := range askers {
		asker, err := b.asker(ctx, i, slots, 3*time.Hour)
		if err != nil {
			return err
		}
		if err := b.searches(ctx, asker, slots, plans && slots == 5); err != nil {
			return err
		}
	}
	b.report.add(temporaryBlocks, b.people, "%.0f", float64(b.temporary))
	// Nobody is free for longer than four hours.
	asker, err := b.asker(ctx, len(askers), 5, 5*time.Hour)
	if err != nil {
		return err
	}
	for _, within := range []time.Duration{0, 20 * time.Millisecond} {
		name := "soonest first, for what nobody has"
		if within > 0 {
			name += fmt.Sprintf(", within %v", within)
		}
		err := b.time(name, func() error {
			_, err := b.st.Candidates(ctx, asker, soultribe.CandidateQuery{AtLeast: 5 * time.Hour, Within: within})
			return err
		})
		if err != nil {
			return err
		}
	}
	return b.writes(ctx)
}

// writes has an account made, and people match and meet. Slots are not written here, as their constraint is left off.
func (b *bench) writes(ctx context.Context) error {
	hash, err := b.st.HashPassword(ctx, rand.Text())
	if err != nil {
		return err
	}
	var created []soultribe.UserID
	create := func() error {
		u, err := b.st.CreateUser(ctx, soultribe.NewUser{Email: rand.Text() + "@example.org", Hash: hash})
		created = append(created, u.ID)
		return err
	}
	verify := func() error {
		token, err := b.st.IssueEmailVerification(ctx, created[0])
		if err != nil {
			return err
		}
		created = created[1:]
		_, err = b.st.VerifyEmail(ctx, token.Secret())
		return err
	}
	var one, other soultribe.UserID // of the pair, of which the next is of the two behind them
	var match soultribe.MatchResult
	pair := func() (err error) {
		one, other = other+1, other+2
		if match, err = b.st.RequestMatch(ctx, one, other); err != nil {
			return err
		}
		_, err = b.st.AcceptMatch(ctx, other, match.ID)
		return err
	}
	later := now
	meet := func() error {
		later = later.Add(time.Hour)
		m, err := b.st.ProposeMeetup(ctx, one, soultribe.NewMeetup{MatchID: match.ID, Times: soultribe.Times{Start: later, Duration: time.Hour}})
		if err != nil {
			return err
		}
		if _, err := b.st.ConfirmMeetup(ctx, other, m.ID, m.Times); err != nil {
			return err
		}
		_, err = b.st.CancelMeetup(ctx, one, m.ID)
		return err
	}
	for _, write := range []struct {
		name string
		call func() error
	}{
		{"CreateUser", create},
		{"IssueEmailVerification and VerifyEmail", verify},
		{"RequestMatch and AcceptMatch", pair},
		{"ProposeMeetup, ConfirmMeetup and CancelMeetup", meet},
	} {
		if err := b.time(write.name, write.call); err != nil {
			return err
		}
	}
	return nil
}

// time reports the median of a call's time, in milliseconds.
func (b *bench) time(name string, call func() error) error {
	took := make([]time.Duration, b.runs)
	for i := range took {
		began := time.Now()
		if err := call(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	b.report.add(name, b.people, "%.1f", float64(took[len(took)/2].Microseconds())/1000)
	return nil
}

// asker makes one who is free so many times, spread over the fortnight, for so long each.
func (b *bench) asker(ctx context.Context, number, slots int, length time.Duration) (soultribe.UserID, error) {
	id := b.people + 1 + number
	_, err := b.pool.Exec(ctx, `INSERT INTO "user" (id, email, password_hash, email_verified_at, created_at) VALUES ($1, $2, 'none', $3, $3)`,
		id, fmt.Sprintf("asker%d@example.org", number), day)
	if err != nil {
		return 0, err
	}
	for i := range slots {
		start := day.AddDate(0, 0, i*fortnight/slots).Add(time.Duration(9+5*(i%2)) * time.Hour)
		_, err := b.pool.Exec(ctx, `INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
			VALUES ($1, $2, $3, $2, $3, 'UTC', $4, $4)`, id, start, start.Add(length), day)
		if err != nil {
			return 0, err
		}
	}
	return soultribe.UserID(id), nil
}

func (b *bench) searches(ctx context.Context, asker soultribe.UserID, slots int, plans bool) error {
	find := func(q soultribe.CandidateQuery) (soultribe.Page[soultribe.Candidate], error) {
		return b.st.Candidates(ctx, asker, q)
	}
	named := func(name string) string { return ofAsker(name, slots) }
	var others int
	err := b.pool.QueryRow(ctx, `SELECT count(*) FROM availabilityslot a JOIN availabilityslot o ON o.user_id <> a.user_id
		AND o.start_dt_utc < a.end_dt_utc AND o.start_dt_utc > a.start_dt_utc - interval '24 hours' AND o.end_dt_utc > a.start_dt_utc
		WHERE a.user_id = $1`, int64(asker)).Scan(&others)
	if err != nil {
		return err
	}
	b.report.add(named("slots of others in the asker's time"), b.people, "%.0f", float64(others))
	for _, search := range []struct {
		name string
		q    soultribe.CandidateQuery
	}{
		{soonestFirst, soultribe.CandidateQuery{}},
		{allPeople, soultribe.CandidateQuery{Order: soultribe.MostTimeFirst, Share: 1}},
		{"most time first, by default", soultribe.CandidateQuery{Order: soultribe.MostTimeFirst}},
		{"most time first, 1/64", soultribe.CandidateQuery{Order: soultribe.MostTimeFirst, Share: 1. / 64}},
	} {
		err := b.time(named(search.name), func() error {
			_, err := find(search.q)
			return err
		})
		if err != nil {
			return err
		}
		if err := b.explain(ctx, search.name, plans); err != nil {
			return err
		}
	}

	if b.people <= 10_000 {
		for _, way := range []struct {
			name string
			of   func(ctx context.Context, asker, other soultribe.UserID) (time.Duration, error)
		}{
			{"most time first, a query for each person, MutualAvailability", b.mutualTime},
			{sumForEach, b.sumOfPieces},
		} {
			err := b.time(named(way.name), func() error { return b.eachPerson(ctx, asker, way.of) })
			if err != nil {
				return err
			}
		}
	}

	// The twentieth page.
	q := soultribe.CandidateQuery{}
	for range 19 {
		page, err := find(q)
		if err != nil {
			return err
		}
		if page.Next == "" {
			break
		}
		q.After = page.Next
	}
	err = b.time(named(page20), func() error {
		_, err := find(q)
		return err
	})
	if err != nil {
		return err
	}

	// How good a sample is, over all of them.
	exact, err := find(soultribe.CandidateQuery{Order: soultribe.MostTimeFirst, Share: 1})
	if err != nil {
		return err
	}
	var sampled time.Duration
	for range 64 {
		page, err := find(soultribe.CandidateQuery{Order: soultribe.MostTimeFirst, Share: 1. / 64})
		if err != nil {
			return err
		}
		sampled += mean(page.Items)
	}
	b.report.add(named(bestOfSample), b.people, "%.0f %%", 100*float64(sampled/64)/float64(mean(exact.Items)))
	byDefault, err := find(soultribe.CandidateQuery{Order: soultribe.MostTimeFirst})
	if err != nil {
		return err
	}
	b.report.add(named("share of people covered by default"), b.people, "%.0f %%", 100*byDefault.Covered)
	return nil
}

// eachPerson finds who has the most time with the asker in the way that comes to mind first: it asks for each person by
// a statement, without looking at accounts, profiles or matches.
func (b *bench) eachPerson(ctx context.Context, asker soultribe.UserID, timeWith func(ctx context.Context, asker, other soultribe.UserID) (time.Duration, error)) error {
	type total struct {
		user soultribe.UserID
		time time.Duration
	}
	totals := make([]total, 0, b.people)
	for user := soultribe.UserID(1); user <= soultribe.UserID(b.people); user++ {
		t, err := timeWith(ctx, asker, user)
		if err != nil {
			return err
		}
		totals = append(totals, total{user, t})
	}
	slices.SortFunc(totals, func(a, b total) int { return cmp.Compare(b.time, a.time) })
	return nil
}

// mutualTime is right: it merges slots, and leaves out what is too short.
func (b *bench) mutualTime(ctx context.Context, asker, other soultribe.UserID) (sum time.Duration, err error) {
	windows, err := b.st.MutualAvailability(ctx, asker, other, soultribe.MutualQuery{AtLeast: time.Hour})
	for _, w := range windows {
		sum += w.End.Sub(w.Start)
	}
	return sum, err
}

// sumOfPieces is the least that a statement could do: it neither merges nor leaves anything out.
func (b *bench) sumOfPieces(ctx context.Context, asker, other soultribe.UserID) (time.Duration, error) {
	var seconds float64
	err := b.pool.QueryRow(ctx, `SELECT coalesce(sum(extract(epoch FROM least(a.end_dt_utc, o.end_dt_utc) - greatest(a.start_dt_utc, o.start_dt_utc))), 0)::float8
		FROM availabilityslot a JOIN availabilityslot o ON o.start_dt_utc < a.end_dt_utc AND o.end_dt_utc > a.start_dt_utc
		WHERE a.user_id = $1 AND o.user_id = $2 AND a.start_dt_utc < $4 AND a.end_dt_utc > $3`, int64(asker), int64(other), now, now.AddDate(0, 0, fortnight)).Scan(&seconds)
	return time.Duration(seconds * float64(time.Second)), err
}

func mean(found []soultribe.Candidate) time.Duration {
	var sum time.Duration
	for _, c := range found {
		sum += c.Total
	}
	return sum / time.Duration(max(1, len(found)))
}

// explain runs the last statement once more, and counts what it writes to temporary files. It adds the plan to the report
// if that is to have it.
func (b *bench) explain(ctx context.Context, name string, plan bool) error {
	sql, args := b.statements.sql, b.statements.args
	var text string
	if err := b.pool.QueryRow(ctx, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+sql, args...).Scan(&text); err != nil {
		return err
	}
	var top []struct {
		Plan struct {
			Written int `json:"Temp Written Blocks"`
		}
	}
	if err := json.Unmarshal([]byte(text), &top); err != nil {
		return err
	}
	b.temporary += top[0].Plan.Written
	if !plan {
		return nil
	}
	rows, err := b.pool.Query(ctx, "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) "+sql, args...)
	if err != nil {
		return err
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	b.report.plan(name, strings.Join(lines, "\n"))
	return nil
}
