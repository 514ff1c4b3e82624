package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/schema"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// newDatabase makes an empty database beside db, and returns its URL.
func newDatabase(t *testing.T, db *soultribetest.DB) string {
	t.Helper()
	name := "soultribe_restore_" + strings.ToLower(rand.Text()[:10])
	ctx := context.Background()
	_, err := db.Pool.Exec(ctx, "CREATE DATABASE "+name)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := db.Pool.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
		require.NoError(t, err)
	})
	return at(t, db.URL, name)
}

// castPlaces is in what a definition that was restored may differ from the one it was made by: PostgreSQL casts the
// parts of an array where it had cast the whole.
var castPlaces = regexp.MustCompile(`::(?:text|character varying)(?:\[\])?|[()]`)

// contents describes all in a database that somebody has made, by kind or table.
func contents(t *testing.T, databaseURL string) map[string][]string {
	t.Helper()
	conn := connect(t, databaseURL)
	lines := func(query string) []string {
		rows, err := conn.Query(t.Context(), query)
		require.NoError(t, err, query)
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err, query)
		return all
	}
	const ours = ` n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' `
	all := map[string][]string{}
	for kind, query := range map[string]string{
		"schemas": `SELECT format('%s %s', n.nspname, n.nspacl) FROM pg_namespace n WHERE` + ours + `ORDER BY 1`,
		"columns": `SELECT format('%s.%s.%s %s %s %s', n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
				pg_get_expr(d.adbin, d.adrelid))
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
			LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum WHERE c.relkind IN ('r', 'v') AND` + ours + `ORDER BY 1`,
		"indexes": `SELECT pg_get_indexdef(x.indexrelid) FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid
			JOIN pg_namespace n ON n.oid = c.relnamespace WHERE` + ours + `ORDER BY 1`,
		"constraints": `SELECT format('%s.%s %s %s', n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid)) FROM pg_constraint k
			JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE` + ours + `ORDER BY 1`,
		"triggers": `SELECT format('%s %s', pg_get_triggerdef(g.oid), g.tgenabled) FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
			JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT g.tgisinternal AND` + ours + `ORDER BY 1`,
		"functions": `SELECT format('%s %s', pg_get_functiondef(p.oid), p.proacl) FROM pg_proc p
			JOIN pg_namespace n ON n.oid = p.pronamespace WHERE` + ours + `ORDER BY 1`,
		"privileges": `SELECT format('%s.%s %s', n.nspname, c.relname, c.relacl) FROM pg_class c
			JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v', 'S') AND` + ours + `ORDER BY 1`,
	} {
		all[kind] = lines(query)
	}
	for _, kind := range []string{"indexes", "constraints", "triggers"} {
		for i, text := range all[kind] {
			all[kind][i] = castPlaces.ReplaceAllString(text, "")
		}
		slices.Sort(all[kind])
	}
	const names = `SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE`
	for _, table := range lines(names + ours + `AND c.relkind = 'r'`) {
		all[table] = lines("SELECT x::text FROM " + table + " AS x ORDER BY 1")
	}
	for _, sequence := range lines(names + ours + `AND c.relkind = 'S'`) {
		all[sequence] = lines("SELECT format('%s %s', last_value, is_called) FROM " + sequence)
	}
	return all
}

// nasty are the people of two that have names, and everything that belongs to them.
const nasty = `
UPDATE "user" SET password_hash = (SELECT password_hash FROM "user" WHERE password_hash <> '' LIMIT 1);
UPDATE profile SET full_name = E'Ann "the" O''Hara\t\\. \\N \\\\', display_name = E'\U0001F389 \u202E \u00E9 $1 %s {{x}}',
	bio = E'line\nnext\r\n\\.\n-- ; DROP TABLE "user"; /* \u0416 */ \u001B[31m';
INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
	SELECT id, '2026-03-29 00:30:00.000001', '2026-03-29 01:30', '2026-03-29 01:30:00.000001', '2026-03-29 03:30', 'Europe/Vienna',
	'0001-01-01', '9999-12-31 23:59:59.999999' FROM "user";
INSERT INTO emailverificationtoken (user_id, token, expires_at, created_at, sent_to)
	SELECT id, 'sha256:' || encode(sha256(id::text::bytea), 'hex'), '2026-03-30', '2026-03-29', E'"a''b\\c"@x.org' FROM "user";
INSERT INTO passwordresettoken (user_id, token, expires_at, used_at, created_at)
	SELECT id, translate(rpad(id::text, 43, '_-'), '.', '-'), '2026-03-30', '2026-03-29 12:00', '2026-03-29' FROM "user";
INSERT INTO match (user1_id, user2_id, status, created_at, updated_at) SELECT max(id), min(id), 'accepted', '2026-03-01', '2026-03-01' FROM "user";
INSERT INTO meetup (match_id, scheduled_time, status, created_at, updated_at, proposer_id, duration_seconds)
	SELECT id, '2026-04-01 10:00', 'confirmed', '2026-03-01', '2026-03-01', user1_id, 5400 FROM match;
INSERT INTO meetup (match_id, scheduled_time, status, created_at, updated_at) SELECT id, '2026-04-01 10:00', 'cancelled', '2026-03-01', '2026-03-01' FROM match;
SELECT setval('availabilityslot_id_seq', 1000, false), setval('match_id_seq', 4711);`

// beyond are ids that need a bigint, and times that are infinite.
const beyond = `
INSERT INTO "user" (id, email, password_hash, email_verified_at, created_at) VALUES (5000000000, 'far@x.org', '', 'infinity', '-infinity');
INSERT INTO emailverificationtoken (id, user_id, token, expires_at, created_at) VALUES (9223372036854775807, 5000000000, 't', 'infinity', '-infinity');
INSERT INTO match (id, user1_id, user2_id, status, created_at, updated_at) SELECT 6000000000, 5000000000, min(id), 'pending', '-infinity', 'infinity' FROM "user";
INSERT INTO meetup (id, match_id, scheduled_time, status, created_at, updated_at) VALUES (7000000000, 6000000000, 'infinity', 'proposed', '-infinity', 'infinity');
SELECT setval('user_id_seq', 5000000001, false);`

// host is what stands beside the library's tables.
const host = `
ALTER TABLE "user" ADD COLUMN locale text NOT NULL DEFAULT 'de';
CREATE TABLE refreshtoken (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint REFERENCES "user" (id) ON DELETE CASCADE, token bytea);
INSERT INTO refreshtoken (user_id, token) SELECT id, '\x00ff' FROM "user";
CREATE VIEW verified AS SELECT id FROM "user" WHERE email_verified_at IS NOT NULL;`

// fill puts people into the tables in a schema.
func fill(t *testing.T, db *soultribetest.DB, in string, statements ...string) {
	t.Helper()
	store, err := soultribe.New(db.Pool, soultribe.WithSchema(in), soultribe.WithPasswordParams(soultribetest.PasswordParams))
	require.NoError(t, err)
	for _, email := range []string{"o'hara+x@example.org", "Bob@EXAMPLE.org"} {
		_, err := store.CreateUser(t.Context(), soultribe.NewUser{Email: email, Password: rand.Text(),
			Profile: &soultribe.NewProfile{FullName: "x", DisplayName: "x", Timezone: "America/New_York"}})
		require.NoError(t, err)
	}
	execute(t, db, append([]string{"SET LOCAL search_path = " + pgx.Identifier{in}.Sanitize()}, statements...)...)
}

func execute(t *testing.T, db *soultribetest.DB, statements ...string) {
	t.Helper()
	_, err := db.Pool.Exec(t.Context(), strings.Join(statements, ";\n"))
	require.NoError(t, err)
}

// source is a database with people in public and in another schema, which has bigint for ids.
func source(t *testing.T) (db *soultribetest.DB, other string) {
	t.Helper()
	other = `Größe "2"`
	role := "soultribe_app_" + strings.ToLower(rand.Text()[:10])
	var adminURL string
	t.Cleanup(func() { // when no database has anything of the role's any more
		_, err := connect(t, adminURL).Exec(context.Background(), "DROP ROLE "+role)
		require.NoError(t, err)
	})
	db = soultribetest.New(t)
	adminURL = at(t, db.URL, "postgres")
	execute(t, db, "CREATE ROLE "+role)
	fill(t, db, "public", nasty, host, `GRANT SELECT, INSERT ON "user" TO `+role,
		`GRANT EXECUTE ON FUNCTION soultribe_refuse(text, text, text) TO `+role, `REVOKE EXECUTE ON FUNCTION soultribe_refuse(text, text, text) FROM PUBLIC`)

	require.NoError(t, schema.Migrate(t.Context(), db.Pool, schema.In(other), schema.To(1)))
	execute(t, db, `SET LOCAL search_path = "Größe ""2"""`, `
DO $$ DECLARE c record; BEGIN
	FOR c IN SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema() AND data_type = 'integer'
		AND table_name <> 'soultribe_schema_version' LOOP
		EXECUTE format('ALTER TABLE %I ALTER %I TYPE bigint', c.table_name, c.column_name);
	END LOOP;
	FOR c IN SELECT sequence_name FROM information_schema.sequences WHERE sequence_schema = current_schema() AND sequence_name !~ 'version' LOOP
		EXECUTE format('ALTER SEQUENCE %I AS bigint', c.sequence_name);
	END LOOP;
END $$`)
	require.NoError(t, schema.Migrate(t.Context(), db.Pool, schema.In(other)))
	fill(t, db, other, nasty, beyond)
	return db, other
}

func audited(t *testing.T, databaseURL, in string) string {
	t.Helper()
	stdout, stderr, _ := soultribeCommand(t, databaseURL, "audit", "-schema", in)
	require.Empty(t, stderr)
	return stdout
}

// TestBackupAndRestore takes everything through a file into a fresh database.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	db, other := source(t)
	p := withClients(t, db)
	before := contents(t, db.URL)
	for _, table := range []string{`"user"`, "profile", "availabilityslot", "emailverificationtoken", "passwordresettoken", "match", "meetup", "soultribe_booking"} {
		for _, in := range []string{"public", `"Größe ""2"""`} {
			require.GreaterOrEqual(t, len(before[in+"."+table]), 1, table)
		}
	}
	require.Equal(t, []string{"4711 t"}, before["public.match_id_seq"])
	require.Equal(t, "no row breaks a rule\n", audited(t, db.URL, "public"))
	require.Contains(t, audited(t, db.URL, other), "found")

	file := filepath.Join(t.TempDir(), "-nightly dump")
	stdout, stderr, code := soultribeProgram(t.Context(), p, "backup", "--", file)
	require.Empty(t, stderr)
	require.Equal(t, exitOK, code)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("%s (%s) has the database %s, at version %s\n", file, bytesText(info.Size()), name(t, db.URL), latest), stdout)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.NoFileExists(t, file+".partial")
	require.Equal(t, before, contents(t, db.URL))

	p.databaseURL = newDatabase(t, db)
	stdout, stderr, code = soultribeProgram(t.Context(), p, "restore", file, "-json")
	require.Empty(t, stderr)
	require.Equal(t, exitOK, code)
	var r restored
	require.NoError(t, json.Unmarshal([]byte(stdout), &r))
	require.Equal(t, restored{File: file, Bytes: info.Size(), Database: name(t, p.databaseURL), Checked: true}, r)

	after := contents(t, p.databaseURL)
	for name, want := range before {
		require.Equal(t, want, after[name], name)
	}
	require.Len(t, after, len(before))
	for _, in := range []string{"public", other} {
		require.Equal(t, audited(t, db.URL, in), audited(t, p.databaseURL, in))
		stdout, stderr, code := soultribeCommand(t, p.databaseURL, "check", "-schema", in)
		require.Equal(t, []any{"version " + latest + ", as the library\n", "", exitOK}, []any{stdout, stderr, code})
	}
	require.NotEmpty(t, query(t, p.databaseURL, `SELECT attname::text FROM pg_stats WHERE tablename = 'profile'`), "analyzed")

	// What is restored is at work: the constraint, the trigger and the sequences.
	conn := connect(t, p.databaseURL)
	_, err = conn.Exec(t.Context(), `UPDATE match SET status = 'cancelled', updated_at = '2026-03-02'`)
	require.NoError(t, err)
	require.Empty(t, query(t, p.databaseURL, `SELECT meetup_id::text FROM soultribe_booking`))
	_, err = conn.Exec(t.Context(), `INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
		SELECT user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at FROM availabilityslot`)
	require.ErrorContains(t, err, "availabilityslot_no_overlap")
}

// name is that of the database at a URL.
func name(t *testing.T, databaseURL string) string {
	t.Helper()
	return query(t, databaseURL, "SELECT current_database()::text")[0]
}

func query(t *testing.T, databaseURL, sql string) []string {
	t.Helper()
	rows, err := connect(t, databaseURL).Query(t.Context(), sql)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return all
}

// TestPasswordStaysOffTheCommandLine records what pg_dump and pg_restore are given. Who restores owns the fresh database,
// and nothing else.
func TestPasswordStaysOffTheCommandLine(t *testing.T) {
	t.Parallel()
	const password = `it's "@:/?#[]\ %41 pass`
	reader := "soultribe_reader_" + strings.ToLower(rand.Text()[:10])
	owner := "soultribe_owner_" + strings.ToLower(rand.Text()[:10])
	var adminURL string
	t.Cleanup(func() { // when no database is the owner's any more
		_, err := connect(t, adminURL).Exec(context.Background(), "DROP ROLE "+reader+", "+owner)
		require.NoError(t, err)
	})
	db := soultribetest.New(t)
	adminURL = at(t, db.URL, "postgres")
	for role, as := range map[string]string{reader: "SUPERUSER", owner: "NOSUPERUSER"} {
		execute(t, db, fmt.Sprintf("CREATE ROLE %s %s LOGIN PASSWORD '%s'", role, as, strings.ReplaceAll(password, "'", "''")))
	}
	target := newDatabase(t, db)
	execute(t, db, "ALTER DATABASE "+name(t, target)+" OWNER TO "+owner)
	if serverMajor(t, db) < 15 {
		_, err := connect(t, target).Exec(t.Context(), "ALTER SCHEMA public OWNER TO "+owner)
		require.NoError(t, err)
	}
	p := withClients(t, db)

	dir := t.TempDir()
	recorded := filepath.Join(dir, "recorded")
	for _, name := range []string{"pg_dump", "pg_restore"} {
		found, ok := suitable(p.clients(t.Context(), name, nil), serverMajor(t, db))
		require.True(t, ok)
		fake(t, dir, name, found.major, fmt.Sprintf(
			`{ echo "== argv"; printf '%%s\n' "$0" "$@"; tr '\0' '\n' <"/proc/$$/cmdline" 2>/dev/null; echo "== environ"; env; } >>'%s'
exec '%s' "$@"`, recorded, found.path))
	}
	p.directories = []string{dir}
	file := filepath.Join(t.TempDir(), "dump")
	for _, run := range []struct{ url, role, command string }{{db.URL, reader, "backup"}, {target, owner, "restore"}} {
		u, err := url.Parse(run.url)
		require.NoError(t, err)
		u.User = url.UserPassword(run.role, password)
		p.databaseURL = strings.Replace(u.String(), "postgres://", "postgresql+psycopg2://", 1)
		stdout, stderr, code := soultribeProgram(t.Context(), p, run.command, file)
		require.Empty(t, stderr)
		require.Equal(t, exitOK, code)
		require.NotContains(t, stdout, "41 pass")
	}
	text, err := os.ReadFile(recorded)
	require.NoError(t, err)
	runs := strings.Split(string(text), "== argv\n")[1:]
	require.Len(t, runs, 3) // pg_dump, pg_restore --list and pg_restore
	require.Equal(t, []string{owner}, query(t, target, `SELECT tableowner::text FROM pg_tables WHERE tablename = 'user'`))
	for i, run := range runs {
		argv, environ, _ := strings.Cut(run, "== environ\n")
		require.NotContains(t, argv, "@:/")
		require.NotContains(t, argv, "41 pass")
		if i != 1 {
			require.Contains(t, argv, "user='"+[]string{0: reader, 2: owner}[i]+"'")
			require.Contains(t, environ, "\nPGPASSWORD="+password+"\n")
		}
		require.NotContains(t, environ, "DATABASE_URL=")
	}
}

// TestBackupLeavesNoHalfOfIt has backups that come to nothing.
func TestBackupLeavesNoHalfOfIt(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	major := serverMajor(t, db)
	bin, dir := t.TempDir(), t.TempDir()
	p := program{databaseURL: db.URL, directories: []string{bin}}
	file := filepath.Join(dir, "dump")
	refused := func(code int, says string, args ...string) {
		t.Helper()
		stdout, stderr, got := soultribeProgram(t.Context(), p, append([]string{"backup"}, args...)...)
		require.Empty(t, stdout)
		require.Contains(t, stderr, says)
		require.Equal(t, code, got)
	}
	files := func() string {
		t.Helper()
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		var names []string
		for _, e := range entries {
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			require.NoError(t, err)
			names = append(names, e.Name()+"="+string(text))
		}
		return strings.Join(names, " ")
	}

	refused(exitFailed, "pg_dump is not installed", file)
	fake(t, bin, "pg_dump", major-1, "exit 9")
	refused(exitFailed, fmt.Sprintf("pg_dump is of version %d (%s), the server of version %d", major-1, filepath.Join(bin, "pg_dump"), major), file)

	fake(t, bin, "pg_dump", major, `echo half; echo 'pg_dump: error: the disk is in tears' >&2; echo 'CONTEXT: ann@example.org' >&2; exit 1`)
	refused(exitFailed, "soultribe backup: pg_dump: error: the disk is in tears\n", file)
	fake(t, bin, "pg_dump", major, `echo half; exit 7`)
	refused(exitFailed, "soultribe backup: pg_dump: exit status 7\n", file)
	refused(exitFailed, "no such file", filepath.Join(dir, "nowhere", "dump"))
	refused(exitUsage, "takes one argument, FILE")
	refused(exitUsage, "takes one argument, FILE", file, file)
	refused(exitUsage, "DATABASE_URL", "postgres://ann:"+"secret@127.0.0.1/x")
	require.Empty(t, files())

	require.NoError(t, os.WriteFile(file, []byte("old"), 0o600))
	refused(exitFailed, file+" exists; -force replaces it", file)
	refused(exitFailed, "exit status 7", file, "-force")
	require.Equal(t, "dump=old", files())
	fake(t, bin, "pg_dump", major, `printf new`)
	stdout, _, code := soultribeProgram(t.Context(), p, "backup", file, "-force")
	require.Equal(t, exitOK, code, stdout)
	require.Equal(t, "dump=new", files())

	// Another one comes first.
	fake(t, bin, "pg_dump", major, `printf new; printf another >'`+file+"2'")
	refused(exitFailed, "2 exists", file+"2")
	require.Equal(t, "dump=new dump2=another", files())

	require.NoError(t, os.WriteFile(file+".partial", []byte("another's"), 0o600))
	refused(exitFailed, "another backup is at work, or was killed", file, "-force")
	require.Equal(t, "dump=new dump.partial=another's dump2=another", files())
	refused(exitFailed, "is not a file", dir, "-force")
}

// writer calls a function for each write.
type writer func(string)

func (w writer) Write(b []byte) (int, error) {
	w(string(b))
	return len(b), nil
}

// TestInterruptedBackupAndRestore are stopped in the midst of it.
func TestInterruptedBackupAndRestore(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	p := program{databaseURL: newDatabase(t, db), directories: []string{t.TempDir()}, every: time.Millisecond}
	dir, told := t.TempDir(), filepath.Join(t.TempDir(), "told")
	const begin = `trap 'echo yes >"%s"; kill $!; exit 1' TERM
%s
sleep 600 >/dev/null 2>&1 &
wait`
	fake(t, p.directories[0], "pg_dump", serverMajor(t, db), fmt.Sprintf(begin, told, "printf 'half of it'"))
	fake(t, p.directories[0], "pg_restore", serverMajor(t, db), fmt.Sprintf(begin, told,
		"if [ \"$1\" = --list ]; then echo ';     Dumped by pg_dump version: 14.1'; exit; fi; head -c 7 >/dev/null"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "old"), bytes.Repeat([]byte("x"), 2048), 0o600))
	for _, c := range []struct{ command, file, how string }{{"backup", "dump", "10 B written"}, {"restore", "old", "7 B of 2.0 kB read"}} {
		ctx, cancel := context.WithCancel(t.Context())
		var out, errs bytes.Buffer
		p.stdout, p.stderr = &out, writer(func(line string) {
			errs.WriteString(line)
			if strings.Contains(line, c.how) {
				cancel()
			}
		})
		code := p.run(ctx, []string{c.command, filepath.Join(dir, c.file)})
		cancel()
		require.Equal(t, exitInterrupted, code)
		require.Empty(t, out.String())
		require.Regexp(t, `(?s)soultribe `+c.command+`: `+c.how+` after \d+s\n.*soultribe `+c.command+`: interrupted\n$`, errs.String())
		require.FileExists(t, told)
		require.NoError(t, os.Remove(told))
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 1, "neither a backup nor a half of one")
	}
}

// TestRestoreWantsTheRoles that something was granted to.
func TestRestoreWantsTheRoles(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	p := withClients(t, db)
	role := "soultribe_gone_" + strings.ToLower(rand.Text()[:10])
	file := filepath.Join(t.TempDir(), "dump")
	execute(t, db, "CREATE ROLE "+role, `GRANT SELECT ON "user" TO `+role)
	_, stderr, code := soultribeProgram(t.Context(), p, "backup", file)
	execute(t, db, "DROP OWNED BY "+role, "DROP ROLE "+role)
	require.Equal(t, exitOK, code, stderr)
	p.databaseURL = newDatabase(t, db)
	before := contents(t, p.databaseURL)
	_, stderr, code = soultribeProgram(t.Context(), p, "restore", file)
	require.Contains(t, stderr, `the database is as it was: pg_restore: error: could not execute query: ERROR:  role "`+role+`" does not exist`)
	require.Equal(t, exitFailed, code)
	require.Equal(t, before, contents(t, p.databaseURL))
}

// TestBackupWaitsForALock, but not for ever.
func TestBackupWaitsForALock(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	tx, err := db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(context.Background())) }()
	_, err = tx.Exec(t.Context(), "LOCK TABLE meetup")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "dump")
	stdout, stderr, code := soultribeProgram(t.Context(), withClients(t, db), "backup", "-lock-timeout", "50ms", file)
	require.Equal(t, []any{"", exitFailed}, []any{stdout, code})
	require.Contains(t, stderr, "LOCK TABLE public.meetup")
	require.NoFileExists(t, file)
}

// TestRestoreRefuses what it cannot read, and a database that is not empty.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	db, _ := source(t)
	p := withClients(t, db)
	dir := t.TempDir()
	file := filepath.Join(dir, "dump")
	_, stderr, code := soultribeProgram(t.Context(), p, "backup", file)
	require.Equal(t, exitOK, code, stderr)
	whole, err := os.ReadFile(file)
	require.NoError(t, err)

	target := newDatabase(t, db)
	empty := contents(t, target)
	refused := func(p program, databaseURL string, code int, says string, args ...string) {
		t.Helper()
		before := contents(t, databaseURL)
		p.databaseURL = databaseURL
		stdout, stderr, got := soultribeProgram(t.Context(), p, append([]string{"restore"}, args...)...)
		require.Empty(t, stdout)
		require.Contains(t, stderr, says)
		require.NotContains(t, stderr, "example.org")
		require.Equal(t, code, got)
		require.Equal(t, before, contents(t, databaseURL))
	}
	write := func(name string, content []byte) string {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
		return filepath.Join(dir, name)
	}

	refused(p, target, exitFailed, "no such file", filepath.Join(dir, "none"))
	refused(p, target, exitFailed, "is not a file", dir)
	refused(p, target, exitUsage, "takes one argument, FILE")
	refused(p, target, exitFailed, "cannot be read", write("empty", nil))
	refused(p, target, exitFailed, "cannot be read", write("text", []byte("CREATE TABLE ann (email text); -- a dump of another form\n"+strings.Repeat("-- and so on\n", 100))))
	refused(p, target, exitFailed, "cannot be read", write("head", whole[:200]))
	damaged := bytes.Clone(whole)
	damaged[len(damaged)-600] ^= 0xff
	for name, content := range map[string][]byte{"cut": whole[:len(whole)-700], "damaged": damaged} {
		refused(p, target, exitFailed, "the database is as it was: pg_restore: error", write(name, content))
		refused(p, db.URL, exitFailed, "the database is as it was: pg_restore: error", "-clean", filepath.Join(dir, name))
	}

	// Programs that are too old.
	bin := t.TempDir()
	old := p
	old.directories = []string{bin}
	refused(old, target, exitFailed, "pg_restore is not installed", file)
	fake(t, bin, "pg_restore", 15, `echo ';     Dumped by pg_dump version: 99.1'`)
	refused(old, target, exitFailed, "pg_restore is of version 15 ("+filepath.Join(bin, "pg_restore")+"), "+file+" of version 99: install a later one", file)
	fake(t, bin, "pg_restore", 15, `echo 'pg_restore: error: unsupported version (1.99) in file header' >&2; exit 1`)
	refused(old, target, exitFailed, "unsupported version (1.99)", file)
	fake(t, bin, "pg_restore", 99, `echo ';     Dumped by pg_dump version: 14.1'; [ "$1" = --list ] || { echo "pg_restore: error: a new thing" >&2; exit 1; }`)
	refused(old, target, exitFailed, fmt.Sprintf("the database is as it was: pg_restore: error: a new thing\npg_restore is of version 99, the server of version %d",
		serverMajor(t, db)), file)
	fake(t, bin, "pg_restore", 15, `echo`)
	refused(old, target, exitFailed, "does not say which pg_dump made it", file)

	// Not empty: in public, and elsewhere.
	refused(p, db.URL, exitNotAsItMustBe, "the database is not empty", file)
	conn := connect(t, target)
	for made, gone := range map[string]string{
		"CREATE SCHEMA host; CREATE TABLE host.t ()": "DROP SCHEMA host CASCADE",
		"CREATE SEQUENCE s":                          "DROP SEQUENCE s",
		"CREATE VIEW v AS SELECT 1":                  "DROP VIEW v",
	} {
		_, err := conn.Exec(t.Context(), made)
		require.NoError(t, err)
		refused(p, target, exitNotAsItMustBe, "it has 1 tables, views or sequences, such as", file)
		_, err = conn.Exec(t.Context(), gone)
		require.NoError(t, err)
	}
	require.Equal(t, empty, contents(t, target))
}

// TestRestoreClean puts a backup in the place of what is there.
func TestRestoreClean(t *testing.T) {
	t.Parallel()
	db, _ := source(t)
	p := withClients(t, db)
	file := filepath.Join(t.TempDir(), "dump")
	_, stderr, code := soultribeProgram(t.Context(), p, "backup", file)
	require.Equal(t, exitOK, code, stderr)
	before := contents(t, db.URL)

	execute(t, db, `DELETE FROM "user"; ALTER TABLE match DROP COLUMN status CASCADE; DROP TABLE emailverificationtoken;
		GRANT EXECUTE ON FUNCTION soultribe_cancel_meetup() TO PUBLIC; CREATE TABLE later (user_id int REFERENCES "user" (id))`)
	after := contents(t, db.URL)
	stdout, stderr, code := soultribeProgram(t.Context(), p, "restore", "-clean", file)
	require.Equal(t, []any{"", exitFailed}, []any{stdout, code})
	require.Contains(t, stderr, "the database is as it was: pg_restore: ")
	require.Contains(t, stderr, `constraint later_user_id_fkey on table public.later depends on `)
	require.Equal(t, after, contents(t, db.URL))

	execute(t, db, "ALTER TABLE later DROP CONSTRAINT later_user_id_fkey")
	stdout, stderr, code = soultribeProgram(t.Context(), p, "restore", "-clean", file)
	require.Equal(t, []any{"", exitOK}, []any{stderr, code})
	require.Regexp(t, "^the database "+name(t, db.URL)+" is restored from "+regexp.QuoteMeta(file)+` \([0-9.]+ kB\), and checked\n$`, stdout)
	execute(t, db, "DROP TABLE later")
	require.Equal(t, before, contents(t, db.URL))
}

// TestRestoreOfAnOlderVersion succeeds, and says that there is more to do.
func TestRestoreOfAnOlderVersion(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	p := withClients(t, db)
	p.databaseURL = newDatabase(t, db)
	file := filepath.Join(t.TempDir(), "dump")
	for _, args := range [][]string{{"migrate", "-to", "2"}, {"backup", file}} {
		_, stderr, code := soultribeProgram(t.Context(), p, args...)
		require.Equal(t, exitOK, code, stderr)
	}
	before := contents(t, p.databaseURL)
	p.databaseURL = newDatabase(t, db)
	stdout, stderr, code := soultribeProgram(t.Context(), p, "restore", file)
	require.Contains(t, stdout, "and not checked\n")
	require.Equal(t, `soultribe restore: schema "public" is at version 2 of `+latest+": run schema.Migrate\n", stderr)
	require.Equal(t, exitNotAsItMustBe, code)
	require.Equal(t, before, contents(t, p.databaseURL))
}

// TestDocumentedBackup holds the guide to the flags that there are.
func TestDocumentedBackup(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/database.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(text), "## Backup and restore")
	require.True(t, ok)
	lines := regexp.MustCompile(`(?m)^\$ (?:DATABASE_URL=\S+ )soultribe (.*)$`).FindAllStringSubmatch(section, -1)
	require.NotEmpty(t, lines)
	for _, m := range lines {
		args := strings.Fields(m[1])
		var found bool
		for _, c := range commands {
			if c.name != args[0] {
				continue
			}
			found = true
			task := &task{program: program{databaseURL: "postgres://"}}
			err := task.parse(c, c.flagSet(&task.settings), args[1:])
			require.NoError(t, err, m[0])
		}
		require.True(t, found, m[0])
	}
}
