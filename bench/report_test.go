package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestQuantile(t *testing.T) {
	t.Parallel()
	require.InDelta(t, 2.5, quantile([]float64{4, 1, 3, 2}, 0.5), 1e-9)
	require.InDelta(t, 1.75, quantile([]float64{4, 1, 3, 2}, 0.25), 1e-9)
	require.InDelta(t, 7, quantile([]float64{7}, 0.75), 1e-9)
}

// TestReport compares within each pass: the machine was slow in the second, and one outlier does not count.
func TestReport(t *testing.T) {
	t.Parallel()
	ops, err := matching("^" + opSlots + "$")
	require.NoError(t, err)
	times := func(allocs float64, us ...int) []sample {
		var s []sample
		for _, n := range us {
			took := time.Duration(n) * time.Microsecond
			s = append(s, sample{serial: took, parallel: took, bytes: 100, allocs: allocs})
		}
		return s
	}
	r := report{ops: ops, peers: []peer{{name: nameReference}, {name: nameLibrary}, {name: "ent"}, {name: "bun"}}, samples: samples{opSlots: {
		nameReference: times(10, 100, 1000, 100),
		nameLibrary:   times(12, 105, 1050, 900),
		"ent":         times(30, 200, 2000, 200),
	}}}
	require.Equal(t, []float64{1.05, 1.05, 9}, r.ratios(opSlots, nameLibrary, nameReference, serial))
	require.Equal(t, `| operation         | figure                           |       goal |    is |         |
|-------------------|----------------------------------|-----------:|------:|--------:|
| 50 upcoming slots | time                             |       1.10 |  1.05 |     met |
| 50 upcoming slots | bytes                            |       1.30 |  1.00 |     met |
| 50 upcoming slots | allocations                      |      x1.10 | x1.20 | not met |
| 50 upcoming slots | time, 8 at a time                |       1.15 |  1.05 |     met |
| 50 upcoming slots | ahead of GORM, ent, bun and sqlx | 2.00 (ent) |  1.05 |     met |
`, r.goals())
	require.Contains(t, r.figures(), "| 50 upcoming slots | pgx       | 100 | 1.00 (1.00–1.00) |")
	require.NotContains(t, r.figures(), "bun") // which has no figures
}
