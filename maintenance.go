package soultribe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5/pgconn"
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
	Unverified time.Duration // accounts made so long ago, never verified, with no secret that still works, slot or match
	Limit      int           // at most so many rows of each table: 1 to 10,000; 0 means 1,000
}

// Purged counts the rows that Purge removed.
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
}

// MaintenanceStore is for jobs and health checks. Several at once do not get into each other's way: each
// skips the rows that another has locked.
type MaintenanceStore interface {
	// Settle cancels proposals whose start has come, and completes confirmed meetups that are over. A
	// worker calls it every so often, while More, and notifies the people of what it returns.
	Settle(ctx context.Context, policy SettlePolicy) (Settled, error)
	// Purge removes what is not needed any more, the oldest first. Call it while More. It returns an
	// *InUseError (ErrInUse), and removes nothing, where a foreign table of the host's refers to an
	// unverified account without ON DELETE.
	Purge(ctx context.Context, policy PurgePolicy) (Purged, error)
	// Stats counts what is stored. It reads users, slots ahead, matches and meetups whole.
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
	settle                                                    statement
	purgeVerifications, purgeResets, purgeSlots, purgeMeetups statement
	holdIdle, purgeUsers                                      statement
	stats, ready                                              statement
}

func newMaintenanceStatements(t tables) maintenanceStatements {
	return maintenanceStatements{
		settle:             settleAll(t),
		purgeVerifications: purge("PurgeVerifications", t.verification, older(t.verification, "least(x.used_at, x.expires_at)"), "x.id"),
		purgeResets:        purge("PurgeResets", t.reset, older(t.reset, "least(x.used_at, x.expires_at)"), "x.id"),
		purgeSlots:         purge("PurgeSlots", t.slot, older(t.slot, "x.end_dt_utc", "x.start_dt_utc"), "x.start_dt_utc"),
		purgeMeetups: purge("PurgeMeetups", t.meetup, older(t.meetup, "(least(x.scheduled_time, timestamp '9999-12-31') + (coalesce(x.duration_seconds, 3600) * interval '1 second'))", "x.updated_at").
			Where("x.status IN ('completed', 'cancelled')"), "x.scheduled_time"),
		holdIdle: compile("PurgeHold", squirrel.Select("set_config('soultribe.idle', coalesce(string_agg(old.id::text, ','), ''), true)").From("old"),
			with{"old", idle(t).OrderBy("x.id").Suffix("LIMIT $3::bigint FOR UPDATE SKIP LOCKED")}),
		purgeUsers: compile("PurgeUsers", squirrel.Delete(t.user).Where("id IN (SELECT old.id FROM old)"),
			with{"old", idle(t).Where("x.id = ANY(string_to_array(current_setting('soultribe.idle'), ',')::bigint[])")}),
		stats: stats(t),
		ready: compile("Ready", squirrel.Select("coalesce(max(version_id), 0)").From(t.version).Where("is_applied")),
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

func purge(name, table string, old squirrel.SelectBuilder, order string) statement {
	return compile(name, squirrel.Delete(table).Where("id IN (SELECT old.id FROM old)"),
		with{"old", old.OrderBy(order).Suffix("LIMIT $2::bigint FOR UPDATE SKIP LOCKED")})
}

// older selects the rows x of which all times are before $1.
func older(table string, times ...string) squirrel.SelectBuilder {
	rows := squirrel.Select("x.id").From(table + " x")
	for _, at := range times {
		rows = rows.Where(at + " < $1::timestamp")
	}
	return rows
}

// idle selects the accounts x that were made before $1 and never used; $2 is now.
//
// Purge locks them in a statement of its own, before the one that removes them: only a statement that
// begins with the account locked sees all that its owner did. A setting, which ends with the
// transaction, hands over the ids in one round trip.
func idle(t tables) squirrel.SelectBuilder {
	return squirrel.Select("x.id").From(t.user + " x").Where("x.email_verified_at IS NULL AND x.created_at < $1::timestamp AND " +
		none(t.verification, "o.used_at IS NULL AND o.expires_at > $2::timestamp") + " AND " +
		none(t.reset, "o.used_at IS NULL AND o.expires_at > $2::timestamp") + " AND " + none(t.slot, "true") +
		" AND NOT EXISTS (SELECT FROM " + t.match + " o WHERE o.user1_id = x.id) AND NOT EXISTS (SELECT FROM " + t.match + " o WHERE o.user2_id = x.id)")
}

// none says that user x has no row o in a table of which condition holds.
func none(table, condition string) string {
	return "NOT EXISTS (SELECT FROM " + table + " o WHERE o.user_id = x.id AND " + condition + ")"
}

// stats is one statement, and so one snapshot: a row of kind, status and number for each count.
func stats(t tables) statement {
	count := func(kind, from string) string { return "SELECT '" + kind + "', '', count(*) FROM " + from }
	byStatus := func(kind, table string) string {
		return "SELECT '" + kind + "', x.status, count(*) FROM " + table + " x GROUP BY x.status"
	}
	return compile("Stats", squirrel.Expr("SELECT 'users' AS kind, '' AS status, count(*) FROM "+t.user+
		" UNION ALL "+count("verified", t.user+" u WHERE u.email_verified_at IS NOT NULL")+
		" UNION ALL "+count("slots_ahead", t.slot+" s WHERE s.start_dt_utc > ($1::timestamp - interval '24 hours') AND s.end_dt_utc > $1::timestamp")+
		" UNION ALL "+byStatus("match", t.match)+
		" UNION ALL "+byStatus("meetup", t.meetup)+
		" UNION ALL SELECT 'bytes', '', pg_database_size(current_database())"))
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
	now := p.now()
	var purged Purged
	err = p.sendGuarded(ctx, op, func(b *batch) {
		purged = Purged{}
		remove := func(s statement, count *int64, args ...any) {
			b.Queue(string(s), args...).Exec(func(tag pgconn.CommandTag) error {
				*count = tag.RowsAffected()
				purged.More = purged.More || *count == int64(limit)
				return nil
			})
		}
		// Accounts come first: their rows elsewhere go with them, and another Purge may have locked those,
		// which then skips all else that is locked, and ends.
		if policy.Unverified != 0 {
			before := timestamp(now.Add(-policy.Unverified))
			b.exec(p.sql.holdIdle, before, timestamp(now), limit)
			remove(p.sql.purgeUsers, &purged.Users, before, timestamp(now))
		}
		for _, kind := range []struct {
			s     statement
			age   time.Duration
			count *int64
		}{
			{p.sql.purgeVerifications, policy.Tokens, &purged.EmailVerifications},
			{p.sql.purgeResets, policy.Tokens, &purged.PasswordResets},
			{p.sql.purgeSlots, policy.Slots, &purged.Slots},
			{p.sql.purgeMeetups, policy.Meetups, &purged.Meetups},
		} {
			if kind.age != 0 {
				remove(kind.s, kind.count, timestamp(now.Add(-kind.age)), limit)
			}
		}
	})
	if err != nil {
		return Purged{}, err
	}
	return purged, nil
}

// Stats implements [MaintenanceStore].
func (p *Postgres) Stats(ctx context.Context) (Stats, error) {
	type count struct {
		kind, status string
		number       int64
	}
	counts, err := queryAll(ctx, p, "Stats", p.sql.stats, func(r *rowReader) count {
		return count{r.text(), r.text(), r.integer()}
	}, timestamp(p.now()))
	s := Stats{Matches: map[MatchStatus]int64{}, Meetups: map[MeetupStatus]int64{}}
	for _, c := range counts {
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
