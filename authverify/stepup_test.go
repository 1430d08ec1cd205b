package authverify_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/latchkey-auth/latchkey/authverify"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// The methods of a service whose policies ask for more than a token.
func stepUpPolicies() map[string]*latchkeyv1.Policy {
	session := latchkeyv1.AuthClass_AUTH_CLASS_SESSION
	return map[string]*latchkeyv1.Policy{
		"Plain":     {Auth: session, Factors: 1},
		"Fresh":     {Auth: session, FreshWithin: &durationpb.Duration{}},
		"Minute":    {Auth: session, FreshWithin: durationpb.New(time.Minute)},
		"Negative":  {Auth: session, FreshWithin: durationpb.New(-time.Minute)},
		"Factor":    {Auth: session, Factors: 2},
		"Both":      {Auth: session, Factors: 2, FreshWithin: durationpb.New(5 * time.Minute)},
		"Forgotten": {Auth: latchkeyv1.AuthClass_AUTH_CLASS_PUBLIC, Factors: 2},
	}
}

// stepUpService registers the service and its descriptor.
func stepUpService(t *testing.T, s *grpc.Server) {
	t.Helper()
	service := &descriptorpb.ServiceDescriptorProto{Name: new("StepUp")}
	desc := &grpc.ServiceDesc{ServiceName: "test.stepup.StepUp", HandlerType: (*any)(nil)}
	for name, policy := range stepUpPolicies() {
		options := &descriptorpb.MethodOptions{}
		proto.SetExtension(options, latchkeyv1.E_Policy, policy)
		service.Method = append(service.Method, &descriptorpb.MethodDescriptorProto{
			Name: new(name), InputType: new(".google.protobuf.Empty"), OutputType: new(".google.protobuf.Empty"), Options: options,
		})
		desc.Methods = append(desc.Methods, grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			if err := decode(&emptypb.Empty{}); err != nil {
				return nil, err
			}
			return intercept(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/test.stepup.StepUp/" + name}, func(context.Context, any) (any, error) {
				return &emptypb.Empty{}, nil
			})
		}})
	}
	s.RegisterService(desc, nil)
	const path = "test/stepup.proto"
	if _, err := protoregistry.GlobalFiles.FindFileByPath(path); err == nil {
		return // from an earlier run of the test in this process
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new(path), Package: new("test.stepup"), Syntax: new("proto3"),
		Dependency: []string{"google/protobuf/empty.proto"}, Service: []*descriptorpb.ServiceDescriptorProto{service},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	if err := protoregistry.GlobalFiles.RegisterFile(file); err != nil {
		t.Fatal(err)
	}
}

// What fresh_within and factors of a policy ask for, by tokens of different ages and factors.
func TestStepUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, _ := w.ready(t, func(config *authverify.Config) { config.FreshWithin = 20 * time.Minute })
	conn := serve(t, func(s *grpc.Server) { stepUpService(t, s) }, grpc.UnaryInterceptor(v.UnaryInterceptor()))
	const fresh, factor = "FRESH_LOGIN_REQUIRED", "FACTOR_REQUIRED"
	for name, c := range map[string]struct {
		ago     time.Duration // 0: auth_time is absent
		acr     string
		refused map[string]string
	}{
		"an old token":        {0, "", map[string]string{"Fresh": fresh, "Minute": fresh, "Factor": factor, "Both": factor}},
		"one factor, now":     {time.Second, "aal1", map[string]string{"Factor": factor, "Both": factor}},
		"two factors, now":    {time.Second, "aal2", nil},
		"two, 2 minutes ago":  {2 * time.Minute, "aal2", map[string]string{"Minute": fresh}},
		"two, 6 minutes ago":  {6 * time.Minute, "aal2", map[string]string{"Minute": fresh, "Both": fresh}},
		"two, 21 minutes ago": {21 * time.Minute, "aal2", map[string]string{"Minute": fresh, "Both": fresh, "Fresh": fresh}},
		"an unknown class":    {time.Second, "urn:example:gold", map[string]string{"Factor": factor, "Both": factor}},
	} {
		claims := w.claims(newPerson(t))
		if c.ago != 0 {
			claims["auth_time"] = w.Now().Add(-c.ago).Unix()
		}
		if c.acr != "" {
			claims["acr"] = c.acr
		}
		ctx := withToken(t.Context(), "Bearer "+w.sign(t, "k1", nil, claims))
		for method := range stepUpPolicies() {
			err := conn.Invoke(ctx, "/test.stepup.StepUp/"+method, &emptypb.Empty{}, &emptypb.Empty{})
			switch want := c.refused[method]; {
			case method == "Forgotten":
				if err == nil {
					t.Errorf("%s: a public method that asks for a factor lets everybody pass", name)
				}
			case method == "Negative":
				wantRefusal(t, err, codes.FailedPrecondition, fresh)
			case want == "":
				if err != nil {
					t.Errorf("%s: %s: %v", name, method, err)
				}
			default:
				t.Log(name, method)
				wantRefusal(t, err, codes.FailedPrecondition, want)
			}
		}
	}
}
