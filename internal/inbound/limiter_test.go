package inbound

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

type nothing struct{ net.Conn }

func (nothing) Close() error { return nil }

// In any order of arrivals, no limit is passed, nothing is counted twice, and an address is never refused while another
// has two connections more than it would have.
func TestLimiterIsFair(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := NewLimiter(LimiterConfig{
			Most: 30, MostPerAddress: 12, Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Logger: slog.New(slog.DiscardHandler),
		})
		held := map[*counted]bool{}
		for range 100 {
			address := rapid.SampledFrom([]string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "10.1.2.3", "", ""}).Draw(t, "who comes")
			if address == "" { // one connection closes
				for c := range held {
					_ = c.Close()
					delete(held, c)
					break
				}
				continue
			}
			come(t, l, held, address)
		}
		for c := range held {
			_ = c.Close()
			_ = c.Close()
		}
		if l.Stats().Open != 0 || len(l.peers) != 0 {
			t.Fatalf("%d are counted after the end", l.Stats().Open)
		}
	})
}

func come(t *rapid.T, l *Limiter, held map[*counted]bool, address string) {
	c := &counted{Conn: nothing{}, limiter: l}
	var exempt bool
	c.peer, exempt = l.peerOf(net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 1)))
	before := map[netip.Prefix]int{}
	for other := range held {
		if !other.exempt {
			before[other.peer]++
		}
	}
	displaced, ok := l.take(c, exempt)
	if displaced != nil {
		_ = displaced.Close()
		if !held[displaced] || displaced.exempt {
			t.Fatal("somebody else's place was given away")
		}
		delete(held, displaced)
	}
	mine := len(l.peers[c.peer])
	if ok {
		held[c] = true
	} else if exempt || mine < 12 {
		for peer, n := range before {
			if peer != c.peer && n > mine+1 {
				t.Fatalf("refused with %d while %v has %d", mine, peer, n)
			}
		}
	}
	if !exempt && mine > 12 || len(held) > 30 || l.Stats().Open != int64(len(held)) {
		t.Fatalf("%d of %v, %d in all, counted as %d", mine, c.peer, len(held), l.Stats().Open)
	}
}

func TestPeersOfLimiter(t *testing.T) {
	t.Parallel()
	l := NewLimiter(LimiterConfig{Most: 1, MostPerAddress: 1})
	for address, want := range map[string]string{
		"192.0.2.7":         "192.0.2.7/32",
		"::ffff:192.0.2.7":  "192.0.2.7/32",
		"2001:db8::1:2:3:4": "2001:db8::/64",
		"fe80::1%eth0":      "fe80::/64",
	} {
		got, _ := l.peerOf(net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 1)))
		if got.String() != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}
