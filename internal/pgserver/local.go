package pgserver

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	directoryPrefix = "soultribe-postgres-"
	// A socket's path has 103 bytes at most on some systems, and its name and our directory's want 40.
	longestBase  = 60
	readyTimeout = 30 * time.Second
	stopTimeout  = 5 * time.Second
)

// installations are where packages put the server's binaries outside of PATH, each with a version in its name.
var installations = []string{
	"/usr/lib/postgresql/*/bin",            // Debian, Ubuntu
	"/usr/pgsql-*/bin",                     // Red Hat, Fedora
	"/usr/lib/postgresql*/bin",             // SUSE, Gentoo
	"/usr/libexec/postgresql*",             // Alpine
	"/opt/homebrew/opt/postgresql@*/bin",   // macOS
	"/usr/local/opt/postgresql@*/bin",      // macOS on Intel
	"/Library/PostgreSQL/*/bin",            // macOS, EnterpriseDB
	`C:\Program Files\PostgreSQL\*\bin`,    // Windows
	"/Applications/Postgres.app/*/*/*/bin", // macOS, Postgres.app
}

// cluster is a server that runs the machine's binaries in a directory of its own.
type cluster struct {
	binaries  string
	directory *directory
	user      *account
	settings  []string
	process   *exec.Cmd
	exited    chan struct{} // closed when the process has ended
}

// startLocal runs the machine's own PostgreSQL binaries.
func startLocal(ctx context.Context, more ...string) (*Server, error) {
	c, err := newCluster(slices.Concat(settings, more))
	if err != nil {
		return nil, err
	}
	s, err := c.serve(ctx)
	if err != nil {
		c.stop()
		return nil, fmt.Errorf("PostgreSQL from %s: %w", c.binaries, err)
	}
	return s, nil
}

// newCluster makes the directory of a server.
func newCluster(settings []string) (*cluster, error) {
	binaries, err := findBinaries()
	if err != nil {
		return nil, err
	}
	user, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := newDirectory(user)
	if err != nil {
		return nil, err
	}
	return &cluster{binaries: binaries, directory: dir, user: user, settings: settings}, nil
}

// findBinaries returns the directory of the server's binaries: the one in PATH, else the newest installed.
func findBinaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil && isExecutable(filepath.Join(filepath.Dir(path), "postgres")) {
			return filepath.Dir(path), nil
		}
	}
	var found []string
	for _, pattern := range installations {
		matches, _ := filepath.Glob(pattern)
		found = append(found, matches...)
	}
	found = slices.DeleteFunc(found, func(dir string) bool {
		return !isExecutable(filepath.Join(dir, "initdb")) || !isExecutable(filepath.Join(dir, "postgres"))
	})
	if len(found) == 0 {
		return "", unavailable("there are no PostgreSQL server binaries, initdb and postgres, in PATH or where packages put them")
	}
	return slices.MaxFunc(found, func(a, b string) int { return slices.Compare(numbers(a), numbers(b)) }), nil
}

func isExecutable(path string) bool {
	_, err := exec.LookPath(path)
	return err == nil
}

// numbers returns the numbers in a path, by which version 9 comes before version 15.
func numbers(path string) []int {
	var ns []int
	for _, digits := range strings.FieldsFunc(path, func(r rune) bool { return r < '0' || r > '9' }) {
		n, _ := strconv.Atoi(digits)
		ns = append(ns, n)
	}
	return ns
}

// serve makes the cluster and starts its server.
func (c *cluster) serve(ctx context.Context) (*Server, error) {
	if err := c.initialize(ctx); err != nil {
		return nil, err
	}
	if err := c.start(ctx); err != nil {
		return nil, err
	}
	databaseURL := c.url()
	version, _, err := inspect(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	return &Server{
		URL:         databaseURL,
		Description: fmt.Sprintf("PostgreSQL %s from %s in a temporary directory", version, c.binaries),
		stop:        c.stop,
	}, nil
}

func (c *cluster) data() string    { return filepath.Join(c.directory.path, "data") }
func (c *cluster) logFile() string { return filepath.Join(c.directory.path, "log") }

// url needs no password: the server listens on a socket alone, in a directory that is only its user's.
func (c *cluster) url() string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User("postgres"),
		Path:     "/postgres",
		RawQuery: url.Values{"host": {c.directory.path}, "port": {"5432"}, "sslmode": {"disable"}}.Encode(),
	}
	return u.String()
}

// command prepares one of the server's programs to run as its user.
func (c *cluster) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.binaries, name), args...)
	cmd.Dir = c.directory.path
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	c.user.run(cmd)
	cmd.Cancel = func() error { return kill(cmd) }
	return cmd
}

func (c *cluster) initialize(ctx context.Context) error {
	cmd := c.command(ctx, "initdb", "-D", c.data(), "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// start starts the server on the data that is there, and waits until it takes connections.
func (c *cluster) start(ctx context.Context) error {
	if err := c.launch(); err != nil {
		return err
	}
	return c.waitUntilReady(ctx)
}

func (c *cluster) launch() error {
	log, err := os.Create(c.logFile())
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	args := []string{"-D", c.data(), "-k", c.directory.path, "-h", "", "-p", "5432"}
	for _, setting := range c.settings {
		args = append(args, "-c", setting)
	}
	if runtime.GOOS != "windows" {
		// Containers, in which tests often run, have little of the other kinds of shared memory.
		args = append(args, "-c", "dynamic_shared_memory_type=mmap")
	}
	cmd := c.command(context.Background(), "postgres", args...)
	cmd.Stdout, cmd.Stderr = log, log
	dieWithParent(cmd)
	exited := make(chan struct{})
	if err := startOnOwnThread(cmd, exited); err != nil {
		return err
	}
	c.process, c.exited = cmd, exited
	return nil
}

// startOnOwnThread starts cmd from a thread that lives as long as it does, for the system ties a
// process that is to die with its parent to the thread that started it.
func startOnOwnThread(cmd *exec.Cmd, exited chan<- struct{}) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // its state tells how it ended
			close(exited)
		}
	}()
	return <-started
}

// waitUntilReady waits for the server to take connections.
func (c *cluster) waitUntilReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("the server was not ready after %v", readyTimeout))
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !c.ready() {
		select {
		case <-ticker.C:
		case <-c.exited:
			return fmt.Errorf("the server ended: %v\n%s", c.process.ProcessState, c.log())
		case <-ctx.Done():
			return fmt.Errorf("%w\n%s", context.Cause(ctx), c.log())
		}
	}
	return nil
}

// ready looks at what pg_ctl looks at: the eighth line of the server's pid file, unless a server that was
// killed has left it.
func (c *cluster) ready() bool {
	content, err := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(content), "\n")
	return len(lines) > 7 && lines[0] == strconv.Itoa(c.process.Process.Pid) && strings.TrimSpace(lines[7]) == "ready"
}

func (c *cluster) log() []byte {
	log, _ := os.ReadFile(c.logFile())
	return bytes.TrimSpace(log)
}

// stop ends the server at once, as its data is thrown away, and removes its directory.
func (c *cluster) stop() {
	if c.process != nil {
		_ = quit(c.process) // fails when it has ended already
		select {
		case <-c.exited:
		case <-time.After(stopTimeout):
			_ = kill(c.process)
			<-c.exited
		}
	}
	c.directory.remove()
}
