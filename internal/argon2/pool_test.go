package argon2

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// TestPoolKeeps: the memory of a hash is mapped once, that of a larger one is given back, and no more is kept than the
// pool was made for.
func TestPoolKeeps(t *testing.T) {
	t.Parallel()
	pool := newPool(kernelGo(), 1, Params{ID, 1, 1024, 1})
	defer pool.Close()
	in := Input{Password: []byte("password"), Salt: []byte("somesalt")}
	hash := func(memoryKiB uint32) {
		t.Helper()
		key := make([]byte, 32)
		p := Params{ID, 1, memoryKiB, 1}
		if err := pool.Derive(t.Context(), key, p, &in); err != nil || !bytes.Equal(key, oracle(p, in, 32)) {
			t.Fatalf("%d KiB: another key than x/crypto's (%v)", memoryKiB, err)
		}
	}
	hash(1024)
	first := &pool.idle[0].blocks[0]
	hash(1024)
	hash(64)
	if len(pool.idle) != 1 || &pool.idle[0].blocks[0] != first {
		t.Error("the memory of the first hash was not used again")
	}
	hash(4096)
	if len(pool.idle) != 1 || pool.idle[0].blocks != nil {
		t.Error("the memory of a larger hash is kept")
	}
	hash(1024)
	if n := len(pool.idle[0].blocks); n != 1024 {
		t.Errorf("%d blocks are kept, not 1024", n)
	}

	// Two at once, where one place is.
	a, b := pool.take(), pool.take()
	pool.put(a)
	pool.put(b)
	if len(pool.idle) != 1 {
		t.Errorf("%d hashes are kept, not 1", len(pool.idle))
	}
	if pool.Close(); pool.idle[0].blocks != nil {
		t.Error("a closed pool has memory")
	}
	hash(1024)
}

// TestPoolAtOnce: many hashes at once, some of which are stopped, are each right (and without a race).
func TestPoolAtOnce(t *testing.T) {
	t.Parallel()
	pool := NewPool(3, Params{ID, 1, 256, 1})
	defer pool.Close()
	var group sync.WaitGroup
	var stopped atomic.Int64
	for i := range 40 {
		group.Go(func() {
			p, in, n := (&dice{seed: uint64(i)}).throw()
			ctx, cancel := context.WithCancel(t.Context())
			if i%4 == 0 {
				cancel()
			}
			defer cancel()
			key := make([]byte, n)
			switch err := pool.Derive(ctx, key, p, &in); {
			case errors.Is(err, context.Canceled):
				stopped.Add(1)
			case err != nil:
				t.Error(err)
			case !bytes.Equal(key, oracle(p, in, n)):
				t.Errorf("case %d of %+v is not what others compute", i, p)
			}
		})
	}
	group.Wait()
	if n := stopped.Load(); n != 10 {
		t.Errorf("%d hashes were stopped, not 10", n)
	}
}
