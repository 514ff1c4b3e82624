//go:build unix

package pgserver

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func durableServer(t *testing.T) *Durable {
	t.Helper()
	d, err := StartDurable(t.Context())
	skipUnless(t, laneLocal, err)
	t.Cleanup(d.Stop)
	return d
}

func execute(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func valueOf[T any](t *testing.T, databaseURL, sql string) (v T) {
	t.Helper()
	require.NoError(t, connect(t, databaseURL).QueryRow(t.Context(), sql).Scan(&v))
	return v
}

func TestDurableServer(t *testing.T) {
	t.Parallel()
	d := durableServer(t)
	conn := connect(t, d.URL())
	for _, setting := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		assert.Equal(t, "on", valueOf[string](t, d.URL(), "SHOW "+setting), setting)
	}
	execute(t, conn, `CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)`)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `INSERT INTO kept VALUES (2)`)
	require.NoError(t, err)

	pids, err := children(d.c.process.Process.Pid)
	require.NoError(t, err)
	require.Contains(t, pids, int(conn.PgConn().PID()))
	require.NoError(t, d.Kill())
	require.Error(t, tx.Commit(t.Context()))
	for _, pid := range pids {
		p, err := lookAt(pid)
		assert.True(t, err != nil || p.is("Z"), "process %d lives", pid)
	}
	_, err = pgx.Connect(t.Context(), d.URL())
	require.Error(t, err)

	require.NoError(t, d.Start(t.Context()))
	assert.Equal(t, 1, valueOf[int](t, d.URL(), `SELECT sum(n)::int FROM kept`))

	survivor, victim := connect(t, d.URL()), connect(t, d.URL())
	require.ErrorContains(t, d.KillBackend(1), "is no process of the server")
	require.NoError(t, d.KillBackend(int(victim.PgConn().PID())))
	eventually(t, func() bool { return survivor.Ping(t.Context()) != nil }, "a session outlives the crash of another")
	eventually(t, func() bool {
		conn, err := pgx.Connect(t.Context(), d.URL())
		if err != nil {
			return false
		}
		return conn.Close(context.Background()) == nil
	}, "the server does not recover")
	assert.Equal(t, 1, valueOf[int](t, d.URL(), `SELECT sum(n)::int FROM kept`))

	d.Stop()
	assert.NoDirExists(t, d.SocketDirectory())
}

func TestStandby(t *testing.T) {
	t.Parallel()
	primary := durableServer(t)
	for round := 1; round <= 2; round++ { // the second follows one that was promoted
		standby, err := primary.Standby(t.Context())
		skipUnless(t, laneLocal, err)
		t.Cleanup(standby.Stop)
		conn := connect(t, primary.URL())
		execute(t, conn, `CREATE TABLE IF NOT EXISTS kept (n int)`)
		execute(t, conn, `INSERT INTO kept VALUES (1)`)
		// It has what was committed, and may not have replayed it.
		_, err = connect(t, standby.URL()).Exec(t.Context(), `CREATE TABLE refused ()`)
		require.ErrorContains(t, err, "25006")
		require.NoError(t, primary.Kill())
		require.NoError(t, standby.Promote(t.Context()))
		execute(t, connect(t, standby.URL()), `INSERT INTO kept VALUES (1)`)
		assert.Equal(t, 2*round, valueOf[int](t, standby.URL(), `SELECT sum(n)::int FROM kept`))
		primary = standby
	}
}
