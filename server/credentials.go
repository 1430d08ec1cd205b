package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"

	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/validate"
)

// checkKey checks the credential for methods with AUTH_CLASS_ADMIN and AUTH_CLASS_SERVICE: the caller must show a key
// whose hash is in one of the lists. The answer to every other credential is the same, and all hashes are compared even
// if one matches, so that neither the answer nor its time reveals the settings. Keys are random, so plain hashes reveal
// nothing about them.
func checkKey(ctx context.Context, lists ...[][sha256.Size]byte) error {
	if !knownKey(caller.From(ctx).Credential, lists...) {
		return refusal.New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_KEY_INVALID,
			"this method needs a key of an operator or a service that is known here: send the metadata authorization: Bearer KEY once")
	}
	return nil
}

// Keys are the SHA-256 hashes of the keys that callers may show.
type Keys struct {
	// Admin keys may call methods for operators and for services. Service keys may call only those for services. If a
	// list is empty, nobody may.
	Admin, Service [][sha256.Size]byte
}

// Shown returns whether the caller shows one of these keys.
func (k Keys) Shown(ctx context.Context) bool {
	return knownKey(caller.From(ctx).Credential, k.Admin, k.Service)
}

// operatorKeyID returns the id of the admin key that the caller shows, or "" if it is none of ours. It names the key in
// the audit trail: 8 hex digits of the hash of a random key are of no help to guess it, and find it in the settings.
func operatorKeyID(key string, admin [][sha256.Size]byte) string {
	if !knownKey(key, admin) {
		return ""
	}
	shown := sha256.Sum256([]byte(key))
	return hex.EncodeToString(shown[:4])
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

// authenticate checks the credential for methods with AUTH_CLASS_SESSION.
func (s *Server) authenticate(ctx context.Context, policy *latchkeyv1.Policy) (context.Context, error) {
	accessToken := caller.From(ctx).Credential
	if accessToken == "" {
		return nil, refusal.New(codes.Unauthenticated, latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID,
			"this method needs an access token: send the metadata authorization: Bearer TOKEN once")
	}
	v, err := s.cfg.Validation.Validate(ctx, accessToken, validate.ForAccount)
	if err != nil {
		return nil, err
	}
	if v.Misused {
		return nil, refusal.New(codes.Unauthenticated, v.Reason,
			"this access token is for services: send the account_token that Login and RefreshToken answer beside it")
	}
	if v.Reason != latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		code := codes.Unauthenticated
		if v.Reason == latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED {
			code = codes.PermissionDenied
		}
		return nil, refusal.New(code, v.Reason, "the access token is not accepted: refresh it or log in again")
	}
	if err := s.checkAuthentication(v.Claims, policy); err != nil {
		return nil, err
	}
	return revoke.WithAuthority(ctx, revoke.Authority{
		UserID: v.Claims.UserID, SessionID: v.Claims.SessionID, Position: v.Claims.Position, KeyID: v.KeyID,
		Factors: v.Claims.Factors(), AuthTime: v.Claims.AuthTime, AMR: v.Claims.AMR,
	}), nil
}

// checkAuthentication checks how and when the session of a good token was authenticated. The claims decide, not the
// session as it is stored: a token from before a Reauthenticate does not become fresh, so a stolen copy of it does not
// either. A caller that lacks both learns first that it needs a factor, since Reauthenticate with a factor mends both.
func (s *Server) checkAuthentication(claims *accesstoken.Claims, policy *latchkeyv1.Policy) error {
	if claims.Factors() < policy.GetFactors() {
		return refusal.FactorRequired()
	}
	if policy.GetFreshWithin() == nil {
		return nil
	}
	within := cmp.Or(policy.GetFreshWithin().AsDuration(), s.cfg.FreshWithin)
	if !claims.Fresh(s.cfg.Now(), within) {
		return refusal.FreshLoginRequired()
	}
	return nil
}
