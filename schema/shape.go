package schema

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// What follows is the shape that the library needs: by version, since Migrate also looks at databases
// that do not have all of it yet. Extra columns, indexes and constraints are the host's own affair, and
// foreign keys are not asked for: a database that is spread over several machines cannot have them all.

type table struct {
	name    string
	since   int // the version that adds it
	columns []column
}

type column struct {
	name  string
	types []string // as format_type writes them
	null  bool
	since int
}

type index struct {
	table, name string
	unique      bool
	keys        string // the columns, separated by commas; nothing stands for an expression
	partial     bool
}

type constraint struct {
	table, name string
	kind        string // as in pg_constraint.contype
}

type trigger struct{ table, name string }

const (
	null    = true
	notNull = false

	check   = "c"
	exclude = "x"
)

var (
	ids    = []string{"integer", "bigint"}
	texts  = []string{"character varying", "text"}
	stamps = []string{"timestamp without time zone"}
	flags  = []string{"boolean"}
)

var tables = []table{
	{"user", 1, []column{
		{"id", ids, notNull, 1},
		{"email", texts, notNull, 1},
		{"password_hash", texts, notNull, 1},
		{"email_verified_at", stamps, null, 1},
		{"created_at", stamps, notNull, 1},
		{"credentials_changed_at", stamps, null, 2},
	}},
	{"profile", 1, []column{
		{"user_id", ids, notNull, 1},
		{"full_name", texts, notNull, 1},
		{"display_name", texts, notNull, 1},
		{"bio", texts, null, 1},
		{"timezone", texts, null, 1},
		{"created_at", stamps, notNull, 1},
		{"updated_at", stamps, notNull, 1},
	}},
	{"availabilityslot", 1, []column{
		{"id", ids, notNull, 1},
		{"user_id", ids, notNull, 1},
		{"start_dt_utc", stamps, notNull, 1},
		{"end_dt_utc", stamps, notNull, 1},
		{"start_dt_local", stamps, notNull, 1},
		{"end_dt_local", stamps, notNull, 1},
		{"timezone", texts, notNull, 1},
		{"created_at", stamps, notNull, 1},
		{"updated_at", stamps, notNull, 1},
	}},
	{"emailverificationtoken", 1, []column{
		{"id", ids, notNull, 1},
		{"user_id", ids, notNull, 1},
		{"token", texts, notNull, 1},
		{"expires_at", stamps, notNull, 1},
		{"used_at", stamps, null, 1},
		{"created_at", stamps, notNull, 1},
		{"sent_to", texts, null, 2},
		{"changes_email", flags, null, 2},
	}},
	{"passwordresettoken", 1, []column{
		{"id", ids, notNull, 1},
		{"user_id", ids, notNull, 1},
		{"token", texts, notNull, 1},
		{"expires_at", stamps, notNull, 1},
		{"used_at", stamps, null, 1},
		{"created_at", stamps, notNull, 1},
		{"sent_to", texts, null, 2},
	}},
	{"match", 1, []column{
		{"id", ids, notNull, 1},
		{"user1_id", ids, notNull, 1},
		{"user2_id", ids, notNull, 1},
		{"status", texts, notNull, 1},
		{"created_at", stamps, notNull, 1},
		{"updated_at", stamps, notNull, 1},
	}},
	{"meetup", 1, []column{
		{"id", ids, notNull, 1},
		{"match_id", ids, notNull, 1},
		{"scheduled_time", stamps, notNull, 1},
		{"status", texts, notNull, 1},
		{"created_at", stamps, notNull, 1},
		{"updated_at", stamps, notNull, 1},
		{"proposer_id", ids, null, 2},
		{"duration_seconds", ids, null, 2},
	}},
	{"soultribe_booking", 2, []column{
		{"user_id", ids, notNull, 2},
		{"meetup_id", ids, notNull, 2},
		{"starts_at", stamps, notNull, 2},
		{"ends_at", stamps, notNull, 2},
	}},
}

// The rest is of version 2. Version 1 has indexes too, but what is needed of them has a rule in version 2.
const rules = 2

var indexes = []index{
	{"user", "user_email_lower_key", true, "", false},
	{"availabilityslot", "availabilityslot_user_start_idx", false, "user_id,start_dt_utc,id", false},
	{"availabilityslot", "availabilityslot_start_end_user_idx", false, "start_dt_utc,end_dt_utc,user_id", false},
	{"emailverificationtoken", "emailverificationtoken_plaintext_idx", false, "", true},
	{"passwordresettoken", "passwordresettoken_plaintext_idx", false, "", true},
	{"match", "match_pair_key", true, ",", false},
	{"match", "match_user1_created_idx", false, "user1_id,created_at,id", false},
	{"match", "match_user2_created_idx", false, "user2_id,created_at,id", false},
	{"match", "match_created_idx", false, "created_at,id", false},
	{"match", "match_pending_idx", false, "created_at,id", true},
	{"meetup", "meetup_live_key", true, "match_id", true},
	{"meetup", "meetup_match_scheduled_idx", false, "match_id,scheduled_time,id", false},
	{"meetup", "meetup_scheduled_idx", false, "scheduled_time,id", false},
	{"soultribe_booking", "soultribe_booking_meetup_idx", false, "meetup_id", false},
}

var constraints = []constraint{
	{"availabilityslot", "availabilityslot_period_check", check},
	{"availabilityslot", "availabilityslot_no_overlap", exclude},
	{"match", "match_not_self_check", check},
	{"meetup", "meetup_duration_check", check},
	{"soultribe_booking", "soultribe_booking_period_check", check},
	{"soultribe_booking", "soultribe_booking_no_overlap", exclude},
}

// uniques must have a unique index, whatever it is called.
var uniques = []index{
	{table: "profile", keys: "user_id"},
	{table: "emailverificationtoken", keys: "token"},
	{table: "passwordresettoken", keys: "token"},
	{table: "soultribe_booking", keys: "user_id,meetup_id"},
}

var triggers = []trigger{
	{"meetup", "soultribe_book_meetup"},
	{"match", "soultribe_keep_pair"},
}

var functions = []string{"soultribe_book_meetup", "soultribe_keep_pair", "soultribe_refuse"}

// shape is what a PostgreSQL schema holds of all that.
type shape struct {
	exists      bool // the PostgreSQL schema itself
	relations   map[string]string
	columns     map[string][]foundColumn // of each table, in order
	indexes     map[string]foundIndex
	constraints map[constraint]bool // whether it is valid
	triggers    map[trigger]bool    // whether it is enabled
	functions   map[string]bool
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
	WHERE k.n <= x.indnkeyatts)
FROM pg_catalog.pg_index x
JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
JOIN pg_catalog.pg_class c ON c.oid = x.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = ANY($2)`

const relationConstraints = `
SELECT c.relname::text, k.conname::text, k.contype::text, k.convalidated
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = ANY($2)`

const relationTriggers = `
SELECT c.relname::text, g.tgname::text, g.tgenabled IN ('O', 'A')
FROM pg_catalog.pg_trigger g
JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = ANY($2) AND NOT g.tgisinternal`

const schemaFunctions = `
SELECT p.proname::text
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = $1 AND p.proname = ANY($2)`

// inspect reads the catalog.
func (c config) inspect(ctx context.Context, tx pgx.Tx) (*shape, error) {
	s := &shape{
		relations:   map[string]string{},
		columns:     map[string][]foundColumn{},
		indexes:     map[string]foundIndex{},
		constraints: map[constraint]bool{},
		triggers:    map[trigger]bool{},
		functions:   map[string]bool{},
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
		err := row.Scan(&f.table, &f.name, &f.unique, &f.valid, &f.partial, &immediate, &f.keys)
		f.whole = !f.partial && immediate && !slices.Contains(strings.Split(f.keys, ","), "")
		s.indexes[f.name] = f
		return err
	})
	if err != nil {
		return nil, err
	}
	err = each(relationConstraints, names, func(row pgx.CollectableRow) error {
		var k constraint
		var valid bool
		err := row.Scan(&k.table, &k.name, &k.kind, &valid)
		s.constraints[k] = valid
		return err
	})
	if err != nil {
		return nil, err
	}
	err = each(relationTriggers, names, func(row pgx.CollectableRow) error {
		var g trigger
		var enabled bool
		err := row.Scan(&g.table, &g.name, &enabled)
		s.triggers[g] = enabled
		return err
	})
	if err != nil {
		return nil, err
	}
	err = each(schemaFunctions, functions, func(row pgx.CollectableRow) error {
		var name string
		err := row.Scan(&name)
		s.functions[name] = true
		return err
	})
	return s, err
}

// has answers the "-- unless" of the migrations:
//
//	table match
//	constraint match.match_not_self_check
//	unique profile(user_id)     a unique index on exactly these columns
//	index match(user1_id)       an index that begins with this column
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

// differences names all in which s is not what a database at version applied must be. What is there
// already of later versions must fit too.
func (s *shape) differences(applied int) []string {
	var diff []string
	differ := func(format string, args ...any) {
		diff = append(diff, fmt.Sprintf(format, args...))
	}
	for _, t := range tables {
		switch s.relations[t.name] {
		case "":
			if t.since <= applied {
				differ("table %s is missing", t.name)
			}
		case "r", "p":
			diff = append(diff, s.tableDifferences(t, applied)...)
		default:
			differ("%s is not a table", t.name)
		}
	}
	for _, want := range indexes {
		switch found, ok := s.indexes[want.name]; {
		case !ok:
			if rules <= applied && s.has("table "+want.table) {
				differ("index %s on %s is missing", want.name, want.table)
			}
		case found.index != want:
			differ("index %s is not the one that %s needs", want.name, want.table)
		case !found.valid:
			differ("index %s on %s is not valid", want.name, want.table)
		}
	}
	for _, want := range constraints {
		switch valid, ok := s.constraints[want]; {
		case !ok && s.has("constraint "+want.table+"."+want.name):
			differ("constraint %s on %s is of another kind", want.name, want.table)
		case !ok:
			if rules <= applied && s.has("table "+want.table) {
				differ("constraint %s on %s is missing", want.name, want.table)
			}
		case !valid:
			differ("constraint %s on %s is not validated", want.name, want.table)
		}
	}
	if applied < rules {
		return diff
	}
	for _, want := range uniques {
		if s.has("table "+want.table) && !s.has("unique "+want.table+"("+want.keys+")") {
			differ("table %s has no unique index on (%s)", want.table, want.keys)
		}
	}
	for _, want := range triggers {
		switch enabled, ok := s.triggers[want]; {
		case !ok && s.has("table "+want.table):
			differ("trigger %s on %s is missing", want.name, want.table)
		case ok && !enabled:
			differ("trigger %s on %s is disabled", want.name, want.table)
		}
	}
	for _, name := range functions {
		if !s.functions[name] {
			differ("function %s is missing", name)
		}
	}
	return diff
}

func (s *shape) tableDifferences(t table, applied int) []string {
	var diff []string
	differ := func(format string, args ...any) {
		diff = append(diff, fmt.Sprintf(format, args...))
	}
	for _, want := range t.columns {
		found, ok := s.column(t.name, want.name)
		switch {
		case !ok:
			if want.since == t.since || want.since <= applied {
				differ("column %s.%s is missing", t.name, want.name)
			}
			continue
		case !slices.Contains(want.types, found.typ):
			differ("column %s.%s is %s, not %s", t.name, want.name, found.typ, strings.Join(want.types, " or "))
		case found.generated:
			differ("column %s.%s is generated", t.name, want.name)
		case want.name == "id" && !found.fills:
			differ("column %s.id has no default", t.name)
		}
		switch {
		case want.null && !found.null:
			differ("column %s.%s is NOT NULL", t.name, want.name)
		case !want.null && found.null && rules <= applied:
			differ("column %s.%s is not NOT NULL", t.name, want.name)
		}
	}
	if t.columns[0].name == "id" && !s.identifies(t.name) {
		if _, ok := s.column(t.name, "id"); ok {
			differ("table %s has no unique index on (id)", t.name)
		}
	}
	return diff
}

// identifies reports whether id is unique in a table: by itself, or together with user_id, as it is where
// the table is distributed.
func (s *shape) identifies(table string) bool {
	return s.has("unique "+table+"(id)") ||
		s.has("unique "+table+"(user_id,id)") || s.has("unique "+table+"(id,user_id)")
}

// unfillable names the columns of the host's that an INSERT of the library cannot fill.
func (s *shape) unfillable() []string {
	var diff []string
	for _, t := range tables {
		for _, f := range s.columns[t.name] {
			ours := slices.ContainsFunc(t.columns, func(c column) bool { return c.name == f.name })
			if !ours && !f.null && !f.fills {
				diff = append(diff, fmt.Sprintf("column %s.%s is NOT NULL without a default, so that the library cannot insert rows", t.name, f.name))
			}
		}
	}
	return diff
}
