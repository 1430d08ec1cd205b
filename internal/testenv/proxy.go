package testenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/devstack"
)

// Proxy is between a client and PostgreSQL or Redis, on a unix socket. It can make the server unreachable and reachable
// again. It lasts as long as the test. Its methods may be called concurrently.
type Proxy struct {
	t        testing.TB
	url      string
	socket   string
	requests gate // client to server
	answers  gate // server to client
	serving  sync.WaitGroup

	mu       sync.Mutex
	target   endpoint
	listener net.Listener // nil while cut
	links    map[*link]struct{}
}

// link is one proxied connection.
type link struct {
	client, server net.Conn
	closed         chan struct{}
	once           sync.Once
	pumps          sync.WaitGroup
}

// NewProxy returns a proxy for the server at targetURL: postgres:// or postgresql:// with one host or socket directory,
// unix:// or redis:// without TLS.
func NewProxy(t testing.TB, targetURL string) *Proxy {
	t.Helper()
	target, err := parseEndpoint(targetURL)
	if err != nil {
		t.Fatalf("testenv: proxy: %v", err)
	}
	// t.TempDir is not used: the path of a socket has to be short.
	scratch, err := devstack.NewScratch("/tmp")
	if err != nil {
		t.Fatalf("testenv: proxy: %v", err)
	}
	p := &Proxy{t: t, target: target, links: map[*link]struct{}{}}
	p.url, p.socket = target.behind(scratch.Dir)
	p.Restore()
	t.Cleanup(func() {
		p.Cut()
		p.serving.Wait()
		if err := scratch.Remove(); err != nil {
			t.Errorf("testenv: proxy: %v", err)
		}
	})
	return p
}

// URL returns the target's URL with the proxy's address in it.
func (p *Proxy) URL() string { return p.url }

// Cut breaks all connections and refuses new ones, as if the server had crashed. Nothing reaches the server after Cut
// has returned.
func (p *Proxy) Cut() {
	p.mu.Lock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	links := p.links
	p.links = map[*link]struct{}{}
	p.mu.Unlock()
	for l := range links {
		l.close()
		l.pumps.Wait()
	}
}

// Freeze keeps connections, and accepts new ones, but passes nothing on, as if the network dropped packets or the
// server hung. Data that is sent meanwhile arrives after [Proxy.Restore].
func (p *Proxy) Freeze() {
	p.requests.shut()
	p.answers.shut()
}

// FreezeAnswers passes requests on but not their answers: the server acts and the client cannot know.
func (p *Proxy) FreezeAnswers() { p.answers.shut() }

// Restore ends a cut or a freeze. Connections that were cut stay closed.
func (p *Proxy) Restore() {
	p.t.Helper()
	p.requests.open()
	p.answers.open()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		return
	}
	if err := os.Remove(p.socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.t.Errorf("testenv: proxy: %v", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.socket, Net: "unix"})
	if err != nil {
		p.t.Errorf("testenv: proxy: %v", err)
		return
	}
	// A crashed server leaves its socket file: then a connection is refused, which is another error than a missing
	// file.
	listener.SetUnlinkOnClose(false)
	p.listener = listener
	p.serving.Go(func() { p.serve(listener) })
}

// retarget makes new connections lead to another server.
func (p *Proxy) retarget(targetURL string) {
	p.t.Helper()
	target, err := parseEndpoint(targetURL)
	if err != nil {
		p.t.Fatalf("testenv: proxy: %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

func (p *Proxy) serve(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		p.serving.Go(func() { p.connect(listener, client) })
	}
}

// connect links a new connection to the server, and closes it if there is none.
func (p *Proxy) connect(listener net.Listener, client net.Conn) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	var dialer net.Dialer
	server, err := dialer.DialContext(context.WithoutCancel(p.t.Context()), target.network, target.address)
	if err != nil {
		_ = client.Close()
		return
	}
	l := &link{client: client, server: server, closed: make(chan struct{})}
	p.mu.Lock()
	if p.listener != listener {
		p.mu.Unlock()
		l.close() // cut meanwhile
		return
	}
	p.links[l] = struct{}{}
	l.pumps.Go(func() { l.pump(server, client, &p.requests) })
	l.pumps.Go(func() { l.pump(client, server, &p.answers) })
	p.mu.Unlock()
	l.pumps.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// pump copies until either side is closed, and then closes both.
func (l *link) pump(to, from net.Conn, through *gate) {
	defer l.close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !through.pass(l.closed, func() error {
			_, err := to.Write(buffer[:n])
			return err
		}) {
			return
		}
		if err != nil {
			return
		}
	}
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.closed)
		_ = l.client.Close()
		_ = l.server.Close()
	})
}

// gate makes writers wait while it is shut. The zero gate is open.
type gate struct {
	mu     sync.RWMutex
	reopen chan struct{} // nil while open
}

// shut returns when no writer is under way.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reopen == nil {
		g.reopen = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reopen != nil {
		close(g.reopen)
		g.reopen = nil
	}
}

// pass calls write as soon as the gate is open. It returns false if write failed, or if closed was closed first.
func (g *gate) pass(closed <-chan struct{}, write func() error) bool {
	for {
		g.mu.RLock()
		reopen := g.reopen
		if reopen == nil {
			err := write()
			g.mu.RUnlock()
			return err == nil
		}
		g.mu.RUnlock()
		select {
		case <-reopen:
		case <-closed:
			return false
		}
	}
}

// endpoint is the server that a URL names.
type endpoint struct {
	network, address string
	parsed           *url.URL
}

func parseEndpoint(text string) (endpoint, error) {
	parsed, err := url.Parse(text)
	if err != nil {
		return endpoint{}, err
	}
	at := endpoint{network: "tcp", address: parsed.Host, parsed: parsed}
	switch parsed.Scheme {
	case "postgres", "postgresql":
		port := parsed.Port()
		if port == "" {
			port = "5432"
		}
		host := parsed.Hostname()
		if named := parsed.Query().Get("host"); named != "" {
			host = named
		}
		at.address = net.JoinHostPort(host, port)
		if strings.HasPrefix(host, "/") {
			at.network, at.address = "unix", filepath.Join(host, ".s.PGSQL."+port)
		}
	case "unix":
		at.network, at.address = "unix", parsed.Path
	case "redis":
		if parsed.Port() == "" {
			at.address = net.JoinHostPort(parsed.Hostname(), "6379")
		}
	default:
		return endpoint{}, fmt.Errorf("cannot stand before %s://", parsed.Scheme)
	}
	return at, nil
}

// behind returns the URL and the socket of a proxy in dir.
func (e endpoint) behind(dir string) (address, socket string) {
	changed := *e.parsed
	query := changed.Query()
	if strings.HasPrefix(changed.Scheme, "postgres") {
		query.Del("host")
		changed.Host = ":5432"
		changed.RawQuery = strings.TrimPrefix(query.Encode()+"&host="+dir, "&")
		return changed.String(), filepath.Join(dir, ".s.PGSQL.5432")
	}
	if changed.Scheme == "redis" {
		query.Set("db", strings.TrimPrefix(changed.Path, "/"))
		changed.Scheme, changed.Host, changed.RawQuery = "unix", "", query.Encode()
	}
	changed.Path = filepath.Join(dir, "redis.sock")
	return changed.String(), changed.Path
}
