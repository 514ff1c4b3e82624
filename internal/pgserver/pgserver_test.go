package pgserver

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The environment of a process is one, and testcontainers reads it once. A test that needs another one runs Start
// in a child process, which is this program again.
const (
	childVariable = "SOULTRIBE_TEST_PGSERVER_CHILD"
	// hideVariable makes a child look for binaries in PATH only.
	hideVariable = "SOULTRIBE_TEST_PGSERVER_HIDE"
)

// report is what a child says of its server.
type report struct{ URL, Description, Error string }

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		beChild()
		return
	}
	os.Exit(m.Run())
}

// beChild starts a server, reports it, and stops it when its input ends.
func beChild() {
	if os.Getenv(hideVariable) != "" {
		installations = nil
	}
	var r report
	s, err := Start(context.Background())
	if err != nil {
		r.Error = err.Error()
	} else {
		r.URL, r.Description = s.URL, s.Description
		defer s.Stop()
	}
	_ = json.NewEncoder(os.Stdout).Encode(r)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// child is a process that runs beChild.
type child struct {
	report
	cmd   *exec.Cmd
	input io.Closer
}

// startChild runs a child, with these variables and none of those that choose a server.
func startChild(t *testing.T, variables ...string) *child {
	t.Helper()
	c := &child{cmd: exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0])}
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "SOULTRIBE_TEST_") {
			c.cmd.Env = append(c.cmd.Env, variable)
		}
	}
	c.cmd.Env = append(append(c.cmd.Env, childVariable+"=1"), variables...)
	c.cmd.Stderr = t.Output()
	input, err := c.cmd.StdinPipe()
	require.NoError(t, err)
	output, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	c.input = input
	t.Cleanup(c.stop)
	line, err := bufio.NewReader(output).ReadBytes('\n')
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(line, &c.report))
	return c
}

// stop lets the child stop its server and end.
func (c *child) stop() {
	_ = c.input.Close()
	_ = c.cmd.Wait()
}

// kill ends the child without giving it a chance to stop its server.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// skipUnless skips the test where this machine does not offer the lane, unless the environment insists on it.
func skipUnless(t *testing.T, lane string, err error) {
	t.Helper()
	if isUnavailable(err) && os.Getenv(laneVariable) != lane {
		t.Skip(err)
	}
	require.NoError(t, err)
}

func localServer(t *testing.T) *Server {
	t.Helper()
	s, err := startLocal(t.Context())
	skipUnless(t, laneLocal, err)
	t.Cleanup(s.Stop)
	return s
}

func containerServer(t *testing.T) *Server {
	t.Helper()
	s, err := startContainer(t.Context())
	skipUnless(t, laneContainer, err)
	t.Cleanup(s.Stop)
	return s
}

func connect(t *testing.T, databaseURL string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// eventually waits for what another process does in its own time.
func eventually(t *testing.T, condition func() bool, message string) {
	t.Helper()
	require.Eventually(t, condition, 20*time.Second, 20*time.Millisecond, message)
}

// assertForTests checks that it is a server as tests want it.
func assertForTests(t *testing.T, databaseURL string) {
	t.Helper()
	conn := connect(t, databaseURL)
	var database, superuser string
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT current_database(), current_setting('is_superuser')`).Scan(&database, &superuser))
	assert.Equal(t, "postgres", database)
	assert.Equal(t, "on", superuser)
	for _, setting := range settings {
		name, want, _ := strings.Cut(setting, "=")
		var got string
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&got))
		assert.Equal(t, want, got, name)
	}
}

func TestLocalServer(t *testing.T) {
	t.Parallel()
	s := localServer(t)
	assert.Regexp(t, `^PostgreSQL [0-9.]+\S* from \S+ in a temporary directory$`, s.Description)
	assertForTests(t, s.URL)

	config, err := pgx.ParseConfig(s.URL)
	require.NoError(t, err)
	assert.Equal(t, directoryPrefix, filepath.Base(config.Host)[:len(directoryPrefix)])
	assert.DirExists(t, config.Host)
	var pid int
	require.NoError(t, connect(t, s.URL).QueryRow(t.Context(), `SELECT pg_backend_pid()`).Scan(&pid))

	s.Stop()
	s.Stop()
	assert.NoDirExists(t, config.Host)
	_, err = pgx.Connect(t.Context(), s.URL)
	require.Error(t, err)
	eventually(t, func() bool { return !isAlive(pid) }, "a process of the server remains")
}

func TestContainerServer(t *testing.T) {
	t.Parallel()
	s := containerServer(t)
	assert.Regexp(t, `^PostgreSQL [0-9.]+\S* in a container \(\S+\)$`, s.Description)
	assertForTests(t, s.URL)

	config, err := pgx.ParseConfig(s.URL)
	require.NoError(t, err)
	assert.Len(t, config.Password, 26)
	assert.NotContains(t, s.Description, config.Password)
	config.Password = "wrong"
	_, err = pgx.ConnectConfig(t.Context(), config)
	require.ErrorContains(t, err, "password authentication failed")

	s.Stop()
	s.Stop()
	_, err = pgx.Connect(t.Context(), s.URL)
	require.Error(t, err)
}

func TestGivenServer(t *testing.T) {
	t.Parallel()
	local := localServer(t)
	given := strings.Replace(local.URL, "postgres@", "postgres:hunter2@", 1)

	s, err := start(t.Context(), given, "")
	require.NoError(t, err)
	assert.Equal(t, given, s.URL)
	assert.Regexp(t, `^PostgreSQL [0-9.]+\S* at SOULTRIBE_TEST_DATABASE_URL \(.*:5432\)$`, s.Description)
	assert.NotContains(t, s.Description, "hunter2")
	s.Stop()
	assertForTests(t, local.URL)

	c := startChild(t, urlVariable+"="+given)
	assert.Equal(t, report{URL: given, Description: s.Description}, c.report)
	c.stop()
	assertForTests(t, local.URL)
}

func TestBadEnvironment(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, url, lane, want string }{
		{"unknown server", "", "podman", `SOULTRIBE_TEST_SERVER is "podman", which is neither "container" nor "local"`},
		{"two servers", "postgres://u:hunter2@h/d", laneLocal, "SOULTRIBE_TEST_DATABASE_URL and SOULTRIBE_TEST_SERVER=local are both set"},
		{"no URL", "host=localhost password=hunter2", "", "SOULTRIBE_TEST_DATABASE_URL is not a postgres:// URL"},
		{"other URL", "mysql://u:hunter2@h/d", "", "SOULTRIBE_TEST_DATABASE_URL is not a postgres:// URL"},
		{"broken URL", "postgres://u:hunter2 @h:x/d", "", "SOULTRIBE_TEST_DATABASE_URL is not a postgres:// URL"},
		{"nobody there", "postgres://u:hunter2@127.0.0.1:1/d", "", "SOULTRIBE_TEST_DATABASE_URL: failed to connect"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := start(t.Context(), test.url, test.lane)
			require.ErrorContains(t, err, test.want)
			assert.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, lane := range []string{"", laneContainer, laneLocal} {
		_, err := start(ctx, "", lane)
		if !isUnavailable(err) {
			require.ErrorIs(t, err, context.Canceled, lane)
		}
	}
}

// noDocker is where no engine listens.
const noDocker = "DOCKER_HOST=unix:///nonexistent/docker.sock"

func TestNoServer(t *testing.T) {
	t.Parallel()
	empty := "PATH=" + t.TempDir()
	for _, test := range []struct {
		name      string
		variables []string
		want      []string
	}{
		{"any", nil, []string{"there is no PostgreSQL", "1. set SOULTRIBE_TEST_DATABASE_URL", "2. run Docker", "/nonexistent/docker.sock", "3. install", "no PostgreSQL server binaries"}},
		{"container", []string{laneVariable + "=container"}, []string{"Docker cannot be reached", "/nonexistent/docker.sock"}},
		{"local", []string{laneVariable + "=local"}, []string{"no PostgreSQL server binaries"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := startChild(t, append(test.variables, noDocker, empty, hideVariable+"=1")...)
			for _, want := range test.want {
				assert.Contains(t, c.Error, want)
			}
		})
	}
}

func TestFallback(t *testing.T) {
	t.Parallel()
	_, err := findBinaries()
	skipUnless(t, laneLocal, err)
	for _, test := range []struct{ name, variable, want string }{
		{"no Docker", noDocker, `as no container could be had: Docker cannot be reached: .*/nonexistent/docker.sock`},
		{"no image", imageVariable + "=127.0.0.1:1/none:1", `as no container could be had: Docker (has no image 127.0.0.1:1/none:1 and cannot pull it|cannot be reached): `},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := startChild(t, test.variable)
			require.Empty(t, c.Error)
			assert.Regexp(t, `^PostgreSQL \S+ from \S+ in a temporary directory, `+test.want, c.Description)
			assert.NotContains(t, c.Description, "\n")
			assertForTests(t, c.URL)
		})
	}
}

// publicDirectory makes a temporary directory that the server's user may enter, unlike the testing package's.
func publicDirectory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(baseDirectory(nil), "pgserver-") //nolint:usetesting // t.TempDir is private
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755)) // #nosec G302 -- as said
	return dir
}

// A server must not outlive its process, nor its directory the next start, however the process ended.
func TestLocalServerOfKilledProcess(t *testing.T) {
	t.Parallel()
	_, err := findBinaries()
	skipUnless(t, laneLocal, err)
	base := publicDirectory(t)
	running := startChild(t, laneVariable+"=local", "TMPDIR="+base)
	require.Empty(t, running.Error)
	killed := startChild(t, laneVariable+"=local", "TMPDIR="+base)
	require.Empty(t, killed.Error)
	config, err := pgx.ParseConfig(killed.URL)
	require.NoError(t, err)

	killed.kill()
	eventually(t, func() bool {
		_, err := pgx.Connect(t.Context(), killed.URL)
		return err != nil
	}, "the server outlives its process")
	assert.DirExists(t, config.Host)
	removeLeftDirectories(base)
	assert.NoDirExists(t, config.Host)
	assertForTests(t, running.URL)
}

func TestLocalServerInAwkwardDirectory(t *testing.T) {
	t.Parallel()
	_, err := findBinaries()
	skipUnless(t, laneLocal, err)
	long := filepath.Join(t.TempDir(), strings.Repeat("long", 20))
	require.NoError(t, os.Mkdir(long, 0o700))
	c := startChild(t, laneVariable+"=local", "TMPDIR="+long)
	require.Empty(t, c.Error)
	assertForTests(t, c.URL)
}

func TestNewestVersion(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []int{9, 6}, numbers("/usr/lib/postgresql/9.6/bin"))
	assert.Equal(t, []int{15}, numbers("/usr/lib/postgresql/15/bin"))
	assert.Nil(t, numbers("/usr/bin"))
}
