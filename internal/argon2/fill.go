package argon2

import (
	"encoding/binary"
	"math"
)

// worker computes segments. Each goroutine of a hash has its own.
type worker struct {
	arena *arena
	left  int // blocks until the next pause
	// addresses are the 128 choices of references that one block holds where they do not depend on the password; input
	// is what they are made of (RFC 9106, section 3.4.1.2).
	addresses, input, zero block
	run                    func() // help, made once: a go statement with arguments would allocate
}

// fill computes the memory of RFC 9106, section 3.2, steps 3 to 6, and writes the key to dst. It returns false if it
// was stopped.
func (a *arena) fill(dst []byte, p Params) bool {
	for lane := range uint32(p.Lanes) {
		for column := range uint32(2) {
			binary.LittleEndian.PutUint32(a.start[64:], column)
			binary.LittleEndian.PutUint32(a.start[68:], lane)
			a.hasher.long(a.bytes[:], a.start[:])
			b := &a.blocks[lane*a.length+column]
			for w := range b {
				b[place(w)] = binary.LittleEndian.Uint64(a.bytes[8*w:])
			}
		}
	}
	clear(a.start[:]) // a guess could be tested against it without any of the work
	for a.pass = range p.Passes {
		for a.slice = range uint32(slices) {
			if !a.fillSlice() {
				return false
			}
		}
	}
	var last block
	for lane := range uint32(p.Lanes) {
		for i, word := range a.blocks[lane*a.length+a.length-1] {
			last[i] ^= word
		}
	}
	for w := range last {
		binary.LittleEndian.PutUint64(a.bytes[8*w:], last[place(w)])
	}
	a.hasher.long(dst, a.bytes[:])
	clear(a.bytes[:])
	return true
}

// fillSlice computes one slice of all lanes. It returns false if it was stopped.
func (a *arena) fillSlice() bool {
	a.next.Store(0)
	for _, helper := range a.workers[1:a.active] {
		a.helpers.Add(1)
		go helper.run()
	}
	a.workers[0].fillLanes()
	a.helpers.Wait()
	return !a.stopped.Load()
}

func (w *worker) help() {
	defer w.arena.helpers.Done()
	w.fillLanes()
}

// fillLanes computes the segments of lanes that no other worker has taken.
func (w *worker) fillLanes() {
	for {
		lane := w.arena.next.Add(1) - 1
		if lane >= uint32(w.arena.params.Lanes) || !w.fillSegment(lane) {
			return
		}
	}
}

// fillSegment computes the blocks of one lane in one slice (RFC 9106, section 3.4). It returns false if it was stopped.
func (w *worker) fillSegment(lane uint32) bool {
	a := w.arena
	p, pass, slice, length := a.params, a.pass, a.slice, a.length
	segment := length / slices
	mix := a.kernel.again
	if pass == 0 {
		mix = a.kernel.first
	}
	independent := p.Variant == I || p.Variant == ID && pass == 0 && slice < slices/2
	if independent {
		w.begin(lane)
	}
	own := a.blocks[lane*length:][:length]
	first := uint32(0)
	if pass == 0 && slice == 0 {
		first = 2 // fill has made them
		if independent {
			w.nextAddresses()
		}
	}
	// The finished blocks that can be read begin with start: all of the first pass, or the three slices before this.
	finished, start := slice*segment, uint32(0)
	if pass > 0 {
		finished, start = length-segment, (slice+1)%slices*segment
	}
	for i := first; i < segment; i++ {
		if w.left--; w.left < 0 && !w.pause() {
			return false
		}
		column := slice*segment + i
		prev := &own[(column+length-1)%length]
		choice := prev[0]
		if independent {
			if i%blockWords == 0 {
				w.nextAddresses()
			}
			choice = w.addresses[place(int(i%blockWords))]
		}
		from, window := own, finished+i-1
		if other := uint32(choice>>32) % uint32(p.Lanes); other != lane && (pass > 0 || slice > 0) {
			from, window = a.blocks[other*length:][:length], finished
			if i == 0 {
				window--
			}
		}
		ref := &from[reference(choice, window, start, length)]
		switch {
		case independent && (i+1)%blockWords != 0 && p.Lanes == 1:
			soon := reference(w.addresses[place(int((i+1)%blockWords))], finished+i, start, length)
			mix(&own[column], prev, ref, &own[0], 1, soon, length)
		case !independent && p.Lanes == 1:
			mix(&own[column], prev, ref, &own[0], finished+i, start, length)
		default:
			mix(&own[column], prev, ref, nil, 0, 0, 0)
		}
	}
	return true
}

// reference maps the lower half of a choice to one of the window blocks that begin with start, where a lane of length
// blocks begins again at its end (RFC 9106, section 3.4.2).
func reference(choice uint64, window, start, length uint32) uint32 {
	choice &= math.MaxUint32
	x := choice * choice >> 32
	y := uint64(window) * x >> 32
	at := uint64(start) + uint64(window) - 1 - y
	if at >= uint64(length) {
		at -= uint64(length)
	}
	return uint32(at) //nolint:gosec // G115: less than length
}

// begin prepares the choices of references for a segment.
func (w *worker) begin(lane uint32) {
	a := w.arena
	w.input = block{}
	p := a.params
	total := a.length * uint32(p.Lanes)
	for i, n := range [...]uint32{a.pass, lane, a.slice, total, p.Passes, uint32(p.Variant)} {
		w.input[place(i)] = uint64(n)
	}
}

// nextAddresses makes the next 128 choices.
func (w *worker) nextAddresses() {
	w.input[place(6)]++
	mix := w.arena.kernel.first
	mix(&w.addresses, &w.zero, &w.input, nil, 0, 0, 0)
	mix(&w.addresses, &w.zero, &w.addresses, nil, 0, 0, 0)
}
