package inbound

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// userTimeout is how long what was sent may stay unacknowledged.
const userTimeout = 20 * time.Second

// LimiterConfig has what NewLimiter needs.
type LimiterConfig struct {
	// Most is how many connections there may be, MostPerAddress how many of one network address (an IPv6
	// address counts by its /64). Both are 1 or more.
	Most, MostPerAddress int
	// Proxies are peers for whom only Most holds: they connect for all of their clients.
	Proxies []netip.Prefix
	// ProxyProtocol lets those, and nobody else, begin a connection with a header of the PROXY protocol. The
	// connection then has its client's address, and counts as the client's.
	ProxyProtocol bool
	// Listener is the name in the log.
	Listener string
	Logger   *slog.Logger
}

// Limiter limits the connections of a listener. A connection over the limits is closed as soon as it is
// accepted: if it waited for a place, the peers who hold the places would decide who gets in. When all places
// are taken, a connection of an address that has fewer than another address takes the place of one of the
// other's.
type Limiter struct {
	cfg LimiterConfig

	refusedAll, refusedAddress, displaced atomic.Int64

	mu      sync.Mutex
	open    int
	waiting int // for the header of a proxy
	peers   map[netip.Prefix]map[*counted]struct{}
	toldAt  time.Time
	untold  int
}

// NewLimiter returns a limiter without connections.
func NewLimiter(cfg LimiterConfig) *Limiter {
	return &Limiter{cfg: cfg, peers: map[netip.Prefix]map[*counted]struct{}{}}
}

// LimiterStats are the connections that are Open, those that wait for a header among them, and how many were
// closed so far: new ones because there were too many of all (RefusedAll) or of their address
// (RefusedAddress), and others to make room for an address with fewer (Displaced).
type LimiterStats struct{ Open, RefusedAll, RefusedAddress, Displaced int64 }

// Stats returns the counts.
func (l *Limiter) Stats() LimiterStats {
	l.mu.Lock()
	open := l.open + l.waiting
	l.mu.Unlock()
	return LimiterStats{
		Open: int64(open), RefusedAll: l.refusedAll.Load(), RefusedAddress: l.refusedAddress.Load(), Displaced: l.displaced.Load(),
	}
}

// Listen bounds what a listener accepts.
func (l *Limiter) Listen(inner net.Listener) net.Listener {
	if l.cfg.ProxyProtocol {
		return newAnnounced(inner, l)
	}
	return limited{inner, l}
}

type limited struct {
	net.Listener
	limiter *Limiter
}

// Accept implements net.Listener.
func (l limited) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &counted{Conn: accepted, limiter: l.limiter}
		var exempt bool
		c.peer, exempt = l.limiter.peerOf(accepted.RemoteAddr())
		if l.limiter.admit(c, exempt) {
			return c, nil
		}
	}
}

// admit gives a connection a place or closes it.
func (l *Limiter) admit(c *counted, exempt bool) bool {
	displaced, ok := l.take(c, exempt)
	if displaced != nil {
		_ = displaced.Close()
	}
	if !ok {
		reset(c.Conn)
		return false
	}
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		setUserTimeout(tcp, userTimeout) // gRPC does it for *net.TCPConn alone
	}
	return true
}

// reset closes a connection without keeping anything of it.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// peerOf is what a peer is counted by; peers without an address are one.
func (l *Limiter) peerOf(addr net.Addr) (peer netip.Prefix, exempt bool) {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}, true
	}
	address := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, prefix := range l.cfg.Proxies {
		exempt = exempt || prefix.Contains(address)
	}
	bits := address.BitLen()
	if address.Is6() {
		bits = 64
	}
	peer, _ = address.Prefix(bits) // it has as many
	return peer, exempt
}

// take gives a connection a place, maybe that of another, which is to be closed.
func (l *Limiter) take(c *counted, exempt bool) (displaced *counted, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := len(l.peers[c.peer])
	if !exempt && mine >= l.cfg.MostPerAddress {
		l.refusedAddress.Add(1)
		l.tellLocked("address", c.peer.Addr())
		return nil, false
	}
	if l.open >= l.cfg.Most {
		displaced = l.displaceLocked(mine)
		if displaced == nil {
			l.refusedAll.Add(1)
			l.tellLocked("all", c.peer.Addr())
			return nil, false
		}
		l.displaced.Add(1)
		l.tellLocked("all", displaced.peer.Addr())
	}
	l.open++
	c.exempt = exempt
	if l.peers[c.peer] == nil {
		l.peers[c.peer] = map[*counted]struct{}{}
	}
	l.peers[c.peer][c] = struct{}{}
	return displaced, true
}

// displaceLocked takes the place of a connection whose address has at least two more than mine: of a few
// addresses, in the map's random order, the one with the most. Proxies keep theirs. l.mu must be held.
func (l *Limiter) displaceLocked(mine int) *counted {
	var victim *counted
	most, seen := mine+1, 0
	for _, conns := range l.peers {
		if len(conns) > most {
			for c := range conns {
				if !c.exempt {
					victim, most = c, len(conns)
				}
				break // any of them will do
			}
		}
		if seen++; seen == looked {
			break
		}
	}
	if victim != nil {
		l.freeLocked(victim)
	}
	return victim
}

func (l *Limiter) freeLocked(c *counted) {
	conns := l.peers[c.peer]
	if _, held := conns[c]; !held {
		return
	}
	delete(conns, c)
	if len(conns) == 0 {
		delete(l.peers, c.peer)
	}
	l.open--
}

// tellLocked writes a line for the first connection that is closed, and one a minute while it goes on. l.mu
// must be held.
func (l *Limiter) tellLocked(bound string, peer netip.Addr) {
	l.untold++
	now := time.Now() //nolint:forbidigo // transports go by the machine's clock
	if now.Sub(l.toldAt) < logEvery {
		return
	}
	l.cfg.Logger.LogAttrs(context.Background(), slog.LevelWarn, "connections closed: there are too many",
		slog.String("bound", bound), slog.String("listener", l.cfg.Listener), slog.String("peer", peer.String()), slog.Int("closed_since_last_told", l.untold),
		slog.Int("open", l.open), slog.Int("most", l.cfg.Most), slog.Int("most_per_address", l.cfg.MostPerAddress))
	l.toldAt, l.untold = now, 0
}

// counted is a connection that has a place.
type counted struct {
	net.Conn
	limiter *Limiter
	peer    netip.Prefix
	exempt  bool

	// Of the PROXY protocol, and fixed before anybody reads: the client that the header names, whether there
	// was a header that names none, and what was read behind it.
	client  *net.TCPAddr
	unnamed bool
	early   []byte

	waits bool // is among limiter.waiting, and guarded by limiter.mu
}

// RemoteAddr implements net.Conn.
func (c *counted) RemoteAddr() net.Addr {
	if c.client != nil {
		return c.client
	}
	return c.Conn.RemoteAddr()
}

// Read implements net.Conn.
func (c *counted) Read(p []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.early)
	if c.early = c.early[n:]; len(c.early) == 0 {
		c.early = nil // with the buffer that it is of
	}
	return n, nil
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.stopWaiting()
	c.limiter.mu.Lock()
	c.limiter.freeLocked(c)
	c.limiter.mu.Unlock()
	return c.Conn.Close()
}

func (c *counted) stopWaiting() {
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	if c.waits {
		c.waits = false
		c.limiter.waiting--
	}
}
