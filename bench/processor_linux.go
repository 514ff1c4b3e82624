package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// processorTime is what this process and those of the server, the children of postmaster, have used so far. Unlike
// the time on the clock it does not count what else the machine does. It is 0 where the server runs elsewhere.
func processorTime(postmaster int) time.Duration {
	var own unix.Rusage
	if !isHere(postmaster) || unix.Getrusage(unix.RUSAGE_SELF, &own) != nil {
		return 0
	}
	sum := time.Duration(own.Utime.Nano() + own.Stime.Nano())
	for _, pid := range children(postmaster) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid)) // it may have ended
		running, _, _ := bytes.Cut(text, []byte(" "))
		nanoseconds, _ := strconv.ParseInt(string(running), 10, 64)
		sum += time.Duration(nanoseconds)
	}
	return sum
}

// apart keeps this process on one processor and those of the server on another, until release is called. Where two
// that wait for each other run is chance otherwise, and stays so for a while; and to wake an idle processor takes
// longer than a small statement. Apart they are as on two machines. It does nothing with a server that this process has
// not started, for others may use it.
func apart(postmaster int) (release func(), err error) {
	var all, own, server unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil || all.Count() < 2 || parentOf(postmaster) != os.Getpid() {
		return func() {}, err
	}
	if err := unix.SchedSetaffinity(postmaster, &all); errors.Is(err, unix.EPERM) {
		return func() {}, nil // the server is another user's, and root may not be allowed everything
	}
	for cpu := 0; server.Count() == 0; cpu++ {
		switch {
		case !all.IsSet(cpu):
		case own.Count() == 0:
			own.Set(cpu)
		default:
			server.Set(cpu)
		}
	}
	keep := func(own, server *unix.CPUSet) error {
		var errs []error
		set := func(ids []int, on *unix.CPUSet) {
			for _, id := range ids {
				if err := unix.SchedSetaffinity(id, on); !errors.Is(err, unix.ESRCH) { // it may have ended
					errs = append(errs, err)
				}
			}
		}
		set(threads(), own)
		set(append(children(postmaster), postmaster), server)
		return errors.Join(errs...)
	}
	return func() { _ = keep(&all, &all) }, keep(&own, &server)
}

// isHere tells whether the server runs on this machine.
func isHere(postmaster int) bool {
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", postmaster))
	return string(comm) == "postgres\n"
}

// children are the processes of the server.
func children(postmaster int) (pids []int) {
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, process := range processes {
		if pid, _ := strconv.Atoi(filepath.Base(process)); parentOf(pid) == postmaster {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parentOf returns the process that started another, or 0.
func parentOf(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // it may have ended
	// Behind the name, which may have anything in it, come the state and the parent.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(string(fields[1]))
	return parent
}

// threads are those of this process. One that is new runs where the one that made it does.
func threads() (ids []int) {
	tasks, _ := filepath.Glob("/proc/self/task/*")
	for _, task := range tasks {
		id, _ := strconv.Atoi(filepath.Base(task))
		ids = append(ids, id)
	}
	return ids
}
