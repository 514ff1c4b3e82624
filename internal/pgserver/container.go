package pgserver

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/modules/postgres"
)

const (
	officialImage = "postgres:18-alpine"
	// The data lives in memory: its place is apart from where images of different versions have their volume.
	memoryMount = "/soultribe"
	// Docker gives 64 MB of shared memory, which parallel queries of many connections exceed.
	sharedMemory = 256 << 20
	logExcerpt   = 4 << 10
)

// A program that is not a test, such as an example, has its own things to print.
func init() {
	if !testing.Testing() {
		log.SetDefault(log.NewNoopLogger())
	}
}

// startContainer runs an image in a container.
func startContainer(ctx context.Context, more ...string) (*Server, error) {
	image := wantedImage()
	engine, err := findEngine(ctx)
	if err != nil {
		return nil, err
	}
	defer engine.close()
	if err := engine.ensureImage(ctx, image); err != nil {
		return nil, err
	}
	if err := engine.adjustHost(ctx); err != nil {
		return nil, err
	}
	engine.removeLeftContainers(ctx)
	s, err := runContainer(ctx, image, more)
	if err != nil {
		return nil, fmt.Errorf("container of %s: %w", image, err)
	}
	return s, nil
}

func wantedImage() string { return cmp.Or(os.Getenv(imageVariable), officialImage) }

func runContainer(ctx context.Context, image string, more []string) (*Server, error) {
	password := rand.Text()
	ctr, err := postgres.Run(ctx, image, containerOptions(password, more)...)
	stop := func() { terminate(ctr) }
	if err != nil {
		err = fmt.Errorf("%w%s", err, containerLog(ctr))
		stop()
		return nil, err
	}
	databaseURL, version, err := reach(ctx, ctr, password)
	if err != nil {
		stop()
		return nil, err
	}
	return &Server{
		URL:         databaseURL,
		Description: fmt.Sprintf("PostgreSQL %s in a container (%s)", version, image),
		stop:        stop,
	}, nil
}

func containerOptions(password string, more []string) []testcontainers.ContainerCustomizer {
	command := []string{"postgres"}
	for _, setting := range slices.Concat(settings, more) {
		command = append(command, "-c", setting)
	}
	return []testcontainers.ContainerCustomizer{
		postgres.WithPassword(password),
		testcontainers.WithCmd(command...),
		testcontainers.WithEnv(map[string]string{"PGDATA": memoryMount + "/data"}),
		testcontainers.WithTmpfs(map[string]string{memoryMount: "rw"}),
		testcontainers.WithHostConfigModifier(func(config *container.HostConfig) { config.ShmSize = sharedMemory }),
		testcontainers.WithLabels(ownerLabels()),
		postgres.BasicWaitStrategies(),
	}
}

// reach connects to the server in the container, and makes it quick to connect to from then on.
func reach(ctx context.Context, ctr *postgres.PostgresContainer, password string) (databaseURL, version string, err error) {
	databaseURL, err = ctr.ConnectionString(ctx, "sslmode=disable")
	if err != nil {
		return "", "", err
	}
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	verifier, err := quickVerifier(password)
	if err != nil {
		return "", "", err
	}
	_, err = conn.Exec(ctx, "ALTER ROLE CURRENT_USER PASSWORD '"+verifier+"'")
	return databaseURL, serverVersion(conn), err
}

// quickVerifier returns what a server keeps of a password, in the form of RFC 5803, computed in one
// round where the server itself takes 4096. They make guessing slow, which a random password
// has no need of, and every connection of a test.
func quickVerifier(password string) (string, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	salted, err := pbkdf2.Key(sha256.New, password, salt, 1, sha256.Size)
	if err != nil {
		return "", err
	}
	stored := sha256.Sum256(authenticate(salted, "Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$1:%s$%s:%s", encode(salt), encode(stored[:]), encode(authenticate(salted, "Server Key"))), nil
}

func authenticate(key []byte, message string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(message))
	return mac.Sum(nil)
}

// terminate removes the container without giving the server time to shut down, as its data is thrown
// away. It is not bound to the context of the start, which may be over.
func terminate(ctr *postgres.PostgresContainer) {
	if ctr != nil {
		_ = testcontainers.TerminateContainer(ctr, testcontainers.StopTimeout(0))
	}
}

// containerLog returns the end of what a container that failed has printed.
func containerLog(ctr *postgres.PostgresContainer) string {
	if ctr == nil || ctr.Container == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	logs, err := ctr.Logs(ctx)
	if err != nil {
		return ""
	}
	defer func() { _ = logs.Close() }()
	text, _ := io.ReadAll(logs)
	text = bytes.TrimSpace(text)
	return "\n" + string(text[max(0, len(text)-logExcerpt):])
}
