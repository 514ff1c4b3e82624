package pgserver

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// directory is a temporary one that other processes can tell to be in use: its lock is held as long as
// we live, however we end.
type directory struct {
	path string
	lock *os.File
}

// newDirectory makes a directory that belongs to user, and removes those that dead processes left behind.
func newDirectory(user *account) (*directory, error) {
	base := baseDirectory(user)
	removeLeftDirectories(base)
	path, err := os.MkdirTemp(base, directoryPrefix)
	if err != nil {
		return nil, err
	}
	d := &directory{path: path}
	if err := d.claim(user); err != nil {
		d.remove()
		return nil, err
	}
	return d, nil
}

// claim locks the directory and gives it to user. The lock gets its name last, so that under
// this name it is never seen unlocked while we live.
func (d *directory) claim(user *account) (err error) {
	d.lock, err = os.Create(filepath.Join(d.path, "lock.new"))
	if err != nil {
		return err
	}
	if err := tryLock(d.lock); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if err := os.Rename(d.lock.Name(), filepath.Join(d.path, "lock")); err != nil {
		return err
	}
	return user.own(d.path)
}

func (d *directory) remove() {
	if d.lock != nil {
		_ = d.lock.Close() // before its removal, as some systems keep open files
	}
	_ = os.RemoveAll(d.path)
}

// baseDirectory returns one in memory, where a database is made in a tenth of the time that it takes on
// disk, unless TMPDIR asks for another; or else the directory for temporary files, or /tmp where that
// one's name is too long for a socket's, or user may not enter it.
func baseDirectory(user *account) string {
	if base := memoryDirectory(); base != "" && os.Getenv("TMPDIR") == "" && user.mayEnter(base) {
		return base
	}
	base := os.TempDir()
	if len(base) > longestBase || !user.mayEnter(base) {
		return "/tmp"
	}
	return base
}

// removeLeftDirectories removes what processes left that ended without a chance to clean up, as a
// test binary does that runs into its time limit. A server that outlived its process, where the
// system allows that, ends by itself when it misses its files.
func removeLeftDirectories(base string) {
	paths, _ := filepath.Glob(filepath.Join(base, directoryPrefix+"*"))
	for _, path := range paths {
		if isLeft(path) {
			_ = os.RemoveAll(path)
		}
	}
}

func isLeft(path string) bool {
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR, 0)
	if os.IsNotExist(err) {
		// Its process is about to name the lock, unless that was long ago.
		info, err := os.Stat(path)
		return err == nil && time.Since(info.ModTime()) > time.Hour
	}
	if err != nil {
		return false
	}
	defer func() { _ = lock.Close() }()
	return tryLock(lock) == nil
}
