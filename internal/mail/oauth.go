package mail

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/latchkey-auth/latchkey/internal/hosts"
)

// tokenTimeout limits one request for an access token. It leaves time for the mail within [defaultTimeout].
const tokenTimeout = 10 * time.Second

// ErrOAuth means that the settings for access tokens cannot be used.
var ErrOAuth = errors.New("mail: unusable OAuth settings")

// OAuth says where access tokens for XOAUTH2 come from: from a refresh token for the mailbox (RFC 6749, section 6), or
// without one from the client's own credentials (section 4.4), as services have them at Microsoft 365.
type OAuth struct {
	// TokenURL is the token endpoint: https, or http on this machine.
	TokenURL string
	// ClientID and ClientSecret identify this service to it. A public client has no secret.
	ClientID, ClientSecret string
	// RefreshToken may be empty, see above.
	RefreshToken string
	// Scope is requested with client credentials: words separated by spaces. It may be empty.
	Scope string
}

// accessTokens keeps one token until it is about to expire. Safe for concurrent use.
type accessTokens struct {
	settings OAuth

	mu     sync.Mutex
	source oauth2.TokenSource // nil: make a new one
}

func newAccessTokens(o OAuth) (*accessTokens, error) {
	u, err := url.Parse(o.TokenURL)
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		return nil, fmt.Errorf("%w: the token endpoint is no https URL", ErrOAuth)
	case u.Scheme != "https" && (u.Scheme != "http" || !hosts.IsLoopback(u.Hostname())):
		return nil, fmt.Errorf("%w: the token endpoint must be https: it is sent secrets", ErrOAuth)
	case o.ClientID == "":
		return nil, fmt.Errorf("%w: the client id is missing", ErrOAuth)
	case o.RefreshToken == "" && o.ClientSecret == "":
		return nil, fmt.Errorf("%w: give a refresh token or a client secret", ErrOAuth)
	}
	return &accessTokens{settings: o}, nil
}

// get returns a token that is valid for a while. Errors are [*SendError] and hold no secret.
func (t *accessTokens) get() (string, error) {
	token, err := t.current().Token()
	if err == nil {
		return token.AccessToken, nil
	}
	host := ""
	if u, err := url.Parse(t.settings.TokenURL); err == nil {
		host = u.Host
	}
	reason := host + " does not answer"
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok && refused.Response != nil {
		reason = host + " answered " + refused.Response.Status
		if code := refused.ErrorCode; code != "" && len(code) < 64 && strings.Trim(code, "abcdefghijklmnopqrstuvwxyz_") == "" {
			reason += " (" + code + ")"
		}
	}
	return "", &SendError{Op: "login", Reason: "no access token for XOAUTH2: " + reason}
}

func (t *accessTokens) current() oauth2.TokenSource {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.source == nil {
		o := t.settings
		// A token may be used after the mail for which it was fetched, so it must not have the context of that mail.
		// The timeout limits the request.
		ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Timeout: tokenTimeout})
		if o.RefreshToken != "" {
			config := oauth2.Config{ClientID: o.ClientID, ClientSecret: o.ClientSecret, Endpoint: oauth2.Endpoint{TokenURL: o.TokenURL}}
			t.source = config.TokenSource(ctx, &oauth2.Token{RefreshToken: o.RefreshToken})
		} else {
			config := clientcredentials.Config{ClientID: o.ClientID, ClientSecret: o.ClientSecret, TokenURL: o.TokenURL, Scopes: strings.Fields(o.Scope)}
			t.source = config.TokenSource(ctx)
		}
	}
	return t.source
}

// drop makes the next mail fetch a new token, because the server refused this one.
func (t *accessTokens) drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.source = nil
}
