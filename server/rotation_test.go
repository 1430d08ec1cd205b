package server_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/signing"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// activeKey returns the kid of the key that signs.
func activeKey(t *testing.T, s *testenv.Server) string {
	t.Helper()
	var id string
	if err := s.Pool.QueryRow(t.Context(), "SELECT id FROM signing_keys WHERE state = 'active'").Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

// rotateNow does on one replica what `latchkey keys rotate --now` does.
func rotateNow(t *testing.T, s *testenv.Server) {
	t.Helper()
	made, err := s.Rotator.Rotate(t.Context())
	if err == nil {
		_, err = s.Rotator.Promote(t.Context(), made.KeyID)
	}
	if err != nil {
		t.Fatal(err)
	}
	reload(t, s)
}

func reload(t *testing.T, servers ...*testenv.Server) {
	t.Helper()
	for _, s := range servers {
		if err := s.Keyring.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// twoReplicas starts two replicas that share stores and clock.
func twoReplicas(t *testing.T, o testenv.Options) [2]*testenv.Server {
	t.Helper()
	first := testenv.Start(t, o)
	o.DatabaseURL, o.RedisURL, o.Clock = first.DatabaseURL, first.RedisURL, first.Clock
	return [2]*testenv.Server{first, testenv.Start(t, o)}
}

// kidOf reads the header of a token.
func kidOf(accessToken string) string {
	head, _, _ := strings.Cut(accessToken, ".")
	raw, _ := base64.RawURLEncoding.DecodeString(head) // made by us
	var header struct {
		KeyID string `json:"kid"`
	}
	_ = json.Unmarshal(raw, &header)
	return header.KeyID
}

// session is a client that refreshes and validates all the time, on any replica.
type session struct {
	replicas [2]*testenv.Server
	now      func() time.Time
	held     []*latchkeyv1.Tokens // every one that it got and that has not expired, the newest last
	kids     map[string]bool
	calls    int
}

// newSessions makes accounts and logs them in.
func newSessions(t *testing.T, n int, replicas [2]*testenv.Server, now func() time.Time) []*session {
	t.Helper()
	sessions := make([]*session, n)
	for i := range sessions {
		address := string(rune('a'+i)) + "@example.com"
		signUp(t, replicas[0], address)
		sessions[i] = &session{
			replicas: replicas, now: now, held: []*latchkeyv1.Tokens{logIn(t, replicas[0], address)}, kids: map[string]bool{},
		}
	}
	return sessions
}

// step refreshes on one replica, and validates all held tokens on the other.
func (c *session) step(ctx context.Context, t *testing.T) {
	t.Helper()
	at, other := c.replicas[c.calls%2], c.replicas[(c.calls+1)%2]
	c.calls++
	next, err := tryRefresh(ctx, at, c.held[len(c.held)-1].GetRefreshToken(), "")
	if err != nil {
		t.Errorf("refresh: %v", err)
		return
	}
	c.held = append(c.held, next)
	var good []*latchkeyv1.Tokens
	for i, tokens := range c.held {
		resp, err := other.Auth.ValidateToken(ctx, &latchkeyv1.ValidateTokenRequest{AccessToken: tokens.GetAccessToken()})
		// The clock moves during the call: a token that has expired by now proves nothing.
		expired := !c.now().Before(tokens.GetAccessExpireTime().AsTime())
		if err != nil || (!resp.GetValid() && !expired) {
			t.Errorf("a token of %s that expires in %s: %v, %v", kidOf(tokens.GetAccessToken()),
				tokens.GetAccessExpireTime().AsTime().Sub(c.now()), resp.GetReason(), err)
		}
		if resp.GetValid() {
			c.kids[kidOf(tokens.GetAccessToken())] = true
		}
		if !expired || i == len(c.held)-1 {
			good = append(good, tokens)
		}
	}
	c.held = good
}

// Rotations, scheduled and immediate, while clients refresh and validate on two replicas that learn of them at
// different times. No token is refused before it expires.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	replicas := twoReplicas(t, testenv.Options{KeyRotation: 24 * time.Hour})
	clock := replicas[0].Clock
	stop := make(chan struct{})
	var group sync.WaitGroup
	clients := newSessions(t, 3, replicas, clock.Now)
	turns := make(chan struct{}) // a client receives one for each step, so that all make some between two moves
	for _, c := range clients {
		group.Go(func() {
			for {
				c.step(t.Context(), t)
				select {
				case <-turns:
				case <-stop:
					return
				}
			}
		})
	}
	letThemWork := func() {
		for range 2 * len(clients) {
			select {
			case turns <- struct{}{}:
			case <-time.After(patience):
				t.Error("the clients stand still")
			}
		}
	}
	forced := 0
	for round := range 4 {
		// A day starts: one replica notices and makes the next key, and the other learns of it 30 s later.
		for _, d := range []time.Duration{24 * time.Hour, 30 * time.Second, signing.PublishAhead, 30 * time.Second, 5 * time.Minute} {
			clock.Advance(d)
			tending := replicas[round%2]
			if _, err := tending.Rotator.Tend(t.Context()); err != nil {
				t.Fatal(err)
			}
			letThemWork()
			reload(t, tending)
			letThemWork()
			reload(t, replicas[(round+1)%2])
			letThemWork()
		}
		// Somebody is in a hurry. The command waits until both know the key.
		made, err := replicas[0].Rotator.Rotate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		reload(t, replicas[0], replicas[1])
		if _, err := replicas[0].Rotator.Promote(t.Context(), made.KeyID); err != nil {
			t.Fatal(err)
		}
		forced++
		letThemWork()
		reload(t, replicas[1])
		letThemWork()
		reload(t, replicas[0])
		letThemWork()
	}
	close(stop)
	group.Wait()
	for _, c := range clients {
		if len(c.kids) < 2*forced || c.calls < 8*forced {
			t.Errorf("%d keys seen in %d calls: this shows nothing", len(c.kids), c.calls)
		}
	}
	if keysIn(t, replicas[0], signing.StateGone) < forced || keysIn(t, replicas[0], signing.StateActive) != 1 {
		t.Error("former keys did not go")
	}
}

// The replicas answer from memory and learn of keys only from the ledger. At the same time somebody sends tokens of
// unknown keys: a replica that has looked for one would not look for the new key within the same second.
func TestRotateNowUnderLoad(t *testing.T) {
	t.Parallel()
	replicas := twoReplicas(t, testenv.Options{WallClock: true})
	clients := newSessions(t, 3, replicas, time.Now)
	_, rest, _ := strings.Cut(clients[0].held[0].GetAccessToken(), ".")
	strange := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","kid":"nobody's","typ":"at+jwt"}`)) + "." + rest
	stop := make(chan struct{})
	var group sync.WaitGroup
	until := func(do func()) {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					do()
				}
			}
		})
	}
	const enough = 180 // a network address may refresh 600 times at once
	stepped := make([]atomic.Int64, len(clients))
	for i, c := range clients {
		until(func() {
			if c.calls < enough {
				c.step(t.Context(), t)
				c.held = c.held[max(0, len(c.held)-15):]
				stepped[i].Add(1)
			}
		})
	}
	for _, s := range replicas {
		until(func() {
			resp, err := s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: strange})
			if err != nil || resp.GetReason() != latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID {
				t.Errorf("a token of nobody's key: %v, %v", resp, err)
			}
		})
	}
	const rounds = 10
	for range rounds {
		made, err := replicas[0].Rotator.Rotate(t.Context())
		if err == nil {
			err = replicas[0].Ledger.Wait(t.Context(), made.Position)
		}
		if err == nil {
			made, err = replicas[0].Rotator.Promote(t.Context(), made.KeyID)
		}
		if err == nil {
			err = replicas[0].Ledger.Wait(t.Context(), made.Position) // so that the next one signs before it is replaced
		}
		if err != nil {
			t.Error(err)
		}
		// On a busy machine, ten rounds are over before a client has made its second call. So each client makes two
		// calls in each round, the second of which starts with the new key.
		for i := range stepped {
			after := min(stepped[i].Load()+2, enough)
			testenv.Eventually(t, patience, "every client has refreshed with the new key", func() bool { return stepped[i].Load() >= after || t.Failed() })
		}
	}
	close(stop)
	group.Wait()
	// The key that signs now is revoked. After the wait its tokens are refused.
	for _, c := range clients {
		c.step(t.Context(), t)
	}
	former := activeKey(t, replicas[0])
	outcome, err := replicas[1].Rotator.Revoke(t.Context(), former)
	if err == nil {
		err = replicas[1].Ledger.Wait(t.Context(), outcome.Position)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		for _, tokens := range c.held {
			for _, s := range replicas {
				reason := latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED
				if kidOf(tokens.GetAccessToken()) == former {
					reason = latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID
				}
				wantValid(t, s, tokens.GetAccessToken(), reason)
			}
		}
		if !c.kids[former] || len(c.kids) < rounds/2 {
			t.Errorf("%d keys seen in %d calls: this shows nothing", len(c.kids), c.calls)
		}
		next := refresh(t, replicas[0], c.held[len(c.held)-1].GetRefreshToken(), "")
		for _, s := range replicas {
			wantValid(t, s, next.GetAccessToken(), 0)
		}
	}
}

// All tokens of the key end at once on the replica that makes the call, and on the other when it has learned of it.
// With refresh tokens, all clients get new ones.
func TestRevokedKey(t *testing.T) {
	t.Parallel()
	replicas := twoReplicas(t, testenv.Options{})
	before := account(t, replicas[0])
	former := activeKey(t, replicas[0])
	for _, s := range replicas {
		wantValid(t, s, before.GetAccessToken(), 0)
	}
	outcome, err := replicas[0].Rotator.Revoke(t.Context(), former)
	if err != nil || len(outcome.Changes) != 2 {
		t.Fatalf("%+v, %v", outcome, err)
	}
	if n := count(t, replicas[0], "SELECT count(*) FROM revocations WHERE kind = 'key' AND key_id = $1", former); n != 1 {
		t.Errorf("%d rows in the ledger", n)
	}
	for _, s := range replicas {
		reload(t, s)
		wantValid(t, s, before.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID)
		if s.Keyring.Has(former) {
			t.Error("the key is still known")
		}
	}
	after := refresh(t, replicas[1], before.GetRefreshToken(), "")
	for _, s := range replicas {
		wantValid(t, s, after.GetAccessToken(), 0)
	}
	if kid := kidOf(after.GetAccessToken()); kid == former || kid != activeKey(t, replicas[0]) {
		t.Errorf("signed by %s", kid)
	}
}

// A key is published before it signs and until it is removed. A client that has the current set does not get it again.
func TestJWKSOverARotation(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	first, tag := activeKey(t, s), ""
	wantSet := func(what string, kids ...string) {
		t.Helper()
		reload(t, s)
		code, header, body := getIfNoneMatch(t, s.HTTP+"/.well-known/jwks.json", tag)
		if code != http.StatusOK || strings.Count(body, `"kid"`) != len(kids) {
			t.Errorf("%s: %d %s", what, code, body)
		}
		for _, kid := range kids {
			if !strings.Contains(body, kid) {
				t.Errorf("%s: %s is not in %s", what, kid, body)
			}
		}
		tag = header.Get("ETag")
		code, header, body = getIfNoneMatch(t, s.HTTP+"/.well-known/jwks.json", tag)
		if code != http.StatusNotModified || body != "" || header.Get("ETag") != tag || header.Get("Cache-Control") != "public, max-age=300" {
			t.Errorf("%s: again: %d %v %q", what, code, header, body)
		}
	}
	wantSet("at first", first)
	made, err := s.Rotator.Rotate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantSet("pending", first, made.KeyID)
	if kid := kidOf(account(t, s).GetAccessToken()); kid != first {
		t.Errorf("the pending key signs: %s", kid)
	}
	s.Clock.Advance(signing.PublishAhead)
	if _, err := s.Rotator.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	tag = "" // the set has not changed
	wantSet("active", first, made.KeyID)
	if kid := kidOf(logIn(t, s, email).GetAccessToken()); kid != made.KeyID {
		t.Errorf("%s signs", kid)
	}
	s.Clock.Advance(time.Minute)
	if age := keyAge(t, s); age != time.Minute {
		t.Errorf("the metric says that it is %s old", age)
	}
	s.Clock.Advance(testenv.MaxAccessTTL + time.Hour)
	if _, err := s.Rotator.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSet("gone", made.KeyID)
}

func keyAge(t *testing.T, s *testenv.Server) time.Duration {
	t.Helper()
	families, err := s.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "latchkey_signing_key_age_seconds" {
			return time.Duration(family.GetMetric()[0].GetGauge().GetValue()) * time.Second
		}
	}
	t.Fatal("there is no such metric")
	return 0
}

func getIfNoneMatch(t *testing.T, url, tag string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if tag != "" {
		req.Header.Set("If-None-Match", tag)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to the end
	var body strings.Builder
	if err := resp.Write(&body); err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(body.String(), "\r\n\r\n")
	return resp.StatusCode, resp.Header, text
}
