// Package soultribetest gives tests of services that use soultribe a real PostgreSQL: a database of its
// own for each test, made from a template in a few dozen milliseconds.
//
//	func TestSignUp(t *testing.T) {
//		db := soultribetest.New(t)
//		handler := service.New(db.Store)
//		…
//	}
//
// The server is the one at SOULTRIBE_TEST_DATABASE_URL when that is set, else a container, else one from
// the machine's own PostgreSQL binaries in a temporary directory. There is one for a test binary; [Main]
// ends it. On the server of SOULTRIBE_TEST_DATABASE_URL a binary that was killed leaves databases behind, as does
// a test that failed. In psql, while no tests run:
//
//	SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database
//	WHERE datname ~ '^soultribe_[a-z2-7]{10}_(test|template)_[a-z2-7]{10}$' \gexec
package soultribetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/internal/pgserver"
	"github.com/soultribe-chat/soultribe/schema"
)

// DB is a database of one test. A second Store on it, with options of its own, shares the clock and the cheap
// passwords by
//
//	soultribe.New(db.Pool, soultribe.WithClock(db.Clock.Now), soultribe.WithPasswordParams(soultribetest.PasswordParams), …)
type DB struct {
	Store *soultribe.Postgres
	Pool  *pgxpool.Pool
	URL   string // of the database, for a pool of the test's own
	Clock *Clock // the Store's

	name string
}

// Epoch is the time at which every [Clock] begins: a Monday morning, in UTC.
var Epoch = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// Clock is a clock that the test moves. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Now returns the time that the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Set moves the clock to t, which may be earlier.
func (c *Clock) Set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// Advance moves the clock by d.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Option configures [New].
type Option func(*config)

type config struct {
	key   string
	setup func(ctx context.Context, pool *pgxpool.Pool) error
	store []soultribe.Option
	in    string
}

// WithSetup has setup run on the template after the library's migrations: the host's own migrations. All
// tests that use one key, which must not be "", share a template, and so must have one setup.
func WithSetup(key string, setup func(ctx context.Context, pool *pgxpool.Pool) error) Option {
	return func(c *config) { c.key, c.setup = key, setup }
}

// WithStoreOptions adds options for the Store, after those of this package: its clock, and password
// parameters that cost next to nothing.
func WithStoreOptions(opts ...soultribe.Option) Option {
	return func(c *config) { c.store = append(c.store, opts...) }
}

// WithSchema puts the tables into a PostgreSQL schema; see [soultribe.WithSchema].
func WithSchema(name string) Option {
	return func(c *config) { c.in = name }
}

// PasswordParams make hashes that cost next to nothing, and protect nothing.
var PasswordParams = soultribe.PasswordParams{MemoryKiB: 64, Iterations: 1, Parallelism: 1}

// New returns a migrated database that is dropped when the test ends. The database of a test that failed
// stays, and its URL is logged, where the server outlives the tests.
func New(t testing.TB, opts ...Option) *DB {
	t.Helper()
	db, err := create(context.Background(), opts)
	if db != nil {
		t.Cleanup(func() {
			if err := db.closePool(); err != nil {
				t.Error(err)
			}
			if t.Failed() && theServer.shared {
				t.Logf("the database stays: %s", redact(db.URL))
				return
			}
			if err := theServer.drop(db.name); err != nil {
				t.Error(err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// ForExample is [New] for Example functions, which have no testing.TB. The caller calls drop at the end.
// It panics where there is no server.
func ForExample(opts ...Option) (db *DB, drop func()) {
	db, err := create(context.Background(), opts)
	if err != nil {
		panic(err)
	}
	return db, func() {
		if err := errors.Join(db.closePool(), theServer.drop(db.name)); err != nil {
			panic(err)
		}
	}
}

// create returns a DB as soon as there is something to drop, also with an error.
func create(ctx context.Context, opts []Option) (*DB, error) {
	c := config{in: "public"}
	for _, opt := range opts {
		opt(&c)
	}
	if c.setup != nil && c.key == "" {
		return nil, errors.New("soultribetest: WithSetup needs a key") // without one it would be shared with tests that have no setup
	}
	s, err := theServer.get(ctx)
	if err != nil {
		return nil, err
	}
	template, err := s.template(ctx, c)
	if err != nil {
		return nil, err
	}
	name := s.name("test")
	if err := s.exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template+s.strategy); err != nil {
		return nil, err
	}
	db := &DB{URL: s.url(name), Clock: &Clock{now: Epoch}, name: name}
	if db.Pool, err = pgxpool.New(ctx, db.URL); err != nil {
		return db, err
	}
	options := []soultribe.Option{soultribe.WithClock(db.Clock.Now), soultribe.WithPasswordParams(PasswordParams), soultribe.WithSchema(c.in)}
	db.Store, err = soultribe.New(db.Pool, append(options, c.store...)...)
	return db, err
}

// closePool closes the pool, but does not wait for ever for a connection that the test kept.
func (db *DB) closePool() error {
	if db.Pool == nil {
		return nil
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		db.Pool.Close()
	}()
	select {
	case <-closed:
		return nil
	case <-time.After(10 * time.Second):
		return errors.New("soultribetest: the test did not return a connection, or end a transaction, of the pool")
	}
}

// Main runs the tests and ends the server, for a TestMain of one line:
//
//	func TestMain(m *testing.M) { os.Exit(soultribetest.Main(m)) }
//
// Without it the end of the process ends a server from binaries, but a container may stay for a while.
func Main(m *testing.M) int {
	defer theServer.stop()
	return m.Run()
}

// server is the PostgreSQL of this test binary.
type server struct {
	once   sync.Once
	err    error
	base   string // the URL of its database postgres
	shared bool   // it was there before
	end    func()
	admin  *pgxpool.Pool
	prefix string // of all names, as the server may be other binaries' too

	strategy string // how to copy a template

	mu        sync.Mutex
	templates map[string]*template
}

type template struct {
	once sync.Once
	name string
	err  error
}

var theServer server

func (s *server) get(ctx context.Context) (*server, error) {
	s.once.Do(func() {
		var running *pgserver.Server
		if running, s.err = pgserver.Start(ctx); s.err != nil {
			return
		}
		s.base, s.end = running.URL, running.Stop
		s.shared = os.Getenv("SOULTRIBE_TEST_DATABASE_URL") != ""
		s.prefix = "soultribe_" + strings.ToLower(rand.Text()[:10])
		s.templates = make(map[string]*template)
		if s.admin, s.err = pgxpool.New(ctx, s.base); s.err != nil {
			return
		}
		// To copy files takes an eighth of the time that it takes to log them, but has the server write all
		// that it has in memory, which is nothing where it does not wait for the disk.
		s.err = s.admin.QueryRow(ctx, `SELECT CASE WHEN current_setting('server_version_num')::int >= 150000
			AND current_setting('fsync') = 'off' THEN ' STRATEGY FILE_COPY' ELSE '' END`).Scan(&s.strategy)
	})
	return s, s.err
}

func (s *server) stop() {
	if s.admin != nil {
		for _, t := range s.templates {
			_ = s.drop(t.name) // the server is about to end, or its owner cleans up
		}
		s.admin.Close()
	}
	if s.end != nil {
		s.end()
	}
}

// name returns a new identifier, which needs no quotes.
func (s *server) name(kind string) string {
	return fmt.Sprintf("%s_%s_%s", s.prefix, kind, strings.ToLower(rand.Text()[:10]))
}

func (s *server) exec(ctx context.Context, sql string) error {
	_, err := s.admin.Exec(ctx, sql)
	return err
}

func (s *server) drop(database string) error {
	if err := s.exec(context.Background(), "DROP DATABASE IF EXISTS "+database+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("soultribetest: drop the database: %w", err)
	}
	return nil
}

func (s *server) url(database string) string {
	u, err := url.Parse(s.base)
	if err != nil {
		panic(err) // pgserver made it
	}
	u.Path = "/" + database
	return u.String()
}

// template returns the name of the database that tests of this kind are copied from.
func (s *server) template(ctx context.Context, c config) (string, error) {
	key := c.in + "\x00" + c.key
	s.mu.Lock()
	t, ok := s.templates[key]
	if !ok {
		t = &template{name: s.name("template")}
		s.templates[key] = t
	}
	s.mu.Unlock()
	t.once.Do(func() { t.err = s.makeTemplate(ctx, t.name, c) })
	return t.name, t.err
}

func (s *server) makeTemplate(ctx context.Context, name string, c config) error {
	if err := s.exec(ctx, "CREATE DATABASE "+name); err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, s.url(name))
	if err != nil {
		return err
	}
	defer pool.Close() // a template may have no connections
	if err := schema.Migrate(ctx, pool, schema.In(c.in)); err != nil {
		return err
	}
	if c.setup != nil {
		return c.setup(ctx, pool)
	}
	return nil
}

func redact(databaseURL string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return "?"
	}
	return u.Redacted()
}

// User makes a user whose address is verified, with a profile in Europe/Vienna. Nobody knows the password:
// a test of logging in sets one by SetPassword.
func (db *DB) User(t testing.TB) soultribe.User {
	t.Helper()
	ctx := context.Background()
	name := strings.ToLower(rand.Text()[:12])
	u, err := db.Store.CreateUser(ctx, soultribe.NewUser{
		Email:    name + "@example.org",
		Password: rand.Text(),
		Profile:  &soultribe.NewProfile{FullName: "Full " + name, DisplayName: name, Timezone: "Europe/Vienna"},
	})
	if err == nil {
		err = db.Store.MarkVerified(ctx, u.ID)
	}
	if err == nil {
		u, err = db.Store.User(ctx, u.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// Matched makes an accepted match, for which a asked.
func (db *DB) Matched(t testing.TB, a, b soultribe.UserID) soultribe.Match {
	t.Helper()
	ctx := context.Background()
	_, errAsk := db.Store.RequestMatch(ctx, a, b)
	m, errAnswer := db.Store.RequestMatch(ctx, b, a)
	if err := errors.Join(errAsk, errAnswer); err != nil {
		t.Fatal(err)
	}
	return m.Match
}

// Meetup makes a confirmed meetup, which user1 of the match proposed.
func (db *DB) Meetup(t testing.TB, m soultribe.Match, times soultribe.Times) soultribe.Meetup {
	t.Helper()
	ctx := context.Background()
	proposed, err := db.Store.ProposeMeetup(ctx, m.User1ID, soultribe.NewMeetup{MatchID: m.ID, Times: times})
	if err != nil {
		t.Fatal(err)
	}
	confirmed, err := db.Store.ConfirmMeetup(ctx, m.User2ID, proposed.ID, proposed.Times)
	if err != nil {
		t.Fatal(err)
	}
	return confirmed.Meetup
}

// Query returns the rows of a statement as text, a line each with columns parted by "|", for a verdict
// over the tables. NULL is the empty string.
func (db *DB) Query(t testing.TB, sql string, args ...any) []string {
	t.Helper()
	rows, err := db.Pool.Query(context.Background(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		values, err := row.Values()
		cells := make([]string, len(values))
		for i, v := range values {
			if v != nil {
				cells[i] = fmt.Sprint(v)
			}
		}
		return strings.Join(cells, "|"), err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}
