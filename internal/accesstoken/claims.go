package accesstoken

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/strict"
)

const (
	// futureLeeway is how many seconds "iat" and "nbf" may be in the future, because the clock of the replica
	// that signed may be fast. "exp" has no leeway.
	futureLeeway = 60
	// maxUnix is the last second of the year 9999.
	maxUnix = 253402300799
)

// Claims are what an access token says (RFC 9068, section 2.2). Times are whole seconds. authverify.Claims
// has the same fields, documented for its users: that package exports no type of an internal one.
type Claims struct {
	// UserID is "sub", the account. Never the nil UUID.
	UserID uuid.UUID
	// SessionID is "sid". The nil UUID means that the token has no session, which only Rules.Sessionless allows.
	SessionID uuid.UUID
	// Position is "led": the position of the ledger, 0 or more, at which the user's status was read. Revocations
	// at higher positions refuse the token.
	Position int64
	// ID is "jti", never empty.
	ID string
	// ClientID is "client_id", never empty in a token.
	ClientID string
	// AuthTime is "auth_time": when the user was last authenticated, by a login or by Reauthenticate. Zero if the
	// token does not say.
	AuthTime time.Time
	// IssuedAt is "iat".
	IssuedAt time.Time
	// ExpireTime is "exp": the token is expired from this second on. It is after IssuedAt, by Rules.MaxTTL at
	// most.
	ExpireTime time.Time
	// AMR is "amr": the methods of that authentication (RFC 8176). May be empty.
	AMR []string
	// ACR is "acr": AAL1 or AAL2 in tokens of this service. Empty if the token does not say.
	ACR string
	// EmailVerified is "email_verified": whether the owner had proved the address of the account when the token was
	// issued. False if the token does not say.
	EmailVerified bool
}

// The values of "acr", for one factor and for two (NIST SP 800-63B-4, section 2).
const (
	AAL1 = "aal1"
	AAL2 = "aal2"
)

// AMRMulti is the value of "amr" for more than one factor (RFC 8176, section 2).
const AMRMulti = "mfa"

// ACROf returns "acr" for the methods of an authentication.
func ACROf(amr []string) string {
	if slices.Contains(amr, AMRMulti) {
		return AAL2
	}
	return AAL1
}

// Factors returns how many factors the authentication had, as far as the token says: 1 or 2.
func (c *Claims) Factors() uint32 {
	if c.ACR == AAL2 {
		return 2
	}
	return 1
}

// Fresh returns whether the authentication was at most within ago at now. It is false if the token does not say when it
// was. "auth_time" is rounded down to a second, so the authentication may count as up to a second older than it is.
func (c *Claims) Fresh(now time.Time, within time.Duration) bool {
	return !c.AuthTime.IsZero() && now.Sub(c.AuthTime) <= within
}

// Rules are what the claims of a token must meet, besides a right signature.
type Rules struct {
	// Issuer is "iss", compared exactly.
	Issuer string
	// Audience must be one of the values of "aud".
	Audience string
	// MaxTTL is the longest life (exp - iat). Fractions of a second are dropped.
	MaxTTL time.Duration
	// Sessionless allows claims without a session ("sid"), such as those of a machine. If it is false, each
	// token has a session: a handler that compares sessions sees the nil UUID only if its service asked for such
	// tokens.
	Sessionless bool
}

// Write returns the claims as the members of the JSON object in a token. It returns ErrClaims for claims that
// read would refuse at any time, so that no such token is issued.
func (r Rules) Write(c Claims) (map[string]any, error) {
	issued, expire := c.IssuedAt.Unix(), c.ExpireTime.Unix()
	switch {
	case c.UserID == uuid.Nil || c.SessionID == uuid.Nil && !r.Sessionless:
		return nil, fmt.Errorf("%w: the user id and the session id are needed", ErrClaims)
	case c.Position < 0:
		return nil, fmt.Errorf("%w: the ledger position is negative", ErrClaims)
	case c.ID == "" || !utf8.ValidString(c.ID):
		return nil, fmt.Errorf("%w: the token id is empty or not UTF-8", ErrClaims)
	case c.ClientID == "" || !utf8.ValidString(c.ClientID):
		return nil, fmt.Errorf("%w: the client id is empty or not UTF-8", ErrClaims)
	case issued < 0 || expire > maxUnix || expire <= issued || expire-issued > r.maxLife():
		return nil, fmt.Errorf("%w: it must expire 1 to %d s after it is issued", ErrClaims, r.maxLife())
	}
	wire := map[string]any{
		"iss": r.Issuer, "aud": r.Audience, "client_id": c.ClientID,
		"sub": c.UserID.String(), "led": c.Position,
		"jti": c.ID, "iat": issued, "exp": expire,
	}
	if c.SessionID != uuid.Nil {
		wire["sid"] = c.SessionID.String()
	}
	if !c.AuthTime.IsZero() {
		at := c.AuthTime.Unix()
		if at < 0 || at > maxUnix {
			return nil, fmt.Errorf("%w: the authentication time is out of range", ErrClaims)
		}
		wire["auth_time"] = at
	}
	if len(c.AMR) > 0 {
		if slices.ContainsFunc(c.AMR, func(method string) bool { return !utf8.ValidString(method) }) {
			return nil, fmt.Errorf("%w: an authentication method is not UTF-8", ErrClaims)
		}
		wire["amr"] = c.AMR
	}
	if c.ACR != "" {
		if !utf8.ValidString(c.ACR) {
			return nil, fmt.Errorf("%w: the authentication class is not UTF-8", ErrClaims)
		}
		wire["acr"] = c.ACR
	}
	if c.EmailVerified || c.SessionID != uuid.Nil { // a machine has no address
		wire["email_verified"] = c.EmailVerified
	}
	return wire, nil
}

// maxLife is MaxTTL in seconds.
func (r Rules) maxLife() int64 { return int64(r.MaxTTL / time.Second) }

// read returns the claims in payload if they meet the rules at now. It returns ErrInvalid, or ErrExpired if
// only the time is wrong.
func (r Rules) read(payload []byte, now time.Time) (*Claims, error) {
	wire, err := strict.ParseObject(payload)
	if err != nil {
		return nil, invalid("claims: " + err.Error())
	}
	if err := r.checkParties(wire); err != nil {
		return nil, err
	}
	claims := &Claims{}
	if err := claims.readIdentity(wire, r.Sessionless); err != nil {
		return nil, err
	}
	if err := claims.readAuthentication(wire); err != nil {
		return nil, err
	}
	issued, expire, err := r.readLife(wire, now.Unix())
	if err != nil {
		return nil, err
	}
	claims.IssuedAt, claims.ExpireTime = unixTime(issued), unixTime(expire)
	// This check is the last one: ErrExpired means that the token met all other rules.
	if now.Unix() >= expire {
		return nil, ErrExpired
	}
	return claims, nil
}

// checkParties checks the issuer and the audience. Its error is a *MismatchError.
func (r Rules) checkParties(wire strict.Object) error {
	if issuer, ok := wire.Text("iss"); !ok || issuer != r.Issuer {
		return &MismatchError{Claim: "iss", Got: shown([]string{issuer}), Want: r.Issuer}
	}
	audience, ok := wire.Text("aud")
	if ok && audience == r.Audience {
		return nil
	}
	audiences, _ := wire.Texts("aud")
	if slices.Contains(audiences, r.Audience) {
		return nil
	}
	if ok {
		audiences = []string{audience}
	}
	return &MismatchError{Claim: "aud", Got: shown(audiences), Want: r.Audience}
}

// readIdentity reads the claims that identify the account, the session, the token and the client.
func (c *Claims) readIdentity(wire strict.Object, sessionless bool) error {
	var ok bool
	if c.UserID, ok = wire.UUID("sub"); !ok {
		return invalid("sub is not a UUID")
	}
	if _, present := wire["sid"]; present || !sessionless {
		if c.SessionID, ok = wire.UUID("sid"); !ok {
			return invalid("sid is not a UUID")
		}
	}
	if c.Position, ok = wire.Integer("led"); !ok {
		return invalid("led is not a position")
	}
	if c.ID, _ = wire.Text("jti"); c.ID == "" {
		return invalid("no jti")
	}
	if c.ClientID, _ = wire.Text("client_id"); c.ClientID == "" {
		return invalid("no client_id")
	}
	return nil
}

// readAuthentication reads the claims that may be absent.
func (c *Claims) readAuthentication(wire strict.Object) error {
	if _, present := wire["auth_time"]; present {
		at, ok := wire.Integer("auth_time")
		if !ok || at > maxUnix {
			return invalid("auth_time is not a time")
		}
		c.AuthTime = unixTime(at)
	}
	if _, present := wire["amr"]; present {
		var ok bool
		if c.AMR, ok = wire.Texts("amr"); !ok {
			return invalid("amr is not a list")
		}
	}
	if _, present := wire["acr"]; present {
		var ok bool
		if c.ACR, ok = wire.Text("acr"); !ok {
			return invalid("acr is not a text")
		}
	}
	if value, present := wire["email_verified"]; present {
		var ok bool
		if c.EmailVerified, ok = value.(bool); !ok {
			return invalid("email_verified is not true or false")
		}
	}
	return nil
}

// readLife reads the times of issue and expiry, in seconds, and checks both, except for expiry itself.
// Neither is negative, so nothing overflows.
func (r Rules) readLife(wire strict.Object, now int64) (issued, expire int64, err error) {
	issued, ok := wire.Integer("iat")
	if !ok || issued > now+futureLeeway {
		return 0, 0, invalid("iat is absent or in the future")
	}
	expire, ok = wire.Integer("exp")
	if !ok || expire <= issued || expire-issued > r.maxLife() {
		return 0, 0, invalid("exp is absent or not a fitting time after iat")
	}
	if _, present := wire["nbf"]; present {
		if notBefore, ok := wire.Integer("nbf"); !ok || notBefore > now+futureLeeway {
			return 0, 0, invalid("nbf is in the future")
		}
	}
	return issued, expire, nil
}

func unixTime(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
