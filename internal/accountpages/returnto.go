package accountpages

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
)

// maxState is the most bytes of an app's state. Apps send a random text of some 40.
const maxState = 512

// Return is where a login leads: to an app, with a code that the app trades for a session (RFC 6749, section 4.1, with
// PKCE as in RFC 7636).
type Return struct {
	// URL is one of the listed URLs, unchanged.
	URL string `json:"url"`
	// State comes back to the app as it was sent.
	State string `json:"state,omitempty"`
	// CodeChallenge is the base64url of the SHA-256 of the app's secret (S256).
	CodeChallenge string `json:"codeChallenge"`
	// Issuer tells the app which service answers (RFC 9207).
	Issuer string `json:"issuer"`
}

// Errors of a login for an app. They are shown to the person and never send them anywhere: a page that sends people on to
// an address that nobody has checked is what an attacker looks for (RFC 6749, section 4.1.2.1).
var (
	errReturnTwice = errors.New("a parameter of this link occurs twice, or the link cannot be read")
	errReturnURL   = errors.New("return_to is not one of the addresses that this service may return to (LATCHKEY_RETURN_URLS)")
	errReturnState = errors.New("state is longer than 512 bytes, or is there without return_to")
	errReturnPKCE  = errors.New("return_to needs code_challenge: the SHA-256 of the app's code_verifier in base64url without padding; code_challenge_method can only be S256 (RFC 7636)")
)

// challengeForm is the form of 32 bytes in base64url. The last of 43 characters has four bits.
var challengeForm = regexp.MustCompile(`^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$`)

// parseReturn reads the parameters of a login for an app. It returns nil if the link has none. The comparison is of whole
// texts (RFC 9700, section 4.1.3): no parsing, so there is nothing that two parsers could read in two ways.
func (p *Pages) parseReturn(from *url.URL) (*Return, error) {
	query, err := url.ParseQuery(from.RawQuery)
	if err != nil {
		return nil, errReturnTwice
	}
	for _, values := range query {
		if len(values) > 1 {
			return nil, errReturnTwice
		}
	}
	if !query.Has("return_to") {
		if query.Has("state") || query.Has("code_challenge") || query.Has("code_challenge_method") {
			return nil, errReturnState
		}
		return nil, nil //nolint:nilnil // a login for no app is the usual case
	}
	to := &Return{URL: query.Get("return_to"), State: query.Get("state"), CodeChallenge: query.Get("code_challenge"), Issuer: p.cfg.Issuer}
	switch {
	case !slices.Contains(p.cfg.ReturnURLs, to.URL):
		return nil, errReturnURL
	case len(to.State) > maxState:
		return nil, errReturnState
	case !challengeForm.MatchString(to.CodeChallenge), query.Has("code_challenge_method") && query.Get("code_challenge_method") != "S256":
		return nil, errReturnPKCE
	}
	return to, nil
}

func (r *Return) addTo(query url.Values) {
	query.Set("return_to", r.URL)
	query.Set("code_challenge", r.CodeChallenge)
	if r.State != "" {
		query.Set("state", r.State)
	}
}
