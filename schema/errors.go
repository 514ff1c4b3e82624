package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/soultribe-chat/soultribe"
)

// MismatchError is a [soultribe.ErrSchema]: the database does not have what this version of the library
// needs. Its text says which it is: the tables are missing, older, newer or of another shape.
type MismatchError struct {
	Schema      string   // the PostgreSQL schema that was looked at
	Have        int      // the database's version, 0 when it has none
	Want        int      // the version that this library needs
	Missing     bool     // not one of the tables is there
	Differences []string // what is of another shape, one phrase each
}

// Error says which it is and what to do, and names each difference on the same line.
func (e *MismatchError) Error() string {
	schema := fmt.Sprintf("soultribe: schema %q ", e.Schema)
	switch {
	case e.Have > e.Want:
		return schema + fmt.Sprintf("is at version %d, this library knows %d: upgrade the library", e.Have, e.Want)
	case len(e.Differences) > 0:
		return schema + fmt.Sprintf("is of another shape (version %d of %d): %s", e.Have, e.Want, strings.Join(e.Differences, "; "))
	case e.Missing:
		return schema + "has none of the tables: run schema.Migrate"
	}
	return schema + fmt.Sprintf("is at version %d of %d: run schema.Migrate", e.Have, e.Want)
}

// Unwrap returns soultribe.ErrSchema.
func (e *MismatchError) Unwrap() error { return soultribe.ErrSchema }

// DirtError is a [soultribe.ErrSchema]: rows break the rules that [Migrate] was about to add. Nothing has
// been changed. Once the rows are mended, Migrate goes through.
type DirtError struct {
	Schema string
	Rows   []Violation // all of them, by rule
}

// Violation is one way in which rows break a rule: one row by itself, or several with one another.
type Violation struct {
	Rule  string  // the name of the rule; see [Rules]
	Table string  // the table of the rows
	IDs   []int64 // the rows, ascending: user_id in profile, meetup_id in soultribe_booking, id elsewhere
}

// String returns the table, the ids and the rule, and never what the rows hold:
//
//	availabilityslot 7+8: overlapping slots of a user (availabilityslot_no_overlap)
func (v Violation) String() string {
	return v.Table + " " + printIDs([]Violation{v}) + ": " + describe(v.Rule)
}

// maxPrinted is how many violations of one rule are in the text of a DirtError.
const maxPrinted = 20

// Error lists tables, rules and ids, and never what the rows hold.
func (e *DirtError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "soultribe: schema %q has rows that break the rules to come; nothing was changed:", e.Schema)
	for rest := e.Rows; len(rest) > 0; {
		n := slices.IndexFunc(rest, func(v Violation) bool { return v.Rule != rest[0].Rule })
		if n < 0 {
			n = len(rest)
		}
		fmt.Fprintf(&b, "\n\t%s: %s: %s", rest[0].Table, describe(rest[0].Rule), printIDs(rest[:n]))
		rest = rest[n:]
	}
	return b.String()
}

// Unwrap returns soultribe.ErrSchema.
func (e *DirtError) Unwrap() error { return soultribe.ErrSchema }

// printIDs writes 3, 7+8, 12+13+14: what is joined by a plus clashes with one another.
func printIDs(rows []Violation) string {
	var b strings.Builder
	for i, v := range rows[:min(len(rows), maxPrinted)] {
		if i > 0 {
			b.WriteString(", ")
		}
		for j, id := range v.IDs[:min(len(v.IDs), maxPrinted)] {
			if j > 0 {
				b.WriteByte('+')
			}
			b.WriteString(strconv.FormatInt(id, 10))
		}
		if n := len(v.IDs) - maxPrinted; n > 0 {
			fmt.Fprintf(&b, "+(%d more)", n)
		}
	}
	if n := len(rows) - maxPrinted; n > 0 {
		fmt.Fprintf(&b, " and %d more", n)
	}
	return b.String()
}
