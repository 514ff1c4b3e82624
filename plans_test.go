package soultribe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// sent keeps every statement that a pool was asked for.
type sent struct {
	queries []pgx.QueuedQuery
}

func (s *sent) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.queries = append(s.queries, pgx.QueuedQuery{SQL: data.SQL, Arguments: data.Args})
	return ctx
}

func (*sent) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (*sent) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (s *sent) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	s.queries = append(s.queries, pgx.QueuedQuery{SQL: data.SQL, Arguments: data.Args})
}

func (*sent) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// planModes have PostgreSQL plan a statement for its values, and once for any.
var planModes = []string{"force_custom_plan", "force_generic_plan"}

// TestReadsNoMoreOfMore sees that what one person does reads as much among 300 people as among 1,200 and 6,000, whether
// PostgreSQL plans a statement for its values, or once for any, as it comes to after a few runs: it then takes a time
// between two bounds for rare, and an index on time for a good one, up to a size.
func TestReadsNoMoreOfMore(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	blocks := map[string][]int{}
	order := []string{}
	for _, people := range []int{300, 1200, 6000} {
		db := soultribetest.New(t)
		me, other := peopleWithEverything(t, db, people)
		// So that what is made anew has the ids that the statements behind it ask for.
		var rewind string
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT string_agg(format('SELECT setval(%L, %s, %L)', format('%I.%I', schemaname, sequencename),
			coalesce(last_value, 1), last_value IS NOT NULL), '; ') FROM pg_sequences`).Scan(&rewind))
		var steps sent
		pool := newPool(t, db.URL, func(c *pgxpool.Config) { c.ConnConfig.Tracer = &steps })
		// What it does is undone, so that it can be done again.
		tx, err := pool.Begin(ctx)
		require.NoError(t, err)
		t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // before the pool is closed, where a step fails
		everyStep(t, newStore(t, db, tx), db.Clock.Now(), me, other)
		require.NoError(t, tx.Rollback(ctx))
		for _, mode := range planModes {
			conn, err := pgx.Connect(ctx, db.URL)
			require.NoError(t, err)
			again, err := conn.Begin(ctx)
			require.NoError(t, err)
			_, err = again.Exec(ctx, "SET LOCAL plan_cache_mode = "+mode+"; "+rewind, pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err)
			seen := map[string]int{}
			for _, q := range steps.queries {
				name, isNamed := strings.CutPrefix(strings.SplitN(q.SQL, "\n", 2)[0], "-- name: ")
				if !isNamed { // the transaction's own
					continue
				}
				seen[name]++
				name = fmt.Sprintf("%s %d, %s", name, seen[name], mode)
				if blocks[name] == nil {
					order = append(order, name)
				}
				plan := explain(t, again, q)
				blocks[name] = append(blocks[name], plan.Hit+plan.Read)
			}
			require.NoError(t, again.Rollback(ctx))
			require.NoError(t, conn.Close(ctx))
		}
	}
	for _, name := range order {
		t.Logf("%-50s blocks: %v", name, blocks[name])
		require.Len(t, blocks[name], 3, name)
		few, many := blocks[name][0], max(blocks[name][1], blocks[name][2])
		// Indexes have a level more, and a person's rows are not in one place any more.
		if many > 2*few+20 {
			t.Errorf("%s reads %d blocks among few people, and %d among many", name, few, many)
		}
		// The statement also is to be planned for any values as it is for some, while a table is small.
		custom, isGeneric := strings.CutSuffix(name, "force_generic_plan")
		if known := blocks[custom+"force_custom_plan"]; isGeneric && few > 2*known[0]+20 {
			t.Errorf("%s reads %d blocks among few people, and %d when it is planned for its values", name, few, known[0])
		}
	}
}

// TestSearchesArePlannedOnce sees that PostgreSQL comes to plan each search for any values, as to plan one takes as long as
// a page of it, and that it looks up whom to leave out, of whom there may be thousands.
func TestSearchesArePlannedOnce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	me, _ := peopleWithEverything(t, db, 600)
	var steps sent
	pool := newPool(t, db.URL, func(c *pgxpool.Config) { c.MaxConns, c.ConnConfig.Tracer = 1, &steps })
	st := newStore(t, db, pool)
	first, err := db.Store.Candidates(ctx, me, soultribe.CandidateQuery{})
	require.NoError(t, err)
	for name, q := range map[string]soultribe.CandidateQuery{
		"CandidatesSoonest":         {},
		"CandidatesSoonestLater":    {After: first.Next},
		"CandidatesMostTime":        {Order: soultribe.MostTimeFirst, Share: 1},
		"CandidatesMostTimeByGroup": {Order: soultribe.MostTimeFirst, Share: 0.5},
	} {
		const alwaysPlanned = 5 // the runs of which PostgreSQL takes the mean
		for range alwaysPlanned + 3 {
			page, err := st.Candidates(ctx, me, q)
			require.NoError(t, err)
			require.NotEmpty(t, page.Items)
		}
		search := steps.queries[len(steps.queries)-1]
		require.Contains(t, search.SQL, "-- name: "+name+"\n")
		var forAny, forThese int
		require.NoError(t, pool.QueryRow(ctx, "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = $1", search.SQL).Scan(&forAny, &forThese))
		require.Equal(t, []int{3, alwaysPlanned}, []int{forAny, forThese}, name)
		rows, err := pool.Query(ctx, "EXPLAIN "+search.SQL, search.Arguments...)
		require.NoError(t, err)
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.Contains(t, strings.Join(plan, "\n"), "NOT (hashed SubPlan", name)
	}
}

// TestMostTimeReadsTheAskersTime sees that a search for most time, of whatever share of people, passes by no slots that are at
// another time than the asker's, however many those are.
func TestMostTimeReadsTheAskersTime(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	_, err := db.Pool.Exec(ctx, `
		INSERT INTO "user" (id, email, password_hash, email_verified_at, created_at)
			SELECT n, 'person' || n || '@example.org', 'x', now(), now() FROM generate_series(1, 5000) n;
		INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
			SELECT n, s, s + interval '2 hours', s, s + interval '2 hours', 'UTC', s, s FROM generate_series(1, 5000) n, generate_series(-3, 6) AS day,
				LATERAL (SELECT timestamp '2026-03-04' + day * interval '1 day' + (n * 7919 + day * 104729) % 88 * interval '15 minutes') AS t (s)`)
	require.NoError(t, err)
	_, err = db.Pool.Exec(ctx, "VACUUM ANALYZE")
	require.NoError(t, err)
	const me = 77
	var steps sent
	pool := newPool(t, db.URL, func(c *pgxpool.Config) { c.ConnConfig.Tracer = &steps })
	st := newStore(t, db, pool)
	from := db.Clock.Now()
	for _, share := range []float64{1. / 64, 0.5, 1} {
		page, err := st.Candidates(ctx, me, soultribe.CandidateQuery{Order: soultribe.MostTimeFirst, Share: share, From: from, To: from.AddDate(0, 0, 2)})
		require.NoError(t, err)
		require.NotEmpty(t, page.Items)
		search := steps.queries[len(steps.queries)-1]
		var met float64
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) * $4::float8 FROM availabilityslot a JOIN availabilityslot o
			ON o.start_dt_utc < a.end_dt_utc AND o.end_dt_utc > a.start_dt_utc
			WHERE a.user_id = $1 AND a.start_dt_utc < $3 AND a.end_dt_utc > $2`, me, from, from.AddDate(0, 0, 2), share).Scan(&met))
		for mode, plan := range bothPlans(t, pool, search) {
			t.Logf("share %.3f, %s: %.0f slots in the asker's time, %.0f rows", share, mode, met, plan.rowsSeen())
			require.Less(t, plan.rowsSeen(), 20*met+1000, mode) // each in a few nodes, and a page
		}
	}
}

// TestSoonestMergesAPersonOnce sees that a page that is not full, as there are too few people for it, does not have everybody's
// slots merged anew for each of the asker's windows.
func TestSoonestMergesAPersonOnce(t *testing.T) {
	t.Parallel()
	const people, days, aDay, me = 30, 40, 5, 1
	for _, test := range []struct {
		length, atLeast time.Duration
		found           int
	}{
		{time.Hour, time.Hour, people - 1},
		{30 * time.Minute, time.Hour, people - 1}, // two, one behind the other
		{20 * time.Minute, 50 * time.Minute, people - 1},
		{20 * time.Minute, 61 * time.Minute, 0},
	} {
		db := soultribetest.New(t)
		_, err := db.Pool.Exec(t.Context(), `INSERT INTO "user" (id, email, password_hash, email_verified_at, created_at)
			SELECT n, 'person' || n || '@example.org', 'x', now(), now() FROM generate_series(1, $1::bigint) n`, people)
		require.NoError(t, err)
		_, err = db.Pool.Exec(t.Context(), `
			INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
				SELECT n, s, s + length, s, s + length, 'UTC', s, s FROM generate_series(1, $1::bigint) n, generate_series(1, $2::int) AS day, generate_series(1, $3::int) k,
					LATERAL (SELECT timestamp '2026-03-04' + day * interval '1 day' + k * interval '2 hours', CASE WHEN n = $5 THEN interval '90 minutes' ELSE $4::interval END) AS x (first, length),
					generate_series(first, first + interval '59 minutes', length) s`,
			people, days, aDay, test.length, me)
		require.NoError(t, err)
		_, err = db.Pool.Exec(t.Context(), "VACUUM ANALYZE")
		require.NoError(t, err)
		var steps sent
		pool := newPool(t, db.URL, func(c *pgxpool.Config) { c.ConnConfig.Tracer = &steps })
		from := db.Clock.Now()
		st := newStore(t, db, pool)
		q := soultribe.CandidateQuery{From: from, To: from.AddDate(0, 0, days+10), AtLeast: test.atLeast}
		page, err := st.Candidates(t.Context(), me, q)
		require.NoError(t, err)
		require.Len(t, page.Items, test.found)
		for _, c := range page.Items {
			require.Equal(t, days*aDay*time.Hour, c.Total)
		}
		searches := []pgx.QueuedQuery{steps.queries[len(steps.queries)-1]}
		if test.found > 0 {
			q.Limit = 1
			page, err = st.Candidates(t.Context(), me, q)
			require.NoError(t, err)
			q.Limit, q.After = 0, page.Next
			page, err = st.Candidates(t.Context(), me, q)
			require.NoError(t, err)
			require.Len(t, page.Items, test.found-1)
			searches = append(searches, steps.queries[len(steps.queries)-1])
		}
		slots := float64(people * days * aDay * int(time.Hour/test.length))
		for i, search := range searches {
			for mode, plan := range bothPlans(t, pool, search) {
				t.Logf("%v of %v, page %d, %s: %.0f slots, %.0f rows", test.atLeast, test.length, i+1, mode, slots, plan.rowsSeen())
				require.Less(t, plan.rowsSeen(), 40*slots, mode)
			}
		}
	}
}

// TestManySlotsBesideMany sees that what AddSlots does is not that each new slot is compared with each that is there.
func TestManySlotsBesideMany(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	var steps sent
	pool := newPool(t, db.URL, func(c *pgxpool.Config) { c.ConnConfig.Tracer = &steps })
	st := newStore(t, db, pool)
	user := db.User(t)
	const many = 1000
	slots := func(minute int) []soultribe.NewSlot {
		list := make([]soultribe.NewSlot, many)
		for i := range list {
			start := db.Clock.Now().Add(time.Duration(i+1)*time.Hour + time.Duration(minute)*time.Minute)
			list[i] = soultribe.NewSlot{Start: start, End: start.Add(30 * time.Minute), Timezone: "UTC"}
		}
		return list
	}
	_, err := st.AddSlots(ctx, user.ID, slots(0))
	require.NoError(t, err)
	// Others have few, so that the planner expects few.
	_, err = db.Pool.Exec(ctx, `
		INSERT INTO "user" (email, password_hash, created_at) SELECT 'person' || n || '@example.org', 'x', now() FROM generate_series(1, 500) n;
		INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
			SELECT id, s, s + interval '1 hour', s, s + interval '1 hour', 'UTC', s, s FROM "user", generate_series(timestamp '2026-01-01', '2026-01-02', '4 hours') s`)
	require.NoError(t, err)
	_, err = db.Pool.Exec(ctx, "VACUUM ANALYZE availabilityslot")
	require.NoError(t, err)
	added, err := st.AddSlots(ctx, user.ID, slots(30))
	require.NoError(t, err)
	require.Len(t, added, many)
	last := steps.queries[len(steps.queries)-1]
	require.Contains(t, last.SQL, "-- name: AddSlots\n")
	_, err = db.Pool.Exec(ctx, "DELETE FROM availabilityslot WHERE id >= $1", added[0].ID)
	require.NoError(t, err)
	for mode, plan := range bothPlans(t, pool, last) {
		t.Logf("%s: %.0f rows", mode, plan.rowsSeen())
		require.Less(t, plan.rowsSeen(), 100.*many, mode)
	}
}

// bothPlans runs a statement planned for its values, and for any, and undoes what it did. It returns the plans by mode.
func bothPlans(t *testing.T, pool *pgxpool.Pool, q pgx.QueuedQuery) map[string]planNode {
	t.Helper()
	plans := map[string]planNode{}
	for _, mode := range planModes {
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // before the pool is closed, where a step fails
		_, err = tx.Exec(t.Context(), "SET LOCAL plan_cache_mode = "+mode)
		require.NoError(t, err)
		plans[mode] = explain(t, tx, q)
		require.NoError(t, tx.Rollback(t.Context()))
	}
	return plans
}

// planNode is a node of a plan that ran.
type planNode struct {
	Hit     int        `json:"Shared Hit Blocks"`
	Read    int        `json:"Shared Read Blocks"`
	Loops   float64    `json:"Actual Loops"`
	Rows    float64    `json:"Actual Rows"` // in a loop
	Removed float64    `json:"Rows Removed by Filter"`
	Apart   float64    `json:"Rows Removed by Join Filter"`
	Plans   []planNode `json:"Plans"`
}

// rowsSeen is how many rows all nodes returned or dropped.
func (n planNode) rowsSeen() float64 {
	rows := n.Loops * (n.Rows + n.Removed + n.Apart)
	for _, below := range n.Plans {
		rows += below.rowsSeen()
	}
	return rows
}

// explain runs a statement, and returns its plan.
func explain(t *testing.T, tx pgx.Tx, q pgx.QueuedQuery) planNode {
	t.Helper()
	const statement = "explained"
	_, err := tx.Exec(t.Context(), "PREPARE "+statement+" AS "+q.SQL, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err, q.SQL)
	execute := "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE " + statement
	if n := len(q.Arguments); n > 0 {
		places := make([]string, n)
		for k := range places {
			places[k] = fmt.Sprintf("$%d", k+1)
		}
		execute += "(" + strings.Join(places, ", ") + ")"
	}
	var text string
	err = tx.QueryRow(t.Context(), execute, append([]any{pgx.QueryExecModeSimpleProtocol}, q.Arguments...)...).Scan(&text)
	require.NoError(t, err, q.SQL)
	_, err = tx.Exec(t.Context(), "DEALLOCATE "+statement, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	var plan []struct{ Plan planNode }
	require.NoError(t, json.Unmarshal([]byte(text), &plan))
	return plan[0].Plan
}

// peopleWithEverything makes people who have everything, of whom me and other have as much whatever their number: slots ahead, matches
// in every status, meetups, and secrets.
func peopleWithEverything(t *testing.T, db *soultribetest.DB, people int) (me, other soultribe.UserID) {
	t.Helper()
	_, err := db.Pool.Exec(t.Context(), `
		INSERT INTO "user" (email, password_hash, email_verified_at, created_at)
			SELECT 'person' || n || '@example.org', 'x', now(), now() FROM generate_series(1, `+fmt.Sprint(people)+`) n;
		INSERT INTO profile (user_id, full_name, display_name, created_at, updated_at)
			SELECT id, 'Full ' || id, 'person' || id, now(), now() FROM "user";
		INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
			SELECT id, s, s + interval '2 hours', s, s + interval '2 hours', 'UTC', s, s FROM "user", generate_series(-3, 3) AS day,
				LATERAL (SELECT timestamp '2026-03-04 00:00' + day * interval '1 day' + (id * 7919 + day * 104729) % 88 * interval '15 minutes') AS t (s);
		INSERT INTO emailverificationtoken (user_id, token, expires_at, created_at)
			SELECT id, 'sha256:' || md5(id::text || n), timestamp '2026-03-01' + n * interval '1 hour', timestamp '2026-02-28' FROM "user", generate_series(1, 3) n;
		INSERT INTO passwordresettoken (user_id, token, expires_at, created_at)
			SELECT id, 'sha256:' || md5(id::text || n), timestamp '2026-03-01' + n * interval '1 hour', timestamp '2026-02-28' FROM "user", generate_series(1, 3) n;
		INSERT INTO match (user1_id, user2_id, status, created_at, updated_at)
			SELECT u.id, o.id, (ARRAY['pending', 'accepted', 'accepted', 'rejected', 'cancelled'])[1 + (u.id + o.id) % 5], timestamp '2026-02-01' + u.id * interval '1 second', timestamp '2026-02-01'
			FROM "user" u JOIN "user" o ON o.id BETWEEN u.id + 2 AND u.id + 9;
		INSERT INTO meetup (match_id, scheduled_time, duration_seconds, proposer_id, status, created_at, updated_at)
			SELECT m.id, timestamp '2026-02-10' + m.id * interval '1 hour', 3600, m.user1_id, 'completed', timestamp '2026-02-01', timestamp '2026-02-01' FROM match m WHERE status = 'accepted';
		INSERT INTO meetup (match_id, scheduled_time, duration_seconds, proposer_id, status, created_at, updated_at)
			SELECT m.id, timestamp '2026-04-10' + m.id * interval '1 hour', 3600, m.user1_id, 'proposed', timestamp '2026-02-01', timestamp '2026-02-01' FROM match m WHERE status = 'accepted'`)
	require.NoError(t, err)
	// Where everyStep makes slots, everybody else has some, too.
	_, err = db.Pool.Exec(t.Context(), `
		INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
			SELECT id, s, s + interval '30 minutes', s, s + interval '30 minutes', 'UTC', s, s
			FROM "user", generate_series($1::timestamp, $1::timestamp + interval '9 hours', interval '3 hours') AS s WHERE id NOT IN (20, 21)`,
		theDay(db.Clock.Now()).UTC())
	require.NoError(t, err)
	// What is over and gone leaves indexes that are larger than what is in them, and so dearer to the planner.
	_, err = db.Pool.Exec(t.Context(), `
		INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
			SELECT id, s, s + interval '1 hour', s, s + interval '1 hour', 'UTC', s, s FROM "user", generate_series(timestamp '2025-03-04', '2025-03-05', '2 hours') s;
		DELETE FROM availabilityslot WHERE start_dt_utc < timestamp '2026-01-01'`)
	require.NoError(t, err)
	_, err = db.Pool.Exec(t.Context(), "VACUUM ANALYZE")
	require.NoError(t, err)
	return 20, 21 // of whom no two neighbours have a match
}

// theDay is the one on which everyStep makes slots and meetups.
func theDay(now time.Time) time.Time { return now.AddDate(0, 0, 20) }

// everyStep does what a person can do, each once.
func everyStep(t *testing.T, st soultribe.Store, now time.Time, me, other soultribe.UserID) {
	t.Helper()
	ctx := t.Context()
	email := func(id soultribe.UserID) string { return fmt.Sprintf("person%d@example.org", id) }
	must := func(_ any, err error) {
		t.Helper()
		require.NoError(t, err)
	}
	hash, err := st.HashPassword(ctx, "a password of the test")
	require.NoError(t, err)
	day := theDay(now)
	at := func(hours int) soultribe.NewSlot {
		start := day.Add(time.Duration(hours) * time.Hour)
		return soultribe.NewSlot{Start: start, End: start.Add(time.Hour), Timezone: "UTC"}
	}
	times := func(hours int) soultribe.Times { return soultribe.Times{Start: at(hours).Start, Duration: time.Hour} }

	u, err := st.CreateUser(ctx, soultribe.NewUser{Email: "new@example.org", Hash: hash, Profile: &soultribe.NewProfile{DisplayName: "New"}})
	must(u, err)
	must(st.User(ctx, me))
	must(st.UserByEmail(ctx, email(me)))
	must(st.Account(ctx, me))
	must(st.AccountByEmail(ctx, email(me)))
	must(st.Export(ctx, me))
	must(st.Accounts(ctx, []soultribe.UserID{me, other}))
	must(st.Users(ctx, soultribe.UserQuery{EmailPrefix: "person20@", Limit: 10}))
	must(st.Users(ctx, soultribe.UserQuery{Limit: 10}))
	must(st.SetProfile(ctx, me, soultribe.NewProfile{DisplayName: "Me"}))
	must(st.UpdateProfile(ctx, me, soultribe.ProfileUpdate{Bio: new(string)}))
	must(st.Profile(ctx, me))
	must(st.PublicProfiles(ctx, []soultribe.UserID{me, other}))

	verification, err := st.IssueEmailVerification(ctx, u.ID)
	must(verification, err)
	must(nil, st.CheckEmailVerification(ctx, verification.Secret()))
	must(st.VerifyEmail(ctx, verification.Secret()))
	reset, _, err := st.IssuePasswordReset(ctx, email(me))
	must(reset, err)
	must(st.ResetPassword(ctx, reset.Secret(), "a password of the test"))

	slot, err := st.AddSlot(ctx, me, at(0))
	must(slot, err)
	must(st.AddSlots(ctx, me, []soultribe.NewSlot{at(2), at(4)}))
	must(st.UpdateSlot(ctx, me, slot.ID, at(6)))
	must(st.Slot(ctx, me, slot.ID))
	must(st.Slots(ctx, me, soultribe.SlotQuery{Limit: 5}))
	must(st.Slots(ctx, me, soultribe.SlotQuery{From: now, To: now.AddDate(0, 0, 2), Limit: 5}))
	must(st.MutualAvailability(ctx, me, other, soultribe.MutualQuery{}))
	must(st.Candidates(ctx, me, soultribe.CandidateQuery{Limit: 5, MaxWindows: 1}))
	must(nil, st.DeleteSlot(ctx, me, slot.ID))
	must(st.ReplaceSlots(ctx, me, soultribe.Window{Start: day, End: day.AddDate(0, 0, 1)}, []soultribe.NewSlot{at(8)}))

	m, err := st.RequestMatch(ctx, me, other)
	must(m, err)
	must(st.AcceptMatch(ctx, other, m.ID))
	must(st.Match(ctx, me, m.ID))
	must(st.MatchBetween(ctx, me, other))
	for role := soultribe.EitherSide; role <= soultribe.Answers; role++ {
		must(st.Matches(ctx, me, soultribe.MatchQuery{Role: role, Limit: 5}))
	}
	page, err := st.Matches(ctx, me, soultribe.MatchQuery{Status: []soultribe.MatchStatus{soultribe.MatchAccepted}, Limit: 2})
	must(page, err)
	must(st.Matches(ctx, me, soultribe.MatchQuery{Status: []soultribe.MatchStatus{soultribe.MatchAccepted}, Limit: 2, After: page.Next}))
	must(st.PendingMatches(ctx, soultribe.PageQuery{Limit: 5}))
	must(st.ScanMatches(ctx, soultribe.MatchQuery{Limit: 5}))

	meetup, err := st.ProposeMeetup(ctx, me, soultribe.NewMeetup{MatchID: m.ID, Times: times(1)})
	must(meetup, err)
	must(st.RescheduleMeetup(ctx, me, meetup.ID, soultribe.Reschedule{Seen: times(1), To: times(3)}))
	must(st.ConfirmMeetup(ctx, other, meetup.ID, times(3)))
	must(st.Meetup(ctx, me, meetup.ID))
	for _, q := range []soultribe.MeetupQuery{{}, {Latest: true}, {From: now}, {From: now, To: day}, {MatchID: m.ID}, {Status: []soultribe.MeetupStatus{soultribe.MeetupProposed}}} {
		q.Limit = 5
		must(st.Meetups(ctx, me, q))
		must(st.ScanMeetups(ctx, q))
	}
	must(st.Meetups(ctx, me, soultribe.MeetupQuery{Status: []soultribe.MeetupStatus{soultribe.MeetupConfirmed}, Limit: 5}))
	must(st.CancelMeetup(ctx, me, meetup.ID))
	must(st.CancelMatch(ctx, me, m.ID))
	must(st.Settle(ctx, soultribe.SettlePolicy{Limit: 5}))
	must(st.Purge(ctx, soultribe.PurgePolicy{Tokens: time.Minute, Slots: time.Hour, Meetups: 24 * time.Hour, Unverified: time.Hour, Limit: 5}))
	must(nil, st.MarkVerified(ctx, me))
	must(nil, st.SetPassword(ctx, me, "a password of the test"))
	must(nil, st.Ready(ctx))
	must(st.DeleteUser(ctx, me))
}
