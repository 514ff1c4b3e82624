package soultribetest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

func equal[T any](t testing.TB, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

// ann is one and the same in every database.
var ann = soultribe.NewUser{Email: "ann@example.org", Password: "correct horse battery"}

// databases returns those of names that exist.
func databases(t testing.TB, db *soultribetest.DB, names []string) []string {
	t.Helper()
	return db.Query(t, "SELECT datname::text FROM pg_database WHERE datname = ANY($1::text[]) ORDER BY 1", names)
}

func databaseName(t testing.TB, db *soultribetest.DB) string {
	t.Helper()
	return db.Query(t, "SELECT current_database()::text")[0]
}

// TestNewIsIndependent has tests write the same rows at one time, each into its own database.
func TestNewIsIndependent(t *testing.T) {
	t.Parallel()
	outside := soultribetest.New(t)
	const tests = 8
	var mu sync.Mutex
	var names []string
	t.Run("tests", func(t *testing.T) {
		for i := range tests {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				db := soultribetest.New(t)
				name := databaseName(t, db)
				mu.Lock()
				names = append(names, name)
				mu.Unlock()
				equal(t, databases(t, outside, []string{name}), []string{name})
				u, err := db.Store.CreateUser(t.Context(), ann)
				noError(t, err)
				equal(t, u.ID, 1)
				equal(t, u.CreatedAt, soultribetest.Epoch)
				db.Clock.Advance(time.Hour)
				equal(t, db.Clock.Now(), soultribetest.Epoch.Add(time.Hour))
				equal(t, db.Query(t, `SELECT email FROM "user"`), []string{ann.Email})
			})
		}
	})
	slices.Sort(names)
	equal(t, len(slices.Compact(names)), tests)
	equal(t, databases(t, outside, names), []string{})
	equal(t, outside.Query(t, `SELECT email FROM "user"`), []string{})
	equal(t, outside.Clock.Now(), soultribetest.Epoch)
}

// TestNewAfterTheFirst tells how long a test waits for its database once the template is there.
func TestNewAfterTheFirst(t *testing.T) {
	t.Parallel()
	soultribetest.New(t)
	const more = 10
	start := time.Now()
	for range more {
		noError(t, soultribetest.New(t).Store.Ready(t.Context()))
	}
	t.Logf("New takes %v on average", (time.Since(start) / more).Round(time.Millisecond))
}

// TestURL has a pool of the test's own on the same database, which may be open when the test ends.
func TestURL(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	pool, err := pgxpool.New(t.Context(), db.URL)
	noError(t, err)
	t.Cleanup(pool.Close) // runs before the database is dropped; the one below stays open
	store, err := soultribe.Open(t.Context(), db.URL, soultribe.WithPasswordParams(soultribetest.PasswordParams))
	noError(t, err)
	u, err := store.CreateUser(t.Context(), ann)
	noError(t, err)
	var name string
	noError(t, pool.QueryRow(t.Context(), `SELECT current_database() FROM "user" WHERE id = $1`, u.ID).Scan(&name))
	equal(t, name, databaseName(t, db))
}

// TestWithSetup has tests share what the host's migrations made, and nothing that the tests make of it.
func TestWithSetup(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	notes := soultribetest.WithSetup("notes of a test", func(ctx context.Context, pool *pgxpool.Pool) error {
		runs.Add(1)
		// The library's tables are there.
		_, err := pool.Exec(ctx, `CREATE TABLE note (user_id integer REFERENCES "user", body text); INSERT INTO note (body) VALUES ('first')`)
		return err
	})
	var others atomic.Int64
	other := soultribetest.WithSetup("other notes of a test", func(context.Context, *pgxpool.Pool) error {
		others.Add(1)
		return nil
	})
	t.Run("tests", func(t *testing.T) {
		for i := range 6 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				db := soultribetest.New(t, notes)
				equal(t, db.Query(t, "SELECT body, user_id FROM note"), []string{"first|"})
				_, err := db.Pool.Exec(t.Context(), "UPDATE note SET body = 'second'")
				noError(t, err)
			})
		}
		t.Run("other", func(t *testing.T) {
			t.Parallel()
			equal(t, soultribetest.New(t, other).Query(t, "SELECT to_regclass('note') IS NULL"), []string{"true"})
		})
		t.Run("none", func(t *testing.T) {
			t.Parallel()
			equal(t, soultribetest.New(t).Query(t, "SELECT to_regclass('note') IS NULL"), []string{"true"})
		})
		t.Run("schema", func(t *testing.T) {
			t.Parallel()
			// One key in two schemas is two templates; the setup names the tables of public.
			db := soultribetest.New(t, soultribetest.WithSchema("tribe"), other)
			noError(t, db.Store.Ready(t.Context()))
		})
	})
	equal(t, runs.Load(), 1)
	equal(t, others.Load(), 2)
}

// failingTest is a test that is expected to fail. It runs no cleanup before end.
type failingTest struct {
	testing.TB
	log      []string
	failed   bool
	cleanups []func()
}

func (*failingTest) Helper()            {}
func (f *failingTest) Failed() bool     { return f.failed }
func (f *failingTest) Cleanup(c func()) { f.cleanups = append(f.cleanups, c) }
func (f *failingTest) Error(args ...any) {
	f.failed = true
	f.log = append(f.log, fmt.Sprint(args...))
}
func (f *failingTest) Logf(format string, args ...any) {
	f.log = append(f.log, fmt.Sprintf(format, args...))
}
func (f *failingTest) Fatal(args ...any) {
	f.Error(args...)
	runtime.Goexit()
}

// run runs a test and its cleanup.
func (f *failingTest) run(test func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for _, c := range slices.Backward(f.cleanups) {
				c()
			}
		}()
		test()
	}()
	<-done
}

func TestSetupFails(t *testing.T) {
	t.Parallel()
	broken := soultribetest.WithSetup("broken", func(context.Context, *pgxpool.Pool) error { return errors.New("no such migration") })
	for range 2 { // the second finds the template that failed
		var f failingTest
		f.run(func() { soultribetest.New(&f, broken) })
		equal(t, f.log, []string{"no such migration"})
	}
}

// TestSetupWithoutKey would give its tables to all tests that have no setup, or theirs to it.
func TestSetupWithoutKey(t *testing.T) {
	t.Parallel()
	var f failingTest
	f.run(func() {
		soultribetest.New(&f, soultribetest.WithSetup("", func(context.Context, *pgxpool.Pool) error { return nil }))
	})
	equal(t, f.log, []string{"soultribetest: WithSetup needs a key"})
}

func TestBadStoreOption(t *testing.T) {
	t.Parallel()
	var f failingTest
	f.run(func() { soultribetest.New(&f, soultribetest.WithStoreOptions(soultribe.WithClock(nil))) })
	equal(t, f.log, []string{"soultribe: New: clock is nil"})
}

func TestWithSchema(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"tribe", `So"ul Tribe`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := soultribetest.New(t, soultribetest.WithSchema(name))
			noError(t, db.Store.Ready(t.Context()))
			db.User(t)
			equal(t, db.Query(t, "SELECT schemaname::text FROM pg_tables WHERE tablename = 'user'"), []string{name})
		})
	}
}

func TestWithStoreOptions(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t,
		soultribetest.WithStoreOptions(soultribe.WithCooldowns(soultribe.Cooldowns{Token: -1})),
		soultribetest.WithStoreOptions(soultribe.WithTokenLifetimes(soultribe.TokenLifetimes{EmailVerification: time.Minute})))
	u, err := db.Store.CreateUser(t.Context(), ann)
	noError(t, err)
	for range 2 {
		token, err := db.Store.IssueEmailVerification(t.Context(), u.ID)
		noError(t, err)
		equal(t, token.ExpiresAt, soultribetest.Epoch.Add(time.Minute))
	}
}

// TestSecondStore has a Store with other options on the same database, as DB says.
func TestSecondStore(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	second, err := soultribe.New(db.Pool, soultribe.WithClock(db.Clock.Now), soultribe.WithPasswordParams(soultribetest.PasswordParams),
		soultribe.WithCooldowns(soultribe.Cooldowns{Token: -1}))
	noError(t, err)
	u, err := db.Store.CreateUser(t.Context(), ann)
	noError(t, err)
	for range 2 {
		_, err = second.IssueEmailVerification(t.Context(), u.ID)
		noError(t, err)
	}
	_, err = db.Store.IssueEmailVerification(t.Context(), u.ID)
	equal(t, soultribe.Code(err), "cooldown")

	db.Clock.Set(soultribetest.Epoch.AddDate(-1, 0, 0))
	earlier, err := second.CreateUser(t.Context(), soultribe.NewUser{Email: "ben@example.org", Password: "correct horse battery"})
	noError(t, err)
	equal(t, earlier.CreatedAt, db.Clock.Now())
}

// TestLogin is of the fixture's user, whose password nobody knows.
func TestLogin(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	u := db.User(t)
	noError(t, db.Store.SetPassword(t.Context(), u.ID, "correct horse battery"))
	found, err := db.Store.Authenticate(t.Context(), u.Email, "correct horse battery")
	noError(t, err)
	equal(t, found.ID, u.ID)
}

// TestLeftovers finds all that this package makes by the pattern of its documentation.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("soultribetest.go")
	noError(t, err)
	pattern := regexp.MustCompile(`datname ~ '(.+)' \\gexec`).FindSubmatch(source)
	if pattern == nil {
		t.Fatal("the documentation has no pattern")
	}
	db := soultribetest.New(t)
	prefix := strings.SplitAfterN(databaseName(t, db), "_", 3)
	made := "datname LIKE '" + strings.ReplaceAll(prefix[0]+prefix[1], "_", `\_`) + "%'"                                                         // by this binary
	equal(t, db.Query(t, "SELECT count(*) > 1, bool_and(datname ~ $1) FROM pg_database WHERE "+made, string(pattern[1])), []string{"true|true"}) // a template, too
	equal(t, db.Query(t, "SELECT datname ~ $1 FROM pg_database WHERE datname = 'postgres'", string(pattern[1])), []string{"false"})
}

func TestFixtures(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	a, b := db.User(t), db.User(t)
	equal(t, a.ID != b.ID && a.Email != b.Email, true)
	equal(t, *a.EmailVerifiedAt, soultribetest.Epoch)
	profile, err := db.Store.Profile(t.Context(), a.ID)
	noError(t, err)
	equal(t, profile.Timezone, "Europe/Vienna")
	equal(t, profile.DisplayName+"@example.org", a.Email)

	match := db.Matched(t, a.ID, b.ID)
	equal(t, match.Status, soultribe.MatchAccepted)
	equal(t, []soultribe.UserID{match.User1ID, match.User2ID}, []soultribe.UserID{a.ID, b.ID})

	meetup := db.Meetup(t, match, soultribe.Times{Start: soultribetest.Epoch.Add(time.Hour)})
	equal(t, meetup.Status, soultribe.MeetupConfirmed)
	equal(t, meetup.ProposerID, a.ID)
	equal(t, meetup.Duration, time.Hour)
	equal(t, db.Query(t, "SELECT match_id, scheduled_time, status FROM meetup"),
		[]string{fmt.Sprintf("%d|2026-03-02 10:00:00 +0000 UTC|confirmed", match.ID)})
}

// TestFixturesFail has fixtures end a test whose rows cannot be.
func TestFixturesFail(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	a, b := db.User(t), db.User(t)
	match := db.Matched(t, a.ID, b.ID)
	tests := map[string]func(f *failingTest){
		"to must be another person": func(f *failingTest) { db.Matched(f, a.ID, a.ID) },
		"the time has passed":       func(f *failingTest) { db.Meetup(f, match, soultribe.Times{Start: soultribetest.Epoch}) },
		"syntax error":              func(f *failingTest) { db.Query(f, "SELECT FROM FROM") },
	}
	for want, test := range tests {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			var f failingTest
			f.run(func() { test(&f) })
			if !f.failed || !strings.Contains(f.log[0], want) {
				t.Fatalf("the test says %q", f.log)
			}
		})
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	equal(t, db.Query(t, "SELECT 1, NULL, 'x', true UNION ALL SELECT $1::integer, 'y', '', NULL", 2), []string{"1||x|true", "2|y||"})
	equal(t, db.Query(t, "SELECT 1 WHERE false"), []string{})
}

func TestClock(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	equal(t, soultribetest.Epoch.Weekday(), time.Monday)
	equal(t, db.Clock.Now(), soultribetest.Epoch)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			db.Clock.Advance(time.Minute)
			db.Clock.Now()
		})
	}
	all.Wait()
	equal(t, db.Clock.Now(), soultribetest.Epoch.Add(20*time.Minute))

	later := time.Date(2030, time.January, 1, 0, 0, 0, 0, time.UTC)
	db.Clock.Set(later)
	u, err := db.Store.CreateUser(t.Context(), ann)
	noError(t, err)
	equal(t, u.CreatedAt, later)
}

func TestForExample(t *testing.T) {
	t.Parallel()
	outside := soultribetest.New(t)
	db, drop := soultribetest.ForExample(soultribetest.WithSchema("tribe"))
	name := databaseName(t, db)
	noError(t, db.Store.Ready(t.Context()))
	equal(t, databases(t, outside, []string{name}), []string{name})
	drop()
	equal(t, databases(t, outside, []string{name}), []string{})
}

// BenchmarkNew tells what a test pays for its database once the template is there: for New with a first statement
// on the database, and for dropping it.
//
//	go test -run '^$' -bench New -benchtime 30x ./soultribetest
func BenchmarkNew(b *testing.B) {
	soultribetest.New(b)
	var made, dropped []time.Duration
	for b.Loop() {
		var test failingTest
		var start time.Time
		test.run(func() {
			start = time.Now()
			noError(b, soultribetest.New(&test).Store.Ready(b.Context()))
			made = append(made, time.Since(start))
		})
		dropped = append(dropped, time.Since(start)-made[len(made)-1])
		equal(b, test.log, nil)
	}
	median := func(times []time.Duration) float64 {
		slices.Sort(times)
		return float64(times[len(times)/2].Microseconds()) / 1000
	}
	b.ReportMetric(median(made), "ms/new")
	b.ReportMetric(median(dropped), "ms/drop")
}
