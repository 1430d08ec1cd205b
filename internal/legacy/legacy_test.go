package legacy_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/legacy"
)

const (
	secret   = "the Rust backend's secret"
	subject  = "4098cffe-e9f4-4147-b388-f30460d1cc34"
	goHead   = `{"alg":"RS256","typ":"JWT"}`
	rustHead = `{"typ":"JWT","alg":"HS256"}`
)

func now() time.Time { return time.Unix(1_800_000_000, 0) }

func newKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func checker(t testing.TB, cfg legacy.TokensConfig) *legacy.Tokens {
	t.Helper()
	if cfg.Now == nil {
		cfg.Now = now
	}
	if cfg.AcceptUntil.IsZero() {
		cfg.AcceptUntil = now().Add(time.Hour)
	}
	tokens, err := legacy.NewTokens(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func segment(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// signRS and signHS sign any header and claims, with the standard library alone.
func signRS(t testing.TB, key *rsa.PrivateKey, header, claims string) string {
	t.Helper()
	text := segment(header) + "." + segment(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + segment(string(signature))
}

func signHS(key []byte, header, claims string) string {
	text := segment(header) + "." + segment(claims)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return text + "." + segment(string(mac.Sum(nil)))
}

const (
	goClaims   = `{"user_id":"` + subject + `","email":"nora@example.com","iss":"saas-platform","sub":"` + subject + `","exp":1800000900,"nbf":1800000000,"iat":1800000000,"jti":"id"}`
	rustClaims = `{"sub":"` + subject + `","exp":1800003600,"iat":1800000000}`
)

// TestReal checks the rules with tokens that the real programs have made.
func TestReal(t *testing.T) {
	t.Parallel()
	var snapshot struct {
		Sessions []struct {
			UserID       uuid.UUID `json:"user_id"`
			AccessToken  string    `json:"access_token"`
			RefreshToken string    `json:"refresh_token"`
			IssuedBy     string    `json:"issued_by"`
		} `json:"sessions"`
		JWT struct {
			Rust struct {
				Secret string `json:"secret"`
			} `json:"rust"`
		} `json:"jwt"`
	}
	text, err := os.ReadFile("../testenv/existing/accounts.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &snapshot); err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile("../testenv/existing/jwt-public.pem")
	if err != nil {
		t.Fatal(err)
	}
	key, err := legacy.ParsePublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	tokens := checker(t, legacy.TokensConfig{RS256: key, HS256: []byte(snapshot.JWT.Rust.Secret)})
	seen := map[uuid.UUID]bool{}
	for _, sess := range snapshot.Sessions {
		access, err := tokens.Verify(sess.AccessToken)
		if err != nil || access.UserID != sess.UserID || string(access.Backend) != sess.IssuedBy || access.NeverAccess() {
			t.Fatalf("%+v, %v", access, err)
		}
		if access.IssuedAt.IsZero() || !access.ExpireTime.Equal(now().Add(time.Hour)) || (access.ID == "") != (sess.IssuedBy == "rust") {
			t.Errorf("%+v", access)
		}
		refresh, err := tokens.Verify(sess.RefreshToken)
		if err != nil || refresh.UserID != sess.UserID || refresh.NeverAccess() != (sess.IssuedBy == "go") {
			t.Errorf("%+v, %v", refresh, err)
		}
		for _, token := range []*legacy.Token{access, refresh} {
			id := token.SessionID()
			if seen[id] || id.Version() != 8 || id.Variant() != uuid.RFC4122 {
				t.Errorf("session %s", id)
			}
			seen[id] = true
		}
		for _, changed := range []string{sess.AccessToken + "A", sess.AccessToken[:len(sess.AccessToken)-2], "A" + sess.AccessToken} {
			if _, err := tokens.Verify(changed); !errors.Is(err, legacy.ErrInvalid) {
				t.Errorf("a changed token: %v", err)
			}
		}
	}
	if len(seen) == 0 {
		t.Fatal("the snapshot has no sessions")
	}
}

// TestHostile has tokens that an attacker or another program may send, most of them with a right signature.
func TestHostile(t *testing.T) {
	t.Parallel()
	key, stranger := newKey(t), newKey(t)
	tokens := checker(t, legacy.TokensConfig{RS256: &key.PublicKey, HS256: []byte(secret)})
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	rs := func(header, claims string) string { return signRS(t, key, header, claims) }
	hs := func(header, claims string) string { return signHS([]byte(secret), header, claims) }
	inGo := func(was, is string) string { return rs(goHead, replaced(t, goClaims, was, is)) }
	inRust := func(was, is string) string { return hs(rustHead, replaced(t, rustClaims, was, is)) }
	good := rs(goHead, goClaims)
	for _, fine := range []string{good, hs(rustHead, rustClaims), rs(`{"alg":"RS256"}`, goClaims)} {
		if _, err := tokens.Verify(fine); err != nil {
			t.Fatalf("a good token: %v", err)
		}
	}
	parts := strings.Split(good, ".")
	for name, token := range map[string]string{
		"nothing": "", "dots": "..", "no signature": parts[0] + "." + parts[1] + ".", "two parts": parts[0] + "." + parts[1],
		"four parts": good + "." + parts[2], "padded": good + "=", "a line's end": good + "\n", "a line's end inside": parts[0] + "\n." + parts[1] + "." + parts[2],
		"too long":                   rs(goHead, replaced(t, goClaims, `"id"`, `"`+strings.Repeat("x", 4096)+`"`)),
		"none":                       segment(`{"alg":"none","typ":"JWT"}`) + "." + parts[1] + ".",
		"none kept":                  segment(`{"alg":"none","typ":"JWT"}`) + "." + parts[1] + "." + parts[2],
		"none with a signature":      rs(`{"alg":"none"}`, goClaims),
		"the public key as a secret": signHS(public, rustHead, rustClaims),
		"its DER as a secret":        signHS(spki, rustHead, rustClaims),
		"its modulus as a secret":    signHS(key.N.Bytes(), rustHead, rustClaims),
		"no secret":                  signHS(nil, rustHead, rustClaims),
		"Go's claims by the secret":  hs(goHead, goClaims),
		"HS256 with Go's claims":     hs(rustHead, goClaims),
		"RS256 with Rust's claims":   rs(goHead, rustClaims),
		"RS256 that says HS256":      rs(rustHead, goClaims),
		"another key":                signRS(t, stranger, goHead, goClaims),
		"its own key":                signRS(t, stranger, `{"alg":"RS256","typ":"JWT","jwk":{"kty":"RSA"}}`, goClaims),
		"RS384":                      rs(`{"alg":"RS384","typ":"JWT"}`, goClaims),
		"PS256":                      rs(`{"alg":"PS256","typ":"JWT"}`, goClaims),
		"HS512":                      hs(`{"alg":"HS512","typ":"JWT"}`, rustClaims),
		"lower case":                 rs(`{"alg":"rs256","typ":"JWT"}`, goClaims),
		"no algorithm":               rs(`{"typ":"JWT"}`, goClaims),
		"a list of algorithms":       rs(`{"alg":["RS256"],"typ":"JWT"}`, goClaims),
		"two algorithms":             rs(`{"alg":"HS256","alg":"RS256","typ":"JWT"}`, goClaims),
		"two by escapes":             rs(`{"alg":"HS256","\u0061lg":"RS256","typ":"JWT"}`, goClaims),
		"ours":                       rs(`{"alg":"RS256","typ":"at+jwt","kid":"k"}`, goClaims),
		"a key id":                   rs(`{"alg":"RS256","typ":"JWT","kid":"k"}`, goClaims),
		"an empty key id":            rs(`{"alg":"RS256","typ":"JWT","kid":""}`, goClaims),
		"no key id at all":           rs(`{"alg":"RS256","typ":"JWT","kid":null}`, goClaims),
		"another type":               rs(`{"alg":"RS256","typ":"at+jwt"}`, goClaims),
		"crit":                       rs(`{"alg":"RS256","typ":"JWT","crit":["exp"]}`, goClaims),
		"empty crit":                 hs(`{"alg":"HS256","typ":"JWT","crit":null}`, rustClaims),
		"a header that is a list":    rs(`["RS256"]`, goClaims),
		"a header and more":          rs(goHead+`{}`, goClaims),
		"claims and more":            rs(goHead, goClaims+`{}`),
		"claims that are a list":     rs(goHead, `[`+goClaims+`]`),
		"claims that are null":       rs(goHead, `null`),
		"not UTF-8":                  rs(goHead, replaced(t, goClaims, "nora", "\xff")),
		"exp twice":                  inGo(`"exp":1800000900`, `"exp":1800000900,"exp":1800000901`),
		"exp twice by escapes":       inRust(`"exp":1800003600`, `"exp":1,"\u0065xp":1800003600`),
		"EXP":                        inRust(`"exp"`, `"EXP"`),
		"SUB":                        inGo(`"sub"`, `"SUB"`),
		"no exp":                     inGo(`"exp":1800000900,`, ``),
		"no exp either":              inRust(`"exp":1800003600,`, ``),
		"null exp":                   inGo(`1800000900`, `null`),
		"exp as text":                inRust(`1800003600`, `"1800003600"`),
		"exp with a fraction":        inRust(`1800003600`, `1800003600.5`),
		"exp with an exponent":       inRust(`1800003600`, `1.8e300`),
		"exp beyond 64 bits":         inRust(`1800003600`, `18446744073709551617`),
		"exp at 2^63":                inGo(`1800000900`, `9223372036854775808`),
		"exp at 2^63-1":              inGo(`1800000900`, `9223372036854775807`),
		"exp after 9999":             inGo(`1800000900`, `253402300800`),
		"exp below 0":                inRust(`1800003600`, `-1800003600`),
		"exp with a plus":            inRust(`1800003600`, `+1800003600`),
		"exp as NaN":                 inRust(`1800003600`, `NaN`),
		"exp as an object":           inRust(`1800003600`, `{"$date":1800003600}`),
		"exp as true":                inRust(`1800003600`, `true`),
		"not yet":                    inGo(`"nbf":1800000000`, `"nbf":1800000001`),
		"not before nonsense":        inGo(`"nbf":1800000000`, `"nbf":"soon"`),
		"issued at nonsense":         inGo(`"iat":1800000000`, `"iat":[]`),
		"Rust without iat":           inRust(`,"iat":1800000000`, ``),
		"Rust with an issuer":        inRust(`{`, `{"iss":"saas-platform",`),
		"Rust with an audience":      inRust(`{`, `{"aud":"x",`),
		"another issuer":             inGo(`saas-platform`, `saas-platform `),
		"no issuer":                  inGo(`"iss":"saas-platform",`, ``),
		"issuers":                    inGo(`"saas-platform"`, `["saas-platform"]`),
		"another user_id":            inGo(`"user_id":"4`, `"user_id":"5`),
		"no user_id":                 inGo(`"user_id":"`+subject+`",`, ``),
		"no email":                   inGo(`"email":"nora@example.com",`, ``),
		"null email":                 inGo(`"nora@example.com"`, `null`),
		"no jti":                     inGo(`"id"`, `""`),
		"a number as jti":            inGo(`"id"`, `7`),
		"no account":                 inRust(subject, `00000000-0000-0000-0000-000000000000`),
		"another spelling":           inRust(subject, strings.ToUpper(subject)),
		"braces":                     inRust(subject, `{`+subject+`}`),
		"a urn":                      inRust(subject, `urn:uuid:`+subject),
		"no UUID":                    inRust(subject, `1`),
	} {
		got, err := tokens.Verify(token)
		if !errors.Is(err, legacy.ErrInvalid) || errors.Is(err, legacy.ErrExpired) || got != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if err != nil && (strings.Contains(err.Error(), subject) || strings.Contains(err.Error(), "nora@")) {
			t.Errorf("%s: the error quotes the token: %v", name, err)
		}
	}
	// Without its key, a backend's tokens are refused.
	for _, other := range []legacy.TokensConfig{{HS256: []byte(secret)}, {}} {
		if _, err := checker(t, other).Verify(good); !errors.Is(err, legacy.ErrInvalid) {
			t.Errorf("without the Go backend's key: %v", err)
		}
	}
	for _, other := range []legacy.TokensConfig{{RS256: &key.PublicKey}, {}} {
		if _, err := checker(t, other).Verify(hs(rustHead, rustClaims)); !errors.Is(err, legacy.ErrInvalid) {
			t.Errorf("without the Rust backend's secret: %v", err)
		}
		if _, err := checker(t, other).Verify(signHS(nil, rustHead, rustClaims)); !errors.Is(err, legacy.ErrInvalid) {
			t.Errorf("an empty secret for none: %v", err)
		}
	}
}

func replaced(t testing.TB, text, was, is string) string {
	t.Helper()
	if !strings.Contains(text, was) {
		t.Fatalf("%q is not in %q", was, text)
	}
	return strings.Replace(text, was, is, 1)
}

// TestClocks: each backend's own rules, and the date from which nothing is accepted.
func TestClocks(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	at := now()
	until := now().Add(100 * 365 * 24 * time.Hour)
	cfg := legacy.TokensConfig{RS256: &key.PublicKey, HS256: []byte(secret), AcceptUntil: until, Now: func() time.Time { return at }}
	tokens := checker(t, cfg)
	byGo, byRust := signRS(t, key, goHead, goClaims), signHS([]byte(secret), rustHead, rustClaims)
	later := signHS([]byte(secret), rustHead, replaced(t, rustClaims, `{`, `{"nbf":1900000000,`))
	for _, test := range []struct {
		token string
		after time.Duration
		want  error
	}{
		{byGo, 0, nil},
		{byGo, -time.Second, legacy.ErrInvalid},
		{byGo, 15*time.Minute - 1, nil},
		{byGo, 15 * time.Minute, legacy.ErrExpired},
		{byRust, -24 * time.Hour, nil},
		{byRust, time.Hour + time.Minute - 1, nil},
		{byRust, time.Hour + time.Minute, legacy.ErrExpired},
		{later, 0, nil},
	} {
		at = now().Add(test.after)
		got, err := tokens.Verify(test.token)
		if !errors.Is(err, test.want) {
			t.Errorf("after %s: %v, want %v", test.after, err, test.want)
		}
		if err == nil && !at.Before(got.ExpireTime) {
			t.Errorf("after %s: accepted until %s", test.after, got.ExpireTime)
		}
	}
	cfg.AcceptUntil = now().Add(time.Minute)
	tokens = checker(t, cfg)
	for _, token := range []string{byGo, byRust} {
		at = cfg.AcceptUntil.Add(-1)
		if got, err := tokens.Verify(token); err != nil || !got.ExpireTime.Equal(cfg.AcceptUntil) {
			t.Errorf("%+v, %v", got, err)
		}
		at = cfg.AcceptUntil
		if _, err := tokens.Verify(token); !errors.Is(err, legacy.ErrExpired) {
			t.Errorf("on the date: %v", err)
		}
	}
	at = cfg.AcceptUntil
	if _, err := tokens.Verify(signRS(t, newKey(t), goHead, goClaims)); !errors.Is(err, legacy.ErrInvalid) {
		t.Errorf("a forged one: %v", err)
	}
}

// TestNeverAccess: which tokens show by themselves that they are refresh tokens.
func TestNeverAccess(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	tokens := checker(t, legacy.TokensConfig{RS256: &key.PublicKey, HS256: []byte(secret)})
	for token, want := range map[string]bool{
		signRS(t, key, goHead, goClaims):                                                                    false,
		signRS(t, key, goHead, replaced(t, goClaims, "nora@example.com", "")):                               true,
		signHS([]byte(secret), rustHead, rustClaims):                                                        false,
		signHS([]byte(secret), rustHead, replaced(t, rustClaims, "1800003600", "1800604800")):               true,
		signHS([]byte(secret), rustHead, replaced(t, rustClaims, "1800003600", "1800604801")):               true,
		signHS([]byte(secret), rustHead, replaced(t, rustClaims, "1800003600", "1800604700")):               false,
		signHS([]byte(secret), rustHead, replaced(t, rustClaims, "1800003600", "253402300799")):             false,
		signHS([]byte(secret), rustHead, replaced(t, rustClaims, `"iat":1800000000`, `"iat":253402300799`)): false,
	} {
		got, err := tokens.Verify(token)
		if err != nil || got.NeverAccess() != want {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	}
}

func TestNewTokens(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	for name, cfg := range map[string]legacy.TokensConfig{
		"no clock":         {},
		"a small key":      {RS256: &small.PublicKey, AcceptUntil: now(), Now: now},
		"a key for ever":   {RS256: &key.PublicKey, Now: now},
		"secret, for ever": {HS256: []byte(secret), Now: now},
	} {
		if _, err := legacy.NewTokens(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestParseKeys: errors name the fault and contain nothing of a key.
func TestParseKeys(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := x509.MarshalPKCS8PrivateKey(curve)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	large := &rsa.PublicKey{N: key.N, E: 3}
	text := func(kind string, der []byte, headers ...string) []byte {
		block := &pem.Block{Type: kind, Bytes: der}
		if len(headers) > 0 {
			block.Headers = map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": headers[0]}
		}
		return pem.EncodeToMemory(block)
	}
	spki := func(public any) []byte {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for _, good := range [][]byte{text("PRIVATE KEY", pkcs8), text("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))} {
		if got, err := legacy.ParsePrivateKey(good); err != nil || !got.Equal(key) {
			t.Errorf("a private key: %v", err)
		}
	}
	for _, good := range [][]byte{text("PUBLIC KEY", spki(&key.PublicKey)), text("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&key.PublicKey))} {
		if got, err := legacy.ParsePublicKey(good); err != nil || !got.Equal(&key.PublicKey) {
			t.Errorf("a public key: %v", err)
		}
	}
	for want, bad := range map[string][]byte{
		"no PEM block":            []byte("garbage"),
		"passphrase":              text("ENCRYPTED PRIVATE KEY", pkcs8),
		"key under a passphrase":  text("RSA PRIVATE KEY", pkcs8, "AES-256-CBC,00"),
		"public key: the private": text("PUBLIC KEY", spki(&key.PublicKey)),
		"no RSA private key":      text("PRIVATE KEY", ec),
		`"RSA PRIVATE KEY"`:       text("RSA PRIVATE KEY", pkcs8[:20]),
		"1024 bits":               text("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(small)),
	} {
		if got, err := legacy.ParsePrivateKey(bad); err == nil || got != nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for want, bad := range map[string][]byte{
		"no PEM block":        []byte("garbage"),
		"private key: the":    text("PRIVATE KEY", pkcs8),
		"no RSA public key":   text("PUBLIC KEY", spki(&curve.PublicKey)),
		"1024 bits":           text("PUBLIC KEY", spki(&small.PublicKey)),
		"with the exponent 3": text("PUBLIC KEY", spki(large)),
	} {
		if got, err := legacy.ParsePublicKey(bad); err == nil || got != nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// FuzzVerify signs any header and claims with both keys: nothing panics, and each accepted token has a signature, an
// account and an end.
func FuzzVerify(f *testing.F) {
	key := newKey(f)
	cfg := legacy.TokensConfig{RS256: &key.PublicKey, HS256: []byte(secret), AcceptUntil: now().Add(time.Hour), Now: now}
	tokens, err := legacy.NewTokens(cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(goHead, goClaims)
	f.Add(rustHead, rustClaims)
	f.Add(`{"alg":"none"}`, `{"exp":1e300,"exp":-1}`)
	f.Fuzz(func(t *testing.T, header, claims string) {
		for algorithm, token := range map[string]string{"RS256": signRS(t, key, header, claims), "HS256": signHS([]byte(secret), header, claims)} {
			got, err := tokens.Verify(token)
			if err != nil {
				if !errors.Is(err, legacy.ErrInvalid) && !errors.Is(err, legacy.ErrExpired) {
					t.Fatalf("%v", err)
				}
				continue
			}
			backend := map[string]legacy.Backend{"RS256": legacy.Go, "HS256": legacy.Rust}[algorithm]
			var says struct {
				Algorithm string `json:"alg"`
			}
			if err := json.Unmarshal([]byte(header), &says); err != nil || got.Backend != backend {
				t.Fatalf("%s passed as one of %s (%v)", token, got.Backend, err)
			}
			if got.UserID == uuid.Nil || !now().Before(got.ExpireTime) || got.ExpireTime.After(cfg.AcceptUntil) {
				t.Fatalf("%+v", got)
			}
			if _, err := tokens.Verify(token[:len(token)-4] + "AAAA"); err == nil && !strings.HasSuffix(token, "AAAA") {
				t.Fatal("passed with another signature")
			}
		}
	})
}
