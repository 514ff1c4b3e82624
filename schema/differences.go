package schema

import (
	"fmt"
	"slices"
	"strings"
)

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
