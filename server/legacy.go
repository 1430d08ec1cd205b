package server

import (
	"github.com/latchkey-auth/latchkey/internal/legacy"
)

// Legacy is what is honoured of the backends that Latchkey takes over from. All
// fields are required.
type Legacy struct {
	// Tokens checks what they have signed.
	Tokens *legacy.Tokens
	// Store is what they left in Redis.
	Store *legacy.Store
}
