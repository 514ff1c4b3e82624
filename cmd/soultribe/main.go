// Soultribe looks after the database of a service that embeds the library: it brings the tables to the
// library's version, compares them with it, and searches the rows for what is wrong.
//
//	soultribe migrate   bring the tables to the library's version, or take over those that are there
//	soultribe status    say which version the database is at
//	soultribe check     compare the tables, constraints and triggers with what the library needs
//	soultribe audit     search all rows for those that break a rule
//
// The database is the one at DATABASE_URL, which may have the form of SQLAlchemy; a password is taken from
// there, from PGPASSWORD or from a password file, and never from the command line. Flags go behind the
// command: -schema names the PostgreSQL schema of the tables, and -json has the answer written as JSON.
//
// It exits with 0 when all is well, 1 when it could not do its work, 2 when it was called wrongly, and 3 when
// the database is not as it must be: of another shape or version, or with rows that break a rule.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/schema"
)

// The exit codes.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitNotAsItMustBe
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], os.Getenv("DATABASE_URL"), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// command is one of the program's. What its run returns is printed, as JSON or by its method String.
type command struct {
	name, does string
	flags      func(*flag.FlagSet, *settings)
	run        func(context.Context, *pgxpool.Pool, settings) (fmt.Stringer, error)
}

// settings are what the flags say.
type settings struct {
	schema      string
	json        bool
	lockTimeout time.Duration
}

var commands = []command{
	{
		"migrate", "bring the tables to the library's version, or take over those that are there",
		func(f *flag.FlagSet, s *settings) {
			f.DurationVar(&s.lockTimeout, "lock-timeout", schema.DefaultLockTimeout, "how long to try to lock the tables")
		},
		migrate,
	},
	{"status", "say which version the database is at", nil, status},
	{"check", "compare the tables, constraints and triggers with what the library needs", nil, check},
	{"audit", "search all rows for those that break a rule", nil, audit},
}

// run does what the arguments say, and returns the exit code.
func run(ctx context.Context, args []string, databaseURL string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return exitUsage
	}
	if args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		usage(stdout)
		return exitOK
	}
	for _, c := range commands {
		if c.name == args[0] {
			return c.call(ctx, args[1:], databaseURL, stdout, stderr)
		}
	}
	_, _ = fmt.Fprintf(stderr, "soultribe: there is no command %q\n\n", args[0])
	usage(stderr)
	return exitUsage
}

func usage(w io.Writer) {
	_, _ = fmt.Fprint(w, "soultribe looks after the database of a service that embeds the library.\n\n")
	for _, c := range commands {
		_, _ = fmt.Fprintf(w, "  soultribe %-8s %s\n", c.name, c.does)
	}
	_, _ = fmt.Fprint(w, `
The database is the one at DATABASE_URL. soultribe <command> -h lists the flags of a command.

Exit codes: 0 all is well, 1 failed, 2 called wrongly, 3 the database is not as it must be.
`)
}

func (c command) call(ctx context.Context, args []string, databaseURL string, stdout, stderr io.Writer) int {
	var s settings
	flags := flag.NewFlagSet("soultribe "+c.name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.schema, "schema", schema.DefaultName, "the PostgreSQL schema of the tables")
	flags.BoolVar(&s.json, "json", false, "write the answer as JSON")
	if c.flags != nil {
		c.flags(flags, &s)
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case flags.NArg() > 0:
		_, _ = fmt.Fprintf(stderr, "soultribe %s: %q is not a flag\n", c.name, flags.Arg(0))
		return exitUsage
	case databaseURL == "":
		_, _ = fmt.Fprintf(stderr, "soultribe %s: DATABASE_URL is not set\n", c.name)
		return exitUsage
	}

	answer, err := c.on(ctx, databaseURL, s)
	if answer != nil {
		if errPrint := printAnswer(stdout, answer, s.json); errPrint != nil {
			err = errPrint
		}
	}
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errFound):
		return exitNotAsItMustBe
	}
	_, _ = fmt.Fprintf(stderr, "soultribe %s: %s\n", c.name, strings.TrimPrefix(err.Error(), "soultribe: "))
	switch {
	case errors.Is(err, soultribe.ErrSchema):
		return exitNotAsItMustBe
	case errors.Is(err, soultribe.ErrInvalid):
		return exitUsage
	}
	return exitFailed
}

// errFound is for an answer that says by itself what is not as it must be.
var errFound = errors.New("not as it must be")

// on runs the command on the database.
func (c command) on(ctx context.Context, databaseURL string, s settings) (fmt.Stringer, error) {
	config, err := soultribe.PoolConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	config.MaxConns = 1
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "soultribe " + c.name
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	return c.run(ctx, pool, s)
}

func printAnswer(w io.Writer, answer fmt.Stringer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(answer)
	}
	_, err := fmt.Fprintln(w, answer)
	return err
}

// version is the answer of migrate, status and check.
type version struct {
	Version int `json:"version"` // of the database; 0 when there is none
	Latest  int `json:"latest"`  // that this program knows
}

// String says how far the database is from the library.
func (v version) String() string {
	switch v.Version {
	case 0:
		return fmt.Sprintf("not migrated; the library is at version %d", v.Latest)
	case v.Latest:
		return fmt.Sprintf("version %d, as the library", v.Version)
	}
	return fmt.Sprintf("version %d; the library is at version %d", v.Version, v.Latest)
}

func migrate(ctx context.Context, pool *pgxpool.Pool, s settings) (fmt.Stringer, error) {
	if err := schema.Migrate(ctx, pool, schema.In(s.schema), schema.LockTimeout(s.lockTimeout)); err != nil {
		return nil, err
	}
	return status(ctx, pool, s)
}

func status(ctx context.Context, pool *pgxpool.Pool, s settings) (fmt.Stringer, error) {
	state, err := schema.Status(ctx, pool, schema.In(s.schema))
	if err != nil {
		return nil, err
	}
	return version{state.Version, state.Latest}, nil
}

func check(ctx context.Context, pool *pgxpool.Pool, s settings) (fmt.Stringer, error) {
	if err := schema.Check(ctx, pool, schema.In(s.schema)); err != nil {
		return nil, err
	}
	return status(ctx, pool, s)
}

// findings is the answer of audit.
type findings struct {
	Violations []violation `json:"violations"` // never nil
}

// violation is a [schema.Violation] with what the rule says.
type violation struct {
	Table string  `json:"table"`
	IDs   []int64 `json:"ids"` // user_id in profile, meetup_id in soultribe_booking, id elsewhere
	Rule  string  `json:"rule"`
	Text  string  `json:"text"`

	line string
}

// String lists what was found, a line each, and how many there are.
func (f findings) String() string {
	if len(f.Violations) == 0 {
		return "no row breaks a rule"
	}
	var b strings.Builder
	for _, v := range f.Violations {
		b.WriteString(v.line + "\n")
	}
	fmt.Fprintf(&b, "%d found", len(f.Violations))
	return b.String()
}

func audit(ctx context.Context, pool *pgxpool.Pool, s settings) (fmt.Stringer, error) {
	found, err := schema.Audit(ctx, pool, schema.In(s.schema))
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for _, r := range schema.Rules() {
		texts[r.Name] = r.Text
	}
	f := findings{Violations: []violation{}}
	for _, v := range found {
		f.Violations = append(f.Violations, violation{v.Table, v.IDs, v.Rule, texts[v.Rule], v.String()})
	}
	if len(found) > 0 {
		return f, errFound
	}
	return f, nil
}
