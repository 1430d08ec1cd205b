package server_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// tokenPaths has every method whose answer can hold an access token or a refresh token, and a check that it gives none,
// for an account with a second factor, to somebody who has everything but that factor.
func tokenPaths() map[protoreflect.FullName]func(t *testing.T) {
	return map[protoreflect.FullName]func(t *testing.T){
		"latchkey.v1.AuthService.Login": func(t *testing.T) {
			t.Helper()
			s := testenv.Start(t, testenv.Options{})
			_, _, tokens := guarded(t, s)
			known, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
			if err != nil || known.GetTokens() != nil {
				t.Fatalf("%v, %v", known, err)
			}
			// Neither a new password of one's own nor one by a mailed link takes the place of the factor.
			changed, err := s.Auth.ChangePassword(as(t, tokens), &latchkeyv1.ChangePasswordRequest{CurrentPassword: password, NewPassword: newPassword})
			if err != nil {
				t.Fatal(err)
			}
			resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: newPassword, DeviceToken: changed.GetDeviceToken()})
			if err != nil || resp.GetTokens() != nil || resp.GetChallenge() == nil {
				t.Errorf("with a device token: %v, %v", resp, err)
			}
			execSQL(t, s, "UPDATE users SET is_verified = true") // of an account that nobody has proved, a reset removes the factors
			_, link := resetMail(t, s, email)
			if err := tryReset(t.Context(), s, link, password); err != nil {
				t.Fatal(err)
			}
			challenge(t, s)
		},
		"latchkey.v1.AuthService.AnswerChallenge": func(t *testing.T) {
			t.Helper()
			s := testenv.Start(t, testenv.Options{})
			phone, _, _ := guarded(t, s)
			_, err := tryAnswer(t.Context(), s, withCode(challenge(t, s), wrongTotp(phone)))
			wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "totp_code")
			// A mailed code is one factor. The mails of the account are not the second.
			mails := testenv.Start(t, testenv.Options{LoginByCode: true})
			proved(t, mails, email)
			enrol(t, mails, logIn(t, mails, email).GetAccessToken())
			token := sendCode(t, mails, email)
			asked, err := tryAnswer(t.Context(), mails, withMailed(token, mailedCode(t, mails, email, 1)))
			if err != nil || asked.GetTokens() != nil || asked.GetUser() != nil || asked.GetDeviceToken() != "" || asked.GetChallenge() == nil {
				t.Fatalf("%v, %v", asked, err)
			}
			again := sendCode(t, mails, email)
			_, err = tryAnswer(t.Context(), mails, withMailed(asked.GetChallenge().GetChallengeToken(), mailedCode(t, mails, email, 2)))
			wantRefused(t, err, codes.Unauthenticated, "CHALLENGE_INVALID")
			if asked, err = tryAnswer(t.Context(), mails, withMailed(again, mailedCode(t, mails, email, 2))); err != nil || asked.GetTokens() != nil {
				t.Errorf("a second code: %v, %v", asked, err)
			}
		},
		"latchkey.v1.AuthService.RefreshToken": func(t *testing.T) {
			t.Helper()
			// The trade of a refresh token of an older backend starts a session.
			backend, s, _ := takeover(t)
			for _, old := range oneOfEach(t, backend) {
				execSQL(t, s, "INSERT INTO factors (id, user_id, kind, name, created_at) SELECT gen_random_uuid(), id, 'totp', '', $1 FROM users WHERE email = $2", s.Clock.Now(), old.Email)
				_, err := tryRefresh(t.Context(), s, old.RefreshToken, "")
				wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
				if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'legacy_refresh_traded'"); n != 0 {
					t.Errorf("%d trades", n)
				}
			}
			// A session from before the factor goes on, and its tokens say that it had one factor.
			own := testenv.Start(t, testenv.Options{})
			_, _, tokens := guarded(t, own)
			if claims := claimsOf(t, own, refresh(t, own, tokens.GetRefreshToken(), "").GetAccessToken()); claims.ACR != "aal1" {
				t.Errorf("a refresh makes it %s", claims.ACR)
			}
		},
		"latchkey.v1.AccountService.Reauthenticate": func(t *testing.T) {
			t.Helper()
			s := testenv.Start(t, testenv.Options{})
			phone, recovery, tokens := guarded(t, s)
			if claims := claimsOf(t, s, reauthenticate(t, s, tokens.GetAccessToken())); claims.ACR != "aal1" {
				t.Errorf("the password makes it %s", claims.ACR)
			}
			_, err := tryReauthenticate(t.Context(), s, tokens.GetAccessToken(), &latchkeyv1.ReauthenticateRequest{
				Proof: &latchkeyv1.ReauthenticateRequest_TotpCode{TotpCode: wrongTotp(phone)},
			})
			wantRefused(t, err, codes.InvalidArgument, "CODE_INVALID", "totp_code")
			// A session with two factors has one after a Reauthenticate with the password.
			strong := mustAnswer(t, s, withRecovery(challenge(t, s), recovery[0])).GetTokens().GetAccessToken()
			if claims := claimsOf(t, s, reauthenticate(t, s, strong)); claims.ACR != "aal1" {
				t.Errorf("the password leaves it %s", claims.ACR)
			}
		},
		"latchkey.v1.AuthService.ExchangeAuthorizationCode": func(t *testing.T) {
			t.Helper()
			s := testenv.Start(t, testenv.Options{ReturnURLs: []string{appURL}})
			_, _, tokens := guarded(t, s)
			s.Clock.Advance(time.Second)
			weak := &latchkeyv1.Tokens{AccessToken: reauthenticate(t, s, tokens.GetAccessToken())}
			_, err := tryAuthorize(t.Context(), s, weak, appURL)
			wantRefused(t, err, codes.FailedPrecondition, "FACTOR_REQUIRED")
			// The session of the enrolment is from before the factor. So is the app's.
			got, err := exchange(t.Context(), s, authorize(t, s, tokens))
			if err != nil || claimsOf(t, s, got.GetTokens().GetAccessToken()).ACR != "aal1" {
				t.Errorf("%v, %v", got, err)
			}
		},
		"auth.AuthService.Login": func(t *testing.T) {
			t.Helper()
			s, _, old := oldContract(t)
			signUp(t, s, email)
			oldLogin(t, old, email, password)
			enrol(t, s, logIn(t, s, email).GetAccessToken())
			_, err := old.Login(t.Context(), &authpb.LoginRequest{Email: email, Password: password})
			wantText(t, err, codes.PermissionDenied, "additional verification required")
			_, err = old.Login(t.Context(), &authpb.LoginRequest{Email: email, Password: "Wrong1horse"})
			if got := reasonOf(err); got == "FACTOR_REQUIRED" {
				t.Error("a wrong password reveals that the account has a second factor")
			}
			if n := count(t, s, "SELECT count(*) FROM challenges"); n != 0 {
				t.Errorf("%d challenges that nobody can answer", n)
			}
		},
	}
}

// No path to a token leads around the second factor. A method that can answer with tokens, and is not in the list above,
// fails this test.
func TestNoPathAroundTheSecondFactor(t *testing.T) {
	t.Parallel()
	paths := tokenPaths()
	var found []protoreflect.FullName
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if file.Package() != "latchkey.v1" && file.Package() != "auth" {
			return true
		}
		services := file.Services()
		for i := range services.Len() {
			methods := services.Get(i).Methods()
			for j := range methods.Len() {
				if m := methods.Get(j); hasToken(m.Output(), map[protoreflect.FullName]bool{}) {
					found = append(found, m.FullName())
				}
			}
		}
		return true
	})
	slices.Sort(found)
	if want := slices.Sorted(maps.Keys(paths)); !slices.Equal(found, want) {
		t.Fatalf("methods that can answer with tokens: %v, want %v: add a check to tokenPaths", found, want)
	}
	for name, check := range paths {
		t.Run(string(name), func(t *testing.T) {
			t.Parallel()
			check(t)
		})
	}
}

// hasToken returns whether a message can hold an access token or a refresh token, itself or in another message.
func hasToken(message protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool {
	if seen[message.FullName()] {
		return false
	}
	seen[message.FullName()] = true
	fields := message.Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		switch field.Name() {
		case "access_token", "refresh_token", "account_token":
			return true
		}
		if field.Message() != nil && hasToken(field.Message(), seen) {
			return true
		}
	}
	return false
}
