package soultribe_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe/soultribetest"
)

// TestDocumentedQueries runs each query of the guide, in a session far from UTC.
func TestDocumentedQueries(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/database.md")
	require.NoError(t, err)
	queries := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	require.Len(t, queries, 5)

	db := soultribetest.New(t)
	pool := newPool(t, db.URL, hostileSession)
	for _, q := range queries {
		// The guide reads the tables by search_path, as psql does.
		sql := "SET search_path = public; SET timezone = 'Asia/Kolkata'; " + q[1]
		_, err := pool.Exec(t.Context(), sql)
		require.NoError(t, err, q[1])
	}
	require.Contains(t, string(text), "AT TIME ZONE 'UTC'")
}

// TestReadmeShowsTheQuickstart holds the README to what the quickstart prints; the quickstart's own test
// holds that to what it does.
func TestReadmeShowsTheQuickstart(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	story, err := os.ReadFile("examples/quickstart/testdata/story.txt")
	require.NoError(t, err)
	require.Contains(t, string(readme), string(story))
}
