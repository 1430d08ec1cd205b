// Package hosts tells from the text of a host whether it is this machine. Plaintext that may not leave a machine, such
// as keys and mails with links, is sent only to such hosts.
package hosts

import (
	"net/netip"
	"strings"
)

// IsLoopback reports whether host, without a port and without brackets, is this machine: "localhost" in any letter
// case, or a loopback address. No other name is looked up: the server that answers the look-up would decide.
func IsLoopback(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// IsLoopbackInBrowsers also accepts the names below .localhost. Browsers never look them up (RFC 6761, section 6.3),
// but Go's resolver does.
func IsLoopbackInBrowsers(host string) bool {
	return IsLoopback(host) || strings.HasSuffix(strings.ToLower(strings.TrimSuffix(host, ".")), ".localhost")
}
