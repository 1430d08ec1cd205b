package server_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// A verifier that knows only the issuer finds all that it needs, where OpenID Connect and RFC 8414 say, also for an
// issuer with a path.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	const plain, metadata, jwks = "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/.well-known/jwks.json"
	for issuer, paths := range map[string][]string{
		"https://auth.example.com":          {plain, metadata},
		"https://auth.example.com/":         {plain, metadata},
		"https://example.com/auth":          {plain, metadata, "/auth" + plain, metadata + "/auth", plain + "/auth"},
		"https://example.com/a/b/":          {plain, metadata, "/a/b" + plain, metadata + "/a/b", plain + "/a/b"},
		"https://example.com/{x...}/y":      {plain, metadata},
		"https://example.com/a%2Fb":         {plain, metadata},
		"https://example.com/../.well-know": {plain, metadata},
	} {
		t.Run(issuer, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{Issuer: issuer})
			keys := issuer + jwks
			if issuer[len(issuer)-1] == '/' {
				keys = issuer + jwks[1:]
			}
			want := map[string]any{"issuer": issuer, "jwks_uri": keys, "id_token_signing_alg_values_supported": []any{"ES256"}}
			for _, path := range paths {
				got, header := getPublished(t, s.HTTP+path)
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got %v, want %v", path, got, want)
				}
				if header.Get("Content-Type") != "application/json" || header.Get("Cache-Control") != "public, max-age=300" ||
					header.Get("Access-Control-Allow-Origin") != "*" || header.Get("ETag") == "" {
					t.Errorf("%s: headers %v", path, header)
				}
			}
			if len(paths) > 2 {
				set, _ := getPublished(t, s.HTTP+paths[2][:len(paths[2])-len(plain)]+jwks)
				if list, _ := set["keys"].([]any); len(list) != 1 {
					t.Errorf("JWKS below the issuer's path: %v", set)
				}
			}
		})
	}
}

// While the algorithm changes, tokens of both are good.
func TestDiscoveryNamesEveryAlgorithm(t *testing.T) {
	t.Parallel()
	first := testenv.Start(t, testenv.Options{Algorithm: "EdDSA"})
	second := testenv.Start(t, testenv.Options{DatabaseURL: first.DatabaseURL, RedisURL: first.RedisURL, Clock: first.Clock, Algorithm: "RS256"})
	got, _ := getPublished(t, second.HTTP+"/.well-known/openid-configuration")
	if want := []any{"EdDSA", "RS256"}; !reflect.DeepEqual(got["id_token_signing_alg_values_supported"], want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func getPublished(t *testing.T, url string) (map[string]any, http.Header) {
	t.Helper()
	code, header, body := fetch(t, url)
	if code != http.StatusOK {
		t.Fatalf("%s: %d, %s", url, code, body)
	}
	var document map[string]any
	if err := json.Unmarshal(body, &document); err != nil {
		t.Fatal(err)
	}
	return document, header
}
