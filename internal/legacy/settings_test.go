package legacy_test

import (
	"errors"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/legacy"
)

// TestOtherSettings: backends with other settings.
func TestOtherSettings(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	cfg := legacy.TokensConfig{RS256: &key.PublicKey, HS256: []byte(secret), Issuer: "https://old.example.com", RefreshLife: 30 * 24 * time.Hour, AccessLife: 2 * time.Hour}
	tokens := checker(t, cfg)
	_, err := tokens.Verify(signRS(t, key, goHead, goClaims))
	var other *legacy.IssuerError
	if !errors.As(err, &other) || other.Said != legacy.Issuer || !errors.Is(err, legacy.ErrInvalid) {
		t.Errorf("the default issuer: %v", err)
	}
	if _, err := tokens.Verify(signRS(t, key, goHead, replaced(t, goClaims, "saas-platform", "https://old.example.com"))); err != nil {
		t.Errorf("the issuer that is set: %v", err)
	}
	if _, err := tokens.Verify(signRS(t, newKey(t), goHead, goClaims)); errors.As(err, &other) && other.Said == "" || !errors.Is(err, legacy.ErrInvalid) {
		t.Errorf("another key: %v", err)
	}
	for expire, refresh := range map[string]bool{
		"1800003600": false, // an hour
		"1800007260": false, // two hours and a minute
		"1800007261": true,
		"1800604800": true, // a week
		"1802592000": true, // 30 days
	} {
		got, err := tokens.Verify(signHS([]byte(secret), rustHead, replaced(t, rustClaims, "1800003600", expire)))
		if err != nil || got.NeverAccess() != refresh {
			t.Errorf("until %s: %v, %v", expire, got, err)
		}
	}
	cfg.AccessLife = 0
	if got, err := checker(t, cfg).Verify(signHS([]byte(secret), rustHead, replaced(t, rustClaims, "1800003600", "1800604800"))); err != nil || got.NeverAccess() {
		t.Errorf("a week is no refresh token's life here: %v, %v", got, err)
	}
}
