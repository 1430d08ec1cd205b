package inbound

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"pgregory.net/rapid"
)

func testGuard() *Guard {
	return NewGuard(GuardConfig{ArrivalTime: time.Second, Logger: slog.New(slog.DiscardHandler)})
}

// feed is a connection whose reads return the written bytes in pieces.
type feed struct {
	net.Conn
	data  []byte
	piece func() int
}

func (f *feed) Read(p []byte) (int, error) {
	if len(f.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, f.data[:min(len(f.data), f.piece())])
	f.data = f.data[n:]
	return n, nil
}

func (f *feed) Close() error { return nil }

type failer interface {
	Helper()
	Fatal(args ...any)
}

func handshake(t failer, g *Guard, data []byte, piece func() int) (*conn, context.Context) {
	t.Helper()
	inner := &feed{data: append([]byte(http2.ClientPreface), data...), piece: piece}
	c, info, err := guarded{insecure.NewCredentials(), g}.ServerHandshake(inner)
	if err != nil {
		t.Fatal(err)
	}
	watched, ok := c.(*conn)
	if !ok {
		t.Fatal("not guarded")
	}
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		t.Fatal(err)
	}
	return watched, peer.NewContext(context.Background(), &peer.Peer{AuthInfo: info})
}

// Everything within the limits passes unchanged, in whatever pieces it comes in and is read.
func TestConnPassesEverything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var sent bytes.Buffer
		framer := http2.NewFramer(&sent, nil)
		for stream := uint32(1); stream < 20; stream += 2 {
			payload := bytes.Repeat([]byte{0, 0, 0, 1}, rapid.IntRange(0, 4000).Draw(t, "quarter of a payload"))
			err := errors.Join(
				framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: payload[:len(payload)/9], EndHeaders: true}),
				framer.WriteData(stream, rapid.Bool().Draw(t, "the end"), payload),
				framer.WritePing(false, [8]byte{1}),
				framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}),
				framer.WriteRSTStream(stream, http2.ErrCodeCancel),
			)
			if err != nil {
				t.Fatal(err)
			}
		}
		sizes := rapid.IntRange(1, 20000)
		c, ctx := handshake(t, testGuard(), bytes.Clone(sent.Bytes()), func() int { return sizes.Draw(t, "comes") })
		var got bytes.Buffer
		awaited := uint32(0)
		for piece := make([]byte, 20000); ; {
			n, err := c.Read(piece[:sizes.Draw(t, "is read")])
			got.Write(piece[:n])
			if err != nil {
				break
			}
			if c.left == 0 && c.stream != awaited {
				awaited = c.stream
				c.guard.Await(ctx, nil, 1<<30, 0)
			}
		}
		if !bytes.Equal(got.Bytes(), sent.Bytes()) {
			t.Fatalf("%d bytes became %d, or others", sent.Len(), got.Len())
		}
		_ = c.Close()
		if n, w := c.guard.half.Load(), c.guard.waiting.Load(); n != 0 || w != 0 || c.cost != 0 {
			t.Fatalf("%d calls, %d connections and %d bytes are counted after the end", n, w, c.cost)
		}
	})
}

// call reads the HEADERS frame of a call, as gRPC does, and awaits its message.
func call(ctx context.Context, t *testing.T, c *conn, limit int) context.Context {
	t.Helper()
	readFrames(t, c, 1)
	return c.guard.Await(ctx, metadata.Pairs("a", "b"), limit, 0)
}

func readFrames(t *testing.T, c *conn, n int) (frames [][]byte) {
	t.Helper()
	for range n {
		header := make([]byte, frameHeader)
		if _, err := io.ReadFull(c, header); err != nil {
			t.Fatal(err)
		}
		length, _, _, _ := parseHeader(header)
		payload := make([]byte, length)
		if _, err := io.ReadFull(c, payload); err != nil {
			t.Fatal(err)
		}
		frames = append(frames, append(header, payload...))
	}
	return frames
}

func TestAwait(t *testing.T) {
	t.Parallel()
	message := func(announced, sent int) []byte {
		return append([]byte{0, 0, byte(announced >> 16), byte(announced >> 8), byte(announced)}, make([]byte, sent)...)
	}
	headers := http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x83}, EndHeaders: true}
	for name, test := range map[string]struct {
		write      func(*http2.Framer) error
		frames     int
		unwatched  bool
		canceled   bool
		to         uint32 // the stream of the last frame
		hugePrefix bool
	}{
		"whole": {write: func(f *http2.Framer) error {
			return errors.Join(f.WriteHeaders(headers), f.WriteData(1, true, message(10, 10)))
		}, frames: 1, unwatched: true, to: 1},
		"no message": {write: func(f *http2.Framer) error {
			headers := headers
			headers.EndStream = true
			return errors.Join(f.WriteHeaders(headers), f.WriteData(3, false, message(10, 10)))
		}, frames: 1, unwatched: true, to: 3},
		"in two frames": {write: func(f *http2.Framer) error {
			return errors.Join(f.WriteHeaders(headers), f.WriteData(1, false, message(10, 4)), f.WriteData(1, true, make([]byte, 6)))
		}, frames: 2, to: 1},
		"over the limit": {write: func(f *http2.Framer) error {
			return errors.Join(f.WriteHeaders(headers), f.WriteData(1, false, message(1001, 50)), f.WritePing(false, [8]byte{}))
		}, frames: 3, to: 0, hugePrefix: true},
		"over the limit, later": {write: func(f *http2.Framer) error {
			return errors.Join(f.WriteHeaders(headers), f.WriteData(1, false, message(1001, 50)), f.WriteData(1, true, make([]byte, 951)))
		}, frames: 3, to: nobody},
		"over the limit, in two prefixes": {write: func(f *http2.Framer) error {
			return errors.Join(f.WriteHeaders(headers), f.WriteData(1, false, message(1001, 0)[:4]), f.WriteData(1, true, make([]byte, 1002)))
		}, frames: 2, to: nobody, canceled: true},
		"two messages": {write: func(f *http2.Framer) error {
			return errors.Join(f.WriteHeaders(headers), f.WriteData(1, false, message(800, 800)), f.WriteData(1, false, message(800, 800)))
		}, frames: 2, to: nobody, canceled: true},
		"tiny frames": {write: func(f *http2.Framer) error {
			err := errors.Join(f.WriteHeaders(headers), f.WriteData(1, false, message(1000, 0)))
			for range 20 {
				err = errors.Join(err, f.WriteData(1, false, []byte{0}))
			}
			return err
		}, frames: 21, to: nobody, canceled: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sent bytes.Buffer
			if err := test.write(http2.NewFramer(&sent, nil)); err != nil {
				t.Fatal(err)
			}
			// Everything is read ahead before the headers are parsed.
			c, parent := handshake(t, testGuard(), sent.Bytes(), func() int { return readBuffer })
			if err := c.need(min(sent.Len(), readBuffer-frameHeader)); err != nil {
				t.Fatal(err)
			}
			ctx := call(parent, t, c, 1000)
			if unwatched := ctx == parent; unwatched != test.unwatched {
				t.Errorf("not watched: %v", unwatched)
			}
			frames := readFrames(t, c, test.frames)
			last := frames[len(frames)-1]
			if _, _, _, to := parseHeader(last); to != test.to {
				t.Errorf("the last frame goes to %d", to)
			}
			if huge := frames[0][frameHeader+1] == hugePrefix; huge != (test.hugePrefix || test.to == nobody && !test.canceled) {
				t.Errorf("a huge prefix: %v", huge)
			}
			if canceled := ctx.Err() != nil; canceled != test.canceled {
				t.Errorf("canceled: %v", ctx.Err())
			}
		})
	}
}

// The memory for blocks of headers that are not complete is limited for all connections together. When the connections
// are closed, nothing of it is counted any more.
func TestHeldHeaders(t *testing.T) {
	t.Parallel()
	const frame = 16 << 10
	begun := func(frames int, end bool) []byte {
		var sent bytes.Buffer
		framer := http2.NewFramer(&sent, nil)
		err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, frame)})
		for i := range frames {
			err = errors.Join(err, framer.WriteContinuation(1, end && i == frames-1, make([]byte, frame)))
		}
		if err != nil {
			t.Fatal(err)
		}
		return sent.Bytes()
	}
	g := testGuard()
	var conns []*conn
	refused := 0
	const most = heldBlocks / (3 * frame)
	for range most + 10 {
		c, _ := handshake(t, g, begun(3, false), func() int { return frame })
		if _, err := io.Copy(io.Discard, c); errors.Is(err, errTooManyHeaders) {
			refused++
		}
		conns = append(conns, c)
	}
	if refused != 10 {
		t.Errorf("%d of %d were refused", refused, len(conns))
	}
	if n := g.Stats().Stalled; n != int64(refused) {
		t.Errorf("%d are counted", n)
	}
	// A connection that has no more than one call may have is not closed. After the others are closed, neither is one
	// with a whole block.
	small, _ := handshake(t, g, begun(0, false), func() int { return frame })
	if _, err := io.Copy(io.Discard, small); err != nil {
		t.Error(err)
	}
	for _, c := range conns {
		_ = c.Close()
		_ = c.Close()
	}
	whole, _ := handshake(t, g, begun(3, true), func() int { return frame })
	if _, err := io.Copy(io.Discard, whole); err != nil {
		t.Error(err)
	}
	if n := g.blocks.Load(); n != 0 {
		t.Errorf("%d bytes are counted after the end", n)
	}
}
