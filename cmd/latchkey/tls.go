package main

import (
	"crypto/tls"
	"os"
	"sync"
	"time"

	"github.com/latchkey-auth/latchkey/internal/config"
)

// certificateCheck is how long a renewed certificate may go unnoticed.
const certificateCheck = 10 * time.Second

// loadTLS reads the certificate; nil without one. It is read again when its file
// changes, so that a renewal needs no restart.
func loadTLS(cfg *config.Config) (*tls.Config, error) {
	if cfg.TLSCertFile == "" {
		return nil, nil //nolint:nilnil // no TLS is a setting, not an error
	}
	source := &certificate{certFile: cfg.TLSCertFile, keyFile: cfg.TLSKeyFile}
	if err := source.load(); err != nil {
		return nil, config.Reject("LATCHKEY_TLS_CERT_FILE", "and LATCHKEY_TLS_KEY_FILE cannot be used ("+err.Error()+")")
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: source.get, NextProtos: []string{"h2", "http/1.1"}}, nil
}

type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex
	current *tls.Certificate
	changed time.Time // of certFile, when current was read
	checked time.Time
}

func (c *certificate) load() error {
	info, err := os.Stat(c.certFile)
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.current, c.changed, c.checked = &pair, info.ModTime(), time.Now()
	return nil
}

// get keeps the old pair while the new one cannot be read: a renewal writes two
// files, one after the other.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) < certificateCheck {
		return c.current, nil
	}
	c.checked = time.Now()
	if info, err := os.Stat(c.certFile); err == nil && !info.ModTime().Equal(c.changed) {
		_ = c.load()
	}
	return c.current, nil
}
