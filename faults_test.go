package soultribe_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/internal/pgserver"
	"github.com/soultribe-chat/soultribe/schema"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// faults are what happens to a service while it writes.
var faults = []struct {
	name string
	run  func(t *testing.T, f *fault)
}{
	{"server killed and restarted", faultServer},
	{"backend killed", faultBackend},
	{"standby promoted", faultPromotion},
	{"connections reset", faultReset},
	{"connections reset within a message", faultTorn},
	{"network swallows all", faultBlackHole},
	{"client killed in a transaction", faultClient},
}

// fault is a line of the table.
type fault struct {
	name   string
	rounds int
	seed   uint64
	r      *rand.Rand

	stories []*story // of all rounds
	errors  map[string]int

	// What came of the writes.
	acked, found, unknown, unknownFound, unsent int
	// At most: until the server was back, and from then until every client had a write acknowledged.
	outage, recovery time.Duration
}

// TestFaults has clients write while what they write to breaks, and asks the tables afterwards what there is. make
// faults does so for longer: SOULTRIBE_FAULT_ROUNDS is how often each fault happens. SOULTRIBE_FAULT_SEED repeats the
// choices of a run, though not its timing.
func TestFaults(t *testing.T) {
	t.Parallel()
	rounds, seed := max(1, faultRounds(t)), rand.Uint64()
	if s := os.Getenv("SOULTRIBE_FAULT_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 0, 64)
		require.NoError(t, err)
	}
	t.Logf("SOULTRIBE_FAULT_SEED=%#x", seed)
	lines := make([]*fault, len(faults))
	t.Cleanup(func() { logFaults(t, lines) })
	for i, test := range faults {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := &fault{name: test.name, rounds: rounds, seed: seed, r: rand.New(rand.NewPCG(seed, uint64(i))), errors: make(map[string]int)}
			test.run(t, f)
			lines[i] = f
			t.Logf("errors:%s", errorTexts(f.errors))
		})
	}
}

// faultRounds is how often each fault is to happen, or 0 where nobody says.
func faultRounds(t *testing.T) int {
	t.Helper()
	s := os.Getenv("SOULTRIBE_FAULT_ROUNDS")
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err)
	return n
}

func logFaults(t *testing.T, lines []*fault) {
	t.Helper()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprint(w, "\nfault\trounds\twrites acknowledged\twrites found\tfate unknown\tof them found\tnot sent\tserver back\tall write again\n")
	for _, f := range lines {
		if f != nil {
			_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t+ %v\n", f.name, f.rounds, f.acked, f.found, f.unknown, f.unknownFound, f.unsent,
				f.outage.Round(time.Millisecond), f.recovery.Round(time.Millisecond))
		}
	}
	if err := w.Flush(); err != nil {
		t.Error(err)
	}
	t.Log(b.String())
}

// faultWorkers are more than the connections that they share.
const (
	faultWorkers     = 8
	faultConnections = 5
)

// round has workers write through a pool while hit does its harm and returns when it is over. Then it asks the tables
// of all rounds so far.
func (f *fault) round(t *testing.T, db *soultribetest.DB, pool *pgxpool.Pool, hub soultribe.UserID, timeout time.Duration, hit func(l *load)) *load {
	t.Helper()
	l := startLoad(t, newStore(t, db, pool), faultWorkers, f.r.Uint64(), timeout, hub)
	stopped := false
	defer func() {
		if !stopped {
			l.stop()
		}
	}()
	l.waitForWrites(50+f.r.Int64N(200), false)
	struck := time.Now()
	hit(l)
	over := time.Now()
	l.waitForWrites(1, true)
	f.outage, f.recovery = max(f.outage, over.Sub(struck)), max(f.recovery, time.Since(over))
	// The clients have to get over it, not only through it.
	l.waitForWrites(20, true)
	l.stop()
	stopped = true

	require.True(t, allReturned(pool), "connections were not returned")
	require.Eventually(t, func() bool {
		return len(db.Query(t, `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'load'`)) <= faultConnections
	}, time.Minute, time.Millisecond, "the server has sessions that the pool has given up")
	f.stories = append(f.stories, l.stories...)
	f.unsent += l.unsent
	for text, n := range l.errors {
		f.errors[text] += n
	}
	f.requireSound(t, db)
	return l
}

// allReturned waits a while for what the pool does in its own time: it closes a connection that has failed.
func allReturned(pool *pgxpool.Pool) bool {
	timeout := time.After(20 * time.Second)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for pool.Stat().AcquiredConns() > 0 {
		select {
		case <-ticker.C:
		case <-timeout:
			return false
		}
	}
	return true
}

// requireSound is the verdict over the tables.
func (f *fault) requireSound(t *testing.T, db *soultribetest.DB) {
	t.Helper()
	require.NoError(t, schema.Check(t.Context(), db.Pool))
	violations, err := schema.Audit(t.Context(), db.Pool)
	require.NoError(t, err)
	require.Empty(t, violations)
	f.acked, f.found, f.unknown, f.unknownFound = 0, 0, 0, 0
	f.judge(t, db, f.stories)
	require.Equal(t, f.acked, f.found)
}

// durableServer skips where this machine lacks the PostgreSQL binaries, unless the environment insists on them.
func durableServer(t *testing.T) *pgserver.Durable {
	t.Helper()
	d, err := pgserver.StartDurable(t.Context())
	requireLocal(t, err)
	t.Cleanup(d.Stop)
	return d
}

func requireLocal(t *testing.T, err error) {
	t.Helper()
	if pgserver.Unavailable(err) && os.Getenv("SOULTRIBE_TEST_SERVER") != "local" && os.Getenv("CI") == "" {
		t.Skipf("%v: install the PostgreSQL server, such as the package \"postgresql\", for servers that may be killed", err)
	}
	require.NoError(t, err)
}

// durableDB is the database of a server that will be killed, with a pool as a service has it.
func durableDB(t *testing.T, databaseURL string) *soultribetest.DB {
	t.Helper()
	config, err := soultribe.PoolConfig(databaseURL)
	require.NoError(t, err)
	config.MaxConns = faultConnections
	config.ConnConfig.RuntimeParams["application_name"] = "load"
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	db := &soultribetest.DB{Pool: pool, URL: databaseURL, Clock: new(soultribetest.Clock)}
	db.Clock.Set(soultribetest.Epoch)
	db.Store = newStore(t, db, pool)
	return db
}

// faultTimeout is for calls that an answer, or the end of the connection, ends first.
const faultTimeout = 20 * time.Second

func faultServer(t *testing.T, f *fault) {
	t.Helper()
	server := durableServer(t)
	db := durableDB(t, server.URL())
	hub := db.User(t).ID
	for range f.rounds {
		f.round(t, db, db.Pool, hub, faultTimeout, func(*load) {
			require.NoError(t, server.Kill())
			require.NoError(t, server.Start(t.Context()))
		})
	}
}

// faultBackend has the server drop all sessions and recover, as one of them may have harmed what they share.
func faultBackend(t *testing.T, f *fault) {
	t.Helper()
	server := durableServer(t)
	db := durableDB(t, server.URL())
	hub := db.User(t).ID
	for range f.rounds {
		f.round(t, db, db.Pool, hub, faultTimeout, func(*load) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			witness, err := pgx.Connect(ctx, server.URL())
			require.NoError(t, err)
			defer witness.Close(ctx)
			var pid int
			require.NoError(t, witness.QueryRow(ctx, `SELECT pid FROM pg_stat_activity WHERE application_name = 'load' ORDER BY pid OFFSET $1 LIMIT 1`,
				f.r.IntN(faultConnections)).Scan(&pid))
			require.NoError(t, server.KillBackend(pid))
			for witness.Ping(ctx) == nil { // until the server has noticed
			}
			for {
				again, err := pgx.Connect(ctx, server.URL())
				if err == nil {
					require.NoError(t, again.Close(ctx))
					return
				}
				require.NoError(t, ctx.Err())
			}
		})
	}
}

// faultPromotion has the primary die for good, and its standby take over. The standby of the next round follows it.
func faultPromotion(t *testing.T, f *fault) {
	t.Helper()
	primary := durableServer(t)
	hub := durableDB(t, primary.URL()).User(t).ID
	for range f.rounds {
		standby, err := primary.Standby(t.Context())
		requireLocal(t, err)
		t.Cleanup(standby.Stop)
		requireReadOnly(t, standby.URL(), hub)
		hosts := url.Values{
			"host": {primary.SocketDirectory() + "," + standby.SocketDirectory()}, "port": {"5432,5432"},
			"sslmode": {"disable"}, "target_session_attrs": {"read-write"},
		}
		db := durableDB(t, "postgres://postgres@/postgres?"+hosts.Encode())
		f.round(t, db, db.Pool, hub, faultTimeout, func(*load) {
			require.NoError(t, primary.Kill())
			require.NoError(t, standby.Promote(t.Context()))
		})
		db.Pool.Close()
		primary.Stop()
		primary = standby
	}
}

// requireReadOnly has a client write to a standby, as one does that does not ask for a primary in its URL.
func requireReadOnly(t *testing.T, databaseURL string, user soultribe.UserID) {
	t.Helper()
	st, err := soultribe.Open(t.Context(), databaseURL, soultribe.WithPasswordParams(soultribetest.PasswordParams),
		soultribe.WithClock(func() time.Time { return soultribetest.Epoch }))
	require.NoError(t, err)
	defer st.Close()
	require.NoError(t, st.Ready(t.Context()))
	_, err = st.Account(t.Context(), user)
	require.NoError(t, err)
	slots := []soultribe.NewSlot{spanFrom(spring, 0, 4, "UTC")}
	for op, write := range map[string]func(st soultribe.Store) error{
		"CreateUser": func(st soultribe.Store) error {
			_, err := st.CreateUser(t.Context(), soultribe.NewUser{Email: "late@example.org", Password: "correct horse battery"})
			return err
		},
		"AddSlots": func(st soultribe.Store) error {
			_, err := st.AddSlots(t.Context(), user, slots)
			return err
		},
		"ReplaceSlots": func(st soultribe.Store) error {
			_, err := st.ReplaceSlots(t.Context(), user, soultribe.Window{Start: spring, End: spring.Add(time.Hour)}, slots)
			return err
		},
		"ConfirmMeetup": func(st soultribe.Store) error {
			_, err := st.ConfirmMeetup(t.Context(), user, 1, soultribe.Times{Start: spring})
			return err
		},
		"IssuePasswordReset": func(st soultribe.Store) error {
			_, _, err := st.IssuePasswordReset(t.Context(), "late@example.org")
			return err
		},
	} {
		errInTx := st.InTx(t.Context(), func(_ context.Context, _ pgx.Tx, st soultribe.Store) error { return write(st) })
		for _, err := range []error{write(st), errInTx} {
			requireNotOfTheDomain(t, op, err)
			var pg *pgconn.PgError
			require.ErrorAs(t, err, &pg)
			require.Equal(t, "25006", pg.Code)
			require.Regexp(t, "^soultribe: "+op+`: cannot execute .* in a read-only transaction \(SQLSTATE 25006\)$`, err.Error())
		}
	}
	require.NoError(t, st.Ready(t.Context()))
}
