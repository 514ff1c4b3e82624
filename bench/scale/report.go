package main

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
)

// report is what is measured, by name and number of people.
type report struct {
	server   string
	settings string // of the server and the connections
	sizes    []int
	runs     int      // of each call
	names    []string // in order
	formats  map[string]string
	values   map[string]map[int]float64
	plans    []string
}

func newReport(server string, sizes []int, runs int) *report {
	return &report{server: server, sizes: sizes, runs: runs, formats: map[string]string{}, values: map[string]map[int]float64{}}
}

// add adds a value, which is printed by a format.
func (r *report) add(name string, people int, format string, value float64) {
	if r.values[name] == nil {
		r.names = append(r.names, name)
		r.formats[name] = format
		r.values[name] = map[int]float64{}
	}
	r.values[name][people] = value
}

// value is what add was given, or NaN.
func (r *report) value(name string, people int) float64 {
	if v, ok := r.values[name][people]; ok {
		return v
	}
	return math.NaN()
}

// The names of what the goals are about.
const (
	soonestFirst    = "soonest first"
	page20          = "soonest first, page 20"
	allPeople       = "most time first, all people"
	sumForEach      = "most time first, a query for each person, the sum alone"
	bestOfSample    = "time in common with the best 50 of 1/64, of that with the best 50 of all"
	temporaryBlocks = "blocks written to temporary files by these searches"
)

func ofAsker(name string, slots int) string {
	return fmt.Sprintf("%s, asker with %d slots", name, slots)
}

// goals is the table of what is to be reached, as far as the numbers of people that it takes were measured. They are judged
// by the figures as they are printed.
func (r *report) goals() string {
	var b strings.Builder
	b.WriteString("| what | goal | is | |\n|---|--:|--:|--:|\n")
	add := func(what, goal, format string, is float64, met bool) {
		if !math.IsNaN(is) {
			fmt.Fprintf(&b, "| %s | %s | "+format+" | %s |\n", what, goal, is, map[bool]string{true: "met", false: "not met"}[met])
		}
	}
	least, most := slices.Min(r.sizes), slices.Max(r.sizes)
	for _, name := range []string{soonestFirst, page20} {
		if most < 100*least {
			break
		}
		for _, slots := range askers {
			name := ofAsker(name, slots)
			is := math.Round(100*r.value(name, most)/r.value(name, least)) / 100
			add(fmt.Sprintf("%s: time with %d people, to that with %d", name, most, least), "at most 2.00", "%.2f", is, is <= 2)
		}
	}
	for _, slots := range askers {
		is := math.Round(r.value(ofAsker(sumForEach, slots), 10_000) / r.value(ofAsker(allPeople, slots), 10_000))
		add(ofAsker(sumForEach, slots)+": time with 10000 people, to that of all people by one search", "at least 200", "%.0f", is, is >= 200)
	}
	blocks := 0.
	for _, n := range r.sizes {
		blocks = max(blocks, r.value(temporaryBlocks, n))
	}
	add(temporaryBlocks+", most with any number of people", "0", "%.0f", blocks, blocks == 0)
	for _, slots := range askers {
		is := math.Round(r.value(ofAsker(bestOfSample, slots), 1_000_000))
		add(ofAsker(bestOfSample, slots)+", with 1000000 people", "at least 75 %", "%.0f %%", is, is >= 75)
	}
	return b.String()
}

func (r *report) plan(name, text string) {
	r.plans = append(r.plans, fmt.Sprintf("### %s\n\n```text\n%s\n```\n", strings.ToUpper(name[:1])+name[1:], text))
}

// String writes it as Markdown.
func (r *report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Growth\n\n`make bench-scale` wrote this, on %s, %s, %d CPUs. People live in %d time zones, as many in each, and have\n"+
		"%d slots each in a fortnight, one a day, for one to four hours that begin between 6 and 18 o'clock there; those who ask have slots of three hours,\n"+
		"and of five for what nobody has. The exclusion constraint on slots is there by name only, as no search reads its index, and takes long to build.\n"+
		"The tables are vacuumed and analyzed once, when they are full.\n"+
		"The server has these settings: %s.\nMilliseconds are the median of %d runs of a whole call, or of those that a row names, with all round trips.\n\n## Goals\n\n%s\n## Figures\n\n",
		r.server, runtime.Version(), runtime.NumCPU(), len(zones), slotsEach, r.settings, r.runs, r.goals())
	b.WriteString("| people |")
	for _, n := range r.sizes {
		fmt.Fprintf(&b, " %d |", n)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(r.sizes)) + "\n")
	for _, name := range r.names {
		fmt.Fprintf(&b, "| %s |", name)
		for _, n := range r.sizes {
			if value, ok := r.values[name][n]; ok {
				fmt.Fprintf(&b, " "+r.formats[name], value)
			}
			b.WriteString(" |")
		}
		b.WriteByte('\n')
	}
	if len(r.plans) > 0 {
		fmt.Fprintf(&b, "\n## Plans, with %d people and an asker with 5 slots\n\n%s", r.sizes[len(r.sizes)-1], strings.Join(r.plans, "\n"))
	}
	return b.String()
}
