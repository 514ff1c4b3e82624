package schema

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/soultribe-chat/soultribe"
)

// State says which migrations a database has had.
type State struct {
	Version int // the newest that was applied; 0 when there is none
	Latest  int // the version that this library needs
	Applied []Applied
}

// Applied is a migration that a database has had.
type Applied struct {
	Version int
	At      time.Time // UTC
}

const tableExists = `
SELECT EXISTS (
	SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'r')`

// Status says which version the database is at: 0 when there is nothing, or tables that [Migrate] has not
// yet taken over. It only reads, in a transaction (a savepoint, where db is a transaction) that it rolls
// back, and takes no lock that any other client would notice.
func Status(ctx context.Context, db soultribe.DB, opts ...Option) (State, error) {
	var state State
	c, err := newConfig(opts)
	if err != nil {
		return state, err
	}
	err = c.reading(ctx, db, func(tx pgx.Tx) error {
		state, err = c.status(ctx, tx)
		return err
	})
	return state, err
}

// reading calls fn with a transaction whose search_path is safe and that is rolled back afterwards.
func (c config) reading(ctx context.Context, db soultribe.DB, fn func(pgx.Tx) error) error {
	if isNil(db) {
		return invalid("db", "is nil")
	}
	tx, err := db.Begin(ctx)
	if err != nil {
		return c.dress("read", err)
	}
	defer rollback(ctx, tx)
	if _, err := tx.Exec(ctx, "SET LOCAL search_path = pg_catalog, pg_temp"); err != nil {
		return c.dress("read", err)
	}
	return c.dress("read", fn(tx))
}

func (c config) status(ctx context.Context, tx pgx.Tx) (State, error) {
	state := State{Latest: soultribe.SchemaVersion}
	var exists bool
	err := tx.QueryRow(ctx, tableExists, pgx.QueryExecModeExec, c.schema, versionTable).Scan(&exists)
	if err != nil || !exists {
		return state, err
	}
	rows, err := tx.Query(ctx, "SELECT version_id, (extract(epoch FROM tstamp) * 1000000)::bigint FROM "+
		c.table(versionTable)+" WHERE is_applied AND version_id > 0 ORDER BY version_id, id", pgx.QueryExecModeExec)
	if err != nil {
		return state, err
	}
	state.Applied, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Applied, error) {
		var a Applied
		var at int64 // a number, for a time would be written in the session's DateStyle
		err := row.Scan(&a.Version, &at)
		a.At = time.UnixMicro(at).UTC()
		return a, err
	})
	if n := len(state.Applied); n > 0 {
		state.Version = state.Applied[n-1].Version
	}
	return state, err
}
