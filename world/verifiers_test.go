//go:build world

package world

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/signing"
	"github.com/latchkey-auth/latchkey/internal/signingstore"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// update writes the table of verifiers into the documentation.
var update = flag.Bool("update", false, "rewrite what the tests make in docs/")

const (
	// verifierTime bounds one run of all verifiers of a language.
	verifierTime = 3 * time.Minute
	// tableFile has the table of verifiers, between these lines.
	tableFile = "../docs/verifying-tokens.md"
	tableFrom = "<!-- made by `task test:world -- -run TestVerifiers -update`: do not edit -->\n"
	tableTo   = "<!-- end -->\n"
)

// verifier is a package that checks tokens.
type verifier struct {
	name    string
	source  string   // npm, Debian or Go
	version string   // pinned; for Debian: the version of the machine's release
	with    []string // further packages of npm
	needs   string   // settings that the reader must make
}

func verifiers() []verifier {
	const byRSA = "jwks-rsa@4.1.0"
	return []verifier{
		{"jose", "npm", "6.2.18", nil, ""},
		{"jsonwebtoken", "npm", "9.0.3", []string{byRSA}, "with jwks-rsa 4.1.0"},
		{"express-jwt", "npm", "8.5.1", []string{byRSA, "express@5.3.0"}, "with jwks-rsa 4.1.0"},
		{"passport-jwt", "npm", "4.0.1", []string{byRSA, "passport@0.7.0"}, "with jwks-rsa 4.1.0"},
		{"koa-jwt", "npm", "4.0.4", []string{byRSA, "koa@3.3.0"}, "with jwks-rsa 4.1.0"},
		{"fast-jwt", "npm", "6.3.6", nil, "keys as PEM"},
		{"get-jwks", "npm", "11.0.3", nil, "`issuersWhitelist`; with fast-jwt 6.3.6"},
		{"@fastify/jwt", "npm", "10.2.8", []string{"fastify@5.12.8"}, "with get-jwks 11.0.3"},
		{"@hapi/jwt", "npm", "3.2.4", []string{"@hapi/hapi@21.4.10"}, "`keys.algorithms`"},
		{"express-oauth2-jwt-bearer", "npm", "1.10.0", nil, "the issuer alone, and `tokenSigningAlg`"},
		{"oauth4webapi", "npm", "3.8.8", nil, "the issuer alone, `algorithm: 'oauth2'`"},
		{"openid-client", "npm", "6.9.0", nil, "the issuer alone; checks with jose"},
		{"hono", "npm", "4.13.19", nil, "`alg`"},
		{"aws-jwt-verify", "npm", "5.2.1", nil, "JWKS over https, or handed to `cacheJwks`"},
		{"jsrsasign", "npm", "11.1.5", nil, ""},
		{"node-jose", "npm", "2.2.0", nil, "claims are yours to check"},
		{"python3-jwt", "Debian", "", nil, "PyJWT; `algorithms`, and python3-cryptography"},
		{"python3-jose", "Debian", "", nil, "the active key first, as the service has it"},
		{"python3-authlib", "Debian", "", nil, "`JsonWebToken([algorithm])`"},
		{"python3-jwcrypto", "Debian", "", nil, "`algs`"},
		{"ruby-jwt", "Debian", "", nil, "`algorithms`"},
		{"ruby-json-jwt", "Debian", "", nil, "claims are yours to check"},
		{"libcrypt-jwt-perl", "Debian", "", nil, "`accepted_alg`"},
		{"libmojo-jwt-perl", "Debian", "", nil, "claims are yours to check"},
		{"libjwt-dev", "Debian", "", nil, "the key as PEM; claims are yours to check"},
		{"libcjose-dev", "Debian", "", nil, "claims are yours to check"},
		{"jose", "Debian", "", nil, "`jose jws ver`; claims are yours to check"},
		{"erlang-jose", "Debian", "", nil, "`verify_strict`, and erlang-jiffy or another JSON library; claims are yours to check"},
		{"haproxy", "Debian", "", nil, "`jwt_verify`; the key as PEM; claims as in the sample"},
		{"libnginx-mod-http-js", "Debian", "", nil, "njs; the key as PEM; claims as in the sample"},
		{"libapache2-mod-auth-openidc", "Debian", "", nil, "`AuthType oauth20`, `Require claim` for `iss` and `aud`"},
		{"github.com/coreos/go-oidc/v3", "Go", "v3.21.0", nil, "the issuer alone"},
		{"github.com/lestrrat-go/jwx/v3", "Go", "v3.4.0", nil, ""},
		{"github.com/MicahParks/keyfunc/v3", "Go", "v3.9.2", nil, "with golang-jwt v5.3.1, `WithValidMethods`"},
		{"github.com/go-jose/go-jose/v4", "Go", "v4.1.9", nil, "the algorithms, to `ParseSigned`"},
		{"github.com/zitadel/oidc/v3", "Go", "v3.52.0", nil, "the issuer alone, and `WithSupportedAccessTokenSigningAlgorithms`"},
		{"github.com/auth0/go-jwt-middleware/v2", "Go", "v2.3.1", nil, "the issuer alone, and the algorithm"},
	}
}

// verification is one token that is shown to one verifier.
type verification struct {
	Name      string `json:"name"`
	Issuer    string `json:"issuer"`
	Audience  string `json:"audience"`
	JWKSURI   string `json:"jwksUri"`
	Algorithm string `json:"algorithm"`
	Token     string `json:"token"`
	// JWKS is the content of JWKSURI, for programs that make no requests.
	JWKS json.RawMessage `json:"jwks"`
	// Program is the program that runs the package.
	Program string `json:"-"`
}

// verdict is the verifier's answer: no error if it accepts the token.
type verdict struct {
	Name  string `json:"name"`
	Error string `json:"error"`
}

// issuer is a running service with one of its tokens.
type issuer struct {
	algorithm, typ string
	among          string // another kind of key that its JWKS has too, or ""
	url            string
	token          string
	pem            []byte // the public key that signed
	jwks           []byte
}

func (i issuer) String() string {
	if i.among != "" {
		return i.algorithm + " " + i.typ + " beside a key for " + i.among
	}
	return i.algorithm + " " + i.typ
}

// newIssuer starts a service that is its own issuer. Its token was issued some time ago.
func newIssuer(t *testing.T, algorithm, typ, among string, ago time.Duration) issuer {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i := issuer{algorithm: algorithm, typ: typ, among: among, url: "http://" + l.Addr().String()}
	options := testenv.Options{Issuer: i.url, Algorithm: accesstoken.Algorithm(algorithm), TokenType: typ, WallClock: ago == 0}
	if among != "" {
		earlier := testenv.Start(t, testenv.Options{Algorithm: accesstoken.Algorithm(among), WallClock: true})
		options.DatabaseURL, options.RedisURL = earlier.DatabaseURL, earlier.RedisURL
	}
	s := testenv.Start(t, options)
	if among != "" { // the key of the new algorithm is pending: make it sign
		next, err := s.Rotator.Rotate(t.Context())
		if err == nil {
			_, err = s.Rotator.Promote(t.Context(), next.KeyID)
		}
		if err == nil {
			err = s.Keyring.Reload(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	web := &httptest.Server{Listener: l, Config: &http.Server{Handler: s.Server.Handler(), ReadHeaderTimeout: verifierTime}}
	web.Start()
	t.Cleanup(web.Close)
	if ago != 0 {
		s.Clock.Advance(-ago)
	}
	i.token = tokenFrom(t, s.Auth)
	i.pem = activeKey(t, s)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, i.url+"/.well-known/jwks.json", http.NoBody)
	check(t, err)
	resp, err := web.Client().Do(req)
	check(t, err)
	defer func() { _ = resp.Body.Close() }()
	i.jwks, err = io.ReadAll(resp.Body)
	check(t, err)
	return i
}

// accessToken signs up and logs in.
func accessToken(t *testing.T, s *service) string {
	t.Helper()
	return tokenFrom(t, latchkeyv1.NewAuthServiceClient(testenv.Dial(t, s.grpc)))
}

func tokenFrom(t *testing.T, auth latchkeyv1.AuthServiceClient) string {
	t.Helper()
	const email, password = "ada@example.com", "correct horse battery"
	if _, err := auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{Email: email, Password: password, FirstName: "Ada", LastName: "L"}); err != nil {
		t.Fatal(err)
	}
	login, err := auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return login.GetTokens().GetAccessToken()
}

// activeKey returns the public key that signs, in PEM.
func activeKey(t *testing.T, s *testenv.Server) []byte {
	t.Helper()
	keys, err := signingstore.Store{Pool: s.Pool}.SigningKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(keys, func(key signing.StoredKey) bool { return key.State == signing.StateActive })
	if i < 0 {
		t.Fatal("no key signs")
	}
	if _, err := x509.ParsePKIXPublicKey(keys[i].Public); err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: keys[i].Public})
}

// tampered returns a token with another letter in its signature.
func tampered(token string) string {
	i := strings.LastIndex(token, ".") + 9
	other := "A"
	if token[i:i+1] == other {
		other = "B"
	}
	return token[:i] + other + token[i+1:]
}

// TestVerifiers shows tokens of the service, of each algorithm and type, to verifiers that others wrote, and the same
// tokens with another signature. The table in docs/verifying-tokens.md lists the tokens that they accept.
func TestVerifiers(t *testing.T) {
	t.Parallel()
	var issuers []issuer
	for _, algorithm := range []string{"EdDSA", "ES256", "RS256"} {
		for _, typ := range []string{"at+jwt", "JWT"} {
			issuers = append(issuers, newIssuer(t, algorithm, typ, "", 0))
		}
	}
	// While the algorithm changes, and for a day after, the JWKS has keys of two kinds.
	for _, typ := range []string{"at+jwt", "JWT"} {
		issuers = append(issuers, newIssuer(t, "ES256", typ, "EdDSA", 0))
	}

	all := verifiers()
	versions := install(t, all)
	var asked []verification
	for _, v := range all {
		for _, i := range issuers {
			for _, text := range []string{i.token, tampered(i.token)} {
				asked = append(asked, verification{
					Name: v.name, Issuer: i.url, Audience: testenv.Audience, JWKSURI: i.url + "/.well-known/jwks.json", Algorithm: i.algorithm, Token: text, JWKS: i.jwks, Program: programOf(v),
				})
			}
		}
	}
	verdicts := ask(t, all, asked, issuers)
	var table strings.Builder
	table.WriteString("| package | from | version | EdDSA | ES256 | RS256 | `at+jwt` | `JWT` | two kinds | needs |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for n, v := range all {
		taken := map[string]bool{}
		for m, i := range issuers {
			good, bad := verdicts[(n*len(issuers)+m)*2], verdicts[(n*len(issuers)+m)*2+1]
			seen := "taken"
			if good.Error != "" {
				seen = "refused: " + good.Error
			}
			taken[i.String()] = good.Error == ""
			record(v.name+" ("+v.source+")", versions[n], i.String(), seen)
			if bad.Error == "" {
				t.Errorf("%s takes a token with another signature (%s)", v.name, i)
			}
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s | %s |\n", v.name, v.source, versions[n], strings.Join(taking(t, v.name, taken), " | "), v.needs)
	}
	checkTable(t, table.String())
}

// taking returns the cells of the table: which algorithms and types a verifier accepts, and whether it accepts a JWKS
// with keys of two kinds.
func taking(t *testing.T, name string, taken map[string]bool) []string {
	t.Helper()
	say := map[bool]string{true: "yes", false: "**no**"}
	var columns []string
	types, good := map[string]bool{"at+jwt": true, "JWT": true}, false
	for _, algorithm := range []string{"EdDSA", "ES256", "RS256"} {
		one := taken[algorithm+" at+jwt"] || taken[algorithm+" JWT"]
		columns, good = append(columns, say[one]), good || one
		for typ := range types {
			types[typ] = types[typ] && taken[algorithm+" "+typ] == one
		}
	}
	if !good {
		t.Errorf("%s takes nothing: is it used as it should be?", name)
	}
	among := "–"
	if one := "ES256 " + typeTaken(types); taken[one] {
		among = say[taken[one+" beside a key for EdDSA"]]
	}
	return append(columns, say[types["at+jwt"]], say[types["JWT"]], among)
}

// typeTaken returns the type of token for a verifier that accepts only one of them.
func typeTaken(types map[string]bool) string {
	if types["at+jwt"] {
		return "at+jwt"
	}
	return "JWT"
}

// beside returns the packages that Debian's packages need to run.
func beside() []string {
	return []string{"python3", "python3-cryptography", "ruby", "perl", "gcc", "libc6-dev", "libjansson-dev", "erlang-jiffy", "nginx"}
}

// install installs the packages and returns their versions.
func install(t *testing.T, all []verifier) []string {
	t.Helper()
	versions, packages := make([]string, len(all)), []string{}
	for i, v := range all {
		versions[i] = v.version
		if v.source == "Debian" {
			packages = append(packages, v.name)
		}
	}
	found := debian(t, append(packages, beside()...)...)
	for i, v := range all {
		if v.source == "Debian" {
			versions[i] = found[slices.Index(packages, v.name)]
		}
		if v.source == "Go" {
			required := strings.TrimSpace(string(commandIn(t, verifierTime, "verifiers/go", nil, "go", "list", "-m", "-f", "{{.Version}}", v.name)))
			if required != v.version {
				t.Errorf("%s is %s in verifiers/go/go.mod, %s here", v.name, required, v.version)
			}
		}
	}
	return versions
}

// checkTable compares the table with the documentation, or rewrites it.
func checkTable(t *testing.T, table string) {
	t.Helper()
	text, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), tableFrom)
	documented, after, ended := strings.Cut(rest, tableTo)
	if !found || !ended {
		t.Fatalf("%s has no place for the table", tableFile)
	}
	if *update {
		if err := os.WriteFile(tableFile, []byte(before+tableFrom+table+tableTo+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	was, is := strings.Split(documented, "\n"), strings.Split(table, "\n")
	if len(was) != len(is) {
		t.Fatalf("%s lists %d lines, it should be %d: run with -update", tableFile, len(was), len(is))
	}
	for i := range is {
		switch {
		case was[i] == is[i]:
		case strings.Contains(is[i], "| Debian |") && (withoutVersion(was[i]) == withoutVersion(is[i]) || !onRelease(t)):
			t.Logf("another version than documented: %s", is[i])
		default:
			t.Errorf("%s says\n%s\nseen was\n%s", tableFile, was[i], is[i])
		}
	}
}

// onRelease reports whether this is the release of Debian whose packages are in the table.
func onRelease(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(text), "VERSION_CODENAME=bookworm\n")
}

// withoutVersion returns a line without the version, since an update of Debian's package has another one.
func withoutVersion(line string) string {
	columns := strings.Split(line, "|")
	if len(columns) > 3 {
		columns[3] = ""
	}
	return strings.Join(columns, "|")
}
