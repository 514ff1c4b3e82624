package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// TestSize holds it to what PostgreSQL says.
func TestSize(t *testing.T) {
	t.Parallel()
	db := aged(t, 2000)
	execute(t, db, `UPDATE profile SET bio = (SELECT string_agg(sha256(i::text::bytea)::text, '') FROM generate_series(1, 500) i)`,
		`CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id)`,
		`CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000)`,
		`CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (1000) TO (2000)`,
		`INSERT INTO parted SELECT generate_series(0, 1999)`, `CREATE SCHEMA other`, `CREATE TABLE other."user" (id int)`)
	// A session tells what it inserted when it ends, if not before. What came behind ANALYZE, which counts rows, too, would
	// be added to that.
	db.Pool.Reset()
	require.Eventually(t, func() bool {
		return db.Query(t, `SELECT count(*)::text FROM pg_stat_user_tables
			WHERE relname = 'user' AND schemaname = 'public' AND n_tup_ins >= 2002 OR relname IN ('parted_1', 'parted_2') AND n_tup_ins >= 1000`)[0] == "3"
	}, time.Minute, 10*time.Millisecond)
	execute(t, db, `ANALYZE`)

	stdout, stderr, code := soultribeCommand(t, db.URL, "size", "-json")
	require.Empty(t, stderr)
	require.Equal(t, exitOK, code)
	var s sizes
	require.NoError(t, json.Unmarshal([]byte(stdout), &s))
	require.Equal(t, db.Query(t, `SELECT current_database()`)[0], s.Database)
	require.Greater(t, s.Bytes, s.Tables[0].Total)

	seen := map[string]tableSize{}
	for i, table := range s.Tables {
		seen[table.Table] = table
		require.Equal(t, table.Total, table.Heap+table.Indexes+table.Toast)
		require.True(t, i == 0 || table.Total <= s.Tables[i-1].Total, "the largest first")
		if table.Table != "parted" {
			require.Equal(t, db.Query(t, `SELECT pg_total_relation_size(format('public.%I', $1::text)::regclass)::text`, table.Table)[0],
				strconv.FormatInt(table.Total, 10), table.Table)
		}
	}
	require.Len(t, seen, 10) // the seven, the library's two, and parted
	require.Greater(t, seen["profile"].Toast, seen["match"].Toast)
	require.Equal(t, int64(2002), seen["user"].Rows)
	require.Equal(t, int64(2000), seen["parted"].Rows)
	require.Equal(t, db.Query(t, `SELECT (pg_total_relation_size('parted_1') + pg_total_relation_size('parted_2'))::text`)[0],
		strconv.FormatInt(seen["parted"].Total, 10))

	stdout, _, _ = soultribeCommand(t, db.URL, "size")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	require.Len(t, lines, 12)
	require.Equal(t, []string{"total", "heap", "indexes", "toast", "rows", "dead", "table"}, strings.Fields(lines[0]))
	require.Contains(t, lines[1], s.Tables[0].Table)
	require.Contains(t, lines[11], "the database "+s.Database)

	stdout, _, code = soultribeCommand(t, db.URL, "size", "-schema", "nowhere", "-json")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, `"tables":[]`)
}

func TestBytesText(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 kB", 8192: "8.0 kB", 1 << 20: "1.0 MB", 1<<20 - 1: "1.0 MB",
		1<<30 - 1: "1.0 GB", 3 << 40: "3.0 TB", 1 << 60: "1048576.0 TB"} {
		require.Equal(t, want, bytesText(n))
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	db.Matched(t, db.User(t).ID, db.User(t).ID)
	db.User(t)
	execute(t, db, `INSERT INTO match (user1_id, user2_id, status, created_at, updated_at) VALUES (1, 3, E'\x1b[31m', now(), now())`,
		`INSERT INTO meetup (match_id, scheduled_time, status, created_at, updated_at) VALUES (1, now(), 'proposed', now(), now())`)
	stdout, stderr, code := soultribeCommand(t, db.URL, "stats")
	require.Empty(t, stderr)
	require.Equal(t, exitOK, code)
	require.Regexp(t, `^users               3
verified            3
slots ahead         0
matches "\\x1b\[31m"  1
matches accepted    1
meetups proposed    1
database            \d+\.\d MB
$`, stdout)

	stdout, _, _ = soultribeCommand(t, db.URL, "stats", "-json")
	var s soultribe.Stats
	require.NoError(t, json.Unmarshal([]byte(stdout), &s))
	require.Equal(t, int64(1), s.Matches[soultribe.MatchAccepted])
	_, _, code = soultribeCommand(t, db.URL, "stats", "-schema", "nowhere")
	require.Equal(t, exitNotAsItMustBe, code)
}
