package soultribe

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/squirrel"
)

// Window is the half-open span of time [Start, End), in UTC where the library made it.
type Window struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// entry is one thing that is known of a person. Several kinds of them come from one statement, in any order.
type entry struct {
	kind entryKind
	id   int64 // of the person, or what kind says
	Window
}

type entryKind int64

const (
	isThere    entryKind = iota // the person exists
	isFree                      // in the window
	isBusy                      // likewise
	isMatched                   // with the person of that id
	slotCount                   // the id is how many slots there are of all people
	newestSlot                  // the id is the last one of a slot of all people
)

// entries is a part of such a statement: those of a kind.
func entries(kind entryKind, id, start, end string) squirrel.SelectBuilder {
	return squirrel.Select(fmt.Sprintf("%d::bigint AS kind", kind), id+" AS id", start+" AS starts_at", end+" AS ends_at")
}

// entriesWithout are those of a kind that has no window.
func entriesWithout(kind entryKind, id string) squirrel.SelectBuilder {
	return entries(kind, id, "NULL::timestamp", "NULL::timestamp")
}

// thatExist are those of the users u for whom a condition holds.
func thatExist(t tables, condition string) squirrel.SelectBuilder {
	return entriesWithout(isThere, "u.id::bigint").From(t.user + " u").Where(condition)
}

// freeTime are the slots of a user that meet the time from start to end. They are sorted so that a plan for any values,
// which takes a time between two bounds for rare, does not read everybody's from the index on start, which has no id.
func freeTime(t tables, user, start, end string) squirrel.SelectBuilder {
	return entries(isFree, "s.user_id::bigint", "s.start_dt_utc", "s.end_dt_utc").From(t.slot+" s").
		Where("s.user_id = "+user).Where(meets("s", start, end)).OrderBy("s.start_dt_utc", "s.id")
}

// busyTime are the bookings of a user that meet the time from start to end.
func busyTime(t tables, user, start, end string) squirrel.SelectBuilder {
	return entries(isBusy, "b.user_id::bigint", "b.starts_at", "b.ends_at").From(t.booking + " b").
		Where("b.user_id = " + user + " AND b.starts_at < " + end + " AND b.ends_at > " + start)
}

// union makes one statement of parts.
func union(parts ...squirrel.SelectBuilder) squirrel.Sqlizer {
	texts := make([]string, len(parts))
	for i, part := range parts {
		texts[i] = "(" + constant(part) + ")"
	}
	return squirrel.Expr(strings.Join(texts, " UNION ALL "))
}

func scanEntry(r *rowReader) entry {
	e := entry{kind: entryKind(r.integer()), id: r.integer()}
	if e.kind == isFree || e.kind == isBusy {
		e.Start, e.End = r.time(), r.time()
	}
	return e
}

func countOf(all []entry, kind entryKind) (n int) {
	for _, e := range all {
		if e.kind == kind {
			n++
		}
	}
	return n
}

// windowsOf are the windows of a kind of a person's.
func windowsOf(all []entry, kind entryKind, user UserID) []Window {
	var own []Window
	for _, e := range all {
		if e.kind == kind && e.id == int64(user) {
			own = append(own, e.Window)
		}
	}
	return own
}

// mergeWindows sorts windows, and makes one of those that touch.
func mergeWindows(windows []Window) []Window {
	slices.SortFunc(windows, func(a, b Window) int { return a.Start.Compare(b.Start) })
	merged := windows[:0]
	for _, w := range windows {
		if n := len(merged); n > 0 && !w.Start.After(merged[n-1].End) {
			if w.End.After(merged[n-1].End) {
				merged[n-1].End = w.End
			}
			continue
		}
		merged = append(merged, w)
	}
	return merged
}

// intersect returns what is in both of two merged lists.
func intersect(a, b []Window) []Window {
	both := []Window{}
	for len(a) > 0 && len(b) > 0 {
		w := Window{later(a[0].Start, b[0].Start), earlier(a[0].End, b[0].End)}
		if w.Start.Before(w.End) {
			both = append(both, w)
		}
		if a[0].End.Before(b[0].End) {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return both
}

// subtract returns what of a merged list is not in another.
func subtract(from, what []Window) []Window {
	rest := []Window{}
	for _, w := range from {
		for len(what) > 0 && !what[0].End.After(w.Start) {
			what = what[1:]
		}
		for _, cut := range what {
			if !cut.Start.Before(w.End) {
				break
			}
			if w.Start.Before(cut.Start) {
				rest = append(rest, Window{w.Start, cut.Start})
			}
			w.Start = cut.End
		}
		if w.Start.Before(w.End) {
			rest = append(rest, w)
		}
	}
	return rest
}

// dropShort removes the windows that are shorter than atLeast.
func dropShort(windows []Window, atLeast time.Duration) []Window {
	return slices.DeleteFunc(windows, func(w Window) bool { return w.End.Sub(w.Start) < atLeast })
}

// clip returns what of a merged list is in span.
func clip(windows []Window, span Window) []Window { return intersect(windows, []Window{span}) }

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
