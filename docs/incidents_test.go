package docs_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
)

// pool is another one on the same database.
func (w *world) pool(t *testing.T, configure func(c *pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	config, err := soultribe.PoolConfig(w.URL)
	require.NoError(t, err)
	configure(config)
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func (w *world) on(t *testing.T, db soultribe.DB) *soultribe.Postgres {
	t.Helper()
	store, err := soultribe.New(db, soultribe.WithClock(w.Clock.Now))
	require.NoError(t, err)
	return store
}

func parameter(name, value string) func(c *pgxpool.Config) {
	return func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams[name] = value }
}

// TestOperationsIncidents makes what happens happen, and looks at the code and the SQLSTATE.
func TestOperationsIncidents(t *testing.T) {
	t.Parallel()
	guide := read(t, "operations.md")
	setProfile := func(ctx context.Context, w *world, st soultribe.Store) error {
		_, err := st.SetProfile(ctx, w.id("ann"), soultribe.NewProfile{DisplayName: "ann"})
		return err
	}
	tests := map[string]struct {
		returns string
		call    func(t *testing.T, w *world) error
	}{
		"the pool is exhausted": {"`timeout`", func(t *testing.T, w *world) error {
			t.Helper()
			pool := w.pool(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
			conn, err := pool.Acquire(t.Context())
			require.NoError(t, err)
			defer conn.Release()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			return setProfile(ctx, w, w.on(t, pool))
		}},
		"the server has no connection left": {"`internal`, 53300", func(t *testing.T, w *world) error {
			t.Helper()
			role, password := "soultribe_few_"+strings.ToLower(rand.Text()), rand.Text()
			w.run(t, fmt.Sprintf("CREATE ROLE %s LOGIN CONNECTION LIMIT 0 PASSWORD '%s'", role, password))
			t.Cleanup(func() {
				_, err := w.Pool.Exec(context.Background(), "DROP ROLE "+role)
				require.NoError(t, err)
			})
			pool := w.pool(t, func(c *pgxpool.Config) { c.ConnConfig.User, c.ConnConfig.Password = role, password })
			err := setProfile(t.Context(), w, w.on(t, pool))
			require.ErrorAs(t, err, new(*pgconn.ConnectError))
			return err
		}},
		"a lock is not let go": {"`internal` with 55P03", func(t *testing.T, w *world) error {
			t.Helper()
			hold(t, w)
			return setProfile(t.Context(), w, w.on(t, w.pool(t, parameter("lock_timeout", "50ms"))))
		}},
		"a statement takes too long": {"`internal` with 57014", func(t *testing.T, w *world) error {
			t.Helper()
			hold(t, w)
			return setProfile(t.Context(), w, w.on(t, w.pool(t, parameter("statement_timeout", "50ms"))))
		}},
		"the primary is now a standby": {"`internal`, 25006", func(t *testing.T, w *world) error {
			t.Helper()
			return setProfile(t.Context(), w, w.on(t, w.pool(t, parameter("default_transaction_read_only", "on"))))
		}},
		"the schema is missing, older or newer": {"`schema`", func(t *testing.T, w *world) error {
			t.Helper()
			w.run(t, "ALTER TABLE profile RENAME TO gone")
			return setProfile(t.Context(), w, w.Store)
		}},
		"an id column has no number left": {"`internal`, 2200H", func(t *testing.T, w *world) error {
			t.Helper()
			w.run(t, "SELECT setval('passwordresettoken_id_seq', 2147483647)")
			_, _, err := w.Store.IssuePasswordReset(t.Context(), w.people["fay"].Email)
			return err
		}},
	}
	for happens, test := range tests {
		t.Run(happens, func(t *testing.T) {
			t.Parallel()
			require.Regexp(t, `(?m)^\| `+regexp.QuoteMeta(happens)+` \| .*`+regexp.QuoteMeta(test.returns), guide)
			w := newWorld(t, "public")
			err := test.call(t, w)
			require.Error(t, err)
			code, state, _ := strings.Cut(strings.NewReplacer("`", "", " with", ",").Replace(test.returns), ", ")
			require.Equal(t, code, soultribe.Code(err), "%v", err)
			if state != "" {
				require.Equal(t, state, sqlState(err))
			}
		})
	}
}

// TestOperationsRefused has nobody listen: nothing was sent.
func TestOperationsRefused(t *testing.T) {
	t.Parallel()
	u := url.URL{Scheme: "postgres", Host: "127.0.0.1:1", User: url.User("nobody"), Path: "/nowhere"}
	store, err := soultribe.Open(t.Context(), u.String())
	require.NoError(t, err)
	t.Cleanup(store.Close)
	err = store.Ready(t.Context())
	require.ErrorAs(t, err, new(*pgconn.ConnectError))
	require.Equal(t, "internal", soultribe.Code(err))
}

// outcome is what a call came to: its code, or "unchanged" where the step had been taken.
func outcome(changed bool, err error) string {
	if err == nil && !changed {
		return "unchanged"
	}
	return soultribe.Code(err)
}

// repeated are the calls that may have to be made again. Each returns the call.
var repeated = map[string]func(t *testing.T, w *world) func() string{
	"SetProfile": func(t *testing.T, w *world) func() string {
		t.Helper()
		return func() string {
			_, err := w.Store.SetProfile(t.Context(), w.id("ann"), soultribe.NewProfile{DisplayName: "Ann"})
			return soultribe.Code(err)
		}
	},
	"UpdateProfile": func(t *testing.T, w *world) func() string {
		t.Helper()
		return func() string {
			_, err := w.Store.UpdateProfile(t.Context(), w.id("ann"), soultribe.ProfileUpdate{Bio: new(string)})
			return soultribe.Code(err)
		}
	},
	"UpdateSlot": func(t *testing.T, w *world) func() string {
		t.Helper()
		slot := w.slots(t)[3]
		return func() string {
			_, err := w.Store.UpdateSlot(t.Context(), w.id("ann"), slot.ID, soultribe.NewSlot{Start: slot.Start, End: slot.End.Add(time.Hour), Timezone: "UTC"})
			return soultribe.Code(err)
		}
	},
	"ReplaceSlots": func(t *testing.T, w *world) func() string {
		t.Helper()
		return func() string {
			_, err := w.Store.ReplaceSlots(t.Context(), w.id("ann"), soultribe.Window{Start: w.now.Add(20 * time.Hour), End: w.now.Add(24 * time.Hour)},
				[]soultribe.NewSlot{{Start: w.now.Add(21 * time.Hour), End: w.now.Add(22 * time.Hour), Timezone: "UTC"}})
			return soultribe.Code(err)
		}
	},
	"MarkVerified": func(t *testing.T, w *world) func() string {
		t.Helper()
		return func() string { return soultribe.Code(w.Store.MarkVerified(t.Context(), w.id("new"))) }
	},
	"SetPassword": func(t *testing.T, w *world) func() string {
		t.Helper()
		return func() string { return soultribe.Code(w.Store.SetPassword(t.Context(), w.id("ann"), "battery staple")) }
	},
	"RequestMatch": func(t *testing.T, w *world) func() string {
		t.Helper()
		return func() string {
			r, err := w.Store.RequestMatch(t.Context(), w.id("eva"), w.id("hal"))
			return outcome(r.Changed, err)
		}
	},
	"AcceptMatch": stepOf(func(t *testing.T, w *world, m soultribe.MatchID) (bool, error) {
		t.Helper()
		r, err := w.Store.AcceptMatch(t.Context(), w.id("gus"), m)
		return r.Changed, err
	}),
	"RejectMatch": stepOf(func(t *testing.T, w *world, m soultribe.MatchID) (bool, error) {
		t.Helper()
		r, err := w.Store.RejectMatch(t.Context(), w.id("gus"), m)
		return r.Changed, err
	}),
	"CancelMatch": stepOf(func(t *testing.T, w *world, m soultribe.MatchID) (bool, error) {
		t.Helper()
		r, err := w.Store.CancelMatch(t.Context(), w.id("fay"), m)
		return r.Changed, err
	}),
	"ProposeMeetup": func(t *testing.T, w *world) func() string {
		t.Helper()
		m := w.Matched(t, w.id("hal"), w.id("eva"))
		return func() string {
			r, err := w.Store.ProposeMeetup(t.Context(), w.id("hal"), soultribe.NewMeetup{MatchID: m.ID, Times: soultribe.Times{Start: w.now.Add(time.Hour)}})
			return outcome(r.Changed, err)
		}
	},
	"ConfirmMeetup": func(t *testing.T, w *world) func() string {
		t.Helper()
		m := w.proposal(t)
		return func() string {
			r, err := w.Store.ConfirmMeetup(t.Context(), w.id("ann"), m.ID, m.Times)
			return outcome(r.Changed, err)
		}
	},
	"RescheduleMeetup": func(t *testing.T, w *world) func() string {
		t.Helper()
		m := w.proposal(t)
		return func() string {
			r, err := w.Store.RescheduleMeetup(t.Context(), w.id("ann"), m.ID, soultribe.Reschedule{Seen: m.Times, To: soultribe.Times{Start: m.Start.Add(time.Hour)}})
			return outcome(r.Changed, err)
		}
	},
	"CancelMeetup": func(t *testing.T, w *world) func() string {
		t.Helper()
		m := w.proposal(t)
		return func() string {
			r, err := w.Store.CancelMeetup(t.Context(), w.id("ann"), m.ID)
			return outcome(r.Changed, err)
		}
	},
	"CompleteMeetup": func(t *testing.T, w *world) func() string {
		t.Helper()
		m := w.theMeetup(t)
		w.Clock.Set(m.End().Add(time.Minute))
		return func() string {
			r, err := w.Store.CompleteMeetup(t.Context(), w.id("ann"), m.ID)
			return outcome(r.Changed, err)
		}
	},
	"CreateUser": func(t *testing.T, w *world) func() string {
		t.Helper()
		return func() string {
			_, err := w.Store.CreateUser(t.Context(), soultribe.NewUser{Email: "ida@example.org", Password: "battery staple"})
			return soultribe.Code(err)
		}
	},
	"AddSlot": func(t *testing.T, w *world) func() string {
		t.Helper()
		return func() string {
			_, err := w.Store.AddSlot(t.Context(), w.id("hal"), soultribe.NewSlot{Start: w.now.Add(time.Hour), End: w.now.Add(2 * time.Hour), Timezone: "UTC"})
			return soultribe.Code(err)
		}
	},
	"AddSlots": func(t *testing.T, w *world) func() string {
		t.Helper()
		return func() string {
			_, err := w.Store.AddSlots(t.Context(), w.id("hal"), []soultribe.NewSlot{{Start: w.now.Add(time.Hour), End: w.now.Add(2 * time.Hour), Timezone: "UTC"}})
			return soultribe.Code(err)
		}
	},
	"DeleteSlot": func(t *testing.T, w *world) func() string {
		t.Helper()
		slot := w.slots(t)[0]
		return func() string { return soultribe.Code(w.Store.DeleteSlot(t.Context(), w.id("ann"), slot.ID)) }
	},
	"DeleteUser": func(t *testing.T, w *world) func() string {
		t.Helper()
		return func() string {
			_, err := w.Store.DeleteUser(t.Context(), w.id("ann"))
			return soultribe.Code(err)
		}
	},
	"ChangePassword": func(t *testing.T, w *world) func() string {
		t.Helper()
		return func() string {
			return soultribe.Code(w.Store.ChangePassword(t.Context(), w.id("ann"), "correct horse", "battery staple"))
		}
	},
	"VerifyEmail": func(t *testing.T, w *world) func() string {
		t.Helper()
		w.Clock.Advance(time.Hour)
		token, err := w.Store.IssueEmailVerification(t.Context(), w.id("new"))
		require.NoError(t, err)
		return func() string {
			_, err := w.Store.VerifyEmail(t.Context(), token.Secret())
			return soultribe.Code(err)
		}
	},
	"ResetPassword": func(t *testing.T, w *world) func() string {
		t.Helper()
		token, _, err := w.Store.IssuePasswordReset(t.Context(), w.people["fay"].Email)
		require.NoError(t, err)
		return func() string {
			_, err := w.Store.ResetPassword(t.Context(), token.Secret(), "battery staple")
			return soultribe.Code(err)
		}
	},
	"IssueEmailVerification": func(t *testing.T, w *world) func() string {
		t.Helper()
		w.Clock.Advance(time.Hour)
		return func() string {
			_, err := w.Store.IssueEmailVerification(t.Context(), w.id("new"))
			return soultribe.Code(err)
		}
	},
	"IssueEmailChange": func(t *testing.T, w *world) func() string {
		t.Helper()
		return func() string {
			_, err := w.Store.IssueEmailChange(t.Context(), w.id("ann"), "correct horse", "ann@example.net")
			return soultribe.Code(err)
		}
	},
	"IssuePasswordReset": func(t *testing.T, w *world) func() string {
		t.Helper()
		return func() string {
			_, ok, err := w.Store.IssuePasswordReset(t.Context(), w.people["fay"].Email)
			if err == nil && !ok {
				return "ok"
			}
			return soultribe.Code(err)
		}
	},
}

// stepOf is a step of the pending match in which Fay asked Gus.
func stepOf(step func(t *testing.T, w *world, m soultribe.MatchID) (bool, error)) func(t *testing.T, w *world) func() string {
	return func(t *testing.T, w *world) func() string {
		t.Helper()
		m, err := w.Store.MatchBetween(t.Context(), w.id("fay"), w.id("gus"))
		require.NoError(t, err)
		return func() string { return outcome(step(t, w, m.ID)) }
	}
}

// proposal is the one that waits for Ann's answer.
func (w *world) proposal(t *testing.T) soultribe.Meetup {
	t.Helper()
	for _, m := range w.meetups(t, soultribe.MeetupProposed) {
		if m.ProposerID != w.id("ann") {
			return m
		}
	}
	require.Fail(t, "no proposal")
	return soultribe.Meetup{}
}

// TestOperationsRepeated makes each call twice, as who got no answer to the first would.
func TestOperationsRepeated(t *testing.T) {
	t.Parallel()
	_, table, found := strings.Cut(read(t, "operations.md"), "\n| call | then |\n|---|---|\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n\n")
	written := map[string]string{}
	for line := range strings.Lines(table) {
		calls, then, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		var want string
		switch first := regexp.MustCompile("`(\\w+)`").FindStringSubmatch(then); {
		case strings.HasPrefix(then, "as the first time, with `Changed` false"):
			want = "unchanged"
		case strings.HasPrefix(then, "as the first time"):
		default:
			want = first[1]
		}
		for _, call := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(calls, -1) {
			written[call[1]] = want
		}
	}
	require.Len(t, written, len(repeated))
	for name, prepare := range repeated {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, written, name)
			call := prepare(t, newWorld(t, "public"))
			require.Empty(t, call(), "the first time")
			require.Equal(t, written[name], call(), "the second time")
		})
	}
}
