package authverify

import (
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// requirement is what a method asks of its callers.
type requirement int

const (
	needsToken requirement = iota // the zero value, so that what is not known is closed
	needsNothing
	needsAnotherCredential
)

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
	needs := needsToken
	switch {
	case err == nil && proto.HasExtension(found.Options(), latchkeyv1.E_Policy):
		needs = declared(found.Options())
	case slices.Contains(v.cfg.PublicServices, service):
		return needsNothing
	}
	if err == nil { // others could be any text a client makes up, and fill the memory
		v.methods.Store(method, needs)
	}
	return needs
}

func declared(options proto.Message) requirement {
	policy, ok := proto.GetExtension(options, latchkeyv1.E_Policy).(*latchkeyv1.Policy)
	if !ok {
		return needsAnotherCredential
	}
	switch policy.GetAuth() {
	case latchkeyv1.AuthClass_AUTH_CLASS_PUBLIC:
		return needsNothing
	case latchkeyv1.AuthClass_AUTH_CLASS_SESSION:
		return needsToken
	case latchkeyv1.AuthClass_AUTH_CLASS_ADMIN, latchkeyv1.AuthClass_AUTH_CLASS_SERVICE,
		latchkeyv1.AuthClass_AUTH_CLASS_UNSPECIFIED:
	}
	// Also a class that this version does not know.
	return needsAnotherCredential
}

// errOtherCredential refuses a method whose policy names a credential that only Latchkey itself can check. No
// caller can do anything about it.
func errOtherCredential(method string) error {
	return status.Error(codes.PermissionDenied,
		method+": its (latchkey.v1.policy) asks for a credential that authverify does not check: declare AUTH_CLASS_PUBLIC or AUTH_CLASS_SESSION")
}
