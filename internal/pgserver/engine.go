package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

const (
	engineTimeout = 10 * time.Second
	// A registry that can be reached names an image's layers within a few seconds, and then reports
	// their progress all the time.
	registryTimeout = 10 * time.Second
	silenceTimeout  = time.Minute

	// A container says whose it is, so that it can be told when nobody needs it.
	hostLabel    = "chat.soultribe.pgserver.host"
	processLabel = "chat.soultribe.pgserver.process"
	// No test run takes this long: a container of a process that we cannot see is left over.
	leftAfter = 6 * time.Hour
)

// engine is the Docker engine that testcontainers will use too.
type engine struct{ *client.Client }

var (
	settleEngine sync.Mutex // held while the environment of testcontainers is being settled
	settled      bool
)

// findEngine returns the engine that DOCKER_HOST names, or else one that listens where engines do.
// Before testcontainers first looks at its configuration, which it does once a process, it settles there
// what depends on the engine.
func findEngine(ctx context.Context) (*engine, error) {
	settleEngine.Lock()
	defer settleEngine.Unlock()
	if hasProperties() {
		return configuredEngine(ctx)
	}
	var failures []error
	for _, host := range engineHosts() {
		e, err := dial(ctx, host)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		if settled {
			return e, nil
		}
		settled = true
		return e, errors.Join(os.Setenv(client.EnvOverrideHost, host), e.settleReaper(ctx))
	}
	return nil, unavailable("Docker cannot be reached: %w", failures[0])
}

// hasProperties reports whether somebody has configured testcontainers, which we then leave as it is.
func hasProperties() bool {
	home, err := os.UserHomeDir()
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(home, ".testcontainers.properties"))
	return err == nil
}

func configuredEngine(ctx context.Context) (*engine, error) {
	// What it finds is kept for the process, and so must not depend on one caller's context.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), engineTimeout)
	defer cancel()
	c, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return nil, unavailable("Docker cannot be reached: %w", err)
	}
	return &engine{c.Client}, nil
}

// engineHosts returns where an engine may listen.
func engineHosts() []string {
	if host := os.Getenv(client.EnvOverrideHost); host != "" {
		return []string{host}
	}
	hosts := []string{client.DefaultDockerHost}
	for _, socket := range rootlessSockets() {
		if _, err := os.Stat(socket); err == nil {
			hosts = append(hosts, "unix://"+socket)
		}
	}
	return hosts
}

func rootlessSockets() []string {
	var sockets []string
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		sockets = append(sockets, filepath.Join(dir, "docker.sock"))
	}
	if home, err := os.UserHomeDir(); err == nil {
		sockets = append(sockets,
			filepath.Join(home, ".docker", "run", "docker.sock"),
			filepath.Join(home, ".docker", "desktop", "docker.sock"))
	}
	return append(sockets, fmt.Sprintf("/run/user/%d/docker.sock", os.Getuid()))
}

func dial(ctx context.Context, host string) (*engine, error) {
	c, err := client.New(client.FromEnv, client.WithHost(host))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	if _, err := c.Ping(ctx, client.PingOptions{}); err != nil {
		_ = c.Close()
		return nil, err
	}
	return &engine{c}, nil
}

func (e *engine) close() { _ = e.Close() }

// settleReaper turns off the container with which testcontainers removes what a process leaves
// behind, where its image cannot be had: without it nothing would start. Stop and
// removeLeftContainers do its work.
func (e *engine) settleReaper(ctx context.Context) error {
	const variable = "TESTCONTAINERS_RYUK_DISABLED"
	if os.Getenv(variable) != "" {
		return nil
	}
	name := testcontainers.ReaperDefaultImage //nolint:staticcheck // deprecated, but nothing else tells it
	image := path.Join(os.Getenv("TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX"), name)
	if e.ensure(ctx, image, client.ImagePullOptions{}) == nil {
		return nil
	}
	return os.Setenv(variable, "true")
}

// ensureImage sees that the engine has the image.
func (e *engine) ensureImage(ctx context.Context, image string) error {
	var options client.ImagePullOptions
	// Without credentials the image may still be a public one.
	if _, credentials, err := testcontainers.DockerImageAuth(ctx, image); err == nil {
		if options.RegistryAuth, err = authconfig.Encode(credentials); err != nil {
			return err
		}
	}
	return e.ensure(ctx, image, options)
}

func (e *engine) ensure(ctx context.Context, image string, options client.ImagePullOptions) error {
	_, err := e.ImageInspect(ctx, image)
	if err == nil || !errdefs.IsNotFound(err) {
		return err
	}
	if err := e.pull(ctx, image, options); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return unavailable("Docker has no image %s and cannot pull it: %w", image, err)
	}
	return nil
}

// pull gives up early on a registry that does not answer, as testcontainers does not.
func (e *engine) pull(ctx context.Context, image string, options client.ImagePullOptions) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(registryTimeout, func() { cancel(errors.New("the registry does not answer")) })
	defer silence.Stop()
	progress, err := e.ImagePull(ctx, image, options)
	if err != nil {
		return causeOf(ctx, err)
	}
	for message, err := range progress.JSONMessages(ctx) {
		if err != nil {
			return causeOf(ctx, err)
		}
		if message.Error != nil {
			return message.Error
		}
		silence.Reset(silenceTimeout)
	}
	return context.Cause(ctx)
}

func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// adjustHost tells testcontainers where published ports are when it would not find out: it takes us to be
// inside one of the engine's containers where there is a file /.dockerenv, and asks the bridge for the way out.
// An engine that itself runs in a container may have a bridge without one, and then its ports are our own.
func (e *engine) adjustHost(ctx context.Context) error {
	const variable = "TESTCONTAINERS_HOST_OVERRIDE"
	settleEngine.Lock()
	defer settleEngine.Unlock()
	if os.Getenv(variable) != "" || !strings.HasPrefix(e.DaemonHost(), "unix://") {
		return nil
	}
	if _, err := os.Stat("/.dockerenv"); err != nil || e.bridgeHasGateway(ctx) {
		return nil
	}
	return os.Setenv(variable, "127.0.0.1")
}

func (e *engine) bridgeHasGateway(ctx context.Context) bool {
	bridge, err := e.NetworkInspect(ctx, testcontainers.Bridge, client.NetworkInspectOptions{})
	if err != nil {
		return false
	}
	for _, config := range bridge.Network.IPAM.Config {
		if config.Gateway.IsValid() {
			return true
		}
	}
	return false
}

// ownerLabels say which process a container belongs to.
func ownerLabels() map[string]string {
	return map[string]string{hostLabel: hostName(), processLabel: strconv.Itoa(os.Getpid())}
}

// hostName names what process ids are unique in. Containers that share a host's name do not share its processes.
func hostName() string {
	name, _ := os.Hostname()
	namespace, _ := os.Readlink("/proc/self/ns/pid")
	return name + " " + namespace
}

// removeLeftContainers removes the containers of processes that ended without a chance to do so, as a
// test binary does that runs into its time limit. Those of processes that run now, such as other
// packages' tests, stay.
func (e *engine) removeLeftContainers(ctx context.Context) {
	ours, err := e.ContainerList(ctx, client.ContainerListOptions{
		All:     true,
		Filters: make(client.Filters).Add("label", processLabel),
	})
	if err != nil {
		return
	}
	for _, c := range ours.Items {
		if isLeftContainer(c, hostName(), time.Now()) {
			_, _ = e.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		}
	}
}

func isLeftContainer(c container.Summary, host string, now time.Time) bool {
	if c.Labels[hostLabel] != host {
		return now.Sub(time.Unix(c.Created, 0)) > leftAfter
	}
	pid, err := strconv.Atoi(c.Labels[processLabel])
	return err == nil && !isAlive(pid)
}
