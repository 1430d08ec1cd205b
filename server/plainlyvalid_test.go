package server

import (
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

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
	for m, n := range map[proto.Message]int{&latchkeyv1.ValidateTokenRequest{}: 1, &latchkeyv1.LoginRequest{}: 5} {
		if fields := m.ProtoReflect().Descriptor().Fields().Len(); fields != n {
			t.Errorf("%T has %d fields, and isPlainlyValid knows %d", m, fields, n)
		}
	}
	for _, other := range []proto.Message{&latchkeyv1.RefreshTokenRequest{RefreshToken: "x"}, nil} {
		if isPlainlyValid(other) {
			t.Errorf("%T spares the validator", other)
		}
	}
}

// TestPlainlyValidLogins: a login spares the validator only if the validator would accept it, and a usual one does.
func TestPlainlyValidLogins(t *testing.T) {
	t.Parallel()
	validator, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	usual := &latchkeyv1.LoginRequest{
		Email: "zoë@example.com", Password: "pässword 1", DeviceName: "My phone", DeviceToken: strings.Repeat("x", 256),
	}
	if !isPlainlyValid(usual) {
		t.Error("a usual login needs the validator")
	}
	rapid.Check(t, func(t *rapid.T) {
		text := func(label string, most int) string {
			return rapid.OneOf(
				rapid.String(),
				rapid.StringOfN(rapid.RuneFrom([]rune{'a', ' ', '~', 0, 0x1f, 0x7f, 'é', 0x2028, 0x202e}), max(0, most-2), most+2, -1),
			).Draw(t, label)
		}
		m := &latchkeyv1.LoginRequest{
			Email: text("email", 255), Password: text("password", 128), DeviceName: text("device", 100), DeviceToken: text("token", 256),
		}
		if err := validator.Validate(m); err != nil && isPlainlyValid(m) {
			t.Errorf("%q: %v", m, err)
		}
	})
}
