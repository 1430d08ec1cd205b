package argon2

import (
	"encoding/binary"
	"hash"

	"golang.org/x/crypto/blake2b"
)

// hasher is BLAKE2b with what RFC 9106, sections 3.2 and 3.3 build on it. It allocates once for each length of a
// digest.
type hasher struct {
	digests [blake2b.Size + 1]hash.Hash // by length in bytes
	// buffer holds what is written next: hash.Hash would move local arrays to the heap.
	buffer [blake2b.Size]byte
}

func (h *hasher) digest(size int) hash.Hash {
	d := h.digests[size]
	if d == nil {
		var err error
		if d, err = blake2b.New(size, nil); err != nil {
			panic(err) // only for sizes beyond 1 to 64
		}
		h.digests[size] = d
	}
	d.Reset()
	return d
}

// start is H0 of RFC 9106, section 3.2, 64 bytes, written to dst.
func (h *hasher) start(dst []byte, p Params, in *Input, keyLen uint32) {
	d := h.digest(blake2b.Size)
	b := h.buffer[:0]
	for _, n := range [...]uint32{uint32(p.Lanes), keyLen, p.MemoryKiB, p.Passes, version, uint32(p.Variant)} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	_, _ = d.Write(b)
	for _, text := range [...][]byte{in.Password, in.Salt, in.Secret, in.Data} {
		h.length(d, len(text))
		_, _ = d.Write(text)
	}
	d.Sum(dst[:0])
	h.forget(d)
}

// length writes a length as RFC 9106 does, in 4 bytes.
func (h *hasher) length(d hash.Hash, n int) {
	_, _ = d.Write(binary.LittleEndian.AppendUint32(h.buffer[:0], uint32(n))) //nolint:gosec // G115: derive checks it
}

// forget overwrites the end of the last text, which a digest keeps until the next: a block of zeros takes its place.
func (h *hasher) forget(d hash.Hash) {
	d.Reset()
	clear(h.buffer[:])
	for range blake2b.BlockSize / len(h.buffer) {
		_, _ = d.Write(h.buffer[:])
	}
}

// long is H' of RFC 9106, section 3.3: a digest of text that fills dst.
func (h *hasher) long(dst, text []byte) {
	d := h.digest(min(len(dst), blake2b.Size))
	h.length(d, len(dst))
	_, _ = d.Write(text)
	if len(dst) <= blake2b.Size {
		d.Sum(dst[:0])
		h.forget(d)
		return
	}
	// V_1 to V_r of 64 bytes, of which the first halves are the result, and a last V of what is missing.
	v := d.Sum(h.buffer[:0])
	for len(dst) > blake2b.Size {
		dst = dst[copy(dst, v[:blake2b.Size/2]):]
		d = h.digest(min(len(dst), blake2b.Size))
		_, _ = d.Write(v)
		v = d.Sum(h.buffer[:0])
	}
	copy(dst, v)
	h.forget(d)
}
