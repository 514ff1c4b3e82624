package pgserver

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// durableSettings are those of a server whose data is wanted after a crash.
var durableSettings = []string{
	"fsync=on",
	"synchronous_commit=on",
	"full_page_writes=on",
	"log_destination=stderr",
	"logging_collector=off",
}

// standbyName is what a standby tells its primary.
const standbyName = "standby"

// Durable is a server from the machine's own binaries that keeps what it has acknowledged, for tests that kill it. It
// comes back on the same data and at the same address. Its methods are for one goroutine.
type Durable struct{ c *cluster }

// Unavailable reports whether err means that this machine lacks what a server needs, as opposed to a server that fails.
func Unavailable(err error) bool { return isUnavailable(err) }

// StartDurable starts a server on a new cluster. It is the caller's to stop, and ends with the process. ctx bounds the
// start.
func StartDurable(ctx context.Context) (*Durable, error) {
	d, err := newDurable()
	if err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	err = d.c.initialize(ctx)
	if err == nil {
		err = d.Start(ctx)
	}
	if err != nil {
		d.Stop()
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	return d, nil
}

func newDurable() (*Durable, error) {
	if !canKill {
		return nil, unavailable("this system has no signals to kill a server with")
	}
	c, err := newCluster(durableSettings)
	if err != nil {
		return nil, err
	}
	return &Durable{c}, nil
}

// URL is the postgres:// URL of a superuser on the database "postgres".
func (d *Durable) URL() string { return d.c.url() }

// SocketDirectory is the host in the URL, for one that names several.
func (d *Durable) SocketDirectory() string { return d.c.directory.path }

// Kill ends all processes of the server by SIGKILL, as a kernel that has run out of memory may, and returns when there
// are none left.
func (d *Durable) Kill() error {
	err := killAll(d.c.process)
	<-d.c.exited
	return err
}

// KillBackend ends the process of one session by SIGKILL. The server then drops all sessions, and recovers by itself.
func (d *Durable) KillBackend(pid int) error { return killChild(d.c.process, pid) }

// Start starts the server again after Kill, and waits until it takes connections.
func (d *Durable) Start(ctx context.Context) error { return d.c.start(ctx) }

// Standby starts a second server that follows this one by streaming replication. From then on this one acknowledges no
// transaction that the standby does not have.
func (d *Durable) Standby(ctx context.Context) (*Durable, error) {
	s, err := newDurable()
	if err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	err = s.follow(ctx, d.c)
	if err == nil {
		err = d.waitForStandby(ctx)
	}
	if err != nil {
		s.Stop()
		return nil, fmt.Errorf("pgserver: standby: %w", err)
	}
	return s, nil
}

func (d *Durable) follow(ctx context.Context, primary *cluster) error {
	from := fmt.Sprintf("host=%s port=5432 user=postgres application_name=%s", primary.directory.path, standbyName)
	if err := d.run(ctx, "pg_basebackup", "--dbname", from, "--pgdata", d.c.data(), "--write-recovery-conf",
		"--create-slot", "--slot", standbyName, "--checkpoint=fast", "--no-sync"); err != nil {
		return err
	}
	return d.Start(ctx)
}

// waitForStandby makes replication synchronous, which it must not be before there is a standby to wait for.
func (d *Durable) waitForStandby(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, d.URL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = '" + standbyName + "'", "SELECT pg_reload_conf()"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("replication was not synchronous after %v", readyTimeout))
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for synchronous := false; !synchronous; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		// A session that has read the configuration waits, as the new ones of others do.
		if err := conn.QueryRow(ctx, `SELECT current_setting('synchronous_standby_names') <> ''
			AND EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')`).Scan(&synchronous); err != nil {
			return err
		}
	}
	return nil
}

// Promote makes a standby a primary by pg_ctl promote, and returns when it takes writes.
func (d *Durable) Promote(ctx context.Context) error {
	return d.run(ctx, "pg_ctl", "promote", "--pgdata", d.c.data())
}

// run runs one of the programs that come with the server.
func (d *Durable) run(ctx context.Context, name string, args ...string) error {
	if !isExecutable(filepath.Join(d.c.binaries, name)) {
		return unavailable("there is no %s beside the PostgreSQL server binaries in %s", name, d.c.binaries)
	}
	if out, err := d.c.command(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, bytes.TrimSpace(out))
	}
	return nil
}

// Stop ends the server at once and removes its directory.
func (d *Durable) Stop() {
	segment := d.c.sharedMemory()
	d.c.stop()
	if segment != "" {
		// Only one that was killed has left it. The program fails where a server has removed it.
		_ = exec.CommandContext(context.Background(), "ipcrm", "-m", segment).Run()
	}
}

// sharedMemory returns the id of the segment by which the server tells whether another one uses its data, or "".
func (c *cluster) sharedMemory() string {
	content, err := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
	if err != nil {
		return ""
	}
	lines := strings.Split(string(content), "\n")
	if len(lines) < 7 {
		return ""
	}
	key := strings.Fields(lines[6])
	if len(key) != 2 {
		return ""
	}
	return key[1]
}
