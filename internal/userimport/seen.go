package userimport

import "hash/maphash"

// seen remembers values of earlier records as hashes of 64 bits. Among four million records, the chance of a record to
// be wrongly taken for a duplicate is below one in a million million.
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

// add remembers text, unless limit texts are remembered. It never drops one.
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

// slot returns the index where h is, or where it would be.
func (s *seen) slot(h uint64) uint64 {
	mask := uint64(len(s.slots) - 1) //nolint:gosec // G115: there is always a slot
	i := h & mask
	for s.slots[i] != 0 && s.slots[i] != h {
		i = (i + 1) & mask
	}
	return i
}

// hash never returns 0, which marks an empty slot.
func (s *seen) hash(text string) uint64 { return maphash.String(s.seed, text) | 1<<63 }
