package argon2

import (
	"bytes"
	"context"
	"encoding"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// own are parameters like those of new hashes.
func own() Params { return Params{ID, 2, 19456, 1} }

// counted is a kernel that counts its calls and tells each of them.
func counted(k kernel, call func(n int64)) kernel {
	var n atomic.Int64
	first, again := k.first, k.again
	k.first = func(out, prev, ref, lane *block, window, start, length uint32) {
		call(n.Add(1))
		first(out, prev, ref, lane, window, start, length)
	}
	k.again = func(out, prev, ref, lane *block, window, start, length uint32) {
		call(n.Add(1))
		again(out, prev, ref, lane, window, start, length)
	}
	return k
}

// TestStops: a hash whose call is over mixes no more than one piece of blocks for each goroutine, leaves the
// destination alone, and its memory tests no guess.
func TestStops(t *testing.T) {
	t.Parallel()
	for _, k := range everyKernel() {
		for _, lanes := range []uint8{1, 4} {
			p := own()
			p.Lanes = lanes
			const over = 5000 // within the first pass
			ctx, cancel := context.WithCancel(t.Context())
			var calls int64
			a := newArena(counted(k, func(n int64) {
				atomic.StoreInt64(&calls, n)
				if n == over {
					cancel()
				}
			}))
			key := bytes.Repeat([]byte{7}, 32)
			err := a.derive(ctx, key, p, &Input{Password: []byte("password"), Salt: []byte("somesalt")})
			cancel()
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: the error is %v", k.name, err)
			}
			if most := over + int64(min(int(lanes), runtime.GOMAXPROCS(0))*k.piece); calls > most {
				t.Errorf("%s, %d lanes: %d blocks, where the call was over after %d", k.name, lanes, calls, over)
			}
			if !bytes.Equal(key, bytes.Repeat([]byte{7}, 32)) {
				t.Errorf("%s: a hash that was stopped wrote a key", k.name)
			}
			for lane := range uint32(lanes) {
				for _, b := range a.blocks[lane*a.length:][:a.length/slices] {
					if b != (block{}) {
						t.Fatalf("%s: a hash that was stopped left its first blocks", k.name)
					}
				}
			}
			// The next hash is not stopped.
			in := Input{Password: []byte("password"), Salt: []byte("somesalt")}
			a.kernel = k
			if err := a.derive(t.Context(), key, p, &in); err != nil || !bytes.Equal(key, oracle(p, in, 32)) {
				t.Errorf("%s: the hash after one that was stopped is wrong (%v)", k.name, err)
			}
			a.close()
		}
	}
}

// TestPieceIsShort: one piece takes less than the millisecond within which a hash stops. Other work on the machine
// makes some pieces long; the shortest of many is what the code takes.
func TestPieceIsShort(t *testing.T) {
	t.Parallel()
	for _, k := range kernels() { // Go's is long under the race detector
		blocks := make([]block, 3*k.piece)
		shortest := time.Hour
		for range 50 {
			started := time.Now()
			for i := range k.piece {
				k.again(&blocks[3*i], &blocks[3*i+1], &blocks[3*i+2], nil, 0, 0, 0)
			}
			shortest = min(shortest, time.Since(started))
		}
		if shortest > time.Millisecond {
			t.Errorf("%s: a piece takes %v", k.name, shortest)
		}
	}
}

// TestOverBefore: a call that is over computes nothing.
func TestOverBefore(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, k := range append(everyKernel(), kernel{}) {
		a := newArena(k)
		in := Input{}
		if err := a.derive(ctx, make([]byte, 32), own(), &in); !errors.Is(err, context.Canceled) || a.blocks != nil {
			t.Errorf("%q: the error is %v", k.name, err)
		}
	}
}

// TestWrongParams: parameters that Argon2 does not have are refused.
func TestWrongParams(t *testing.T) {
	t.Parallel()
	pool := NewPool(1, own())
	for _, p := range []Params{{ID, 0, 64, 1}, {ID, 1, 64, 0}, {}} {
		if err := pool.Derive(t.Context(), make([]byte, 32), p, &Input{}); !errors.Is(err, ErrParams) {
			t.Errorf("%+v: the error is %v", p, err)
		}
	}
	if err := pool.Derive(t.Context(), nil, own(), &Input{}); !errors.Is(err, ErrParams) {
		t.Errorf("an empty key: the error is %v", err)
	}
}

// TestForgets: after a hash, nothing near it holds the password, the secret, or what they were hashed to first.
func TestForgets(t *testing.T) {
	t.Parallel()
	for _, k := range everyKernel() {
		a := newArena(k)
		defer a.close()
		in := Input{
			Password: []byte("a password of 30 bytes, or so."), Salt: []byte("somesalt"),
			Secret: []byte("a secret that is longer than others"), Data: []byte("data"),
		}
		// A longer key goes through the digest that has seen the input, and hides what was left in it.
		key := make([]byte, 32)
		if err := a.derive(t.Context(), key, Params{ID, 1, 64, 2}, &in); err != nil {
			t.Fatal(err)
		}
		if a.start != [72]byte{} || a.bytes != [blockBytes]byte{} {
			t.Errorf("%s: H0 or the last block is left", k.name)
		}
		for lane := range uint32(2) {
			for _, b := range a.blocks[lane*a.length:][:a.length/slices] {
				if b != (block{}) {
					t.Errorf("%s: the first blocks of one pass are left", k.name)
				}
			}
		}
		for _, d := range a.hasher.digests {
			state, ok := d.(encoding.BinaryMarshaler)
			if !ok {
				continue // no digest of this size
			}
			text, err := state.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range [][]byte{in.Password[:8], in.Secret[:8], in.Secret[20:28]} {
				if bytes.Contains(text, part) {
					t.Errorf("%s: a digest still has a part of the input", k.name)
				}
			}
		}
	}
}

// TestNoAllocations is not parallel: it counts the allocations of the whole process.
func TestNoAllocations(t *testing.T) { //nolint:paralleltest // see above
	for _, k := range everyKernel() {
		pool := newPool(k, 1, Params{ID, 2, 1024, 4})
		defer pool.Close()
		key, long := make([]byte, 32), make([]byte, 100)
		in := Input{Password: []byte("password"), Salt: []byte("somesalt"), Secret: []byte("secret"), Data: []byte("data")}
		for name, hash := range map[string]func() error{
			"one lane":   func() error { return pool.Derive(t.Context(), key, Params{ID, 2, 1024, 1}, &in) },
			"four lanes": func() error { return pool.Derive(t.Context(), key, Params{ID, 2, 1024, 4}, &in) },
			"a long key": func() error { return pool.Derive(t.Context(), long, Params{I, 1, 64, 1}, &in) },
		} {
			allocations := testing.AllocsPerRun(20, func() {
				if err := hash(); err != nil {
					t.Error(err)
				}
			})
			if allocations > 0 {
				t.Errorf("%s, %s: %v allocations", k.name, name, allocations)
			}
		}
	}
}
