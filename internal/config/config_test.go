package config

import (
	"bytes"
	"encoding/base64"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	goodKey = "row0rScHLQXkSiKJHeL5tPQD0qdewcWxncClZlZjpUE="
	// goodHash is the SHA-256 of "a key", otherHash of "another key", by sha256sum.
	goodHash  = "8fa3aab2faa9b79e0a0398da5b5abd0780142442a5be80b9a64608d718cb1fcd"
	emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	otherHash = "2aa50b47c92342ddda1dccb774e50e497d759632db2c3a8b86b31a9d737f8151"
)

// complete is the least that serve needs.
func complete() map[string]string {
	return map[string]string{
		"LATCHKEY_DATABASE_URL": "postgres://latchkey:db-pa55@db:5432/latchkey",
		"LATCHKEY_REDIS_URL":    "redis://:redis-pa55@redis:6379/0",
		"LATCHKEY_SECRET_KEY":   goodKey,
		"LATCHKEY_ISSUER":       "https://auth.example.com",
		"LATCHKEY_SMTP_URL":     "smtp://mailer:smtp-pa55@mail:587",
	}
}

func environ(values map[string]string) []string {
	var list []string
	for name, value := range values {
		list = append(list, name+"="+value)
	}
	return list
}

func TestServeNamesEachMissingSetting(t *testing.T) {
	t.Parallel()
	for name := range complete() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, gone := range []func(map[string]string){
				func(v map[string]string) { delete(v, name) },
				func(v map[string]string) { v[name] = "" },
			} {
				values := complete()
				gone(values)
				_, err := Load(environ(values), Serve)
				var problem *Error
				if !errors.As(err, &problem) {
					t.Fatalf("got %v, want an *Error", err)
				}
				text := problem.Error()
				if !strings.HasPrefix(text, name+" is not set: it must be ") || strings.Contains(text, "\n") || !strings.Contains(text, "such as ") {
					t.Errorf("got %q", text)
				}
			}
		})
	}
}

func TestLoadTakesACompleteEnvironment(t *testing.T) {
	t.Parallel()
	cfg, err := Load(environ(complete()), Serve)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.AccessTokenTTL != 15*time.Minute || cfg.SessionIdleTTL != 168*time.Hour || cfg.SessionMaxTTL != 720*time.Hour ||
		cfg.RefreshGrace != 10*time.Second || cfg.ResetTokenTTL != 30*time.Minute || cfg.KeyRotation != 2160*time.Hour {
		t.Error("the default lifetimes differ from what is documented")
	}
	if cfg.Argon2MemoryKiB != 19456 || cfg.Argon2Time != 2 || cfg.Argon2Threads != 1 || cfg.TokenAlgorithm != "" ||
		cfg.Audience != "latchkey" || cfg.ClientID != "latchkey" || !cfg.Migrate || cfg.Reflection {
		t.Error("the defaults differ from what is documented")
	}
	want, _ := base64.StdEncoding.DecodeString(goodKey)
	if !bytes.Equal(cfg.SecretKey, want) {
		t.Error("the secret key was not decoded")
	}
}

func TestDevNeedsNothingAndStaysOnLoopback(t *testing.T) {
	t.Parallel()
	cfg, err := Load(nil, Dev)
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{cfg.GRPCAddr, cfg.HTTPAddr, cfg.OpsAddr} {
		if !strings.HasPrefix(addr, "127.0.0.1:") {
			t.Errorf("dev listens on %s", addr)
		}
	}
	if !cfg.Reflection {
		t.Error("dev has no reflection")
	}
	cfg, err = Load([]string{"LATCHKEY_GRPC_ADDR=127.0.0.1:0", "LATCHKEY_REFLECTION=false"}, Dev)
	if err != nil || cfg.GRPCAddr != "127.0.0.1:0" || cfg.Reflection {
		t.Errorf("dev does not honour what is set: %+v, %v", cfg, err)
	}
}

func TestWrongValuesAreNamedWithFormAndExample(t *testing.T) {
	t.Parallel()
	for variable, values := range map[string][]string{
		"LATCHKEY_GRPC_ADDR":         {"50051", "127.0.0.1", "host:port:1", "h:99999"},
		"LATCHKEY_ACCESS_TOKEN_TTL":  {"15", "abc", "-1m", "0s", "25h"},
		"LATCHKEY_REFRESH_GRACE":     {"6m"},
		"LATCHKEY_ISSUER":            {"auth.example.com", "ftp://x", "https://", "https://x?y=1"},
		"LATCHKEY_KEY_ROTATION":      {"90d", "-24h", "1h", "23h59m59s", "1"},
		"LATCHKEY_TOKEN_ALGORITHM":   {"HS256", "none", "eddsa"},
		"LATCHKEY_ARGON2_MEMORY_KIB": {"63", "1e3", "99999999"},
		"LATCHKEY_ARGON2_THREADS":    {"0", "65"},
		"LATCHKEY_HASH_SLOTS":        {"-1", "x"},
		"LATCHKEY_REFLECTION":        {"maybe"},
		"LATCHKEY_WEB_ORIGINS": {
			"*", "https://*.example.com", "null", "file://", "https://app.example.com/", "https://app.example.com/path", "app.example.com", "https://",
			"https://user@app.example.com", "https://app.example.com:", "https://app.example.com?x", "https://app.example.com#x",
			"http://app.example.com", "https://münchen.example", "https://a.example,,https://b.example",
		},
		"LATCHKEY_TRUSTED_PROXIES":     {"10.0.0.0/33", "0.0.0.0/0", "proxy.internal", "10.0.0.1,,"},
		"LATCHKEY_LOG_LEVEL":           {"trace"},
		"LATCHKEY_REDIS_URL":           {"redis:6379", "http://redis", "redis://h1,", "redis+sentinel://h1", "redis://h/notanumber"},
		"LATCHKEY_DATABASE_URL":        {"not a url"},
		"LATCHKEY_SECRET_KEY":          {"c2hvcnQ=", "!!!not base64!!!"},
		"LATCHKEY_SESSION_IDLE_TTL":    {"721h"},
		"LATCHKEY_DATABASE_MAX_CONNS":  {"3"},
		"LATCHKEY_ADMIN_KEY":           {"two words", "ümlaut", " "},
		"LATCHKEY_ADMIN_KEY_SHA256":    {"abc", goodHash[:62], goodHash + "00", goodHash + ",", goodHash + " " + goodHash, "g" + goodHash[1:], emptyHash},
		"LATCHKEY_SERVICE_KEY_SHA256":  {"abc", emptyHash},
		"LATCHKEY_LEGACY_ENABLED":      {"yes"},
		"LATCHKEY_LEGACY_ACCEPT_UNTIL": {"2027-03-01", "tomorrow", "1803859200"},
	} {
		for _, value := range values {
			t.Run(variable+"="+value, func(t *testing.T) {
				t.Parallel()
				all := complete()
				all[variable] = value
				_, err := Load(environ(all), Serve)
				var problem *Error
				if !errors.As(err, &problem) {
					t.Fatalf("%q was taken", value)
				}
				text := problem.Error()
				if !strings.HasPrefix(text, variable+" ") || strings.Contains(text, "\n") ||
					!strings.Contains(text, "it must be ") || !strings.Contains(text, "such as ") {
					t.Errorf("got %q", text)
				}
			})
		}
	}
}

func TestSeveralProblemsAreAllTold(t *testing.T) {
	t.Parallel()
	_, err := Load([]string{"LATCHKEY_ACCESS_TOKEN_TTL=soon"}, Serve)
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 6 { // five that serve needs, and the wrong one
		t.Errorf("%d lines:\n%s", len(lines), err)
	}
}

// TestSecretsAreNeverPrinted sets each secret, rightly and wrongly, and looks for it
// in all that can be printed.
func TestSecretsAreNeverPrinted(t *testing.T) {
	t.Parallel()
	marker := "hunter2secret"
	wrong := map[string]string{
		"LATCHKEY_DATABASE_URL":             "postgres://u:" + marker + "@more@h",
		"LATCHKEY_DATABASE_DIRECT_URL":      "postgres://u:half@" + marker + "@h",
		"LATCHKEY_REDIS_URL":                "redis://u:" + marker + "@h:1/x",
		"LATCHKEY_SMTP_URL":                 "://" + marker,
		"LATCHKEY_SECRET_KEY":               marker,
		"LATCHKEY_SECRET_KEY_PREVIOUS":      marker,
		"LATCHKEY_ADMIN_KEY":                marker + " and more",
		"LATCHKEY_LEGACY_HS256_SECRET":      marker + "\nof two lines",
		"LATCHKEY_PASSWORD_PEPPERS":         "hex:" + marker,
		"LATCHKEY_SMTP_OAUTH_CLIENT_SECRET": marker + "\nof two lines",
		"LATCHKEY_SMTP_OAUTH_REFRESH_TOKEN": marker + "\nof two lines",
		// Not secret, but a key may be taken for its hash.
		"LATCHKEY_ADMIN_KEY_SHA256":   marker,
		"LATCHKEY_SERVICE_KEY_SHA256": goodHash + "," + marker,
	}
	for _, f := range fields() {
		if f.tag("secret") != "" && wrong[f.variable()] == "" {
			t.Errorf("%s is secret and not tested here", f.variable())
		}
	}
	for name, value := range wrong {
		all := complete()
		all[name] = value
		if _, err := Load(environ(all), Serve); err == nil || strings.Contains(err.Error(), marker) {
			t.Errorf("%s: %v", name, err)
		}
	}
	values := complete()
	values["LATCHKEY_REDIS_URL"] = "redis+sentinel://:redis-pa55@h:1,h:2/m?sentinel_password=redis-pa55"
	values["LATCHKEY_SECRET_KEY_PREVIOUS"] = goodKey
	values["LATCHKEY_ADMIN_KEY"] = "admin-pa55"
	values["LATCHKEY_LEGACY_HS256_SECRET"] = "legacy-pa55"
	values["LATCHKEY_PASSWORD_PEPPERS"] = "pepper-pa55\nanother-pa55"
	values["LATCHKEY_SMTP_OAUTH_CLIENT_SECRET"], values["LATCHKEY_SMTP_OAUTH_REFRESH_TOKEN"] = "client-pa55", "refresh-pa55"
	values["LATCHKEY_LEGACY_ACCEPT_UNTIL"] = "2027-03-01T00:00:00Z"
	cfg, err := Load(environ(values), Serve)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := cfg.Print(&out, environ(values)); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"db-pa55", "redis-pa55", "smtp-pa55", "admin-pa55", "legacy-pa55", "pepper-pa55", "another-pa55", "client-pa55", "refresh-pa55", goodKey[:20]} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%q is in:\n%s", secret, out.String())
		}
	}
	for _, shown := range []string{"db:5432", "mail:587", "https://auth.example.com", "15m0s", "(set)", "(2 set)", "(unset)"} {
		if !strings.Contains(out.String(), shown) {
			t.Errorf("%q is not in:\n%s", shown, out.String())
		}
	}
}

// TestPeppers: one a line, to the letter, or as its bytes.
func TestPeppers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"one":                              {"one"},
		"one \r\n\n#two: x\n":              {"one ", "#two: x"},
		"hex:00ff0a\nbase64:AAE=\nhexes:1": {"\x00\xff\n", "\x00\x01", "hexes:1"},
		strings.Repeat("x", MaxPepper):     {strings.Repeat("x", MaxPepper)},
	} {
		var got Peppers
		if err := got.UnmarshalText([]byte(text)); err != nil || len(got) != len(want) {
			t.Errorf("%q: %q, %v", text, got, err)
			continue
		}
		for i := range want {
			if string(got[i]) != want[i] {
				t.Errorf("%q: %q", text, got)
			}
		}
	}
	for _, text := range []string{"hex:0", "base64:A", "a\x7f", "hex:", "one\ntwo\none", strings.Repeat("x", MaxPepper+1)} {
		if err := new(Peppers).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%.20q is taken", text)
		}
	}
}

func TestSecretsFromFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(goodKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	values := complete()
	delete(values, "LATCHKEY_SECRET_KEY")
	values["LATCHKEY_SECRET_KEY_FILE"] = path
	if cfg, err := Load(environ(values), Serve); err != nil || len(cfg.SecretKey) != 32 {
		t.Errorf("from a file: %v", err)
	}
	values["LATCHKEY_SECRET_KEY"] = goodKey
	if _, err := Load(environ(values), Serve); err == nil || !strings.Contains(err.Error(), "both set") {
		t.Errorf("both set: %v", err)
	}
	delete(values, "LATCHKEY_SECRET_KEY")
	values["LATCHKEY_SECRET_KEY_FILE"] = path + ".missing"
	if _, err := Load(environ(values), Serve); err == nil || !strings.HasPrefix(err.Error(), "LATCHKEY_SECRET_KEY cannot be read from LATCHKEY_SECRET_KEY_FILE (") {
		t.Errorf("missing file: %v", err)
	}
}

// TestKeys: hashes in any letter case and with space around them; the key of the
// shell client from a file that may not be there yet for anybody else.
func TestKeys(t *testing.T) {
	t.Parallel()
	values := complete()
	values["LATCHKEY_ADMIN_KEY_SHA256"] = strings.ToUpper(goodHash) + ", " + otherHash
	values["LATCHKEY_ADMIN_KEY_FILE"] = filepath.Join(t.TempDir(), "admin-key")
	cfg, err := Load(environ(values), Serve)
	if err != nil || len(cfg.AdminKeySHA256) != 2 || cfg.AdminKeySHA256[0] != Key("a key").Hash() || cfg.AdminKeySHA256[1] != Key("another key").Hash() {
		t.Fatalf("%v, %v", cfg, err)
	}
	if got := cfg.AdminKeySHA256.String(); got != goodHash+","+otherHash {
		t.Errorf("written as %s", got)
	}
	if _, err := Load(environ(values), Admin); err == nil || !strings.HasPrefix(err.Error(), "LATCHKEY_ADMIN_KEY cannot be read from LATCHKEY_ADMIN_KEY_FILE") {
		t.Errorf("got %v", err)
	}
	for _, content := range []string{"the-key", "the-key\n", "the-key\r\n", " the-key \n\n"} {
		if err := os.WriteFile(values["LATCHKEY_ADMIN_KEY_FILE"], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if cfg, err := Load(environ(values), Admin); err != nil || cfg.AdminKey != "the-key" {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func TestStandardNamesOfStores(t *testing.T) {
	t.Parallel()
	cfg, err := Load([]string{"DATABASE_URL=postgres://a/b", "REDIS_URL=redis://c:1"}, Tool)
	if err != nil || cfg.DatabaseURL != "postgres://a/b" || cfg.RedisURL.IsZero() {
		t.Errorf("not read: %+v, %v", cfg, err)
	}
	cfg, err = Load([]string{"DATABASE_URL=postgres://a/b", "LATCHKEY_DATABASE_URL=postgres://ours/b"}, Tool)
	if err != nil || cfg.DatabaseURL != "postgres://ours/b" {
		t.Errorf("LATCHKEY_DATABASE_URL does not win: %v", err)
	}
}

func TestRedisURLForms(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"redis://localhost:6379/2":                            "*redis.Client",
		"rediss://user:pw@localhost:6379":                     "*redis.Client",
		"unix:///run/redis.sock?db=1":                         "*redis.Client",
		"redis://u:p@h1:6379,h2:6379,h3:6379":                 "*redis.ClusterClient",
		"redis+sentinel://u:p@h1:26379,h2:26379/mymaster/0":   "*redis.Client",
		"redis+sentinel://h1:26379/mymaster?no_such_option=1": "",
	} {
		var u RedisURL
		err := u.UnmarshalText([]byte(text))
		if want == "" {
			if err == nil {
				t.Errorf("%s was taken", text)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		client := u.Client()
		checkPatience(t, text, client)
		if got := reflect.TypeOf(client).String(); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}

// checkPatience: a store that is down gives an error within milliseconds, and the credentials before the addresses are
// those of the servers, not of the Sentinels.
func checkPatience(t *testing.T, text string, client redis.UniversalClient) {
	t.Helper()
	switch c := client.(type) {
	case *redis.Client:
		o := c.Options()
		if o.MaxRetries != redisRetries || o.DialerRetries != redisDials || o.DialTimeout != redisDialTimeout || !o.ContextTimeoutEnabled {
			t.Errorf("%s: %d retries of %d dials of %v", text, o.MaxRetries, o.DialerRetries, o.DialTimeout)
		}
		if strings.Contains(text, "u:p@") && (o.Username != "u" || o.Password != "p") {
			t.Errorf("%s: logs in as %q", text, o.Username)
		}
	case *redis.ClusterClient:
		o := c.Options()
		if o.MaxRetries != redisRetries || o.DialerRetries != redisDials || o.DialTimeout != redisDialTimeout || !o.ContextTimeoutEnabled ||
			o.ClusterStateReloadInterval != clusterReload || len(o.Addrs) != 3 || o.Username != "u" || o.Password != "p" {
			t.Errorf("%s: %+v", text, o.Addrs)
		}
	}
}

// TestSettingsThatDependOnEachOther are each right alone.
func TestSettingsThatDependOnEachOther(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]map[string]string{
		"LATCHKEY_SESSION_IDLE_TTL":    {"LATCHKEY_SESSION_MAX_TTL": "1h"},
		"LATCHKEY_ACCESS_TOKEN_TTL":    {"LATCHKEY_SESSION_MAX_TTL": "5m", "LATCHKEY_SESSION_IDLE_TTL": "5m"},
		"LATCHKEY_ACCOUNT_AUDIENCE":    {"LATCHKEY_ACCOUNT_AUDIENCE": "latchkey"},
		"LATCHKEY_ARGON2_MEMORY_KIB":   {"LATCHKEY_ARGON2_MEMORY_KIB": "64", "LATCHKEY_ARGON2_THREADS": "9"},
		"LATCHKEY_PROXY_PROTOCOL":      {"LATCHKEY_PROXY_PROTOCOL": "true"},
		"LATCHKEY_TLS_KEY_FILE":        {"LATCHKEY_TLS_CERT_FILE": "/tls.crt"},
		"LATCHKEY_TLS_CERT_FILE":       {"LATCHKEY_TLS_KEY_FILE": "/tls.key"},
		"LATCHKEY_LEGACY_ACCEPT_UNTIL": {"LATCHKEY_LEGACY_ENABLED": "true"},
		"LATCHKEY_SERVICE_KEY_SHA256": {
			"LATCHKEY_ADMIN_KEY_SHA256": goodHash, "LATCHKEY_SERVICE_KEY_SHA256": otherHash + "," + goodHash,
		},
	} {
		values := complete()
		maps.Copy(values, change)
		_, err := Load(environ(values), Serve)
		if err == nil || !strings.HasPrefix(err.Error(), name+" ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v", change, err)
		}
	}
}

func TestKeyRotationCanBeOff(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{"0": 0, "0s": 0, "24h": 24 * time.Hour} {
		values := complete()
		values["LATCHKEY_KEY_ROTATION"] = value
		if cfg, err := Load(environ(values), Serve); err != nil || cfg.KeyRotation != want {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// TestPrintSaysWhereFrom: a setting that came by its standard name came from the
// environment too.
func TestPrintSaysWhereFrom(t *testing.T) {
	t.Parallel()
	list := []string{"DATABASE_URL=postgres://a/b", "LATCHKEY_REDIS_URL=redis://c:1", "LATCHKEY_AUDIENCE=app"}
	cfg, err := Load(list, Tool)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := cfg.Print(&out, list); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		name := strings.Fields(line)[0]
		set := name == "LATCHKEY_DATABASE_URL" || name == "LATCHKEY_REDIS_URL" || name == "LATCHKEY_AUDIENCE"
		if strings.Contains(line, "  environment  ") != set || strings.Contains(line, "  default  ") == set {
			t.Errorf("%s", line)
		}
	}
}

func TestUnknownVariables(t *testing.T) {
	t.Parallel()
	got := Unknown([]string{
		"LATCHKEY_ISUER=x", "LATCHKEY_ISSUER=x", "LATCHKEY_SECRET_KEY_FILE=x", "LATCHKEY_SERVICE_HOST=x",
		"LATCHKEY_PORT_50051_TCP=x", "LATCHKEY_ISSUER_FILE=x", "HOME=x", "LATCHKEY_SERVICE_PORT=x", "LATCHKEY_SERVICE_PORT_GRPC=x",
		"LATCHKEY_SERVICE_KEY_SHA265=x", "LATCHKEY_ADMIN_KEY_FILE=x", "LATCHKEY_SERVICE_KEY_SHA256=x",
	})
	if want := []string{"LATCHKEY_ISSUER_FILE", "LATCHKEY_ISUER", "LATCHKEY_SERVICE_KEY_SHA265"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestFieldsAreDocumented holds what the rest of the package relies on.
func TestFieldsAreDocumented(t *testing.T) {
	t.Parallel()
	for _, f := range fields() {
		for _, tag := range []string{"env", "form", "example", "doc"} {
			if f.tag(tag) == "" {
				t.Errorf("%s has no tag %s", f.Name, tag)
			}
		}
		if f.tag("min") != "" {
			if low, high := f.bounds(); low >= high {
				t.Errorf("%s: bounds %d to %d", f.Name, low, high)
			}
		}
	}
}

func FuzzRedisURL(f *testing.F) {
	for _, seed := range []string{
		"redis://localhost:6379/2", "redis://u:p@h1:1,h2:2", "redis+sentinel://h:1/m/0?x=y", "unix:///a?db=1", "redis://", "://", "redis://,,,/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var u RedisURL
		if err := u.UnmarshalText([]byte(text)); err != nil {
			if !u.IsZero() {
				t.Error("refused and usable")
			}
			return
		}
		if u.IsZero() {
			t.Error("taken and not usable")
		}
		_ = u.Redacted()
	})
}

// Redirect URIs are kept as they are written. Those that would run as a script, leave the machine in clear text or hide
// their host are refused.
func TestReturnURLs(t *testing.T) {
	t.Parallel()
	var urls ReturnURLs
	good := "https://App.example.com/callback?a=b,http://localhost:3000/cb,http://127.0.0.1:3000/cb,com.example.app:/callback"
	if err := urls.UnmarshalText([]byte(good)); err != nil || urls.String() != good {
		t.Errorf("%s, %v", urls, err)
	}
	for _, bad := range []string{
		"", "app.example.com/callback", "http://app.example.com/callback", "https://*.example.com/callback", "https://app.example.com/cb#x",
		"https://app.example.com@evil.example/cb", "javascript:alert(1)", "data:text/html,x", "https:///cb", "myapp://cb", "http://localhost.evil.example/cb",
	} {
		if err := urls.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// Browsers send origins in lower case, without the port of the scheme (RFC 6454, section 6.2).
func TestWebOrigins(t *testing.T) {
	t.Parallel()
	var origins WebOrigins
	err := origins.UnmarshalText([]byte("https://App.example.com:443, http://localhost:5173,http://127.0.0.1:80,capacitor://localhost,https://[2001:db8::1]:8443"))
	if want := "https://app.example.com,http://localhost:5173,http://127.0.0.1,capacitor://localhost,https://[2001:db8::1]:8443"; err != nil || origins.String() != want {
		t.Errorf("%s, %v", origins, err)
	}
}
