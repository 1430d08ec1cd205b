package caller_test

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/caller"
)

// TestBlocks checks which addresses are counted together.
func TestBlocks(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct{ address, text, site, network, source string }{
		"IPv4":       {"192.0.2.77", "192.0.2.77", "192.0.2.77", "192.0.2.0/24", "192.0.2.77"},
		"IPv6":       {"2001:db8:1:2::7", "2001:db8:1:2::7", "2001:db8:1:2::/64", "2001:db8:1::/48", "2001:db8:1::/48"},
		"no address": {"", "", "invalid IP", "invalid Prefix", "invalid IP"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c caller.Caller
			if want.address != "" {
				c.Address = netip.MustParseAddr(want.address)
			}
			if c.AddressText() != want.text || c.Site() != want.site || c.Network() != want.network || c.Source() != want.source {
				t.Errorf("%q %q %q %q, want %+v", c.AddressText(), c.Site(), c.Network(), c.Source(), want)
			}
		})
	}
}

// TestContext checks that an earlier context of the request also has the account that a handler notes.
func TestContext(t *testing.T) {
	t.Parallel()
	if c := caller.From(t.Context()); c != (caller.Caller{}) {
		t.Errorf("outside a request: %+v", c)
	}
	outer := caller.With(t.Context(), &caller.Caller{TraceID: "trace", Credential: "key"})
	inner, cancel := context.WithCancel(outer)
	defer cancel()
	id := uuid.New()
	caller.NoteUser(inner, id)
	if c := caller.From(outer); c.UserID() != id || c.TraceID != "trace" || c.Credential != "key" {
		t.Errorf("%+v, want account %s", c, id)
	}
}
