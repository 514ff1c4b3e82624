package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// installations are where packages put PostgreSQL's programs outside of PATH.
var installations = []string{
	"/usr/lib/postgresql/*/bin",            // Debian, Ubuntu
	"/usr/pgsql-*/bin",                     // Red Hat, Fedora
	"/usr/lib/postgresql*/bin",             // SUSE, Gentoo
	"/usr/libexec/postgresql*",             // Alpine
	"/opt/homebrew/opt/libpq/bin",          // macOS
	"/opt/homebrew/opt/postgresql@*/bin",   // macOS
	"/usr/local/opt/postgresql@*/bin",      // macOS on Intel
	"/Library/PostgreSQL/*/bin",            // macOS, EnterpriseDB
	"/Applications/Postgres.app/*/*/*/bin", // macOS, Postgres.app
	`C:\Program Files\PostgreSQL\*\bin`,    // Windows
}

// clientDirectories are those of PATH, and where packages put PostgreSQL's programs.
func clientDirectories(path string) []string {
	all := filepath.SplitList(path)
	for _, pattern := range installations {
		matches, _ := filepath.Glob(pattern)
		all = append(all, matches...)
	}
	return all
}

const (
	versionTimeout = 10 * time.Second
	// stopTimeout is how long a program may take to end after it was told to.
	stopTimeout = 10 * time.Second
)

// client is one of PostgreSQL's client programs.
type client struct {
	name, path string
	major      int
	env        []string
}

// clients finds all programs of a name, of whatever versions, to be run in an environment.
func (p program) clients(ctx context.Context, name string, env []string) []client {
	var all []client
	for _, dir := range p.directories {
		path, err := exec.LookPath(filepath.Join(dir, name))
		if dir == "" || err != nil {
			continue
		}
		// Debian's wrapper has its own mind about which version to run: those it runs are found by themselves.
		if target, err := filepath.EvalSymlinks(path); err != nil || filepath.Base(target) == "pg_wrapper" {
			continue
		}
		if c := (client{name: name, path: path, env: env}); c.ask(ctx) {
			all = append(all, c)
		}
	}
	return all
}

var clientVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// ask has the program say its version, and reports whether it did.
func (c *client) ask(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.path, "--version") //nolint:gosec // one that was looked for
	cmd.Env = c.env
	out, err := cmd.Output()
	m := clientVersion.FindSubmatch(out)
	if err != nil || m == nil {
		return false
	}
	c.major, err = strconv.Atoi(string(m[1]))
	return err == nil
}

func byMajor(a, b client) int { return cmp.Compare(a.major, b.major) }

// suitable returns the oldest of the programs that is of version major or later, of equals the first: a dump
// by a much later pg_dump may be more than the server understands.
func suitable(all []client, major int) (client, bool) {
	all = slices.DeleteFunc(slices.Clone(all), func(c client) bool { return c.major < major })
	if len(all) == 0 {
		return client{}, false
	}
	return slices.MinFunc(all, byMajor), true
}

// unsuitable says what there is instead of a program of version major or later, which is that of whose.
func unsuitable(name string, all []client, major int, whose string) error {
	if len(all) == 0 {
		return fmt.Errorf("%s is not installed; it must be of version %d, as %s, or later (Debian's package postgresql-client-%d)",
			name, major, whose, major)
	}
	newest := slices.MaxFunc(all, byMajor)
	return fmt.Errorf("%s is of version %d (%s), %s of version %d: install a later one (Debian's package postgresql-client-%d)",
		name, newest.major, newest.path, whose, major, major)
}

// run runs the program to its end. Where ctx ends first, the program is told to stop, and cancels what the
// server does for it.
func (c client) run(ctx context.Context, stdin io.Reader, stdout io.Writer, args ...string) error {
	var complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, c.path, args...) //nolint:gosec // one that was looked for
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, &complaint
	cmd.Env = c.env
	cmd.WaitDelay = stopTimeout
	cmd.Cancel = func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return cmd.Process.Kill() // Windows has no signals
		}
		return nil
	}
	err := cmd.Run()
	if err == nil || ctx.Err() != nil {
		return err
	}
	return errors.New(cmp.Or(c.gist(complaint.String()), c.name+": "+err.Error()))
}

// maxComplaint is how many lines of a program's errors are passed on.
const maxComplaint = 10

// copyFailed is where the message of a failed COPY may go on to quote a row.
var copyFailed = regexp.MustCompile(`(COPY failed for table .*?: ERROR:\s+[^:]*).*`)

// gist is what a program says on stderr, without what may quote rows: details, contexts and statements. It
// leaves in which objects are in the way of others.
func (c client) gist(complaint string) string {
	var kept []string
	for line := range strings.Lines(complaint) {
		line = strings.TrimRight(line, "\r\n")
		dependent := strings.Contains(line, " depends on ") && !strings.Contains(line, "'")
		if strings.HasPrefix(line, c.name+": ") || dependent {
			kept = append(kept, copyFailed.ReplaceAllString(line, "$1"))
		}
	}
	return strings.Join(kept[max(0, len(kept)-maxComplaint):], "\n")
}

// passedOn are the parameters of a URL that libpq reads as pgx does. The others are read from pgx's
// configuration, or concern nobody else.
var passedOn = []string{
	"service", "sslmode", "sslkey", "sslcert", "sslcertmode", "sslrootcert", "sslnegotiation", "sslsni", "krbsrvname",
	"target_session_attrs", "channel_binding", "require_auth", "min_protocol_version", "max_protocol_version",
}

// connection says to libpq what the URL has said to pgx: in a connection string, which is for the command
// line and so has no password, and in the environment.
func connection(config *pgx.ConnConfig, environ []string) (conninfo string, env []string, err error) {
	parsed, err := url.Parse(config.ConnString())
	if err != nil {
		return "", nil, errors.New("DATABASE_URL cannot be passed on") // the error would quote it
	}
	query := parsed.Query()
	for _, name := range []string{"sslpassword", "krbspn"} {
		if query.Has(name) {
			return "", nil, fmt.Errorf("DATABASE_URL has %s, which pg_dump and pg_restore have no safe way to be told", name)
		}
	}
	var hosts, ports []string
	for _, at := range append([]string{hostPort(config.Host, config.Port)}, fallbacks(config)...) {
		host, port, _ := strings.Cut(at, "\x00")
		hosts, ports = append(hosts, host), append(ports, port)
	}
	var b strings.Builder
	add := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s='%s' ", name, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
		}
	}
	add("host", strings.Join(hosts, ","))
	add("port", strings.Join(ports, ","))
	add("user", config.User)
	add("dbname", config.Database)
	add("application_name", config.RuntimeParams["application_name"])
	add("options", options(config.RuntimeParams))
	add("connect_timeout", strconv.Itoa(int(max(config.ConnectTimeout.Seconds(), 1))))
	for _, name := range passedOn {
		add(name, query.Get(name))
	}
	change := map[string]string{
		"PGPASSWORD": config.Password,
		"LC_ALL":     "C", // messages are read here
		// These would change where the program connects to or how it writes, and pgx does not read them, or
		// their value has been taken over above.
		"PGHOSTADDR": "", "PGOPTIONS": "", "PGCLIENTENCODING": "", "PG_COLOR": "",
		// Nobody else's.
		"DATABASE_URL": "",
	}
	if query.Has("servicefile") {
		change["PGSERVICEFILE"] = query.Get("servicefile")
	}
	return strings.TrimSpace(b.String()), environment(environ, change), nil
}

func hostPort(host string, port uint16) string { return fmt.Sprintf("%s\x00%d", host, port) }

// fallbacks are the further hosts of a URL. pgx has a host several times that it may try with TLS and without.
func fallbacks(config *pgx.ConnConfig) []string {
	seen := []string{hostPort(config.Host, config.Port)}
	for _, f := range config.Fallbacks {
		if at := hostPort(f.Host, f.Port); !slices.Contains(seen, at) {
			seen = append(seen, at)
		}
	}
	return seen[1:]
}

// options writes the settings of a session as libpq has them, which knows few of them as parameters.
func options(params map[string]string) string {
	all := []string{params["options"]}
	for name, value := range params {
		if !slices.Contains([]string{"options", "application_name", "client_encoding"}, name) {
			all = append(all, "-c "+name+"="+strings.NewReplacer(`\`, `\\`, ` `, `\ `).Replace(value))
		}
	}
	slices.Sort(all[1:])
	return strings.TrimSpace(strings.Join(all, " "))
}

// environment is environ with some variables set anew, or taken out where they are empty.
func environment(environ []string, change map[string]string) []string {
	env := slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		_, changed := change[name]
		return changed
	})
	for name, value := range change {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}
