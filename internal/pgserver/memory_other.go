//go:build !linux

package pgserver

// memoryDirectory returns "": no other system is known to have one by a name.
func memoryDirectory() string { return "" }
