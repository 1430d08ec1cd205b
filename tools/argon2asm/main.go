// Command argon2asm writes the assembly of internal/argon2: the function G of RFC 9106, section 3.5, for AVX2 and for
// AVX-512, each for the first pass (out = G) and for all others (out ^= G). Usage, from tools/:
//
//	go run ./argon2asm ../internal/argon2
//
// A block is 8 rows of 16 words. In memory two rows share 256 bytes: words 0 to 3 of both, words 4 to 7 of both, and so
// on (place in internal/argon2/block.go). G applies P to each row, then to each pair of columns; P applies GB to the
// columns of a square of 4 by 4 words, then to its diagonals. Here GB works on vectors, for many columns at once.
// Between columns and diagonals the words of three of the four vectors move, and afterwards back.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "argon2asm:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: argon2asm DIRECTORY, got %d arguments", len(args))
	}
	g := generator{Context: build.NewContext()}
	g.ConstraintExpr("gc,!purego")
	g.turn24 = g.order256("turn24", 3, 4, 5, 6, 7, 0, 1, 2)
	g.turn16 = g.order256("turn16", 2, 3, 4, 5, 6, 7, 0, 1)
	g.odd = g.order512("odd", 1, 4, 3, 6, 5, 0, 7, 2)
	g.even = g.order512("even", 5, 0, 7, 2, 1, 4, 3, 6)
	g.avx2("mixAVX2", false)
	g.avx2("mixAgainAVX2", true)
	g.avx512("mixAVX512", false)
	g.avx512("mixAgainAVX512", true)

	asm, err := os.Create(filepath.Join(args[0], "mix_amd64.s"))
	if err != nil {
		return err
	}
	stubs, err := os.Create(filepath.Join(args[0], "mix_amd64.go"))
	if err != nil {
		return err
	}
	config := printer.Config{Name: "tools/argon2asm", Pkg: "argon2"}
	status := build.Main(&build.Config{ErrOut: os.Stderr, Passes: []pass.Interface{
		pass.Compile,
		&pass.Output{Writer: asm, Printer: printer.NewGoAsm(config)},
		&pass.Output{Writer: stubs, Printer: printer.NewStubs(config)},
	}}, g.Context)
	if status != 0 {
		return errors.New("the assembly is faulty")
	}
	return nil
}

type generator struct {
	*build.Context
	// Tables for VPSHUFB and VPERMQ.
	turn24, turn16, odd, even operand.Mem
}

// arguments of the function that is written.
type arguments struct {
	out, prev, ref reg.Register
}

const signature = "func(out, prev, ref, lane *[128]uint64, window, start, length uint32)"

func (g generator) begin(name string, again bool, instructions string) arguments {
	g.Function(name)
	g.SignatureExpr(signature)
	g.Pragma("noescape")
	result := "out = G(prev, ref)"
	if again {
		result = "out ^= G(prev, ref)"
	}
	g.Doc(fmt.Sprintf("%s computes %s with %s. It is a mixer.", name, result, instructions))
	return arguments{
		out:  g.Load(g.Param("out"), g.GP64()),
		prev: g.Load(g.Param("prev"), g.GP64()),
		ref:  g.Load(g.Param("ref"), g.GP64()),
	}
}

// prefetch asks for the block that the next call reads: what reference in fill.go computes, from word 0 of out.
func (g generator) prefetch(out reg.Register) {
	g.Comment("Prefetch the next reference: with x = choice^2 >> 32 and y = window * x >> 32 it is",
		"start + window - 1 - y, modulo length.")
	window, start, length := g.GP64(), g.GP64(), g.GP64()
	g.Load(g.Param("window"), window.As32())
	g.TESTL(window.As32(), window.As32())
	g.JZ(operand.LabelRef("unknown"))
	at := g.GP64()
	g.MOVL(operand.Mem{Base: out}, at.As32())
	g.IMULQ(at, at)
	g.SHRQ(operand.U8(32), at)
	g.IMULQ(window, at)
	g.SHRQ(operand.U8(32), at)
	g.SUBQ(at, window)
	g.Load(g.Param("start"), start.As32())
	g.LEAQ(operand.Mem{Base: start, Index: window, Scale: 1, Disp: -1}, at)
	g.Load(g.Param("length"), length.As32())
	wrapped := g.GP64()
	g.MOVQ(at, wrapped)
	g.SUBQ(length, wrapped)
	g.CMOVQCC(wrapped, at)
	g.SHLQ(operand.U8(10), at)
	lane := g.Load(g.Param("lane"), g.GP64())
	g.ADDQ(lane, at)
	for line := range 16 {
		g.PREFETCHT0(operand.Mem{Base: at, Disp: 64 * line})
	}
	g.Label("unknown")
}

// square is the four vectors that GB takes, one row of the 4 by 4 words each.
type square [4]reg.VecVirtual

// Arguments of VPERMQ that rotate the words of a row by one, two and three.
const one, two, three = 0x39, 0x4e, 0x93

// rotate rotates the words of row 1 of each square by b, those of row 2 by two, and those of row 3 by d.
func (g generator) rotate(squares []square, b, d uint8) {
	for _, q := range squares {
		for i, order := range []uint8{b, two, d} {
			g.VPERMQ(operand.U8(order), q[i+1], q[i+1])
		}
	}
}

// step of GB: argument to becomes the sum of itself, argument with and twice the product of their lower halves; then
// argument turned is xored with it and rotated to the right.
type step struct {
	to, with, turned int
	bits             uint8
}

func steps() [4]step {
	return [4]step{{0, 1, 3, 32}, {2, 3, 1, 24}, {0, 1, 3, 16}, {2, 3, 1, 63}}
}

// sum writes the first part of a step for all squares, instruction by instruction: each waits for the one before, so
// that those of other squares fill the time.
func (g generator) sum(squares []square, s step, vector func() reg.VecVirtual) {
	products := make([]reg.VecVirtual, len(squares))
	for i, q := range squares {
		products[i] = vector()
		g.VPMULUDQ(q[s.with], q[s.to], products[i])
	}
	for _, q := range squares {
		g.VPADDQ(q[s.with], q[s.to], q[s.to])
	}
	for _, p := range products {
		g.VPADDQ(p, p, p)
	}
	for i, q := range squares {
		g.VPADDQ(products[i], q[s.to], q[s.to])
	}
}
