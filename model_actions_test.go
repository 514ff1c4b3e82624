package soultribe_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// TestModel drives random steps of a few people against the society and PostgreSQL alike. make model does so
// for minutes: SOULTRIBE_MODEL_CHECKS is how many it tries.
//
// A failure prints the shortest sequence of steps that was found, each with what should come of it; the
// last one is where the store disagrees.
func TestModel(t *testing.T) {
	t.Parallel()
	require.NoError(t, flag.Set("rapid.steps", "60"))
	require.NoError(t, flag.Set("rapid.nofailfile", "true")) // the seed, which is printed, does
	if os.Getenv("SOULTRIBE_MODEL_CHECKS") == "" {
		require.NoError(t, flag.Set("rapid.checks", "40"))
	} else {
		require.NoError(t, flag.Set("rapid.checks", os.Getenv("SOULTRIBE_MODEL_CHECKS")))
	}
	// Fewer kinds of steps at a time get deeper into what they are about.
	for about, parts := range map[string][]func(*machine) actions{
		"accounts": {(*machine).accountSteps, (*machine).tokenSteps},
		"slots":    {(*machine).slotSteps},
		"matches":  {(*machine).matchSteps},
		"meetups":  {(*machine).meetupSteps},
		"all":      {(*machine).accountSteps, (*machine).tokenSteps, (*machine).slotSteps, (*machine).matchSteps, (*machine).meetupSteps},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			db := soultribetest.New(t)
			rapid.Check(t, func(t *rapid.T) {
				m := newMachine(t, db)
				steps := m.clockSteps()
				for _, part := range parts {
					maps.Copy(steps, part(m))
				}
				if about == "meetups" {
					m.matchEverybody(t)
				}
				t.Repeat(steps)
				m.compareTables(t)
			})
		})
	}
}

type actions = map[string]func(*rapid.T)

// machine is a society beside the store that should be like it.
type machine struct {
	*society
	db    *soultribetest.DB
	store soultribe.Store
	steps int
}

var (
	names     = []string{"ann", "ben", "cat", "dan", "eve"}
	addresses = []string{"ann@example.org", "BEN@example.org", "cat@example.org", "new@example.org", "New@example.org", "other@example.org"}
	passwords = []string{"correct horse", "battery staple", "short"}
)

// newMachine begins with an empty database and three people, who are verified.
func newMachine(t *rapid.T, db *soultribetest.DB) *machine {
	db.Clock.Set(soultribetest.Epoch)
	_, err := db.Pool.Exec(context.Background(), `DELETE FROM "user"`)
	require.NoError(t, err)
	m := &machine{society: &society{now: soultribetest.Epoch}, db: db, store: db.Store}
	for _, name := range names[:3] {
		m.create(t, name+"@example.org", passwords[0])
		m.mark(t, m.users[len(m.users)-1].ID)
	}
	return m
}

// matchEverybody makes an accepted match of each pair, and slots in which they all are free.
func (m *machine) matchEverybody(t *rapid.T) {
	for i, a := range m.users {
		for _, b := range m.users[:i] {
			m.request(t, a.ID, b.ID)
			m.request(t, b.ID, a.ID)
		}
	}
}

// compare says what was done, and fails unless both did the same.
func (m *machine) compare(t *rapid.T, call string, got, want any, gotErr, wantErr error) {
	t.Helper()
	t.Logf("%s  %s: %s", m.now.Format("Jan _2 15:04:05.000000"), call, result(wantErr))
	var overlap *soultribe.OverlapError
	if allowed, ok := errors.AsType[overlaps](wantErr); ok && errors.As(gotErr, &overlap) {
		require.Contains(t, allowed, overlap.Index)
		return
	}
	require.Equal(t, result(wantErr), result(gotErr), "%v", gotErr)
	if wantErr == nil {
		require.Equal(t, want, got)
	}
}

// result is all of an error that the society knows.
func result(err error) string {
	var (
		cooldown   *soultribe.CooldownError
		transition *soultribe.TransitionError
	)
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &cooldown):
		return "cooldown until " + cooldown.Until.Format("Jan _2 15:04:05.000000")
	case errors.As(err, &transition):
		return fmt.Sprintf("no transition from %q to %q", transition.From, transition.To)
	}
	return soultribe.Code(err)
}

// The clock.

func (m *machine) clockSteps() actions {
	advance := func(t *rapid.T) {
		d := rapid.SampledFrom([]time.Duration{time.Second, time.Minute, 20 * time.Minute, 3 * time.Hour, 24 * time.Hour}).Draw(t, "by")
		m.moveClock(t, m.now.Add(d))
	}
	// The moments at which something begins, ends or is allowed again, and those just before and after.
	toMoment := func(t *rapid.T) {
		moment := pick(t, "moment", m.moments())
		off := rapid.SampledFrom([]time.Duration{0, -time.Microsecond, time.Microsecond}).Draw(t, "off")
		if moment = moment.Add(off); moment.Before(m.now) {
			t.SkipNow()
		}
		m.moveClock(t, moment)
	}
	return actions{"Clock": advance, "ClockTo": toMoment, "ClockTo2": toMoment, "": m.compareSometimes}
}

func (m *machine) moveClock(t *rapid.T, to time.Time) {
	m.now = to
	m.db.Clock.Set(to)
	t.Logf("%s  the clock moves", to.Format("Jan _2 15:04:05.000000"))
}

func (m *machine) moments() []time.Time {
	var all []time.Time
	for _, token := range m.tokens {
		all = append(all, token.created.Add(tokenCooldown), token.expires)
	}
	for _, s := range m.slots {
		all = append(all, s.Start, s.End)
	}
	for _, match := range m.matches {
		all = append(all, match.UpdatedAt.Add(cancelledCooldown), match.UpdatedAt.Add(rejectedCooldown))
	}
	for _, meetup := range m.meetups {
		if live(meetup) {
			all = append(all, meetup.Start, end(meetup))
		}
	}
	all = slices.DeleteFunc(all, func(t time.Time) bool { return t.Before(m.now) })
	slices.SortFunc(all, time.Time.Compare)
	return slices.Compact(all)
}

// What is drawn. The first of a list is what a failure shrinks to.

func (m *machine) name(id soultribe.UserID) string {
	for i, u := range m.users {
		if u.ID == id {
			return names[i]
		}
	}
	return fmt.Sprint("user ", id)
}

// person draws anybody, also one who was deleted; those who are named come more often.
func (m *machine) person(t *rapid.T, label string, often ...soultribe.UserID) soultribe.UserID {
	people := append(slices.Clone(often), often...)
	for _, u := range m.users {
		people = append(people, u.ID)
	}
	return people[rapid.IntRange(0, len(people)-1).Draw(t, label)]
}

func password(t *rapid.T) string {
	return rapid.SampledFrom([]string{passwords[0], passwords[0], passwords[1], passwords[1], passwords[2]}).Draw(t, "password")
}

// passwordOf draws the right one more often than not.
func (m *machine) passwordOf(t *rapid.T, id soultribe.UserID) string {
	if u := m.user(id); u != nil && rapid.IntRange(0, 4).Draw(t, "wrong") < 4 {
		return u.password
	}
	return password(t)
}

func address(t *rapid.T) string { return rapid.SampledFrom(addresses).Draw(t, "email") }

// start draws a quarter of an hour about now.
func (m *machine) start(t *rapid.T) time.Time {
	return m.now.Truncate(time.Hour).Add(time.Duration(rapid.IntRange(-4, 20).Draw(t, "quarter")) * 15 * time.Minute)
}

func (m *machine) newSlot(t *rapid.T) soultribe.NewSlot {
	start := m.start(t)
	length := rapid.SampledFrom([]time.Duration{time.Hour, 30 * time.Minute, 3 * time.Hour, 15 * time.Minute, 14 * time.Minute, 24 * time.Hour, 0}).Draw(t, "length")
	return soultribe.NewSlot{Start: start, End: start.Add(length), Timezone: "Europe/Vienna"}
}

func (m *machine) times(t *rapid.T) soultribe.Times {
	start := m.start(t)
	// Half of them begin or end where the latest meetup does: what merely touches does not overlap.
	if n := len(m.meetups); n > 0 && rapid.Bool().Draw(t, "beside") {
		latest := m.meetups[n-1]
		start = rapid.SampledFrom([]time.Time{end(latest), latest.Start.Add(-time.Hour), latest.Start}).Draw(t, "start")
	}
	return soultribe.Times{
		Start:    start,
		Duration: rapid.SampledFrom([]time.Duration{0, time.Hour, 30 * time.Minute, 15 * time.Minute, 2 * time.Hour, time.Minute}).Draw(t, "duration"),
	}
}

// seen draws the times that a meetup has, mostly, with what is below a second.
func (m *machine) seen(t *rapid.T, meetup *soultribe.Meetup) soultribe.Times {
	seen := meetup.Times
	switch rapid.SampledFrom([]string{"all", "all", "all", "fraction", "other start", "other duration"}).Draw(t, "seen") {
	case "fraction":
		seen.Start = seen.Start.Add(300 * time.Millisecond)
	case "other start":
		seen.Start = seen.Start.Add(time.Second)
	case "other duration":
		seen.Duration += time.Minute
	}
	return seen
}

func pick[T any](t *rapid.T, label string, all []T) T {
	if len(all) == 0 {
		t.SkipNow()
	}
	return rapid.SampledFrom(all).Draw(t, label)
}

// Steps with accounts.

func (m *machine) create(t *rapid.T, email, password string) {
	got, err := m.store.CreateUser(t.Context(), soultribe.NewUser{Email: email, Password: password})
	want, wantErr := m.createUser(got.ID, email, password)
	m.compare(t, fmt.Sprintf("CreateUser(%s, %q)", email, password), got, want, err, wantErr)
}

func (m *machine) mark(t *rapid.T, id soultribe.UserID) {
	m.compare(t, fmt.Sprintf("MarkVerified(%s)", m.name(id)), nil, nil, m.store.MarkVerified(t.Context(), id), m.markVerified(id))
}

func (m *machine) accountSteps() actions {
	return actions{
		"CreateUser": func(t *rapid.T) {
			if len(m.users) == len(names) {
				t.SkipNow()
			}
			m.create(t, address(t), password(t))
		},
		"MarkVerified": func(t *rapid.T) { m.mark(t, m.person(t, "user")) },
		"Authenticate": func(t *rapid.T) {
			email, password := address(t), password(t)
			got, err := m.store.Authenticate(t.Context(), email, password)
			want, wantErr := m.authenticate(email, password)
			m.compare(t, fmt.Sprintf("Authenticate(%s, %q)", email, password), got, want, err, wantErr)
		},
		"ChangePassword": func(t *rapid.T) {
			id := m.person(t, "user")
			current, next := m.passwordOf(t, id), password(t)
			m.compare(t, fmt.Sprintf("ChangePassword(%s, %q, %q)", m.name(id), current, next), nil, nil,
				m.store.ChangePassword(t.Context(), id, current, next), m.changePassword(id, current, next))
		},
		"DeleteUser": func(t *rapid.T) {
			if rapid.IntRange(0, 2).Draw(t, "spare") > 0 {
				t.SkipNow()
			}
			id := m.person(t, "user")
			got, err := m.store.DeleteUser(t.Context(), id)
			want, wantErr := m.deleteUser(id)
			m.compare(t, fmt.Sprintf("DeleteUser(%s)", m.name(id)), got.UserID, want.UserID, err, wantErr)
			require.ElementsMatch(t, want.Matches, got.Matches)
			require.ElementsMatch(t, want.Meetups, got.Meetups)
		},
	}
}

// Steps with tokens.

// issued is what the caller learns of a token.
func issued(t *token) string {
	if t == nil {
		return ""
	}
	return fmt.Sprint(t.user, t.email, t.expires)
}

func (m *machine) compareIssued(t *rapid.T, call string, got soultribe.IssuedToken, want *token, err, wantErr error) {
	t.Helper()
	m.compare(t, call, fmt.Sprint(got.UserID, got.Email, got.ExpiresAt), issued(want), err, wantErr)
}

// secret draws one that was issued, mostly, and names it.
func (m *machine) secret(t *rapid.T) (secret, name string) {
	if i := rapid.IntRange(0, len(m.tokens)).Draw(t, "secret"); i > 0 {
		token := m.tokens[len(m.tokens)-i]
		return token.secret, fmt.Sprintf("%s %d of %s", token.kind, len(m.tokens)-i, m.name(token.user))
	}
	return strings.Repeat("A", 43), "unknown"
}

func (m *machine) tokenSteps() actions {
	verify := func(t *rapid.T) {
		secret, name := m.secret(t)
		got, err := m.store.VerifyEmail(t.Context(), secret)
		want, wantErr := m.verifyEmail(secret)
		m.compare(t, fmt.Sprintf("VerifyEmail(%s)", name), got, want, err, wantErr)
	}
	return actions{
		"VerifyEmail": verify, "VerifyEmail2": verify,
		"ResetPassword": func(t *rapid.T) {
			secret, name := m.secret(t)
			password := password(t)
			got, err := m.store.ResetPassword(t.Context(), secret, password)
			want, wantErr := m.resetPassword(secret, password)
			m.compare(t, fmt.Sprintf("ResetPassword(%s, %q)", name, password), got, want, err, wantErr)
		},
		"IssueEmailVerification": func(t *rapid.T) {
			id := m.person(t, "user")
			got, err := m.store.IssueEmailVerification(t.Context(), id)
			want, wantErr := m.issueEmailVerification(id, got.Secret())
			m.compareIssued(t, fmt.Sprintf("IssueEmailVerification(%s)", m.name(id)), got, want, err, wantErr)
		},
		"IssueEmailChange": func(t *rapid.T) {
			id := m.person(t, "user")
			password, email := m.passwordOf(t, id), address(t)
			got, err := m.store.IssueEmailChange(t.Context(), id, password, email)
			want, wantErr := m.issueEmailChange(id, password, email, got.Secret())
			m.compareIssued(t, fmt.Sprintf("IssueEmailChange(%s, %q, %s)", m.name(id), password, email), got, want, err, wantErr)
		},
		"IssuePasswordReset": func(t *rapid.T) {
			email := address(t)
			got, ok, err := m.store.IssuePasswordReset(t.Context(), email)
			want, wantOK := m.issuePasswordReset(email, got.Secret())
			m.compare(t, fmt.Sprintf("IssuePasswordReset(%s)", email), ok, wantOK, err, nil)
			if ok {
				m.compareIssued(t, "the token", got, want, nil, nil)
			}
		},
	}
}

// Steps with slots.

func shortSlot(s soultribe.NewSlot) string {
	return s.Start.Format("Jan _2 15:04") + "+" + s.End.Sub(s.Start).String()
}

func shortSlots(slots []soultribe.NewSlot) string {
	var b []string
	for _, s := range slots {
		b = append(b, shortSlot(s))
	}
	return strings.Join(b, ", ")
}

func slotIDs(slots []soultribe.Slot) []soultribe.SlotID {
	ids := []soultribe.SlotID{}
	for _, s := range slots {
		ids = append(ids, s.ID)
	}
	return ids
}

func (m *machine) slotSteps() actions {
	return actions{
		"AddSlot": func(t *rapid.T) {
			actor, slot := m.person(t, "actor"), m.newSlot(t)
			got, err := m.store.AddSlot(t.Context(), actor, slot)
			want, wantErr := m.addSlots([]soultribe.SlotID{got.ID}, actor, []soultribe.NewSlot{slot})
			m.compare(t, fmt.Sprintf("AddSlot(%s, %s)", m.name(actor), shortSlot(slot)), []soultribe.Slot{got}, want, err, wantErr)
		},
		"AddSlots": func(t *rapid.T) {
			actor, slots := m.person(t, "actor"), m.newSlots(t)
			got, err := m.store.AddSlots(t.Context(), actor, slots)
			want, wantErr := m.addSlots(slotIDs(got), actor, slots)
			m.compare(t, fmt.Sprintf("AddSlots(%s, %s)", m.name(actor), shortSlots(slots)), got, want, err, wantErr)
		},
		"ReplaceSlots": func(t *rapid.T) {
			actor, slots := m.person(t, "actor"), m.newSlots(t)
			window := soultribe.Window{Start: m.start(t)}
			window.End = window.Start.Add(6 * time.Hour)
			got, err := m.store.ReplaceSlots(t.Context(), actor, window, slots)
			want, wantErr := m.replaceSlots(slotIDs(got), actor, window, slots)
			m.compare(t, fmt.Sprintf("ReplaceSlots(%s, %s+6h, %s)", m.name(actor), window.Start.Format("Jan _2 15:04"), shortSlots(slots)), got, want, err, wantErr)
		},
		"UpdateSlot": func(t *rapid.T) {
			slot := pick(t, "slot", m.slots)
			actor, next := m.person(t, "actor", slot.UserID, slot.UserID), m.newSlot(t)
			got, err := m.store.UpdateSlot(t.Context(), actor, slot.ID, next)
			want, wantErr := m.updateSlot(actor, slot.ID, next)
			m.compare(t, fmt.Sprintf("UpdateSlot(%s, %d, %s)", m.name(actor), slot.ID, shortSlot(next)), got, want, err, wantErr)
		},
		"DeleteSlot": func(t *rapid.T) {
			slot := pick(t, "slot", m.slots)
			actor := m.person(t, "actor", slot.UserID, slot.UserID)
			m.compare(t, fmt.Sprintf("DeleteSlot(%s, %d)", m.name(actor), slot.ID), nil, nil,
				m.store.DeleteSlot(t.Context(), actor, slot.ID), m.deleteSlot(actor, slot.ID))
		},
		"Slots": func(t *rapid.T) {
			actor := m.person(t, "actor")
			got, err := m.store.Slots(t.Context(), actor, soultribe.SlotQuery{})
			want := slices.DeleteFunc(m.slotsOf(actor), func(s soultribe.Slot) bool { return !s.Start.After(m.now) })
			var wantErr error
			if m.user(actor) == nil {
				want, wantErr = nil, soultribe.ErrNotFound
			}
			m.compare(t, fmt.Sprintf("Slots(%s)", m.name(actor)), got.Items, want, err, wantErr)
		},
		"MutualAvailability": func(t *rapid.T) {
			a, b := m.person(t, "a"), m.person(t, "b")
			atLeast := rapid.SampledFrom([]time.Duration{0, 30 * time.Minute}).Draw(t, "at least")
			if a == b || m.user(a) == nil || m.user(b) == nil {
				t.SkipNow()
			}
			got, err := m.store.MutualAvailability(t.Context(), a, b, soultribe.MutualQuery{AtLeast: atLeast})
			want := m.mutual(a, b, m.now, m.now.Add(fortnight), atLeast, a, b)
			m.compare(t, fmt.Sprintf("MutualAvailability(%s, %s, %v)", m.name(a), m.name(b), atLeast), got, want, err, nil)
		},
		"Candidates": func(t *rapid.T) {
			actor := m.person(t, "actor")
			got, err := m.store.Candidates(t.Context(), actor, soultribe.CandidateQuery{})
			want, wantErr := m.candidates(actor)
			m.compare(t, fmt.Sprintf("Candidates(%s)", m.name(actor)), len(got.Items), len(want), err, wantErr)
			require.ElementsMatch(t, want, got.Items)
			require.True(t, slices.IsSortedFunc(got.Items, func(a, b soultribe.Candidate) int { return a.Windows[0].Start.Compare(b.Windows[0].Start) }))
		},
	}
}

func (m *machine) newSlots(t *rapid.T) []soultribe.NewSlot {
	slots := []soultribe.NewSlot{}
	for range rapid.IntRange(0, 3).Draw(t, "slots") {
		slots = append(slots, m.newSlot(t))
	}
	return slots
}

func (m *machine) slotsOf(id soultribe.UserID) []soultribe.Slot {
	slots := []soultribe.Slot{}
	for _, s := range m.slots {
		if s.UserID == id {
			slots = append(slots, *s)
		}
	}
	slices.SortFunc(slots, func(a, b soultribe.Slot) int { return a.Start.Compare(b.Start) })
	return slots
}

// Steps with matches.

func (m *machine) request(t *rapid.T, actor, to soultribe.UserID) {
	got, err := m.store.RequestMatch(t.Context(), actor, to)
	want, wantErr := m.requestMatch(got.ID, actor, to)
	m.compare(t, fmt.Sprintf("RequestMatch(%s, %s)", m.name(actor), m.name(to)), got, want, err, wantErr)
}

// matchStep takes a step with a match that is drawn.
func (m *machine) matchStep(
	name string,
	store func(context.Context, soultribe.UserID, soultribe.MatchID) (soultribe.MatchResult, error),
	model func(soultribe.UserID, soultribe.MatchID) (soultribe.MatchResult, error),
) func(*rapid.T) {
	return func(t *rapid.T) {
		match := pick(t, "match", m.matches)
		actor := m.person(t, "actor", match.User1ID, match.User2ID)
		call := fmt.Sprintf("%s(%s, match of %s and %s)", name, m.name(actor), m.name(match.User1ID), m.name(match.User2ID))
		got, err := store(t.Context(), actor, match.ID)
		want, wantErr := model(actor, match.ID)
		m.compare(t, call, got, want, err, wantErr)
	}
}

func (m *machine) matchSteps() actions {
	request := func(t *rapid.T) { m.request(t, m.person(t, "actor"), m.person(t, "to")) }
	return actions{
		"RequestMatch": request, "RequestMatch2": request,
		"AcceptMatch": m.matchStep("AcceptMatch", m.store.AcceptMatch, func(actor soultribe.UserID, id soultribe.MatchID) (soultribe.MatchResult, error) {
			return m.answerMatch(actor, id, soultribe.MatchAccepted)
		}),
		"RejectMatch": m.matchStep("RejectMatch", m.store.RejectMatch, func(actor soultribe.UserID, id soultribe.MatchID) (soultribe.MatchResult, error) {
			return m.answerMatch(actor, id, soultribe.MatchRejected)
		}),
		"CancelMatch": m.matchStep("CancelMatch", m.store.CancelMatch, m.cancelMatch),
	}
}

// Steps with meetups.

func shortTimes(times soultribe.Times) string {
	return times.Start.Format("Jan _2 15:04:05.0") + "+" + times.Duration.String()
}

func (m *machine) meetupCall(name string, actor soultribe.UserID, meetup *soultribe.Meetup) string {
	return fmt.Sprintf("%s(%s, %s meetup %d of %s and %s at %s", name, m.name(actor), meetup.Status, meetup.ID,
		m.name(meetup.User1ID), m.name(meetup.User2ID), shortTimes(meetup.Times))
}

// anyMeetup draws one, the latest more often.
func (m *machine) anyMeetup(t *rapid.T) *soultribe.Meetup {
	return pick(t, "meetup", append(m.meetups[max(0, len(m.meetups)-3):len(m.meetups):len(m.meetups)], m.meetups...))
}

// meetupStep takes a step with a meetup that is drawn.
func (m *machine) meetupStep(
	name string,
	store func(context.Context, soultribe.UserID, soultribe.MeetupID) (soultribe.MeetupResult, error),
	model func(soultribe.UserID, soultribe.MeetupID) (soultribe.MeetupResult, error),
) func(*rapid.T) {
	return func(t *rapid.T) {
		meetup := m.anyMeetup(t)
		actor := m.person(t, "actor", meetup.User1ID, meetup.User2ID)
		call := m.meetupCall(name, actor, meetup) + ")"
		got, err := store(t.Context(), actor, meetup.ID)
		want, wantErr := model(actor, meetup.ID)
		m.compare(t, call, got, want, err, wantErr)
	}
}

func (m *machine) meetupSteps() actions {
	propose := func(t *rapid.T) {
		match := pick(t, "match", m.matches)
		actor := m.person(t, "actor", match.User1ID, match.User2ID)
		n := soultribe.NewMeetup{MatchID: match.ID, Times: m.times(t)}
		call := fmt.Sprintf("ProposeMeetup(%s, match of %s and %s, %s)", m.name(actor), m.name(match.User1ID), m.name(match.User2ID), shortTimes(n.Times))
		got, err := m.store.ProposeMeetup(t.Context(), actor, n)
		want, wantErr := m.proposeMeetup(got.ID, actor, n)
		m.compare(t, call, got, want, err, wantErr)
	}
	confirm := func(t *rapid.T) {
		meetup := m.anyMeetup(t)
		actor := m.person(t, "actor", meetup.User1ID, meetup.User2ID)
		seen := m.seen(t, meetup)
		call := m.meetupCall("ConfirmMeetup", actor, meetup) + ", seen " + shortTimes(seen) + ")"
		got, err := m.store.ConfirmMeetup(t.Context(), actor, meetup.ID, seen)
		want, wantErr := m.confirmMeetup(actor, meetup.ID, seen)
		m.compare(t, call, got, want, err, wantErr)
	}
	return actions{
		"ProposeMeetup": propose, "ProposeMeetup2": propose, "ConfirmMeetup": confirm, "ConfirmMeetup2": confirm,
		"RescheduleMeetup": func(t *rapid.T) {
			meetup := m.anyMeetup(t)
			actor := m.person(t, "actor", meetup.User1ID, meetup.User2ID)
			r := soultribe.Reschedule{Seen: m.seen(t, meetup), To: m.times(t)}
			call := m.meetupCall("RescheduleMeetup", actor, meetup) + ", seen " + shortTimes(r.Seen) + ", to " + shortTimes(r.To) + ")"
			got, err := m.store.RescheduleMeetup(t.Context(), actor, meetup.ID, r)
			want, wantErr := m.rescheduleMeetup(actor, meetup.ID, r)
			m.compare(t, call, got, want, err, wantErr)
		},
		"CancelMeetup":   m.meetupStep("CancelMeetup", m.store.CancelMeetup, m.cancelMeetup),
		"CompleteMeetup": m.meetupStep("CompleteMeetup", m.store.CompleteMeetup, m.completeMeetup),
		"CancelMatch":    m.matchStep("CancelMatch", m.store.CancelMatch, m.cancelMatch),
		"RequestMatch":   func(t *rapid.T) { m.request(t, m.person(t, "actor"), m.person(t, "to")) },
		"Settle": func(t *rapid.T) {
			got, err := m.store.Settle(t.Context(), soultribe.SettlePolicy{})
			want := m.settleAll()
			m.compare(t, "Settle", got.More, false, err, nil)
			require.ElementsMatch(t, want.Cancelled, got.Cancelled)
			require.ElementsMatch(t, want.Completed, got.Completed)
		},
	}
}

// The tables.

func (m *machine) compareSometimes(t *rapid.T) {
	m.steps++
	if m.steps%8 == 0 {
		m.compareTables(t)
	}
}

// compareTables fails unless everything that is stored is as it is in the society.
func (m *machine) compareTables(t *rapid.T) {
	t.Logf("the tables are compared")
	users := []soultribe.User{}
	for _, u := range m.users {
		if u.gone {
			continue
		}
		users = append(users, u.User)
		require.Equal(t, m.slotsOf(u.ID), collect(t, func(after soultribe.Cursor) (soultribe.Page[soultribe.Slot], error) {
			return m.store.Slots(t.Context(), u.ID, soultribe.SlotQuery{From: soultribetest.Epoch.AddDate(-1, 0, 0), Limit: 2, After: after})
		}))
	}
	require.Equal(t, users, collect(t, func(after soultribe.Cursor) (soultribe.Page[soultribe.User], error) {
		return m.store.Users(t.Context(), soultribe.UserQuery{Limit: 2, After: after})
	}))
	require.ElementsMatch(t, values(m.matches), collect(t, func(after soultribe.Cursor) (soultribe.Page[soultribe.Match], error) {
		return m.store.ScanMatches(t.Context(), soultribe.MatchQuery{Limit: 2, After: after})
	}))
	require.ElementsMatch(t, values(m.meetups), collect(t, func(after soultribe.Cursor) (soultribe.Page[soultribe.Meetup], error) {
		return m.store.ScanMeetups(t.Context(), soultribe.MeetupQuery{Limit: 2, After: after})
	}))
	m.compareTokens(t)
	m.compareBookings(t)
}

// compareTokens looks at every secret with both methods.
func (m *machine) compareTokens(t *rapid.T) {
	for i, token := range m.tokens {
		_, err := m.checkEmailVerification(token.secret)
		require.Equal(t, result(err), result(m.store.CheckEmailVerification(t.Context(), token.secret)), "token %d", i)
		_, err = m.redeemable(token.secret, passwordReset)
		require.Equal(t, result(err), result(m.store.CheckPasswordReset(t.Context(), token.secret)), "token %d", i)
	}
}

// compareBookings holds what no method shows against the society, and the rules against the tables.
func (m *machine) compareBookings(t *rapid.T) {
	bookings := []string{}
	for _, meetup := range m.meetups {
		for _, id := range []soultribe.UserID{meetup.User1ID, meetup.User2ID} {
			if meetup.Status == soultribe.MeetupConfirmed {
				bookings = append(bookings, fmt.Sprintf("%d|%d|%d|%d", id, meetup.ID, meetup.Start.Unix(), end(meetup).Unix()))
			}
		}
	}
	require.ElementsMatch(t, bookings, m.rows(t, `SELECT concat_ws('|', user_id, meetup_id,
		extract(epoch FROM starts_at)::bigint, extract(epoch FROM ends_at)::bigint) FROM soultribe_booking`))
	require.Empty(t, m.rows(t, `SELECT concat('overlap: ', a.user_id, ' ', a.meetup_id, ' ', b.meetup_id) FROM soultribe_booking a, soultribe_booking b
		WHERE a.user_id = b.user_id AND a.meetup_id < b.meetup_id AND a.starts_at < b.ends_at AND b.starts_at < a.ends_at
		UNION ALL SELECT concat('two live meetups: ', match_id) FROM meetup WHERE status IN ('proposed', 'confirmed') GROUP BY match_id HAVING count(*) > 1
		UNION ALL SELECT concat('two matches: ', min(id)) FROM match GROUP BY least(user1_id, user2_id), greatest(user1_id, user2_id) HAVING count(*) > 1
		UNION ALL SELECT concat('live meetup of a match that is not accepted: ', u.id) FROM meetup u JOIN match m ON m.id = u.match_id
			WHERE u.status IN ('proposed', 'confirmed') AND m.status <> 'accepted'
		UNION ALL SELECT concat('overlapping slots: ', a.id, ' ', b.id) FROM availabilityslot a, availabilityslot b
			WHERE a.user_id = b.user_id AND a.id < b.id AND a.start_dt_utc < b.end_dt_utc AND b.start_dt_utc < a.end_dt_utc`))
}

func (m *machine) rows(t *rapid.T, sql string) []string {
	rows, err := m.db.Pool.Query(t.Context(), sql)
	require.NoError(t, err)
	lines := []string{}
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		lines = append(lines, line)
	}
	require.NoError(t, rows.Err())
	return lines
}

func collect[T any](t *rapid.T, page func(soultribe.Cursor) (soultribe.Page[T], error)) []T {
	items := []T{}
	for item, err := range soultribe.All(page) {
		require.NoError(t, err)
		items = append(items, item)
	}
	return items
}

func values[T any](pointers []*T) []T {
	all := []T{}
	for _, p := range pointers {
		all = append(all, *p)
	}
	return all
}
