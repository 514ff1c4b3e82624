package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestApartFromOthers leaves a process alone that this one has not started.
func TestApartFromOthers(t *testing.T) {
	t.Parallel()
	other := os.Getppid()
	require.Equal(t, other, parentOf(os.Getpid()))
	var before, after unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(other, &before))
	release, err := apart(other)
	defer release()
	require.NoError(t, err)
	require.NoError(t, unix.SchedGetaffinity(other, &after))
	require.Equal(t, before, after)
}
