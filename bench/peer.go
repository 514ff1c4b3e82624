package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/soultribe-chat/soultribe"
)

// poolSize is how many connections each peer may open, and how many goroutines the parallel runs have.
const poolSize = 8

// environment is what a peer gets.
type environment struct {
	url string    // of the database
	now time.Time // what all peers take for now
}

// pool returns a pool of pgx's, as big as every peer's.
func (e environment) pool(ctx context.Context, mode pgx.QueryExecMode) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(e.url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = poolSize
	config.ConnConfig.DefaultQueryExecMode = mode
	return pgxpool.NewWithConfig(ctx, config)
}

// peer is one way to write the operations. An operation that it does not have is the zero call.
type peer struct {
	name string

	account    call[string]           // user and profile by address
	slots      call[soultribe.UserID] // the next 50
	pending    call[struct{}]         // the 50 oldest, with both addresses
	useToken   call[string]           // the secret
	createUser call[newUser]          // with the profile
	addSlot    call[newSlots]         // the first one
	addSlots   call[newSlots]
	match      call[pair]    // the first asks, the second accepts
	meet       call[meeting] // the first proposes, the second confirms
	mutual     call[pair]
	candidates call[soultribe.UserID] // the first page, soonest first

	close func()
}

// newUser is an account to be made.
type newUser struct {
	soultribe.NewUser        // with its hash
	hash              string // the same, as it is stored
}

// newSlots are slots of one person, in order of start.
type newSlots struct {
	user  soultribe.UserID
	slots []soultribe.NewSlot
}

type pair struct{ one, other soultribe.UserID }

// meeting is a proposal for a match of the pair.
type meeting struct {
	pair
	soultribe.NewMeetup
}

// call is one operation of a peer: run does no more than the peer does, and view also makes what it returned
// comparable with what others did.
type call[In any] struct {
	run  func(ctx context.Context, in In) error
	view func(ctx context.Context, in In) (any, error)
}

func newCall[In, Out any](f func(ctx context.Context, in In) (Out, error), view func(Out) any) call[In] {
	return call[In]{
		run: func(ctx context.Context, in In) error {
			_, err := f(ctx, in)
			return err
		},
		view: func(ctx context.Context, in In) (any, error) {
			out, err := f(ctx, in)
			if err != nil {
				return nil, err
			}
			return view(out), nil
		},
	}
}

// same is the view of what is comparable as it is.
func same[T any](v T) any { return v }

// each is the view of a list.
func each[T, V any](view func(T) V) func([]T) any {
	return func(list []T) any { return convert(list, view) }
}

// horizon is how far mutual time and candidates look ahead, as the library does by default.
const horizon = 14 * 24 * time.Hour

// maxSpan is how long a slot lasts at most: the table has a constraint.
const maxSpan = 24 * time.Hour

// hashSecret is what is stored of a secret.
func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return "sha256:" + hex.EncodeToString(sum[:])
}

var zones sync.Map

// loadZone is time.LoadLocation, which reads a file each time, with a cache.
func loadZone(name string) (*time.Location, error) {
	if loc, ok := zones.Load(name); ok {
		return loc.(*time.Location), nil
	}
	loc, err := time.LoadLocation(name)
	if err == nil {
		zones.Store(name, loc)
	}
	return loc, err
}

// localTimes are the wall-clock times of a slot, in the fields of a UTC time.
func localTimes(s soultribe.NewSlot) (start, end time.Time, err error) {
	loc, err := loadZone(s.Timezone)
	if err != nil {
		return start, end, err
	}
	wall := func(t time.Time) time.Time {
		_, offset := t.In(loc).Zone()
		return t.UTC().Add(time.Duration(offset) * time.Second)
	}
	return wall(s.Start), wall(s.End), nil
}

// ownedWindow is a span of somebody's time.
type ownedWindow struct {
	UserID soultribe.UserID
	soultribe.Window
}

// mutualTime is the time that two people have in common: slots in order of person and start, bookings in order
// of start.
func mutualTime(slots, bookings []ownedWindow, from, to time.Time) []soultribe.Window {
	split := slices.IndexFunc(slots, func(w ownedWindow) bool { return w.UserID != slots[0].UserID })
	if split < 0 {
		return []soultribe.Window{}
	}
	both := intersect(merge(slots[:split]), merge(slots[split:]), from, to)
	return subtract(both, bookings)
}

// merge makes one of windows that touch.
func merge(sorted []ownedWindow) []soultribe.Window {
	merged := make([]soultribe.Window, 0, len(sorted))
	for _, w := range sorted {
		if n := len(merged); n > 0 && !w.Start.After(merged[n-1].End) {
			if w.End.After(merged[n-1].End) {
				merged[n-1].End = w.End
			}
			continue
		}
		merged = append(merged, w.Window)
	}
	return merged
}

// intersect is what two merged lists share between from and to.
func intersect(a, b []soultribe.Window, from, to time.Time) []soultribe.Window {
	shared := []soultribe.Window{}
	for i, j := 0, 0; i < len(a) && j < len(b); {
		start, end := from, to
		for _, t := range [...]time.Time{a[i].Start, b[j].Start} {
			if t.After(start) {
				start = t
			}
		}
		for _, t := range [...]time.Time{a[i].End, b[j].End} {
			if t.Before(end) {
				end = t
			}
		}
		if start.Before(end) {
			shared = append(shared, soultribe.Window{Start: start, End: end})
		}
		if a[i].End.Before(b[j].End) {
			i++
		} else {
			j++
		}
	}
	return shared
}

// subtract cuts bookings out of windows.
func subtract(windows []soultribe.Window, bookings []ownedWindow) []soultribe.Window {
	if len(bookings) == 0 {
		return windows
	}
	rest := []soultribe.Window{}
	for _, w := range windows {
		for _, cut := range bookings {
			if !cut.End.After(w.Start) || !cut.Start.Before(w.End) {
				continue
			}
			if w.Start.Before(cut.Start) {
				rest = append(rest, soultribe.Window{Start: w.Start, End: cut.Start})
			}
			w.Start = cut.End
		}
		if w.Start.Before(w.End) {
			rest = append(rest, w)
		}
	}
	return rest
}

// What the library takes by default for a page of candidates.
const (
	atLeast          = time.Hour
	candidateWindows = 5
	pageSize         = 50
)

// stranger is somebody who may be a candidate.
type stranger struct {
	ID                    soultribe.UserID
	DisplayName, Timezone string
}

// pairSearch finds candidates the way it is done without the SQL for it: one query per pair, and the rest in Go.
// others returns whoever is verified and has no match with the actor.
func pairSearch(ctx context.Context, actor soultribe.UserID, now time.Time,
	others func(ctx context.Context, actor soultribe.UserID) ([]stranger, error),
	slotsOf, bookingsOf timeOf,
) ([]soultribe.Candidate, error) {
	own, err := slotsOf(ctx, actor)
	if err != nil {
		return nil, err
	}
	busy, err := bookingsOf(ctx, actor)
	if err != nil {
		return nil, err
	}
	all, err := others(ctx, actor)
	if err != nil {
		return nil, err
	}
	until := now.Add(horizon)
	merged := merge(own)
	free := subtract(intersect(merged, merged, now, until), busy)

	type found struct {
		soultribe.Candidate
		place int // of the actor's window
		slot  soultribe.Window
	}
	var list []found
	for _, s := range all {
		slots, err := slotsOf(ctx, s.ID)
		if err != nil {
			return nil, err
		}
		windows := slices.DeleteFunc(intersect(free, merge(slots), now, until), func(w soultribe.Window) bool { return w.End.Sub(w.Start) < atLeast })
		if len(windows) == 0 {
			continue
		}
		f := found{Candidate: soultribe.Candidate{UserID: s.ID, DisplayName: s.DisplayName, Timezone: s.Timezone}}
		for _, w := range windows {
			f.Total += w.End.Sub(w.Start)
		}
		first := windows[0].Start
		f.Windows = windows[:min(len(windows), candidateWindows)]
		f.place = slices.IndexFunc(free, func(w soultribe.Window) bool { return w.End.After(first) })
		at := slices.IndexFunc(slots, func(w ownedWindow) bool { return w.End.After(first) })
		f.slot = slots[at].Window
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b found) int {
		bySlot := cmp.Or(a.slot.Start.Compare(b.slot.Start), a.slot.End.Compare(b.slot.End), cmp.Compare(a.UserID, b.UserID))
		if a.Windows[0].Start.Equal(free[a.place].Start) { // whose slots have begun when the actor's begins: the last first
			bySlot = -bySlot
		}
		return cmp.Or(cmp.Compare(a.place, b.place), a.Windows[0].Start.Compare(b.Windows[0].Start), bySlot)
	})
	page := make([]soultribe.Candidate, min(len(list), pageSize))
	for i := range page {
		page[i] = list[i].Candidate
	}
	return page, nil
}
