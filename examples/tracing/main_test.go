package main

import (
	_ "embed"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe/soultribetest"
)

func TestMain(m *testing.M) { os.Exit(soultribetest.Main(m)) }

// told is what the run prints after its first line, up to pg_stat_statements.
//
//go:embed testdata/story.txt
var told string

// counted is what it prints of pg_stat_statements, where the server has it.
//
//go:embed testdata/statistics.txt
var counted string

func TestTracing(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	before := db.Query(t, "SELECT nspname FROM pg_namespace ORDER BY 1")
	want := told + "\npg_stat_statements would have the same names: shared_preload_libraries of this server does not name it\n"
	if strings.Contains(db.Query(t, "SHOW shared_preload_libraries")[0], "pg_stat_statements") {
		want = told + counted
	}
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out, db.URL))
	first, rest, _ := strings.Cut(out.String(), "\n")
	require.Equal(t, "soultribe on the database at DATABASE_URL", first)
	require.Equal(t, want, rest)
	require.Equal(t, before, db.Query(t, "SELECT nspname FROM pg_namespace ORDER BY 1"), "nothing stays")
}
