package schema

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"github.com/soultribe-chat/soultribe"
)

// rule is something that rows can break.
type rule struct {
	name  string
	table string
	text  string   // what is wrong with rows that break it; a phrase that follows the table's name
	since int      // the version whose constraint or index will hold it; 0 when none will
	held  string   // what holds it already when the shape has it; see shape.has
	needs []string // the further tables, or table.columns, without which nothing can break it
	// query returns one array of ids for each violation. {{schema}} is the quoted schema, {{seconds}} the
	// duration of the meetup mt, and {{outside}} says that a row has a time that the library cannot store.
	query string
	// judge, unless it is nil, says which rows of the query break the rule, by their zone and further
	// times in microseconds since 1970: time zones are Go's, not the server's.
	judge func(zone string, times []int64) bool
}

const (
	// maxTime is the last day to which another can be added.
	maxTime = "timestamp '294276-12-30'"

	// firstTime and lastTime bound what the library reads as it is.
	firstTime = "timestamp '0001-01-01'"
	lastTime  = "timestamp '9999-12-31 23:59:59.999999'"
)

var dirtRules = []rule{
	{
		name: "user_email_lower_key", table: "user", since: 2,
		text: "addresses that differ in ASCII case at most",
		query: `
SELECT array_agg(id::bigint ORDER BY id) FROM {{schema}}."user"
WHERE email IS NOT NULL GROUP BY lower(email COLLATE "C") HAVING count(*) > 1`,
	},
	{
		name: "profile_user_id_key", table: "profile", since: 2, held: "unique profile(user_id)",
		text: "more than one profile of a user",
		query: `
SELECT array[user_id::bigint] FROM {{schema}}.profile
WHERE user_id IS NOT NULL GROUP BY user_id HAVING count(*) > 1`,
	},
	{
		name: "availabilityslot_period_check", table: "availabilityslot", since: 2,
		text: "slots that do not end after their start, or more than 24 hours after it",
		query: `
SELECT array[id::bigint] FROM {{schema}}.availabilityslot
WHERE CASE WHEN end_dt_utc <= start_dt_utc OR start_dt_utc > ` + maxTime + ` THEN true
	ELSE end_dt_utc > start_dt_utc + interval '24 hours' END`,
	},
	{
		// Not the pairs, of which there can be very many, but the runs in which each slot starts before
		// one of those before it has ended.
		name: "availabilityslot_no_overlap", table: "availabilityslot", since: 2,
		text: "overlapping slots of a user",
		query: `
SELECT array_agg(id::bigint ORDER BY id) FROM (
	SELECT id, user_id, sum(fresh) OVER (PARTITION BY user_id ORDER BY start_dt_utc, id) AS run FROM (
		SELECT id, user_id, start_dt_utc, CASE WHEN start_dt_utc < max(end_dt_utc) OVER (
			PARTITION BY user_id ORDER BY start_dt_utc, id
			ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) THEN 0 ELSE 1 END AS fresh
		FROM {{schema}}.availabilityslot WHERE end_dt_utc > start_dt_utc AND user_id IS NOT NULL
	) AS slot
) AS slot GROUP BY user_id, run HAVING count(*) > 1`,
	},
	{
		name: "emailverificationtoken_token_key", table: "emailverificationtoken", since: 2,
		held: "unique emailverificationtoken(token)",
		text: "rows with the same token",
		query: `
SELECT array_agg(id::bigint ORDER BY id) FROM {{schema}}.emailverificationtoken
WHERE token IS NOT NULL GROUP BY token HAVING count(*) > 1`,
	},
	{
		name: "passwordresettoken_token_key", table: "passwordresettoken", since: 2,
		held: "unique passwordresettoken(token)",
		text: "rows with the same token",
		query: `
SELECT array_agg(id::bigint ORDER BY id) FROM {{schema}}.passwordresettoken
WHERE token IS NOT NULL GROUP BY token HAVING count(*) > 1`,
	},
	{
		name: "match_not_self_check", table: "match", since: 2,
		text: "matches of a user with themself",
		query: `
SELECT array[id::bigint] FROM {{schema}}.match WHERE user1_id = user2_id`,
	},
	{
		name: "match_pair_key", table: "match", since: 2,
		text: "more than one match of the same two users",
		query: `
SELECT array_agg(id::bigint ORDER BY id) FROM {{schema}}.match
WHERE user1_id IS NOT NULL AND user2_id IS NOT NULL
GROUP BY least(user1_id, user2_id), greatest(user1_id, user2_id) HAVING count(*) > 1`,
	},
	{
		name: "meetup_duration_check", table: "meetup", since: 2, needs: []string{"meetup.duration_seconds"},
		text: "meetups shorter than 15 minutes or longer than 24 hours",
		query: `
SELECT array[id::bigint] FROM {{schema}}.meetup WHERE duration_seconds NOT BETWEEN 900 AND 86400`,
	},
	{
		name: "meetup_live_key", table: "meetup", since: 2,
		text: "more than one proposed or confirmed meetup of a match",
		query: `
SELECT array_agg(id::bigint ORDER BY id) FROM {{schema}}.meetup
WHERE status IN ('proposed', 'confirmed') AND match_id IS NOT NULL GROUP BY match_id HAVING count(*) > 1`,
	},
	{
		name: "soultribe_booking_period_check", table: "meetup", since: 2,
		text: "confirmed meetups at an infinite time",
		query: `
SELECT array[id::bigint] FROM {{schema}}.meetup
WHERE status = 'confirmed' AND (NOT isfinite(scheduled_time) OR scheduled_time > ` + maxTime + `)`,
	},
	{
		// Runs, as for slots. Two meetups of the same two people are one violation, not two.
		name: "soultribe_booking_no_overlap", table: "meetup", since: 2, needs: []string{"match"},
		text: "confirmed meetups of a user that overlap",
		query: `
SELECT DISTINCT array_agg(id::bigint ORDER BY id) FROM (
	SELECT id, user_id, sum(fresh) OVER (PARTITION BY user_id ORDER BY starts_at, id) AS run FROM (
		SELECT id, user_id, starts_at, CASE WHEN starts_at < max(ends_at) OVER (
			PARTITION BY user_id ORDER BY starts_at, id
			ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) THEN 0 ELSE 1 END AS fresh
		FROM (
			SELECT DISTINCT mt.id, person.id AS user_id, date_trunc('second', mt.scheduled_time) AS starts_at,
				CASE WHEN isfinite(mt.scheduled_time) AND mt.scheduled_time < ` + maxTime + `
				THEN date_trunc('second', mt.scheduled_time) + {{seconds}} * interval '1 second' END AS ends_at
			FROM {{schema}}.meetup AS mt
			JOIN {{schema}}.match AS m ON m.id = mt.match_id
			CROSS JOIN LATERAL (VALUES (m.user1_id), (m.user2_id)) AS person (id)
			WHERE mt.status = 'confirmed'
		) AS booking WHERE ends_at > starts_at
	) AS booking
) AS booking GROUP BY user_id, run HAVING count(*) > 1`,
	},
}

// notNullText is what is wrong with a row that breaks a rule made by notNullRules.
const notNullText = "rows without a value where there must be one"

// notNullRules are for the columns that must not be null.
func notNullRules() []rule {
	var all []rule
	for _, t := range tables {
		for _, c := range t.columns {
			if c.null {
				continue
			}
			all = append(all, rule{
				name: t.name + "_" + c.name + "_not_null", table: t.name, since: rules, text: notNullText,
				held: "value " + t.name + "." + c.name, needs: []string{t.name + "." + c.name},
				query: fmt.Sprintf("SELECT array[coalesce(%s, 0)::bigint] FROM {{schema}}.%s WHERE %s IS NULL",
					t.key(), pgx.Identifier{t.name}.Sanitize(), c.name),
			})
		}
	}
	return all
}

// applies reports whether there can be rows that break r.
func (r rule) applies(found *shape) bool {
	for _, need := range append([]string{r.table}, r.needs...) {
		table, column, isColumn := strings.Cut(need, ".")
		if _, ok := found.column(table, column); isColumn && !ok || !found.has("table "+table) {
			return false
		}
	}
	return true
}

// search finds all rows that break the rules of the versions after have, up to target.
func (c config) search(ctx context.Context, tx soultribe.DB, found *shape, have, target int) ([]Violation, error) {
	var all []Violation
	for _, r := range append(notNullRules(), dirtRules...) {
		if r.since <= have || r.since > target || r.held != "" && found.has(r.held) || !r.applies(found) {
			continue
		}
		broken, err := c.find(ctx, tx, r, found)
		if err != nil {
			return nil, err
		}
		all = append(all, broken...)
	}
	return all, nil
}

// find returns the violations of one rule, in order. It keeps no other row.
func (c config) find(ctx context.Context, db soultribe.DB, r rule, found *shape) ([]Violation, error) {
	rows, err := db.Query(ctx, c.ruleQuery(r, found), pgx.QueryExecModeExec)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Violation
	for rows.Next() {
		var ids []zeronull.Int8 // a row may lack its id, too
		var zone string
		var times []int64
		dst := []any{&ids}
		if r.judge != nil {
			dst = append(dst, &zone, &times)
		}
		if err := rows.Scan(dst...); err != nil {
			return nil, err
		}
		if r.judge != nil && !r.judge(zone, times) {
			continue
		}
		v := Violation{Rule: r.name, Table: r.table}
		for _, id := range ids {
			v.IDs = append(v.IDs, int64(id))
		}
		all = append(all, v)
	}
	// Not in SQL, which would sort what judge leaves out, too.
	slices.SortFunc(all, func(a, b Violation) int { return slices.Compare(a.IDs, b.IDs) })
	return all, rows.Err()
}

// ruleQuery fills in the query of r. A duration that meetup_duration_check forbids stays out of its bounds,
// but so near to them that nothing overflows.
func (c config) ruleQuery(r rule, found *shape) string {
	seconds := "3600"
	if _, ok := found.column("meetup", "duration_seconds"); ok {
		seconds = "least(greatest(coalesce(mt.duration_seconds, 3600), 0), 86401)"
	}
	return "-- name: " + r.name + "\n" + strings.NewReplacer(
		"{{schema}}", pgx.Identifier{c.schema}.Sanitize(),
		"{{seconds}}", seconds,
		"{{outside}}", outside(r.table, found),
	).Replace(strings.TrimSpace(r.query))
}

// outside says that a time of a table's is not one that the library can store.
func outside(name string, found *shape) string {
	var all []string
	for _, t := range tables {
		for _, col := range t.columns {
			_, ok := found.column(t.name, col.name)
			if ok && t.name == name && slices.Equal(col.types, stamps) && !strings.HasSuffix(col.name, "_local") {
				all = append(all, col.name+" NOT BETWEEN "+firstTime+" AND "+lastTime)
			}
		}
	}
	return strings.Join(all, " OR ")
}

// describe says what is wrong with rows that break a rule, and names the rule.
func describe(name string) string {
	for _, r := range allRules() {
		if r.name == name {
			return r.text + " (" + name + ")"
		}
	}
	return name
}
