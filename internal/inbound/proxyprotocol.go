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
	// headerTime is how long a proxy may take to send its header, or its first bytes if it sends no header. Proxies
	// send the header right after the TCP handshake.
	headerTime = 5 * time.Second
	// headerBuffer has room for a header of version 1 (107 bytes), and for almost all of version 2, which the library
	// limits to 4 KiB.
	headerBuffer = 256
	// waitingShare: in addition to Most, a part of Most (one in eight) may wait for a PROXY header. Only after the
	// header is the client's address known, and so which connection must give up its place.
	waitingShare = 8
)

// announced is a listener whose connections may begin with a PROXY protocol header, version 1 or 2. It reads the
// headers of several connections at the same time, and Accept returns a connection once its client is known.
type announced struct {
	net.Listener
	limiter *Limiter
	ready   chan acceptance
	closed  context.Context //nolint:containedctx // it ends when the listener is closed
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

// accept accepts connections until the listener is closed. The caller of Accept pauses after an error, and so accept
// does too.
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

// place counts a new connection until its client is known. The connection of a proxy is one of waiting; any other gets
// the place that it keeps.
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
		a.limiter.cfg.Logger.Warn("a peer that is not trusted sent a PROXY header: its connection was closed", "listener", a.limiter.cfg.Listener,
			"peer", c.Conn.RemoteAddr().String(), "setting", "LATCHKEY_TRUSTED_PROXIES")
	case err != nil && proxy && !isGone(err):
		a.limiter.cfg.Logger.Warn("a PROXY header cannot be read: the connection was closed", "listener", a.limiter.cfg.Listener,
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

// isGone returns whether a peer closed the connection or sent nothing, as probes do.
func isGone(err error) bool {
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &network)
}

var errNotTrusted = errors.New("only trusted proxies may send a PROXY header")

// readHeader finds the client of a connection. If a trusted proxy sends no header, the proxy itself is the client: load
// balancers check health without a header, and commands on this machine send none. After a header that names no client
// (LOCAL, UNKNOWN), the connection has the address of the proxy, and its x-forwarded-for is ignored, since an unknown
// client may have written it.
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
		return errNotTrusted // it began a header
	default:
		from, _, ok := header.TCPAddrs()
		if ok && !header.Command.IsLocal() {
			c.client = from
		} else {
			c.unnamed = true
		}
	}
	c.early, _ = reader.Peek(reader.Buffered()) // the reader is not used after this
	return c.SetReadDeadline(time.Time{})
}
