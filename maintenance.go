package soultribe

import (
	"context"
	"errors"
	"fmt"

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
