package soultribe

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	defaultHorizon    = 14 * 24 * time.Hour
	defaultAtLeast    = time.Hour
	defaultMaxWindows = 5
	maxMaxWindows     = 20
)

// CandidateOrder is the order in which candidates come.
type CandidateOrder int

// The orders of candidates.
const (
	SoonestFirst  CandidateOrder = iota // by the start of the first window
	MostTimeFirst                       // by the time in all windows together
)

// CandidateQuery says what to look for: people other than the actor whose address is verified, who share
// a window of AtLeast with the actor between From and To, and who have no match with the actor but one
// that was cancelled and may be asked for again. The actor's confirmed meetups are cut out.
type CandidateQuery struct {
	From    time.Time     // the zero time means now
	To      time.Time     // the zero time means 14 days after From; 366 days after it at most
	AtLeast time.Duration // shorter windows do not count; 0 means 60 minutes
	Order   CandidateOrder
	// MaxWindows is how many windows to show of each person, 20 at most; 0 means 5. A stranger's
	// calendar is not for handing out.
	MaxWindows int
	Limit      int // see [PageQuery]
	After      Cursor
}

// Candidate is a person with whom the actor could meet.
type Candidate struct {
	UserID      UserID        `json:"user_id"`
	DisplayName string        `json:"display_name"`       // "" without a profile
	Timezone    string        `json:"timezone,omitempty"` // of the profile
	Windows     []Window      `json:"windows"`            // the first ones, in order
	Total       time.Duration `json:"-"`                  // in all windows; total_seconds in JSON
}

// MarshalJSON implements [json.Marshaler].
func (c Candidate) MarshalJSON() ([]byte, error) {
	type plain Candidate
	return json.Marshal(struct {
		plain
		TotalSeconds int64 `json:"total_seconds"`
	}{plain(c), int64(c.Total / time.Second)})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (c *Candidate) UnmarshalJSON(b []byte) error {
	type plain Candidate
	v := struct {
		*plain
		TotalSeconds int64 `json:"total_seconds"`
	}{plain: (*plain)(c)}
	err := json.Unmarshal(b, &v)
	c.Total = time.Duration(v.TotalSeconds) * time.Second
	return err
}

type candidateStatements struct {
	askerExists, askerSlots, askerBusy, askerMatches statement
	soonest, mostTime                                statement
}

func newCandidateStatements(t tables) candidateStatements {
	return candidateStatements{
		askerExists: compile("CandidatesAsker", squirrel.Select("u.id").From(t.user+" u").Where("u.id = $1::bigint")),
		askerSlots: compile("CandidatesSlots", squirrel.Select("s.user_id", "s.start_dt_utc", "s.end_dt_utc").From(t.slot+" s").
			Where("s.user_id = $1::bigint AND "+meets("s", "$2::timestamp", "$3::timestamp")).OrderBy("s.start_dt_utc")),
		askerBusy: compile("CandidatesBusy", squirrel.Select("b.user_id", "b.starts_at", "b.ends_at").From(t.booking+" b").
			Where("b.user_id = $1::bigint AND b.starts_at < $3::timestamp AND b.ends_at > $2::timestamp").OrderBy("b.starts_at")),
		askerMatches: compile("CandidatesMatches", squirrel.Select("CASE WHEN m.user1_id = $1::bigint THEN m.user2_id ELSE m.user1_id END").
			From(t.match+" m").Where(ofActor+" AND NOT (m.status = 'cancelled' AND m.updated_at <= $2::timestamp)")),
		soonest:  soonestCandidates(t),
		mostTime: mostTimeCandidates(t),
	}
}

// Both statements that find candidates take the asker ($1), when the asker is free ($2 to $3), whom to
// leave out ($4), the microseconds below which a window does not count ($5), how many windows ($6) and
// how many people ($7) to return, and behind those where to go on. A slot lasts 24 hours at most, so that
// the slots that meet a window are a narrow range of the index on start.
const (
	others = "s.user_id <> $1::bigint AND s.user_id <> ALL($4::bigint[])"

	pieceStart = "greatest(s.start_dt_utc, f.starts_at)"
	pieceEnd   = "least(s.end_dt_utc, f.ends_at)"
)

// longEnough says that an interval counts.
func longEnough(length string) string {
	return "(" + length + ") >= ($5::bigint * interval '1 microsecond')"
}

// candidatePage returns the people c of page.
func candidatePage(t tables, order ...string) squirrel.SelectBuilder {
	return squirrel.Select("c.user_id", "coalesce(pr.display_name, '')", "coalesce(pr.timezone, '')", "c.first", "c.total",
		"c.starts[1:$6::integer]", "c.ends[1:$6::integer]", "c.start_dt_utc", "c.end_dt_utc").
		From("page c").LeftJoin(t.profile + " pr ON pr.user_id = c.user_id").OrderBy(order...)
}

// askerHorizon is all of the asker's time.
func askerHorizon() with {
	return with{"horizon", squirrel.Select("min(f.starts_at) AS starts_at", "max(f.ends_at) AS ends_at", "range_agg(tsrange(f.starts_at, f.ends_at)) AS free").
		From("free f")}
}

// verified looks up one person at a time, where a join would begin with everyone.
func verified(t tables, user string) string {
	return "(SELECT u.email_verified_at IS NOT NULL FROM " + t.user + " u WHERE u.id = " + user + ")"
}

// sharedWindows is one row w of the windows that a person shares with the asker: what of the person's
// slots, merged, is in the asker's time. Where there is none, first is NULL.
func sharedWindows(t tables, user string, more ...string) string {
	slots := squirrel.Select("range_agg(tsrange(o.start_dt_utc, o.end_dt_utc))").From(t.slot + " o").
		Where("o.user_id = " + user + " AND o.start_dt_utc < o.end_dt_utc AND o.start_dt_utc < (SELECT h.ends_at FROM horizon h)" +
			" AND o.start_dt_utc > ((SELECT h.starts_at FROM horizon h) - interval '24 hours')")
	all := func(bound string) string {
		return "array_agg((extract(epoch FROM " + bound + ") * 1000000)::bigint ORDER BY r)"
	}
	windows := squirrel.Select("min(lower(r)) AS first", all("lower(r)")+" AS starts", all("upper(r)")+" AS ends").Columns(more...).
		From("unnest((" + constant(slots) + ") * (SELECT h.free FROM horizon h)) AS r").Where(longEnough("upper(r) - lower(r)"))
	return "LATERAL (" + constant(windows) + ") w"
}

// totalOf is the sum of intervals in microseconds, each of which a float can hold exactly: 285 years.
func totalOf(interval string) string {
	return "sum(round(date_part('epoch', " + interval + ") * 1000000)::bigint)::bigint AS total"
}

// soonestCandidates reads the slots that meet the asker's windows from the index, in order, and stops
// where the page is full, so that the number of people makes no difference. A person comes with the slot
// with which their first window begins. In each of the asker's windows the list goes on after the slot
// that $8, $9 and $10 say.
func soonestCandidates(t tables) statement {
	order := []string{"c.place", "c.start_dt_utc", "c.end_dt_utc", "c.user_id"}
	// What is quickly seen comes first: most slots that are too short have no other that goes on from them.
	adjacent := squirrel.Select("true").From(t.slot + " o").
		Where("o.user_id = s.user_id AND o.start_dt_utc > s.start_dt_utc AND o.start_dt_utc <= s.end_dt_utc").Limit(1)
	found := squirrel.Select("f.place", "s.start_dt_utc", "s.end_dt_utc", "s.user_id", "w.*").
		From(t.slot+" s").CrossJoin(sharedWindows(t, "s.user_id", totalOf("upper(r) - lower(r)"), "min(lower(r)) = "+pieceStart+" AS begins")).
		Where("(s.start_dt_utc, s.end_dt_utc, s.user_id) > (f.after_start, f.after_end, f.after_user)").
		Where("s.start_dt_utc < f.ends_at AND s.end_dt_utc > f.starts_at").Where(others).
		Where("CASE WHEN "+longEnough(pieceEnd+" - "+pieceStart)+" OR ("+constant(adjacent)+") THEN "+verified(t, "s.user_id")+" END").Where("w.begins").
		OrderBy("s.start_dt_utc", "s.end_dt_utc", "s.user_id").Suffix("LIMIT $7::bigint")
	return compile("CandidatesSoonest", candidatePage(t, order...),
		with{"free", squirrel.Select("*").From(unnest("$2::timestamp[]", "$3::timestamp[]", "$8::timestamp[]", "$9::timestamp[]", "$10::bigint[]") +
			" WITH ORDINALITY AS f (starts_at, ends_at, after_start, after_end, after_user, place)")},
		askerHorizon(),
		// The subquery, which OFFSET keeps apart, comes sorted: so one window is read after the other, and
		// the last ones not at all.
		with{"page", squirrel.Select("c.*").From("(SELECT * FROM free ORDER BY place OFFSET 0) f").
			CrossJoin("LATERAL ("+constant(found)+") c").OrderBy("f.place", order[1], order[2], order[3]).Suffix("LIMIT $7::bigint")})
}

// mostTimeCandidates merges the slots of everyone who shares time with the asker: a piece begins a window
// unless it touches one before it. Only those who come first are looked at further. The list goes on
// after the person $9, who has $8 microseconds.
func mostTimeCandidates(t tables) statement {
	order := []string{"c.total DESC", "c.user_id"}
	return compile("CandidatesMostTime", candidatePage(t, order...),
		with{"free", squirrel.Select("*").From(unnest("$2::timestamp[]", "$3::timestamp[]") + " AS f (starts_at, ends_at)")},
		askerHorizon(),
		with{"piece", squirrel.Select("s.user_id", pieceStart+" AS starts_at", pieceEnd+" AS ends_at").
			From("free f").Join(t.slot + " s ON " + meets("s", "f.starts_at", "f.ends_at")).
			Where(others)},
		with{"marked", squirrel.Select("p.*", "max(p.ends_at) OVER (PARTITION BY p.user_id ORDER BY p.starts_at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) < p.starts_at AS begins").
			From("piece p")},
		with{"numbered", squirrel.Select("m.*", "count(*) FILTER (WHERE m.begins) OVER (PARTITION BY m.user_id ORDER BY m.starts_at ROWS UNBOUNDED PRECEDING) AS number").
			From("marked m")},
		with{"shared", squirrel.Select("n.user_id", "max(n.ends_at) - min(n.starts_at) AS length").From("numbered n").
			GroupBy("n.user_id", "n.number").Having(longEnough("max(n.ends_at) - min(n.starts_at)"))},
		with{"ranked", squirrel.Select("w.user_id", totalOf("w.length")).From("shared w").GroupBy("w.user_id")},
		// OFFSET has people sorted before they are looked up, until the page is full.
		with{"top", squirrel.Select("c.*").From("(SELECT * FROM ranked r WHERE r.total < $8::bigint OR r.total = $8::bigint AND r.user_id > $9::bigint" +
			" ORDER BY r.total DESC, r.user_id OFFSET 0) c").Where(verified(t, "c.user_id")).OrderBy(order...).Suffix("LIMIT $7::bigint")},
		with{"page", squirrel.Select("c.*", "w.*", "w.first AS start_dt_utc", "w.first AS end_dt_utc").
			From("top c").CrossJoin(sharedWindows(t, "c.user_id"))})
}

// ranked is a candidate with its place in the order.
type ranked struct {
	Candidate
	first      time.Time
	total      int64 // microseconds
	start, end int64 // of the slot with which the first window begins, as it is stored, for SoonestFirst
}

func scanRanked(row pgx.CollectableRow) (ranked, error) {
	var r ranked
	var starts, ends []int64
	errRow := scan(row, (*int64)(&r.UserID), &r.DisplayName, &r.Timezone, &r.first, &r.total, &starts, &ends, nil, nil)
	start, _, errStart := rawTimestamp(row, 7)
	end, _, errEnd := rawTimestamp(row, 8)
	if err := errors.Join(errRow, errStart, errEnd); err != nil {
		return r, err
	}
	r.start, r.end = start, end
	r.Total = time.Duration(r.total) * time.Microsecond
	r.Windows = make([]Window, len(starts))
	for i := range starts {
		r.Windows[i] = Window{time.UnixMicro(starts[i]).UTC(), time.UnixMicro(ends[i]).UTC()}
	}
	return r, nil
}

func (q *CandidateQuery) validate() error {
	var errs []error
	if q.AtLeast == 0 {
		q.AtLeast = defaultAtLeast
	}
	if q.MaxWindows == 0 {
		q.MaxWindows = defaultMaxWindows
	}
	if q.AtLeast < 0 {
		errs = append(errs, invalid("at_least", "must not be negative"))
	}
	if q.MaxWindows < 0 || q.MaxWindows > maxMaxWindows {
		errs = append(errs, invalid("max_windows", fmt.Sprintf("must be between 1 and %d, or 0 for %d", maxMaxWindows, defaultMaxWindows)))
	}
	if q.Order != SoonestFirst && q.Order != MostTimeFirst {
		errs = append(errs, invalid("order", "is unknown"))
	}
	return errors.Join(errs...)
}

// candidatePosition is where a list of candidates goes on, with the horizon of its first page, as now
// moves on. For SoonestFirst it is behind the slot from start to end, as they are stored, of a user whose
// first window begins at rank; for MostTimeFirst it is behind a user who has rank microseconds.
type candidatePosition struct{ from, to, rank, start, end, user int64 }

// firstPosition is ahead of everyone.
func firstPosition(order CandidateOrder) candidatePosition {
	if order == MostTimeFirst {
		return candidatePosition{rank: math.MaxInt64}
	}
	return candidatePosition{rank: firstTime.UnixMicro(), start: math.MinInt64, end: math.MinInt64}
}

// args are the position as the last arguments of an order's statement, in which free is the asker's time.
func (c candidatePosition) args(order CandidateOrder, free []Window) []any {
	if order == MostTimeFirst {
		return []any{c.rank, c.user}
	}
	first := time.UnixMicro(c.rank)
	starts, ends, users := make([]pgtype.Timestamp, len(free)), make([]pgtype.Timestamp, len(free)), make([]int64, len(free))
	for i, w := range free {
		switch {
		case !w.End.After(first): // there is nothing left in it
			starts[i], ends[i] = timestamp(w.End), timestamp(w.End)
		case w.Start.After(first): // all is left
			starts[i], ends[i] = timestamp(w.Start.Add(-maxSpan)), timestamp(w.Start)
		default:
			starts[i], _ = listedTime(c.start)
			ends[i], _ = listedTime(c.end)
			users[i] = c.user
		}
	}
	return []any{starts, ends, users}
}

// check refuses a position that a cursor could have only if someone made it up.
func (c candidatePosition) check(order CandidateOrder) error {
	if order == MostTimeFirst {
		return nil
	}
	_, errFirst := cursorTime(c.rank)
	_, errStart := listedTime(c.start)
	_, errEnd := listedTime(c.end)
	return cmp.Or(errFirst, errStart, errEnd)
}

// Candidates implements [MatchStore]. It is two round trips: the first reads the asker's time, and the
// second finds who shares it.
func (p *Postgres) Candidates(ctx context.Context, actor UserID, q CandidateQuery) (Page[Candidate], error) {
	const op = "Candidates"
	none := Page[Candidate]{Items: []Candidate{}}
	now := p.now()
	limit, errLimit := pageLimit(q.Limit)
	errQuery := q.validate()
	key := newListKey(op, actor, q.From.UnixMicro(), q.To.UnixMicro(), q.AtLeast, q.Order)
	at := firstPosition(q.Order)
	later, errCursor := key.decode(q.After, &at.from, &at.to, &at.rank, &at.start, &at.end, &at.user)
	if later {
		errCursor = at.check(q.Order)
		q.From, q.To = time.UnixMicro(at.from), time.UnixMicro(at.to)
	}
	span, errSpan := horizon(q.From, q.To, now, defaultHorizon)
	if err := errors.Join(checkID("actor", actor), errLimit, errQuery, errCursor, errSpan); err != nil {
		return none, opError(op, err)
	}

	free, excluded, err := p.asker(ctx, actor, span, q.AtLeast, now)
	if err != nil || len(free) == 0 {
		return none, err
	}
	find := p.sql.soonest
	if q.Order == MostTimeFirst {
		find = p.sql.mostTime
	}
	starts, ends := windowArrays(free)
	atLeast := q.AtLeast.Microseconds()
	if q.AtLeast%time.Microsecond > 0 {
		atLeast++ // windows are whole microseconds
	}
	args := []any{int64(actor), starts, ends, excluded, atLeast, q.MaxWindows, limit + 1}
	rows, err := queryAll(ctx, p, op, find, scanRanked, append(args, at.args(q.Order, free)...)...)
	if err != nil {
		return none, err
	}
	list := newPage(rows, limit, func(r ranked) Cursor {
		rank := r.first.UnixMicro()
		if q.Order == MostTimeFirst {
			rank = r.total
		}
		return key.encode(span.Start.UnixMicro(), span.End.UnixMicro(), rank, r.start, r.end, int64(r.UserID))
	})
	page := Page[Candidate]{Items: make([]Candidate, len(list.Items)), Next: list.Next}
	for i, r := range list.Items {
		page.Items[i] = r.Candidate
	}
	return page, nil
}

// windowArrays are windows as parameters.
func windowArrays(windows []Window) (starts, ends []pgtype.Timestamp) {
	for _, w := range windows {
		starts, ends = append(starts, timestamp(w.Start)), append(ends, timestamp(w.End))
	}
	return starts, ends
}

// asker returns when the asker is free for long enough, and whom the asker has a match with.
func (p *Postgres) asker(ctx context.Context, actor UserID, span Window, atLeast time.Duration, now time.Time) (free []Window, excluded []int64, err error) {
	var exists bool
	var id int64
	var slots, busy []ownedWindow
	excluded = []int64{} // NULL would exclude everyone
	err = p.send(ctx, "Candidates", func(b *batch) {
		queueOne(b, p.sql.askerExists, pgx.RowTo[int64], &id, &exists, int64(actor))
		args := []any{int64(actor), timestamp(span.Start), timestamp(span.End)}
		queueAll(b, p.sql.askerSlots, scanOwnedWindow, &slots, args...)
		queueAll(b, p.sql.askerBusy, scanOwnedWindow, &busy, args...)
		queueAll(b, p.sql.askerMatches, pgx.RowTo[int64], &excluded, int64(actor), timestamp(now.Add(-max(0, p.config.cooldowns.Cancelled))))
	})
	if err == nil && !exists {
		err = opError("Candidates", ErrNotFound)
	}
	if err != nil {
		return nil, nil, err
	}
	free = subtract(clip(mergeWindows(windowsOf(slots, actor)), span), mergeWindows(windowsOf(busy, actor)))
	return dropShort(free, atLeast), excluded, nil
}
