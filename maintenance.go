package soultribe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// maxBatch bounds the rows that one statement of maintenance changes.
const (
	defaultBatch = 1000
	maxBatch     = 10_000
)

// SettlePolicy says what Settle takes.
type SettlePolicy struct {
	Limit int // at most so many meetups: 1 to 10,000; 0 means 1,000
}

// Settled are the meetups that Settle moved, as they now are.
type Settled struct {
	Cancelled []Meetup `json:"cancelled"` // proposals whose start has come
	Completed []Meetup `json:"completed"` // confirmed meetups that are over
	More      bool     `json:"more"`      // the limit was reached: call again
}

// PurgePolicy says what Purge removes. A zero age leaves the kind alone; a negative one is ErrInvalid.
type PurgePolicy struct {
	Tokens     time.Duration // secrets that were used or expired so long ago
	Slots      time.Duration // slots that ended so long ago
	Meetups    time.Duration // meetups that were completed or cancelled, and took or would have taken place, so long ago
	Unverified time.Duration // accounts made so long ago, never verified, that hold nothing but a profile; see Purge
	// Limit is how many rows of each kind a call removes at most: 1 to 10,000; 0 means 1,000. Accounts and secrets
	// are looked for from the oldest on, and where fewer are left through all of them, so that a large limit is
	// less work for a backlog.
	Limit int
	// DryRun counts what repeated calls with the same policy and clock would remove in all, but for accounts that only
	// rows of the host's kept that went with a slot, a secret or a meetup, by ON DELETE CASCADE or SET NULL. It removes and
	// locks nothing, needs no right to write, and reads the tables whole: Limit plays no part, and More is false.
	DryRun bool
}

// Purged counts the rows that Purge removed. Those that went with an account are among them, and come on top of
// the limit.
type Purged struct {
	EmailVerifications int64 `json:"email_verifications"`
	PasswordResets     int64 `json:"password_resets"`
	Slots              int64 `json:"slots"`
	Meetups            int64 `json:"meetups"`
	Users              int64 `json:"users"`
	More               bool  `json:"more"` // a limit was reached: call again
}

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

// MaintenanceStore is for jobs and health checks. Several at once do not get into each other's way: each
// skips the rows that another has locked.
type MaintenanceStore interface {
	// Settle cancels proposals whose start has come, and completes confirmed meetups that are over. A
	// worker calls it every so often, while More, and notifies the people of what it returns.
	Settle(ctx context.Context, policy SettlePolicy) (Settled, error)
	// Purge removes what is not needed any more, the oldest first. Call it while More. A call removes all of its
	// part or nothing, and the next one goes on from there, whatever became of it.
	//
	// An unverified account stays while it has a secret that still works, a match, a slot that the policy
	// keeps, or anything in the host's tables: whatever its ON DELETE, a foreign key that refers to the account
	// or its profile keeps both. Secrets, slots and meetups stay where such a key would refuse to let them go, or
	// one to the host's rows that would go with them by ON DELETE CASCADE, and so do the owners of those secrets and slots.
	// The role must be allowed to read the tables that have such keys, and where there are any the call is two round trips.
	// It returns an *InUseError (ErrInUse) where a row refers to what would go that the role cannot see, by row security,
	// or that is committed while Purge runs, or where its ON DELETE SET DEFAULT has nothing to refer to; and an error that
	// wraps PostgreSQL's where a trigger or a check of the host's objects to what ON DELETE does to its row.
	Purge(ctx context.Context, policy PurgePolicy) (Purged, error)
	// Stats counts what is stored, in time that does not grow with it. Tables of up to 100,000 rows are counted,
	// and of larger ones up to 100,000 slots ahead, pending matches and live meetups. All else is estimated from what
	// ANALYZE found, and Estimated is true: how many rows there are, by the size of the table now, and how many of
	// them are verified, ahead or of a status, by a sample. Right after ANALYZE that is right to about a hundredth
	// of the table's rows, and misses a status that fewer than one row in some thousands has. Then it lags:
	// autovacuum analyses a table again when a tenth of it has changed, unless it is set otherwise. A large table
	// that was never analysed, or of which row security hides the statistics, is counted.
	Stats(ctx context.Context) (Stats, error)
	// Ready returns nil if the database answers and its schema is the one of SchemaVersion, or a
	// *SchemaError (ErrSchema).
	Ready(ctx context.Context) error
}

// SchemaError is an [ErrSchema] that says which version the database has.
type SchemaError struct {
	Have int // 0 where there is no schema
	Want int
}

// Error implements error.
func (e *SchemaError) Error() string {
	switch {
	case e.Have == 0:
		return fmt.Sprintf("%v: it is missing; package schema makes version %d", ErrSchema, e.Want)
	case e.Have < e.Want:
		return fmt.Sprintf("%v: it is older, version %d of %d; package schema brings it forward", ErrSchema, e.Have, e.Want)
	}
	return fmt.Sprintf("%v: it is newer, version %d, and this library knows %d", ErrSchema, e.Have, e.Want)
}

// Unwrap returns ErrSchema.
func (e *SchemaError) Unwrap() error { return ErrSchema }

type maintenanceStatements struct {
	settle                 statement
	purge                  purgeStatements // where the host has no keys to our tables
	stats, countAll, ready statement
}

func newMaintenanceStatements(t tables) maintenanceStatements {
	return maintenanceStatements{
		settle:   settleAll(t),
		purge:    newPurgeStatements(t, "", nil),
		stats:    stats(t),
		countAll: countAll(t),
		ready:    compile("Ready", squirrel.Select("coalesce(max(version_id), 0)").From(t.version).Where("is_applied")),
	}
}

func settleAll(t tables) statement {
	return compile("Settle", squirrel.Select(meetupColumns).From("settled mt").Join(t.match+" m ON m.id = mt.match_id").OrderBy("mt.scheduled_time", "mt.id"),
		// The status and the start come apart, so that the index of live meetups is found, and read no further than now.
		with{"due", squirrel.Select("mt.id").From(t.meetup+" mt").
			Where("mt.status IN ('proposed', 'confirmed') AND mt.scheduled_time < ($1::timestamp + interval '1 second')").Where(settleable("$1::timestamp")).
			OrderBy("mt.scheduled_time", "mt.id").Suffix("LIMIT $2::bigint FOR NO KEY UPDATE SKIP LOCKED")},
		with{"settled", settle(t, "$1::timestamp").From("due").Where("mt.id = due.id").
			Suffix("RETURNING " + columns("mt", meetupRow))})
}

// purgeStatements are those of Purge where the host has the foreign keys that they were made for. Where it has
// others they do nothing.
type purgeStatements struct {
	made                                  string // see foundKeys
	keys                                  statement
	hold, users                           statement
	verifications, resets, slots, meetups statement
	preview                               statement
}

func newPurgeStatements(t tables, made string, keys []hostKey) purgeStatements {
	r := purgeRules{t, keys}
	oldest := func(name, table, condition, order string) statement {
		return compile(name, squirrel.Delete(table).Where(inOld("id")),
			with{"old", squirrel.Select("x.id").From(table + " x").Where(condition).Where("current_setting('soultribe.keys') = $3::text").
				OrderBy(order).Suffix("LIMIT $2::bigint FOR UPDATE SKIP LOCKED")})
	}
	theirs := func(table string) squirrel.DeleteBuilder {
		return squirrel.Delete(table).Where(inOld("user_id"))
	}
	accounts := squirrel.Select("x.id").From(t.user + " x")
	return purgeStatements{
		made: made,
		// The planner takes the look at each account for so much that it would compile it (JIT), which takes longer
		// than to run it. In a caller's transaction that stays off until its end.
		keys: compile("PurgeKeys", squirrel.Select("set_config('soultribe.keys', k.made, true)", "k.list").From("keys k").Where("set_config('jit', 'off', true) = 'off'"),
			with{"keys", hostKeys()}),
		// Accounts are locked in a statement of its own, before the one that removes them: only a statement
		// that begins with the account locked sees all that its owner did. A setting, which ends with the
		// transaction, hands over the ids in one round trip.
		hold: compile("PurgeHold", squirrel.Select("set_config('soultribe.idle', coalesce(string_agg(old.id::text, ','), ''), true)").From("old"),
			with{"old", accounts.Where(r.account("$1", "$2", "$3")).Where("current_setting('soultribe.keys') = $5::text").
				OrderBy("x.id").Suffix("LIMIT $4::bigint FOR UPDATE SKIP LOCKED")}),
		// From the leaves to the root, whatever the foreign keys cascade.
		users: compile("PurgeUsers", squirrel.Select("(SELECT count(*) FROM users)", "(SELECT count(*) FROM verifications)", "(SELECT count(*) FROM resets)", "(SELECT count(*) FROM slots)"),
			with{"old", accounts.Where("x.id = ANY(string_to_array(current_setting('soultribe.idle'), ',')::bigint[])").Where(r.account("$1", "$2", "$3"))},
			with{"verifications", theirs(t.verification).Suffix("RETURNING id")},
			with{"resets", theirs(t.reset).Suffix("RETURNING id")},
			with{"slots", theirs(t.slot).Suffix("RETURNING id")},
			with{"profiles", theirs(t.profile)},
			with{"users", squirrel.Delete(t.user).Where(inOld("id")).Suffix("RETURNING id")}),
		verifications: oldest("PurgeVerifications", t.verification, r.token("emailverificationtoken", "$1"), "x.id"),
		resets:        oldest("PurgeResets", t.reset, r.token("passwordresettoken", "$1"), "x.id"),
		slots:         oldest("PurgeSlots", t.slot, r.slot("x", "$1"), "x.start_dt_utc"),
		meetups:       oldest("PurgeMeetups", t.meetup, r.meetup("$1"), "x.scheduled_time"),
		preview:       r.preview(),
	}
}

// inOld says that a column has one of the ids of old. IN would have a plan for any values, which does not know the
// limit, read the whole table.
func inOld(column string) string {
	return column + " = ANY((SELECT array_agg(old.id) FROM old)::bigint[])"
}

// foundKeys are the foreign keys of the host's as the database tells them.
type foundKeys struct {
	Made string // the oids of all, "" for none
	List string // JSON of []hostKey
}

func scanFoundKeys(r *rowReader) foundKeys { return foundKeys{r.text(), r.text()} }

// hostKey is a foreign key that refers to what Purge may remove, or to what that takes along by ON DELETE CASCADE. Its
// names are quoted where they need it.
type hostKey struct {
	To       string   `json:"to"`   // of the host's keys, the table of ours that it refers to, by its plain name; else ""
	At       int64    `json:"at"`   // the oid of the table that it refers to
	By       int64    `json:"by"`   // the oid of the table that has it
	From     string   `json:"from"` // the same by its name
	Columns  []string `json:"columns"`
	Refers   []string `json:"refers"`   // to these columns, one each
	Keeps    bool     `json:"keeps"`    // its ON DELETE refuses
	Cascades bool     `json:"cascades"` // its ON DELETE takes the rows along, to which others may refer
}

// hostKeys selects foundKeys, of the tables in schema $1. The library's own keys are not among them, under whatever
// names and however often they are there, but where a row of the host's takes one of ours along.
func hostKeys() squirrel.SelectBuilder {
	columns := func(relation, numbers string) string {
		return "(SELECT json_agg(quote_ident(a.attname) ORDER BY n.place) FROM unnest(" + numbers + ") WITH ORDINALITY AS n (attnum, place)" +
			" JOIN pg_catalog.pg_attribute a ON a.attrelid = " + relation + " AND a.attnum = n.attnum)"
	}
	own := "(s.relnamespace = r.relnamespace AND cardinality(c.conkey) = 1 AND EXISTS (SELECT FROM pg_catalog.pg_attribute a" +
		" WHERE a.attrelid = c.conrelid AND a.attnum = c.conkey[1] AND (s.relname || '.' || a.attname) IN ('profile.user_id', 'availabilityslot.user_id'," +
		" 'emailverificationtoken.user_id', 'passwordresettoken.user_id', 'match.user1_id', 'match.user2_id', 'soultribe_booking.meetup_id')))"
	const relations = " JOIN pg_catalog.pg_class r ON r.oid = c.confrelid JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace" +
		" JOIN pg_catalog.pg_class s ON s.oid = c.conrelid JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace"
	// A column that may not be NULL is not set so.
	const refuses = "(c.confdeltype IN ('a', 'r') OR (c.confdeltype = 'n' AND cardinality(c.conkey) = 1 AND EXISTS (SELECT FROM pg_catalog.pg_attribute a" +
		" WHERE a.attrelid = c.conrelid AND a.attnum = c.conkey[1] AND a.attnotnull)))"
	return squirrel.Select("coalesce(string_agg(c.oid::text, ',' ORDER BY c.oid), '') AS made",
		"coalesce(json_agg(json_build_object('to', CASE WHEN f.host THEN r.relname ELSE '' END, 'at', c.confrelid::bigint, 'by', c.conrelid::bigint,"+
			" 'from', (quote_ident(sn.nspname) || '.' || quote_ident(s.relname)),"+
			" 'columns', "+columns("c.conrelid", "c.conkey")+", 'refers', "+columns("c.confrelid", "c.confkey")+
			", 'keeps', "+refuses+", 'cascades', (c.confdeltype = 'c')) ORDER BY c.oid), '[]')::text AS list").
		// That of a partition is its parent's as well.
		Prefix("WITH RECURSIVE host AS (SELECT c.oid, c.conrelid, c.confdeltype FROM pg_catalog.pg_constraint c" + relations +
			" WHERE c.contype = 'f' AND c.conparentid = 0 AND rn.nspname = $1::text AND NOT " + own +
			" AND r.relname IN ('user', 'profile', 'availabilityslot', 'emailverificationtoken', 'passwordresettoken', 'meetup'))," +
			" reached AS (SELECT host.oid, host.conrelid, host.confdeltype FROM host UNION" +
			" SELECT c.oid, c.conrelid, c.confdeltype FROM pg_catalog.pg_constraint c JOIN reached k ON k.conrelid = c.confrelid" +
			" WHERE c.contype = 'f' AND c.conparentid = 0 AND k.confdeltype = 'c')," +
			" found AS (SELECT reached.oid, EXISTS (SELECT FROM host WHERE host.oid = reached.oid) AS host FROM reached)").
		From("found f").Join("pg_catalog.pg_constraint c ON c.oid = f.oid" + relations)
}

// purgeRules are the conditions under which a row x may go, for the run and the preview alike. Their arguments are
// parameters; nothing is before NULL.
type purgeRules struct {
	t    tables
	keys []hostKey
}

// referred says, of each key of the host's that may refer to row x of a table, that it does, joined by " OR " or
// " AND NOT ", which comes first. anyKey is whether keys that let the row go count.
func (r purgeRules) referred(joint, x, table string, anyKey bool) string {
	var b strings.Builder
	for i, key := range r.keys {
		if key.To != table {
			continue
		}
		if anyKey {
			b.WriteString(joint + key.row("h", x, ""))
		} else if refusal := r.refusal(x, i, nil); refusal != "" {
			b.WriteString(joint + refusal)
		}
	}
	return b.String()
}

// refusal says that a row keeps row x by key i: itself, or because row x would take it along, and another keeps it. It
// is "" where there can be none. passed are the keys that led to x.
func (r purgeRules) refusal(x string, i int, passed []int) string {
	key, h := r.keys[i], fmt.Sprintf("h%d", len(passed))
	switch {
	case key.Keeps:
		return key.row(h, x, "")
	case !key.Cascades:
		return ""
	}
	passed = append(slices.Clone(passed), i)
	var refusals []string
	for j, next := range r.keys {
		if next.At == key.By && !slices.Contains(passed, j) {
			if refusal := r.refusal(h, j, passed); refusal != "" {
				refusals = append(refusals, refusal)
			}
		}
	}
	if refusals == nil {
		return ""
	}
	return key.row(h, x, " AND ("+strings.Join(refusals, " OR ")+")")
}

// row says that there is a row h that refers to row x, and more of it.
func (k hostKey) row(h, x, more string) string {
	var equal []string
	for i, column := range k.Columns {
		equal = append(equal, h+"."+column+" = "+x+"."+k.Refers[i])
	}
	return "EXISTS (SELECT FROM " + k.From + " " + h + " WHERE " + strings.Join(equal, " AND ") + more + ")"
}

func (r purgeRules) token(table, before string) string {
	return "(least(x.used_at, x.expires_at) < " + before + "::timestamp" + r.referred(" AND NOT ", "x", table, false) + ")"
}

// slot compares the start too, which an index finds.
func (r purgeRules) slot(x, before string) string {
	return "(" + x + ".start_dt_utc < " + before + "::timestamp AND " + x + ".end_dt_utc < " + before + "::timestamp" +
		r.referred(" AND NOT ", x, "availabilityslot", false) + ")"
}

// meetup compares the start too, which an index finds.
func (r purgeRules) meetup(before string) string {
	const end = "(least(x.scheduled_time, timestamp '9999-12-31') + (coalesce(x.duration_seconds, 3600) * interval '1 second'))"
	return "(x.status IN ('completed', 'cancelled') AND x.scheduled_time < " + before + "::timestamp AND " + end + " < " + before + "::timestamp" +
		" AND x.updated_at < " + before + "::timestamp" + r.referred(" AND NOT ", "x", "meetup", false) + ")"
}

// account says that x holds nothing. What would be removed from it anyway is nothing, so that it makes no difference
// which goes first.
func (r purgeRules) account(before, now, slots string) string {
	// OFFSET has each account looked up by an index, where a join would read whole tables for every batch.
	none := func(table, condition string) string {
		return " AND NOT EXISTS (SELECT FROM " + table + " o WHERE " + condition + " OFFSET 0)"
	}
	const theirs = "o.user_id = x.id AND "
	kept := func(table string) string {
		return theirs + "(o.used_at IS NULL AND o.expires_at > " + now + "::timestamp" + r.referred(" OR ", "o", table, false) + ")"
	}
	return "(x.email_verified_at IS NULL AND x.created_at < " + before + "::timestamp" + r.referred(" AND NOT ", "x", "user", true) +
		none(r.t.verification, kept("emailverificationtoken")) + none(r.t.reset, kept("passwordresettoken")) +
		none(r.t.slot, theirs+r.slot("o", slots)+" IS NOT TRUE") + none(r.t.profile, theirs+"(false"+r.referred(" OR ", "o", "profile", true)+")") +
		none(r.t.match, "o.user1_id = x.id") + none(r.t.match, "o.user2_id = x.id") + ")"
}

// preview is one statement, and so one snapshot.
func (r purgeRules) preview() statement {
	count := func(from, condition string) string {
		return "CASE WHEN k.made = $7::text THEN (SELECT count(*) FROM " + from + " x WHERE " + condition + ") ELSE 0 END"
	}
	theirs := func(condition string) string { return condition + " OR x.user_id IN (SELECT idle.id FROM idle)" }
	return compile("PurgePreview", squirrel.Select("k.made", "k.list",
		count(r.t.verification, theirs(r.token("emailverificationtoken", "$2"))),
		count(r.t.reset, theirs(r.token("passwordresettoken", "$2"))),
		count(r.t.slot, r.slot("x", "$3")), // those of accounts that go, too
		count(r.t.meetup, r.meetup("$4")),
		count("idle", "true")).From("keys k"),
		with{"keys", hostKeys()},
		with{"idle", squirrel.Select("x.id").From(r.t.user + " x").Where(r.account("$5", "$6", "$3"))})
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

// batchLimit returns a limit with its default.
func batchLimit(limit int) (int, error) {
	switch {
	case limit == 0:
		return defaultBatch, nil
	case limit < 0 || limit > maxBatch:
		return 0, invalid("limit", fmt.Sprintf("must be between 1 and %d, or 0 for %d", maxBatch, defaultBatch))
	}
	return limit, nil
}

// Settle implements [MaintenanceStore].
func (p *Postgres) Settle(ctx context.Context, policy SettlePolicy) (Settled, error) {
	const op = "Settle"
	limit, err := batchLimit(policy.Limit)
	if err != nil {
		return Settled{}, opError(op, err)
	}
	moved, err := queryAll(ctx, p, op, p.sql.settle, scanMeetup, timestamp(p.now()), limit)
	s := Settled{Cancelled: []Meetup{}, Completed: []Meetup{}, More: len(moved) == limit}
	for _, m := range moved {
		if m.Status == MeetupCompleted {
			s.Completed = append(s.Completed, m)
		} else {
			s.Cancelled = append(s.Cancelled, m)
		}
	}
	return s, err
}

// Purge implements [MaintenanceStore].
func (p *Postgres) Purge(ctx context.Context, policy PurgePolicy) (Purged, error) {
	const op = "Purge"
	limit, err := batchLimit(policy.Limit)
	errs := []error{err}
	for _, age := range []struct {
		field string
		age   time.Duration
	}{{"tokens", policy.Tokens}, {"slots", policy.Slots}, {"meetups", policy.Meetups}, {"unverified", policy.Unverified}} {
		if age.age < 0 {
			errs = append(errs, invalid(age.field, "must not be negative"))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Purged{}, opError(op, err)
	}
	purge := p.purge
	if policy.DryRun {
		purge = p.previewPurge
	}
	c, s := newCutoffs(p.now(), policy), p.sql.purge
	for range maxTries {
		purged, keys, err := purge(ctx, op, s, c, limit)
		if err != nil || keys.Made == s.made {
			return purged, err
		}
		// The host has foreign keys that the statements were not made for: they did nothing.
		var list []hostKey
		if err := json.Unmarshal([]byte(keys.List), &list); err != nil {
			return Purged{}, opError(op, err)
		}
		s = newPurgeStatements(newTables(p.config.schema), keys.Made, list)
	}
	return Purged{}, opError(op, ErrRetry)
}

// cutoffs are the times before which what goes is over, made or done. Nothing is before one that is NULL.
type cutoffs struct {
	now, tokens, slots, meetups, unverified pgtype.Timestamp
}

func newCutoffs(now time.Time, policy PurgePolicy) cutoffs {
	before := func(age time.Duration) pgtype.Timestamp {
		if age == 0 {
			return pgtype.Timestamp{}
		}
		return timestamp(now.Add(-age))
	}
	return cutoffs{timestamp(now), before(policy.Tokens), before(policy.Slots), before(policy.Meetups), before(policy.Unverified)}
}

// purge removes a batch of each kind, and returns which foreign keys the host has.
func (p *Postgres) purge(ctx context.Context, op string, s purgeStatements, c cutoffs, limit int) (purged Purged, keys foundKeys, err error) {
	var found bool
	err = p.sendGuarded(ctx, op, func(b *batch) {
		purged = Purged{}
		queueOne(b, s.keys, scanFoundKeys, &keys, &found, p.config.schema)
		// Accounts come first: their rows elsewhere go with them, and another Purge may have locked those,
		// which then skips all else that is locked, and ends.
		if c.unverified.Valid {
			b.exec(s.hold, c.unverified, c.now, c.slots, limit, s.made)
			b.Queue(string(s.users), c.unverified, c.now, c.slots).QueryRow(func(row pgx.Row) error {
				err := row.Scan(&purged.Users, &purged.EmailVerifications, &purged.PasswordResets, &purged.Slots)
				purged.More = purged.Users == int64(limit)
				return err
			})
		}
		for _, kind := range []struct {
			s      statement
			before pgtype.Timestamp
			count  *int64
		}{
			{s.verifications, c.tokens, &purged.EmailVerifications},
			{s.resets, c.tokens, &purged.PasswordResets},
			{s.slots, c.slots, &purged.Slots},
			{s.meetups, c.meetups, &purged.Meetups},
		} {
			if kind.before.Valid {
				b.Queue(string(kind.s), kind.before, limit, s.made).Exec(func(tag pgconn.CommandTag) error {
					*kind.count += tag.RowsAffected()
					purged.More = purged.More || tag.RowsAffected() == int64(limit)
					return nil
				})
			}
		}
	})
	if err != nil {
		return Purged{}, foundKeys{}, err
	}
	return purged, keys, nil
}

// previewPurge counts what purge removes, however many batches that takes.
func (p *Postgres) previewPurge(ctx context.Context, op string, s purgeStatements, c cutoffs, _ int) (purged Purged, keys foundKeys, err error) {
	keys, err = queryOne(ctx, p, op, s.preview, func(r *rowReader) foundKeys {
		keys := scanFoundKeys(r)
		purged = Purged{EmailVerifications: r.integer(), PasswordResets: r.integer(), Slots: r.integer(), Meetups: r.integer(), Users: r.integer()}
		return keys
	}, p.config.schema, c.tokens, c.slots, c.meetups, c.unverified, c.now, s.made)
	return purged, keys, err
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

// Ready implements [MaintenanceStore].
func (p *Postgres) Ready(ctx context.Context) error {
	const op = "Ready"
	version, err := queryOne(ctx, p, op, p.sql.ready, (*rowReader).integer)
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && (pg.Code == "42P01" || pg.Code == "3F000"):
		return opError(op, &SchemaError{Want: SchemaVersion})
	case err != nil:
		return err
	case version != SchemaVersion:
		return opError(op, &SchemaError{Have: int(version), Want: SchemaVersion})
	}
	return nil
}
