package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// What a test tells a process that it starts, and kills.
const (
	taskVariable  = "SHAREDTX_TASK" // "sign up" or "work"
	urlVariable   = "SHAREDTX_URL"
	emailVariable = "SHAREDTX_EMAIL"
	killVariable  = "SHAREDTX_KILL" // before which step: 1 is the first
)

func TestMain(m *testing.M) {
	if task := os.Getenv(taskVariable); task != "" {
		if err := child(task); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(soultribetest.Main(m))
}

// told is what the run prints after its first line.
//
//go:embed testdata/story.txt
var told string

func TestStory(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	before := db.Query(t, "SELECT nspname FROM pg_namespace ORDER BY 1")
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out, db.URL))
	first, rest, _ := strings.Cut(out.String(), "\n")
	require.Equal(t, "soultribe and River on the database at DATABASE_URL", first)
	require.Equal(t, told, rest)
	require.Equal(t, before, db.Query(t, "SELECT nspname FROM pg_namespace ORDER BY 1"), "nothing stays")
}

// newDB returns a database with the tables of the library, of River and of the host.
func newDB(t *testing.T) *soultribetest.DB {
	t.Helper()
	return soultribetest.New(t, soultribetest.WithSetup("sharedtx", func(ctx context.Context, pool *pgxpool.Pool) error {
		return migrate(ctx, pool, "public")
	}))
}

func cheap() soultribe.Option { return soultribe.WithPasswordParams(soultribetest.PasswordParams) }

func ofSignUp(email string) signUp {
	return signUp{Email: email, Password: "password of " + email, Name: "Somebody", Source: "a test"}
}

// stored are, by address, what a sign-up has stored.
const stored = `
	SELECT u.email, u.id IS NOT NULL, n.user_id IS NOT NULL, j.user_id IS NOT NULL FROM "user" u
	FULL JOIN newsletter n ON n.user_id = u.id
	FULL JOIN (SELECT (args ->> 'user_id')::int AS user_id FROM river_job WHERE kind = 'verification_mail') j ON j.user_id = u.id
	ORDER BY u.id`

// TestKilledSignUp kills a process before each statement of a sign-up, and after each: what is stored is all of it or
// nothing. Then a process that nobody kills goes on, and everybody gets a mail.
func TestKilledSignUp(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	all, none := []string{}, 0
	for n := 1; ; n++ {
		email := fmt.Sprintf("killed%02d@example.org", n)
		step, killed := start(t, db.URL, "sign up", email, n)
		rows := db.Query(t, stored)
		if len(rows) > len(all) {
			all = append(all, email+"|true|true|true")
		} else {
			none++
		}
		t.Logf("killed %-32s stored: %v", step, len(rows) > 0)
		require.Equal(t, all, rows, "killed %s", step)
		if !killed {
			break
		}
	}
	require.Greater(t, none, 10, "begin, the user, the consent, the job and commit")
	require.Len(t, all, 2, "killed after the commit, and not at all")

	mails := make(chan mail, 100)
	s, err := newService(db.Pool, "public", func(_ context.Context, m mail) error { mails <- m; return nil }, cheap())
	require.NoError(t, err)
	missing := map[string]bool{}
	for n := 1; n <= none+len(all); n++ {
		email := fmt.Sprintf("killed%02d@example.org", n)
		missing[email] = true
		require.NoError(t, s.signUp(t.Context(), ofSignUp(email)))
	}
	work(t, s)
	for len(missing) > 0 {
		m := receive(t, mails)
		if m.Secret != "" {
			require.True(t, missing[m.To], "a second mail")
			delete(missing, m.To)
			_, err := s.store.VerifyEmail(t.Context(), m.Secret)
			require.NoError(t, err)
		}
	}
}

// TestKilledWorker kills a worker before it issues the secret, between that and the mail, and between that and the end
// of the job. An hour later, when River takes the job for lost, another worker mails, unless there is no need.
func TestKilledWorker(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	mails := make(chan mail, 100)
	s, err := newService(db.Pool, "public", func(_ context.Context, m mail) error { mails <- m; return nil }, cheap())
	require.NoError(t, err)
	var steps []string
	for n := 1; ; n++ {
		require.NoError(t, s.signUp(t.Context(), ofSignUp(fmt.Sprintf("killed%d@example.org", n))))
		step, killed := start(t, db.URL, "work", "", n)
		if !killed {
			break
		}
		steps = append(steps, step)
	}
	require.Equal(t, []string{
		"before IssueEmailVerification", "after IssueEmailVerification", "before mail", "after mail",
		"before JobSetStateIfRunningMany", "after JobSetStateIfRunningMany",
	}, steps)
	require.Equal(t, []string{"completed|2", "running|5"},
		db.Query(t, "SELECT state, count(*) FROM river_job GROUP BY 1 ORDER BY 1"), "after the last step, and not at all")

	// An hour later.
	db.Query(t, "UPDATE river_job SET attempted_at = attempted_at - interval '1 hour'")
	db.Query(t, "DELETE FROM river_leader")
	snoozed, unsubscribe := s.queue.Subscribe(river.EventKindJobSnoozed)
	defer unsubscribe()
	work(t, s)
	require.Equal(t, "killed1@example.org", receive(t, mails).To)
	for range 4 { // secrets of the hour before, by this test's account of time
		require.Equal(t, river.EventKindJobSnoozed, receive(t, snoozed).Kind)
	}
	require.Equal(t, []string{"4|true|true"}, db.Query(t, `SELECT count(*),
		bool_and(scheduled_at > now() + interval '30 seconds'), bool_and(scheduled_at <= now() + interval '60 seconds')
		FROM river_job WHERE state = 'scheduled'`))
	db.Query(t, "UPDATE emailverificationtoken SET created_at = created_at - interval '1 minute'")
	db.Query(t, "UPDATE river_job SET scheduled_at = now() WHERE state = 'scheduled'")
	to := map[string]bool{}
	for range 4 {
		m := receive(t, mails)
		to[m.To] = true
		_, err := s.store.VerifyEmail(t.Context(), m.Secret)
		require.NoError(t, err)
	}
	require.Len(t, to, 4)
}

// TestNothingToMail has jobs whose users are verified, or gone, by the time that a worker gets to them.
func TestNothingToMail(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	s, err := newService(db.Pool, "public", func(_ context.Context, m mail) error { return errors.New("mailed " + m.To) }, cheap())
	require.NoError(t, err)
	for _, name := range []string{"ann", "bob"} {
		require.NoError(t, s.signUp(t.Context(), ofSignUp(name+"@example.org")))
		require.NoError(t, s.signUp(t.Context(), ofSignUp(name+"@EXAMPLE.org")))
		require.NoError(t, s.signUp(t.Context(), ofSignUp(name+"@example.ORG")), "one mail a day tells the owner")
	}
	require.Equal(t, []string{"attempt_mail|2", "verification_mail|2"}, db.Query(t, "SELECT kind, count(*) FROM river_job GROUP BY 1 ORDER BY 1"))
	ann, err := s.store.UserByEmail(t.Context(), "ann@example.org")
	require.NoError(t, err)
	require.NoError(t, s.store.MarkVerified(t.Context(), ann.ID))
	bob, err := s.store.UserByEmail(t.Context(), "bob@example.org")
	require.NoError(t, err)
	_, err = s.store.DeleteUser(t.Context(), bob.ID)
	require.NoError(t, err)
	require.Equal(t, []string{"ann@example.org"}, db.Query(t, `SELECT email FROM "user" JOIN newsletter ON user_id = id`), "his consent went with him")

	done, unsubscribe := s.queue.Subscribe(river.EventKindJobCompleted, river.EventKindJobFailed)
	defer unsubscribe()
	work(t, s)
	for range 4 {
		e := receive(t, done)
		told := e.Job.Kind == "attempt_mail" && strings.Contains(string(e.Job.EncodedArgs), fmt.Sprintf("%d", ann.ID))
		require.Equal(t, told, e.Kind == river.EventKindJobFailed, "%s %s", e.Job.Kind, e.Job.EncodedArgs)
	}
}

// work starts the workers, and stops them when the test ends.
func work(t *testing.T, s *service) {
	t.Helper()
	require.NoError(t, s.queue.Start(context.Background()))
	t.Cleanup(func() { require.NoError(t, s.queue.StopAndCancel(context.Background())) })
}

// receive waits for what must come.
func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(time.Minute):
		require.FailNow(t, "nothing has come")
		panic("unreachable")
	}
}

// start runs a task in a process that kills itself at a step, unless it has fewer, and returns the step.
func start(t *testing.T, url, task, email string, n int) (step string, killed bool) {
	t.Helper()
	executable, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, executable)
	cmd.Env = append(os.Environ(), taskVariable+"="+task, urlVariable+"="+url, emailVariable+"="+email, killVariable+"="+strconv.Itoa(n))
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err = cmd.Run()
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		step = lines.Text()
	}
	if err == nil {
		return "never", false
	}
	require.NoError(t, ctx.Err(), "the process goes on for ever")
	require.Equal(t, "signal: killed", err.Error(), problems.String())
	return step, true
}

// child is the process that start starts.
func child(task string) error {
	ctx := context.Background()
	n, err := strconv.Atoi(os.Getenv(killVariable))
	if err != nil {
		return err
	}
	steps := &steps{left: n}
	if task == "work" {
		// River has statements of its own, in no fixed order.
		steps.only = []string{"IssueEmailVerification", "mail", "JobSetStateIfRunningMany"}
	}
	config, err := pgxpool.ParseConfig(os.Getenv(urlVariable))
	if err != nil {
		return err
	}
	config.ConnConfig.Tracer = steps
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	s, err := newService(pool, "public", func(context.Context, mail) error {
		steps.at("before", "mail")
		steps.at("after", "mail")
		return nil
	}, cheap())
	if err != nil {
		return err
	}
	if task == "sign up" {
		return s.signUp(ctx, ofSignUp(os.Getenv(emailVariable)))
	}
	done, unsubscribe := s.queue.Subscribe(river.EventKindJobCompleted)
	defer unsubscribe()
	if err := s.queue.Start(ctx); err != nil {
		return err
	}
	<-done
	return s.queue.Stop(ctx)
}

// steps kills the process before one of its steps: the statements that begin and end, and what else it does.
type steps struct {
	mu   sync.Mutex
	left int
	only []string // or all
}

func (s *steps) at(when, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rest, ok := strings.CutPrefix(what, "-- name: "); ok {
		what = strings.Fields(rest)[0]
	} else {
		what, _, _ = strings.Cut(what, "\n")
	}
	if s.only != nil && !slices.Contains(s.only, what) {
		return
	}
	s.left--
	if s.left > 0 {
		return
	}
	fmt.Println(when, what)
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill()
	}
	select {} // until it is dead
}

type sqlKey struct{}

// TraceQueryStart implements [pgx.QueryTracer].
func (s *steps) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.at("before", data.SQL)
	return context.WithValue(ctx, sqlKey{}, data.SQL)
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (s *steps) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	sql, _ := ctx.Value(sqlKey{}).(string)
	s.at("after", sql)
}

// TraceBatchStart implements [pgx.BatchTracer]. The name is that of the last statement.
func (s *steps) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	sql := data.Batch.QueuedQueries[data.Batch.Len()-1].SQL
	s.at("before", sql)
	return context.WithValue(ctx, sqlKey{}, sql)
}

// TraceBatchQuery implements [pgx.BatchTracer].
func (s *steps) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements [pgx.BatchTracer].
func (s *steps) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchEndData) {
	sql, _ := ctx.Value(sqlKey{}).(string)
	s.at("after", sql)
}
