package soultribe

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func mustWall(t *testing.T, s string) Wall {
	t.Helper()
	w, err := ParseWall(s)
	if err != nil {
		t.Fatalf("ParseWall(%q): %v", s, err)
	}
	return w
}

func mustInstant(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at.UTC()
}

// errorFields returns the fields that err's validation errors name.
func errorFields(err error) []string {
	var names []string
	for _, v := range ValidationErrors(err) {
		names = append(names, v.Field)
	}
	return names
}

func TestParseWall(t *testing.T) {
	t.Parallel()
	want := Wall{2026, time.October, 25, 2, 30}
	for _, s := range []string{"2026-10-25T02:30", "2026-10-25 02:30", "2026-10-25T02:30:00", "2026-10-25 02:30:00"} {
		if w := mustWall(t, s); w != want {
			t.Errorf("ParseWall(%q) = %v", s, w)
		}
	}
	for _, s := range []string{"0001-01-01T00:00", "9999-12-31T23:59", "2024-02-29T00:00"} {
		if w := mustWall(t, s); w.String() != s {
			t.Errorf("ParseWall(%q) = %v", s, w)
		}
	}
	for _, s := range []string{
		"", "2026-10-25", "02:30", "2026-10-25T02", "2026-10-25T2:30", "2026-10-25T02:3", "26-10-25T02:30",
		"2026-10-25T02:30Z", "2026-10-25T02:30z", "2026-10-25T02:30:00Z", "2026-10-25T02:30+01", "2026-10-25T02:30+01:00", "2026-10-25T02:30-00:00",
		"2026-10-25T02:30:01", "2026-10-25T02:30:60", "2026-10-25T02:30:00.0", "2026-10-25T02:30:0", "2026-10-25T02:30:",
		"2026-02-30T02:30", "2025-02-29T02:30", "2026-00-25T02:30", "2026-13-25T02:30", "2026-10-00T02:30", "2026-10-32T02:30",
		"2026-10-25T24:00", "2026-10-25T25:00", "2026-10-25T02:60", "2026-10-25T-2:30", "2026-10-25T+2:30", "2026-10-25T 2:30",
		"0000-01-01T00:00", "10000-01-01T00:00", "-001-01-01T00:00", "+2026-10-25T02:30",
		" 2026-10-25T02:30", "2026-10-25T02:30 ", "2026-10-25T02:30\n", "2026-10-25t02:30", "2026-10-25  02:30", "2026-10-25\t02:30",
		"2026/10/25T02:30", "2026-10-25T02.30", "2026-10-25T02:30\x00", "2026-10-25T02:3٣", "２026-10-25T2:30",
		strings.Repeat("2026-10-25T02:30", 1000),
	} {
		w, err := ParseWall(s)
		if !errors.Is(err, ErrInvalid) || w != (Wall{}) || !slices.Equal(errorFields(err), []string{"wall"}) {
			t.Errorf("ParseWall(%q) = %v, %v", s, w, err)
		}
		if err != nil && len(err.Error()) > 120 {
			t.Errorf("ParseWall: an error of %d bytes", len(err.Error()))
		}
	}
}

func TestWallText(t *testing.T) {
	t.Parallel()
	type event struct {
		At   Wall  `json:"at"`
		Then *Wall `json:"then"`
	}
	var e event
	if err := json.Unmarshal([]byte(`{"at":"2026-10-25 02:30:00","then":null}`), &e); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(e)
	if err != nil || string(text) != `{"at":"2026-10-25T02:30","then":null}` {
		t.Errorf("%s, %v", text, err)
	}
	if err := json.Unmarshal([]byte(`{"at":"2026-10-25T02:30Z"}`), &e); !errors.Is(err, ErrInvalid) {
		t.Errorf("an offset: %v", err)
	}
	if e.At != (Wall{2026, time.October, 25, 2, 30}) {
		t.Errorf("a refused text has left %v", e.At)
	}
	for _, w := range []Wall{{}, {2026, 2, 30, 0, 0}, {10000, 1, 1, 0, 0}, {2026, 13, 1, 0, 0}, {2026, 1, 1, 24, 0}, {2026, 1, 1, -1, 0}, {2026, 1, 1, 0, 60}} {
		if _, err := w.MarshalText(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v.MarshalText: %v", w, err)
		}
	}
}

func FuzzParseWall(f *testing.F) {
	for _, s := range []string{"2026-10-25T02:30", "2026-10-25 02:30:00", "2026-02-29T02:30", "2026-10-25T02:30Z", "0000-01-01T00:00", "9999-12-31T23:59", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w, err := ParseWall(s)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || w != (Wall{}) {
				t.Fatalf("%v, %v", w, err)
			}
			return
		}
		if want := strings.Replace(s[:16], " ", "T", 1); w.String() != want {
			t.Fatalf("%q is read as %v", s, w)
		}
		text, err := w.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var again Wall
		if err := again.UnmarshalText(text); err != nil || again != w {
			t.Fatalf("%v comes back as %v, %v", w, again, err)
		}
		if at, err := ResolveLocal(w, "UTC", DSTReject); err != nil || wallAt(at) != w {
			t.Fatalf("%v is %v in UTC, %v", w, at, err)
		}
	})
}

func TestDisambiguation(t *testing.T) {
	t.Parallel()
	for d, want := range map[Disambiguation]string{DSTCompatible: "compatible", DSTLater: "later", DSTReject: "reject", 7: "Disambiguation(7)"} {
		if d.String() != want {
			t.Errorf("%d: %v", d, d)
		}
	}
	if d := Disambiguation(0); d != DSTCompatible {
		t.Errorf("the zero value is %v", d)
	}
}

func TestResolveLocal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		zone, wall string
		compatible string
		later      string // where it is another
		doubt      error
	}{
		{"Europe/Vienna", "2026-03-29T01:59", "2026-03-29T00:59:00Z", "", nil},
		{"Europe/Vienna", "2026-03-29T02:00", "2026-03-29T01:00:00Z", "", ErrNonexistentTime},
		{"Europe/Vienna", "2026-03-29T02:30", "2026-03-29T01:30:00Z", "", ErrNonexistentTime},
		{"Europe/Vienna", "2026-03-29T03:00", "2026-03-29T01:00:00Z", "", nil},
		{"Europe/Vienna", "2026-10-25T01:59", "2026-10-24T23:59:00Z", "", nil},
		{"Europe/Vienna", "2026-10-25T02:00", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", ErrAmbiguousTime},
		{"Europe/Vienna", "2026-10-25T02:30", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", ErrAmbiguousTime},
		{"Europe/Vienna", "2026-10-25T03:00", "2026-10-25T02:00:00Z", "", nil},
		{"America/New_York", "2026-03-08T02:30", "2026-03-08T07:30:00Z", "", ErrNonexistentTime},
		{"America/New_York", "2026-11-01T01:30", "2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z", ErrAmbiguousTime},
		// Clocks change at midnight.
		{"America/Havana", "2026-03-08T00:30", "2026-03-08T05:30:00Z", "", ErrNonexistentTime},
		{"America/Sao_Paulo", "2018-11-04T00:00", "2018-11-04T03:00:00Z", "", ErrNonexistentTime},
		// By half an hour.
		{"Australia/Lord_Howe", "2026-10-04T02:15", "2026-10-03T15:45:00Z", "", ErrNonexistentTime},
		{"Australia/Lord_Howe", "2026-10-04T02:30", "2026-10-03T15:30:00Z", "", nil},
		{"Australia/Lord_Howe", "2026-04-05T01:45", "2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z", ErrAmbiguousTime},
		// The winter's time is the one that counts as daylight saving time, and it is behind.
		{"Europe/Dublin", "2026-03-29T01:30", "2026-03-29T01:30:00Z", "", ErrNonexistentTime},
		{"Europe/Dublin", "2026-10-25T01:30", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", ErrAmbiguousTime},
		{"Africa/Casablanca", "2026-02-15T02:30", "2026-02-15T01:30:00Z", "2026-02-15T02:30:00Z", ErrAmbiguousTime},
		{"Africa/Casablanca", "2026-03-22T02:30", "2026-03-22T02:30:00Z", "", ErrNonexistentTime},
		// A new standard time.
		{"Asia/Kathmandu", "1986-01-01T00:05", "1985-12-31T18:35:00Z", "", ErrNonexistentTime},
		{"Asia/Singapore", "1981-12-31T23:45", "1981-12-31T16:15:00Z", "", ErrNonexistentTime},
		{"America/Caracas", "2007-12-09T02:45", "2007-12-09T06:45:00Z", "2007-12-09T07:15:00Z", ErrAmbiguousTime},
		{"Africa/Monrovia", "1972-01-06T23:59", "1972-01-07T00:43:30Z", "", nil},
		{"Africa/Monrovia", "1972-01-07T00:20", "1972-01-07T01:04:30Z", "", ErrNonexistentTime},
		{"Africa/Monrovia", "1972-01-07T00:44", "1972-01-07T01:28:30Z", "", ErrNonexistentTime},
		{"Africa/Monrovia", "1972-01-07T00:45", "1972-01-07T00:45:00Z", "", nil},
		// From one side of the date line to the other: a day that was not, and one that came twice.
		{"Pacific/Apia", "2011-12-29T23:59", "2011-12-30T09:59:00Z", "", nil},
		{"Pacific/Apia", "2011-12-30T00:00", "2011-12-30T10:00:00Z", "", ErrNonexistentTime},
		{"Pacific/Apia", "2011-12-30T23:59", "2011-12-31T09:59:00Z", "", ErrNonexistentTime},
		{"Pacific/Apia", "2011-12-31T00:00", "2011-12-30T10:00:00Z", "", nil},
		{"Pacific/Kwajalein", "1993-08-21T12:00", "1993-08-22T00:00:00Z", "", ErrNonexistentTime},
		{"Pacific/Kiritimati", "1994-12-31T12:00", "1994-12-31T22:00:00Z", "", ErrNonexistentTime},
		{"America/Juneau", "1867-10-19T12:00", "1867-10-18T20:57:41Z", "1867-10-19T20:57:41Z", ErrAmbiguousTime},
		// The last change in the list is not where the rule would have one; ZoneBounds gets its start wrong.
		{"America/Ciudad_Juarez", "2022-11-10T12:00", "2022-11-10T18:00:00Z", "", nil},
		{"America/Ciudad_Juarez", "2022-11-29T23:30", "2022-11-30T05:30:00Z", "2022-11-30T06:30:00Z", ErrAmbiguousTime},
		// By rule, far from now, and on the last day of leap years, where ZoneBounds gets the end wrong.
		{"Europe/Vienna", "2040-12-31T23:30", "2040-12-31T22:30:00Z", "", nil},
		{"Australia/Sydney", "2040-12-31T23:30", "2040-12-31T12:30:00Z", "", nil},
		{"Australia/Sydney", "2096-10-07T02:30", "2096-10-06T16:30:00Z", "", ErrNonexistentTime},
		{"Australia/Sydney", "2096-04-01T02:30", "2096-03-31T15:30:00Z", "2096-03-31T16:30:00Z", ErrAmbiguousTime},
		{"America/New_York", "9999-07-04T12:00", "9999-07-04T16:00:00Z", "", nil},
		{"Europe/Vienna", "9999-12-31T23:59", "9999-12-31T22:59:00Z", "", nil},
		{"Europe/Vienna", "0001-01-01T12:00", "0001-01-01T10:54:39Z", "", nil},
		{"UTC", "0001-01-01T00:00", "0001-01-01T00:00:00Z", "", nil},
		{"UTC", "0001-01-02T02:00", "0001-01-02T02:00:00Z", "", nil},
		{"UTC", "9999-12-31T23:59", "9999-12-31T23:59:00Z", "", nil},
		{"Etc/UTC", "2026-03-29T02:30", "2026-03-29T02:30:00Z", "", nil},
		{"Etc/GMT-14", "2026-03-29T02:30", "2026-03-28T12:30:00Z", "", nil},
		{"Etc/GMT+12", "2026-03-29T02:30", "2026-03-29T14:30:00Z", "", nil},
		{"Factory", "2026-03-29T02:30", "2026-03-29T02:30:00Z", "", nil},
	} {
		w := mustWall(t, test.wall)
		compatible := mustInstant(t, test.compatible)
		later := compatible
		if test.later != "" {
			later = mustInstant(t, test.later)
		}
		if at, err := ResolveLocal(w, test.zone, DSTCompatible); err != nil || !at.Equal(compatible) || at.Location() != time.UTC {
			t.Errorf("%v in %s, compatible: %v, %v, want %v", w, test.zone, at, err, compatible)
		}
		if at, err := ResolveLocal(w, test.zone, DSTLater); err != nil || !at.Equal(later) {
			t.Errorf("%v in %s, later: %v, %v, want %v", w, test.zone, at, err, later)
		}
		at, err := ResolveLocal(w, test.zone, DSTReject)
		want := compatible
		if test.doubt != nil {
			want = time.Time{}
		}
		if !errors.Is(err, test.doubt) || !at.Equal(want) {
			t.Errorf("%v in %s, reject: %v, %v, want %v", w, test.zone, at, err, test.doubt)
		}
	}
}

func TestResolveLocalOutsideTheYears(t *testing.T) {
	t.Parallel()
	at, err := ResolveLocal(Wall{1, time.January, 1, 0, 0}, "Asia/Tokyo", DSTReject)
	if want := time.Date(0, time.December, 31, 14, 41, 1, 0, time.UTC); err != nil || !at.Equal(want) {
		t.Errorf("%v, %v, want %v", at, err, want)
	}
	at, err = ResolveLocal(Wall{9999, time.December, 31, 23, 59}, "Etc/GMT+12", DSTReject)
	if want := time.Date(10000, time.January, 1, 11, 59, 0, 0, time.UTC); err != nil || !at.Equal(want) {
		t.Errorf("%v, %v, want %v", at, err, want)
	}
}

func TestResolveLocalErrors(t *testing.T) {
	t.Parallel()
	w := Wall{2026, time.October, 25, 2, 30}
	for _, test := range []struct {
		wall   Wall
		zone   string
		d      Disambiguation
		fields []string
	}{
		{Wall{}, "UTC", DSTCompatible, []string{"wall"}},
		{Wall{2026, time.February, 30, 0, 0}, "UTC", DSTCompatible, []string{"wall"}},
		{Wall{0, time.January, 1, 0, 0}, "UTC", DSTCompatible, []string{"wall"}},
		{Wall{10000, time.January, 1, 0, 0}, "UTC", DSTCompatible, []string{"wall"}},
		{Wall{2026, time.January, 1, 24, 0}, "UTC", DSTCompatible, []string{"wall"}},
		{w, "", DSTCompatible, []string{"timezone"}},
		{w, "Europe/Atlantis", DSTCompatible, []string{"timezone"}},
		{w, "UTC", 3, []string{"disambiguation"}},
		{w, "UTC", -1, []string{"disambiguation"}},
		{w, "Europe/Vienna", DSTReject, []string{"wall"}},
		{Wall{}, "", 3, []string{"wall", "timezone", "disambiguation"}},
	} {
		at, err := ResolveLocal(test.wall, test.zone, test.d)
		if !at.IsZero() || !errors.Is(err, ErrInvalid) || !slices.Equal(errorFields(err), test.fields) {
			t.Errorf("%v in %q, %v: %v, %v", test.wall, test.zone, test.d, at, err)
		}
	}
	_, err := ResolveLocal(w, "Europe/Vienna", DSTReject)
	if err == nil || err.Error() != "wall 2026-10-25T02:30 occurs twice in Europe/Vienna" || Code(err) != "ambiguous_time" {
		t.Errorf("%v, %s", err, Code(err))
	}
	_, err = ResolveLocal(Wall{2026, time.March, 29, 2, 30}, "Europe/Vienna", DSTReject)
	if err == nil || err.Error() != "wall 2026-03-29T02:30 does not exist in Europe/Vienna" || Code(err) != "nonexistent_time" {
		t.Errorf("%v, %s", err, Code(err))
	}
}

// zoneFiles returns the zone files that come with Go, by name.
func zoneFiles(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := readZoneFiles()
	if err != nil {
		t.Fatal(err)
	}
	// A database that lacks half its zones would let everything below pass.
	if len(files) < 400 {
		t.Fatalf("%d zone files found", len(files))
	}
	return files
}

var readZoneFiles = sync.OnceValues(func() (map[string][]byte, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	archive, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	files := make(map[string][]byte)
	for _, f := range archive.File {
		if f.FileInfo().IsDir() {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		files[f.Name] = data
	}
	return files, nil
})

// differentZones returns the zones that come with Go, those that are copies of another left out.
func differentZones(t *testing.T) []*time.Location {
	t.Helper()
	files := zoneFiles(t)
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	seen := make(map[string]bool)
	var zones []*time.Location
	for _, name := range names {
		if data := string(files[name]); !seen[data] {
			seen[data] = true
			loc, err := time.LoadLocationFromTZData(name, files[name])
			if err != nil {
				t.Fatal(err)
			}
			zones = append(zones, loc)
		}
	}
	return zones
}

// TestEveryChangeOfEveryZone compares with what clocks are seen to show, instant by instant.
func TestEveryChangeOfEveryZone(t *testing.T) {
	t.Parallel()
	zones := differentZones(t)
	if testing.Short() {
		few := zones[:0]
		for i := 0; i < len(zones); i += 10 {
			few = append(few, zones[i])
		}
		zones = few
	}
	queue := make(chan *time.Location)
	var mu sync.Mutex
	var changes, readings int
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for loc := range queue {
				c, r := checkChanges(t, loc)
				mu.Lock()
				changes += c
				readings += r
				mu.Unlock()
			}
		})
	}
	for _, loc := range zones {
		queue <- loc
	}
	close(queue)
	workers.Wait()
	t.Logf("%d readings around %d changes in %d zones", readings, changes, len(zones))
	if changes < 50*len(zones) {
		t.Errorf("only %d changes in %d zones", changes, len(zones))
	}
}

func offsetAt(sec int64, loc *time.Location) int64 {
	_, offset := time.Unix(sec, 0).In(loc).Zone()
	return int64(offset)
}

// changesOf returns the first second of each offset of loc from 1840 to 2041. It looks twice a day.
func changesOf(loc *time.Location) []int64 {
	const step = 12 * 3600
	var changes []int64
	start := time.Date(1840, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	last := time.Date(2041, 3, 1, 0, 0, 0, 0, time.UTC).Unix()
	after := offsetAt(start, loc)
	for t := start + step; t < last; t += step {
		before := after
		if after = offsetAt(t, loc); after != before {
			low, high := t-step, t
			for high-low > 1 {
				if middle := (low + high) / 2; offsetAt(middle, loc) == before {
					low = middle
				} else {
					high = middle
				}
			}
			changes = append(changes, high)
		}
	}
	return changes
}

// checkChanges compares the readings around each change of loc, and returns how many there were of both.
func checkChanges(t *testing.T, loc *time.Location) (changes, readings int) {
	t.Helper()
	all := changesOf(loc)
	for i, at := range all {
		before, after := offsetAt(at-1, loc), offsetAt(at, loc)
		margin := max(before-after, after-before) + 3*3600
		near := func(j int) bool { return j >= 0 && j < len(all) && max(all[j]-at, at-all[j]) < 2*86400 }
		if near(i-1) || near(i+1) {
			margin = 2 * 86400
		}
		low, high := (at+min(before, after))/60, (at+max(before, after))/60
		seen := watch(loc, at, margin, low-60, high+60)
		for minute := low - 60; minute <= high+60; minute++ {
			// Some minutes will do, but all of those next to where something begins or ends.
			if minute%13 != 0 && max(minute-low, low-minute) > 2 && max(minute-high, high-minute) > 2 {
				continue
			}
			readings++
			wantFirst, wantLast, wantDoubt := seen.resolve(minute)
			first, last, doubt := occurrences(time.Unix(minute*60, 0).UTC(), loc)
			if first.Unix() != wantFirst || last.Unix() != wantLast || !errors.Is(doubt, wantDoubt) {
				t.Errorf("%v in %v is %v, %v (%v), want %v, %v (%v)", wallAt(time.Unix(minute*60, 0).UTC()), loc,
					first, last, doubt, time.Unix(wantFirst, 0).UTC(), time.Unix(wantLast, 0).UTC(), wantDoubt)
				return len(all), readings
			}
		}
	}
	return len(all), readings
}

// watched is what clocks were seen to show.
type watched struct {
	shown map[int64][]int64 // by minute of the reading, the instants
	jumps []jump
}

// jump is a second, or a minute, after which clocks show something far ahead.
type jump struct{ from, to, offset int64 }

// watch looks at the clocks of loc around an instant, second by second where offsets have seconds, and
// notes when they show the readings from low to high, in minutes.
func watch(loc *time.Location, at, margin, low, high int64) watched {
	step := int64(60)
	if at%60 != 0 || offsetAt(at-1, loc)%60 != 0 || offsetAt(at, loc)%60 != 0 || offsetAt(at-margin, loc)%60 != 0 || offsetAt(at+margin, loc)%60 != 0 {
		step = 1
	}
	w := watched{shown: make(map[int64][]int64)}
	previous := int64(0)
	for t := at - margin; t <= at+margin; t += step {
		offset := offsetAt(t, loc)
		reading := t + offset
		if reading%60 == 0 && reading/60 >= low && reading/60 <= high {
			w.shown[reading/60] = append(w.shown[reading/60], t)
		}
		if t > at-margin && reading > previous+step {
			w.jumps = append(w.jumps, jump{previous, reading, offsetAt(t-step, loc)})
		}
		previous = reading
	}
	return w
}

func (w watched) resolve(minute int64) (first, last int64, doubt error) {
	switch shown := w.shown[minute]; len(shown) {
	case 0:
		for _, j := range w.jumps {
			if j.from < minute*60 && minute*60 < j.to {
				return minute*60 - j.offset, minute*60 - j.offset, ErrNonexistentTime
			}
		}
		return 0, 0, errors.New("neither seen nor skipped")
	case 1:
		return shown[0], shown[0], nil
	default:
		return shown[0], shown[len(shown)-1], ErrAmbiguousTime
	}
}

// TestRoundTripInEveryZone reads the clock at instants of all times and resolves what it shows.
func TestRoundTripInEveryZone(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	from, to := firstTime.Add(maxOffset).Unix(), lastTime.Add(-maxOffset).Unix()
	for _, loc := range differentZones(t) {
		for range 200 {
			at := time.Unix(from+random.Int64N(to-from), 0).In(loc)
			if random.IntN(2) == 0 { // half of them in the years that have changes
				at = time.Unix(random.Int64N(5e9)-2e9, 0).In(loc)
			}
			at = at.Add(-time.Duration(at.Second()) * time.Second)
			reading := wallAt(at).reading()
			first, last, doubt := occurrences(reading, loc)
			if errors.Is(doubt, ErrNonexistentTime) || !at.Equal(first) && !at.Equal(last) || (doubt == nil) != first.Equal(last) {
				t.Fatalf("%v, shown at %v, is %v, %v (%v)", wallAt(at), at, first, last, doubt)
			}
		}
	}
}

func TestFirstAndLastDays(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"UTC", "Asia/Manila", "America/Juneau", "Australia/Lord_Howe", "Etc/GMT-14"} {
		loc, err := loadZone(zone)
		if err != nil {
			t.Fatal(err)
		}
		for _, start := range []Wall{{1, time.January, 1, 0, 0}, {9999, time.December, 29, 0, 0}} {
			for i := range 3 * 24 * 6 {
				reading := start.reading().Add(time.Duration(i) * 10 * time.Minute)
				at, err := ResolveLocal(wallAt(reading), zone, DSTReject)
				if err != nil || wallAt(at.In(loc)) != wallAt(reading) {
					t.Fatalf("%v in %s: %v, %v", wallAt(reading), zone, at, err)
				}
			}
		}
	}
}

func TestLoadZone(t *testing.T) {
	t.Parallel()
	for name := range zoneFiles(t) {
		loc, err := loadZone(name)
		if err != nil || loc.String() != name {
			t.Errorf("loadZone(%q) = %v, %v", name, loc, err)
		}
	}
	for _, name := range []string{
		"", "Local", "local", "utc", "Utc", "localtime", "posixrules", "posix/Europe/Vienna", "right/Europe/Vienna", "europe/vienna",
		"Europe/vienna", "EUROPE/VIENNA", "Europe", "Europe/", "Europe//Vienna", "/Europe/Vienna", "/usr/share/zoneinfo/Europe/Vienna", "./Europe/Vienna",
		"../zoneinfo/Europe/Vienna", "Europe/../Europe/Vienna", "Europe/./Vienna", `Europe\Vienna`, `\Europe\Vienna`, `C:\zoneinfo\UTC`,
		"tzdata.zi", "zone.tab", "zone1970.tab", "leapseconds", "leap-seconds.list", "SECURITY", "+VERSION", "README",
		" UTC", "UTC ", "UTC\n", "UTC\x00", "Europe/Vienna\x00", "Europe/Vienná", "Ünion/City", "CET+1", "UTC+2", "GMT+3", "+02:00", "Z", "CEST", "M3.2.0",
		"Europe/Atlantis", "A" + strings.Repeat("a", 64), strings.Repeat("Europe/", 1000) + "Vienna", "America/../../../../etc/passwd",
	} {
		loc, err := loadZone(name)
		var v *ValidationError
		if loc != nil || !errors.As(err, &v) || v.Field != "timezone" || !errors.Is(err, ErrInvalid) || len(err.Error()) > 100 {
			t.Errorf("loadZone(%q) = %v, %v", name, loc, err)
		}
	}
}

// TestSpelling imitates a file system that ignores case with links that have the other spellings.
func TestSpelling(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, region := range []string{"Europe", "europe"} {
		if err := os.MkdirAll(filepath.Join(dir, region), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"Europe/Vienna", "europe/vienna", "Zulu", "zulu", "Cuba"} {
		if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]bool{
		"Europe/Vienna": true, "EUROPE/Vienna": false, "Europe/VIENNA": false, "Europe/vienna": false, "Zulu": true, "ZULU": false,
		"Cuba": true, "CUBA": true, // here the file system tells them apart, and would not have found it
		"Asia/Tokyo": true, // elsewhere
	} {
		if spelledAsIn(dir, name) != want {
			t.Errorf("%q: %t", name, !want)
		}
	}
}

func TestLocalSlot(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		start, end string
		d          Disambiguation
		from, to   string
	}{
		{"2026-06-01T09:00", "2026-06-01T17:00", DSTCompatible, "2026-06-01T07:00:00Z", "2026-06-01T15:00:00Z"},
		{"2026-10-25T02:30", "2026-10-25T02:45", DSTCompatible, "2026-10-25T00:30:00Z", "2026-10-25T00:45:00Z"},
		{"2026-10-25T02:30", "2026-10-25T02:45", DSTLater, "2026-10-25T01:30:00Z", "2026-10-25T01:45:00Z"},
		{"2026-10-25T01:30", "2026-10-25T02:30", DSTCompatible, "2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z"},
		{"2026-10-25T01:30", "2026-10-25T02:30", DSTLater, "2026-10-24T23:30:00Z", "2026-10-25T01:30:00Z"},
		{"2026-10-25T02:30", "2026-10-25T03:30", DSTCompatible, "2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"},
		{"2026-10-25T02:30", "2026-10-25T03:30", DSTLater, "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"},
		{"2026-10-25T01:30", "2026-10-25T03:30", DSTReject, "2026-10-24T23:30:00Z", "2026-10-25T02:30:00Z"},
		{"2026-03-29T01:30", "2026-03-29T02:30", DSTCompatible, "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"},
		{"2026-03-29T02:30", "2026-03-29T04:00", DSTLater, "2026-03-29T01:30:00Z", "2026-03-29T02:00:00Z"},
	} {
		got, err := LocalSlot(mustWall(t, test.start), mustWall(t, test.end), "Europe/Vienna", test.d)
		want := NewSlot{mustInstant(t, test.from), mustInstant(t, test.to), "Europe/Vienna"}
		if err != nil || got != want {
			t.Errorf("%s to %s, %v: %v, %v, want %v", test.start, test.end, test.d, got, err, want)
		}
	}
}

func TestLocalSlotErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		start, end, zone string
		d                Disambiguation
		fields           []string
		is               error
	}{
		{"2026-06-01T09:00", "2026-06-01T09:00", "Europe/Vienna", DSTCompatible, []string{"end"}, ErrInvalid},
		{"2026-06-01T09:00", "2026-06-01T08:00", "Europe/Vienna", DSTCompatible, []string{"end"}, ErrInvalid},
		{"2026-03-29T02:30", "2026-03-29T03:15", "Europe/Vienna", DSTCompatible, []string{"end"}, ErrInvalid},
		{"2026-10-25T02:45", "2026-10-25T02:30", "Europe/Vienna", DSTCompatible, []string{"end"}, ErrInvalid},
		{"2026-10-25T02:30", "2026-10-25T04:30", "Europe/Vienna", DSTReject, []string{"start"}, ErrAmbiguousTime},
		{"2026-03-29T01:30", "2026-03-29T02:30", "Europe/Vienna", DSTReject, []string{"end"}, ErrNonexistentTime},
		{"2026-03-29T02:15", "2026-03-29T02:45", "Europe/Vienna", DSTReject, []string{"start", "end"}, ErrNonexistentTime},
		{"2026-06-01T09:00", "2026-06-01T10:00", "Local", DSTCompatible, []string{"timezone"}, ErrInvalid},
		{"2026-06-01T09:00", "2026-06-01T10:00", "UTC", 9, []string{"disambiguation"}, ErrInvalid},
	} {
		got, err := LocalSlot(mustWall(t, test.start), mustWall(t, test.end), test.zone, test.d)
		if got != (NewSlot{}) || !errors.Is(err, test.is) || !slices.Equal(errorFields(err), test.fields) {
			t.Errorf("%s to %s in %s, %v: %v, %v", test.start, test.end, test.zone, test.d, got, err)
		}
	}
	if _, err := LocalSlot(Wall{}, Wall{}, "", 9); !slices.Equal(errorFields(err), []string{"start", "end", "timezone", "disambiguation"}) {
		t.Error(err)
	}
}

// mustClock returns the time of day that s shows.
func mustClock(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := parseClock("clock", s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// weekPlan returns a plan of entries such as "Sun 22:00 02:00".
func weekPlan(t *testing.T, entries ...string) []Weekly {
	t.Helper()
	var week []Weekly
	for _, e := range entries {
		parts := strings.Fields(e)
		d := time.Sunday
		for d.String()[:3] != parts[0] {
			d++
		}
		week = append(week, Weekly{d, mustClock(t, parts[1]), mustClock(t, parts[2])})
	}
	return week
}

// localTimes writes slots as clocks in their zone show them.
func localTimes(t *testing.T, slots []NewSlot) []string {
	t.Helper()
	lines := []string{}
	for _, s := range slots {
		loc, err := loadZone(s.Timezone)
		if err != nil {
			t.Fatal(err)
		}
		start := strings.TrimSuffix(s.Start.In(loc).Format("2006-01-02 15:04 -07:00"), ":00")
		lines = append(lines, start+" "+s.End.Sub(s.Start).String())
	}
	return lines
}

func TestWeeklySlots(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		week     []Weekly
		zone     string
		from, to string // wall times in the zone
		d        Disambiguation
		want     []string
	}{
		{"office hours keep their wall time", weekPlan(t, "Sat 09:00 17:00", "Mon 09:00 17:00"), "Europe/Vienna", "2026-03-28T00:00", "2026-03-31T00:00", DSTReject,
			[]string{"2026-03-28 09:00 +01 8h0m0s", "2026-03-30 09:00 +02 8h0m0s"}},
		{"a start counts, an end does not", weekPlan(t, "Mon 09:00 17:00"), "Europe/Vienna", "2026-06-01T09:00", "2026-06-08T09:00", DSTReject,
			[]string{"2026-06-01 09:00 +02 8h0m0s"}},
		{"one that has begun is not in it", weekPlan(t, "Mon 09:00 17:00"), "Europe/Vienna", "2026-06-01T09:01", "2026-06-08T09:01", DSTReject,
			[]string{"2026-06-08 09:00 +02 8h0m0s"}},
		{"into the next day, three spellings", weekPlan(t, "Mon 22:00 02:00", "Wed 22:00 00:00", "Fri 22:00 24:00"), "Europe/Vienna", "2026-06-01T00:00", "2026-06-08T00:00", DSTReject,
			[]string{"2026-06-01 22:00 +02 4h0m0s", "2026-06-03 22:00 +02 2h0m0s", "2026-06-05 22:00 +02 2h0m0s"}},
		{"whole days, three spellings", weekPlan(t, "Mon 09:00 09:00", "Wed 00:00 24:00", "Fri 00:00 00:00"), "Europe/Vienna", "2026-06-01T00:00", "2026-06-08T00:00", DSTReject,
			[]string{"2026-06-01 09:00 +02 24h0m0s", "2026-06-03 00:00 +02 24h0m0s", "2026-06-05 00:00 +02 24h0m0s"}},
		{"overlapping entries are one, adjoining ones are not", weekPlan(t, "Mon 12:00 13:00", "Mon 09:00 11:00", "Mon 10:00 12:00", "Mon 10:00 12:00"), "Europe/Vienna", "2026-06-01T00:00", "2026-06-08T00:00", DSTReject,
			[]string{"2026-06-01 09:00 +02 3h0m0s", "2026-06-01 12:00 +02 1h0m0s"}},
		{"over the end of the week", weekPlan(t, "Sun 22:00 03:00", "Mon 02:00 04:00", "Mon 03:30 05:00", "Mon 05:00 06:00"), "Europe/Vienna", "2026-06-07T00:00", "2026-06-09T00:00", DSTReject,
			[]string{"2026-06-07 22:00 +02 7h0m0s", "2026-06-08 05:00 +02 1h0m0s"}},
		{"more than a day is cut", weekPlan(t, "Mon 20:00 20:00", "Tue 10:00 10:00"), "Europe/Vienna", "2026-06-01T00:00", "2026-06-08T00:00", DSTReject,
			[]string{"2026-06-01 20:00 +02 24h0m0s", "2026-06-02 20:00 +02 14h0m0s"}},
		{"and no piece is too short", weekPlan(t, "Mon 20:00 20:00", "Tue 19:00 20:10"), "Europe/Vienna", "2026-06-01T00:00", "2026-06-08T00:00", DSTReject,
			[]string{"2026-06-01 20:00 +02 23h55m0s", "2026-06-02 19:55 +02 15m0s"}},
		{"an empty plan", nil, "Europe/Vienna", "2026-06-01T00:00", "2026-06-08T00:00", DSTReject, []string{}},

		{"spring: a start is skipped", weekPlan(t, "Sun 02:30 04:00"), "Europe/Vienna", "2026-03-29T00:00", "2026-03-30T00:00", DSTCompatible,
			[]string{"2026-03-29 03:30 +02 30m0s"}},
		{"spring: both are skipped", weekPlan(t, "Sun 02:15 02:45"), "Europe/Vienna", "2026-03-29T00:00", "2026-03-30T00:00", DSTCompatible,
			[]string{"2026-03-29 03:15 +02 30m0s"}},
		{"spring: an end moves over the next start", weekPlan(t, "Sun 01:00 02:30", "Sun 03:00 05:00"), "Europe/Vienna", "2026-03-29T00:00", "2026-03-30T00:00", DSTCompatible,
			[]string{"2026-03-29 01:00 +01 3h0m0s"}},
		{"spring: an end moves to the next start", weekPlan(t, "Sun 01:00 02:30", "Sun 02:30 04:00"), "Europe/Vienna", "2026-03-29T00:00", "2026-03-30T00:00", DSTCompatible,
			[]string{"2026-03-29 01:00 +01 1h30m0s", "2026-03-29 03:30 +02 30m0s"}},
		{"spring: a start moves past the end", weekPlan(t, "Sun 02:30 03:15"), "Europe/Vienna", "2026-03-29T00:00", "2026-03-30T00:00", DSTCompatible, []string{}},
		{"spring: too little is left", weekPlan(t, "Sun 02:30 03:40"), "Europe/Vienna", "2026-03-29T00:00", "2026-03-30T00:00", DSTCompatible, []string{}},
		{"spring: too little is left, but it adds to another", weekPlan(t, "Sun 02:30 03:40", "Sun 01:00 02:35"), "Europe/Vienna", "2026-03-29T00:00", "2026-03-30T00:00", DSTCompatible,
			[]string{"2026-03-29 01:00 +01 1h40m0s"}},
		{"spring: the day has 23 hours", weekPlan(t, "Sun 00:00 24:00"), "Europe/Vienna", "2026-03-29T00:00", "2026-03-30T00:00", DSTReject,
			[]string{"2026-03-29 00:00 +01 23h0m0s"}},

		{"autumn: the first of two", weekPlan(t, "Sun 01:30 02:30", "Sun 02:30 02:45", "Sun 02:45 03:15"), "Europe/Vienna", "2026-10-25T00:00", "2026-10-26T00:00", DSTCompatible,
			[]string{"2026-10-25 01:30 +02 1h0m0s", "2026-10-25 02:30 +02 15m0s", "2026-10-25 02:45 +02 1h30m0s"}},
		{"autumn: the last of two", weekPlan(t, "Sun 01:30 02:30", "Sun 02:30 02:45", "Sun 02:45 03:15"), "Europe/Vienna", "2026-10-25T00:00", "2026-10-26T00:00", DSTLater,
			[]string{"2026-10-25 01:30 +02 2h0m0s", "2026-10-25 02:30 +01 15m0s", "2026-10-25 02:45 +01 30m0s"}},
		{"autumn: the day has 25 hours", weekPlan(t, "Sun 00:00 24:00"), "Europe/Vienna", "2026-10-25T00:00", "2026-10-26T00:00", DSTReject,
			[]string{"2026-10-25 00:00 +02 24h0m0s", "2026-10-25 23:00 +01 1h0m0s"}},
		{"autumn: the second piece begins in the horizon", weekPlan(t, "Sun 00:00 24:00"), "Europe/Vienna", "2026-10-25T12:00", "2026-10-26T00:00", DSTReject,
			[]string{"2026-10-25 23:00 +01 1h0m0s"}},
		{"autumn on Lord Howe Island: 24 hours and a half", weekPlan(t, "Sun 00:00 24:00"), "Australia/Lord_Howe", "2026-04-05T00:00", "2026-04-06T00:00", DSTReject,
			[]string{"2026-04-05 00:00 +11 24h0m0s", "2026-04-05 23:30 +10:30 30m0s"}},
		{"a day that is skipped", weekPlan(t, "Fri 09:00 17:00", "Sat 12:00 18:00"), "Pacific/Apia", "2011-12-29T00:00", "2012-01-01T00:00", DSTCompatible,
			[]string{"2011-12-31 09:00 +14 9h0m0s"}},
		{"midnight is skipped", weekPlan(t, "Sat 20:00 24:00", "Sun 00:00 08:00"), "America/Havana", "2026-03-07T00:00", "2026-03-09T00:00", DSTCompatible,
			[]string{"2026-03-07 20:00 -05 4h0m0s", "2026-03-08 01:00 -04 7h0m0s"}},
		{"always", weekPlan(t, "Mon 00:00 13:00", "Mon 12:00 12:00", "Tue 00:00 13:00", "Tue 12:00 12:00", "Wed 00:00 13:00", "Wed 12:00 12:00", "Thu 00:00 13:00",
			"Thu 12:00 12:00", "Fri 00:00 13:00", "Fri 12:00 12:00", "Sat 00:00 13:00", "Sat 12:00 12:00", "Sun 00:00 13:00", "Sun 12:00 12:00"),
			"America/Havana", "2026-03-06T12:00", "2026-03-10T00:00", DSTReject,
			[]string{"2026-03-07 00:00 -05 24h0m0s", "2026-03-08 01:00 -04 23h0m0s", "2026-03-09 00:00 -04 24h0m0s"}},
		{"the first days", weekPlan(t, "Mon 00:00 01:00"), "UTC", "0001-01-01T00:00", "0001-01-09T00:00", DSTReject,
			[]string{"0001-01-01 00:00 +00 1h0m0s", "0001-01-08 00:00 +00 1h0m0s"}},
		{"the last days", weekPlan(t, "Thu 23:00 23:30"), "UTC", "9999-12-29T00:00", "9999-12-30T23:59", DSTReject,
			[]string{"9999-12-30 23:00 +00 30m0s"}},
	} {
		from, err := ResolveLocal(mustWall(t, test.from), test.zone, DSTCompatible)
		if err != nil {
			t.Fatal(err)
		}
		to, err := ResolveLocal(mustWall(t, test.to), test.zone, DSTCompatible)
		if err != nil {
			t.Fatal(err)
		}
		given := slices.Clone(test.week)
		slots, err := WeeklySlots(test.week, test.zone, from, to, test.d)
		got := localTimes(t, slots)
		if err != nil || !slices.Equal(got, test.want) || slots == nil {
			t.Errorf("%s: %v, %q, want %q", test.name, err, got, test.want)
		}
		if !slices.Equal(given, test.week) {
			t.Errorf("%s: the plan was changed", test.name)
		}
	}
}

func TestWeeklySlotsReject(t *testing.T) {
	t.Parallel()
	at := func(s string) time.Time { return mustInstant(t, s) }
	for _, test := range []struct {
		name     string
		week     []Weekly
		from, to time.Time
		want     string // the error, in Vienna
		is       error
	}{
		{"a start is skipped", weekPlan(t, "Sun 02:30 04:00"), at("2026-03-01T00:00:00Z"), at("2026-04-01T00:00:00Z"),
			"week 2026-03-29T02:30 does not exist in Europe/Vienna", ErrNonexistentTime},
		{"an end is skipped", weekPlan(t, "Sat 22:00 02:30"), at("2026-03-01T00:00:00Z"), at("2026-04-01T00:00:00Z"),
			"week 2026-03-29T02:30 does not exist in Europe/Vienna", ErrNonexistentTime},
		{"an end comes twice", weekPlan(t, "Sat 22:00 02:30"), at("2026-10-01T00:00:00Z"), at("2026-11-01T00:00:00Z"),
			"week 2026-10-25T02:30 occurs twice in Europe/Vienna", ErrAmbiguousTime},
		{"a slot that has begun", weekPlan(t, "Sat 22:00 02:30"), at("2026-03-29T00:00:00Z"), at("2026-04-01T00:00:00Z"),
			"week 2026-03-29T02:30 does not exist in Europe/Vienna", ErrNonexistentTime},
		{"a slot that is over", weekPlan(t, "Sat 22:00 02:30"), at("2026-03-29T03:00:00Z"), at("2026-04-01T00:00:00Z"), "", nil},
		{"a slot that is not yet", weekPlan(t, "Sun 02:30 04:00"), at("2026-03-01T00:00:00Z"), at("2026-03-29T01:30:00Z"), "", nil},
		{"a slot that would be left out", weekPlan(t, "Sun 02:30 03:15"), at("2026-03-29T01:30:00Z"), at("2026-03-30T00:00:00Z"),
			"week 2026-03-29T02:30 does not exist in Europe/Vienna", ErrNonexistentTime},
		{"inside a slot of two entries", weekPlan(t, "Sun 01:00 02:30", "Sun 02:15 04:00"), at("2026-03-01T00:00:00Z"), at("2026-04-01T00:00:00Z"), "", nil},
	} {
		slots, err := WeeklySlots(test.week, "Europe/Vienna", test.from, test.to, DSTReject)
		switch {
		case test.is == nil:
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		case !errors.Is(err, test.is) || err.Error() != test.want || slots != nil || !slices.Equal(errorFields(err), []string{"week"}):
			t.Errorf("%s: %v, %v", test.name, slots, err)
		}
		if _, err := WeeklySlots(test.week, "Europe/Vienna", test.from, test.to, DSTLater); err != nil {
			t.Errorf("%s: later: %v", test.name, err)
		}
	}
}

func TestWeeklySlotsErrors(t *testing.T) {
	t.Parallel()
	from := mustInstant(t, "2026-06-01T00:00:00Z")
	to := from.Add(oneWeek)
	entry := Weekly{time.Monday, 9 * time.Hour, 17 * time.Hour}
	for _, test := range []struct {
		name     string
		week     []Weekly
		zone     string
		from, to time.Time
		d        Disambiguation
		fields   []string
	}{
		{"no zone", nil, "", from, to, DSTCompatible, []string{"timezone"}},
		{"no rule", nil, "UTC", from, to, 3, []string{"disambiguation"}},
		{"empty", nil, "UTC", from, from, DSTCompatible, []string{"to"}},
		{"backwards", nil, "UTC", to, from, DSTCompatible, []string{"to"}},
		{"long", nil, "UTC", from, from.Add(366*oneDay + 1), DSTCompatible, []string{"to"}},
		{"zero times", nil, "UTC", time.Time{}, time.Time{}, DSTCompatible, []string{"to"}},
		{"zero from", nil, "UTC", time.Time{}, to, DSTCompatible, []string{"to"}},
		{"before year 1", nil, "UTC", time.Time{}.Add(-1), to, DSTCompatible, []string{"from"}},
		{"after year 9999", nil, "UTC", lastTime.Add(-oneDay), lastTime.Add(1), DSTCompatible, []string{"to"}},
		{"far off", nil, "UTC", time.Unix(1<<62, 0), time.Unix(1<<62, 1), DSTCompatible, []string{"from", "to"}},
		{"a long plan", slices.Repeat([]Weekly{entry}, 201), "UTC", from, to, DSTCompatible, []string{"week"}},
		{"wrong entries", []Weekly{entry, {7, 0, 0}, {-1, 0, 0}, {0, -time.Minute, 0}, {0, oneDay, 0}, {0, time.Second, time.Hour}, {0, 0, oneDay + time.Minute}, {0, 0, -time.Minute}, {0, 0, 90 * time.Second},
			{0, 0, 14 * time.Minute}, {0, oneDay - time.Minute, 13 * time.Minute}}, "UTC", from, to, DSTCompatible,
			[]string{"week[1].day", "week[2].day", "week[3].from", "week[4].from", "week[5].from", "week[6].to", "week[7].to", "week[8].to", "week[9].to", "week[10].to"}},
		{"all at once", []Weekly{{9, 25 * time.Hour, -1}}, "Local", to, from, 3, []string{"week[0].day", "week[0].from", "week[0].to", "timezone", "to", "disambiguation"}},
	} {
		slots, err := WeeklySlots(test.week, test.zone, test.from, test.to, test.d)
		if slots != nil || !errors.Is(err, ErrInvalid) || !slices.Equal(errorFields(err), test.fields) {
			t.Errorf("%s: %v, %v", test.name, slots, err)
		}
	}
	if _, err := WeeklySlots(slices.Repeat([]Weekly{entry}, 200), "UTC", from, from.Add(366*oneDay), DSTReject); err != nil {
		t.Error(err)
	}
}

// randomPlan returns up to a dozen entries, many of them at the hours at which clocks change.
func randomPlan(random *rand.Rand) []Weekly {
	week := make([]Weekly, random.IntN(12))
	for i := range week {
		for {
			w := Weekly{time.Weekday(random.IntN(7)), time.Duration(random.IntN(24*12)) * 5 * time.Minute, time.Duration(random.IntN(24*12+1)) * 5 * time.Minute}
			switch random.IntN(3) {
			case 0: // on a Sunday, between midnight and four
				w = Weekly{time.Sunday, time.Duration(random.IntN(4*12)) * 5 * time.Minute, time.Duration(random.IntN(4*12)) * 5 * time.Minute}
			case 1: // for long
				w.To = w.From - time.Duration(random.IntN(3))*5*time.Minute
			}
			if w.check("") == nil {
				week[i] = w
				break
			}
		}
	}
	return week
}

// TestWeeklySlotsCanBeStored lays out random plans and cuts the horizon at random.
func TestWeeklySlotsCanBeStored(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	zones := []string{"Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Africa/Casablanca", "Europe/Dublin", "Antarctica/Troll", "UTC"}
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	for range rounds {
		week := randomPlan(random)
		zone := zones[random.IntN(len(zones))]
		d := Disambiguation(random.IntN(2))
		from := mustInstant(t, "2025-01-01T00:00:00Z").Add(time.Duration(random.Int64N(int64(2 * 365 * oneDay))))
		length := time.Duration(1 + random.Int64N(int64(60*oneDay)))
		to := from.Add(length)
		slots, err := WeeklySlots(week, zone, from, to, d)
		if err != nil {
			t.Fatalf("%v in %s: %v", week, zone, err)
		}
		for i, s := range slots {
			if s.Timezone != zone || s.Start.Before(from) || !s.Start.Before(to) || s.End.Sub(s.Start) < 15*time.Minute || s.End.Sub(s.Start) > 24*time.Hour {
				t.Fatalf("%v in %s from %v to %v: %v", week, zone, from, to, s)
			}
			if i > 0 && s.Start.Before(slots[i-1].End) {
				t.Fatalf("%v in %s: %v and %v", week, zone, slots[i-1], s)
			}
		}
		middle := from.Add(1 + time.Duration(random.Int64N(int64(length))))
		if !middle.Before(to) {
			continue
		}
		first, err1 := WeeklySlots(week, zone, from, middle, d)
		second, err2 := WeeklySlots(week, zone, middle, to, d)
		if err1 != nil || err2 != nil || !slices.Equal(append(first, second...), slots) {
			t.Fatalf("%v in %s from %v to %v, in two parts at %v: %v and %v, want %v", week, zone, from, to, middle, localTimes(t, first), localTimes(t, second), localTimes(t, slots))
		}
	}
}

// TestWeeklySlotsDayByDay lays out a plan with half an hour a week to spare, which the change of clocks in
// spring takes, so that two weeks become one slot to cut.
func TestWeeklySlotsDayByDay(t *testing.T) {
	t.Parallel()
	week := weekPlan(t, "Sun 03:15 03:15", "Mon 03:00 03:00", "Tue 02:45 02:45", "Wed 02:30 02:30", "Thu 02:15 02:15", "Fri 02:00 02:00", "Sat 01:45 01:45", "Sun 01:30 02:45")
	from := mustInstant(t, "2026-03-01T12:00:00Z")
	want, err := WeeklySlots(week, "Europe/Vienna", from, from.Add(60*oneDay), DSTCompatible)
	if err != nil {
		t.Fatal(err)
	}
	pauses := 0
	for i, s := range want[1:] {
		if !s.Start.Equal(want[i].End) {
			pauses++
		}
	}
	if pauses != 7 {
		t.Errorf("%d pauses in the 8 weeks without the change", pauses)
	}
	var got []NewSlot
	for day := range 60 {
		slots, err := WeeklySlots(week, "Europe/Vienna", from.Add(time.Duration(day)*oneDay), from.Add(time.Duration(day+1)*oneDay), DSTCompatible)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, slots...)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", localTimes(t, got), localTimes(t, want))
	}
}

// TestWeeklySlotsOverTheWeek has clocks change in the night to Monday, where weeks are joined.
func TestWeeklySlotsOverTheWeek(t *testing.T) {
	t.Parallel()
	from := mustInstant(t, "2021-03-20T00:00:00Z")
	got, err := WeeklySlots(weekPlan(t, "Sun 22:00 00:30", "Mon 00:15 08:00"), "Asia/Tehran", from, from.Add(3*oneDay), DSTReject)
	if want := []string{"2021-03-21 22:00 +03:30 9h0m0s"}; err != nil || !slices.Equal(localTimes(t, got), want) {
		t.Errorf("%v, %v, want %v", localTimes(t, got), err, want)
	}
}

// TestWeeklySlotsCover compares, minute by minute and where no clock changes, what the slots cover with
// what the plan covers.
func TestWeeklySlotsCover(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 8))
	sunday := mustInstant(t, "2026-06-07T00:00:00Z")
	const minutes = 7 * 24 * 60
	for range 300 {
		week := randomPlan(random)
		var want, got [minutes]bool
		for _, w := range week {
			start := int(w.Day)*24*60 + int(w.From/time.Minute)
			for i := range int(w.length() / time.Minute) {
				want[(start+i)%minutes] = true
			}
		}
		slots, err := WeeklySlots(week, "UTC", sunday.Add(-oneDay), sunday.Add(oneWeek), DSTReject)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range slots {
			for at := s.Start; at.Before(s.End); at = at.Add(time.Minute) {
				if i := int(at.Sub(sunday) / time.Minute); i >= 0 && i < minutes {
					got[i] = true
				}
			}
		}
		if got != want {
			t.Fatalf("%v: %v", week, localTimes(t, slots))
		}
	}
}

// TestWeeklySlotsAreLocalSlots compares a year of single slots with those between the same wall times.
func TestWeeklySlotsAreLocalSlots(t *testing.T) {
	t.Parallel()
	from := mustInstant(t, "2026-01-01T00:00:00Z")
	for _, w := range weekPlan(t, "Sun 01:00 02:30", "Sun 02:30 04:00", "Sat 22:00 02:15", "Sun 02:15 02:45", "Wed 09:00 17:00") {
		for _, d := range []Disambiguation{DSTCompatible, DSTLater} {
			slots, err := WeeklySlots([]Weekly{w}, "Europe/Vienna", from, from.Add(364*oneDay), d)
			if err != nil || len(slots) != 52 {
				t.Fatalf("%v: %d slots, %v", w, len(slots), err)
			}
			for reading := from; reading.Before(from.Add(364 * oneDay)); reading = reading.Add(oneDay) {
				if reading.Weekday() != w.Day {
					continue
				}
				start := reading.Add(w.From)
				want, err := LocalSlot(wallAt(start), wallAt(start.Add(w.length())), "Europe/Vienna", d)
				if err != nil || !slices.Contains(slots, want) {
					t.Errorf("%v, %v: no %v (%v)", w, d, want, err)
				}
			}
		}
	}
}

func TestWeeklyJSON(t *testing.T) {
	t.Parallel()
	const text = `[{"day":1,"from":"09:00","to":"17:30"},{"day":0,"from":"22:00","to":"00:00"},{"day":6,"from":"00:00","to":"24:00"}]`
	want := weekPlan(t, "Mon 09:00 17:30", "Sun 22:00 00:00", "Sat 00:00 24:00")
	var week []Weekly
	if err := json.Unmarshal([]byte(text), &week); err != nil || !slices.Equal(week, want) {
		t.Errorf("%v, %v", week, err)
	}
	if again, err := json.Marshal(week); err != nil || string(again) != text {
		t.Errorf("%s, %v", again, err)
	}
	for _, test := range []struct{ text, field string }{
		{`{"from":"09:00","to":"10:00"}`, "day"},
		{`{"day":7,"from":"09:00","to":"10:00"}`, "day"},
		{`{"day":-1,"from":"09:00","to":"10:00"}`, "day"},
		{`{"day":1,"to":"10:00"}`, "from"},
		{`{"day":1,"from":"9:00","to":"10:00"}`, "from"},
		{`{"day":1,"from":"24:00","to":"10:00"}`, "from"},
		{`{"day":1,"from":"09:00"}`, "to"},
		{`{"day":1,"from":"09:00","to":"25:00"}`, "to"},
		{`{"day":1,"from":"09:00","to":"24:01"}`, "to"},
		{`{"day":1,"from":"09:00","to":"10:00:00"}`, "to"},
		{`{"day":1,"from":"09:00","to":"09:14"}`, "to"},
	} {
		w := Weekly{Day: time.Friday}
		err := json.Unmarshal([]byte(test.text), &w)
		if !errors.Is(err, ErrInvalid) || !slices.Equal(errorFields(err), []string{test.field}) || w != (Weekly{Day: time.Friday}) {
			t.Errorf("%s: %v, %v", test.text, w, err)
		}
	}
	for _, text := range []string{`{"day":"Monday","from":"09:00","to":"10:00"}`, `{"day":1,"from":9,"to":10}`, `[]`, `1`} {
		if err := json.Unmarshal([]byte(text), new(Weekly)); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
	if _, err := json.Marshal(Weekly{Day: 8}); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
	w := Weekly{Day: time.Friday}
	if err := json.Unmarshal([]byte(`null`), &w); err != nil || w != (Weekly{Day: time.Friday}) {
		t.Errorf("null: %v, %v", w, err)
	}
}

func BenchmarkResolveLocal(b *testing.B) {
	w := Wall{2026, time.October, 25, 2, 30}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ResolveLocal(w, "Europe/Vienna", DSTCompatible); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWeeklySlots(b *testing.B) {
	var week []Weekly
	for d := range 7 {
		for h := range 24 {
			week = append(week, Weekly{time.Weekday(d), time.Duration(h) * time.Hour, time.Duration(h)*time.Hour + 30*time.Minute})
		}
	}
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := WeeklySlots(week, "Europe/Vienna", from, from.Add(maxHorizon), DSTCompatible); err != nil {
			b.Fatal(err)
		}
	}
}
