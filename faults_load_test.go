package soultribe_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// person is what the tables are to say of one: the columns of personLines.
type person struct {
	there, verified, reset                             bool
	bio, slots, verifications, resets, asked, met, set string
}

// personLines has the rows of all, a line each, with times in quarter hours from $1.
const personLines = `SELECT u.email, u.email_verified_at IS NOT NULL, u.credentials_changed_at IS NOT NULL,
	(SELECT p.bio FROM profile p WHERE p.user_id = u.id),
	(SELECT string_agg((extract(epoch FROM s.start_dt_utc - $1::timestamp) / 900)::int::text, ',' ORDER BY s.start_dt_utc)
		FROM availabilityslot s WHERE s.user_id = u.id),
	(SELECT string_agg(CASE WHEN t.used_at IS NULL THEN 'live' ELSE 'used' END, ',' ORDER BY t.id) FROM emailverificationtoken t WHERE t.user_id = u.id),
	(SELECT string_agg(CASE WHEN t.used_at IS NULL THEN 'live' ELSE 'used' END, ',' ORDER BY t.id) FROM passwordresettoken t WHERE t.user_id = u.id),
	(SELECT string_agg(m.status, ',' ORDER BY m.id) FROM match m WHERE m.user1_id = u.id),
	(SELECT string_agg(mt.status || ' ' || (extract(epoch FROM mt.scheduled_time - $1::timestamp) / 900)::int, ',' ORDER BY mt.id)
		FROM meetup mt JOIN match m ON m.id = mt.match_id WHERE m.user1_id = u.id),
	(SELECT string_agg((extract(epoch FROM b.starts_at - $1::timestamp) / 900)::int::text, ',') FROM soultribe_booking b WHERE b.user_id = u.id)
	FROM "user" u`

func (p person) line() string {
	if !p.there {
		return "nobody"
	}
	return fmt.Sprintf("%t|%t|%s|%s|%s|%s|%s|%s|%s", p.verified, p.reset, p.bio, p.slots, p.verifications, p.resets, p.asked, p.met, p.set)
}

// couple are the two people of a story.
type couple struct{ a, b person }

// story is what two people do, who have nothing to do with those of other stories but for the hub, whom all ask.
type story struct {
	name   string // with which their addresses begin
	hub    soultribe.UserID
	at     int // quarter hours from spring to their meetup
	ending int

	a, b   soultribe.UserID
	match  soultribe.MatchID
	meetup soultribe.MeetupID
	secret string

	is     couple  // by what was acknowledged
	may    *couple // where the fate of a write is unknown: what they are if it was done
	doubt  string
	wanted int // of the writes that were acknowledged, as the tables have them
}

func newStory(name string, r *rand.Rand, hub soultribe.UserID) *story {
	return &story{name: name, hub: hub, at: r.IntN(100), ending: r.IntN(len(endings))}
}

// step is one write of a story, and what it makes of the two.
type step struct {
	name   string
	call   func(ctx context.Context, st soultribe.Store, s *story) error
	effect func(s *story, p *couple)
}

func (s *story) email(who string) string { return s.name + who + "@example.org" }

func (s *story) times() soultribe.Times {
	return soultribe.Times{Start: spring.Add(time.Duration(s.at) * quarter), Duration: time.Hour}
}

func (s *story) steps() []step { return slices.Concat(storySteps, endings[s.ending], lastSteps) }

func (s *story) register(ctx context.Context, st soultribe.Store, who string) (soultribe.UserID, error) {
	u, err := st.CreateUser(ctx, soultribe.NewUser{
		Email: s.email(who), Password: "correct horse battery", Profile: &soultribe.NewProfile{FullName: "Full", DisplayName: who, Bio: "new"},
	})
	return u.ID, err
}

var newcomer = person{there: true, bio: "new"}

var storySteps = []step{
	{"CreateUser a", func(ctx context.Context, st soultribe.Store, s *story) (err error) {
		s.a, err = s.register(ctx, st, "a")
		return err
	}, func(_ *story, p *couple) { p.a = newcomer }},
	{"IssueEmailVerification", func(ctx context.Context, st soultribe.Store, s *story) error {
		tok, err := st.IssueEmailVerification(ctx, s.a)
		s.secret = tok.Secret()
		return err
	}, func(_ *story, p *couple) { p.a.verifications = "live" }},
	{"VerifyEmail", func(ctx context.Context, st soultribe.Store, s *story) error {
		_, err := st.VerifyEmail(ctx, s.secret)
		return err
	}, func(_ *story, p *couple) { p.a.verified, p.a.verifications = true, "used" }},
	{"CreateUser b", func(ctx context.Context, st soultribe.Store, s *story) (err error) {
		s.b, err = s.register(ctx, st, "b")
		return err
	}, func(_ *story, p *couple) { p.b = newcomer }},
	{"MarkVerified", func(ctx context.Context, st soultribe.Store, s *story) error { return st.MarkVerified(ctx, s.b) },
		func(_ *story, p *couple) { p.b.verified = true }},
	{"AddSlots", func(ctx context.Context, st soultribe.Store, s *story) error {
		_, err := st.AddSlots(ctx, s.a, []soultribe.NewSlot{spanFrom(spring, 8, 4, "UTC"), spanFrom(spring, 0, 4, "UTC"), spanFrom(spring, 200, 8, "Europe/Vienna")})
		return err
	}, func(_ *story, p *couple) { p.a.slots = "0,8,200" }},
	{"ReplaceSlots", func(ctx context.Context, st soultribe.Store, s *story) error {
		_, err := st.ReplaceSlots(ctx, s.a, soultribe.Window{Start: spring, End: spring.Add(24 * time.Hour)},
			[]soultribe.NewSlot{spanFrom(spring, 30, 4, "UTC"), spanFrom(spring, 4, 4, "UTC")})
		return err
	}, func(_ *story, p *couple) { p.a.slots = "4,30,200" }},
	{"InTx", func(ctx context.Context, st soultribe.Store, s *story) error {
		return st.InTx(ctx, func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
			bio := "in a transaction"
			_, errProfile := st.UpdateProfile(ctx, s.a, soultribe.ProfileUpdate{Bio: &bio})
			_, errSlot := st.AddSlot(ctx, s.b, spanFrom(spring, 16, 4, "UTC"))
			return cmp.Or(errProfile, errSlot)
		})
	}, func(_ *story, p *couple) { p.a.bio, p.b.slots = "in a transaction", "16" }},
	{"RequestMatch", func(ctx context.Context, st soultribe.Store, s *story) error {
		m, err := st.RequestMatch(ctx, s.a, s.b)
		s.match = m.ID
		return err
	}, func(_ *story, p *couple) { p.a.asked = "pending" }},
	{"RequestMatch hub", func(ctx context.Context, st soultribe.Store, s *story) error {
		_, err := st.RequestMatch(ctx, s.a, s.hub)
		return err
	}, func(_ *story, p *couple) { p.a.asked = "pending,pending" }},
	{"AcceptMatch", func(ctx context.Context, st soultribe.Store, s *story) error {
		_, err := st.AcceptMatch(ctx, s.b, s.match)
		return err
	}, func(_ *story, p *couple) { p.a.asked = "accepted,pending" }},
	{"ProposeMeetup", func(ctx context.Context, st soultribe.Store, s *story) error {
		m, err := st.ProposeMeetup(ctx, s.a, soultribe.NewMeetup{MatchID: s.match, Times: s.times()})
		s.meetup = m.ID
		return err
	}, func(s *story, p *couple) { p.a.met = fmt.Sprintf("proposed %d", s.at) }},
	{"ConfirmMeetup", func(ctx context.Context, st soultribe.Store, s *story) error {
		_, err := st.ConfirmMeetup(ctx, s.b, s.meetup, s.times())
		return err
	}, func(s *story, p *couple) {
		p.a.met = fmt.Sprintf("confirmed %d", s.at)
		p.a.set = fmt.Sprint(s.at)
		p.b.set = p.a.set
	}},
}

// endings are the ways in which a story may go on when a meetup is confirmed.
var endings = [][]step{
	nil,
	{{"CancelMeetup", func(ctx context.Context, st soultribe.Store, s *story) error {
		_, err := st.CancelMeetup(ctx, s.a, s.meetup)
		return err
	}, func(s *story, p *couple) { p.a.met, p.a.set, p.b.set = fmt.Sprintf("cancelled %d", s.at), "", "" }}},
	{{"RescheduleMeetup", func(ctx context.Context, st soultribe.Store, s *story) error {
		later := soultribe.Times{Start: s.times().Start.Add(quarter), Duration: time.Hour}
		_, err := st.RescheduleMeetup(ctx, s.b, s.meetup, soultribe.Reschedule{Seen: s.times(), To: later})
		return err
	}, func(s *story, p *couple) { p.a.met, p.a.set, p.b.set = fmt.Sprintf("proposed %d", s.at+1), "", "" }}},
	{{"CancelMatch", func(ctx context.Context, st soultribe.Store, s *story) error {
		_, err := st.CancelMatch(ctx, s.b, s.match)
		return err
	}, func(s *story, p *couple) {
		p.a.asked, p.a.met, p.a.set, p.b.set = "cancelled,pending", fmt.Sprintf("cancelled %d", s.at), "", ""
	}}},
	{{"DeleteUser", func(ctx context.Context, st soultribe.Store, s *story) error {
		_, err := st.DeleteUser(ctx, s.b)
		return err
	}, func(_ *story, p *couple) { p.a.asked, p.a.met, p.a.set, p.b = "pending", "", "", person{} }}},
}

var lastSteps = []step{
	{"IssuePasswordReset", func(ctx context.Context, st soultribe.Store, s *story) error {
		tok, ok, err := st.IssuePasswordReset(ctx, s.email("a"))
		if err == nil && !ok {
			err = soultribe.ErrNotFound
		}
		s.secret = tok.Secret()
		return err
	}, func(_ *story, p *couple) { p.a.resets = "live" }},
	{"ResetPassword", func(ctx context.Context, st soultribe.Store, s *story) error {
		_, err := st.ResetPassword(ctx, s.secret, "correct horse battery 2")
		return err
	}, func(_ *story, p *couple) { p.a.resets, p.a.reset = "used", true }},
}

// load are many who live their stories at one time, and keep a record of what was acknowledged.
type load struct {
	t       testing.TB
	st      soultribe.Store
	hub     soultribe.UserID
	seed    uint64
	timeout time.Duration // of each call

	over    chan struct{}
	workers sync.WaitGroup
	acked   []atomic.Int64 // by each worker
	unknown atomic.Int64

	mu      sync.Mutex
	stories []*story
	unsent  int
	late    time.Duration  // at most, of a return after its deadline
	errors  map[string]int // without the names of methods
}

func startLoad(t testing.TB, st soultribe.Store, workers int, seed uint64, timeout time.Duration, hub soultribe.UserID) *load {
	t.Helper()
	l := &load{
		t: t, st: st, hub: hub, seed: seed, timeout: timeout,
		over: make(chan struct{}), acked: make([]atomic.Int64, workers), errors: make(map[string]int),
	}
	for i := range workers {
		l.workers.Go(func() { l.work(i) })
	}
	return l
}

// stop returns when all calls have.
func (l *load) stop() {
	close(l.over)
	l.workers.Wait()
}

func (l *load) work(worker int) {
	r := rand.New(rand.NewPCG(l.seed, uint64(worker)))
	for n := 0; ; n++ {
		select {
		case <-l.over:
			return
		default:
		}
		s := newStory(fmt.Sprintf("%x-%d-%d", l.seed, worker, n), r, l.hub)
		l.mu.Lock()
		l.stories = append(l.stories, s)
		l.mu.Unlock()
		for _, step := range s.steps() {
			if !l.take(worker, s, step) {
				break
			}
		}
	}
}

// take takes a step, again and again while it is certain that nothing was sent. It reports whether the step was
// acknowledged: else the story ends.
func (l *load) take(worker int, s *story, step step) bool {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := l.call(s, step)
		switch {
		case err == nil:
			step.effect(s, &s.is)
			s.wanted++
			l.acked[worker].Add(1)
			return true
		case !unsent(err):
			may := s.is
			step.effect(s, &may)
			s.may, s.doubt = &may, step.name
			l.unknown.Add(1)
			return false
		}
		select {
		case <-l.over:
			return false
		case <-ticker.C:
		}
	}
}

func (l *load) call(s *story, step step) error {
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	began := time.Now()
	err := step.call(ctx, l.st, s)
	if err == nil {
		return nil
	}
	requireNotOfTheDomain(l.t, s.name+" "+step.name, err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if unsent(err) {
		l.unsent++
	}
	l.late = max(l.late, time.Since(began)-l.timeout)
	l.errors[particulars.ReplaceAllString(err.Error(), "…")]++
	return err
}

// particulars are what differs between errors of one kind: methods, directories, databases and ports.
var particulars = regexp.MustCompile(`^soultribe: \w+|/\S*soultribe-postgres-\d+|soultribe_\w+_test_\w+|\S*->\S+`)

// unsent tells whether it is certain that the server has not heard of the call. It is not for ErrConnClosed, whatever
// SafeToRetry says: pgx returns that for a batch, and for a statement without parameters such as COMMIT, whose
// connection ended while it waited for the answer.
func unsent(err error) bool {
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) || pgconn.SafeToRetry(err) && !errors.Is(err, pgconn.ErrConnClosed)
}

// requireNotOfTheDomain fails for an error that says something of people rather than of the database.
func requireNotOfTheDomain(t testing.TB, what string, err error) {
	t.Helper()
	var ours *soultribe.Error
	if code := soultribe.Code(err); !errors.As(err, &ours) || ours.Op == "" || code != "internal" && code != "timeout" {
		t.Errorf("%s: the error is %q: %v", what, code, err)
	}
}

// waitForWrites waits until so many more writes are acknowledged, to each of the workers where each is set.
func (l *load) waitForWrites(more int64, each bool) {
	l.t.Helper()
	var before []int64
	for i := range l.acked {
		before = append(before, l.acked[i].Load())
	}
	require.Eventually(l.t, func() bool {
		var sum, least int64
		for i := range l.acked {
			n := l.acked[i].Load() - before[i]
			sum += n
			if i == 0 || n < least {
				least = n
			}
		}
		return least >= more || !each && sum >= more
	}, time.Minute, time.Millisecond, "no writes are acknowledged")
}

// judge compares the rows of all stories with what was acknowledged, and adds it up.
func (f *fault) judge(t testing.TB, db *soultribetest.DB, stories []*story) {
	t.Helper()
	lines := make(map[string]string)
	for _, row := range db.Query(t, personLines, spring) {
		email, line, _ := strings.Cut(row, "|")
		lines[email] = line
	}
	line := func(s *story, who string) string { return cmp.Or(lines[s.email(who)], "nobody") }
	for _, s := range stories {
		is := [2]string{line(s, "a"), line(s, "b")}
		f.acked += s.wanted
		if s.may != nil {
			f.unknown++
		}
		switch {
		case is == [2]string{s.is.a.line(), s.is.b.line()}:
			f.found += s.wanted
		case s.may != nil && is == [2]string{s.may.a.line(), s.may.b.line()}:
			f.found += s.wanted
			f.unknownFound++
		case s.may != nil:
			t.Errorf("%s: after %s of unknown fate the two are\n%q, which is neither\n%q nor\n%q", s.name, s.doubt, is,
				[]string{s.is.a.line(), s.is.b.line()}, []string{s.may.a.line(), s.may.b.line()})
		default:
			t.Errorf("%s: the two are\n%q, not\n%q", s.name, is, []string{s.is.a.line(), s.is.b.line()})
		}
	}
}

// errorTexts are the errors of a load, the most frequent first.
func errorTexts(counts map[string]int) string {
	var b strings.Builder
	for _, text := range slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return counts[b] - counts[a] }) {
		fmt.Fprintf(&b, "\n%6d  %s", counts[text], text)
	}
	return b.String()
}
