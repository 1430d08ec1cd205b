package authverify

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

// What Config uses where it says nothing.
const (
	// defaultMaxStaleness is ten heartbeats of the stream: a restart of the replica that is watched, or a lost
	// connection, passes unnoticed.
	defaultMaxStaleness = 10 * time.Second
	// defaultMaxTTL is Latchkey's own default of LATCHKEY_ACCESS_TOKEN_TTL.
	defaultMaxTTL = 15 * time.Minute
	// defaultCacheSize takes about 30 MB when it is full.
	defaultCacheSize = 50_000

	jwksPath = "/.well-known/jwks.json"
)

// Config says whose tokens are accepted and where keys and revocations come from. Issuer, Audience, Conn and
// ServiceKey are needed.
type Config struct {
	// Issuer is "iss" of the tokens that are accepted: LATCHKEY_ISSUER.
	Issuer string
	// Audience is what "aud" must be, alone or among others: LATCHKEY_AUDIENCE. Never LATCHKEY_ACCOUNT_AUDIENCE:
	// a service that is shown such a token can use the account.
	Audience string
	// MaxTTL is the longest life, exp - iat, that is accepted. It should be LATCHKEY_ACCESS_TOKEN_TTL, for
	// Latchkey reports revocations for as long as that. Zero: 15 minutes.
	MaxTTL time.Duration

	// Sessionless accepts tokens without a session ("sid") too, such as those of machines: their
	// Claims.SessionID is the nil UUID, and they are refused when their account or its key is revoked. False,
	// the default, refuses them, so that a handler may rely on a session.
	Sessionless bool

	// JWKSURL is the address of the public keys. Somebody who can change its answer can sign in as anybody, so
	// it should be https. Empty: Issuer followed by /.well-known/jwks.json.
	JWKSURL string
	// HTTPClient fetches the keys, within 5 s whatever its own limit is. Nil: one that follows no redirects.
	HTTPClient *http.Client

	// Conn is a connection to Latchkey's gRPC listener, such as a *grpc.ClientConn. It belongs to the caller,
	// who closes it after the Verifier. It should be encrypted, for it carries ServiceKey, and made with
	// grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}), or
	// else a connection that died silently is only replaced when the operating system gives it up, after many
	// minutes.
	Conn grpc.ClientConnInterface
	// ServiceKey is one of those whose hashes are in LATCHKEY_SERVICE_KEY_SHA256.
	ServiceKey string

	// MaxStaleness is how old the newest proof that all revocations are known may be. With an older one every
	// token is refused with ErrUnavailable, or accepted when FailOpen is set. It bounds how long after a
	// revocation its tokens are still accepted here when Latchkey cannot be reached; when it can, that is some
	// milliseconds. Zero: 10 s. At least 3 s: heartbeats come each second.
	MaxStaleness time.Duration
	// FailOpen accepts tokens on their signature and the revocations that are known while Latchkey cannot be
	// reached, for as long as they live: a session that was revoked meanwhile goes on. False, the default,
	// refuses them.
	FailOpen bool

	// PublicServices are the full names of gRPC services whose methods need no token, for those whose protos
	// declare no policy. A declared policy counts more. Nil: health (grpc.health.v1.Health) and reflection
	// (grpc.reflection.v1.ServerReflection and v1alpha). An empty list: none.
	PublicServices []string

	// CacheSize is how many tokens are remembered whose signature was checked. Zero: 50,000, which take about 30
	// MB.
	CacheSize int
	// OnFreshness, if set, is called at each change with whether revocations are up to date within MaxStaleness;
	// at first they are not. It is for a metric: it must return at once and call no method of the Verifier.
	OnFreshness func(fresh bool)
	// Logger gets a line about each of these changes, and about each failure of the stream or of the keys. It
	// also gets a line, once a minute, when the Verifier refuses tokens that the issuer's keys have signed,
	// because they name another issuer or audience. Nil: slog.Default().
	Logger *slog.Logger
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// complete returns c with its defaults, or says what is wrong with it.
func (c Config) complete() (Config, error) {
	for _, need := range []struct {
		field string
		given bool
	}{
		{"Issuer", c.Issuer != ""},
		{"Audience", c.Audience != ""},
		{"Conn", c.Conn != nil},
		{"ServiceKey", c.ServiceKey != ""},
	} {
		if !need.given {
			return c, fmt.Errorf("authverify: Config.%s is needed", need.field)
		}
	}
	if c.JWKSURL == "" {
		c.JWKSURL = strings.TrimSuffix(c.Issuer, "/") + jwksPath
	}
	if at, err := url.Parse(c.JWKSURL); err != nil || (at.Scheme != "https" && at.Scheme != "http") || at.Host == "" {
		return c, errors.New("authverify: Config.JWKSURL is no http or https URL")
	}
	if c.MaxTTL == 0 {
		c.MaxTTL = defaultMaxTTL
	}
	if c.MaxTTL < time.Second {
		return c, errors.New("authverify: Config.MaxTTL needs 1s or more")
	}
	if c.MaxStaleness == 0 {
		c.MaxStaleness = defaultMaxStaleness
	}
	if c.MaxStaleness < silenceLimit {
		return c, fmt.Errorf("authverify: Config.MaxStaleness needs %s or more", silenceLimit)
	}
	if c.CacheSize == 0 {
		c.CacheSize = defaultCacheSize
	}
	if c.CacheSize < 0 {
		return c, errors.New("authverify: Config.CacheSize is negative")
	}
	if c.PublicServices == nil {
		c.PublicServices = []string{
			"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
		}
	}
	c.PublicServices = slices.Clone(c.PublicServices)
	if c.HTTPClient == nil {
		c.HTTPClient = &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

// rules are what tokens must satisfy beyond their signature.
func (c Config) rules() accesstoken.Rules {
	return accesstoken.Rules{Issuer: c.Issuer, Audience: c.Audience, MaxTTL: c.MaxTTL, Sessionless: c.Sessionless}
}
