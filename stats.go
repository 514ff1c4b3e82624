package soultribe

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/Masterminds/squirrel"
)

// Stats counts what is stored, as of one instant.
type Stats struct {
	Users         int64                  `json:"users"`
	Verified      int64                  `json:"verified"`
	SlotsAhead    int64                  `json:"slots_ahead"` // that end after now
	Matches       map[MatchStatus]int64  `json:"matches"`
	Meetups       map[MeetupStatus]int64 `json:"meetups"`
	DatabaseBytes int64                  `json:"database_bytes"` // of the whole database
	Estimated     bool                   `json:"estimated"`      // some of the numbers are; see MaintenanceStore.Stats
}

// exactRows is how many rows of a table Stats counts.
const exactRows = 100_000

// stats is one statement, and so one snapshot: rows of kind, status, number, and whether that is an estimate. It counts
// no more than exactRows, where one more tells that there are more: also for the planner, which would else think it
// worth to compile a statement that looks as if it read whole tables, and that alone takes a second.
//
// large are the tables of more rows, by the planner's own estimate: the rows that a page had when the table was
// analysed, and its size now. What is live or ahead in large ones is still counted, by an index.
func stats(t tables) statement {
	const counts = `
SELECT 'users' AS kind, '' AS status, coalesce(l.rows::bigint, u.number) AS number, l.rows IS NOT NULL AS estimated
	FROM some_users u LEFT JOIN large l ON l.name = 'user'
UNION ALL SELECT 'verified', '', coalesce((l.rows * (1 - l.nulls))::bigint, u.verified), l.rows IS NOT NULL
	FROM some_users u LEFT JOIN large l ON l.name = 'user'
UNION ALL SELECT 'slots_ahead', '', CASE WHEN a.number > {most} THEN greatest(e.number, a.number) ELSE a.number END, a.number > {most} AND e.number IS NOT NULL
	FROM some_ahead a LEFT JOIN ahead_estimate e ON true
UNION ALL SELECT 'match', x.status, count(*), false FROM (SELECT x.status FROM {match} x WHERE NOT {large match} LIMIT {most} + 1) x GROUP BY x.status
UNION ALL SELECT 'match', 'pending', x.number, false FROM some_pending x WHERE x.number > 0 AND {few pending}
UNION ALL SELECT 'match', e.status, e.number, true FROM estimate e WHERE e.name = 'match' AND NOT (e.status = 'pending' AND {few pending})
UNION ALL SELECT 'meetup', x.status, count(*), false FROM (SELECT x.status FROM {meetup} x WHERE NOT {large meetup} LIMIT {most} + 1) x GROUP BY x.status
UNION ALL SELECT 'meetup', x.status, x.number, false FROM some_live x WHERE {few live}
UNION ALL SELECT 'meetup', e.status, e.number, true FROM estimate e WHERE e.name = 'meetup' AND NOT (e.status IN ('proposed', 'confirmed') AND {few live})
UNION ALL SELECT 'bytes', '', pg_database_size(current_database()), false`
	const large = `
SELECT c.relname AS name, size.rows, s.null_frac AS nulls, s.most_common_vals::text::text[] AS common, s.most_common_freqs AS shares,
	s.histogram_bounds::text::text[] AS bounds
FROM pg_catalog.pg_stats s
JOIN pg_catalog.pg_namespace n ON n.nspname = s.schemaname
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename
CROSS JOIN LATERAL (SELECT CASE WHEN c.reltuples > 0 AND c.relpages > 0
	THEN c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::bigint) END AS rows) size
WHERE s.schemaname = $2::text AND NOT s.inherited AND size.rows > {most} AND (
	(s.tablename || '.' || s.attname) IN ('user.email_verified_at', 'availabilityslot.end_dt_utc') OR
	(s.tablename || '.' || s.attname) IN ('match.status', 'meetup.status') AND s.most_common_vals IS NOT NULL)`
	const estimate = `
SELECT l.name, v.status, (l.rows * v.share)::bigint AS number
FROM large l CROSS JOIN LATERAL ROWS FROM (unnest(l.common), unnest(l.shares)) AS v (status, share)
WHERE l.name IN ('match', 'meetup')`
	// The bounds part what is not common into equal shares. Of the one that now is in, as much is ahead as of its time.
	const aheadEstimate = `
SELECT (l.rows * (common.ahead + ((1 - common.shares) * coalesce(rest.ahead, 0))))::bigint AS number
FROM large l
CROSS JOIN LATERAL (SELECT coalesce(sum(v.share), 0) AS shares, coalesce(sum(v.share) FILTER (WHERE v.ends::timestamp > $1::timestamp), 0) AS ahead
	FROM ROWS FROM (unnest(l.common), unnest(l.shares)) AS v (ends, share)) common
CROSS JOIN LATERAL (SELECT avg(CASE WHEN b.low >= $1::timestamp THEN 1 WHEN b.high <= $1::timestamp THEN 0
		ELSE extract(epoch FROM (b.high - $1::timestamp)) / extract(epoch FROM (b.high - b.low)) END) AS ahead
	FROM (SELECT f.at AS low, lead(f.at) OVER (ORDER BY f.at) AS high
		FROM unnest(l.bounds) AS v (ends)
		CROSS JOIN LATERAL (SELECT greatest(least(v.ends::timestamp, timestamp '9999-12-31'), timestamp '0001-01-01') AS at) f) b
	WHERE b.high IS NOT NULL) rest
WHERE l.name = 'availabilityslot'`
	isLarge := func(table string) string { return "EXISTS (SELECT FROM large l WHERE l.name = '" + table + "')" }
	few := func(counted string) string {
		return fmt.Sprintf("(SELECT coalesce(sum(c.number), 0) FROM %s c) <= %d", counted, exactRows)
	}
	fill := strings.NewReplacer("{user}", t.user, "{slot}", t.slot, "{match}", t.match, "{meetup}", t.meetup, "{most}", strconv.Itoa(exactRows),
		"{large user}", isLarge("user"), "{large match}", isLarge("match"), "{large meetup}", isLarge("meetup"),
		"{few pending}", few("some_pending"), "{few live}", few("some_live"), "{ahead}", slotAhead)
	filled := func(text string) squirrel.Sqlizer { return squirrel.Expr(fill.Replace(text)) }
	return compile("Stats", filled(counts),
		with{"large", filled(large)},
		with{"estimate", filled(estimate)},
		with{"ahead_estimate", filled(aheadEstimate)},
		with{"some_users", filled("SELECT count(*) AS number, count(u.email_verified_at) AS verified FROM (SELECT u.email_verified_at FROM {user} u WHERE NOT {large user} LIMIT {most} + 1) u")},
		// In this order, so that the index is read.
		with{"some_ahead", filled("SELECT count(*) AS number FROM (SELECT FROM {slot} s WHERE {ahead} ORDER BY s.start_dt_utc LIMIT {most} + 1) x")},
		with{"some_pending", filled("SELECT count(*) AS number FROM (SELECT FROM {match} x WHERE x.status = 'pending' AND {large match} LIMIT {most} + 1) x")},
		with{"some_live", filled("SELECT x.status, count(*) AS number FROM (SELECT x.status FROM {meetup} x" +
			" WHERE x.status IN ('proposed', 'confirmed') AND {large meetup} LIMIT {most} + 1) x GROUP BY x.status")})
}

// slotAhead says that slot s ends after $1.
const slotAhead = "s.start_dt_utc > ($1::timestamp - interval '24 hours') AND s.end_dt_utc > $1::timestamp"

// countAll is stats without estimates. It reads the tables whole.
func countAll(t tables) statement {
	count := func(kind, from string) string {
		return "SELECT '" + kind + "' AS kind, '' AS status, count(*) AS number, false FROM " + from
	}
	byStatus := func(kind, table string) string {
		return "SELECT '" + kind + "', x.status, count(*), false FROM " + table + " x GROUP BY x.status"
	}
	return compile("StatsAll", squirrel.Expr(count("users", t.user)+
		" UNION ALL "+count("verified", t.user+" u WHERE u.email_verified_at IS NOT NULL")+
		" UNION ALL "+count("slots_ahead", t.slot+" s WHERE "+slotAhead)+
		" UNION ALL "+byStatus("match", t.match)+
		" UNION ALL "+byStatus("meetup", t.meetup)+
		" UNION ALL SELECT 'bytes', '', pg_database_size(current_database()), false"))
}

// Stats implements [MaintenanceStore].
func (p *Postgres) Stats(ctx context.Context) (Stats, error) {
	now := timestamp(p.now())
	s, err := p.stats(ctx, p.sql.stats, now, p.config.schema)
	if err == nil && s.unknown() {
		s, err = p.stats(ctx, p.sql.countAll, now)
	}
	return s.Stats, err
}

// foundStats are Stats and how many rows of each kind were counted for them.
type foundStats struct {
	Stats
	counted map[string]int64
}

// unknown tells whether a table has more rows than were counted, and nothing by which to estimate them.
func (s foundStats) unknown() bool {
	for kind, number := range s.counted {
		if kind != "bytes" && number > exactRows {
			return true
		}
	}
	return false
}

func (p *Postgres) stats(ctx context.Context, statement statement, args ...any) (foundStats, error) {
	type count struct {
		kind, status string
		number       int64
		estimated    bool
	}
	counts, err := queryAll(ctx, p, "Stats", statement, func(r *rowReader) count {
		return count{r.text(), r.text(), r.integer(), r.boolean()}
	}, args...)
	s := foundStats{Stats{Matches: map[MatchStatus]int64{}, Meetups: map[MeetupStatus]int64{}}, map[string]int64{}}
	for _, c := range counts {
		if c.estimated {
			s.Estimated = true
		} else {
			s.counted[c.kind] += c.number
		}
		switch c.kind {
		case "users":
			s.Users = c.number
		case "verified":
			s.Verified = c.number
		case "slots_ahead":
			s.SlotsAhead = c.number
		case "match":
			s.Matches[MatchStatus(c.status)] = c.number
		case "meetup":
			s.Meetups[MeetupStatus(c.status)] = c.number
		case "bytes":
			s.DatabaseBytes = c.number
		}
	}
	return s, err
}
