package argon2

import (
	"context"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
)

// arena is memory for one hash at a time, and what computes it.
type arena struct {
	kernel kernel // the zero kernel means x/crypto
	blocks []block
	mapped []byte // what blocks are part of, if they are not of Go's heap

	hasher hasher
	start  [72]byte         // H0, a column and a lane: what the first blocks of a lane are made of
	bytes  [blockBytes]byte // a block as text

	// The hash that is computed now.
	params      Params
	length      uint32 // blocks of a lane
	pass, slice uint32
	done        <-chan struct{}
	stopped     atomic.Bool
	next        atomic.Uint32 // the next lane that no worker has taken
	active      int           // workers
	workers     []*worker
	helpers     sync.WaitGroup
}

func newArena(k kernel) *arena { return &arena{kernel: k} }

// close gives the memory back. The arena can still be used and then maps new memory.
func (a *arena) close() {
	unmap(a.mapped)
	a.blocks, a.mapped = nil, nil
}

// derive writes the key to dst. If ctx ends before, it stops within a millisecond (x/crypto does not stop) and returns
// ctx.Err(); dst is then unchanged. It returns ErrParams before anything is computed. It allocates when the memory
// grows, when there are more lanes than before, and in x/crypto.
func (a *arena) derive(ctx context.Context, dst []byte, p Params, in *Input) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	finished, err := a.compute(ctx.Done(), dst, p, in)
	if err == nil && !finished {
		return ctx.Err()
	}
	return err
}

// compute is derive until done is closed. Then finished is false.
func (a *arena) compute(done <-chan struct{}, dst []byte, p Params, in *Input) (finished bool, err error) {
	if p.Passes < 1 || p.Lanes < 1 || len(dst) < 1 {
		return false, ErrParams
	}
	for _, text := range [...][]byte{dst, in.Password, in.Salt, in.Secret, in.Data} {
		if uint64(len(text)) > math.MaxUint32 {
			panic("argon2: a text is longer than 4 GiB")
		}
	}
	if a.kernel.name == "" && deriveX(dst, p, in) {
		return true, nil
	}
	k := a.kernel
	if k.name == "" {
		k = kernelGo()
	}
	return a.computeOwn(done, dst, p, in, k), nil
}

func (a *arena) computeOwn(done <-chan struct{}, dst []byte, p Params, in *Input, k kernel) (finished bool) {
	total := int(p.blocks())
	if len(a.blocks) < total {
		a.close()
		a.blocks, a.mapped = mapBlocks(total)
	}
	was := a.kernel
	a.kernel, a.params, a.length = k, p, p.blocks()/uint32(p.Lanes)
	a.done = done
	a.stopped.Store(false)
	a.active = min(int(p.Lanes), runtime.GOMAXPROCS(0))
	for len(a.workers) < a.active {
		w := &worker{arena: a}
		w.run = w.help
		a.workers = append(a.workers, w)
	}
	for _, w := range a.workers[:a.active] {
		w.left = k.piece
	}
	a.hasher.start(a.start[:64], p, in, uint32(len(dst))) //nolint:gosec // G115: derive has checked it
	finished = a.fill(dst, p)
	a.wipe(p, finished)
	a.kernel, a.done = was, nil
	return finished
}

// wipe clears the first slice, unless a second pass has overwritten it: its blocks test a guess at the password for
// little work, the first ones for next to none. All others cost a quarter of a pass at least, and those of a second
// pass a whole one, so they are not worth the time that it takes to clear them.
func (a *arena) wipe(p Params, finished bool) {
	if p.Passes > 1 && finished {
		return
	}
	for lane := range uint32(p.Lanes) {
		clear(a.blocks[lane*a.length:][:a.length/slices])
	}
}

// pause lets others run, and returns false if the hash is to stop. Go's scheduler interrupts a goroutine only after 10
// ms; calls that take microseconds would wait behind each hash.
func (w *worker) pause() bool {
	w.left = w.arena.kernel.piece - 1
	select {
	case <-w.arena.done:
		w.arena.stopped.Store(true)
		return false
	default:
	}
	runtime.Gosched()
	return !w.arena.stopped.Load()
}
