package session

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
)

// renewLua stores when and how the owner of a session was authenticated again.
//
//go:embed renew.lua
var renewLua string

// Renew stores that the user of a session, which Get has returned, was authenticated now by these methods. It returns
// the session with its new AuthTime and AMR. Each refresh keeps both. An access token from before keeps those that are
// in it. The refresh token, the ends and the position of the session stay the same.
//
// The errors are *UnknownError if the session is gone, was replaced or has ended, that for a clock that is out of range,
// and ErrUnavailable.
func (s *Store) Renew(ctx context.Context, sess Session, amr []string) (Session, error) {
	now, err := s.millis()
	if err != nil {
		return Session{}, err
	}
	methods, err := json.Marshal(amr)
	if err != nil {
		return Session{}, fmt.Errorf("session: encode the authentication methods: %w", err)
	}
	renewed, err := s.renew.Run(ctx, s.redis, []string{redisKey(sess.ID)},
		sess.UserID.String(), sess.End.UnixMilli(), sess.Position, now, string(methods)).Int()
	switch {
	case err != nil:
		return Session{}, unavailable("renew the authentication of a session", err)
	case renewed != 1:
		return Session{}, &UnknownError{SessionID: sess.ID}
	}
	sess.AuthTime, sess.AMR = fromMillis(now), slices.Clone(amr)
	return sess, nil
}
