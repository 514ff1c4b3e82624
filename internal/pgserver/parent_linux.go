package pgserver

import (
	"os/exec"
	"syscall"
)

// dieWithParent lets the server end with us, also when we are killed.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT }
