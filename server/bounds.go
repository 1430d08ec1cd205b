package server

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/ratelimit"
)

// What one account can make the service keep is bounded, see internal/revoke: it is the beginning of sessions that can be
// refused, and not their end.
const (
	startsScope  = "StartSession"
	changesScope = "ChangePassword of an account"
)

// startsRate is a hundred times what somebody with ten devices needs. It is counted when
// the password was right, so that nobody else can use it up, and there is room again two
// seconds after whoever did has stopped.
func startsRate() ratelimit.Rate { return ratelimit.Rate{PerMinute: 30, Burst: 300} }

// changesRate also bounds the mails that tell of changes.
func changesRate() ratelimit.Rate { return ratelimit.Rate{PerMinute: 1, Burst: 30} }

// boundStarts limits the sessions that an account begins. Redis must answer, which it
// must for the session as well.
func (s *Server) boundStarts(ctx context.Context, userID uuid.UUID) error {
	if err := s.cfg.Rates.Allow(ctx, startsScope, userID.String(), startsRate()); err != nil {
		return fmt.Errorf("count the session: %w", err)
	}
	return nil
}

// boundChanges limits the changes of a password by whoever knows it. What the change
// would end can still be ended by RevokeOtherSessions.
func (s *Server) boundChanges(ctx context.Context, userID uuid.UUID) error {
	return s.redis.Allow(ctx, changesScope, userID.String(), changesRate())
}
