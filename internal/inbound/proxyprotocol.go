package inbound

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/pires/go-proxyproto"
)

const (
	// headerTime is what a peer has for its header, or for its first bytes where it sends none: proxies send
	// it with the handshake of TCP.
	headerTime = 5 * time.Second
	// headerBuffer holds a header of version 1 (107 bytes) and nearly every one of version 2. The library
	// takes no more than 4 KiB of the latter.
	headerBuffer = 256
	// waitingShare is the part of Most that may wait for the header of a proxy besides: a client's address is
	// known after it, and only then who must give up a place.
	waitingShare = 8
)

// announced is a listener whose connections begin with a header of the PROXY protocol, version 1 or 2, where
// a proxy sends one. Headers are read beside each other, and a connection is accepted when its client is
// known.
type announced struct {
	net.Listener
	limiter *Limiter
	ready   chan acceptance
	closed  context.Context //nolint:containedctx // it is the life of the listener
	close   context.CancelFunc
}

type acceptance struct {
	conn net.Conn
	err  error
}

func newAnnounced(inner net.Listener, l *Limiter) *announced {
	a := &announced{Listener: inner, limiter: l, ready: make(chan acceptance)}
	a.closed, a.close = context.WithCancel(context.Background())
	go a.accept()
	return a
}

// Accept implements net.Listener.
func (a *announced) Accept() (net.Conn, error) {
	select {
	case next := <-a.ready:
		return next.conn, next.err
	case <-a.closed.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (a *announced) Close() error {
	a.close()
	return a.Listener.Close()
}

// accept takes connections until the listener is closed. Whoever calls Accept waits after an error, and so
// does this.
func (a *announced) accept() {
	for a.closed.Err() == nil {
		raw, err := a.Listener.Accept()
		if err != nil {
			a.deliver(acceptance{err: err})
			continue
		}
		place, ok := a.limiter.place(raw)
		if ok {
			go a.meet(place)
		}
	}
}

func (a *announced) deliver(next acceptance) {
	select {
	case a.ready <- next:
	case <-a.closed.Done():
		if next.conn != nil {
			_ = next.conn.Close()
		}
	}
}

// place has a new connection counted until its client is known: a proxy's waits beside the others, anybody
// else's has the place that it keeps.
func (l *Limiter) place(raw net.Conn) (*counted, bool) {
	c := &counted{Conn: raw, limiter: l}
	var proxy bool
	c.peer, proxy = l.peerOf(raw.RemoteAddr())
	if !proxy {
		return c, l.admit(c, false)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting > l.cfg.Most/waitingShare {
		l.refusedAll.Add(1)
		l.tellLocked("waiting for a PROXY header", c.peer.Addr())
		reset(raw)
		return nil, false
	}
	l.waiting++
	c.waits = true
	return c, true
}

// meet reads the header of a connection that has a place or waits for one.
func (a *announced) meet(c *counted) {
	stop := context.AfterFunc(a.closed, func() { _ = c.Close() })
	defer stop()
	_, proxy := a.limiter.peerOf(c.Conn.RemoteAddr())
	err := c.readHeader(proxy, time.Now().Add(headerTime)) //nolint:forbidigo // transports go by the machine's clock
	switch {
	case errors.Is(err, errNotTrusted):
		a.limiter.cfg.Logger.Warn("a PROXY header of a peer that is not trusted: its connection was closed", "listener", a.limiter.cfg.Listener,
			"peer", c.Conn.RemoteAddr().String(), "setting", "LATCHKEY_TRUSTED_PROXIES")
	case err != nil && proxy && !isGone(err):
		a.limiter.cfg.Logger.Warn("a PROXY header that is not understood: the connection was closed", "listener", a.limiter.cfg.Listener,
			"peer", c.Conn.RemoteAddr().String(), "error", err)
	}
	if err != nil {
		_ = c.Close()
		return
	}
	if proxy {
		var trusted bool
		c.peer, trusted = a.limiter.peerOf(c.RemoteAddr())
		c.stopWaiting()
		if !a.limiter.admit(c, trusted) {
			return
		}
	}
	a.deliver(acceptance{conn: c})
}

// isGone says whether a peer went or said nothing, as probes do.
func isGone(err error) bool {
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &network)
}

var errNotTrusted = errors.New("only trusted proxies may send a PROXY header")

// readHeader learns from whom a connection comes. A trusted proxy that sends no header speaks for itself:
// load balancers probe without one, and so do commands on this machine. After a header that names nobody
// (LOCAL, UNKNOWN) the connection has the proxy's own address; what it says in x-forwarded-for is its
// client's word and is not believed.
func (c *counted) readHeader(proxy bool, until time.Time) error {
	if err := c.SetReadDeadline(until); err != nil {
		return err
	}
	reader := bufio.NewReaderSize(c.Conn, headerBuffer)
	header, err := proxyproto.Read(reader)
	switch {
	case errors.Is(err, proxyproto.ErrNoProxyProtocol):
	case err != nil && (proxy || isGone(err)):
		return err
	case !proxy:
		return errNotTrusted // it began one
	default:
		from, _, ok := header.TCPAddrs()
		if ok && !header.Command.IsLocal() {
			c.client = from
		} else {
			c.unnamed = true
		}
	}
	c.early, _ = reader.Peek(reader.Buffered()) // the reader is used no more
	return c.SetReadDeadline(time.Time{})
}
