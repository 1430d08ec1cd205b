package app

import (
	"github.com/latchkey-auth/latchkey/internal/breached"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/password"
)

// newPolicy returns the policy for new passwords. The list of breached ones stays open until the process ends.
func newPolicy(cfg *config.Config) (password.Policy, error) {
	policy := password.Policy{MinLength: cfg.PasswordMinLength, Service: serviceWords(cfg)}
	if cfg.BreachedPasswordsFile == "" {
		return policy, nil
	}
	set, err := breached.Open(cfg.BreachedPasswordsFile)
	if err != nil {
		return policy, config.Reject("LATCHKEY_BREACHED_PASSWORDS_FILE", "is not usable: "+err.Error())
	}
	policy.Breached = set.Contains
	return policy, nil
}
