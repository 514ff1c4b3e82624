//go:build unix

package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const canKill = true

// killAll ends a server and all its processes, each of which has a group of its own, and waits for them.
func killAll(server *exec.Cmd) error {
	// One that has been stopped starts no more of them, nor notices what happens to those that it has.
	if err := server.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	errStop := waitUntil(server.Process.Pid, func(p process) bool { return p.is("T") })
	pids, errList := children(server.Process.Pid)
	errs := []error{errStop, errList}
	for _, pid := range pids {
		// One that has just ended stays a zombie, so that its id is no other's.
		errs = append(errs, syscall.Kill(pid, syscall.SIGKILL))
	}
	errs = append(errs, kill(server))
	for _, pid := range pids {
		// It may be long until whoever inherits the zombies looks after them.
		errs = append(errs, waitUntil(pid, func(p process) bool { return p.is("Z") }))
	}
	return errors.Join(errs...)
}

// killChild ends one process of a server.
func killChild(server *exec.Cmd, pid int) error {
	p, err := lookAt(pid)
	if err != nil {
		return err
	}
	if p.parent != server.Process.Pid {
		return fmt.Errorf("%d is no process of the server", pid)
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// waitUntil waits until a process is as it is to be, or is gone.
func waitUntil(pid int, condition func(process) bool) error {
	until := time.After(stopTimeout)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for p, err := lookAt(pid); err == nil && !condition(p); p, err = lookAt(pid) {
		select {
		case <-ticker.C:
		case <-until:
			return fmt.Errorf("process %d is in state %s %v after a signal", pid, p.state, stopTimeout)
		}
	}
	return nil
}

// process is what the system knows of one.
type process struct {
	pid, parent int
	state       string
}

func (p process) is(state string) bool { return strings.HasPrefix(p.state, state) }

// children returns the ids of the processes that parent has started and that have not ended.
func children(parent int) ([]int, error) {
	all, err := processes()
	var pids []int
	for _, p := range all {
		if p.parent == parent {
			pids = append(pids, p.pid)
		}
	}
	return pids, err
}

// processes lists all processes: from /proc, where there is one, as a small system may have no ps.
func processes() ([]process, error) {
	var all []process
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		if p, ok := parseStat(string(stat)); ok {
			all = append(all, p)
		}
	}
	if len(all) > 0 {
		return all, nil
	}
	out, err := exec.CommandContext(context.Background(), "ps", "-A", "-o", "pid=,ppid=,stat=").Output()
	for line := range strings.Lines(string(out)) {
		if p, ok := newProcess(strings.Fields(line)); ok {
			all = append(all, p)
		}
	}
	return all, err
}

func lookAt(pid int) (process, error) {
	all, err := processes()
	for _, p := range all {
		if p.pid == pid {
			return p, nil
		}
	}
	if err == nil {
		err = syscall.ESRCH
	}
	return process{}, err
}

// parseStat reads /proc/<pid>/stat: the id, the name in parentheses, the state and the parent's id.
func parseStat(stat string) (process, bool) {
	pid, rest, _ := strings.Cut(stat, " ")
	fields := strings.Fields(rest[strings.LastIndex(rest, ")")+1:]) // a name may have parentheses and spaces
	if len(fields) < 2 {
		return process{}, false
	}
	return newProcess([]string{pid, fields[1], fields[0]})
}

// newProcess takes the id, the parent's and the state.
func newProcess(fields []string) (process, bool) {
	if len(fields) < 3 {
		return process{}, false
	}
	pid, errPid := strconv.Atoi(fields[0])
	parent, errParent := strconv.Atoi(fields[1])
	return process{pid, parent, fields[2]}, errPid == nil && errParent == nil
}
