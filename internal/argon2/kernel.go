package argon2

// mixer computes out = G(prev, ref) of RFC 9106, section 3.5, or out ^= G(prev, ref). The blocks may overlap only if
// they are the same.
//
// The others tell which block the next call reads, so that it can be fetched from memory while this one is still
// computed: one of the blocks of lane, a lane of length blocks, which the first word of out chooses among the window
// blocks that begin with block start. A window of 0 means that this is not known. They change no result.
type mixer func(out, prev, ref, lane *block, window, start, length uint32)

// kernel is one implementation of G.
type kernel struct {
	name  string
	first mixer // out = G(prev, ref), for the first pass
	again mixer // out ^= G(prev, ref), for all others
	// piece is how many blocks are mixed between two looks at the context: 0.2 to 0.5 ms.
	piece int
}

// kernelGo takes about as long as x/crypto without assembly. It serves processors without AVX2 where x/crypto has no
// function: with a secret, with associated data, and for Argon2d.
func kernelGo() kernel {
	return kernel{
		name:  "go",
		first: func(out, prev, ref, _ *block, _, _, _ uint32) { mixGo(out, prev, ref, false) },
		again: func(out, prev, ref, _ *block, _, _, _ uint32) { mixGo(out, prev, ref, true) },
		piece: 256,
	}
}
