package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// pgBouncerVariable names the program, and insists on it.
	pgBouncerVariable = "SOULTRIBE_TEST_PGBOUNCER"
	pgBouncerPort     = 6432 // of a socket, which has its directory to itself
	pgBouncerDatabase = "pgbouncer"
)

// ErrNoPgBouncer means that this machine has no PgBouncer, and that the environment does not insist on it.
var ErrNoPgBouncer = errors.New(`there is no PgBouncer on this machine: install the package "pgbouncer", or set ` +
	pgBouncerVariable + ` to the path of the program`)

// pgBouncerPaths are where packages put the program, some of which are not in the PATH of everybody.
var pgBouncerPaths = []string{"pgbouncer", "/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer", "/usr/local/bin/pgbouncer"}

// PgBouncer is a running PgBouncer in transaction mode, in front of a server. Its methods may be called from
// several goroutines.
type PgBouncer struct {
	program   string
	directory *directory
	user      *account
	owner     *url.Userinfo // of the server

	mu      sync.Mutex // guards the process
	process *exec.Cmd
	exited  chan struct{} // closed when the process has ended
}

// StartPgBouncer runs the machine's PgBouncer in front of the server of a postgres:// URL, for all of its
// databases: each has so many connections to the server at most, which it uses in turn. It is the caller's
// to stop. ctx bounds the start.
func StartPgBouncer(ctx context.Context, serverURL string, servers int) (*PgBouncer, error) {
	b, err := startPgBouncer(ctx, serverURL, servers)
	if err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	return b, nil
}

func startPgBouncer(ctx context.Context, serverURL string, servers int) (*PgBouncer, error) {
	program, err := findPgBouncer(os.Getenv(pgBouncerVariable), pgBouncerPaths)
	if err != nil {
		return nil, err
	}
	server, err := pgx.ParseConfig(serverURL)
	if err != nil {
		return nil, errors.New("the server's is not a postgres:// URL") // the parser's own error quotes it
	}
	user, err := unprivileged() // it refuses to run as root, too
	if err != nil {
		return nil, err
	}
	dir, err := newDirectory(user)
	if err != nil {
		return nil, err
	}
	b := &PgBouncer{program: program, directory: dir, user: user, owner: url.UserPassword(server.User, server.Password)}
	if err = b.configure(server, servers); err == nil {
		err = b.Start(ctx)
	}
	if err != nil {
		dir.remove()
		return nil, err
	}
	return b, nil
}

// findPgBouncer returns the program that is wanted, else the first of these that is there.
func findPgBouncer(wanted string, paths []string) (string, error) {
	if wanted != "" {
		path, err := exec.LookPath(wanted)
		if err != nil {
			return "", fmt.Errorf("%s: %w", pgBouncerVariable, err)
		}
		return path, nil
	}
	for _, path := range paths {
		if path, err := exec.LookPath(path); err == nil {
			return path, nil
		}
	}
	return "", ErrNoPgBouncer
}

func (b *PgBouncer) file(name string) string { return filepath.Join(b.directory.path, name) }

// configure writes the configuration. Whoever may enter the directory needs no password, as with a server
// of our own; that of the server is in a file of its user's.
func (b *PgBouncer) configure(server *pgx.ConnConfig, servers int) error {
	config := strings.Join([]string{
		"[databases]",
		fmt.Sprintf("* = host=%s port=%d", server.Host, server.Port),
		"[pgbouncer]",
		"pool_mode = transaction",
		fmt.Sprintf("default_pool_size = %d", servers),
		"max_client_conn = 500",
		// Else one that is free is used again and again, and what a client left in it is still there.
		"server_round_robin = 1",
		"listen_addr =",
		fmt.Sprintf("listen_port = %d", pgBouncerPort),
		"unix_socket_dir = " + b.directory.path,
		"auth_type = trust",
		"auth_file = " + b.file("users"),
		"admin_users = " + server.User,
		"",
	}, "\n")
	quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
	for name, content := range map[string]string{"config": config, "users": quote(server.User) + " " + quote(server.Password) + "\n"} {
		if err := os.WriteFile(b.file(name), []byte(content), 0o600); err != nil {
			return err
		}
		if err := b.user.own(b.file(name)); err != nil {
			return err
		}
	}
	return nil
}

// URL returns the URL of the database of another, by way of PgBouncer.
func (b *PgBouncer) URL(databaseURL string) (string, error) {
	server, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return "", errors.New("pgserver: it is not a postgres:// URL")
	}
	return b.url(server.Database), nil
}

// AdminURL returns the URL of the console, which takes SHOW POOLS and the like in the simple protocol.
func (b *PgBouncer) AdminURL() string {
	return b.url(pgBouncerDatabase) + "&default_query_exec_mode=simple_protocol"
}

func (b *PgBouncer) url(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(b.owner.Username()),
		Path:     "/" + database,
		RawQuery: url.Values{"host": {b.directory.path}, "port": {strconv.Itoa(pgBouncerPort)}, "sslmode": {"disable"}}.Encode(),
	}
	return u.String()
}

// Start starts it again after Kill.
func (b *PgBouncer) Start(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	log, err := os.OpenFile(b.file("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), b.program, b.file("config")) // #nosec G204 -- a program for tests
	cmd.Dir = b.directory.path
	cmd.Stdout, cmd.Stderr = log, log
	b.user.run(cmd)
	dieWithParent(cmd)
	exited := make(chan struct{})
	if err := startOnOwnThread(cmd, exited); err != nil {
		return fmt.Errorf("PgBouncer: %w", err)
	}
	b.process, b.exited = cmd, exited
	if err := b.waitUntilReady(ctx); err != nil {
		b.end()
		return fmt.Errorf("PgBouncer: %w", err)
	}
	return nil
}

// waitUntilReady waits for it to take connections, whatever becomes of the server.
func (b *PgBouncer) waitUntilReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("it was not ready after %v", readyTimeout))
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "unix", b.file(".s.PGSQL."+strconv.Itoa(pgBouncerPort)))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ticker.C:
		case <-b.exited:
			return fmt.Errorf("it ended: %v\n%s", b.process.ProcessState, b.log())
		case <-ctx.Done():
			return fmt.Errorf("%w\n%s", context.Cause(ctx), b.log())
		}
	}
}

func (b *PgBouncer) log() []byte {
	log, _ := os.ReadFile(b.file("log"))
	return bytes.TrimSpace(log)
}

// Kill ends it as a crash does: without a word to clients or to the server.
func (b *PgBouncer) Kill() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end()
}

func (b *PgBouncer) end() {
	if b.process == nil {
		return
	}
	_ = kill(b.process) // fails when it has ended already
	<-b.exited
	b.process = nil
}

// Stop ends it for good and removes its directory. Further calls do nothing.
func (b *PgBouncer) Stop() {
	b.Kill()
	b.directory.remove()
}
