package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

func TestMain(m *testing.M) { os.Exit(soultribetest.Main(m)) }

// soultribeCommand runs the program, and returns what it wrote and its exit code.
func soultribeCommand(t *testing.T, databaseURL string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return soultribeProgram(t.Context(), program{databaseURL: databaseURL}, args...)
}

// soultribeProgram is soultribeCommand in other surroundings.
func soultribeProgram(ctx context.Context, p program, args ...string) (stdout, stderr string, code int) {
	var out, errs strings.Builder
	p.stdout, p.stderr, p.every = &out, &errs, cmp.Or(p.every, time.Hour)
	code = p.run(ctx, args)
	return out.String(), errs.String(), code
}

var latest = strconv.Itoa(soultribe.SchemaVersion)

func TestFromNothing(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	steps := []struct {
		args           string
		stdout, stderr string
		code           int
	}{
		{"status -schema other", "not migrated; the library is at version " + latest + "\n", "", exitOK},
		{"check -schema other", "", "soultribe check: schema \"other\" has none of the tables: run schema.Migrate\n", exitNotAsItMustBe},
		{"migrate -schema other", "version " + latest + ", as the library\n", "", exitOK},
		{"migrate -schema other", "version " + latest + ", as the library\n", "", exitOK},
		{"status -schema other -json", `{"version":` + latest + `,"latest":` + latest + "}\n", "", exitOK},
		{"check -schema other", "version " + latest + ", as the library\n", "", exitOK},
		{"audit -schema other", "no row breaks a rule\n", "", exitOK},
		{"audit -schema other -json", `{"violations":[]}` + "\n", "", exitOK},
	}
	for _, s := range steps {
		stdout, stderr, code := soultribeCommand(t, db.URL, strings.Fields(s.args)...)
		require.Equal(t, s.stdout, stdout, s.args)
		require.Equal(t, s.stderr, stderr, s.args)
		require.Equal(t, s.code, code, s.args)
	}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ann := db.User(t)
	start := db.Clock.Now().Add(time.Hour)
	for range 2 {
		_, err := db.Store.AddSlot(t.Context(), ann.ID, soultribe.NewSlot{Start: start, End: start.Add(time.Hour), Timezone: "Europe/Vienna"})
		require.NoError(t, err)
		start = start.Add(time.Hour)
	}
	_, err := db.Pool.Exec(t.Context(), `
ALTER TABLE availabilityslot DROP CONSTRAINT availabilityslot_no_overlap;
UPDATE availabilityslot SET start_dt_utc = start_dt_utc - interval '1 minute', start_dt_local = start_dt_local - interval '1 minute' WHERE id = 2`)
	require.NoError(t, err)

	stdout, stderr, code := soultribeCommand(t, db.URL, "audit")
	require.Equal(t, "availabilityslot 1+2: overlapping slots of a user (availabilityslot_no_overlap)\n1 found\n", stdout)
	require.Empty(t, stderr)
	require.Equal(t, exitNotAsItMustBe, code)

	stdout, _, code = soultribeCommand(t, db.URL, "audit", "-json")
	require.Equal(t, exitNotAsItMustBe, code)
	var f findings
	require.NoError(t, json.Unmarshal([]byte(stdout), &f))
	require.Equal(t, findings{[]violation{{
		Table: "availabilityslot", IDs: []int64{1, 2}, Rule: "availabilityslot_no_overlap", Text: "overlapping slots of a user",
	}}}, f)

	_, stderr, code = soultribeCommand(t, db.URL, "check")
	require.Contains(t, stderr, "constraint availabilityslot_no_overlap on availabilityslot is missing")
	require.Equal(t, exitNotAsItMustBe, code)
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space is left") }

// TestAnswerIsLost has findings that cannot be written.
func TestAnswerIsLost(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	db.User(t)
	_, err := db.Pool.Exec(t.Context(), `UPDATE "user" SET password_hash = 'junk'`)
	require.NoError(t, err)
	for _, args := range [][]string{{"audit"}, {"audit", "-json"}, {"status"}} {
		var errs strings.Builder
		p := program{databaseURL: db.URL, stdout: full{}, stderr: &errs, every: time.Hour}
		require.Equal(t, exitFailed, p.run(t.Context(), args))
		require.Contains(t, errs.String(), "no space is left")
	}
}

// TestReadmeShowsHelp holds the README to what the program says of itself.
func TestReadmeShowsHelp(t *testing.T) {
	t.Parallel()
	help, _, _ := soultribeCommand(t, "", "help")
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	require.Contains(t, string(readme), "```text\n"+help+"```")
}

// TestMigrateByVersions has a dry run before each run.
func TestMigrateByVersions(t *testing.T) {
	t.Parallel()
	url := newDatabase(t, soultribetest.New(t))
	empty := contents(t, url)
	first := "would bring version 1: the seven tables\n"
	nothing := "nothing is in the way; nothing was changed\n"
	for _, s := range []struct {
		args, stdout, stderr string
		code                 int
	}{
		{"-to 1 -dry-run", first + nothing, "", exitOK},
		{"-to 1 -dry-run -json", `{"version":0,"to":1,"found":[],"steps":[{"version":1,"text":"the seven tables"}]}` + "\n", "", exitOK},
		{"-to 1", "version 1; the library is at version " + latest + "\n", "", exitOK},
		{"-to 1 -dry-run", "version 1: nothing would be done\n", "", exitOK},
		{"-to 2", "version 2; the library is at version " + latest + "\n", "", exitOK},
		{"-to 1", "", "soultribe migrate: schema: to is below the database's version, 2, and no migration goes back\n", exitUsage},
		{"-to 1 -dry-run", "", "soultribe migrate: schema: to is below the database's version, 2, and no migration goes back\n", exitUsage},
		{"-to 0", "", "soultribe migrate: schema: to must be between 1 and " + latest + "\n", exitUsage},
		{"-to 99", "", "soultribe migrate: schema: to must be between 1 and " + latest + "\n", exitUsage},
		{"", "version " + latest + ", as the library\n", "", exitOK},
		{"-dry-run -json", `{"version":` + latest + `,"to":` + latest + `,"found":[],"steps":[]}` + "\n", "", exitOK},
	} {
		before := contents(t, url)
		stdout, stderr, code := soultribeCommand(t, url, append([]string{"migrate"}, strings.Fields(s.args)...)...)
		require.Equal(t, []any{s.stdout, s.stderr, s.code}, []any{stdout, stderr, code}, s.args)
		if strings.Contains(s.args, "dry-run") {
			require.Equal(t, before, contents(t, url))
		}
	}
	require.NotEqual(t, empty, contents(t, url))
}

// TestMigrateDryRunOverTables takes over those of an application, and finds what is in the way.
func TestMigrateDryRunOverTables(t *testing.T) {
	t.Parallel()
	url := newDatabase(t, soultribetest.New(t))
	conn := connect(t, url)
	tables, err := os.ReadFile("../../examples/adoption/sqlalchemy.sql")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), string(tables)+`
;INSERT INTO "user" (email, password_hash, created_at) VALUES ('Ann@x.org', '', '2024-01-01'), ('ann@x.org', '', '2024-01-01')`)
	require.NoError(t, err)
	before := contents(t, url)

	stdout, stderr, code := soultribeCommand(t, url, "migrate", "-dry-run")
	require.Equal(t, []any{"", exitNotAsItMustBe}, []any{stdout, code})
	require.Contains(t, stderr, "(user_email_lower_key): 1+2\n")
	_, again, code := soultribeCommand(t, url, "migrate")
	require.Equal(t, []any{stderr, exitNotAsItMustBe}, []any{again, code})

	_, err = conn.Exec(t.Context(), `DELETE FROM "user" WHERE id = 2`)
	require.NoError(t, err)
	stdout, stderr, code = soultribeCommand(t, url, "migrate", "-dry-run")
	require.Equal(t, []any{"", exitOK}, []any{stderr, code})
	require.True(t, strings.HasPrefix(stdout, "would take over the tables user, profile, availabilityslot, emailverificationtoken, "+
		"passwordresettoken, match, meetup\nwould bring version 1: the seven tables\n"), stdout)
	_, err = conn.Exec(t.Context(), `INSERT INTO "user" (id, email, password_hash, created_at) VALUES (2, 'ann@x.org', '', '2024-01-01')`)
	require.NoError(t, err)
	require.Equal(t, before, contents(t, url))
}

// TestLongWorkSaysHowFarItIs has a migration wait for somebody.
func TestLongWorkSaysHowFarItIs(t *testing.T) {
	t.Parallel()
	url := newDatabase(t, soultribetest.New(t))
	_, stderr, code := soultribeCommand(t, url, "migrate", "-to", "3")
	require.Equal(t, exitOK, code, stderr)
	tx, err := connect(t, url).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT FROM meetup")
	require.NoError(t, err)
	stdout, stderr, code := soultribeProgram(t.Context(), program{databaseURL: url, every: 10 * time.Millisecond}, "migrate", "-lock-timeout", "200ms", "-json")
	require.Equal(t, []any{"", exitFailed}, []any{stdout, code})
	require.Regexp(t, `^(soultribe migrate: still at work after \d+s\n)+soultribe migrate: .*other transactions held the tables`, stderr)
	require.NoError(t, tx.Rollback(t.Context()))
}

// TestServerThatDoesNotAnswer takes connections and is silent.
func TestServerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	for _, c := range []struct{ parameter, flag string }{{"?connect_timeout=1", ""}, {"", "-connect-timeout=50ms"}, {"?connect_timeout=600", "-connect-timeout=50ms"}} {
		stdout, stderr, code := soultribeCommand(t, "postgres://ann@"+l.Addr().String()+"/x"+c.parameter, strings.Fields("status "+c.flag)...)
		require.Equal(t, []any{"", exitFailed}, []any{stdout, code})
		require.Contains(t, stderr, l.Addr().String())
	}

	// Nobody waits for ever, but for who insists.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, stderr, code := soultribeProgram(ctx, program{databaseURL: "postgres://ann@" + l.Addr().String() + "/x?sslmode=disable"}, "status", "-connect-timeout", "10m")
	require.Equal(t, "soultribe status: interrupted\n", stderr)
	require.Equal(t, exitInterrupted, code)
}

// TestHelp has all commands say what they take.
func TestHelp(t *testing.T) {
	t.Parallel()
	for _, c := range commands {
		help, stderr, code := soultribeCommand(t, "", "help", c.name)
		require.Equal(t, []any{"", exitOK}, []any{stderr, code})
		require.Contains(t, help, c.does)
		require.Contains(t, help, "-json")
		for _, args := range [][]string{{c.name, "-h"}, {c.name, "-json", "--help"}} {
			again, stderr, code := soultribeCommand(t, "", args...)
			require.Equal(t, []any{help, "", exitOK}, []any{again, stderr, code})
		}
	}
	stdout, _, code := soultribeCommand(t, "", "version", "-json")
	require.Equal(t, exitOK, code)
	var r release
	require.NoError(t, json.Unmarshal([]byte(stdout), &r))
	require.Equal(t, soultribe.SchemaVersion, r.Schema)
	require.Equal(t, runtime.Version(), r.Go)
}

// TestPasswordIsInNoMessage has servers and URLs that will not do.
func TestPasswordIsInNoMessage(t *testing.T) {
	t.Parallel()
	for _, password := range []string{"sesame", "ses%40me%2F", "ses ame", "sesame%", "ses@me", "ses/me", "ses:me", "ses?me", "ses#me", "ses[me", "sesame\n", "'ses'"} {
		for _, url := range []string{
			"postgres://ann:" + password + "@127.0.0.1:1/x",
			"postgresql+psycopg2://ann:" + password + "@127.0.0.1:1/x?sslmode=disable",
			"postgres://ann:" + password + "@127.0.0.1:port/x",
			"postgres://ann:" + password + "@127.0.0.1:1/x?sslmode=" + password,
			"postgres://ann@127.0.0.1:1/x?password=" + password,
			"postgres://ann@127.0.0.1:1/x?connect_timeout=1&sslmode=disable&sslpassword=" + password,
			"postgres:/ann:" + password + "@127.0.0.1:1/x",
			"ann:" + password,
			"host=127.0.0.1 port=1 password=" + password,
			"postgres://ann:" + password + "@/run/nowhere",
		} {
			for _, args := range [][]string{{"status"}, {"check"}, {"stats"}, {"backup", filepath.Join(t.TempDir(), "dump")}, {"restore", "main_test.go"}} {
				stdout, stderr, code := soultribeCommand(t, url, args...)
				require.Empty(t, stdout)
				require.NotEqual(t, exitOK, code)
				require.NotContains(t, stderr, "ses")
				require.NotContains(t, stderr, "goroutine")
			}
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	password := "not a real one"
	unreachable := "postgres://somebody:" + strings.ReplaceAll(password, " ", "%20") + "@127.0.0.1:1/nowhere"
	for _, c := range []struct {
		url, args string
		code      int
		says      string
	}{
		{"", "", exitUsage, "soultribe migrate"},
		{"", "help", exitOK, "Exit codes: 0"},
		{"", "--help", exitOK, "soultribe audit"},
		{"", "vacuum", exitUsage, `there is no command "vacuum"`},
		{"", "audit", exitUsage, "DATABASE_URL is not set"},
		{"", "audit -h", exitOK, "-schema"},
		{unreachable, "audit -quick", exitUsage, "-quick"},
		{unreachable, "audit now", exitUsage, `takes no argument, and has "now"`},
		{unreachable, "status", exitFailed, "127.0.0.1"},
		{unreachable, unreachable, exitUsage, "the URL of the database goes into DATABASE_URL"},
		{unreachable, "audit " + unreachable, exitUsage, "the URL of the database goes into DATABASE_URL"},
		{unreachable, "restore -clean " + unreachable, exitUsage, "the URL of the database goes into DATABASE_URL"},
		{unreachable, "migrate -to " + unreachable, exitUsage, "the URL of the database goes into DATABASE_URL"},
		{unreachable, "migrate -schema=" + unreachable, exitUsage, "the URL of the database goes into DATABASE_URL"},
		{unreachable, "backup -lock-timeout 100us x", exitUsage, "-lock-timeout must be"},
		{unreachable, "backup -lock-timeout 600h x", exitUsage, "-lock-timeout must be"},
		{unreachable, "status -connect-timeout -1s", exitUsage, "must not be negative"},
		{unreachable, "status -connect-timeout soon", exitUsage, "invalid value"},
		{unreachable, "help vacuum", exitUsage, `there is no command "vacuum"`},
		{"mysql://127.0.0.1", "status", exitUsage, "must begin with postgres://"},
		{unreachable, "migrate -lock-timeout 0s", exitUsage, "lock_timeout"},
	} {
		stdout, stderr, code := soultribeCommand(t, c.url, strings.Fields(c.args)...)
		require.Equal(t, c.code, code, c.args)
		require.Contains(t, stdout+stderr, c.says, c.args)
		require.NotContains(t, stdout+stderr, password, c.args)
		require.NotContains(t, stdout+stderr, "goroutine", c.args)
	}
}
