package pgserver

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func dockerEngine(t *testing.T) *engine {
	t.Helper()
	e, err := findEngine(t.Context())
	skipUnless(t, laneContainer, err)
	t.Cleanup(e.close)
	return e
}

// containersOf returns the containers that a process started.
func containersOf(t *testing.T, e *engine, pid int) []container.Summary {
	t.Helper()
	found, err := e.ContainerList(t.Context(), client.ContainerListOptions{
		All:     true,
		Filters: make(client.Filters).Add("label", processLabel+"="+strconv.Itoa(pid)).Add("label", hostLabel+"="+hostName()),
	})
	require.NoError(t, err)
	return found.Items
}

// A container must not outlive the next start after its process, however that ended, and those of
// running processes must.
func TestContainersOfOtherProcesses(t *testing.T) {
	t.Parallel()
	e := dockerEngine(t)
	skipUnless(t, laneContainer, e.ensureImage(t.Context(), wantedImage()))
	variables := []string{laneVariable + "=container", imageVariable + "=" + os.Getenv(imageVariable)}
	running := startChild(t, variables...)
	require.Empty(t, running.Error)
	killed := startChild(t, variables...)
	require.Empty(t, killed.Error)
	require.Len(t, containersOf(t, e, running.cmd.Process.Pid), 1)
	require.Len(t, containersOf(t, e, killed.cmd.Process.Pid), 1)

	killed.kill()
	e.removeLeftContainers(t.Context())
	eventually(t, func() bool { return len(containersOf(t, e, killed.cmd.Process.Pid)) == 0 }, "the container remains")
	assertForTests(t, running.URL)

	running.stop()
	assert.Empty(t, containersOf(t, e, running.cmd.Process.Pid))
}

// A container that fails is an error, and no reason to run the tests on something else.
func TestBrokenContainer(t *testing.T) {
	t.Parallel()
	e := dockerEngine(t)
	image := importEmptyImage(t, e)
	c := startChild(t, imageVariable+"="+image)
	assert.Empty(t, c.URL)
	assert.Contains(t, c.Error, "container of "+image)
	assert.Empty(t, containersOf(t, e, c.cmd.Process.Pid))
}

// importEmptyImage makes an image that can be had and cannot be run.
func importEmptyImage(t *testing.T, e *engine) (name string) {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "empty", Mode: 0o644}))
	require.NoError(t, w.Close())
	name = fmt.Sprintf("soultribe-broken:%d", os.Getpid())
	result, err := e.ImageImport(t.Context(), client.ImageImportSource{Source: &archive, SourceName: "-"}, name, client.ImageImportOptions{})
	if err != nil {
		skipUnless(t, laneContainer, unavailable("the engine cannot import an image: %w", err))
	}
	_, err = io.Copy(io.Discard, result)
	require.NoError(t, err)
	require.NoError(t, result.Close())
	t.Cleanup(func() {
		_, err := e.ImageRemove(context.Background(), name, client.ImageRemoveOptions{Force: true})
		assert.NoError(t, err)
	})
	return name
}

func TestIsLeftContainer(t *testing.T) {
	t.Parallel()
	now := time.Now()
	const here, there = "here", "there"
	us := strconv.Itoa(os.Getpid())
	for _, test := range []struct {
		name          string
		host, process string
		age           time.Duration
		want          bool
	}{
		{"ours", here, us, 0, false},
		{"ours, old", here, us, 24 * time.Hour, false},
		{"of a dead process", here, "999999999", 0, true},
		{"of nobody we understand", here, "?", 24 * time.Hour, false},
		{"of another host", there, "999999999", time.Hour, false},
		{"of another host, old", there, us, 24 * time.Hour, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := container.Summary{
				Labels:  map[string]string{hostLabel: test.host, processLabel: test.process},
				Created: now.Add(-test.age).Unix(),
			}
			assert.Equal(t, test.want, isLeftContainer(c, here, now))
		})
	}
}
