package main

import (
	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// avx2 computes a quarter of the block at a time in 8 of the 16 registers, and keeps the block between rows and columns
// on the stack.
func (g generator) avx2(name string, again bool) {
	a := g.begin(name, again, "AVX2")
	t := turns{bits24: g.YMM(), bits16: g.YMM()}
	g.VMOVDQU(g.turn24, t.bits24)
	g.VMOVDQU(g.turn16, t.bits16)
	stack := g.AllocLocal(1024)
	for row := 0; row < 8; row += 2 {
		g.Commentf("Rows %d and %d of R = prev ^ ref, and P on them.", row, row+1)
		g.rows256(a, t, stack, row)
	}
	for q := range 4 {
		g.Commentf("P on columns %d and %d, each of two words.", 2*q, 2*q+1)
		g.columns256(a, t, stack, q, again)
		if q == 0 {
			g.prefetch(a.out)
		}
	}
	g.VZEROUPPER()
	g.RET()
}

// at256 is where block m has words 4*q to 4*q+3 of a row, as many as a register.
func at256(m operand.Mem, row, q int) operand.Mem { return m.Offset(256*(row/2) + 64*q + 32*(row%2)) }

// rows256 makes R of two rows and writes P of each to the stack.
func (g generator) rows256(a arguments, t turns, stack operand.Mem, row int) {
	prev, ref := operand.Mem{Base: a.prev}, operand.Mem{Base: a.ref}
	var squares []square
	for i := range 2 {
		var s square
		for q := range s {
			s[q] = g.YMM()
			g.VMOVDQU(at256(prev, row+i, q), s[q])
			g.VPXOR(at256(ref, row+i, q), s[q], s[q])
		}
		squares = append(squares, s)
	}
	g.gb256(squares, t)
	g.rotate(squares, one, three)
	g.gb256(squares, t)
	g.rotate(squares, three, one)
	for i, s := range squares {
		for q, v := range s {
			g.VMOVDQU(v, at256(stack, row+i, q))
		}
	}
}

// columns256 makes P of two columns, and writes the result of the function for them.
func (g generator) columns256(a arguments, t turns, stack operand.Mem, q int, again bool) {
	prev, ref, out := operand.Mem{Base: a.prev}, operand.Mem{Base: a.ref}, operand.Mem{Base: a.out}
	var r [8]reg.VecVirtual
	for row := range r {
		r[row] = g.YMM()
		g.VMOVDQU(at256(stack, row, q), r[row])
	}
	// Rows with even numbers have words 0 and 1 of each row of a square, the others words 2 and 3.
	g.gb256([]square{{r[0], r[2], r[4], r[6]}, {r[1], r[3], r[5], r[7]}}, t)
	// The next word in the square is the next in the register or the first of the other register.
	var b, d [2]reg.VecVirtual
	b[0] = g.next(r[2], r[3])
	b[1] = g.next(r[3], r[2])
	d[0] = g.next(r[7], r[6])
	d[1] = g.next(r[6], r[7])
	g.gb256([]square{{r[0], b[0], r[5], d[0]}, {r[1], b[1], r[4], d[1]}}, t)
	r[2], r[3] = g.next(b[1], b[0]), g.next(b[0], b[1])
	r[6], r[7] = g.next(d[0], d[1]), g.next(d[1], d[0])
	for row, v := range r {
		g.VPXOR(at256(prev, row, q), v, v)
		g.VPXOR(at256(ref, row, q), v, v)
		if again {
			g.VPXOR(at256(out, row, q), v, v)
		}
		g.VMOVDQU(v, at256(out, row, q))
	}
}

// turns are the rotations that VPSHUFB makes.
type turns struct{ bits24, bits16 reg.VecVirtual }

func (g generator) gb256(squares []square, t turns) {
	for _, s := range steps() {
		g.sum(squares, s, g.YMM)
		for _, q := range squares {
			g.VPXOR(q[s.to], q[s.turned], q[s.turned])
		}
		for _, q := range squares {
			v := q[s.turned]
			switch s.bits {
			case 32:
				g.VPSHUFD(operand.U8(0xb1), v, v)
			case 24:
				g.VPSHUFB(t.bits24, v, v)
			case 16:
				g.VPSHUFB(t.bits16, v, v)
			default: // 63 to the right is 1 to the left
				high := g.YMM()
				g.VPSRLQ(operand.U8(63), v, high)
				g.VPADDQ(v, v, v)
				g.VPXOR(high, v, v)
			}
		}
	}
}

// next returns the second word of each pair in v, and then the first of w.
func (g generator) next(v, w reg.VecVirtual) reg.VecVirtual {
	both := g.YMM()
	g.VPALIGNR(operand.U8(8), v, w, both)
	return both
}

// order256 is an argument of VPSHUFB that moves the bytes of each word: byte i of the result is byte order[i].
func (g generator) order256(name string, order ...uint64) operand.Mem {
	table := g.StaticGlobal(name)
	g.DataAttributes(attr.RODATA | attr.NOPTR)
	for word := range 4 {
		var bytes uint64
		for i, from := range order {
			bytes |= (from + uint64(word%2)*8) << (8 * i)
		}
		g.AppendDatum(operand.U64(bytes))
	}
	return table
}
