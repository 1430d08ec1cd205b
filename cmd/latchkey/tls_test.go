package main

import (
	"crypto/tls"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/internal/testenv/testcert"
)

// TestFailedRenewalIsTold runs the service: the log, the metrics and /readyz report the failure, and calls continue
// over the good certificate.
func TestFailedRenewalIsTold(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	certFile, keyFile := testcert.Write(t, t.TempDir(), "first")
	settings["LATCHKEY_TLS_CERT_FILE"], settings["LATCHKEY_TLS_KEY_FILE"] = certFile, keyFile
	p := start(t, pairs(settings), "serve")
	addrs := p.addrs(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	ready := func() string { return get(t, client, "https://"+addrs["http"]+"/readyz") }
	metrics := func() string { return get(t, http.DefaultClient, "http://"+addrs["ops"]+"/metrics") }
	if text := ready(); strings.Contains(text, "warnings") {
		t.Errorf("readyz: %s", text)
	}
	own, err := readCertificates(certFile)
	if err != nil {
		t.Fatal(err)
	}
	expiry := "latchkey_tls_certificate_expiry_timestamp_seconds " + strconv.FormatFloat(float64(own[0].NotAfter.Unix()), 'g', -1, 64)
	if text := metrics(); !strings.Contains(text, expiry) || !strings.Contains(text, "latchkey_tls_certificate_renewal_failing 0") {
		t.Errorf("%s is not among the metrics", expiry)
	}
	if err := os.WriteFile(certFile, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, patience, "readyz warns", func() bool { return strings.Contains(ready(), `"warnings":["TLS certificate: `) })
	if text := ready(); !strings.Contains(text, `"ready":true`) {
		t.Errorf("a replica with a good certificate is not ready: %s", text)
	}
	if !strings.Contains(metrics(), "latchkey_tls_certificate_renewal_failing 1") {
		t.Error("the metrics do not say it")
	}
	if text := p.text(&p.stderr); !strings.Contains(text, "the renewed certificate cannot be used") {
		t.Errorf("the log does not say it: %s", text)
	}
}
