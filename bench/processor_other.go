//go:build !linux

package main

import "time"

// processorTime is not known here.
func processorTime(int) time.Duration { return 0 }

// apart is not possible here.
func apart(int) (release func(), err error) { return func() {}, nil }
