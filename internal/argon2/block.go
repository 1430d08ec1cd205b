package argon2

import "math/bits"

const (
	blockWords = 128
	blockBytes = 8 * blockWords
)

// block is the unit of Argon2's memory, 1,024 bytes: 8 rows of 16 words (RFC 9106, section 3.5). The words lie in the
// order that place gives and not in that of the RFC. G works word by word, so the order changes no result, and it saves
// the AVX-512 kernels two rearrangements of the whole block.
type block = [blockWords]uint64

// place returns where word w of the RFC lies in a block. Two rows share 32 words: first words 0 to 3 of both, then 4 to
// 7 and so on. So a register of 64 bytes holds the same four words of two rows, which is one argument of GB for both.
// Word 0, which chooses the next reference, stays the first.
func place(w int) int {
	row, quarter, word := w>>4, w>>2&3, w&3
	return row>>1<<5 | quarter<<3 | row&1<<2 | word
}

// mixGo is G of RFC 9106, section 3.5, without assembly: out = G(prev, ref), and with again out ^= G(prev, ref). The
// last four arguments are hints for kernels that fetch memory early.
func mixGo(out, prev, ref *block, again bool) {
	var z block
	for i := range z {
		z[i] = prev[i] ^ ref[i]
	}
	for row := range 8 {
		at := row>>1<<5 | row&1<<2
		permute(
			&z[at], &z[at+1], &z[at+2], &z[at+3],
			&z[at+8], &z[at+9], &z[at+10], &z[at+11],
			&z[at+16], &z[at+17], &z[at+18], &z[at+19],
			&z[at+24], &z[at+25], &z[at+26], &z[at+27],
		)
	}
	for column := range 8 {
		at := column>>1<<3 | column&1<<1
		permute(
			&z[at], &z[at+1], &z[at+4], &z[at+5],
			&z[at+32], &z[at+33], &z[at+36], &z[at+37],
			&z[at+64], &z[at+65], &z[at+68], &z[at+69],
			&z[at+96], &z[at+97], &z[at+100], &z[at+101],
		)
	}
	for i := range z {
		word := z[i] ^ prev[i] ^ ref[i]
		if again {
			word ^= out[i]
		}
		out[i] = word
	}
}

// permute is the permutation P of RFC 9106, section 3.6.
func permute(v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15 *uint64) {
	gb(v0, v4, v8, v12)
	gb(v1, v5, v9, v13)
	gb(v2, v6, v10, v14)
	gb(v3, v7, v11, v15)
	gb(v0, v5, v10, v15)
	gb(v1, v6, v11, v12)
	gb(v2, v7, v8, v13)
	gb(v3, v4, v9, v14)
}

func gb(a, b, c, d *uint64) {
	*a = addMul(*a, *b)
	*d = bits.RotateLeft64(*d^*a, -32)
	*c = addMul(*c, *d)
	*b = bits.RotateLeft64(*b^*c, -24)
	*a = addMul(*a, *b)
	*d = bits.RotateLeft64(*d^*a, -16)
	*c = addMul(*c, *d)
	*b = bits.RotateLeft64(*b^*c, -63)
}

// addMul is x + y + 2 * (the low half of x) * (the low half of y), modulo 2^64.
func addMul(x, y uint64) uint64 {
	return x + y + 2*(x&0xffffffff)*(y&0xffffffff)
}
