package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe/soultribetest"
)

// aged are n rows of each kind from 2020, and one from now, for two people who stay.
func aged(t *testing.T, n int) *soultribetest.DB {
	t.Helper()
	db := soultribetest.New(t)
	db.Matched(t, db.User(t).ID, db.User(t).ID)
	execute(t, db, `
INSERT INTO emailverificationtoken (user_id, token, expires_at, created_at)
	SELECT 1, 'v' || i, timestamp '2020-01-01', '2020-01-01' FROM generate_series(1, `+strconv.Itoa(n)+`) i`, `
INSERT INTO passwordresettoken (user_id, token, expires_at, created_at)
	SELECT 1, 'r' || i, timestamp '2020-01-01', '2020-01-01' FROM generate_series(1, `+strconv.Itoa(n)+`) i`, `
INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
	SELECT 1, d, d + interval '1 hour', d, d + interval '1 hour', 'UTC', d, d
	FROM generate_series(timestamp '2020-01-01', timestamp '2020-01-01' + `+strconv.Itoa(n-1)+` * interval '1 hour', '1 hour') d`, `
INSERT INTO meetup (match_id, scheduled_time, status, created_at, updated_at)
	SELECT 1, '2020-01-01', 'cancelled', '2020-01-01', '2020-01-01' FROM generate_series(1, `+strconv.Itoa(n)+`)`, `
INSERT INTO "user" (email, password_hash, created_at) SELECT i || '@x.org', '', '2020-01-01' FROM generate_series(1, `+strconv.Itoa(n)+`) i`, `
INSERT INTO emailverificationtoken (user_id, token, expires_at, created_at) VALUES (1, 'new', localtimestamp + interval '1 day', localtimestamp)`)
	return db
}

// left counts the rows of the tables that a purge shortens.
func left(t *testing.T, db *soultribetest.DB) string {
	t.Helper()
	return db.Query(t, `SELECT concat_ws(' ', (SELECT count(*) FROM emailverificationtoken), (SELECT count(*) FROM passwordresettoken),
		(SELECT count(*) FROM availabilityslot), (SELECT count(*) FROM meetup), (SELECT count(*) FROM "user"))`)[0]
}

// TestPurge has a dry run say what the run then does.
func TestPurge(t *testing.T) {
	t.Parallel()
	db := aged(t, 5)
	all := []string{"-tokens", "30d", "-slots", "1d12h", "-meetups", "720h", "-unverified", "7d", "-batch", "2"}
	require.Equal(t, "6 5 5 5 7", left(t, db))

	for _, c := range []struct {
		args         []string
		stdout, left string
	}{
		{[]string{"-tokens", "30000d"}, "removed 0 secrets of verification, 0 of password resets, 0 slots, 0 meetups and 0 accounts\n", "6 5 5 5 7"},
		{append(all, "-dry-run"), "would remove 5 secrets of verification, 5 of password resets, 5 slots, 5 meetups and 5 accounts\n", "6 5 5 5 7"},
		{append(all, "-dry-run", "-json"), `{"email_verifications":5,"password_resets":5,"slots":5,"meetups":5,"users":5,"more":false,"dry_run":true}` + "\n", "6 5 5 5 7"},
		{[]string{"-slots", "1h"}, "removed 0 secrets of verification, 0 of password resets, 5 slots, 0 meetups and 0 accounts\n", "6 5 0 5 7"},
		{append(all, "-json"), `{"email_verifications":5,"password_resets":5,"slots":0,"meetups":5,"users":5,"more":false,"dry_run":false}` + "\n", "1 0 0 0 2"},
		{append(all, "-dry-run"), "would remove 0 secrets of verification, 0 of password resets, 0 slots, 0 meetups and 0 accounts\n", "1 0 0 0 2"},
	} {
		stdout, stderr, code := soultribeCommand(t, db.URL, append([]string{"purge"}, c.args...)...)
		require.Equal(t, c.stdout, stdout, c.args)
		require.Empty(t, stderr)
		require.Equal(t, exitOK, code)
		require.Equal(t, c.left, left(t, db), c.args)
	}
}

// TestPurgeOfNothing removes nothing where it is not told what.
func TestPurgeOfNothing(t *testing.T) {
	t.Parallel()
	db := aged(t, 1)
	for args, says := range map[string]string{
		"":                              "needs an age of what to remove: -tokens, -slots, -meetups or -unverified",
		"-dry-run":                      "needs an age",
		"-batch 7":                      "needs an age",
		"-slots 0d":                     "must be more than nothing",
		"-slots 0":                      "must be more than nothing",
		"-slots -1h":                    "is not an age such as 30d",
		"-slots -1d":                    "is not an age such as 30d",
		"-slots 1d-2h":                  "is not an age such as 30d",
		"-slots 30":                     "is not an age such as 30d",
		"-slots d":                      "is not an age such as 30d",
		"-slots 200000d":                "is too long",
		"-slots 106751d24h":             "is too long",
		"-slots 99999999d":              "is not an age such as 30d",
		"-slots 1d -batch 20000":        "limit must be between 1 and 10000",
		"-slots 1d -batch -1":           "limit must be between 1 and 10000",
		"-slots 1d 30d":                 "takes no argument",
		"-schema nowhere -slots 1d -to": "-to",
	} {
		stdout, stderr, code := soultribeCommand(t, db.URL, append([]string{"purge"}, strings.Fields(args)...)...)
		require.Contains(t, stderr, says, args)
		require.NotContains(t, stdout, "removed 1")
		require.Equal(t, exitUsage, code, args)
	}
	require.Equal(t, "2 1 1 1 3", left(t, db))
	_, stderr, code := soultribeCommand(t, db.URL, "purge", "-slots", "1d", "-schema", "nowhere")
	require.Contains(t, stderr, "schema")
	require.Equal(t, exitNotAsItMustBe, code)
	stdout, _, code := soultribeCommand(t, db.URL, "purge", "-slots", "1d", "-dry-run", "-schema", "nowhere")
	require.Equal(t, []any{"", exitNotAsItMustBe}, []any{stdout, code}) // not that it would remove none
}

// TestInterruptedPurge says what it has removed.
func TestInterruptedPurge(t *testing.T) {
	t.Parallel()
	db := aged(t, 2_000)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errs bytes.Buffer
	p := program{databaseURL: db.URL, stdout: &out, every: 10 * time.Millisecond, stderr: writer(func(line string) {
		errs.WriteString(line)
		if strings.Contains(line, "removed") && !strings.Contains(line, " 0 rows") {
			cancel()
		}
	})}
	require.Equal(t, exitInterrupted, p.run(ctx, []string{"purge", "-slots", "1d", "-batch", "1", "-json"}))
	require.Regexp(t, ` [1-9]\d* rows after \d+s\n`, errs.String())
	require.Contains(t, errs.String(), "soultribe purge: interrupted\n")
	var removed purged
	require.NoError(t, json.Unmarshal(out.Bytes(), &removed))
	require.True(t, removed.More)
	require.Positive(t, removed.Slots)
	require.Equal(t, strconv.FormatInt(2_000-removed.Slots, 10), strings.Fields(left(t, db))[2])
}

// TestPurgeInUse leaves an account to which a table of the host's refers, and goes on with the others.
func TestPurgeInUse(t *testing.T) {
	t.Parallel()
	db := aged(t, 3)
	execute(t, db, `CREATE TABLE invoice (user_id int REFERENCES "user" (id))`, `INSERT INTO invoice SELECT max(id) FROM "user"`)
	for _, dryRun := range []string{"-dry-run", "-dry-run=false"} {
		stdout, stderr, code := soultribeCommand(t, db.URL, "purge", "-unverified", "1d", "-batch", "1", dryRun)
		require.Contains(t, stdout, "and 2 accounts\n")
		require.Empty(t, stderr)
		require.Equal(t, exitOK, code)
	}
	require.Equal(t, []string{"1"}, db.Query(t, `SELECT count(*) FROM "user" JOIN invoice ON user_id = id`))
}
