package docs_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

var tableNames = []string{
	"user", "profile", "availabilityslot", "emailverificationtoken", "passwordresettoken", "match", "meetup",
	"soultribe_booking", "soultribe_schema_version",
}

// documented is a row of the guide's tables of columns.
type documented struct{ table, column, kind, personal, exported string }

func documentedColumns(t *testing.T) []documented {
	t.Helper()
	var columns []documented
	table := ""
	for line := range strings.Lines(read(t, "data.md")) {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			table = strings.TrimSpace(name)
		}
		if m := regexp.MustCompile("^\\| `(\\w+)` \\| ([a-z, ]+) \\| .+ \\| (yes|no|others|secret) \\| (yes|no) \\|\n$").FindStringSubmatch(line); m != nil {
			columns = append(columns, documented{table, m[1], m[2], m[3], m[4]})
		}
	}
	return columns
}

// TestDataColumns holds the guide to the tables, columns, types and nullability of a migrated database, in
// their order.
func TestDataColumns(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	stored := db.Query(t, `
SELECT table_name::text, column_name::text, replace(replace(data_type::text, 'character varying', 'varchar'), ' without time zone', '') ||
	CASE is_nullable WHEN 'YES' THEN ', null' ELSE '' END
FROM information_schema.columns WHERE table_schema = 'public' ORDER BY array_position($1::text[], table_name::text), ordinal_position`, tableNames)
	var written []string
	for _, c := range documentedColumns(t) {
		written = append(written, row(c.table, c.column, c.kind))
	}
	require.Equal(t, stored, written)
	// The sentence on defaults.
	require.Equal(t, []string{"soultribe_schema_version|tstamp"}, db.Query(t, `SELECT table_name::text, column_name::text
		FROM information_schema.columns WHERE table_schema = 'public' AND column_default IS NOT NULL AND column_name <> 'id'`))
}

// TestDataExported fills each column of a person's rows with a value of its own, and looks for it in what
// Export returns.
func TestDataExported(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	values := map[string]string{} // as JSON has them, by table.column
	day := 0
	fill := func(table string, given map[string]string, columns []documented) {
		var names, literals []string
		for _, c := range columns {
			if c.table != table {
				continue
			}
			key := table + "." + c.column
			value, ok := given[c.column]
			kind, _, _ := strings.Cut(c.kind, ",")
			switch {
			case ok:
			case kind == "timestamp":
				day++
				value = time.Date(2031, 1, 1, 0, day, 0, 0, time.UTC).Format("2006-01-02T15:04:05Z")
			case kind == "varchar" || kind == "text":
				value = "value of " + key
			default:
				t.Fatalf("no value for %s", key)
			}
			values[key] = value
			names = append(names, c.column)
			literals = append(literals, "'"+value+"'")
		}
		_, err := db.Pool.Exec(t.Context(), fmt.Sprintf(`INSERT INTO %q (%s) VALUES (%s)`, table, strings.Join(names, ", "), strings.Join(literals, ", ")))
		require.NoError(t, err)
	}
	columns := documentedColumns(t)
	other := db.User(t)
	owner := map[string]string{"user_id": "900001"}
	fill("user", map[string]string{"id": "900001"}, columns)
	fill("profile", owner, columns)
	fill("availabilityslot", map[string]string{
		"user_id": "900001", "id": "900002", "start_dt_utc": "2032-01-01T10:00:00Z", "end_dt_utc": "2032-01-01T11:00:00Z",
	}, columns)
	fill("emailverificationtoken", map[string]string{"user_id": "900001", "id": "900003", "changes_email": "true"}, columns)
	fill("passwordresettoken", map[string]string{"user_id": "900001", "id": "900004"}, columns)
	fill("match", map[string]string{"id": "900005", "user1_id": "900001", "user2_id": fmt.Sprint(other.ID)}, columns)
	fill("meetup", map[string]string{
		"id": "900006", "match_id": "900005", "proposer_id": "900001", "duration_seconds": "4567", "status": "confirmed",
		"scheduled_time": "2033-01-01T10:00:00Z",
	}, columns)
	require.Len(t, db.Query(t, "SELECT FROM soultribe_booking"), 2) // which the trigger filled
	values["soultribe_booking.user_id"], values["soultribe_booking.meetup_id"] = "900001", "900006"
	values["soultribe_booking.starts_at"], values["soultribe_booking.ends_at"] = "2033-01-01T10:00:00Z", "2033-01-01T11:16:07Z"

	exported, err := db.Store.Export(t.Context(), 900001)
	require.NoError(t, err)
	document, err := json.Marshal(exported)
	require.NoError(t, err)
	for _, c := range columns {
		value, ok := values[c.table+"."+c.column]
		require.Equal(t, c.table != "soultribe_schema_version", ok)
		if c.column == "changes_email" || !ok { // "true" is nothing to look for
			require.Equal(t, "no", c.exported)
			continue
		}
		require.Equal(t, c.exported == "yes", strings.Contains(string(document), value), "%s.%s", c.table, c.column)
		if c.personal == "secret" {
			require.Equal(t, "no", c.exported)
		}
	}
}

// TestDataDeleted has DeleteUser leave nothing of a person in any column that names one.
func TestDataDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "public")
	ann := w.id("ann")
	naming := w.Query(t, `SELECT quote_ident(table_name), column_name::text FROM information_schema.columns
		WHERE table_schema = 'public' AND column_name ~ '^(user|user1|user2|proposer)_id$'`)
	require.Len(t, naming, 8)
	holding := func() []string {
		var tables []string
		for _, n := range naming {
			table, column, _ := strings.Cut(n, "|")
			if w.Query(t, fmt.Sprintf("SELECT count(*) FROM %s WHERE %s = $1", table, column), int64(ann))[0] != "0" {
				tables = append(tables, n)
			}
		}
		return tables
	}
	w.Clock.Advance(time.Hour)
	_, err := w.Store.IssueEmailChange(t.Context(), ann, "correct horse", "ann@example.net")
	require.NoError(t, err)
	require.Equal(t, naming, holding(), "the person is to be everywhere")
	_, err = w.Store.DeleteUser(t.Context(), ann)
	require.NoError(t, err)
	require.Empty(t, holding())
	require.Empty(t, w.Query(t, `SELECT FROM "user" WHERE id = $1`, int64(ann)))
}

// TestDataPurged calls Purge with each of the four ages that the guide names.
func TestDataPurged(t *testing.T) {
	t.Parallel()
	guide := read(t, "data.md")
	for name, policy := range map[string]soultribe.PurgePolicy{
		"Unverified": {Unverified: time.Hour}, "Slots": {Slots: time.Hour}, "Tokens": {Tokens: time.Hour}, "Meetups": {Meetups: time.Hour},
	} {
		require.Contains(t, guide, "`Purge` with `"+name+"`")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "public")
			w.Clock.Advance(365 * 24 * time.Hour)
			_, err := w.Store.Settle(t.Context(), soultribe.SettlePolicy{})
			require.NoError(t, err)
			w.Clock.Advance(24 * time.Hour)
			before := w.counts(t)
			_, err = w.Store.Purge(t.Context(), policy)
			require.NoError(t, err)
			var shrunk []string
			for table, n := range w.counts(t) {
				if n != before[table] {
					shrunk = append(shrunk, table)
				}
			}
			slices.Sort(shrunk)
			require.Equal(t, map[string][]string{
				"Unverified": {"emailverificationtoken", "profile", "user"},
				"Slots":      {"availabilityslot"},
				"Tokens":     {"emailverificationtoken", "passwordresettoken"},
				"Meetups":    {"meetup"},
			}[name], shrunk)
		})
	}
}

// counts are the rows of each table.
func (w *world) counts(t *testing.T) map[string]string {
	t.Helper()
	counts := map[string]string{}
	for _, table := range tableNames[:8] {
		counts[table] = w.Query(t, fmt.Sprintf("SELECT count(*) FROM %q", table))[0]
	}
	return counts
}
