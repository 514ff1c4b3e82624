package soultribe_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/soultribe-chat/soultribe"
)

// In Vienna, clocks go from 02:00 to 03:00 in the last night of winter time, and from 03:00 back to
// 02:00 in the last one of summer time.
func ExampleResolveLocal() {
	for _, s := range []string{"2026-03-29T02:30", "2026-10-25T02:30"} {
		w, err := soultribe.ParseWall(s)
		if err != nil {
			panic(err)
		}
		for _, d := range []soultribe.Disambiguation{soultribe.DSTCompatible, soultribe.DSTLater, soultribe.DSTReject} {
			at, err := soultribe.ResolveLocal(w, "Europe/Vienna", d)
			if errors.Is(err, soultribe.ErrInvalid) {
				fmt.Println(d, "-", err)
				continue
			}
			fmt.Println(d, "-", at.Format(time.RFC3339))
		}
	}
	// Output:
	// compatible - 2026-03-29T01:30:00Z
	// later - 2026-03-29T01:30:00Z
	// reject - wall 2026-03-29T02:30 does not exist in Europe/Vienna
	// compatible - 2026-10-25T00:30:00Z
	// later - 2026-10-25T01:30:00Z
	// reject - wall 2026-10-25T02:30 occurs twice in Europe/Vienna
}

// From 01:30 to 02:30 in the night when 02:30 comes twice.
func ExampleLocalSlot() {
	start := soultribe.Wall{Year: 2026, Month: time.October, Day: 25, Hour: 1, Minute: 30}
	end := soultribe.Wall{Year: 2026, Month: time.October, Day: 25, Hour: 2, Minute: 30}
	for _, d := range []soultribe.Disambiguation{soultribe.DSTCompatible, soultribe.DSTLater} {
		slot, err := soultribe.LocalSlot(start, end, "Europe/Vienna", d)
		if err != nil {
			panic(err)
		}
		fmt.Println(d, "-", slot.Start.Format("15:04 MST"), "for", slot.End.Sub(slot.Start))
	}
	// Output:
	// compatible - 23:30 UTC for 1h0m0s
	// later - 23:30 UTC for 2h0m0s
}

// The clocks change between the two Mondays; the wall times of the slots do not. The Saturday night that
// is cut short by an hour ends at 03:30, for there is no 02:30.
func ExampleWeeklySlots() {
	week := []soultribe.Weekly{
		{Day: time.Monday, From: 18 * time.Hour, To: 20 * time.Hour},
		{Day: time.Saturday, From: 22 * time.Hour, To: 2*time.Hour + 30*time.Minute},
	}
	from := time.Date(2026, time.March, 23, 0, 0, 0, 0, time.UTC)
	slots, err := soultribe.WeeklySlots(week, "Europe/Vienna", from, from.AddDate(0, 0, 8), soultribe.DSTCompatible)
	if err != nil {
		panic(err)
	}
	vienna, err := time.LoadLocation("Europe/Vienna")
	if err != nil {
		panic(err)
	}
	for _, s := range slots {
		fmt.Println(s.Start.In(vienna).Format("Mon 02 Jan 15:04 MST"), "to", s.End.In(vienna).Format("15:04 MST"))
	}
	// Output:
	// Mon 23 Mar 18:00 CET to 20:00 CET
	// Sat 28 Mar 22:00 CET to 03:30 CEST
	// Mon 30 Mar 18:00 CEST to 20:00 CEST
}
