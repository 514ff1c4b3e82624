package soultribe_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// clientVariable holds what makes this program the client that is to be killed: the seed of its stories, the hub's id
// and the URL of the database.
const clientVariable = "SOULTRIBE_TEST_FAULT_CLIENT"

// beClient lives one story after the other, each in one transaction. It says each step that it has taken, and takes the
// next one when it has read a line.
func beClient(what string) error {
	fields := strings.SplitN(what, " ", 3)
	seed, err := strconv.ParseUint(fields[0], 10, 64)
	if err != nil {
		return err
	}
	hub, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return err
	}
	st, err := soultribe.Open(context.Background(), fields[2], soultribe.WithPasswordParams(soultribetest.PasswordParams),
		soultribe.WithClock(func() time.Time { return soultribetest.Epoch }))
	if err != nil {
		return err
	}
	defer st.Close()
	input := bufio.NewReader(os.Stdin)
	say := func(what string) error {
		_, err := fmt.Println(what)
		if err == nil {
			_, err = input.ReadString('\n')
		}
		return err
	}
	for n := uint64(0); ; n++ {
		s := clientStory(seed, n, soultribe.UserID(hub))
		err := st.InTx(context.Background(), func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
			// The hub's profile stays locked until the end.
			if _, err := st.UpdateProfile(ctx, s.hub, soultribe.ProfileUpdate{Bio: &s.name}); err != nil {
				return err
			}
			for _, step := range s.steps() {
				if err := step.call(ctx, st, s); err != nil {
					return err
				}
				if err := say(step.name); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := say(committed); err != nil {
			return err
		}
	}
}

const committed = "committed"

func clientStory(seed, n uint64, hub soultribe.UserID) *story {
	return newStory(fmt.Sprintf("client-%x-%d", seed, n), rand.New(rand.NewPCG(seed, n)), hub)
}

// client is a process that runs beClient.
type client struct {
	cmd    *exec.Cmd
	input  io.Writer
	output *bufio.Reader
}

func startClient(t *testing.T, db *soultribetest.DB, seed uint64, hub soultribe.UserID) *client {
	t.Helper()
	c := &client{cmd: exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0])}
	c.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %s", clientVariable, seed, hub, db.URL), "PGAPPNAME=client")
	c.cmd.Stderr = t.Output()
	var err error
	c.input, err = c.cmd.StdinPipe()
	require.NoError(t, err)
	output, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	c.output = bufio.NewReader(output)
	require.NoError(t, c.cmd.Start())
	t.Cleanup(c.kill)
	return c
}

// kill ends the process by SIGKILL. What it did before stays to be read.
func (c *client) kill() { _ = c.cmd.Process.Kill() }

func (c *client) wait(t *testing.T, step string) {
	t.Helper()
	line, err := c.output.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, step, strings.TrimSpace(line))
}

func (c *client) proceed(t *testing.T) {
	t.Helper()
	_, err := io.WriteString(c.input, "\n")
	require.NoError(t, err)
}

// faultClient kills a client in its transaction while another waits for the lock that it has: in every other round
// between two steps, else in one, the last of which is the commit.
func faultClient(t *testing.T, f *fault) {
	t.Helper()
	db := soultribetest.New(t)
	hub := db.User(t).ID
	for round := range 4 * f.rounds {
		seed := f.r.Uint64()
		c := startClient(t, db, seed, hub)
		before := f.r.Uint64N(3)
		for n := uint64(0); ; n++ {
			s := clientStory(seed, n, hub)
			f.stories = append(f.stories, s)
			steps := s.steps()
			done := s.is
			for _, step := range steps {
				step.effect(s, &done)
			}
			if n < before {
				for _, step := range steps {
					c.wait(t, step.name)
					c.proceed(t)
				}
				c.wait(t, committed)
				c.proceed(t)
				s.is, s.wanted = done, 1+len(steps)
				continue
			}
			last := f.r.IntN(len(steps))
			if round%4 == 3 {
				last = len(steps) - 1
			}
			for i, step := range steps[:last+1] {
				c.wait(t, step.name)
				if i < last {
					c.proceed(t)
				}
			}
			if round%2 == 1 && last == len(steps)-1 {
				s.may, s.doubt = &done, "InTx"
			}
			break
		}
		f.killClient(t, db, c, hub, round%2 == 1)
		f.requireSound(t, db)
	}
	f.rounds *= 4
}

// killClient kills the client, which has the hub's profile locked, or is about to do the next thing.
func (f *fault) killClient(t *testing.T, db *soultribetest.DB, c *client, hub soultribe.UserID, proceed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	waits := make(chan error, 1)
	go func() {
		bio := "another client's"
		_, err := db.Store.UpdateProfile(ctx, hub, soultribe.ProfileUpdate{Bio: &bio})
		waits <- err
	}()
	waitForBlocked(t, db)
	if proceed {
		c.proceed(t)
	}
	struck := time.Now()
	c.kill()
	require.NoError(t, <-waits)
	f.recovery = max(f.recovery, time.Since(struck))
	require.Error(t, c.cmd.Wait())
	require.Eventually(t, func() bool {
		return len(db.Query(t, `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'client'`)) == 0
	}, time.Minute, time.Millisecond, "the server keeps a session of the client that is dead")
}
