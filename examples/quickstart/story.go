package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	_ "time/tzdata" // the host may have no zone files

	"github.com/soultribe-chat/soultribe"
)

const (
	viennaZone  = "Europe/Vienna"
	newYorkZone = "America/New_York"
)

// friday is when the story begins: New York has changed its clocks three weeks ago, Vienna will on Sunday.
var friday = time.Date(2026, time.March, 27, 8, 0, 0, 0, time.UTC)

// story is what the people of the example do. Every step is one call of the library, and one line.
type story struct {
	out   io.Writer
	store soultribe.Store
	now   time.Time
}

func (s *story) line(format string, args ...any) {
	_, _ = fmt.Fprintf(s.out, format+"\n", args...) // a reader who left is no error of the story
}

// step prints what happened, and when it is in either city.
func (s *story) step(what string, start, end time.Time) {
	s.line("%s", strings.TrimRight(fmt.Sprintf("  %-48s %s   %s", what, span(start, end, viennaZone), span(start, end, newYorkZone)), " "))
}

// span is a span of time as clocks in a zone show it.
func span(start, end time.Time, zone string) string {
	loc, err := time.LoadLocation(zone)
	if err != nil {
		panic(err) // the names above are known
	}
	text := start.In(loc).Format("Mon 02 Jan 15:04")
	if end.After(start) {
		text += end.In(loc).Format("–15:04")
	}
	return fmt.Sprintf("%-22s", text)
}

func (s *story) tell(ctx context.Context) error {
	s.line("")
	s.line("  %-48s %-22s   %s", "", "Vienna", "New York")
	s.step("It is Friday. Vienna's clocks change on Sunday.", s.now, s.now)

	s.line("\nThey register, and follow the link in their mail")
	anna, err := s.register(ctx, "Anna", viennaZone)
	if err != nil {
		return err
	}
	ben, err := s.register(ctx, "Ben", newYorkZone)
	if err != nil {
		return err
	}
	carla, err := s.register(ctx, "Carla", viennaZone)
	if err != nil {
		return err
	}

	s.line("\nThey say when they are free, each by the clock on their own wall")
	if err := s.free(ctx, "Anna", anna, viennaZone, 18*time.Hour, 20*time.Hour); err != nil {
		return err
	}
	if err := s.free(ctx, "Ben", ben, newYorkZone, 12*time.Hour, 14*time.Hour); err != nil {
		return err
	}

	s.line("\nAnna looks for people, and finds that Sunday is an hour longer than Saturday")
	found, err := s.store.Candidates(ctx, anna, soultribe.CandidateQuery{})
	if err != nil {
		return err
	}
	for _, c := range found.Items {
		for _, w := range c.Windows {
			s.step(fmt.Sprintf("%s is free with her for %v", c.DisplayName, hours(w)), w.Start, w.End)
		}
	}

	s.line("\nThey match")
	match, err := s.match(ctx, "Anna", anna, "Ben", ben)
	if err != nil {
		return err
	}

	s.line("\nThey meet")
	sunday := soultribe.Times{Start: found.Items[0].Windows[1].Start, Duration: time.Hour}
	proposed, err := s.store.ProposeMeetup(ctx, anna, soultribe.NewMeetup{MatchID: match, Times: sunday})
	if err != nil {
		return err
	}
	s.step("Anna proposes Sunday", sunday.Start, sunday.End())
	confirmed, err := s.store.ConfirmMeetup(ctx, ben, proposed.ID, proposed.Times)
	if err != nil {
		return err
	}
	s.step("Ben agrees: the meetup is "+string(confirmed.Status), confirmed.Start, confirmed.End())

	s.line("\nCarla wants the same hour")
	return s.taken(ctx, anna, carla, sunday)
}

// register makes an account with a profile, and verifies its address.
func (s *story) register(ctx context.Context, name, zone string) (soultribe.UserID, error) {
	user, err := s.store.CreateUser(ctx, soultribe.NewUser{
		Email:    name + "@example.org",
		Password: rand.Text(),
		Profile:  &soultribe.NewProfile{FullName: name, DisplayName: name, Timezone: zone},
	})
	if err != nil {
		return 0, err
	}
	token, err := s.store.IssueEmailVerification(ctx, user.ID)
	if err != nil {
		return 0, err
	}
	// The service mails token.Secret() to token.Email; here the mail has just arrived.
	user, err = s.store.VerifyEmail(ctx, token.Secret())
	if err != nil {
		return 0, err
	}
	s.step(fmt.Sprintf("%s, in %s, is verified", name, zone), *user.EmailVerifiedAt, *user.EmailVerifiedAt)
	return user.ID, nil
}

// free stores the weekend's slots, from one time on the wall to another.
func (s *story) free(ctx context.Context, name string, user soultribe.UserID, zone string, from, to time.Duration) error {
	week := []soultribe.Weekly{{Day: time.Saturday, From: from, To: to}, {Day: time.Sunday, From: from, To: to}}
	slots, err := soultribe.WeeklySlots(week, zone, s.now, s.now.AddDate(0, 0, 4), soultribe.DSTCompatible)
	if err != nil {
		return err
	}
	stored, err := s.store.AddSlots(ctx, user, slots)
	if err != nil {
		return err
	}
	for _, slot := range stored {
		s.step(fmt.Sprintf("%s is free on %s", name, slot.LocalStart().Weekday()), slot.Start, slot.End)
	}
	return nil
}

// match has one ask, and the other accept.
func (s *story) match(ctx context.Context, asks string, a soultribe.UserID, answers string, b soultribe.UserID) (soultribe.MatchID, error) {
	asked, err := s.store.RequestMatch(ctx, a, b)
	if err != nil {
		return 0, err
	}
	s.step(fmt.Sprintf("%s asks %s: the match is %s", asks, answers, asked.Status), asked.UpdatedAt, asked.UpdatedAt)
	s.now = s.now.Add(5 * time.Minute)
	accepted, err := s.store.AcceptMatch(ctx, b, asked.ID)
	if err != nil {
		return 0, err
	}
	s.step(fmt.Sprintf("%s says yes: the match is %s", answers, accepted.Status), accepted.UpdatedAt, accepted.UpdatedAt)
	return accepted.ID, nil
}

// taken has Carla propose Anna's hour, which the database does not let Anna give away twice.
func (s *story) taken(ctx context.Context, anna, carla soultribe.UserID, hour soultribe.Times) error {
	match, err := s.match(ctx, "Carla", carla, "Anna", anna)
	if err != nil {
		return err
	}
	proposed, err := s.store.ProposeMeetup(ctx, carla, soultribe.NewMeetup{MatchID: match, Times: hour})
	if err != nil {
		return err
	}
	s.step("Carla proposes Sunday", hour.Start, hour.End())
	_, err = s.store.ConfirmMeetup(ctx, anna, proposed.ID, proposed.Times)
	if !errors.Is(err, soultribe.ErrDoubleBooked) {
		return fmt.Errorf("an hour could be given away twice: %w", err)
	}
	s.step("Anna agrees, and is refused: "+soultribe.Code(err), hour.Start, hour.End())
	return nil
}

func hours(w soultribe.Window) string {
	if d := w.End.Sub(w.Start); d != time.Hour {
		return fmt.Sprintf("%v hours", d.Hours())
	}
	return "1 hour"
}
