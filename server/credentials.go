package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// bearerScheme is compared without regard to letter case (RFC 9110, section 11.1).
const bearerScheme = "bearer "

// bearer is the credential in the metadata `authorization: Bearer CREDENTIAL`. More
// than one is none: which of them counts must not depend on who reads them.
func bearer(ctx context.Context) (string, bool) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) != 1 || len(values[0]) < len(bearerScheme) || !strings.EqualFold(values[0][:len(bearerScheme)], bearerScheme) {
		return "", false
	}
	return values[0][len(bearerScheme):], true
}

// checkKey is the credential check of methods with AUTH_CLASS_ADMIN and
// AUTH_CLASS_SERVICE: the caller must show a key whose hash is in one of the lists.
// Whatever else it shows has the same answer, and all hashes are compared whichever
// matches, so that neither the answer nor its time tells what is configured. Keys
// are random: their plain hashes say nothing of them.
func checkKey(ctx context.Context, lists ...[][sha256.Size]byte) error {
	key, ok := bearer(ctx)
	if !ok || !knownKey(key, lists...) {
		return refuse(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_KEY_INVALID,
			"this method needs a key of an operator or a service that is known here: send the metadata authorization: Bearer KEY once")
	}
	return nil
}

// showsKey says whether the caller shows any key that is known here.
func (s *Server) showsKey(ctx context.Context) bool {
	key, ok := bearer(ctx)
	return ok && knownKey(key, s.cfg.AdminKeys, s.cfg.ServiceKeys)
}

func knownKey(key string, lists ...[][sha256.Size]byte) bool {
	shown := sha256.Sum256([]byte(key))
	known := 0
	for _, list := range lists {
		for _, hash := range list {
			known |= subtle.ConstantTimeCompare(shown[:], hash[:])
		}
	}
	return key != "" && known == 1
}
