package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/jackc/pgx/v5"

	"github.com/soultribe-chat/soultribe"
)

// sizes is the answer of size, in bytes.
type sizes struct {
	Database string      `json:"database"`
	Bytes    int64       `json:"bytes"`  // of the whole database, other schemas and the catalog too
	Tables   []tableSize `json:"tables"` // of the schema, the largest first; never nil
}

type tableSize struct {
	Table   string `json:"table"`
	Heap    int64  `json:"heap_bytes"`
	Indexes int64  `json:"index_bytes"`
	Toast   int64  `json:"toast_bytes"` // where long values are, with its index
	Total   int64  `json:"total_bytes"`
	Rows    int64  `json:"rows"`      // about so many
	Dead    int64  `json:"dead_rows"` // about so many, that vacuum has not removed yet
}

// String is a table for people.
func (s sizes) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprint(w, "total\theap\tindexes\ttoast\trows\tdead\t  table\n")
	for _, t := range s.Tables {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t  %s\n",
			bytesText(t.Total), bytesText(t.Heap), bytesText(t.Indexes), bytesText(t.Toast), t.Rows, t.Dead, printable(t.Table))
	}
	_, _ = fmt.Fprintf(w, "%s\t\t\t\t\t\t  the database %s\n", bytesText(s.Bytes), printable(s.Database))
	_ = w.Flush() // strings.Builder takes all
	return strings.TrimSuffix(b.String(), "\n")
}

// printable quotes a name that a terminal could take for something else.
func printable(name string) string {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}

// bytesText writes a number of bytes as PostgreSQL does, with units of 1024.
func bytesText(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for units := []string{"kB", "MB", "GB", "TB"}; ; unit++ {
		if value < 999.95 || unit == len(units)-1 {
			return fmt.Sprintf("%.1f %s", value, units[unit])
		}
		value /= 1024
	}
}

// tableSizes has the parts of a partitioned table with it.
const tableSizes = `
SELECT c.relname::text, sum(part.heap)::bigint, sum(part.indexes)::bigint, sum(part.toast)::bigint,
	sum(part.heap + part.indexes + part.toast)::bigint, sum(part.live)::bigint, sum(part.dead)::bigint
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
	SELECT pg_catalog.pg_table_size(p.oid) - x.toast AS heap, pg_catalog.pg_indexes_size(p.oid) AS indexes, x.toast,
		greatest(pg_catalog.pg_stat_get_live_tuples(p.oid), 0) AS live, greatest(pg_catalog.pg_stat_get_dead_tuples(p.oid), 0) AS dead
	FROM pg_catalog.pg_class p
	CROSS JOIN LATERAL (SELECT coalesce(pg_catalog.pg_total_relation_size(nullif(p.reltoastrelid, 0)), 0) AS toast) AS x
	WHERE p.oid = c.oid OR c.relkind = 'p' AND p.oid IN (SELECT tree.relid FROM pg_catalog.pg_partition_tree(c.oid) AS tree)
) AS part
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND NOT c.relispartition
GROUP BY c.oid, c.relname ORDER BY 5 DESC, 1`

func size(ctx context.Context, t *task) (fmt.Stringer, error) {
	var s sizes
	err := t.pool.QueryRow(ctx, "SELECT pg_catalog.current_database()::text, pg_catalog.pg_database_size(pg_catalog.current_database())").
		Scan(&s.Database, &s.Bytes)
	if err != nil {
		return nil, err
	}
	rows, err := t.pool.Query(ctx, tableSizes, t.schema)
	if err != nil {
		return nil, err
	}
	s.Tables, err = pgx.CollectRows(rows, pgx.RowToStructByPos[tableSize])
	if err != nil {
		return nil, err
	}
	return s, nil
}

// counts is the answer of stats.
type counts struct{ soultribe.Stats }

// String has a line for each number.
func (c counts) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "users\t%d\nverified\t%d\nslots ahead\t%d\n", c.Users, c.Verified, c.SlotsAhead)
	for _, status := range slices.Sorted(maps.Keys(c.Matches)) {
		_, _ = fmt.Fprintf(w, "matches %s\t%d\n", printable(string(status)), c.Matches[status])
	}
	for _, status := range slices.Sorted(maps.Keys(c.Meetups)) {
		_, _ = fmt.Fprintf(w, "meetups %s\t%d\n", printable(string(status)), c.Meetups[status])
	}
	_, _ = fmt.Fprintf(w, "database\t%s\n", bytesText(c.DatabaseBytes))
	_ = w.Flush() // strings.Builder takes all
	if c.Estimated {
		b.WriteString("some of them are estimates, as there are many rows\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func stats(ctx context.Context, t *task) (fmt.Stringer, error) {
	store, err := soultribe.New(t.pool, soultribe.WithSchema(t.schema))
	if err != nil {
		return nil, err
	}
	s, err := store.Stats(ctx)
	if err != nil {
		return nil, err
	}
	return counts{s}, nil
}
