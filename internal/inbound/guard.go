// Package inbound limits what peers can occupy of a gRPC server before their calls begin: connections
// (Limiter), and calls whose message has not arrived (Guard). gRPC itself reads a whole message before any
// interceptor runs, has one size limit for all methods, and has no time limit for a message to arrive.
package inbound

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

const (
	// sweepEvery is how long after its limit a call is cut off, at most.
	sweepEvery = 500 * time.Millisecond
	// grace is how old a half-sent call may get, however many there are, for the same reason.
	grace = 5 * time.Second
	// mostHalf is how many half-sent calls there may be of any age. Each holds a goroutine and a stream, 10
	// KiB. In a burst of 2,000 logins of a busy client all are half-sent at a time: it sends the headers of a
	// call when it begins, and the message when the call's turn comes.
	mostHalf = 2560
	// looked is how many connections (Guard) or addresses (Limiter) are compared to find one that holds many.
	looked = 32
	// heldCalls is how many half-sent calls may be older than grace, on all connections together. The
	// connections that have such calls share them.
	heldCalls = 256
	// heldBytes is the memory that incomplete messages may take. The connections that have such messages
	// share it.
	heldBytes = 4 << 20
	// heldBlocks is what all connections together may have of header blocks that are not whole, beyond the
	// first freeBlock of each.
	heldBlocks = 4 << 20
	// Bounds of a connection's share.
	leastCalls, mostCalls = 2, 32
	leastBytes, mostBytes = 2 << 10, 128 << 10
	// logEvery is how often the log tells of what was cut off.
	logEvery = time.Minute
)

// GuardConfig has what NewGuard needs. All fields are required.
type GuardConfig struct {
	// ArrivalTime is how long a message may take to arrive after the headers of its call, and a frame after
	// its first byte. 1 s or more.
	ArrivalTime time.Duration
	Logger      *slog.Logger
}

// Guard cuts off calls whose message does not arrive. It sits between the connection and gRPC, as the
// server's credentials, and follows the frames that gRPC reads.
type Guard struct {
	arrivalTime time.Duration
	log         *slog.Logger
	pool        mem.BufferPool

	now     atomic.Int64 // time since the first sweep, kept by the sweeps: cheaper than a clock
	waiting atomic.Int64 // connections that have half-sent calls
	half    atomic.Int64 // half-sent calls that were not refused
	blocks  atomic.Int64 // bytes of header blocks that are not whole, see conn.headers

	late, large, evicted, stalled atomic.Int64

	mu    sync.Mutex
	conns map[*conn]struct{}

	toldAt time.Duration // of Run alone
	told   int64
}

// NewGuard returns a guard that watches nothing yet.
func NewGuard(cfg GuardConfig) *Guard {
	g := &Guard{arrivalTime: cfg.ArrivalTime, log: cfg.Logger, conns: map[*conn]struct{}{}, toldAt: -logEvery}
	// 256 bytes to 16 KiB, HTTP/2's largest frame; gRPC's write buffers; its largest. In its own pool a frame
	// of 1,025 bytes takes 4 KiB.
	pool, err := mem.NewBinaryTieredBufferPool(8, 10, 11, 12, 13, 14, 15, 20)
	g.pool = pool
	if err != nil { // of exponents that are no such
		g.pool = mem.DefaultBufferPool()
	}
	g.now.Store(1) // 0 is "never"
	return g
}

// Stats are the calls that were cut off so far: Late ones whose message did not arrive in time, Large ones
// whose message is over its method's limit, Evicted ones to make room while many were half-sent. Stalled are
// connections that were closed because a frame, or a block of headers while there were too many of those, did
// not end.
type Stats struct{ Late, Large, Evicted, Stalled int64 }

// Stats returns the counts.
func (g *Guard) Stats() Stats {
	return Stats{Late: g.late.Load(), Large: g.large.Load(), Evicted: g.evicted.Load(), Stalled: g.stalled.Load()}
}

// Await limits how the message of a call arrives: at most limit bytes, within the given time (0: the guard's
// ArrivalTime). The tap handle calls it and uses the returned context in place of ctx: it ends with
// DeadlineExceeded if the client has not finished in time, and with Canceled if the client sends more. Most
// calls get ctx itself back: their message is already here.
func (g *Guard) Await(ctx context.Context, headers metadata.MD, limit int, within time.Duration) context.Context {
	c := connOf(ctx)
	if c == nil || c.guard != g || c.arrived() {
		return ctx
	}
	if within == 0 {
		within = g.arrivalTime
	}
	size := 0
	for name, values := range headers {
		for _, value := range values {
			size += len(name) + len(value)
		}
	}
	awaited := c.await(ctx, limit, size, within)
	if g.half.Load() > mostHalf {
		g.evict()
	}
	return awaited
}

// Began returns when the connection of a call was made, on the machine's clock. It returns false if the call
// did not come over a connection that a Guard follows.
func Began(ctx context.Context) (time.Time, bool) {
	c := connOf(ctx)
	if c == nil {
		return time.Time{}, false
	}
	return c.began, true
}

// Unnamed says whether a call came over a connection whose proxy sent a PROXY header that names no client.
// The peer is the proxy then, and the words are somebody else's.
func Unnamed(ctx context.Context) bool {
	c := connOf(ctx)
	return c != nil && c.unnamed
}

// connOf is the connection of a call, nil if it is not guarded.
func connOf(ctx context.Context) *conn {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, _ := p.AuthInfo.(authInfo)
	return info.conn
}

// ServerOptions are what a server needs to be guarded, beside Await in its tap handle.
func (g *Guard) ServerOptions(creds credentials.TransportCredentials) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(guarded{creds, g}),
		grpc.ReadBufferSize(0), // what gRPC reads ahead could not be told from what it has read
		experimental.BufferPool(g.pool),
	}
}

// Run cuts off what is late until ctx is over.
func (g *Guard) Run(ctx context.Context) {
	start := time.Now() //nolint:forbidigo // transports go by the machine's clock
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			now := time.Since(start) + 1
			g.now.Store(int64(now))
			g.sweep(now)
			g.tell(ctx, now)
		}
	}
}

func (g *Guard) sweep(now time.Duration) {
	g.mu.Lock()
	conns := make([]*conn, 0, len(g.conns))
	for c := range g.conns {
		if c.calls.Load() > 0 || c.partial.Load() != 0 {
			conns = append(conns, c)
		}
	}
	g.mu.Unlock()
	for _, c := range conns {
		if began := c.partial.Load(); began != 0 && now-time.Duration(began) > g.arrivalTime {
			g.stalled.Add(1)
			_ = c.Close() // gRPC finds it closed, and ends what is on it
			continue
		}
		c.sweep(now)
	}
}

// evict cuts off the oldest call of the connection with the most half-sent calls. It compares only some
// connections, in the map's random order.
func (g *Guard) evict() {
	var with *conn
	seen := 0
	g.mu.Lock()
	for c := range g.conns {
		if n := c.calls.Load(); n > 0 && (with == nil || n > with.calls.Load()) {
			with = c
		}
		if seen++; seen >= looked && with != nil {
			break
		}
	}
	g.mu.Unlock()
	if with != nil {
		with.evict()
	}
}

// tell writes a line when something was cut off, once in a while.
func (g *Guard) tell(ctx context.Context, now time.Duration) {
	stats := g.Stats()
	total := stats.Late + stats.Large + stats.Evicted + stats.Stalled
	if total == g.told || now-g.toldAt < logEvery {
		return
	}
	g.log.WarnContext(ctx, "calls were cut off before their message was here", "since_last_told", total-g.told,
		"late", stats.Late, "too_large", stats.Large, "evicted", stats.Evicted, "stalled_connections", stats.Stalled)
	g.told, g.toldAt = total, now
}

// share is a connection's part of what all may hold.
func (g *Guard) share(all, least, most int) int {
	return min(max(all/max(int(g.waiting.Load()), 1), least), most)
}

func (g *Guard) add(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns[c] = struct{}{}
}

func (g *Guard) remove(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
}
