// Soultribe looks after the database of a service that embeds the library: it brings the tables to the
// library's version, compares them with it, searches the rows for what is wrong, removes what is old, and
// backs up and restores the whole.
//
//	soultribe migrate       bring the tables to the library's version, or take over those that are there
//	soultribe status        say which version the database is at
//	soultribe check         compare the tables, constraints and triggers with what the library needs
//	soultribe audit         search all rows for those that break a rule
//	soultribe purge         remove what is older than the flags say, of the kinds that they name
//	soultribe backup FILE   write the whole database to a new file, by pg_dump
//	soultribe restore FILE  read a backup into an empty database, by pg_restore
//	soultribe size          say how much room each table takes
//	soultribe stats         count users, slots, matches and meetups
//	soultribe version       say which version of the library this is
//
// The database is the one at DATABASE_URL, which may have the form of SQLAlchemy; a password is taken from
// there, from PGPASSWORD or from a password file, and never from the command line, nor is it put on that of
// pg_dump or pg_restore. Flags go behind the command: -schema names the PostgreSQL schema of the tables, and
// -json has the answer written as JSON. Answers go to stdout; errors, and how far long work is, to stderr.
//
// It exits with 0 when all is well, 1 when it could not do its work, 2 when it was called wrongly, 3 when
// the database is not as it must be (of another shape or version, with rows that break a rule, or with tables
// where a backup is to go), and 130 when it was interrupted.
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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/schema"
)

// The exit codes.
const (
	exitOK            = 0
	exitFailed        = 1
	exitUsage         = 2
	exitNotAsItMustBe = 3
	exitInterrupted   = 130 // as a shell has it for SIGINT
)

const (
	connectTimeout = 10 * time.Second
	// progressInterval is how often long work says how far it is.
	progressInterval = 5 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	p := program{
		databaseURL: os.Getenv("DATABASE_URL"),
		directories: clientDirectories(os.Getenv("PATH")),
		stdout:      os.Stdout,
		stderr:      os.Stderr,
		every:       progressInterval,
	}
	code := p.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// program is what the program has of its surroundings.
type program struct {
	databaseURL    string
	directories    []string // where pg_dump and pg_restore may be
	stdout, stderr io.Writer
	every          time.Duration // how often long work says how far it is
}

// command is one of the program's. What its run returns is printed, as JSON or by its method String, also
// beside an error.
type command struct {
	name, argument, does string
	offline              bool // needs no database
	flags                func(*flag.FlagSet, *settings)
	run                  func(context.Context, *task) (fmt.Stringer, error)
}

// settings are what the command line says.
type settings struct {
	schema         string
	json           bool
	connectTimeout time.Duration
	lockTimeout    time.Duration
	to             int
	dryRun         bool
	purge          soultribe.PurgePolicy
	force, clean   bool
	argument       string
}

// task is a command at work.
type task struct {
	settings
	program
	progress
	name string // of the command
	pool *pgxpool.Pool
}

var commands = []command{
	{"migrate", "", "bring the tables to the library's version, or take over those that are there", false, migrateFlags, migrate},
	{"status", "", "say which version the database is at", false, nil, status},
	{"check", "", "compare the tables, constraints and triggers with what the library needs", false, nil, check},
	{"audit", "", "search all rows for those that break a rule", false, nil, audit},
	{"purge", "", "remove what is older than the flags say, of the kinds that they name", false, purgeFlags, purge},
	{"backup", "FILE", "write the whole database to a new file, by pg_dump", false, backupFlags, backup},
	{"restore", "FILE", "read a backup into an empty database, by pg_restore", false, restoreFlags, restore},
	{"size", "", "say how much room each table takes", false, nil, size},
	{"stats", "", "count users, slots, matches and meetups", false, nil, stats},
	{"version", "", "say which version of the library this is", true, nil, version},
}

// run does what the arguments say, and returns the exit code.
func (p program) run(ctx context.Context, args []string) int {
	if len(args) == 0 {
		usage(p.stderr)
		return exitUsage
	}
	name, args := args[0], args[1:]
	if name == "help" || name == "-h" || name == "-help" || name == "--help" {
		if len(args) == 0 {
			usage(p.stdout)
			return exitOK
		}
		name, args = args[0], []string{"-h"}
	}
	for _, c := range commands {
		if c.name == name {
			return p.call(ctx, c, args)
		}
	}
	if isURL(name) {
		_, _ = fmt.Fprintf(p.stderr, "soultribe: %v\n", errURL)
		return exitUsage
	}
	_, _ = fmt.Fprintf(p.stderr, "soultribe: there is no command %q\n\n", name)
	usage(p.stderr)
	return exitUsage
}

func usage(w io.Writer) {
	_, _ = fmt.Fprint(w, "soultribe looks after the database of a service that embeds the library.\n\n")
	for _, c := range commands {
		_, _ = fmt.Fprintf(w, "  soultribe %-13s %s\n", strings.TrimSpace(c.name+" "+c.argument), c.does)
	}
	_, _ = fmt.Fprint(w, `
The database is the one at DATABASE_URL. soultribe <command> -h lists the flags of a command; -json, which all have,
writes the answer as JSON.

Exit codes: 0 all is well, 1 failed, 2 called wrongly, 3 the database is not as it must be, 130 interrupted.
`)
}

// errURL keeps a password off the screen that was on the command line.
var errURL = errors.New("the URL of the database goes into DATABASE_URL: a command line is for all to see")

func isURL(argument string) bool { return strings.Contains(argument, "://") }

func (p program) call(ctx context.Context, c command, args []string) int {
	t := &task{program: p, name: c.name}
	flags := c.flagSet(&t.settings)
	err := t.parse(c, flags, args)
	if errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintf(p.stdout, "soultribe %s: %s.\n\n", strings.TrimSpace(c.name+" [flags] "+c.argument), c.does)
		flags.SetOutput(p.stdout)
		flags.PrintDefaults()
		return exitOK
	}
	if err != nil {
		_, _ = fmt.Fprintf(p.stderr, "soultribe %s: %v\n", c.name, err)
		return exitUsage
	}

	answer, err := t.do(ctx, c)
	if answer != nil {
		if errPrint := printAnswer(p.stdout, answer, t.json); errPrint != nil {
			err = errPrint
		}
	}
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errFound):
		return exitNotAsItMustBe
	case ctx.Err() != nil:
		_, _ = fmt.Fprintf(p.stderr, "soultribe %s: interrupted\n", c.name)
		return exitInterrupted
	}
	_, _ = fmt.Fprintf(p.stderr, "soultribe %s: %s\n", c.name, strings.TrimPrefix(err.Error(), "soultribe: "))
	switch {
	case errors.Is(err, soultribe.ErrSchema), errors.Is(err, errOccupied):
		return exitNotAsItMustBe
	case errors.Is(err, soultribe.ErrInvalid), errors.As(err, new(usageError)):
		return exitUsage
	}
	return exitFailed
}

// usageError is for a command line on which something is missing.
type usageError string

func (e usageError) Error() string { return string(e) }

// errFound is for an answer that says by itself what is not as it must be.
var errFound = errors.New("not as it must be")

func (c command) flagSet(s *settings) *flag.FlagSet {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&s.json, "json", false, "write the answer as JSON")
	if !c.offline {
		flags.StringVar(&s.schema, "schema", schema.DefaultName, "the PostgreSQL schema of the tables, by `name`")
		flags.DurationVar(&s.connectTimeout, "connect-timeout", 0,
			fmt.Sprintf("how long to try to connect to each host; by default what DATABASE_URL says, or %v", connectTimeout))
	}
	if c.flags != nil {
		c.flags(flags, s)
	}
	return flags
}

// parse takes flags before and behind the argument.
func (t *task) parse(c command, flags *flag.FlagSet, args []string) error {
	// Before the errors of flags, which quote what they were given.
	if slices.ContainsFunc(args, isURL) {
		return errURL
	}
	var arguments []string
	for {
		if err := flags.Parse(args); err != nil {
			return err
		}
		read := len(args) - flags.NArg()
		if flags.NArg() == 0 || read > 0 && args[read-1] == "--" {
			arguments = append(arguments, flags.Args()...)
			break
		}
		arguments, args = append(arguments, flags.Arg(0)), flags.Args()[1:]
	}
	switch {
	case c.argument == "" && len(arguments) > 0:
		return fmt.Errorf("takes no argument, and has %q", arguments[0])
	case c.argument != "" && (len(arguments) != 1 || arguments[0] == ""):
		return fmt.Errorf("takes one argument, %s", c.argument)
	case c.argument != "":
		t.argument = arguments[0]
	}
	if t.connectTimeout < 0 {
		return errors.New("-connect-timeout must not be negative")
	}
	if t.databaseURL == "" && !c.offline {
		return errors.New("DATABASE_URL is not set")
	}
	return nil
}

// do runs the command on the database.
func (t *task) do(ctx context.Context, c command) (fmt.Stringer, error) {
	if c.offline {
		return c.run(ctx, t)
	}
	config, err := soultribe.PoolConfig(t.databaseURL)
	if err != nil {
		return nil, err
	}
	config.MaxConns = 1
	switch {
	case t.connectTimeout > 0:
		config.ConnConfig.ConnectTimeout = t.connectTimeout
	case config.ConnConfig.ConnectTimeout == 0:
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "soultribe " + c.name
	}
	// Prepared statements would save nothing here, and a transaction pooler may not keep them.
	if config.ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
	t.pool, err = pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	defer t.pool.Close()
	defer t.report(t.stderr, "soultribe "+c.name, t.every)()
	return c.run(ctx, t)
}

func printAnswer(w io.Writer, answer fmt.Stringer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(answer)
	}
	_, err := fmt.Fprintln(w, answer)
	return err
}
