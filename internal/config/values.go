package config

import (
	"encoding/base64"
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
