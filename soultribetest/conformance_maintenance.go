package soultribetest

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/soultribe-chat/soultribe"
)

var maintenanceTests = []conformanceTest{
	{name: "pending matches", run: (*conformance).pendingMatches},
	{name: "scan matches", run: (*conformance).scanMatches},
	{name: "scan meetups", run: (*conformance).scanMeetups},
	{name: "settle", run: (*conformance).settle},
	{name: "settle in parts", run: (*conformance).settleParts},
	{name: "purge tokens", run: (*conformance).purgeTokens},
	{name: "purge slots", run: (*conformance).purgeSlots},
	{name: "purge meetups", run: (*conformance).purgeMeetups},
	{name: "purge unverified accounts", run: (*conformance).purgeUnverified},
	{name: "purge in parts", run: (*conformance).purgeParts},
	{name: "purge preview", run: (*conformance).purgePreview},
	{name: "purge bad policies", run: (*conformance).purgeBadPolicies},
	{name: "stats", run: (*conformance).stats},
	{name: "ready", run: (*conformance).ready},
	{name: "InTx commits", run: (*conformance).inTxCommits},
	{name: "InTx rolls back", run: (*conformance).inTxRollsBack},
	{name: "InTx in InTx", run: (*conformance).inTxNested},
	{name: "WithTx", run: (*conformance).withTx},
	{name: "conflicts leave the transaction usable", run: (*conformance).conflictsInTx},
	{name: "Decorate", run: (*conformance).decorate},
	{name: "cancelled context", run: (*conformance).cancelledContext},
}

func (c *conformance) pendingMatches() {
	ctx := c.Context()
	empty, err := c.st.PendingMatches(ctx, soultribe.PageQuery{})
	c.noError(err)
	equal(c, empty, soultribe.Page[soultribe.PendingMatch]{Items: []soultribe.PendingMatch{}})

	want := []soultribe.PendingMatch{}
	for i := range 7 {
		asker, answerer := c.user("asker"), c.user("answerer")
		m, err := c.st.RequestMatch(ctx, asker.ID, answerer.ID)
		c.noError(err)
		want = append(want, soultribe.PendingMatch{Match: m.Match, User1Email: asker.Email, User2Email: answerer.Email})
		if i%3 == 2 {
			c.clock.Advance(time.Second)
		}
	}
	for _, state := range matchStates[1:] {
		c.matchIn(state)
	}
	// One that is asked again has its old place, and who asks now first.
	again := c.matchIn(rejectedMatchLong)
	_, err = c.st.RequestMatch(ctx, again.User2ID, again.User1ID)
	c.noError(err)
	again, err = c.st.Match(ctx, again.User1ID, again.ID)
	c.noError(err)
	user1, err := c.st.User(ctx, again.User1ID)
	c.noError(err)
	user2, err := c.st.User(ctx, again.User2ID)
	c.noError(err)
	want = append(want, soultribe.PendingMatch{Match: again, User1Email: user1.Email, User2Email: user2.Email})

	page := func(limit int, after soultribe.Cursor) (soultribe.Page[soultribe.PendingMatch], error) {
		return c.st.PendingMatches(ctx, soultribe.PageQuery{Limit: limit, After: after})
	}
	samePages(c, want, page)
	first, err := page(1, "")
	c.noError(err)
	roundTrip(c, first)
	for _, limit := range []int{-1, 201} {
		_, err := page(limit, "")
		c.wantInvalid(err, "limit")
	}
	scanned, err := c.st.ScanMatches(ctx, soultribe.MatchQuery{Limit: 1})
	c.noError(err)
	for _, bad := range append(badCursors, scanned.Next) {
		_, err := page(0, bad)
		c.wantInvalid(err, "after")
	}
	_, err = c.st.DeleteUser(ctx, want[0].User1ID)
	c.noError(err)
	samePages(c, want[1:], page)
}

func (c *conformance) scanMatches() {
	ctx := c.Context()
	matches := c.manyMatches(c.user("me").ID)
	matches = append(c.manyMatches(c.user("other").ID), matches...)
	for _, status := range []soultribe.MatchStatus{"", soultribe.MatchPending, soultribe.MatchCancelled, "canceled"} {
		q := soultribe.MatchQuery{Role: 99} // which has no meaning here
		want := []soultribe.Match{}
		for _, m := range matches {
			if status == "" || m.Status == status {
				want = append(want, m)
			}
		}
		if status != "" {
			q.Status = []soultribe.MatchStatus{status}
		}
		samePages(c, want, func(limit int, after soultribe.Cursor) (soultribe.Page[soultribe.Match], error) {
			q.Limit, q.After = limit, after
			return c.st.ScanMatches(ctx, q)
		})
	}
	before := matches[4].UpdatedAt
	want := slices.DeleteFunc(slices.Clone(matches), func(m soultribe.Match) bool { return !m.UpdatedAt.Before(before) })
	samePages(c, want, func(limit int, after soultribe.Cursor) (soultribe.Page[soultribe.Match], error) {
		return c.st.ScanMatches(ctx, soultribe.MatchQuery{UpdatedBefore: before, Limit: limit, After: after})
	})
}

func (c *conformance) scanMeetups() {
	ctx := c.Context()
	meetups := append(c.manyMeetups(c.user("me").ID), c.manyMeetups(c.user("other").ID)...)
	slices.SortStableFunc(meetups, func(a, b soultribe.Meetup) int { return a.Start.Compare(b.Start) })
	from := meetups[3].Start
	tests := []struct {
		q    soultribe.MeetupQuery
		want func(m soultribe.Meetup) bool
	}{
		{soultribe.MeetupQuery{}, func(soultribe.Meetup) bool { return true }},
		{soultribe.MeetupQuery{MatchID: meetups[0].MatchID}, func(m soultribe.Meetup) bool { return m.MatchID == meetups[0].MatchID }},
		{soultribe.MeetupQuery{From: from, Status: []soultribe.MeetupStatus{soultribe.MeetupCancelled}}, func(m soultribe.Meetup) bool {
			return !m.Start.Before(from) && m.Status == soultribe.MeetupCancelled
		}},
		{soultribe.MeetupQuery{To: from}, func(m soultribe.Meetup) bool { return m.Start.Before(from) }},
	}
	for _, test := range tests {
		want := []soultribe.Meetup{}
		for _, m := range meetups {
			if test.want(m) {
				want = append(want, m)
			}
		}
		for _, latest := range []bool{false, true} {
			if latest {
				slices.Reverse(want)
			}
			samePages(c, want, func(limit int, after soultribe.Cursor) (soultribe.Page[soultribe.Meetup], error) {
				q := test.q
				q.Latest, q.Limit, q.After = latest, limit, after
				return c.st.ScanMeetups(ctx, q)
			})
		}
	}
}

func (c *conformance) settle() {
	ctx := c.Context()
	settle := func(want soultribe.Settled) {
		c.Helper()
		got, err := c.st.Settle(ctx, soultribe.SettlePolicy{})
		c.noError(err)
		equal(c, got, want)
		roundTrip(c, got)
		for _, m := range slices.Concat(got.Cancelled, got.Completed) {
			c.storedMeetup(m)
		}
	}
	nothing := soultribe.Settled{Cancelled: []soultribe.Meetup{}, Completed: []soultribe.Meetup{}}
	settle(nothing)

	propose := func(ahead time.Duration) soultribe.Meetup {
		c.Helper()
		match := c.matched(c.user("a").ID, c.user("b").ID)
		return c.propose(match.User2ID, match.ID, ahead)
	}
	proposed := propose(2 * time.Hour)
	confirmed := c.confirm(propose(time.Hour)) // over when the proposal's start has come
	long := propose(time.Hour)
	moved, err := c.st.RescheduleMeetup(ctx, long.User1ID, long.ID, soultribe.Reschedule{
		Seen: long.Times, To: soultribe.Times{Start: long.Start, Duration: 24 * time.Hour},
	})
	c.noError(err)
	long = c.confirm(moved.Meetup)
	cancelled := propose(time.Hour)
	_, err = c.st.CancelMeetup(ctx, cancelled.User1ID, cancelled.ID)
	c.noError(err)
	ahead := propose(30 * time.Hour)

	c.clock.Set(confirmed.Start)
	settle(nothing)
	c.clock.Set(proposed.Start.Add(-time.Microsecond))
	settle(nothing)
	c.clock.Set(proposed.Start)
	proposed.Status, proposed.UpdatedAt = soultribe.MeetupCancelled, c.clock.Now()
	confirmed.Status, confirmed.UpdatedAt = soultribe.MeetupCompleted, c.clock.Now()
	settle(soultribe.Settled{Cancelled: []soultribe.Meetup{proposed}, Completed: []soultribe.Meetup{confirmed}})
	settle(nothing)
	c.storedMeetup(long)

	c.clock.Set(long.End())
	long.Status, long.UpdatedAt = soultribe.MeetupCompleted, c.clock.Now()
	settle(soultribe.Settled{Cancelled: []soultribe.Meetup{}, Completed: []soultribe.Meetup{long}})
	c.storedMeetup(ahead)
	for _, limit := range []int{-1, 10_001, math.MaxInt} {
		_, err := c.st.Settle(ctx, soultribe.SettlePolicy{Limit: limit})
		c.wantInvalid(err, "limit")
	}
	_, err = c.st.Settle(ctx, soultribe.SettlePolicy{Limit: 10_000})
	c.noError(err)
}

func (c *conformance) settleParts() {
	var want []soultribe.MeetupID
	for i := range 5 {
		match := c.matched(c.user("a").ID, c.user("b").ID)
		m := c.propose(match.User1ID, match.ID, time.Duration(5-i)*time.Hour)
		if i%2 == 0 {
			c.confirm(m)
		}
		want = append([]soultribe.MeetupID{m.ID}, want...)
	}
	c.clock.Advance(24 * time.Hour)
	var got []soultribe.MeetupID
	for _, part := range []int{2, 2, 1} {
		s, err := c.st.Settle(c.Context(), soultribe.SettlePolicy{Limit: 2})
		c.noError(err)
		equal(c, s.More, part == 2)
		var ids []soultribe.MeetupID
		for _, m := range append(s.Cancelled, s.Completed...) {
			ids = append(ids, m.ID)
		}
		slices.SortFunc(ids, func(a, b soultribe.MeetupID) int { return slices.Index(want, a) - slices.Index(want, b) })
		equal(c, len(ids), part)
		got = append(got, ids...)
	}
	equal(c, got, want) // the oldest first
}

// purge removes, and checks how much that was, and that it was what a preview says.
func (c *conformance) purge(policy soultribe.PurgePolicy, want soultribe.Purged) {
	c.Helper()
	preview := c.previewPurge(policy)
	got, err := c.st.Purge(c.Context(), policy)
	c.noError(err)
	equal(c, got, want)
	left := c.previewPurge(policy)
	got.More = false
	equal(c, sumOf(got, left), preview)
}

func (c *conformance) previewPurge(policy soultribe.PurgePolicy) soultribe.Purged {
	c.Helper()
	policy.DryRun = true
	preview, err := c.st.Purge(c.Context(), policy)
	c.noError(err)
	return preview
}

func sumOf(a, b soultribe.Purged) soultribe.Purged {
	a.EmailVerifications += b.EmailVerifications
	a.PasswordResets += b.PasswordResets
	a.Slots += b.Slots
	a.Meetups += b.Meetups
	a.Users += b.Users
	a.More = a.More || b.More
	return a
}

func (c *conformance) purgeTokens() {
	ctx := c.Context()
	const age = 48 * time.Hour
	policy := soultribe.PurgePolicy{Tokens: age}
	unused, used := c.newUser("unused"), c.newUser("used")
	_, err := c.st.IssueEmailVerification(ctx, unused.ID) // until 24 h
	c.noError(err)
	verification, err := c.st.IssueEmailVerification(ctx, used.ID)
	c.noError(err)
	reset, ok, err := c.st.IssuePasswordReset(ctx, unused.Email) // until 1 h
	c.noError(err)
	equal(c, ok, true)
	c.clock.Advance(time.Minute)
	_, err = c.st.VerifyEmail(ctx, verification.Secret())
	c.noError(err)

	c.clock.Set(at(time.Minute + age - time.Microsecond))
	c.purge(policy, soultribe.Purged{})
	c.clock.Set(at(time.Minute + age + time.Microsecond))
	c.purge(policy, soultribe.Purged{EmailVerifications: 1})
	c.clock.Set(at(time.Hour + age - time.Microsecond))
	c.purge(policy, soultribe.Purged{})
	c.wantError(c.st.CheckPasswordReset(ctx, reset.Secret()), soultribe.ErrTokenExpired)
	c.clock.Set(at(time.Hour + age + time.Microsecond))
	c.purge(policy, soultribe.Purged{PasswordResets: 1})
	c.wantError(c.st.CheckPasswordReset(ctx, reset.Secret()), soultribe.ErrTokenInvalid)
	c.clock.Set(at(24*time.Hour + age + time.Microsecond))
	c.purge(policy, soultribe.Purged{EmailVerifications: 1})
	c.purge(policy, soultribe.Purged{})
}

func (c *conformance) purgeSlots() {
	ctx := c.Context()
	u := c.user("u").ID
	first, err := c.st.AddSlot(ctx, u, slot(1, 1))
	c.noError(err)
	second, err := c.st.AddSlot(ctx, u, slot(2, 1))
	c.noError(err)
	const age = time.Hour
	c.clock.Set(first.End.Add(age - time.Microsecond))
	c.purge(soultribe.PurgePolicy{Slots: age}, soultribe.Purged{})
	c.clock.Set(first.End.Add(age + time.Microsecond))
	c.purge(soultribe.PurgePolicy{Slots: age}, soultribe.Purged{Slots: 1})
	_, err = c.st.Slot(ctx, u, first.ID)
	c.wantError(err, soultribe.ErrNotFound)
	_, err = c.st.Slot(ctx, u, second.ID)
	c.noError(err)
}

func (c *conformance) purgeMeetups() {
	const age = time.Hour
	policy := soultribe.PurgePolicy{Meetups: age}
	var kept []soultribe.Meetup
	for _, state := range []meetupState{proposedAhead, proposedPast, confirmedAhead, confirmedOver} {
		kept = append(kept, c.meetupIn(state, false))
	}
	c.clock.Advance(1000 * time.Hour)
	c.purge(policy, soultribe.Purged{})
	for _, m := range kept {
		c.storedMeetup(m)
	}

	// Both its end and its last step must be so long ago.
	early := c.meetupIn(cancelledMeetup, false)
	c.clock.Set(early.End().Add(age - time.Microsecond))
	c.purge(policy, soultribe.Purged{})
	c.clock.Set(early.End().Add(age + time.Microsecond))
	c.purge(policy, soultribe.Purged{Meetups: 1})
	_, err := c.st.Meetup(c.Context(), early.User1ID, early.ID)
	c.wantError(err, soultribe.ErrNotFound)

	late := c.meetupIn(confirmedOver, false)
	c.clock.Advance(10 * time.Hour)
	done, err := c.st.CompleteMeetup(c.Context(), late.User1ID, late.ID)
	c.noError(err)
	c.clock.Advance(age - time.Microsecond)
	c.purge(policy, soultribe.Purged{})
	c.storedMeetup(done.Meetup)
	c.clock.Advance(2 * time.Microsecond)
	c.purge(policy, soultribe.Purged{Meetups: 1})
	for _, m := range kept {
		c.storedMeetup(m)
	}
}

func (c *conformance) purgeUnverified() {
	ctx := c.Context()
	const age = 7 * 24 * time.Hour
	policy := soultribe.PurgePolicy{Unverified: age}
	idle, verified, mailed, expired, resetting, free := c.newUser("idle"), c.user("verified"), c.newUser("mailed"), c.newUser("expired"), c.newUser("resetting"), c.newUser("free")
	_, err := c.st.IssueEmailVerification(ctx, expired.ID)
	c.noError(err)
	_, err = c.st.AddSlot(ctx, free.ID, slot(1, 1))
	c.noError(err)

	c.clock.Set(at(age - time.Microsecond))
	_, err = c.st.IssueEmailVerification(ctx, mailed.ID)
	c.noError(err)
	_, _, err = c.st.IssuePasswordReset(ctx, resetting.Email)
	c.noError(err)
	c.purge(policy, soultribe.Purged{})
	young := c.newUser("young")

	c.clock.Set(at(age + time.Microsecond))
	c.purge(policy, soultribe.Purged{Users: 2, EmailVerifications: 1}) // idle and expired
	for _, u := range []soultribe.User{idle, expired} {
		_, err := c.st.Account(ctx, u.ID)
		c.wantError(err, soultribe.ErrNotFound)
		_, err = c.st.AccountByEmail(ctx, u.Email)
		c.wantError(err, soultribe.ErrNotFound)
	}
	for _, u := range []soultribe.User{verified, mailed, resetting, free, young} {
		_, err := c.st.Account(ctx, u.ID)
		c.noError(err)
	}
	c.clock.Advance(24 * time.Hour) // the secrets have expired
	c.purge(policy, soultribe.Purged{Users: 2, EmailVerifications: 1, PasswordResets: 1})
	c.purge(policy, soultribe.Purged{})
	for _, u := range []soultribe.User{verified, free, young} {
		_, err := c.st.Account(ctx, u.ID)
		c.noError(err)
	}
	// A slot that the policy does not keep does not keep its owner.
	policy.Slots = 1000 * time.Hour
	c.purge(policy, soultribe.Purged{})
	policy.Slots = time.Hour
	c.purge(policy, soultribe.Purged{Users: 1, Slots: 1})
	_, err = c.st.Account(ctx, free.ID)
	c.wantError(err, soultribe.ErrNotFound)
}

func (c *conformance) purgeParts() {
	ctx := c.Context()
	u := c.user("u")
	for i := range 5 {
		_, err := c.st.AddSlot(ctx, u.ID, slot(float64(i), 1))
		c.noError(err)
		c.newUser("idle")
	}
	c.clock.Advance(100 * time.Hour)
	policy := soultribe.PurgePolicy{Tokens: time.Hour, Slots: time.Hour, Meetups: time.Hour, Unverified: time.Hour, Limit: 2}
	for range 2 {
		c.purge(policy, soultribe.Purged{Slots: 2, Users: 2, More: true})
	}
	c.purge(policy, soultribe.Purged{Slots: 1, Users: 1})
	c.purge(policy, soultribe.Purged{})
	_, err := c.st.User(ctx, u.ID)
	c.noError(err)
}

// purgePreview has some of everything, of many ages, and purges it under one policy after the other, in parts of many
// sizes: all parts together are what the preview said.
func (c *conformance) purgePreview() {
	ctx := c.Context()
	const day = 24 * time.Hour
	for i := range 8 {
		verified := c.user("verified")
		for j, u := range []soultribe.User{verified, c.newUser("idle"), c.newUser("mailed"), c.newUser("free")} {
			if j != 1 {
				_, _, err := c.st.IssuePasswordReset(ctx, u.Email)
				c.noError(err)
			}
			if j == 2 {
				_, err := c.st.IssueEmailVerification(ctx, u.ID)
				c.noError(err)
			}
			if j == 0 || j == 3 {
				for k := range 1 + i%3 {
					start := c.clock.Now().Add(time.Duration(1+2*k) * time.Hour)
					_, err := c.st.AddSlot(ctx, u.ID, soultribe.NewSlot{Start: start, End: start.Add(time.Hour), Timezone: "UTC"})
					c.noError(err)
				}
			}
		}
		c.meetupIn([]meetupState{cancelledMeetup, completedMeetup, confirmedAhead, proposedAhead}[i%4], false)
		c.clock.Advance(day)
	}
	empty := true
	for _, policy := range []soultribe.PurgePolicy{
		{Limit: 1},
		{Tokens: 6 * day, Limit: 1},
		{Slots: 6 * day, Limit: 2},
		{Meetups: 5 * day, Limit: 1},
		{Unverified: 6 * day, Limit: 1},
		{Unverified: 5 * day, Slots: 5 * day, Limit: 2},
		{Unverified: 4 * day, Tokens: 3 * day, Limit: 1},
		{Unverified: 2 * day, Slots: 3 * day, Tokens: 3 * day, Meetups: 3 * day, Limit: 3},
		{Unverified: 1, Slots: 1, Tokens: 1, Meetups: 1, Limit: 1000},
	} {
		preview := c.previewPurge(policy)
		roundTrip(c, preview)
		equal(c, c.previewPurge(policy), preview)
		var sum soultribe.Purged
		for more := true; more; {
			p, err := c.st.Purge(ctx, policy)
			c.noError(err)
			more, p.More = p.More, false
			sum = sumOf(sum, p)
		}
		equal(c, sum, preview)
		equal(c, c.previewPurge(policy), soultribe.Purged{})
		equal(c, preview == soultribe.Purged{}, empty)
		empty = false // but for the first policy, which takes nothing
	}
}

func (c *conformance) purgeBadPolicies() {
	ctx := c.Context()
	u := c.newUser("u")
	c.clock.Advance(1000 * time.Hour)
	_, err := c.st.Purge(ctx, soultribe.PurgePolicy{Tokens: -1, Slots: -1, Meetups: -1, Unverified: math.MinInt64, Limit: -1})
	c.wantInvalid(err, "limit", "tokens", "slots", "meetups", "unverified")
	_, err = c.st.Purge(ctx, soultribe.PurgePolicy{Limit: 10_001, Unverified: 1})
	c.wantInvalid(err, "limit")
	c.purge(soultribe.PurgePolicy{}, soultribe.Purged{})
	c.purge(soultribe.PurgePolicy{Tokens: math.MaxInt64, Slots: math.MaxInt64, Meetups: math.MaxInt64, Unverified: math.MaxInt64}, soultribe.Purged{})
	_, err = c.st.User(ctx, u.ID)
	c.noError(err)
	c.purge(soultribe.PurgePolicy{Unverified: 1}, soultribe.Purged{Users: 1})
}

func (c *conformance) stats() {
	ctx := c.Context()
	stats := func() soultribe.Stats {
		c.Helper()
		s, err := c.st.Stats(ctx)
		c.noError(err)
		roundTrip(c, s)
		if s.DatabaseBytes <= 0 {
			c.Fatalf("the database has %d bytes", s.DatabaseBytes)
		}
		s.DatabaseBytes = 0
		return s
	}
	equal(c, stats(), soultribe.Stats{Matches: map[soultribe.MatchStatus]int64{}, Meetups: map[soultribe.MeetupStatus]int64{}})

	c.newUser("unverified")
	u := c.user("u").ID
	for _, s := range []soultribe.NewSlot{slot(0, 1), slot(1, 1), slot(2, 24)} {
		_, err := c.st.AddSlot(ctx, u, s)
		c.noError(err)
	}
	equal(c, stats().SlotsAhead, 3)
	c.clock.Set(at(time.Hour)) // one is over, one under way
	equal(c, stats().SlotsAhead, 2)
	c.clock.Set(at(26*time.Hour - time.Microsecond))
	equal(c, stats().SlotsAhead, 1)
	c.clock.Set(at(26 * time.Hour))
	for _, state := range []matchState{pendingMatch, pendingMatch, rejectedMatch} {
		c.matchIn(state)
	}
	for _, state := range []meetupState{proposedAhead, confirmedAhead, completedMeetup, completedMeetup, cancelledMeetup} {
		c.meetupIn(state, false)
	}
	equal(c, stats(), soultribe.Stats{
		Users: 2 + 2*8, Verified: 1 + 2*8,
		Matches: map[soultribe.MatchStatus]int64{soultribe.MatchPending: 2, soultribe.MatchRejected: 1, soultribe.MatchAccepted: 5},
		Meetups: map[soultribe.MeetupStatus]int64{
			soultribe.MeetupProposed: 1, soultribe.MeetupConfirmed: 1, soultribe.MeetupCompleted: 2, soultribe.MeetupCancelled: 1,
		},
	})
}

func (c *conformance) ready() { c.noError(c.st.Ready(c.Context())) }

func (c *conformance) inTxCommits() {
	var u soultribe.User
	err := c.st.InTx(c.Context(), func(ctx context.Context, tx pgx.Tx, st soultribe.Store) error {
		inner := *c
		inner.st = st
		u = inner.user("u")
		// The transaction is the caller's own as well.
		got, err := c.st.WithTx(tx).User(ctx, u.ID)
		c.noError(err)
		equal(c, got, u)
		return nil
	})
	c.noError(err)
	got, err := c.st.User(c.Context(), u.ID)
	c.noError(err)
	equal(c, got, u)
}

func (c *conformance) inTxRollsBack() {
	ctx := c.Context()
	u := c.newUser("u")
	var ended pgx.Tx
	verify := func(ctx context.Context, tx pgx.Tx, st soultribe.Store) {
		ended = tx
		c.noError(st.MarkVerified(ctx, u.ID))
		got, err := st.User(ctx, u.ID)
		c.noError(err)
		equal(c, got.EmailVerifiedAt != nil, true)
	}
	unchanged := func() {
		c.Helper()
		got, err := c.st.User(ctx, u.ID)
		c.noError(err)
		equal(c, got, u)
		if ended != nil {
			_, err = c.st.WithTx(ended).User(ctx, u.ID)
			c.wantError(err, pgx.ErrTxClosed)
		}
	}

	mine := errors.New("an error of the caller's")
	err := c.st.InTx(ctx, func(ctx context.Context, tx pgx.Tx, st soultribe.Store) error {
		verify(ctx, tx, st)
		return mine
	})
	equal(c, err, mine)
	unchanged()

	recovered := func() (v any) {
		defer func() { v = recover() }()
		_ = c.st.InTx(ctx, func(ctx context.Context, tx pgx.Tx, st soultribe.Store) error {
			verify(ctx, tx, st)
			panic("a panic of the caller's")
		})
		return nil
	}()
	equal(c, recovered, any("a panic of the caller's"))
	unchanged()

	// The context may end in fn, which is when a rollback matters most.
	cancelled, cancel := context.WithCancel(ctx)
	err = c.st.InTx(cancelled, func(ctx context.Context, tx pgx.Tx, st soultribe.Store) error {
		verify(ctx, tx, st)
		cancel()
		return ctx.Err()
	})
	c.wantError(err, context.Canceled)
	unchanged()
}

func (c *conformance) inTxNested() {
	ctx := c.Context()
	mine := errors.New("an error of the caller's")
	kept, dropped := c.newUser("kept"), c.newUser("dropped")
	verified := func(u soultribe.User) bool {
		c.Helper()
		u, err := c.st.User(ctx, u.ID)
		c.noError(err)
		return u.EmailVerifiedAt != nil
	}
	verify := func(u soultribe.User, then error) func(context.Context, pgx.Tx, soultribe.Store) error {
		return func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
			c.noError(st.MarkVerified(ctx, u.ID))
			return then
		}
	}
	// What the inner one does is undone alone.
	err := c.st.InTx(ctx, func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
		equal(c, st.InTx(ctx, verify(dropped, mine)), mine)
		return st.InTx(ctx, verify(kept, nil))
	})
	c.noError(err)
	equal(c, verified(kept), true)
	equal(c, verified(dropped), false)

	// What the outer one undoes is undone all.
	err = c.st.InTx(ctx, func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
		c.noError(st.InTx(ctx, verify(dropped, nil)))
		return mine
	})
	equal(c, err, mine)
	equal(c, verified(dropped), false)
}

func (c *conformance) withTx() {
	u := c.newUser("u")
	err := c.st.InTx(c.Context(), func(ctx context.Context, tx pgx.Tx, _ soultribe.Store) error {
		st := c.st.WithTx(tx)
		c.noError(st.MarkVerified(ctx, u.ID))
		// It begins none of its own: a transaction in it is a savepoint.
		err := st.InTx(ctx, func(ctx context.Context, tx pgx.Tx, st soultribe.Store) error {
			_, err := st.WithTx(tx).DeleteUser(ctx, u.ID)
			c.noError(err)
			_, err = st.User(ctx, u.ID)
			c.wantError(err, soultribe.ErrNotFound)
			return errors.New("undo that")
		})
		if err == nil {
			c.Fatal("the error was lost")
		}
		_, err = st.User(ctx, u.ID)
		return err
	})
	c.noError(err)
	got, err := c.st.User(c.Context(), u.ID)
	c.noError(err)
	equal(c, got.EmailVerifiedAt != nil, true)
}

// conflictsInTx makes each conflict of matches and meetups in one transaction, in which what came before
// is kept and what comes after works.
func (c *conformance) conflictsInTx() {
	var marked []soultribe.UserID
	outer := c
	err := c.st.InTx(c.Context(), func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
		inner := *outer
		c := &inner
		c.st = st
		survive := func(err error, target error) {
			c.Helper()
			if errors.Is(target, noStep.err) {
				target = soultribe.ErrConflict
			}
			c.wantError(err, target)
			// The next statement works, and writes.
			marked = append(marked, c.user("after").ID)
		}
		for _, cell := range matchTable {
			m := c.matchIn(cell.from)
			for _, actor := range []soultribe.UserID{m.User1ID, m.User2ID} {
				want := cell.user1
				if actor == m.User2ID {
					want = cell.user2
				}
				if want.err != nil {
					_, err := cell.step.take(c, actor, m.Partner(actor), m.ID)
					survive(err, want.err)
				}
			}
		}
		for _, cell := range meetupTable {
			if cell.proposer.err == nil && cell.other.err == nil {
				continue
			}
			m := c.meetupIn(cell.from, false)
			for _, actor := range []soultribe.UserID{m.ProposerID, otherThan(m, m.ProposerID)} {
				want := cell.proposer
				if actor != m.ProposerID {
					want = cell.other
				}
				if want.err != nil {
					_, err := cell.step.take(c, actor, m)
					survive(err, want.err)
				}
			}
		}
		shared := c.user("shared").ID
		first, second := c.matched(shared, c.user("b").ID), c.matched(shared, c.user("c").ID)
		c.confirm(c.propose(shared, first.ID, time.Hour))
		m := c.propose(shared, second.ID, time.Hour)
		_, err := confirmStep.take(c, second.User2ID, m)
		survive(err, soultribe.ErrDoubleBooked)
		_, err = c.st.RequestMatch(ctx, c.newUser("unverified").ID, shared)
		survive(err, soultribe.ErrUnverified)
		_, err = c.st.RequestMatch(ctx, shared, 0)
		survive(err, soultribe.ErrInvalid)
		_, err = c.st.ProposeMeetup(ctx, shared, soultribe.NewMeetup{MatchID: second.ID, Times: soultribe.Times{Start: c.clock.Now()}})
		survive(err, soultribe.ErrPast)
		for _, id := range noIDs {
			_, err = c.st.AcceptMatch(ctx, soultribe.UserID(id), soultribe.MatchID(id))
			survive(err, soultribe.ErrNotFound)
			_, err = c.st.RescheduleMeetup(ctx, soultribe.UserID(id), soultribe.MeetupID(id), soultribe.Reschedule{Seen: m.Times, To: later(m)})
			survive(err, soultribe.ErrNotFound)
		}
		outer.users = c.users
		return nil
	})
	c.noError(err)
	accounts, err := c.st.Accounts(c.Context(), marked)
	c.noError(err)
	equal(c, len(accounts), len(marked))
}

// tagged is a decorator that changes one method.
type tagged struct {
	soultribe.Store
	tag string
}

func (t tagged) User(ctx context.Context, id soultribe.UserID) (soultribe.User, error) {
	u, err := t.Store.User(ctx, id)
	u.Email += t.tag
	return u, err
}

func (c *conformance) decorate() {
	ctx := c.Context()
	u := c.user("u")
	tag := func(tag string) func(soultribe.Store) soultribe.Store {
		return func(s soultribe.Store) soultribe.Store { return tagged{s, tag} }
	}
	want := func(st soultribe.Store, email string) {
		c.Helper()
		got, err := st.User(ctx, u.ID)
		c.noError(err)
		equal(c, got.Email, email)
		got, err = st.UserByEmail(ctx, u.Email)
		c.noError(err)
		equal(c, got, u)
	}
	st := soultribe.Decorate(soultribe.Decorate(c.st, tag("+in")), tag("+out"))
	email := u.Email + "+in+out"
	want(st, email)
	err := st.InTx(ctx, func(ctx context.Context, tx pgx.Tx, inner soultribe.Store) error {
		want(inner, email)
		want(st.WithTx(tx), email)
		want(inner.WithTx(tx), email)
		return inner.InTx(ctx, func(ctx context.Context, tx pgx.Tx, inner soultribe.Store) error {
			want(inner, email)
			want(inner.WithTx(tx), email)
			want(c.st.WithTx(tx), u.Email)
			_, err := inner.DeleteUser(ctx, u.ID)
			return err
		})
	})
	c.noError(err)
	_, err = st.User(ctx, u.ID)
	c.wantError(err, soultribe.ErrNotFound)
}

// cancelledContext calls each method of matches, meetups and maintenance with a context that has ended:
// nothing is half-done, and the Store goes on to work.
func (c *conformance) cancelledContext() {
	ctx, cancel := context.WithCancel(c.Context())
	cancel()
	m := c.meetupIn(proposedAhead, false)
	pending := c.matchIn(pendingMatch)
	other := c.user("other").ID
	calls := map[string]func() error{
		"RequestMatch":   func() error { _, err := c.st.RequestMatch(ctx, m.User1ID, other); return err },
		"AcceptMatch":    func() error { _, err := c.st.AcceptMatch(ctx, pending.User2ID, pending.ID); return err },
		"RejectMatch":    func() error { _, err := c.st.RejectMatch(ctx, pending.User2ID, pending.ID); return err },
		"CancelMatch":    func() error { _, err := c.st.CancelMatch(ctx, m.User1ID, m.MatchID); return err },
		"Match":          func() error { _, err := c.st.Match(ctx, m.User1ID, m.MatchID); return err },
		"MatchBetween":   func() error { _, err := c.st.MatchBetween(ctx, m.User1ID, m.User2ID); return err },
		"Matches":        func() error { _, err := c.st.Matches(ctx, m.User1ID, soultribe.MatchQuery{}); return err },
		"ConfirmMeetup":  func() error { _, err := c.st.ConfirmMeetup(ctx, m.User2ID, m.ID, m.Times); return err },
		"CancelMeetup":   func() error { _, err := c.st.CancelMeetup(ctx, m.User1ID, m.ID); return err },
		"CompleteMeetup": func() error { _, err := c.st.CompleteMeetup(ctx, m.User1ID, m.ID); return err },
		"Meetup":         func() error { _, err := c.st.Meetup(ctx, m.User1ID, m.ID); return err },
		"Meetups":        func() error { _, err := c.st.Meetups(ctx, m.User1ID, soultribe.MeetupQuery{}); return err },
		"PendingMatches": func() error { _, err := c.st.PendingMatches(ctx, soultribe.PageQuery{}); return err },
		"ScanMatches":    func() error { _, err := c.st.ScanMatches(ctx, soultribe.MatchQuery{}); return err },
		"ScanMeetups":    func() error { _, err := c.st.ScanMeetups(ctx, soultribe.MeetupQuery{}); return err },
		"MarkVerified":   func() error { return c.st.MarkVerified(ctx, m.User1ID) },
		"Settle":         func() error { _, err := c.st.Settle(ctx, soultribe.SettlePolicy{}); return err },
		"Stats":          func() error { _, err := c.st.Stats(ctx); return err },
		"Ready":          func() error { return c.st.Ready(ctx) },
		"ProposeMeetup": func() error {
			_, err := c.st.ProposeMeetup(ctx, m.User1ID, soultribe.NewMeetup{MatchID: m.MatchID, Times: later(m)})
			return err
		},
		"RescheduleMeetup": func() error {
			_, err := c.st.RescheduleMeetup(ctx, m.User1ID, m.ID, soultribe.Reschedule{Seen: m.Times, To: later(m)})
			return err
		},
		"Purge":          func() error { _, err := c.st.Purge(ctx, soultribe.PurgePolicy{Slots: 1}); return err },
		"Purge, dry run": func() error { _, err := c.st.Purge(ctx, soultribe.PurgePolicy{Slots: 1, DryRun: true}); return err },
	}
	for name, call := range calls {
		c.sub(name, func(c *conformance) {
			err := call()
			c.wantError(err, context.Canceled)
			equal(c, soultribe.Code(err), "canceled")
		})
	}
	c.storedMeetup(m)
	c.storedMatch(pending)
}
