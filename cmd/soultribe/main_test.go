package main

import (
	"encoding/json"
	"errors"
	"os"
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
	var out, errs strings.Builder
	code = run(t.Context(), args, databaseURL, &out, &errs)
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
		require.Equal(t, exitFailed, run(t.Context(), args, db.URL, full{}, &errs))
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
		{unreachable, "audit now", exitUsage, `"now" is not a flag`},
		{unreachable, "status", exitFailed, "127.0.0.1"},
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
