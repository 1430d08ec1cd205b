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

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

// Defaults of Config.
const (
	// defaultMaxStaleness is ten heartbeats of the stream: a restart of the watched replica, or a lost
	// connection, causes no errors.
	defaultMaxStaleness = 10 * time.Second
	// defaultMaxTTL is Latchkey's own default of LATCHKEY_ACCESS_TOKEN_TTL.
	defaultMaxTTL = 15 * time.Minute
	// defaultFreshWithin is Latchkey's own default of LATCHKEY_FRESH_WITHIN.
	defaultFreshWithin = 10 * time.Minute
	// defaultCacheSize takes about 30 MB when it is full.
	defaultCacheSize = 50_000

	jwksPath = "/.well-known/jwks.json"
)

// Config has the settings of a Verifier. Issuer, Audience, Conn and ServiceKey are required.
type Config struct {
	// Issuer is "iss" of the tokens that are accepted: LATCHKEY_ISSUER.
	Issuer string
	// Audience must be one of the values of "aud": LATCHKEY_AUDIENCE. Never use LATCHKEY_ACCOUNT_AUDIENCE: a
	// service that gets such a token can use the account.
	Audience string
	// MaxTTL is the longest accepted life (exp - iat). It should be LATCHKEY_ACCESS_TOKEN_TTL: Latchkey reports
	// a revocation for that long. At least 1 s. Zero: 15 minutes.
	MaxTTL time.Duration

	// Sessionless accepts tokens without a session ("sid") too, such as those of machines. Their
	// Claims.SessionID is the nil UUID, and revocations of their account or key refuse them. If it is false,
	// they are refused, so a handler can rely on a session.
	Sessionless bool

	// JWKSURL is the address of the public keys. An attacker who can change the answer can sign in as any user,
	// so it should be https. Empty: Issuer followed by /.well-known/jwks.json.
	JWKSURL string
	// HTTPClient fetches the keys, within 5 s, even if its own limit is longer. Nil: a client that follows no
	// redirects.
	HTTPClient *http.Client

	// Conn is a connection to Latchkey's gRPC listener, such as a *grpc.ClientConn. The caller closes it, after
	// the Verifier. It should be encrypted, because ServiceKey is sent over it. It should be made with
	// grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}):
	// without these, a connection that breaks silently is replaced only when the operating system closes it,
	// after many minutes.
	Conn grpc.ClientConnInterface
	// ServiceKey is one of those whose hashes are in LATCHKEY_SERVICE_KEY_SHA256.
	ServiceKey string

	// MaxStaleness is the greatest age of the newest proof that all revocations are known. If the proof is
	// older, every token is refused with ErrUnavailable, or accepted if FailOpen is set. So it limits how long
	// revoked tokens are still accepted if Latchkey cannot be reached; if it can be reached, that is some
	// milliseconds. Zero: 10 s. At least 3 s, since heartbeats come each second.
	MaxStaleness time.Duration
	// FailOpen accepts tokens even if Latchkey cannot be reached. Signatures, expiry and the known revocations
	// are still checked, but tokens of a session that was revoked in the meantime are accepted. If it is false,
	// they are refused.
	FailOpen bool

	// PublicServices are the full names of gRPC services whose methods need no token. If the proto of a method
	// declares a policy, that policy applies instead. Nil: health (grpc.health.v1.Health) and reflection
	// (grpc.reflection.v1.ServerReflection and v1alpha). An empty list: none.
	PublicServices []string

	// FreshWithin is how recent an authentication must be for methods whose policy asks for a fresh one and names
	// no duration (fresh_within: {}). Zero: 10 minutes, as for Latchkey's own methods. Not below 1 s.
	FreshWithin time.Duration

	// CacheSize is how many tokens with a checked signature are cached. Zero: 50,000, which need about 30 MB.
	CacheSize int
	// OnFreshness, if set, is called when revocations become up to date within MaxStaleness (true), or no longer
	// are (false). At the start they are not. Use it for a metric: it must return at once, and call no method of
	// the Verifier.
	OnFreshness func(fresh bool)
	// OnUserDeleted, if set, is called for each account that was deleted, by its id ("sub"), when its tokens are
	// refused here: delete what the service keeps about the person. It may be called several times for one account, and
	// is not called for a deletion that happened while the service was not connected for longer than MaxTTL: read
	// AdminService.ListAuditEvents (kind account_deleted) after such a time. It must return at once, and call no method
	// of the Verifier.
	OnUserDeleted func(userID uuid.UUID)
	// Logger logs these changes, and failures of the stream and of the keys. It also logs, once a minute at
	// most, that the Verifier refuses tokens that the issuer's keys have signed, because they name another
	// issuer or audience. Nil: slog.Default().
	Logger *slog.Logger
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// complete returns c with its defaults. Its error names the field that is wrong.
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
	if c.FreshWithin == 0 {
		c.FreshWithin = defaultFreshWithin
	}
	if c.FreshWithin < time.Second {
		return c, errors.New("authverify: Config.FreshWithin needs 1s or more")
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

// rules returns the rules for claims.
func (c Config) rules() accesstoken.Rules {
	return accesstoken.Rules{Issuer: c.Issuer, Audience: c.Audience, MaxTTL: c.MaxTTL, Sessionless: c.Sessionless}
}
