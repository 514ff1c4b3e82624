package soultribe_test

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// scene is what the strangers of TestStrangers are no part of.
type scene struct {
	a, b     soultribe.User // who are matched, and meet
	match    soultribe.Match
	meetup   soultribe.Meetup // confirmed, ahead
	over     soultribe.Meetup // confirmed, over
	pending  soultribe.Match  // a asked
	slot     soultribe.Slot   // a's
	now      time.Time
	former   soultribe.UserID // once matched with a, and not any more
	stranger soultribe.UserID
	deleted  soultribe.UserID // once matched with a
}

func newScene(t *testing.T, db *soultribetest.DB) scene {
	t.Helper()
	ctx, st := t.Context(), db.Store
	s := scene{a: db.User(t), b: db.User(t), stranger: db.User(t).ID, former: db.User(t).ID, deleted: db.User(t).ID}
	s.match = db.Matched(t, s.a.ID, s.b.ID)
	ended := db.Matched(t, s.a.ID, s.former)
	db.Meetup(t, ended, hourAfter(time.Hour))
	_, err := st.CancelMatch(ctx, s.former, ended.ID)
	require.NoError(t, err)
	db.Meetup(t, db.Matched(t, s.deleted, s.a.ID), hourAfter(2*time.Hour))
	_, err = st.DeleteUser(ctx, s.deleted)
	require.NoError(t, err)

	s.over = db.Meetup(t, s.match, hourAfter(time.Hour))
	db.Clock.Advance(3 * time.Hour)
	_, err = st.CompleteMeetup(ctx, s.a.ID, s.over.ID)
	require.NoError(t, err)
	s.meetup = db.Meetup(t, s.match, hourAfter(100*time.Hour))
	answerer := db.User(t)
	pending, err := st.RequestMatch(ctx, s.a.ID, answerer.ID)
	require.NoError(t, err)
	s.pending = pending.Match
	s.now = db.Clock.Now()
	for _, owner := range []soultribe.UserID{s.b.ID, s.stranger, s.former, s.a.ID} {
		s.slot, err = st.AddSlot(ctx, owner, soultribe.NewSlot{Start: s.now.Add(time.Hour), End: s.now.Add(3 * time.Hour), Timezone: "Europe/Vienna"})
		require.NoError(t, err)
	}
	return s
}

// asked is how a method is called by somebody who is not entitled: the arguments after the actor, and
// which outcome is right.
type asked struct {
	args func(s scene) []any
	// of is what the arguments name: others' rows, which do not exist for strangers, or nothing but the actor.
	of subject
}

type subject int

const (
	others        subject = iota // an id of a row of others'
	people                       // people, whom anyone may name or find
	oneself                      // no id but the actor's
	lists                        // a list: of a stranger it is empty, whatever it is filtered by
	acquaintances                // people, who answer only those with an accepted match where the Store says so
)

func none(scene) []any { return nil }

// strangerCalls are how each method with an actor is called. A method that is missing here fails the test.
var strangerCalls = map[string]asked{
	"User":           {none, oneself},
	"Account":        {none, oneself},
	"CheckPassword":  {func(scene) []any { return []any{"correct horse battery"} }, oneself},
	"ChangePassword": {func(scene) []any { return []any{"correct horse battery", "correct horse battery staple"} }, oneself},
	"DeleteUser":     {none, oneself},
	"Export":         {none, oneself},
	"SetPassword":    {func(scene) []any { return []any{"correct horse battery"} }, oneself},
	"MarkVerified":   {none, oneself},

	"SetProfile":    {func(scene) []any { return []any{soultribe.NewProfile{DisplayName: "Ann"}} }, oneself},
	"UpdateProfile": {func(scene) []any { return []any{soultribe.ProfileUpdate{Bio: new(string)}} }, oneself},
	"Profile":       {none, oneself},

	"IssueEmailVerification": {none, oneself},
	"IssueEmailChange":       {func(scene) []any { return []any{"correct horse battery", "new@example.org"} }, oneself},

	"AddSlot":      {func(s scene) []any { return []any{newSlot(s)} }, oneself},
	"AddSlots":     {func(s scene) []any { return []any{[]soultribe.NewSlot{newSlot(s)}} }, oneself},
	"ReplaceSlots": {func(s scene) []any { return []any{week(s), []soultribe.NewSlot{newSlot(s)}} }, oneself},
	"UpdateSlot":   {func(s scene) []any { return []any{s.slot.ID, newSlot(s)} }, others},
	"DeleteSlot":   {func(s scene) []any { return []any{s.slot.ID} }, others},
	"Slot":         {func(s scene) []any { return []any{s.slot.ID} }, others},
	"Slots":        {func(s scene) []any { return []any{soultribe.SlotQuery{From: s.now.Add(100 * time.Hour)}} }, lists},
	// Anyone may look for a time with anyone, unless the Store is WithMatchedAvailability.
	"MutualAvailability": {func(s scene) []any { return []any{s.a.ID, soultribe.MutualQuery{}} }, acquaintances},

	"RequestMatch": {func(s scene) []any { return []any{s.a.ID} }, people},
	"AcceptMatch":  {func(s scene) []any { return []any{s.pending.ID} }, others},
	"RejectMatch":  {func(s scene) []any { return []any{s.pending.ID} }, others},
	"CancelMatch":  {func(s scene) []any { return []any{s.match.ID} }, others},
	"Match":        {func(s scene) []any { return []any{s.match.ID} }, others},
	"MatchBetween": {func(s scene) []any { return []any{s.b.ID} }, others},
	"Matches": {func(scene) []any {
		return []any{soultribe.MatchQuery{Status: []soultribe.MatchStatus{soultribe.MatchAccepted}}}
	}, lists},
	"Candidates": {func(s scene) []any { return []any{soultribe.CandidateQuery{From: s.now.Add(100 * time.Hour)}} }, lists},

	"ProposeMeetup": {func(s scene) []any {
		return []any{soultribe.NewMeetup{MatchID: s.match.ID, Times: soultribe.Times{Start: s.now.Add(time.Hour)}}}
	}, others},
	"ConfirmMeetup": {func(s scene) []any { return []any{s.meetup.ID, s.meetup.Times} }, others},
	"RescheduleMeetup": {func(s scene) []any {
		return []any{s.meetup.ID, soultribe.Reschedule{Seen: s.meetup.Times, To: hourAfter(500 * time.Hour)}}
	}, others},
	"CancelMeetup":   {func(s scene) []any { return []any{s.meetup.ID} }, others},
	"CompleteMeetup": {func(s scene) []any { return []any{s.over.ID} }, others},
	"Meetup":         {func(s scene) []any { return []any{s.meetup.ID} }, others},
	"Meetups":        {func(s scene) []any { return []any{soultribe.MeetupQuery{MatchID: s.match.ID}} }, lists},
}

func newSlot(s scene) soultribe.NewSlot {
	return soultribe.NewSlot{Start: s.now.Add(10 * time.Hour), End: s.now.Add(11 * time.Hour), Timezone: "Europe/Vienna"}
}

func week(s scene) soultribe.Window {
	return soultribe.Window{Start: s.now, End: s.now.Add(7 * 24 * time.Hour)}
}

// actorMethods are those methods of Store whose first argument after the context is a UserID.
func actorMethods() []string {
	var names []string
	for m := range reflect.TypeFor[soultribe.Store]().Methods() {
		if m.Type.NumIn() >= 2 && m.Type.In(0) == reflect.TypeFor[context.Context]() && m.Type.In(1) == reflect.TypeFor[soultribe.UserID]() {
			names = append(names, m.Name)
		}
	}
	return names
}

// call calls a method of st as actor, and returns its results, of which the last is the error.
func call(t *testing.T, st soultribe.Store, name string, actor soultribe.UserID, args []any) ([]reflect.Value, error) {
	t.Helper()
	in := []reflect.Value{reflect.ValueOf(t.Context()), reflect.ValueOf(actor)}
	for _, arg := range args {
		in = append(in, reflect.ValueOf(arg))
	}
	out := reflect.ValueOf(st).MethodByName(name).Call(in)
	err, _ := out[len(out)-1].Interface().(error)
	return out[:len(out)-1], err
}

// requireNothing checks that results hold nothing: they are zero, or empty lists.
func requireNothing(t *testing.T, results []reflect.Value) {
	t.Helper()
	for _, r := range results {
		if r.Kind() == reflect.Struct && r.FieldByName("Items").IsValid() {
			require.Zero(t, r.FieldByName("Items").Len(), "%v", r)
			require.Empty(t, r.FieldByName("Next").String())
			continue
		}
		require.True(t, r.IsZero() || r.Kind() == reflect.Slice && r.Len() == 0, "%v", r)
	}
}

// checksum is of all rows of all tables of the database, those of a later version too.
func checksum(t *testing.T, db *soultribetest.DB) []string {
	t.Helper()
	var sums []string
	for _, table := range db.Query(t, `SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1`) {
		sum := db.Query(t, `SELECT count(*), md5(coalesce(string_agg(x::text, E'\n' ORDER BY x::text), '')) FROM `+table+` x`)
		sums = append(sums, table+": "+sum[0])
	}
	require.GreaterOrEqual(t, len(sums), 8)
	return sums
}

// TestStrangers calls every method that takes an actor as people who are no part of what it is called for:
// a stranger, one who was matched once, one who is gone, and ids that cannot be. Nobody learns or changes
// anything. The methods are those of the interface, so that a new one cannot be forgotten.
func TestStrangers(t *testing.T) {
	t.Parallel()
	methods := actorMethods()
	require.GreaterOrEqual(t, len(methods), len(strangerCalls))
	for name := range strangerCalls {
		require.Contains(t, methods, name, "it has arguments, but Store has no such method")
	}
	for _, options := range [][]soultribe.Option{nil, {soultribe.WithMatchedAvailability()}} {
		t.Run(fmt.Sprintf("%d options", len(options)), func(t *testing.T) {
			t.Parallel()
			db := soultribetest.New(t, soultribetest.WithStoreOptions(options...))
			s := newScene(t, db)
			before := checksum(t, db)
			for _, name := range methods {
				how, ok := strangerCalls[name]
				require.True(t, ok, "how is %s called by a stranger? Add its arguments", name)
				if how.of == acquaintances && len(options) > 0 {
					how.of = others
				}
				requireStranger(t, db.Store, s, name, how)
				require.Equal(t, before, checksum(t, db), "%s changed something", name)
			}
		})
	}
}

// requireStranger calls one method as all of those who are not entitled.
func requireStranger(t *testing.T, st soultribe.Store, s scene, name string, how asked) {
	t.Helper()
	args := how.args(s)
	results, err := call(t, st, name, 0, args)
	require.ErrorIs(t, err, soultribe.ErrInvalid, "%s by id 0", name)
	require.True(t, slices.ContainsFunc(soultribe.ValidationErrors(err), func(v *soultribe.ValidationError) bool {
		return (v.Field == "actor" || v.Field == "user_id") && v.Reason == "is required"
	}), "%s by id 0: %v", name, err)
	requireNothing(t, results)

	for _, actor := range []soultribe.UserID{s.deleted, -1, math.MinInt64, math.MaxInt32, math.MaxInt32 + 1, math.MaxInt64} {
		results, err := call(t, st, name, actor, args)
		require.ErrorIs(t, err, soultribe.ErrNotFound, "%s by user %d, who is not there", name, actor)
		requireNothing(t, results)
	}
	for _, actor := range []soultribe.UserID{s.stranger, s.former} {
		switch how.of {
		case others:
			results, err := call(t, st, name, actor, args)
			require.ErrorIs(t, err, soultribe.ErrNotFound, "%s by user %d, a stranger", name, actor)
			requireNothing(t, results)
		case lists:
			results, err := call(t, st, name, actor, args)
			require.NoError(t, err, "%s by user %d, a stranger", name, actor)
			requireNothing(t, results)
		case people, oneself, acquaintances:
		}
	}
}

// TestStrangersArePartOfNothing makes sure that TestStrangers asks for something: to those who are
// entitled each of the calls gives it.
func TestStrangersArePartOfNothing(t *testing.T) {
	t.Parallel()
	for name, how := range strangerCalls {
		if how.of != others && how.of != acquaintances {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := soultribetest.New(t, soultribetest.WithStoreOptions(soultribe.WithMatchedAvailability()))
			s := newScene(t, db)
			actor := s.a.ID
			switch name {
			case "MutualAvailability":
				actor = s.b.ID
			case "AcceptMatch", "RejectMatch":
				actor = s.pending.User2ID
			case "ConfirmMeetup":
				actor = otherOne(s.meetup)
			case "ProposeMeetup":
				_, err := db.Store.CancelMeetup(t.Context(), s.a.ID, s.meetup.ID)
				require.NoError(t, err)
			}
			_, err := call(t, db.Store, name, actor, how.args(s))
			require.NoError(t, err, fmt.Sprint(actor))
		})
	}
}

// otherOne is the one who did not propose.
func otherOne(m soultribe.Meetup) soultribe.UserID {
	return soultribe.Match{User1ID: m.User1ID, User2ID: m.User2ID}.Partner(m.ProposerID)
}
