package server

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
)

// policies has the policy of every method, by its full name ("/package.Service/Method").
type policies map[string]*latchkeyv1.Policy

// publicServices are services of gRPC, whose protos cannot declare a policy. They reveal nothing about accounts.
// Reflection is registered only if the settings say so.
func publicServices() map[string]bool {
	return map[string]bool{
		"grpc.health.v1.Health":                    true,
		"grpc.reflection.v1.ServerReflection":      true,
		"grpc.reflection.v1alpha.ServerReflection": true,
	}
}

// readPolicies collects the (latchkey.v1.policy) of every method of the services. If one is missing or incomplete it
// returns an error: the server must not start.
func readPolicies(services map[string]grpc.ServiceInfo) (policies, error) {
	all := policies{}
	public := publicServices()
	for name, info := range services {
		for _, method := range info.Methods {
			full := "/" + name + "/" + method.Name
			if public[name] {
				all[full] = &latchkeyv1.Policy{Auth: latchkeyv1.AuthClass_AUTH_CLASS_PUBLIC}
				continue
			}
			policy, err := declaredPolicy(name, method.Name)
			if err != nil {
				return nil, err
			}
			all[full] = policy
		}
	}
	return all, nil
}

func declaredPolicy(service, method string) (*latchkeyv1.Policy, error) {
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + method))
	if err != nil {
		return nil, fmt.Errorf("policy of %s.%s: %w", service, method, err)
	}
	policy, ok := proto.GetExtension(found.Options(), latchkeyv1.E_Policy).(*latchkeyv1.Policy)
	if !ok || policy == nil {
		return nil, fmt.Errorf("%s.%s declares no (latchkey.v1.policy): say in its proto who may call it", service, method)
	}
	if policy.GetAuth() == latchkeyv1.AuthClass_AUTH_CLASS_UNSPECIFIED {
		return nil, fmt.Errorf("%s.%s: its (latchkey.v1.policy) names no auth class", service, method)
	}
	if policy.GetAuth() != latchkeyv1.AuthClass_AUTH_CLASS_SESSION && (policy.GetFreshWithin() != nil || policy.GetFactors() != 0) {
		return nil, fmt.Errorf("%s.%s: its (latchkey.v1.policy) has fresh_within or factors without AUTH_CLASS_SESSION", service, method)
	}
	return policy, nil
}

// sitesOfNetwork is how many times the limit of a /64 a whole /48 of IPv6 has. A /48 has 65,536 of them, and often
// belongs to one customer. In an IPv4 /24 each address has its own limit, because they belong to different people.
const sitesOfNetwork = 8

// admit limits how often the client's address, and its network, may call. Callers that show one of our keys are not
// counted, with any method. No address is exempt: behind a proxy on the same host, or one that is not trusted, all
// clients have the address of the proxy. soon means that the call must not wait for a Redis that does not answer.
func (s *Server) admit(ctx context.Context, method string, policy *latchkeyv1.Policy, soon bool) error {
	rate := policy.GetAddressRate()
	if rate == nil || !s.cfg.AddressLimit || s.cfg.Keys.Shown(ctx) {
		return nil
	}
	scope := method[strings.LastIndex(method, "/")+1:]
	allow := s.cfg.Rates.Allow
	if soon {
		allow = s.cfg.BestEffort.Allow
	}
	c := caller.From(ctx)
	limit := ratelimit.Rate{PerMinute: rate.GetPerMinute(), Burst: rate.GetBurst()}
	if err := allow(ctx, scope, c.Site(), limit); err != nil || !c.Address.Is6() {
		return err
	}
	limit.PerMinute, limit.Burst = limit.PerMinute*sitesOfNetwork, limit.Burst*sitesOfNetwork
	return allow(ctx, scope, c.Network(), limit)
}

// enter applies the policy of a method. It checks the credential first, without Redis, because a call with a good one
// must not wait for the address limit. But it returns the error of the limit first: somebody who guesses credentials
// learns nothing once the limit is reached.
func (s *Server) enter(ctx context.Context, method string) (context.Context, error) {
	policy, ok := s.policies[method]
	if !ok {
		return nil, fmt.Errorf("no policy for %s", method)
	}
	entered, refused := s.identify(ctx, method, policy)
	soon := refused == nil
	if policy.GetAuth() == latchkeyv1.AuthClass_AUTH_CLASS_PUBLIC {
		soon = policy.GetRevokes() // the credential is in the message
	}
	if err := s.admit(ctx, method, policy, soon); err != nil {
		return nil, err
	}
	return entered, refused
}

// identify checks the credential in the metadata. It may ask PostgreSQL, but no other store.
func (s *Server) identify(ctx context.Context, method string, policy *latchkeyv1.Policy) (context.Context, error) {
	switch policy.GetAuth() {
	case latchkeyv1.AuthClass_AUTH_CLASS_PUBLIC:
		return ctx, nil
	case latchkeyv1.AuthClass_AUTH_CLASS_SESSION:
		return s.authenticate(ctx, policy)
	case latchkeyv1.AuthClass_AUTH_CLASS_ADMIN:
		caller.NoteOperator(ctx, operatorKeyID(caller.From(ctx).Credential, s.cfg.Keys.Admin))
		return ctx, checkKey(ctx, s.cfg.Keys.Admin)
	case latchkeyv1.AuthClass_AUTH_CLASS_SERVICE:
		return ctx, checkKey(ctx, s.cfg.Keys.Admin, s.cfg.Keys.Service)
	case latchkeyv1.AuthClass_AUTH_CLASS_UNSPECIFIED:
	}
	return nil, fmt.Errorf("%s: auth class %v is not served", method, policy.GetAuth())
}
