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

// told is what the run prints after its first line.
//
//go:embed testdata/story.txt
var told string

func TestQuickstart(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	before := db.Query(t, "SELECT nspname FROM pg_namespace ORDER BY 1")
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out, db.URL))
	first, rest, _ := strings.Cut(out.String(), "\n")
	require.Equal(t, "soultribe on the database at DATABASE_URL", first)
	require.Equal(t, told, rest)
	require.Equal(t, before, db.Query(t, "SELECT nspname FROM pg_namespace ORDER BY 1"), "nothing stays")
	require.Empty(t, db.Query(t, `SELECT 1 FROM public."user"`), "the owner's tables are not touched")
}

// TestQuickstartWithoutDatabase has it provide a PostgreSQL itself.
func TestQuickstartWithoutDatabase(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out, ""))
	first, rest, _ := strings.Cut(out.String(), "\n")
	require.Contains(t, first, "PostgreSQL")
	require.Equal(t, told, rest)
}
