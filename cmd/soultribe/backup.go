package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/soultribe-chat/soultribe/schema"
)

// dumpLockTimeout is how long a backup waits for a table that is locked for a change of its shape.
const dumpLockTimeout = time.Minute

func backupFlags(f *flag.FlagSet, s *settings) {
	f.DurationVar(&s.lockTimeout, "lock-timeout", dumpLockTimeout, "how long to wait for a table that is being changed")
	f.BoolVar(&s.force, "force", false, "replace FILE where it is there already")
}

func restoreFlags(f *flag.FlagSet, s *settings) {
	f.BoolVar(&s.clean, "clean", false,
		"first drop what the backup has from a database that is not empty, rows and all; whatever else is there stays")
}

// saved is the answer of backup.
type saved struct {
	File     string `json:"file"`
	Bytes    int64  `json:"bytes"`
	Database string `json:"database"`
	Version  int    `json:"version"` // of the tables; 0 when they have none
}

// String says what is in the file.
func (s saved) String() string {
	version := "which is not migrated"
	if s.Version > 0 {
		version = fmt.Sprintf("at version %d", s.Version)
	}
	return fmt.Sprintf("%s (%s) has the database %s, %s", s.File, bytesText(s.Bytes), printable(s.Database), version)
}

// restored is the answer of restore, as soon as all is there.
type restored struct {
	File     string `json:"file"`
	Bytes    int64  `json:"bytes"`
	Database string `json:"database"`
	Checked  bool   `json:"checked"` // and found to be as the library needs it
}

// String says what has become of the database.
func (r restored) String() string {
	state := "not checked"
	if r.Checked {
		state = "checked"
	}
	return fmt.Sprintf("the database %s is restored from %s (%s), and %s", printable(r.Database), r.File, bytesText(r.Bytes), state)
}

// server is what must be known of it.
type server struct {
	database string
	major    int
}

func (t *task) server(ctx context.Context) (s server, err error) {
	err = t.pool.QueryRow(ctx, "SELECT pg_catalog.current_database()::text, pg_catalog.current_setting('server_version_num')::int / 10000").
		Scan(&s.database, &s.major)
	return s, err
}

// backup writes to another name and a file of its own, which takes the place of FILE when it is whole.
func backup(ctx context.Context, t *task) (fmt.Stringer, error) {
	// pg_dump takes 0 for no limit.
	if ms := t.lockTimeout.Milliseconds(); ms < 1 || ms > math.MaxInt32 {
		return nil, usageError("-lock-timeout must be from 1ms to 596h")
	}
	if err := t.vacant(); err != nil {
		return nil, err
	}
	server, err := t.server(ctx)
	if err != nil {
		return nil, err
	}
	conninfo, env, err := connection(t.pool.Config().ConnConfig, os.Environ())
	if err != nil {
		return nil, err
	}
	found := t.clients(ctx, "pg_dump", env)
	dump, ok := suitable(found, server.major)
	if !ok {
		return nil, unsuitable("pg_dump", found, server.major, "the server")
	}
	state, err := schema.Status(ctx, t.pool, schema.In(t.schema))
	if err != nil {
		return nil, err
	}

	partial := t.argument + ".partial"
	f, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // a file that the user names
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s exists: another backup is at work, or was killed; in that case remove it", partial)
	}
	if err != nil {
		return nil, err
	}
	whole := false
	defer func() {
		if !whole { // else the name may be another backup's by now
			_ = f.Close()
			_ = os.Remove(partial)
		}
	}()
	t.tell(func() string { return fileSize(f) + " written" })
	err = dump.run(ctx, nil, f, "--format=custom", "--no-password",
		fmt.Sprintf("--lock-wait-timeout=%d", t.lockTimeout.Milliseconds()), "--dbname="+conninfo)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Sync(), f.Close(), t.vacant()); err != nil {
		return nil, err
	}
	if err := os.Rename(partial, t.argument); err != nil {
		return nil, err
	}
	whole = true
	syncDirectory(filepath.Dir(t.argument))
	return saved{t.argument, info.Size(), server.database, state.Version}, nil
}

// vacant returns an error where FILE must not be written.
func (t *task) vacant() error {
	switch info, err := os.Lstat(t.argument); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is there, and is not a file", t.argument)
	case !t.force:
		return fmt.Errorf("%s exists; -force replaces it", t.argument)
	}
	return nil
}

// syncDirectory has a new name survive a loss of power, where the system can.
func syncDirectory(dir string) {
	if d, err := os.Open(dir); err == nil { //nolint:gosec // the directory of a file that the user names
		_ = d.Sync()
		_ = d.Close()
	}
}

func fileSize(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return "?"
	}
	return bytesText(info.Size())
}

// errOccupied is for a database that has something where a backup is to go.
var errOccupied = errors.New("the database is not empty")

// restore is one transaction of pg_restore, and a look at what it has brought.
func restore(ctx context.Context, t *task) (fmt.Stringer, error) {
	f, err := os.Open(t.argument)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", t.argument)
	}
	server, err := t.server(ctx)
	if err != nil {
		return nil, err
	}
	conninfo, env, err := connection(t.pool.Config().ConnConfig, os.Environ())
	if err != nil {
		return nil, err
	}
	pgRestore, err := t.pgRestore(ctx, f, server.major, env)
	if err != nil {
		return nil, err
	}
	args := []string{"--exit-on-error", "--single-transaction", "--no-owner", "--no-password"}
	if t.clean {
		args = append(args, "--clean", "--if-exists")
	} else if err := t.empty(ctx); err != nil {
		return nil, err
	}

	// The file is given as it is open: its offset tells how much of it has been read.
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	t.tell(func() string {
		read, _ := f.Seek(0, io.SeekCurrent)
		return fmt.Sprintf("%s of %s read", bytesText(read), bytesText(info.Size()))
	})
	if err := pgRestore.run(ctx, f, nil, append(args, "--dbname="+conninfo)...); err != nil {
		if pgRestore.major > server.major {
			err = fmt.Errorf("%w\npg_restore is of version %d, the server of version %d, which may not understand it", err, pgRestore.major, server.major)
		}
		return nil, fmt.Errorf("the database is as it was: %w", err)
	}
	done := restored{File: t.argument, Bytes: info.Size(), Database: server.database}
	t.tell(func() string { return "all restored, at work on statistics" })
	// The planner knows nothing of tables that were made just now.
	if _, err := t.pool.Exec(ctx, "ANALYZE"); err != nil {
		return done, err
	}
	if err := schema.Check(ctx, t.pool, schema.In(t.schema)); err != nil {
		return done, err
	}
	done.Checked = true
	return done, nil
}

var dumpedBy = regexp.MustCompile(`(?m)^;\s+Dumped by pg_dump version: (\d+)`)

// pgRestore finds one that can read the archive, by way of having the newest list it.
func (t *task) pgRestore(ctx context.Context, f *os.File, server int, env []string) (client, error) {
	const name = "pg_restore"
	found := t.clients(ctx, name, env)
	if len(found) == 0 {
		return client{}, unsuitable(name, nil, server, "the server")
	}
	newest := slices.MaxFunc(found, byMajor)
	var list bytes.Buffer
	if err := newest.run(ctx, f, &list, "--list"); err != nil {
		return client{}, fmt.Errorf("%s cannot be read (by %s of version %d): %w", t.argument, name, newest.major, err)
	}
	m := dumpedBy.FindSubmatch(list.Bytes())
	if m == nil {
		return client{}, fmt.Errorf("%s does not say which pg_dump made it", t.argument)
	}
	major, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return client{}, err
	}
	if c, ok := suitable(found, max(major, server)); ok {
		return c, nil
	}
	if c, ok := suitable(found, major); ok {
		return c, nil
	}
	return client{}, unsuitable(name, found, major, t.argument)
}

// occupants are the relations that somebody made, but for those of extensions.
const occupants = `
SELECT count(*), coalesce(min(pg_catalog.format('%I.%I', n.nspname, c.relname)), '')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
	WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')`

// empty returns an error for a database that has tables, views or sequences in whichever schema.
func (t *task) empty(ctx context.Context) error {
	var n int
	var first string
	if err := t.pool.QueryRow(ctx, occupants).Scan(&n, &first); err != nil {
		return err
	}
	if n > 0 {
		return fmt.Errorf("%w: it has %d tables, views or sequences, such as %s; -clean drops those that the backup has, rows and all, and restores them",
			errOccupied, n, first)
	}
	return nil
}
