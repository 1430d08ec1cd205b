package mail_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/mail"
)

func get(t *testing.T, handler http.HandlerFunc, host string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/dev/mailbox", nil)
	r.Host = host
	w := httptest.NewRecorder()
	handler(w, r)
	return w
}

func TestMailboxJSON(t *testing.T) {
	t.Parallel()
	box := mail.NewMailbox(2, nil)
	if w := get(t, box.JSON, "localhost:8080"); w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != "[]" {
		t.Fatalf("empty: %d %s", w.Code, w.Body)
	}
	for i := range 3 {
		m := message()
		m.Subject = strconv.Itoa(i)
		if err := box.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	w := get(t, box.JSON, "localhost:8080")
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	var got []map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0]["subject"] != "2" || got[1]["subject"] != "1" {
		t.Fatalf("not the two newest, newest first: %v", got)
	}
	want := map[string]string{
		"to": "ada@example.org", "subject": "2", "text": message().Text, "html": message().HTML, "time": "2026-11-24T03:41:00Z",
	}
	for key, value := range want {
		if got[0][key] != value {
			t.Errorf("%s: %q, want %q", key, got[0][key], value)
		}
	}
	if len(got[0]) != len(want) {
		t.Errorf("keys of %v", got[0])
	}
}

// TestMailboxPageIsInert puts markup into every field.
func TestMailboxPageIsInert(t *testing.T) {
	t.Parallel()
	const attack = `"'></title></pre></h2></iframe><script>alert(1)</script><img src=x onerror=alert(1)>&quot;`
	box := mail.NewMailbox(0, nil)
	m := mail.Message{To: attack, Subject: attack, Text: attack, HTML: attack, Time: written}
	if err := box.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	w := get(t, box.Page, "127.0.0.1:8080")
	page := w.Body.String()
	if w.Code != http.StatusOK || strings.Count(page, "<iframe") != 1 || strings.Count(page, "</iframe>") != 1 {
		t.Fatalf("%d %s", w.Code, page)
	}
	for _, markup := range []string{"<script", "<img", `"'>`} {
		if strings.Contains(page, markup) {
			t.Errorf("%s reached the page", markup)
		}
	}
	if n := strings.Count(page, "&lt;script&gt;"); n != 4 {
		t.Errorf("%d escaped copies, want 4", n)
	}
	frame := regexp.MustCompile(`<iframe [^>]*>`).FindString(page)
	sandbox := regexp.MustCompile(`sandbox="([^"]*)"`).FindStringSubmatch(frame)
	if sandbox == nil || strings.Contains(sandbox[1], "allow-scripts") || strings.Contains(sandbox[1], "allow-same-origin") || strings.Contains(sandbox[1], "allow-forms") {
		t.Errorf("frame %s", frame)
	}
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "script-src") || strings.Contains(policy, "img-src") ||
		!strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("policy %q", policy)
	}
	for key, value := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
	} {
		if got := w.Header().Get(key); got != value {
			t.Errorf("%s: %q", key, got)
		}
	}
}

func TestMailboxHostCheck(t *testing.T) {
	t.Parallel()
	box := mail.NewMailbox(0, nil)
	for host, want := range map[string]int{
		"localhost": 200, "localhost:8080": 200, "LOCALHOST:8080": 200, "localhost.:8080": 200, "latchkey.localhost:1": 200,
		"127.0.0.1": 200, "127.0.0.1:8080": 200, "127.1.2.3:80": 200, "[::1]": 200, "[::1]:8080": 200, "[::ffff:127.0.0.1]:80": 200,
		"": 403, "attacker.example": 403, "attacker.example:8080": 403, "localhost.attacker.example:8080": 403,
		"notlocalhost": 403, "127.0.0.1.attacker.example": 403, "192.168.1.10:8080": 403, "[::2]:80": 403, "[::1": 403,
		"[127.0.0.1]": 403, "0.0.0.0:8080": 403, "localhost:8080@attacker.example": 403, "localhost:": 403, "localhost,attacker.example": 403,
	} {
		for name, handler := range map[string]http.HandlerFunc{"page": box.Page, "JSON": box.JSON} {
			if got := get(t, handler, host).Code; got != want {
				t.Errorf("%s, host %q: %d, want %d", name, host, got, want)
			}
		}
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/dev/mailbox", nil)
	r.Host = "localhost"
	if box.Page(w, r); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}

type senderFunc func(ctx context.Context, m mail.Message) error

func (f senderFunc) Send(ctx context.Context, m mail.Message) error { return f(ctx, m) }

func TestMailboxForwards(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	var forwarded []mail.Message
	box := mail.NewMailbox(0, senderFunc(func(_ context.Context, m mail.Message) error {
		forwarded = append(forwarded, m)
		return refused
	}))
	if err := box.Send(t.Context(), message()); !errors.Is(err, refused) {
		t.Errorf("error %v", err)
	}
	if len(forwarded) != 1 || forwarded[0] != message() || len(box.Messages()) != 1 {
		t.Errorf("forwarded %v, kept %v", forwarded, box.Messages())
	}
}

func TestMailboxConcurrently(t *testing.T) {
	t.Parallel()
	box := mail.NewMailbox(5, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 50 {
			if err := box.Send(context.Background(), message()); err != nil {
				t.Error(err)
			}
		}
	}()
	for range 50 {
		if w := get(t, box.Page, "localhost"); w.Code != http.StatusOK {
			t.Errorf("status %d", w.Code)
		}
	}
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("stuck")
	}
	if n := len(box.Messages()); n != 5 {
		t.Errorf("%d messages, want 5", n)
	}
}
