package soultribe

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

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
