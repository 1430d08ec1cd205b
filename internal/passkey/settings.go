package passkey

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/hosts"
)

// androidPrefix begins the origin of an Android app. The SHA-256 of the certificate that signs the app follows, in
// base64url without padding.
const androidPrefix = "android:apk-key-hash:"

const localhost = "localhost"

// maxDomain is the most characters of a domain name, and maxLabel of a part of it (RFC 1035, section 2.3.4).
const (
	maxDomain = 253
	maxLabel  = 63
)

// ParseID returns the RP id in lower case: browsers compare it letter by letter. It refuses what no browser accepts: IP
// addresses, anything that is not a domain name in ASCII, and names without a dot, except localhost. It does not know the
// list of public suffixes: browsers refuse an RP id such as "co.uk".
func ParseID(text string) (string, error) {
	id := strings.ToLower(text)
	if _, err := netip.ParseAddr(id); err == nil {
		return "", errors.New("is an IP address: browsers take domain names only, and localhost")
	}
	if id == localhost {
		return id, nil
	}
	labels := strings.Split(id, ".")
	if len(id) > maxDomain || len(labels) < 2 || slices.ContainsFunc(labels, isNoLabel) {
		return "", errors.New("is not a domain name, without scheme and port, in ASCII")
	}
	return id, nil
}

func isNoLabel(label string) bool {
	return label == "" || len(label) > maxLabel || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") ||
		strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != ""
}

// ParseOrigin returns an origin in lower case and without a default port. An origin is that of a page,
// https://HOST[:PORT], with the RP id or a name below it as its host, or that of an Android app. For the RP id localhost
// http is accepted too, and localhost is the only host: browsers do not let a.localhost use it.
func ParseOrigin(id, text string) (string, error) {
	if hash, isAndroid := strings.CutPrefix(text, androidPrefix); isAndroid {
		if raw, err := base64.RawURLEncoding.Strict().DecodeString(hash); err != nil || len(raw) != 32 {
			return "", errors.New("has an Android origin without the SHA-256 of a certificate in base64url without padding")
		}
		return text, nil
	}
	u, err := url.Parse(strings.ToLower(text))
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#") {
		return "", errors.New("has an origin that is neither https://HOST[:PORT] nor " + androidPrefix + "HASH")
	}
	host, port := u.Hostname(), u.Port()
	if host != localhost && slices.ContainsFunc(strings.Split(host, "."), isNoLabel) {
		return "", errors.New("has an origin whose host is not a domain name in ASCII; there are no wildcards")
	}
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && id == localhost && hosts.IsLoopback(host):
	default:
		return "", errors.New("has an origin with another scheme than https (http is for localhost only)")
	}
	if host != id && (id == localhost || !strings.HasSuffix(host, "."+id)) {
		return "", errors.New("has an origin whose host is neither the RP id nor below it: browsers would refuse the passkeys")
	}
	if strings.HasSuffix(u.Host, ":") {
		return "", errors.New("has an origin with an empty port")
	}
	if u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		u.Host = host
	}
	return u.Scheme + "://" + u.Host, nil
}
