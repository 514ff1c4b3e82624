package soultribetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/soultribe-chat/soultribe"
)

var availabilityTests = []conformanceTest{
	{name: "add", run: (*conformance).slotAdd},
	{name: "limits", run: (*conformance).slotLimits},
	{name: "bad slots", run: (*conformance).slotInvalid},
	{name: "nights in which clocks change", run: (*conformance).slotNights},
	{name: "overlap", run: (*conformance).slotOverlap},
	{name: "several", run: (*conformance).slotsAdd},
	{name: "several or none", run: (*conformance).slotsAllOrNone},
	{name: "replace", run: (*conformance).slotsReplace},
	{name: "replace or nothing", run: (*conformance).slotsReplaceOrNothing},
	{name: "replace bad windows", run: (*conformance).slotsReplaceInvalid},
	{name: "update", run: (*conformance).slotUpdate},
	{name: "delete", run: (*conformance).slotDelete},
	{name: "outsiders", run: (*conformance).slotOutsiders},
	{name: "bad arguments", run: (*conformance).slotBadArguments},
	{name: "list", run: (*conformance).slotList},
	{name: "list while the clock moves", run: (*conformance).slotListMoves},
	{name: "list cursors are bound", run: (*conformance).slotCursors},
	{name: "JSON", run: (*conformance).availabilityJSON},
	{name: "mutual time", run: (*conformance).mutual},
	{name: "mutual time without meetups", run: (*conformance).mutualMeetups},
	{name: "candidates", run: (*conformance).candidates},
	{name: "candidates by windows", run: (*conformance).candidateWindows},
	{name: "candidates without matches", run: (*conformance).candidateMatches},
	{name: "candidates after a cool-down of 2 hours", run: (*conformance).candidateCooldown,
		options: []soultribe.Option{soultribe.WithCooldowns(soultribe.Cooldowns{Cancelled: 2 * time.Hour})}},
	{name: "candidates without a cool-down", run: (*conformance).candidateNoCooldown,
		options: []soultribe.Option{soultribe.WithCooldowns(soultribe.Cooldowns{Cancelled: -1})}},
	{name: "candidates without meetups", run: (*conformance).candidateMeetups},
	{name: "candidates in order", run: (*conformance).candidateOrder},
	{name: "candidates while the clock moves", run: (*conformance).candidateListMoves},
	{name: "candidates at most so many windows", run: (*conformance).candidateMaxWindows},
	{name: "candidates cursors are bound", run: (*conformance).candidateCursors},
	{name: "conflicts leave a transaction usable", run: (*conformance).slotConflictsInTx},
	{name: "cancelled context", run: (*conformance).slotCancelled},
}

// window is a window of so many hours from so many after [Epoch].
func window(after, hours float64) soultribe.Window {
	s := slot(after, hours)
	return soultribe.Window{Start: s.Start, End: s.End}
}

// free stores slots of a user.
func (c *conformance) free(user soultribe.UserID, slots ...soultribe.NewSlot) []soultribe.Slot {
	c.Helper()
	stored, err := c.st.AddSlots(c.Context(), user, slots)
	c.noError(err)
	equal(c, len(stored), len(slots))
	return stored
}

// wantSlots checks which slots a user has, in order of start.
func (c *conformance) wantSlots(user soultribe.UserID, want ...soultribe.Slot) {
	c.Helper()
	got := all(c, func(after soultribe.Cursor) (soultribe.Page[soultribe.Slot], error) {
		return c.st.Slots(c.Context(), user, soultribe.SlotQuery{From: at(-48 * time.Hour), After: after})
	})
	equal(c, got, append([]soultribe.Slot{}, want...))
}

// wantOverlap checks that err says which slot overlaps.
func (c *conformance) wantOverlap(err error, index int) {
	c.Helper()
	c.wantError(err, soultribe.ErrSlotOverlap, soultribe.ErrConflict)
	var overlap *soultribe.OverlapError
	if !errors.As(err, &overlap) {
		c.Fatalf("error is %v, not an OverlapError", err)
	}
	equal(c, overlap.Index, index)
	equal(c, soultribe.Code(err), "slot_overlap")
}

func (c *conformance) slotAdd() {
	ctx := c.Context()
	me := c.newUser("me").ID // who need not be verified
	tokyo := time.FixedZone("somewhere", 9*60*60)
	given := slot(4, 2)
	given.Start, given.End = given.Start.In(tokyo), given.End.In(tokyo)
	c.clock.Advance(time.Minute)
	s, err := c.st.AddSlot(ctx, me, given)
	c.noError(err)
	if s.ID <= 0 {
		c.Fatalf("the id is %d", s.ID)
	}
	equal(c, s, soultribe.Slot{
		ID: s.ID, UserID: me, Start: at(4 * time.Hour), End: at(6 * time.Hour), Timezone: "Europe/Vienna",
		CreatedAt: at(time.Minute), UpdatedAt: at(time.Minute),
	})
	equal(c, s.LocalStart().Format(time.RFC3339), "2026-03-02T14:00:00+01:00")
	equal(c, s.LocalEnd().Format(time.RFC3339), "2026-03-02T16:00:00+01:00")
	got, err := c.st.Slot(ctx, me, s.ID)
	c.noError(err)
	equal(c, got, s)

	// Each slot keeps the zone that its owner thinks of it in.
	for i, zone := range []string{"America/New_York", "Asia/Kathmandu", "UTC", "Etc/GMT+12", "Pacific/Kiritimati", "Australia/Lord_Howe"} {
		n := slot(float64(10+i), 1)
		n.Timezone = zone
		s, err := c.st.AddSlot(ctx, me, n)
		c.noError(err)
		equal(c, s.Timezone, zone)
		equal(c, s.LocalStart().Location().String(), zone)
		equal(c, s.LocalStart().Equal(n.Start), true)
	}

	// Time is kept to the microsecond, and what is left out makes no overlap.
	s, err = c.st.AddSlot(ctx, me, soultribe.NewSlot{Start: at(time.Hour + 1999), End: at(2*time.Hour + 2999), Timezone: "UTC"})
	c.noError(err)
	equal(c, []time.Time{s.Start, s.End}, []time.Time{at(time.Hour + 1000), at(2*time.Hour + 2000)})
	_, err = c.st.AddSlot(ctx, me, soultribe.NewSlot{Start: at(2*time.Hour + 2000), End: at(3 * time.Hour), Timezone: "UTC"})
	c.noError(err)
}

func (c *conformance) slotLimits() {
	ctx := c.Context()
	tests := []struct {
		name       string
		start, end time.Duration
		field      string // that is invalid
		past       bool
	}{
		{name: "15 minutes", start: time.Hour, end: 75 * time.Minute},
		{name: "15 minutes less a microsecond", start: time.Hour, end: 75*time.Minute - time.Microsecond, field: "end"},
		{name: "15 minutes less a nanosecond", start: time.Hour, end: 75*time.Minute - 1, field: "end"},
		{name: "24 hours", start: time.Hour, end: 25 * time.Hour},
		{name: "24 hours and a microsecond", start: time.Hour, end: 25*time.Hour + time.Microsecond, field: "end"},
		{name: "empty", start: time.Hour, end: time.Hour, field: "end"},
		{name: "inverted", start: 2 * time.Hour, end: time.Hour, field: "end"},
		{name: "endless", start: time.Hour, end: 100 * 365 * 24 * time.Hour, field: "end"},
		{name: "ends now", start: -time.Hour, end: 0, past: true},
		{name: "ended long ago", start: -25 * time.Hour, end: -24 * time.Hour, past: true},
		{name: "ends at once", start: -time.Hour, end: time.Microsecond},
		{name: "short and over", start: -time.Hour, end: -time.Hour + time.Minute, field: "end"},
		{name: "began almost 24 hours ago", start: -24*time.Hour + time.Microsecond, end: time.Microsecond},
	}
	for _, test := range tests {
		c.sub(test.name, func(c *conformance) {
			me := c.user("me").ID
			old := c.free(me, slot(100, 1))
			n := soultribe.NewSlot{Start: at(test.start), End: at(test.end), Timezone: "Europe/Vienna"}
			check := func(err error) {
				c.Helper()
				switch {
				case test.field != "":
					c.wantInvalid(err, test.field)
				case test.past:
					c.wantError(err, soultribe.ErrPast, soultribe.ErrConflict)
				default:
					c.noError(err)
				}
			}
			window := soultribe.Window{Start: at(-48 * time.Hour), End: at(48 * time.Hour)}
			_, err := c.st.AddSlot(ctx, me, n)
			check(err)
			_, err = c.st.ReplaceSlots(ctx, me, window, []soultribe.NewSlot{n})
			check(err)
			_, err = c.st.ReplaceSlots(ctx, me, window, nil)
			c.noError(err)
			_, err = c.st.AddSlots(ctx, me, []soultribe.NewSlot{n})
			check(err)
			_, err = c.st.ReplaceSlots(ctx, me, window, nil)
			c.noError(err)
			moved, err := c.st.UpdateSlot(ctx, me, old[0].ID, n)
			check(err)
			if err != nil {
				c.wantSlots(me, old...)
				return
			}
			equal(c, []time.Time{moved.Start, moved.End}, []time.Time{n.Start, n.End})
			c.wantSlots(me, moved)
		})
	}
}

func (c *conformance) slotInvalid() {
	ctx := c.Context()
	me := c.user("me").ID
	old := c.free(me, slot(1, 1))
	good := slot(4, 2)
	change := func(f func(n *soultribe.NewSlot)) soultribe.NewSlot {
		n := good
		f(&n)
		return n
	}
	zone := func(name string) soultribe.NewSlot {
		return change(func(n *soultribe.NewSlot) { n.Timezone = name })
	}
	year := func(y int) time.Time { return time.Date(y, 6, 1, 12, 0, 0, 0, time.UTC) }
	tests := []struct {
		name   string
		slot   soultribe.NewSlot
		fields []string
	}{
		{"no zone", zone(""), []string{"timezone"}},
		{"zone Local", zone("Local"), []string{"timezone"}},
		{"zone that is a path", zone("../etc/passwd"), []string{"timezone"}},
		{"zone that is an absolute path", zone("/etc/localtime"), []string{"timezone"}},
		{"zone in lower case", zone("europe/vienna"), []string{"timezone"}},
		{"zone that is none", zone("Europe/Atlantis"), []string{"timezone"}},
		{"zone with a space", zone(" Europe/Vienna"), []string{"timezone"}},
		{"zone that is an offset", zone("+02:00"), []string{"timezone"}},
		{"zone with a NUL byte", zone("Europe/Vienna\x00"), []string{"timezone"}},
		{"zone of invalid UTF-8", zone("\xff"), []string{"timezone"}},
		{"zone of 16 MB", zone(strings.Repeat("Europe/Vienna", 16<<20/13)), []string{"timezone"}},
		{"nothing", soultribe.NewSlot{}, []string{"timezone"}},
		{"no end", change(func(n *soultribe.NewSlot) { n.End = time.Time{} }), []string{"end"}},
		{"year 10000", soultribe.NewSlot{Start: year(10000), End: year(10000).Add(time.Hour), Timezone: "UTC"}, []string{"start", "end"}},
		{"year 0", soultribe.NewSlot{Start: year(0), End: year(0).Add(time.Hour), Timezone: "UTC"}, []string{"start", "end"}},
		{"before 4713 BC", soultribe.NewSlot{Start: year(-5000), End: year(-5000).Add(time.Hour), Timezone: ""}, []string{"start", "end", "timezone"}},
		{"year 300000", soultribe.NewSlot{Start: year(300000), End: year(300000).Add(time.Hour), Timezone: "UTC"}, []string{"start", "end"}},
	}
	for _, test := range tests {
		c.sub(test.name, func(c *conformance) {
			_, err := c.st.AddSlot(ctx, me, test.slot)
			c.wantInvalid(err, test.fields...)
			// One that is wrong refuses all.
			several := []soultribe.NewSlot{slot(10, 1), test.slot, slot(12, 1)}
			_, err = c.st.AddSlots(ctx, me, several)
			c.wantInvalid(err, test.fields...)
			_, err = c.st.ReplaceSlots(ctx, me, window(0, 48), several)
			c.wantInvalid(err, test.fields...)
			_, err = c.st.UpdateSlot(ctx, me, old[0].ID, test.slot)
			c.wantInvalid(err, test.fields...)
			if len(err.Error()) > 1000 {
				c.Fatalf("the error has %d bytes", len(err.Error()))
			}
			c.wantSlots(me, old...)
		})
	}

	many := make([]soultribe.NewSlot, 2001)
	for i := range many {
		many[i] = slot(float64(10+i), 1)
	}
	_, err := c.st.AddSlots(ctx, me, many)
	c.wantInvalid(err, "slots")
	_, err = c.st.ReplaceSlots(ctx, me, window(0, 3000), many)
	c.wantInvalid(err, "slots")
	c.wantSlots(me, old...)
	stored, err := c.st.AddSlots(ctx, me, many[:2000])
	c.noError(err)
	equal(c, len(stored), 2000)
	equal(c, stored[1999].Start, many[1999].Start)
	c.wantSlots(me, append(old, stored...)...)
}

// slotNights stores slots of the nights in which the clocks of a zone change, from wall time.
func (c *conformance) slotNights() {
	ctx := c.Context()
	tests := []struct {
		zone, start, end string
		localStart       string
		localEnd         string
		length           time.Duration
	}{
		{"Europe/Vienna", "2026-03-29T01:30", "2026-03-29T03:30", "2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00", time.Hour},
		{"Europe/Vienna", "2026-03-29T02:30", "2026-03-29T04:00", "2026-03-29T03:30:00+02:00", "2026-03-29T04:00:00+02:00", 30 * time.Minute},
		{"Europe/Vienna", "2026-03-28T23:00", "2026-03-29T23:00", "2026-03-28T23:00:00+01:00", "2026-03-29T23:00:00+02:00", 23 * time.Hour},
		{"Europe/Vienna", "2026-10-25T01:30", "2026-10-25T03:30", "2026-10-25T01:30:00+02:00", "2026-10-25T03:30:00+01:00", 3 * time.Hour},
		{"Europe/Vienna", "2026-10-25T02:30", "2026-10-25T03:00", "2026-10-25T02:30:00+02:00", "2026-10-25T03:00:00+01:00", 90 * time.Minute},
		{"Europe/Vienna", "2026-10-25T00:30", "2026-10-25T23:30", "2026-10-25T00:30:00+02:00", "2026-10-25T23:30:00+01:00", 24 * time.Hour},
		{"America/New_York", "2026-03-08T01:30", "2026-03-08T03:30", "2026-03-08T01:30:00-05:00", "2026-03-08T03:30:00-04:00", time.Hour},
		{"America/New_York", "2026-11-01T01:30", "2026-11-01T02:30", "2026-11-01T01:30:00-04:00", "2026-11-01T02:30:00-05:00", 2 * time.Hour},
	}
	for _, test := range tests {
		c.sub(test.zone+" "+test.start, func(c *conformance) {
			me := c.user("me").ID
			start, err := soultribe.ParseWall(test.start)
			c.noError(err)
			end, err := soultribe.ParseWall(test.end)
			c.noError(err)
			n, err := soultribe.LocalSlot(start, end, test.zone, soultribe.DSTCompatible)
			c.noError(err)
			added, err := c.st.AddSlot(ctx, me, n)
			c.noError(err)
			equal(c, added.End.Sub(added.Start), test.length)
			for _, s := range append(c.slots(me), added) {
				equal(c, s, added)
				equal(c, s.LocalStart().Format(time.RFC3339), test.localStart)
				equal(c, s.LocalEnd().Format(time.RFC3339), test.localEnd)
			}
		})
	}
	// The two hours that both read 02:00 are two: next to each other, and no overlap.
	me := c.user("me").ID
	first := time.Date(2026, 10, 25, 0, 0, 0, 0, time.UTC)
	both := c.free(me,
		soultribe.NewSlot{Start: first, End: first.Add(time.Hour), Timezone: "Europe/Vienna"},
		soultribe.NewSlot{Start: first.Add(time.Hour), End: first.Add(2 * time.Hour), Timezone: "Europe/Vienna"})
	equal(c, both[0].LocalStart().Format("15:04"), both[1].LocalStart().Format("15:04"))
	// A day of 25 hours is longer than a slot.
	_, err := c.st.AddSlot(ctx, me, soultribe.NewSlot{Start: first.Add(-2 * time.Hour), End: first.Add(23 * time.Hour), Timezone: "Europe/Vienna"})
	c.wantInvalid(err, "end")
	c.wantSlots(me, both...)
}

// slots are those of a user that start from now on.
func (c *conformance) slots(user soultribe.UserID) []soultribe.Slot {
	c.Helper()
	return all(c, func(after soultribe.Cursor) (soultribe.Page[soultribe.Slot], error) {
		return c.st.Slots(c.Context(), user, soultribe.SlotQuery{From: c.clock.Now(), After: after})
	})
}

// overlapping are slots that overlap those from hour 4 to 6 and 8 to 9.
var overlapping = map[string]soultribe.NewSlot{
	"equal":                    slot(4, 2),
	"inside":                   slot(4.5, 1),
	"around":                   slot(3, 4),
	"around both":              slot(3, 8),
	"same start":               slot(4, 1),
	"same end":                 slot(5, 1),
	"same start, longer":       slot(4, 3),
	"left":                     slot(3, 1.5),
	"left by a microsecond":    {Start: at(3 * time.Hour), End: at(4*time.Hour + time.Microsecond), Timezone: "UTC"},
	"right":                    slot(5.5, 1.5),
	"right by a microsecond":   {Start: at(6*time.Hour - time.Microsecond), End: at(7 * time.Hour), Timezone: "UTC"},
	"a day that ends in it":    {Start: at(4*time.Hour + time.Microsecond - 24*time.Hour), End: at(4*time.Hour + time.Microsecond), Timezone: "UTC"},
	"between, from one to two": slot(5.5, 3),
}

// apart are slots that fit beside those from hour 4 to 6 and 8 to 9.
var apart = map[string]soultribe.NewSlot{
	"just before":       slot(3, 1),
	"a whole day ahead": slot(-20, 24),
	"exactly between":   slot(6, 2),
	"just after":        slot(9, 24),
}

func (c *conformance) slotOverlap() {
	ctx := c.Context()
	me, other := c.user("me").ID, c.user("other").ID
	old := c.free(me, slot(4, 2), slot(8, 1), slot(100, 1))
	for name, n := range overlapping {
		c.sub(name, func(c *conformance) {
			_, err := c.st.AddSlot(ctx, me, n)
			c.wantOverlap(err, 0)
			_, err = c.st.UpdateSlot(ctx, me, old[2].ID, n)
			c.wantOverlap(err, 0)
			_, err = c.st.AddSlots(ctx, me, []soultribe.NewSlot{slot(50, 1), n, slot(60, 1)})
			c.wantOverlap(err, 1)
			c.wantSlots(me, old...)
			// Everyone has time of their own.
			s, err := c.st.AddSlot(ctx, other, n)
			c.noError(err)
			c.noError(c.st.DeleteSlot(ctx, other, s.ID))
		})
	}
	for name, n := range apart {
		c.sub(name, func(c *conformance) {
			s, err := c.st.AddSlot(ctx, me, n)
			c.noError(err)
			c.noError(c.st.DeleteSlot(ctx, me, s.ID))
			moved, err := c.st.UpdateSlot(ctx, me, old[2].ID, n)
			c.noError(err)
			equal(c, moved.Start, n.Start)
			_, err = c.st.UpdateSlot(ctx, me, old[2].ID, slot(100, 1))
			c.noError(err)
		})
	}
}

func (c *conformance) slotsAdd() {
	ctx := c.Context()
	me := c.user("me").ID
	none, err := c.st.AddSlots(ctx, me, nil)
	c.noError(err)
	equal(c, none, []soultribe.Slot{})

	// In the order given, whatever the order in time.
	given := []soultribe.NewSlot{slot(30, 1), slot(4, 2), slot(6, 2), slot(2, 2), slot(20, 0.25)}
	given[1].Timezone, given[3].Timezone = "America/New_York", "Asia/Kolkata"
	stored, err := c.st.AddSlots(ctx, me, given)
	c.noError(err)
	seen := map[soultribe.SlotID]bool{}
	for i, s := range stored {
		equal(c, s, soultribe.Slot{
			ID: s.ID, UserID: me, Start: given[i].Start, End: given[i].End, Timezone: given[i].Timezone,
			CreatedAt: Epoch, UpdatedAt: Epoch,
		})
		got, err := c.st.Slot(ctx, me, s.ID)
		c.noError(err)
		equal(c, got, s)
		seen[s.ID] = true
	}
	equal(c, len(seen), len(given))
	c.wantSlots(me, stored[3], stored[1], stored[2], stored[4], stored[0])
	// A second time all of them are there.
	_, err = c.st.AddSlots(ctx, me, given)
	c.wantError(err, soultribe.ErrSlotOverlap)
}

func (c *conformance) slotsAllOrNone() {
	ctx := c.Context()
	me := c.user("me").ID
	old := c.free(me, slot(50, 1))
	free := []soultribe.NewSlot{slot(30, 1), slot(4, 2), slot(10, 2), slot(20, 1)}
	for i := range len(free) + 1 {
		c.sub(fmt.Sprintf("stored overlaps number %d", i), func(c *conformance) {
			given := slices.Insert(slices.Clone(free), i, slot(50.5, 1))
			_, err := c.st.AddSlots(ctx, me, given)
			c.wantOverlap(err, i)
			c.wantSlots(me, old...)
		})
		c.sub(fmt.Sprintf("number %d is over", i), func(c *conformance) {
			_, err := c.st.AddSlots(ctx, me, slices.Insert(slices.Clone(free), i, slot(-2, 1)))
			c.wantError(err, soultribe.ErrPast)
			c.wantSlots(me, old...)
		})
		for j := range i {
			c.sub(fmt.Sprintf("number %d overlaps %d", i, j), func(c *conformance) {
				again := free[j]
				again.Start, again.End = again.Start.Add(15*time.Minute), again.End.Add(15*time.Minute)
				_, err := c.st.AddSlots(ctx, me, slices.Insert(slices.Clone(free), i, again))
				c.wantOverlap(err, i)
				c.wantSlots(me, old...)
			})
		}
	}
	// One that spans others is given before or after them.
	_, err := c.st.AddSlots(ctx, me, []soultribe.NewSlot{slot(1, 10), slot(4, 1)})
	c.wantOverlap(err, 1)
	_, err = c.st.AddSlots(ctx, me, []soultribe.NewSlot{slot(4, 1), slot(1, 10)})
	c.wantOverlap(err, 1)
	_, err = c.st.AddSlots(ctx, me, []soultribe.NewSlot{slot(4, 1), slot(4, 1)})
	c.wantOverlap(err, 1)
	c.wantSlots(me, old...)
}

func (c *conformance) slotsReplace() {
	ctx := c.Context()
	me, other := c.user("me").ID, c.user("other").ID
	others := c.free(other, slot(12, 1))
	// From hour 10 to 20. What starts in the window makes way, wherever it ends; what reaches into it stays.
	old := c.free(me, slot(8, 3), slot(11, 1), slot(12, 1), slot(19.75, 4), slot(24, 1))
	before, after := old[0], old[4]
	plan := []soultribe.NewSlot{slot(15, 1), slot(11, 0.5), slot(19.75, 4.25)}
	c.clock.Advance(time.Minute)
	stored, err := c.st.ReplaceSlots(ctx, me, window(10, 10), plan)
	c.noError(err)
	equal(c, len(stored), len(plan))
	for i, s := range stored {
		equal(c, s, soultribe.Slot{
			ID: s.ID, UserID: me, Start: plan[i].Start, End: plan[i].End, Timezone: plan[i].Timezone,
			CreatedAt: at(time.Minute), UpdatedAt: at(time.Minute),
		})
	}
	c.wantSlots(me, before, stored[1], stored[0], stored[2], after)

	// Again, with the same result.
	again, err := c.st.ReplaceSlots(ctx, me, window(10, 10), plan)
	c.noError(err)
	for i := range again {
		equal(c, []time.Time{again[i].Start, again[i].End}, []time.Time{stored[i].Start, stored[i].End})
	}
	c.wantSlots(me, before, again[1], again[0], again[2], after)

	// A window has its start and not its end: of what begins at 11, 15 and 19.75, only the first is in it.
	none, err := c.st.ReplaceSlots(ctx, me, window(11, 4), nil)
	c.noError(err)
	equal(c, none, []soultribe.Slot{})
	c.wantSlots(me, before, again[0], again[2], after)
	none, err = c.st.ReplaceSlots(ctx, me, window(11, 4), []soultribe.NewSlot{})
	c.noError(err)
	equal(c, none, []soultribe.Slot{})
	c.wantSlots(me, before, again[0], again[2], after)
	c.wantSlots(other, others...)
}

func (c *conformance) slotsReplaceOrNothing() {
	ctx := c.Context()
	me := c.user("me").ID
	old := c.free(me, slot(8, 3), slot(12, 1), slot(20, 1))
	tests := []struct {
		name  string
		plan  []soultribe.NewSlot
		index int
	}{
		{"one before that reaches into the window", []soultribe.NewSlot{slot(12, 1), slot(10.5, 1)}, 1},
		{"one after", []soultribe.NewSlot{slot(12, 1), slot(11, 1), slot(19.5, 1)}, 2},
		{"one after, spanned", []soultribe.NewSlot{slot(14, 8), slot(11, 1)}, 0},
		{"each other", []soultribe.NewSlot{slot(12, 1), slot(12.5, 1), slot(14, 1)}, 1},
	}
	for _, test := range tests {
		c.sub(test.name, func(c *conformance) {
			_, err := c.st.ReplaceSlots(ctx, me, window(10, 10), test.plan)
			c.wantOverlap(err, test.index)
			c.wantSlots(me, old...)
		})
	}
	_, err := c.st.ReplaceSlots(ctx, me, window(-10, 20), []soultribe.NewSlot{slot(8, 1), slot(-2, 1)})
	c.wantError(err, soultribe.ErrPast)
	c.wantSlots(me, old...)
}

func (c *conformance) slotsReplaceInvalid() {
	ctx := c.Context()
	me := c.user("me").ID
	old := c.free(me, slot(12, 1))
	ten := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		name   string
		window soultribe.Window
		plan   []soultribe.NewSlot
		fields []string
	}{
		{"none", soultribe.Window{}, nil, []string{"window"}},
		{"empty", window(12, 0), nil, []string{"window"}},
		{"inverted", window(13, -2), nil, []string{"window"}},
		{"shorter than a microsecond", soultribe.Window{Start: at(12 * time.Hour), End: at(12*time.Hour + 999)}, nil, []string{"window"}},
		{"too late", soultribe.Window{Start: at(0), End: ten}, nil, []string{"window"}},
		{"a slot before", window(10, 10), []soultribe.NewSlot{slot(12, 1), slot(9.75, 1)}, []string{"start"}},
		{"a slot at the end", window(10, 10), []soultribe.NewSlot{slot(20, 1)}, []string{"start"}},
		{"two slots after", window(10, 10), []soultribe.NewSlot{slot(20, 1), slot(22, 1)}, []string{"start", "start"}},
		{"no slot in the window", window(13, -2), []soultribe.NewSlot{slot(12, 1)}, []string{"window", "start"}},
	}
	for _, test := range tests {
		c.sub(test.name, func(c *conformance) {
			_, err := c.st.ReplaceSlots(ctx, me, test.window, test.plan)
			c.wantInvalid(err, test.fields...)
			c.wantSlots(me, old...)
		})
	}
	all := soultribe.Window{Start: time.Time{}.Add(time.Microsecond), End: ten.Add(-time.Microsecond)}
	_, err := c.st.ReplaceSlots(ctx, me, all, nil)
	c.noError(err)
	c.wantSlots(me)
}

func (c *conformance) slotUpdate() {
	ctx := c.Context()
	me := c.user("me").ID
	old := c.free(me, slot(4, 2), slot(8, 2))
	c.clock.Advance(time.Minute)
	want := old[0]
	want.UpdatedAt = at(time.Minute)
	for _, to := range []soultribe.NewSlot{
		slot(5, 2),    // over itself
		slot(5, 3),    // up to the next
		slot(5, 3),    // where it is
		slot(10, 24),  // behind the next
		slot(-2, 2.5), // has begun
		{Start: at(0), End: at(15 * time.Minute), Timezone: "UTC"}, // in another zone
		{Start: at(0), End: at(8 * time.Hour), Timezone: "Asia/Kolkata"},
	} {
		moved, err := c.st.UpdateSlot(ctx, me, old[0].ID, to)
		c.noError(err)
		want.Start, want.End, want.Timezone = to.Start, to.End, to.Timezone
		equal(c, moved, want)
		got, err := c.st.Slot(ctx, me, old[0].ID)
		c.noError(err)
		equal(c, got, want)
	}
	c.wantSlots(me, want, old[1])

	// Errors change nothing.
	_, err := c.st.UpdateSlot(ctx, me, old[0].ID, slot(7, 2))
	c.wantOverlap(err, 0)
	_, err = c.st.UpdateSlot(ctx, me, old[0].ID, slot(-2, 1))
	c.wantError(err, soultribe.ErrPast)
	_, err = c.st.UpdateSlot(ctx, me, old[0].ID, slot(20, 25))
	c.wantInvalid(err, "end")
	c.wantSlots(me, want, old[1])

	// One that is over can be given a time to come.
	c.clock.Advance(30 * 24 * time.Hour)
	moved, err := c.st.UpdateSlot(ctx, me, old[0].ID, slot(31*24, 1))
	c.noError(err)
	equal(c, moved.CreatedAt, Epoch)
	equal(c, moved.UpdatedAt, c.clock.Now())
}

func (c *conformance) slotDelete() {
	ctx := c.Context()
	me := c.user("me").ID
	old := c.free(me, slot(4, 2), slot(8, 2))
	c.clock.Advance(30 * 24 * time.Hour) // also one that is over
	c.noError(c.st.DeleteSlot(ctx, me, old[0].ID))
	c.wantError(c.st.DeleteSlot(ctx, me, old[0].ID), soultribe.ErrNotFound)
	_, err := c.st.Slot(ctx, me, old[0].ID)
	c.wantError(err, soultribe.ErrNotFound)
	_, err = c.st.UpdateSlot(ctx, me, old[0].ID, slot(31*24, 1))
	c.wantError(err, soultribe.ErrNotFound)
	c.wantSlots(me, old[1])
}

// slotOutsiders has people who do not own a slot try each method.
func (c *conformance) slotOutsiders() {
	ctx := c.Context()
	me := c.user("me").ID
	old := c.free(me, slot(4, 2))
	outsiders := c.outsiders()
	for i, who := range outsiders {
		_, err := c.st.Slot(ctx, who, old[0].ID)
		c.wantError(err, soultribe.ErrNotFound)
		_, err = c.st.UpdateSlot(ctx, who, old[0].ID, slot(6, 1))
		c.wantError(err, soultribe.ErrNotFound)
		c.wantError(c.st.DeleteSlot(ctx, who, old[0].ID), soultribe.ErrNotFound)
		page, err := c.st.Slots(ctx, who, soultribe.SlotQuery{})
		if i == 0 { // a stranger, who is someone
			c.noError(err)
			equal(c, page, soultribe.Page[soultribe.Slot]{Items: []soultribe.Slot{}})
			continue
		}
		c.wantError(err, soultribe.ErrNotFound)
		_, err = c.st.AddSlot(ctx, who, slot(6, 1))
		c.wantError(err, soultribe.ErrNotFound)
		for _, slots := range [][]soultribe.NewSlot{nil, {slot(6, 1)}, {slot(8, 1), slot(6, 1)}} {
			_, err = c.st.AddSlots(ctx, who, slots)
			c.wantError(err, soultribe.ErrNotFound)
			_, err = c.st.ReplaceSlots(ctx, who, window(0, 24), slots)
			c.wantError(err, soultribe.ErrNotFound)
		}
		_, err = c.st.MutualAvailability(ctx, who, me, soultribe.MutualQuery{})
		c.wantError(err, soultribe.ErrNotFound)
		_, err = c.st.MutualAvailability(ctx, me, who, soultribe.MutualQuery{})
		c.wantError(err, soultribe.ErrNotFound)
		for _, order := range []soultribe.CandidateOrder{soultribe.SoonestFirst, soultribe.MostTimeFirst} {
			_, err = c.st.Candidates(ctx, who, soultribe.CandidateQuery{Order: order})
			c.wantError(err, soultribe.ErrNotFound)
		}
	}
	for _, id := range noIDs {
		_, err := c.st.Slot(ctx, me, soultribe.SlotID(id))
		c.wantError(err, soultribe.ErrNotFound)
		_, err = c.st.UpdateSlot(ctx, me, soultribe.SlotID(id), slot(6, 1))
		c.wantError(err, soultribe.ErrNotFound)
		c.wantError(c.st.DeleteSlot(ctx, me, soultribe.SlotID(id)), soultribe.ErrNotFound)
	}
	c.wantSlots(me, old...)
	c.wantSlots(outsiders[0])
}

func (c *conformance) slotBadArguments() {
	c.slotZeroIDs()
	c.slotBadQueries()
	c.mutualBadQueries()
	c.candidateBadQueries()
}

func (c *conformance) slotZeroIDs() {
	ctx := c.Context()
	me := c.user("me").ID
	_, err := c.st.AddSlot(ctx, 0, slot(1, 1))
	c.wantInvalid(err, "actor")
	_, err = c.st.AddSlots(ctx, 0, nil)
	c.wantInvalid(err, "actor")
	_, err = c.st.ReplaceSlots(ctx, 0, window(0, 1), nil)
	c.wantInvalid(err, "actor")
	_, err = c.st.UpdateSlot(ctx, 0, 0, slot(1, 1))
	c.wantInvalid(err, "actor", "slot_id")
	_, err = c.st.UpdateSlot(ctx, me, 0, slot(1, 1))
	c.wantInvalid(err, "slot_id")
	c.wantInvalid(c.st.DeleteSlot(ctx, 0, 1), "actor")
	c.wantInvalid(c.st.DeleteSlot(ctx, me, 0), "slot_id")
	_, err = c.st.Slot(ctx, 0, 1)
	c.wantInvalid(err, "actor")
	_, err = c.st.Slot(ctx, me, 0)
	c.wantInvalid(err, "slot_id")
	_, err = c.st.Slots(ctx, 0, soultribe.SlotQuery{})
	c.wantInvalid(err, "actor")
	_, err = c.st.MutualAvailability(ctx, 0, me, soultribe.MutualQuery{})
	c.wantInvalid(err, "actor")
	_, err = c.st.MutualAvailability(ctx, me, 0, soultribe.MutualQuery{})
	c.wantInvalid(err, "other")
	_, err = c.st.MutualAvailability(ctx, me, me, soultribe.MutualQuery{})
	c.wantInvalid(err, "other")
	_, err = c.st.Candidates(ctx, 0, soultribe.CandidateQuery{})
	c.wantInvalid(err, "actor")
	// All that is wrong is said at once.
	_, err = c.st.AddSlot(ctx, 0, soultribe.NewSlot{Start: at(0), End: at(time.Hour)})
	c.wantInvalid(err, "actor", "timezone")
}

// manySlots are seven slots of a user, in order of start: one is over, one has begun, one begins now.
func (c *conformance) manySlots(user soultribe.UserID) []soultribe.Slot {
	c.Helper()
	c.clock.Set(at(-10 * time.Hour))
	defer c.clock.Set(Epoch)
	soon := soultribe.NewSlot{Start: at(time.Hour + time.Microsecond), End: at(2 * time.Hour), Timezone: "UTC"}
	return c.free(user, slot(-8, 2), slot(-1, 1), slot(0, 1), soon, slot(2, 1), slot(3, 1), slot(1000, 1))
}

func (c *conformance) slotList() {
	ctx := c.Context()
	me, other := c.user("me").ID, c.user("other").ID
	s := c.manySlots(me)
	c.manySlots(other)
	soon := time.Hour + time.Microsecond
	tests := []struct {
		name string
		q    soultribe.SlotQuery
		want []soultribe.Slot
	}{
		{"after now", soultribe.SlotQuery{}, s[3:]},
		{"from now", soultribe.SlotQuery{From: Epoch}, s[2:]},
		{"from another zone's now", soultribe.SlotQuery{From: Epoch.In(time.FixedZone("far", 12*60*60))}, s[2:]},
		{"from a start", soultribe.SlotQuery{From: at(soon)}, s[3:]},
		{"from just after a start", soultribe.SlotQuery{From: at(soon + time.Microsecond)}, s[4:]},
		{"from long ago", soultribe.SlotQuery{From: at(-1000 * time.Hour)}, s},
		{"to a start", soultribe.SlotQuery{To: at(2 * time.Hour)}, s[3:4]},
		{"to just after a start", soultribe.SlotQuery{To: at(2*time.Hour + time.Microsecond)}, s[3:5]},
		{"between", soultribe.SlotQuery{From: at(-time.Hour), To: at(3 * time.Hour)}, s[1:5]},
		{"to what is over", soultribe.SlotQuery{To: at(-time.Hour)}, s[:0]},
		{"nothing", soultribe.SlotQuery{From: at(time.Hour), To: at(time.Hour)}, s[:0]},
		{"inverted", soultribe.SlotQuery{From: at(3 * time.Hour), To: at(2 * time.Hour)}, s[:0]},
	}
	for _, test := range tests {
		c.sub(test.name, func(c *conformance) {
			samePages(c, test.want, func(limit int, after soultribe.Cursor) (soultribe.Page[soultribe.Slot], error) {
				q := test.q
				q.Limit, q.After = limit, after
				return c.st.Slots(ctx, me, q)
			})
		})
	}
	// A microsecond on, another one has begun.
	c.clock.Set(at(soon))
	page, err := c.st.Slots(ctx, me, soultribe.SlotQuery{})
	c.noError(err)
	equal(c, page.Items, s[4:])
}

// slotListMoves walks lists while the clock goes past what is in them: the list is that of its first page.
func (c *conformance) slotListMoves() {
	me := c.user("me").ID
	s := c.manySlots(me)
	got := all(c, func(after soultribe.Cursor) (soultribe.Page[soultribe.Slot], error) {
		page, err := c.st.Slots(c.Context(), me, soultribe.SlotQuery{Limit: 1, After: after})
		c.clock.Advance(100 * time.Hour)
		return page, err
	})
	equal(c, got, s[3:])

	// What is stored or deleted meanwhile makes no gap and no repetition in the rest.
	c.clock.Set(Epoch)
	var added []soultribe.Slot
	got = all(c, func(after soultribe.Cursor) (soultribe.Page[soultribe.Slot], error) {
		page, err := c.st.Slots(c.Context(), me, soultribe.SlotQuery{Limit: 2, After: after})
		if added == nil {
			c.noError(c.st.DeleteSlot(c.Context(), me, page.Items[1].ID))
			added = c.free(me, slot(10, 1))
		}
		return page, err
	})
	equal(c, got, []soultribe.Slot{s[3], s[4], s[5], added[0], s[6]})
}

func (c *conformance) slotCursors() {
	ctx := c.Context()
	me, other := c.user("me").ID, c.user("other").ID
	c.manySlots(me)
	c.manySlots(other)
	c.matched(me, other)
	c.matched(me, c.user("third").ID)
	cursor := func(q soultribe.SlotQuery) soultribe.Cursor {
		c.Helper()
		q.Limit = 1
		page, err := c.st.Slots(ctx, me, q)
		c.noError(err)
		if page.Next == "" {
			c.Fatalf("%+v has one page", q)
		}
		return page.Next
	}
	first := cursor(soultribe.SlotQuery{})
	from, to := cursor(soultribe.SlotQuery{From: at(-10 * time.Hour)}), cursor(soultribe.SlotQuery{To: at(10 * time.Hour)})
	matches, err := c.st.Matches(ctx, me, soultribe.MatchQuery{Limit: 1})
	c.noError(err)

	refuse := func(actor soultribe.UserID, q soultribe.SlotQuery) {
		c.Helper()
		page, err := c.st.Slots(ctx, actor, q)
		c.wantInvalid(err, "after")
		equal(c, page.Next, soultribe.Cursor(""))
	}
	refuse(other, soultribe.SlotQuery{After: first})
	refuse(me, soultribe.SlotQuery{After: from})
	refuse(me, soultribe.SlotQuery{After: to})
	refuse(me, soultribe.SlotQuery{After: first, From: at(-10 * time.Hour)})
	refuse(me, soultribe.SlotQuery{After: first, From: Epoch}) // now, but said
	refuse(me, soultribe.SlotQuery{After: from, From: at(-9 * time.Hour)})
	refuse(me, soultribe.SlotQuery{After: to, To: at(11 * time.Hour)})
	refuse(me, soultribe.SlotQuery{After: from, To: at(-10 * time.Hour)})
	refuse(me, soultribe.SlotQuery{After: matches.Next})
	refuse(me, soultribe.SlotQuery{After: first + "A"})
	refuse(me, soultribe.SlotQuery{After: first + "\n"})
	refuse(me, soultribe.SlotQuery{After: first[1:]})
	refuse(me, soultribe.SlotQuery{After: "\n" + first[1:]})
	for _, bad := range badCursors {
		refuse(me, soultribe.SlotQuery{After: bad})
	}
	_, err = c.st.Matches(ctx, me, soultribe.MatchQuery{After: first})
	c.wantInvalid(err, "after")
	// The same instant in another Location is the same filter.
	_, err = c.st.Slots(ctx, me, soultribe.SlotQuery{After: from, From: at(-10 * time.Hour).In(time.FixedZone("far", 3600))})
	c.noError(err)
}

func (c *conformance) slotBadQueries() {
	me := c.user("me").ID
	late, early := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		q      soultribe.SlotQuery
		fields []string
	}{
		{soultribe.SlotQuery{Limit: -1}, []string{"limit"}},
		{soultribe.SlotQuery{Limit: 201}, []string{"limit"}},
		{soultribe.SlotQuery{Limit: math.MaxInt}, []string{"limit"}},
		{soultribe.SlotQuery{From: late}, []string{"from"}},
		{soultribe.SlotQuery{From: early, To: early}, []string{"from", "to"}},
		{soultribe.SlotQuery{To: late}, []string{"to"}},
		{soultribe.SlotQuery{Limit: 1000, To: late, After: "x"}, []string{"limit", "to", "after"}},
	}
	for _, test := range tests {
		_, err := c.st.Slots(c.Context(), me, test.q)
		c.wantInvalid(err, test.fields...)
	}
}

func (c *conformance) availabilityJSON() {
	s := soultribe.Slot{ID: 7, UserID: 3, Start: at(time.Microsecond), End: at(time.Hour), Timezone: "Europe/Vienna", CreatedAt: Epoch, UpdatedAt: Epoch}
	wantJSON(c, s, `{"id":7,"user_id":3,"start":"2026-03-02T09:00:00.000001Z","end":"2026-03-02T10:00:00Z","timezone":"Europe/Vienna",`+
		`"created_at":"2026-03-02T09:00:00Z","updated_at":"2026-03-02T09:00:00Z"}`)
	wantJSON(c, soultribe.NewSlot{Start: Epoch, End: at(time.Hour), Timezone: "UTC"},
		`{"start":"2026-03-02T09:00:00Z","end":"2026-03-02T10:00:00Z","timezone":"UTC"}`)
	wantJSON(c, soultribe.Window{Start: Epoch, End: at(time.Hour)}, `{"start":"2026-03-02T09:00:00Z","end":"2026-03-02T10:00:00Z"}`)
	wantJSON(c, soultribe.Page[soultribe.Slot]{Items: []soultribe.Slot{}}, `{"items":[]}`)
	candidate := soultribe.Candidate{UserID: 3, DisplayName: "Ann", Timezone: "Europe/Vienna", Windows: []soultribe.Window{window(1, 1)}, Total: 90 * time.Minute}
	wantJSON(c, candidate, `{"user_id":3,"display_name":"Ann","timezone":"Europe/Vienna",`+
		`"windows":[{"start":"2026-03-02T10:00:00Z","end":"2026-03-02T11:00:00Z"}],"total_seconds":5400}`)
	wantJSON(c, soultribe.Page[soultribe.Candidate]{Items: []soultribe.Candidate{{UserID: 3, Windows: []soultribe.Window{}}}, Next: "x"},
		`{"items":[{"user_id":3,"display_name":"","windows":[],"total_seconds":0}],"next":"x"}`)
}

func (c *conformance) mutual() {
	ctx := c.Context()
	hours := func(w ...soultribe.Window) []soultribe.Window { return append([]soultribe.Window{}, w...) }
	tests := []struct {
		name   string
		mine   []soultribe.NewSlot
		theirs []soultribe.NewSlot
		q      soultribe.MutualQuery
		want   []soultribe.Window
	}{
		{"none free", nil, nil, soultribe.MutualQuery{}, hours()},
		{"one free", []soultribe.NewSlot{slot(4, 2)}, nil, soultribe.MutualQuery{}, hours()},
		{"apart", []soultribe.NewSlot{slot(4, 2)}, []soultribe.NewSlot{slot(7, 2)}, soultribe.MutualQuery{}, hours()},
		{"adjacent", []soultribe.NewSlot{slot(4, 2)}, []soultribe.NewSlot{slot(6, 2)}, soultribe.MutualQuery{}, hours()},
		{"equal", []soultribe.NewSlot{slot(4, 2)}, []soultribe.NewSlot{slot(4, 2)}, soultribe.MutualQuery{}, hours(window(4, 2))},
		{"inside", []soultribe.NewSlot{slot(4, 6)}, []soultribe.NewSlot{slot(5, 1), slot(7, 1)}, soultribe.MutualQuery{}, hours(window(5, 1), window(7, 1))},
		{"one microsecond", []soultribe.NewSlot{slot(4, 2)},
			[]soultribe.NewSlot{{Start: at(6*time.Hour - time.Microsecond), End: at(8 * time.Hour), Timezone: "UTC"}}, soultribe.MutualQuery{},
			hours(soultribe.Window{Start: at(6*time.Hour - time.Microsecond), End: at(6 * time.Hour)})},
		{"adjacent slots are one", []soultribe.NewSlot{slot(5, 1), slot(4, 1)}, []soultribe.NewSlot{slot(4.5, 0.25), slot(4.75, 1)},
			soultribe.MutualQuery{AtLeast: 75 * time.Minute}, hours(window(4.5, 1.25))},
		{"slots that almost touch are two", []soultribe.NewSlot{slot(4, 1), {Start: at(5*time.Hour + time.Microsecond), End: at(6 * time.Hour), Timezone: "UTC"}},
			[]soultribe.NewSlot{slot(4, 2)}, soultribe.MutualQuery{AtLeast: time.Hour}, hours(window(4, 1))},
		{"days on end", []soultribe.NewSlot{slot(0, 24), slot(24, 24), slot(48, 24)}, []soultribe.NewSlot{slot(12, 24), slot(36, 24)},
			soultribe.MutualQuery{}, hours(window(12, 48))},
		{"as long as asked", []soultribe.NewSlot{slot(4, 2)}, []soultribe.NewSlot{slot(4, 2)}, soultribe.MutualQuery{AtLeast: 2 * time.Hour}, hours(window(4, 2))},
		{"shorter than asked", []soultribe.NewSlot{slot(4, 2)}, []soultribe.NewSlot{slot(4, 2)}, soultribe.MutualQuery{AtLeast: 2*time.Hour + 1}, hours()},
		{"clipped to now", []soultribe.NewSlot{slot(-1, 2)}, []soultribe.NewSlot{slot(-1, 2)}, soultribe.MutualQuery{}, hours(window(0, 1))},
		{"begun almost a day ago", []soultribe.NewSlot{slot(-23.75, 24)}, []soultribe.NewSlot{slot(-1, 2)}, soultribe.MutualQuery{}, hours(window(0, 0.25))},
		{"clipped to 14 days", []soultribe.NewSlot{slot(14*24-1, 2)}, []soultribe.NewSlot{slot(14*24-1, 2)}, soultribe.MutualQuery{}, hours(window(14*24-1, 1))},
		{"beyond 14 days", []soultribe.NewSlot{slot(14*24, 2)}, []soultribe.NewSlot{slot(14*24, 2)}, soultribe.MutualQuery{}, hours()},
		{"clipped as asked", []soultribe.NewSlot{slot(4, 4)}, []soultribe.NewSlot{slot(4, 4)},
			soultribe.MutualQuery{From: at(5 * time.Hour), To: at(6 * time.Hour)}, hours(window(5, 1))},
		{"clipped to less than asked", []soultribe.NewSlot{slot(4, 4)}, []soultribe.NewSlot{slot(4, 4)},
			soultribe.MutualQuery{From: at(5 * time.Hour), To: at(6 * time.Hour), AtLeast: 61 * time.Minute}, hours()},
		{"from, and 14 days on", []soultribe.NewSlot{slot(15*24, 2)}, []soultribe.NewSlot{slot(15*24, 2)},
			soultribe.MutualQuery{From: at(48 * time.Hour)}, hours(window(15*24, 2))},
		{"in a year", []soultribe.NewSlot{slot(365*24, 2)}, []soultribe.NewSlot{slot(365*24, 2)},
			soultribe.MutualQuery{To: at(366 * 24 * time.Hour)}, hours(window(365*24, 2))},
	}
	for _, test := range tests {
		c.sub(test.name, func(c *conformance) {
			me, other := c.newUser("me").ID, c.newUser("other").ID // who need not be verified, nor have a match
			c.free(me, test.mine...)
			c.free(other, test.theirs...)
			got, err := c.st.MutualAvailability(ctx, me, other, test.q)
			c.noError(err)
			equal(c, got, test.want)
			got, err = c.st.MutualAvailability(ctx, other, me, test.q)
			c.noError(err)
			equal(c, got, test.want)
		})
	}
}

// busy confirms a meetup of so many hours.
func (c *conformance) busy(match soultribe.Match, after, hours float64) soultribe.Meetup {
	c.Helper()
	w := window(after, hours)
	m, err := c.st.ProposeMeetup(c.Context(), match.User1ID, soultribe.NewMeetup{
		MatchID: match.ID, Times: soultribe.Times{Start: w.Start, Duration: w.End.Sub(w.Start)},
	})
	c.noError(err)
	return c.confirm(m.Meetup)
}

func (c *conformance) mutualMeetups() {
	ctx := c.Context()
	me, other := c.user("me").ID, c.user("other").ID
	c.free(me, slot(4, 4), slot(8, 4), slot(20, 1))
	c.free(other, slot(4, 8), slot(20, 1))
	want := func(windows ...soultribe.Window) {
		c.Helper()
		for _, pair := range [][2]soultribe.UserID{{me, other}, {other, me}} {
			got, err := c.st.MutualAvailability(ctx, pair[0], pair[1], soultribe.MutualQuery{})
			c.noError(err)
			equal(c, got, windows)
		}
	}
	want(window(4, 8), window(20, 1))
	proposed := c.propose(me, c.matched(me, other).ID, 5*time.Hour)
	want(window(4, 8), window(20, 1)) // a proposal takes no time
	c.confirm(proposed)
	want(window(4, 1), window(6, 6), window(20, 1))
	c.busy(c.matched(me, c.user("a").ID), 6, 1) // next to it
	want(window(4, 1), window(7, 5), window(20, 1))
	c.busy(c.matched(c.user("b").ID, other), 10, 4) // beyond the end
	want(window(4, 1), window(7, 3), window(20, 1))
	c.busy(c.matched(other, c.user("c").ID), 3, 1) // just before
	want(window(4, 1), window(7, 3), window(20, 1))
	whole := c.busy(c.matched(me, c.user("d").ID), 19, 3) // all of one, and more
	want(window(4, 1), window(7, 3))
	got, err := c.st.MutualAvailability(ctx, me, other, soultribe.MutualQuery{AtLeast: 2 * time.Hour})
	c.noError(err)
	equal(c, got, []soultribe.Window{window(7, 3)})
	_, err = c.st.CancelMeetup(ctx, me, whole.ID)
	c.noError(err)
	want(window(4, 1), window(7, 3), window(20, 1))
}

func (c *conformance) mutualBadQueries() {
	ctx := c.Context()
	me, other := c.user("me").ID, c.user("other").ID
	late := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		q      soultribe.MutualQuery
		fields []string
	}{
		{soultribe.MutualQuery{From: at(time.Hour), To: at(time.Hour)}, []string{"to"}},
		{soultribe.MutualQuery{From: at(time.Hour), To: at(0)}, []string{"to"}},
		{soultribe.MutualQuery{To: at(0)}, []string{"to"}},
		{soultribe.MutualQuery{To: at(366*24*time.Hour + time.Microsecond)}, []string{"to"}},
		{soultribe.MutualQuery{To: late}, []string{"to"}},
		{soultribe.MutualQuery{From: late, To: late}, []string{"from", "to"}},
		{soultribe.MutualQuery{AtLeast: -1}, []string{"at_least"}},
	}
	for _, test := range tests {
		_, err := c.st.MutualAvailability(ctx, me, other, test.q)
		c.wantInvalid(err, test.fields...)
		_, err = c.st.Candidates(ctx, me, soultribe.CandidateQuery{From: test.q.From, To: test.q.To, AtLeast: test.q.AtLeast})
		c.wantError(err, soultribe.ErrInvalid)
		got := map[string]bool{}
		for _, v := range soultribe.ValidationErrors(err) {
			got[v.Field] = true
		}
		equal(c, len(got), len(test.fields))
	}
}

// share is what candidates come to: whom the actor sees, with which windows.
func share(u soultribe.User, name string, windows ...soultribe.Window) soultribe.Candidate {
	candidate := soultribe.Candidate{UserID: u.ID, DisplayName: name, Timezone: "Europe/Vienna", Windows: windows}
	for _, w := range windows {
		candidate.Total += w.End.Sub(w.Start)
	}
	return candidate
}

// wantCandidates checks that someone sees exactly these candidates, in both orders and in pages of all
// sizes. The order of want is that of MostTimeFirst. Those who come equally soon may come in any order.
func (c *conformance) wantCandidates(actor soultribe.UserID, q soultribe.CandidateQuery, want ...soultribe.Candidate) {
	c.Helper()
	page := func(order soultribe.CandidateOrder) func(limit int, after soultribe.Cursor) (soultribe.Page[soultribe.Candidate], error) {
		return func(limit int, after soultribe.Cursor) (soultribe.Page[soultribe.Candidate], error) {
			q := q
			q.Order, q.Limit, q.After = order, limit, after
			return c.st.Candidates(c.Context(), actor, q)
		}
	}
	samePages(c, append([]soultribe.Candidate{}, want...), page(soultribe.MostTimeFirst))
	whole, err := page(soultribe.SoonestFirst)(200, "")
	c.noError(err)
	bySoonest := func(a, b soultribe.Candidate) int { return a.Windows[0].Start.Compare(b.Windows[0].Start) }
	equal(c, slices.IsSortedFunc(whole.Items, bySoonest), true)
	byUser := func(a, b soultribe.Candidate) int { return cmp.Compare(a.UserID, b.UserID) }
	equal(c, slices.SortedFunc(slices.Values(whole.Items), byUser), slices.SortedFunc(slices.Values(want), byUser))
	samePages(c, whole.Items, page(soultribe.SoonestFirst))
}

func (c *conformance) candidates() {
	ctx := c.Context()
	me := c.user("me").ID
	c.wantCandidates(me, soultribe.CandidateQuery{}) // neither slots nor people
	ann, bob, eve, gus := c.user("ann"), c.user("bob"), c.newUser("eve"), c.user("gus")
	c.wantCandidates(me, soultribe.CandidateQuery{})
	c.free(ann.ID, slot(5, 3))
	c.free(bob.ID, slot(1, 3), slot(8, 2))
	c.free(eve.ID, slot(4, 4)) // not verified
	c.free(gus.ID, slot(7.5, 2))
	c.wantCandidates(me, soultribe.CandidateQuery{}) // no slots
	mine := c.free(me, slot(4, 4), slot(100, 1))
	c.wantCandidates(me, soultribe.CandidateQuery{}, share(ann, "ann", window(5, 3)))
	c.wantCandidates(me, soultribe.CandidateQuery{AtLeast: 30 * time.Minute},
		share(ann, "ann", window(5, 3)), share(gus, "gus", window(7.5, 0.5)))

	c.noError(c.st.MarkVerified(ctx, eve.ID))
	c.wantCandidates(me, soultribe.CandidateQuery{}, share(eve, "eve", window(4, 4)), share(ann, "ann", window(5, 3)))
	c.wantCandidates(me, soultribe.CandidateQuery{From: at(6 * time.Hour), To: at(7*time.Hour + time.Minute)},
		share(ann, "ann", soultribe.Window{Start: at(6 * time.Hour), End: at(7*time.Hour + time.Minute)}),
		share(eve, "eve", soultribe.Window{Start: at(6 * time.Hour), End: at(7*time.Hour + time.Minute)}))
	c.wantCandidates(me, soultribe.CandidateQuery{To: at(6 * time.Hour)}, share(eve, "eve", window(4, 2)), share(ann, "ann", window(5, 1)))
	c.wantCandidates(me, soultribe.CandidateQuery{From: at(8 * time.Hour)})

	// Someone without a profile, or with an empty one, has no name to show.
	bare, err := c.st.CreateUser(ctx, soultribe.NewUser{Email: "bare@example.org", Password: "password of bare@example.org"})
	c.noError(err)
	c.noError(c.st.MarkVerified(ctx, bare.ID))
	c.free(bare.ID, slot(6, 1.5))
	_, err = c.st.SetProfile(ctx, ann.ID, soultribe.NewProfile{FullName: "A secret", DisplayName: "Änn"})
	c.noError(err)
	nameless, renamed := share(bare, "", window(6, 1.5)), share(ann, "Änn", window(5, 3))
	nameless.Timezone, renamed.Timezone = "", ""
	c.wantCandidates(me, soultribe.CandidateQuery{}, share(eve, "eve", window(4, 4)), renamed, nameless)

	// Who is gone, or has no more time, is none.
	_, err = c.st.DeleteUser(ctx, eve.ID)
	c.noError(err)
	_, err = c.st.ReplaceSlots(ctx, ann.ID, window(0, 24), []soultribe.NewSlot{slot(8, 2)})
	c.noError(err)
	c.wantCandidates(me, soultribe.CandidateQuery{}, nameless)
	c.noError(c.st.DeleteSlot(ctx, me, mine[0].ID))
	c.wantCandidates(me, soultribe.CandidateQuery{})
}

func (c *conformance) candidateWindows() {
	micro := func(from, to time.Duration) soultribe.NewSlot {
		return soultribe.NewSlot{Start: at(from), End: at(to), Timezone: "UTC"}
	}
	hour := soultribe.CandidateQuery{}
	tests := []struct {
		name   string
		mine   []soultribe.NewSlot
		theirs []soultribe.NewSlot
		q      soultribe.CandidateQuery
		want   []soultribe.Window
	}{
		{"exactly an hour", []soultribe.NewSlot{slot(4, 1)}, []soultribe.NewSlot{slot(3, 4)}, hour, []soultribe.Window{window(4, 1)}},
		{"a microsecond less", []soultribe.NewSlot{slot(4, 4)}, []soultribe.NewSlot{micro(4*time.Hour, 5*time.Hour-time.Microsecond)}, hour, nil},
		{"a microsecond less of mine", []soultribe.NewSlot{micro(4*time.Hour, 5*time.Hour-time.Microsecond)}, []soultribe.NewSlot{slot(4, 4)}, hour, nil},
		{"a microsecond less in common", []soultribe.NewSlot{slot(4, 2)}, []soultribe.NewSlot{micro(5*time.Hour+time.Microsecond, 7*time.Hour)}, hour, nil},
		{"a nanosecond more is asked", []soultribe.NewSlot{slot(4, 2)}, []soultribe.NewSlot{slot(4, 1)},
			soultribe.CandidateQuery{AtLeast: time.Hour + 1}, nil},
		{"a nanosecond less is asked", []soultribe.NewSlot{slot(4, 2)}, []soultribe.NewSlot{slot(4, 1)},
			soultribe.CandidateQuery{AtLeast: time.Hour - 1}, []soultribe.Window{window(4, 1)}},
		{"a microsecond is asked", []soultribe.NewSlot{slot(4, 2)}, []soultribe.NewSlot{micro(6*time.Hour-time.Microsecond, 8*time.Hour)},
			soultribe.CandidateQuery{AtLeast: 1}, []soultribe.Window{{Start: at(6*time.Hour - time.Microsecond), End: at(6 * time.Hour)}}},
		{"for ever is asked", []soultribe.NewSlot{slot(4, 24), slot(28, 24)}, []soultribe.NewSlot{slot(4, 24), slot(28, 24)},
			soultribe.CandidateQuery{AtLeast: math.MaxInt64}, nil},
		{"their adjacent slots are one", []soultribe.NewSlot{slot(4, 4)}, []soultribe.NewSlot{slot(5.5, 0.25), slot(5, 0.5), slot(5.75, 0.25)}, hour,
			[]soultribe.Window{window(5, 1)}},
		{"their slots that almost touch are two", []soultribe.NewSlot{slot(4, 4)},
			[]soultribe.NewSlot{slot(5, 0.5), micro(5*time.Hour+30*time.Minute+time.Microsecond, 6*time.Hour)}, hour, nil},
		{"my adjacent slots are one", []soultribe.NewSlot{slot(5.5, 0.5), slot(5, 0.5)}, []soultribe.NewSlot{slot(4, 4)}, hour, []soultribe.Window{window(5, 1)}},
		{"adjacent slots of both", []soultribe.NewSlot{slot(4, 0.5), slot(4.5, 0.5), slot(5, 0.5)}, []soultribe.NewSlot{slot(4.25, 0.5), slot(4.75, 0.5)}, hour,
			[]soultribe.Window{window(4.25, 1)}},
		{"mine that almost touch are two", []soultribe.NewSlot{slot(4, 1), micro(5*time.Hour+time.Microsecond, 6*time.Hour)}, []soultribe.NewSlot{slot(4, 4)}, hour,
			[]soultribe.Window{window(4, 1)}},
		{"one of theirs over two of mine", []soultribe.NewSlot{slot(4, 2), slot(8, 2)}, []soultribe.NewSlot{slot(3, 24)}, hour,
			[]soultribe.Window{window(4, 2), window(8, 2)}},
		{"one of theirs over two of mine, of which one is too short", []soultribe.NewSlot{slot(4, 0.5), slot(8, 2)}, []soultribe.NewSlot{slot(3, 24)}, hour,
			[]soultribe.Window{window(8, 2)}},
		{"two of theirs in one of mine", []soultribe.NewSlot{slot(4, 8)}, []soultribe.NewSlot{slot(8, 1), slot(5, 2)}, hour,
			[]soultribe.Window{window(5, 2), window(8, 1)}},
		{"the short ones do not count", []soultribe.NewSlot{slot(4, 8)}, []soultribe.NewSlot{slot(5, 0.5), slot(8, 1), slot(10, 0.75)}, hour,
			[]soultribe.Window{window(8, 1)}},
		{"too short before an adjacent one", []soultribe.NewSlot{slot(4.5, 4)}, []soultribe.NewSlot{slot(4, 1), slot(5, 1)}, hour,
			[]soultribe.Window{window(4.5, 1.5)}},
		{"adjacent beyond mine", []soultribe.NewSlot{slot(4, 1.5)}, []soultribe.NewSlot{slot(4.75, 0.75), slot(5.5, 5)}, hour, nil},
		{"days on end", []soultribe.NewSlot{slot(1, 24), slot(25, 24), slot(49, 24)}, []soultribe.NewSlot{slot(12, 24), slot(36, 24)}, hour,
			[]soultribe.Window{window(12, 48)}},
		{"begun almost a day ago", []soultribe.NewSlot{slot(-22.5, 24)}, []soultribe.NewSlot{slot(-23, 24)}, hour, []soultribe.Window{window(0, 1)}},
		{"begun, and too little left", []soultribe.NewSlot{slot(-22.5, 24)}, []soultribe.NewSlot{slot(-23.25, 24)}, hour, nil},
		{"clipped to 14 days", []soultribe.NewSlot{slot(14*24-1, 2)}, []soultribe.NewSlot{slot(14*24-2, 8)}, hour, []soultribe.Window{window(14*24-1, 1)}},
		{"beyond 14 days", []soultribe.NewSlot{slot(14*24-0.5, 4)}, []soultribe.NewSlot{slot(14*24-0.5, 4)}, hour, nil},
		{"in a year", []soultribe.NewSlot{slot(365*24, 2)}, []soultribe.NewSlot{slot(365*24, 2)},
			soultribe.CandidateQuery{To: at(366 * 24 * time.Hour)}, []soultribe.Window{window(365*24, 2)}},
	}
	for _, test := range tests {
		c.sub(test.name, func(c *conformance) {
			me, other := c.user("me"), c.user("other")
			c.free(me.ID, test.mine...)
			c.free(other.ID, test.theirs...)
			if test.want == nil {
				c.wantCandidates(me.ID, test.q)
			} else {
				c.wantCandidates(me.ID, test.q, share(other, "other", test.want...))
			}
			for _, u := range []soultribe.User{me, other} { // whom the next ones should not find
				_, err := c.st.DeleteUser(c.Context(), u.ID)
				c.noError(err)
			}
		})
	}
}

// candidateMatches sees who is left out for a match with the actor.
func (c *conformance) candidateMatches() {
	ctx := c.Context()
	me, other := c.user("me"), c.user("other")
	c.free(me.ID, slot(72, 4))
	c.free(other.ID, slot(72, 2))
	found := func(want bool) {
		c.Helper()
		var mine, theirs []soultribe.Candidate
		if want {
			mine, theirs = []soultribe.Candidate{share(other, "other", window(72, 2))}, []soultribe.Candidate{share(me, "me", window(72, 2))}
		}
		c.wantCandidates(me.ID, soultribe.CandidateQuery{}, mine...)
		c.wantCandidates(other.ID, soultribe.CandidateQuery{}, theirs...)
	}
	found(true)
	m, err := c.st.RequestMatch(ctx, me.ID, other.ID)
	c.noError(err)
	found(false) // pending
	_, err = c.st.CancelMatch(ctx, me.ID, m.ID)
	c.noError(err)
	found(false) // cancelled just now
	c.clock.Advance(24*time.Hour - time.Microsecond)
	found(false)
	c.clock.Advance(time.Microsecond)
	found(true) // and may be asked for again
	_, err = c.st.RequestMatch(ctx, other.ID, me.ID)
	c.noError(err)
	found(false)
	_, err = c.st.AcceptMatch(ctx, me.ID, m.ID)
	c.noError(err)
	found(false)
	_, err = c.st.CancelMatch(ctx, other.ID, m.ID)
	c.noError(err)
	c.clock.Advance(24 * time.Hour)
	found(true)
	_, err = c.st.RequestMatch(ctx, me.ID, other.ID)
	c.noError(err)
	_, err = c.st.RejectMatch(ctx, other.ID, m.ID)
	c.noError(err)
	found(false)
	// A rejection stays one, whatever its cool-down.
	c.clock.Advance(40 * 24 * time.Hour)
	c.free(me.ID, slot(2000, 4))
	c.free(other.ID, slot(2000, 2))
	q := soultribe.CandidateQuery{From: at(2000 * time.Hour)}
	c.wantCandidates(me.ID, q)
	c.wantCandidates(other.ID, q)
	// A match is nobody else's matter.
	third := c.user("third")
	c.free(third.ID, slot(2000, 3))
	c.wantCandidates(third.ID, q, share(me, "me", window(2000, 3)), share(other, "other", window(2000, 2)))
	c.wantCandidates(me.ID, q, share(third, "third", window(2000, 3)))
}

// cancelled makes a match of two people who share two hours, and cancels it.
func (c *conformance) cancelled() (me, other soultribe.User) {
	c.Helper()
	me, other = c.user("me"), c.user("other")
	c.free(me.ID, slot(72, 2))
	c.free(other.ID, slot(72, 2))
	_, err := c.st.CancelMatch(c.Context(), other.ID, c.matched(me.ID, other.ID).ID)
	c.noError(err)
	return me, other
}

func (c *conformance) candidateCooldown() {
	me, other := c.cancelled()
	c.clock.Advance(2*time.Hour - time.Microsecond)
	c.wantCandidates(me.ID, soultribe.CandidateQuery{})
	c.clock.Advance(time.Microsecond)
	c.wantCandidates(me.ID, soultribe.CandidateQuery{}, share(other, "other", window(72, 2)))
}

func (c *conformance) candidateNoCooldown() {
	me, other := c.cancelled()
	c.wantCandidates(me.ID, soultribe.CandidateQuery{}, share(other, "other", window(72, 2)))
}

// candidateMeetups sees that the asker's confirmed meetups are cut out, and nobody else's: what others have
// confirmed is theirs to know.
func (c *conformance) candidateMeetups() {
	ctx := c.Context()
	me, other := c.user("me"), c.user("other")
	c.free(me.ID, slot(4, 8))
	c.free(other.ID, slot(2, 12))
	match := c.matched(me.ID, c.user("partner").ID)
	proposed := c.propose(me.ID, match.ID, 6*time.Hour)
	c.wantCandidates(me.ID, soultribe.CandidateQuery{}, share(other, "other", window(4, 8)))
	confirmed := c.confirm(proposed)
	c.wantCandidates(me.ID, soultribe.CandidateQuery{}, share(other, "other", window(4, 2), window(7, 5)))
	c.wantCandidates(me.ID, soultribe.CandidateQuery{AtLeast: 3 * time.Hour}, share(other, "other", window(7, 5)))
	c.wantCandidates(other.ID, soultribe.CandidateQuery{}, share(me, "me", window(4, 8)))
	c.busy(c.matched(c.user("second").ID, me.ID), 7, 4.5) // next to it, and less than an hour is left
	c.wantCandidates(me.ID, soultribe.CandidateQuery{}, share(other, "other", window(4, 2)))
	_, err := c.st.CancelMeetup(ctx, me.ID, confirmed.ID)
	c.noError(err)
	c.wantCandidates(me.ID, soultribe.CandidateQuery{}, share(other, "other", window(4, 3)))
	// A meetup that reaches over the end of the free time, and one beside it.
	c.busy(match, 3.5, 1)
	c.busy(c.matched(c.user("third").ID, me.ID), 12, 1)
	c.wantCandidates(me.ID, soultribe.CandidateQuery{}, share(other, "other", window(4.5, 2.5)))
}

// crowd are people who share time with the actor, in the order of MostTimeFirst.
func (c *conformance) crowd(actor soultribe.UserID) []soultribe.Candidate {
	c.Helper()
	c.free(actor, slot(4, 4), slot(20, 4), slot(8, 2), slot(40, 2))
	people := []struct {
		slots []soultribe.NewSlot
		want  []soultribe.Window
	}{
		{[]soultribe.NewSlot{slot(6, 24)}, []soultribe.Window{window(6, 4), window(20, 4)}},
		{[]soultribe.NewSlot{slot(20, 4), slot(4, 3)}, []soultribe.Window{window(4, 3), window(20, 4)}},
		{[]soultribe.NewSlot{slot(0, 11)}, []soultribe.Window{window(4, 6)}},
		{[]soultribe.NewSlot{slot(40, 1), slot(23, 1), slot(21, 1), slot(8, 1), slot(6, 1)},
			[]soultribe.Window{window(6, 1), window(8, 1), window(21, 1), window(23, 1), window(40, 1)}},
		{[]soultribe.NewSlot{slot(20.5, 3.5), slot(9.5, 0.5)}, []soultribe.Window{window(20.5, 3.5)}},
		{[]soultribe.NewSlot{slot(39, 3), slot(7.5, 0.5), slot(8, 0.5)}, []soultribe.Window{window(7.5, 1), window(40, 2)}},
		{[]soultribe.NewSlot{slot(41, 1)}, []soultribe.Window{window(41, 1)}},
	}
	var want []soultribe.Candidate
	for i, p := range people {
		name := fmt.Sprintf("person %d", i)
		u := c.user(fmt.Sprintf("person-%d-", i))
		_, err := c.st.SetProfile(c.Context(), u.ID, soultribe.NewProfile{FullName: "Full", DisplayName: name, Timezone: "Europe/Vienna"})
		c.noError(err)
		c.free(u.ID, p.slots...)
		want = append(want, share(u, name, p.want...))
	}
	return want
}

func (c *conformance) candidateOrder() {
	me := c.user("me").ID
	want := c.crowd(me)
	for i, candidate := range want[1:] {
		if want[i].Total <= candidate.Total {
			c.Fatalf("the crowd is not in order: %v", want)
		}
	}
	c.wantCandidates(me, soultribe.CandidateQuery{}, want...)

	// Many who share the same time: each comes once, whatever the order among them.
	for i := range 5 {
		c.free(c.user(fmt.Sprintf("same-%d-", i)).ID, slot(6, 24))
	}
	for _, order := range []soultribe.CandidateOrder{soultribe.SoonestFirst, soultribe.MostTimeFirst} {
		var whole []soultribe.Candidate
		for _, limit := range []int{0, 1, 2, 3, 50} {
			got := all(c, func(after soultribe.Cursor) (soultribe.Page[soultribe.Candidate], error) {
				return c.st.Candidates(c.Context(), me, soultribe.CandidateQuery{Order: order, Limit: limit, After: after})
			})
			if whole == nil {
				whole = got
			}
			equal(c, got, whole)
		}
		seen := map[soultribe.UserID]bool{}
		for i, candidate := range whole {
			seen[candidate.UserID] = true
			if i == 0 {
				continue
			}
			before := whole[i-1]
			if order == soultribe.MostTimeFirst && before.Total < candidate.Total ||
				order == soultribe.SoonestFirst && before.Windows[0].Start.After(candidate.Windows[0].Start) {
				c.Fatalf("in order %d, %+v comes before %+v", order, before, candidate)
			}
		}
		equal(c, len(seen), len(want)+5)
		equal(c, len(whole), len(seen))
	}
}

// candidateListMoves walks lists while the clock moves: the horizon is that of the first page.
func (c *conformance) candidateListMoves() {
	me := c.user("me").ID
	c.crowd(me)
	for _, order := range []soultribe.CandidateOrder{soultribe.SoonestFirst, soultribe.MostTimeFirst} {
		for _, q := range []soultribe.CandidateQuery{{}, {From: at(5 * time.Hour)}, {To: at(21*time.Hour + 30*time.Minute)}} {
			c.clock.Set(Epoch)
			q.Order = order
			want := all(c, func(after soultribe.Cursor) (soultribe.Page[soultribe.Candidate], error) {
				q.After = after
				return c.st.Candidates(c.Context(), me, q)
			})
			q.Limit = 1
			got := all(c, func(after soultribe.Cursor) (soultribe.Page[soultribe.Candidate], error) {
				q.After = after
				page, err := c.st.Candidates(c.Context(), me, q)
				c.clock.Advance(5 * time.Hour)
				return page, err
			})
			equal(c, got, want)
			if len(want) < 5 {
				c.Fatalf("only %d candidates", len(want))
			}
		}
	}
}

func (c *conformance) candidateMaxWindows() {
	ctx := c.Context()
	me, other := c.user("me").ID, c.user("other")
	var windows []soultribe.Window
	for i := range 25 {
		c.free(me, slot(float64(2*i+1), 1))
		windows = append(windows, window(float64(2*i+1), 1))
	}
	c.free(other.ID, slot(0, 24), slot(24, 24), slot(48, 24))
	for _, order := range []soultribe.CandidateOrder{soultribe.SoonestFirst, soultribe.MostTimeFirst} {
		for most, want := range map[int]int{0: 5, 1: 1, 2: 2, 5: 5, 19: 19, 20: 20} {
			page, err := c.st.Candidates(ctx, me, soultribe.CandidateQuery{Order: order, MaxWindows: most})
			c.noError(err)
			candidate := share(other, "other", windows[:want]...)
			candidate.Total = 25 * time.Hour // of all
			covered := 0.0
			if order == soultribe.MostTimeFirst {
				covered = 1
			}
			equal(c, page, soultribe.Page[soultribe.Candidate]{Items: []soultribe.Candidate{candidate}, Covered: covered})
		}
		for _, most := range []int{-1, 21, math.MaxInt} {
			_, err := c.st.Candidates(ctx, me, soultribe.CandidateQuery{Order: order, MaxWindows: most})
			c.wantInvalid(err, "max_windows")
		}
	}
}

func (c *conformance) candidateCursors() {
	ctx := c.Context()
	me, other := c.user("me").ID, c.user("other").ID
	c.crowd(me)
	c.free(other, slot(4, 24))
	c.free(me, slot(60, 1), slot(62, 1))
	for _, order := range []soultribe.CandidateOrder{soultribe.SoonestFirst, soultribe.MostTimeFirst} {
		cursor := func(q soultribe.CandidateQuery) soultribe.Cursor {
			c.Helper()
			q.Order, q.Limit = order, 1
			page, err := c.st.Candidates(ctx, me, q)
			c.noError(err)
			if page.Next == "" {
				c.Fatalf("%+v has one page", q)
			}
			return page.Next
		}
		refuse := func(actor soultribe.UserID, q soultribe.CandidateQuery) {
			c.Helper()
			q.Order = order
			page, err := c.st.Candidates(ctx, actor, q)
			c.wantInvalid(err, "after")
			equal(c, page.Next, soultribe.Cursor(""))
		}
		first := cursor(soultribe.CandidateQuery{})
		from, to := cursor(soultribe.CandidateQuery{From: Epoch}), cursor(soultribe.CandidateQuery{To: at(48 * time.Hour)})
		short := cursor(soultribe.CandidateQuery{AtLeast: 30 * time.Minute})
		slots, err := c.st.Slots(ctx, me, soultribe.SlotQuery{Limit: 1})
		c.noError(err)

		refuse(other, soultribe.CandidateQuery{After: first})
		refuse(me, soultribe.CandidateQuery{After: from})
		refuse(me, soultribe.CandidateQuery{After: to})
		refuse(me, soultribe.CandidateQuery{After: short})
		refuse(me, soultribe.CandidateQuery{After: first, From: Epoch})
		refuse(me, soultribe.CandidateQuery{After: from, From: at(time.Hour)})
		refuse(me, soultribe.CandidateQuery{After: first, To: at(14 * 24 * time.Hour)}) // what it is, but said
		refuse(me, soultribe.CandidateQuery{After: first, AtLeast: 30 * time.Minute})
		refuse(me, soultribe.CandidateQuery{After: slots.Next})
		refuse(me, soultribe.CandidateQuery{After: first + "A"})
		refuse(me, soultribe.CandidateQuery{After: first[1:]})
		for _, bad := range badCursors {
			refuse(me, soultribe.CandidateQuery{After: bad})
		}
		_, err = c.st.Candidates(ctx, me, soultribe.CandidateQuery{After: first, Order: 1 - order})
		c.wantInvalid(err, "after")
		_, err = c.st.Slots(ctx, me, soultribe.SlotQuery{After: first})
		c.wantInvalid(err, "after")

		// How much to show is no filter, and the default said is the default.
		for _, q := range []soultribe.CandidateQuery{{Limit: 200}, {MaxWindows: 1}, {AtLeast: time.Hour}} {
			q.Order, q.After = order, first
			page, err := c.st.Candidates(ctx, me, q)
			c.noError(err)
			equal(c, len(page.Items), 7)
		}
	}
}

func (c *conformance) candidateBadQueries() {
	ctx := c.Context()
	me := c.user("me").ID
	tests := []struct {
		q      soultribe.CandidateQuery
		fields []string
	}{
		{soultribe.CandidateQuery{Limit: -1}, []string{"limit"}},
		{soultribe.CandidateQuery{Limit: 201}, []string{"limit"}},
		{soultribe.CandidateQuery{Limit: math.MaxInt}, []string{"limit"}},
		{soultribe.CandidateQuery{Order: 2}, []string{"order"}},
		{soultribe.CandidateQuery{Order: -1}, []string{"order"}},
		{soultribe.CandidateQuery{AtLeast: -1}, []string{"at_least"}},
		{soultribe.CandidateQuery{AtLeast: math.MinInt64, MaxWindows: -1, Limit: -1}, []string{"limit", "at_least", "max_windows"}},
		{soultribe.CandidateQuery{From: at(time.Hour), To: at(0)}, []string{"to"}},
		{soultribe.CandidateQuery{To: at(366*24*time.Hour + time.Microsecond)}, []string{"to"}},
	}
	for _, test := range tests {
		page, err := c.st.Candidates(ctx, me, test.q)
		c.wantInvalid(err, test.fields...)
		equal(c, len(page.Items), 0)
	}
}

// slotConflictsInTx makes each conflict of slots in one transaction, in which what came before is kept and
// what comes after works.
func (c *conformance) slotConflictsInTx() {
	me, other := c.user("me").ID, c.user("other").ID
	var kept []soultribe.Slot
	err := c.st.InTx(c.Context(), func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
		inner := *c
		c := &inner
		c.st = st
		kept = c.free(me, slot(4, 2), slot(8, 1))
		survive := func(err error, target error) {
			c.Helper()
			c.wantError(err, target)
			// The next statement works, and writes.
			kept = append(kept, c.free(me, slot(float64(20+len(kept)), 1))...)
		}
		for _, n := range overlapping {
			_, err := st.AddSlot(ctx, me, n)
			survive(err, soultribe.ErrSlotOverlap)
			_, err = st.AddSlots(ctx, me, []soultribe.NewSlot{slot(200, 1), n, slot(300, 1)})
			survive(err, soultribe.ErrSlotOverlap)
			_, err = st.UpdateSlot(ctx, me, kept[len(kept)-1].ID, n)
			survive(err, soultribe.ErrSlotOverlap)
		}
		_, err := st.ReplaceSlots(ctx, me, window(8, 1), []soultribe.NewSlot{slot(8, 24)})
		survive(err, soultribe.ErrSlotOverlap)
		_, err = st.AddSlot(ctx, me, slot(-2, 1))
		survive(err, soultribe.ErrPast)
		_, err = st.AddSlot(ctx, me, slot(1, 0))
		survive(err, soultribe.ErrInvalid)
		_, err = st.UpdateSlot(ctx, other, kept[0].ID, slot(400, 1))
		survive(err, soultribe.ErrNotFound)
		survive(st.DeleteSlot(ctx, other, kept[0].ID), soultribe.ErrNotFound)
		for _, id := range noIDs {
			_, err = st.AddSlot(ctx, soultribe.UserID(id), slot(400, 1))
			survive(err, soultribe.ErrNotFound)
			_, err = st.AddSlots(ctx, soultribe.UserID(id), []soultribe.NewSlot{slot(400, 1)})
			survive(err, soultribe.ErrNotFound)
			_, err = st.ReplaceSlots(ctx, soultribe.UserID(id), window(400, 1), []soultribe.NewSlot{slot(400, 1)})
			survive(err, soultribe.ErrNotFound)
			_, err = st.UpdateSlot(ctx, me, soultribe.SlotID(id), slot(400, 1))
			survive(err, soultribe.ErrNotFound)
		}
		return nil
	})
	c.noError(err)
	c.wantSlots(me, kept...)
}

// slotCancelled calls each method with a context that has ended: nothing is done, and the Store goes on to
// work.
func (c *conformance) slotCancelled() {
	ctx, cancel := context.WithCancel(c.Context())
	cancel()
	me, other := c.user("me").ID, c.user("other").ID
	old := c.free(me, slot(4, 2), slot(8, 1))
	calls := map[string]func() error{
		"AddSlot": func() error { _, err := c.st.AddSlot(ctx, me, slot(20, 1)); return err },
		"AddSlots": func() error {
			_, err := c.st.AddSlots(ctx, me, []soultribe.NewSlot{slot(20, 1), slot(22, 1)})
			return err
		},
		"UpdateSlot": func() error { _, err := c.st.UpdateSlot(ctx, me, old[0].ID, slot(20, 1)); return err },
		"DeleteSlot": func() error { return c.st.DeleteSlot(ctx, me, old[0].ID) },
		"Slot":       func() error { _, err := c.st.Slot(ctx, me, old[0].ID); return err },
		"Slots":      func() error { _, err := c.st.Slots(ctx, me, soultribe.SlotQuery{}); return err },
		"ReplaceSlots": func() error {
			_, err := c.st.ReplaceSlots(ctx, me, window(0, 24), []soultribe.NewSlot{slot(20, 1)})
			return err
		},
		"MutualAvailability": func() error {
			_, err := c.st.MutualAvailability(ctx, me, other, soultribe.MutualQuery{})
			return err
		},
		"Candidates": func() error { _, err := c.st.Candidates(ctx, me, soultribe.CandidateQuery{}); return err },
	}
	for name, call := range calls {
		c.sub(name, func(c *conformance) {
			err := call()
			c.wantError(err, context.Canceled)
			equal(c, soultribe.Code(err), "canceled")
			c.wantSlots(me, old...)
		})
	}
	c.free(me, slot(20, 1))
}
