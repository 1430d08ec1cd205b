package config

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/latchkey-auth/latchkey/internal/hosts"
)

// MinSecretKey is the least length of a secret key in bytes. A key of HMAC-SHA-256 needs it to be as strong
// as the output (RFC 2104, section 3).
const MinSecretKey = 32

// SecretKey is a decoded secret of at least MinSecretKey bytes.
type SecretKey []byte

// UnmarshalText accepts base64, standard or URL-safe, with or without padding.
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

// KeyHashes are the SHA-256 hashes of keys with which callers authenticate.
type KeyHashes [][sha256.Size]byte

// UnmarshalText accepts hashes in hex, separated by commas.
func (k *KeyHashes) UnmarshalText(text []byte) error {
	var list KeyHashes
	for part := range strings.SplitSeq(string(text), ",") {
		raw, err := hex.DecodeString(strings.TrimSpace(part))
		if err != nil || len(raw) != sha256.Size {
			return errors.New("has a part that is not 64 hex digits")
		}
		hash := [sha256.Size]byte(raw)
		if hash == sha256.Sum256(nil) {
			return errors.New("has the hash of an empty key: the variable that was hashed was not set")
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

// Key is sent to a service as `authorization: Bearer KEY`.
type Key string

// UnmarshalText removes white space around the key, such as the line break at the end of a file, and accepts
// the characters that a header may have (RFC 9110, section 5.5).
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

// Hash returns what the service knows of the key.
func (k Key) Hash() [sha256.Size]byte { return sha256.Sum256([]byte(k)) }

// OldSecret is a secret of another program, used exactly as it is set.
type OldSecret []byte

// UnmarshalText accepts all bytes except control characters. A file with two lines is hardly the secret, and
// with a wrong secret every token is refused.
func (s *OldSecret) UnmarshalText(text []byte) error {
	for _, c := range text {
		if c < ' ' || c == 0x7f {
			return errors.New("has a line break or another control character")
		}
	}
	*s = append(OldSecret(nil), text...)
	return nil
}

// MaxPepper is the most bytes of a pepper.
const MaxPepper = 1024

// Peppers are secrets of other programs, each used exactly as it is set.
type Peppers [][]byte

// UnmarshalText accepts one pepper a line, of 1 to MaxPepper bytes: the text of the line, or behind hex: or base64: its
// bytes. Empty lines are none.
func (p *Peppers) UnmarshalText(text []byte) error {
	var list Peppers
	for line := range strings.SplitSeq(string(text), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			continue
		}
		pepper, err := readPepper(line)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(list, func(other []byte) bool { return string(other) == string(pepper) }) {
			return errors.New("has a pepper twice")
		}
		list = append(list, pepper)
	}
	*p = list
	return nil
}

func readPepper(line string) (pepper []byte, err error) {
	kind, digits, _ := strings.Cut(line, ":")
	switch kind {
	case "hex":
		pepper, err = hex.DecodeString(digits)
	case "base64":
		pepper, err = base64.StdEncoding.DecodeString(digits)
	default:
		pepper = []byte(line)
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, errors.New("has a control character: write such a pepper as hex:…")
		}
	}
	switch {
	case err != nil: // it would show a part of the pepper
		return nil, errors.New("has a line that begins with " + kind + ": and is not " + kind)
	case len(pepper) < 1 || len(pepper) > MaxPepper:
		return nil, errors.New("has a pepper that is empty or longer than 1,024 bytes")
	}
	return pepper, nil
}

// URL is a URL that may contain a password.
type URL string

// UnmarshalText checks that the text has a scheme and can be split in one way only. Its error never contains
// the text, as that of url.Parse would.
func (u *URL) UnmarshalText(text []byte) error {
	if err := readOneWay(string(text)); err != nil {
		return err
	}
	// pgx checks the URLs of PostgreSQL. It accepts more than net/url: sockets as hosts
	// (%2Frun%2Fpostgresql), several hosts, and connection strings of key=value.
	p := splitURL(string(text))
	if !p.isPostgres() && !isKeywords(string(text)) {
		parsed, err := url.Parse(string(text))
		if err != nil || parsed.Scheme == "" {
			return errors.New("is not a URL")
		}
	}
	*u = URL(text)
	return nil
}

// isKeywords reports whether text can be a connection string of key=value, as libpq accepts it.
func isKeywords(text string) bool {
	name, _, ok := strings.Cut(strings.TrimSpace(text), "=")
	return ok && plain(strings.TrimSpace(name), "_")
}

// Redacted returns the URL without its secret parts.
func (u URL) Redacted() string { return redact(string(u)) }

// Names is a list of hosts.
type Names []string

// UnmarshalText accepts host names without ports, separated by commas.
func (n *Names) UnmarshalText(text []byte) error {
	var list Names
	for part := range strings.SplitSeq(string(text), ",") {
		name := strings.ToLower(strings.TrimSuffix(strings.TrimSpace(part), "."))
		if name == "" || strings.ContainsAny(name, ":/*@ ") {
			return errors.New("has a part that is not the name of a host")
		}
		list = append(list, name)
	}
	*n = list
	return nil
}

// String lists the names as they can be set.
func (n Names) String() string { return strings.Join(n, ",") }

// Origins is a list of origins of pages and apps. Their form depends on another setting, so nothing is checked here.
type Origins []string

// UnmarshalText accepts origins separated by commas.
func (o *Origins) UnmarshalText(text []byte) error {
	var list Origins
	for part := range strings.SplitSeq(string(text), ",") {
		origin := strings.TrimSpace(part)
		if origin == "" {
			return errors.New("has an empty part")
		}
		list = append(list, origin)
	}
	*o = list
	return nil
}

// String lists the origins as they can be set.
func (o Origins) String() string { return strings.Join(o, ",") }

// WebOrigins is a list of origins in the form in which browsers send them (RFC 6454, section 6.2).
type WebOrigins []string

// UnmarshalText accepts origins separated by commas.
func (o *WebOrigins) UnmarshalText(text []byte) error {
	var list Origins
	err := list.UnmarshalText(text)
	for i := 0; i < len(list) && err == nil; i++ {
		list[i], err = parseWebOrigin(strings.ToLower(list[i]))
	}
	if err == nil {
		*o = WebOrigins(list)
	}
	return err
}

// parseWebOrigin checks an origin, and leaves out a port that browsers do not send.
func parseWebOrigin(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case strings.Contains(text, "*"):
		return "", errors.New("has a wildcard: list each origin in full")
	case err != nil || u.Host == "" || strings.HasSuffix(u.Host, ":") || u.Scheme+"://"+u.Host != text:
		return "", errors.New("has a part that is not SCHEME://HOST or SCHEME://HOST:PORT; there is no path, and no slash at the end")
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r > unicode.MaxASCII }):
		return "", errors.New("has a host that is not ASCII: write it as browsers send it, beginning with xn--")
	case u.Scheme == "file":
		return "", errors.New("has a file, whose origin browsers call null, as they do with others")
	case u.Scheme == "http" && !hosts.IsLoopbackInBrowsers(u.Hostname()):
		return "", errors.New("has an http origin of another machine: anybody on the way could change its pages; use https")
	case u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80":
		return strings.TrimSuffix(text, ":"+u.Port()), nil
	}
	return text, nil
}

// String lists the origins as they can be set.
func (o WebOrigins) String() string { return Origins(o).String() }

// ReturnURLs is a list of redirect URIs (RFC 6749, section 3.1.2; RFC 8252, section 7).
type ReturnURLs []string

// UnmarshalText accepts URLs separated by commas. It keeps them as they were written, because they are compared so.
func (r *ReturnURLs) UnmarshalText(text []byte) error {
	var list Origins
	err := list.UnmarshalText(text)
	for i := 0; i < len(list) && err == nil; i++ {
		err = checkReturnURL(list[i])
	}
	if err == nil {
		*r = ReturnURLs(list)
	}
	return err
}

func checkReturnURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme == "":
		return errors.New("has a part that is no URL")
	case strings.Contains(text, "*"):
		return errors.New("has a wildcard: list each URL in full")
	case strings.Contains(text, "#"):
		return errors.New("has a URL with a fragment, where no code can be added")
	case u.User != nil:
		return errors.New("has a URL with a user name")
	case u.Scheme == "https" && u.Host != "", strings.Contains(u.Scheme, "."):
		return nil
	case u.Scheme == "http" && u.Host != "" && hosts.IsLoopbackInBrowsers(u.Hostname()):
		return nil
	}
	return errors.New("has a URL that is neither https, nor http of this machine, nor of an app's scheme with a dot in it (com.example.app:/callback)")
}

// String lists the URLs as they can be set.
func (r ReturnURLs) String() string { return Origins(r).String() }

// Prefixes is a list of networks.
type Prefixes []netip.Prefix

// UnmarshalText accepts networks and single addresses, separated by commas.
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
		if prefix = prefix.Masked(); absurd(prefix) {
			return errors.New("trusts everybody, or more addresses than one owner can have: each of them could claim to be any client")
		}
		list = append(list, prefix)
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
