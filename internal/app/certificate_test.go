package app

import (
	"bytes"
	"crypto/x509"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/testenv/testcert"
)

// renewals is a certificate whose clock and files the test has in its hands.
type renewals struct {
	*certificate

	dir string
	now time.Time
	log bytes.Buffer
}

func newRenewals(t *testing.T, edits ...func(*x509.Certificate)) *renewals {
	t.Helper()
	r := &renewals{dir: t.TempDir(), now: time.Now()}
	certFile, keyFile := testcert.Write(t, r.dir, "first", edits...)
	var err error
	r.certificate, err = loadTLS(&config.Config{TLSCertFile: certFile, TLSKeyFile: keyFile})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// after looks once more, that much later, and returns what was logged.
func (r *renewals) after(t *testing.T, later time.Duration) string {
	t.Helper()
	r.now = r.now.Add(later)
	r.log.Reset()
	r.look(t.Context(), slog.New(slog.NewTextHandler(&r.log, nil)), r.now)
	return r.log.String()
}

func (r *renewals) write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// served is the name in the certificate that a client is shown.
func (r *renewals) served(t *testing.T) string {
	t.Helper()
	pair, err := r.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf.Subject.CommonName
}

func (r *renewals) wantWarning(t *testing.T, want string) {
	t.Helper()
	warnings := strings.Join(r.warnings(), "\n")
	if want == "" && warnings != "" || !strings.Contains(warnings, want) || strings.Contains(warnings, r.dir) {
		t.Errorf("/readyz warns %q, want %q", warnings, want)
	}
}

// TestRenewedCertificate: a renewal needs no restart.
func TestRenewedCertificate(t *testing.T) {
	t.Parallel()
	r := newRenewals(t)
	if log := r.after(t, 0); r.served(t) != "first" || log != "" {
		t.Errorf("serves %s, logs %s", r.served(t), log)
	}
	testcert.Write(t, r.dir, "second")
	if log := r.after(t, certificateCheck); r.served(t) != "second" || !strings.Contains(log, "certificate renewed") {
		t.Errorf("after a renewal: serves %s, logs %s", r.served(t), log)
	}
	r.wantWarning(t, "")
}

// TestRenewalBetweenFiles: of the two files of a renewal one is there first. That is no
// failure, and the new pair is served when the other has come.
func TestRenewalBetweenFiles(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"cert", "key"} {
		r := newRenewals(t)
		newCert, newKey := testcert.Write(t, t.TempDir(), "second")
		order := [][2]string{{newCert, r.certFile}, {newKey, r.keyFile}}
		if first == "key" {
			order[0], order[1] = order[1], order[0]
		}
		for i, move := range order {
			text, err := os.ReadFile(move[0])
			if err != nil {
				t.Fatal(err)
			}
			r.write(t, move[1], string(text))
			log := r.after(t, certificateCheck)
			r.wantWarning(t, "")
			if want := []string{"first", "second"}[i]; r.served(t) != want || strings.Contains(log, "WARN") {
				t.Errorf("%s first, step %d: serves %s, logs %s", first, i, r.served(t), log)
			}
		}
	}
}

// TestBrokenRenewal: whatever is wrong with the files, the pair in use stays, and it is
// told on the second look, once an hour, and when it is over.
func TestBrokenRenewal(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, r *renewals){
		"half a file": func(t *testing.T, r *renewals) { t.Helper(); r.write(t, r.certFile, "half a file") },
		"gone": func(t *testing.T, r *renewals) {
			t.Helper()
			if err := os.Remove(r.certFile); err != nil {
				t.Fatal(err)
			}
		},
		"another's key": func(t *testing.T, r *renewals) {
			t.Helper()
			_, keyFile := testcert.Write(t, t.TempDir(), "other")
			text, err := os.ReadFile(keyFile)
			if err != nil {
				t.Fatal(err)
			}
			r.write(t, r.keyFile, string(text))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRenewals(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(90 * 24 * time.Hour) })
			damage(t, r)
			if log := r.after(t, certificateCheck); log != "" {
				t.Errorf("the first look logs %s", log)
			}
			log := r.after(t, certificateCheck)
			for _, want := range []string{"WARN", "the renewed certificate cannot be used", "not_after=", "error="} {
				if !strings.Contains(log, want) {
					t.Errorf("%q is not in the log: %s", want, log)
				}
			}
			if strings.Contains(log, "PRIVATE") || strings.Contains(log, "half a file") {
				t.Errorf("the log quotes a file: %s", log)
			}
			r.wantWarning(t, "the renewed certificate cannot be used (the one in use is good until ")
			if log := r.after(t, certificateRemind-time.Second); log != "" {
				t.Errorf("within an hour: %s", log)
			}
			if log := r.after(t, time.Second); !strings.Contains(log, "WARN") {
				t.Errorf("after an hour: %s", log)
			}
			if r.served(t) != "first" {
				t.Errorf("serves %s", r.served(t))
			}
			testcert.Write(t, r.dir, "third", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(90 * 24 * time.Hour) })
			if log := r.after(t, certificateCheck); !strings.Contains(log, "the problem with the certificate has ended") || r.served(t) != "third" {
				t.Errorf("serves %s, logs %s", r.served(t), log)
			}
			r.wantWarning(t, "")
		})
	}
}

// TestLateRenewal: the log has a certificate that nobody renews when a tenth of its life is left, and when it has
// expired.
func TestLateRenewal(t *testing.T) {
	t.Parallel()
	start := time.Now().Add(-time.Minute)
	r := newRenewals(t, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = start, start.Add(100*time.Hour) })
	if log := r.after(t, 89*time.Hour); log != "" {
		t.Errorf("with 11 of 100 hours left: %s", log)
	}
	if log := r.after(t, time.Hour); !strings.Contains(log, "not renewed in time") {
		t.Errorf("with under 10 hours left: %q", log)
	}
	r.wantWarning(t, "not renewed in time")
	if log := r.after(t, 10*time.Hour); !strings.Contains(log, "problem=expired") {
		t.Errorf("after its end: %q", log)
	}
	r.wantWarning(t, "expired")
}

// TestCertificateMetrics: when it expires, for an alert on any threshold.
func TestCertificateMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	var none *certificate
	if err := none.register(registry); err != nil || none.warnings() != nil || none.config() != nil {
		t.Errorf("without TLS: %v", err)
	}
	if err := newRenewals(t).register(registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil || len(families) != 2 {
		t.Fatalf("%v, %v", families, err)
	}
}
