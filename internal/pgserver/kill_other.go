//go:build !unix

package pgserver

import (
	"errors"
	"os/exec"
)

const canKill = false

func killAll(*exec.Cmd) error        { return errors.ErrUnsupported }
func killChild(*exec.Cmd, int) error { return errors.ErrUnsupported }
