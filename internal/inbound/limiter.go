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

// userTimeout is how long sent data may be unacknowledged before the connection is closed (TCP_USER_TIMEOUT).
const userTimeout = 20 * time.Second

// LimiterConfig has what NewLimiter needs.
type LimiterConfig struct {
	// Most is how many connections there may be, MostPerAddress how many from one network address (all IPv6 addresses
	// of a /64 count as one). Both are 1 or more.
	Most, MostPerAddress int
	// Proxies are peers to which only Most applies, since they connect for many clients.
	Proxies []netip.Prefix
	// ProxyProtocol allows those peers only to begin a connection with a PROXY protocol header. The connection then has
	// the address of the client, and counts as the client's.
	ProxyProtocol bool
	// Listener is the name in the log.
	Listener string
	Logger   *slog.Logger
}

// Limiter limits the connections of a listener. It closes a connection that is over the limits as soon as it is
// accepted. If it let connections wait for a place, the peers with places would decide how long. If all places are
// taken, a connection from an address with fewer connections replaces one from an address with more.
type Limiter struct {
	cfg LimiterConfig

	refusedAll, refusedAddress, displaced atomic.Int64

	mu      sync.Mutex
	open    int
	waiting int // connections that wait for a PROXY header
	peers   map[netip.Prefix]map[*counted]struct{}
	toldAt  time.Time
	untold  int
}

// NewLimiter returns a limiter without connections.
func NewLimiter(cfg LimiterConfig) *Limiter {
	return &Limiter{cfg: cfg, peers: map[netip.Prefix]map[*counted]struct{}{}}
}

// LimiterStats are numbers of connections. Open are open, including those that wait for a PROXY header. The others were
// closed: RefusedAll because there were too many, RefusedAddress because there were too many from their address,
// Displaced to make room for an address with fewer.
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

// Listen returns a listener that accepts the connections of inner within the limits.
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

// reset closes a connection at once: the system keeps no state of it.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// peerOf returns the prefix under which a peer is counted. All peers without an IP address are counted as one.
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
	peer, _ = address.Prefix(bits) // no error: the address has that many bits
	return peer, exempt
}

// take gives a connection a place. It may be the place of another connection (displaced), which the caller must close.
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

// displaceLocked frees the place of a connection whose address has at least two connections more than mine. It compares
// looked addresses, in the random order of the map, and takes the one with the most. Proxies keep their places. l.mu
// must be held.
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

// tellLocked logs the first connection that is closed, and then one line per minute at most. l.mu must be held.
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

	// From the PROXY header, set before the first Read: the client that it names, whether there was a header that names
	// no client, and the bytes after the header that were read with it.
	client  *net.TCPAddr
	unnamed bool
	early   []byte

	waits bool // it is one of limiter.waiting; limiter.mu guards it
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
		c.early = nil // frees its buffer
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
