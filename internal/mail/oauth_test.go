package mail_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/mail"
)

// tokenServer is the token endpoint of a provider, which issues a different token each time.
type tokenServer struct {
	url string

	mu     sync.Mutex
	asked  []url.Values
	refuse bool
}

func startTokens(t *testing.T) *tokenServer {
	t.Helper()
	s := &tokenServer{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		user, password, _ := r.BasicAuth()
		s.mu.Lock()
		defer s.mu.Unlock()
		r.PostForm.Set("basic", user+":"+password)
		s.asked = append(s.asked, r.PostForm)
		w.Header().Set("Content-Type", "application/json")
		if s.refuse {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"error":"invalid_grant","error_description":"refresh hunter22 was revoked"}`))
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprintf("ya29.token-%d", len(s.asked)), "token_type": "Bearer", "expires_in": 3600})
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *tokenServer) requests() []url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func TestXOAUTH2(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		oauth mail.OAuth
		want  url.Values
	}{
		"refresh token": {
			mail.OAuth{ClientID: "id", ClientSecret: "s3cret", RefreshToken: "hunter22"},
			url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"hunter22"}, "basic": {"id:s3cret"}},
		},
		"client credentials": {
			mail.OAuth{ClientID: "id", ClientSecret: "s3cret", Scope: "https://outlook.office365.com/.default"},
			url.Values{"grant_type": {"client_credentials"}, "scope": {"https://outlook.office365.com/.default"}, "basic": {"id:s3cret"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tokens := startTokens(t)
			tt.oauth.TokenURL = tokens.url
			s := startSMTP(t, func(s *smtpServer) { s.auth, s.mechanisms = true, "LOGIN XOAUTH2" })
			out := oauthSender(t, s, "smtp://no-reply%40example.com@"+s.addr+"?auth=xoauth2", tt.oauth)
			for range 2 {
				if err := out.Send(t.Context(), message()); err != nil {
					t.Fatal(err)
				}
			}
			asked := tokens.requests()
			if len(asked) != 1 {
				t.Fatalf("%d tokens for two mails", len(asked))
			}
			for key := range tt.want {
				if asked[0].Get(key) != tt.want.Get(key) {
					t.Errorf("%s: %q", key, asked[0].Get(key))
				}
			}
			for _, got := range s.got() {
				if got.login != "user=no-reply@example.com\x01auth=Bearer ya29.token-1\x01\x01" || !got.tls {
					t.Errorf("login %q, TLS %v", got.login, got.tls)
				}
			}
			if strings.Contains(s.plaintext(), "AUTH") {
				t.Error("AUTH came before TLS")
			}
		})
	}
}

// A token that the mail server refuses is not used again, and no secret is in the error.
func TestXOAUTH2Refused(t *testing.T) {
	t.Parallel()
	tokens := startTokens(t)
	oauth := mail.OAuth{TokenURL: tokens.url, ClientID: "id", RefreshToken: "hunter22"}
	s := startSMTP(t, func(s *smtpServer) {
		s.auth, s.mechanisms = true, "XOAUTH2"
		started := map[string]bool{}
		s.reply = func(verb, line string) string {
			switch {
			case verb == "AUTH" && !started[line]:
				started[line] = true
				return "334 eyJzdGF0dXMiOiI0MDEifQ=="
			case verb == "" && len(started) > 0: // the empty line with which the client asks for the refusal
				return "535 5.7.3 ya29.token-1 Authentication unsuccessful"
			}
			return ""
		}
	})
	out := oauthSender(t, s, "smtp://me@"+s.addr+"?auth=xoauth2", oauth)
	var failed *mail.SendError
	if err := out.Send(t.Context(), message()); !errors.As(err, &failed) || failed.Code != 535 || failed.Text != "(…) Authentication unsuccessful" || failed.Permanent {
		t.Errorf("%v", err)
	}
	tokens.mu.Lock()
	tokens.refuse = true
	tokens.mu.Unlock()
	err := out.Send(t.Context(), message())
	if n := len(tokens.requests()); n < 2 || err == nil || !strings.Contains(err.Error(), "400 Bad Request (invalid_grant)") || strings.Contains(err.Error(), "hunter22") {
		t.Errorf("%d requests: %v", n, err)
	}
}

func TestXOAUTH2Settings(t *testing.T) {
	t.Parallel()
	good := mail.OAuth{TokenURL: "https://login.example.com/token", ClientID: "id", ClientSecret: "s3cret"}
	for name, change := range map[string]func(*mail.OAuth){
		"no endpoint":  func(o *mail.OAuth) { o.TokenURL = "" },
		"plaintext":    func(o *mail.OAuth) { o.TokenURL = "http://login.example.com/token" },
		"no client":    func(o *mail.OAuth) { o.ClientID = "" },
		"no secret":    func(o *mail.OAuth) { o.ClientSecret = "" },
		"user in URL":  func(o *mail.OAuth) { o.TokenURL = "https://a:b@login.example.com/token" },
		"not a scheme": func(o *mail.OAuth) { o.TokenURL = "file:///token" },
	} {
		oauth := good
		change(&oauth)
		_, err := mail.NewSMTP(mail.SMTPConfig{URL: "smtp://me@mail.example.com?auth=xoauth2", From: "a@example.com", OAuth: oauth})
		if !errors.Is(err, mail.ErrOAuth) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, raw := range []string{
		"smtp://me:pw@mail.example.com?auth=xoauth2", "smtp://mail.example.com?auth=xoauth2", "smtp://me@mail.example.com", "smtp://me@mail.example.com?auth=plain",
		"smtp://me@mail.example.com?auth=xoauth2&auth=xoauth2", "smtp://me@mail.example.com?auth=xoauth2&starttls=never",
	} {
		if _, err := mail.ParseSMTPURL(raw); !errors.Is(err, mail.ErrSMTPURL) {
			t.Errorf("%s: %v", raw, err)
		}
	}
	server, err := mail.ParseSMTPURL("smtps://me%40example.com@smtp.example.com?auth=xoauth2")
	if err != nil || server.Username != "me@example.com" || !server.XOAUTH2 || server.String() != "smtps://smtp.example.com:465?auth=xoauth2" {
		t.Errorf("%v, %v", server, err)
	}
	// The token is not sent in any other way to a server that does not offer XOAUTH2.
	tokens := startTokens(t)
	s := startSMTP(t, func(s *smtpServer) { s.auth = true })
	out := oauthSender(t, s, "smtp://me@"+s.addr+"?auth=xoauth2", mail.OAuth{TokenURL: tokens.url, ClientID: "id", ClientSecret: "s3cret"})
	if err := out.Send(t.Context(), message()); err == nil || !strings.Contains(err.Error(), "does not offer XOAUTH2") || len(s.got()) != 0 {
		t.Errorf("%v", err)
	}
}

func oauthSender(t *testing.T, s *smtpServer, url string, oauth mail.OAuth) *mail.SMTP {
	t.Helper()
	out, err := mail.NewSMTP(mail.SMTPConfig{URL: url, From: "no-reply@example.com", RootCAs: s.roots, OAuth: oauth})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
