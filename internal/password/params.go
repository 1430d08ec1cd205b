package password

import "fmt"

// Bounds of the Argon2id parameters, for new hashes and for stored ones: an imported hash must not be able to take all
// memory and time of the machine.
const (
	// MaxMemoryKiB is 256 MiB per slot, libsodium's "moderate" setting.
	MaxMemoryKiB = 256 * 1024
	// MaxTime is the most passes over the memory.
	MaxTime = 32
	// MaxThreads is the most lanes of new hashes; each is a goroutine while a hash runs.
	MaxThreads = 64
	// MaxCost bounds memory times passes, in KiB: at about 0.6 µs each, 0.6 s of one core without AVX2, and a third with
	// it. It leaves room for 256 MiB with four passes.
	MaxCost = 1 << 20

	// minMemoryPerThread is from RFC 9106, section 3.1: memory is at least 8*p KiB.
	minMemoryPerThread = 8
)

// Params are the cost parameters of Argon2id (RFC 9106, section 3.1).
type Params struct {
	MemoryKiB uint32 // memory in KiB, 8*Threads to MaxMemoryKiB
	Time      uint32 // passes over the memory, 1 to MaxTime
	Threads   uint8  // lanes, 1 to MaxThreads
}

// Validate reports the first parameter that is out of its bounds.
func (p Params) Validate() error {
	if p.Threads > MaxThreads {
		return fmt.Errorf("argon2id threads must be 1 to %d, not %d", MaxThreads, p.Threads)
	}
	return p.validateStored()
}

// validateStored is Validate for a hash that exists: some programs use as many lanes as the machine has processors, up
// to the 255 that Threads can hold.
func (p Params) validateStored() error {
	switch {
	case p.Threads < 1:
		return fmt.Errorf("argon2id threads must be at least 1, not %d", p.Threads)
	case p.Time < 1 || p.Time > MaxTime:
		return fmt.Errorf("argon2id time must be 1 to %d passes, not %d", MaxTime, p.Time)
	case p.MemoryKiB < minMemoryPerThread*uint32(p.Threads) || p.MemoryKiB > MaxMemoryKiB:
		return fmt.Errorf("argon2id memory must be %d to %d KiB with %d threads, not %d",
			minMemoryPerThread*uint32(p.Threads), MaxMemoryKiB, p.Threads, p.MemoryKiB)
	case p.cost() > MaxCost:
		return fmt.Errorf("argon2id memory times passes must be at most %d KiB, not %d", MaxCost, p.cost())
	}
	return nil
}

// cost is the work of one hash in KiB times passes. Hashing time is proportional to it.
func (p Params) cost() uint64 {
	return uint64(p.MemoryKiB) * uint64(p.Time)
}
