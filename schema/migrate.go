package schema

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/soultribe-chat/soultribe"
)

// migrations holds the SQL of each version; the files say what is replaced in them.
//
//go:embed migrations/*.sql
var migrations embed.FS

// files has the name of each version's file; version 1 is at index 0.
var files = [soultribe.SchemaVersion]string{
	"migrations/00001_contract.sql",
	"migrations/00002_rules.sql",
	"migrations/00003_turns.sql",
	"migrations/00004_groups.sql",
	"migrations/00005_upkeep.sql",
}

const (
	// maxLockAttempt is the longest that one attempt to lock the tables takes. It is below PostgreSQL's
	// deadlock_timeout of 1 s: a client whose transaction would deadlock with the migration gets its
	// turn before the server looks for somebody to kill, and nobody queues behind the migration for
	// longer than this.
	maxLockAttempt = 800 * time.Millisecond
	// lockPause comes between two attempts. It is up to twice as long, at random, so as not to fall into
	// step with a client.
	lockPause = 10 * time.Millisecond
	// rollbackTimeout bounds the ROLLBACK after a context that has ended.
	rollbackTimeout = 5 * time.Second
)

// settings hold until the end of the transaction. Nothing depends on the session's search_path, nor do
// its timeouts end a wait for another process that is migrating, or an index that takes long to build:
// that is for the context. A process that is frozen or cut off in the middle loses its transaction after
// a minute. Rows that a policy hides from this role are an error rather than overlooked.
const settings = readable + `;
SET LOCAL lock_timeout = 0;
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = '1min';
SET LOCAL row_security = off;
SET LOCAL client_min_messages = warning`

// Migrate brings the database to [soultribe.SchemaVersion], or to the version that [To] names. It creates the PostgreSQL schema and the tables
// where they are missing, and takes over tables of the right shape.
//
// All of it is one transaction: when Migrate returns an error, nothing has changed. Any number of
// processes may call it at once: each waits, in a transaction-level advisory lock, for the one before.
// A database whose version is the library's is left alone; [Check] says whether it still has all that the
// version means. Migrate uses one connection of pool, and nothing of the session, so that a pool of one
// connection and a transaction pooler both serve.
//
// Roles that have privileges on tables that were there get those that they need on the library's own: to see
// bookings as they may meetups, and the version as they may users.
//
// It returns
//   - a [MismatchError], when the database is newer than the library, or has tables of another shape, or
//     something else under the name of a rule to come;
//   - a [DirtError], when rows break a rule that it was about to add;
//   - [soultribe.ErrInvalid] for a nil pool or an option that cannot be;
//   - an error that wraps PostgreSQL's (*pgconn.PgError, SQLSTATE 55P03), when other transactions did not let
//     go of the tables in time; see [LockTimeout].
//
// The tables are searched for rows that break a rule without a lock on them. Then, if version 1 or 2 is
// still to come, all of them are locked (ACCESS EXCLUSIVE) for as long as the indexes take to build.
// They are locked all at once or not at all, in attempts of less than a second, so that other clients
// neither queue for long nor are ended by PostgreSQL's deadlock detection.
func Migrate(ctx context.Context, pool *pgxpool.Pool, opts ...Option) error {
	c, err := newConfig(opts)
	if err != nil {
		return err
	}
	if pool == nil {
		return invalid("pool", "is nil")
	}
	// Most of the time there is nothing to do, which takes no lock to see, and no right to write.
	state, err := Status(ctx, pool, opts...)
	if err != nil {
		return err
	}
	if done, err := c.settled(state.Version); done {
		return err
	}

	err = c.migrate(ctx, pool)
	if isViolation(err) {
		// A row that came after the search. The next search finds it.
		if again := c.migrate(ctx, pool); again == nil || errors.As(again, new(*DirtError)) {
			err = again
		}
	}
	if errors.Is(err, soultribe.ErrSchema) {
		return err
	}
	return c.dress("migrate", err)
}

// known returns an error for a database at a version that this library does not know.
func (c config) known(have int) error {
	if have > soultribe.SchemaVersion {
		return &MismatchError{Schema: c.schema, Have: have, Want: soultribe.SchemaVersion}
	}
	return nil
}

// settled reports whether a database at version have needs nothing, or nothing that this library can do.
func (c config) settled(have int) (bool, error) {
	if err := c.known(have); err != nil {
		return true, err
	}
	if have > c.to {
		return true, invalid("to", fmt.Sprintf("is below the database's version, %d, and no migration goes back", have))
	}
	return have == c.to, nil
}

// migrate is one attempt, in a transaction.
func (c config) migrate(ctx context.Context, pool *pgxpool.Pool) error {
	dc, err := stdlib.GetPoolConnector(pool).Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = dc.Close() }() // gives it back to the pool
	conn, ok := dc.(*stdlib.Conn)
	if !ok {
		return fmt.Errorf("unexpected connection of type %T", dc)
	}

	// READ COMMITTED whatever the session's default: what is read after the wait for the lock must be
	// what the process before has left.
	tx, err := conn.Conn().BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil {
		return err
	}
	defer rollback(ctx, tx)

	if _, err := tx.Exec(ctx, settings); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", c.lockKey())); err != nil {
		return err
	}
	state, err := c.status(ctx, tx)
	if err != nil {
		return err
	}
	if done, err := c.settled(state.Version); done {
		return err
	}
	if err := c.prepare(ctx, tx, state.Version); err != nil {
		return err
	}
	if err := c.up(ctx, conn, tx); err != nil {
		return err
	}
	if state.Version < rules && rules <= c.to {
		if err := c.grant(ctx, tx); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

// examine looks at the shape of what is there, and searches the rows. It returns an error where that stands in
// the way of a migration.
func (c config) examine(ctx context.Context, tx soultribe.DB, have int) (*shape, error) {
	found, err := c.inspect(ctx, tx)
	if err != nil {
		return nil, err
	}
	if diff := found.differences(have); len(diff) > 0 {
		return nil, &MismatchError{Schema: c.schema, Have: have, Want: c.to, Differences: diff}
	}
	rows, err := c.search(ctx, tx, found, have, c.to)
	if err != nil {
		return nil, err
	}
	if len(rows) > 0 {
		return nil, &DirtError{Schema: c.schema, Rows: rows}
	}
	return found, nil
}

// prepare does what comes before the first change: it examines what is there, and locks the tables.
func (c config) prepare(ctx context.Context, tx pgx.Tx, have int) error {
	found, err := c.examine(ctx, tx, have)
	if err != nil {
		return err
	}
	if !found.exists {
		// Not IF NOT EXISTS, which asks for the right to create even when there is nothing to create.
		if _, err := tx.Exec(ctx, "CREATE SCHEMA "+pgx.Identifier{c.schema}.Sanitize()); err != nil {
			return err
		}
	}
	if err := c.lockTables(ctx, tx, found); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, strings.ReplaceAll(createVersionTable, "{{table}}", c.table(versionTable)))
	return err
}

// lockKey identifies the advisory lock of a PostgreSQL schema. It must never change: processes of
// different versions meet in it.
func (c config) lockKey() int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("soultribe schema " + c.schema))
	return int64(h.Sum64()) //nolint:gosec // any 64 bits will do
}

// lockTables locks what the migrations change, all at once and before the first change, so that a client
// in the midst of a transaction of its own makes the migration wait, and try again, rather than deadlock.
//
// For half of the time it looks for a moment at which all the tables are free, which is no hindrance to
// anybody and finds the gaps between short statements. Where there are none, because transactions overlap,
// the attempts of the other half make those who come queue until those who are there have finished.
func (c config) lockTables(ctx context.Context, tx pgx.Tx, found *shape) error {
	deadline := time.Now().Add(c.lockTimeout)
	for {
		var wait time.Duration
		if left := time.Until(deadline); left < c.lockTimeout/2 {
			wait = min(left, maxLockAttempt)
		}
		err := c.lockAttempt(ctx, tx, found, time.Now().Add(wait))
		if !isBusy(err) {
			return err
		}
		if time.Until(deadline) <= lockPause {
			return fmt.Errorf("other transactions held the tables for %v; nothing was changed: %w", c.lockTimeout, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPause + rand.N(lockPause)): //nolint:gosec // not a secret
		}
	}
}

// lockAttempt locks the tables in a savepoint, which when it fails gives up the locks that were had. The
// order, "user" first, is that of nearly every transaction of a service: those that come wait there with
// nothing in their hands, while those that have passed it finish.
func (c config) lockAttempt(ctx context.Context, tx pgx.Tx, found *shape, until time.Time) error {
	sp, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	defer rollback(ctx, sp)
	for _, t := range tables {
		if !found.has("table " + t.name) {
			continue
		}
		left := max(time.Until(until), time.Millisecond)
		_, err := sp.Exec(ctx, fmt.Sprintf("SET LOCAL lock_timeout = %d; LOCK TABLE %s IN ACCESS EXCLUSIVE MODE",
			left.Milliseconds(), c.table(t.name)))
		if err != nil {
			return err
		}
	}
	if _, err := sp.Exec(ctx, fmt.Sprintf("SET LOCAL lock_timeout = %d", c.lockTimeout.Milliseconds())); err != nil {
		return err
	}
	return sp.Commit(ctx)
}

// rollback ends tx, if it is not over, also when ctx is.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_ = tx.Rollback(ctx)
}

// isBusy reports whether a lock was not to be had: 55P03 is lock_not_available, 40P01 deadlock_detected.
func isBusy(err error) bool {
	state := sqlState(err)
	return state == "55P03" || state == "40P01"
}

// isViolation reports whether a row broke a constraint: class 23.
func isViolation(err error) bool {
	return strings.HasPrefix(sqlState(err), "23")
}

func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}
