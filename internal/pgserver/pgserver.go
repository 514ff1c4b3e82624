// Package pgserver provides a throw-away PostgreSQL server for tests and examples.
//
// [Start] takes the first of three ways that this machine offers:
//
//  1. the server that SOULTRIBE_TEST_DATABASE_URL names, the URL of a superuser;
//  2. a container, by way of Docker and testcontainers, of the image that SOULTRIBE_TEST_IMAGE names
//     or else of the official one;
//  3. the PostgreSQL binaries that are installed, run in a temporary directory.
//
// SOULTRIBE_TEST_SERVER=container or SOULTRIBE_TEST_SERVER=local insists on the second or the third.
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// What the environment may say about the server.
const (
	urlVariable   = "SOULTRIBE_TEST_DATABASE_URL"
	laneVariable  = "SOULTRIBE_TEST_SERVER"
	imageVariable = "SOULTRIBE_TEST_IMAGE"

	laneContainer = "container"
	laneLocal     = "local"
)

// settings make a server fast whose data nobody needs after a crash, and let many pools connect at once.
var settings = []string{
	"fsync=off",
	"synchronous_commit=off",
	"full_page_writes=off",
	"max_connections=300",
	"log_destination=stderr",
	// Some distributions send the log to files that nobody would look into.
	"logging_collector=off",
}

// Server is a running PostgreSQL server. All its methods may be called from several goroutines.
type Server struct {
	// URL is a postgres:// URL of a superuser on the database "postgres", or what
	// SOULTRIBE_TEST_DATABASE_URL says.
	URL string
	// Description says in one line which server this is, and when it is not the one that was wanted
	// first, why. It holds no password.
	Description string

	stop func()
	once sync.Once
}

// Stop ends the server and removes whatever it kept, unless Start only found it. Further calls do nothing.
func (s *Server) Stop() {
	s.once.Do(func() {
		if s.stop != nil {
			s.stop()
		}
	})
}

// unavailableError means that this machine does not offer a way to provide a server, as opposed to one
// that it offers and that fails: only the former may make Start take another way.
type unavailableError struct{ reason error }

func (e *unavailableError) Error() string { return e.reason.Error() }
func (e *unavailableError) Unwrap() error { return e.reason }

func unavailable(format string, args ...any) error {
	return &unavailableError{fmt.Errorf(format, args...)}
}

func isUnavailable(err error) bool {
	_, ok := errors.AsType[*unavailableError](err)
	return ok
}

// Start provides a server, which is the caller's to stop. ctx bounds the start, not the server's life.
// Settings, in the form name=value, are for a server that it starts.
func Start(ctx context.Context, settings ...string) (*Server, error) {
	s, err := start(ctx, os.Getenv(urlVariable), os.Getenv(laneVariable), settings...)
	if err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, databaseURL, lane string, more ...string) (*Server, error) {
	switch {
	case lane != "" && lane != laneContainer && lane != laneLocal:
		return nil, fmt.Errorf("%s is %q, which is neither %q nor %q", laneVariable, lane, laneContainer, laneLocal)
	case databaseURL != "" && lane != "":
		return nil, fmt.Errorf("%s and %s=%s are both set: unset one of them", urlVariable, laneVariable, lane)
	case databaseURL != "":
		return findServer(ctx, databaseURL)
	case lane == laneContainer:
		return startContainer(ctx, more...)
	case lane == laneLocal:
		return startLocal(ctx, more...)
	}
	s, noContainer := startContainer(ctx, more...)
	if !isUnavailable(noContainer) || ctx.Err() != nil {
		return s, noContainer
	}
	s, noLocal := startLocal(ctx, more...)
	if noLocal != nil {
		return nil, noServerError(noContainer, noLocal)
	}
	s.Description += ", as no container could be had: " + oneLine(noContainer)
	return s, nil
}

// noServerError tells whoever runs the tests what they can do.
func noServerError(noContainer, noLocal error) error {
	return fmt.Errorf(`there is no PostgreSQL to run on. Any one of three ways provides it:
  1. set %s to the postgres:// URL of a superuser;
  2. run Docker, and see that it has or can pull the image (%w);
  3. install the PostgreSQL server, such as the package "postgresql" (%w)`,
		urlVariable, noContainer, noLocal)
}

// findServer looks at a server that is not ours.
func findServer(ctx context.Context, databaseURL string) (*Server, error) {
	// The parser's own error would quote the URL, with whatever it takes to be no password.
	u, err := url.Parse(databaseURL)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return nil, fmt.Errorf("%s is not a postgres:// URL", urlVariable)
	}
	version, address, err := inspect(ctx, databaseURL)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", urlVariable, err)
	}
	return &Server{
		URL:         databaseURL,
		Description: fmt.Sprintf("PostgreSQL %s at %s (%s)", version, urlVariable, address),
	}, nil
}

// inspect connects, which proves that the URL works, and returns the server's version and address.
func inspect(ctx context.Context, databaseURL string) (version, address string, err error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	config := conn.Config()
	return serverVersion(conn), fmt.Sprintf("%s:%d", config.Host, config.Port), nil
}

// serverVersion leaves out what packagers append: "15.18 (Debian 15.18-0+deb12u1)".
func serverVersion(conn *pgx.Conn) string {
	version, _, _ := strings.Cut(conn.PgConn().ParameterStatus("server_version"), " ")
	return version
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
