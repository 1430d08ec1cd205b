package app

import "golang.org/x/sys/unix"

// newSpare returns memory that the garbage collector counts, and that takes none. Where the start has used the addresses
// before, Go writes zeros to them, and they would stay resident. The kernel takes such pages back and returns zeros for
// them.
func newSpare() []byte {
	spare := make([]byte, spareHeap)
	_ = unix.Madvise(spare, unix.MADV_DONTNEED) // if it fails, the zeros stay in memory
	return spare
}
