package schema

import (
	"regexp"
	"strings"
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
