package soultribe_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
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

const (
	// pooledClients share pooledServers sessions of the server: with as many of these as clients each would keep
	// its own, and nobody would notice that they are lent.
	pooledClients = 20
	pooledServers = 3
)

// startPgBouncer runs a PgBouncer for the test, in front of the server at serverURL.
func startPgBouncer(t *testing.T, serverURL string) *pgserver.PgBouncer {
	t.Helper()
	b, err := pgserver.StartPgBouncer(t.Context(), serverURL, pooledServers)
	if errors.Is(err, pgserver.ErrNoPgBouncer) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(b.Stop)
	return b
}

// newPooled opens a pool of many clients on db by way of b.
func newPooled(t *testing.T, b *pgserver.PgBouncer, db *soultribetest.DB, configure ...func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	pool := newPool(t, pooledURL(t, b, db), append(configure, func(c *pgxpool.Config) { c.MaxConns = pooledClients })...)
	openSessions(t, pool)
	return pool
}

func pooledURL(t *testing.T, b *pgserver.PgBouncer, db *soultribetest.DB) string {
	t.Helper()
	url, err := b.URL(db.URL)
	require.NoError(t, err)
	return url
}

// openSessions has PgBouncer open all sessions that it may, by as many transactions at one time. From then on even
// a lone client meets one after the other.
func openSessions(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for _, tx := range takeSessions(t, pool) {
		require.NoError(t, tx.Rollback(t.Context()))
	}
}

// takeSessions begins as many transactions as there are sessions.
func takeSessions(t *testing.T, pool *pgxpool.Pool) []pgx.Tx {
	t.Helper()
	var taken []pgx.Tx
	for range pooledServers {
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		taken = append(taken, tx)
	}
	return taken
}

// pooledModes need nothing of a session.
var pooledModes = []pgx.QueryExecMode{pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}

// TestPgBouncerEveryMethod calls every method, where it succeeds and where it fails, each time in another session.
func TestPgBouncerEveryMethod(t *testing.T) {
	t.Parallel()
	for _, mode := range pooledModes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			c := newCanaries(t)
			calls := c.calls()
			requireEveryMethod(t, calls)
			st := newStore(t, c.db, newPooled(t, startPgBouncer(t, c.db.URL), c.db, inMode(mode)))
			for _, call := range calls {
				err := call.call(t.Context(), st)
				require.Equal(t, call.want, soultribe.Code(err), "%s: %v", call.method, err)
			}
		})
	}
}

// TestPgBouncerWantsAMode takes pgx's default mode, which needs one session. The error says what to set, and that
// of PostgreSQL is in it.
func TestPgBouncerWantsAMode(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	b := startPgBouncer(t, db.URL)
	url := pooledURL(t, b, db)
	refused := crowdRead(t, url)
	require.Equal(t, keepsStatements(t, b), len(refused) == 0, "it fails unless PgBouncer keeps track of statements")
	states := map[string]int{}
	for _, err := range refused {
		states[requireHint(t, err)]++
	}
	t.Logf("errors in the default mode: %v", states)

	// Here a client may run the statement of another, and PostgreSQL has any error or none.
	refused = crowdRead(t, url+"&default_query_exec_mode=describe_exec")
	require.NotEmpty(t, refused)
	for _, err := range refused {
		require.Equal(t, "internal", soultribe.Code(err), "%v", err)
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "26000" || pg.Code == "08P01") {
			requireHint(t, err)
		}
	}

	for _, mode := range []string{"cache_describe", "exec", "simple_protocol"} {
		require.Empty(t, crowdRead(t, url+"&default_query_exec_mode="+mode), mode)
	}
}

// crowdRead has more clients than there are sessions read by a Store that Open makes, and returns their errors.
func crowdRead(t *testing.T, url string) []error {
	t.Helper()
	st, err := soultribe.Open(t.Context(), fmt.Sprintf("%s&pool_max_conns=%d", url, pooledClients))
	require.NoError(t, err)
	defer st.Close()
	const rounds = 10
	results := make(chan error, 2*rounds*pooledClients)
	stampede(pooledClients, func(int) {
		for range rounds {
			results <- failure(st.PublicProfiles(t.Context(), []soultribe.UserID{1, 2}))
			results <- failure(st.Users(t.Context(), soultribe.UserQuery{}))
		}
	})
	close(results)
	var errs []error
	for err := range results {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// requireHint checks an error that says what to set, and returns its SQLSTATE.
func requireHint(t *testing.T, err error) string {
	t.Helper()
	require.Equal(t, "internal", soultribe.Code(err), "%v", err)
	require.ErrorContains(t, err, "set default_query_exec_mode=cache_describe (or exec)")
	pg, ok := errors.AsType[*pgconn.PgError](err)
	require.True(t, ok, "%v", err)
	require.ErrorContains(t, err, "SQLSTATE "+pg.Code)
	return pg.Code
}

// keepsStatements tells whether a PgBouncer keeps track of prepared statements.
func keepsStatements(t *testing.T, b *pgserver.PgBouncer) bool {
	t.Helper()
	for _, setting := range console(t, b, "SHOW CONFIG") {
		if setting["key"] == "max_prepared_statements" {
			return setting["value"] != "0"
		}
	}
	return false
}

// console asks PgBouncer about itself.
func console(t *testing.T, b *pgserver.PgBouncer, command string) []map[string]any {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), b.AdminURL())
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	rows, err := conn.Query(t.Context(), command)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowToMap)
	require.NoError(t, err)
	return all
}

// TestPgBouncerSchema has many processes bring a database up to date at one moment, in pgx's default mode:
// package schema prepares nothing.
func TestPgBouncerSchema(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	pool := newPooled(t, startPgBouncer(t, db.URL), db)
	in := schema.In("fresh")
	for range 2 {
		require.Equal(t, map[string]int{"": pooledClients}, atOnce(pooledClients, func(int) error { return schema.Migrate(t.Context(), pool, in) }))
	}
	outcomes := atOnce(pooledClients, func(int) error {
		state, err := schema.Status(t.Context(), pool, in)
		if err == nil && state.Version != soultribe.SchemaVersion {
			err = fmt.Errorf("version %d", state.Version)
		}
		if err == nil {
			err = schema.Check(t.Context(), pool, in)
		}
		if err == nil {
			_, err = schema.Audit(t.Context(), pool, in)
		}
		return err
	})
	require.Equal(t, map[string]int{"": pooledClients}, outcomes)
	require.Len(t, db.Query(t, `SELECT version_id FROM fresh.soultribe_schema_version WHERE version_id > 0`), soultribe.SchemaVersion)
}

// TestPgBouncerQueue has a deadline end while all sessions are taken, when there is nobody to cancel the statement,
// and while the statement waits for a lock, when there is.
func TestPgBouncerQueue(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	b := startPgBouncer(t, db.URL)
	config, err := soultribe.PoolConfig(pooledURL(t, b, db) + "&default_query_exec_mode=cache_describe")
	require.NoError(t, err)
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	st := newStore(t, db, pool)
	me := db.User(t).ID
	require.NoError(t, st.Ready(t.Context()))

	const cancellations = 20
	before := pool.Stat().NewConnsCount()
	for range cancellations {
		locked, err := db.Pool.Begin(t.Context())
		require.NoError(t, err)
		require.NoError(t, failure(locked.Exec(t.Context(), `SELECT FROM profile FOR UPDATE`)))
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- failure(st.UpdateProfile(ctx, me, soultribe.ProfileUpdate{Bio: new(string)})) }()
		waitForBlocked(t, db)
		cancel()
		require.Equal(t, "canceled", soultribe.Code(<-result))
		require.NoError(t, locked.Rollback(t.Context()))
		require.NoError(t, st.Ready(t.Context()))
	}
	require.Less(t, pool.Stat().NewConnsCount()-before, int64(cancellations/2), "the connection stays, unless the server takes too long")

	taken := takeSessions(t, newPooled(t, b, db))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Equal(t, "timeout", soultribe.Code(st.Ready(ctx)))
	for _, tx := range taken {
		require.NoError(t, tx.Rollback(t.Context()))
	}
	require.NoError(t, st.Ready(t.Context()))
}

// TestPgBouncerCrowd has more clients than sessions do all that people do.
func TestPgBouncerCrowd(t *testing.T) {
	t.Parallel()
	for _, mode := range pooledModes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			db := soultribetest.New(t)
			pool := newPooled(t, startPgBouncer(t, db.URL), db, inMode(mode))
			w := newWorkload(t, db, newStore(t, db, pool))
			const stories = 3
			outcomes := atOnce(pooledClients, func(int) error {
				for range stories {
					if err := w.story(t.Context()); err != nil {
						t.Error(err)
						return err
					}
				}
				return nil
			})
			require.Equal(t, map[string]int{"": pooledClients}, outcomes)
			w.verdict(t)
			n := int64(pooledClients * stories)
			require.Equal(t, []string{fmt.Sprintf("%d|%d|%d|%d|%d", 2*n+1, 3*n, 2*n, n+1, 2*n)}, db.Query(t, `SELECT
				(SELECT count(*) FROM "user" WHERE email_verified_at IS NOT NULL), (SELECT count(*) FROM availabilityslot),
				(SELECT count(*) FROM match WHERE status = 'accepted'), (SELECT count(*) FROM meetup WHERE status = 'confirmed'),
				(SELECT count(*) FROM emailverificationtoken WHERE used_at IS NOT NULL) + (SELECT count(*) FROM passwordresettoken WHERE used_at IS NOT NULL)`))
			requireReturned(t, pool)
		})
	}
}

// requireReturned checks that no connection is in use any more.
func requireReturned(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	stat := pool.Stat()
	require.Zero(t, stat.AcquiredConns())
	require.Zero(t, stat.ConstructingConns())
	require.LessOrEqual(t, stat.TotalConns(), int32(pooledClients))
}

// workload is what many do on one Store, and what of it was acknowledged.
type workload struct {
	db      *soultribetest.DB
	st      *soultribe.Postgres
	hub     soultribe.UserID // with whom everyone wants the same hour
	stories atomic.Int64
	open    atomic.Int64 // transactions of meet
	cut     atomic.Int64 // those that failed

	mu   sync.Mutex
	acks map[string][]int64 // ids by the question that finds them
}

// What finds the ids of acknowledged writes.
const (
	verifiedUser    = `SELECT id FROM "user" WHERE email_verified_at IS NOT NULL`
	resetUser       = `SELECT user_id FROM passwordresettoken WHERE used_at IS NOT NULL`
	storedUser      = `SELECT user_id FROM profile`
	storedSlot      = `SELECT id FROM availabilityslot`
	acceptedMatch   = `SELECT id FROM match WHERE status = 'accepted'`
	storedMeetup    = `SELECT id FROM meetup`
	confirmedMeetup = `SELECT id FROM meetup WHERE status = 'confirmed'`
)

func newWorkload(t *testing.T, db *soultribetest.DB, st *soultribe.Postgres) *workload {
	t.Helper()
	return &workload{db: db, st: st, hub: db.User(t).ID, acks: map[string][]int64{}}
}

func ack[ID ~int64](w *workload, question string, ids ...ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		w.acks[question] = append(w.acks[question], int64(id))
	}
}

// verdict checks that all that was acknowledged is there, and that no rule is broken.
func (w *workload) verdict(t *testing.T) {
	t.Helper()
	for question, ids := range w.acks {
		require.Empty(t, w.db.Query(t, `SELECT unnest($1::bigint[]) EXCEPT (`+question+`)`, ids), question)
	}
	broken, err := schema.Audit(t.Context(), w.db.Pool)
	require.NoError(t, err)
	require.Empty(t, broken)
	requireSound(t, w.db)
	requireSoundSlots(t, w.db)
}

// matchedPair is the two people of a story.
type matchedPair struct {
	name  int64
	a, b  soultribe.User
	match soultribe.MatchID
}

// story is all that two people do, from their registration on, and one of them with the hub. It ends at the first
// error.
func (w *workload) story(ctx context.Context) error {
	p := &matchedPair{name: w.stories.Add(1)}
	for _, step := range []func(ctx context.Context, p *matchedPair) error{w.register, w.reset, w.slots, w.meet, w.wantTheHub, w.look} {
		if err := step(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (w *workload) register(ctx context.Context, p *matchedPair) (err error) {
	for name, u := range map[string]*soultribe.User{"a": &p.a, "b": &p.b} {
		*u, err = w.st.CreateUser(ctx, soultribe.NewUser{
			Email: fmt.Sprintf("%s-%d@example.org", name, p.name), Password: otherPassword,
			Profile: &soultribe.NewProfile{FullName: name, DisplayName: name, Timezone: "Europe/Vienna"},
		})
		if err != nil {
			return err
		}
		ack(w, storedUser, u.ID)
	}
	tok, err := w.st.IssueEmailVerification(ctx, p.a.ID)
	if err != nil {
		return err
	}
	if _, err := w.st.VerifyEmail(ctx, tok.Secret()); err != nil {
		return err
	}
	if err := w.st.MarkVerified(ctx, p.b.ID); err != nil {
		return err
	}
	ack(w, verifiedUser, p.a.ID, p.b.ID)
	return nil
}

func (w *workload) reset(ctx context.Context, p *matchedPair) error {
	tok, ok, err := w.st.IssuePasswordReset(ctx, p.a.Email)
	if err != nil {
		return err
	}
	if !ok {
		return wrong(true, "no reset was issued")
	}
	if _, err := w.st.ResetPassword(ctx, tok.Secret(), "another password"); err != nil {
		return err
	}
	ack(w, resetUser, p.a.ID)
	_, err = w.st.Authenticate(ctx, p.a.Email, "another password")
	return err
}

// errWrong is no error of a call, but of what it came to.
var errWrong = errors.New("wrong")

func wrong(is bool, text string) error {
	if is {
		return fmt.Errorf("%w: %s", errWrong, text)
	}
	return nil
}

func (w *workload) slots(ctx context.Context, p *matchedPair) error {
	added, err := w.st.AddSlots(ctx, p.a.ID, []soultribe.NewSlot{spanFrom(spring, 4, 8, "UTC"), spanFrom(spring, 12, 4, "UTC")})
	if err != nil {
		return err
	}
	ack(w, storedSlot, added[0].ID, added[1].ID)
	one, err := w.st.AddSlot(ctx, p.b.ID, spanFrom(spring, 4, 4, "UTC"))
	if err != nil {
		return err
	}
	ack(w, storedSlot, one.ID)
	free, err := w.st.MutualAvailability(ctx, p.a.ID, p.b.ID, soultribe.MutualQuery{From: spring, To: spring.AddDate(0, 0, 7)})
	if err != nil {
		return err
	}
	return wrong(len(free) != 1, "they are not free at one time")
}

// meet makes a match and a meetup, in a transaction with the host's own statement.
func (w *workload) meet(ctx context.Context, p *matchedPair) error {
	var proposed soultribe.MeetupResult
	err := w.st.InTx(ctx, func(ctx context.Context, tx pgx.Tx, st soultribe.Store) error {
		w.open.Add(1)
		defer w.open.Add(-1)
		asked, err := st.RequestMatch(ctx, p.a.ID, p.b.ID)
		if err != nil {
			return err
		}
		accepted, err := st.AcceptMatch(ctx, p.b.ID, asked.ID)
		if err != nil {
			return err
		}
		p.match = accepted.ID
		var seen int64
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM match WHERE id = $1 AND status = 'accepted'`, p.match).Scan(&seen); err != nil {
			return err
		}
		proposed, err = st.ProposeMeetup(ctx, p.a.ID, soultribe.NewMeetup{MatchID: p.match, Times: soultribe.Times{Start: spring.Add(time.Hour), Duration: time.Hour}})
		if err != nil {
			return err
		}
		return wrong(seen != 1, "the transaction does not see its own match")
	})
	if err != nil {
		w.cut.Add(1)
		return err
	}
	ack(w, acceptedMatch, p.match)
	ack(w, storedMeetup, proposed.ID)
	confirmed, err := w.st.ConfirmMeetup(ctx, p.b.ID, proposed.ID, proposed.Times)
	if err != nil {
		return err
	}
	ack(w, confirmedMeetup, confirmed.ID)
	return nil
}

// wantTheHub proposes an hour that only one can have.
func (w *workload) wantTheHub(ctx context.Context, p *matchedPair) error {
	if _, err := w.st.RequestMatch(ctx, p.b.ID, w.hub); err != nil {
		return err
	}
	m, err := w.st.RequestMatch(ctx, w.hub, p.b.ID)
	if err != nil {
		return err
	}
	ack(w, acceptedMatch, m.ID)
	proposed, err := w.st.ProposeMeetup(ctx, p.b.ID, soultribe.NewMeetup{MatchID: m.ID, Times: soultribe.Times{Start: spring, Duration: time.Hour}})
	if err != nil {
		return err
	}
	ack(w, storedMeetup, proposed.ID)
	confirmed, err := w.st.ConfirmMeetup(ctx, w.hub, proposed.ID, proposed.Times)
	switch {
	case errors.Is(err, soultribe.ErrDoubleBooked):
		return nil
	case err != nil:
		return err
	}
	ack(w, confirmedMeetup, confirmed.ID)
	return nil
}

// look reads what the two have made.
func (w *workload) look(ctx context.Context, p *matchedPair) error {
	slots, err := w.st.Slots(ctx, p.a.ID, soultribe.SlotQuery{From: spring})
	if err != nil {
		return err
	}
	matches, err := w.st.Matches(ctx, p.b.ID, soultribe.MatchQuery{Status: []soultribe.MatchStatus{soultribe.MatchAccepted}})
	if err != nil {
		return err
	}
	meetups, err := w.st.Meetups(ctx, p.a.ID, soultribe.MeetupQuery{From: spring})
	if err != nil {
		return err
	}
	found, err := w.st.Candidates(ctx, p.a.ID, soultribe.CandidateQuery{From: spring, To: spring.AddDate(0, 0, 7)})
	if err != nil {
		return err
	}
	known := slices.ContainsFunc(found.Items, func(s soultribe.Candidate) bool { return s.UserID == p.b.ID })
	return wrong(len(slots.Items) != 2 || len(matches.Items) != 2 || len(meetups.Items) != 1 || known, "the lists are not what was stored")
}

// waitUntil waits for what others do, unless the test has failed.
func waitUntil(t *testing.T, condition func() bool, message string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		require.False(t, t.Failed())
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatal(message)
		}
	}
}

// TestPgBouncerDies kills PgBouncer under the crowd, again and again. The pool finds the next one by itself; what
// calls return meanwhile is of the network, and never says what is or is not stored.
func TestPgBouncerDies(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	b := startPgBouncer(t, db.URL)
	pool := newPooled(t, b, db, inMode(pgx.QueryExecModeCacheDescribe), func(c *pgxpool.Config) {
		c.ConnConfig.RuntimeParams["application_name"] = "crowd"
	})
	w := newWorkload(t, db, newStore(t, db, pool))

	var crowd sync.WaitGroup
	defer crowd.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var told, failed [pooledClients]atomic.Int64
	all := func(counts *[pooledClients]atomic.Int64) func() bool {
		var since [pooledClients]int64
		for i := range counts {
			since[i] = counts[i].Load()
		}
		return func() bool {
			for i := range counts {
				if counts[i].Load() <= since[i] {
					return false
				}
			}
			return true
		}
	}
	for i := range pooledClients {
		crowd.Go(func() {
			for ctx.Err() == nil {
				// A story that has begun is told to its end.
				err := w.story(t.Context())
				if err == nil {
					told[i].Add(1)
					continue
				}
				failed[i].Add(1)
				if code := soultribe.Code(err); code != "internal" || errors.Is(err, errWrong) || errors.As(err, new(*pgconn.PgError)) {
					t.Errorf("%s: %v", code, err)
					return
				}
			}
		})
	}
	waitUntil(t, all(&told), "a story each")
	for i := range 4 {
		if i%2 == 0 {
			waitUntil(t, func() bool { return w.open.Load() > 0 }, "a transaction")
		}
		failures := all(&failed)
		b.Kill()
		waitUntil(t, failures, "an error each")
		require.NoError(t, b.Start(t.Context()))
		waitUntil(t, all(&told), "a story each, by the same pool")
	}
	cancel()
	crowd.Wait()

	w.verdict(t)
	var stories, errs int64
	for i := range pooledClients {
		stories, errs = stories+told[i].Load(), errs+failed[i].Load()
	}
	t.Logf("%d stories; %d calls that failed, %d of them transactions", stories, errs, w.cut.Load())
	require.Positive(t, w.cut.Load())
	requireReturned(t, pool)
	waitUntil(t, func() bool {
		clients := slices.DeleteFunc(console(t, b, "SHOW CLIENTS"), func(c map[string]any) bool { return c["application_name"] != "crowd" })
		return len(clients) == int(pool.Stat().TotalConns())
	}, "PgBouncer has the clients that the pool knows of, and no others")
	waitUntil(t, func() bool {
		return len(db.Query(t, `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'crowd'`)) <= pooledServers
	}, "the sessions of the PgBouncers that were killed end")
}
