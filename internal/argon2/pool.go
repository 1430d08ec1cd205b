package argon2

import (
	"context"
	"sync"
)

// Pool keeps the memory of some hashes, so that each is mapped once. It is safe for concurrent use.
//
// With as many calls at once as it was made for, it takes as much memory as each of them needs or, if that is more, as
// it keeps for each; and some kilobytes for each lane of a hash.
type Pool struct {
	kernel kernel
	keep   int // blocks

	mu     sync.Mutex
	idle   []*arena // the one used last is taken first: the processor may have parts of it in its caches
	places int      // how many more may be kept
}

// NewPool makes a pool for as many hashes at once, each with the memory of p. Nothing is mapped before the first hash.
func NewPool(hashes int, p Params) *Pool {
	return newPool(preferred(), hashes, p)
}

func newPool(k kernel, hashes int, p Params) *Pool {
	return &Pool{kernel: k, keep: int(p.blocks()), places: hashes, idle: make([]*arena, 0, hashes)}
}

// Derive writes the key of the input, len(dst) bytes, to dst. It allocates nothing if there was a hash with the memory
// of NewPool and as many lanes before.
//
// If ctx ends before the hash is computed, Derive stops within a millisecond (x/crypto: does not stop), returns
// ctx.Err() and leaves dst as it was. It lets other goroutines run each few hundred microseconds. It returns ErrParams
// before anything is computed. A hash that needs more memory than the pool keeps gives back what the pool keeps for one
// hash while it runs, and its own memory after.
func (p *Pool) Derive(ctx context.Context, dst []byte, params Params, in *Input) error {
	a := p.take()
	defer p.put(a)
	return a.derive(ctx, dst, params, in)
}

// Close gives the memory of all hashes that are not under way back to the kernel. The pool can still be used.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.idle {
		a.close()
	}
}

func (p *Pool) take() *arena {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		a := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return a
	}
	return newArena(p.kernel)
}

func (p *Pool) put(a *arena) {
	if len(a.blocks) > p.keep {
		a.close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) < p.places {
		p.idle = append(p.idle, a)
		return
	}
	a.close()
}
