package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// processorTime is what this process and those of the server, the children of postmaster, have used so far. Unlike
// the time on the clock it does not count what else the machine does. It is 0 where the server runs elsewhere.
func processorTime(postmaster int) time.Duration {
	var own syscall.Rusage
	if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", postmaster)); string(comm) != "postgres\n" || syscall.Getrusage(syscall.RUSAGE_SELF, &own) != nil {
		return 0
	}
	sum := time.Duration(own.Utime.Nano() + own.Stime.Nano())
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		text, _ := os.ReadFile(stat) //nolint:gosec // as found in /proc; it may have ended
		// Behind the name, which may have anything in it, come the state and the parent.
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		if len(fields) < 2 || string(fields[1]) != strconv.Itoa(postmaster) {
			continue
		}
		text, _ = os.ReadFile(filepath.Join(filepath.Dir(stat), "schedstat")) //nolint:gosec // likewise
		running, _, _ := bytes.Cut(text, []byte(" "))
		nanoseconds, _ := strconv.ParseInt(string(running), 10, 64)
		sum += time.Duration(nanoseconds)
	}
	return sum
}
