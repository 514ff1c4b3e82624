package soultribe_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

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

// TestSecurityNamesTests holds the table of SECURITY.md to the tests that there are. A requirement without
// one is the service's.
func TestSecurityNamesTests(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("SECURITY.md")
	require.NoError(t, err)
	tests := testNames(t)
	rows := regexp.MustCompile(`(?m)^\| (\d+\.\d+\.\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$`).FindAllStringSubmatch(string(text), -1)
	require.Len(t, rows, strings.Count(string(text), "\n| ")-1, "a row of another form, beside the table's head")
	require.Greater(t, len(rows), 40)
	seen := map[string]bool{}
	for _, row := range rows {
		requirement, becomes, names := row[1], row[3], regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[4], -1)
		require.False(t, seen[requirement], "%s stands twice", requirement)
		seen[requirement] = true
		require.Equal(t, strings.HasPrefix(becomes, "The service's: "), len(names) == 0, "%s is the service's, or has a test", requirement)
		for _, name := range names {
			require.True(t, tests[name[1]], "%s names %s, which there is not", requirement, name[1])
		}
	}
}

// testNames are those of the module's tests, and of the subtests of TestStore.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	groups := map[string]string{} // by variable
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	for _, pattern := range []string{"schema/*_test.go", "soultribetest/*.go"} {
		more, err := filepath.Glob(pattern)
		require.NoError(t, err)
		files = append(files, more...)
	}
	var sources strings.Builder
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		sources.Write(source)
	}
	find := func(pattern, in string) [][]string { return regexp.MustCompile(pattern).FindAllStringSubmatch(in, -1) }
	for _, m := range find(`(?m)^func (Test\w+)\(t \*testing\.T`, sources.String()) {
		names[m[1]] = true
	}
	for _, m := range find(`\{"(\w+)", (\w+Tests)\}`, sources.String()) {
		groups[m[2]] = m[1]
	}
	require.Len(t, groups, 6)
	for _, m := range find(`(?s)var (\w+Tests) = \[\]conformanceTest\{(.*?)\n\}`, sources.String()) {
		for _, test := range find(`\{name: "([^"]+)"`, m[2]) {
			names["TestStore/"+groups[m[1]]+"/"+test[1]] = true
		}
	}
	return names
}
