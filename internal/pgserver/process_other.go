//go:build !unix

package pgserver

import (
	"errors"
	"os"
	"os/exec"
)

// account is whom the server runs as: always the caller's own here.
type account struct{}

func unprivileged() (*account, error) { return nil, nil }

func (*account) run(*exec.Cmd)        {}
func (*account) own(string) error     { return nil }
func (*account) mayEnter(string) bool { return true }

func quit(cmd *exec.Cmd) error { return kill(cmd) }
func kill(cmd *exec.Cmd) error { return cmd.Process.Kill() }

// isAlive reports whether there is a process of this id.
func isAlive(pid int) bool {
	process, err := os.FindProcess(pid)
	if err == nil {
		_ = process.Release()
	}
	return err == nil
}

func tryLock(*os.File) error { return errors.ErrUnsupported }
