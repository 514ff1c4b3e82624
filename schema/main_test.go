package schema_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/internal/pgserver"
	"github.com/soultribe-chat/soultribe/schema"
)

var server *pgserver.Server

func TestMain(m *testing.M) {
	var err error
	if server, err = pgserver.Start(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stderr, server.Description)
	code := m.Run()
	server.Stop()
	os.Exit(code)
}

var (
	databases atomic.Int64
	// run keeps those apart that use the same server.
	run = strings.ToLower(rand.Text()[:10])
)

// newDatabase creates an empty database, which it drops when the test has passed, and returns its URL.
func newDatabase(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("schema_test_%s_%d", run, databases.Add(1))
	admin(t, "CREATE DATABASE "+name)
	u, err := url.Parse(server.URL)
	require.NoError(t, err)
	u.Path = "/" + name
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the database is kept: %s", u.Redacted())
			return
		}
		admin(t, "DROP DATABASE "+name+" WITH (FORCE)")
	})
	return u.String()
}

// admin runs a statement as the superuser of the server.
func admin(t *testing.T, statement string) {
	t.Helper()
	ctx := context.Background() // also in a cleanup
	conn, err := pgx.Connect(ctx, server.URL)
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	require.NoError(t, err)
}

// connect opens a pool, which it closes after the test.
func connect(t *testing.T, databaseURL string, change ...func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(databaseURL)
	require.NoError(t, err)
	config.MaxConns = 4
	for _, f := range change {
		f(config)
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// newPool is a pool on a new database, which statements have been run in.
func newPool(t *testing.T, statements ...string) *pgxpool.Pool {
	t.Helper()
	pool := connect(t, newDatabase(t))
	exec(t, pool, statements...)
	return pool
}

func maxConns(n int32) func(*pgxpool.Config) {
	return func(c *pgxpool.Config) { c.MaxConns = n }
}

func setting(name, value string) func(*pgxpool.Config) {
	return func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams[name] = value }
}

type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func exec(t *testing.T, db execer, statements ...string) {
	t.Helper()
	for _, s := range statements {
		_, err := db.Exec(t.Context(), s)
		require.NoError(t, err, s)
	}
}

// refused checks that PostgreSQL refuses a statement for the sake of a constraint.
func refused(t *testing.T, db execer, statement, code, constraint string) {
	t.Helper()
	_, err := db.Exec(t.Context(), statement)
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg, statement)
	require.Equal(t, code, pg.Code, "%s: %v", statement, err)
	require.Equal(t, constraint, pg.ConstraintName, "%s: %v", statement, err)
}

type queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// lines returns the rows of a query of one column, as text.
func lines(t *testing.T, db queryer, query string, args ...any) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), query, args...)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return all
}

// newSchema is a pool whose search_path is a new PostgreSQL schema, which statements have been run in. It
// costs less than a database.
func newSchema(t *testing.T, databaseURL string, statements ...string) (*pgxpool.Pool, schema.Option) {
	t.Helper()
	name := fmt.Sprintf("test_%d", databases.Add(1))
	pool := connect(t, databaseURL, setting("search_path", name))
	exec(t, pool, "CREATE SCHEMA "+name)
	exec(t, pool, statements...)
	return pool, schema.In(name)
}

// dump describes everything in the current schema that a migration could change: tables and views with
// their columns, constraints, indexes, triggers, functions, and the rows of each table.
func dump(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	var all []string
	for _, query := range []string{`
SELECT format('column %s.%s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
	a.attnotnull, pg_get_expr(d.adbin, d.adrelid))
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY c.relname, a.attnum`, `
SELECT 'index ' || pg_get_indexdef(x.indexrelid) FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid
WHERE c.relnamespace = current_schema()::regnamespace ORDER BY 1`, `
SELECT format('constraint %s %s %s', c.relname, k.conname, pg_get_constraintdef(k.oid))
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE c.relnamespace = current_schema()::regnamespace ORDER BY 1`, `
SELECT pg_get_triggerdef(g.oid) FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
WHERE c.relnamespace = current_schema()::regnamespace AND NOT g.tgisinternal ORDER BY 1`, `
SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.pronamespace = current_schema()::regnamespace ORDER BY 1`} {
		all = append(all, lines(t, pool, query)...)
	}
	for _, table := range lines(t, pool, `
SELECT quote_ident(c.relname) FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' ORDER BY 1`) {
		all = append(all, "rows of "+table)
		all = append(all, lines(t, pool, "SELECT x::text FROM "+table+" AS x ORDER BY 1")...)
	}
	return strings.Join(all, "\n")
}

// latest is the version that Migrate brings a database to.
var latest = strconv.Itoa(soultribe.SchemaVersion)

// sqlalchemy is what SQLAlchemy makes of the application's models, with what stands beside them: the database
// that the example takes over.
var sqlalchemy = func() string {
	text, err := os.ReadFile("../examples/adoption/sqlalchemy.sql")
	if err != nil {
		panic(err)
	}
	return string(text)
}()

// people are clean rows for a database that sqlalchemy made: users 1 to 4; 1 has matches with the others,
// and a confirmed meetup with 2 and with 3.
const people = `
INSERT INTO "user" (id, email, password_hash, email_verified_at, created_at, locale) VALUES
	(1, 'Ann@x.org', 'argon2$dev', '2024-01-02', '2024-01-01', 'de'), (2, 'bob@x.org', '', NULL, '2024-01-01', NULL),
	(3, 'cy@x.org', '', NULL, '2024-01-01', NULL), (4, 'dee@x.org', '', NULL, '2024-01-01', NULL);
INSERT INTO profile VALUES (1, 'Ann A.', 'Ann', NULL, 'Atlantis/Capital', '2024-01-01', '2024-01-01');
INSERT INTO availabilityslot (id, user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at) VALUES
	(1, 1, '2024-05-01 10:00', '2024-05-01 11:00', '2024-05-01 12:00', '2024-05-01 13:00', 'Europe/Vienna', '2024-01-01', '2024-01-01'),
	(2, 1, '2024-05-01 11:00', '2024-05-02 11:00', '2024-05-01 12:00', '2024-05-01 13:00', 'Mars/Olympus', '2024-01-01', '2024-01-01'),
	(3, 2, '2024-05-01 10:00', '2024-05-01 11:00', '2024-05-01 12:00', '2024-05-01 13:00', 'Europe/Vienna', '2024-01-01', '2024-01-01');
INSERT INTO emailverificationtoken (id, user_id, token, expires_at, created_at) VALUES
	(1, 1, repeat('A', 43), '2024-01-01', '2024-01-01');
INSERT INTO passwordresettoken (id, user_id, token, expires_at, created_at) VALUES
	(1, 1, repeat(E'\\ü€', 300), '2024-01-01', '2024-01-01');
INSERT INTO match (id, user1_id, user2_id, status, created_at, updated_at) VALUES
	(1, 1, 2, 'accepted', '2024-01-01', '2024-01-01'), (2, 3, 1, 'accepted', '2024-01-01', '2024-01-01'),
	(3, 4, 1, 'suggested', '2024-01-01', '2024-01-01'), (4, 2, 3, 'accepted', '2024-01-01', '2024-01-01');
INSERT INTO meetup (id, match_id, scheduled_time, status, created_at, updated_at) VALUES
	(1, 1, '2024-05-01 10:00', 'confirmed', '2024-01-01', '2024-01-01'),
	(2, 2, '2024-05-01 11:00', 'confirmed', '2024-01-01', '2024-01-01'),
	(3, 2, '2024-05-01 10:00', 'canceled', '2024-01-01', '2024-01-01');
INSERT INTO refreshtoken (user_id, token) VALUES (1, 'host');
INSERT INTO alembic_version VALUES ('abc');
SELECT setval('user_id_seq', 100), setval('availabilityslot_id_seq', 100), setval('emailverificationtoken_id_seq', 100),
	setval('passwordresettoken_id_seq', 100), setval('match_id_seq', 100), setval('meetup_id_seq', 100);`

const soon = 20 * time.Second
