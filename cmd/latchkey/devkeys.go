package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/config"
)

// Files of the dev folder.
const (
	secretKeyFile  = "secret-key"
	adminKeyFile   = "admin-key"
	serviceKeyFile = "service-key"
	// devKeySize is 256 bits: a key that nobody guesses needs no slow hash.
	devKeySize = 32
)

// devKeys makes the keys of a service at the first start and keeps them in the
// folder. A secret key that is set is used instead; the keys of operators and
// services come beside those that are set.
func devKeys(cfg *config.Config, dir string) error {
	if len(cfg.SecretKey) == 0 {
		if err := keep(dir, secretKeyFile, "all sessions and signing keys go with it", base64.StdEncoding, &cfg.SecretKey); err != nil {
			return err
		}
	}
	for name, hashes := range map[string]*config.KeyHashes{adminKeyFile: &cfg.AdminKeySHA256, serviceKeyFile: &cfg.ServiceKeySHA256} {
		var key config.Key
		if err := keep(dir, name, "whoever holds the old one must be told", base64.RawURLEncoding, &key); err != nil {
			return err
		}
		*hashes = append(*hashes, key.Hash())
	}
	return nil
}

// keep reads a key from its file in the folder, or makes both.
func keep(dir, name, loss string, form *base64.Encoding, key interface{ UnmarshalText(text []byte) error }) error {
	path := filepath.Join(dir, name)
	text, err := os.ReadFile(path) //nolint:gosec // G304: our own file in the operator's folder
	if errors.Is(err, os.ErrNotExist) {
		var raw [devKeySize]byte
		_, _ = rand.Read(raw[:]) // never fails (crypto/rand, since Go 1.24)
		text = []byte(form.EncodeToString(raw[:]))
		err = writeWhole(path, text)
	}
	if err != nil {
		return fmt.Errorf("%s of the dev folder: %w", name, err)
	}
	if err := key.UnmarshalText([]byte(strings.TrimSpace(string(text)))); err != nil {
		return fmt.Errorf("%s %w: delete it to get a new one (%s)", path, err, loss)
	}
	return nil
}

// writeWhole writes a file that is there whole or not at all.
func writeWhole(path string, content []byte) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
