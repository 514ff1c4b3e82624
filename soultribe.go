// Package soultribe keeps, in PostgreSQL, the people of a service who say when they are free, are found
// by others who are free at the same time, match, and meet.
//
// It is embedded: a service gives [New] its own pool, connection or transaction and calls the methods of
// the [Store] that comes back. It writes no SQL, hashes no password, handles no token, does no time-zone
// arithmetic and takes no lock.
//
//	store, err := soultribe.New(pool)
//	user, err := store.CreateUser(ctx, soultribe.NewUser{Email: email, Password: password})
//
// The tables are made, or taken over where they exist, by Migrate of package schema.
//
// # Who acts
//
// The person who acts or reads is the first argument after the context. What is not theirs to see is
// [ErrNotFound]. What crosses people is apart, in [AdminStore] and [MaintenanceStore], so that a handler
// cannot reach it by accident: give handlers the interfaces that they need.
//
// # Time
//
// Every time that goes in is an instant, in any Location, kept to the microsecond; every time that comes
// out is UTC. "Now" is the store's clock ([WithClock]), never the server's. Wall-clock times become
// instants by [ResolveLocal], [LocalSlot] and [WeeklySlots].
//
// # Transactions
//
// Each method is atomic by itself, and one round trip; two where a password is hashed between a look at the
// database and a change, and for Candidates. [Store.WithTx] makes the methods part of the
// caller's transaction, [Store.InTx] begins one. The methods are written for READ COMMITTED; in a stricter
// isolation level PostgreSQL may end any of them with [ErrRetry]; outside of a transaction, on a pool or a connection of
// pgx's, they are made again a few times before that, as they are where the connection was lost before the statement was sent, but never where it
// may have been carried out. And in REPEATABLE READ, where a call does not see
// what was committed while it waited, several secrets that are asked for at once may be issued. An expected
// conflict, such as [ErrEmailTaken] or [ErrSlotOverlap], leaves the caller's transaction usable.
//
// # Errors
//
// Each error wraps one of a few bases ([ErrInvalid], [ErrNotFound], [ErrConflict], …), so that a caller
// tests as finely as it needs with errors.Is; [Code] gives a stable name for an API.
package soultribe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// SchemaVersion is the version of the database schema that this release works with. Package schema
// brings a database there; [Postgres.Ready] compares.
const SchemaVersion = 5

// The identifiers of the rows. They are types of their own, so that swapped arguments do not compile.
type (
	// UserID identifies a user.
	UserID int64
	// SlotID identifies a slot.
	SlotID int64
	// MatchID identifies a match.
	MatchID int64
	// MeetupID identifies a meetup.
	MeetupID int64
)

// Store is everything that the library does. Handlers are best given only those of its parts that they
// need: the first six hold what one person may do and see.
//
// Store and its parts grow in minor versions. An implementation therefore embeds a Store. One that wraps
// another is put on by [Decorate]: else WithTx and InTx of the Store within would hand out that one.
type Store interface {
	UserStore
	ProfileStore
	AvailabilityStore
	TokenStore
	MatchStore
	MeetupStore

	AdminStore
	MaintenanceStore

	// WithTx returns a Store whose methods are part of tx, which stays the caller's to commit or roll
	// back. A method that needs an all-or-nothing step of its own takes a savepoint named soultribe.
	WithTx(tx pgx.Tx) Store

	// InTx runs fn in a transaction, or in a savepoint where the Store is in a transaction already. It
	// commits when fn returns nil, and rolls back when fn returns an error, which InTx returns as it
	// is, or panics. fn gets the transaction itself for the caller's own statements. It is never run
	// twice: after [ErrRetry] the caller decides.
	InTx(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx, st Store) error) error
}

// DB is what *pgxpool.Pool, *pgxpool.Conn, *pgx.Conn and pgx.Tx have in common. A type of the host's that
// wraps one of them has its method Conn too, where there is one: by it the Store knows a transaction.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// Postgres is the [Store] on PostgreSQL. It is safe for concurrent use when what it was given is: a pool
// is, a connection or a transaction is not.
type Postgres struct {
	db     DB
	pool   *pgxpool.Pool // only when Open made it
	config *config
	sql    *statements
	hasher *hasher
	turns  *turns
}

var _ Store = (*Postgres)(nil)

// New returns a Store on db, which may be a pool, a connection or a transaction, and which stays the
// caller's: New does not touch the database, and nothing closes db. It returns [ErrInvalid] for a nil db
// and for options that cannot be.
//
// Behind a pooler that hands out a session for a transaction at a time, such as PgBouncer in transaction mode,
// pgx's default of prepared statements fails unless the pooler keeps track of them, as PgBouncer does from 1.21
// on with max_prepared_statements: the error says so. The modes pgx.QueryExecModeCacheDescribe,
// pgx.QueryExecModeExec and pgx.QueryExecModeSimpleProtocol need nothing of the session, nor does the library.
//
// A process makes one Store, as that builds all statements and has one ceiling for the memory of hashing,
// and joins transactions by WithTx.
func New(db DB, opts ...Option) (*Postgres, error) {
	var errs []error
	if isNil(db) {
		errs = append(errs, invalid("db", "is nil"))
	}
	c, err := newConfig(opts)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, opError("New", err)
	}
	return &Postgres{
		db:     db,
		config: c,
		sql:    newStatements(newTables(c.schema), c),
		hasher: newHasher(c),
		turns:  newTurns(),
	}, nil
}

// isNil tells whether db is nil or a nil pointer in an interface.
func isNil(db DB) bool {
	v := reflect.ValueOf(db)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}

// Close closes the pool that [Open] made. For a Store from [New] it does nothing.
func (p *Postgres) Close() {
	if p.pool != nil {
		p.pool.Close()
	}
}

// Option configures [New] and [Open].
type Option func(*config)

type config struct {
	schema          string
	clock           func() time.Time
	params          PasswordParams
	hashMemory      int64 // KiB
	log             *slog.Logger
	cooldowns       Cooldowns
	lifetimes       TokenLifetimes
	plaintextTokens bool
	matchedOnly     bool // for MutualAvailability
}

// Cooldowns are the times that must pass before a step is allowed again. A zero field is the default, a
// negative one is no cool-down.
type Cooldowns struct {
	Token     time.Duration // between two mails of one kind to one account; 60 seconds
	Rejected  time.Duration // before one who was rejected asks again; 30 days
	Cancelled time.Duration // before a cancelled match is asked for again; 24 hours
}

// TokenLifetimes say how long secrets work. A zero field is the default.
type TokenLifetimes struct {
	EmailVerification time.Duration // 24 hours
	PasswordReset     time.Duration // 1 hour
}

// WithSchema names the PostgreSQL schema that holds the tables; the default is public. Statements name it
// throughout, and pg_catalog for all else, so search_path has no say.
func WithSchema(name string) Option { return func(c *config) { c.schema = name } }

// WithClock sets what the store takes for now; the default is time.Now. The clocks of all processes on a
// database should agree, as their times are compared.
func WithClock(now func() time.Time) Option { return func(c *config) { c.clock = now } }

// WithPasswordParams sets the cost of new password hashes; see [DefaultPasswordParams]. A hash with
// others goes on to work, and is renewed when its owner logs in.
func WithPasswordParams(params PasswordParams) Option { return func(c *config) { c.params = params } }

// WithHashMemory sets the ceiling, in KiB, on the memory in which passwords are hashed at one time; the
// default is 256 MiB. Calls beyond it wait. A stored hash that alone needs more never verifies, nor does
// one that is eight times as much work as the Store's and the default parameters make.
func WithHashMemory(kib int64) Option { return func(c *config) { c.hashMemory = kib } }

// WithLogger sets where the store says what an operator must know and no caller hears of, such as a
// stored hash that cannot be used. The default is nowhere. It never gets a secret, hash or address.
func WithLogger(log *slog.Logger) Option { return func(c *config) { c.log = log } }

// WithCooldowns replaces the defaults of [Cooldowns].
func WithCooldowns(cooldowns Cooldowns) Option { return func(c *config) { c.cooldowns = cooldowns } }

// WithTokenLifetimes replaces the defaults of [TokenLifetimes].
func WithTokenLifetimes(l TokenLifetimes) Option { return func(c *config) { c.lifetimes = l } }

// WithoutPlaintextTokens refuses secrets that another application stored as plain text. They work by
// default, so that mails that were under way when a service adopted this library still do.
func WithoutPlaintextTokens() Option { return func(c *config) { c.plaintextTokens = false } }

// WithMatchedAvailability has MutualAvailability answer only for people who have an accepted match; others are
// [ErrNotFound] to each other. A service that lets any visitor register wants it, unless it asks by itself who
// may see whose time. Candidates goes on to show strangers a few windows.
func WithMatchedAvailability() Option { return func(c *config) { c.matchedOnly = true } }

func newConfig(opts []Option) (*config, error) {
	c := &config{
		schema:          "public",
		clock:           time.Now,
		params:          DefaultPasswordParams(),
		hashMemory:      256 << 10,
		log:             slog.New(slog.DiscardHandler),
		plaintextTokens: true,
	}
	for _, opt := range opts {
		if opt != nil {
			opt(c)
		}
	}
	orDefault(&c.cooldowns.Token, time.Minute)
	orDefault(&c.cooldowns.Rejected, 30*24*time.Hour)
	orDefault(&c.cooldowns.Cancelled, 24*time.Hour)
	orDefault(&c.lifetimes.EmailVerification, 24*time.Hour)
	orDefault(&c.lifetimes.PasswordReset, time.Hour)
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	err := c.validate()
	return c, err
}

func orDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

func (c *config) validate() error {
	var errs []error
	// 63 bytes: a longer name is cut by the server, and would then be another one.
	if c.schema == "" || len(c.schema) > 63 || !utf8.ValidString(c.schema) || hasControl(c.schema) {
		errs = append(errs, invalid("schema", "must have 1 to 63 bytes of UTF-8 without control characters"))
	}
	if c.clock == nil {
		errs = append(errs, invalid("clock", "is nil"))
	}
	if c.lifetimes.EmailVerification < 0 || c.lifetimes.PasswordReset < 0 {
		errs = append(errs, invalid("token_lifetimes", "must be positive"))
	}
	errs = append(errs, c.params.validate())
	if c.hashMemory < int64(c.params.MemoryKiB) {
		errs = append(errs, invalid("hash_memory", fmt.Sprintf("must be at least the %d KiB of one hash", c.params.MemoryKiB)))
	}
	return errors.Join(errs...)
}

func (p *Postgres) now() time.Time { return p.config.clock().UTC().Truncate(time.Microsecond) }

// WithTx implements [Store].
func (p *Postgres) WithTx(tx pgx.Tx) Store { return p.on(tx) }

func (p *Postgres) on(db DB) *Postgres {
	q := *p
	q.db, q.pool = db, nil
	return &q
}

// rollbackTimeout bounds a rollback, which must happen though the caller's context has ended.
const rollbackTimeout = 5 * time.Second

// InTx implements [Store].
func (p *Postgres) InTx(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx, st Store) error) error {
	const op = "InTx"
	// pgx closes a connection on which it could not begin.
	if err := ctx.Err(); err != nil {
		return opError(op, err)
	}
	if _, ok := p.db.(pgx.Tx); !ok && p.inTransaction() {
		// pgx would begin, and end, the transaction that is there.
		return opError(op, invalid("db", "is a connection in a transaction that was begun by SQL: begin it by Begin, and use WithTx"))
	}
	tx, err := p.db.Begin(ctx)
	if err != nil {
		return opError(op, err)
	}
	committed := false
	defer func() {
		if !committed {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
			defer cancel()
			// The error that matters is already on its way, and the server rolls back what is left.
			_ = tx.Rollback(ctx)
		}
	}()
	if err := fn(ctx, tx, p.on(tx)); err != nil {
		return err
	}
	// A savepoint that could not be released would stay in the caller's transaction, with all that fn did.
	if err := ctx.Err(); err != nil {
		return opError(op, err)
	}
	committed = true
	return opError(op, tx.Commit(ctx))
}

// Decorate returns wrap(s) as a Store that stays wrapped inside WithTx and InTx. A decorator thus
// implements only the methods that it changes, and embeds a Store for the others.
func Decorate(s Store, wrap func(Store) Store) Store {
	return &decorated{Store: wrap(s), inner: s, wrap: wrap}
}

type decorated struct {
	Store
	inner Store
	wrap  func(Store) Store
}

// WithTx implements [Store].
func (d *decorated) WithTx(tx pgx.Tx) Store { return Decorate(d.inner.WithTx(tx), d.wrap) }

// InTx implements [Store].
func (d *decorated) InTx(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx, st Store) error) error {
	return d.inner.InTx(ctx, func(ctx context.Context, tx pgx.Tx, st Store) error {
		return fn(ctx, tx, Decorate(st, d.wrap))
	})
}
