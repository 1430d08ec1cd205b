//go:build !linux

package app

// newSpare returns memory that the garbage collector counts.
func newSpare() []byte { return make([]byte, spareHeap) }
