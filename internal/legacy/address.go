package legacy

import (
	"regexp"
	"strings"
	"sync"
)

// MaxAddress is the most bytes of an address that the Go backend takes.
const MaxAddress = 255

// AddressForm matches the addresses that the Go backend takes, but for white space around them.
//
//nolint:gochecknoglobals // a constant
var AddressForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$`)
})

// goHash begins the hashes that the Go backend compares passwords with.
const goHash = "$argon2id$v=19$"

// LogsIn reports whether the Go backend can log in an account with this address and password hash. It refuses other
// addresses before it looks for the account.
func LogsIn(email, hash string) bool {
	bare := strings.TrimSpace(email)
	return len(bare) <= MaxAddress && AddressForm().MatchString(bare) && strings.HasPrefix(hash, goHash)
}
