//go:build world

package world

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/metadata"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// browser is a Chromium, driven over the pipe of its DevTools protocol: each message is JSON, and a zero byte ends it.
type browser struct {
	t       testing.TB
	to      io.Writer
	session string // of the page

	mu      sync.Mutex
	last    int
	waiting map[int]chan reply
}

type reply struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// chromium starts Debian's Chromium with one page, for which it has an authenticator, and returns its version.
func chromium(t testing.TB, page string) (*browser, string) {
	t.Helper()
	version := debian(t, "chromium")[0]
	ours, theirs, err := os.Pipe()
	check(t, err)
	commands, to, err := os.Pipe()
	check(t, err)
	// As root it has no sandbox. The only page that it opens is ours.
	cmd := exec.CommandContext(t.Context(), "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--user-data-dir="+t.TempDir(),
		"--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{commands, theirs} // it reads from 3 and writes to 4
	var log tail
	cmd.Stderr = &log
	check(t, cmd.Start())
	_ = commands.Close()
	_ = theirs.Close()
	b := &browser{t: t, to: to, waiting: map[int]chan reply{}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.read(ours)
	}()
	t.Cleanup(func() {
		_ = to.Close() // it ends with the pipe
		stop := time.AfterFunc(startTime, func() { _ = cmd.Process.Kill() })
		<-ended
		_ = cmd.Wait()
		stop.Stop()
		if t.Failed() {
			t.Logf("chromium said:\n%s", log.text())
		}
	})
	var target struct {
		TargetID string `json:"targetId"`
	}
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct {
		SessionID string `json:"sessionId"`
	}
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	// Each page needs its own: without, an authenticator is waited for, for ever.
	b.call("WebAuthn.enable", map[string]any{}, nil)
	b.call("WebAuthn.addVirtualAuthenticator", map[string]any{"options": map[string]any{
		"protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true, "isUserVerified": true,
		"automaticPresenceSimulation": true, "defaultBackupEligibility": true, "defaultBackupState": true,
	}}, nil)
	// It answers once the page has taken the place of the empty one. A script would be lost with that.
	b.call("Page.navigate", map[string]any{"url": page}, nil)
	return b, version
}

// passkeyPage is the address of dev's page for passkeys as dev prints it: browsers have none for IP addresses.
func (s *service) passkeyPage(t testing.TB) string {
	t.Helper()
	_, port, err := net.SplitHostPort(s.http)
	check(t, err)
	return "http://" + net.JoinHostPort("localhost", port) + "/dev/passkeys"
}

// read passes replies on until the browser ends.
func (b *browser) read(from io.Reader) {
	messages := bufio.NewReader(from)
	for {
		text, err := messages.ReadBytes(0)
		if err != nil {
			return
		}
		var r reply
		if json.Unmarshal(text[:len(text)-1], &r) != nil || r.ID == 0 {
			continue // an event
		}
		b.mu.Lock()
		answer := b.waiting[r.ID]
		delete(b.waiting, r.ID)
		b.mu.Unlock()
		if answer != nil {
			answer <- r
		}
	}
}

// call calls a method of the DevTools protocol, and reads its result into a pointer, or not if that is nil.
func (b *browser) call(method string, params map[string]any, result any) {
	b.t.Helper()
	answer := make(chan reply, 1)
	b.mu.Lock()
	b.last++
	message := map[string]any{"id": b.last, "method": method, "params": params}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	b.waiting[b.last] = answer
	b.mu.Unlock()
	text, err := json.Marshal(message)
	check(b.t, err)
	if _, err := b.to.Write(append(text, 0)); err != nil {
		b.t.Fatal(err)
	}
	select {
	case r := <-answer:
		if r.Error != nil {
			b.t.Fatalf("%s: %s", method, r.Error.Message)
		}
		if result != nil {
			check(b.t, json.Unmarshal(r.Result, result))
		}
	case <-time.After(startTime):
		b.t.Fatalf("%s: no answer", method)
	}
}

// run evaluates a script in the page, and returns the text that it results in. It waits for promises.
func (b *browser) run(script string) string {
	b.t.Helper()
	var done struct {
		Result struct {
			Value string `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	b.call("Runtime.evaluate", map[string]any{"expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true}, &done)
	if done.Exception != nil {
		b.t.Fatalf("%s\n%s %s", script, done.Exception.Text, done.Exception.Exception.Description)
	}
	return done.Result.Value
}

// press types options into the page for passkeys, presses a button, and returns the answer and what the page says then.
func (b *browser) press(button, options string) (answer, state string) {
	b.t.Helper()
	typed, err := json.Marshal(options)
	check(b.t, err)
	const waiting = "waiting for the authenticator"
	state = b.run(fmt.Sprintf(`(async () => {
		while (document.readyState !== "complete" || !document.getElementById("get")?.onclick) await new Promise(done => setTimeout(done, 20));
		document.getElementById("options").value = %s;
		document.getElementById(%q).click();
		while (document.getElementById("state").textContent === %q) await new Promise(done => setTimeout(done, 20));
		return document.getElementById("state").textContent;
	})()`, typed, button, waiting))
	return b.run(`document.getElementById("answer").value`), state
}

// TestChromium makes a passkey in a real Chromium, on the page that `latchkey dev` names, and logs in with it: alone, and
// after the password. The page only carries the JSON of WebAuthn; the calls are made here.
func TestChromium(t *testing.T) {
	t.Parallel()
	s := dev(t)
	b, version := chromium(t, s.passkeyPage(t))
	auth, account, owner := ada(t, s.grpc)

	register := func() (string, string) {
		t.Helper()
		begun, err := account.StartPasskeyRegistration(owner, &latchkeyv1.StartPasskeyRegistrationRequest{})
		check(t, err)
		credential, state := b.press("create", begun.GetOptionsJson())
		if credential == "" {
			return "", state
		}
		made, err := account.FinishPasskeyRegistration(owner, &latchkeyv1.FinishPasskeyRegistrationRequest{
			ChallengeToken: begun.GetChallengeToken(), CredentialJson: credential,
		})
		check(t, err)
		return made.GetPasskey().GetId(), state
	}
	id, state := register()
	if id == "" {
		t.Fatalf("no passkey: %s", state)
	}
	record("chromium", version, "navigator.credentials.create makes a passkey", "accepted")

	use := func(challengeToken, options string) (*latchkeyv1.AnswerChallengeResponse, error) {
		t.Helper()
		answer, state := b.press("get", options)
		if answer == "" {
			t.Fatalf("no answer: %s", state)
		}
		return auth.AnswerChallenge(t.Context(), &latchkeyv1.AnswerChallengeRequest{
			ChallengeToken: challengeToken, Answer: &latchkeyv1.AnswerChallengeRequest_PasskeyJson{PasskeyJson: answer},
		})
	}
	wantMethods := func(name string, got *latchkeyv1.AnswerChallengeResponse, want string) {
		t.Helper()
		claims := jwt.MapClaims{}
		_, _, err := jwt.NewParser().ParseUnverified(got.GetTokens().GetAccessToken(), claims)
		check(t, err)
		if got := fmt.Sprintf("%v %v", claims["amr"], claims["acr"]); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for range 2 { // the count and the flags of the first login are those that the second one meets
		begun, err := auth.StartPasskeyLogin(t.Context(), &latchkeyv1.StartPasskeyLoginRequest{})
		check(t, err)
		alone, err := use(begun.GetChallengeToken(), begun.GetOptionsJson())
		check(t, err)
		if alone.GetUser().GetEmail() != adaAddress {
			t.Errorf("%v", alone.GetUser())
		}
		wantMethods("alone", alone, "[pop user mfa] aal2")
	}
	record("chromium", version, "navigator.credentials.get logs in without address and password", "accepted")

	asked, err := auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: adaAddress, Password: adaPassword})
	check(t, err)
	if asked.GetChallenge() == nil {
		t.Fatalf("no challenge: %v", asked)
	}
	second, err := use(asked.GetChallenge().GetChallengeToken(), asked.GetChallenge().GetOptionsJson())
	check(t, err)
	wantMethods("after the password", second, "[pwd pop user mfa] aal2")
	record("chromium", version, "navigator.credentials.get after the password", "accepted")

	// The options name the passkeys of the account, so the authenticator makes no second one.
	if again, state := register(); again != "" {
		t.Errorf("a second passkey on one authenticator: %s", state)
	} else {
		record("chromium", version, "create on the same authenticator again", state)
	}
	// Nothing of another page's: 127.0.0.1 is not localhost.
	b.call("Page.navigate", map[string]any{"url": "http://" + s.http + "/dev/passkeys"}, nil)
	begun, err := auth.StartPasskeyLogin(t.Context(), &latchkeyv1.StartPasskeyLoginRequest{})
	check(t, err)
	if answer, state := b.press("get", begun.GetOptionsJson()); answer != "" {
		t.Errorf("at 127.0.0.1 it answers %s", answer)
	} else {
		record("chromium", version, "get at 127.0.0.1", state)
	}
	owner = metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+second.GetTokens().GetAccessToken())
	_, err = account.RemovePasskey(owner, &latchkeyv1.RemovePasskeyRequest{PasskeyId: id})
	check(t, err)
}
