package argon2

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"runtime"
	"testing"

	foreignargon2 "github.com/go-crypt/x/argon2"
	xargon2 "golang.org/x/crypto/argon2"
	"golang.org/x/sync/errgroup"
)

// dice throws numbers that are the same in each run, so that a case can be repeated by its number.
type dice struct{ seed, at uint64 }

func (d *dice) bytes(n int) []byte {
	var all []byte
	for len(all) < n {
		d.at++
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, d.seed), d.at))
		all = append(all, sum[:]...)
	}
	return all[:n]
}

// upTo returns a number from 0 to most.
func (d *dice) upTo(most uint32) uint32 {
	return uint32(uint64(binary.BigEndian.Uint32(d.bytes(4))) * (uint64(most) + 1) >> 32)
}

// throw returns parameters in all their corners: memory below the least, that no segment divides, lanes up to 255, keys
// of more than one digest.
func (d *dice) throw() (Params, Input, int) {
	p := Params{Variant: Variant(d.upTo(2)), Passes: 1 + d.upTo(3), MemoryKiB: d.upTo(400), Lanes: 1}
	switch d.upTo(9) {
	case 0:
		p.Lanes = 1 + uint8(d.upTo(254))
	case 1, 2, 3, 4:
		p.Lanes = 1 + uint8(d.upTo(7))
	}
	n := 1 + int(d.upTo(199))
	if d.upTo(9) == 0 {
		n = 1 + int(d.upTo(1499))
	}
	return p, Input{Password: d.bytes(int(d.upTo(200))), Salt: d.bytes(int(d.upTo(80)))}, n
}

// oracle computes the key with code that others wrote.
func oracle(p Params, in Input, n int) []byte {
	switch p.Variant {
	case ID:
		return xargon2.IDKey(in.Password, in.Salt, p.Passes, p.MemoryKiB, p.Lanes, uint32(n))
	case I:
		return xargon2.Key(in.Password, in.Salt, p.Passes, p.MemoryKiB, p.Lanes, uint32(n))
	default:
		return foreignargon2.DKey(in.Password, in.Salt, p.Passes, p.MemoryKiB, uint32(p.Lanes), uint32(n))
	}
}

// TestAsOthers compares all kernels with x/crypto (Argon2d: go-crypt) for random parameters. Each kernel uses one arena
// for all, so that the memory holds what hashes of other parameters have left.
func TestAsOthers(t *testing.T) {
	t.Parallel()
	workers := runtime.GOMAXPROCS(0)
	var group errgroup.Group
	for worker := range workers {
		group.Go(func() error {
			arenas := []*arena{newArena(kernel{})}
			for _, k := range everyKernel() {
				arenas = append(arenas, newArena(k))
			}
			for i := worker; i < randomCases && !t.Failed(); i += workers {
				p, in, n := (&dice{seed: uint64(i)}).throw()
				want, got := oracle(p, in, n), make([]byte, n)
				for _, a := range arenas {
					if err := a.derive(t.Context(), got, p, &in); err != nil {
						t.Error(err)
					}
					if !bytes.Equal(got, want) {
						t.Errorf("case %d: %s of %+v and %d bytes is not what others compute", i, a.kernel.name, p, n)
					}
				}
			}
			for _, a := range arenas {
				a.close()
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// TestKernelsAgree compares the kernels with one another where no oracle has a function: with secret and data.
func TestKernelsAgree(t *testing.T) {
	t.Parallel()
	for i := range 30 {
		d := &dice{seed: uint64(i), at: 1 << 32}
		p, in, n := d.throw()
		in.Secret, in.Data = d.bytes(int(d.upTo(150))), d.bytes(int(d.upTo(150)))
		want := compute(t, kernelGo(), p, in, n)
		for _, k := range append(kernels(), kernel{}) {
			if got := compute(t, k, p, in, n); !bytes.Equal(got, want) {
				t.Errorf("case %d: %q of %+v and %d bytes is not what Go computes", i, k.name, p, n)
			}
		}
		if len(in.Secret) == 0 {
			continue
		}
		in.Secret[0] ^= 1
		if bytes.Equal(compute(t, preferred(), p, in, n), want) && n >= 8 {
			t.Errorf("case %d: another secret gives the same key", i)
		}
	}
}

// TestIDKey: the functions with x/crypto's arguments return what x/crypto does.
func TestIDKey(t *testing.T) {
	t.Parallel()
	password, salt := []byte("password"), []byte("somesalt")
	got, want := IDKey(password, salt, 2, 1000, 3, 40), xargon2.IDKey(password, salt, 2, 1000, 3, 40)
	if !bytes.Equal(got, want) {
		t.Errorf("IDKey is %x, and x/crypto's %x", got, want)
	}
	got, want = Key(password, salt, 3, 100, 1, 16), xargon2.Key(password, salt, 3, 100, 1, 16)
	if !bytes.Equal(got, want) {
		t.Errorf("Key is %x, and x/crypto's %x", got, want)
	}
	for _, zero := range []func(){
		func() { IDKey(password, salt, 0, 1000, 1, 32) },
		func() { IDKey(password, salt, 1, 1000, 0, 32) },
		func() { Key(password, salt, 1, 1000, 1, 0) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a zero among the parameters did not panic")
				}
			}()
			zero()
		}()
	}
}

// FuzzKernels compares every kernel with x/crypto.
func FuzzKernels(f *testing.F) {
	f.Add([]byte("password"), []byte("somesalt"), uint8(2), uint16(64), uint8(1), uint8(32), true)
	f.Add([]byte(""), []byte(""), uint8(1), uint16(0), uint8(255), uint8(255), false)
	f.Add([]byte("p"), []byte("12345678"), uint8(3), uint16(1031), uint8(4), uint8(65), true)
	f.Fuzz(func(t *testing.T, password, salt []byte, passes uint8, memory uint16, lanes, n uint8, id bool) {
		p := Params{Variant: I, Passes: 1 + uint32(passes%4), MemoryKiB: uint32(memory % 2048), Lanes: max(lanes, 1)}
		if id {
			p.Variant = ID
		}
		in := Input{Password: password, Salt: salt}
		want := oracle(p, in, max(int(n), 1))
		for _, k := range everyKernel() {
			if got := compute(t, k, p, in, len(want)); !bytes.Equal(got, want) {
				t.Errorf("%s of %+v is %x, and x/crypto's %x", k.name, p, got, want)
			}
		}
	})
}
