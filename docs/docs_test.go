// Package docs_test holds the guides to what the database and the library do.
package docs_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// read returns a guide.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(text)
}

// section is what a guide says under a heading of the third order, and the SQL in it.
type section struct{ heading, text, sql string }

var (
	heading  = regexp.MustCompile(`(?m)^### (.+)$`)
	anything = regexp.MustCompile(`(?m)^#{1,3} `)
	sqlBlock = regexp.MustCompile("(?s)```sql\n(.*?)```")
)

// sections returns those of a guide that have SQL, of which each has one block.
func sections(t *testing.T, guide string) []section {
	t.Helper()
	var found []section
	for _, at := range heading.FindAllStringSubmatchIndex(guide, -1) {
		text := guide[at[1]:]
		if end := anything.FindStringIndex(text); end != nil {
			text = text[:end[0]]
		}
		blocks := sqlBlock.FindAllStringSubmatch(text, -1)
		if len(blocks) == 0 {
			continue
		}
		require.Len(t, blocks, 1, guide[at[2]:at[3]])
		found = append(found, section{guide[at[2]:at[3]], text, blocks[0][1]})
	}
	require.Len(t, found, strings.Count(guide, "```sql\n"), "SQL without a heading of its own")
	return found
}

var (
	setVariable = regexp.MustCompile(`(?m)^\\set (\w+) '?([^'\n]*)'?$`)
	// A variable is not looked for in a string, nor is a cast one.
	variable = regexp.MustCompile(`:'(\w+)'|'[^']*'|::|:(\w+)`)
)

// variables are those that a guide has its reader set.
func variables(guide string) map[string]string {
	v := map[string]string{}
	for _, set := range setVariable.FindAllStringSubmatch(guide, -1) {
		v[set[1]] = set[2]
	}
	return v
}

// interpolate puts variables into SQL, as psql does.
func interpolate(t *testing.T, sql string, values map[string]string) string {
	t.Helper()
	return variable.ReplaceAllStringFunc(sql, func(found string) string {
		name := variable.FindStringSubmatch(found)
		switch {
		case name[1] != "":
			require.Contains(t, values, name[1])
			return "'" + strings.ReplaceAll(values[name[1]], "'", "''") + "'"
		case name[2] != "":
			require.Contains(t, values, name[2])
			return values[name[2]]
		}
		return found
	})
}

// session connects as somebody whose clock is in a zone, and who has the schema of the tables first.
func session(t *testing.T, url, schema, zone string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(t.Context(), fmt.Sprintf("SET search_path = %s; SET timezone = '%s'", pgx.Identifier{schema}.Sanitize(), zone))
	require.NoError(t, err)
	return conn
}

// lines runs SQL, and returns the rows of the last statement as psql -At shows them.
func lines(t *testing.T, conn *pgx.Conn, sql string) []string {
	t.Helper()
	results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err, sql)
	all := []string{}
	for _, row := range results[len(results)-1].Rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = string(cell)
		}
		all = append(all, strings.Join(cells, "|"))
	}
	return all
}
