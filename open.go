package soultribe

import (
	"context"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
)

// PoolConfig reads the URL of a database: a postgres:// or postgresql:// URL with the parameters of
// [pgxpool.ParseConfig], or one written for SQLAlchemy (postgresql+psycopg2://…), whose driver is
// ignored. A bad URL is [ErrInvalid]; no error repeats any part of it.
//
// In a pool of this configuration a context that ends has the server cancel the statement, and the
// connection stays. A statement that is not cancelled within a second, such as one that waits in a pooler for
// its turn, is given up with its connection. A wait for notifications is no statement, and ends a second after its
// context: what waits for them, such as River, is better given a pool of pgxpool.New.
//
// Behind a pooler in transaction mode, such as PgBouncer, add default_query_exec_mode=cache_describe to the
// URL, or exec; see [New].
func PoolConfig(databaseURL string) (*pgxpool.Config, error) {
	normal, err := normalizeURL(databaseURL)
	if err != nil {
		return nil, opError("PoolConfig", err)
	}
	config, err := pgxpool.ParseConfig(normal)
	if err != nil {
		// pgx quotes the parameter that it cannot read, and that may be anything.
		return nil, opError("PoolConfig", invalid("database_url", "has a host, port or parameter that cannot be"))
	}
	config.ConnConfig.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &canceller{conn: c}
	}
	return config, nil
}

// cancelTimeout is how long the server may take to cancel a statement before the connection is given up. PgBouncer
// does not pass on the cancellation of a statement that waits for a server.
const cancelTimeout = time.Second

// canceller has the server cancel the statement when a context ends. It is [pgconn.CancelRequestContextWatcherHandler],
// but that it waits for the answer to its request. pgx's own hangs up when the statement ends before that, and
// then PgBouncer 1.18, which Debian 12 has, may exit (https://github.com/pgbouncer/pgbouncer/issues/801).
type canceller struct {
	conn     *pgconn.PgConn
	deadline time.Time
	done     chan struct{} // closed when there is nothing to wait for any more
	answered bool
}

// HandleCancel implements [ctxwatch.Handler].
func (c *canceller) HandleCancel(ended context.Context) {
	c.deadline = time.Now().Add(cancelTimeout)
	_ = c.conn.Conn().SetDeadline(c.deadline) // fails when the connection is closed
	c.done = make(chan struct{})
	go func() {
		defer close(c.done)
		ctx, cancel := context.WithDeadline(context.WithoutCancel(ended), c.deadline)
		defer cancel()
		// If this fails, the deadline ends the statement. It does not fail for want of an answer.
		err := c.conn.CancelRequest(ctx)
		c.answered = err == nil && ctx.Err() == nil
	}()
}

// HandleUnwatchAfterCancel implements [ctxwatch.Handler]. The server answers once it has signalled the session,
// so that the next statement is not the one to be cancelled. A request without an answer may still arrive, and then
// there must be no next statement.
func (c *canceller) HandleUnwatchAfterCancel() {
	ended := time.Now()
	<-c.done
	switch {
	case c.answered && !c.conn.IsClosed():
		_ = c.conn.Conn().SetDeadline(time.Time{})
	case ended.Before(c.deadline): // the statement, by itself
		_ = c.conn.Close(context.Background())
	}
	// Else pgx closes the connection.
}

// Open returns a Store on a pool of its own, made by [PoolConfig] of the URL, which Close closes. It does
// not connect: [Postgres.Ready] does, and tells whether the schema fits.
func Open(ctx context.Context, databaseURL string, opts ...Option) (*Postgres, error) {
	config, err := PoolConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, opError("Open", err)
	}
	p, err := New(pool, opts...)
	if err != nil {
		pool.Close()
		return nil, err
	}
	p.pool = pool
	return p, nil
}

var (
	urlScheme = regexp.MustCompile(`(?i)^postgres(?:ql)?(?:\+[a-z0-9_]+)?://`)
	// urlUser is SQLAlchemy's reading of user and password, in which only @ and the user's : and / must
	// be percent-encoded.
	urlUser = regexp.MustCompile(`^([^:/@]*)(?::([^@]*))?@`)
)

// normalizeURL turns a SQLAlchemy URL into one that pgx reads.
func normalizeURL(databaseURL string) (string, error) {
	s := strings.TrimSpace(databaseURL)
	scheme := urlScheme.FindString(s)
	if scheme == "" {
		return "", invalid("database_url", "must begin with postgres://, postgresql:// or postgresql+driver://")
	}
	s = s[len(scheme):]
	// An @ in the path is the end of a password with a slash.
	if u, err := url.Parse("postgres://" + s); err == nil && (u.User != nil || !strings.Contains(u.Path, "@")) {
		return "postgres://" + s, nil
	}
	m := urlUser.FindStringSubmatch(s)
	if m == nil {
		return "", invalid("database_url", "is malformed")
	}
	user, errUser := url.PathUnescape(m[1])
	password, errPassword := url.PathUnescape(m[2])
	if errUser != nil || errPassword != nil {
		return "", invalid("database_url", "has a % in its user or password that must be written as %25")
	}
	return "postgres://" + url.UserPassword(user, password).String() + "@" + s[len(m[0]):], nil
}
