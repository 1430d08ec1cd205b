package testenv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// errStreamOver is the error of a RawPeer's writes after the server has ended the stream.
var errStreamOver = errors.New("testenv: the stream is over")

// RawPeer is an HTTP/2 client that does what gRPC's own client never does: it sends half of a call and waits. It obeys
// flow control.
type RawPeer struct {
	conn   net.Conn
	framer *http2.Framer

	mu      sync.Mutex
	changed *sync.Cond
	headers bytes.Buffer
	encoder *hpack.Encoder
	next    uint32
	window  int64 // of the connection
	initial int64 // of a new stream
	streams map[uint32]*rawStream
	closed  bool
}

type rawStream struct {
	window int64
	over   bool
	status string
}

// NewRawPeer uses a connection as a client until the test ends.
func NewRawPeer(t testing.TB, conn net.Conn) *RawPeer {
	t.Helper()
	p := &RawPeer{
		conn: conn, framer: http2.NewFramer(conn, conn), next: 1, window: 65535, initial: 65535, streams: map[uint32]*rawStream{},
	}
	p.changed = sync.NewCond(&p.mu)
	p.encoder = hpack.NewEncoder(&p.headers)
	p.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	t.Cleanup(func() { _ = conn.Close() })
	_, err := conn.Write([]byte(http2.ClientPreface))
	must(t, err)
	must(t, p.framer.WriteSettings())
	go p.read()
	return p
}

// DialRaw connects a RawPeer without TLS.
func DialRaw(t testing.TB, addr string) *RawPeer {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", addr)
	must(t, err)
	return NewRawPeer(t, conn)
}

func (p *RawPeer) read() {
	for {
		frame, err := p.framer.ReadFrame()
		var stream http2.StreamError
		p.mu.Lock()
		switch {
		case errors.As(err, &stream):
		case err != nil:
			p.closed = true
			p.changed.Broadcast()
			p.mu.Unlock()
			return
		default:
			p.took(frame)
		}
		p.changed.Broadcast()
		p.mu.Unlock()
	}
}

// took handles a frame of the server. p.mu must be held.
func (p *RawPeer) took(frame http2.Frame) {
	s := p.streams[frame.Header().StreamID]
	switch frame := frame.(type) {
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			if initial, ok := frame.Value(http2.SettingInitialWindowSize); ok {
				for _, other := range p.streams {
					other.window += int64(initial) - p.initial
				}
				p.initial = int64(initial)
			}
			_ = p.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !frame.IsAck() {
			_ = p.framer.WritePing(true, frame.Data)
		}
	case *http2.WindowUpdateFrame:
		if frame.StreamID == 0 {
			p.window += int64(frame.Increment)
		} else if s != nil {
			s.window += int64(frame.Increment)
		}
	case *http2.MetaHeadersFrame:
		for _, field := range frame.Fields {
			if field.Name == "grpc-status" && s != nil {
				s.status = field.Value
			}
		}
		if s != nil && frame.StreamEnded() {
			s.over = true
		}
	case *http2.RSTStreamFrame:
		if s != nil {
			s.over = true
		}
	}
}

// Begin sends the headers of a call, and returns its stream.
func (p *RawPeer) Begin(method string, headers ...string) (uint32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	stream := p.next
	p.next += 2
	p.headers.Reset()
	fields := append([]string{
		":method", "POST", ":scheme", "http", ":path", method, ":authority", "localhost", "content-type", "application/grpc", "te", "trailers",
	}, headers...)
	for i := 0; i < len(fields); i += 2 {
		_ = p.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // a buffer accepts everything
	}
	p.streams[stream] = &rawStream{window: p.initial}
	return stream, p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: p.headers.Bytes(), EndHeaders: true})
}

// Send sends data in frames of at most the given size, as far as flow control allows, for at most patience.
func (p *RawPeer) Send(stream uint32, data []byte, frame int, end bool, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	defer time.AfterFunc(patience, p.changed.Broadcast).Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.streams[stream]
	for len(data) > 0 {
		n := min(len(data), frame, 16384)
		for !p.closed && !s.over && (p.window < int64(n) || s.window < int64(n)) && time.Now().Before(deadline) {
			p.changed.Wait()
		}
		if p.closed || s.over || p.window < int64(n) || s.window < int64(n) {
			return errStreamOver
		}
		p.window -= int64(n)
		s.window -= int64(n)
		if err := p.framer.WriteData(stream, end && n == len(data), data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// Frames writes frames as they are.
func (p *RawPeer) Frames(write func(*http2.Framer) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return write(p.framer)
}

// Open returns how many streams the server has not ended, or 0 on a connection that it closed.
func (p *RawPeer) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, s := range p.streams {
		if !s.over && !p.closed {
			n++
		}
	}
	return n
}

// Closed reports whether the connection has ended.
func (p *RawPeer) Closed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// Status returns the grpc-status with which a stream has ended, or "" if it has none.
func (p *RawPeer) Status(stream uint32) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.streams[stream].status
}

// Message returns the beginning of a gRPC message: a prefix that announces size bytes, and length bytes after it.
func Message(size, length int) []byte {
	message := make([]byte, 5+length)
	binary.BigEndian.PutUint32(message[1:], uint32(size)) //nolint:gosec // G115: a test's sizes
	return message
}
