package signing

import (
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

const testAccountAudience = "https://auth.example.com/account"

// TestAttack19AccountAudience: a token is for services or for the account, by its audience and nothing else.
func TestAttack19AccountAudience(t *testing.T) {
	t.Parallel()
	f := newForger(t, accesstoken.ES256)
	config := testConfig(f.store, f.clock, accesstoken.ES256)
	config.AccountAudience = testAccountAudience
	k := mustOpen(t, config)
	claims := testClaims()
	account, err := k.SignForAccount(t.Context(), claims)
	if err != nil {
		t.Fatal(err)
	}
	found, err := k.VerifyAny(t.Context(), account)
	if err != nil || !found.ForAccount || found.KeyID != f.key.id || found.SessionID != claims.SessionID {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := k.Verify(t.Context(), account); err == nil || !strings.Contains(err.Error(), "for the account") {
		t.Errorf("Verify: %v", err)
	}
	f.wantRefused(t, account, "another audience") // who is set to no such audience
	if found, err := k.VerifyAny(t.Context(), mustSign(t, k, claims)); err != nil || found.ForAccount {
		t.Errorf("%+v, %v", found, err)
	}
	for _, test := range []struct {
		audience   any
		good, mine bool
	}{
		{testAudience, true, false},
		{testAccountAudience, true, true},
		{[]string{testAccountAudience}, true, true},
		{[]string{testAccountAudience, "x"}, true, true},
		{[]string{testAccountAudience, testAudience}, true, false},
		{[]string{testAudience, testAccountAudience}, true, false},
		{testAccountAudience + "/", false, false},
		{strings.ToUpper(testAccountAudience), false, false},
		{[]string{}, false, false},
		{"", false, false},
		{nil, false, false},
	} {
		wire := wireClaims()
		wire["aud"] = test.audience
		found, err := k.VerifyAny(t.Context(), forge(t, f.key, josetest.JSON(t, testHeader(f.key)), josetest.JSON(t, wire)))
		if (err == nil) != test.good || err == nil && found.ForAccount != test.mine {
			t.Errorf("%v: for the account %v, %v", test.audience, found.ForAccount, err)
		}
	}
	// Expired is only said of what is good in every other way.
	f.clock.Add(claims.ExpireTime.Sub(f.clock.Now()))
	_, err = k.VerifyAny(t.Context(), account)
	josetest.WantError(t, err, accesstoken.ErrExpired)
	if _, err := f.SignForAccount(t.Context(), claims); err == nil {
		t.Error("signed for an audience that is not there")
	}
	config.AccountAudience = testAudience
	if _, err := Open(t.Context(), config); err == nil || !strings.Contains(err.Error(), "AccountAudience") {
		t.Errorf("one audience for both: %v", err)
	}
}
