package soultribe

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// maxRetries is how often a call is made again.
	maxRetries = 3
	// retryPause is how long it waits at most before the first time; twice as long before each that follows.
	retryPause = 20 * time.Millisecond
)

// again tells whether a call that came to err is to be made again, and waits until then. It is where nothing that it
// did is left: PostgreSQL undid it for another transaction's sake, or it did not reach the server. What is part of a
// transaction is never made again, for that is for who began it to do all over.
func (p *Postgres) again(ctx context.Context, try int, err error) bool {
	if err == nil || try == maxRetries || ctx.Err() != nil || !p.isAlone() || !leftNothing(err) {
		return false
	}
	// At random, so that two who were in each other's way do not meet again.
	timer := time.NewTimer(rand.N(retryPause << try)) //nolint:gosec // no secret
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// isAlone tells whether a call is surely a transaction of its own. Of what wraps a pool or a transaction it is not known.
func (p *Postgres) isAlone() bool {
	switch db := p.db.(type) {
	case *pgxpool.Pool:
		return true
	case *pgx.Conn:
		return !db.IsClosed() && !p.inTransaction()
	case *pgxpool.Conn:
		return !db.Conn().IsClosed() && !p.inTransaction()
	}
	return false
}

// leftNothing tells whether a call that came to err has surely changed nothing.
func leftNothing(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "40001" || pg.Code == "40P01"
	}
	// What cannot be written was not followed by the message with which the server commits. SafeToRetry is also true of
	// a connection that is closed, and so closed while pgx waited for an answer in the simple protocol.
	var network *net.OpError
	return errors.As(err, &network) && network.Op == "write" || pgconn.SafeToRetry(err) && !errors.Is(err, pgconn.ErrConnClosed)
}
