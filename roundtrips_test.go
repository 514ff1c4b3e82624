package soultribe_test

import (
	"context"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// counter counts what goes to the server: a batch is one round trip of several statements.
type counter struct {
	mu                     sync.Mutex
	roundTrips, statements int
	names                  []string
}

func (c *counter) add(roundTrips, statements int, sql string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roundTrips += roundTrips
	c.statements += statements
	c.names = append(c.names, sql)
}

func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roundTrips, c.statements, c.names = 0, 0, nil
}

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	c.add(1, 1, data.SQL)
	return ctx
}

func (*counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *counter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.add(1, 0, "")
	return ctx
}

func (c *counter) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	c.add(0, 1, data.SQL)
}

func (*counter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// TestRoundTrips holds each method to its round trips and statements, on a pool and where it succeeds.
// More than one of either has its reason beside it.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	count := new(counter)
	pool := newPool(t, db.URL, func(c *pgxpool.Config) { c.ConnConfig.Tracer = count; c.MaxConns = 1 })
	st := newStore(t, db, pool)

	a, b, c := db.User(t), db.User(t), db.User(t)
	const password = "a password of the test"
	require.NoError(t, db.Store.SetPassword(ctx, a.ID, password))
	hash, err := st.HashPassword(ctx, password)
	require.NoError(t, err)
	unverified, err := db.Store.CreateUser(ctx, soultribe.NewUser{Email: "unverified@example.org", Hash: hash})
	require.NoError(t, err)
	profile := soultribe.NewProfile{DisplayName: "Ann"}
	slot := func(hour int) soultribe.NewSlot {
		start := db.Clock.Now().Add(time.Duration(hour) * time.Hour)
		return soultribe.NewSlot{Start: start, End: start.Add(time.Hour), Timezone: "Europe/Vienna"}
	}
	times := func(hour int) soultribe.Times {
		return soultribe.Times{Start: db.Clock.Now().Add(time.Duration(hour) * time.Hour), Duration: time.Hour}
	}

	var verification, reset, change soultribe.IssuedToken
	var made soultribe.Slot
	var match soultribe.Match
	var meetup soultribe.Meetup
	result := func(m *soultribe.Meetup, r soultribe.MeetupResult, err error) error { *m = r.Meetup; return err }
	steps := []struct {
		method                 string
		roundTrips, statements int
		call                   func() error
	}{
		{"CreateUser", 1, 1, func() error {
			_, err := st.CreateUser(ctx, soultribe.NewUser{Email: "new@example.org", Hash: hash, Profile: &profile})
			return err
		}},
		{"User", 1, 1, func() error { _, err := st.User(ctx, a.ID); return err }},
		{"UserByEmail", 1, 1, func() error { _, err := st.UserByEmail(ctx, a.Email); return err }},
		{"Account", 1, 1, func() error { _, err := st.Account(ctx, a.ID); return err }},
		{"AccountByEmail", 1, 1, func() error { _, err := st.AccountByEmail(ctx, a.Email); return err }},
		{"Authenticate", 1, 1, func() error { _, err := st.Authenticate(ctx, a.Email, password); return err }},
		{"HashPassword", 0, 0, func() error { _, err := st.HashPassword(ctx, password); return err }},
		{"CheckPassword", 1, 1, func() error { return st.CheckPassword(ctx, a.ID, password) }},
		// No connection is held between the two while the password is hashed; then the lock on the user: the
		// change must see the tokens that were issued meanwhile.
		{"ChangePassword", 2, 3, func() error { return st.ChangePassword(ctx, a.ID, password, password) }},
		{"SetPassword", 1, 2, func() error { return st.SetPassword(ctx, a.ID, password) }},
		{"MarkVerified", 1, 1, func() error { return st.MarkVerified(ctx, a.ID) }},
		{"Export", 1, 1, func() error { _, err := st.Export(ctx, a.ID); return err }},
		{"Users", 1, 1, func() error { _, err := st.Users(ctx, soultribe.UserQuery{EmailPrefix: "a"}); return err }},
		{"Accounts", 1, 1, func() error { _, err := st.Accounts(ctx, []soultribe.UserID{a.ID}); return err }},

		{"SetProfile", 1, 1, func() error { _, err := st.SetProfile(ctx, a.ID, profile); return err }},
		{"UpdateProfile", 1, 1, func() error {
			_, err := st.UpdateProfile(ctx, a.ID, soultribe.ProfileUpdate{Bio: new(string)})
			return err
		}},
		{"Profile", 1, 1, func() error { _, err := st.Profile(ctx, a.ID); return err }},
		{"PublicProfiles", 1, 1, func() error { _, err := st.PublicProfiles(ctx, []soultribe.UserID{a.ID}); return err }},

		// The lock and the cool-down: the second statement must see what the first waited for.
		{"IssueEmailVerification", 1, 2, func() (err error) {
			verification, err = st.IssueEmailVerification(ctx, unverified.ID)
			return err
		}},
		{"CheckEmailVerification", 1, 1, func() error { return st.CheckEmailVerification(ctx, verification.Secret()) }},
		{"VerifyEmail", 1, 1, func() error { _, err := st.VerifyEmail(ctx, verification.Secret()); return err }},
		// The password is checked first, with no connection held; then as above.
		{"IssueEmailChange", 2, 3, func() (err error) {
			change, err = st.IssueEmailChange(ctx, a.ID, password, "other@example.org")
			return err
		}},
		{"VerifyEmail", 1, 1, func() error { _, err := st.VerifyEmail(ctx, change.Secret()); return err }},
		{"IssuePasswordReset", 1, 2, func() (err error) {
			reset, _, err = st.IssuePasswordReset(ctx, "other@example.org")
			return err
		}},
		{"CheckPasswordReset", 1, 1, func() error { return st.CheckPasswordReset(ctx, reset.Secret()) }},
		// The token is looked at before the password is hashed, with no connection held meanwhile; then as ChangePassword.
		{"ResetPassword", 2, 3, func() error { _, err := st.ResetPassword(ctx, reset.Secret(), password); return err }},

		{"AddSlot", 1, 1, func() (err error) { made, err = st.AddSlot(ctx, a.ID, slot(1)); return err }},
		{"AddSlots", 1, 2, func() error { _, err := st.AddSlots(ctx, b.ID, []soultribe.NewSlot{slot(1), slot(3)}); return err }},
		// The lock on the user: the check must see what it waited for.
		{"UpdateSlot", 1, 2, func() error { _, err := st.UpdateSlot(ctx, a.ID, made.ID, slot(3)); return err }},
		{"Slot", 1, 1, func() error { _, err := st.Slot(ctx, a.ID, made.ID); return err }},
		{"Slots", 1, 1, func() error { _, err := st.Slots(ctx, a.ID, soultribe.SlotQuery{}); return err }},
		{"MutualAvailability", 1, 1, func() error {
			_, err := st.MutualAvailability(ctx, a.ID, b.ID, soultribe.MutualQuery{})
			return err
		}},
		// What there is of the asker; then those who share the time.
		{"Candidates", 2, 2, func() error {
			page, err := st.Candidates(ctx, a.ID, soultribe.CandidateQuery{})
			require.NotEmpty(t, page.Items)
			return err
		}},
		{"Candidates", 2, 2, func() error {
			_, err := st.Candidates(ctx, a.ID, soultribe.CandidateQuery{Order: soultribe.MostTimeFirst})
			return err
		}},
		{"DeleteSlot", 1, 1, func() error { return st.DeleteSlot(ctx, a.ID, made.ID) }},
		// The lock on the user, what makes way, what comes.
		{"ReplaceSlots", 1, 3, func() error {
			now := db.Clock.Now()
			_, err := st.ReplaceSlots(ctx, a.ID, soultribe.Window{Start: now, End: now.AddDate(0, 0, 1)}, []soultribe.NewSlot{slot(5)})
			return err
		}},

		{"RequestMatch", 1, 1, func() error {
			m, err := st.RequestMatch(ctx, a.ID, b.ID)
			match = m.Match
			return err
		}},
		{"PendingMatches", 1, 1, func() error { _, err := st.PendingMatches(ctx, soultribe.PageQuery{}); return err }},
		{"AcceptMatch", 1, 1, func() error { _, err := st.AcceptMatch(ctx, b.ID, match.ID); return err }},
		{"Match", 1, 1, func() error { _, err := st.Match(ctx, a.ID, match.ID); return err }},
		{"MatchBetween", 1, 1, func() error { _, err := st.MatchBetween(ctx, a.ID, b.ID); return err }},
		{"Matches", 1, 1, func() error { _, err := st.Matches(ctx, a.ID, soultribe.MatchQuery{}); return err }},
		{"ScanMatches", 1, 1, func() error { _, err := st.ScanMatches(ctx, soultribe.MatchQuery{}); return err }},

		// The lock on the match, with its forgotten proposal; then the new one.
		{"ProposeMeetup", 1, 2, func() error {
			r, err := st.ProposeMeetup(ctx, a.ID, soultribe.NewMeetup{MatchID: match.ID, Times: times(5)})
			return result(&meetup, r, err)
		}},
		// The lock on the two people: the check for a double booking must see what it waited for.
		{"ConfirmMeetup", 1, 2, func() error {
			r, err := st.ConfirmMeetup(ctx, b.ID, meetup.ID, meetup.Times)
			return result(&meetup, r, err)
		}},
		{"RescheduleMeetup", 1, 1, func() error {
			r, err := st.RescheduleMeetup(ctx, a.ID, meetup.ID, soultribe.Reschedule{Seen: meetup.Times, To: times(7)})
			return result(&meetup, r, err)
		}},
		{"Meetup", 1, 1, func() error { _, err := st.Meetup(ctx, a.ID, meetup.ID); return err }},
		{"Meetups", 1, 1, func() error { _, err := st.Meetups(ctx, a.ID, soultribe.MeetupQuery{}); return err }},
		{"ScanMeetups", 1, 1, func() error { _, err := st.ScanMeetups(ctx, soultribe.MeetupQuery{}); return err }},
		{"CancelMeetup", 1, 1, func() error { _, err := st.CancelMeetup(ctx, a.ID, meetup.ID); return err }},
		{"CompleteMeetup", 1, 1, func() error {
			m := db.Meetup(t, match, times(9))
			count.reset()
			db.Clock.Advance(10 * time.Hour)
			_, err := st.CompleteMeetup(ctx, a.ID, m.ID)
			return err
		}},
		// The lock on the match, as the meetup that was proposed meanwhile must be seen, and the meetup that is over.
		{"CancelMatch", 1, 3, func() error { _, err := st.CancelMatch(ctx, a.ID, match.ID); return err }},
		{"RejectMatch", 1, 1, func() error {
			m, err := db.Store.RequestMatch(ctx, c.ID, a.ID)
			require.NoError(t, err)
			_, err = st.RejectMatch(ctx, a.ID, m.ID)
			return err
		}},

		{"Settle", 1, 1, func() error { _, err := st.Settle(ctx, soultribe.SettlePolicy{}); return err }},
		// The host's foreign keys, a statement for each kind, of which none must wait for another call, and the lock
		// on the accounts.
		{"Purge", 1, 7, func() error {
			_, err := st.Purge(ctx, soultribe.PurgePolicy{Tokens: time.Hour, Slots: time.Hour, Meetups: time.Hour, Unverified: time.Hour})
			return err
		}},
		{"Purge", 1, 1, func() error {
			_, err := st.Purge(ctx, soultribe.PurgePolicy{Tokens: time.Hour, Slots: time.Hour, Meetups: time.Hour, Unverified: time.Hour, DryRun: true})
			return err
		}},
		{"Stats", 1, 1, func() error { _, err := st.Stats(ctx); return err }},
		{"Ready", 1, 1, func() error { return st.Ready(ctx) }},
		// The lock on the user, the matches and meetups that others must hear of, the deletion.
		{"DeleteUser", 1, 4, func() error { _, err := st.DeleteUser(ctx, a.ID); return err }},
	}

	counted := map[string]bool{"WithTx": true, "InTx": true} // which only join or make transactions
	for _, step := range steps {
		count.reset()
		require.NoError(t, step.call(), step.method)
		require.Equal(t, step.roundTrips, count.roundTrips, "round trips of %s: %q", step.method, count.names)
		require.Equal(t, step.statements, count.statements, "statements of %s: %q", step.method, count.names)
		for _, sql := range count.names {
			require.True(t, sql == "" || len(sql) > 9 && sql[:9] == "-- name: ", "a statement of %s has no name: %q", step.method, sql)
		}
		t.Logf("%-24s %d round trips, %d statements", step.method, count.roundTrips, count.statements)
		counted[step.method] = true
	}
	for m := range reflect.TypeFor[soultribe.Store]().Methods() {
		require.True(t, counted[m.Name], "%s is not counted", m.Name)
	}
}
