package schema

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// rule is something that rows can break.
type rule struct {
	name  string
	table string
	text  string // what is wrong with rows that break it; a phrase that follows the table's name
	since int    // the version whose constraint or index will hold it
	held  string // what holds it already when the shape has it; see shape.has
	needs string // a further table, or table.column, without which nothing can break it
	// query returns one array of ids for each violation. {{schema}} is the quoted schema, {{seconds}} the
	// duration of the meetup mt.
	query string
}

// maxTime is the last day to which another can be added.
const maxTime = "timestamp '294276-12-30'"

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
		name: "meetup_duration_check", table: "meetup", since: 2, needs: "meetup.duration_seconds",
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
		name: "soultribe_booking_no_overlap", table: "meetup", since: 2, needs: "match",
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

// notNullRules are for the columns that may be null in this database and must not.
func notNullRules(found *shape) []rule {
	var all []rule
	for _, t := range tables {
		for _, c := range t.columns {
			if f, ok := found.column(t.name, c.name); !ok || !f.null || c.null {
				continue
			}
			all = append(all, rule{
				name: t.name + "_" + c.name + "_not_null", table: t.name, since: 2, text: notNullText,
				query: fmt.Sprintf("SELECT array[coalesce(%s, 0)::bigint] FROM {{schema}}.%s WHERE %s IS NULL",
					t.columns[0].name, pgx.Identifier{t.name}.Sanitize(), c.name),
			})
		}
	}
	return all
}

// applies reports whether there can be rows that break r.
func (r rule) applies(found *shape) bool {
	if !found.has("table "+r.table) || r.held != "" && found.has(r.held) {
		return false
	}
	table, column, isColumn := strings.Cut(r.needs, ".")
	switch {
	case isColumn:
		_, ok := found.column(table, column)
		return ok
	case r.needs != "":
		return found.has("table " + r.needs)
	}
	return true
}

// search finds all rows that break the rules of the versions after have, up to target.
func (c config) search(ctx context.Context, tx pgx.Tx, found *shape, have, target int) ([]Violation, error) {
	var all []Violation
	for _, r := range append(notNullRules(found), dirtRules...) {
		if r.since <= have || r.since > target || !r.applies(found) {
			continue
		}
		rows, err := tx.Query(ctx, c.ruleQuery(r, found), pgx.QueryExecModeExec)
		if err != nil {
			return nil, err
		}
		broken, err := pgx.CollectRows(rows, pgx.RowTo[[]int64])
		if err != nil {
			return nil, err
		}
		for _, ids := range broken {
			all = append(all, Violation{Rule: r.name, Table: r.table, IDs: ids})
		}
	}
	return all, nil
}

func (c config) ruleQuery(r rule, found *shape) string {
	seconds := "3600"
	if _, ok := found.column("meetup", "duration_seconds"); ok {
		seconds = "coalesce(mt.duration_seconds, 3600)"
	}
	return strings.NewReplacer(
		"{{schema}}", pgx.Identifier{c.schema}.Sanitize(),
		"{{seconds}}", seconds,
	).Replace(r.query) + "\nORDER BY 1"
}

// ruleText says what is wrong with rows that break a rule.
func ruleText(name string) string {
	for _, r := range dirtRules {
		if r.name == name {
			return r.text
		}
	}
	return notNullText
}
