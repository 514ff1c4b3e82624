package soultribe

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// tables are the quoted names, with the schema, of all tables.
type tables struct {
	user, profile, slot, verification, reset, match, meetup, booking, version string
	refuse                                                                    string // the function
}

func newTables(schema string) tables {
	in := func(name string) string { return pgx.Identifier{schema, name}.Sanitize() }
	return tables{
		user:         in("user"),
		profile:      in("profile"),
		slot:         in("availabilityslot"),
		verification: in("emailverificationtoken"),
		reset:        in("passwordresettoken"),
		match:        in("match"),
		meetup:       in("meetup"),
		booking:      in("soultribe_booking"),
		version:      in("soultribe_schema_version"),
		refuse:       in("soultribe_refuse"),
	}
}

// statements are the statements of every method, built once: building costs squirrel as much as a tenth
// of a round trip each time, and pgx caches what the server prepared by text.
//
// Their parameters are numbered by hand, as most are used twice, and cast, as the simple protocol and
// the exec mode of pgx tell the server no types. Ids are cast to bigint, so that one beyond the column's
// range is not found rather than an error.
type statements struct {
	lists tables // for statements that are built for a call, in which squirrel takes ? for a placeholder
	userStatements
	profileStatements
	slotStatements
	tokenStatements
	matchStatements
	candidateStatements
	meetupStatements
	adminStatements
	maintenanceStatements
}

func newStatements(t tables, c *config) *statements {
	return &statements{
		lists:                 newTables(strings.ReplaceAll(c.schema, "?", "??")),
		userStatements:        newUserStatements(t),
		profileStatements:     newProfileStatements(t),
		slotStatements:        newSlotStatements(t, c.matchedOnly),
		tokenStatements:       newTokenStatements(t, c.plaintextTokens),
		matchStatements:       newMatchStatements(t),
		candidateStatements:   newCandidateStatements(t),
		meetupStatements:      newMeetupStatements(t),
		adminStatements:       newAdminStatements(t),
		maintenanceStatements: newMaintenanceStatements(t),
	}
}

// statement is the text of one statement, begun by the name of its method, by which
// pg_stat_statements and tracers tell it apart.
type statement string

// with is a common table expression.
type with struct {
	name  string
	query squirrel.Sqlizer
}

// compile builds a statement of constant text. A failure is a mistake in this package, and each New
// would find it.
func compile(name string, main squirrel.Sqlizer, ctes ...with) statement {
	var b strings.Builder
	fmt.Fprintf(&b, "-- name: %s\n", name)
	for i, cte := range ctes {
		b.WriteString([]string{"WITH ", ", "}[min(i, 1)])
		fmt.Fprintf(&b, "%s AS (%s)", cte.name, constant(cte.query))
	}
	if len(ctes) > 0 {
		b.WriteByte(' ')
	}
	b.WriteString(constant(main))
	return statement(pin(b.String()))
}

func constant(query squirrel.Sqlizer) string {
	text, args, err := query.ToSql()
	if err != nil || len(args) > 0 {
		panic(fmt.Sprintf("soultribe: statement with %d values: %v", len(args), err))
	}
	return text
}

// unnest makes a table of arrays, one a column. The short form of it, unnest(a, b), has no qualified name.
func unnest(arrays ...string) string {
	return "ROWS FROM (unnest(" + strings.Join(arrays, "), unnest(") + "))"
}

// regclass is the oid of a table.
func regclass(table string) string { return "'" + strings.ReplaceAll(table, "'", "''") + "'::regclass" }

// columns prefixes each of a list of columns with a table's alias.
func columns(alias, list string) string {
	return alias + "." + strings.ReplaceAll(list, ", ", ", "+alias+".")
}

// queryOne returns the one row of a statement; no row is ErrNotFound.
func queryOne[T any](ctx context.Context, p *Postgres, op string, s statement, scan func(r *rowReader) T, args ...any) (T, error) {
	for try := 0; ; try++ {
		var v T
		rows, err := p.db.Query(ctx, string(s), args...)
		if err == nil {
			v, err = one(rows, scan)
		}
		if !p.again(ctx, try, err) {
			return v, callError(ctx, op, err)
		}
	}
}

// queryAll returns all rows of a statement; the slice is never nil.
func queryAll[T any](ctx context.Context, p *Postgres, op string, s statement, scan func(r *rowReader) T, args ...any) ([]T, error) {
	return queryUpTo(ctx, p, op, s, 0, scan, args...)
}

// queryUpTo is queryAll with room for the rows that are expected.
func queryUpTo[T any](ctx context.Context, p *Postgres, op string, s statement, size int, scan func(r *rowReader) T, args ...any) ([]T, error) {
	for try := 0; ; try++ {
		v := make([]T, 0, size)
		rows, err := p.db.Query(ctx, string(s), args...)
		if err == nil {
			v, err = pgx.AppendRows(v, rows, collect(scan))
		}
		if !p.again(ctx, try, err) {
			return v, callError(ctx, op, err)
		}
	}
}

// queryList returns the rows of a statement that is built for the call, as its filters vary.
func queryList[T any](ctx context.Context, p *Postgres, op string, list squirrel.SelectBuilder, size int, scan func(r *rowReader) T) ([]T, error) {
	s, args, err := buildList(op, list)
	if err != nil {
		return nil, opError(op, err)
	}
	return queryUpTo(ctx, p, op, s, size, scan, args...)
}

func buildList(op string, list squirrel.SelectBuilder) (statement, []any, error) {
	text, args, err := list.PlaceholderFormat(squirrel.Dollar).ToSql()
	return statement(pin("-- name: " + op + "\n" + text)), args, err
}

// listOf makes a list the list of a user u: one row of NULLs is an empty list, and no row no such user.
func listOf(users, list string, args ...any) squirrel.SelectBuilder {
	return squirrel.Select("list.*").From(users+" u").LeftJoin("("+list+") list ON true", args...)
}

// queryListOf returns the items of a statement that listOf made, the first column of which is never NULL in
// an item. No such user is ErrNotFound.
func queryListOf[T any](ctx context.Context, p *Postgres, op string, s statement, size int, scan func(r *rowReader) T, args ...any) ([]T, error) {
	empty := false
	rows, err := queryUpTo(ctx, p, op, s, size, func(r *rowReader) (item T) {
		if empty = r.null(); empty {
			return item
		}
		return scan(r)
	}, args...)
	switch {
	case err != nil:
		return nil, err
	case len(rows) == 0:
		return nil, opError(op, ErrNotFound)
	case empty:
		return rows[:0], nil
	}
	return rows, nil
}

// batch collects statements that go to the server together and take effect together.
type batch struct{ pgx.Batch }

func (b *batch) exec(s statement, args ...any) { b.Queue(string(s), args...) }

// queueOne has the one row of a statement stored in dst, and found set if there is one.
func queueOne[T any](b *batch, s statement, scan func(r *rowReader) T, dst *T, found *bool, args ...any) {
	*found = false
	b.Queue(string(s), args...).Query(func(rows pgx.Rows) error {
		all, err := pgx.CollectRows(rows, collect(scan))
		if err == nil && len(all) > 0 {
			*dst, *found = all[0], true
		}
		return err
	})
}

// queueAll has the rows of a statement stored in dst.
func queueAll[T any](b *batch, s statement, scan func(r *rowReader) T, dst *[]T, args ...any) {
	*dst = (*dst)[:0]
	b.Queue(string(s), args...).Query(func(rows pgx.Rows) (err error) {
		*dst, err = pgx.AppendRows(*dst, rows, collect(scan))
		return err
	})
}

// send sends the statements that queue adds in one round trip. Outside a transaction the server makes
// one of them all, which an error undoes. It may call queue again.
func (p *Postgres) send(ctx context.Context, op string, queue func(b *batch)) error {
	for try := 0; ; try++ {
		var b batch
		queue(&b)
		if err := p.db.SendBatch(ctx, &b.Batch).Close(); !p.again(ctx, try, err) {
			return callError(ctx, op, err)
		}
	}
}

// sendGuarded is send for statements that a constraint may refuse. In the caller's transaction they run
// in a savepoint, so that an error undoes them and nothing else; only then there is a second round trip.
func (p *Postgres) sendGuarded(ctx context.Context, op string, queue func(b *batch)) error {
	if !p.inTransaction() {
		return p.send(ctx, op, queue)
	}
	var b batch
	made := false
	b.Queue("SAVEPOINT soultribe").Exec(func(pgconn.CommandTag) error { made = true; return nil })
	queue(&b)
	b.Queue("RELEASE SAVEPOINT soultribe")
	err := callError(ctx, op, p.db.SendBatch(ctx, &b.Batch).Close())
	// Without a savepoint, as when the context had ended before, a rollback to it is an error, and that ends
	// the caller's transaction.
	if err != nil && made {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		// Where this fails the connection is gone: err says why.
		_, _ = p.db.Exec(ctx, "ROLLBACK TO SAVEPOINT soultribe; RELEASE SAVEPOINT soultribe")
	}
	return err
}

// inTransaction tells whether statements join a transaction that was begun before.
func (p *Postgres) inTransaction() bool {
	switch db := p.db.(type) {
	case pgx.Tx:
		return true
	case *pgx.Conn:
		return db.PgConn().TxStatus() != 'I'
	case interface{ Conn() *pgx.Conn }: // *pgxpool.Conn, and what wraps it or a transaction
		return db.Conn().PgConn().TxStatus() != 'I'
	}
	return false
}

// timestamp is t as a parameter for a timestamp without time zone: its UTC fields, to the microsecond.
// A time.Time would be sent as timestamptz in some modes, and converted in the session's zone.
func timestamp(t time.Time) pgtype.Timestamp {
	return pgtype.Timestamp{Time: t.UTC().Truncate(time.Microsecond), Valid: true}
}

// wallTimestamp is the wall-clock reading of t in loc as a parameter.
func wallTimestamp(t time.Time, loc *time.Location) pgtype.Timestamp {
	_, offset := t.In(loc).Zone()
	return timestamp(t.Add(time.Duration(offset) * time.Second))
}
