package docs_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/schema"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// zones are of sessions: in one of them now() is hours ahead of UTC by its own clock, in another hours behind.
var zones = []string{"UTC", "Asia/Kolkata", "America/St_Johns"}

// world is a database in which each query of the guide finds something, and something that it must leave out.
type world struct {
	*soultribetest.DB
	schema string
	now    time.Time
	people map[string]soultribe.User
}

func newWorld(t *testing.T, name string) *world {
	t.Helper()
	w := &world{schema: name, people: map[string]soultribe.User{}, now: time.Now().UTC().Truncate(time.Second)}
	w.DB = soultribetest.New(t, soultribetest.WithSchema(name), soultribetest.WithSetup("another user table",
		func(ctx context.Context, pool *pgxpool.Pool) error {
			if name == "public" {
				return nil
			}
			_, err := pool.Exec(ctx, `CREATE TABLE public."user" (name text); CREATE TABLE public.match (x integer)`)
			return err
		}))
	w.at(-14*24*time.Hour - 5*time.Hour)
	w.register(t, "stale", false) // three hours later, and so just before the last 14 days
	_, err := w.Store.IssueEmailVerification(t.Context(), w.id("stale"))
	require.NoError(t, err)
	w.at(-60 * time.Hour)
	for _, name := range []string{"ann", "ben", "cem", "dea", "eva", "fay", "gus", "hal"} {
		w.register(t, name, true)
	}
	w.register(t, "new", false)
	w.addSlots(t)
	w.addMatches(t)
	w.addTokens(t)
	w.at(0)
	return w
}

// at sets the clock to a time from now.
func (w *world) at(d time.Duration) { w.Clock.Set(w.now.Add(d)) }

func (w *world) register(t *testing.T, name string, verified bool) {
	t.Helper()
	w.Clock.Advance(3 * time.Hour)
	u, err := w.Store.CreateUser(t.Context(), soultribe.NewUser{
		Email: strings.ToUpper(name[:1]) + name[1:] + "@example.org", Password: "correct horse",
		Profile: &soultribe.NewProfile{FullName: name + " in full", DisplayName: name, Timezone: "Europe/Vienna"},
	})
	require.NoError(t, err)
	if verified {
		require.NoError(t, w.Store.MarkVerified(t.Context(), u.ID))
	}
	u, err = w.Store.User(t.Context(), u.ID)
	require.NoError(t, err)
	w.people[name] = u
}

func (w *world) id(name string) soultribe.UserID { return w.people[name].ID }

func (w *world) addSlots(t *testing.T) {
	t.Helper()
	w.at(-10 * time.Hour)
	for _, s := range []struct {
		who        string
		start, end time.Duration
		zone       string
	}{
		{"ann", -2 * time.Hour, 30 * time.Minute, "Europe/Vienna"}, // began
		{"ann", time.Hour, 3 * time.Hour, "Europe/Vienna"},
		{"ann", 3 * time.Hour, 5 * time.Hour, "America/New_York"},
		{"ann", 26 * time.Hour, 28 * time.Hour, "Asia/Tokyo"},
		{"ann", 15 * 24 * time.Hour, 15*24*time.Hour + time.Hour, "Asia/Tokyo"},
		{"ben", 2 * time.Hour, 4 * time.Hour, "Europe/Vienna"},
		{"ben", 26 * time.Hour, 27 * time.Hour, "Europe/Vienna"},
		{"ben", 15 * 24 * time.Hour, 15*24*time.Hour + time.Hour, "Asia/Tokyo"}, // with ann, but too late
		{"cem", time.Hour, 5 * time.Hour, "Europe/Vienna"},                      // and has a meetup
		{"eva", 2 * time.Hour, 3 * time.Hour, "Europe/Vienna"},                  // half of the time
		{"new", time.Hour, 5 * time.Hour, "Europe/Vienna"},                      // unverified
	} {
		_, err := w.Store.AddSlot(t.Context(), w.id(s.who), soultribe.NewSlot{Start: w.now.Add(s.start), End: w.now.Add(s.end), Timezone: s.zone})
		require.NoError(t, err)
	}
}

func (w *world) addMatches(t *testing.T) {
	t.Helper()
	w.at(-8 * time.Hour)
	for _, m := range []struct {
		proposer, other string
		start, length   time.Duration
		confirmed       bool
	}{
		{"cem", "dea", 150 * time.Minute, time.Hour, true},
		{"cem", "ann", 30 * time.Hour, time.Hour, false},
		{"ann", "eva", 40 * time.Hour, time.Hour, false},
		{"ann", "dea", 26*time.Hour + 30*time.Minute, 45 * time.Minute, true},
		{"ben", "ann", -30 * time.Minute, time.Hour, false}, // nobody answered
		{"ben", "dea", -3 * time.Hour, time.Hour, true},     // over
		{"ben", "eva", -time.Hour, 2 * time.Hour, true},     // under way
	} {
		w.Clock.Advance(time.Minute)
		match := w.Matched(t, w.id(m.proposer), w.id(m.other))
		times := soultribe.Times{Start: w.now.Add(m.start), Duration: m.length}
		if m.confirmed {
			w.Meetup(t, match, times)
			continue
		}
		_, err := w.Store.ProposeMeetup(t.Context(), w.id(m.proposer), soultribe.NewMeetup{MatchID: match.ID, Times: times})
		require.NoError(t, err)
	}
	for _, pair := range [][2]string{{"ann", "fay"}, {"gus", "ann"}, {"hal", "ann"}, {"fay", "gus"}} {
		w.Clock.Advance(time.Minute)
		m, err := w.Store.RequestMatch(t.Context(), w.id(pair[0]), w.id(pair[1]))
		require.NoError(t, err)
		if pair[0] == "hal" {
			_, err = w.Store.RejectMatch(t.Context(), w.id("ann"), m.ID)
			require.NoError(t, err)
		}
	}
}

func (w *world) addTokens(t *testing.T) {
	t.Helper()
	reset := func(who string, at time.Duration) soultribe.IssuedToken {
		w.at(at)
		token, ok, err := w.Store.IssuePasswordReset(t.Context(), w.people[who].Email)
		require.NoError(t, err)
		require.True(t, ok)
		return token
	}
	reset("ben", -3*time.Hour) // expired
	used := reset("cem", -31*time.Minute)
	_, err := w.Store.ResetPassword(t.Context(), used.Secret(), "another horse")
	require.NoError(t, err)
	changed, err := w.Store.IssueEmailChange(t.Context(), w.id("gus"), "correct horse", "Gus@example.net")
	require.NoError(t, err)
	w.people["gus"], err = w.Store.VerifyEmail(t.Context(), changed.Secret())
	require.NoError(t, err)
	reset("ann", -30*time.Minute)
	for _, at := range []time.Duration{-26 * time.Hour, -time.Hour} { // the first one is expired
		w.at(at)
		_, err = w.Store.IssueEmailVerification(t.Context(), w.id("new"))
		require.NoError(t, err)
	}
}

// stamp is a time as PostgreSQL writes it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.999999") }

func wall(t time.Time) string { return t.Format("2006-01-02 15:04:05") }

func stampOf(t *time.Time) string {
	if t == nil {
		return ""
	}
	return stamp(*t)
}

// row is a line of cells.
func row(cells ...any) string {
	text := make([]string, len(cells))
	for i, c := range cells {
		text[i] = fmt.Sprint(c)
	}
	return strings.Join(text, "|")
}

// all walks a list.
func all[T any](t *testing.T, page func(after soultribe.Cursor) (soultribe.Page[T], error)) []T {
	t.Helper()
	var items []T
	for item, err := range soultribe.All(page) {
		require.NoError(t, err)
		items = append(items, item)
	}
	return items
}

// answers say by the methods what each query must return.
var answers = map[string]func(t *testing.T, w *world) []string{
	"A user by e-mail address, in any ASCII case (`UserByEmail`)": func(t *testing.T, w *world) []string {
		t.Helper()
		u, err := w.Store.UserByEmail(t.Context(), "ANN@example.org")
		require.NoError(t, err)
		return []string{row(u.ID, u.Email, stampOf(u.EmailVerifiedAt), stamp(u.CreatedAt))}
	},
	"A user and the profile together (`AccountByEmail`)": func(t *testing.T, w *world) []string {
		t.Helper()
		a, err := w.Store.AccountByEmail(t.Context(), "ANN@example.org")
		require.NoError(t, err)
		return []string{row(a.User.ID, a.User.Email, stampOf(a.User.EmailVerifiedAt), a.Profile.FullName, a.Profile.DisplayName, a.Profile.Bio, a.Profile.Timezone)}
	},
	"Accounts that were never verified (`Users`)": func(t *testing.T, w *world) []string {
		t.Helper()
		var rows []string
		for _, u := range all(t, func(after soultribe.Cursor) (soultribe.Page[soultribe.User], error) {
			return w.Store.Users(t.Context(), soultribe.UserQuery{Verified: new(bool), After: after})
		}) {
			rows = append(rows, row(u.ID, u.Email, stamp(u.CreatedAt)))
		}
		require.Len(t, rows, 2)
		return rows
	},
	"New accounts a day, by the calendar of a zone": func(t *testing.T, w *world) []string {
		t.Helper()
		vienna, err := time.LoadLocation("Europe/Vienna")
		require.NoError(t, err)
		accounts, verified := map[string]int{}, map[string]int{}
		for name, u := range w.people {
			day := u.CreatedAt.In(vienna).Format(time.DateOnly)
			if name == "stale" {
				continue
			}
			accounts[day]++
			if u.EmailVerifiedAt != nil {
				verified[day]++
			}
		}
		var rows []string
		for _, day := range slices.Sorted(maps.Keys(accounts)) {
			rows = append(rows, row(day, accounts[day], verified[day]))
		}
		return rows
	},
	"Secrets that are neither used nor expired (`Export`)": func(t *testing.T, w *world) []string {
		t.Helper()
		var found []string
		for _, u := range w.people {
			e, err := w.Store.Export(t.Context(), u.ID)
			require.NoError(t, err)
			for kind, records := range map[string][]soultribe.TokenRecord{"email": e.EmailVerifications, "password": e.PasswordResets} {
				for _, r := range records {
					if r.UsedAt == nil && r.ExpiresAt.After(w.Clock.Now()) {
						found = append(found, row(stamp(r.CreatedAt), kind, u.ID, r.Email, stamp(r.ExpiresAt)))
					}
				}
			}
		}
		require.Len(t, found, 2)
		slices.Sort(found)
		return found
	},
	"A user's slots that start after now (`Slots`)": func(t *testing.T, w *world) []string {
		t.Helper()
		var rows []string
		for _, s := range w.slots(t) {
			rows = append(rows, row(s.ID, stamp(s.Start), stamp(s.End), s.Timezone))
		}
		return rows
	},
	"The same by clocks on walls (`Slot.LocalStart`)": func(t *testing.T, w *world) []string {
		t.Helper()
		vienna, err := time.LoadLocation("Europe/Vienna")
		require.NoError(t, err)
		var rows []string
		for _, s := range w.slots(t) {
			rows = append(rows, row(s.ID, s.Timezone, wall(s.LocalStart()), wall(s.LocalEnd()), wall(s.Start.In(vienna))))
		}
		return rows
	},
	"Who is free from one instant to another (`MutualAvailability`)": func(t *testing.T, w *world) []string {
		t.Helper()
		// Who asks is free all of the time, and meets nobody.
		_, err := w.Store.AddSlot(t.Context(), w.id("hal"), soultribe.NewSlot{Start: w.now.Add(time.Minute), End: w.now.Add(20 * time.Hour), Timezone: "UTC"})
		require.NoError(t, err)
		var rows []string
		for _, u := range slices.SortedFunc(maps.Values(w.people), func(a, b soultribe.User) int { return int(a.ID - b.ID) }) {
			if u.ID == w.id("hal") {
				rows = append(rows, row(u.ID, u.Email))
				continue
			}
			windows, err := w.Store.MutualAvailability(t.Context(), w.id("hal"), u.ID, soultribe.MutualQuery{
				From: w.now.Add(2 * time.Hour), To: w.now.Add(4 * time.Hour), AtLeast: 2 * time.Hour,
			})
			require.NoError(t, err)
			if len(windows) > 0 && u.EmailVerifiedAt != nil {
				rows = append(rows, row(u.ID, u.Email))
			}
		}
		require.Len(t, rows, 3)
		return rows
	},
	"The time that two have in common in the next two weeks (`MutualAvailability`)": func(t *testing.T, w *world) []string {
		t.Helper()
		windows, err := w.Store.MutualAvailability(t.Context(), w.id("ann"), w.id("ben"), soultribe.MutualQuery{})
		require.NoError(t, err)
		var rows []string
		for _, win := range windows {
			rows = append(rows, row(stamp(win.Start), stamp(win.End)))
		}
		require.Len(t, rows, 2)
		return rows
	},
	"A user's matches, newest first (`Matches`)": func(t *testing.T, w *world) []string {
		t.Helper()
		var rows []string
		for _, m := range all(t, func(after soultribe.Cursor) (soultribe.Page[soultribe.Match], error) {
			return w.Store.Matches(t.Context(), w.id("ann"), soultribe.MatchQuery{After: after})
		}) {
			role := "answers"
			if m.User1ID == w.id("ann") {
				role = "asked"
			}
			other, err := w.Store.User(t.Context(), m.Partner(w.id("ann")))
			require.NoError(t, err)
			rows = append(rows, row(m.ID, m.Status, role, other.ID, other.Email, stamp(m.CreatedAt)))
		}
		require.Len(t, rows, 7)
		return rows
	},
	"All pending matches with both people's addresses (`PendingMatches`)": func(t *testing.T, w *world) []string {
		t.Helper()
		var rows []string
		for _, m := range all(t, func(after soultribe.Cursor) (soultribe.Page[soultribe.PendingMatch], error) {
			return w.Store.PendingMatches(t.Context(), soultribe.PageQuery{After: after})
		}) {
			rows = append(rows, row(m.ID, m.User1Email, m.User2Email, stamp(m.CreatedAt)))
		}
		require.Len(t, rows, 3)
		return rows
	},
	"A user's meetups that are ahead (`Meetups`)": func(t *testing.T, w *world) []string {
		t.Helper()
		var rows []string
		for _, m := range w.meetups(t, soultribe.MeetupProposed, soultribe.MeetupConfirmed) {
			other := m.User1ID
			if other == w.id("ann") {
				other = m.User2ID
			}
			u, err := w.Store.User(t.Context(), other)
			require.NoError(t, err)
			rows = append(rows, row(m.ID, m.Status, stamp(m.Start), stamp(m.End()), u.Email))
		}
		require.Len(t, rows, 3)
		return rows
	},
	"Proposals that wait for a user's answer (`Meetups`)": func(t *testing.T, w *world) []string {
		t.Helper()
		var rows []string
		for _, m := range w.meetups(t, soultribe.MeetupProposed) {
			if m.ProposerID != w.id("ann") {
				rows = append(rows, row(m.ID, stamp(m.Start), m.ProposerID))
			}
		}
		require.Len(t, rows, 1)
		return rows
	},
	"Matches and meetups by status (`ScanMatches`, `ScanMeetups`)": func(t *testing.T, w *world) []string {
		t.Helper()
		counts := map[string]int{}
		for _, m := range all(t, func(after soultribe.Cursor) (soultribe.Page[soultribe.Match], error) {
			return w.Store.ScanMatches(t.Context(), soultribe.MatchQuery{After: after})
		}) {
			counts["match|"+string(m.Status)]++
		}
		for _, m := range all(t, func(after soultribe.Cursor) (soultribe.Page[soultribe.Meetup], error) {
			return w.Store.ScanMeetups(t.Context(), soultribe.MeetupQuery{After: after})
		}) {
			counts["meetup|"+string(m.Status)]++
		}
		var rows []string
		for _, key := range slices.Sorted(maps.Keys(counts)) {
			rows = append(rows, row(key, counts[key]))
		}
		return rows
	},
	"Meetups that are over and not settled (`Settle`)": func(t *testing.T, w *world) []string {
		t.Helper()
		var rows []string
		undone := errors.New("undone")
		require.ErrorIs(t, w.Store.InTx(t.Context(), func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
			settled, err := st.Settle(ctx, soultribe.SettlePolicy{})
			require.NoError(t, err)
			for _, m := range settled.Completed {
				rows = append(rows, row(m.ID, soultribe.MeetupConfirmed, stamp(m.Start)))
			}
			for _, m := range settled.Cancelled {
				rows = append(rows, row(m.ID, soultribe.MeetupProposed, stamp(m.Start)))
			}
			return undone
		}), undone)
		require.Len(t, rows, 2)
		return rows
	},
	"Which migrations it has had (`schema.Status`)": func(t *testing.T, w *world) []string {
		t.Helper()
		state, err := schema.Status(t.Context(), w.Pool, schema.In(w.schema))
		require.NoError(t, err)
		var rows []string
		for _, a := range state.Applied {
			rows = append(rows, row(a.Version, stamp(a.At)))
		}
		require.Len(t, rows, soultribe.SchemaVersion)
		return rows
	},
}

func (w *world) slots(t *testing.T) []soultribe.Slot {
	t.Helper()
	page, err := w.Store.Slots(t.Context(), w.id("ann"), soultribe.SlotQuery{})
	require.NoError(t, err)
	require.Len(t, page.Items, 4)
	return page.Items
}

// meetups are Ann's that are ahead.
func (w *world) meetups(t *testing.T, status ...soultribe.MeetupStatus) []soultribe.Meetup {
	t.Helper()
	page, err := w.Store.Meetups(t.Context(), w.id("ann"), soultribe.MeetupQuery{Status: status, From: w.Clock.Now()})
	require.NoError(t, err)
	return page.Items
}

// others are the sections that have tests of their own.
var others = map[string]bool{
	"Its size (`Stats`)":                        true,
	"The size of each table":                    true,
	"Who waits for whom":                        true,
	"Transactions that have been open for long": true,
}

func TestPsqlQueries(t *testing.T) {
	t.Parallel()
	guide := read(t, "psql.md")
	queries, _, found := strings.Cut(guide, "\n## Changes by hand\n")
	require.True(t, found)
	asked := sections(t, queries)
	require.Len(t, asked, len(answers)+len(others))
	for _, name := range []string{"public", `the people`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, name)
			values := w.variables(guide)
			for _, s := range asked {
				if others[s.heading] {
					continue
				}
				require.Contains(t, answers, s.heading)
				want := answers[s.heading](t, w)
				require.NotEmpty(t, want)
				for _, zone := range zones {
					got := lines(t, session(t, w.URL, w.schema, zone), interpolate(t, s.sql, values))
					if strings.HasPrefix(s.heading, "Secrets") {
						got = withoutTokenIDs(got)
					}
					require.Equal(t, want, got, "%s in %s", s.heading, zone)
				}
			}
		})
	}
}

// variables are those of the guide, for this world.
func (w *world) variables(guide string) map[string]string {
	values := variables(guide)
	instant := func(d time.Duration) string { return w.now.Add(d).Format("2006-01-02 15:04:05-07") }
	maps.Copy(values, map[string]string{
		"user": fmt.Sprint(w.id("ann")), "other": fmt.Sprint(w.id("ben")), "from": instant(2 * time.Hour), "to": instant(4 * time.Hour),
	})
	return values
}

// withoutTokenIDs takes out the ids, which Export does not tell, and puts the time first.
func withoutTokenIDs(rows []string) []string {
	for i, r := range rows {
		c := strings.Split(r, "|")
		rows[i] = strings.Join([]string{c[4], c[0], c[2], c[3], c[5]}, "|")
	}
	return rows
}

func TestPsqlSizes(t *testing.T) {
	t.Parallel()
	guide := read(t, "psql.md")
	w := newWorld(t, "public")
	conn := session(t, w.URL, w.schema, "UTC")
	for _, s := range sections(t, guide) {
		switch s.heading {
		case "Its size (`Stats`)":
			stats, err := w.Store.Stats(t.Context())
			require.NoError(t, err)
			bytes, err := strconv.ParseInt(strings.Split(lines(t, conn, s.sql)[0], "|")[0], 10, 64)
			require.NoError(t, err)
			require.InEpsilon(t, stats.DatabaseBytes, bytes, .1) // a vacuum may come between
		case "The size of each table":
			var tables []string
			for _, r := range lines(t, conn, s.sql) {
				require.Regexp(t, `^[a-z_]+\|\d+ kB\|\d+ kB\|\d+$`, r)
				tables = append(tables, strings.Split(r, "|")[0])
			}
			require.ElementsMatch(t, tableNames, tables)
		}
	}
}

// TestPsqlLocks has a call of the library wait for a session that sits in its transaction.
func TestPsqlLocks(t *testing.T) {
	t.Parallel()
	guide := read(t, "psql.md")
	values := variables(guide)
	values["longer"] = "0 seconds"
	db := soultribetest.New(t)
	user := db.User(t)
	holder, watcher := session(t, db.URL, "public", "Asia/Kolkata"), session(t, db.URL, "public", "America/St_Johns")
	require.Empty(t, lines(t, watcher, interpolate(t, queryUnder(t, guide, "Who waits for whom"), values)))
	require.Empty(t, lines(t, watcher, interpolate(t, queryUnder(t, guide, "Transactions that have been open for long"), values)))

	tx, err := holder.Begin(t.Context())
	require.NoError(t, err)
	_, err = db.Store.WithTx(tx).UpdateProfile(t.Context(), user.ID, soultribe.ProfileUpdate{Bio: new(string)})
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := db.Store.DeleteUser(context.WithoutCancel(t.Context()), user.ID)
		done <- err
	}()
	waits := interpolate(t, queryUnder(t, guide, "Who waits for whom"), values)
	var seen []string
	require.Eventually(t, func() bool { seen = lines(t, watcher, waits); return len(seen) > 0 }, 10*time.Second, 5*time.Millisecond)
	require.Len(t, seen, 1)
	cells := strings.Split(seen[0], "|")
	require.Equal(t, []string{"DeleteUser", fmt.Sprint(holder.PgConn().PID()), "idle in transaction", "UpdateProfile"}, []string{cells[1], cells[3], cells[4], cells[5]})

	open := lines(t, watcher, interpolate(t, queryUnder(t, guide, "Transactions that have been open for long"), values))
	require.Len(t, open, 2)
	require.True(t, strings.HasPrefix(open[0], fmt.Sprint(holder.PgConn().PID())+"|"), open)
	values["longer"] = "1 hour"
	require.Empty(t, lines(t, watcher, interpolate(t, queryUnder(t, guide, "Transactions that have been open for long"), values)))
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, <-done)
}

// queryUnder returns the SQL under a heading.
func queryUnder(t *testing.T, guide, heading string) string {
	t.Helper()
	for _, s := range sections(t, guide) {
		if s.heading == heading {
			return s.sql
		}
	}
	require.Fail(t, "no section "+heading)
	return ""
}

// changes say of each change by hand what the library makes of it afterwards.
var changes = map[string]func(t *testing.T, w *world, change func()){
	"Cancel a meetup": func(t *testing.T, w *world, change func()) {
		t.Helper()
		change()
		result, err := w.Store.CancelMeetup(t.Context(), w.id("ann"), w.theMeetup(t).ID)
		require.NoError(t, err)
		require.False(t, result.Changed)
		require.Equal(t, soultribe.MeetupCancelled, result.Status)
		w.isNow(t, result.UpdatedAt)
		require.Equal(t, []string{"0"}, w.Query(t, "SELECT count(*) FROM soultribe_booking WHERE meetup_id = $1", int64(result.ID)))
	},
	"Cancel a match, and its meetup": func(t *testing.T, w *world, change func()) {
		t.Helper()
		meetup := w.theMeetup(t)
		change()
		result, err := w.Store.CancelMatch(t.Context(), w.id("ann"), meetup.MatchID)
		require.NoError(t, err)
		require.False(t, result.Changed)
		w.isNow(t, result.UpdatedAt)
		meetup, err = w.Store.Meetup(t.Context(), w.id("ann"), meetup.ID)
		require.NoError(t, err)
		require.Equal(t, soultribe.MeetupCancelled, meetup.Status)
		_, err = w.Store.RequestMatch(t.Context(), w.id("ann"), w.id("dea"))
		require.ErrorIs(t, err, soultribe.ErrCooldown)
		w.Clock.Advance(25 * time.Hour)
		_, err = w.Store.RequestMatch(t.Context(), w.id("ann"), w.id("dea"))
		require.NoError(t, err)
	},
	"Verify an address": func(t *testing.T, w *world, change func()) {
		t.Helper()
		change()
		u, err := w.Store.User(t.Context(), w.id("new"))
		require.NoError(t, err)
		w.isNow(t, *u.EmailVerifiedAt)
		_, err = w.Store.IssueEmailVerification(t.Context(), u.ID)
		require.ErrorIs(t, err, soultribe.ErrAlreadyVerified)
	},
	"Change an address": func(t *testing.T, w *world, change func()) {
		t.Helper()
		token, _, err := w.Store.IssuePasswordReset(t.Context(), w.people["new"].Email)
		require.NoError(t, err)
		require.NoError(t, w.Store.MarkVerified(t.Context(), w.id("new")))
		change()
		u, err := w.Store.UserByEmail(t.Context(), "Ann@example.com")
		require.NoError(t, err)
		require.Equal(t, w.id("new"), u.ID)
		require.Nil(t, u.EmailVerifiedAt)
		require.ErrorIs(t, w.Store.CheckPasswordReset(t.Context(), token.Secret()), soultribe.ErrTokenInvalid)
	},
	"Lock a user out until they reset the password": func(t *testing.T, w *world, change func()) {
		t.Helper()
		email := w.people["new"].Email
		before, _, err := w.Store.IssuePasswordReset(t.Context(), email)
		require.NoError(t, err)
		_, err = w.Store.Authenticate(t.Context(), email, "correct horse")
		require.NoError(t, err)
		change()
		_, err = w.Store.Authenticate(t.Context(), email, "correct horse")
		require.ErrorIs(t, err, soultribe.ErrInvalidCredentials)
		u, err := w.Store.UserByEmail(t.Context(), email)
		require.NoError(t, err)
		w.isNow(t, u.CredentialsChangedAt)
		require.ErrorIs(t, w.Store.CheckPasswordReset(t.Context(), before.Secret()), soultribe.ErrTokenInvalid)
		found, err := schema.Audit(t.Context(), w.Pool)
		require.NoError(t, err)
		require.Len(t, found, 1)
		require.Equal(t, []int64{int64(u.ID)}, found[0].IDs)

		w.Clock.Advance(10 * time.Minute)
		token, _, err := w.Store.IssuePasswordReset(t.Context(), email)
		require.NoError(t, err)
		_, err = w.Store.ResetPassword(t.Context(), token.Secret(), "another horse")
		require.NoError(t, err)
	},
	"Delete a user": func(t *testing.T, w *world, change func()) {
		t.Helper()
		change()
		_, err := w.Store.User(t.Context(), w.id("new"))
		require.ErrorIs(t, err, soultribe.ErrNotFound)
		require.Equal(t, []string{"0"}, w.Query(t, "SELECT count(*) FROM availabilityslot WHERE user_id = $1", int64(w.id("new"))))
	},
	"Delete slots that were over long ago": func(t *testing.T, w *world, change func()) {
		t.Helper()
		_, err := w.Pool.Exec(t.Context(), `
INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
SELECT $1, t - interval '1 hour', t, t - interval '1 hour', t, 'UTC', t, t
FROM unnest(ARRAY[interval '1 hour', interval '-1 hour']) AS apart, LATERAL (SELECT $2::timestamp - interval '90 days' + apart) AS x (t)`, int64(w.id("gus")), w.now)
		require.NoError(t, err)
		count := func() int {
			page, err := w.Store.Slots(t.Context(), w.id("gus"), soultribe.SlotQuery{From: w.now.Add(-365 * 24 * time.Hour)})
			require.NoError(t, err)
			return len(page.Items)
		}
		require.Equal(t, 2, count())
		change()
		require.Equal(t, 1, count())
	},
}

// theMeetup is that of Ann and Dea, which is confirmed.
func (w *world) theMeetup(t *testing.T) soultribe.Meetup {
	t.Helper()
	match, err := w.Store.MatchBetween(t.Context(), w.id("ann"), w.id("dea"))
	require.NoError(t, err)
	page, err := w.Store.Meetups(t.Context(), w.id("ann"), soultribe.MeetupQuery{MatchID: match.ID})
	require.NoError(t, err)
	require.Len(t, page.Items, 1)
	return page.Items[0]
}

func (w *world) isNow(t *testing.T, at time.Time) {
	t.Helper()
	require.WithinDuration(t, time.Now(), at, 5*time.Minute)
}

func TestPsqlChanges(t *testing.T) {
	t.Parallel()
	guide := read(t, "psql.md")
	_, byHand, found := strings.Cut(guide, "\n## Changes by hand\n")
	require.True(t, found)
	documented := sections(t, byHand)
	require.Len(t, documented, len(changes))
	for _, s := range documented {
		for _, zone := range zones {
			t.Run(s.heading+" in "+zone, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, "public")
				meetup := w.theMeetup(t)
				require.Equal(t, soultribe.MeetupConfirmed, meetup.Status)
				values := w.variables(guide)
				maps.Copy(values, map[string]string{
					"user": fmt.Sprint(w.id("new")), "meetup": fmt.Sprint(meetup.ID), "match": fmt.Sprint(meetup.MatchID),
				})
				require.Contains(t, changes, s.heading)
				changes[s.heading](t, w, func() {
					tag, err := session(t, w.URL, w.schema, zone).Exec(t.Context(), interpolate(t, s.sql, values))
					require.NoError(t, err)
					require.EqualValues(t, 1, tag.RowsAffected())
				})
				require.NoError(t, schema.Check(t.Context(), w.Pool))
				broken, err := schema.Audit(t.Context(), w.Pool)
				require.NoError(t, err)
				require.Empty(t, broken)
			})
		}
	}
}
