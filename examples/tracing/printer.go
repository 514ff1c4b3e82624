package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
)

// printer prints the spans of a trace when the outermost ends, each under the one that it is part of, without
// times and identifiers, which differ from run to run. A service has an exporter of OpenTelemetry instead.
type printer struct {
	out   io.Writer
	spans []trace.ReadOnlySpan // of the trace that has not ended
	all   []trace.ReadOnlySpan
}

// shown are the attributes that are printed, and their names there.
var shown = []struct {
	key   attribute.Key
	label string
}{
	{"db.operation.batch.size", "statements"},
	{"pgx.prepare_stmt.name", "prepare"},
	{"pgx.rows_affected", "rows"},
	{"pgx.query.parameters", "parameters"},
	{"pgx.sql_state", "SQLSTATE"},
}

// ExportSpans implements [trace.SpanExporter].
func (p *printer) ExportSpans(_ context.Context, ended []trace.ReadOnlySpan) error {
	for _, span := range ended {
		p.spans, p.all = append(p.spans, span), append(p.all, span)
		if !span.Parent().IsValid() {
			p.print(span, "  ")
			p.spans = nil
		}
	}
	return nil
}

// Shutdown implements [trace.SpanExporter].
func (p *printer) Shutdown(context.Context) error { return nil }

// print prints a span, and those within it in the order in which they ended.
func (p *printer) print(span trace.ReadOnlySpan, indent string) {
	line := fmt.Sprintf("%-34s", indent+span.Name())
	values := attribute.NewSet(span.Attributes()...)
	for _, a := range shown {
		if v, ok := values.Value(a.key); ok {
			line += " " + a.label
			if a.label != "prepare" { // whose name is a number that pgx gave it
				line += " " + v.String()
			}
		}
	}
	if span.Status().Code == codes.Error {
		line += " failed"
	}
	_, _ = fmt.Fprintln(p.out, strings.TrimRight(line, " "))
	for _, s := range p.spans {
		if s.Parent().SpanID() == span.SpanContext().SpanID() {
			p.print(s, indent+"  ")
		}
	}
}

// contain tells whether any span so far has a text anywhere.
func (p *printer) contain(text string) bool {
	for _, span := range p.all {
		if strings.Contains(fmt.Sprint(span.Name(), span.Attributes(), span.Events(), span.Status()), text) {
			return true
		}
	}
	return false
}
