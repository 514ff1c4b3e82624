package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// compared is how many inputs of an operation are compared, the first ones.
const compared = 10

// compare runs every operation a few times by every peer, and returns an error for each that returns or stores
// something else than the first one.
func compare(ctx context.Context, d *database, peers []peer, ops []operation) error {
	var errs []error
	for _, op := range ops {
		var want []byte
		for _, p := range peers {
			if !op.has(p) {
				continue
			}
			got, err := op.outcome(ctx, d, p)
			switch {
			case err != nil:
				errs = append(errs, fmt.Errorf("%s: %s: %w", op.name, p.name, err))
			case want == nil:
				want = got
			case !bytes.Equal(got, want):
				errs = append(errs, fmt.Errorf("%s: %s has another outcome than %s:\n%s\nwhere it is\n%s", op.name, p.name, peers[0].name, got, want))
			}
		}
	}
	return errors.Join(errs...)
}

// outcome is what an operation returns and stores, as text. It runs for several inputs, and cleans up.
func (op operation) outcome(ctx context.Context, d *database, p peer) (outcome []byte, err error) {
	if op.clean != nil {
		defer func() {
			_, errClean := d.pool.Exec(ctx, op.clean(d))
			err = errors.Join(err, errClean)
		}()
	}
	ready, err := op.prepare(ctx, d, p, compared)
	if err != nil {
		return nil, err
	}
	for i := range compared {
		v, err := ready.view(ctx, i)
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		outcome = fmt.Appendf(outcome, "%s\n", utc(text))
	}
	if op.state != nil {
		var state string
		if err := d.pool.QueryRow(ctx, op.state(d)).Scan(&state); err != nil {
			return nil, err
		}
		outcome = append(outcome, state...)
	}
	return outcome, nil
}

// utc makes one of the two ways in which JSON has a time in UTC: drivers have different names for it.
func utc(text []byte) []byte { return bytes.ReplaceAll(text, []byte(`+00:00"`), []byte(`Z"`)) }
