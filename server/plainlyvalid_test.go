package server

import (
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

// TestPlainlyValid shows that a message which spares the validator keeps the rules of its proto, and that the messages
// at the bounds do spare it. A field or a rule that comes later must be looked at here first.
func TestPlainlyValid(t *testing.T) {
	t.Parallel()
	validator, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	const bound = accesstoken.MaxTokenBytes
	for _, token := range []string{
		"", "x", "é", "\u0000", strings.Repeat("x", bound-1), strings.Repeat("x", bound), strings.Repeat("x", bound+1),
		strings.Repeat("é", bound/2), strings.Repeat("é", bound/2) + "x", strings.Repeat("€", bound/3), strings.Repeat("x", 2*bound),
	} {
		m := &latchkeyv1.ValidateTokenRequest{AccessToken: token}
		if want := validator.Validate(m) == nil; isPlainlyValid(m) != want {
			t.Errorf("%d bytes: the rules say valid %v", len(token), want)
		}
	}
	if n := (&latchkeyv1.ValidateTokenRequest{}).ProtoReflect().Descriptor().Fields().Len(); n != 1 {
		t.Errorf("ValidateTokenRequest has %d fields, and isPlainlyValid knows one", n)
	}
	for _, other := range []proto.Message{&latchkeyv1.LoginRequest{}, &latchkeyv1.RefreshTokenRequest{RefreshToken: "x"}, nil} {
		if isPlainlyValid(other) {
			t.Errorf("%T spares the validator", other)
		}
	}
}
