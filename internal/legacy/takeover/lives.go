package takeover

import (
	"cmp"
	"fmt"
	"time"

	"github.com/latchkey-auth/latchkey/internal/legacy"
)

// longestSetting is the longest life that a setting accepts.
const longestSetting = 8760 * time.Hour

// judgeLives compares the remaining lives of keys in Redis with the settings. A key that lives longer than the setting
// for its kind shows that the older backend had another setting.
func (r *Report) judgeLives(k Keys) {
	set := k.Store.Defaults()
	for _, kind := range []struct {
		key, what, setting string
		set                time.Duration
	}{
		{"refresh_token", "refresh tokens", "LATCHKEY_LEGACY_REFRESH_TOKEN_TTL", cmp.Or(k.RefreshLife, legacy.RefreshLife)},
		{"password_reset", "reset tokens", "LATCHKEY_LEGACY_RESET_TOKEN_TTL", set.ResetLife},
		{"reset_token", "reset tokens", "LATCHKEY_LEGACY_RESET_TOKEN_TTL", set.ResetLife},
		{"login_attempts", "counters of failed logins", "LATCHKEY_LEGACY_LOGIN_WINDOW", set.AttemptsWindow},
	} {
		found := r.Redis.longest[kind.key]
		if found <= kind.set+time.Minute || found > longestSetting {
			continue
		}
		r.warn(Finding{
			Code: "other_life",
			Text: fmt.Sprintf("Redis has %s (%s:…) that live for %s more, and %s is %s", kind.what, kind.key, found.Round(time.Second), kind.setting, kind.set),
			Right: fmt.Sprintf("the older backend's own setting, probably %s=%s",
				kind.setting, (found + time.Hour - 1).Truncate(time.Hour)),
		})
	}
}
