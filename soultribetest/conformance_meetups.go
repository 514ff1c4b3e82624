package soultribetest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/soultribe-chat/soultribe"
)

var meetupTests = []conformanceTest{
	{name: "steps", run: (*conformance).meetupSteps},
	{name: "steps of outsiders", run: (*conformance).meetupStepsOfOutsiders},
	{name: "bad arguments", run: (*conformance).meetupBadArguments},
	{name: "bad times", run: (*conformance).meetupBadTimes},
	{name: "only in an accepted match", run: (*conformance).meetupNeedsMatch},
	{name: "propose", run: (*conformance).meetupPropose},
	{name: "propose settles first", run: (*conformance).meetupProposeSettles},
	{name: "times are kept and compared to the second", run: (*conformance).meetupSeconds},
	{name: "the past begins with the start", run: (*conformance).meetupPast},
	{name: "confirm wants the times seen", run: (*conformance).meetupSeen},
	{name: "reschedule", run: (*conformance).meetupReschedule},
	{name: "nobody is booked twice", run: (*conformance).meetupDoubleBooked},
	{name: "what frees a booking", run: (*conformance).meetupFreesBooking},
	{name: "list", run: (*conformance).meetupList},
	{name: "list cursors are bound", run: (*conformance).meetupCursors},
	{name: "list bad queries", run: (*conformance).meetupBadQueries},
	{name: "JSON", run: (*conformance).meetupJSON},
}

// meetupStep is a step with a meetup. The times are what the actor sees, and where to move them.
type meetupStep struct {
	name string
	to   soultribe.MeetupStatus
	take func(c *conformance, actor soultribe.UserID, m soultribe.Meetup) (soultribe.MeetupResult, error)
}

// later are other times than m has.
func later(m soultribe.Meetup) soultribe.Times {
	return soultribe.Times{Start: m.Start.Add(100 * time.Hour), Duration: m.Duration + time.Minute}
}

// mistaken are times that m does not have.
func mistaken(m soultribe.Meetup) soultribe.Times {
	return soultribe.Times{Start: m.Start.Add(time.Second), Duration: m.Duration}
}

var (
	proposeStep = meetupStep{"propose", soultribe.MeetupProposed, func(c *conformance, actor soultribe.UserID, m soultribe.Meetup) (soultribe.MeetupResult, error) {
		return c.st.ProposeMeetup(c.Context(), actor, soultribe.NewMeetup{MatchID: m.MatchID, Times: later(m)})
	}}
	confirmStep = meetupStep{"confirm", soultribe.MeetupConfirmed, func(c *conformance, actor soultribe.UserID, m soultribe.Meetup) (soultribe.MeetupResult, error) {
		return c.st.ConfirmMeetup(c.Context(), actor, m.ID, m.Times)
	}}
	confirmOthersStep = meetupStep{"confirm other times", soultribe.MeetupConfirmed, func(c *conformance, actor soultribe.UserID, m soultribe.Meetup) (soultribe.MeetupResult, error) {
		return c.st.ConfirmMeetup(c.Context(), actor, m.ID, mistaken(m))
	}}
	rescheduleStep = meetupStep{"reschedule", soultribe.MeetupProposed, func(c *conformance, actor soultribe.UserID, m soultribe.Meetup) (soultribe.MeetupResult, error) {
		return c.st.RescheduleMeetup(c.Context(), actor, m.ID, soultribe.Reschedule{Seen: m.Times, To: later(m)})
	}}
	rescheduleOthersStep = meetupStep{"reschedule from other times", soultribe.MeetupProposed, func(c *conformance, actor soultribe.UserID, m soultribe.Meetup) (soultribe.MeetupResult, error) {
		return c.st.RescheduleMeetup(c.Context(), actor, m.ID, soultribe.Reschedule{Seen: mistaken(m), To: later(m)})
	}}
	cancelMeetupStep = meetupStep{"cancel", soultribe.MeetupCancelled, func(c *conformance, actor soultribe.UserID, m soultribe.Meetup) (soultribe.MeetupResult, error) {
		return c.st.CancelMeetup(c.Context(), actor, m.ID)
	}}
	completeStep = meetupStep{"complete", soultribe.MeetupCompleted, func(c *conformance, actor soultribe.UserID, m soultribe.Meetup) (soultribe.MeetupResult, error) {
		return c.st.CompleteMeetup(c.Context(), actor, m.ID)
	}}
	meetupStepsByID = []meetupStep{confirmStep, confirmOthersStep, rescheduleStep, rescheduleOthersStep, cancelMeetupStep, completeStep}
)

// meetupState is how a meetup of an hour, proposed to begin in two, came to where it is, and what time it
// is then, counted from its start.
type meetupState struct {
	name   string
	status soultribe.MeetupStatus
	now    time.Duration
}

var (
	proposedAhead   = meetupState{"proposed", soultribe.MeetupProposed, -time.Second}
	proposedPast    = meetupState{"proposed and past", soultribe.MeetupProposed, 0}
	confirmedAhead  = meetupState{"confirmed", soultribe.MeetupConfirmed, -time.Second}
	confirmedNow    = meetupState{"confirmed and under way", soultribe.MeetupConfirmed, 0}
	confirmedEnding = meetupState{"confirmed and about to end", soultribe.MeetupConfirmed, time.Hour - time.Microsecond}
	confirmedOver   = meetupState{"confirmed and over", soultribe.MeetupConfirmed, time.Hour}
	completedMeetup = meetupState{"completed", soultribe.MeetupCompleted, 2 * time.Hour}
	cancelledMeetup = meetupState{"cancelled", soultribe.MeetupCancelled, -time.Second}
	cancelledPast   = meetupState{"cancelled and past", soultribe.MeetupCancelled, 2 * time.Hour}
	meetupStates    = []meetupState{
		proposedAhead, proposedPast, confirmedAhead, confirmedNow, confirmedEnding, confirmedOver, completedMeetup, cancelledMeetup, cancelledPast,
	}
)

// Short names, for the sake of the table.
var (
	toProposed  = becomes(soultribe.MeetupProposed)
	toConfirmed = becomes(soultribe.MeetupConfirmed)
	toCompleted = becomes(soultribe.MeetupCompleted)
	toCancelled = becomes(soultribe.MeetupCancelled)

	wrongSide = fails(soultribe.ErrWrongSide)
	changed   = fails(soultribe.ErrMeetupChanged)
	past      = fails(soultribe.ErrPast)
	exists    = fails(soultribe.ErrMeetupExists)
)

// meetupTable says what each step comes to in each state, taken by the one who proposed and by the other.
var meetupTable = []struct {
	from            meetupState
	step            meetupStep
	proposer, other result
}{
	{proposedAhead, confirmStep, wrongSide, toConfirmed},
	{proposedAhead, confirmOthersStep, wrongSide, changed},
	{proposedAhead, rescheduleStep, toProposed, toProposed},
	{proposedAhead, rescheduleOthersStep, changed, changed},
	{proposedAhead, cancelMeetupStep, toCancelled, toCancelled},
	{proposedAhead, completeStep, noStep, noStep},
	{proposedAhead, proposeStep, exists, exists},

	{proposedPast, confirmStep, wrongSide, past},
	{proposedPast, confirmOthersStep, wrongSide, past},
	{proposedPast, rescheduleStep, past, past},
	{proposedPast, rescheduleOthersStep, past, past},
	{proposedPast, cancelMeetupStep, past, past},
	{proposedPast, completeStep, noStep, noStep},
	{proposedPast, proposeStep, toProposed, toProposed},

	{confirmedAhead, confirmStep, noStep, stays(soultribe.MeetupConfirmed)},
	{confirmedAhead, confirmOthersStep, noStep, changed},
	{confirmedAhead, rescheduleStep, toProposed, toProposed},
	{confirmedAhead, rescheduleOthersStep, changed, changed},
	{confirmedAhead, cancelMeetupStep, toCancelled, toCancelled},
	{confirmedAhead, completeStep, noStep, noStep},
	{confirmedAhead, proposeStep, exists, exists},

	{confirmedNow, confirmStep, noStep, stays(soultribe.MeetupConfirmed)},
	{confirmedNow, confirmOthersStep, noStep, changed},
	{confirmedNow, rescheduleStep, past, past},
	{confirmedNow, rescheduleOthersStep, past, past},
	{confirmedNow, cancelMeetupStep, past, past},
	{confirmedNow, completeStep, noStep, noStep},
	{confirmedNow, proposeStep, exists, exists},

	{confirmedEnding, confirmStep, noStep, stays(soultribe.MeetupConfirmed)},
	{confirmedEnding, confirmOthersStep, noStep, changed},
	{confirmedEnding, rescheduleStep, past, past},
	{confirmedEnding, rescheduleOthersStep, past, past},
	{confirmedEnding, cancelMeetupStep, past, past},
	{confirmedEnding, completeStep, noStep, noStep},
	{confirmedEnding, proposeStep, exists, exists},

	{confirmedOver, confirmStep, noStep, stays(soultribe.MeetupConfirmed)},
	{confirmedOver, confirmOthersStep, noStep, changed},
	{confirmedOver, rescheduleStep, past, past},
	{confirmedOver, rescheduleOthersStep, past, past},
	{confirmedOver, cancelMeetupStep, past, past},
	{confirmedOver, completeStep, toCompleted, toCompleted},
	{confirmedOver, proposeStep, toProposed, toProposed},

	{completedMeetup, confirmStep, noStep, noStep},
	{completedMeetup, confirmOthersStep, noStep, noStep},
	{completedMeetup, rescheduleStep, noStep, noStep},
	{completedMeetup, rescheduleOthersStep, noStep, noStep},
	{completedMeetup, cancelMeetupStep, noStep, noStep},
	{completedMeetup, completeStep, stays(soultribe.MeetupCompleted), stays(soultribe.MeetupCompleted)},
	{completedMeetup, proposeStep, toProposed, toProposed},

	{cancelledMeetup, confirmStep, noStep, noStep},
	{cancelledMeetup, confirmOthersStep, noStep, noStep},
	{cancelledMeetup, rescheduleStep, noStep, noStep},
	{cancelledMeetup, rescheduleOthersStep, noStep, noStep},
	{cancelledMeetup, cancelMeetupStep, stays(soultribe.MeetupCancelled), stays(soultribe.MeetupCancelled)},
	{cancelledMeetup, completeStep, noStep, noStep},
	{cancelledMeetup, proposeStep, toProposed, toProposed},

	{cancelledPast, confirmStep, noStep, noStep},
	{cancelledPast, confirmOthersStep, noStep, noStep},
	{cancelledPast, rescheduleStep, noStep, noStep},
	{cancelledPast, rescheduleOthersStep, noStep, noStep},
	{cancelledPast, cancelMeetupStep, stays(soultribe.MeetupCancelled), stays(soultribe.MeetupCancelled)},
	{cancelledPast, completeStep, noStep, noStep},
	{cancelledPast, proposeStep, toProposed, toProposed},
}

// propose proposes an hour that begins so long from now.
func (c *conformance) propose(actor soultribe.UserID, match soultribe.MatchID, ahead time.Duration) soultribe.Meetup {
	c.Helper()
	m, err := c.st.ProposeMeetup(c.Context(), actor, soultribe.NewMeetup{
		MatchID: match, Times: soultribe.Times{Start: c.clock.Now().Add(ahead), Duration: time.Hour},
	})
	c.noError(err)
	equal(c, m.Changed, true)
	return m.Meetup
}

// confirm confirms a meetup as the one who did not propose it.
func (c *conformance) confirm(m soultribe.Meetup) soultribe.Meetup {
	c.Helper()
	confirmed, err := c.st.ConfirmMeetup(c.Context(), otherThan(m, m.ProposerID), m.ID, m.Times)
	c.noError(err)
	equal(c, confirmed.Changed, true)
	return confirmed.Meetup
}

// otherThan is the other one of the two.
func otherThan(m soultribe.Meetup, of soultribe.UserID) soultribe.UserID {
	return soultribe.Match{User1ID: m.User1ID, User2ID: m.User2ID}.Partner(of)
}

// meetupIn makes a meetup of two new people, proposed by either of them, in a state.
func (c *conformance) meetupIn(s meetupState, byUser2 bool) soultribe.Meetup {
	c.Helper()
	match := c.matched(c.user("asker").ID, c.user("answerer").ID)
	proposer := match.User1ID
	if byUser2 {
		proposer = match.User2ID
	}
	m := c.propose(proposer, match.ID, 2*time.Hour)
	if s.status == soultribe.MeetupConfirmed || s.status == soultribe.MeetupCompleted {
		m = c.confirm(m)
	}
	var err error
	moved := soultribe.MeetupResult{Meetup: m}
	switch s.status {
	case soultribe.MeetupCancelled:
		moved, err = c.st.CancelMeetup(c.Context(), proposer, m.ID)
	case soultribe.MeetupCompleted:
		c.clock.Set(m.End())
		moved, err = c.st.CompleteMeetup(c.Context(), proposer, m.ID)
	}
	c.noError(err)
	c.clock.Set(m.Start.Add(s.now))
	equal(c, moved.Status, s.status)
	return moved.Meetup
}

func (c *conformance) meetupSteps() {
	equal(c, len(meetupTable), len(meetupStates)*(1+len(meetupStepsByID)))
	for i, cell := range meetupTable {
		for _, other := range []bool{false, true} {
			who, want := "proposer", cell.proposer
			if other {
				who, want = "other", cell.other
			}
			c.sub(fmt.Sprintf("%s %s by %s", cell.from.name, cell.step.name, who), func(c *conformance) {
				before := c.meetupIn(cell.from, i%2 == 1)
				actor := before.ProposerID
				if other {
					actor = otherThan(before, actor)
				}
				if cell.step.name == proposeStep.name {
					c.proposeCell(before, actor, want)
				} else {
					c.meetupCell(before, cell.step, actor, want)
				}
			})
		}
	}
}

// meetupCell takes one step, and compares what it returns and what is stored.
func (c *conformance) meetupCell(before soultribe.Meetup, step meetupStep, actor soultribe.UserID, want result) {
	c.Helper()
	after := before
	if want.changed {
		after.Status, after.UpdatedAt = soultribe.MeetupStatus(want.status), c.clock.Now()
		if after.Status == soultribe.MeetupProposed {
			after.ProposerID, after.Times = actor, later(before)
		}
	}
	got, err := step.take(c, actor, before)
	c.wantResult(err, want, string(before.Status), string(step.to))
	if err == nil {
		equal(c, got, soultribe.MeetupResult{Meetup: after, Changed: want.changed})
	} else {
		equal(c, got, soultribe.MeetupResult{})
	}
	c.storedMeetup(after)
	if want.err != nil {
		return
	}
	// Once more, a moment later, by the same person and with the same arguments.
	c.clock.Advance(time.Millisecond)
	got, err = step.take(c, actor, before)
	c.noError(err)
	equal(c, got, soultribe.MeetupResult{Meetup: after})
	c.storedMeetup(after)
}

// proposeCell proposes beside a meetup, which is settled by that if it has passed.
func (c *conformance) proposeCell(before soultribe.Meetup, actor soultribe.UserID, want result) {
	c.Helper()
	got, err := proposeStep.take(c, actor, before)
	c.wantResult(err, want, string(before.Status), string(proposeStep.to))
	settled := before
	if want.err == nil {
		made := soultribe.Meetup{
			ID: got.ID, MatchID: before.MatchID, User1ID: before.User1ID, User2ID: before.User2ID, ProposerID: actor,
			Times: later(before), Status: soultribe.MeetupProposed, CreatedAt: c.clock.Now(), UpdatedAt: c.clock.Now(),
		}
		equal(c, got, soultribe.MeetupResult{Meetup: made, Changed: true})
		equal(c, got.ID != before.ID, true)
		c.storedMeetup(made)
		switch before.Status {
		case soultribe.MeetupProposed:
			settled.Status, settled.UpdatedAt = soultribe.MeetupCancelled, c.clock.Now()
		case soultribe.MeetupConfirmed:
			settled.Status, settled.UpdatedAt = soultribe.MeetupCompleted, c.clock.Now()
		}
		c.clock.Advance(time.Millisecond)
		again, err := proposeStep.take(c, actor, before)
		c.noError(err)
		equal(c, again, soultribe.MeetupResult{Meetup: made})
	}
	c.storedMeetup(settled)
}

// storedMeetup checks what both of its people read.
func (c *conformance) storedMeetup(want soultribe.Meetup) {
	c.Helper()
	for _, reader := range []soultribe.UserID{want.User1ID, want.User2ID} {
		got, err := c.st.Meetup(c.Context(), reader, want.ID)
		c.noError(err)
		equal(c, got, want)
	}
}

func (c *conformance) meetupStepsOfOutsiders() {
	outsiders := c.outsiders()
	for _, state := range meetupStates {
		m := c.meetupIn(state, false)
		steps := append([]meetupStep{proposeStep}, meetupStepsByID...)
		for _, step := range steps {
			for _, actor := range outsiders {
				got, err := step.take(c, actor, m)
				c.wantError(err, soultribe.ErrNotFound)
				equal(c, got, soultribe.MeetupResult{})
			}
			_, err := step.take(c, 0, m)
			c.wantInvalid(err, "actor")
		}
		for i, actor := range outsiders {
			_, err := c.st.Meetup(c.Context(), actor, m.ID)
			c.wantError(err, soultribe.ErrNotFound)
			page, err := c.st.Meetups(c.Context(), actor, soultribe.MeetupQuery{MatchID: m.MatchID})
			if i > 0 { // but a stranger, who is someone
				c.wantError(err, soultribe.ErrNotFound)
				continue
			}
			c.noError(err)
			equal(c, page, soultribe.Page[soultribe.Meetup]{Items: []soultribe.Meetup{}})
		}
		c.storedMeetup(m)
		// With one of the two the meetup goes, for both.
		_, err := c.st.DeleteUser(c.Context(), m.User2ID)
		c.noError(err)
		for _, step := range steps {
			for _, actor := range []soultribe.UserID{m.User1ID, m.User2ID} {
				_, err := step.take(c, actor, m)
				c.wantError(err, soultribe.ErrNotFound)
			}
		}
		_, err = c.st.Meetup(c.Context(), m.User1ID, m.ID)
		c.wantError(err, soultribe.ErrNotFound)
	}
}

func (c *conformance) meetupBadArguments() {
	match := c.matched(c.user("a").ID, c.user("b").ID)
	m := c.propose(match.User1ID, match.ID, time.Hour)
	for _, id := range noIDs {
		nobodys := m
		nobodys.ID, nobodys.MatchID = soultribe.MeetupID(id), soultribe.MatchID(id)
		for _, step := range append([]meetupStep{proposeStep}, meetupStepsByID...) {
			_, err := step.take(c, m.User1ID, nobodys)
			c.wantError(err, soultribe.ErrNotFound)
		}
		_, err := c.st.Meetup(c.Context(), m.User1ID, nobodys.ID)
		c.wantError(err, soultribe.ErrNotFound)
	}
	none := m
	none.ID, none.MatchID = 0, 0
	for _, step := range meetupStepsByID {
		_, err := step.take(c, m.User1ID, none)
		c.wantInvalid(err, "meetup_id")
		_, err = step.take(c, 0, none)
		c.wantInvalid(err, "actor", "meetup_id")
	}
	_, err := proposeStep.take(c, 0, none)
	c.wantInvalid(err, "actor", "match_id")
	_, err = c.st.Meetup(c.Context(), 0, 0)
	c.wantInvalid(err, "actor", "meetup_id")
	c.storedMeetup(m)
}

func (c *conformance) meetupBadTimes() {
	ctx := c.Context()
	match := c.matched(c.user("a").ID, c.user("b").ID)
	soon := at(time.Hour)
	tests := []struct {
		name  string
		times soultribe.Times
		field string
	}{
		{"nothing", soultribe.Times{}, "start"},
		{"no start", soultribe.Times{Duration: time.Hour}, "start"},
		{"a second", soultribe.Times{Start: soon, Duration: time.Second}, "duration_seconds"},
		{"less than a second", soultribe.Times{Start: soon, Duration: time.Nanosecond}, "duration_seconds"},
		{"a moment too short", soultribe.Times{Start: soon, Duration: 15*time.Minute - time.Nanosecond}, "duration_seconds"},
		{"a second too long", soultribe.Times{Start: soon, Duration: 24*time.Hour + time.Second}, "duration_seconds"},
		{"negative", soultribe.Times{Start: soon, Duration: -time.Hour}, "duration_seconds"},
		{"as long as can be", soultribe.Times{Start: soon, Duration: math.MaxInt64}, "duration_seconds"},
		{"as negative as can be", soultribe.Times{Start: soon, Duration: math.MinInt64}, "duration_seconds"},
		{"after 9999", soultribe.Times{Start: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, "start"},
		{"ends after 9999", soultribe.Times{Start: time.Date(9999, 12, 31, 23, 30, 0, 0, time.UTC)}, "start"},
		{"before 4713 BC", soultribe.Times{Start: time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC)}, "start"},
		{"the furthest future", soultribe.Times{Start: time.Unix(math.MaxInt64, 0)}, "start"},
		{"the furthest past", soultribe.Times{Start: time.Unix(math.MinInt64, 0)}, "start"},
	}
	for _, test := range tests {
		c.sub(test.name, func(c *conformance) {
			_, err := c.st.ProposeMeetup(ctx, match.User1ID, soultribe.NewMeetup{MatchID: match.ID, Times: test.times})
			c.wantInvalid(err, test.field)
		})
	}
	m := c.propose(match.User1ID, match.ID, time.Hour)
	for _, test := range tests {
		c.sub("reschedule to "+test.name, func(c *conformance) {
			_, err := c.st.RescheduleMeetup(ctx, match.User1ID, m.ID, soultribe.Reschedule{Seen: m.Times, To: test.times})
			c.wantInvalid(err, test.field)
		})
	}
	for _, start := range []time.Time{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(math.MaxInt64, 0)} {
		_, err := c.st.ConfirmMeetup(ctx, match.User2ID, m.ID, soultribe.Times{Start: start})
		c.wantInvalid(err, "start")
		_, err = c.st.RescheduleMeetup(ctx, match.User2ID, m.ID, soultribe.Reschedule{Seen: soultribe.Times{Start: start}, To: later(m)})
		c.wantInvalid(err, "start")
	}
	for _, duration := range []time.Duration{-time.Hour, time.Second, math.MaxInt64, math.MinInt64} {
		_, err := c.st.ConfirmMeetup(ctx, match.User2ID, m.ID, soultribe.Times{Start: m.Start, Duration: duration})
		c.wantError(err, soultribe.ErrMeetupChanged)
	}
	_, err := c.st.ConfirmMeetup(ctx, match.User2ID, m.ID, soultribe.Times{})
	c.wantError(err, soultribe.ErrMeetupChanged)
	c.storedMeetup(m)

	// The shortest and the longest that may be.
	for _, duration := range []time.Duration{15 * time.Minute, 24 * time.Hour} {
		_, err := c.st.RescheduleMeetup(ctx, match.User1ID, m.ID, soultribe.Reschedule{Seen: m.Times, To: soultribe.Times{Start: soon, Duration: duration}})
		c.noError(err)
		m.Times = soultribe.Times{Start: soon, Duration: duration}
	}
}

func (c *conformance) meetupNeedsMatch() {
	for _, state := range matchStates {
		match := c.matchIn(state)
		for _, actor := range []soultribe.UserID{match.User1ID, match.User2ID} {
			got, err := c.st.ProposeMeetup(c.Context(), actor, soultribe.NewMeetup{
				MatchID: match.ID, Times: soultribe.Times{Start: c.clock.Now().Add(time.Hour)},
			})
			if state.status != soultribe.MatchAccepted {
				c.wantTransition(err, string(state.status), "proposed")
				equal(c, got, soultribe.MeetupResult{})
				continue
			}
			c.noError(err)
			_, err = c.st.CancelMeetup(c.Context(), actor, got.ID)
			c.noError(err)
		}
	}
	// One of an accepted match that was cancelled, and asked for again, is over for good.
	match := c.matchIn(acceptedMatch)
	m := c.propose(match.User1ID, match.ID, 72*time.Hour)
	_, err := c.st.CancelMatch(c.Context(), match.User1ID, match.ID)
	c.noError(err)
	_, err = confirmStep.take(c, match.User2ID, m)
	c.wantTransition(err, "cancelled", "confirmed")
	c.clock.Advance(24 * time.Hour)
	c.matched(match.User2ID, match.User1ID)
	_, err = confirmStep.take(c, match.User2ID, m)
	c.wantTransition(err, "cancelled", "confirmed")
	_, err = rescheduleStep.take(c, match.User2ID, m)
	c.wantTransition(err, "cancelled", "proposed")
	fresh := c.propose(match.User1ID, match.ID, time.Hour)
	equal(c, fresh.User1ID, match.User2ID) // who asked last
}

func (c *conformance) meetupPropose() {
	ctx := c.Context()
	match := c.matched(c.user("a").ID, c.user("b").ID)
	proposal := soultribe.NewMeetup{MatchID: match.ID, Times: soultribe.Times{Start: at(time.Hour)}}
	m, err := c.st.ProposeMeetup(ctx, match.User2ID, proposal)
	c.noError(err)
	equal(c, m, soultribe.MeetupResult{Changed: true, Meetup: soultribe.Meetup{
		ID: m.ID, MatchID: match.ID, User1ID: match.User1ID, User2ID: match.User2ID, ProposerID: match.User2ID,
		Times: soultribe.Times{Start: at(time.Hour), Duration: time.Hour}, Status: soultribe.MeetupProposed, CreatedAt: at(0), UpdatedAt: at(0),
	}})
	equal(c, m.End(), at(2*time.Hour))

	// The same proposal once more, with the default spelled out, in another place's time.
	c.clock.Advance(time.Minute)
	proposal.Start = proposal.Start.In(time.FixedZone("", -3600))
	proposal.Duration = time.Hour
	again, err := c.st.ProposeMeetup(ctx, match.User2ID, proposal)
	c.noError(err)
	equal(c, again, soultribe.MeetupResult{Meetup: m.Meetup})
	// From the other one it is another proposal.
	_, err = c.st.ProposeMeetup(ctx, match.User1ID, proposal)
	c.wantError(err, soultribe.ErrMeetupExists, soultribe.ErrConflict)
	proposal.Duration += time.Second
	_, err = c.st.ProposeMeetup(ctx, match.User2ID, proposal)
	c.wantError(err, soultribe.ErrMeetupExists)
	proposal.Start, proposal.Duration = proposal.Start.Add(time.Second), time.Hour
	_, err = c.st.ProposeMeetup(ctx, match.User2ID, proposal)
	c.wantError(err, soultribe.ErrMeetupExists)
	c.storedMeetup(m.Meetup)
}

func (c *conformance) meetupProposeSettles() {
	match := c.matched(c.user("a").ID, c.user("b").ID)
	elsewhere := c.matched(c.user("c").ID, c.user("d").ID)
	forgotten := c.propose(elsewhere.User1ID, elsewhere.ID, time.Hour)
	var all []soultribe.Meetup
	for i := range 4 {
		m := c.propose(match.User1ID, match.ID, time.Hour)
		if i%2 == 1 {
			m = c.confirm(m)
		}
		all = append(all, m)
		c.clock.Set(m.End())
	}
	c.propose(match.User1ID, match.ID, time.Hour)
	for i, m := range all {
		m.Status, m.UpdatedAt = soultribe.MeetupCancelled, m.End()
		if i%2 == 1 {
			m.Status = soultribe.MeetupCompleted
		}
		c.storedMeetup(m)
	}
	c.storedMeetup(forgotten)

	// A proposal that is refused settles nothing.
	c.clock.Advance(3 * time.Hour)
	for _, start := range []time.Time{c.clock.Now(), {}} {
		_, err := c.st.ProposeMeetup(c.Context(), forgotten.User1ID, soultribe.NewMeetup{MatchID: elsewhere.ID, Times: soultribe.Times{Start: start}})
		if err == nil {
			c.Fatalf("a meetup at %v was proposed", start)
		}
	}
	_, err := c.st.ProposeMeetup(c.Context(), match.User1ID, soultribe.NewMeetup{MatchID: elsewhere.ID, Times: soultribe.Times{Start: c.clock.Now().Add(time.Hour)}})
	c.wantError(err, soultribe.ErrNotFound)
	c.storedMeetup(forgotten)
}

func (c *conformance) meetupSeconds() {
	ctx := c.Context()
	match := c.matched(c.user("a").ID, c.user("b").ID)
	given := soultribe.Times{Start: at(time.Hour + 999_999_999*time.Nanosecond), Duration: 20*time.Minute + 999*time.Millisecond}
	kept := soultribe.Times{Start: at(time.Hour), Duration: 20 * time.Minute}
	m, err := c.st.ProposeMeetup(ctx, match.User1ID, soultribe.NewMeetup{MatchID: match.ID, Times: given})
	c.noError(err)
	equal(c, m.Times, kept)
	again, err := c.st.ProposeMeetup(ctx, match.User1ID, soultribe.NewMeetup{MatchID: match.ID, Times: kept})
	c.noError(err)
	equal(c, again.Changed, false)

	to := soultribe.Times{Start: at(2*time.Hour + time.Nanosecond), Duration: 24*time.Hour + 999*time.Millisecond}
	moved, err := c.st.RescheduleMeetup(ctx, match.User1ID, m.ID, soultribe.Reschedule{Seen: given, To: to})
	c.noError(err)
	equal(c, moved.Times, soultribe.Times{Start: at(2 * time.Hour), Duration: 24 * time.Hour})
	_, err = c.st.ConfirmMeetup(ctx, match.User2ID, m.ID, soultribe.Times{Start: at(2*time.Hour - time.Nanosecond), Duration: 24 * time.Hour})
	c.wantError(err, soultribe.ErrMeetupChanged)
	confirmed, err := c.st.ConfirmMeetup(ctx, match.User2ID, m.ID, to)
	c.noError(err)
	equal(c, confirmed.Times, moved.Times)
	again, err = c.st.ConfirmMeetup(ctx, match.User2ID, m.ID, to)
	c.noError(err)
	equal(c, again, soultribe.MeetupResult{Meetup: confirmed.Meetup})
}

func (c *conformance) meetupPast() {
	ctx := c.Context()
	match := c.matched(c.user("a").ID, c.user("b").ID)
	c.clock.Set(at(500 * time.Millisecond))
	for _, ahead := range []time.Duration{-time.Hour, 0, 400 * time.Millisecond} {
		_, err := c.st.ProposeMeetup(ctx, match.User1ID, soultribe.NewMeetup{MatchID: match.ID, Times: soultribe.Times{Start: c.clock.Now().Add(ahead)}})
		c.wantError(err, soultribe.ErrPast, soultribe.ErrConflict)
	}
	m := c.propose(match.User1ID, match.ID, 500*time.Millisecond) // begins with the next second
	_, err := c.st.RescheduleMeetup(ctx, match.User1ID, m.ID, soultribe.Reschedule{Seen: m.Times, To: soultribe.Times{Start: c.clock.Now()}})
	c.wantError(err, soultribe.ErrPast)

	c.clock.Set(m.Start.Add(-time.Microsecond))
	confirmed := c.confirm(m)
	c.clock.Set(m.Start)
	_, err = c.st.CancelMeetup(ctx, match.User1ID, m.ID)
	c.wantError(err, soultribe.ErrPast)
	c.storedMeetup(confirmed)
}

func (c *conformance) meetupSeen() {
	ctx := c.Context()
	match := c.matched(c.user("a").ID, c.user("b").ID)
	m := c.propose(match.User1ID, match.ID, time.Hour)
	seen := m.Times
	moved, err := c.st.RescheduleMeetup(ctx, match.User1ID, m.ID, soultribe.Reschedule{Seen: seen, To: later(m)})
	c.noError(err)
	for _, times := range []soultribe.Times{
		seen,
		{Start: moved.Start},
		{Start: moved.Start, Duration: moved.Duration - time.Second},
		{Start: moved.Start.Add(-time.Second), Duration: moved.Duration},
	} {
		_, err := c.st.ConfirmMeetup(ctx, match.User2ID, m.ID, times)
		c.wantError(err, soultribe.ErrMeetupChanged, soultribe.ErrConflict)
		_, err = c.st.RescheduleMeetup(ctx, match.User2ID, m.ID, soultribe.Reschedule{Seen: times, To: soultribe.Times{Start: at(5 * time.Hour)}})
		c.wantError(err, soultribe.ErrMeetupChanged)
	}
	c.storedMeetup(moved.Meetup)
	c.confirm(moved.Meetup)

	// Back at the times once seen they may be confirmed again, and 0 stands for an hour.
	back, err := c.st.RescheduleMeetup(ctx, match.User1ID, m.ID, soultribe.Reschedule{Seen: moved.Times, To: soultribe.Times{Start: seen.Start}})
	c.noError(err)
	confirmed, err := c.st.ConfirmMeetup(ctx, match.User2ID, m.ID, soultribe.Times{Start: seen.Start})
	c.noError(err)
	equal(c, confirmed.Times, back.Times)
}

func (c *conformance) meetupReschedule() {
	ctx := c.Context()
	match := c.matched(c.user("a").ID, c.user("b").ID)
	m := c.propose(match.User1ID, match.ID, time.Hour)

	// To keep the times is a proposal of the same times: the other one's when the other one does it.
	got, err := c.st.RescheduleMeetup(ctx, match.User1ID, m.ID, soultribe.Reschedule{Seen: m.Times, To: m.Times})
	c.noError(err)
	equal(c, got, soultribe.MeetupResult{Meetup: m})
	got, err = c.st.RescheduleMeetup(ctx, match.User2ID, m.ID, soultribe.Reschedule{Seen: m.Times, To: m.Times})
	c.noError(err)
	m.ProposerID = match.User2ID
	equal(c, got, soultribe.MeetupResult{Meetup: m, Changed: true})
	_, err = c.st.ConfirmMeetup(ctx, match.User2ID, m.ID, m.Times)
	c.wantError(err, soultribe.ErrWrongSide, soultribe.ErrForbidden)

	// What both want at once: the second finds that it is the first one's proposal.
	to := later(m)
	_, err = c.st.RescheduleMeetup(ctx, match.User1ID, m.ID, soultribe.Reschedule{Seen: m.Times, To: to})
	c.noError(err)
	_, err = c.st.RescheduleMeetup(ctx, match.User2ID, m.ID, soultribe.Reschedule{Seen: m.Times, To: to})
	c.wantError(err, soultribe.ErrMeetupChanged)
	m.ProposerID, m.Times = match.User1ID, to
	c.storedMeetup(m)
	m = c.confirm(m)
	// A confirmed one has to be confirmed anew, even at the same times.
	got, err = c.st.RescheduleMeetup(ctx, match.User1ID, m.ID, soultribe.Reschedule{Seen: m.Times, To: m.Times})
	c.noError(err)
	m.Status = soultribe.MeetupProposed
	equal(c, got, soultribe.MeetupResult{Meetup: m, Changed: true})
}

func (c *conformance) meetupDoubleBooked() {
	shared := c.user("shared").ID
	hour := func(start time.Duration) soultribe.Times {
		return soultribe.Times{Start: at(start), Duration: time.Hour}
	}
	meet := func(c *conformance, times soultribe.Times, sharedAsked bool) soultribe.Meetup {
		c.Helper()
		other := c.user("other").ID
		match := c.matched(other, shared)
		proposer := other
		if sharedAsked {
			proposer = shared
		}
		m, err := c.st.ProposeMeetup(c.Context(), proposer, soultribe.NewMeetup{MatchID: match.ID, Times: times})
		c.noError(err)
		return m.Meetup
	}
	first := c.confirm(meet(c, hour(10*time.Hour), false))
	tests := []struct {
		name  string
		times soultribe.Times
		busy  bool
	}{
		{"the same hour", hour(10 * time.Hour), true},
		{"a second at its end", hour(11*time.Hour - time.Second), true},
		{"a second at its start", hour(9*time.Hour + time.Second), true},
		{"within it", soultribe.Times{Start: at(10*time.Hour + 20*time.Minute), Duration: 15 * time.Minute}, true},
		{"around it", soultribe.Times{Start: at(5 * time.Hour), Duration: 12 * time.Hour}, true},
		{"just before it", hour(9 * time.Hour), false},
		{"just after it", hour(11 * time.Hour), false},
	}
	for i, test := range tests {
		c.sub(test.name, func(c *conformance) {
			// It is the shared one's confirmation or the other one's: it makes no difference.
			m := meet(c, test.times, i%2 == 0)
			confirmer := otherThan(m, m.ProposerID)
			got, err := c.st.ConfirmMeetup(c.Context(), confirmer, m.ID, m.Times)
			if !test.busy {
				c.noError(err)
				equal(c, got.Status, soultribe.MeetupConfirmed)
				return
			}
			c.wantError(err, soultribe.ErrDoubleBooked, soultribe.ErrConflict)
			equal(c, got, soultribe.MeetupResult{})
			c.storedMeetup(m)
			// Other errors come first: the confirmer learns nothing of the other one's calendar by them.
			_, err = c.st.ConfirmMeetup(c.Context(), m.ProposerID, m.ID, m.Times)
			c.wantError(err, soultribe.ErrWrongSide)
			_, err = c.st.ConfirmMeetup(c.Context(), confirmer, m.ID, mistaken(m))
			c.wantError(err, soultribe.ErrMeetupChanged)
		})
	}
	c.storedMeetup(first)
}

func (c *conformance) meetupFreesBooking() {
	ctx := c.Context()
	tests := []struct {
		name string
		free func(m soultribe.Meetup) error
	}{
		{"cancel", func(m soultribe.Meetup) error {
			_, err := c.st.CancelMeetup(ctx, m.User1ID, m.ID)
			return err
		}},
		{"reschedule", func(m soultribe.Meetup) error {
			_, err := c.st.RescheduleMeetup(ctx, m.User1ID, m.ID, soultribe.Reschedule{Seen: m.Times, To: later(m)})
			return err
		}},
		{"cancel of the match", func(m soultribe.Meetup) error {
			_, err := c.st.CancelMatch(ctx, m.User1ID, m.MatchID)
			return err
		}},
		{"deletion of the other one", func(m soultribe.Meetup) error {
			_, err := c.st.DeleteUser(ctx, m.User2ID)
			return err
		}},
	}
	for _, test := range tests {
		c.sub(test.name, func(c *conformance) {
			shared := c.user("shared").ID
			first := c.matched(shared, c.user("first").ID)
			second := c.matched(c.user("second").ID, shared)
			taken := c.confirm(c.propose(shared, first.ID, time.Hour))
			waiting := c.propose(shared, second.ID, time.Hour)
			_, err := confirmStep.take(c, second.User1ID, waiting)
			c.wantError(err, soultribe.ErrDoubleBooked)
			c.noError(test.free(taken))
			c.confirm(waiting)
		})
	}
}

// manyMeetups makes meetups of one person in all statuses, some at the same time, in two matches, and
// returns them in order.
func (c *conformance) manyMeetups(me soultribe.UserID) []soultribe.Meetup {
	c.Helper()
	ctx := c.Context()
	matches := []soultribe.Match{c.matched(me, c.user("one").ID), c.matched(c.user("two").ID, me)}
	var meetups []soultribe.Meetup
	for i := range 8 {
		match := matches[i%2]
		m := c.propose(match.User1ID, match.ID, 2*time.Hour)
		var err error
		moved := soultribe.MeetupResult{Meetup: m}
		switch i {
		case 0, 3, 4:
			c.confirm(m)
			c.clock.Set(m.End())
			moved, err = c.st.CompleteMeetup(ctx, me, m.ID)
		case 6:
			moved.Meetup = c.confirm(m)
		case 7:
		default:
			moved, err = c.st.CancelMeetup(ctx, me, m.ID)
		}
		c.noError(err)
		meetups = append(meetups, moved.Meetup)
	}
	slices.SortFunc(meetups, func(a, b soultribe.Meetup) int {
		if !a.Start.Equal(b.Start) {
			return a.Start.Compare(b.Start)
		}
		return int(a.ID - b.ID)
	})
	return meetups
}

func (c *conformance) meetupList() {
	ctx := c.Context()
	me := c.user("me").ID
	empty, err := c.st.Meetups(ctx, me, soultribe.MeetupQuery{})
	c.noError(err)
	equal(c, empty, soultribe.Page[soultribe.Meetup]{Items: []soultribe.Meetup{}})

	meetups := c.manyMeetups(me)
	others := c.manyMeetups(c.user("someone").ID)
	first := meetups[0]
	from, to := meetups[2].Start, meetups[6].Start
	tests := []struct {
		name string
		q    soultribe.MeetupQuery
		want func(m soultribe.Meetup) bool
	}{
		{"all", soultribe.MeetupQuery{}, func(soultribe.Meetup) bool { return true }},
		{"of a match", soultribe.MeetupQuery{MatchID: first.MatchID}, func(m soultribe.Meetup) bool { return m.MatchID == first.MatchID }},
		{"of a match of others", soultribe.MeetupQuery{MatchID: others[0].MatchID}, func(soultribe.Meetup) bool { return false }},
		{"of no match", soultribe.MeetupQuery{MatchID: math.MaxInt64}, func(soultribe.Meetup) bool { return false }},
		{"live", soultribe.MeetupQuery{Status: []soultribe.MeetupStatus{soultribe.MeetupProposed, soultribe.MeetupConfirmed}}, func(m soultribe.Meetup) bool {
			return m.Status == soultribe.MeetupProposed || m.Status == soultribe.MeetupConfirmed
		}},
		{"of a status that nobody has", soultribe.MeetupQuery{Status: []soultribe.MeetupStatus{"canceled"}}, func(soultribe.Meetup) bool { return false }},
		{"from", soultribe.MeetupQuery{From: from}, func(m soultribe.Meetup) bool { return !m.Start.Before(from) }},
		{"to", soultribe.MeetupQuery{To: to}, func(m soultribe.Meetup) bool { return m.Start.Before(to) }},
		{"from and to", soultribe.MeetupQuery{From: from, To: to, Status: []soultribe.MeetupStatus{soultribe.MeetupCancelled}}, func(m soultribe.Meetup) bool {
			return !m.Start.Before(from) && m.Start.Before(to) && m.Status == soultribe.MeetupCancelled
		}},
		{"from after to", soultribe.MeetupQuery{From: to, To: from}, func(soultribe.Meetup) bool { return false }},
	}
	for _, test := range tests {
		for _, latest := range []bool{false, true} {
			c.sub(fmt.Sprintf("%s, latest %t", test.name, latest), func(c *conformance) {
				want := []soultribe.Meetup{}
				for _, m := range meetups {
					if test.want(m) {
						want = append(want, m)
					}
				}
				if latest {
					slices.Reverse(want)
				}
				samePages(c, want, func(limit int, after soultribe.Cursor) (soultribe.Page[soultribe.Meetup], error) {
					q := test.q
					q.Latest, q.Limit, q.After = latest, limit, after
					return c.st.Meetups(c.Context(), me, q)
				})
			})
		}
	}
}

func (c *conformance) meetupCursors() {
	ctx := c.Context()
	me, other := c.user("me").ID, c.user("other").ID
	match := c.manyMeetups(me)[0].MatchID
	c.manyMeetups(other)
	cursor := func(q soultribe.MeetupQuery) soultribe.Cursor {
		c.Helper()
		q.Limit = 1
		page, err := c.st.Meetups(ctx, me, q)
		c.noError(err)
		equal(c, page.Next != "", true)
		return page.Next
	}
	status := []soultribe.MeetupStatus{soultribe.MeetupCancelled}
	queries := []soultribe.MeetupQuery{
		{},
		{Latest: true},
		{MatchID: match},
		{Status: status},
		{From: at(-time.Hour)},
		{To: at(1000 * time.Hour)},
		{From: at(-time.Hour), To: at(1000 * time.Hour)},
	}
	for i, from := range queries {
		after := cursor(from)
		for j, to := range queries {
			to.After = after
			page, err := c.st.Meetups(ctx, me, to)
			if i == j {
				c.noError(err)
				equal(c, len(page.Items) > 0, true)
				continue
			}
			c.wantInvalid(err, "after")
			equal(c, len(page.Items), 0)
		}
		from.After = after
		_, err := c.st.Meetups(ctx, other, from)
		c.wantInvalid(err, "after")
		_, err = c.st.ScanMeetups(ctx, from)
		c.wantInvalid(err, "after")
	}
	for _, bad := range badCursors {
		_, err := c.st.Meetups(ctx, me, soultribe.MeetupQuery{After: bad})
		c.wantInvalid(err, "after")
	}
}

func (c *conformance) meetupBadQueries() {
	ctx := c.Context()
	me := c.user("me").ID
	tests := []struct {
		q      soultribe.MeetupQuery
		fields []string
	}{
		{soultribe.MeetupQuery{Limit: -1}, []string{"limit"}},
		{soultribe.MeetupQuery{Limit: 201}, []string{"limit"}},
		{soultribe.MeetupQuery{Limit: math.MinInt}, []string{"limit"}},
		{soultribe.MeetupQuery{Status: []soultribe.MeetupStatus{"\x00"}}, []string{"status"}},
		{soultribe.MeetupQuery{Status: []soultribe.MeetupStatus{"a\xff"}}, []string{"status"}},
		{soultribe.MeetupQuery{Status: []soultribe.MeetupStatus{soultribe.MeetupStatus(strings.Repeat("a", 16<<20))}}, []string{"status"}},
		{soultribe.MeetupQuery{Status: make([]soultribe.MeetupStatus, 1000)}, []string{"status"}},
		{soultribe.MeetupQuery{From: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, []string{"from"}},
		{soultribe.MeetupQuery{To: time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC)}, []string{"to"}},
		{soultribe.MeetupQuery{Limit: -1, After: "x", From: time.Unix(math.MaxInt64, 0), To: time.Unix(math.MinInt64, 0)}, []string{"limit", "after", "from", "to"}},
	}
	for _, test := range tests {
		_, err := c.st.Meetups(ctx, me, test.q)
		c.wantInvalid(err, test.fields...)
		_, err = c.st.ScanMeetups(ctx, test.q)
		c.wantInvalid(err, test.fields...)
	}
	_, err := c.st.Meetups(ctx, 0, soultribe.MeetupQuery{})
	c.wantInvalid(err, "actor")
}

func (c *conformance) meetupJSON() {
	ctx := c.Context()
	c.clock.Advance(123456 * time.Microsecond)
	match := c.matched(c.user("a").ID, c.user("b").ID)
	m, err := c.st.ProposeMeetup(ctx, match.User1ID, soultribe.NewMeetup{
		MatchID: match.ID, Times: soultribe.Times{Start: at(time.Hour), Duration: 15*time.Minute + time.Second},
	})
	c.noError(err)
	roundTrip(c, m)
	roundTrip(c, m.Meetup)
	roundTrip(c, m.Times)
	roundTrip(c, soultribe.NewMeetup{MatchID: match.ID, Times: m.Times})
	roundTrip(c, soultribe.Reschedule{Seen: m.Times, To: later(m.Meetup)})
	page, err := c.st.Meetups(ctx, match.User1ID, soultribe.MeetupQuery{})
	c.noError(err)
	roundTrip(c, page)
}
