package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// serverMajor is the version of the test's server.
func serverMajor(t *testing.T, db *soultribetest.DB) int {
	t.Helper()
	major, err := strconv.Atoi(db.Query(t, `SELECT (current_setting('server_version_num')::int / 10000)::text`)[0])
	require.NoError(t, err)
	return major
}

// withClients is a program that finds a pg_dump and a pg_restore for the test's server: those of this machine, or
// where they are of another version, those in the server's container.
func withClients(t *testing.T, db *soultribetest.DB) program {
	t.Helper()
	p := program{databaseURL: db.URL, directories: clientDirectories(os.Getenv("PATH"))}
	major := serverMajor(t, db)
	found := p.clients(t.Context(), "pg_dump", nil)
	c, ok := suitable(found, major)
	if ok && c.major == major {
		return p
	}
	u, err := url.Parse(db.URL)
	require.NoError(t, err)
	out, err := exec.CommandContext(t.Context(), "docker", "ps", "--quiet", "--filter", "publish="+u.Port()).Output()
	container := strings.TrimSpace(string(out))
	if err != nil || container == "" {
		if !ok {
			t.Fatalf("%v; nor is the server in a container that has one", unsuitable("pg_dump", found, major, "the server"))
		}
		return p
	}
	p.directories = []string{t.TempDir()}
	for _, name := range []string{"pg_dump", "pg_restore"} {
		script(t, p.directories[0], name, `for argument; do
	shift
	case $argument in --dbname=*) argument=$(printf %s "$argument" | sed 's/`+u.Hostname()+`/127.0.0.1/g; s/`+u.Port()+`/5432/g') ;; esac
	set -- "$@" "$argument"
done
exec docker exec -i -e PGPASSWORD `+container+` `+name+` "$@"`)
	}
	return p
}

// script writes a program of the shell's.
func script(t *testing.T, dir, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o700))
}

// fake is a program that says its version, and runs text for all else.
func fake(t *testing.T, dir, name string, major int, text string) {
	t.Helper()
	script(t, dir, name, fmt.Sprintf("if [ \"$1\" = --version ]; then echo '%s (PostgreSQL) %d.1'; exit; fi\n%s", name, major, text))
}

func TestClients(t *testing.T) {
	t.Parallel()
	var dirs []string
	for _, major := range []int{17, 14, 16, 15, 15} {
		dirs = append(dirs, t.TempDir())
		fake(t, dirs[len(dirs)-1], "pg_dump", major, "")
	}
	strange := t.TempDir()
	script(t, strange, "pg_dump", "echo pg_dump of my own making, 16")
	failing := t.TempDir()
	fake(t, failing, "pg_dump", 15, "")
	script(t, failing, "pg_dump", "echo '(PostgreSQL) 15'; exit 1")
	wrapped := t.TempDir()
	fake(t, wrapped, "pg_wrapper", 15, "")
	require.NoError(t, os.Symlink(filepath.Join(wrapped, "pg_wrapper"), filepath.Join(wrapped, "pg_dump")))
	p := program{directories: append([]string{"", "/nowhere", strange, failing, wrapped}, dirs...)}

	all := p.clients(t.Context(), "pg_dump", nil)
	var paths []string
	for _, c := range all {
		paths = append(paths, filepath.Dir(c.path))
	}
	require.Equal(t, dirs, paths)
	require.Empty(t, p.clients(t.Context(), "pg_restore", nil))

	for major, want := range map[int]string{13: dirs[1], 14: dirs[1], 15: dirs[3], 16: dirs[2], 17: dirs[0]} {
		c, ok := suitable(all, major)
		require.True(t, ok)
		require.Equal(t, want, filepath.Dir(c.path), major)
	}
	_, ok := suitable(all, 18)
	require.False(t, ok)
	require.EqualError(t, unsuitable("pg_dump", all, 18, "the server"), "pg_dump is of version 17 ("+filepath.Join(dirs[0], "pg_dump")+
		"), the server of version 18: install a later one (Debian's package postgresql-client-18)")
	require.EqualError(t, unsuitable("pg_dump", nil, 18, "the server"),
		"pg_dump is not installed; it must be of version 18, as the server, or later (Debian's package postgresql-client-18)")
}

// TestConnection has libpq told what pgx was told.
func TestConnection(t *testing.T) {
	t.Parallel()
	services := filepath.Join(t.TempDir(), "services")
	require.NoError(t, os.WriteFile(services, []byte("[tribe]\nhost=db.example\nport=5433\nuser=ann\ndbname=people\n"), 0o600))
	const secret = `s3cr:et/@ %'"\`
	password := url.QueryEscape(secret)
	password = strings.ReplaceAll(password, "+", "%20")
	for _, c := range []struct{ url, conninfo string }{
		{"postgres://ann:" + password + "@db.example/people", "host='db.example' port='5432' user='ann' dbname='people'"},
		{"postgresql+psycopg2://ann:" + password + "@db.example:6000/people?sslmode=require",
			"host='db.example' port='6000' user='ann' dbname='people' sslmode='require'"},
		{"postgres://ann@db.example/people?password=" + password, "host='db.example' port='5432' user='ann' dbname='people'"},
		{"postgres://ann:" + password + "@one,two:6000/people?target_session_attrs=read-write",
			"host='one,two' port='5432,6000' user='ann' dbname='people' target_session_attrs='read-write'"},
		{"postgres://ann:" + password + "@/people?host=/run/my%20sockets&port=6000", "host='/run/my sockets' port='6000' user='ann' dbname='people'"},
		{"postgres://o%27hara%5C:" + password + "@[::1]/people", `host='::1' port='5432' user='o\'hara\\' dbname='people'`},
		{"postgres://ann:" + password + "@db.example/people?options=-c%20a.b%3D1&search_path=a,%20b&pool_max_conns=3&role=x%5C",
			`host='db.example' port='5432' user='ann' dbname='people' options='-c a.b=1 -c role=x\\\\ -c search_path=a,\\ b'`},
		{"postgres://:" + password + "@/?service=tribe&servicefile=" + url.QueryEscape(services) + "&application_name=me",
			"host='db.example' port='5433' user='ann' dbname='people' application_name='me' service='tribe'"},
		{"postgres://ann:" + password + "@db.example/people?default_query_exec_mode=exec&sslrootcert=system&sslmode=verify-full&channel_binding=require",
			"host='db.example' port='5432' user='ann' dbname='people' sslmode='verify-full' sslrootcert='system' channel_binding='require'"},
	} {
		config, err := soultribe.PoolConfig(c.url)
		require.NoError(t, err, c.url)
		conninfo, env, err := connection(config.ConnConfig, []string{"HOME=/root", "PGPASSWORD=another", "PGHOSTADDR=192.0.2.1",
			"PGOPTIONS=-c x=y", "PGCLIENTENCODING=LATIN1", "DATABASE_URL=" + c.url, "LC_ALL=tlh", "PGHOSTADDRESS=no such variable"})
		require.NoError(t, err)
		require.Equal(t, c.conninfo, strings.Replace(conninfo, " connect_timeout='1'", "", 1))
		require.NotContains(t, conninfo, "s3cr")
		want := []string{"HOME=/root", "PGHOSTADDRESS=no such variable", "PGPASSWORD=" + secret, "LC_ALL=C"}
		if strings.Contains(c.url, "servicefile") {
			want = append(want, "PGSERVICEFILE="+services)
		}
		require.ElementsMatch(t, want, env)
	}

	for _, parameter := range []string{"sslpassword", "krbspn"} {
		config, err := soultribe.PoolConfig("postgres://ann@db.example/people?sslmode=disable&" + parameter + "=" + password)
		require.NoError(t, err)
		_, _, err = connection(config.ConnConfig, nil)
		require.ErrorContains(t, err, "DATABASE_URL has "+parameter)
		require.NotContains(t, err.Error(), "s3cr")
	}
}

// TestGist leaves out of a program's errors what may be somebody's.
func TestGist(t *testing.T) {
	t.Parallel()
	c := client{name: "pg_restore"}
	require.Equal(t, `pg_restore: from TOC entry 1; 0 1 TABLE user postgres
pg_restore: error: COPY failed for table "user": ERROR:  duplicate key value violates unique constraint "x"
pg_restore: error: COPY failed for table "user": ERROR:  invalid input syntax for type integer
DETAIL:  constraint a_fkey on table a depends on table "user"`, c.gist(`pg_restore: from TOC entry 1; 0 1 TABLE user postgres
pg_restore: error: COPY failed for table "user": ERROR:  duplicate key value violates unique constraint "x"
DETAIL:  Key (email)=(ann@example.org) already exists.
CONTEXT:  COPY user, line 1
pg_restore: error: COPY failed for table "user": ERROR:  invalid input syntax for type integer: "ann@example.org"
DETAIL:  constraint a_fkey on table a depends on table "user"
Command was: INSERT INTO "user" VALUES ('ann@example.org')
`))
	require.Equal(t, maxComplaint, strings.Count(c.gist(strings.Repeat("pg_restore: x\n", 50)), "x"))
	require.Empty(t, c.gist("something else\n"))
}

// connect returns a connection that ends with the test.
func connect(t *testing.T, databaseURL string) *pgx.Conn {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, databaseURL)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(ctx)) })
	return conn
}

// at is the URL of another database of the same server.
func at(t *testing.T, databaseURL, name string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	require.NoError(t, err)
	u.Path = "/" + name
	return u.String()
}
