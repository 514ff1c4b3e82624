package pgserver

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

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
func startContainer(ctx context.Context) (*Server, error) {
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
	s, err := runContainer(ctx, image)
	if err != nil {
		return nil, fmt.Errorf("container of %s: %w", image, err)
	}
	return s, nil
}

func wantedImage() string { return cmp.Or(os.Getenv(imageVariable), officialImage) }

func runContainer(ctx context.Context, image string) (*Server, error) {
	ctr, err := postgres.Run(ctx, image, containerOptions()...)
	stop := func() { terminate(ctr) }
	if err != nil {
		err = fmt.Errorf("%w%s", err, containerLog(ctr))
		stop()
		return nil, err
	}
	databaseURL, version, err := reach(ctx, ctr)
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

func containerOptions() []testcontainers.ContainerCustomizer {
	command := []string{"postgres"}
	for _, setting := range settings {
		command = append(command, "-c", setting)
	}
	return []testcontainers.ContainerCustomizer{
		postgres.WithPassword(rand.Text()),
		testcontainers.WithCmd(command...),
		testcontainers.WithEnv(map[string]string{"PGDATA": memoryMount + "/data"}),
		testcontainers.WithTmpfs(map[string]string{memoryMount: "rw"}),
		testcontainers.WithHostConfigModifier(func(config *container.HostConfig) { config.ShmSize = sharedMemory }),
		testcontainers.WithLabels(ownerLabels()),
		postgres.BasicWaitStrategies(),
	}
}

func reach(ctx context.Context, ctr *postgres.PostgresContainer) (databaseURL, version string, err error) {
	databaseURL, err = ctr.ConnectionString(ctx, "sslmode=disable")
	if err != nil {
		return "", "", err
	}
	version, _, err = inspect(ctx, databaseURL)
	return databaseURL, version, err
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
