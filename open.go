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
// connection stays. A wait for notifications is no statement, and ends 5 seconds after its context: what
// waits for them, such as River, is better given a pool of pgxpool.New.
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
		return &cancelHandler{conn: c}
	}
	return config, nil
}

const (
	// cancelTimeout is how long the server may take to cancel a statement before the connection is given up.
	cancelTimeout = 5 * time.Second
	// cancelPause is how long the connection rests after that, as pgx has it: the server's process may get the request
	// only after the connection that brought it is closed, and would cancel the next statement.
	cancelPause = 100 * time.Millisecond
)

// cancelHandler has the server cancel the statement whose context has ended. It is pgx's
// CancelRequestContextWatcherHandler, but never leaves the request before the server has closed its
// connection: PgBouncer 1.18 and 1.19.0 end, for all clients, where one does (their issue 801).
type cancelHandler struct {
	conn *pgconn.PgConn
	done chan struct{}
}

// HandleCancel implements ctxwatch.Handler.
func (h *cancelHandler) HandleCancel(context.Context) {
	deadline := time.Now().Add(cancelTimeout)
	_ = h.conn.Conn().SetDeadline(deadline)
	h.done = make(chan struct{})
	go func() {
		defer close(h.done)
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		defer cancel()
		if h.conn.CancelRequest(ctx) == nil {
			<-time.After(cancelPause)
		}
	}()
}

// HandleUnwatchAfterCancel implements ctxwatch.Handler.
func (h *cancelHandler) HandleUnwatchAfterCancel() {
	<-h.done
	_ = h.conn.Conn().SetDeadline(time.Time{})
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
