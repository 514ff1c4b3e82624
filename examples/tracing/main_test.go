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

// told is the story up to pg_stat_statements.
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
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out, db.URL))
	first, rest, _ := strings.Cut(out.String(), "\n")
	require.Equal(t, "soultribe on the database at DATABASE_URL", first)
	require.Equal(t, wanted(isLoaded(t, db)), rest)
	require.Equal(t, before, db.Query(t, "SELECT nspname FROM pg_namespace ORDER BY 1"), "nothing stays")
}

// TestTracingWithoutDatabase has it provide a PostgreSQL itself, which loads pg_stat_statements where that is installed.
func TestTracingWithoutDatabase(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	loads := len(db.Query(t, "SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements'")) > 0
	if os.Getenv("SOULTRIBE_TEST_DATABASE_URL") != "" { // it is provided with that one
		loads = isLoaded(t, db)
	}
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out, ""))
	first, rest, _ := strings.Cut(out.String(), "\n")
	require.Contains(t, first, "PostgreSQL")
	require.Equal(t, wanted(loads), rest)
}

func isLoaded(t *testing.T, db *soultribetest.DB) bool {
	t.Helper()
	return strings.Contains(db.Query(t, "SHOW shared_preload_libraries")[0], "pg_stat_statements")
}

// wanted is what the run prints after its first line.
func wanted(statistics bool) string {
	if statistics {
		return told + counted
	}
	return told + "\npg_stat_statements would have the same names: shared_preload_libraries of this server does not name it\n"
}
