package authverify

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

// credential is the kind of credential that a method asks of its callers.
type credential int

const (
	needsToken credential = iota // the zero value, so that what is not known is closed
	needsNothing
	needsAnotherCredential
)

// requirement is what a method asks of its callers.
type requirement struct {
	credential credential
	// freshWithin is how recent the authentication must be. 0: any time ago.
	freshWithin time.Duration
	// factors is how many factors it must have had.
	factors uint32
}

// requires returns what the method ("/package.Service/Method") asks for: what the policy in its proto says,
// else nothing for the public services, else a token.
func (v *Verifier) requires(method string) requirement {
	if known, ok := v.methods.Load(method); ok {
		if needs, ok := known.(requirement); ok {
			return needs
		}
	}
	service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + name))
	needs := requirement{credential: needsToken}
	switch {
	case err == nil && proto.HasExtension(found.Options(), latchkeyv1.E_Policy):
		needs = v.declared(found.Options())
	case slices.Contains(v.cfg.PublicServices, service):
		return requirement{credential: needsNothing}
	}
	if err == nil { // others could be any text a client makes up, and fill the memory
		v.methods.Store(method, needs)
	}
	return needs
}

func (v *Verifier) declared(options proto.Message) requirement {
	policy, ok := proto.GetExtension(options, latchkeyv1.E_Policy).(*latchkeyv1.Policy)
	if !ok {
		return requirement{credential: needsAnotherCredential}
	}
	switch policy.GetAuth() {
	case latchkeyv1.AuthClass_AUTH_CLASS_PUBLIC:
		if policy.GetFreshWithin() == nil && policy.GetFactors() == 0 {
			return requirement{credential: needsNothing}
		}
		// Nobody has an authentication here, so nobody may call.
		return requirement{credential: needsAnotherCredential}
	case latchkeyv1.AuthClass_AUTH_CLASS_SESSION:
		needs := requirement{credential: needsToken, factors: policy.GetFactors()}
		if policy.GetFreshWithin() != nil {
			// At least a nanosecond: a duration below zero, which the rules of the contract forbid, must not ask for nothing.
			needs.freshWithin = max(cmp.Or(policy.GetFreshWithin().AsDuration(), v.cfg.FreshWithin), 1)
		}
		return needs
	case latchkeyv1.AuthClass_AUTH_CLASS_ADMIN, latchkeyv1.AuthClass_AUTH_CLASS_SERVICE,
		latchkeyv1.AuthClass_AUTH_CLASS_UNSPECIFIED:
	}
	// Also a class that this version does not know.
	return requirement{credential: needsAnotherCredential}
}

// checkAuthentication checks how and when the session of a good token was authenticated. Its error is the status that
// the client receives.
func (v *Verifier) checkAuthentication(found *verified, needs requirement) error {
	claims := accesstoken.Claims(found.claims)
	switch {
	case claims.Factors() < needs.factors:
		return newStatus(codes.FailedPrecondition, latchkeyv1.ErrorReason_ERROR_REASON_FACTOR_REQUIRED,
			"this needs a second factor: call Reauthenticate with it and send the access token that it answers with")
	case needs.freshWithin != 0 && !claims.Fresh(v.cfg.Now(), needs.freshWithin):
		return newStatus(codes.FailedPrecondition, latchkeyv1.ErrorReason_ERROR_REASON_FRESH_LOGIN_REQUIRED,
			"this needs a more recent login: call Reauthenticate and send the access token that it answers with")
	}
	return nil
}

// errOtherCredential refuses a method whose policy names a credential that only Latchkey itself can check. No
// caller can do anything about it.
func errOtherCredential(method string) error {
	return status.Error(codes.PermissionDenied,
		method+": its (latchkey.v1.policy) asks for a credential that authverify does not check: declare AUTH_CLASS_PUBLIC or AUTH_CLASS_SESSION")
}
