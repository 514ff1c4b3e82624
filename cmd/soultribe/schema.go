package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/schema"
)

func migrateFlags(f *flag.FlagSet, s *settings) {
	f.DurationVar(&s.lockTimeout, "lock-timeout", schema.DefaultLockTimeout, "how long to try to lock the tables")
	f.IntVar(&s.to, "to", soultribe.SchemaVersion, "the `version` at which to stop; there is no way back to an older one")
	f.BoolVar(&s.dryRun, "dry-run", false, "say which migrations would run, or what is in their way, and change nothing")
}

// versions is the answer of migrate, status and check.
type versions struct {
	Version int `json:"version"` // of the database; 0 when there is none
	Latest  int `json:"latest"`  // that this program knows
}

// String says how far the database is from the library.
func (v versions) String() string {
	switch v.Version {
	case 0:
		return fmt.Sprintf("not migrated; the library is at version %d", v.Latest)
	case v.Latest:
		return fmt.Sprintf("version %d, as the library", v.Version)
	}
	return fmt.Sprintf("version %d; the library is at version %d", v.Version, v.Latest)
}

func migrate(ctx context.Context, t *task) (fmt.Stringer, error) {
	opts := []schema.Option{schema.In(t.schema), schema.LockTimeout(t.lockTimeout), schema.To(t.to)}
	if t.dryRun {
		return plan(ctx, t, opts)
	}
	if err := schema.Migrate(ctx, t.pool, opts...); err != nil {
		return nil, err
	}
	return status(ctx, t)
}

// planned is the answer of migrate -dry-run.
type planned struct {
	Version int      `json:"version"` // of the database; 0 when there is none
	To      int      `json:"to"`
	Found   []string `json:"found"` // the tables that are there already; never nil
	Steps   []step   `json:"steps"` // never nil
}

type step struct {
	Version int    `json:"version"`
	Text    string `json:"text"`
}

// String lists the migrations, a line each.
func (p planned) String() string {
	if len(p.Steps) == 0 {
		return fmt.Sprintf("version %d: nothing would be done", p.Version)
	}
	var b strings.Builder
	if p.Version == 0 && len(p.Found) > 0 {
		fmt.Fprintf(&b, "would take over the tables %s\n", strings.Join(p.Found, ", "))
	}
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "would bring version %d: %s\n", s.Version, s.Text)
	}
	b.WriteString("nothing is in the way; nothing was changed")
	return b.String()
}

func plan(ctx context.Context, t *task, opts []schema.Option) (fmt.Stringer, error) {
	would, err := schema.Plan(ctx, t.pool, opts...)
	if err != nil {
		return nil, err
	}
	p := planned{would.Have, would.Want, append([]string{}, would.Found...), []step{}}
	for _, s := range would.Steps {
		p.Steps = append(p.Steps, step(s))
	}
	return p, nil
}

func status(ctx context.Context, t *task) (fmt.Stringer, error) {
	state, err := schema.Status(ctx, t.pool, schema.In(t.schema))
	if err != nil {
		return nil, err
	}
	return versions{state.Version, state.Latest}, nil
}

func check(ctx context.Context, t *task) (fmt.Stringer, error) {
	if err := schema.Check(ctx, t.pool, schema.In(t.schema)); err != nil {
		return nil, err
	}
	return status(ctx, t)
}

// findings is the answer of audit.
type findings struct {
	Violations []violation `json:"violations"` // never nil
}

// violation is a [schema.Violation] with what the rule says.
type violation struct {
	Table string  `json:"table"`
	IDs   []int64 `json:"ids"` // user_id in profile, meetup_id in soultribe_booking, id elsewhere
	Rule  string  `json:"rule"`
	Text  string  `json:"text"`

	line string
}

// String lists what was found, a line each, and how many there are.
func (f findings) String() string {
	if len(f.Violations) == 0 {
		return "no row breaks a rule"
	}
	var b strings.Builder
	for _, v := range f.Violations {
		b.WriteString(v.line + "\n")
	}
	fmt.Fprintf(&b, "%d found", len(f.Violations))
	return b.String()
}

func audit(ctx context.Context, t *task) (fmt.Stringer, error) {
	found, err := schema.Audit(ctx, t.pool, schema.In(t.schema))
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for _, r := range schema.Rules() {
		texts[r.Name] = r.Text
	}
	f := findings{Violations: []violation{}}
	for _, v := range found {
		f.Violations = append(f.Violations, violation{v.Table, v.IDs, v.Rule, texts[v.Rule], v.String()})
	}
	if len(found) > 0 {
		return f, errFound
	}
	return f, nil
}

// release is the answer of version.
type release struct {
	Version string `json:"version"`
	Schema  int    `json:"schema"`
	Go      string `json:"go"`
}

// String says it in one line.
func (r release) String() string {
	return fmt.Sprintf("soultribe %s, schema version %d, %s", r.Version, r.Schema, r.Go)
}

func version(context.Context, *task) (fmt.Stringer, error) {
	r := release{Version: "(devel)", Schema: soultribe.SchemaVersion}
	if info, ok := debug.ReadBuildInfo(); ok {
		r.Version, r.Go = cmp.Or(info.Main.Version, r.Version), info.GoVersion
	}
	return r, nil
}
