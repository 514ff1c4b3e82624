package main

import (
	"fmt"
	"runtime"
	"strings"
)

// report is what is measured, by name and number of people.
type report struct {
	server string
	sizes  []int
	names  []string // in order
	values map[string]map[int]string
	plans  []string
}

func newReport(server string, sizes []int) *report {
	return &report{server: server, sizes: sizes, values: map[string]map[int]string{}}
}

func (r *report) add(name string, people int, value string) {
	if r.values[name] == nil {
		r.names = append(r.names, name)
		r.values[name] = map[int]string{}
	}
	r.values[name][people] = value
}

func (r *report) plan(name, text string) {
	r.plans = append(r.plans, fmt.Sprintf("### %s\n\n```text\n%s\n```\n", strings.ToUpper(name[:1])+name[1:], text))
}

// String writes it as Markdown.
func (r *report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Growth\n\n`make bench-scale` wrote this, on %s, %s, %d CPUs. People live in %d time zones, as many in each, and have\n"+
		"%d slots each in a fortnight, one a day, for one to four hours that begin between 6 and 18 o'clock there; those who ask have slots of three hours.\n"+
		"`work_mem` is 4 MB, and `jit` is off. Milliseconds are the median of a whole call, with all its round trips.\n\n",
		r.server, runtime.Version(), runtime.NumCPU(), len(zones), slotsEach)
	b.WriteString("| people |")
	for _, n := range r.sizes {
		fmt.Fprintf(&b, " %d |", n)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(r.sizes)) + "\n")
	for _, name := range r.names {
		fmt.Fprintf(&b, "| %s |", name)
		for _, n := range r.sizes {
			fmt.Fprintf(&b, " %s |", r.values[name][n])
		}
		b.WriteByte('\n')
	}
	if len(r.plans) > 0 {
		fmt.Fprintf(&b, "\n## Plans, with %d people and an asker with 5 slots\n\n%s", r.sizes[len(r.sizes)-1], strings.Join(r.plans, "\n"))
	}
	return b.String()
}
