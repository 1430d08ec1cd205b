package accesstoken

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

type claimCase struct {
	change map[string]any // nil deletes
	reason string         // empty when the token is good
}

func claimCases() map[string]claimCase {
	now := josetest.Start().Unix()
	day := int64(24 * 60 * 60)
	set := func(pairs ...any) map[string]any {
		change := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			change[pairs[i].(string)] = pairs[i+1] //nolint:forcetypeassert // The table below names strings.
		}
		return change
	}
	return map[string]claimCase{
		"unchanged": {set(), ""},

		"iss absent":       {set("iss", nil), "issuer"},
		"iss other":        {set("iss", "https://evil.example.com"), "issuer"},
		"iss with slash":   {set("iss", testIssuer+"/"), "issuer"},
		"iss case":         {set("iss", strings.ToUpper(testIssuer)), "issuer"},
		"iss a list":       {set("iss", []string{testIssuer}), "issuer"},
		"aud list":         {set("aud", []string{"other", testAudience}), ""},
		"aud list of one":  {set("aud", []string{testAudience}), ""},
		"aud absent":       {set("aud", nil), "audience"},
		"aud other":        {set("aud", "other"), "audience"},
		"aud empty":        {set("aud", ""), "audience"},
		"aud empty list":   {set("aud", []string{}), "audience"},
		"aud other list":   {set("aud", []string{"other", "another"}), "audience"},
		"aud prefix":       {set("aud", testAudience+"2"), "audience"},
		"aud mixed list":   {set("aud", []any{testAudience, 1}), "audience"},
		"aud nested list":  {set("aud", []any{[]string{testAudience}}), "audience"},
		"aud an object":    {set("aud", map[string]any{testAudience: testAudience}), "audience"},
		"sub absent":       {set("sub", nil), "sub"},
		"sub a name":       {set("sub", "alice"), "sub"},
		"sub nil UUID":     {set("sub", uuid.Nil.String()), "sub"},
		"sub upper case":   {set("sub", strings.ToUpper(testClaims().UserID.String())), "sub"},
		"sub braces":       {set("sub", "{"+testClaims().UserID.String()+"}"), "sub"},
		"sub urn":          {set("sub", "urn:uuid:"+testClaims().UserID.String()), "sub"},
		"sub no dashes":    {set("sub", strings.ReplaceAll(testClaims().UserID.String(), "-", "")), "sub"},
		"sid absent":       {set("sid", nil), "sid"},
		"sid number":       {set("sid", 1), "sid"},
		"sid upper case":   {set("sid", strings.ToUpper(testClaims().SessionID.String())), "sid"},
		"led absent":       {set("led", nil), "led"},
		"led zero":         {set("led", 0), ""},
		"led largest":      {set("led", json.Number("9223372036854775807")), ""},
		"led too large":    {set("led", json.Number("9223372036854775808")), "led"},
		"led negative":     {set("led", -1), "led"},
		"led minus zero":   {set("led", json.Number("-0")), "led"},
		"led fraction":     {set("led", json.Number("1.0")), "led"},
		"led exponent":     {set("led", json.Number("1e3")), "led"},
		"led string":       {set("led", "7"), "led"},
		"led null":         {set("led", json.RawMessage("null")), "led"},
		"jti absent":       {set("jti", nil), "jti"},
		"jti empty":        {set("jti", ""), "jti"},
		"jti number":       {set("jti", 5), "jti"},
		"client_id absent": {set("client_id", nil), "client_id"},
		"client_id other":  {set("client_id", "mobile"), ""},
		"client_id number": {set("client_id", 5), "client_id"},

		"iat absent":          {set("iat", nil), "iat"},
		"iat string":          {set("iat", "1800000000"), "iat"},
		"iat fraction":        {set("iat", json.Number("1800000000.5")), "iat"},
		"iat negative":        {set("iat", -5), "iat"},
		"iat 59 s ahead":      {set("iat", now+59), ""},
		"iat 60 s ahead":      {set("iat", now+60), ""},
		"iat 61 s ahead":      {set("iat", now+61), "iat"},
		"nbf 59 s ahead":      {set("nbf", now+59), ""},
		"nbf 60 s ahead":      {set("nbf", now+60), ""},
		"nbf 61 s ahead":      {set("nbf", now+61), "nbf"},
		"nbf past":            {set("nbf", 0), ""},
		"nbf string":          {set("nbf", "0"), "nbf"},
		"nbf null":            {set("nbf", json.RawMessage("null")), "nbf"},
		"nbf huge":            {set("nbf", json.Number("9223372036854775807")), "nbf"},
		"exp absent":          {set("exp", nil), "exp"},
		"exp string":          {set("exp", "1800000900"), "exp"},
		"exp fraction":        {set("exp", json.Number("1800000900.0")), "exp"},
		"exp exponent":        {set("exp", json.Number("1.8000009e9")), "exp"},
		"exp huge":            {set("exp", json.Number("9223372036854775807")), "exp"},
		"exp huger":           {set("exp", json.Number("1"+strings.Repeat("0", 400))), "exp"},
		"exp as iat":          {set("exp", now, "iat", now), "exp"},
		"exp before iat":      {set("exp", now+10, "iat", now+20), "exp"},
		"longest life":        {set("iat", now, "exp", now+3600), ""},
		"life above the most": {set("iat", now, "exp", now+3601), "exp"},
		"old, too long":       {set("iat", now-day, "exp", now+10), "exp"},

		"auth_time now":       {set("auth_time", now), ""},
		"auth_time null":      {set("auth_time", json.RawMessage("null")), "auth_time"},
		"auth_time string":    {set("auth_time", "1"), "auth_time"},
		"auth_time huge":      {set("auth_time", json.Number("9223372036854775807")), "auth_time"},
		"amr list":            {set("amr", []string{"pwd"}), ""},
		"amr string":          {set("amr", "pwd"), "amr"},
		"amr mixed":           {set("amr", []any{"pwd", 1}), "amr"},
		"email_verified text": {set("email_verified", "true"), "email_verified"},
		"acr text":            {set("acr", "aal2"), ""},
		"acr null":            {set("acr", json.RawMessage("null")), "acr"},
		"acr number":          {set("acr", 2), "acr"},
		"acr list":            {set("acr", []string{"aal2"}), "acr"},
		"unknown claim":       {set("scope", "x", "deep", map[string]any{"a": []any{map[string]any{}}}), ""},
		"EXP is another":      {set("EXP", 1, "ISS", "x"), ""},
		"Exp instead of exp":  {set("exp", nil, "Exp", now+600), "exp"},
	}
}

func TestVerifyClaims(t *testing.T) {
	t.Parallel()
	f := newForger(t, EdDSA)
	for name, c := range claimCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wire := wireClaims()
			maps.Copy(wire, c.change)
			maps.DeleteFunc(wire, func(_ string, value any) bool { return value == nil })
			token := forge(t, f.key, josetest.JSON(t, testHeader(f.key)), josetest.JSON(t, wire))
			if c.reason == "" {
				f.wantAccepted(t, token)
			} else {
				f.wantRefused(t, token, c.reason)
			}
		})
	}
}

// What only raw JSON can say, in payloads with a good signature.
func TestVerifyClaimsJSON(t *testing.T) {
	t.Parallel()
	f := newForger(t, EdDSA)
	good := josetest.JSON(t, wireClaims())
	f.wantAccepted(t, forge(t, f.key, josetest.JSON(t, testHeader(f.key)), " "+good+"\r\n\t"))
	f.wantAccepted(t, forge(t, f.key, josetest.JSON(t, testHeader(f.key)), strings.Replace(good, "{", `{"x":`+nested(14)+`,`, 1)))
	for name, payload := range map[string]string{
		"duplicate claim":        strings.Replace(good, "{", `{"exp":99999999999,`, 1),
		"duplicate, same value":  strings.Replace(good, "{", `{"iss":"`+testIssuer+`",`, 1),
		"duplicate by escape":    strings.Replace(good, "{", `{"\u0065xp":99999999999,`, 1),
		"duplicate unknown":      strings.Replace(good, "{", `{"x":1,"x":1,`, 1),
		"duplicate deeper":       strings.Replace(good, "{", `{"x":{"y":1,"y":2},`, 1),
		"duplicate in a list":    strings.Replace(good, "{", `{"x":[{"y":1,"y":2}],`, 1),
		"trailing object":        good + "{}",
		"trailing comma":         strings.TrimSuffix(good, "}") + ",}",
		"trailing brace":         good + "}",
		"trailing NUL":           good + "\x00",
		"byte order mark":        "\ufeff" + good,
		"cut short":              strings.TrimSuffix(good, "}"),
		"no JSON":                "hello",
		"array":                  "[" + good + "]",
		"string":                 `"x"`,
		"null":                   "null",
		"comment":                "/* */" + good,
		"single quotes":          strings.ReplaceAll(good, `"`, `'`),
		"not UTF-8":              strings.Replace(good, "{", "{\"x\":\"\xff\",", 1),
		"too deep":               strings.Replace(good, "{", `{"x":`+nested(16)+`,`, 1),
		"far too deep":           strings.Replace(good, "{", `{"x":`+nested(900)+`,`, 1),
		"number as a name":       strings.Replace(good, "{", `{1:1,`, 1),
		"not a number":           strings.Replace(good, "{", `{"x":NaN,`, 1),
		"number with zero first": strings.Replace(good, "{", `{"x":01,`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.wantRefused(t, forge(t, f.key, josetest.JSON(t, testHeader(f.key)), payload), "claims")
		})
	}
}

func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

// Claims without a session are written and read only under rules that say so, and a session that is there
// must be one even then.
func TestSessionless(t *testing.T) {
	t.Parallel()
	f := newForger(t, EdDSA)
	claims := testClaims()
	claims.SessionID = uuid.Nil
	if _, err := f.rules.Write(claims); !errors.Is(err, ErrClaims) {
		t.Errorf("written without a session: %v", err)
	}
	wire := wireClaims()
	delete(wire, "sid")
	header := josetest.JSON(t, testHeader(f.key))
	absent := forge(t, f.key, header, josetest.JSON(t, wire))
	f.wantRefused(t, absent, "sid")
	f.rules.Sessionless = true
	if got, err := f.Verify(t.Context(), f.sign(t, claims)); err != nil || !reflect.DeepEqual(*got, claims) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := f.Verify(t.Context(), absent); err != nil || got.SessionID != uuid.Nil {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := f.Verify(t.Context(), f.sign(t, testClaims())); err != nil || got.SessionID != testClaims().SessionID {
		t.Errorf("with a session: %+v, %v", got, err)
	}
	for _, bad := range []any{nil, "", 0, "00000000-0000-0000-0000-000000000000", "x"} {
		wire["sid"] = bad
		f.wantRefused(t, forge(t, f.key, header, josetest.JSON(t, wire)), "sid")
	}
}

// Which authentications a method with fresh_within and factors lets pass.
func TestAuthentication(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	for name, c := range map[string]struct {
		ago  time.Duration // 0: the token does not say
		want bool
	}{
		"not said": {0, false}, "just now": {time.Second, true}, "at the limit": {time.Minute, true},
		"a second later": {time.Minute + time.Second, false}, "by a clock that is ahead": {-time.Second, true},
	} {
		var claims Claims
		if c.ago != 0 {
			claims.AuthTime = now.Add(-c.ago)
		}
		if got := claims.Fresh(now, time.Minute); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for acr, want := range map[string]uint32{"": 1, AAL1: 1, AAL2: 2, "aal3": 1, "AAL2": 1} {
		claims := Claims{ACR: acr, AMR: []string{"pwd", "otp", "mfa"}} // "acr" alone decides
		if got := claims.Factors(); got != want {
			t.Errorf("%q: %d factors", acr, got)
		}
	}
	for want, lists := range map[string][][]string{AAL1: {nil, {"pwd"}, {"otp"}}, AAL2: {{"pwd", "otp", "mfa"}, {"pop", "user", "mfa"}}} {
		for _, amr := range lists {
			if got := ACROf(amr); got != want {
				t.Errorf("%v: %s", amr, got)
			}
		}
	}
}
