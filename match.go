package soultribe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Masterminds/squirrel"
)

// MatchStatus is where a match stands. A database may hold others than the constants, stored by other
// applications; they are read as they are, and never moved.
type MatchStatus string

// The statuses that the library stores.
const (
	MatchPending   MatchStatus = "pending"   // user1 has asked, user2 answers
	MatchAccepted  MatchStatus = "accepted"  // the two may meet
	MatchRejected  MatchStatus = "rejected"  // user2 said no
	MatchCancelled MatchStatus = "cancelled" // user1 took the request back, or either ended the match
)

// Match is what two people are to each other. There is one row for each pair at most.
type Match struct {
	ID        MatchID     `json:"id"`
	User1ID   UserID      `json:"user1_id"` // who asked
	User2ID   UserID      `json:"user2_id"` // who answers
	Status    MatchStatus `json:"status"`
	CreatedAt time.Time   `json:"created_at"`
	UpdatedAt time.Time   `json:"updated_at"`
}

// Partner returns the other one of the two.
func (m Match) Partner(of UserID) UserID {
	if m.User1ID == of {
		return m.User2ID
	}
	return m.User1ID
}

// MatchResult is a match after a step, and whether the step changed it: notify people only then.
type MatchResult struct {
	Match
	Changed bool `json:"changed"`
}

// MatchRole is the side of a match that a person is on.
type MatchRole int

// The roles in a match.
const (
	EitherSide MatchRole = iota
	Asked                // as user1
	Answers              // as user2
)

// MatchQuery selects matches, newest first by CreatedAt.
type MatchQuery struct {
	Role          MatchRole     // of the actor
	Status        []MatchStatus // empty means all
	UpdatedBefore time.Time     // the zero time means whenever
	Limit         int           // see [PageQuery]
	After         Cursor
}

// MatchStore brings two people together. user1 asks, user2 answers. A step whose result already holds,
// taken by someone entitled to it, succeeds with Changed false; a step that the status does not allow is
// a *TransitionError (an ErrConflict). A match that is not the actor's is ErrNotFound. Steps lock the match.
type MatchStore interface {
	// RequestMatch asks to for a match. Where to has asked the actor, the match is accepted at once. It
	// returns ErrUnverified unless the actor's address is verified, ErrNotFound unless to exists and is
	// verified, and a *CooldownError (ErrCooldown) for 30 days after to rejected the actor and for 24
	// hours after either cancelled. One who rejected may ask at any time. It locks both users against
	// deletion.
	RequestMatch(ctx context.Context, actor, to UserID) (MatchResult, error)
	// AcceptMatch answers yes, as user2. It returns ErrWrongSide to user1 of a pending match, and judges
	// verification as RequestMatch does.
	AcceptMatch(ctx context.Context, actor UserID, id MatchID) (MatchResult, error)
	// RejectMatch answers no, as user2. It returns ErrWrongSide to user1 of a pending match.
	RejectMatch(ctx context.Context, actor UserID, id MatchID) (MatchResult, error)
	// CancelMatch takes back a pending request, as user1, or ends an accepted match, as either, and
	// cancels its live meetup with it, which is settled first, as Settle does. It returns ErrWrongSide to
	// user2 of a pending match.
	CancelMatch(ctx context.Context, actor UserID, id MatchID) (MatchResult, error)

	// Match returns a match of the actor's, or ErrNotFound.
	Match(ctx context.Context, actor UserID, id MatchID) (Match, error)
	// MatchBetween returns the match of the two, whoever asked, or ErrNotFound.
	MatchBetween(ctx context.Context, actor, other UserID) (Match, error)
	// Matches returns the actor's matches, newest first, or ErrNotFound where there is no such user.
	Matches(ctx context.Context, actor UserID, q MatchQuery) (Page[Match], error)
	// Candidates returns people with whom the actor could meet; see [CandidateQuery]. It returns ErrNotFound
	// where there is no such actor.
	Candidates(ctx context.Context, actor UserID, q CandidateQuery) (Page[Candidate], error)
}

const (
	matchColumns   = "id, user1_id, user2_id, status, created_at, updated_at"
	matchCreatedAt = 4 // its place in them

	// ofActor says that the match m is the actor's, who is $1.
	ofActor = "(m.user1_id = $1::bigint OR m.user2_id = $1::bigint)"
	// ofPair finds the match m of the pair $1 and $2 by its unique index.
	ofPair = "least(m.user1_id, m.user2_id) = least($1::bigint, $2::bigint) AND greatest(m.user1_id, m.user2_id) = greatest($1::bigint, $2::bigint)"
)

type matchStatements struct {
	requestMatch, acceptMatch, rejectMatch, holdMatch, cancelMatch statement
	match, matchBetween                                            statement
}

func newMatchStatements(t tables) matchStatements {
	matches := squirrel.Select(columns("m", matchColumns)).From(t.match + " m")
	answer := "c.status = 'pending' AND c.user2_id = $1::bigint"
	return matchStatements{
		requestMatch: requestMatch(t),
		acceptMatch:  moveMatch(t, "AcceptMatch", "'accepted'", answer+" AND c.actor AND c.other"),
		rejectMatch:  moveMatch(t, "RejectMatch", "'rejected'", answer),
		cancelMatch: moveMatch(t, "CancelMatch", "'cancelled'", "(c.status = 'accepted' OR c.status = 'pending' AND c.user1_id = $1::bigint)",
			with{"meetups", squirrel.Update(t.meetup+" x").
				Set("status", squirrel.Expr("'cancelled'")).
				Set("updated_at", squirrel.Expr("$3::timestamp")).
				From("moved v").Where("x.match_id = v.id AND x.status IN ('proposed', 'confirmed')")}),
		holdMatch:    compile("HoldMatch", squirrel.Select("m.id").From(t.match+" m").Where(ofActor+" AND m.id = $2::bigint").Suffix("FOR NO KEY UPDATE")),
		match:        compile("Match", matches.Where(ofActor+" AND m.id = $2::bigint")),
		matchBetween: compile("MatchBetween", matches.Where(ofPair)),
	}
}

// people are whether the actor, who is $1, and the other among rows p are verified; NULL where there is no such user.
func people(rows string) squirrel.Sqlizer {
	return squirrel.Select("bool_or(p.verified) FILTER (WHERE p.id = $1::bigint) AS actor",
		"bool_or(p.verified) FILTER (WHERE p.id <> $1::bigint) AS other").From(rows)
}

// requestMatch asks ($1 asks $2), answers or asks again. Where the pair's row appeared after this
// statement began, there is no answer in it, and it is sent again.
func requestMatch(t tables) statement {
	again := "c.status = 'rejected' AND (c.user2_id = $1::bigint OR c.updated_at <= $4::timestamp)" +
		" OR c.status = 'cancelled' AND c.updated_at <= $5::timestamp"
	return compile("RequestMatch", squirrel.Select(matchOutcome("p.actor", "p.other", "v.id IS NOT NULL OR a.id IS NOT NULL", "v", "a", "c")...).
		From("judged p").LeftJoin("current c ON true").LeftJoin("moved v ON true").LeftJoin("asked a ON true"),
		with{"person", squirrel.Select("u.id", "u.email_verified_at IS NOT NULL AS verified").From(t.user + " u").
			Where("u.id IN ($1::bigint, $2::bigint)").OrderBy("u.id").Suffix("FOR KEY SHARE")},
		with{"judged", people("person p")},
		// The join has the people locked first.
		with{"current", squirrel.Select(columns("m", matchColumns)).From(t.match + " m").Join("judged p ON p.actor AND p.other").
			Where(ofPair).Suffix("FOR NO KEY UPDATE OF m")},
		with{"moved", squirrel.Update(t.match+" m").
			Set("status", squirrel.Expr("CASE WHEN c.status = 'pending' THEN 'accepted' ELSE 'pending' END")).
			Set("user1_id", squirrel.Expr("CASE WHEN c.status = 'pending' THEN c.user1_id ELSE $1::bigint END")).
			Set("user2_id", squirrel.Expr("CASE WHEN c.status = 'pending' THEN c.user2_id ELSE $2::bigint END")).
			Set("updated_at", squirrel.Expr("$3::timestamp")).
			From("current c").Where("m.id = c.id AND (c.status = 'pending' AND c.user2_id = $1::bigint OR " + again + ")").
			Suffix("RETURNING " + columns("m", matchColumns))},
		with{"asked", squirrel.Insert(t.match).Columns("user1_id", "user2_id", "status", "created_at", "updated_at").
			// An id by itself would be cast to the column's type while the statement is planned, and that fails beyond its range.
			Select(squirrel.Select("CASE WHEN p.actor THEN $1::bigint END", "CASE WHEN p.other THEN $2::bigint END", "'pending'", "$3::timestamp", "$3::timestamp").
				From("judged p").Where("p.actor AND p.other AND NOT EXISTS (SELECT FROM current)")).
			Suffix("ON CONFLICT DO NOTHING RETURNING " + matchColumns)})
}

// moveMatch moves the match $2 to a status where condition holds. It decides by the row that it has
// locked, and returns the row as it then is. The caller's transaction sees no error.
func moveMatch(t tables, name, status, condition string, more ...with) statement {
	current := squirrel.Select(columns("m", matchColumns)).From(t.match + " m").Where(ofActor + " AND m.id = $2::bigint").Suffix("FOR NO KEY UPDATE")
	return compile(name, squirrel.Select(matchOutcome("c.actor", "c.other", "v.id IS NOT NULL", "v", "c")...).From("judged c").LeftJoin("moved v ON true"),
		append([]with{
			{"judged", squirrel.Select("c.*", verified(t, "$1::bigint")+" AS actor",
				verified(t, "CASE WHEN c.user1_id = $1::bigint THEN c.user2_id ELSE c.user1_id END")+" AS other").From("(" + constant(current) + ") c")},
			{"moved", squirrel.Update(t.match+" m").
				Set("status", squirrel.Expr(status)).
				Set("updated_at", squirrel.Expr("$3::timestamp")).
				From("judged c").Where("m.id = c.id AND (" + condition + ")").
				Suffix("RETURNING " + columns("m", matchColumns))},
		}, more...)...)
}

// matchOutcome are the columns of scanOutcome: whether the two are verified, and the match as the first of some rows has it.
func matchOutcome(actor, other, changed string, rows ...string) []string {
	list := strings.Split(matchColumns, ", ")
	for i, column := range list {
		list[i] = "coalesce(" + strings.Join(rows, "."+column+", ") + "." + column + ")"
	}
	return append([]string{actor, other, changed}, list...)
}

// outcome is what a step came to: the match, if there is one, and who is verified.
type outcome struct {
	present, actor, other bool
	found, changed        bool
	match                 Match
}

func scanOutcome(r *rowReader) outcome {
	return outcome{present: !r.null(), actor: r.boolean(), other: r.boolean(), changed: r.boolean(), found: !r.null(), match: scanMatch(r)}
}

func scanMatch(r *rowReader) Match {
	return Match{ID: MatchID(r.integer()), User1ID: UserID(r.integer()), User2ID: UserID(r.integer()), Status: MatchStatus(r.text()),
		CreatedAt: r.time(), UpdatedAt: r.time()}
}

// RequestMatch implements [MatchStore].
func (p *Postgres) RequestMatch(ctx context.Context, actor, to UserID) (MatchResult, error) {
	const op = "RequestMatch"
	errs := []error{checkID("actor", actor), checkID("to", to)}
	if actor == to && to != 0 {
		errs = append(errs, invalid("to", "must be another person"))
	}
	if err := errors.Join(errs...); err != nil {
		return MatchResult{}, opError(op, err)
	}
	now := p.now()
	rejected, cancelled := max(0, p.config.cooldowns.Rejected), max(0, p.config.cooldowns.Cancelled)
	// Twice is enough unless the row also vanishes in between.
	for range 3 {
		o, err := queryOne(ctx, p, op, p.sql.requestMatch, scanOutcome, int64(actor), int64(to),
			timestamp(now), timestamp(now.Add(-rejected)), timestamp(now.Add(-cancelled)))
		switch {
		case err != nil:
			return MatchResult{}, err
		case !o.present:
			return MatchResult{}, opError(op, ErrNotFound)
		case !o.actor:
			return MatchResult{}, opError(op, ErrUnverified)
		case !o.other:
			return MatchResult{}, opError(op, ErrNotFound)
		case !o.found:
			continue
		case o.changed, o.match.Status == MatchAccepted, o.match.Status == MatchPending:
			return MatchResult{o.match, o.changed}, nil
		case o.match.Status == MatchRejected:
			return MatchResult{}, opError(op, &CooldownError{Until: o.match.UpdatedAt.Add(rejected)})
		case o.match.Status == MatchCancelled:
			return MatchResult{}, opError(op, &CooldownError{Until: o.match.UpdatedAt.Add(cancelled)})
		}
		return MatchResult{}, opError(op, &TransitionError{From: string(o.match.Status), To: string(MatchPending)})
	}
	return MatchResult{}, opError(op, ErrRetry)
}

// AcceptMatch implements [MatchStore].
func (p *Postgres) AcceptMatch(ctx context.Context, actor UserID, id MatchID) (MatchResult, error) {
	return p.moveMatch(ctx, "AcceptMatch", p.sql.acceptMatch, actor, id, MatchAccepted)
}

// RejectMatch implements [MatchStore].
func (p *Postgres) RejectMatch(ctx context.Context, actor UserID, id MatchID) (MatchResult, error) {
	return p.moveMatch(ctx, "RejectMatch", p.sql.rejectMatch, actor, id, MatchRejected)
}

// CancelMatch implements [MatchStore].
func (p *Postgres) CancelMatch(ctx context.Context, actor UserID, id MatchID) (MatchResult, error) {
	return p.moveMatch(ctx, "CancelMatch", p.sql.cancelMatch, actor, id, MatchCancelled)
}

func (p *Postgres) moveMatch(ctx context.Context, op string, s statement, actor UserID, id MatchID, to MatchStatus) (MatchResult, error) {
	if err := errors.Join(checkID("actor", actor), checkID("match_id", id)); err != nil {
		return MatchResult{}, opError(op, err)
	}
	now := timestamp(p.now())
	var o outcome
	var err error
	if to == MatchCancelled {
		var found bool
		err = p.send(ctx, op, func(b *batch) {
			// Statements of their own, so that the next one sees a meetup that was proposed meanwhile, and
			// leaves alone one that took place. To be refused, or to do it again, writes nothing.
			b.exec(p.sql.holdMatch, int64(actor), int64(id))
			b.exec(p.sql.settleMatch, int64(actor), int64(id), now)
			queueOne(b, s, scanOutcome, &o, &found, int64(actor), int64(id), now)
		})
		if err == nil && !found {
			err = opError(op, ErrNotFound)
		}
	} else {
		o, err = queryOne(ctx, p, op, s, scanOutcome, int64(actor), int64(id), now)
	}
	switch {
	case err != nil:
		return MatchResult{}, err
	case o.changed:
		return MatchResult{o.match, true}, nil
	case o.match.Status == to && (to == MatchCancelled || o.match.User2ID == actor):
		return MatchResult{o.match, false}, nil
	case o.match.Status != MatchPending:
		return MatchResult{}, opError(op, &TransitionError{From: string(o.match.Status), To: string(to)})
	case (o.match.User2ID == actor) != (to != MatchCancelled):
		return MatchResult{}, opError(op, ErrWrongSide)
	case !o.actor:
		return MatchResult{}, opError(op, ErrUnverified)
	}
	return MatchResult{}, opError(op, ErrNotFound) // the other one is not verified
}

// Match implements [MatchStore].
func (p *Postgres) Match(ctx context.Context, actor UserID, id MatchID) (Match, error) {
	if err := errors.Join(checkID("actor", actor), checkID("match_id", id)); err != nil {
		return Match{}, opError("Match", err)
	}
	return queryOne(ctx, p, "Match", p.sql.match, scanMatch, int64(actor), int64(id))
}

// MatchBetween implements [MatchStore].
func (p *Postgres) MatchBetween(ctx context.Context, actor, other UserID) (Match, error) {
	if err := errors.Join(checkID("actor", actor), checkID("other", other)); err != nil {
		return Match{}, opError("MatchBetween", err)
	}
	return queryOne(ctx, p, "MatchBetween", p.sql.matchBetween, scanMatch, int64(actor), int64(other))
}

// Matches implements [MatchStore].
func (p *Postgres) Matches(ctx context.Context, actor UserID, q MatchQuery) (Page[Match], error) {
	if err := checkID("actor", actor); err != nil {
		return Page[Match]{}, opError("Matches", err)
	}
	return p.matches(ctx, "Matches", actor, q)
}

// everyone is whose lists those of all people are. No caller is: a zero id is refused.
const everyone UserID = 0

// matches lists the matches of the actor.
func (p *Postgres) matches(ctx context.Context, op string, actor UserID, q MatchQuery) (Page[Match], error) {
	limit, err := pageLimit(q.Limit)
	status := statusList(q.Status)
	key := newListKey(op, actor, q.Role, statusKey(status), q.UpdatedBefore.UnixMicro())
	var created, id int64
	later, errCursor := key.decode(q.After, &created, &id)
	after, errTime := listedTime(created)
	if err := errors.Join(err, errCursor, errTime, q.validate()); err != nil {
		return Page[Match]{}, opError(op, err)
	}
	list := squirrel.Select(columns("m", matchColumns)).From(p.sql.lists.match + " m")
	if len(status) > 0 {
		list = list.Where("m.status = ANY(?::text[])", status)
	}
	if !q.UpdatedBefore.IsZero() {
		list = list.Where("m.updated_at < ?::timestamp", timestamp(q.UpdatedBefore))
	}
	if later {
		list = list.Where("(m.created_at, m.id) < (?::timestamp, ?::bigint)", after, id)
	}
	list = list.OrderBy("m.created_at DESC", "m.id DESC").Suffix("LIMIT ?::bigint", limit+1)
	var last place
	if actor == everyone {
		rows, err := queryList(ctx, p, op, list, limit+1, untilLast(limit, &last, scanListedMatch))
		return newListedPage(rows, limit, last, key), err
	}
	// One branch for each side, so that each is read from its index in order and stops at the limit.
	sides := map[MatchRole][]string{EitherSide: {"user1_id", "user2_id"}, Asked: {"user1_id"}, Answers: {"user2_id"}}
	var branches []string
	var args []any
	for _, side := range sides[q.Role] {
		text, values, err := list.Where("m."+side+" = ?::bigint", int64(actor)).ToSql()
		if err != nil {
			return Page[Match]{}, opError(op, err)
		}
		branches, args = append(branches, "("+text+")"), append(args, values...)
	}
	list = listOf(p.sql.lists.user, strings.Join(branches, " UNION ALL "), args...).Where("u.id = ?::bigint", int64(actor)).
		OrderBy("list.created_at DESC", "list.id DESC").Suffix("LIMIT ?::bigint", limit+1)
	s, args, err := buildList(op, list)
	if err != nil {
		return Page[Match]{}, opError(op, err)
	}
	rows, err := queryListOf(ctx, p, op, s, limit+1, untilLast(limit, &last, scanListedMatch), args...)
	return newListedPage(rows, limit, last, key), err
}

func scanListedMatch(r *rowReader) (Match, place) {
	m := scanMatch(r)
	return m, place{r.microsAt(matchCreatedAt), int64(m.ID)}
}

func (q MatchQuery) validate() error {
	var errs []error
	if q.Role < EitherSide || q.Role > Answers {
		errs = append(errs, invalid("role", "is unknown"))
	}
	if !q.UpdatedBefore.IsZero() {
		errs = append(errs, checkTime("updated_before", q.UpdatedBefore))
	}
	return errors.Join(append(errs, checkStatuses(statusList(q.Status)))...)
}

// maxStatuses bounds a filter; there are four statuses of each kind, and what other applications add.
const maxStatuses = 50

func checkStatuses(list []string) error {
	if len(list) > maxStatuses {
		return invalid("status", fmt.Sprintf("must be at most %d", maxStatuses))
	}
	for _, s := range list {
		if len(s) > 100 || !storable(s) {
			return invalid("status", "is unknown")
		}
	}
	return nil
}

// statusKey is a filter as a part of a listKey. One that is refused anyway is not worth the work.
func statusKey(list []string) string {
	if checkStatuses(list) != nil {
		return ""
	}
	return fmt.Sprintf("%q", list)
}

func statusList[S ~string](statuses []S) []string {
	list := make([]string, len(statuses))
	for i, s := range statuses {
		list[i] = string(s)
	}
	return list
}
