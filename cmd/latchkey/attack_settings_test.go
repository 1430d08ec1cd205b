package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func encoded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// hopelessSettings cannot be intended: serve does not start with them, and latchkey config reports the error.
func hopelessSettings() []map[string]string {
	word := sha256.Sum256([]byte("Changeme"))
	return []map[string]string{
		{"LATCHKEY_ARGON2_MEMORY_KIB": "64", "LATCHKEY_ARGON2_TIME": "1"},
		{"LATCHKEY_SECRET_KEY": encoded(strings.Repeat("\x00", 32))},
		{"LATCHKEY_SECRET_KEY": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},
		{"LATCHKEY_SECRET_KEY": encoded("latchkey-secret-key-for-production-2026!")},
		{"LATCHKEY_SECRET_KEY": encoded("correct horse battery staple is my secret key")},
		{"LATCHKEY_SECRET_KEY": "thisIsMyVerySecretLatchkeyKeyPleaseChangeMe2026"}, // base64 by chance
		{"LATCHKEY_SECRET_KEY": encoded("please-change-this-secret-key-before-you-deploy-it")},
		{"LATCHKEY_SECRET_KEY": encoded("insecure-dev-key-do-not-use-in-production")},
		{"LATCHKEY_SECRET_KEY": encoded("0123456789abcdefghijklmnopqrstuvwxyz")},
		{"LATCHKEY_SECRET_KEY": base64.StdEncoding.EncodeToString(word[:])},
		{"LATCHKEY_ADMIN_KEY_SHA256": hashOf("admin")},
		{"LATCHKEY_ADMIN_KEY_SHA256": hashOf("password\n")},
		{"LATCHKEY_ADMIN_KEY_SHA256": hashOf("a good key that nobody knows") + "," + hashOf("Secret")},
		{"LATCHKEY_ADMIN_KEY_SHA256": hashOf("changeme")},
		{"LATCHKEY_ADMIN_KEY_SHA256": hashOf("\n")},
		{"LATCHKEY_SERVICE_KEY_SHA256": hashOf("qwerty123")},
	}
}

func TestAttack18HopelessSettings(t *testing.T) {
	t.Parallel()
	complete := serveSettings(t)
	for _, hopeless := range hopelessSettings() {
		var variable string
		for variable = range hopeless {
			if variable != "LATCHKEY_ARGON2_TIME" {
				break
			}
		}
		settings := maps.Clone(complete)
		maps.Copy(settings, hopeless)
		for _, command := range []string{"serve", "config"} {
			// A serve that starts nevertheless ends at once.
			ctx, cancel := context.WithCancel(t.Context())
			out := &cancelWriter{when: "ready ", cancel: cancel}
			err := run(ctx, []string{command}, pairs(settings), out)
			cancel()
			var problem *config.Error
			if exitCode(err) != exitUsage || !errors.As(err, &problem) || !strings.HasPrefix(err.Error(), variable+" ") {
				t.Errorf("%s with %v: %v", command, hopeless, err)
			}
		}
	}
}

// cancelWriter ends a command when it prints something.
type cancelWriter struct {
	bytes.Buffer

	when   string
	cancel func()
}

func (w *cancelWriter) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.when) {
		w.cancel()
	}
	return w.Buffer.Write(p)
}

// TestAttack18WeakSettings: settings that may be intended are logged at each start, one line each, and latchkey config
// prints them.
func TestAttack18WeakSettings(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	maps.Copy(settings, map[string]string{
		"LATCHKEY_GRPC_ADDR": ":0", "LATCHKEY_HTTP_ADDR": "0.0.0.0:0", "LATCHKEY_OPS_ADDR": "[::]:0",
		"LATCHKEY_ARGON2_MEMORY_KIB": "4096", "LATCHKEY_ARGON2_TIME": "3", "LATCHKEY_ACCESS_TOKEN_TTL": "24h", "LATCHKEY_REFLECTION": "true",
		"LATCHKEY_ADDRESS_RATE_LIMIT": "false", "LATCHKEY_SMTP_URL": "smtp://mail.example.com?starttls=never", "LATCHKEY_ISSUER": "http://auth.example.com",
		"LATCHKEY_SECRET_KEY_PREVIOUS": encoded(strings.Repeat("\x00", 32)), "LATCHKEY_TRUSTED_PROXIES": "13.0.0.0/8", "LATCHKEY_REDIS_MAY_EVICT": "true",
		"LATCHKEY_LEGACY_ENABLED": "true", "LATCHKEY_LEGACY_HS256_SECRET": "short", "LATCHKEY_LEGACY_ACCEPT_UNTIL": "2199-01-01T00:00:00Z",
	})
	weak := []string{
		"LATCHKEY_GRPC_ADDR", "LATCHKEY_HTTP_ADDR", "LATCHKEY_OPS_ADDR", "LATCHKEY_ARGON2_MEMORY_KIB", "LATCHKEY_ACCESS_TOKEN_TTL", "LATCHKEY_REFLECTION",
		"LATCHKEY_ADDRESS_RATE_LIMIT", "LATCHKEY_SMTP_URL", "LATCHKEY_ISSUER", "LATCHKEY_SECRET_KEY_PREVIOUS", "LATCHKEY_TRUSTED_PROXIES",
		"LATCHKEY_REDIS_MAY_EVICT", "LATCHKEY_LEGACY_HS256_SECRET", "LATCHKEY_LEGACY_ACCEPT_UNTIL",
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"config"}, pairs(settings), &out); err != nil {
		t.Error(err)
	}
	for range 2 { // at each start
		p := start(t, pairs(settings), "serve")
		p.addrs(t)
		said := map[string]int{}
		for line := range strings.Lines(p.text(&p.stderr)) {
			var entry struct{ Level, Msg, Setting, Weakness string }
			if err := json.Unmarshal([]byte(line), &entry); err == nil && entry.Msg == "weak setting" && entry.Level == "WARN" && entry.Weakness != "" {
				said[entry.Setting]++
			}
		}
		for _, variable := range weak {
			if said[variable] != 1 || strings.Count(out.String(), "\nwarning: "+variable+" ") != 1 {
				t.Errorf("%s: said %d times at start; latchkey config:\n%s", variable, said[variable], out.String())
			}
			delete(said, variable)
		}
		if len(said) > 0 {
			t.Errorf("said too: %v", said)
		}
		_ = p.cmd.Process.Kill()
	}
}

// TestAttack18StoresInPlaintext has URLs of stores on other machines.
func TestAttack18StoresInPlaintext(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		database string
		warned   bool
	}{
		{"postgres://u:x9Kq2Lw8Zr4m@db:5432/d?sslmode=disable", true},
		{"postgres://u:x9Kq2Lw8Zr4m@db:5432/d", true}, // prefer
		{"postgres://u:x9Kq2Lw8Zr4m@db:5432/d?sslmode=allow", true},
		{"postgres://u:x9Kq2Lw8Zr4m@db:5432/d?sslmode=require", true},
		{"postgres://u:x9Kq2Lw8Zr4m@127.0.0.1,db/d?sslmode=disable", true},
		{"postgres://u:change-me@db:5432/d?sslmode=verify-full", true},
		{"postgres://u:x9Kq2Lw8Zr4m@db:5432/d?sslmode=verify-full", false},
		{"postgres://u@127.0.0.1:5432/d?sslmode=disable", false},
		{"postgres://u@localhost/d", false},
		{"postgres:///d?host=/run/postgresql", false},
	} {
		cfg, err := app.LoadSettings([]string{"LATCHKEY_DATABASE_URL=" + test.database}, config.Tool)
		if err != nil {
			t.Fatal(err)
		}
		_, warned := app.Weaknesses(cfg, config.Serve)
		found := false
		for _, one := range warned {
			found = found || one.Variable == "LATCHKEY_DATABASE_URL"
		}
		if found != test.warned {
			t.Errorf("%s: warned %v", test.database, found)
		}
	}
}

// TestAttack18SecretsInURLs: no command prints any part of a password with reserved characters, whether or not the URL
// can be used.
func TestAttack18SecretsInURLs(t *testing.T) {
	t.Parallel()
	complete := serveSettings(t)
	for _, secret := range []string{"123456#hunter2", "123#hunter2", "12/hunter2", "12?hunter2", "12@hunter2", "12:hunter2", "hun%ter2", "12#hunter2?sslmode=x", "99999#hunter2/@"} {
		for variable, url := range map[string]string{
			"LATCHKEY_DATABASE_URL": "postgres://latchkey:SECRET@127.0.0.1:1/latchkey", "LATCHKEY_REDIS_URL": "redis://:SECRET@127.0.0.1:1/0",
			"LATCHKEY_SMTP_URL": "smtp://mailer:SECRET@127.0.0.1:1",
		} {
			settings := maps.Clone(complete)
			settings[variable] = strings.Replace(url, "SECRET", secret, 1)
			for _, command := range []string{"config", "keys list"} {
				var out bytes.Buffer
				err := run(t.Context(), strings.Fields(command), pairs(settings), &out)
				text := out.String()
				if err != nil {
					text += err.Error()
				}
				for _, part := range []string{"hunter2", "ter2", secret[:3] + "#", ":" + secret[:2] + "#"} {
					if strings.Contains(text, part) {
						t.Errorf("%s with %s=%s shows %q", command, variable, settings[variable], part)
					}
				}
			}
		}
	}
}

// TestAttack18OpsHosts: a web page whose name resolves to this machine can read nothing from the operations listener.
func TestAttack18OpsHosts(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	settings["LATCHKEY_OPS_HOSTS"] = "latchkey, Metrics.internal."
	addrs := start(t, pairs(settings), "serve").addrs(t)
	_, port, _ := strings.Cut(addrs["ops"], ":")
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap", "/debug/pprof/symbol"} {
		for host, want := range map[string]int{
			"": http.StatusOK, "127.0.0.1:" + port: http.StatusOK, "localhost:" + port: http.StatusOK, "LOCALHOST": http.StatusOK, "[::1]:" + port: http.StatusOK,
			"10.1.2.3": http.StatusOK, "latchkey:9464": http.StatusOK, "metrics.internal": http.StatusOK,
			"attacker.example": http.StatusMisdirectedRequest, "attacker.example:" + port: http.StatusMisdirectedRequest,
			"127.0.0.1.attacker.example": http.StatusMisdirectedRequest, "localhost.attacker.example": http.StatusMisdirectedRequest,
			"latchkey.attacker.example": http.StatusMisdirectedRequest, "127.0.0.1@attacker.example": http.StatusMisdirectedRequest,
		} {
			wantStatus(t, "http://"+addrs["ops"]+path, host, nil, want)
		}
		for header, want := range map[string]int{
			"Sec-Fetch-Site: cross-site": http.StatusForbidden, "Sec-Fetch-Site: same-site": http.StatusForbidden, "Sec-Fetch-Site: none": http.StatusOK,
			"Origin: https://attacker.example": http.StatusForbidden, "Origin: null": http.StatusForbidden, "Origin: http://" + addrs["ops"]: http.StatusOK,
		} {
			name, value, _ := strings.Cut(header, ": ")
			wantStatus(t, "http://"+addrs["ops"]+path, "", http.Header{name: {value}}, want)
		}
	}
	// The public pages are for everybody, under any name.
	wantStatus(t, "http://"+addrs["http"]+"/.well-known/jwks.json", "auth.example.com", nil, http.StatusOK)
	wantStatus(t, "http://"+addrs["http"]+"/healthz", "anything.example", nil, http.StatusOK)
}

func wantStatus(t *testing.T, url, host string, header http.Header, want int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	maps.Copy(req.Header, header)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != want {
		t.Errorf("%s of %q with %v: %d, want %d", url, host, header, resp.StatusCode, want)
	}
}

// TestAttack18EvictingRedis: a Redis that drops keys is refused at start unless a setting accepts it. internal/app
// tests that it is noticed later too.
func TestAttack18EvictingRedis(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	settings["LATCHKEY_REDIS_URL"] = testenv.RealRedis(t)
	var parsed config.RedisURL
	if err := parsed.UnmarshalText([]byte(settings["LATCHKEY_REDIS_URL"])); err != nil {
		t.Fatal(err)
	}
	client := parsed.Client()
	t.Cleanup(func() { _ = client.Close() })
	set := func(policy, limit string) {
		for name, value := range map[string]string{"maxmemory-policy": policy, "maxmemory": limit} {
			if err := client.ConfigSet(t.Context(), name, value).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, policy := range []string{"allkeys-lru", "volatile-lru", "volatile-ttl", "allkeys-random", "allkeys-lfu"} {
		set(policy, "100mb")
		ctx, cancel := context.WithCancel(t.Context())
		err := run(ctx, []string{"serve"}, pairs(settings), &cancelWriter{when: "ready ", cancel: cancel})
		cancel()
		if exitCode(err) != exitUsage || !strings.HasPrefix(err.Error(), "LATCHKEY_REDIS_MAY_EVICT ") || !strings.Contains(err.Error(), policy) {
			t.Errorf("%s: %v", policy, err)
		}
	}
	set("volatile-lru", "100mb")
	accepted := maps.Clone(settings)
	accepted["LATCHKEY_REDIS_MAY_EVICT"] = "true"
	start(t, pairs(accepted), "serve").addrs(t)
	// A Redis that does not show its policy is not known to drop keys.
	if err := client.Do(t.Context(), "ACL", "SETUSER", "default", "-info").Err(); err != nil {
		t.Fatal(err)
	}
	p := start(t, pairs(settings), "serve")
	p.addrs(t)
	if !strings.Contains(p.text(&p.stderr), "Redis does not say whether it drops keys") {
		t.Errorf("said nothing:\n%s", p.text(&p.stderr))
	}
}
