// Package inbound limits the resources that peers can use on a gRPC server before their calls begin: connections
// (Limiter), and calls whose message has not arrived (Guard). gRPC reads a whole message before any interceptor runs.
// It has one size limit for all methods, and no time limit for the arrival of a message.
package inbound

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
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
	// sweepEvery is the longest time by which a call is cut off too late.
	sweepEvery = 500 * time.Millisecond
	// grace is the age that each half-sent call may reach, even if a connection has more of them than its share: in a
	// burst of calls, all are half-sent for a moment.
	grace = 5 * time.Second
	// mostHalf is how many half-sent calls of any age there may be. Each needs a goroutine and a stream, 10 KiB. In a
	// burst of 2,000 logins from one busy client, all are half-sent at the same time: the client sends the headers of
	// each call when it begins, and the messages one after the other.
	mostHalf = 2560
	// looked is how many connections (Guard) or addresses (Limiter) are compared to find one that has many.
	looked = 32
	// heldCalls is how many half-sent calls may be older than grace, on all connections together. The connections that
	// have such calls share them.
	heldCalls = 256
	// heldBytes is the memory that incomplete messages may need. The connections that have such messages share it.
	heldBytes = 4 << 20
	// heldBlocks is the memory for incomplete blocks of headers on all connections together. The first freeBlock of
	// each is not counted.
	heldBlocks = 4 << 20
	// Limits of a connection's share.
	leastCalls, mostCalls = 2, 32
	leastBytes, mostBytes = 2 << 10, 128 << 10
	// logEvery is the shortest time between two lines in the log.
	logEvery = time.Minute
)

// GuardConfig has what NewGuard needs. All fields are required.
type GuardConfig struct {
	// ArrivalTime is how long a message may take to arrive after the headers of its call, and a frame after its first
	// byte. 1 s or more.
	ArrivalTime time.Duration
	Logger      *slog.Logger
}

// Guard cuts off calls whose message does not arrive. It is between the connection and gRPC, as the server's
// credentials, and reads the headers of the frames that gRPC reads.
type Guard struct {
	arrivalTime time.Duration
	log         *slog.Logger
	pool        mem.BufferPool

	now     atomic.Int64 // time since the first sweep, kept by the sweeps: cheaper than a clock
	waiting atomic.Int64 // connections that have half-sent calls
	half    atomic.Int64 // half-sent calls that were not refused
	blocks  atomic.Int64 // bytes of incomplete blocks of headers, see conn.headers

	late, large, evicted, stalled atomic.Int64

	mu    sync.Mutex
	conns map[*conn]struct{}

	toldAt time.Duration // used by Run only
	told   int64
}

// NewGuard returns a guard that watches nothing yet.
func NewGuard(cfg GuardConfig) *Guard {
	g := &Guard{arrivalTime: cfg.ArrivalTime, log: cfg.Logger, conns: map[*conn]struct{}{}, toldAt: -logEvery}
	// Powers of two from 256 bytes to 16 KiB, the largest frame of HTTP/2; then gRPC's write buffers, and its largest
	// buffer. In gRPC's own pool, a frame of 1,025 bytes takes 4 KiB.
	pool, err := mem.NewBinaryTieredBufferPool(8, 10, 11, 12, 13, 14, 15, 20)
	g.pool = pool
	if err != nil { // the exponents above are valid
		g.pool = mem.DefaultBufferPool()
	}
	g.now.Store(1) // 0 is "never"
	return g
}

// Stats are numbers of calls that were cut off: Late because the message did not arrive in time, Large because it is
// over the limit of its method, Evicted because too many calls were half-sent. Stalled is the number of connections
// that were closed because a frame was incomplete for too long, or because there were too many incomplete blocks of
// headers.
type Stats struct{ Late, Large, Evicted, Stalled int64 }

// Stats returns the counts.
func (g *Guard) Stats() Stats {
	return Stats{Late: g.late.Load(), Large: g.large.Load(), Evicted: g.evicted.Load(), Stalled: g.stalled.Load()}
}

// Await limits the message of a call: at most limit bytes, which must arrive within the given time (0: ArrivalTime of
// the guard). The tap handle calls it, and uses the returned context instead of ctx. That context ends with
// DeadlineExceeded if the client does not finish in time, and with Canceled if it sends more. For most calls, Await
// returns ctx itself, since their message has already arrived.
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

// Began returns when the connection of a call was made, on the machine's clock. It returns false if the call did not
// come over a connection that a Guard follows.
func Began(ctx context.Context) (time.Time, bool) {
	c := connOf(ctx)
	if c == nil {
		return time.Time{}, false
	}
	return c.began, true
}

// Unnamed returns whether the call's connection began with a PROXY header that names no client. Then the peer's address
// is that of the proxy, and the headers of the call are those of an unknown client.
func Unnamed(ctx context.Context) bool {
	if c := connOf(ctx); c != nil {
		return c.unnamed
	}
	unnamed, _ := ctx.Value(unnamedKey{}).(bool)
	return unnamed
}

type unnamedKey struct{}

// ConnContext is for http.Server: it keeps in the context of a connection what Unnamed asks for.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if secured, ok := c.(*tls.Conn); ok {
		c = secured.NetConn()
	}
	if at, ok := c.(*counted); ok && at.unnamed {
		return context.WithValue(ctx, unnamedKey{}, true)
	}
	return ctx
}

// connOf returns the connection of a call, or nil if it has no guard.
func connOf(ctx context.Context) *conn {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, _ := p.AuthInfo.(authInfo)
	return info.conn
}

// ServerOptions returns the options that a server needs, besides Await in its tap handle.
func (g *Guard) ServerOptions(creds credentials.TransportCredentials) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(guarded{creds, g}),
		grpc.ReadBufferSize(0), // if gRPC read ahead, the guard would not know which frame it is at
		experimental.BufferPool(g.pool),
	}
}

// Run cuts off late calls until ctx ends.
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

// evict cuts off the oldest call of the connection that has the most half-sent calls. It compares only looked
// connections, in the random order of the map.
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

// tell logs the numbers of calls that were cut off, if there are new ones, and at most once in logEvery.
func (g *Guard) tell(ctx context.Context, now time.Duration) {
	stats := g.Stats()
	total := stats.Late + stats.Large + stats.Evicted + stats.Stalled
	if total == g.told || now-g.toldAt < logEvery {
		return
	}
	g.log.WarnContext(ctx, "calls were cut off before their message arrived", "since_last_told", total-g.told,
		"late", stats.Late, "too_large", stats.Large, "evicted", stats.Evicted, "stalled_connections", stats.Stalled)
	g.told, g.toldAt = total, now
}

// share returns the share of one connection in all.
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
