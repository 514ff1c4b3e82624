package soultribe_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

const quarter = 15 * time.Minute

// spring is the midnight, in UTC, before clocks go forward in Europe.
var spring = time.Date(2026, 3, 29, 0, 0, 0, 0, time.UTC)

// spanFrom is a slot of so many quarter hours, so many of them after from.
func spanFrom(from time.Time, after, quarters int, zone string) soultribe.NewSlot {
	start := from.Add(time.Duration(after) * quarter)
	return soultribe.NewSlot{Start: start, End: start.Add(time.Duration(quarters) * quarter), Timezone: zone}
}

// slotTimes are the times of slots as text, in order.
func slotTimes(slots []soultribe.Slot) []string {
	var lines []string
	for _, s := range slots {
		lines = append(lines, fmt.Sprintf("%s–%s %s", s.Start.Format(time.DateTime), s.End.Format(time.DateTime), s.Timezone))
	}
	return lines
}

// requireSoundSlots is the verdict over the table: no two of a user's slots overlap, none is inverted, and
// each local time is its UTC time in its zone.
func requireSoundSlots(t *testing.T, db *soultribetest.DB) {
	t.Helper()
	require.Empty(t, db.Query(t, `SELECT a.id, b.id FROM availabilityslot a JOIN availabilityslot b ON b.user_id = a.user_id AND b.id > a.id
		AND b.start_dt_utc < a.end_dt_utc AND b.end_dt_utc > a.start_dt_utc`), "slots that overlap")
	require.Empty(t, db.Query(t, `SELECT id FROM availabilityslot WHERE end_dt_utc <= start_dt_utc OR end_dt_utc > start_dt_utc + interval '24 hours'`),
		"inverted, empty or endless slots")
	require.Empty(t, db.Query(t, `SELECT id FROM availabilityslot WHERE start_dt_local <> start_dt_utc AT TIME ZONE 'UTC' AT TIME ZONE timezone
		OR end_dt_local <> end_dt_utc AT TIME ZONE 'UTC' AT TIME ZONE timezone`), "local times of another zone")
}

// slotVerdict sorts the outcomes of an attack. Anything but success and the errors of the contract, and
// any error of the database beneath one, is a failure.
type slotVerdict struct {
	success, overlap, notFound atomic.Int64
}

func (v *slotVerdict) add(t *testing.T, op string, err error) {
	t.Helper()
	var pg *pgconn.PgError
	switch {
	case err == nil:
		v.success.Add(1)
	case errors.As(err, &pg):
		t.Errorf("%s: SQLSTATE %s: %v", op, pg.Code, err)
	case errors.Is(err, soultribe.ErrSlotOverlap):
		v.overlap.Add(1)
	case errors.Is(err, soultribe.ErrNotFound):
		v.notFound.Add(1)
	default:
		t.Errorf("%s: %v", op, err)
	}
}

// TestSlotsUnderAttack has 48 clients add, move, delete and replace the slots of one user.
func TestSlotsUnderAttack(t *testing.T) {
	t.Parallel()
	const clients, steps, quarters = 48, 60, 4 * 24 * 5
	ctx := t.Context()
	db := soultribetest.New(t)
	st := opened(t, db, clients)
	user := db.User(t).ID
	zones := []string{"Europe/Vienna", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"}
	from := spring.Add(-24 * time.Hour)
	var ids atomic.Int64 // the newest slot
	var verdict slotVerdict

	stampede(clients, func(i int) {
		r := rand.New(rand.NewPCG(uint64(i), 1))
		some := func() soultribe.NewSlot {
			length := 1 + r.IntN(16)
			if r.IntN(8) == 0 {
				length = 96
			}
			return spanFrom(from, r.IntN(quarters), length, zones[r.IntN(len(zones))])
		}
		// A slot of the last few, which others move and delete too.
		recent := func() soultribe.SlotID { return soultribe.SlotID(max(1, ids.Load()-r.Int64N(20))) }
		for range steps {
			switch n := r.IntN(100); {
			case n < 40:
				s, err := st.AddSlot(ctx, user, some())
				verdict.add(t, "AddSlot", err)
				if err == nil {
					ids.Store(int64(s.ID))
				}
			case n < 55:
				// Apart from each other, and unsorted.
				at := r.IntN(quarters)
				slots := []soultribe.NewSlot{spanFrom(from, at+8, 4, zones[0]), spanFrom(from, at, 2, zones[1]), spanFrom(from, at+4, 4, zones[2])}
				_, err := st.AddSlots(ctx, user, slots)
				verdict.add(t, "AddSlots", err)
			case n < 75:
				_, err := st.UpdateSlot(ctx, user, recent(), some())
				verdict.add(t, "UpdateSlot", err)
			case n < 90:
				verdict.add(t, "DeleteSlot", st.DeleteSlot(ctx, user, recent()))
			default:
				at := r.IntN(quarters)
				window := spanFrom(from, at, 48, "")
				_, err := st.ReplaceSlots(ctx, user, soultribe.Window{Start: window.Start, End: window.End},
					[]soultribe.NewSlot{spanFrom(from, at+40, 4, zones[3]), spanFrom(from, at, 8, zones[0])})
				verdict.add(t, "ReplaceSlots", err)
			}
		}
	})

	requireSoundSlots(t, db)
	require.NotEmpty(t, db.Query(t, "SELECT id FROM availabilityslot"))
	t.Logf("%d attempts: %d succeeded, %d overlapped, %d found nothing", clients*steps, verdict.success.Load(), verdict.overlap.Load(), verdict.notFound.Load())
	require.EqualValues(t, clients*steps, verdict.success.Load()+verdict.overlap.Load()+verdict.notFound.Load())
	require.Positive(t, verdict.success.Load())
	require.Positive(t, verdict.overlap.Load())
}

// TestBulkSlotsDoNotDeadlock sets those methods upon each other that store several rows in one
// transaction, or wait for a row while they hold another: long slots that move over many short ones.
func TestBulkSlotsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	const clients, rounds = 16, 40
	ctx := t.Context()
	db := soultribetest.New(t)
	st := opened(t, db, clients)
	user := db.User(t).ID
	day := soultribe.Window{Start: spring, End: spring.Add(24 * time.Hour)}
	var long [clients]soultribe.Slot
	for i := range long {
		var err error
		long[i], err = st.AddSlot(ctx, user, spanFrom(spring, 96*(2+i), 96, "UTC"))
		require.NoError(t, err)
	}
	var verdict slotVerdict

	stampede(clients, func(i int) {
		r := rand.New(rand.NewPCG(uint64(i), 2))
		for range rounds {
			var short []soultribe.NewSlot
			for at := r.IntN(4); at < 96; at += 4 {
				short = append(short, spanFrom(spring, at, 1+r.IntN(3), "UTC"))
			}
			r.Shuffle(len(short), func(a, b int) { short[a], short[b] = short[b], short[a] })
			switch i % 4 {
			case 0, 1:
				_, err := st.AddSlots(ctx, user, short)
				verdict.add(t, "AddSlots", err)
			case 2:
				_, err := st.UpdateSlot(ctx, user, long[i].ID, spanFrom(spring, r.IntN(48), 96, "UTC"))
				verdict.add(t, "UpdateSlot", err)
				_, err = st.UpdateSlot(ctx, user, long[i].ID, spanFrom(spring, 96*(2+i), 96, "UTC"))
				verdict.add(t, "UpdateSlot", err)
			default:
				_, err := st.ReplaceSlots(ctx, user, day, short[:len(short)/2])
				verdict.add(t, "ReplaceSlots", err)
				_, err = st.ReplaceSlots(ctx, user, day, nil)
				verdict.add(t, "ReplaceSlots", err)
			}
		}
	})

	requireSoundSlots(t, db)
	require.Positive(t, verdict.success.Load())
	require.Positive(t, verdict.overlap.Load())
}

// TestPlainSQLCannotOverlap has another client try what the library refuses.
func TestPlainSQLCannotOverlap(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	user := db.User(t).ID
	_, err := db.Store.AddSlots(ctx, user, []soultribe.NewSlot{spanFrom(spring, 0, 8, "UTC"), spanFrom(spring, 20, 8, "UTC")})
	require.NoError(t, err)
	insert := func(start, end string) string {
		return fmt.Sprintf(`INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
			SELECT u.id, t.s, t.e, t.s, t.e, 'UTC', t.s, t.s FROM "user" u, (VALUES (timestamp '2026-03-29 %s', timestamp '2026-03-%s')) AS t (s, e)`, start, end)
	}
	tests := []struct{ name, sql, code, constraint string }{
		{"overlap", insert("01:59:59.999999", "29 03:00"), "23P01", "availabilityslot_no_overlap"},
		{"the same again", insert("00:00", "29 02:00"), "23P01", "availabilityslot_no_overlap"},
		{"moved", `UPDATE availabilityslot SET start_dt_utc = '2026-03-29 01:00' WHERE start_dt_utc = '2026-03-29 05:00'`, "23P01", "availabilityslot_no_overlap"},
		{"empty", insert("12:00", "29 12:00"), "23514", "availabilityslot_period_check"},
		{"inverted", insert("12:00", "29 11:00"), "23514", "availabilityslot_period_check"},
		{"more than a day", insert("12:00", "30 12:00:00.000001"), "23514", "availabilityslot_period_check"},
	}
	for _, tt := range tests {
		_, err := db.Pool.Exec(ctx, tt.sql)
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg, tt.name)
		require.Equal(t, tt.code, pg.Code, tt.name)
		require.Equal(t, tt.constraint, pg.ConstraintName, tt.name)
	}
	require.Len(t, db.Query(t, "SELECT id FROM availabilityslot"), 2)
}

// TestSlotsInCallersTransaction has slots conflict in a transaction that goes on: what it did before is
// kept, what conflicts leaves nothing.
func TestSlotsInCallersTransaction(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	user := db.User(t).ID
	_, err := db.Store.AddSlot(ctx, user, spanFrom(spring, 40, 4, "UTC"))
	require.NoError(t, err)
	tx, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	st := db.Store.WithTx(tx)
	_, err = tx.Exec(ctx, `UPDATE "user" SET email = 'earlier@example.org' WHERE id = $1`, int64(user))
	require.NoError(t, err)
	first, err := st.AddSlot(ctx, user, spanFrom(spring, 0, 4, "UTC"))
	require.NoError(t, err)
	_, err = tx.Exec(ctx, "SAVEPOINT soultribe") // a name that the caller may use too
	require.NoError(t, err)
	_, err = st.AddSlot(ctx, user, spanFrom(spring, 4, 4, "UTC"))
	require.NoError(t, err)

	overlaps := func(err error, index int) {
		t.Helper()
		var overlap *soultribe.OverlapError
		require.ErrorAs(t, err, &overlap)
		require.Equal(t, index, overlap.Index)
		require.Equal(t, byte('T'), tx.Conn().PgConn().TxStatus())
	}
	_, err = st.AddSlots(ctx, user, []soultribe.NewSlot{spanFrom(spring, 60, 4, "UTC"), spanFrom(spring, 41, 1, "UTC"), spanFrom(spring, 20, 4, "UTC")})
	overlaps(err, 1)
	_, err = st.ReplaceSlots(ctx, user, soultribe.Window{Start: spring, End: spring.Add(2 * time.Hour)},
		[]soultribe.NewSlot{spanFrom(spring, 0, 2, "UTC"), spanFrom(spring, 7, 40, "UTC")})
	overlaps(err, 1)
	_, err = st.UpdateSlot(ctx, user, first.ID, spanFrom(spring, 30, 40, "UTC"))
	overlaps(err, 0)
	_, err = st.AddSlot(ctx, user, spanFrom(spring, 43, 4, "UTC"))
	overlaps(err, 0)
	_, err = st.AddSlots(ctx, user+1, []soultribe.NewSlot{spanFrom(spring, 60, 4, "UTC")})
	require.ErrorIs(t, err, soultribe.ErrNotFound)
	_, err = st.AddSlots(ctx, user, []soultribe.NewSlot{spanFrom(spring, 64, 4, "UTC"), spanFrom(spring, 60, 4, "UTC")})
	require.NoError(t, err)
	require.NoError(t, tx.Commit(ctx))

	page, err := db.Store.Slots(ctx, user, soultribe.SlotQuery{})
	require.NoError(t, err)
	require.Equal(t, []string{
		"2026-03-29 00:00:00–2026-03-29 01:00:00 UTC", "2026-03-29 01:00:00–2026-03-29 02:00:00 UTC",
		"2026-03-29 10:00:00–2026-03-29 11:00:00 UTC",
		"2026-03-29 15:00:00–2026-03-29 16:00:00 UTC", "2026-03-29 16:00:00–2026-03-29 17:00:00 UTC",
	}, slotTimes(page.Items))
	require.Equal(t, []string{"earlier@example.org"}, db.Query(t, `SELECT email FROM "user"`))
	requireSoundSlots(t, db)
}

// slotStep is what one of two people at one account does. The user has the slot id, far from everything.
type slotStep func(ctx context.Context, st soultribe.Store, user soultribe.UserID, id soultribe.SlotID) error

func addOne(ctx context.Context, st soultribe.Store, user soultribe.UserID, _ soultribe.SlotID) error {
	_, err := st.AddSlot(ctx, user, spanFrom(spring, 0, 4, "UTC"))
	return err
}

func addSeveral(ctx context.Context, st soultribe.Store, user soultribe.UserID, _ soultribe.SlotID) error {
	_, err := st.AddSlots(ctx, user, []soultribe.NewSlot{spanFrom(spring, 8, 4, "UTC"), spanFrom(spring, 2, 4, "UTC")})
	return err
}

func moveOne(ctx context.Context, st soultribe.Store, user soultribe.UserID, id soultribe.SlotID) error {
	_, err := st.UpdateSlot(ctx, user, id, spanFrom(spring, 3, 8, "UTC"))
	return err
}

func deleteOne(ctx context.Context, st soultribe.Store, user soultribe.UserID, id soultribe.SlotID) error {
	return st.DeleteSlot(ctx, user, id)
}

func clearAll(ctx context.Context, st soultribe.Store, user soultribe.UserID, _ soultribe.SlotID) error {
	_, err := st.ReplaceSlots(ctx, user, soultribe.Window{Start: spring, End: spring.Add(24 * time.Hour)}, nil)
	return err
}

func deleteOwner(ctx context.Context, st soultribe.Store, user soultribe.UserID, _ soultribe.SlotID) error {
	_, err := st.DeleteUser(ctx, user)
	return err
}

// TestSlotsMeetUncommittedOnes has each method wait for what another transaction has done and not yet
// committed, and then judge by what became of it.
func TestSlotsMeetUncommittedOnes(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	tests := []struct {
		name          string
		first, second slotStep
		want          error // of the second, where the first is committed
	}{
		{"add after add", addOne, addOne, soultribe.ErrSlotOverlap},
		{"add several after add", addOne, addSeveral, soultribe.ErrSlotOverlap},
		{"add after add several", addSeveral, addOne, soultribe.ErrSlotOverlap},
		{"add several after add several", addSeveral, addSeveral, soultribe.ErrSlotOverlap},
		{"move after add", addOne, moveOne, soultribe.ErrSlotOverlap},
		{"move after add several", addSeveral, moveOne, soultribe.ErrSlotOverlap},
		{"add after move", moveOne, addOne, soultribe.ErrSlotOverlap},
		{"add several after move", moveOne, addSeveral, soultribe.ErrSlotOverlap},
		{"move after move", moveOne, moveOne, nil},
		{"move after delete", deleteOne, moveOne, soultribe.ErrNotFound},
		{"move after replace", clearAll, moveOne, soultribe.ErrNotFound},
		{"replace after move", moveOne, clearAll, nil},
		{"delete after delete", deleteOne, deleteOne, soultribe.ErrNotFound},
		{"delete after move", moveOne, deleteOne, nil},
		{"delete after replace", clearAll, deleteOne, soultribe.ErrNotFound},
		{"add after the owner's deletion", deleteOwner, addOne, soultribe.ErrNotFound},
		{"add several after the owner's deletion", deleteOwner, addSeveral, soultribe.ErrNotFound},
		{"move after the owner's deletion", deleteOwner, moveOne, soultribe.ErrNotFound},
		{"replace after the owner's deletion", deleteOwner, clearAll, soultribe.ErrNotFound},
	}
	for _, tt := range tests {
		for _, commit := range []bool{true, false} {
			for _, inTx := range []bool{true, false} {
				name := fmt.Sprintf("%s, committed %t, in a transaction %t", tt.name, commit, inTx)
				err := stepAfterUncommitted(t, db, tt.first, tt.second, commit, inTx)
				if commit {
					require.ErrorIs(t, err, tt.want, name)
				} else {
					require.NoError(t, err, name)
				}
				require.NotErrorAs(t, err, new(*pgconn.PgError), name)
			}
		}
	}
	requireSoundSlots(t, db)
}

// stepAfterUncommitted returns the error of the second step of a new user, which waits for the first one's
// transaction to end. In a transaction, it goes on in it.
func stepAfterUncommitted(t *testing.T, db *soultribetest.DB, first, second slotStep, commit, inTx bool) error {
	t.Helper()
	ctx := t.Context()
	user := db.User(t).ID
	slot, err := db.Store.AddSlot(ctx, user, spanFrom(spring, 40, 4, "UTC"))
	require.NoError(t, err)
	tx, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	require.NoError(t, first(ctx, db.Store.WithTx(tx), user, slot.ID))

	result := make(chan error, 1)
	go func() {
		if !inTx {
			result <- second(ctx, db.Store, user, slot.ID)
			return
		}
		result <- db.Store.InTx(ctx, func(ctx context.Context, tx pgx.Tx, st soultribe.Store) error {
			step := second(ctx, st, user, slot.ID)
			_, err := tx.Exec(ctx, "SELECT 1") // which fails in a transaction that was aborted
			return errors.Join(err, step)
		})
	}()
	waitForBlocked(t, db)
	if commit {
		require.NoError(t, tx.Commit(ctx))
	} else {
		require.NoError(t, tx.Rollback(ctx))
	}
	return <-result
}

// TestAddSlotsWaitsBeforeItInserts would deadlock if AddSlots had stored its first slot before it waits
// for the second.
func TestAddSlotsWaitsBeforeItInserts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	user := db.User(t).ID
	_, err := db.Store.AddSlot(ctx, user, spanFrom(spring, 40, 4, "UTC"))
	require.NoError(t, err)
	tx, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	require.NoError(t, clearAll(ctx, db.Store.WithTx(tx), user, 0))
	result := make(chan error, 1)
	go func() {
		_, err := db.Store.AddSlots(ctx, user, []soultribe.NewSlot{spanFrom(spring, 0, 4, "UTC"), spanFrom(spring, 41, 4, "UTC")})
		result <- err
	}()
	waitForBlocked(t, db)
	_, err = db.Store.WithTx(tx).AddSlot(ctx, user, spanFrom(spring, 2, 4, "UTC"))
	require.NoError(t, err)
	require.NoError(t, tx.Commit(ctx))
	require.ErrorIs(t, <-result, soultribe.ErrSlotOverlap)
	require.Equal(t, []string{"2026-03-29 00:30:00"}, db.Query(t, "SELECT start_dt_utc::text FROM availabilityslot"))
}

// TestOnePlanFromManySides has one plan stored by many at once.
func TestOnePlanFromManySides(t *testing.T) {
	t.Parallel()
	const clients, rounds = 16, 20
	ctx := t.Context()
	db := soultribetest.New(t)
	st := opened(t, db, clients)
	var plan []soultribe.NewSlot
	var want []string
	for i := range 10 {
		plan = append(plan, spanFrom(spring, 8*i, 4+i%4, "Europe/Vienna"))
		want = append(want, fmt.Sprintf("%s–%s Europe/Vienna", plan[i].Start.Format(time.DateTime), plan[i].End.Format(time.DateTime)))
	}
	day := soultribe.Window{Start: spring, End: spring.Add(24 * time.Hour)}
	shuffled := func(seed int) []soultribe.NewSlot {
		r := rand.New(rand.NewPCG(uint64(seed), 3))
		slots := make([]soultribe.NewSlot, len(plan))
		for i, j := range r.Perm(len(plan)) {
			slots[i] = plan[j]
		}
		return slots
	}

	// Everyone replaces, and the plan is there once.
	replaced := db.User(t).ID
	stampede(clients, func(i int) {
		for range rounds {
			slots := shuffled(i)
			stored, err := st.ReplaceSlots(ctx, replaced, day, slots)
			if err != nil || len(stored) != len(slots) {
				t.Errorf("ReplaceSlots: %d slots, %v", len(stored), err)
				return
			}
			for j, s := range stored {
				if !s.Start.Equal(slots[j].Start) || !s.End.Equal(slots[j].End) {
					t.Errorf("slot %d is %v, not %v", j, s, slots[j])
				}
			}
		}
	})
	page, err := st.Slots(ctx, replaced, soultribe.SlotQuery{})
	require.NoError(t, err)
	require.Equal(t, want, slotTimes(page.Items))

	// Everyone adds, each in an order of their own: one wins, whole.
	for round := range rounds {
		user := db.User(t).ID
		var verdict slotVerdict
		stampede(clients, func(i int) {
			_, err := st.AddSlots(ctx, user, shuffled(round*clients+i))
			verdict.add(t, "AddSlots", err)
		})
		require.EqualValues(t, 1, verdict.success.Load())
		require.EqualValues(t, clients-1, verdict.overlap.Load())
		page, err := st.Slots(ctx, user, soultribe.SlotQuery{})
		require.NoError(t, err)
		require.Equal(t, want, slotTimes(page.Items))
	}
	requireSoundSlots(t, db)
}

// TestSlotTimesOnHostileClients stores and reads a time that does not exist on the clocks of the process or
// the session, in every mode in which pgx sends statements.
func TestSlotTimesOnHostileClients(t *testing.T) {
	t.Parallel()
	modes := []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	}
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			db := soultribetest.New(t)
			st := newStore(t, db, newPool(t, db.URL, hostileSession, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode }))
			me, other := db.User(t).ID, db.User(t).ID
			start := spring.Add(2*time.Hour + 30*time.Minute + 123456*time.Microsecond) // 02:30 in UTC
			end := start.Add(time.Hour)
			here, err := time.LoadLocation("America/New_York")
			require.NoError(t, err)
			given := soultribe.NewSlot{Start: start.In(here), End: end.In(here), Timezone: "Europe/Vienna"}
			is := func(s soultribe.Slot, err error) {
				t.Helper()
				require.NoError(t, err)
				require.Equal(t, []time.Time{start, end, db.Clock.Now(), db.Clock.Now()}, []time.Time{s.Start, s.End, s.CreatedAt, s.UpdatedAt})
				require.Equal(t, "2026-03-29T04:30:00.123456+02:00", s.LocalStart().Format(time.RFC3339Nano))
				require.Equal(t, []string{"2026-03-29 02:30:00.123456|2026-03-29 03:30:00.123456|2026-03-29 04:30:00.123456|2026-03-29 05:30:00.123456|2026-03-02 09:00:00"},
					db.Query(t, `SELECT start_dt_utc::text, end_dt_utc::text, start_dt_local::text, end_dt_local::text, created_at::text
						FROM availabilityslot WHERE id = $1`, int64(s.ID)))
			}
			added, err := st.AddSlot(ctx, me, given)
			is(added, err)
			is(st.Slot(ctx, me, added.ID))
			is(st.UpdateSlot(ctx, me, added.ID, given))
			page, err := st.Slots(ctx, me, soultribe.SlotQuery{From: start, To: end})
			require.NoError(t, err)
			require.Len(t, page.Items, 1)
			is(page.Items[0], nil)
			several, err := st.AddSlots(ctx, other, []soultribe.NewSlot{given})
			is(several[0], err)
			_, err = st.AddSlots(ctx, other, []soultribe.NewSlot{spanFrom(end, 0, 4, "UTC"), given})
			require.ErrorIs(t, err, soultribe.ErrSlotOverlap)
			several, err = st.ReplaceSlots(ctx, other, soultribe.Window{Start: start, End: end}, []soultribe.NewSlot{given})
			is(several[0], err)

			both := []soultribe.Window{{Start: start, End: end}}
			mutual, err := st.MutualAvailability(ctx, me, other, soultribe.MutualQuery{To: spring.AddDate(0, 1, 0)})
			require.NoError(t, err)
			require.Equal(t, both, mutual)
			for _, order := range []soultribe.CandidateOrder{soultribe.SoonestFirst, soultribe.MostTimeFirst} {
				candidates, err := st.Candidates(ctx, me, soultribe.CandidateQuery{Order: order, To: spring.AddDate(0, 1, 0)})
				require.NoError(t, err)
				require.Len(t, candidates.Items, 1)
				require.Equal(t, other, candidates.Items[0].UserID)
				require.Equal(t, both, candidates.Items[0].Windows)
				require.Equal(t, time.Hour, candidates.Items[0].Total)
			}
			require.NoError(t, st.DeleteSlot(ctx, me, added.ID))
		})
	}
}

// TestDirtySlots reads what other applications left before there were constraints.
func TestDirtySlots(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	me, other := db.User(t).ID, db.User(t).ID
	for _, constraint := range []string{"availabilityslot_no_overlap", "availabilityslot_period_check"} {
		_, err := db.Pool.Exec(ctx, "ALTER TABLE availabilityslot DROP CONSTRAINT "+constraint)
		require.NoError(t, err)
	}
	dirt := func(user soultribe.UserID, start, end, zone string) {
		t.Helper()
		_, err := db.Pool.Exec(ctx, `INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
			VALUES ($1, $2::text::timestamp, $3::text::timestamp, 'infinity', '-infinity', $4, 'infinity', '-infinity')`, int64(user), start, end, zone)
		require.NoError(t, err)
	}
	for _, user := range []soultribe.UserID{me, other} {
		dirt(user, "2026-03-03 08:00", "2026-03-03 18:00", "Europe/Vienna")
		dirt(user, "2026-03-03 09:00", "2026-03-03 10:00", "Mars/Olympus Mons")
		dirt(user, "2026-03-03 11:00", "2026-03-03 12:00", "")
		dirt(user, "2026-03-03 08:00", "2026-03-03 18:00", "../etc/passwd") // once more
		dirt(user, "2026-03-03 17:00", "2026-03-03 19:30", "UTC")           // over the end
		dirt(user, "2026-03-03 23:00", "2026-03-03 22:00", "UTC")           // inverted
		dirt(user, "2026-03-03 23:30", "2026-03-03 23:30", "UTC")           // empty
		dirt(user, "-infinity", "2026-03-03 01:00", "UTC")
		dirt(user, "infinity", "infinity", "UTC")
	}

	page, err := db.Store.Slots(ctx, me, soultribe.SlotQuery{From: time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)})
	require.NoError(t, err)
	require.Len(t, page.Items, 7) // those that begin at some time
	for _, s := range page.Items {
		one, err := db.Store.Slot(ctx, me, s.ID)
		require.NoError(t, err)
		require.Equal(t, s, one)
		require.True(t, s.LocalStart().Equal(s.Start))
		require.Equal(t, 9999, s.CreatedAt.Year())
		require.Equal(t, 1, s.UpdatedAt.Year())
	}
	require.Equal(t, "2026-03-03T09:00:00+01:00", page.Items[0].LocalStart().Format(time.RFC3339))
	unknown := page.Items[2]
	require.Equal(t, "Mars/Olympus Mons", unknown.Timezone)
	require.Equal(t, unknown.Start, unknown.LocalStart())

	want := []soultribe.Window{{Start: time.Date(2026, 3, 3, 8, 0, 0, 0, time.UTC), End: time.Date(2026, 3, 3, 19, 30, 0, 0, time.UTC)}}
	mutual, err := db.Store.MutualAvailability(ctx, me, other, soultribe.MutualQuery{})
	require.NoError(t, err)
	require.Equal(t, want, mutual)
	for _, order := range []soultribe.CandidateOrder{soultribe.SoonestFirst, soultribe.MostTimeFirst} {
		candidates, err := db.Store.Candidates(ctx, me, soultribe.CandidateQuery{Order: order})
		require.NoError(t, err)
		require.NotEmpty(t, candidates.Items)
		for _, c := range candidates.Items {
			require.Equal(t, other, c.UserID)
			require.Equal(t, want, c.Windows)
			require.Equal(t, 11*time.Hour+30*time.Minute, c.Total)
		}
	}
	require.NoError(t, db.Store.DeleteSlot(ctx, me, unknown.ID))
	_, err = db.Store.ReplaceSlots(ctx, me, soultribe.Window{Start: spring, End: spring.Add(time.Hour)}, nil)
	require.ErrorIs(t, err, soultribe.ErrSchema) // the constraint decides, and it is not there
	_, err = db.Store.AddSlot(ctx, me, spanFrom(spring, 0, 4, "UTC"))
	require.ErrorIs(t, err, soultribe.ErrSchema)
}

// TestRefusedSlotsUseNoIDs asks again and again for what cannot be: the sequence, which ends at two billion,
// stands still.
func TestRefusedSlotsUseNoIDs(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ann := db.User(t)
	taken := spanFrom(spring, 0, 4, "UTC")
	_, err := db.Store.AddSlot(t.Context(), ann.ID, taken)
	require.NoError(t, err)
	for range 10 {
		_, err := db.Store.AddSlot(t.Context(), ann.ID, taken)
		require.ErrorIs(t, err, soultribe.ErrSlotOverlap)
		_, err = db.Store.AddSlots(t.Context(), ann.ID, []soultribe.NewSlot{spanFrom(spring, 8, 4, "UTC"), taken, spanFrom(spring, 16, 4, "UTC")})
		require.ErrorIs(t, err, soultribe.ErrSlotOverlap)
	}
	require.Equal(t, []string{"1"}, db.Query(t, "SELECT last_value FROM availabilityslot_id_seq"))
}
