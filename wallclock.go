package soultribe

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	// A host without zone files, such as a container built from scratch, must not change which slots
	// can be stored. The 450 KB are read only for a zone that the host lacks.
	_ "time/tzdata"
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

// Weekly is an entry of a week plan: a time that comes back every week, by the clocks of a zone. From
// and To are times of day, in whole minutes since midnight. A To that is not after From is on the next
// day, so from 22h to 2h is four hours, from 22h to 0 two, and from 9h to 9h a day. From is below 24
// hours; To may be 24 hours, the end of the day.
//
// In JSON it is {"day":1,"from":"09:00","to":"17:30"}, where Sunday is 0 and all three are required.
type Weekly struct {
	Day  time.Weekday
	From time.Duration
	To   time.Duration
}

type weeklyJSON struct {
	Day  *time.Weekday `json:"day"`
	From string        `json:"from"`
	To   string        `json:"to"`
}

// MarshalJSON returns an [ErrInvalid] when w is not a valid entry.
func (w Weekly) MarshalJSON() ([]byte, error) {
	if err := w.check(""); err != nil {
		return nil, err
	}
	return json.Marshal(weeklyJSON{&w.Day, formatClock(w.From), formatClock(w.To)})
}

// UnmarshalJSON returns an [ErrInvalid] for a day, a time or a length that an entry cannot have, and
// the errors of [encoding/json] for what is of another form.
func (w *Weekly) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil // as encoding/json asks of every Unmarshaler
	}
	var in weeklyJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	if in.Day == nil {
		return invalid("day", "is required")
	}
	from, fromErr := parseClock("from", in.From)
	to, toErr := parseClock("to", in.To)
	if err := errors.Join(fromErr, toErr); err != nil {
		return err
	}
	parsed := Weekly{Day: *in.Day, From: from, To: to}
	if err := parsed.check(""); err != nil {
		return err
	}
	*w = parsed
	return nil
}

func formatClock(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", d/time.Hour, d%time.Hour/time.Minute)
}

// parseClock reads "00:00" to "24:00".
func parseClock(field, s string) (time.Duration, error) {
	if s == "24:00" {
		return oneDay, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil || t.Format("15:04") != s {
		return 0, invalid(field, "must be a time of day like 09:30")
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

// check returns an ErrInvalid for each field of w that is wrong, its name after the prefix.
func (w Weekly) check(prefix string) error {
	var errs []error
	if w.Day < time.Sunday || w.Day > time.Saturday {
		errs = append(errs, invalid(prefix+"day", "must be between 0 (Sunday) and 6 (Saturday)"))
	}
	if w.From < 0 || w.From >= oneDay || w.From%time.Minute != 0 {
		errs = append(errs, invalid(prefix+"from", "must be a whole minute of the day"))
	}
	if w.To < 0 || w.To > oneDay || w.To%time.Minute != 0 {
		errs = append(errs, invalid(prefix+"to", "must be a whole minute of the day"))
	}
	if errs == nil && w.length() < minSpan {
		errs = append(errs, invalid(prefix+"to", "must be at least 15 minutes after from"))
	}
	return errors.Join(errs...)
}

// length is what passes on the clock, from one minute to 24 hours.
func (w Weekly) length() time.Duration {
	if w.To <= w.From {
		return w.To - w.From + oneDay
	}
	return w.To - w.From
}

const maxWeekly = 200 // entries of a week plan

// WeeklySlots returns the slots of a week plan whose start lies in [from, to), by start. The end of
// the last one may lie beyond. All can be stored together: each lasts between 15 minutes and 24 hours,
// and no two overlap. Horizons that adjoin yield slots that together are those of the whole, so a plan
// may be laid out bit by bit; a long one has to be, for the Store takes only so many slots in one call.
//
//   - Entries of the plan that overlap make one slot. Those that only adjoin stay apart.
//   - Starts and ends are resolved as [ResolveLocal] does, each on its own; see [LocalSlot] for what
//     that means on the nights when clocks change. So 09:00 to 17:00 is that on every date.
//   - Where clocks skip a start or an end and it moves past its neighbours, slots that overlap now make
//     one, and what is empty or shorter than 15 minutes now is left out.
//   - What lasts more than 24 hours, such as the day on which clocks go back, is cut after each 24
//     hours, or somewhat before so that the rest is not below 15 minutes.
//   - With DSTReject, a start or an end that does not exist or occurs twice is an [ErrNonexistentTime]
//     or [ErrAmbiguousTime] that says the date. This holds for slots that have a part in [from, to),
//     and not for times inside a slot, where entries overlap.
//
// The plan may have up to 200 entries, and none is fine; the horizon may be up to 366 days long, in the
// years 1 to 9999. It returns an [ErrInvalid] for more than that, for a horizon that is empty or ends
// before it begins, for an entry that is no [Weekly] or shorter than 15 minutes, for an unknown zone
// and for an unknown d.
func WeeklySlots(week []Weekly, zone string, from, to time.Time, d Disambiguation) ([]NewSlot, error) {
	loc, zoneErr := loadZone(zone)
	if err := errors.Join(checkWeek(week), zoneErr, checkHorizon(from, to), d.check()); err != nil {
		return nil, err
	}
	laid, err := layOut(stretches(week), loc, from, to, d)
	if err != nil {
		return nil, err
	}
	slots := []NewSlot{}
	for _, whole := range mergeSlots(laid) {
		for _, s := range cutSlot(whole) {
			if s.End.Sub(s.Start) >= minSpan && !s.Start.Before(from) && s.Start.Before(to) {
				slots = append(slots, s)
			}
		}
	}
	return slots, nil
}

func checkWeek(week []Weekly) error {
	if len(week) > maxWeekly {
		return invalid("week", fmt.Sprintf("must have at most %d entries", maxWeekly))
	}
	var errs []error
	for i, w := range week {
		errs = append(errs, w.check(fmt.Sprintf("week[%d].", i)))
	}
	return errors.Join(errs...)
}

func checkHorizon(from, to time.Time) error {
	// The last slot may end that much later.
	if err := errors.Join(checkTime("from", from), checkTime("to", to.Add(maxSpan))); err != nil {
		return err
	}
	if !to.After(from) || to.Sub(from) > maxHorizon {
		return invalid("to", "must be after from, by 366 days at most")
	}
	return nil
}

// stretch is a part of the week that a plan covers, by the clock and counted from Monday 00:00. It may
// reach into the next week. A wholeDay stretch is a piece of a week without a gap, whose start and end
// are ours and not the plan's.
type stretch struct {
	from, to time.Duration
	wholeDay bool
}

// stretches returns the plan by start, what overlaps made one. It goes round the week, so that what it
// makes one does not depend on where a horizon begins.
func stretches(week []Weekly) []stretch {
	var all []stretch
	for _, w := range week {
		monday := time.Duration((w.Day+6)%7) * oneDay
		all = append(all, stretch{from: monday + w.From, to: monday + w.From + w.length()})
	}
	slices.SortFunc(all, func(a, b stretch) int { return cmp.Compare(a.from, b.from) })
	united := all[:0]
	for _, s := range all {
		if n := len(united); n > 0 && s.from < united[n-1].to {
			united[n-1].to = max(united[n-1].to, s.to)
		} else {
			united = append(united, s)
		}
	}
	// The last may reach into the first ones of the next week.
	for len(united) > 1 && united[len(united)-1].to > united[0].from+oneWeek {
		last := &united[len(united)-1]
		last.to = max(last.to, united[0].to+oneWeek)
		united = united[1:]
	}
	if len(united) == 1 && united[0].to-united[0].from > oneWeek {
		return wholeWeek()
	}
	return united
}

// wholeWeek covers a week with its days: a plan that overlaps all the way round has no start to cut from.
func wholeWeek() []stretch {
	days := make([]stretch, 7)
	for i := range days {
		from := time.Duration(i) * oneDay
		days[i] = stretch{from: from, to: from + oneDay, wholeDay: true}
	}
	return days
}

// layOut resolves the stretches on all dates that bear on the slots in [from, to). What lies outside
// is needed too, for a slot may begin earlier than one that it is made one with, or is cut from. A
// stretch lasts a week at most and a change of clocks joins it with one neighbour: 15 days are enough.
func layOut(plan []stretch, loc *time.Location, from, to time.Time, d Disambiguation) ([]NewSlot, error) {
	const margin = 16 * oneDay
	var laid []NewSlot
	// The zero Time is a Monday, 00:00, and so is what Truncate counts from it.
	for monday := from.UTC().Add(-margin).Truncate(oneWeek); monday.Before(to.Add(margin)); monday = monday.Add(oneWeek) {
		for _, s := range plan {
			rule := d
			if s.wholeDay {
				rule = DSTCompatible
			}
			start, startErr := resolve("week", monday.Add(s.from), loc, rule)
			end, endErr := resolve("week", monday.Add(s.to), loc, rule)
			// A start at or after its end is looked at too, in the horizon that it belongs to.
			inside := start.Before(to) && (!start.Before(from) || end.After(from))
			if err := errors.Join(startErr, endErr); err != nil && inside {
				return nil, err
			}
			if start.Before(end) {
				laid = append(laid, NewSlot{Start: start, End: end, Timezone: loc.String()})
			}
		}
	}
	return laid, nil
}

// mergeSlots returns the slots by start, those that overlap made one.
func mergeSlots(slots []NewSlot) []NewSlot {
	slices.SortFunc(slots, func(a, b NewSlot) int { return a.Start.Compare(b.Start) })
	merged := slots[:0]
	for _, s := range slots {
		n := len(merged)
		switch {
		case n == 0 || !s.Start.Before(merged[n-1].End):
			merged = append(merged, s)
		case s.End.After(merged[n-1].End):
			merged[n-1].End = s.End
		}
	}
	return merged
}

// cutSlot cuts what lasts more than 24 hours into adjacent pieces that do not, and of which none is
// shorter than a slot can be.
func cutSlot(s NewSlot) []NewSlot {
	var pieces []NewSlot
	for s.End.Sub(s.Start) > maxSpan {
		at := s.Start.Add(maxSpan)
		if s.End.Sub(at) < minSpan {
			at = s.End.Add(-minSpan)
		}
		pieces = append(pieces, NewSlot{Start: s.Start, End: at, Timezone: s.Timezone})
		s.Start = at
	}
	return append(pieces, s)
}

// zoneName is what a name in the tz database looks like. It leaves no way out of the directory, and
// leaves out what else lies there: the copies under posix and right, localtime, and files with a dot.
var zoneName = regexp.MustCompile(`^[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$`)

// zones keeps what loadZone has loaded, a *time.Location for each name: reading one again for every slot of
// a list would take longer than to read the slot. Only names of zones get in, some six hundred at most.
var zones sync.Map

// loadZone returns the zone with the given IANA name, "UTC" among them. It returns a *ValidationError
// for any other name, the empty one and "Local" included: both mean a zone to [time.LoadLocation], but
// not the same one on every host.
//
// The zones are those of the host, or of the directory or zip file that the environment variable
// ZONEINFO names, and where those have none of that name, those built in.
func loadZone(name string) (*time.Location, error) {
	kept, _ := zones.Load(name)
	if loc, ok := kept.(*time.Location); ok {
		return loc, nil
	}
	if name == "" {
		return nil, invalid("timezone", "is required")
	}
	if len(name) > 64 || name == "Local" || !zoneName.MatchString(name) {
		return nil, errZone
	}
	loc, err := time.LoadLocation(name)
	if err != nil || !spelledAsOnDisk(name) {
		return nil, errZone
	}
	zones.Store(strings.Clone(name), loc) // the name may be a part of something large
	return loc, nil
}

var errZone = invalid("timezone", "must be the name of an IANA time zone, like Europe/Vienna")

// spelledAsOnDisk reports whether a name for which there is a zone is in the right case. On a file
// system that ignores case, as macOS has it, "Europe/VIENNA" loads, and other hosts would not know it.
func spelledAsOnDisk(name string) bool {
	for _, dir := range zoneDirs() {
		if !spelledAsIn(dir, name) {
			return false
		}
	}
	return true
}

// zoneDirs returns the directories in which time.LoadLocation looks for zone files.
func zoneDirs() []string {
	dirs := []string{"/usr/share/zoneinfo", "/usr/share/lib/zoneinfo", "/usr/lib/locale/TZ", "/etc/zoneinfo"}
	if dir := os.Getenv("ZONEINFO"); dir != "" {
		dirs = append(dirs, dir)
	}
	return dirs
}

func spelledAsIn(dir, name string) bool {
	// Names have a capital letter. Where the name without it is a file too, case does not matter to the
	// file system, and the directories have to be listed to learn the right one.
	if _, err := os.Stat(filepath.Join(dir, strings.ToLower(name))); err != nil {
		return true
	}
	for part := range strings.SplitSeq(name, "/") {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return true
		}
		if !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == part }) {
			return false
		}
		dir = filepath.Join(dir, part)
	}
	return true
}
