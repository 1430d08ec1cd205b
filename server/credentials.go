package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"

	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// checkKey is the credential check of methods with AUTH_CLASS_ADMIN and
// AUTH_CLASS_SERVICE: the caller must show a key whose hash is in one of the lists.
// Whatever else it shows has the same answer, and all hashes are compared whichever
// matches, so that neither the answer nor its time tells what is configured. Keys
// are random: their plain hashes say nothing of them.
func checkKey(ctx context.Context, lists ...[][sha256.Size]byte) error {
	if !knownKey(caller.From(ctx).Credential, lists...) {
		return refusal.New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_KEY_INVALID,
			"this method needs a key of an operator or a service that is known here: send the metadata authorization: Bearer KEY once")
	}
	return nil
}

// showsKey says whether the caller shows any key that is known here.
func (s *Server) showsKey(ctx context.Context) bool {
	return knownKey(caller.From(ctx).Credential, s.cfg.AdminKeys, s.cfg.ServiceKeys)
}

func knownKey(key string, lists ...[][sha256.Size]byte) bool {
	if key == "" {
		return false
	}
	shown := sha256.Sum256([]byte(key))
	known := 0
	for _, list := range lists {
		for _, hash := range list {
			known |= subtle.ConstantTimeCompare(shown[:], hash[:])
		}
	}
	return known == 1
}
