package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/latchkey-auth/latchkey/internal/hosts"
)

// The longest usual lifetimes. With longer ones, stolen tokens and sessions live longer.
const (
	longAccess  = time.Hour
	longIdle    = 31 * 24 * time.Hour
	longSession = 90 * 24 * time.Hour
	longGrace   = time.Minute
	longReset   = 2 * time.Hour
)

// Weak returns the settings that can be used and are too weak to be intended. refused are those that nobody
// can intend: serve does not start with them. warned are the others: each start and `latchkey config` warn
// about them and say what ends the warning. For Dev, settings that dev makes itself are left out.
func (c *Config) Weak(profile Profile) (refused, warned []Problem) {
	refuse := func(variable, wrong string) { refused = append(refused, Problem{variable, wrong}) }
	warn := func(variable, wrong string) { warned = append(warned, Problem{variable, wrong}) }
	if wrong, hopeless := c.weakHash(); hopeless {
		refuse("LATCHKEY_ARGON2_MEMORY_KIB", wrong)
	} else if wrong != "" {
		warn("LATCHKEY_ARGON2_MEMORY_KIB", wrong)
	}
	if wrong := c.SecretKey.pattern(); wrong != "" {
		refuse("LATCHKEY_SECRET_KEY", wrong)
	}
	if wrong := c.SecretKeyPrevious.pattern(); wrong != "" {
		warn("LATCHKEY_SECRET_KEY_PREVIOUS", wrong+", and anybody who guesses it can make refresh tokens: remove it as soon as LATCHKEY_SESSION_IDLE_TTL has passed")
	}
	if n := len(c.LegacyHS256Secret); n > 0 && n < MinSecretKey {
		warn("LATCHKEY_LEGACY_HS256_SECRET", fmt.Sprintf("has %d bytes, and anybody who guesses it can make tokens for every account until LATCHKEY_LEGACY_ACCEPT_UNTIL: choose an early date", n))
	}
	c.weakDoors(profile, warn)
	c.weakLives(warn)
	for _, prefix := range c.TrustedProxies {
		if wide(prefix) {
			warn("LATCHKEY_TRUSTED_PROXIES", fmt.Sprintf("trusts %s, public addresses of many owners, each of whom can claim to be any client: name the addresses of the proxies only", prefix))
		}
	}
	return refused, warned
}

// owaspMinimum returns the memory in KiB that this number of passes needs. OWASP's Password Storage Cheat
// Sheet lists such pairs, which are all equally strong.
func owaspMinimum(passes int) int {
	minimum := []int{47104, 19456, 12288, 9216, 7168}
	return minimum[min(passes, len(minimum))-1]
}

// hopelessHash is memory in KiB times passes: a sixteenth of the work that OWASP asks for. Less than that
// cannot be a choice between speed and strength.
const hopelessHash = 19456 * 2 / 16

func (c *Config) weakHash() (wrong string, hopeless bool) {
	memory, passes := c.Argon2MemoryKiB, c.Argon2Time
	if memory == 0 || passes == 0 { // not readable, which Load reports
		return "", false
	}
	if least := owaspMinimum(passes); memory < least {
		return fmt.Sprintf("(%d) with LATCHKEY_ARGON2_TIME (%d) makes hashes that a thief of the database can crack too fast: OWASP asks for %d KiB with %d",
			memory, passes, least, passes), memory*passes < hopelessHash
	}
	return "", false
}

func (c *Config) weakDoors(profile Profile, warn func(variable, wrong string)) {
	for _, door := range [][2]string{{"LATCHKEY_GRPC_ADDR", c.GRPCAddr}, {"LATCHKEY_HTTP_ADDR", c.HTTPAddr}} {
		if c.TLSCertFile == "" && !onLoopback(door[1]) {
			warn(door[0], fmt.Sprintf("(%s) is open to other machines in plaintext: somebody in between can read passwords and tokens. "+
				"Set LATCHKEY_TLS_CERT_FILE and LATCHKEY_TLS_KEY_FILE, or bind it to 127.0.0.1 behind a proxy that terminates TLS", door[1]))
		}
	}
	if !onLoopback(c.OpsAddr) {
		warn("LATCHKEY_OPS_ADDR", fmt.Sprintf("(%s) shows metrics and memory profiles to every machine that reaches it: bind it to 127.0.0.1 or an address of operators", c.OpsAddr))
	}
	if wrong := c.RedisURL.weakness(); wrong != "" {
		warn("LATCHKEY_REDIS_URL", wrong)
	}
	if c.RedisMayEvict {
		warn("LATCHKEY_REDIS_MAY_EVICT", "is true: if Redis drops keys, people are logged out and failed logins are forgotten, so that more passwords can be guessed. Set maxmemory-policy noeviction there")
	}
	if u, err := url.Parse(c.Issuer); err == nil && u.Scheme == "http" && !hosts.IsLoopback(u.Hostname()) {
		warn("LATCHKEY_ISSUER", "is an http URL: somebody in between can give verifiers other keys. Use https")
	}
	if profile == Dev {
		return // dev sets the following two itself
	}
	if c.Reflection {
		warn("LATCHKEY_REFLECTION", "is true: strangers can list every method. Set it to false, and give clients the proto files")
	}
	if !c.AddressRateLimit {
		warn("LATCHKEY_ADDRESS_RATE_LIMIT", "is false: the calls of a network address are not limited. If all calls come from a proxy, set LATCHKEY_TRUSTED_PROXIES instead")
	}
}

func (c *Config) weakLives(warn func(variable, wrong string)) {
	for _, life := range []struct {
		variable     string
		value, usual time.Duration
		why          string
	}{
		{"LATCHKEY_ACCESS_TOKEN_TTL", c.AccessTokenTTL, longAccess, "services that check tokens by themselves accept a stolen or revoked one for that long"},
		{"LATCHKEY_SESSION_IDLE_TTL", c.SessionIdleTTL, longIdle, "a forgotten device stays logged in for that long"},
		{"LATCHKEY_SESSION_MAX_TTL", c.SessionMaxTTL, longSession, "nobody is asked for a password for that long"},
		{"LATCHKEY_REFRESH_GRACE", c.RefreshGrace, longGrace, "a thief can use a stolen refresh token beside its owner for that long, unnoticed"},
		{"LATCHKEY_RESET_TOKEN_TTL", c.ResetTokenTTL, longReset, "somebody who reads the mailbox later can still take over the account"},
	} {
		if life.value > life.usual {
			warn(life.variable, fmt.Sprintf("(%s) is over %s: %s", life.value, life.usual, life.why))
		}
	}
}

// onLoopback reports whether a listener is reached from this machine only.
func onLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && hosts.IsLoopback(host)
}

// The shortest prefixes of trusted networks, in bits. Registries assign at most a /8 of IPv4 and a /12 of
// IPv6, so nobody owns more. The networks of large proxies have at least 12 and 28 bits.
const (
	leastBits4, leastBits6 = 8, 12
	usualBits4, usualBits6 = 12, 28
)

// absurd reports whether a network is too large for any owner of proxies.
func absurd(p netip.Prefix) bool {
	return !isPrivate(p) && p.Bits() < pick(p, leastBits4, leastBits6)
}

// wide reports whether a network holds public addresses of many owners.
func wide(p netip.Prefix) bool {
	return !isPrivate(p) && p.Bits() < pick(p, usualBits4, usualBits6)
}

func pick(p netip.Prefix, four, six int) int {
	if p.Addr().Is4() {
		return four
	}
	return six
}

// isPrivate reports whether all addresses of p are private.
func isPrivate(p netip.Prefix) bool {
	for _, text := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8", "fc00::/7", "fe80::/10", "::1/128"} {
		private := netip.MustParsePrefix(text)
		if private.Contains(p.Addr()) && p.Bits() >= private.Bits() {
			return true
		}
	}
	return false
}

// pattern says why a key is not random, "" if it sees no reason. It wrongly finds one in less than one of
// 10^11 keys of 32 random bytes, and of 10^7 keys of 32 random hexadecimal digits.
func (k SecretKey) pattern() string {
	if len(k) == 0 {
		return ""
	}
	counts := make(map[byte]int)
	text, steady := true, true
	for i, b := range k {
		counts[b]++
		text = text && b >= ' ' && b <= '~'
		steady = steady && (i == 0 || b-k[i-1] == k[1]-k[0])
	}
	most := 0
	for _, n := range counts {
		most = max(most, n)
	}
	switch {
	case steady:
		return "counts up or down, or is one byte again and again"
	case k.repeats():
		return "repeats itself"
	// Of 32 random bytes about 30 differ. Text has fewer different bytes: a random key in hexadecimal must
	// pass.
	case len(counts) < MinSecretKey/2 && !text || len(counts) < MinSecretKey/4:
		return fmt.Sprintf("has only %d different bytes", len(counts))
	case most > len(k)/4 && !text:
		return fmt.Sprintf("has one byte %d times", most)
	}
	return ""
}

// repeats reports whether the key is a shorter one that is repeated, the last time perhaps in part.
func (k SecretKey) repeats() bool {
	for period := 1; period <= len(k)/2; period++ {
		if slices.Equal(k[period:], k[:len(k)-period]) {
			return true
		}
	}
	return false
}
