package soultribetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/soultribe-chat/soultribe"
)

var matchTests = []conformanceTest{
	{name: "steps", run: (*conformance).matchSteps},
	{name: "steps of outsiders", run: (*conformance).matchStepsOfOutsiders},
	{name: "bad arguments", run: (*conformance).matchBadArguments},
	{name: "request judges verification", run: (*conformance).matchVerification},
	{name: "request is one row a pair", run: (*conformance).matchOneRowPerPair},
	{name: "cool-downs", run: (*conformance).matchCooldowns},
	{
		name: "other cool-downs", run: (*conformance).matchOtherCooldowns,
		options: []soultribe.Option{soultribe.WithCooldowns(soultribe.Cooldowns{Rejected: time.Hour, Cancelled: -1})},
	},
	{name: "cancel takes the live meetup along", run: (*conformance).matchCancelsMeetup},
	{name: "times are kept to the microsecond", run: (*conformance).matchTimes},
	{name: "reading", run: (*conformance).matchReading},
	{name: "deleted people", run: (*conformance).matchDeletedPeople},
	{name: "list", run: (*conformance).matchList},
	{name: "list cursors are bound", run: (*conformance).matchCursors},
	{name: "list bad queries", run: (*conformance).matchBadQueries},
	{name: "JSON", run: (*conformance).matchJSON},
}

// sub runs f as a subtest on the same Store.
func (c *conformance) sub(name string, f func(c *conformance)) {
	c.Run(name, func(t *testing.T) {
		inner := *c
		inner.T = t
		defer func() { c.users = inner.users }()
		f(&inner)
	})
}

// result is what a step comes to: an error, or a status and whether the step changed anything.
type result struct {
	status  string
	changed bool
	err     error
}

func becomes[S ~string](status S) result { return result{status: string(status), changed: true} }
func stays[S ~string](status S) result   { return result{status: string(status)} }
func fails(err error) result             { return result{err: err} }

// noStep stands for a TransitionError.
var noStep = fails(new(soultribe.TransitionError))

// wantResult checks the error of a step that should come to want, of which a TransitionError names the
// statuses.
func (c *conformance) wantResult(err error, want result, from, to string) {
	c.Helper()
	if want.err == nil {
		c.noError(err)
		return
	}
	if errors.Is(want.err, noStep.err) {
		c.wantTransition(err, from, to)
		return
	}
	c.wantError(err, want.err)
}

// wantTransition checks that err is the TransitionError from one status to another, and an ErrConflict.
func (c *conformance) wantTransition(err error, from, to string) {
	c.Helper()
	c.wantError(err, soultribe.ErrConflict)
	var transition *soultribe.TransitionError
	if !errors.As(err, &transition) {
		c.Fatalf("error is %v, not a TransitionError", err)
	}
	equal(c, *transition, soultribe.TransitionError{From: from, To: to})
	equal(c, soultribe.Code(err), "transition")
}

// wantCooldown checks that err is the CooldownError until a time.
func (c *conformance) wantCooldown(err error, until time.Time) {
	c.Helper()
	c.wantError(err, soultribe.ErrCooldown)
	var cooldown *soultribe.CooldownError
	if !errors.As(err, &cooldown) {
		c.Fatalf("error is %v, not a CooldownError", err)
	}
	equal(c, cooldown.Until, until)
}

// ids that nobody has, of which zero is apart.
var noIDs = []int64{-1, math.MinInt64, 1 << 30, math.MaxInt32, math.MaxInt32 + 1, math.MaxInt64}

// outsiders are people who have no part in anything: a stranger, one who deleted the account, and ids
// that nobody has.
func (c *conformance) outsiders() []soultribe.UserID {
	c.Helper()
	deleted := c.user("deleted")
	_, err := c.st.DeleteUser(c.Context(), deleted.ID)
	c.noError(err)
	people := []soultribe.UserID{c.user("stranger").ID, deleted.ID}
	for _, id := range noIDs {
		people = append(people, soultribe.UserID(id))
	}
	return people
}

// matchStep is a step in the match id, which the actor has with other.
type matchStep struct {
	name string
	to   soultribe.MatchStatus
	take func(c *conformance, actor, other soultribe.UserID, id soultribe.MatchID) (soultribe.MatchResult, error)
}

var (
	requestStep = matchStep{"request", soultribe.MatchPending, func(c *conformance, actor, other soultribe.UserID, _ soultribe.MatchID) (soultribe.MatchResult, error) {
		return c.st.RequestMatch(c.Context(), actor, other)
	}}
	acceptStep = matchStep{"accept", soultribe.MatchAccepted, func(c *conformance, actor, _ soultribe.UserID, id soultribe.MatchID) (soultribe.MatchResult, error) {
		return c.st.AcceptMatch(c.Context(), actor, id)
	}}
	rejectStep = matchStep{"reject", soultribe.MatchRejected, func(c *conformance, actor, _ soultribe.UserID, id soultribe.MatchID) (soultribe.MatchResult, error) {
		return c.st.RejectMatch(c.Context(), actor, id)
	}}
	cancelStep = matchStep{"cancel", soultribe.MatchCancelled, func(c *conformance, actor, _ soultribe.UserID, id soultribe.MatchID) (soultribe.MatchResult, error) {
		return c.st.CancelMatch(c.Context(), actor, id)
	}}
	matchStepsByID = []matchStep{acceptStep, rejectStep, cancelStep}
)

// matchState is how a match came to where it is, and how long it has been there.
type matchState struct {
	name   string
	status soultribe.MatchStatus
	reach  []matchStep // after the request; the asker cancels, the answerer does the rest
	age    time.Duration
}

var (
	pendingMatch       = matchState{"pending", soultribe.MatchPending, nil, time.Minute}
	acceptedMatch      = matchState{"accepted", soultribe.MatchAccepted, []matchStep{acceptStep}, time.Minute}
	rejectedMatch      = matchState{"rejected", soultribe.MatchRejected, []matchStep{rejectStep}, time.Minute}
	rejectedMatchLong  = matchState{"rejected long ago", soultribe.MatchRejected, []matchStep{rejectStep}, 30 * 24 * time.Hour}
	cancelledMatch     = matchState{"cancelled", soultribe.MatchCancelled, []matchStep{cancelStep}, time.Minute}
	cancelledMatchLong = matchState{"cancelled long ago", soultribe.MatchCancelled, []matchStep{acceptStep, cancelStep}, 24 * time.Hour}
	matchStates        = []matchState{pendingMatch, acceptedMatch, rejectedMatch, rejectedMatchLong, cancelledMatch, cancelledMatchLong}
)

// matchTable says what each step comes to in each state, taken by user1 and by user2.
var matchTable = []struct {
	from         matchState
	step         matchStep
	user1, user2 result
}{
	{pendingMatch, requestStep, stays(soultribe.MatchPending), becomes(soultribe.MatchAccepted)},
	{pendingMatch, acceptStep, fails(soultribe.ErrWrongSide), becomes(soultribe.MatchAccepted)},
	{pendingMatch, rejectStep, fails(soultribe.ErrWrongSide), becomes(soultribe.MatchRejected)},
	{pendingMatch, cancelStep, becomes(soultribe.MatchCancelled), fails(soultribe.ErrWrongSide)},

	{acceptedMatch, requestStep, stays(soultribe.MatchAccepted), stays(soultribe.MatchAccepted)},
	{acceptedMatch, acceptStep, noStep, stays(soultribe.MatchAccepted)},
	{acceptedMatch, rejectStep, noStep, noStep},
	{acceptedMatch, cancelStep, becomes(soultribe.MatchCancelled), becomes(soultribe.MatchCancelled)},

	{rejectedMatch, requestStep, fails(soultribe.ErrCooldown), becomes(soultribe.MatchPending)},
	{rejectedMatch, acceptStep, noStep, noStep},
	{rejectedMatch, rejectStep, noStep, stays(soultribe.MatchRejected)},
	{rejectedMatch, cancelStep, noStep, noStep},

	{rejectedMatchLong, requestStep, becomes(soultribe.MatchPending), becomes(soultribe.MatchPending)},
	{rejectedMatchLong, acceptStep, noStep, noStep},
	{rejectedMatchLong, rejectStep, noStep, stays(soultribe.MatchRejected)},
	{rejectedMatchLong, cancelStep, noStep, noStep},

	{cancelledMatch, requestStep, fails(soultribe.ErrCooldown), fails(soultribe.ErrCooldown)},
	{cancelledMatch, acceptStep, noStep, noStep},
	{cancelledMatch, rejectStep, noStep, noStep},
	{cancelledMatch, cancelStep, stays(soultribe.MatchCancelled), stays(soultribe.MatchCancelled)},

	{cancelledMatchLong, requestStep, becomes(soultribe.MatchPending), becomes(soultribe.MatchPending)},
	{cancelledMatchLong, acceptStep, noStep, noStep},
	{cancelledMatchLong, rejectStep, noStep, noStep},
	{cancelledMatchLong, cancelStep, stays(soultribe.MatchCancelled), stays(soultribe.MatchCancelled)},
}

// matchIn makes a match of two new people in a state.
func (c *conformance) matchIn(s matchState) soultribe.Match {
	c.Helper()
	asker, answerer := c.user("asker").ID, c.user("answerer").ID
	m, err := c.st.RequestMatch(c.Context(), asker, answerer)
	c.noError(err)
	for _, step := range s.reach {
		actor := answerer
		if step.name == cancelStep.name {
			actor = asker
		}
		m, err = step.take(c, actor, asker, m.ID)
		c.noError(err)
	}
	c.clock.Advance(s.age)
	equal(c, m.Status, s.status)
	return m.Match
}

func (c *conformance) matchSteps() {
	equal(c, len(matchTable), len(matchStates)*(1+len(matchStepsByID)))
	for _, cell := range matchTable {
		for _, user2 := range []bool{false, true} {
			actor, want := "user1", cell.user1
			if user2 {
				actor, want = "user2", cell.user2
			}
			c.sub(fmt.Sprintf("%s %s by %s", cell.from.name, cell.step.name, actor), func(c *conformance) {
				before := c.matchIn(cell.from)
				c.matchCell(before, cell.step, user2, want)
			})
		}
	}
}

// matchCell takes one step, and compares what it returns and what is stored.
func (c *conformance) matchCell(before soultribe.Match, step matchStep, user2 bool, want result) {
	c.Helper()
	actor := before.User1ID
	if user2 {
		actor = before.User2ID
	}
	after := before
	if want.changed {
		after.Status, after.UpdatedAt = soultribe.MatchStatus(want.status), c.clock.Now()
		if after.Status == soultribe.MatchPending {
			after.User1ID, after.User2ID = actor, before.Partner(actor)
		}
	}
	got, err := step.take(c, actor, before.Partner(actor), before.ID)
	c.wantResult(err, want, string(before.Status), string(step.to))
	if err == nil {
		equal(c, got, soultribe.MatchResult{Match: after, Changed: want.changed})
	} else {
		equal(c, got, soultribe.MatchResult{})
	}
	c.storedMatch(after)
	if want.err != nil {
		return
	}
	// Once more, a moment later, by the same person: what holds already changes nothing. A request that
	// was answered by one is no exception.
	c.clock.Advance(time.Second)
	got, err = step.take(c, actor, before.Partner(actor), before.ID)
	c.noError(err)
	equal(c, got, soultribe.MatchResult{Match: after})
	c.storedMatch(after)
}

// storedMatch checks what both of its people read.
func (c *conformance) storedMatch(want soultribe.Match) {
	c.Helper()
	for _, reader := range []soultribe.UserID{want.User1ID, want.User2ID} {
		got, err := c.st.Match(c.Context(), reader, want.ID)
		c.noError(err)
		equal(c, got, want)
	}
}

func (c *conformance) matchStepsOfOutsiders() {
	outsiders := c.outsiders()
	for _, state := range matchStates {
		m := c.matchIn(state)
		for _, step := range matchStepsByID {
			for _, actor := range outsiders {
				got, err := step.take(c, actor, 0, m.ID)
				c.wantError(err, soultribe.ErrNotFound)
				equal(c, got, soultribe.MatchResult{})
			}
			_, err := step.take(c, 0, 0, m.ID)
			c.wantInvalid(err, "actor")
		}
		for _, actor := range outsiders {
			_, err := c.st.Match(c.Context(), actor, m.ID)
			c.wantError(err, soultribe.ErrNotFound)
		}
		c.storedMatch(m)
	}
}

func (c *conformance) matchBadArguments() {
	ctx := c.Context()
	a, b := c.user("a").ID, c.user("b").ID
	c.matched(a, b)

	for _, step := range matchStepsByID {
		for _, id := range noIDs {
			_, err := step.take(c, a, b, soultribe.MatchID(id))
			c.wantError(err, soultribe.ErrNotFound)
		}
		_, err := step.take(c, a, b, 0)
		c.wantInvalid(err, "match_id")
		_, err = step.take(c, 0, b, 0)
		c.wantInvalid(err, "actor", "match_id")
	}
	for _, id := range noIDs {
		_, err := c.st.RequestMatch(ctx, a, soultribe.UserID(id))
		c.wantError(err, soultribe.ErrNotFound)
		_, err = c.st.RequestMatch(ctx, soultribe.UserID(id), a)
		c.wantError(err, soultribe.ErrNotFound)
		_, err = c.st.Match(ctx, a, soultribe.MatchID(id))
		c.wantError(err, soultribe.ErrNotFound)
		_, err = c.st.MatchBetween(ctx, a, soultribe.UserID(id))
		c.wantError(err, soultribe.ErrNotFound)
	}
	_, err := c.st.RequestMatch(ctx, 0, b)
	c.wantInvalid(err, "actor")
	_, err = c.st.RequestMatch(ctx, a, 0)
	c.wantInvalid(err, "to")
	_, err = c.st.RequestMatch(ctx, 0, 0)
	c.wantInvalid(err, "actor", "to")
	_, err = c.st.RequestMatch(ctx, a, a)
	c.wantInvalid(err, "to")
	_, err = c.st.Match(ctx, 0, 0)
	c.wantInvalid(err, "actor", "match_id")
	_, err = c.st.MatchBetween(ctx, 0, 0)
	c.wantInvalid(err, "actor", "other")
	_, err = c.st.MatchBetween(ctx, a, a)
	c.wantError(err, soultribe.ErrNotFound)

	page, err := c.st.Matches(ctx, a, soultribe.MatchQuery{})
	c.noError(err)
	equal(c, len(page.Items), 1)
}

func (c *conformance) matchVerification() {
	ctx := c.Context()
	verified, unverified, another := c.user("verified").ID, c.newUser("unverified").ID, c.newUser("another").ID

	_, err := c.st.RequestMatch(ctx, unverified, verified)
	c.wantError(err, soultribe.ErrUnverified, soultribe.ErrForbidden)
	_, err = c.st.RequestMatch(ctx, unverified, another)
	c.wantError(err, soultribe.ErrUnverified)
	// Whether an address is verified is not a stranger's to know.
	_, err = c.st.RequestMatch(ctx, verified, unverified)
	c.wantError(err, soultribe.ErrNotFound)
	_, err = c.st.MatchBetween(ctx, verified, unverified)
	c.wantError(err, soultribe.ErrNotFound)

	c.noError(c.st.MarkVerified(ctx, unverified))
	m, err := c.st.RequestMatch(ctx, unverified, verified)
	c.noError(err)
	equal(c, m.Status, soultribe.MatchPending)
}

func (c *conformance) matchOneRowPerPair() {
	ctx := c.Context()
	a, b := c.user("a").ID, c.user("b").ID
	var ids []soultribe.MatchID
	take := func(step matchStep, actor, other soultribe.UserID, changed bool) {
		c.Helper()
		var id soultribe.MatchID
		if len(ids) > 0 {
			id = ids[0]
		}
		m, err := step.take(c, actor, other, id)
		c.noError(err)
		equal(c, m.Changed, changed)
		ids = append(ids, m.ID)
	}
	take(requestStep, a, b, true)
	take(requestStep, a, b, false)
	take(rejectStep, b, a, true)
	take(requestStep, b, a, true) // who rejected may ask, and is user1 then
	take(requestStep, b, a, false)
	take(requestStep, a, b, true) // which answers
	take(requestStep, b, a, false)
	take(cancelStep, a, b, true)
	c.clock.Advance(24 * time.Hour)
	take(requestStep, a, b, true)
	take(cancelStep, a, b, true)
	c.clock.Advance(24 * time.Hour)
	take(requestStep, b, a, true)
	for _, id := range ids {
		equal(c, id, ids[0])
	}
	page, err := c.st.Matches(ctx, a, soultribe.MatchQuery{})
	c.noError(err)
	equal(c, page.Items, []soultribe.Match{{
		ID: ids[0], User1ID: b, User2ID: a, Status: soultribe.MatchPending, CreatedAt: at(0), UpdatedAt: at(48 * time.Hour),
	}})
}

func (c *conformance) matchCooldowns() {
	ctx := c.Context()
	tests := []struct {
		name     string
		from     matchState
		cooldown time.Duration
		askers   string // who has to wait
	}{
		{"rejected", rejectedMatch, 30 * 24 * time.Hour, "1"},
		{"cancelled", cancelledMatch, 24 * time.Hour, "12"},
		{"cancelled after it was accepted", cancelledMatchLong, 24 * time.Hour, "12"},
	}
	for _, test := range tests {
		for _, asker := range test.askers {
			m := c.matchIn(test.from)
			actor, other := m.User1ID, m.User2ID
			if asker == '2' {
				actor, other = other, actor
			}
			until := m.UpdatedAt.Add(test.cooldown)
			c.clock.Set(until.Add(-time.Microsecond))
			got, err := c.st.RequestMatch(ctx, actor, other)
			c.wantCooldown(err, until)
			equal(c, got, soultribe.MatchResult{})
			c.storedMatch(m)

			c.clock.Set(until)
			got, err = c.st.RequestMatch(ctx, actor, other)
			c.noError(err)
			equal(c, got, soultribe.MatchResult{Changed: true, Match: soultribe.Match{
				ID: m.ID, User1ID: actor, User2ID: other, Status: soultribe.MatchPending, CreatedAt: m.CreatedAt, UpdatedAt: until,
			}})
		}
	}
}

func (c *conformance) matchOtherCooldowns() {
	ctx := c.Context()
	rejected := c.matchIn(rejectedMatch)
	_, err := c.st.RequestMatch(ctx, rejected.User1ID, rejected.User2ID)
	c.wantCooldown(err, rejected.UpdatedAt.Add(time.Hour))
	c.clock.Set(rejected.UpdatedAt.Add(time.Hour))
	m, err := c.st.RequestMatch(ctx, rejected.User1ID, rejected.User2ID)
	c.noError(err)
	equal(c, m.Status, soultribe.MatchPending)

	// Without a cool-down not even the clock has to move.
	for range 3 {
		m, err = c.st.CancelMatch(ctx, rejected.User1ID, rejected.ID)
		c.noError(err)
		equal(c, m.Changed, true)
		m, err = c.st.RequestMatch(ctx, rejected.User1ID, rejected.User2ID)
		c.noError(err)
		equal(c, m.Changed, true)
	}
}

func (c *conformance) matchCancelsMeetup() {
	ctx := c.Context()
	propose := func(m soultribe.Match) soultribe.Meetup {
		c.Helper()
		meetup, err := c.st.ProposeMeetup(ctx, m.User1ID, soultribe.NewMeetup{MatchID: m.ID, Times: soultribe.Times{Start: c.clock.Now().Add(time.Hour)}})
		c.noError(err)
		return meetup.Meetup
	}
	for _, confirmed := range []bool{false, true} {
		m := c.matchIn(acceptedMatch)
		earlier := propose(m)
		_, err := c.st.CancelMeetup(ctx, m.User2ID, earlier.ID)
		c.noError(err)
		earlier.Status, earlier.UpdatedAt = soultribe.MeetupCancelled, c.clock.Now()
		c.clock.Advance(time.Minute)
		live := propose(m)
		if confirmed {
			_, err := c.st.ConfirmMeetup(ctx, m.User2ID, live.ID, live.Times)
			c.noError(err)
		}
		c.clock.Advance(time.Minute)
		_, err = c.st.CancelMatch(ctx, m.User2ID, m.ID)
		c.noError(err)
		live.Status, live.UpdatedAt = soultribe.MeetupCancelled, c.clock.Now()

		for _, want := range []soultribe.Meetup{earlier, live} {
			got, err := c.st.Meetup(ctx, m.User1ID, want.ID)
			c.noError(err)
			equal(c, got, want)
		}
	}
}

func (c *conformance) matchTimes() {
	now := at(time.Hour + 123_456_789*time.Nanosecond)
	c.clock.Set(now.In(time.FixedZone("", 5*3600+1800)))
	m, err := c.st.RequestMatch(c.Context(), c.user("a").ID, c.user("b").ID)
	c.noError(err)
	equal(c, m.CreatedAt, now.Truncate(time.Microsecond))
	equal(c, m.UpdatedAt, now.Truncate(time.Microsecond))
	c.storedMatch(m.Match)
}

func (c *conformance) matchReading() {
	ctx := c.Context()
	a, b, other := c.user("a").ID, c.user("b").ID, c.user("other").ID
	_, err := c.st.MatchBetween(ctx, a, b)
	c.wantError(err, soultribe.ErrNotFound)
	m := c.matched(a, b)
	for _, pair := range [][2]soultribe.UserID{{a, b}, {b, a}} {
		got, err := c.st.MatchBetween(ctx, pair[0], pair[1])
		c.noError(err)
		equal(c, got, m)
		equal(c, got.Partner(pair[0]), pair[1])
	}
	for _, pair := range [][2]soultribe.UserID{{a, other}, {other, a}} {
		_, err := c.st.MatchBetween(ctx, pair[0], pair[1])
		c.wantError(err, soultribe.ErrNotFound)
	}
}

func (c *conformance) matchDeletedPeople() {
	ctx := c.Context()
	for _, state := range matchStates {
		m := c.matchIn(state)
		_, err := c.st.DeleteUser(ctx, m.User1ID)
		c.noError(err)
		// The row is gone with one of its people, for both.
		for _, actor := range []soultribe.UserID{m.User1ID, m.User2ID} {
			for _, step := range append([]matchStep{requestStep}, matchStepsByID...) {
				_, err := step.take(c, actor, m.Partner(actor), m.ID)
				c.wantError(err, soultribe.ErrNotFound)
			}
			_, err := c.st.Match(ctx, actor, m.ID)
			c.wantError(err, soultribe.ErrNotFound)
			_, err = c.st.MatchBetween(ctx, actor, m.Partner(actor))
			c.wantError(err, soultribe.ErrNotFound)
			page, err := c.st.Matches(ctx, actor, soultribe.MatchQuery{})
			if actor == m.User1ID {
				c.wantError(err, soultribe.ErrNotFound)
				continue
			}
			c.noError(err)
			equal(c, page, soultribe.Page[soultribe.Match]{Items: []soultribe.Match{}})
		}
	}
}

// manyMatches makes matches of one person in all statuses, some at the same instant, and returns them
// newest first.
func (c *conformance) manyMatches(me soultribe.UserID) []soultribe.Match {
	c.Helper()
	ctx := c.Context()
	var matches []soultribe.Match
	for i := range 9 {
		other := c.user("other").ID
		asker, answerer := me, other
		if i%2 == 1 {
			asker, answerer = other, me
		}
		m, err := c.st.RequestMatch(ctx, asker, answerer)
		c.noError(err)
		switch i % 4 {
		case 1:
			m, err = c.st.AcceptMatch(ctx, answerer, m.ID)
		case 2:
			m, err = c.st.RejectMatch(ctx, answerer, m.ID)
		case 3:
			m, err = c.st.CancelMatch(ctx, asker, m.ID)
		}
		c.noError(err)
		matches = append([]soultribe.Match{m.Match}, matches...)
		if i%3 == 2 {
			c.clock.Advance(time.Hour)
		}
	}
	return matches
}

func (c *conformance) matchList() {
	ctx := c.Context()
	me := c.user("me").ID
	empty, err := c.st.Matches(ctx, me, soultribe.MatchQuery{})
	c.noError(err)
	equal(c, empty, soultribe.Page[soultribe.Match]{Items: []soultribe.Match{}})

	matches := c.manyMatches(me)
	c.manyMatches(c.user("someone").ID)
	asked := func(m soultribe.Match) bool { return m.User1ID == me }
	status := func(list ...soultribe.MatchStatus) func(soultribe.Match) bool {
		return func(m soultribe.Match) bool { return strings.Contains(fmt.Sprint(list), string(m.Status)) }
	}
	pending, accepted := soultribe.MatchPending, soultribe.MatchAccepted
	tests := []struct {
		name string
		q    soultribe.MatchQuery
		want func(soultribe.Match) bool
	}{
		{"all", soultribe.MatchQuery{}, func(soultribe.Match) bool { return true }},
		{"asked", soultribe.MatchQuery{Role: soultribe.Asked}, asked},
		{"answers", soultribe.MatchQuery{Role: soultribe.Answers}, func(m soultribe.Match) bool { return !asked(m) }},
		{"pending", soultribe.MatchQuery{Status: []soultribe.MatchStatus{pending}}, status(pending)},
		{"two statuses", soultribe.MatchQuery{Status: []soultribe.MatchStatus{pending, accepted}}, status(pending, accepted)},
		{"a status twice", soultribe.MatchQuery{Status: []soultribe.MatchStatus{pending, pending}}, status(pending)},
		{"unknown status", soultribe.MatchQuery{Status: []soultribe.MatchStatus{"suggested"}}, func(soultribe.Match) bool { return false }},
		{"pending and asked", soultribe.MatchQuery{Role: soultribe.Asked, Status: []soultribe.MatchStatus{pending}}, func(m soultribe.Match) bool { return asked(m) && m.Status == pending }},
		{"updated before", soultribe.MatchQuery{UpdatedBefore: at(time.Hour)}, func(m soultribe.Match) bool { return m.UpdatedAt.Before(at(time.Hour)) }},
		{"updated before, to the microsecond", soultribe.MatchQuery{UpdatedBefore: at(time.Hour + time.Microsecond)}, func(m soultribe.Match) bool { return !m.UpdatedAt.After(at(time.Hour)) }},
	}
	for _, test := range tests {
		c.sub(test.name, func(c *conformance) {
			want := []soultribe.Match{}
			for _, m := range matches {
				if test.want(m) {
					want = append(want, m)
				}
			}
			samePages(c, want, func(limit int, after soultribe.Cursor) (soultribe.Page[soultribe.Match], error) {
				q := test.q
				q.Limit, q.After = limit, after
				return c.st.Matches(c.Context(), me, q)
			})
		})
	}
}

// samePages checks that pages of every size hold the list, that none is longer than its limit, and that
// an empty one is not nil.
func samePages[T any](c *conformance, want []T, page func(limit int, after soultribe.Cursor) (soultribe.Page[T], error)) {
	c.Helper()
	for _, limit := range []int{0, 1, 2, 50, 200} {
		got := all(c, func(after soultribe.Cursor) (soultribe.Page[T], error) {
			p, err := page(limit, after)
			if err == nil && (p.Items == nil || limit > 0 && len(p.Items) > limit) {
				c.Fatalf("page of %d is %v", limit, p.Items)
			}
			return p, err
		})
		if !reflect.DeepEqual(got, want) {
			c.Fatalf("pages of %d\ngot  %+v\nwant %+v", limit, got, want)
		}
	}
	// A cursor does not bind the size of the page.
	first, err := page(1, "")
	c.noError(err)
	if first.Next == "" {
		return
	}
	rest, err := page(200, first.Next)
	c.noError(err)
	if got := slices.Concat(first.Items, rest.Items); !reflect.DeepEqual(got, want) {
		c.Fatalf("page of 1 and the rest\ngot  %+v\nwant %+v", got, want)
	}
}

// badCursors are none of any list.
var badCursors = []soultribe.Cursor{
	"x", "=", "AAAA", "\x00", "\xff", " ", "AQ", "\n",
	soultribe.Cursor(strings.Repeat("A", 34)), soultribe.Cursor(strings.Repeat("A", 1<<20)),
}

func (c *conformance) matchCursors() {
	ctx := c.Context()
	me, other := c.user("me").ID, c.user("other").ID
	c.manyMatches(me)
	c.manyMatches(other)
	status := []soultribe.MatchStatus{soultribe.MatchPending}
	first, err := c.st.Matches(ctx, me, soultribe.MatchQuery{Limit: 1})
	c.noError(err)
	asked, err := c.st.Matches(ctx, me, soultribe.MatchQuery{Limit: 1, Role: soultribe.Asked})
	c.noError(err)
	pending, err := c.st.Matches(ctx, me, soultribe.MatchQuery{Limit: 1, Status: status})
	c.noError(err)
	scanned, err := c.st.ScanMatches(ctx, soultribe.MatchQuery{Limit: 1})
	c.noError(err)

	refuse := func(actor soultribe.UserID, q soultribe.MatchQuery) {
		c.Helper()
		page, err := c.st.Matches(ctx, actor, q)
		c.wantInvalid(err, "after")
		equal(c, page.Next, soultribe.Cursor(""))
	}
	refuse(other, soultribe.MatchQuery{After: first.Next})
	refuse(me, soultribe.MatchQuery{After: asked.Next})
	refuse(me, soultribe.MatchQuery{After: pending.Next})
	refuse(me, soultribe.MatchQuery{After: scanned.Next})
	refuse(me, soultribe.MatchQuery{After: first.Next, Role: soultribe.Asked})
	refuse(me, soultribe.MatchQuery{After: asked.Next, Role: soultribe.Answers})
	refuse(me, soultribe.MatchQuery{After: first.Next, Status: status})
	refuse(me, soultribe.MatchQuery{After: first.Next, UpdatedBefore: at(time.Hour)})
	refuse(me, soultribe.MatchQuery{After: first.Next + "A"})
	refuse(me, soultribe.MatchQuery{After: first.Next[1:]})
	for _, bad := range badCursors {
		refuse(me, soultribe.MatchQuery{After: bad})
	}
	_, err = c.st.ScanMatches(ctx, soultribe.MatchQuery{After: first.Next})
	c.wantInvalid(err, "after")
}

func (c *conformance) matchBadQueries() {
	ctx := c.Context()
	me := c.user("me").ID
	tests := []struct {
		q      soultribe.MatchQuery
		fields []string
	}{
		{soultribe.MatchQuery{Limit: -1}, []string{"limit"}},
		{soultribe.MatchQuery{Limit: 201}, []string{"limit"}},
		{soultribe.MatchQuery{Limit: math.MaxInt}, []string{"limit"}},
		{soultribe.MatchQuery{Status: []soultribe.MatchStatus{"a\x00"}}, []string{"status"}},
		{soultribe.MatchQuery{Status: []soultribe.MatchStatus{"\xff"}}, []string{"status"}},
		{soultribe.MatchQuery{Status: []soultribe.MatchStatus{soultribe.MatchStatus(strings.Repeat("a", 16<<20))}}, []string{"status"}},
		{soultribe.MatchQuery{Status: make([]soultribe.MatchStatus, 1000)}, []string{"status"}},
		{soultribe.MatchQuery{UpdatedBefore: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, []string{"updated_before"}},
		{soultribe.MatchQuery{UpdatedBefore: time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC)}, []string{"updated_before"}},
		{soultribe.MatchQuery{Limit: 1000, After: "x"}, []string{"limit", "after"}},
	}
	for _, test := range tests {
		_, err := c.st.Matches(ctx, me, test.q)
		c.wantInvalid(err, test.fields...)
		_, err = c.st.ScanMatches(ctx, test.q)
		c.wantInvalid(err, test.fields...)
	}
	for _, role := range []soultribe.MatchRole{-1, 3} {
		_, err := c.st.Matches(ctx, me, soultribe.MatchQuery{Role: role})
		c.wantInvalid(err, "role")
	}
	_, err := c.st.Matches(ctx, 0, soultribe.MatchQuery{})
	c.wantInvalid(err, "actor")
	for _, id := range noIDs {
		_, err := c.st.Matches(ctx, soultribe.UserID(id), soultribe.MatchQuery{})
		c.wantError(err, soultribe.ErrNotFound)
	}
}

// roundTrip checks that a value is the same after a trip through JSON.
func roundTrip[T any](c *conformance, value T) {
	c.Helper()
	b, err := json.Marshal(value)
	c.noError(err)
	var back T
	c.noError(json.Unmarshal(b, &back))
	equal(c, back, value)
}

func (c *conformance) matchJSON() {
	ctx := c.Context()
	c.clock.Advance(123456 * time.Microsecond)
	m, err := c.st.RequestMatch(ctx, c.user("a").ID, c.user("b").ID)
	c.noError(err)
	roundTrip(c, m)
	roundTrip(c, m.Match)
	page, err := c.st.Matches(ctx, m.User1ID, soultribe.MatchQuery{})
	c.noError(err)
	roundTrip(c, page)
}
