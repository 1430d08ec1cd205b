package authverify_test

import (
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-auth/latchkey/authverify"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for field, change := range map[string]func(*authverify.Config){
		"Issuer":       func(c *authverify.Config) { c.Issuer = "" },
		"Audience":     func(c *authverify.Config) { c.Audience = "" },
		"Conn":         func(c *authverify.Config) { c.Conn = nil },
		"ServiceKey":   func(c *authverify.Config) { c.ServiceKey = "" },
		"JWKSURL":      func(c *authverify.Config) { c.JWKSURL = "file:///etc/keys" },
		"MaxTTL":       func(c *authverify.Config) { c.MaxTTL = time.Millisecond },
		"MaxStaleness": func(c *authverify.Config) { c.MaxStaleness = time.Second },
		"CacheSize":    func(c *authverify.Config) { c.CacheSize = -1 },
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			config := w.config()
			change(&config)
			v, err := authverify.NewVerifier(config)
			if err == nil || v != nil || !strings.Contains(err.Error(), field) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Every reason to refuse a token, with keys and revocations up to date.
func TestVerifyRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, _ := w.ready(t, nil)
	now := w.Now().Unix()
	with := func(change map[string]any) string {
		claims := w.claims(newPerson(t))
		maps.Copy(claims, change)
		maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
		return w.sign(t, "k1", nil, claims)
	}
	header := func(change map[string]any) string { return w.sign(t, "k1", change, w.claims(newPerson(t))) }
	good := with(nil)
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt","kid":"k1"}`))
	stranger := newTestKey(t, "k1")
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"good":                    {good, nil},
		"audience among others":   {with(map[string]any{"aud": []string{"other", audience}}), nil},
		"empty":                   {"", authverify.ErrInvalid},
		"garbage":                 {"hello", authverify.ErrInvalid},
		"too long":                {strings.Repeat("A", 5000), authverify.ErrInvalid},
		"alg none":                {none + "." + parts[1] + ".", authverify.ErrInvalid},
		"alg none, signed":        {none + "." + parts[1] + "." + parts[2], authverify.ErrInvalid},
		"alg HS256":               {header(map[string]any{"alg": "HS256"}), authverify.ErrInvalid},
		"alg ES256":               {header(map[string]any{"alg": "ES256"}), authverify.ErrInvalid},
		"type JWT":                {header(map[string]any{"typ": "JWT"}), nil},
		"type of a logout token":  {header(map[string]any{"typ": "logout+jwt"}), authverify.ErrInvalid},
		"alg Ed25519":             {header(map[string]any{"alg": "Ed25519"}), nil},
		"critical":                {header(map[string]any{"crit": []string{"exp"}}), authverify.ErrInvalid},
		"another key, same id":    {stranger.sign(t, nil, w.claims(newPerson(t))), authverify.ErrInvalid},
		"unknown key id":          {header(map[string]any{"kid": "k9"}), authverify.ErrInvalid},
		"signature of another":    {parts[0] + "." + parts[1] + "." + strings.Split(with(nil), ".")[2], authverify.ErrInvalid},
		"another issuer":          {with(map[string]any{"iss": issuer + "/"}), authverify.ErrInvalid},
		"another audience":        {with(map[string]any{"aud": "billing"}), authverify.ErrInvalid},
		"no audience":             {with(map[string]any{"aud": nil}), authverify.ErrInvalid},
		"no session":              {with(map[string]any{"sid": nil}), authverify.ErrInvalid},
		"issued in 61 s":          {with(map[string]any{"iat": now + 61}), authverify.ErrInvalid},
		"issued in 60 s":          {with(map[string]any{"iat": now + 60}), nil},
		"not before 61 s":         {with(map[string]any{"nbf": now + 61}), authverify.ErrInvalid},
		"longest life":            {with(map[string]any{"exp": now + 900}), nil},
		"lives a second too long": {with(map[string]any{"exp": now + 901}), authverify.ErrInvalid},
		"expires now":             {with(map[string]any{"iat": now - 600, "exp": now}), authverify.ErrExpired},
		"expires in a second":     {with(map[string]any{"iat": now - 600, "exp": now + 1}), nil},
		"expired, wrong issuer":   {with(map[string]any{"iat": now - 600, "exp": now, "iss": "x"}), authverify.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 2 { // the second time it may be remembered
				wantVerdict(t, v, c.token, c.want)
			}
		})
	}
}

// What is remembered of a token is what it says, never whether it is accepted.
func TestVerifyRemembersNoVerdict(t *testing.T) {
	t.Parallel()
	t.Run("expiry", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		v, _ := w.ready(t, func(c *authverify.Config) { c.FailOpen = true })
		token := w.token(t, newPerson(t))
		wantVerdict(t, v, token, nil)
		w.edit(func() { w.now = w.now.Add(600 * time.Second).Truncate(time.Second).Add(-1) })
		wantVerdict(t, v, token, nil)
		w.advance(1)
		wantVerdict(t, v, token, authverify.ErrExpired)
	})
	t.Run("revocation", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		v, s := w.ready(t, nil)
		p, other := newPerson(t), newPerson(t)
		token, others := w.token(t, p), w.token(t, other)
		wantVerdict(t, v, token, nil)
		s.send(t, v, complete(2, sessionRow(2, p)))
		wantVerdict(t, v, token, authverify.ErrRevoked)
		wantVerdict(t, v, w.token(t, p), authverify.ErrRevoked)
		wantVerdict(t, v, others, nil)
	})
	t.Run("revoked key", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.addKey(t, "k2")
		v, s := w.ready(t, nil)
		p := newPerson(t)
		token, other := w.token(t, p), w.sign(t, "k2", nil, w.claims(p))
		wantVerdict(t, v, token, nil)
		// The set still has it: the row alone decides.
		s.send(t, v, complete(2, &latchkeyv1.Revocation{
			Position: 2, Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_KEY, KeyId: "k1",
		}))
		wantVerdict(t, v, token, authverify.ErrInvalid)
		wantVerdict(t, v, other, nil)
	})
	t.Run("key taken from the set", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.addKey(t, "k2")
		v, s := w.ready(t, nil)
		token := w.token(t, newPerson(t))
		wantVerdict(t, v, token, nil)
		w.edit(func() { delete(w.keys, "k1") })
		w.keysChanged(t, v, s, 2)
		wantVerdict(t, v, token, authverify.ErrInvalid)
	})
	t.Run("key replaced under its id", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		v, s := w.ready(t, nil)
		token := w.token(t, newPerson(t))
		wantVerdict(t, v, token, nil)
		w.addKey(t, "k1")
		w.keysChanged(t, v, s, 2)
		wantVerdict(t, v, token, authverify.ErrInvalid)
		wantVerdict(t, v, w.token(t, newPerson(t)), nil)
	})
}

// keysChanged tells of a change of the keys and waits until they are fetched.
func (w *world) keysChanged(t testing.TB, v *authverify.Verifier, s *stream, position int64) {
	t.Helper()
	s.send(t, v, complete(position, keysChangedRow(position)))
	// A key that only the new set has: once it is known, so is the rest.
	w.addKey(t, "probe")
	probe := w.sign(t, "probe", nil, w.claims(newPerson(t)))
	eventually(t, "learns the new keys", func() bool {
		w.advance(100 * time.Millisecond) // unknown keys are asked for once a second
		_, err := v.Verify(t.Context(), probe)
		return err == nil
	})
}

// The claims are the caller's own, but for the elements of AMR, which an append does not change either.
func TestVerifyReturnsCopies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, _ := w.ready(t, nil)
	p := newPerson(t)
	token := w.token(t, p)
	for range 3 {
		claims, err := v.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if claims.UserID != p.user || claims.SessionID != p.session || claims.Position != 5 ||
			!slices.Equal(claims.AMR, []string{"pwd"}) || claims.ClientID != "app" {
			t.Fatalf("got %+v", claims)
		}
		claims.UserID, claims.ExpireTime = p.session, time.Time{}
		claims.AMR = append(claims.AMR, "changed")
		claims.AMR[0] = "changed"
	}
}

// A token that was seen before costs no memory: what a service does for each of its requests must leave no garbage.
func TestVerifyAllocatesNothing(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts what all goroutines allocate
	w := newWorld(t)
	v, _ := w.ready(t, nil)
	token := w.token(t, newPerson(t))
	ctx := t.Context()
	allocs := testing.AllocsPerRun(100, func() {
		if claims, err := v.Verify(ctx, token); err != nil || claims.Position != 5 {
			t.Error(err)
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// With an old proof, fail-closed refuses and fail-open does not; both still refuse what they know. OnFreshness
// is called once for each change.
func TestStaleness(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]bool{"closed": false, "open": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			v, s := w.ready(t, func(c *authverify.Config) { c.FailOpen = open })
			p := newPerson(t)
			token, revoked := w.token(t, newPerson(t)), w.token(t, p)
			s.send(t, v, complete(2, sessionRow(2, p)))
			w.advance(authverify.DefaultMaxStaleness)
			wantVerdict(t, v, token, nil)
			wantVerdict(t, v, revoked, authverify.ErrRevoked)
			if got := v.Staleness(); got != authverify.DefaultMaxStaleness {
				t.Errorf("staleness %s", got)
			}
			w.advance(1)
			want := authverify.ErrUnavailable
			if open {
				want = nil
			}
			wantVerdict(t, v, token, want)
			wantVerdict(t, v, w.token(t, newPerson(t)), want)
			wantVerdict(t, v, revoked, authverify.ErrRevoked)
			wantVerdict(t, v, "forged", authverify.ErrInvalid)
			// The stream was silent for that long, so it is resumed before it is believed.
			s.give(t, complete(3))
			again := w.next(t)
			if again.cursor != "c2" {
				t.Errorf("resumed from %q", again.cursor)
			}
			wantVerdict(t, v, token, want)
			again.send(t, v, complete(4))
			wantVerdict(t, v, token, nil)
			w.edit(func() {
				if !slices.Equal(w.changes, []bool{true, false, true}) {
					t.Errorf("told %v", w.changes)
				}
			})
		})
	}
}

// Before the first complete snapshot nothing is accepted, or by the signature alone.
func TestNotReady(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]bool{"closed": false, "open": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			v := w.start(t, func(c *authverify.Config) { c.FailOpen = open })
			s := w.next(t)
			p := newPerson(t)
			token := w.token(t, p)
			var want error
			if !open {
				want = authverify.ErrUnavailable
			}
			wantVerdict(t, v, token, want)
			s.give(t, partial(3, "c1", sessionRow(2, newPerson(t))))
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			err := v.Ready(ctx)
			wantError(t, err, authverify.ErrUnavailable)
			wantError(t, err, context.Canceled)
			s.send(t, v, complete(3, sessionRow(3, p)))
			wantVerdict(t, v, token, authverify.ErrRevoked)
			if err := v.Ready(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Ready says what is missing and why.
func TestReadySaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.edit(func() { w.code = http.StatusTeapot })
	v := w.start(t, nil)
	eventually(t, "fails to fetch", func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := v.Ready(ctx)
		return errors.Is(err, authverify.ErrUnavailable) && strings.Contains(err.Error(), "418")
	})
	w.edit(func() { w.code = http.StatusOK })
	w.next(t).fail(t, errors.New("the key is wrong"))
	eventually(t, "hears why", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		err := v.Ready(ctx)
		return err != nil && strings.Contains(err.Error(), "the key is wrong")
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, s := w.ready(t, nil)
	token := w.token(t, newPerson(t))
	wantVerdict(t, v, token, nil)
	v.Close()
	<-s.gone
	wantVerdict(t, v, token, authverify.ErrUnavailable)
	w.advance(time.Second)
	wantVerdict(t, v, w.sign(t, "k1", map[string]any{"kid": "k9"}, w.claims(newPerson(t))), authverify.ErrUnavailable)
	v.Close()
}

// Rows that reach no live token are dropped, five minutes later and no sooner.
func TestForgets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, s := w.ready(t, func(c *authverify.Config) { c.FailOpen = true })
	first, second := newPerson(t), newPerson(t)
	// Tokens that live on all the same show whether a row is there.
	long := func(p person) string {
		claims := w.claims(p)
		claims["exp"] = w.Now().Unix() + 800
		return w.sign(t, "k1", nil, claims)
	}
	token, other := long(first), long(second)
	gone, kept := sessionRow(2, first), sessionRow(3, second)
	gone.ExpireTime = timestamppb.New(w.Now().Add(time.Minute))
	kept.ExpireTime = timestamppb.New(w.Now().Add(time.Minute + 1))
	s.send(t, v, complete(3, gone, kept))
	wantVerdict(t, v, token, authverify.ErrRevoked)
	w.advance(6 * time.Minute)
	eventually(t, "forgets the row", func() bool {
		_, err := v.Verify(t.Context(), token)
		return err == nil
	})
	wantVerdict(t, v, other, authverify.ErrRevoked)
}

// All calls at the same time, for the race detector. A call that begins after a revocation has arrived sees it.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, s := w.ready(t, nil)
	var group sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		group.Go(func() {
			for {
				token := w.token(t, newPerson(t))
				wantVerdict(t, v, token, nil)
				wantVerdict(t, v, token, nil)
				_, _ = v.Verify(t.Context(), token+"x")
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for position := int64(2); position < 40; position++ {
		p := newPerson(t)
		token := w.token(t, p)
		wantVerdict(t, v, token, nil)
		s.send(t, v, complete(position, sessionRow(position, p)))
		wantVerdict(t, v, token, authverify.ErrRevoked)
	}
	close(stop)
	group.Wait()
}
