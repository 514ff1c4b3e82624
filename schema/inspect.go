package schema

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/soultribe-chat/soultribe"
)

// shape is what a PostgreSQL schema holds of what the library needs.
type shape struct {
	exists      bool // the PostgreSQL schema itself
	relations   map[string]string
	columns     map[string][]foundColumn // of each table, in order
	indexes     map[string]foundIndex
	names       map[string]bool // of all relations that are called as an index must be
	constraints map[constraint]definition
	triggers    map[trigger]definition
	functions   map[string]int            // the version whose it is; 0 for none
	brought     map[string]map[string]int // what sources returned
}

type foundColumn struct {
	name      string
	typ       string
	null      bool
	fills     bool // by a default, as an identity, or generated
	generated bool
}

type foundIndex struct {
	index
	valid bool
	whole bool // of columns alone, without a predicate, and checked at once
}

const relationKinds = `
SELECT c.relname::text, c.relkind::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = ANY($2) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')`

const relationColumns = `
SELECT c.relname::text, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod),
	NOT a.attnotnull, a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL, a.attgenerated <> ''
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE n.nspname = $1 AND c.relname = ANY($2) AND c.relkind IN ('r', 'p')
ORDER BY c.relname, a.attnum`

const relationIndexes = `
SELECT c.relname::text, i.relname::text, x.indisunique, x.indisvalid AND x.indisready,
	x.indpred IS NOT NULL, x.indimmediate,
	(SELECT pg_catalog.string_agg(coalesce(a.attname::text, ''), ',' ORDER BY k.n)
	FROM pg_catalog.unnest(x.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
	LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
	WHERE k.n <= x.indnkeyatts),
	pg_catalog.split_part(pg_catalog.pg_get_indexdef(i.oid), pg_catalog.format(' %I.%I USING ', n.nspname, c.relname), 2)
FROM pg_catalog.pg_index x
JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
JOIN pg_catalog.pg_class c ON c.oid = x.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = ANY($2)`

const relationNames = `
SELECT c.relname::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = ANY($2)`

const relationConstraints = `
SELECT c.relname::text, k.conname::text, k.contype::text, k.convalidated, pg_catalog.pg_get_constraintdef(k.oid)
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = ANY($2)`

const relationTriggers = `
SELECT c.relname::text, g.tgname::text, g.tgenabled IN ('O', 'A'),
	pg_catalog.replace(pg_catalog.replace(pg_catalog.pg_get_triggerdef(g.oid),
		pg_catalog.format(' ON %I.%I ', n.nspname, c.relname), ' '),
		pg_catalog.format(' EXECUTE FUNCTION %I.', n.nspname), ' EXECUTE FUNCTION ')
FROM pg_catalog.pg_trigger g
JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = ANY($2) AND NOT g.tgisinternal`

const schemaFunctions = `
SELECT p.proname::text, pg_catalog.oidvectortypes(p.proargtypes), p.prosrc,
	pg_catalog.concat_ws(' ', l.lanname, pg_catalog.format_type(p.prorettype, NULL),
		CASE p.provolatile WHEN 'v' THEN 'volatile' ELSE 'not volatile' END, CASE WHEN p.proisstrict THEN 'strict' END,
		CASE WHEN p.prosecdef THEN 'definer' ELSE 'invoker' END, pg_catalog.array_to_string(p.proconfig, '; '))
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE n.nspname = $1 AND p.proname = ANY($2)`

// inspect reads the catalog.
func (c config) inspect(ctx context.Context, tx soultribe.DB) (*shape, error) {
	s := &shape{
		relations:   map[string]string{},
		columns:     map[string][]foundColumn{},
		indexes:     map[string]foundIndex{},
		names:       map[string]bool{},
		constraints: map[constraint]definition{},
		triggers:    map[trigger]definition{},
		functions:   map[string]int{},
	}
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.name
	}
	each := func(query string, names []string, scan func(pgx.CollectableRow) error) error {
		rows, err := tx.Query(ctx, query, pgx.QueryExecModeExec, c.schema, names)
		if err != nil {
			return err
		}
		_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
			return struct{}{}, scan(row)
		})
		return err
	}

	err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)",
		pgx.QueryExecModeExec, c.schema).Scan(&s.exists)
	if err != nil {
		return nil, err
	}
	err = each(relationKinds, names, func(row pgx.CollectableRow) error {
		var name, kind string
		err := row.Scan(&name, &kind)
		s.relations[name] = kind
		return err
	})
	if err != nil {
		return nil, err
	}
	err = each(relationColumns, names, func(row pgx.CollectableRow) error {
		var table string
		var f foundColumn
		err := row.Scan(&table, &f.name, &f.typ, &f.null, &f.fills, &f.generated)
		s.columns[table] = append(s.columns[table], f)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = each(relationIndexes, names, func(row pgx.CollectableRow) error {
		var f foundIndex
		var immediate bool
		err := row.Scan(&f.table, &f.name, &f.unique, &f.valid, &f.partial, &immediate, &f.keys, &f.text)
		f.text = plain(f.text)
		f.whole = !f.partial && immediate && !slices.Contains(strings.Split(f.keys, ","), "")
		s.indexes[f.name] = f
		return err
	})
	if err != nil {
		return nil, err
	}
	err = each(relationNames, indexNames(), func(row pgx.CollectableRow) error {
		var name string
		err := row.Scan(&name)
		s.names[name] = true
		return err
	})
	if err != nil {
		return nil, err
	}
	err = each(relationConstraints, names, func(row pgx.CollectableRow) error {
		var k constraint
		var d definition
		err := row.Scan(&k.table, &k.name, &k.kind, &d.active, &d.text)
		d.text = plain(strings.TrimSuffix(d.text, " NOT VALID"))
		s.constraints[k] = d
		return err
	})
	if err != nil {
		return nil, err
	}
	err = each(relationTriggers, names, func(row pgx.CollectableRow) error {
		var g trigger
		var d definition
		err := row.Scan(&g.table, &g.name, &d.active, &d.text)
		d.text = plain(d.text)
		s.triggers[g] = d
		return err
	})
	if err != nil {
		return nil, err
	}
	s.brought, err = c.sources(s)
	if err != nil {
		return nil, err
	}
	err = each(schemaFunctions, functionNames(), func(row pgx.CollectableRow) error {
		var f function
		var source string
		err := row.Scan(&f.name, &f.arguments, &source, &f.traits)
		// One of other arguments is the host's.
		if i := slices.IndexFunc(functions, func(want function) bool {
			return want.name == f.name && want.arguments == f.arguments
		}); i >= 0 {
			s.functions[f.name] = 0
			if f == functions[i] {
				s.functions[f.name] = s.brought[f.name][squeeze(source)]
			}
		}
		return err
	})
	return s, err
}

func indexNames() []string {
	names := make([]string, len(indexes))
	for i, x := range indexes {
		names[i] = x.name
	}
	return names
}

func functionNames() []string {
	names := make([]string, len(functions))
	for i, f := range functions {
		names[i] = f.name
	}
	return names
}

// has answers the "-- unless" of the migrations:
//
//	table match
//	constraint match.match_not_self_check
//	unique profile(user_id)     a unique index on exactly these columns
//	index match(user1_id)       an index that begins with this column
//	value match.status          NOT NULL
func (s *shape) has(what string) bool {
	kind, name, _ := strings.Cut(what, " ")
	switch kind {
	case "table":
		return s.relations[name] != ""
	case "constraint":
		table, name, _ := strings.Cut(name, ".")
		for k := range s.constraints {
			if k.table == table && k.name == name {
				return true
			}
		}
		return false
	case "value":
		table, name, _ := strings.Cut(name, ".")
		f, ok := s.column(table, name)
		return ok && !f.null
	}
	table, keys, _ := strings.Cut(strings.TrimSuffix(name, ")"), "(")
	for _, f := range s.indexes {
		if f.table != table || !f.valid || !f.whole {
			continue
		}
		if kind == "unique" && f.unique && f.keys == keys {
			return true
		}
		if kind == "index" && strings.HasPrefix(f.keys+",", keys+",") {
			return true
		}
	}
	return false
}

func (s *shape) column(table, name string) (foundColumn, bool) {
	i := slices.IndexFunc(s.columns[table], func(f foundColumn) bool { return f.name == name })
	if i < 0 {
		return foundColumn{}, false
	}
	return s.columns[table][i], true
}

// idType is the type of a table's id, for the columns that will refer to it.
func (s *shape) idType(table string) string {
	if f, ok := s.column(table, "id"); ok {
		return f.typ
	}
	return "integer"
}

// missing reports whether there is none of the tables.
func (s *shape) missing() bool {
	return len(s.relations) == 0
}
