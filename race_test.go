package soultribe_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// stampede has n goroutines call f at one time, and waits for them.
func stampede(n int, f func(i int)) {
	var ready, done sync.WaitGroup
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			f(i)
		})
	}
	done.Wait()
}

// atOnce makes n calls at one moment, and counts the codes of their errors, of which "" is success.
func atOnce(n int, call func(i int) error) map[string]int {
	var outcomes tally
	stampede(n, func(i int) { outcomes.add(false, call(i)) })
	return outcomes.counts
}

// opened is a Store on a pool of so many connections, each of which is open, so that none is late.
func opened(t *testing.T, db *soultribetest.DB, connections int32, opts ...soultribe.Option) *soultribe.Postgres {
	t.Helper()
	st := newStore(t, db, newPool(t, db.URL, func(c *pgxpool.Config) { c.MaxConns = connections }), opts...)
	require.Equal(t, map[string]int{"": int(connections)}, atOnce(int(connections), func(int) error { return st.Ready(t.Context()) }))
	return st
}

// waitForBlocked returns when a session of the database waits for another.
func waitForBlocked(t *testing.T, db *soultribetest.DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for blocked := false; !blocked; {
		require.NoError(t, db.Pool.QueryRow(ctx,
			`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0)`).Scan(&blocked))
	}
}
