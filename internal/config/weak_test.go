package config

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"maps"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// strong is complete and has nothing to warn about.
func strong() map[string]string {
	values := complete()
	maps.Copy(values, map[string]string{
		"LATCHKEY_REDIS_URL": "rediss://:redis-pa55@redis:6379/0",
		"LATCHKEY_GRPC_ADDR": "127.0.0.1:50051", "LATCHKEY_HTTP_ADDR": "[::1]:8080",
	})
	return values
}

func key(unit ...byte) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat(unit, 64)[:MinSecretKey])
}

// TestWeak sets one weak thing at a time and looks for what is said of it.
func TestWeak(t *testing.T) {
	t.Parallel()
	if refused, warned := load(t, strong()).Weak(Serve); len(refused)+len(warned) > 0 {
		t.Fatalf("nothing is weak: %v, %v", refused, warned)
	}
	counting := make([]byte, MinSecretKey)
	for i := range counting {
		counting[i] = byte(0xf0 + i)
	}
	const refused, warned = true, false
	for _, test := range []struct {
		refused  bool
		variable string
		set      map[string]string
	}{
		{refused, "LATCHKEY_ARGON2_MEMORY_KIB", map[string]string{"LATCHKEY_ARGON2_MEMORY_KIB": "64", "LATCHKEY_ARGON2_TIME": "1"}},
		{refused, "LATCHKEY_ARGON2_MEMORY_KIB", map[string]string{"LATCHKEY_ARGON2_MEMORY_KIB": "64", "LATCHKEY_ARGON2_TIME": "32"}},
		{refused, "LATCHKEY_ARGON2_MEMORY_KIB", map[string]string{"LATCHKEY_ARGON2_MEMORY_KIB": "1024", "LATCHKEY_ARGON2_TIME": "2"}},
		{refused, "LATCHKEY_ARGON2_MEMORY_KIB", map[string]string{"LATCHKEY_ARGON2_MEMORY_KIB": "1024"}},
		{warned, "LATCHKEY_ARGON2_MEMORY_KIB", map[string]string{"LATCHKEY_ARGON2_MEMORY_KIB": "4096", "LATCHKEY_ARGON2_TIME": "3"}},
		{warned, "LATCHKEY_ARGON2_MEMORY_KIB", map[string]string{"LATCHKEY_ARGON2_TIME": "1"}},
		{refused, "LATCHKEY_SECRET_KEY", map[string]string{"LATCHKEY_SECRET_KEY": key(0)}},
		{refused, "LATCHKEY_SECRET_KEY", map[string]string{"LATCHKEY_SECRET_KEY": key(0xff)}},
		{refused, "LATCHKEY_SECRET_KEY", map[string]string{"LATCHKEY_SECRET_KEY": key([]byte("changeme")...)}},
		{refused, "LATCHKEY_SECRET_KEY", map[string]string{"LATCHKEY_SECRET_KEY": key([]byte("0123456789abcdef")...)}},
		{refused, "LATCHKEY_SECRET_KEY", map[string]string{"LATCHKEY_SECRET_KEY": key(0xde, 0xad, 0xbe, 0xef)}},
		{refused, "LATCHKEY_SECRET_KEY", map[string]string{"LATCHKEY_SECRET_KEY": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}},
		{refused, "LATCHKEY_SECRET_KEY", map[string]string{"LATCHKEY_SECRET_KEY": base64.StdEncoding.EncodeToString(counting)}},
		{refused, "LATCHKEY_SECRET_KEY", map[string]string{"LATCHKEY_SECRET_KEY": base64.StdEncoding.EncodeToString(append(make([]byte, 31), 1))}},
		{refused, "LATCHKEY_SECRET_KEY", map[string]string{"LATCHKEY_SECRET_KEY": base64.StdEncoding.EncodeToString(append(make([]byte, 20), "a random end"...))}},
		{warned, "LATCHKEY_SECRET_KEY_PREVIOUS", map[string]string{"LATCHKEY_SECRET_KEY_PREVIOUS": key(0)}},
		{warned, "LATCHKEY_LEGACY_HS256_SECRET", map[string]string{"LATCHKEY_LEGACY_HS256_SECRET": "secret"}},
		{warned, "LATCHKEY_GRPC_ADDR", map[string]string{"LATCHKEY_GRPC_ADDR": ":50051"}},
		{warned, "LATCHKEY_GRPC_ADDR", map[string]string{"LATCHKEY_GRPC_ADDR": "10.0.0.7:50051"}},
		{warned, "LATCHKEY_HTTP_ADDR", map[string]string{"LATCHKEY_HTTP_ADDR": "0.0.0.0:8080"}},
		{warned, "LATCHKEY_HTTP_ADDR", map[string]string{"LATCHKEY_HTTP_ADDR": "auth.internal:8080"}},
		{warned, "LATCHKEY_OPS_ADDR", map[string]string{"LATCHKEY_OPS_ADDR": ":9464"}},
		{warned, "LATCHKEY_OPS_ADDR", map[string]string{"LATCHKEY_OPS_ADDR": "[::]:9464"}},
		{warned, "LATCHKEY_REDIS_URL", map[string]string{"LATCHKEY_REDIS_URL": "redis://:redis-pa55@redis:6379"}},
		{warned, "LATCHKEY_REDIS_URL", map[string]string{"LATCHKEY_REDIS_URL": "redis://u:p@127.0.0.1:6379,10.0.0.7:6379"}},
		{warned, "LATCHKEY_REDIS_URL", map[string]string{"LATCHKEY_REDIS_URL": "rediss://redis:6379"}},
		{warned, "LATCHKEY_REDIS_URL", map[string]string{"LATCHKEY_REDIS_URL": "rediss://u:p@redis:6379?skip_verify=true"}},
		{warned, "LATCHKEY_REDIS_URL", map[string]string{"LATCHKEY_REDIS_URL": "redis+sentinel://u:p@h1:26379/mymaster"}},
		{warned, "LATCHKEY_REDIS_MAY_EVICT", map[string]string{"LATCHKEY_REDIS_MAY_EVICT": "true"}},
		{warned, "LATCHKEY_ISSUER", map[string]string{"LATCHKEY_ISSUER": "http://auth.example.com", "LATCHKEY_RESET_URL": "https://app.example.com/reset"}},
		{warned, "LATCHKEY_REFLECTION", map[string]string{"LATCHKEY_REFLECTION": "true"}},
		{warned, "LATCHKEY_ADDRESS_RATE_LIMIT", map[string]string{"LATCHKEY_ADDRESS_RATE_LIMIT": "false"}},
		{warned, "LATCHKEY_ACCESS_TOKEN_TTL", map[string]string{"LATCHKEY_ACCESS_TOKEN_TTL": "24h"}},
		{warned, "LATCHKEY_SESSION_IDLE_TTL", map[string]string{"LATCHKEY_SESSION_IDLE_TTL": "2000h", "LATCHKEY_SESSION_MAX_TTL": "2160h"}},
		{warned, "LATCHKEY_SESSION_MAX_TTL", map[string]string{"LATCHKEY_SESSION_MAX_TTL": "87600h"}},
		{warned, "LATCHKEY_REFRESH_GRACE", map[string]string{"LATCHKEY_REFRESH_GRACE": "5m"}},
		{warned, "LATCHKEY_RESET_TOKEN_TTL", map[string]string{"LATCHKEY_RESET_TOKEN_TTL": "24h"}},
		{warned, "LATCHKEY_TRUSTED_PROXIES", map[string]string{"LATCHKEY_TRUSTED_PROXIES": "10.0.0.0/8,13.0.0.0/8"}},
		{warned, "LATCHKEY_TRUSTED_PROXIES", map[string]string{"LATCHKEY_TRUSTED_PROXIES": "2a00::/16"}},
		{warned, "LATCHKEY_TRUSTED_PROXIES", map[string]string{"LATCHKEY_TRUSTED_PROXIES": "172.0.0.0/10"}}, // around 172.16.0.0/12
	} {
		values := strong()
		maps.Copy(values, test.set)
		inError, inLog := load(t, values).Weak(Serve)
		found, other := inError, inLog
		if !test.refused {
			found, other = inLog, inError
		}
		if len(found) != 1 || found[0].Variable != test.variable || found[0].Wrong == "" || len(other) != 0 {
			t.Errorf("%v: refused %v, warned %v", test.set, inError, inLog)
		}
	}
}

func load(t *testing.T, values map[string]string) *Config {
	t.Helper()
	cfg, err := Load(environ(values), Serve)
	if err != nil {
		t.Fatalf("%v: %v", values, err)
	}
	return cfg
}

// TestNotWeak are settings near the weak ones.
func TestNotWeak(t *testing.T) {
	t.Parallel()
	for _, set := range []map[string]string{
		{"LATCHKEY_ARGON2_MEMORY_KIB": "47104", "LATCHKEY_ARGON2_TIME": "1"},
		{"LATCHKEY_ARGON2_MEMORY_KIB": "12288", "LATCHKEY_ARGON2_TIME": "3"},
		{"LATCHKEY_ARGON2_MEMORY_KIB": "7168", "LATCHKEY_ARGON2_TIME": "9"},
		{"LATCHKEY_ARGON2_MEMORY_KIB": "65536", "LATCHKEY_ARGON2_TIME": "3"},
		{"LATCHKEY_GRPC_ADDR": ":50051", "LATCHKEY_HTTP_ADDR": ":8080", "LATCHKEY_TLS_CERT_FILE": "/tls.crt", "LATCHKEY_TLS_KEY_FILE": "/tls.key"},
		{"LATCHKEY_OPS_ADDR": "localhost:9464"},
		{"LATCHKEY_OPS_ADDR": "[::1]:9464"},
		{"LATCHKEY_REDIS_URL": "redis://localhost:6379"},
		{"LATCHKEY_REDIS_URL": "redis://127.0.0.1:6379,[::1]:6380"},
		{"LATCHKEY_REDIS_URL": "unix:///run/redis.sock"},
		{"LATCHKEY_ISSUER": "http://localhost:8080"},
		{"LATCHKEY_ACCESS_TOKEN_TTL": "1h"},
		{"LATCHKEY_TRUSTED_PROXIES": "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7,104.16.0.0/13,2400:cb00::/32,2a06:98c0::/29,127.0.0.0/8,::1"},
	} {
		values := strong()
		maps.Copy(values, set)
		if refused, warned := load(t, values).Weak(Serve); len(refused)+len(warned) > 0 {
			t.Errorf("%v: refused %v, warned %v", set, refused, warned)
		}
	}
	// Random keys as people write them.
	for range 10_000 {
		raw := make([]byte, MinSecretKey)
		_, _ = rand.Read(raw)
		for _, k := range []SecretKey{raw, append(raw, raw[:16]...), []byte(base64.StdEncoding.EncodeToString(raw))} {
			if wrong := k.pattern(); wrong != "" {
				t.Fatalf("%x: %s", k, wrong)
			}
		}
	}
}

// TestAbsurdProxies are networks that nobody owns.
func TestAbsurdProxies(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"0.0.0.0/0", "::/0", "0.0.0.0/1,128.0.0.0/1", "128.0.0.0/7", "2000::/3", "::/1", "8000::/1", "2000::/11", "::ffff:0:0/96", "10.0.0.0/7", "1.2.3.4/0", "fc00::/6"} {
		var p Prefixes
		if err := p.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "trusts everybody") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestDevIsNotWarnedOfItself: what dev sets itself is no surprise to anybody.
func TestDevIsNotWarnedOfItself(t *testing.T) {
	t.Parallel()
	cfg, err := Load(nil, Dev)
	if err != nil {
		t.Fatal(err)
	}
	if refused, warned := cfg.Weak(Dev); len(refused)+len(warned) > 0 {
		t.Errorf("refused %v, warned %v", refused, warned)
	}
}

// TestKeyInPlaceOfAPath: what was put where the path of a file belongs may be the secret.
func TestKeyInPlaceOfAPath(t *testing.T) {
	t.Parallel()
	const marker = "hunter2secret"
	for name, value := range map[string]string{
		"LATCHKEY_SECRET_KEY_FILE": marker, "LATCHKEY_DATABASE_URL_FILE": "postgres://u:" + marker + "@h/d",
		"LATCHKEY_TLS_KEY_FILE":                  "-----BEGIN PRIVATE KEY-----\n" + marker,
		"LATCHKEY_LEGACY_RS256_PRIVATE_KEY_FILE": "-----BEGIN RSA PRIVATE KEY----- " + marker,
	} {
		values := complete()
		values[name] = value
		delete(values, strings.TrimSuffix(name, "_FILE"))
		if _, err := Load(environ(values), Serve); err == nil || strings.Contains(err.Error(), marker) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// secretText is what may be in a password, reserved characters above all.
func secretText() *rapid.Generator[string] {
	return rapid.StringOfN(rapid.RuneFrom([]rune("0123456789#@/?:&=%[],;$!+ .-_~ab\\\"é")), 6, 20, -1)
}

// TestNoPartOfASecretIsShown: whatever is in a password, escaped or not, what is shown
// of the URL has no three characters of it in a row that the rest of the URL has not.
func TestNoPartOfASecretIsShown(t *testing.T) {
	t.Parallel()
	templates := []string{
		"postgres://latchkey:SECRET@db.internal:5432/latchkey?sslmode=disable", "postgresql://:SECRET@db/latchkey",
		"postgres://db/latchkey?user=latchkey&password=SECRET", "postgres://db/latchkey?sslpassword=SECRET&sslmode=require",
		"postgres://u:SECRET@h1:5432,h2:5432/db", "smtp://mailer:SECRET@mail:587?starttls=never", "smtps://SECRET:SECRET@mail",
		"redis://:SECRET@redis:6379/0", "redis://SECRET@redis:6379", "rediss://u:SECRET@h1:1,h2:2", "redis+sentinel://u:SECRET@h1:1,h2:2/m/0?sentinel_password=SECRET",
		"unix:///run/redis.sock?db=0&password=SECRET", "unix://u:SECRET@/run/redis.sock", "user=latchkey password=SECRET host=db", "password='SECRET'",
		"//u:SECRET@h", "u:SECRET@h", "SECRET", "http://u:SECRET@h",
	}
	rapid.Check(t, func(t *rapid.T) {
		template, secret := rapid.SampledFrom(templates).Draw(t, "template"), secretText().Draw(t, "secret")
		if rapid.Bool().Draw(t, "escaped") {
			secret = url.QueryEscape(secret)
		}
		text := strings.ReplaceAll(template, "SECRET", secret)
		shown := []string{redact(text), URL(text).Redacted(), RedisURL{text: text}.Redacted()}
		var one URL
		var two RedisURL
		for _, err := range []error{one.UnmarshalText([]byte(text)), two.UnmarshalText([]byte(text))} {
			if err != nil {
				shown = append(shown, err.Error())
			}
		}
		harmless := template + hidden + errURLMark.Error() + "(hidden) is not a URL has a part that is not understood names no master after the Sentinels' addresses" +
			"has a scheme other than redis, rediss, unix, redis+sentinel and rediss+sentinel" + errRedisComma.Error() + "has a host with a bracket that is not closed in address 1 of 2" +
			"has a port that is not a number from 1 to 65535 has a host with a character that hosts do not have has an empty address between commas" +
			"has a path with a % that begins no escape: write %25 for it, and percent-encode other special characters too" +
			"has a user or password with a character that must be percent-encoded: anything but letters, digits and -._~!$&'()*+;=" +
			"names no socket has a database that is not a number has an unknown option: number 1 of 2, where" + strings.Join(redisOptions(), " may be meant, where ")
		for i := range len(secret) - 2 {
			part := secret[i : i+3]
			for _, text := range shown {
				if strings.Contains(text, part) && !strings.Contains(harmless, part) {
					t.Fatalf("%q shows %q of %q", text, part, secret)
				}
			}
		}
	})
}

// TestRedactSeenCases are those that were found by hand.
func TestRedactSeenCases(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"postgres://latchkey:123#hunter2@db:5432/latchkey":                        "postgres://latchkey:xxxxx@db:5432/latchkey",
		"postgres://latchkey:12/hunter2@db:5432/latchkey":                         "postgres://xxxxx",
		"postgres://latchkey:12?hunter2@db:5432/latchkey":                         "postgres://latchkey:xxxxx@db:5432/latchkey",
		"postgres://latchkey:hun@ter2@db:5432/latchkey?sslmode=disable":           "postgres://xxxxx",
		"redis://:123#hunter2@redis:6379":                                         "redis://xxxxx",
		"redis://:hun@ter2@redis:6379":                                            "redis://xxxxx@redis:6379",
		"postgres://latchkey@db/latchkey":                                         "postgres://latchkey@db/latchkey",
		"postgres://db/latchkey?password=a&sslmode=require&passfile=/x&sslkey=/y": "postgres://db/latchkey?xxxxx&sslmode=require",
		"postgres://postgres@:5432/latchkey?host=/tmp/latchkey-dev/s":             "postgres://postgres@:5432/latchkey?host=/tmp/latchkey-dev/s",
		"redis://hunter2@redis:6379/0":                                            "redis://xxxxx@redis:6379/0",
		"redis://:hunter2@redis:6379/0?pool_size=5":                               "redis://xxxxx@redis:6379/0?pool_size=5",
		"redis+sentinel://u:p@h1:26379,h2:26379/m?sentinel_password=x":            "redis+sentinel://xxxxx@h1:26379,h2:26379/m?xxxxx",
		"smtp://a%40b:hunter2@mail:587":                                           "smtp://xxxxx@mail:587",
		"host=db password=hunter2":                                                "(hidden)",
		"hunter2://db":                                                            "(hidden)",
	} {
		if got := redact(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
