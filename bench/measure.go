package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// method says how to measure.
type method struct {
	passes int
	slice  time.Duration // how long the reference runs an operation in a pass
}

// patience is how many times as long as the reference a peer may run before it is stopped, in which case it has
// fewer runs.
const patience = 4

// sample is what one operation of one peer cost in one pass, for a run.
type sample struct {
	serial, parallel time.Duration
	processor        time.Duration // of the serial run, by both sides; 0 is unknown
	bytes, allocs    float64
}

// samples are those of all passes, by operation and peer.
type samples map[string]map[string][]sample

// measure runs every operation by every peer in each pass, each time in an order of chance, so that what else the
// machine does, and what one leaves behind, meets all of them. A first pass, which does not count, has statements
// prepared and connections made, and finds how often an operation runs in a slice: so the reference is the first in it.
func measure(ctx context.Context, progress io.Writer, d *database, peers []peer, ops []operation, m method) (samples, error) {
	all := samples{}
	runs := map[string]int{}
	for _, op := range ops {
		all[op.name] = map[string][]sample{}
		runs[op.name] = 2 * poolSize
	}
	for pass := range m.passes + 1 {
		_, _ = fmt.Fprintf(progress, "\rpass %d of %d ", pass, m.passes)
		for _, op := range ops {
			order := slices.Clone(peers)
			if pass > 0 {
				rand.Shuffle(len(order), func(i, k int) { order[i], order[k] = order[k], order[i] }) //nolint:gosec // no secret
			}
			for _, p := range order {
				if !op.has(p) {
					continue
				}
				s, err := op.sample(ctx, d, p, runs[op.name], m.slice*patience)
				if err != nil {
					return nil, fmt.Errorf("%s: %s: %w", op.name, p.name, err)
				}
				if pass > 0 {
					all[op.name][p.name] = append(all[op.name][p.name], s)
				} else if p.name == nameReference {
					runs[op.name] = min(max(int(m.slice/max(s.serial, 1)), 1), maxRuns/2)
				}
			}
		}
	}
	_, _ = fmt.Fprintln(progress)
	return all, nil
}

// sample runs an operation n times in a row, and twice as often by all goroutines.
func (op operation) sample(ctx context.Context, d *database, p peer, n int, limit time.Duration) (s sample, err error) {
	err = op.slice(ctx, d, p, n, func(run func(context.Context, int) error) error {
		release, err := apart(d.postmaster)
		defer release()
		if err != nil {
			return err
		}
		var before, after runtime.MemStats
		runtime.GC()
		used := processorTime(d.postmaster)
		runtime.ReadMemStats(&before)
		done := 0
		begin := time.Now()
		for done < n && (done == 0 || time.Since(begin) < limit) {
			if err := run(ctx, done); err != nil {
				return err
			}
			done++
		}
		s.serial = time.Since(begin) / time.Duration(done)
		runtime.ReadMemStats(&after)
		s.processor = (processorTime(d.postmaster) - used) / time.Duration(done)
		s.bytes = float64(after.TotalAlloc-before.TotalAlloc) / float64(done)
		s.allocs = float64(after.Mallocs-before.Mallocs) / float64(done)
		return nil
	})
	if err != nil {
		return s, err
	}
	n = max(2*n, poolSize)
	err = op.slice(ctx, d, p, n, func(run func(context.Context, int) error) error {
		runtime.GC()
		var next, done atomic.Int64
		errs := make([]error, poolSize)
		var wg sync.WaitGroup
		begin := time.Now()
		for g := range errs {
			wg.Go(func() {
				for errs[g] == nil && (done.Load() < poolSize || time.Since(begin) < limit) {
					i := next.Add(1) - 1
					if i >= int64(n) {
						return
					}
					errs[g] = run(ctx, int(i))
					done.Add(1)
				}
			})
		}
		wg.Wait()
		s.parallel = time.Since(begin) / time.Duration(done.Load())
		return errors.Join(errs...)
	})
	return s, err
}

// slice prepares n runs, which do is to make, and cleans up.
func (op operation) slice(ctx context.Context, d *database, p peer, n int, do func(run func(context.Context, int) error) error) error {
	ready, err := op.prepare(ctx, d, p, n)
	if err == nil {
		err = do(ready.run)
	}
	if op.clean != nil {
		_, errClean := d.pool.Exec(ctx, op.clean(d))
		err = errors.Join(err, errClean)
	}
	if op.tables != "" {
		// Of all pages: what it takes the others to have drifts with each time, and with that the plans.
		_, errVacuum := d.pool.Exec(ctx, "VACUUM (DISABLE_PAGE_SKIPPING) "+op.tables)
		err = errors.Join(err, errVacuum)
	}
	return err
}
