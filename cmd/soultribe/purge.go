package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/soultribe-chat/soultribe"
)

func purgeFlags(f *flag.FlagSet, s *settings) {
	age := func(name, what string, age *time.Duration) {
		f.Func(name, what+" longer ago than this `age`, such as 30d or 12h", func(text string) (err error) {
			*age, err = parseAge(text)
			return err
		})
	}
	age("tokens", "secrets that were used or expired", &s.purge.Tokens)
	age("slots", "slots that ended", &s.purge.Slots)
	age("meetups", "meetups that were completed or cancelled, and took or would have taken place", &s.purge.Meetups)
	age("unverified", "accounts that nobody verified or used, and that were made", &s.purge.Unverified)
	f.IntVar(&s.purge.Limit, "batch", 0, "at most so many `rows` of each table in one transaction; 0 is 1000")
	f.BoolVar(&s.dryRun, "dry-run", false, "count what would be removed, and remove nothing")
}

var days = regexp.MustCompile(`^(\d{1,6})d(.*)$`)

// parseAge reads a duration, which may begin with days of 24 hours: 30d, 1d12h, 720h.
func parseAge(text string) (time.Duration, error) {
	var age time.Duration
	if m := days.FindStringSubmatch(text); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return 0, err
		}
		const day = 24 * time.Hour
		if age, text = time.Duration(n)*day, m[2]; age/day != time.Duration(n) {
			return 0, errors.New("is too long")
		}
		if text == "" {
			text = "0"
		}
	}
	rest, err := time.ParseDuration(text)
	switch age += rest; {
	case err != nil || rest < 0:
		return 0, errors.New("is not an age such as 30d, 12h or 1d12h")
	case age < 0:
		return 0, errors.New("is too long")
	case age == 0:
		return 0, errors.New("must be more than nothing")
	}
	return age, nil
}

// purged is the answer of purge. More is true where it was interrupted.
type purged struct {
	soultribe.Purged
	DryRun bool `json:"dry_run"`
}

func (p purged) rows() int64 {
	return p.EmailVerifications + p.PasswordResets + p.Slots + p.Meetups + p.Users
}

// String counts what was removed, by kind.
func (p purged) String() string {
	done := "removed"
	if p.DryRun {
		done = "would remove"
	}
	return fmt.Sprintf("%s %d secrets of verification, %d of password resets, %d slots, %d meetups and %d accounts",
		done, p.EmailVerifications, p.PasswordResets, p.Slots, p.Meetups, p.Users)
}

func purge(ctx context.Context, t *task) (fmt.Stringer, error) {
	policy := t.purge
	if policy.Tokens == 0 && policy.Slots == 0 && policy.Meetups == 0 && policy.Unverified == 0 {
		return nil, usageError("needs an age of what to remove: -tokens, -slots, -meetups or -unverified")
	}
	policy.DryRun = t.dryRun
	store, err := soultribe.New(t.pool, soultribe.WithSchema(t.schema))
	if err != nil {
		return nil, err
	}
	all := purged{DryRun: t.dryRun}
	// A batch is a transaction: one that is interrupted has removed nothing.
	for all.More = true; all.More; {
		rows := all.rows()
		t.tell(func() string { return fmt.Sprintf("removed %d rows", rows) })
		batch, err := store.Purge(ctx, policy)
		if err != nil && t.dryRun {
			return nil, err // nothing was counted
		}
		if err != nil {
			return all, err
		}
		all.EmailVerifications += batch.EmailVerifications
		all.PasswordResets += batch.PasswordResets
		all.Slots += batch.Slots
		all.Meetups += batch.Meetups
		all.Users += batch.Users
		all.More = batch.More && !t.dryRun // a dry run counts all at once
	}
	return all, nil
}
