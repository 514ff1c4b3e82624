package main

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/soultribe-chat/soultribe/bench/sqlc"
)

// report is what a run came to.
type report struct {
	samples  samples
	peers    []peer
	ops      []operation
	people   int
	method   method
	took     time.Duration
	server   string
	settings string // of the server
}

// text is the report in Markdown.
func (r report) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Benchmark

`+"`make bench`"+` wrote this file.

- Machine: %s
- %s, with %s
- Go: %s
- Peers: %s
- Data: %d people with 8 slots or more each and %d with one, two or none; pools of %d connections; everything on one machine
- Method: %d passes, interleaved, in each of which the reference runs an operation for %v, and the others as often; in %v

Times are medians of the passes. A ratio is that to the reference, %s, in the same pass: the median, and behind it the
quartiles. %q is the reference once more, so that its ratios are noise. Bytes and allocations are those of the Go
process, medians too. Processor time is that of the Go process and the server, one call after the other: what else the
machine does is not in it. Where calls come one after the other the two have a processor each, if there are two and the
server is a process of the benchmark's that it may move.

Goals are judged by the figures as they are printed. Those to the fastest of several are the largest of the ratios to them.

## Goals

%s
## Figures

%s`, machine(), r.server, r.settings, runtime.Version(), strings.Join(versions(), ", "), r.people, newcomers+writers+edges, poolSize,
		r.method.passes, r.method.slice, r.took.Round(time.Second), nameReference, nameAgain, r.goals(), r.figures())
	return b.String()
}

// figures is the table of all.
func (r report) figures() string {
	rows := [][]string{{"operation", "peer", "µs", "ratio", "µs, 8 at a time", "ratio", "processor µs", "ratio", "bytes", "allocations"}}
	for _, op := range r.ops {
		name := op.name
		for _, p := range r.peers {
			s := r.samples[op.name][p.name]
			if len(s) == 0 {
				continue
			}
			rows = append(rows, []string{
				name, label(op, p.name),
				fmt.Sprintf("%.0f", median(s, serial)), spread(r.ratios(op.name, p.name, nameReference, serial)),
				fmt.Sprintf("%.0f", median(s, parallel)), spread(r.ratios(op.name, p.name, nameReference, parallel)),
				fmt.Sprintf("%.0f", median(s, processor)), strings.Replace(spread(r.ratios(op.name, p.name, nameReference, processor)), "NaN (NaN–NaN)", "unknown", 1),
				fmt.Sprintf("%.0f", median(s, bytesOf)), fmt.Sprintf("%.0f", median(s, allocsOf)),
			})
			name = ""
		}
	}
	return table(rows)
}

// label is the name of a peer, with what is to be known of it.
func label(op operation, name string) string {
	perPair := []string{"sqlc", "GORM", "GORM, tuned", "ent", "bun", "sqlx"}
	switch {
	case name == nameVariant && op.name == opCreateUser:
		return "pgx, four round trips"
	case name == nameVariant && op.name == opAddSlots:
		return "pgx, unnest"
	case name == nameVariant:
		return nameRules
	case op.name == opCandidates && slices.Contains(perPair, name):
		return name + ", a query per pair"
	case op.name == opAddSlots && name == nameReference:
		return "pgx, multi-VALUES"
	}
	return name
}

// goal is what the library is to cost at most. What is 0 has no bound.
type goal struct {
	operation      string
	against        string  // the peer
	time, bytes    float64 // ratios
	allocs         float64 // a ratio
	more, allocMax float64 // numbers
}

var goals = []goal{
	{operation: opAccount, time: 1.10, bytes: 1.2, more: 4},
	{operation: opUseToken, time: 1.10, bytes: 1.2, more: 4},
	{operation: opSlots, time: 1.10, bytes: 1.3, allocs: 1.1},
	{operation: opPending, time: 1.10, bytes: 1.3, allocs: 1.1},
	{operation: opCreateUser, against: nameVariant, time: 0.5},
	{operation: opCreateUser, bytes: 1.2, allocMax: 20},
	{operation: opAddSlots, time: 1.0, bytes: 0.8, allocs: 1.05},
}

// byTheRules are the operations in which the variant is the reference with the library's rules: that ratio is what the library
// itself costs.
var byTheRules = []string{opSlots, opUseToken, opAddSlot, opMatch, opMeet}

// nameRules is the variant's name there.
const nameRules = "pgx, by the same rules"

// rulesGoal is the ratio that the library is to have to it at most, one call after the other.
const rulesGoal = 1.10

// parallelGoal is the ratio that the library is to have at most in every operation, eight at a time.
const parallelGoal = 1.15

// rivals are what people use instead of SQL on pgx. The library is to take less time than each.
var rivals = []string{"GORM", "GORM, tuned", "ent", "bun", "sqlx"}

// goals is the table of what the library is to reach, as far as those ran with whom it is compared.
func (r report) goals() string {
	rows := [][]string{{"operation", "figure", "goal", "is", ""}}
	add := func(operation, figure, bound, is string, met bool) {
		if !strings.Contains(is+bound, "NaN") {
			rows = append(rows, []string{operation, figure, bound, is, map[bool]string{true: "met", false: "not met"}[met]})
		}
	}
	for _, g := range goals {
		if !slices.ContainsFunc(r.ops, func(op operation) bool { return op.name == g.operation }) {
			continue
		}
		against := cmp.Or(g.against, nameReference)
		own, theirs := r.samples[g.operation][nameLibrary], r.samples[g.operation][against]
		if g.time > 0 {
			is := r.ratio(g.operation, against, serial)
			figure := "time"
			if g.against == nameVariant {
				figure = "time to that of four round trips"
			}
			add(g.operation, figure, fmt.Sprintf("%.2f", g.time), fmt.Sprintf("%.2f", is), is <= g.time)
		}
		if g.bytes > 0 {
			is := hundredths(median(own, bytesOf) / median(theirs, bytesOf))
			add(g.operation, "bytes", fmt.Sprintf("%.2f", g.bytes), fmt.Sprintf("%.2f", is), is <= g.bytes)
		}
		is, reference := math.Round(median(own, allocsOf)), math.Round(median(theirs, allocsOf))
		switch {
		case g.allocs > 0:
			ratio := hundredths(is / reference)
			add(g.operation, "allocations", fmt.Sprintf("x%.2f", g.allocs), fmt.Sprintf("x%.2f", ratio), ratio <= g.allocs)
		case g.more > 0:
			add(g.operation, "allocations", fmt.Sprintf("+%.0f", g.more), fmt.Sprintf("%+.0f", is-reference), is-reference <= g.more)
		case g.allocMax > 0:
			add(g.operation, "allocations", fmt.Sprintf("%.0f", g.allocMax), fmt.Sprintf("%.0f", is), is <= g.allocMax)
		}
	}
	for _, op := range r.ops {
		is := r.ratio(op.name, nameReference, parallel)
		add(op.name, "time, 8 at a time", fmt.Sprintf("%.2f", parallelGoal), fmt.Sprintf("%.2f", is), is <= parallelGoal)
	}
	for _, op := range r.ops {
		if !slices.Contains(byTheRules, op.name) {
			continue
		}
		is := r.ratio(op.name, nameVariant, serial)
		add(op.name, "time, to that of "+nameRules, fmt.Sprintf("%.2f", rulesGoal), fmt.Sprintf("%.2f", is), is <= rulesGoal)
		is = r.ratio(op.name, nameVariant, parallel)
		add(op.name, "the same, 8 at a time", fmt.Sprintf("%.2f", parallelGoal), fmt.Sprintf("%.2f", is), is <= parallelGoal)
	}
	for _, op := range r.ops {
		ran := slices.DeleteFunc(slices.Clone(rivals), func(name string) bool { return len(r.samples[op.name][name]) == 0 })
		if len(ran) == 0 {
			continue
		}
		// GORM is two of them.
		products := slices.Compact(convert(ran, func(name string) string { return strings.TrimSuffix(name, ", tuned") }))
		for _, figure := range []struct {
			name string
			of   func(sample) float64
		}{
			{"time, to the fastest of " + strings.Join(products, ", "), serial},
			{"the same, 8 at a time", parallel},
		} {
			fastest := slices.MaxFunc(ran, func(a, b string) int {
				return cmp.Compare(r.ratio(op.name, a, figure.of), r.ratio(op.name, b, figure.of))
			})
			is := r.ratio(op.name, fastest, figure.of)
			add(op.name, figure.name, "below 1.00", fmt.Sprintf("%.2f (%s)", is, fastest), is < 1)
		}
	}
	return table(rows)
}

// ratio is the median of the library's ratios to a peer, as it is printed.
func (r report) ratio(operation, against string, figure func(sample) float64) float64 {
	return hundredths(quantile(r.ratios(operation, nameLibrary, against, figure), 0.5))
}

func hundredths(v float64) float64 { return math.Round(100*v) / 100 }

// The figures of a sample: times in microseconds.
func serial(s sample) float64    { return float64(s.serial) / 1e3 }
func parallel(s sample) float64  { return float64(s.parallel) / 1e3 }
func processor(s sample) float64 { return float64(s.processor) / 1e3 }
func bytesOf(s sample) float64   { return s.bytes }
func allocsOf(s sample) float64  { return s.allocs }

// ratios are those of a figure of two peers in the same pass, for each pass.
func (r report) ratios(operation, own, against string, figure func(sample) float64) []float64 {
	a, b := r.samples[operation][own], r.samples[operation][against]
	ratios := make([]float64, min(len(a), len(b)))
	for i := range ratios {
		ratios[i] = figure(a[i]) / figure(b[i])
	}
	return ratios
}

func median(s []sample, figure func(sample) float64) float64 {
	return quantile(convert(s, figure), 0.5)
}

// quantile interpolates between the two nearest values.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

func spread(ratios []float64) string {
	return fmt.Sprintf("%.2f (%.2f–%.2f)", quantile(ratios, 0.5), quantile(ratios, 0.25), quantile(ratios, 0.75))
}

// table makes a Markdown table, which reads as one on a terminal too. The first two columns are text.
func table(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if i < 2 {
				cell += pad
			} else {
				cell = pad + cell
			}
			fmt.Fprintf(&b, "| %s ", cell)
		}
		b.WriteString("|\n")
		if n == 0 {
			for i, w := range widths {
				fmt.Fprintf(&b, "|%s%s", strings.Repeat("-", w+1), []string{"-", ":"}[min(i/2, 1)])
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}

// versions are those of the modules that are compared.
func versions() []string {
	compared := []string{"github.com/jackc/pgx/v5", "github.com/Masterminds/squirrel", "gorm.io/gorm", "gorm.io/driver/postgres",
		"entgo.io/ent", "github.com/uptrace/bun", "github.com/jmoiron/sqlx", "github.com/lib/pq"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	var list []string
	for _, m := range info.Deps {
		if slices.Contains(compared, m.Path) {
			list = append(list, m.Path+" "+m.Version)
		}
	}
	return append(list, "code generated by sqlc "+sqlc.Version)
}

// machine says on what all of this ran.
func machine() string {
	return fmt.Sprintf("%s, %d cores, %s", cmp.Or(setting("/proc/cpuinfo", "model name", ":"), runtime.GOARCH), runtime.NumCPU(),
		cmp.Or(setting("/etc/os-release", "PRETTY_NAME", "="), runtime.GOOS))
}

// setting is the value of a name in a file of lines, or "".
func setting(file, name, separator string) string {
	text, err := os.ReadFile(file) //nolint:gosec // one of two
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, separator); ok && strings.TrimSpace(key) == name {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}
