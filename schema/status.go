package schema

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

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
// yet taken over. It only reads, in a transaction (a savepoint, where db is in a transaction) that it rolls
// back, and takes no lock that any other client would notice.
func Status(ctx context.Context, db soultribe.DB, opts ...Option) (State, error) {
	var state State
	c, err := newConfig(opts)
	if err != nil {
		return state, err
	}
	err = c.reading(ctx, db, "read", readable, func(tx soultribe.DB) error {
		state, err = c.status(ctx, tx)
		return err
	})
	return state, err
}

// readable are the settings under which the catalog is read, whatever the session's are: names are safe,
// and definitions are written in one way.
const readable = `
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL IntervalStyle = postgres;
SET LOCAL quote_all_identifiers = off;
SET LOCAL standard_conforming_strings = on`

// oneSnapshot makes a transaction see one state of the database, whatever the session's default. It cannot
// be said in a savepoint.
const oneSnapshot = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;\n"

// reading calls fn with a transaction under the settings, and rolls it back afterwards. What goes wrong is
// dressed as doing.
func (c config) reading(ctx context.Context, db soultribe.DB, doing, settings string, fn func(soultribe.DB) error) error {
	if isNil(db) {
		return invalid("db", "is nil")
	}
	if inTransaction(db) {
		return c.dress(doing, readingWithin(ctx, db, settings, fn))
	}
	tx, err := db.Begin(ctx)
	if err != nil {
		return c.dress(doing, err)
	}
	defer rollback(ctx, tx)
	if _, ok := db.(pgx.Tx); !ok {
		settings = oneSnapshot + settings
	}
	if _, err := tx.Exec(ctx, settings); err != nil {
		return c.dress(doing, err)
	}
	return c.dress(doing, fn(tx))
}

// inTransaction reports whether db is a connection on which the caller has begun a transaction in plain
// SQL, of which pgx knows nothing: its Begin and Rollback would end the caller's.
func inTransaction(db soultribe.DB) bool {
	switch db := db.(type) {
	case pgx.Tx:
		return false
	case interface{ PgConn() *pgconn.PgConn }:
		return db.PgConn().TxStatus() != 'I'
	case interface{ Conn() *pgx.Conn }:
		return db.Conn().PgConn().TxStatus() != 'I'
	}
	return false
}

// readingWithin is reading in a transaction that the caller has begun in plain SQL.
func readingWithin(ctx context.Context, db soultribe.DB, settings string, fn func(soultribe.DB) error) error {
	if _, err := db.Exec(ctx, "SAVEPOINT soultribe_reading"); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_, _ = db.Exec(ctx, "ROLLBACK TO SAVEPOINT soultribe_reading; RELEASE SAVEPOINT soultribe_reading")
	}()
	if _, err := db.Exec(ctx, settings); err != nil {
		return err
	}
	return fn(db)
}

func (c config) status(ctx context.Context, tx soultribe.DB) (State, error) {
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
