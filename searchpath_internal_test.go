package soultribe

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ plain, pinned string }{
		{"SELECT * FROM t", "SELECT * FROM t"},
		{"SELECT t.* FROM t", "SELECT t.* FROM t"},
		{"SELECT count(*) FROM t", "SELECT pg_catalog.count(*) FROM t"},
		{"a = 1 AND b < c", "a OPERATOR(pg_catalog.=) 1 AND b OPERATOR(pg_catalog.<) c"},
		{"a*b", "aOPERATOR(pg_catalog.*)b"},
		{"a - b + c", "a OPERATOR(pg_catalog.-) b OPERATOR(pg_catalog.+) c"},
		{"a >= (b - c)", "a OPERATOR(pg_catalog.>=) (b OPERATOR(pg_catalog.-) c)"},
		{"(a, b) > (c, d)", "(a, b) OPERATOR(pg_catalog.>) (c, d)"},
		{"a = ANY($1::bigint[])", "a OPERATOR(pg_catalog.=) ANY($1::bigint[])"},
		{"a <> ALL ($1)", "a OPERATOR(pg_catalog.<>) ALL ($1)"},
		{"a IN ('x', f(b)) OR c", "a OPERATOR(pg_catalog.=) ANY (ARRAY['x', pg_catalog.f(b)]) OR c"},
		{"a IN (SELECT b FROM t)", "a OPERATOR(pg_catalog.=) ANY (SELECT b FROM t)"},
		{"a LIKE b", "a OPERATOR(pg_catalog.~~) b"},
		{"a NOT LIKE 'b%'", "a OPERATOR(pg_catalog.!~~) 'b%'"},
		{"NOT a", "NOT a"},
		{"a::text || b::bigint::text", "a::pg_catalog.text OPERATOR(pg_catalog.||) b::bigint::pg_catalog.text"},
		{"$1::text[]", "$1::pg_catalog.text[]"},
		{"c[1:$6::integer]", "c[1:$6::integer]"},
		{`lower(a COLLATE "C")`, `pg_catalog.lower(a COLLATE pg_catalog."C")`},
		{`"s"."f"('a = b')`, `"s"."f"('a = b')`},
		{"coalesce(min(a), 0)", "coalesce(pg_catalog.min(a), 0)"},
		{"extract(epoch FROM a)", "extract(epoch FROM a)"},
		{"'it''s = ' = E'\\\\'", "'it''s = ' OPERATOR(pg_catalog.=) E'\\\\'"},
		{`"a = b" = c`, `"a = b" OPERATOR(pg_catalog.=) c`},
		{"-- name: a = b\na", "-- name: a = b\na"},
		{"CASE WHEN a = b THEN c + d ELSE e END", "CASE WHEN a OPERATOR(pg_catalog.=) b THEN c OPERATOR(pg_catalog.+) d ELSE e END"},
		{"UPDATE t SET a = b = c, d = e WHERE f = g", "UPDATE t SET a = b OPERATOR(pg_catalog.=) c, d = e WHERE f OPERATOR(pg_catalog.=) g"},
		{"SET a = CASE WHEN b = c THEN d END, e = f(g = h, i = j)", "SET a = CASE WHEN b OPERATOR(pg_catalog.=) c THEN d END, e = pg_catalog.f(g OPERATOR(pg_catalog.=) h, i OPERATOR(pg_catalog.=) j)"},
		{"(UPDATE t SET a = b RETURNING a = b, c = d)", "(UPDATE t SET a = b RETURNING a OPERATOR(pg_catalog.=) b, c OPERATOR(pg_catalog.=) d)"},
		{"FROM f(a) WITH ORDINALITY AS w (b, c)", "FROM pg_catalog.f(a) WITH ORDINALITY AS w (b, c)"},
		{"WITH a AS (SELECT 1)", "WITH a AS (SELECT 1)"},
		{"ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING", "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"},
		{"SELECT DISTINCT a", "SELECT DISTINCT a"},
	} {
		require.Equal(t, c.pinned, pin(c.plain))
	}
}

func TestPinRefuses(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{
		"a > b - c",
		"a + b * c",
		"a = b || c",
		"CASE WHEN a THEN b END + c > d",
		"x + CASE WHEN a THEN b END > d",
		"a NOT IN (b)",
		"a BETWEEN b AND c",
		"a ILIKE b",
		"a SIMILAR TO b",
		"nullif(a, b)",
		"a IS DISTINCT FROM b",
		"a IS NOT DISTINCT FROM b",
		"CASE a WHEN b THEN c END",
		"(-a)",
		"a = -b",
		"a IN b",
	} {
		require.Panics(t, func() { pin(sql) }, sql)
	}
}
