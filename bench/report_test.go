package main

import (
	"context"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
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
	r := slotsReport(t, map[string][]sample{
		nameReference: times(10, 100, 1000, 100),
		nameLibrary:   times(12, 105, 1050, 900),
		"ent":         times(30, 200, 2000, 200),
	})
	require.Equal(t, []float64{1.05, 1.05, 9}, r.ratios(opSlots, nameLibrary, nameReference, serial))
	require.Equal(t, `| operation         | figure                      |       goal |         is |         |
|-------------------|-----------------------------|-----------:|-----------:|--------:|
| 50 upcoming slots | time                        |       1.10 |       1.05 |     met |
| 50 upcoming slots | bytes                       |       1.30 |       1.00 |     met |
| 50 upcoming slots | allocations                 |      x1.10 |      x1.20 | not met |
| 50 upcoming slots | time, 8 at a time           |       1.15 |       1.05 |     met |
| 50 upcoming slots | time, to the fastest of ent | below 1.00 | 0.53 (ent) |     met |
| 50 upcoming slots | the same, 8 at a time       | below 1.00 | 0.53 (ent) |     met |
`, r.goals())
	require.Contains(t, r.figures(), "| 50 upcoming slots | pgx       | 100 | 1.00 (1.00–1.00) |")
	require.NotContains(t, r.figures(), "bun") // which has no figures
}

// TestFastest has the library judged by the one that it is least ahead of in the same pass, which may be another one eight at a time.
func TestFastest(t *testing.T) {
	t.Parallel()
	tuned := times(30, 300, 1000, 100)
	for i := range tuned {
		tuned[i].parallel /= 10
	}
	r := slotsReport(t, map[string][]sample{
		nameReference: times(10, 100, 1000, 100),
		nameLibrary:   times(10, 103, 996, 99),
		"GORM":        times(30, 400, 4000, 400),
		"GORM, tuned": tuned,
		"sqlx":        times(30, 100, 1000, 100),
	})
	require.Contains(t, r.goals(), `
| 50 upcoming slots | time, to the fastest of GORM, sqlx | below 1.00 |        1.00 (sqlx) | not met |
| 50 upcoming slots | the same, 8 at a time              | below 1.00 | 9.90 (GORM, tuned) | not met |
`)
}

// TestNoOthers leaves out what nobody ran for.
func TestNoOthers(t *testing.T) {
	t.Parallel()
	r := slotsReport(t, map[string][]sample{nameReference: times(10, 100), nameLibrary: times(10, 100)})
	require.NotContains(t, r.goals(), "fastest")
	require.NotContains(t, r.goals(), "the same")
	r = slotsReport(t, map[string][]sample{nameReference: times(10, 100), "ent": times(10, 100)})
	require.NotContains(t, r.goals(), "50 upcoming slots")
}

// TestAmong takes the peers by the names that are printed, which differ from operation to operation.
func TestAmong(t *testing.T) {
	t.Parallel()
	ops, err := matching("^" + opSlots + "$")
	require.NoError(t, err)
	slots := call[soultribe.UserID]{run: func(context.Context, soultribe.UserID) error { return nil }}
	peers := []peer{{name: nameReference, slots: slots}, {name: nameVariant, slots: slots}, {name: "ent", slots: slots}, {name: "bun"}}
	for pattern, want := range map[string][]string{
		"":         {nameReference, nameVariant, "ent"},
		"^pgx$":    {nameReference},
		"ent":      {nameReference, "ent"},
		nameRules:  {nameReference, nameVariant},
		"bun":      nil, // has no such operation
		"unnest":   nil, // is another operation's
		"^pgx, ot": nil, // is printed nowhere
	} {
		got, err := among(peers, ops, regexp.MustCompile(pattern))
		require.Equal(t, want == nil, err != nil, pattern)
		require.Equal(t, want, names(got), pattern)
	}
	_, err = matching("nothing")
	require.ErrorContains(t, err, "no operation")
}

func names(peers []peer) (list []string) {
	for _, p := range peers {
		list = append(list, p.name)
	}
	return list
}

// times are samples of so many microseconds.
func times(allocs float64, us ...int) []sample {
	return convert(us, func(n int) sample {
		took := time.Duration(n) * time.Microsecond
		return sample{serial: took, parallel: took, bytes: 100, allocs: allocs}
	})
}

// slotsReport is one of a single operation.
func slotsReport(t *testing.T, of map[string][]sample) report {
	t.Helper()
	ops, err := matching("^" + opSlots + "$")
	require.NoError(t, err)
	return report{ops: ops, peers: []peer{{name: nameReference}, {name: nameLibrary}, {name: "ent"}, {name: "bun"}}, samples: samples{opSlots: of}}
}
