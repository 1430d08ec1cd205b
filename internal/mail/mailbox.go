package mail

import (
	"bytes"
	"context"
	"encoding/json"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-auth/latchkey/internal/hosts"
)

// defaultMailboxSize is enough for a test run to find its mails. Each needs about 4 KiB.
const defaultMailboxSize = 200

// Mailbox is the [Sender] for development. It keeps the newest messages in memory and shows them on a page and as JSON.
// Its handlers answer only requests that name this machine as their host. Safe for concurrent use.
type Mailbox struct {
	size    int
	forward Sender
	page    *template.Template

	mu       sync.Mutex
	messages []Message // oldest first
}

// NewMailbox keeps the newest size messages (default 200) and passes each one on to forward, unless forward is nil.
func NewMailbox(size int, forward Sender) *Mailbox {
	if size <= 0 {
		size = defaultMailboxSize
	}
	return &Mailbox{
		size:    size,
		forward: forward,
		page:    template.Must(template.ParseFS(templateFiles, "templates/page/mailbox.html")),
	}
}

// Send keeps m, then forwards it and returns the result. If forwarding fails, the message stays visible, and its retry
// appears as another message.
func (b *Mailbox) Send(ctx context.Context, m Message) error {
	b.mu.Lock()
	if len(b.messages) == b.size {
		b.messages = slices.Delete(b.messages, 0, 1)
	}
	b.messages = append(b.messages, m)
	b.mu.Unlock()
	if b.forward == nil {
		return nil
	}
	return b.forward.Send(ctx, m)
}

// Messages returns the kept messages, newest first.
func (b *Mailbox) Messages() []Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	messages := slices.Clone(b.messages)
	slices.Reverse(messages)
	return messages
}

// Page serves the messages as HTML (/dev/mailbox). The HTML of a mail is in a sandboxed frame: no scripts, no forms, no
// origin. Links open in a new tab.
func (b *Mailbox) Page(w http.ResponseWriter, r *http.Request) {
	if !isLocalRead(w, r) {
		return
	}
	var body bytes.Buffer
	if err := b.page.Execute(&body, b.Messages()); err != nil {
		http.Error(w, "the mailbox page could not be written", http.StatusInternalServerError)
		return
	}
	// The frames have this policy too. Mails need inline styles. Images are not loaded, so tracking pixels do nothing.
	w.Header().Set("Content-Security-Policy",
		"default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	answer(w, "text/html; charset=utf-8", body.Bytes())
}

// mailJSON is the JSON of a message. Scripts depend on it.
type mailJSON struct {
	To      string    `json:"to"`
	Subject string    `json:"subject"`
	Text    string    `json:"text"`
	HTML    string    `json:"html"`
	Time    time.Time `json:"time"`
}

// JSON serves the messages as an array (/dev/mailbox.json), newest first. Each has to, subject, text, html and time
// (RFC 3339). Without messages it is [].
func (b *Mailbox) JSON(w http.ResponseWriter, r *http.Request) {
	if !isLocalRead(w, r) {
		return
	}
	messages := b.Messages()
	out := make([]mailJSON, len(messages))
	for i, m := range messages {
		out[i] = mailJSON{To: m.To, Subject: m.Subject, Text: m.Text, HTML: m.HTML, Time: m.Time}
	}
	body, err := json.Marshal(out)
	if err != nil {
		http.Error(w, "the mailbox could not be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	answer(w, "application/json", append(body, '\n'))
}

// isLocalRead refuses all requests except reads that were addressed to this machine. A web page elsewhere can make its
// own host name resolve to 127.0.0.1 (DNS rebinding) and could then read the links as its own origin. The Host header
// shows that.
func isLocalRead(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "read only", http.StatusMethodNotAllowed)
		return false
	}
	if !loopbackHostHeader(r.Host) {
		http.Error(w, "the mailbox answers on localhost only", http.StatusForbidden)
		return false
	}
	return true
}

func loopbackHostHeader(host string) bool {
	if name, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
		// JoinHostPort adds brackets to IPv6 addresses. The name has none here.
		return hosts.IsLoopbackInBrowsers(name)
	}
	if ip, ok := strings.CutPrefix(host, "["); ok {
		ip, ok = strings.CutSuffix(ip, "]")
		addr, err := netip.ParseAddr(ip)
		return ok && err == nil && addr.Is6() && hosts.IsLoopback(ip)
	}
	return hosts.IsLoopbackInBrowsers(host)
}

func answer(w http.ResponseWriter, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	// An error means that the reader has hung up.
	_, _ = w.Write(body)
}
