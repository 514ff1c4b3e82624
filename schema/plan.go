package schema

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/soultribe-chat/soultribe"
)

// Planned says what [Migrate] would do.
type Planned struct {
	Have  int      // the version that the database is at, 0 when it has none
	Want  int      // the version that it would be at
	Found []string // the tables that are there already, of all that the library needs
	Steps []Step   // the migrations that would run, in order; none where there is nothing to do
}

// Step is a migration.
type Step struct {
	Version int
	Text    string // what it adds
}

// Plan says what [Migrate] with the same options would do now, and changes nothing. Where Migrate would stop
// before its first change, Plan returns the same error: a [MismatchError], a [DirtError] with all rows that
// break a rule, or [soultribe.ErrInvalid].
//
// It does not try what Migrate does then: whether the role has the right to, and whether the tables are free
// to be locked, only Migrate finds out. Like [Audit], it reads all rows in one snapshot, and takes no lock that a
// writer would notice.
func Plan(ctx context.Context, db soultribe.DB, opts ...Option) (Planned, error) {
	var p Planned
	c, err := newConfig(opts)
	if err != nil {
		return p, err
	}
	var refusal error // which says by itself what it is about
	err = c.reading(ctx, db, "plan", auditable, func(tx soultribe.DB) error {
		p, err = c.plan(ctx, tx)
		if errors.Is(err, soultribe.ErrSchema) || errors.Is(err, soultribe.ErrInvalid) {
			refusal, err = err, nil
		}
		return err
	})
	return p, cmp.Or(err, refusal)
}

func (c config) plan(ctx context.Context, tx soultribe.DB) (Planned, error) {
	state, err := c.status(ctx, tx)
	if err != nil {
		return Planned{}, err
	}
	p := Planned{Have: state.Version, Want: c.to}
	if done, err := c.settled(state.Version); err != nil {
		return Planned{}, err
	} else if !done {
		found, err := c.examine(ctx, tx, state.Version)
		if err != nil {
			return Planned{}, err
		}
		for _, t := range tables {
			if found.has("table " + t.name) {
				p.Found = append(p.Found, t.name)
			}
		}
	}
	for version := p.Have + 1; version <= p.Want; version++ {
		text, err := summary(version)
		if err != nil {
			return Planned{}, err
		}
		p.Steps = append(p.Steps, Step{version, text})
	}
	return p, nil
}

// summary is the first sentence of a migration's file, after "-- Version 1: ".
func summary(version int) (string, error) {
	text, err := migrations.ReadFile(files[version-1])
	if err != nil {
		return "", err
	}
	head, _, _ := strings.Cut(string(text), "\n\n")
	_, head, _ = strings.Cut(squeeze(strings.ReplaceAll(head, "\n"+comment, "")), ": ")
	head, _, _ = strings.Cut(head, ". ")
	return strings.TrimSuffix(head, "."), nil
}
