package soultribe_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
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

// wideOpen is a pool of so many connections.
func wideOpen(t *testing.T, db *soultribetest.DB, connections int32) *soultribe.Postgres {
	t.Helper()
	return newStore(t, db, newPool(t, db.URL, func(c *pgxpool.Config) { c.MaxConns = connections }))
}

// race runs f so many times at once and waits for all of them.
func race(n int, f func(i int)) {
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			f(i)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
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
	st := wideOpen(t, db, clients)
	user := db.User(t).ID
	zones := []string{"Europe/Vienna", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"}
	from := spring.Add(-24 * time.Hour)
	var ids atomic.Int64 // the newest slot
	var verdict slotVerdict

	race(clients, func(i int) {
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
	st := wideOpen(t, db, clients)
	user := db.User(t).ID
	day := soultribe.Window{Start: spring, End: spring.Add(24 * time.Hour)}
	var long [clients]soultribe.Slot
	for i := range long {
		var err error
		long[i], err = st.AddSlot(ctx, user, spanFrom(spring, 96*(2+i), 96, "UTC"))
		require.NoError(t, err)
	}
	var verdict slotVerdict

	race(clients, func(i int) {
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

var _ = context.Background
var _ pgx.Tx
var _ = slices.Sort[[]int]
