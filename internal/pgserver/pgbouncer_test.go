package pgserver

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func pgBouncer(t *testing.T, serverURL string, servers int) *PgBouncer {
	t.Helper()
	b, err := StartPgBouncer(t.Context(), serverURL, servers)
	if errors.Is(err, ErrNoPgBouncer) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(b.Stop)
	return b
}

func TestPgBouncer(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) *Server{laneLocal: localServer, laneContainer: containerServer} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := pgBouncer(t, s.URL, 2)
			databaseURL, err := b.URL(s.URL)
			require.NoError(t, err)
			assertForTests(t, databaseURL)
			backend := func(conn *pgx.Conn) (pid int) {
				require.NoError(t, conn.QueryRow(t.Context(), `SELECT pg_backend_pid()`, pgx.QueryExecModeExec).Scan(&pid))
				return pid
			}

			// Two who are in transactions have a server each, and one who is not has theirs in turn.
			one, two, three := connect(t, databaseURL), connect(t, databaseURL), connect(t, databaseURL)
			for _, conn := range []*pgx.Conn{one, two} {
				_, err := conn.Exec(t.Context(), `BEGIN`)
				require.NoError(t, err)
			}
			pids := []int{backend(one), backend(two)}
			require.NotEqual(t, pids[0], pids[1])
			for _, conn := range []*pgx.Conn{one, two} {
				_, err := conn.Exec(t.Context(), `COMMIT`)
				require.NoError(t, err)
			}
			assert.ElementsMatch(t, pids, []int{backend(three), backend(three)})

			var version string
			require.NoError(t, connect(t, b.AdminURL()).QueryRow(t.Context(), `SHOW VERSION`).Scan(&version))
			assert.Contains(t, version, "PgBouncer")

			b.Kill()
			b.Kill()
			require.Error(t, three.Ping(t.Context()))
			_, err = pgx.Connect(t.Context(), databaseURL)
			require.Error(t, err)
			require.NoError(t, b.Start(t.Context()))
			assertForTests(t, databaseURL)

			b.Stop()
			b.Stop()
			assert.NoDirExists(t, b.directory.path)
			_, err = pgx.Connect(t.Context(), databaseURL)
			require.Error(t, err)
			assertForTests(t, s.URL)
		})
	}
}

func TestFindPgBouncer(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(program, nil, 0o700)) // #nosec G306 -- a program

	path, err := findPgBouncer("", []string{"/nonexistent/pgbouncer", program})
	require.NoError(t, err)
	assert.Equal(t, program, path)
	path, err = findPgBouncer(program, nil)
	require.NoError(t, err)
	assert.Equal(t, program, path)

	_, err = findPgBouncer("", []string{"/nonexistent/pgbouncer"})
	require.ErrorIs(t, err, ErrNoPgBouncer)
	require.ErrorContains(t, err, `install the package "pgbouncer"`)
	// Who insists on one is not told that there is none, by which tests are skipped.
	_, err = findPgBouncer("/nonexistent/pgbouncer", []string{program})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, err, ErrNoPgBouncer)
	require.ErrorContains(t, err, pgBouncerVariable)
}

// A PgBouncer that cannot be is an error, which tells why and no password.
func TestBrokenPgBouncer(t *testing.T) {
	t.Parallel()
	_, err := findPgBouncer(os.Getenv(pgBouncerVariable), pgBouncerPaths)
	if errors.Is(err, ErrNoPgBouncer) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	require.NoError(t, err)
	_, err = StartPgBouncer(t.Context(), "postgres://u:hunter2@h:x/d", 1)
	require.ErrorContains(t, err, "not a postgres:// URL")
	assert.NotContains(t, err.Error(), "hunter2")

	_, err = StartPgBouncer(t.Context(), "postgres://u:hunter2@/d?host=%0Anonsense", 1)
	require.ErrorContains(t, err, "PgBouncer: it ended: exit status 1")
	require.ErrorContains(t, err, "syntax error in configuration")
	assert.NotContains(t, err.Error(), "hunter2")
}
