package soultribe_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// TestAllocations holds calls to what they allocate, pgx's share included, with a little room for a pool that makes
// something anew.
//
//nolint:paralleltest // it counts what the whole process allocates
func TestAllocations(t *testing.T) {
	ctx := t.Context()
	db := soultribetest.New(t)
	st := db.Store
	me, other := db.User(t), db.User(t)
	hash, err := st.HashPassword(ctx, "a password of the test")
	require.NoError(t, err)
	profile := soultribe.NewProfile{FullName: "Ann Example", DisplayName: "Ann", Bio: "Here", Timezone: "Europe/Vienna"}
	slots := func(from, count int) []soultribe.NewSlot {
		list := make([]soultribe.NewSlot, count)
		for i := range list {
			start := db.Clock.Now().Add(time.Duration(from+i+1) * time.Hour)
			list[i] = soultribe.NewSlot{Start: start, End: start.Add(time.Hour), Timezone: "Europe/Vienna"}
		}
		return list
	}
	_, err = st.AddSlots(ctx, me.ID, slots(0, 60))
	require.NoError(t, err)
	for range 60 {
		_, err := st.RequestMatch(ctx, db.User(t).ID, me.ID)
		require.NoError(t, err)
	}
	emails := make([]string, 40)
	for i := range emails {
		emails[i] = fmt.Sprintf("new%d@example.org", i)
	}
	n := 0
	tests := []struct {
		name string
		most int
		call func() error
	}{
		{"AccountByEmail", 16, func() error { _, err := st.AccountByEmail(ctx, me.Email); return err }},
		{"CreateUser", 20, func() error {
			n++
			_, err := st.CreateUser(ctx, soultribe.NewUser{Email: emails[n], Hash: hash, Profile: &profile})
			return err
		}},
		// One for each zone, and for the addresses one each.
		{"Slots, 50", 76, func() error { _, err := st.Slots(ctx, me.ID, soultribe.SlotQuery{}); return err }},
		{"PendingMatches, 50", 174, func() error { _, err := st.PendingMatches(ctx, soultribe.PageQuery{}); return err }},
		{"AddSlot", 18, func() error { n++; _, err := st.AddSlot(ctx, other.ID, slots(n, 1)[0]); return err }},
		{"AddSlots, 100", 700, func() error { n += 100; _, err := st.AddSlots(ctx, other.ID, slots(n, 100)); return err }},
	}
	for _, test := range tests {
		allocations := testing.AllocsPerRun(20, func() { require.NoError(t, test.call()) })
		t.Logf("%-20s %.0f", test.name, allocations)
		require.LessOrEqual(t, int(allocations), test.most, test.name)
	}
}

// TestMemoryIsThatOfAPage sees that a call takes as much memory among many rows as among few, as it never holds more
// than a page of them.
//
//nolint:paralleltest // it counts what the whole process allocates
func TestMemoryIsThatOfAPage(t *testing.T) {
	ctx := t.Context()
	used := map[string][]uint64{}
	for _, people := range []int{100, 3000} {
		db := soultribetest.New(t)
		_, err := db.Pool.Exec(ctx, `
			INSERT INTO "user" (email, password_hash, email_verified_at, created_at)
				SELECT 'person' || n || '@example.org', 'x', now(), now() FROM generate_series(1, `+fmt.Sprint(people)+`) n;
			INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
				SELECT CASE WHEN id < 3 THEN id ELSE 3 END, s, s + interval '1 hour', s, s + interval '1 hour', 'UTC', s, s
				FROM "user", LATERAL (SELECT timestamp '2026-03-03' + id * interval '1 hour' AS s) t;
			INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
				SELECT id, s, s + interval '6 hours', s, s + interval '6 hours', 'UTC', s, s FROM "user", LATERAL (SELECT timestamp '2026-03-03 12:00' AS s) t WHERE id <> 3;
			INSERT INTO match (user1_id, user2_id, status, created_at, updated_at)
				SELECT 3, id, 'pending', now(), now() FROM "user" WHERE id > 3`)
		require.NoError(t, err)
		const page = 20
		calls := map[string]func() error{
			"Users":   func() error { _, err := db.Store.Users(ctx, soultribe.UserQuery{Limit: page}); return err },
			"Slots":   func() error { _, err := db.Store.Slots(ctx, 3, soultribe.SlotQuery{Limit: page}); return err },
			"Matches": func() error { _, err := db.Store.Matches(ctx, 3, soultribe.MatchQuery{Limit: page}); return err },
			"PendingMatches": func() error {
				_, err := db.Store.PendingMatches(ctx, soultribe.PageQuery{Limit: page})
				return err
			},
			"Candidates, soonest first": func() error {
				_, err := db.Store.Candidates(ctx, 1, soultribe.CandidateQuery{Limit: page})
				return err
			},
			"Candidates, most time first": func() error {
				_, err := db.Store.Candidates(ctx, 1, soultribe.CandidateQuery{Limit: page, Order: soultribe.MostTimeFirst})
				return err
			},
		}
		for name, call := range calls {
			const runs = 10
			require.NoError(t, call()) // which prepares the statement
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range runs {
				require.NoError(t, call())
			}
			runtime.ReadMemStats(&after)
			used[name] = append(used[name], (after.TotalAlloc-before.TotalAlloc)/runs)
		}
	}
	for name, bytes := range used {
		t.Logf("%-28s %d bytes among few, %d among many", name, bytes[0], bytes[1])
		require.Less(t, bytes[1], bytes[0]+bytes[0]/2+4096, name)
	}
}
