package argon2

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of the pages that Linux gives a mapping that asks for them, where it can: with small ones each
// of the random reads of Argon2 would miss the processor's table of pages.
const hugePage = 2 << 20

// mapBlocks maps n blocks outside of Go's heap, so that the garbage collector neither counts nor zeroes them. They are
// left out of core dumps: the first blocks of a hash are a quick test for guesses at its password. mapped goes to
// unmap.
func mapBlocks(n int) (blocks []block, mapped []byte) {
	size := n * blockBytes
	if size >= hugePage {
		// The mapping begins where the kernel likes: one more page leaves room to begin at a huge one. What is never
		// touched takes no memory.
		size = (size+hugePage-1)/hugePage*hugePage + hugePage
	}
	mapped, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return make([]block, n), nil // if there is no memory, Go says so
	}
	// Kernels without huge pages, or without core dumps, refuse these, and the hash is the same.
	_ = unix.Madvise(mapped, unix.MADV_DONTDUMP)
	at := mapped
	if size >= hugePage {
		_ = unix.Madvise(mapped, unix.MADV_HUGEPAGE)
		over := uintptr(unsafe.Pointer(&mapped[0])) % hugePage //nolint:gosec // G103: an address, for its alignment
		if over > 0 {
			at = mapped[hugePage-over:]
		}
	}
	// A page is aligned for uint64, and at has n blocks at least.
	return unsafe.Slice((*block)(unsafe.Pointer(&at[0])), n), mapped //nolint:gosec // G103: see above
}

// unmap gives the memory back to the kernel, which clears it before anyone else gets it.
func unmap(mapped []byte) {
	if mapped != nil {
		_ = unix.Munmap(mapped)
	}
}
