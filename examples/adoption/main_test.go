package main

import (
	_ "embed"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe/schema"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

func TestMain(m *testing.M) { os.Exit(soultribetest.Main(m)) }

// told is what the run prints after its first line.
//
//go:embed testdata/story.txt
var told string

func TestAdoption(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	before := db.Query(t, "SELECT nspname FROM pg_namespace ORDER BY 1")
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out, db.URL))
	first, rest, _ := strings.Cut(out.String(), "\n")
	require.Equal(t, "soultribe on the database at DATABASE_URL", first)
	require.Equal(t, told, rest)
	require.Equal(t, before, db.Query(t, "SELECT nspname FROM pg_namespace ORDER BY 1"), "nothing stays")
}

// catalog is all that the schema old consists of, and what is in its tables.
const catalog = `
SELECT concat_ws(' ', 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), c.relfilenode)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'old'::regnamespace AND c.relkind IN ('r', 'i', 'S')
UNION ALL SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = 'old'::regnamespace
UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'old'::regnamespace
UNION ALL SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
	WHERE c.relnamespace = 'old'::regnamespace AND NOT t.tgisinternal
UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'old'::regnamespace
UNION ALL SELECT x::text FROM old."user" x
UNION ALL SELECT x::text FROM old.profile x
UNION ALL SELECT x::text FROM old.availabilityslot x
UNION ALL SELECT x::text FROM old.match x
UNION ALL SELECT x::text FROM old.meetup x
UNION ALL SELECT x::text FROM old.refreshtoken x
UNION ALL SELECT x::text FROM old.alembic_version x
ORDER BY 1`

// TestWayBack takes back what Migrate has done, by the statements of the guide.
func TestWayBack(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../docs/adoption.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(guide), -1)
	require.Len(t, blocks, 1)

	db := soultribetest.New(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	_, err = conn.Exec(t.Context(), "CREATE SCHEMA old; SET search_path = old;"+tables+rows+mending)
	require.NoError(t, err)
	before := db.Query(t, catalog)
	require.NoError(t, schema.Migrate(t.Context(), db.Pool, schema.In("old")))
	require.NotEqual(t, before, db.Query(t, catalog))
	_, err = conn.Exec(t.Context(), "BEGIN;"+blocks[0][1]+"COMMIT")
	require.NoError(t, err)
	require.Equal(t, before, db.Query(t, catalog))
}

// TestGuideNamesTheRules holds the guide to the rules in whose way a row can be.
func TestGuideNamesTheRules(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../docs/adoption.md")
	require.NoError(t, err)
	names := regexp.MustCompile("`([a-z0-9_]+_(?:key|check|no_overlap))`").FindAllStringSubmatch(string(guide), -1)
	require.NotEmpty(t, names)
	known := map[string]bool{}
	for _, r := range schema.Rules() {
		known[r.Name] = true
	}
	for _, n := range names {
		require.True(t, known[n[1]], n[1])
	}
}
