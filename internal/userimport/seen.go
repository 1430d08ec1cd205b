package userimport

import "hash/maphash"

// seen remembers values of earlier records as hashes of 64 bits: among four million records, one in a million
// million is wrongly taken for a duplicate.
type seen struct {
	seed  maphash.Seed
	limit int
	count int
	// slots is an open hash table, at most half full. A Go map takes three times as much.
	slots []uint64
}

func newSeen(limit int) *seen {
	return &seen{seed: maphash.MakeSeed(), limit: limit, slots: make([]uint64, 1<<10)}
}

func (s *seen) has(text string) bool { return s.slots[s.slot(s.hash(text))] != 0 }

// add forgets nothing, and remembers no more than limit.
func (s *seen) add(text string) {
	if s.count >= s.limit {
		return
	}
	if s.count >= len(s.slots)/2 {
		former := s.slots
		s.slots = make([]uint64, 2*len(former))
		for _, h := range former {
			if h != 0 {
				s.slots[s.slot(h)] = h
			}
		}
	}
	h := s.hash(text)
	if i := s.slot(h); s.slots[i] == 0 {
		s.slots[i] = h
		s.count++
	}
}

// slot is where h is, or would be.
func (s *seen) slot(h uint64) uint64 {
	mask := uint64(len(s.slots) - 1) //nolint:gosec // G115: there is always a slot
	i := h & mask
	for s.slots[i] != 0 && s.slots[i] != h {
		i = (i + 1) & mask
	}
	return i
}

// hash is never 0, which is an empty slot.
func (s *seen) hash(text string) uint64 { return maphash.String(s.seed, text) | 1<<63 }
