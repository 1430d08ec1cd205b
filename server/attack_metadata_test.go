package server_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// A call with too much metadata is refused, and no other call on its connection.
func TestMetadataIsRefusedAlone(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	connection := func() string {
		var on peer.Peer
		if _, err := s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: "x"}, grpc.Peer(&on)); err != nil {
			t.Fatal(err)
		}
		return on.LocalAddr.String()
	}
	first := connection()
	for _, test := range []struct {
		values, size int
		want         codes.Code
	}{{1, 15 << 10, codes.OK}, {8, 15 << 10, codes.OK}, {1, 17 << 10, codes.ResourceExhausted}, {8, 24 << 10, codes.ResourceExhausted}, {1, 60 << 10, codes.ResourceExhausted}} {
		sent := metadata.MD{}
		for range test.values {
			sent.Append("x-value", strings.Repeat("v", test.size/test.values))
		}
		_, err := s.Auth.ValidateToken(metadata.NewOutgoingContext(t.Context(), sent), &latchkeyv1.ValidateTokenRequest{AccessToken: "x"})
		if status.Code(err) != test.want {
			t.Errorf("%d values, %d bytes: %v", test.values, test.size, err)
		}
	}
	if now := connection(); now != first {
		t.Errorf("the connection %s was closed, this is %s", first, now)
	}
	logs := string(s.Logs.Bytes())
	if !strings.Contains(logs, `"a call with too much metadata was refused"`) || strings.Contains(logs, "vvvv") {
		t.Error("the log does not tell, or has what was sent")
	}
}
