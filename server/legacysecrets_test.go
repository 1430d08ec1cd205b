package server_test

import (
	"bytes"
	"strings"
	"testing"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// TestNoSecretOfATakeoverIsStoredOrLogged shows every secret of the older backends, rightly and wrongly, to both
// contracts, and looks for it in PostgreSQL and in the log. In Redis the backends have stored them themselves.
func TestNoSecretOfATakeoverIsStoredOrLogged(t *testing.T) {
	t.Parallel()
	s, backend, old := oldContract(t)
	secrets := map[string]string{"HS256 secret": backend.JWT.Rust.Secret, "new password": "A-brand-new-1!", "wrong password": "not this password"}
	for _, sess := range backend.Sessions {
		for kind, token := range map[string]string{"access": sess.AccessToken, "refresh": sess.RefreshToken} {
			secrets[sess.Email+"'s "+kind+" token"] = token
			secrets[sess.Email+"'s "+kind+" token's signature"] = token[strings.LastIndex(token, ".")+1:]
			_, _ = old.ValidateToken(t.Context(), &authpb.ValidateTokenRequest{AccessToken: token})
			_, _ = old.ValidateToken(t.Context(), &authpb.ValidateTokenRequest{AccessToken: flip(token, 300%len(token))})
			_, _ = s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: token})
		}
		_, _ = tryRefresh(t.Context(), s, flip(sess.RefreshToken, 100), "")
		_, _ = tryRefresh(t.Context(), s, sess.AccessToken, "")
		tokens := refresh(t, s, sess.RefreshToken, "the-request-id-of-a-trade")
		secrets["request id"] = "the-request-id-of-a-trade"
		secrets[sess.Email+"'s traded refresh token"] = tokens.GetRefreshToken()
		refresh(t, s, sess.RefreshToken, "the-request-id-of-a-trade")
	}
	for _, user := range backend.Users {
		secrets[user.Email+"'s password"] = user.Password
		_, _ = old.Login(t.Context(), &authpb.LoginRequest{Email: user.Email, Password: user.Password})
		_, _ = old.Login(t.Context(), &authpb.LoginRequest{Email: user.Email, Password: "not this password"})
	}
	for _, reset := range backend.ResetTokens {
		secrets["reset token "+reset.Key[:8]] = reset.Token
		_, _ = old.ResetPassword(t.Context(), &authpb.ResetPasswordRequest{Token: reset.Token, NewPassword: "weak"})
		for range 2 {
			_, _ = old.ResetPassword(t.Context(), &authpb.ResetPasswordRequest{Token: reset.Token, NewPassword: "A-brand-new-1!"})
		}
	}
	// An internal error and a lost store are logged with everything that is known.
	execSQL(t, s, "ALTER TABLE legacy_spent RENAME TO legacy_spent_gone")
	for _, sess := range backend.Sessions {
		_, _ = tryRefresh(t.Context(), s, sess.RefreshToken, "")
		_ = tryLogout(t.Context(), s, sess.RefreshToken)
	}
	execSQL(t, s, "ALTER TABLE legacy_spent_gone RENAME TO legacy_spent")
	places := map[string][]byte{"PostgreSQL": dumpPostgres(t, s), "the log": s.Logs.Bytes()}
	if spent := count(t, s, "SELECT count(*) FROM legacy_spent"); spent != len(backend.Sessions)+len(backend.ResetTokens) ||
		!bytes.Contains(places["the log"], []byte("internal error")) {
		t.Fatalf("%d tokens were spent", spent)
	}
	searchFor(t, secrets, places)
}
