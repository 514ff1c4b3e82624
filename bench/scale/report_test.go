package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// fakeReport has values by which all goals are met to the very figure.
func fakeReport(sizes ...int) *report {
	r := newReport("PostgreSQL", sizes, 1)
	for _, n := range sizes {
		for _, slots := range askers {
			r.add(ofAsker(soonestFirst, slots), n, "%.1f", 1)
			r.add(ofAsker(page20, slots), n, "%.1f", 1)
			r.add(ofAsker(allPeople, slots), n, "%.1f", 3)
			r.add(ofAsker(bestOfSample, slots), n, "%.0f %%", 74.6)
			if n == 10_000 {
				r.add(ofAsker(sumForEach, slots), n, "%.1f", 600)
			}
		}
		r.add(temporaryBlocks, n, "%.0f", 0)
	}
	return r
}

func TestGoalsMet(t *testing.T) {
	t.Parallel()
	r := fakeReport(10_000, 100_000, 1_000_000)
	r.add(ofAsker(soonestFirst, 5), 1_000_000, "%.1f", 2.004)
	require.Equal(t, `| what | goal | is | |
|---|--:|--:|--:|
| soonest first, asker with 1 slots: time with 1000000 people, to that with 10000 | at most 2.00 | 1.00 | met |
| soonest first, asker with 5 slots: time with 1000000 people, to that with 10000 | at most 2.00 | 2.00 | met |
| soonest first, asker with 20 slots: time with 1000000 people, to that with 10000 | at most 2.00 | 1.00 | met |
| soonest first, page 20, asker with 1 slots: time with 1000000 people, to that with 10000 | at most 2.00 | 1.00 | met |
| soonest first, page 20, asker with 5 slots: time with 1000000 people, to that with 10000 | at most 2.00 | 1.00 | met |
| soonest first, page 20, asker with 20 slots: time with 1000000 people, to that with 10000 | at most 2.00 | 1.00 | met |
| most time first, a query for each person, the sum alone, asker with 1 slots: time with 10000 people, to that of all people by one search | at least 200 | 200 | met |
| most time first, a query for each person, the sum alone, asker with 5 slots: time with 10000 people, to that of all people by one search | at least 200 | 200 | met |
| most time first, a query for each person, the sum alone, asker with 20 slots: time with 10000 people, to that of all people by one search | at least 200 | 200 | met |
| blocks written to temporary files by these searches, most with any number of people | 0 | 0 | met |
| time in common with the best 50 of 1/64, of that with the best 50 of all, asker with 1 slots, with 1000000 people | at least 75 % | 75 % | met |
| time in common with the best 50 of 1/64, of that with the best 50 of all, asker with 5 slots, with 1000000 people | at least 75 % | 75 % | met |
| time in common with the best 50 of 1/64, of that with the best 50 of all, asker with 20 slots, with 1000000 people | at least 75 % | 75 % | met |
`, r.goals())
}

func TestGoalsNotMet(t *testing.T) {
	t.Parallel()
	r := fakeReport(10_000, 1_000_000)
	r.add(ofAsker(soonestFirst, 1), 1_000_000, "%.1f", 2.01)
	r.add(ofAsker(page20, 20), 10_000, "%.1f", 0.4)
	r.add(ofAsker(sumForEach, 5), 10_000, "%.1f", 597)
	r.add(temporaryBlocks, 10_000, "%.0f", 1)
	r.add(ofAsker(bestOfSample, 5), 1_000_000, "%.0f %%", 74.4)
	for _, row := range []string{
		"soonest first, asker with 1 slots: time with 1000000 people, to that with 10000 | at most 2.00 | 2.01 | not met |",
		"soonest first, page 20, asker with 20 slots: time with 1000000 people, to that with 10000 | at most 2.00 | 2.50 | not met |",
		"asker with 5 slots: time with 10000 people, to that of all people by one search | at least 200 | 199 | not met |",
		"most with any number of people | 0 | 1 | not met |",
		"asker with 5 slots, with 1000000 people | at least 75 % | 74 % | not met |",
	} {
		require.Contains(t, r.goals(), row)
	}
}

// TestGoalsOfOtherSizes leaves out what was not measured.
func TestGoalsOfOtherSizes(t *testing.T) {
	t.Parallel()
	require.Equal(t, `| what | goal | is | |
|---|--:|--:|--:|
| blocks written to temporary files by these searches, most with any number of people | 0 | 0 | met |
`, fakeReport(20_000, 100_000).goals())
}

func TestFigures(t *testing.T) {
	t.Parallel()
	r := fakeReport(1000, 10_000)
	r.settings = "`jit` is off"
	require.Contains(t, r.String(), "these settings: `jit` is off.\n")
	require.Contains(t, r.String(), "\n| people | 1000 | 10000 |\n|---|---|---|\n| soonest first, asker with 1 slots | 1.0 | 1.0 |\n")
	require.Contains(t, r.String(), "\n| most time first, a query for each person, the sum alone, asker with 1 slots | | 600.0 |\n")
}
