package schema

import (
	"context"
	"errors"

	"github.com/soultribe-chat/soultribe"
)

// Check compares the database with what this version of the library needs. It returns nil, or a
// [MismatchError], which says whether the tables are missing, older, newer, or of another shape, and then
// names each difference; also a column of the host's that is NOT NULL and has no default, for the library
// cannot fill it. Constraints, indexes, triggers and functions are compared by what they say, not by name
// alone.
//
// Like [Status], it only reads and takes no lock that any other client would notice.
func Check(ctx context.Context, db soultribe.DB, opts ...Option) error {
	c, err := newConfig(opts)
	if err != nil {
		return err
	}
	err = c.reading(ctx, db, "read", readable, func(tx soultribe.DB) error { return c.check(ctx, tx) })
	if mismatch, ok := errors.AsType[*MismatchError](err); ok {
		return mismatch
	}
	return err
}

func (c config) check(ctx context.Context, tx soultribe.DB) error {
	state, err := c.status(ctx, tx)
	if err != nil {
		return err
	}
	found, err := c.inspect(ctx, tx)
	if err != nil {
		return err
	}
	mismatch := &MismatchError{
		Schema:  c.schema,
		Have:    state.Version,
		Want:    state.Latest,
		Missing: found.missing(),
	}
	if state.Version <= state.Latest {
		mismatch.Differences = append(found.differences(state.Version), found.unfillable()...)
	}
	if mismatch.Have == mismatch.Want && len(mismatch.Differences) == 0 {
		return nil
	}
	return mismatch
}
