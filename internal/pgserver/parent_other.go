//go:build !linux

package pgserver

import "os/exec"

// dieWithParent does nothing, as only Linux offers this. A server that outlives us ends within a minute
// after the next start has removed its directory.
func dieWithParent(*exec.Cmd) {}
