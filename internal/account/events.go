package account

import (
	"context"

	"github.com/latchkey-auth/latchkey/internal/audit"
)

// Events lists what happened to accounts, as audit.Trail.List does. The account need not exist any more.
func (a *Accounts) Events(ctx context.Context, query audit.Query) ([]audit.Listed, *audit.Position, error) {
	return a.cfg.Trail.List(ctx, a.cfg.Pool, query)
}
