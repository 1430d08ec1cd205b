package session

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"
)

// A renewed authentication changes nothing else of a session, and refreshes keep it.
func TestRenew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	created, first := create(t, b.store)
	b.clock.Advance(time.Minute)
	before := b.dump(t)[redisKey(created.ID)]
	renewed, err := b.store.Renew(t.Context(), created, []string{"pwd"})
	if err != nil {
		t.Fatal(err)
	}
	want := created
	want.AuthTime, want.AMR = b.clock.Now().UTC(), []string{"pwd"}
	if !reflect.DeepEqual(renewed, want) {
		t.Errorf("renewed %+v, want %+v", renewed, want)
	}
	before[fieldAuth], before[fieldAMR] = decimal(b.clock.Now().UnixMilli()), `["pwd"]`
	if after := b.dump(t)[redisKey(created.ID)]; !reflect.DeepEqual(after, before) {
		t.Errorf("stored %v, want %v", after, before)
	}
	b.clock.Advance(time.Minute)
	rotation := mustRefresh(t, b.store, first, "", Advanced)
	if !rotation.Session.AuthTime.Equal(want.AuthTime) || !reflect.DeepEqual(rotation.Session.AMR, want.AMR) {
		t.Errorf("the refresh has %v %v", rotation.Session.AuthTime, rotation.Session.AMR)
	}
}

// Renewing must not make a session out of one that is gone, nor change another one under the same id.
func TestRenewRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(b bench, sess *Session) error{
		"of another user": func(_ bench, sess *Session) error { sess.UserID = uuid.New(); return nil },
		"replaced":        func(_ bench, sess *Session) error { sess.Position++; return nil },
		"another end":     func(_ bench, sess *Session) error { sess.End = sess.End.Add(time.Second); return nil },
		"deleted": func(b bench, sess *Session) error {
			return b.client.Del(t.Context(), redisKey(sess.ID)).Err()
		},
		"idle for too long": func(b bench, _ *Session) error { b.clock.Advance(testIdle); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			sess, _ := create(t, b.store)
			if err := change(b, &sess); err != nil {
				t.Fatal(err)
			}
			before := b.dump(t)
			if _, err := b.store.Renew(t.Context(), sess, []string{"otp"}); !errors.Is(err, ErrUnknown) {
				t.Errorf("got %v", err)
			}
			if after := b.dump(t); !reflect.DeepEqual(after, before) {
				t.Errorf("stored %v, before %v", after, before)
			}
		})
	}
}
