package server_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// caller is a kind of credential, and the classes of methods that it may call.
type caller struct {
	name     string
	metadata func(t *testing.T) []string // values of authorization
	may      []latchkeyv1.AuthClass
}

func callers(s *testenv.Server) []caller {
	const (
		public  = latchkeyv1.AuthClass_AUTH_CLASS_PUBLIC
		session = latchkeyv1.AuthClass_AUTH_CLASS_SESSION
		service = latchkeyv1.AuthClass_AUTH_CLASS_SERVICE
		admin   = latchkeyv1.AuthClass_AUTH_CLASS_ADMIN
	)
	fixed := func(values ...string) func(*testing.T) []string {
		return func(*testing.T) []string { return values }
	}
	hash := sha256.Sum256([]byte(testenv.AdminKey))
	return []caller{
		{"none", fixed(), []latchkeyv1.AuthClass{public}},
		{"empty value", fixed(""), []latchkeyv1.AuthClass{public}},
		{"empty key", fixed("Bearer "), []latchkeyv1.AuthClass{public}},
		{"no space", fixed("Bearer"), []latchkeyv1.AuthClass{public}},
		{"wrong key", fixed("Bearer " + flip(testenv.AdminKey, 3)), []latchkeyv1.AuthClass{public}},
		{"shorter key", fixed("Bearer " + testenv.AdminKey[:len(testenv.AdminKey)-1]), []latchkeyv1.AuthClass{public}},
		{"longer key", fixed("Bearer " + testenv.AdminKey + "x"), []latchkeyv1.AuthClass{public}},
		{"two spaces", fixed("Bearer  " + testenv.AdminKey), []latchkeyv1.AuthClass{public}},
		{"the configured hash", fixed("Bearer " + hex.EncodeToString(hash[:])), []latchkeyv1.AuthClass{public}},
		{"no scheme", fixed(testenv.AdminKey), []latchkeyv1.AuthClass{public}},
		{"basic", fixed("Basic " + testenv.AdminKey), []latchkeyv1.AuthClass{public}},
		{"twice", fixed("Bearer "+testenv.AdminKey, "Bearer "+testenv.AdminKey), []latchkeyv1.AuthClass{public}},
		{"wrong and right", fixed("Bearer x", "Bearer "+testenv.AdminKey), []latchkeyv1.AuthClass{public}},
		// A new one each time, because some methods end it.
		{"user's token", func(t *testing.T) []string {
			t.Helper()
			return []string{"Bearer " + logIn(t, s, email).GetAccessToken()}
		}, []latchkeyv1.AuthClass{public, session}},
		{"refresh token", func(t *testing.T) []string {
			t.Helper()
			return []string{"Bearer " + logIn(t, s, email).GetRefreshToken()}
		}, []latchkeyv1.AuthClass{public}},
		{"service key", fixed("Bearer " + testenv.ServiceKey), []latchkeyv1.AuthClass{public, service}},
		{"admin key", fixed("Bearer " + testenv.AdminKey), []latchkeyv1.AuthClass{public, service, admin}},
		{"admin key, other letter case of the scheme", fixed("bEaReR " + testenv.AdminKey), []latchkeyv1.AuthClass{public, service, admin}},
	}
}

// callEmpty calls any method, unary or streaming, with an empty message, and returns the error of its first answer.
func callEmpty(ctx context.Context, s *testenv.Server, method string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stream, err := s.Conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, rawCodec())
	if err != nil {
		return err
	}
	// EOF: the server has answered already, and RecvMsg returns the answer.
	if err := stream.SendMsg(rawMessage("")); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.RecvMsg(nil)
}

// TestEveryMethodForEveryCaller calls all RPCs, as every kind of caller, over a real listener. Callers that are let in
// get an answer about the (empty) request. All others get one of two refusals, which depends only on the policy of the
// method.
func TestEveryMethodForEveryCaller(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{Legacy: testenv.Existing(t)})
	signUp(t, s, email)
	classes, texts := map[latchkeyv1.AuthClass]int{}, map[string]bool{}
	for method, policy := range s.Server.Policies() {
		classes[policy.GetAuth()]++
		for _, c := range callers(s) {
			md := metadata.MD{}
			md.Append("authorization", c.metadata(t)...)
			err := callEmpty(metadata.NewOutgoingContext(t.Context(), md), s, method)
			if method == latchkeyv1.AccountService_DeleteAccount_FullMethodName && err == nil {
				signUp(t, s, email) // for the methods after it
			}
			reason, allowed := reasonIn(err), false
			for _, class := range c.may {
				allowed = allowed || class == policy.GetAuth()
			}
			want := map[latchkeyv1.AuthClass]string{
				latchkeyv1.AuthClass_AUTH_CLASS_SESSION: "TOKEN_INVALID", latchkeyv1.AuthClass_AUTH_CLASS_SERVICE: "KEY_INVALID",
				latchkeyv1.AuthClass_AUTH_CLASS_ADMIN: "KEY_INVALID",
			}[policy.GetAuth()]
			switch code := status.Code(err); {
			case method == latchkeyv1.AuthService_VerifyEmail_FullMethodName && reason == "TOKEN_INVALID":
				// It reads the session of its caller, if there is one. A token that is not good must not count as none:
				// then the call would take the password from the account.
			case allowed && (code == codes.Unauthenticated || code == codes.Internal || code == codes.DeadlineExceeded):
				t.Errorf("%s (%v) does not let in %s: %v", method, policy.GetAuth(), c.name, err)
			case !allowed && (code != codes.Unauthenticated || reason != want):
				t.Errorf("%s (%v) answers %s with %v %s, want %s", method, policy.GetAuth(), c.name, err, reason, want)
			case !allowed && reason == "KEY_INVALID":
				texts[status.Convert(err).Message()] = true
			}
		}
	}
	if len(texts) != 1 {
		t.Errorf("refusals can be told apart: %v", texts)
	}
	if classes[latchkeyv1.AuthClass_AUTH_CLASS_ADMIN] < 6 || classes[latchkeyv1.AuthClass_AUTH_CLASS_SERVICE] < 1 || classes[latchkeyv1.AuthClass_AUTH_CLASS_PUBLIC] < 8 {
		t.Errorf("not every class was tried: %v", classes)
	}
}

// If there are several keys, each is good. If there are none, nobody is an operator. An empty key is never good.
func TestConfiguredKeys(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	try := func(key string) error {
		_, err := s.Admin.ListUsers(testenv.WithKey(t.Context(), key), &latchkeyv1.ListUsersRequest{})
		return err
	}
	several := []string{"first", "", "second", "third"}
	s.Server.SetKeys(several...)
	for _, key := range several {
		if err := try(key); (err == nil) != (key != "") {
			t.Errorf("%q: %v", key, err)
		}
	}
	wantRefused(t, try(""), codes.Unauthenticated, "KEY_INVALID")
	_, err := s.Admin.ListUsers(t.Context(), &latchkeyv1.ListUsersRequest{})
	wantRefused(t, err, codes.Unauthenticated, "KEY_INVALID")
	s.Server.SetKeys()
	for _, key := range append(several, testenv.AdminKey, testenv.ServiceKey, strings.Repeat("0", 64)) {
		wantRefused(t, try(key), codes.Unauthenticated, "KEY_INVALID")
	}
}

// The caller is checked before the message is read.
func TestKeyBeforeRequest(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	_, err := s.Admin.SuspendUser(t.Context(), &latchkeyv1.SuspendUserRequest{UserId: "no uuid"})
	wantRefused(t, err, codes.Unauthenticated, "KEY_INVALID")
	_, err = s.Admin.SuspendUser(asAdmin(t), &latchkeyv1.SuspendUserRequest{UserId: "no uuid"})
	wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "user_id")
}

// reasonIn returns the reason in an error's ErrorInfo.
func reasonIn(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// asAdmin returns a context for calls of an operator.
func asAdmin(t *testing.T) context.Context {
	t.Helper()
	return testenv.WithKey(t.Context(), testenv.AdminKey)
}
