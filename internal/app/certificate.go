package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/latchkey-auth/latchkey/internal/config"
)

const (
	// certificateCheck is the longest time until a renewed certificate is noticed.
	certificateCheck = 10 * time.Second
	// certificateRemind is how often a problem that persists is logged again.
	certificateRemind = time.Hour
	// lateRenewal: a renewal is overdue if less than a tenth of the certificate's life is left (9 days of 90,
	// 14 hours of 6 days). Automatic renewals happen with a third or a half of it left.
	lateRenewal = 10
)

// certificate is the certificate and key of both public listeners. The files are read again when one of them
// changes, so that a renewal needs no restart. If the new ones cannot be used, the listeners keep the old
// pair, and the problem is logged.
type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex
	current *tls.Certificate // with its Leaf
	read    [2]fileState     // of both files, when current was read

	// wrong is the problem that is logged: the files cannot be used, or the renewal is overdue. failures
	// counts how many checks in a row found the files unusable. told is when wrong was last logged.
	wrong    string
	failures int
	told     time.Time
}

// fileState differs after a file was written or replaced.
type fileState struct {
	changed time.Time
	size    int64
}

// loadTLS reads the certificate of the settings. It returns nil if none is set.
func loadTLS(cfg *config.Config) (*certificate, error) {
	if cfg.TLSCertFile == "" {
		return nil, nil //nolint:nilnil // no TLS is a setting, not an error
	}
	c := &certificate{certFile: cfg.TLSCertFile, keyFile: cfg.TLSKeyFile}
	if err := c.load(); err != nil {
		return nil, config.Reject("LATCHKEY_TLS_CERT_FILE", "and LATCHKEY_TLS_KEY_FILE cannot be used ("+err.Error()+")")
	}
	return c, nil
}

// config returns the configuration of the listeners, or nil without a certificate.
func (c *certificate) config() *tls.Config {
	if c == nil {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get, NextProtos: []string{"h2", "http/1.1"}}
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current, nil
}

// load reads both files if one of them has changed.
func (c *certificate) load() error {
	var read [2]fileState
	for i, path := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		read[i] = fileState{info.ModTime(), info.Size()}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && read == c.read {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	if pair.Leaf == nil {
		return errors.New("the certificate was not parsed: GODEBUG has x509keypairleaf=0")
	}
	c.current, c.read = &pair, read
	return nil
}

func (c *certificate) leaf() *x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current.Leaf
}

// watch checks the files again and again until ctx ends.
func (c *certificate) watch(ctx context.Context, log *slog.Logger) {
	if c == nil {
		return
	}
	ticks := time.NewTicker(certificateCheck)
	defer ticks.Stop()
	c.look(ctx, log, time.Now()) // the certificate may be old already
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticks.C:
			c.look(ctx, log, now)
		}
	}
}

// look reads the files if they have changed. It logs a problem with them when it begins, once an hour while
// it persists, and when it has ended.
func (c *certificate) look(ctx context.Context, log *slog.Logger, now time.Time) {
	before := c.leaf()
	err := c.load()
	leaf := c.leaf()
	if !leaf.Equal(before) {
		log.InfoContext(ctx, "certificate renewed", "not_after", leaf.NotAfter)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.failures = 0
	} else {
		c.failures++
	}
	was := c.wrong
	c.wrong = ""
	switch left := leaf.NotAfter.Sub(now); {
	case left <= 0:
		c.wrong = "expired"
	case c.failures > 1: // the first may have seen only one of the two new files
		c.wrong = "the renewed certificate cannot be used"
	case left < leaf.NotAfter.Sub(leaf.NotBefore)/lateRenewal:
		c.wrong = "not renewed in time"
	}
	switch {
	case c.wrong == "" && was != "":
		log.InfoContext(ctx, "the problem with the certificate has ended", "not_after", leaf.NotAfter)
	case c.wrong != "" && (c.wrong != was || now.Sub(c.told) >= certificateRemind):
		c.told = now
		attrs := []any{"problem", c.wrong, "not_after", leaf.NotAfter, "cert_file", c.certFile}
		if err != nil {
			attrs = append(attrs, "error", err)
		}
		log.WarnContext(ctx, "TLS certificate", attrs...)
	}
}

// warnings returns the lines for /readyz. A problem does not make the replica unready: clients that still
// trust the certificate are better off with it.
func (c *certificate) warnings() []string {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wrong == "" {
		return nil
	}
	return []string{fmt.Sprintf("TLS certificate: %s (the one in use is good until %s)", c.wrong, c.current.Leaf.NotAfter.UTC().Format(time.RFC3339))}
}

// register adds the metrics of the certificate.
func (c *certificate) register(metrics prometheus.Registerer) error {
	if c == nil {
		return nil
	}
	expiry := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "latchkey_tls_certificate_expiry_timestamp_seconds", Help: "When the certificate that is served expires, in Unix time.",
	}, func() float64 { return float64(c.leaf().NotAfter.Unix()) })
	failing := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "latchkey_tls_certificate_renewal_failing", Help: "1 while the files of a renewed certificate cannot be used, a renewal is overdue, or the certificate has expired.",
	}, func() float64 { return float64(len(c.warnings())) })
	return errors.Join(metrics.Register(expiry), metrics.Register(failing))
}
