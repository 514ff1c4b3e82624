package soultribe

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	oneDay  = 24 * time.Hour
	oneWeek = 7 * oneDay
)

// wallLayout is how a Wall is written.
const wallLayout = "2006-01-02T15:04"

// Wall is what a calendar and a clock on the wall show, to the minute: a date of the Gregorian
// calendar in the years 1 to 9999 and a time from 00:00 to 23:59, in no zone yet. [ResolveLocal] makes
// an instant of it. As text, and so in JSON, it is "2006-01-02T15:04".
type Wall struct {
	Year   int
	Month  time.Month
	Day    int
	Hour   int
	Minute int
}

// ParseWall reads a date and a time such as "2026-10-25T02:30" or "2026-10-25 02:30"; seconds may
// follow when they are ":00". It returns an [ErrInvalid] for anything else: another form, white space
// around, a date that the calendar lacks, 24:00, and a zone or an offset, which would otherwise be
// dropped in silence.
func ParseWall(s string) (Wall, error) {
	text := s
	if len(text) == len(wallLayout+":00") {
		text = strings.TrimSuffix(text, ":00")
	}
	if len(text) != len(wallLayout) {
		return Wall{}, errWallText
	}
	if text[10] == ' ' {
		text = text[:10] + "T" + text[11:]
	}
	t, err := time.Parse(wallLayout, text)
	// Parse is lenient here and there; what it makes of the text has to be the text.
	if err != nil || t.Year() < 1 || t.Format(wallLayout) != text {
		return Wall{}, errWallText
	}
	return wallAt(t), nil
}

var errWallText = invalid("wall", "must be a date and a time to the minute, like 2026-10-25T02:30, without a zone")

// String returns w as "2006-01-02T15:04".
func (w Wall) String() string {
	return fmt.Sprintf("%04d-%02d-%02dT%02d:%02d", w.Year, w.Month, w.Day, w.Hour, w.Minute)
}

// MarshalText returns what String does, or an [ErrInvalid] when w is not a date and time of the
// calendar; the zero Wall is none.
func (w Wall) MarshalText() ([]byte, error) {
	if err := w.check("wall"); err != nil {
		return nil, err
	}
	return []byte(w.String()), nil
}

// UnmarshalText reads what [ParseWall] does.
func (w *Wall) UnmarshalText(text []byte) error {
	parsed, err := ParseWall(string(text))
	if err != nil {
		return err
	}
	*w = parsed
	return nil
}

// check returns an ErrInvalid that names the field unless w is a date and time of the calendar.
func (w Wall) check(field string) error {
	if w.Year < 1 || w.Year > 9999 || wallAt(w.reading()) != w {
		return invalid(field, "must be a date and a time of the calendar, in the years 1 to 9999")
	}
	return nil
}

// reading returns w as if it were UTC. Dates and times can be counted in readings, for in UTC no
// clock ever changes.
func (w Wall) reading() time.Time {
	return time.Date(w.Year, w.Month, w.Day, w.Hour, w.Minute, 0, 0, time.UTC)
}

func wallAt(reading time.Time) Wall {
	return Wall{reading.Year(), reading.Month(), reading.Day(), reading.Hour(), reading.Minute()}
}

// Disambiguation says which instant a [Wall] means on the days when clocks change. The zero value is
// DSTCompatible.
type Disambiguation int

const (
	// DSTCompatible takes the first of two instants, and for a time that clocks skip the UTC offset
	// before the change: in Vienna, where clocks go from 02:00 to 03:00 in spring, 02:30 is 03:30.
	DSTCompatible Disambiguation = iota
	// DSTLater takes the last of two instants, and is DSTCompatible for a time that clocks skip.
	DSTLater
	// DSTReject takes neither: ErrAmbiguousTime, ErrNonexistentTime.
	DSTReject
)

// String returns "compatible", "later" or "reject".
func (d Disambiguation) String() string {
	switch d {
	case DSTCompatible:
		return "compatible"
	case DSTLater:
		return "later"
	case DSTReject:
		return "reject"
	}
	return "Disambiguation(" + strconv.Itoa(int(d)) + ")"
}

func (d Disambiguation) check() error {
	switch d {
	case DSTCompatible, DSTLater, DSTReject:
		return nil
	}
	return invalid("disambiguation", "is none of DSTCompatible, DSTLater and DSTReject")
}

// ResolveLocal returns the instant, in UTC, at which clocks in an IANA zone such as "Europe/Vienna"
// show w. Where they show it twice, or skip it, d decides.
//
// DSTCompatible is the rule of RFC 5545 (3.3.5, "FORM #3"), and what java.time, JavaScript's Temporal
// ("compatible") and Python (fold=0) do. Note that [time.Date] makes no such promise: it takes
// sometimes one instant and sometimes the other.
//
// Before a zone had a standard time, it kept the mean time of its main city, whose offset has seconds;
// so may the instant then. The instant of a w in the first or last hours of the years 1 to 9999 may lie
// in the year before or after.
//
// It returns an [ErrInvalid] for a wall time that no calendar has, an unknown zone and an unknown d,
// and with DSTReject an [ErrAmbiguousTime] or [ErrNonexistentTime].
func ResolveLocal(w Wall, zone string, d Disambiguation) (time.Time, error) {
	loc, zoneErr := loadZone(zone)
	if err := errors.Join(w.check("wall"), zoneErr, d.check()); err != nil {
		return time.Time{}, err
	}
	t, err := resolve("wall", w.reading(), loc, d)
	if err != nil {
		return time.Time{}, err
	}
	return t, nil
}

// LocalSlot returns the slot between two wall times in an IANA zone, each resolved as [ResolveLocal]
// does, on its own. On the night when clocks in Vienna go back from 03:00 to 02:00:
//
//   - 01:30 to 02:30 is one hour with DSTCompatible and two with DSTLater,
//   - 02:30 to 02:45 is a quarter of an hour with both, the first or the last one,
//   - 02:30 to 03:30 is two hours with DSTCompatible and one with DSTLater.
//
// It returns the errors of ResolveLocal, with "start" or "end" as the field, and an [ErrInvalid] when
// the instant of the end is not after that of the start. So 02:45 to 02:30 is an error on that night
// too, although the last 02:30 is after the first 02:45: it is more likely a slip. And where clocks
// skip 02:00 to 03:00, 02:30 to 03:15 is an error, for 02:30 is 03:30 then. Whether the slot is as long
// as a slot must be is left to the method that stores it.
func LocalSlot(start, end Wall, zone string, d Disambiguation) (NewSlot, error) {
	loc, zoneErr := loadZone(zone)
	if err := errors.Join(start.check("start"), end.check("end"), zoneErr, d.check()); err != nil {
		return NewSlot{}, err
	}
	from, startErr := resolve("start", start.reading(), loc, d)
	to, endErr := resolve("end", end.reading(), loc, d)
	if err := errors.Join(startErr, endErr); err != nil {
		return NewSlot{}, err
	}
	if !to.After(from) {
		return NewSlot{}, invalid("end", "must be after start, as instants")
	}
	return NewSlot{Start: from, End: to, Timezone: zone}, nil
}

// resolve picks one instant for a reading. With DSTReject it returns the instant of DSTCompatible
// beside an error.
func resolve(field string, reading time.Time, loc *time.Location, d Disambiguation) (time.Time, error) {
	first, last, doubt := occurrences(reading, loc)
	if doubt == nil || d == DSTCompatible {
		return first, nil
	}
	if d == DSTLater {
		return last, nil
	}
	reason := "occurs twice"
	if errors.Is(doubt, ErrNonexistentTime) {
		reason = "does not exist"
	}
	reason = wallAt(reading).String() + " " + reason + " in " + loc.String()
	return first, &ValidationError{Field: field, Reason: reason, err: doubt}
}

// occurrences returns the first and the last instant at which clocks in loc show the reading. When
// that is not one and the same, it says so: ErrAmbiguousTime, or ErrNonexistentTime, and then both
// are the instant at which a clock that had not been changed would show it.
func occurrences(reading time.Time, loc *time.Location) (first, last time.Time, doubt error) {
	periods := periodsAround(reading, loc)
	var found []time.Time
	for i, p := range periods {
		t := reading.Add(-p.offset)
		if !t.Before(p.start) && (i+1 == len(periods) || t.Before(periods[i+1].start)) {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 0:
		t := beforeGap(reading, periods)
		return t, t, ErrNonexistentTime
	case 1:
		return found[0], found[0], nil
	}
	return found[0], found[len(found)-1], ErrAmbiguousTime
}

// beforeGap resolves a reading that no period shows, with the offset before the change that skips it. The
// first period begins with an earlier reading. A period that does, and does not show this one, ends with
// an earlier one as well; so the change is the first to a period that begins with a later reading.
func beforeGap(reading time.Time, periods []period) time.Time {
	i := 0
	for i+1 < len(periods) && !periods[i+1].start.Add(periods[i+1].offset).After(reading) {
		i++
	}
	return reading.Add(-periods[i].offset)
}

// period is a time during which clocks in a zone keep one UTC offset. It ends where the next begins, which
// may have the same offset.
type period struct {
	start  time.Time
	offset time.Duration // positive is east
}

// maxOffset is further than any zone is from UTC. Zone files may have up to 26 hours (RFC 9636, 3.2); no
// zone has had 16.
const maxOffset = 26 * time.Hour

// periodsAround returns the periods of all instants at which clocks in loc could show the reading,
// in order.
func periodsAround(reading time.Time, loc *time.Location) []period {
	var periods []period
	t, more := reading.Add(-maxOffset), true
	for last := reading.Add(maxOffset); more && !t.After(last); t, more = nextBound(t, loc) {
		_, seconds := t.In(loc).Zone()
		periods = append(periods, period{t, time.Duration(seconds) * time.Second})
	}
	return periods
}

// nextBound returns an instant after t up to which clocks in loc do not change, and whether there is one:
// they may never change again.
//
// ZoneBounds has to be used with care where the rule at the end of a zone file governs and not the list
// of changes. There it ends each year's last period 365 days after New Year in UTC, so that on the last
// day of a leap year the end has passed already; no change is left then before midnight. And it begins a
// period where the rule would, although the list may have a later change; its start is not used here.
func nextBound(t time.Time, loc *time.Location) (bound time.Time, ok bool) {
	_, end := t.In(loc).ZoneBounds()
	if end.IsZero() {
		return end, false
	}
	if end.After(t) {
		return end, true
	}
	return t.Truncate(oneDay).Add(oneDay), true // days are counted in UTC here
}
