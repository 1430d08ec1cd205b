//go:build world

package world

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// TestOathtool has oathtool play the authenticator app: it reads the secret as EnrollTotp shows it, and its codes confirm
// the app and log in, each once.
func TestOathtool(t *testing.T) {
	t.Parallel()
	version := debian(t, "oathtool")[0]
	s := dev(t)
	auth, account, owner := ada(t, s.grpc)
	shown, err := account.EnrollTotp(owner, &latchkeyv1.EnrollTotpRequest{})
	check(t, err)
	uri, err := url.Parse(shown.GetUri())
	check(t, err)
	query := uri.Query()
	code := func(now time.Time) string {
		t.Helper()
		// Everything that an app reads from the QR code.
		out := command(t, startTime, nil, "oathtool", "--totp="+strings.ToLower(query.Get("algorithm")), "--digits="+query.Get("digits"),
			"--time-step-size="+query.Get("period")+"s", "--now="+now.UTC().Format("2006-01-02 15:04:05 UTC"),
			"--base32", query.Get("secret"))
		return strings.TrimSpace(string(out))
	}
	now := time.Now()
	// The code of the next step is good too, so the test need not wait 30 seconds for another one.
	_, err = account.ConfirmTotp(owner, &latchkeyv1.ConfirmTotpRequest{Code: code(now)})
	check(t, err)
	record("oathtool", version, "confirms the app", "accepted")

	answer := func() error {
		t.Helper()
		asked, err := auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: adaAddress, Password: adaPassword})
		check(t, err)
		if asked.GetChallenge() == nil {
			t.Fatalf("no challenge: %v", asked)
		}
		_, err = auth.AnswerChallenge(t.Context(), &latchkeyv1.AnswerChallengeRequest{
			ChallengeToken: asked.GetChallenge().GetChallengeToken(), Answer: &latchkeyv1.AnswerChallengeRequest_TotpCode{TotpCode: code(now.Add(30 * time.Second))},
		})
		return err
	}
	check(t, answer())
	record("oathtool", version, "answers the challenge of a login", "accepted once")
	if err := answer(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("the same code again: %v", err)
	}
}
