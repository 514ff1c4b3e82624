package main

import (
	"context"
	"time"

	"github.com/soultribe-chat/soultribe"
)

// What follows makes soultribe's types of what the models of a peer hold.

func viewUser(id int64, email string, verified *time.Time, created time.Time, changed *time.Time) soultribe.User {
	u := soultribe.User{ID: soultribe.UserID(id), Email: email, EmailVerifiedAt: verified, CreatedAt: created, CredentialsChangedAt: created}
	if changed != nil {
		u.CredentialsChangedAt = *changed
	}
	return u
}

func viewProfile(user int64, fullName, displayName string, bio, zone *string, created, updated time.Time) *soultribe.Profile {
	return &soultribe.Profile{UserID: soultribe.UserID(user), FullName: fullName, DisplayName: displayName,
		Bio: deref(bio), Timezone: deref(zone), CreatedAt: created, UpdatedAt: updated}
}

func viewSlot(id, user int64, start, end time.Time, zone string, created, updated time.Time) soultribe.Slot {
	return soultribe.Slot{ID: soultribe.SlotID(id), UserID: soultribe.UserID(user), Start: start, End: end, Timezone: zone,
		CreatedAt: created, UpdatedAt: updated}
}

func viewMatch(id, user1, user2 int64, status string, created, updated time.Time) soultribe.Match {
	return soultribe.Match{ID: soultribe.MatchID(id), User1ID: soultribe.UserID(user1), User2ID: soultribe.UserID(user2),
		Status: soultribe.MatchStatus(status), CreatedAt: created, UpdatedAt: updated}
}

func viewMeetup(id, match, user1, user2, proposer int64, start time.Time, seconds int64, status string, created, updated time.Time) soultribe.Meetup {
	return soultribe.Meetup{ID: soultribe.MeetupID(id), MatchID: soultribe.MatchID(match),
		User1ID: soultribe.UserID(user1), User2ID: soultribe.UserID(user2), ProposerID: soultribe.UserID(proposer),
		Times:  soultribe.Times{Start: start, Duration: time.Duration(seconds) * time.Second},
		Status: soultribe.MeetupStatus(status), CreatedAt: created, UpdatedAt: updated}
}

// orNull is nil for "".
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// convert makes a list of another.
func convert[T, V any](list []T, f func(T) V) []V {
	converted := make([]V, len(list))
	for i, v := range list {
		converted[i] = f(v)
	}
	return converted
}

func newWindow(user int64, start, end time.Time) ownedWindow {
	return ownedWindow{soultribe.UserID(user), soultribe.Window{Start: start, End: end}}
}

// timeOf is a query for the slots, or the bookings, of people from now to the horizon, in order of
// the people and their start, or of start.
type timeOf func(ctx context.Context, users ...soultribe.UserID) ([]ownedWindow, error)

// mutualByQueries is the time that two people have in common, by a query for their slots and one for their bookings.
func mutualByQueries(ctx context.Context, p pair, now time.Time, slotsOf, bookingsOf timeOf) ([]soultribe.Window, error) {
	slots, err := slotsOf(ctx, p.one, p.other)
	if err != nil {
		return nil, err
	}
	bookings, err := bookingsOf(ctx, p.one, p.other)
	if err != nil {
		return nil, err
	}
	return mutualTime(slots, bookings, now, now.Add(horizon)), nil
}
