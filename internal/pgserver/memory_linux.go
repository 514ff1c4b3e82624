package pgserver

import "syscall"

const (
	memoryPath = "/dev/shm"

	// tmpfsMagic is TMPFS_MAGIC of linux/magic.h.
	tmpfsMagic = 0x01021994

	// memoryNeeded is what the databases of a few test binaries take together. Docker gives a container
	// 64 MiB, which one of them would fill.
	memoryNeeded = 2 << 30
)

// memoryDirectory returns a directory in memory with room for a server, or "".
func memoryDirectory() string {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(memoryPath, &fs); err != nil || fs.Type != tmpfsMagic {
		return ""
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < memoryNeeded { //nolint:gosec // a block's size is positive
		return ""
	}
	return memoryPath
}
