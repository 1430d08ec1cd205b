package main

import (
	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// xor3 is the table of x ^ y ^ z for VPTERNLOGQ.
const xor3 = 0x96

// avx512 keeps the whole block in 16 of the 32 registers. Register 4*k+q has words 4*q to 4*q+3 of rows 2*k and 2*k+1.
func (g generator) avx512(name string, again bool) {
	a := g.begin(name, again, "AVX-512")
	var z [16]reg.VecVirtual
	g.Comment("The block R = prev ^ ref.")
	for i := range z {
		z[i] = g.ZMM()
		g.VMOVDQU64(operand.Mem{Base: a.prev, Disp: 64 * i}, z[i])
	}
	for i := range z {
		g.VPXORQ(operand.Mem{Base: a.ref, Disp: 64 * i}, z[i], z[i])
	}

	g.Comment("P on the rows: a square has two rows. Diagonals are columns after a rotation of words within a row.")
	var rows []square
	for k := range 4 {
		rows = append(rows, square{z[4*k], z[4*k+1], z[4*k+2], z[4*k+3]})
	}
	g.gb512(rows)
	g.rotate(rows, one, three)
	g.gb512(rows)
	g.rotate(rows, three, one)

	odd, even := g.ZMM(), g.ZMM()
	g.VMOVDQU64(g.odd, odd)
	g.VMOVDQU64(g.even, even)
	g.Comment("P on columns 0 to 3, the first of which has the word that chooses the next reference.")
	g.columns512(a, z, odd, even, again, 0)
	g.prefetch(a.out)
	g.Comment("P on the other columns.")
	g.columns512(a, z, odd, even, again, 1, 2, 3)
	g.VZEROUPPER()
	g.RET()
}

// columns512 makes P of the four columns of each quarter, and writes the result of the function for them.
func (g generator) columns512(a arguments, z [16]reg.VecVirtual, odd, even reg.Register, again bool, quarters ...int) {
	var squares []square
	for _, q := range quarters {
		squares = append(squares, square{z[q], z[4+q], z[8+q], z[12+q]})
	}
	move := func(b, d reg.Register) {
		for _, s := range squares {
			g.VPERMQ(s[1], b, s[1])
			g.VSHUFI64X2(operand.U8(0x4e), s[2], s[2], s[2])
			g.VPERMQ(s[3], d, s[3])
		}
	}
	g.gb512(squares)
	move(odd, even)
	g.gb512(squares)
	move(even, odd)
	for _, q := range quarters {
		for k := range 4 {
			i := 4*k + q
			r := g.ZMM()
			g.VMOVDQU64(operand.Mem{Base: a.prev, Disp: 64 * i}, r)
			g.VPTERNLOGQ(operand.U8(xor3), operand.Mem{Base: a.ref, Disp: 64 * i}, r, z[i])
			out := operand.Mem{Base: a.out, Disp: 64 * i}
			if again {
				g.VPXORQ(out, z[i], z[i])
			}
			g.VMOVDQU64(z[i], out)
		}
	}
}

func (g generator) gb512(squares []square) {
	for _, s := range steps() {
		g.sum(squares, s, g.ZMM)
		for _, q := range squares {
			g.VPXORQ(q[s.to], q[s.turned], q[s.turned])
		}
		for _, q := range squares {
			g.VPRORQ(operand.U8(s.bits), q[s.turned], q[s.turned])
		}
	}
}

// order512 is an argument of VPERMQ: word i of the result is word order[i].
func (g generator) order512(name string, order ...uint64) operand.Mem {
	table := g.StaticGlobal(name)
	g.DataAttributes(attr.RODATA | attr.NOPTR)
	for _, word := range order {
		g.AppendDatum(operand.U64(word))
	}
	return table
}
