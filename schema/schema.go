// Package schema makes the tables of package soultribe in a PostgreSQL database, takes over those that
// are there already, and says what a database lacks, and which of its rows are wrong.
//
//	if err := schema.Migrate(ctx, pool); err != nil {
//		return err
//	}
//
// The migrations only ever add. A table that exists is accepted when its shape is right, whatever other
// columns it has; nothing is dropped, renamed or rewritten. Before a rule is added, the rows are searched
// for those that break it; see [DirtError]. [Plan] says beforehand what would happen. At any time, [Audit] searches them for those that break a rule,
// also one that PostgreSQL cannot hold.
//
// Only PostgreSQL 14 and later is supported.
package schema

import (
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/soultribe-chat/soultribe"
)

const (
	// DefaultName is the PostgreSQL schema in which the tables are unless [In] names another.
	DefaultName = "public"
	// DefaultLockTimeout is how long [Migrate] tries to lock the tables unless [LockTimeout] says otherwise.
	DefaultLockTimeout = 5 * time.Second

	// maxIdentifier is the number of bytes of a name that PostgreSQL keeps.
	maxIdentifier = 63
)

// Option changes where or how a function of this package works.
type Option func(*config)

// In names the PostgreSQL schema that holds the tables, exactly as it is, case and all. It is quoted
// wherever it is used. The default is [DefaultName].
func In(name string) Option {
	return func(c *config) { c.schema = name }
}

// LockTimeout bounds the time for which [Migrate] tries to lock the tables that it is about to change.
// The default is [DefaultLockTimeout]. [Status], [Plan], [Check] and [Audit] lock nothing and ignore it.
func LockTimeout(d time.Duration) Option {
	return func(c *config) { c.lockTimeout = d }
}

// To has [Migrate] stop at a version, as an older release of the library does, and [Plan] look no further. The
// default is [soultribe.SchemaVersion]. No migration goes back: a version below the database's is
// [soultribe.ErrInvalid]. [Status], [Check] and [Audit] ignore it.
func To(version int) Option {
	return func(c *config) { c.to = version }
}

type config struct {
	schema      string
	lockTimeout time.Duration
	to          int
}

func newConfig(opts []Option) (config, error) {
	c := config{schema: DefaultName, lockTimeout: DefaultLockTimeout, to: soultribe.SchemaVersion}
	for _, opt := range opts {
		opt(&c)
	}
	switch {
	case c.schema == "":
		return c, invalid("schema", "is empty")
	case len(c.schema) > maxIdentifier:
		return c, invalid("schema", fmt.Sprintf("is longer than %d bytes", maxIdentifier))
	case !utf8.ValidString(c.schema):
		return c, invalid("schema", "is not valid UTF-8")
	case strings.ContainsRune(c.schema, 0):
		return c, invalid("schema", "has a NUL character")
	case strings.Contains(c.schema, "$function$"):
		return c, invalid("schema", "has a $function$ in it, which is where the functions end")
	case c.lockTimeout < time.Millisecond:
		return c, invalid("lock_timeout", "must be a millisecond at least")
	case c.to < 1 || c.to > soultribe.SchemaVersion:
		return c, invalid("to", fmt.Sprintf("must be between 1 and %d", soultribe.SchemaVersion))
	}
	return c, nil
}

// table returns the qualified and quoted name of a table.
func (c config) table(name string) string {
	return pgx.Identifier{c.schema, name}.Sanitize()
}

// dress gives an error that is not one of this package's own its context.
func (c config) dress(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("soultribe: %s schema %q: %w", doing, c.schema, err)
}

func invalid(field, reason string) error {
	return fmt.Errorf("soultribe: schema: %w", &soultribe.ValidationError{Field: field, Reason: reason})
}

// isNil sees through an interface to a nil pointer within.
func isNil(db soultribe.DB) bool {
	if db == nil {
		return true
	}
	v := reflect.ValueOf(db)
	return v.Kind() == reflect.Pointer && v.IsNil()
}
