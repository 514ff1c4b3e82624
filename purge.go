package soultribe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

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
