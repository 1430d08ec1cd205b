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
	"github.com/latchkey-auth/latchkey/internal/devstack"
	"github.com/latchkey-auth/latchkey/internal/signing"
)

// Files of the dev folder.
const (
	secretKeyFile  = "secret-key"
	adminKeyFile   = "admin-key"
	serviceKeyFile = "service-key"
	// newSuffix is added to the name of a file until it is whole.
	newSuffix = ".new"
	// devKeySize is 256 bits. Nobody guesses such a key, so that a fast hash protects it well enough.
	devKeySize = 32
)

// devKeys makes the keys at the first start and keeps them in the folder. If LATCHKEY_SECRET_KEY is set, dev
// uses that instead. The admin key and the service key are accepted beside those of the settings.
func devKeys(cfg *config.Config, dir string) error {
	if len(cfg.SecretKey) == 0 {
		if err := keep(dir, secretKeyFile, anew(dir), base64.StdEncoding, &cfg.SecretKey); err != nil {
			return err
		}
	}
	const replace = "delete it to get a new one (then give that to everybody who used the old one)"
	for name, hashes := range map[string]*config.KeyHashes{adminKeyFile: &cfg.AdminKeySHA256, serviceKeyFile: &cfg.ServiceKeySHA256} {
		var key config.Key
		if err := keep(dir, name, replace, base64.RawURLEncoding, &key); err != nil {
			return err
		}
		*hashes = append(*hashes, key.Hash())
	}
	return nil
}

// anew says what to do if the secret key is lost: no other key decrypts the signing keys in the folder's database.
func anew(dir string) string {
	return fmt.Sprintf("put the former key back into %s, or delete the folder %s to start anew (this also deletes all accounts)",
		filepath.Join(dir, secretKeyFile), dir)
}

// explainSealed adds that advice to the error of a start whose secret key does not decrypt the signing keys.
func explainSealed(err error, dir string) error {
	if !errors.Is(err, signing.ErrSealed) {
		return err
	}
	return fmt.Errorf("%w. dev uses the key in its folder unless LATCHKEY_SECRET_KEY is set: %s", err, anew(dir))
}

// keep reads a key from its file in the folder. If there is no file, it makes a key and the file.
func keep(dir, name, remedy string, form *base64.Encoding, key interface{ UnmarshalText(text []byte) error }) error {
	path := filepath.Join(dir, name)
	text, err := os.ReadFile(path) //nolint:gosec // G304: our own file in the operator's folder
	if errors.Is(err, os.ErrNotExist) {
		var raw [devKeySize]byte
		_, _ = rand.Read(raw[:]) // never fails (crypto/rand, since Go 1.24)
		text = []byte(form.EncodeToString(raw[:]))
		err = writeWhole(path, text)
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%s of the dev folder: %w (made by another user, such as root? Give it to the owner of %s with chown)", name, err, dir)
	}
	if err != nil {
		return fmt.Errorf("%s of the dev folder: %w", name, err)
	}
	if err := key.UnmarshalText([]byte(strings.TrimSpace(string(text)))); err != nil {
		return fmt.Errorf("%s %w: %s", path, err, remedy)
	}
	return nil
}

// writeWhole writes a file that is there with all its content or not at all. The file belongs to the owner of
// its folder. writeWhole follows no link: root may be writing into another user's folder.
func writeWhole(path string, content []byte) error {
	temporary := path + newSuffix
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // G304: our own file in the operator's folder
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err := errors.Join(err, devstack.OwnAsFolder(file), file.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
