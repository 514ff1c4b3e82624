package main

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// progress says how far long work is.
type progress struct {
	state atomic.Pointer[func() string]
}

// tell has how say from now on how far the work is. It is called at any time, in another goroutine.
func (p *progress) tell(how func() string) { p.state.Store(&how) }

// report writes a line to w every so often, until the function is called that it returns.
func (p *progress) report(w io.Writer, name string, every time.Duration) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		start := time.Now()
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-quit:
				return
			case <-ticker.C:
			}
			how := "still at work"
			if state := p.state.Load(); state != nil {
				how = (*state)()
			}
			_, _ = fmt.Fprintf(w, "%s: %s after %v\n", name, how, time.Since(start).Round(time.Second))
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}
