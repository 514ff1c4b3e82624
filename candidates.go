package soultribe

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/Masterminds/squirrel"
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
//
// The pages of a SoonestFirst list are of the slots that were there when the first was read: whoever adds slots meanwhile,
// be it the actor, comes once all the same. Slots are new by their ids, so that one that was being added just then, by
// a transaction that had not committed, can keep its person off. What else is changed meanwhile can have somebody come
// twice, or not: a slot that is moved or deleted, if only to be made anew, and a meetup of the actor's that is
// confirmed. In a MostTimeFirst list who gains time meanwhile can be missed, and who loses some come twice.
type CandidateQuery struct {
	From    time.Time     // the zero time means now
	To      time.Time     // the zero time means 14 days after From; 366 days after it at most
	AtLeast time.Duration // shorter windows do not count; 0 means 60 minutes
	Order   CandidateOrder
	// MaxWindows is how many windows to show of each person, 20 at most; 0 means 5. A stranger's
	// calendar is not for handing out.
	MaxWindows int
	// Share is at how many of the people MostTimeFirst looks, rounded up to 64ths; 1 is all. 0 leaves it to
	// the Store: all while the table has up to a million slots, and beyond that as many as have a million. [Page.Covered] tells.
	// Each search of an actor's begins where the one before it ended, so that repeated ones look at everyone in turn.
	Share float64
	// Within ends a search after so long; 0 means it goes on to its end. SoonestFirst then has fewer on the page, or
	// nobody, and the next page goes on from there. MostTimeFirst ends for its first page, at the end of a 64th of the people.
	Within time.Duration
	Limit  int // see [PageQuery]
	After  Cursor
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
	asker, askerAmongAll      statement
	soonest, soonestLater     statement
	mostTime, mostTimeByGroup statement
}

func newCandidateStatements(t tables) candidateStatements {
	asker := []squirrel.SelectBuilder{
		thatExist(t, "u.id = $1::bigint"),
		freeTime(t, "$1::bigint", "$2::timestamp", "$3::timestamp").Where("s.id <= $5::bigint"),
		busyTime(t, "$1::bigint", "$2::timestamp", "$3::timestamp"),
		entriesWithout(isMatched, "CASE WHEN m.user1_id = $1::bigint THEN m.user2_id ELSE m.user1_id END::bigint").
			From(t.match + " m").Where(ofActor + " AND NOT (m.status = 'cancelled' AND m.updated_at <= $4::timestamp)"),
	}
	// As last counted by VACUUM or ANALYZE. Where nothing was counted, as never in a table that is partitioned, a slot takes some 100 bytes.
	all := entriesWithout(slotCount, "CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint"+
		" ELSE (SELECT (sum(pg_relation_size(p.relid)) / 100)::bigint FROM pg_partition_tree(c.oid) p) END").From("pg_catalog.pg_class c").Where("c.oid = " + regclass(t.slot))
	// A later page has it in its cursor.
	newest := entriesWithout(newestSlot, fmt.Sprintf("CASE WHEN $5::bigint < %d THEN $5::bigint ELSE coalesce((SELECT max(s.id) FROM %s s), 0)::bigint END", int64(math.MaxInt64), t.slot))
	return candidateStatements{
		asker:           compile("CandidatesAsker", union(append(slices.Clone(asker), newest)...)),
		askerAmongAll:   compile("CandidatesAskerAmongAll", union(append(asker, all)...)),
		soonest:         soonestCandidates(t, "CandidatesSoonest", false),
		soonestLater:    soonestCandidates(t, "CandidatesSoonestLater", true),
		mostTime:        mostTimeCandidates(t, false),
		mostTimeByGroup: mostTimeCandidates(t, true),
	}
}

// The statements that find candidates take whom to leave out ($1), when the asker is free ($2 to $3), the microseconds below
// which a window does not count ($4), how many windows ($5) and how many people ($6) to return, and behind those where to
// go on. A slot lasts 24 hours at most, so that the slots that meet a window are a narrow range of the index on start.

// unseen hides a parameter from the planner where that would find a plan for its value cheaper than one for any. It would
// then plan a search in each call, which takes as long as a page, instead of once.
func unseen(parameter string) string { return "(SELECT " + parameter + ")" }

// limited has so many people returned at most, unseen too.
const limited = "LIMIT (SELECT $6::bigint)"

// pageOf limits a part of a search. The planner takes a limit that it does not know for a tenth of all rows. That makes a plan so
// costly that it is compiled, for a second (jit_above_cost); so it is told what no limit exceeds.
func pageOf(part squirrel.SelectBuilder) squirrel.SelectBuilder {
	return squirrel.Select("p.*").From("(" + constant(part.Suffix(limited)) + ") p").Limit(maxLimit + 1)
}

// others says that a user is none of those to leave out, which is looked up, where <> ALL would compare with each.
func others(user string) string {
	return "NOT (" + user + " IN (SELECT x.id FROM unnest($1::bigint[]) AS x (id)))"
}

// asInterval makes one of a parameter in microseconds.
func asInterval(parameter string) string { return "(" + parameter + " * interval '1 microsecond')" }

// microseconds is the sum of intervals, each of which, as the sum, a float can hold exactly: 285 years.
func microseconds(interval string) string {
	return "sum(round(date_part('epoch', " + interval + ") * 1000000))::bigint"
}

// candidateColumns are those of the person c of a page, whose profile is pr.
const candidateColumns = "c.user_id, coalesce(pr.display_name, ''), coalesce(pr.timezone, ''), c.first, c.total," +
	" c.starts[1:$5::integer], c.ends[1:$5::integer], c.start_dt_utc, c.end_dt_utc"

// askerHorizon is all of the asker's time.
func askerHorizon() with {
	return with{"horizon", squirrel.Select("min(f.starts_at) AS starts_at", "max(f.ends_at) AS ends_at", "range_agg(tsrange(f.starts_at, f.ends_at)) AS free",
		asInterval("$4::bigint")+" AS at_least").From("free f")}
}

// profileOf is the profile pr of a person. Nobody has two; that it is one at most keeps a plan for any values, to which a page may
// be long, from reading everybody's.
func profileOf(t tables, user string) string {
	return "LATERAL (" + constant(squirrel.Select("pr.display_name", "pr.timezone").From(t.profile+" pr").Where("pr.user_id = "+user).Limit(1)) + ") pr"
}

// verified looks up one person at a time, where a join would begin with everyone.
func verified(t tables, user string) string {
	return "(SELECT u.email_verified_at IS NOT NULL FROM " + t.user + " u WHERE u.id = " + user + ")"
}

// multirange is a person's slots o that fulfil a condition, merged. They are sorted as in freeTime.
func multirange(t tables, user, condition string) string {
	own := squirrel.Select("o.start_dt_utc", "o.end_dt_utc").From(t.slot+" o").Where("o.user_id = "+user+" AND o.start_dt_utc < o.end_dt_utc").
		Where(condition).OrderBy("o.start_dt_utc", "o.id")
	return "(" + constant(squirrel.Select("range_agg(tsrange(o.start_dt_utc, o.end_dt_utc))").From("("+constant(own)+") o")) + ")"
}

// sharedWindows is one row w of the windows that a person shares with the asker: what of the person's slots o that
// fulfil a condition, merged, is in the asker's time. Where there is none, first is NULL.
func sharedWindows(t tables, user, counts string) string {
	slots := multirange(t, user, counts+" AND o.start_dt_utc < (SELECT h.ends_at FROM horizon h)"+
		" AND o.start_dt_utc > ((SELECT h.starts_at FROM horizon h) - interval '24 hours')")
	// What unnest makes of a multirange is in order.
	windows := squirrel.Select("min(lower(r)) AS first", "array_agg(lower(r)) AS starts", "array_agg(upper(r)) AS ends",
		microseconds("upper(r) - lower(r)")+" AS time").
		From("unnest(" + slots + " * (SELECT h.free FROM horizon h)) AS r").Where("(upper(r) - lower(r)) >= (SELECT h.at_least FROM horizon h)")
	return "LATERAL (" + constant(windows) + ") w"
}

// soonestCandidates reads the slots that meet the asker's windows from the index, in order, and stops
// where the page is full, so that the number of people makes no difference. A person comes with the slot
// with which their first window begins.
//
// Each of the asker's windows comes as two rows of $2 and following, of which $7 tells the first. That is for the
// slots that have begun when the window begins, and it goes back in time: who has begun last is found at
// once, while forward all that is over of the 24 hours before would be in the way. The second is for those
// that begin in it. Each goes on behind the slot that $8, $9 and $10 say.
//
// Once $11 microseconds have passed every slot comes, so that the page is full at once. The first one whose last column
// is not true is where the search has ended.
//
// $12 is the last id that a slot had when the asker's time was read for the first page. None counts that is newer. Otherwise
// a slot that is made while somebody pages could have its person be taken for one who has come, or come again. The
// statement for later pages has one more condition: there may be many such slots then, none of which is to be merged.
func soonestCandidates(t tables, name string, later bool) statement {
	counts := "o.id <= " + unseen("$12::bigint")
	const slot = "(s.start_dt_utc, s.end_dt_utc, s.user_id)"
	own := func(columns ...string) squirrel.SelectBuilder {
		return squirrel.Select(columns...).From(t.slot + " o").Where("o.user_id = s.user_id").Where(counts)
	}
	// What is quickly seen comes first: most slots that are too short have no other that goes on from them. All these look
	// for an id, or are sorted by it, which keeps them, too, from everybody's slots.
	adjacent := own("o.id").Where("o.start_dt_utc > s.start_dt_utc AND o.start_dt_utc <= s.end_dt_utc").Limit(1)
	// Of those, what is theirs of the time that it takes adds up to all of it, or it has a gap. Where slots overlap, as the
	// constraint is missing, it may be more.
	goesOn := func(first string) string {
		enough := first + " + f.at_least"
		behind := own("o.start_dt_utc", "o.end_dt_utc").OrderBy("o.start_dt_utc", "o.id").
			Where("o.start_dt_utc < o.end_dt_utc AND o.end_dt_utc > " + first + " AND o.start_dt_utc >= s.start_dt_utc AND o.start_dt_utc < (" + enough + ")")
		sum := squirrel.Select("sum(least(o.end_dt_utc, " + enough + ") - greatest(o.start_dt_utc, " + first + "))").From("(" + constant(behind) + ") o")
		return "(" + constant(adjacent) + ") IS NOT NULL AND (" + enough + ") <= f.ends_at AND (" + constant(sum) + ") >= f.at_least"
	}
	const late = "(clock_timestamp() - statement_timestamp()) >= f.within"
	// Whoever shares a window of the asker's before this one has come with it, and a slot that goes on from one before it, or
	// comes after one that is long enough, does not begin the first window either. To see that before windows are merged keeps
	// one person's many slots from being merged once for each. In the first four windows there is little to be saved by it.
	inWindow := multirange(t, "s.user_id", counts+" AND "+meets("o", "e.starts_at", "e.ends_at"))
	come := squirrel.Select("e.place").From("free e").
		CrossJoin("LATERAL unnest(" + inWindow + " * tsmultirange(tsrange(e.starts_at, e.ends_at))) AS r").
		Where("e.place < f.place AND NOT e.begun AND (upper(r) - lower(r)) >= e.at_least").Limit(1)
	before := own("o.id").Where("o.start_dt_utc < s.start_dt_utc AND o.start_dt_utc > (f.starts_at - interval '24 hours')").
		Where("(o.end_dt_utc >= s.start_dt_utc OR (least(o.end_dt_utc, f.ends_at) - greatest(o.start_dt_utc, f.starts_at)) >= f.at_least)").
		OrderBy("o.start_dt_utc DESC", "o.id DESC").Limit(1)
	leads := "(" + constant(before) + ") IS NULL"
	old := "true"
	if later {
		old = "(" + constant(own("o.id").Where("o.start_dt_utc = s.start_dt_utc AND o.end_dt_utc = s.end_dt_utc").Limit(1)) + ") IS NOT NULL"
	}
	found := func(first, leads, where, direction string, keys ...string) squirrel.SelectBuilder {
		// Of slots that overlap, as the constraint is missing, the person comes with the one that lasts longest.
		longest := own("o.start_dt_utc", "o.end_dt_utc").
			Where("o.start_dt_utc <= "+first+" AND o.start_dt_utc > ("+first+" - interval '24 hours') AND o.end_dt_utc > "+first).
			OrderBy("o.end_dt_utc DESC", "o.start_dt_utc DESC", "o.id DESC").Limit(1)
		begins := squirrel.Select("w.first = " + first + " AND ((SELECT c.apart FROM constrained c) OR (s.start_dt_utc, s.end_dt_utc) = (" + constant(longest) + ")) AS begins").Suffix("OFFSET 0")
		// Outside of CASE the equation would be taken for what hardly a row fulfils, and then it would seem best to sort
		// all of them.
		return squirrel.Select("s.start_dt_utc", "s.end_dt_utc", "s.user_id", keys[0]+" AS key1", keys[1]+" AS key2", keys[2]+" AS key3",
			first+" AS first", "w.starts", "w.ends", "w.time", "b.begins", late+" AS late").
			From(t.slot+" s").CrossJoin(sharedWindows(t, "s.user_id", counts)).CrossJoin("LATERAL ("+constant(begins)+") b").Where(where).Where(others("s.user_id")).
			Where("CASE WHEN ((least(s.end_dt_utc, f.ends_at) - "+first+") >= f.at_least OR "+goesOn(first)+") AND "+old+" AND "+leads+" AND (f.place <= 8 OR ("+constant(come)+") IS NULL) THEN "+verified(t, "s.user_id")+" OR "+late+" ELSE "+late+" END").
			Where("CASE WHEN b.begins THEN true ELSE "+late+" END").
			OrderBy("s.start_dt_utc"+direction, "s.end_dt_utc"+direction, "s.user_id"+direction).Suffix(limited)
	}
	// Where the constraints are missing, one may be infinite.
	const ends = "least(s.end_dt_utc, timestamp '9999-12-31')"
	begun := found("f.starts_at", "true", "f.begun AND "+slot+" < (f.behind_start, f.behind_end, f.behind_user)"+
		" AND s.start_dt_utc > (f.starts_at - interval '24 hours') AND s.end_dt_utc > f.starts_at",
		" DESC", "f.starts_at - s.start_dt_utc", "f.starts_at - "+ends, "(0 - 1) - s.user_id") // as 0 less the smallest id is none
	coming := found("s.start_dt_utc", leads, "NOT f.begun AND "+slot+" > (f.behind_start, f.behind_end, f.behind_user) AND s.start_dt_utc < f.ends_at",
		"", "s.start_dt_utc - f.starts_at", ends+" - f.starts_at", "s.user_id")
	either := pageOf(squirrel.Select("e.*").From("((" + constant(begun) + ") UNION ALL (" + constant(coming) + ")) e"))
	order := []string{"c.place", "c.key1", "c.key2", "c.key3"}
	return compile(name, squirrel.Select(candidateColumns, everyGroup, "NOT c.late OR c.begins AND "+verified(t, "c.user_id")).From("page c").LeftJoin(profileOf(t, "c.user_id")+" ON true").OrderBy(order...),
		with{"free", squirrel.Select("f.*", asInterval("$4::bigint")+" AS at_least", asInterval("$11::bigint")+" AS within").
			From(unnest(unseen("$2::timestamp[]"), unseen("$3::timestamp[]"), unseen("$7::boolean[]"), unseen("$8::timestamp[]"), unseen("$9::timestamp[]"), unseen("$10::bigint[]")) +
				" WITH ORDINALITY AS f (starts_at, ends_at, begun, behind_start, behind_end, behind_user, place)")},
		askerHorizon(),
		with{"constrained", squirrel.Select(slotsApart(t) + " AS apart")},
		// The subquery, which OFFSET keeps apart, comes sorted: so one part is read after the other, and the last
		// ones not at all.
		with{"page", pageOf(squirrel.Select("f.place", "c.*", "c.time AS total").From("(SELECT * FROM free ORDER BY place OFFSET 0) f").
			CrossJoin("LATERAL ("+constant(either)+") c").
			OrderBy("f.place", "c.key1", "c.key2", "c.key3"))})
}

const (
	// candidateGroups is into how many groups people fall, by the last bits of their ids. An index is on this.
	candidateGroups = 64
	everyGroup      = "64"               // as SQL
	inGroup         = "(s.user_id & 63)" // as the index has it
	// fewSlots are so few that MostTimeFirst looks at all people, and fewerSlots that it takes them for one group, which
	// then is small enough for work_mem.
	fewSlots   = 1_000_000
	fewerSlots = 100_000
	// noLimit is longer than a search can be.
	noLimit = 365 * 24 * time.Hour
)

// mostTimeCandidates adds up the time that everyone has in common with the asker, and looks further only at
// those who come first. The list goes on after the person $8, who has $7 microseconds.
//
// By groups it looks at those of $9, one after the other, so that each takes little memory, and at no further one
// once $10 microseconds have passed. The last column is how many it has looked at.
func mostTimeCandidates(t tables, byGroup bool) statement {
	slots := squirrel.Select("s.user_id", "s.start_dt_utc", "s.end_dt_utc").From(t.slot + " s").
		Where(meets("s", "f.starts_at", "f.ends_at")).Where("s.start_dt_utc < s.end_dt_utc")
	name, looked := "CandidatesMostTime", "max("+everyGroup+")" // as if it were by groups
	groups := squirrel.Select("0 AS number", "true AS looked")
	if byGroup {
		name, looked = "CandidatesMostTimeByGroup", "count(DISTINCT f.number) FILTER (WHERE f.looked)"
		// OFFSET has each window's slots looked up in the index. It would otherwise seem best to read all of a group at once.
		slots = slots.Where(inGroup + " = g.number").Suffix("OFFSET 0")
		groups = squirrel.Select("g.number", "l.looked").From("unnest(" + unseen("$9::integer[]") + ") WITH ORDINALITY AS g (number, place)").
			CrossJoin("LATERAL (SELECT g.place = 1 OR (clock_timestamp() - statement_timestamp()) < " + asInterval("$10::bigint") + " AS looked OFFSET 0) l")
	}
	pieces := squirrel.Select("s.user_id", "greatest(s.start_dt_utc, f.starts_at) AS starts_at", "least(s.end_dt_utc, f.ends_at) AS ends_at", "1 << (f.place % 31)::integer AS window_bit").
		From("free f").CrossJoin("LATERAL (" + constant(slots) + ") s").Where("g.looked")
	// Slots are merged where they are adjacent, or overlap as the constraint is missing. Where each piece is long enough, or is
	// the only one in its window, the sum is the same without. So all are added up first, which is quick, and then those for
	// whom it may not be are read again and merged. The bits of two windows may be one, which takes longer and changes nothing.
	lengths := squirrel.Select("p.user_id", "p.window_bit", "round(date_part('epoch', p.ends_at - p.starts_at) * 1000000) AS length").From("(" + constant(pieces) + ") p").Suffix("OFFSET 0")
	summed := squirrel.Select("p.user_id", "(sum(p.length) FILTER (WHERE p.length >= "+unseen("$4::bigint")+"))::bigint AS total",
		"bool_or(p.length < "+unseen("$4::bigint")+") AND sum(p.window_bit) <> bit_or(p.window_bit) OR NOT (SELECT c.apart FROM constrained c) AS merges").
		From("(" + constant(lengths) + ") p").GroupBy("p.user_id")
	// The first condition, which is no row's, keeps the slots from being read where nobody is merged.
	again := squirrel.Select("p.user_id", "range_agg(tsrange(p.starts_at, p.ends_at)) AS windows").From("(" + constant(pieces) + " OFFSET 0) p").
		Join("summed m ON m.user_id = p.user_id AND m.merges").Where("EXISTS (SELECT FROM summed m WHERE m.merges)").GroupBy("p.user_id")
	merged := squirrel.Select(microseconds("upper(r) - lower(r)")).From("unnest(p.windows) AS r").Where("(upper(r) - lower(r)) >= (SELECT h.at_least FROM horizon h)")
	ranked := squirrel.Select("p.user_id", "p.total").Prefix("WITH summed AS (" + constant(summed) + ")").From("summed p").Where("NOT p.merges").
		Suffix("UNION ALL " + constant(squirrel.Select("p.user_id", "("+constant(merged)+")").From("("+constant(again)+") p")) + " OFFSET 0")
	// OFFSET has people sorted before they are looked up, until the page is full.
	sorted := squirrel.Select("r.user_id", "r.total").From("("+constant(ranked)+") r").
		Where("r.total < $7::bigint OR r.total = $7::bigint AND r.user_id > $8::bigint").OrderBy("r.total DESC", "r.user_id").Suffix("OFFSET 0")
	first := squirrel.Select("r.user_id", "r.total").From("("+constant(sorted)+") r").Where(others("r.user_id")).Where(verified(t, "r.user_id")).
		OrderBy("r.total DESC", "r.user_id").Suffix(limited)
	return compile(name, squirrel.Select(candidateColumns, "g.looked", "true").
		From("(SELECT "+looked+" AS looked FROM found f) g").
		LeftJoin("page c ON true").LeftJoin(profileOf(t, "c.user_id")+" ON true").OrderBy("c.total DESC", "c.user_id"),
		with{"free", squirrel.Select("*").From(unnest(unseen("$2::timestamp[]"), unseen("$3::timestamp[]")) + " WITH ORDINALITY AS f (starts_at, ends_at, place)")},
		askerHorizon(),
		with{"constrained", squirrel.Select(slotsApart(t) + " AS apart")},
		with{"found", squirrel.Select("g.number", "g.looked", "c.user_id", "c.total").From("(" + constant(groups) + ") g").
			LeftJoin("LATERAL (" + constant(first) + ") c ON true")},
		with{"page", squirrel.Select("c.user_id", "c.total", "w.*", "w.first AS start_dt_utc", "w.first AS end_dt_utc").
			From("(SELECT f.user_id, f.total FROM found f WHERE f.user_id IS NOT NULL ORDER BY f.total DESC, f.user_id " + limited + ") c").
			CrossJoin(sharedWindows(t, "c.user_id", "true"))})
}

// turns are where the next search for most time begins, for those whose ids have one remainder: if all took turns,
// two who ask alternately could see the same halves for ever.
type turns [256]atomic.Uint64

func newTurns() *turns {
	t := new(turns)
	for i := range t {
		t[i].Store(rand.Uint64N(candidateGroups)) //nolint:gosec // not a secret
	}
	return t
}

func (t *turns) of(user UserID) *atomic.Uint64 {
	return &t[uint64(user)%uint64(len(t))] //nolint:gosec // a remainder is meant
}

// ranked is a candidate with its place in the order.
type ranked struct {
	Candidate
	first      time.Time
	total      int64 // microseconds
	start, end int64 // of the slot with which the first window begins, as it is stored, for SoonestFirst
	looked     int64 // at how many groups of people
	counts     bool  // else the search ended here
}

// scanRanked reads a candidate. Without one the row still tells at how many groups the search has looked.
func scanRanked(r *rowReader) ranked {
	c := ranked{Candidate: Candidate{UserID: UserID(r.integer()), DisplayName: r.text(), Timezone: r.text()}, first: r.time(), total: r.integer()}
	c.Total = time.Duration(c.total) * time.Microsecond
	starts, ends := r.times(), r.times()
	c.start, c.end, c.looked, c.counts = r.micros(), r.micros(), r.integer(), r.boolean()
	c.Windows = make([]Window, min(len(starts), len(ends)))
	for i := range c.Windows {
		c.Windows[i] = Window{starts[i], ends[i]}
	}
	return c
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
	if !(q.Share >= 0 && q.Share <= 1) || q.Share > 0 && q.Order == SoonestFirst {
		errs = append(errs, invalid("share", "must be between 0 and 1, and 0 for SoonestFirst"))
	}
	if q.Within < 0 {
		errs = append(errs, invalid("within", "must not be negative"))
	}
	return errors.Join(errs...)
}

// candidatePosition is where a list of candidates goes on, with the horizon of its first page, as now
// moves on. For SoonestFirst it is behind the slot from start to end, as they are stored, of a user whose
// first window begins at rank, and newest is the last id of a slot at the first page; for MostTimeFirst it is behind a
// user who has rank microseconds, and start and end are the first group of people, and the number of groups, of which the
// list consists. Newest is the largest number where all slots count.
type candidatePosition struct{ from, to, rank, start, end, user, newest int64 }

// firstPosition is ahead of everyone.
func firstPosition(order CandidateOrder) candidatePosition {
	if order == MostTimeFirst {
		return candidatePosition{rank: math.MaxInt64, newest: math.MaxInt64}
	}
	return candidatePosition{rank: firstTime.UnixMicro(), start: math.MinInt64, end: math.MinInt64, newest: math.MaxInt64}
}

// after says where SoonestFirst goes on in each of the asker's windows, twice, as its statement takes them.
func (c candidatePosition) after(free []Window) (windows, behind []any) {
	first := time.UnixMicro(c.rank)
	cursorStart, _ := listedTime(c.start)
	cursorEnd, _ := listedTime(c.end)
	past, future := pgtype.Timestamp{InfinityModifier: pgtype.NegativeInfinity, Valid: true}, pgtype.Timestamp{InfinityModifier: pgtype.Infinity, Valid: true}
	var starts, ends, keyStarts, keyEnds []pgtype.Timestamp
	var begun []bool
	var users []int64
	part := func(w Window, isBegun bool, keyStart, keyEnd pgtype.Timestamp, user int64) {
		starts, ends, begun = append(starts, timestamp(w.Start)), append(ends, timestamp(w.End)), append(begun, isBegun)
		keyStarts, keyEnds, users = append(keyStarts, keyStart), append(keyEnds, keyEnd), append(users, user)
	}
	for _, w := range free {
		// The bounds are as tight as can be, as the index is read from there on.
		start := timestamp(w.Start)
		switch {
		case !w.End.After(first): // there is nothing left in it
			part(w, true, past, past, 0)
			part(w, false, future, future, 0)
		case w.Start.Before(first): // the cursor's slot begins in it
			part(w, true, past, past, 0)
			part(w, false, cursorStart, cursorEnd, c.user)
		case w.Start.Equal(first): // the cursor's slot had begun
			part(w, true, cursorStart, cursorEnd, c.user)
			part(w, false, start, future, 0)
		default: // all is left
			part(w, true, start, future, 0)
			part(w, false, start, future, 0)
		}
	}
	return []any{starts, ends}, []any{begun, keyStarts, keyEnds, users}
}

// check refuses a position that a cursor could have only if someone made it up.
func (c candidatePosition) check(order CandidateOrder) error {
	if order == MostTimeFirst {
		if c.start < 0 || c.start >= candidateGroups || c.end < 1 || c.end > candidateGroups {
			return errBadCursor
		}
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
	key := newListKey(op, actor, q.From.UnixMicro(), q.To.UnixMicro(), q.AtLeast, q.Order, q.Share)
	at := firstPosition(q.Order)
	position := []*int64{&at.from, &at.to, &at.rank, &at.start, &at.end, &at.user}
	if q.Order == SoonestFirst {
		position = append(position, &at.newest)
	}
	later, errCursor := key.decode(q.After, position...)
	if later {
		errCursor = at.check(q.Order)
		q.From, q.To = time.UnixMicro(at.from), time.UnixMicro(at.to)
	}
	span, errSpan := horizon(q.From, q.To, now, defaultHorizon)
	if err := errors.Join(checkID("actor", actor), errLimit, errQuery, errCursor, errSpan); err != nil {
		return none, opError(op, err)
	}
	a, err := p.asker(ctx, actor, span, q, at.newest, now)
	if err != nil || len(a.free) == 0 {
		return none, err
	}
	var rows []ranked
	if q.Order == MostTimeFirst {
		rows, err = p.mostTime(ctx, a, q, &at, limit+1)
	} else {
		rows, err = p.soonest(ctx, a, q, at, later, limit+1)
	}
	if err != nil {
		return none, err
	}
	cursor := func(r ranked) Cursor {
		if q.Order == MostTimeFirst {
			return key.encode(span.Start.UnixMicro(), span.End.UnixMicro(), r.total, at.start, at.end, int64(r.UserID))
		}
		return key.encode(span.Start.UnixMicro(), span.End.UnixMicro(), r.first.UnixMicro(), r.start, r.end, int64(r.UserID), a.newest)
	}
	var ended Cursor // where the search did, for want of time
	if i := slices.IndexFunc(rows, func(r ranked) bool { return !r.counts }); i >= 0 {
		rows, ended = rows[:i], cursor(rows[i])
	}
	list := newPage(rows, limit, cursor)
	list.Next = cmp.Or(list.Next, ended)
	// Where the constraint is missing, somebody may have a slot twice.
	list.Items = slices.CompactFunc(list.Items, func(a, b ranked) bool { return a.UserID == b.UserID })
	page := Page[Candidate]{Items: make([]Candidate, len(list.Items)), Next: list.Next}
	if q.Order == MostTimeFirst {
		page.Covered = float64(at.end) / candidateGroups
	}
	for i, r := range list.Items {
		page.Items[i] = r.Candidate
	}
	return page, nil
}

// soonest finds so many people at most.
func (p *Postgres) soonest(ctx context.Context, a asker, q CandidateQuery, at candidatePosition, later bool, limit int) ([]ranked, error) {
	windows, behind := at.after(a.free)
	args := slices.Concat([]any{a.leftOut}, windows, []any{q.microseconds(), q.MaxWindows, limit}, behind, []any{q.within().Microseconds(), a.newest})
	find := p.sql.soonest
	if later {
		find = p.sql.soonestLater
	}
	return queryAll(ctx, p, "Candidates", find, scanRanked, args...)
}

// mostTime finds so many people at most, and has at say which groups of people the list is of.
func (p *Postgres) mostTime(ctx context.Context, a asker, q CandidateQuery, at *candidatePosition, limit int) ([]ranked, error) {
	within, turn := noLimit, p.turns.of(a.user)
	isFirst := at.end == 0
	if isFirst {
		at.end, at.start, within = q.groups(a.allSlots), int64(turn.Load()%candidateGroups), q.within()
	}
	starts, ends := windowArrays(a.free)
	args := []any{a.leftOut, starts, ends, q.microseconds(), q.MaxWindows, limit, at.rank, at.user}
	find := p.sql.mostTime
	if at.end < candidateGroups || within < noLimit || a.allSlots > fewerSlots {
		groups := make([]int32, at.end)
		for i := range groups {
			groups[i] = int32((at.start + int64(i)) % candidateGroups)
		}
		find, args = p.sql.mostTimeByGroup, append(args, groups, within.Microseconds())
	}
	rows, err := queryAll(ctx, p, "Candidates", find, scanRanked, args...)
	if err != nil {
		return nil, err
	}
	at.end = rows[0].looked
	if isFirst {
		turn.Add(uint64(at.end))
	}
	if rows[0].UserID == 0 { // it is there for that alone
		rows = rows[:0]
	}
	return rows, nil
}

// groups is at how many groups of people to look when there are so many slots.
func (q CandidateQuery) groups(slots int64) int64 {
	switch {
	case q.Share > 0:
		return int64(math.Ceil(q.Share * candidateGroups))
	case slots <= fewSlots:
		return candidateGroups
	}
	return max(1, candidateGroups*fewSlots/slots)
}

// within is how long the search may take.
func (q CandidateQuery) within() time.Duration {
	if q.Within == 0 {
		return noLimit
	}
	return min(q.Within, noLimit)
}

// microseconds is AtLeast in whole ones, as windows are.
func (q CandidateQuery) microseconds() int64 {
	us := q.AtLeast.Microseconds()
	if q.AtLeast%time.Microsecond > 0 {
		us++
	}
	return us
}

// windowArrays are windows as parameters.
func windowArrays(windows []Window) (starts, ends []pgtype.Timestamp) {
	for _, w := range windows {
		starts, ends = append(starts, timestamp(w.Start)), append(ends, timestamp(w.End))
	}
	return starts, ends
}

// asker is one who looks for candidates.
type asker struct {
	user     UserID
	free     []Window // for long enough
	leftOut  []int64  // the asker, and whom the asker is matched with
	allSlots int64    // of all people, as last counted by VACUUM or ANALYZE; for MostTimeFirst only
	newest   int64    // the last id of a slot when the first page was read; for SoonestFirst only
}

func (p *Postgres) asker(ctx context.Context, actor UserID, span Window, q CandidateQuery, newest int64, now time.Time) (asker, error) {
	const op = "Candidates"
	s := p.sql.asker
	if q.Order == MostTimeFirst {
		s = p.sql.askerAmongAll
	}
	known, err := queryAll(ctx, p, op, s, scanEntry, int64(actor), timestamp(span.Start), timestamp(span.End),
		timestamp(now.Add(-max(0, p.config.cooldowns.Cancelled))), newest)
	switch {
	case err != nil:
		return asker{}, err
	case countOf(known, isThere) == 0:
		return asker{}, opError(op, ErrNotFound)
	}
	a := asker{user: actor, leftOut: []int64{int64(actor)}}
	for _, e := range known {
		switch e.kind {
		case isMatched:
			a.leftOut = append(a.leftOut, e.id)
		case slotCount:
			a.allSlots = e.id
		case newestSlot:
			a.newest = e.id
		}
	}
	free, busy := mergeWindows(windowsOf(known, isFree, actor)), mergeWindows(windowsOf(known, isBusy, actor))
	a.free = dropShort(subtract(clip(free, span), busy), q.AtLeast)
	return a, nil
}
