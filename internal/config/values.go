package config

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/netip"
	"net/url"
	"strings"
)

// MinSecretKey is the least length of a secret key in bytes: what a key of
// HMAC-SHA-256 must have to be as strong as its output (RFC 2104, section 3).
const MinSecretKey = 32

// SecretKey is a decoded secret of at least MinSecretKey bytes.
type SecretKey []byte

// UnmarshalText takes base64, standard or URL-safe, padded or not.
func (k *SecretKey) UnmarshalText(text []byte) error {
	s := strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(string(text)), "=")
	raw, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return errors.New("is not base64")
	}
	if len(raw) < MinSecretKey {
		return errors.New("is too short")
	}
	*k = raw
	return nil
}

// KeyHashes are SHA-256 hashes of keys that callers show.
type KeyHashes [][sha256.Size]byte

// UnmarshalText takes hashes in hex, separated by commas.
func (k *KeyHashes) UnmarshalText(text []byte) error {
	var list KeyHashes
	for part := range strings.SplitSeq(string(text), ",") {
		raw, err := hex.DecodeString(strings.TrimSpace(part))
		if err != nil || len(raw) != sha256.Size {
			return errors.New("has a part that is not 64 hex digits")
		}
		hash := [sha256.Size]byte(raw)
		if hash == sha256.Sum256(nil) {
			return errors.New("has the hash of an empty key: what was hashed was unset")
		}
		list = append(list, hash)
	}
	*k = list
	return nil
}

// String lists the hashes as they can be set.
func (k KeyHashes) String() string {
	parts := make([]string, len(k))
	for i, hash := range k {
		parts[i] = hex.EncodeToString(hash[:])
	}
	return strings.Join(parts, ",")
}

// Key is a key that is sent to a service as `authorization: Bearer KEY`.
type Key string

// UnmarshalText trims the space around the key, such as the last line break of a
// file, and takes what can stand in a header (RFC 9110, section 5.5).
func (k *Key) UnmarshalText(text []byte) error {
	key := strings.TrimSpace(string(text))
	if key == "" {
		return errors.New("is empty")
	}
	for _, c := range []byte(key) {
		if c <= ' ' || c > '~' {
			return errors.New("has a character that is not printable ASCII")
		}
	}
	*k = Key(key)
	return nil
}

// Hash is what the service knows of the key.
func (k Key) Hash() [sha256.Size]byte { return sha256.Sum256([]byte(k)) }

// OldSecret is a secret of another program, taken to the letter.
type OldSecret []byte

// UnmarshalText takes any bytes but control characters: a file with two lines is
// hardly the secret, and a secret that differs refuses every token.
func (s *OldSecret) UnmarshalText(text []byte) error {
	for _, c := range text {
		if c < ' ' || c == 0x7f {
			return errors.New("has a line break or another control character")
		}
	}
	*s = append(OldSecret(nil), text...)
	return nil
}

// URL is a URL that may carry a password.
type URL string

// UnmarshalText checks that the text has a scheme. The error never holds the
// text, as url.Parse's own would.
func (u *URL) UnmarshalText(text []byte) error {
	parsed, err := url.Parse(string(text))
	if err != nil || parsed.Scheme == "" {
		return errors.New("is not a URL")
	}
	*u = URL(text)
	return nil
}

// Redacted is the URL with its password, and query values that look like one,
// hidden.
func (u URL) Redacted() string {
	parsed, err := url.Parse(string(u))
	if err != nil {
		return "(hidden)"
	}
	query := parsed.Query()
	for name := range query {
		if strings.Contains(strings.ToLower(name), "pass") {
			query.Set(name, "xxxxx")
			parsed.RawQuery = query.Encode()
		}
	}
	return parsed.Redacted()
}

// Prefixes is a list of networks.
type Prefixes []netip.Prefix

// UnmarshalText takes networks and single addresses, separated by commas.
func (p *Prefixes) UnmarshalText(text []byte) error {
	var list Prefixes
	for part := range strings.SplitSeq(string(text), ",") {
		part = strings.TrimSpace(part)
		if addr, err := netip.ParseAddr(part); err == nil {
			list = append(list, netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()))
			continue
		}
		prefix, err := netip.ParsePrefix(part)
		if err != nil {
			return errors.New("has a part that is neither an address nor a network")
		}
		if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
		}
		if prefix.Bits() == 0 {
			return errors.New("trusts everybody")
		}
		list = append(list, prefix.Masked())
	}
	*p = list
	return nil
}

// String lists the networks as they can be set.
func (p Prefixes) String() string {
	parts := make([]string, len(p))
	for i, prefix := range p {
		parts[i] = prefix.String()
	}
	return strings.Join(parts, ",")
}
