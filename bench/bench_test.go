package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe/soultribetest"
)

func TestMain(m *testing.M) { os.Exit(soultribetest.Main(m)) }

// TestPeersAgree has every peer do everything, and compares what they return and store.
func TestPeersAgree(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	d, err := fill(t.Context(), db.Pool, 2*askers+2)
	require.NoError(t, err)
	peers, closePeers, err := openPeers(t.Context(), environment{db.URL, epoch})
	t.Cleanup(closePeers)
	require.NoError(t, err)
	require.NoError(t, compare(t.Context(), d, peers, operations()))
}
