//go:build !linux

package argon2

// mapBlocks takes the blocks from Go's heap.
func mapBlocks(n int) (blocks []block, mapped []byte) { return make([]block, n), nil }

func unmap([]byte) {}
