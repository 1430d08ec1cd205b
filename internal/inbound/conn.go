package inbound

import (
	"context"
	"encoding/binary"
	"errors"
	"math/bits"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/credentials"
)

const (
	// readBuffer has room for the requests of eight validations. Each open connection has its own.
	readBuffer  = 8 << 10
	frameHeader = 9
	// prefixSize is the length in bytes of the prefix of a message (gRPC over HTTP/2, "Length-Prefixed-Message"): a
	// flag and the message's length.
	prefixSize = 5
	// hugePrefix is the high byte of a length that gRPC refuses, with any limit.
	hugePrefix = 0x7f
	// nobody is a stream that clients cannot open: gRPC drops its frames.
	nobody = 2
	// frameCost is the memory that gRPC needs for a frame besides its bytes: an entry in a list that doubles, and the
	// header of a buffer.
	frameCost = 192
	// pooledFrom is the smallest frame for which gRPC takes a buffer from the pool. The sizes in the pool are powers of
	// two.
	pooledFrom = 1 << 10
	// costFactor is how many times its limit a message may take in memory, if it comes in tiny frames, or in frames
	// that fill their buffers badly.
	costFactor = 3
	// freeHeaders is the size of headers of a call that is not counted. A token of each kind fits.
	freeHeaders = 2 << 10
	// freeBlock is the size of a block of headers in several frames that is not counted. All headers of a valid call
	// fit.
	freeBlock = 16 << 10
	// mostEnded is how many calls a connection may have before the guard looks for calls that have ended: twice the
	// number of calls that can run at once.
	mostEnded = 256
)

// conn is a connection after its handshake. gRPC reads it frame by frame in one goroutine. The same goroutine runs the
// tap handle, so at that time the last frame that was read is the HEADERS frame of the call.
type conn struct {
	net.Conn
	guard *Guard
	began time.Time // when its handshake was done
	// unnamed is true if the PROXY header of a proxy names no client.
	unnamed bool

	// The bytes that were read ahead, and the position of gRPC in them. Only the reading goroutine uses these.
	buf  []byte
	r, w int
	left int // bytes of the current frame that gRPC has not read yet
	// The last HEADERS frame: its stream, whether it ends the stream, and whether its block continues in a CONTINUATION
	// frame.
	stream      uint32
	ended, open bool

	partial atomic.Int64 // since when the rest of a frame is missing; 0 if none is
	calls   atomic.Int64 // len(half)

	mu     sync.Mutex
	half   map[uint32]*arrival
	cost   int
	block  int // bytes of a block of headers that is not complete
	closed bool
}

// arrival is a half-sent call: its headers have arrived, its message has not.
type arrival struct {
	context.Context //nolint:containedctx // it is the call's context, and ends it

	parent  context.Context //nolint:containedctx // ends when gRPC has ended the call
	cancel  context.CancelFunc
	expired atomic.Bool
	stream  uint32
	began   time.Duration
	within  time.Duration
	limit   int
	started bool // its first frame has arrived
	refused bool // no further frame of it reaches gRPC
	bytes   int
	cost    int
}

// Err implements context.Context.
func (a *arrival) Err() error {
	err := a.Context.Err()
	if err != nil && a.expired.Load() {
		return context.DeadlineExceeded
	}
	return err
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if c.left == 0 {
		if err := c.nextFrame(); err != nil {
			return 0, err
		}
	}
	if c.r == c.w {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p[:min(len(p), c.left)], c.buf[c.r:c.w])
	c.r += n
	c.left -= n
	if c.left == 0 && !c.open && c.partial.Load() != 0 {
		c.partial.Store(0)
	}
	return n, nil
}

// fill reads at least one byte ahead.
func (c *conn) fill() error {
	if (c.r < c.w || c.left > 0 || c.open) && c.partial.Load() == 0 {
		c.partial.Store(c.guard.now.Load())
	}
	c.w = frameHeader + copy(c.buf[frameHeader:], c.buf[c.r:c.w]) // divert needs room before the frame
	c.r = frameHeader
	n, err := c.Conn.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil // the next Read returns the error again
	}
	return err
}

func (c *conn) need(n int) error {
	for c.w-c.r < n {
		if err := c.fill(); err != nil {
			return err
		}
	}
	return nil
}

// nextFrame looks at the frame that gRPC is about to read.
func (c *conn) nextFrame() error {
	if err := c.need(frameHeader); err != nil {
		return err
	}
	length, kind, flags, stream := parseHeader(c.buf[c.r:])
	c.left = frameHeader + length
	switch kind { //nolint:exhaustive // no other frame belongs to a message
	case http2.FrameHeaders:
		c.stream, c.ended, c.open = stream, flags.Has(http2.FlagHeadersEndStream), !flags.Has(http2.FlagHeadersEndHeaders)
		if c.open {
			return c.headers(length)
		}
	case http2.FrameContinuation:
		c.open = !flags.Has(http2.FlagContinuationEndHeaders)
		return c.headers(length)
	case http2.FrameData:
		if c.calls.Load() > 0 {
			return c.data(stream, length, flags)
		}
	case http2.FrameRSTStream:
		if c.calls.Load() > 0 {
			c.mu.Lock()
			c.unwatchLocked(c.half[stream])
			c.mu.Unlock()
		}
	}
	return nil
}

func parseHeader(b []byte) (length int, kind http2.FrameType, flags http2.Flags, stream uint32) {
	return int(b[0])<<16 | int(b[1])<<8 | int(b[2]), http2.FrameType(b[3]), http2.Flags(b[4]), binary.BigEndian.Uint32(b[5:]) &^ (1 << 31)
}

// data counts a DATA frame before gRPC reads it. If the length of the message is over the limit of its method, data
// writes a length that gRPC itself refuses at once, with RESOURCE_EXHAUSTED. If the message is longer than the length
// that it states, the rest never reaches the call.
func (c *conn) data(stream uint32, length int, flags http2.Flags) error {
	c.mu.Lock()
	a := c.half[stream]
	begins := a != nil && !a.started && length >= prefixSize && !flags.Has(http2.FlagDataPadded)
	c.mu.Unlock()
	if begins {
		if err := c.need(frameHeader + prefixSize); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a == nil || c.half[stream] != a {
		return nil
	}
	if a.refused {
		binary.BigEndian.PutUint32(c.buf[c.r+5:], nobody)
		return nil
	}
	a.bytes += length
	a.cost += costOf(length)
	c.cost += costOf(length)
	switch size := c.buf[c.r+frameHeader:]; {
	case begins && int64(binary.BigEndian.Uint32(size[1:])) > int64(a.limit):
		size[1] = hugePrefix
		c.divert(length)
		c.guard.large.Add(1)
		c.refuseLocked(a)
	case a.bytes > a.limit+prefixSize || a.cost > costFactor*a.limit:
		binary.BigEndian.PutUint32(c.buf[c.r+5:], nobody)
		c.guard.large.Add(1)
		c.refuseLocked(a)
		a.cancel()
	case flags.Has(http2.FlagDataEndStream):
		c.unwatchLocked(a)
	}
	a.started = a.started || length > 0
	c.trimLocked()
	return nil
}

// headers counts a frame of a block of headers that has several frames. gRPC keeps the block until it is complete. No
// part of a block can be dropped, since later blocks refer to it, so headers returns an error, and the connection is
// closed, if all connections together have too much.
func (c *conn) headers(length int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := max(c.block-freeBlock, 0)
	c.block += length
	if !c.open || c.closed {
		c.block = 0
	}
	if held := c.guard.blocks.Add(int64(max(c.block-freeBlock, 0) - before)); held > heldBlocks && c.block > freeBlock {
		c.guard.stalled.Add(1)
		return errTooManyHeaders
	}
	return nil
}

var errTooManyHeaders = errors.New("inbound: too many incomplete headers")

// divert splits a DATA frame in two: the prefix for its call, and the rest for the stream nobody. Otherwise gRPC would
// keep the rest with the call, up to 16 KiB for each call that it refuses.
func (c *conn) divert(length int) {
	const head = frameHeader + prefixSize
	copy(c.buf[c.r-frameHeader:], c.buf[c.r:c.r+head])
	c.r -= frameHeader
	copy(c.buf[c.r:], []byte{0, 0, prefixSize, byte(http2.FrameData), 0})
	rest := length - prefixSize
	//nolint:gosec // G115: a frame has 24 bits of length
	copy(c.buf[c.r+head:], []byte{byte(rest >> 16), byte(rest >> 8), byte(rest), byte(http2.FrameData), 0, 0, 0, 0, nobody})
	c.left += frameHeader
}

// costOf returns the memory that gRPC needs for a DATA frame.
func costOf(length int) int {
	switch {
	case length == 0:
		return 0
	case length <= pooledFrom:
		return length + frameCost
	}
	return 1<<bits.Len(uint(length-1)) + frameCost
}

// arrived returns whether the whole message of the call whose headers were read last was read ahead. Usually it was:
// clients send both at once.
func (c *conn) arrived() bool {
	if c.ended {
		return true
	}
	for at := c.r; c.w-at >= frameHeader; {
		length, kind, flags, stream := parseHeader(c.buf[at:])
		at += frameHeader + length
		if stream == c.stream {
			return kind == http2.FrameData && flags.Has(http2.FlagDataEndStream) && at <= c.w
		}
	}
	return false
}

// await starts to watch the call whose headers were read last, as a half-sent call.
func (c *conn) await(parent context.Context, limit, headers int, within time.Duration) context.Context {
	ctx, cancel := context.WithCancel(parent)
	a := &arrival{
		Context: ctx, parent: parent, cancel: cancel, stream: c.stream, began: time.Duration(c.guard.now.Load()), within: within, limit: limit,
		cost: max(headers-freeHeaders, 0),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		cancel()
		return a
	}
	if len(c.half) >= mostEnded {
		c.unwatchEndedLocked()
	}
	if len(c.half) == 0 {
		c.guard.waiting.Add(1)
		if c.half == nil {
			c.half = map[uint32]*arrival{}
		}
	}
	c.half[a.stream] = a
	c.cost += a.cost
	c.calls.Store(int64(len(c.half)))
	c.guard.half.Add(1)
	c.trimLocked()
	return a
}

// trimLocked cuts off half-sent calls until the rest need no more than the connection's share of memory. c.mu must be
// held.
func (c *conn) trimLocked() {
	for c.cost > c.guard.share(heldBytes, leastBytes, mostBytes) {
		c.evictLocked()
	}
}

// sweep cuts off calls that are late, and the oldest calls if the connection has more than its share.
func (c *conn) sweep(now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unwatchEndedLocked()
	old := 0
	for _, a := range c.half {
		switch age := now - a.began; {
		case a.refused:
		case age > a.within:
			c.guard.late.Add(1)
			c.cutLocked(a)
		case age > grace:
			old++
		}
	}
	for allowed := c.guard.share(heldCalls, leastCalls, mostCalls); old > allowed; old-- {
		c.evictLocked()
	}
}

func (c *conn) evict() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.evictLocked()
}

// evictLocked cuts off the oldest half-sent call. c.mu must be held.
func (c *conn) evictLocked() {
	var oldest *arrival
	for _, a := range c.half {
		if !a.refused && (oldest == nil || a.stream < oldest.stream) {
			oldest = a
		}
	}
	if oldest != nil {
		c.guard.evicted.Add(1)
		c.cutLocked(oldest)
	}
}

// cutLocked ends a call whose time is over. c.mu must be held.
func (c *conn) cutLocked(a *arrival) {
	c.refuseLocked(a)
	a.expired.Store(true)
	a.cancel()
}

// refuseLocked drops all further frames of a call, and no longer counts it. c.mu must be held.
func (c *conn) refuseLocked(a *arrival) {
	if !a.refused {
		c.guard.half.Add(-1)
	}
	a.refused = true
	c.cost -= a.cost
	a.cost = 0
}

// unwatchEndedLocked stops watching calls that gRPC has ended before their message was here. c.mu must be held.
func (c *conn) unwatchEndedLocked() {
	for _, a := range c.half {
		if a.parent.Err() != nil {
			c.unwatchLocked(a)
		}
	}
}

// unwatchLocked stops watching a call, which may continue. c.mu must be held.
func (c *conn) unwatchLocked(a *arrival) {
	if a == nil || c.half[a.stream] != a {
		return
	}
	c.refuseLocked(a)
	delete(c.half, a.stream)
	c.calls.Store(int64(len(c.half)))
	if len(c.half) == 0 {
		c.guard.waiting.Add(-1)
	}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.guard.remove(c)
	c.mu.Lock()
	c.closed = true
	c.guard.blocks.Add(-int64(max(c.block-freeBlock, 0)))
	c.block = 0
	for _, a := range c.half {
		c.unwatchLocked(a)
		a.cancel()
	}
	c.mu.Unlock()
	return c.Conn.Close()
}

// guarded are credentials whose connections are guarded.
type guarded struct {
	credentials.TransportCredentials
	guard *Guard
}

// authInfo has the connection of a call.
type authInfo struct {
	credentials.AuthInfo
	conn *conn
}

// ServerHandshake implements credentials.TransportCredentials.
func (g guarded) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	inner, info, err := g.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	// The first bytes are the preface of the client, not a frame. gRPC checks it.
	c := &conn{
		Conn: inner, guard: g.guard, began: time.Now(), //nolint:forbidigo // transports go by the machine's clock
		buf: make([]byte, readBuffer), r: frameHeader, w: frameHeader, left: len(http2.ClientPreface),
	}
	if at, ok := raw.(*counted); ok {
		c.unnamed = at.unnamed
	}
	g.guard.add(c)
	return c, authInfo{info, c}, nil
}

// Clone implements credentials.TransportCredentials.
func (g guarded) Clone() credentials.TransportCredentials {
	return guarded{g.TransportCredentials.Clone(), g.guard}
}
