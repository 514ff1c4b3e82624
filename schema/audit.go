package schema

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/soultribe-chat/soultribe"
)

// Rule is something that rows can break.
type Rule struct {
	Name  string // of the constraint or index that holds it, where there is one; fixed
	Table string
	Text  string // what is wrong with rows that break it; a phrase that follows the table's name
}

// Rules returns all rules, in the order in which [Audit] reports what breaks them.
func Rules() []Rule {
	var all []Rule
	for _, r := range allRules() {
		all = append(all, Rule{r.name, r.table, r.text})
	}
	return all
}

// auditable are the settings of an audit. Rows that a policy hides are an error rather than overlooked.
const auditable = readable + `;
SET LOCAL row_security = off;
SET LOCAL transaction_read_only = on`

// Audit searches all rows for those that break a rule of the library's: those that constraints hold, which
// may have been dropped, or not validated, or not restored, and those that no constraint can say. [Rules]
// has them all. It returns what it found by rule, and nothing where there is nothing.
//
// It reads a database that [Migrate] has not taken over yet as well; rules about what that one lacks then
// do not apply.
//
// It only reads, in a transaction of one snapshot that it rolls back. Where db is in a transaction already,
// it reads in a savepoint with the snapshots that this one has: one in REPEATABLE READ, and in READ
// COMMITTED one a rule, so that rows which change meanwhile may be reported in error. It keeps no rows but
// those that it reports. Like any query, it has ACCESS SHARE locks until it ends, which no writer notices,
// but which Migrate waits for; ctx and the session's statement_timeout end it.
//
// Zones and local times are judged by the time-zone data that this process stores slots by. After a change of
// that data, slots that were stored before it may be reported.
//
// It returns
//   - a [MismatchError], when the database is newer than the library, has none of the tables, or lacks a
//     column of the contract, or has one of another type;
//   - [soultribe.ErrInvalid] for a nil db or an option that cannot be;
//   - PostgreSQL's error (*pgconn.PgError, SQLSTATE 42501), when a policy would hide rows from this role.
func Audit(ctx context.Context, db soultribe.DB, opts ...Option) ([]Violation, error) {
	c, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	var found []Violation
	err = c.reading(ctx, db, "audit", auditable, func(tx soultribe.DB) error {
		found, err = c.audit(ctx, tx)
		return err
	})
	if mismatch, ok := errors.AsType[*MismatchError](err); ok {
		return nil, mismatch
	}
	if err != nil {
		return nil, err
	}
	return found, nil
}

func (c config) audit(ctx context.Context, tx soultribe.DB) ([]Violation, error) {
	state, err := c.status(ctx, tx)
	if err != nil {
		return nil, err
	}
	if err := c.known(state.Version); err != nil {
		return nil, err
	}
	found, err := c.inspect(ctx, tx)
	if err != nil {
		return nil, err
	}
	mismatch := &MismatchError{Schema: c.schema, Have: state.Version, Want: state.Latest, Missing: found.missing()}
	// Not what later versions add: the rules about that are then left out.
	mismatch.Differences = found.unreadable(min(state.Version, contract))
	if mismatch.Missing || len(mismatch.Differences) > 0 {
		return nil, mismatch
	}
	var all []Violation
	for _, r := range allRules() {
		if !r.applies(found) {
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

// allRules are those of the constraints, and those that nothing but an audit finds.
var allRules = sync.OnceValue(func() []rule {
	return slices.Concat(notNullRules(), dirtRules, orphanRules(), timeRules(), auditRules)
})

// orphanRules are for rows that refer to one that is gone. The foreign keys may be missing, or not
// validated. A booking's are those of its meetup.
func orphanRules() []rule {
	var all []rule
	for _, key := range []struct{ table, column, parent, text string }{
		{"profile", "user_id", "user", "profiles of a user who is not there"},
		{"availabilityslot", "user_id", "user", "slots of a user who is not there"},
		{"emailverificationtoken", "user_id", "user", "tokens of a user who is not there"},
		{"passwordresettoken", "user_id", "user", "tokens of a user who is not there"},
		{"match", "user1_id", "user", "matches that a user asked for who is not there"},
		{"match", "user2_id", "user", "matches with a user who is not there"},
		{"meetup", "match_id", "match", "meetups of a match that is not there"},
	} {
		all = append(all, rule{
			name: key.table + "_" + key.column + "_fkey", table: key.table, text: key.text, needs: []string{key.parent},
			query: fmt.Sprintf("SELECT array[x.%s::bigint] FROM {{schema}}.%s AS x\nWHERE x.%s IS NOT NULL AND NOT EXISTS (SELECT FROM {{schema}}.%s AS p WHERE p.id = x.%[3]s)",
				table{name: key.table}.key(), pgx.Identifier{key.table}.Sanitize(), key.column, pgx.Identifier{key.parent}.Sanitize()),
		})
	}
	return all
}

// timeRules are for times that the library reads as the nearest that JSON can show. Local times it never
// reads, and bookings go by their meetup: those have rules of their own.
func timeRules() []rule {
	var all []rule
	for _, t := range tables {
		if t.since == contract {
			all = append(all, rule{
				name: t.name + "_time_check", table: t.name, text: "times that are infinite or outside the years 1 to 9999",
				query: fmt.Sprintf("SELECT array[%s::bigint] FROM {{schema}}.%s WHERE {{outside}}", t.key(), pgx.Identifier{t.name}.Sanitize()),
			})
		}
	}
	return all
}

const (
	// space are the characters that the library trims from an address before it looks for it.
	space = `[\u0009-\u000D\u0020\u0085\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000]`

	// base64Text is canonical, as the library writes and compares it: the bits that are left over are 0.
	base64Text = `(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048])?`

	// storedHash is the form of a password hash. It has no group that is captured, which would take PostgreSQL
	// twenty times as long.
	storedHash = `^\$argon2id\$v=19\$m=[1-9][0-9]{0,6},t=[1-9][0-9]{0,2},p=[1-9][0-9]{0,2}\$` + base64Text + `\$` + base64Text + `$`
)

// hashParam is the n-th parameter of a password hash that has the form.
func hashParam(n int) string {
	return fmt.Sprintf("substr(split_part(split_part(password_hash, '$', 4), ',', %d), 3)::int", n)
}

// auditRules are what no constraint says.
var auditRules = []rule{
	{
		name: "user_email_check", table: "user",
		text: "addresses that nobody can be found by: empty, with space around, or longer than 254 bytes",
		query: `
SELECT array[id::bigint] FROM {{schema}}."user"
WHERE octet_length(email) NOT BETWEEN 1 AND 254 OR email COLLATE "C" ~ '^` + space + `|` + space + `$'`,
	},
	{
		// What any Store refuses, whatever its parameters; bytes are counted by the length of their base64.
		name: "user_password_hash_check", table: "user",
		text: "password hashes that no password matches: not argon2id, malformed, or out of bounds",
		query: `
SELECT array[id::bigint] FROM {{schema}}."user"
WHERE CASE WHEN octet_length(password_hash) > 4096 OR password_hash COLLATE "C" !~ '` + storedHash + `' THEN true
	ELSE ` + hashParam(1) + ` NOT BETWEEN 8 * ` + hashParam(3) + ` AND 4194304 OR ` + hashParam(2) + ` > 100 OR ` + hashParam(3) + ` > 255
		OR length(split_part(password_hash, '$', 5)) < 11 OR length(split_part(password_hash, '$', 6)) NOT BETWEEN 22 AND 1366 END`,
	},
	{
		name: "profile_timezone_check", table: "profile",
		text:  "time zones that are not known",
		query: `SELECT array[user_id::bigint], left(timezone, 65), NULL::bigint[] FROM {{schema}}.profile WHERE timezone <> ''`,
		judge: unknownZone,
	},
	{
		name: "availabilityslot_timezone_check", table: "availabilityslot",
		text:  "time zones that are not known",
		query: `SELECT array[id::bigint], left(timezone, 65), NULL::bigint[] FROM {{schema}}.availabilityslot WHERE timezone IS NOT NULL`,
		judge: unknownZone,
	},
	{
		name: "availabilityslot_local_check", table: "availabilityslot",
		text: "local times that are not the UTC times in the slot's zone",
		query: `
SELECT array[id::bigint], left(timezone, 65), array[` + micros("start_dt_utc") + `, ` + micros("end_dt_utc") + `,
	` + micros("start_dt_local") + `, ` + micros("end_dt_local") + `]
FROM {{schema}}.availabilityslot
WHERE start_dt_utc BETWEEN ` + firstTime + ` AND ` + lastTime + ` AND end_dt_utc BETWEEN ` + firstTime + ` AND ` + lastTime + `
	AND start_dt_local IS NOT NULL AND end_dt_local IS NOT NULL AND timezone IS NOT NULL`,
		judge: wrongLocal,
	},
	{
		name: "availabilityslot_length_check", table: "availabilityslot",
		text: "slots shorter than 15 minutes",
		query: `
SELECT array[id::bigint] FROM {{schema}}.availabilityslot
WHERE end_dt_utc > start_dt_utc AND start_dt_utc < ` + maxTime + ` AND end_dt_utc < start_dt_utc + interval '15 minutes'`,
	},
	{
		name: "emailverificationtoken_token_check", table: "emailverificationtoken", text: deadToken,
		query: `SELECT array[id::bigint] FROM {{schema}}.emailverificationtoken WHERE ` + matchless,
	},
	{
		name: "emailverificationtoken_change_check", table: "emailverificationtoken",
		text:  "changes to an address that is not there",
		needs: []string{"emailverificationtoken.changes_email", "emailverificationtoken.sent_to"},
		query: `SELECT array[id::bigint] FROM {{schema}}.emailverificationtoken WHERE changes_email AND sent_to IS NULL`,
	},
	{
		name: "passwordresettoken_token_check", table: "passwordresettoken", text: deadToken,
		query: `SELECT array[id::bigint] FROM {{schema}}.passwordresettoken WHERE ` + matchless,
	},
	{
		name: "match_status_check", table: "match",
		text: "statuses that the library does not know",
		query: `
SELECT array[id::bigint] FROM {{schema}}.match WHERE status NOT IN ('pending', 'accepted', 'rejected', 'cancelled')`,
	},
	{
		name: "meetup_status_check", table: "meetup",
		text: "statuses that the library does not know",
		query: `
SELECT array[id::bigint] FROM {{schema}}.meetup WHERE status NOT IN ('proposed', 'confirmed', 'completed', 'cancelled')`,
	},
	{
		name: "meetup_match_accepted_check", table: "meetup", needs: []string{"match"},
		text: "proposed or confirmed meetups of a match that is not accepted",
		query: `
SELECT array[mt.id::bigint] FROM {{schema}}.meetup AS mt JOIN {{schema}}.match AS m ON m.id = mt.match_id
WHERE mt.status IN ('proposed', 'confirmed') AND m.status <> 'accepted'`,
	},
	{
		name: "meetup_proposer_check", table: "meetup", needs: []string{"match", "meetup.proposer_id"},
		text: "meetups proposed by somebody who is not one of the two",
		query: `
SELECT array[mt.id::bigint] FROM {{schema}}.meetup AS mt JOIN {{schema}}.match AS m ON m.id = mt.match_id
WHERE mt.proposer_id NOT IN (m.user1_id, m.user2_id)`,
	},
	{
		name: "meetup_booked_check", table: "meetup", needs: []string{"match", "soultribe_booking"},
		text: "confirmed meetups that are not booked for both people, at their time",
		query: `
SELECT DISTINCT array[mt.id::bigint] FROM {{schema}}.meetup AS mt
JOIN {{schema}}.match AS m ON m.id = mt.match_id
CROSS JOIN LATERAL (VALUES (m.user1_id), (m.user2_id)) AS person (id)
LEFT JOIN {{schema}}.soultribe_booking AS b ON b.meetup_id = mt.id AND b.user_id = person.id
WHERE mt.status = 'confirmed' AND isfinite(mt.scheduled_time) AND mt.scheduled_time <= ` + maxTime + `
	AND {{seconds}} BETWEEN 900 AND 86400
	AND (b.starts_at, b.ends_at) IS DISTINCT FROM (date_trunc('second', mt.scheduled_time),
		CASE WHEN mt.scheduled_time <= ` + maxTime + ` THEN date_trunc('second', mt.scheduled_time) + {{seconds}} * interval '1 second' END)`,
	},
	{
		name: "soultribe_booking_meetup_check", table: "soultribe_booking", needs: []string{"match", "meetup"},
		text: "bookings of a meetup that is not confirmed, not there, or not the user's",
		query: `
SELECT array[b.meetup_id::bigint] FROM {{schema}}.soultribe_booking AS b
WHERE b.user_id IS NOT NULL AND b.meetup_id IS NOT NULL AND NOT EXISTS (SELECT FROM {{schema}}.meetup AS mt JOIN {{schema}}.match AS m ON m.id = mt.match_id
	WHERE mt.id = b.meetup_id AND mt.status = 'confirmed' AND b.user_id IN (m.user1_id, m.user2_id))`,
	},
}

const (
	deadToken = "tokens that no secret matches: empty, longer than 1,024 bytes, or not the hash that they are marked as"
	matchless = `CASE WHEN token COLLATE "C" LIKE 'sha256:%' THEN token COLLATE "C" !~ '^sha256:[0-9a-f]{64}$' ELSE octet_length(token) NOT BETWEEN 1 AND 1024 END`
)

// micros are the microseconds since 1970. What is further from the years 1 to 9999 than any zone is from UTC
// is taken for something that is, too: an infinity has no number.
func micros(column string) string {
	return "(extract(epoch FROM least(greatest(" + column + ", timestamp '0001-12-01 BC'), timestamp '10000-02-01')) * 1000000)::bigint"
}

// unknownZone asks the library, which reads a time in a zone that it does not know as UTC.
func unknownZone(zone string, _ []int64) bool {
	return inZone(0, zone).Location().String() != zone
}

// wrongLocal compares the start and end in UTC with those in the zone. It has nothing to say of a zone that
// is not known.
func wrongLocal(zone string, times []int64) bool {
	const second = int64(time.Second / time.Microsecond)
	start, end := inZone(times[0], zone), inZone(times[1], zone)
	_, startOffset := start.Zone()
	_, endOffset := end.Zone()
	return start.Location().String() == zone &&
		(times[2] != times[0]+int64(startOffset)*second || times[3] != times[1]+int64(endOffset)*second)
}

func inZone(micros int64, zone string) time.Time {
	return soultribe.Slot{Start: time.UnixMicro(micros), Timezone: zone}.LocalStart()
}
