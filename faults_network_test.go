package soultribe_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// network is between clients and a server, and may fail.
type network struct {
	listener         net.Listener
	protocol, server string // where the server is

	mu      sync.Mutex
	links   map[*link]struct{}
	closed  bool
	stalled chan struct{} // closed when bytes flow again; nil while they do
	budget  func() int    // of the bytes that a link carries in each direction; nil is no bound
	torn    int           // links whose budget ran out
	answer  int           // counts down to the one that is lost, with its link
}

// link is one connection.
type link struct{ client, server net.Conn }

func newNetwork(t *testing.T, databaseURL string) *network {
	t.Helper()
	config, err := pgx.ParseConfig(databaseURL)
	require.NoError(t, err)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n := &network{listener: listener, links: make(map[*link]struct{})}
	n.protocol, n.server = pgconn.NetworkAddress(config.Host, config.Port)
	var done sync.WaitGroup
	done.Go(func() { n.serve(&done) })
	t.Cleanup(func() {
		_ = listener.Close()
		n.mu.Lock()
		n.closed = true
		n.mu.Unlock()
		n.flow()
		n.reset()
		done.Wait()
	})
	return n
}

// pool is a pool whose connections go through the network.
func (n *network) pool(t *testing.T, config *pgxpool.Config) *pgxpool.Pool {
	t.Helper()
	config.MaxConns = faultConnections
	config.ConnConfig.RuntimeParams["application_name"] = "load"
	config.ConnConfig.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", n.listener.Addr().String())
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func (n *network) serve(done *sync.WaitGroup) {
	for {
		client, err := n.listener.Accept()
		if err != nil {
			return // closed
		}
		server, err := new(net.Dialer).DialContext(context.Background(), n.protocol, n.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		l := &link{client, server}
		up, down := -1, -1
		n.mu.Lock()
		n.links[l] = struct{}{}
		if n.budget != nil {
			up, down = n.budget(), n.budget()
		}
		if n.closed {
			l.reset()
		}
		n.mu.Unlock()
		done.Go(func() { n.carry(l, server, client, up) })
		done.Go(func() { n.carry(l, client, server, down) })
	}
}

// carry carries bytes until either side ends, or the budget, where it is not negative, does.
func (n *network) carry(l *link, to, from net.Conn, budget int) {
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.links, l)
		l.reset()
	}()
	buffer := make([]byte, 16<<10)
	for {
		read, err := from.Read(buffer)
		n.mu.Lock()
		stalled := n.stalled
		torn := budget >= 0 && read > budget
		if torn {
			n.torn++
			read = budget
		}
		lost := false
		if read > 0 && from == l.server && n.answer > 0 {
			n.answer--
			lost = n.answer == 0
		}
		n.mu.Unlock()
		if lost {
			return
		}
		if stalled != nil {
			<-stalled // what was under way arrives late, if somebody is there
		}
		if _, errWrite := to.Write(buffer[:read]); err != nil || errWrite != nil || torn {
			return
		}
		if budget >= 0 {
			budget -= read
		}
	}
}

// reset ends a link at once: each side that is TCP gets an RST.
func (l *link) reset() {
	for _, conn := range []net.Conn{l.client, l.server} {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}

// reset ends all links.
func (n *network) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for l := range n.links {
		l.reset()
	}
}

// stall lets no byte through, while all links and new ones stay open.
func (n *network) stall() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stalled = make(chan struct{})
}

// flow ends a stall.
func (n *network) flow() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stalled != nil {
		close(n.stalled)
		n.stalled = nil
	}
}

// lose loses what the server sends the nth time from now on, and the link with it. It reports whether the one before has
// been lost.
func (n *network) lose(nth int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	lost := n.answer == 0
	n.answer = nth
	return lost
}

// tear bounds what new links carry.
func (n *network) tear(budget func() int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.budget = budget
}

func (n *network) tornLinks() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.torn
}

func poolConfig(t *testing.T, databaseURL string) *pgxpool.Config {
	t.Helper()
	config, err := soultribe.PoolConfig(databaseURL)
	require.NoError(t, err)
	return config
}

func faultReset(t *testing.T, f *fault) {
	t.Helper()
	db := soultribetest.New(t)
	n := newNetwork(t, db.URL)
	pool := n.pool(t, poolConfig(t, db.URL))
	hub := db.User(t).ID
	for range f.rounds {
		f.round(t, db, pool, hub, faultTimeout, func(l *load) {
			for range 5 {
				n.reset()
				l.waitForWrites(f.r.Int64N(20), false)
			}
			n.reset()
		})
	}
}

// faultTorn has connections end in the midst of what they carry: half a request, or half an answer.
func faultTorn(t *testing.T, f *fault) {
	t.Helper()
	db := soultribetest.New(t)
	n := newNetwork(t, db.URL)
	pool := n.pool(t, poolConfig(t, db.URL))
	hub := db.User(t).ID
	for range f.rounds {
		f.round(t, db, pool, hub, faultTimeout, func(*load) {
			before := n.tornLinks()
			r := rand.New(rand.NewPCG(f.r.Uint64(), 0)) // under the network's lock
			n.tear(func() int { return r.IntN(30_000) })
			n.reset()
			require.Eventually(t, func() bool { return n.tornLinks() >= before+40 }, time.Minute, time.Millisecond, "the network holds")
			n.tear(nil)
			n.reset()
		})
	}
}

// deadlineGrace is what a call may need beyond its deadline on a machine with other things to do.
const deadlineGrace = 3 * time.Second

// faultBlackHole has every call end by its deadline, as pgx does by itself: in a pool of PoolConfig a call waits for
// the server to cancel the statement; see TestBlackHole.
func faultBlackHole(t *testing.T, f *fault) {
	t.Helper()
	db := soultribetest.New(t)
	n := newNetwork(t, db.URL)
	config, err := pgxpool.ParseConfig(db.URL)
	require.NoError(t, err)
	pool := n.pool(t, config)
	hub := db.User(t).ID
	for range f.rounds {
		l := f.round(t, db, pool, hub, time.Second, func(l *load) {
			before := l.unknown.Load()
			n.stall()
			require.Eventually(t, func() bool { return l.unknown.Load() >= before+2*faultWorkers }, time.Minute, time.Millisecond, "calls outlive their deadline")
			n.flow()
		})
		require.Less(t, l.late, deadlineGrace)
	}
}

// TestLostAnswers loses the answer to each write, and to what goes before it: it is not known to have been done, must
// not be done again, and after the last one it is done. The simple protocol has pgx report the loss in another way.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			db := soultribetest.New(t)
			n := newNetwork(t, db.URL)
			config := poolConfig(t, db.URL)
			config.ConnConfig.DefaultQueryExecMode = mode
			loseAnswers(t, db, n, newStore(t, db, n.pool(t, config)))
		})
	}
}

// loseAnswers has st, which is at the other end of n, take each step of a story.
func loseAnswers(t *testing.T, db *soultribetest.DB, n *network, st soultribe.Store) {
	t.Helper()
	hub := db.User(t).ID
	for ending, own := range endings {
		steps := (&story{ending: ending}).steps()
		from, to := len(storySteps), len(storySteps)+len(own)
		if ending == 0 { // has no step of its own, and is taken for those that all have
			from, to = 0, len(steps)
		}
		for at := from; at < to; at++ {
			// Until there are fewer answers than that.
			done, lost := false, true
			for nth := 1; lost; nth++ {
				s := &story{name: fmt.Sprintf("lost-%d-%d-%d-", ending, at, nth), hub: hub, at: nth, ending: ending}
				for _, step := range steps[:at] {
					require.NoError(t, step.call(t.Context(), db.Store, s), step.name)
					step.effect(s, &s.is)
				}
				require.NoError(t, st.Ready(t.Context())) // opens a connection
				n.lose(nth)
				err := steps[at].call(t.Context(), st, s)
				lost = n.lose(0)
				may := s.is
				steps[at].effect(s, &may)
				var f fault
				if err == nil { // nothing was lost, or it was no harm to try again
					s.is = may
					f.judge(t, db, []*story{s})
					done = done || lost
					continue
				}
				requireNotOfTheDomain(t, steps[at].name, err)
				s.may, s.doubt = &may, steps[at].name
				f.judge(t, db, []*story{s})
				done = f.unknownFound == 1
				if done && unsent(err) {
					t.Errorf("%s was done: %v", s.doubt, err)
				}
			}
			require.True(t, done, "%s is not done when its last answer is lost", steps[at].name)
		}
	}
}

// TestBlackHole has calls of each kind meet a network that swallows all.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	slot := spanFrom(spring, 0, 4, "UTC")
	errOfHost := errors.New("the host's")
	calls := []struct {
		name string
		call func(ctx context.Context, st soultribe.Store, user soultribe.UserID, stall func()) error
		code string
		// What a rollback may take, which is not bound to the caller's deadline.
		rollback time.Duration
	}{
		{"one statement", func(ctx context.Context, st soultribe.Store, user soultribe.UserID, stall func()) error {
			stall()
			_, err := st.User(ctx, user)
			return err
		}, "timeout", 0},
		{"several statements", func(ctx context.Context, st soultribe.Store, user soultribe.UserID, stall func()) error {
			stall()
			_, err := st.ReplaceSlots(ctx, user, soultribe.Window{Start: spring, End: spring.Add(time.Hour)}, []soultribe.NewSlot{slot})
			return err
		}, "timeout", 0},
		{"statement of a transaction", func(ctx context.Context, st soultribe.Store, user soultribe.UserID, stall func()) error {
			return st.InTx(ctx, func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
				stall()
				_, err := st.AddSlot(ctx, user, slot)
				return err
			})
		}, "timeout", 0},
		{"commit", func(ctx context.Context, st soultribe.Store, user soultribe.UserID, stall func()) error {
			return st.InTx(ctx, func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
				defer stall()
				_, err := st.AddSlot(ctx, user, slot)
				return err
			})
		}, "timeout", 0},
		{"rollback", func(ctx context.Context, st soultribe.Store, user soultribe.UserID, stall func()) error {
			return st.InTx(ctx, func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
				defer stall()
				_, err := st.AddSlot(ctx, user, slot)
				return errors.Join(err, errOfHost)
			})
		}, "internal", 5 * time.Second},
	}
	var all sync.WaitGroup
	for _, config := range []struct {
		name string
		of   func(databaseURL string) (*pgxpool.Config, error)
		more time.Duration // what the server has to cancel a statement
	}{
		{"pgx's configuration", pgxpool.ParseConfig, 0},
		{"PoolConfig", soultribe.PoolConfig, 5 * time.Second},
	} {
		for _, test := range calls {
			if config.more+test.rollback > 5*time.Second && faultRounds(t) == 0 {
				continue // too long for every run
			}
			user := db.User(t).ID
			n := newNetwork(t, db.URL)
			c, err := config.of(db.URL)
			require.NoError(t, err)
			pool := n.pool(t, c)
			st := newStore(t, db, pool)
			require.NoError(t, st.Ready(t.Context()))
			// Not subtests, which would wait for each other: they wait only for the network.
			all.Go(func() {
				name := config.name + ", " + test.name
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				err := test.call(ctx, st, user, n.stall)
				deadline, _ := ctx.Deadline()
				late := time.Since(deadline)
				if code := soultribe.Code(err); code != test.code {
					t.Errorf("%s: %q: %v", name, code, err)
				}
				if late > config.more+test.rollback+deadlineGrace {
					t.Errorf("%s: returned %v after its deadline", name, late)
				}
				n.flow()
				if _, err := st.User(t.Context(), user); err != nil {
					t.Errorf("%s: the pool does not recover: %v", name, err)
				}
				if !allReturned(pool) {
					t.Errorf("%s: a connection was not returned", name)
				}
				t.Logf("%s: %v after the deadline: %v", name, late.Round(time.Millisecond), err)
			})
		}
	}
	all.Wait()
}
