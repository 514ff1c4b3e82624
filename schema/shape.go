package schema

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/soultribe-chat/soultribe"
)

// What follows is the shape that the library needs: by version, since Migrate also looks at databases
// that do not have all of it yet. Extra columns, indexes and constraints are the host's own affair, and
// foreign keys are not asked for: a database that is spread over several machines cannot have them all.

type table struct {
	name    string
	since   int // the version that adds it
	columns []column
}

// key is the column whose values name the rows of t in a [Violation].
func (t table) key() string {
	switch t.name {
	case "profile":
		return "user_id"
	case "soultribe_booking":
		return "meetup_id"
	}
	return "id"
}

type column struct {
	name  string
	types []string // as format_type writes them
	null  bool
	since int
}

type index struct {
	table, name string
	since       int // the version that adds it
	unique      bool
	keys        string // the columns, separated by commas; nothing stands for an expression
	partial     bool
	text        string // what pg_get_indexdef writes after USING; where it is empty, a B-tree of the keys
}

type constraint struct {
	table, name string
	kind        string // as in pg_constraint.contype
}

type trigger struct{ table, name string }

type function struct {
	name, arguments string
	traits          string // as schemaFunctions writes them
}

// definition is what the catalog says of a constraint or a trigger.
type definition struct {
	text   string // as plain has it
	active bool   // validated, or enabled
}

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

const (
	contract = 1 // the version that adds the contract's tables
	// The rest is of version 2. Version 1 has indexes too, but what is needed of them has a rule in version 2.
	rules  = 2
	turns  = 3 // the version that adds what a cancelled match takes with it
	groups = 4 // the version that adds the index of groups of people
	upkeep = 5 // the version that adds the indexes of housekeeping
)

var indexes = []index{
	{"user", "user_email_lower_key", rules, true, "", false, `btree (lower(email COLLATE "C"))`},
	{"user", "user_unverified_idx", upkeep, false, "id", true, `btree (id) WHERE email_verified_at IS NULL`},
	{"availabilityslot", "availabilityslot_user_start_idx", rules, false, "user_id,start_dt_utc,id", false, ""},
	{"availabilityslot", "availabilityslot_start_end_user_idx", rules, false, "start_dt_utc,end_dt_utc,user_id", false, ""},
	{"availabilityslot", "availabilityslot_group_start_idx", groups, false, ",start_dt_utc,end_dt_utc,user_id", false,
		`btree (user_id & 63, start_dt_utc, end_dt_utc, user_id)`},
	{"emailverificationtoken", "emailverificationtoken_plaintext_idx", rules, false, "", true, plaintext},
	{"passwordresettoken", "passwordresettoken_plaintext_idx", rules, false, "", true, plaintext},
	{"match", "match_pair_key", rules, true, ",", false, `btree (LEAST(user1_id, user2_id), GREATEST(user1_id, user2_id))`},
	{"match", "match_user1_created_idx", rules, false, "user1_id,created_at,id", false, ""},
	{"match", "match_user2_created_idx", rules, false, "user2_id,created_at,id", false, ""},
	{"match", "match_created_idx", rules, false, "created_at,id", false, ""},
	{"match", "match_pending_idx", rules, false, "created_at,id", true, `btree (created_at, id) WHERE status = 'pending'`},
	{"meetup", "meetup_live_key", rules, true, "match_id", true, `btree (match_id) WHERE status = ANY (ARRAY['proposed', 'confirmed'])`},
	{"meetup", "meetup_match_scheduled_idx", rules, false, "match_id,scheduled_time,id", false, ""},
	{"meetup", "meetup_scheduled_idx", rules, false, "scheduled_time,id", false, ""},
	{"meetup", "meetup_live_scheduled_idx", upkeep, false, "scheduled_time,id", true,
		`btree (scheduled_time, id) WHERE status = ANY (ARRAY['proposed', 'confirmed'])`},
	{"soultribe_booking", "soultribe_booking_meetup_idx", rules, false, "meetup_id", false, ""},
}

const plaintext = `btree ('sha256:' || encode(sha256(decode(replace(token, '\', '\\'), 'escape')), 'hex')) WHERE token !~~ 'sha256:%'`

var constraints = []struct {
	constraint
	text string
}{
	{constraint{"availabilityslot", "availabilityslot_period_check", check},
		`CHECK (end_dt_utc > start_dt_utc AND end_dt_utc <= start_dt_utc + '24:00:00')`},
	{constraint{"availabilityslot", "availabilityslot_no_overlap", exclude},
		`EXCLUDE USING gist (int8range(user_id, user_id, '[]') WITH &&, tsrange(start_dt_utc, GREATEST(start_dt_utc, end_dt_utc)) WITH &&)`},
	{constraint{"match", "match_not_self_check", check}, `CHECK (user1_id <> user2_id)`},
	{constraint{"meetup", "meetup_duration_check", check}, `CHECK (duration_seconds >= 900 AND duration_seconds <= 86400)`},
	{constraint{"soultribe_booking", "soultribe_booking_period_check", check}, `CHECK (ends_at > starts_at)`},
	{constraint{"soultribe_booking", "soultribe_booking_no_overlap", exclude},
		`EXCLUDE USING gist (int8range(user_id, user_id, '[]') WITH &&, tsrange(starts_at, ends_at) WITH &&)`},
}

// uniques must have a unique index, whatever it is called.
var uniques = []index{
	{table: "profile", keys: "user_id"},
	{table: "emailverificationtoken", keys: "token"},
	{table: "passwordresettoken", keys: "token"},
	{table: "soultribe_booking", keys: "user_id,meetup_id"},
}

var triggers = []struct {
	trigger
	since int // the version that adds it
	text  string
}{
	{trigger{"meetup", "soultribe_book_meetup"}, rules,
		`CREATE TRIGGER soultribe_book_meetup AFTER INSERT OR UPDATE FOR EACH ROW EXECUTE FUNCTION soultribe_book_meetup()`},
	{trigger{"match", "soultribe_cancel_meetup"}, turns,
		`CREATE TRIGGER soultribe_cancel_meetup AFTER UPDATE FOR EACH ROW
		WHEN (old.status = 'accepted' AND new.status = ANY (ARRAY['cancelled', 'canceled'])) EXECUTE FUNCTION soultribe_cancel_meetup()`},
	{trigger{"match", "soultribe_keep_pair"}, rules,
		`CREATE TRIGGER soultribe_keep_pair AFTER UPDATE FOR EACH ROW
		WHEN (LEAST(old.user1_id, old.user2_id) <> LEAST(new.user1_id, new.user2_id)
			OR GREATEST(old.user1_id, old.user2_id) <> GREATEST(new.user1_id, new.user2_id))
		EXECUTE FUNCTION soultribe_keep_pair()`},
}

var functions = []function{
	{"soultribe_book_meetup", "", "plpgsql trigger volatile definer search_path=pg_catalog, pg_temp"},
	{"soultribe_cancel_meetup", "", "plpgsql trigger volatile definer search_path=pg_catalog, pg_temp"},
	{"soultribe_keep_pair", "", "plpgsql trigger volatile invoker search_path=pg_catalog, pg_temp"},
	{"soultribe_refuse", "text, text, text", "plpgsql boolean volatile invoker search_path=pg_catalog, pg_temp"},
}

// functionSource finds the sources of the functions in the migrations.
var functionSource = regexp.MustCompile(`(?s)CREATE OR REPLACE FUNCTION \{\{schema\}\}\.(\w+)\(.*?\$function\$(.*?)\$function\$`)

// sources returns, for each function, the sources that it has had and the versions that have brought them. White
// space is left out.
func (c config) sources(found *shape) (map[string]map[string]int, error) {
	all := map[string]map[string]int{}
	for i, file := range files {
		text, err := migrations.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, match := range functionSource.FindAllStringSubmatch(string(text), -1) {
			if all[match[1]] == nil {
				all[match[1]] = map[string]int{}
			}
			all[match[1]][squeeze(c.expand(match[2], found))] = i + 1
		}
	}
	return all, nil
}

func squeeze(text string) string { return strings.Join(strings.Fields(text), " ") }

// unlike is what two definitions may differ in and still say the same: the casts that PostgreSQL adds for
// columns of type integer, bigint, varchar or text, which fall elsewhere after a restore, the parentheses,
// which no definition here needs to be told from another that has its operators and operands, white space,
// and an index's storage parameters. What is in quotes is for keeps.
var unlike = regexp.MustCompile(`'(?:[^']|'')*'` +
	`|::(?:text|character varying|integer|bigint|interval)(?:\[\])?` +
	`| WITH \(\w+=[^)]*\)` +
	`|[\s()]`)

// plain leaves that out.
func plain(definition string) string {
	return unlike.ReplaceAllStringFunc(definition, func(part string) string {
		if part[0] == '\'' {
			return part
		}
		return ""
	})
}

// shape is what a PostgreSQL schema holds of all that.
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

// differences names all in which s is not what a database at version applied must be. What is there
// already of later versions must fit too.
func (s *shape) differences(applied int) []string {
	return slices.Concat(s.eachTable(applied, s.tableDifferences), s.indexDifferences(applied),
		s.constraintDifferences(applied), s.triggerDifferences(applied), s.functionDifferences(applied))
}

// unreadable names all that keeps the rows of a database at version applied from being read, whatever
// rules they are under.
func (s *shape) unreadable(applied int) []string {
	return s.eachTable(applied, func(t table, applied int) []string {
		var diff []string
		for _, want := range t.columns {
			if unlike := s.columnDifference(t, want, applied); unlike != "" {
				diff = append(diff, unlike)
			}
		}
		return diff
	})
}

// eachTable names the tables that are not there, or are not tables, and the differences within the others.
func (s *shape) eachTable(applied int, within func(t table, applied int) []string) []string {
	var diff []string
	for _, t := range tables {
		switch s.relations[t.name] {
		case "":
			if t.since <= applied {
				diff = append(diff, fmt.Sprintf("table %s is missing", t.name))
			}
		case "r", "p":
			diff = append(diff, within(t, applied)...)
		default:
			diff = append(diff, t.name+" is not a table")
		}
	}
	return diff
}

// due reports whether a table must have its rules: those of a table that has just been found and that the
// migrations would have made with its rules are not added.
func (s *shape) due(name string, applied int) bool {
	i := slices.IndexFunc(tables, func(t table) bool { return t.name == name })
	return s.has("table "+name) && (rules <= applied || tables[i].since == rules)
}

func (s *shape) indexDifferences(applied int) []string {
	var diff []string
	for _, want := range indexes {
		if want.text == "" {
			want.text = "btree (" + want.keys + ")"
		}
		want.text = plain(want.text)
		found, ok := s.indexes[want.name]
		found.since = want.since
		switch {
		case !ok && s.names[want.name]:
			diff = append(diff, fmt.Sprintf("%s is not an index on %s", want.name, want.table))
		case !ok:
			if want.since <= applied && s.has("table "+want.table) {
				diff = append(diff, fmt.Sprintf("index %s on %s is missing", want.name, want.table))
			}
		case found.index != want:
			diff = append(diff, fmt.Sprintf("index %s is not the one that %s needs", want.name, want.table))
		case !found.valid:
			diff = append(diff, fmt.Sprintf("index %s on %s is not valid", want.name, want.table))
		}
	}
	return diff
}

func (s *shape) constraintDifferences(applied int) []string {
	var diff []string
	differ := func(format string, args ...any) {
		diff = append(diff, fmt.Sprintf(format, args...))
	}
	for _, want := range constraints {
		switch found, ok := s.constraints[want.constraint]; {
		case !ok && s.has("constraint "+want.table+"."+want.name):
			differ("constraint %s on %s is of another kind", want.name, want.table)
		case !ok:
			if s.due(want.table, applied) {
				differ("constraint %s on %s is missing", want.name, want.table)
			}
		case found.text != plain(want.text):
			differ("constraint %s is not the one that %s needs", want.name, want.table)
		case !found.active:
			differ("constraint %s on %s is not validated", want.name, want.table)
		}
	}
	for _, want := range uniques {
		if s.due(want.table, applied) && !s.has("unique "+want.table+"("+want.keys+")") {
			differ("table %s has no unique index on (%s)", want.table, want.keys)
		}
	}
	return diff
}

func (s *shape) triggerDifferences(applied int) []string {
	var diff []string
	for _, want := range triggers {
		switch found, ok := s.triggers[want.trigger]; {
		case !ok:
			if want.since <= applied && s.has("table "+want.table) {
				diff = append(diff, fmt.Sprintf("trigger %s on %s is missing", want.name, want.table))
			}
		case found.text != plain(want.text):
			diff = append(diff, fmt.Sprintf("trigger %s is not the one that %s needs", want.name, want.table))
		case !found.active:
			diff = append(diff, fmt.Sprintf("trigger %s on %s is disabled", want.name, want.table))
		}
	}
	return diff
}

func (s *shape) functionDifferences(applied int) []string {
	var diff []string
	for _, want := range functions {
		due := 0 // the version whose it must be, 0 while none has brought it
		for _, version := range s.brought[want.name] {
			if version <= applied {
				due = max(due, version)
			}
		}
		switch found, ok := s.functions[want.name]; {
		case !ok && due > 0:
			diff = append(diff, fmt.Sprintf("function %s is missing", want.name))
		case ok && found < max(due, 1):
			diff = append(diff, fmt.Sprintf("function %s is not the one that the library needs", want.name))
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
		unlike := s.columnDifference(t, want, applied)
		switch {
		case unlike != "":
			diff = append(diff, unlike)
		case found.generated:
			differ("column %s.%s is generated", t.name, want.name)
		case want.name == "id" && !found.fills:
			differ("column %s.id has no default", t.name)
		}
		switch {
		case !ok:
		case want.null && !found.null:
			differ("column %s.%s is NOT NULL", t.name, want.name)
		case !want.null && found.null && s.due(t.name, applied):
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

// columnDifference says that a column cannot be read as what it must be, or nothing.
func (s *shape) columnDifference(t table, want column, applied int) string {
	found, ok := s.column(t.name, want.name)
	switch {
	case !ok && (want.since == t.since || want.since <= applied):
		return fmt.Sprintf("column %s.%s is missing", t.name, want.name)
	case ok && !slices.Contains(want.types, found.typ):
		return fmt.Sprintf("column %s.%s is %s, not %s", t.name, want.name, found.typ, strings.Join(want.types, " or "))
	}
	return ""
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
