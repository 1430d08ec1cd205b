package mail

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/hosts"
)

// bareFragment stands for a # at the end of a page's address, which url.URL forgets: "https://app.example.com/reset#" gets
// #token=…, without a route before it.
const bareFragment = "#"

// ParseResetURL checks the address of the page to which a reset link leads. It is an absolute https URL, or http if the
// host is this machine. It has no user name and no token parameter, but may have a query and a fragment. If the
// operator allows insecure links, it may also be http at an address or name of a local network, or have the scheme of
// an app, for example myapp://reset. Errors wrap [ErrResetURL].
func ParseResetURL(raw string, insecure bool) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: it does not parse", ErrResetURL)
	case u.Scheme == "" || u.Opaque != "":
		return nil, fmt.Errorf("%w: it must start with https://", ErrResetURL)
	case strings.HasSuffix(raw, "#"):
		u.Fragment = bareFragment
	}
	if u.User != nil {
		return nil, fmt.Errorf("%w: it must not hold a user name or password", ErrResetURL)
	}
	if u.Scheme == "https" || u.Scheme == "http" {
		err = checkWebLink(u, insecure)
	} else {
		err = checkAppLink(u, insecure)
	}
	if err != nil {
		return nil, err
	}
	has, err := hasParameter(u, "token")
	if err == nil && has {
		err = fmt.Errorf("%w: the query already has a token parameter", ErrResetURL)
	}
	if err != nil {
		return nil, err
	}
	return u, nil
}

// hasParameter returns whether the page has a parameter of this name, in its query or its fragment.
func hasParameter(page *url.URL, name string) (bool, error) {
	_, inFragment, _ := strings.Cut(page.Fragment, "?")
	for _, part := range []string{page.RawQuery, inFragment} {
		query, err := url.ParseQuery(part)
		if err != nil {
			return false, fmt.Errorf("%w: the query does not parse", ErrResetURL)
		}
		if query.Has(name) {
			return true, nil
		}
	}
	return false, nil
}

func checkWebLink(u *url.URL, insecure bool) error {
	switch {
	case u.Hostname() == "":
		return fmt.Errorf("%w: the host is missing", ErrResetURL)
	case u.Scheme == "https" || hosts.IsLoopbackInBrowsers(u.Hostname()):
		return nil
	case !isLocalNetwork(u.Hostname()):
		return fmt.Errorf("%w: the link carries a secret: use https (http is for localhost only)", ErrResetURL)
	case !insecure:
		return fmt.Errorf("%w: the link carries a secret: use https, or say LATCHKEY_INSECURE_LINKS=true for http in a network of your own", ErrResetURL)
	}
	return nil
}

func checkAppLink(u *url.URL, insecure bool) error {
	// These schemes belong to browsers and systems, not to an app, and some of them would run or show their text.
	if slices.Contains([]string{
		"about", "blob", "chrome", "data", "file", "filesystem", "ftp", "gopher", "intent", "javascript", "mailto", "sms", "ssh", "tel", "vbscript", "view-source", "ws", "wss",
	}, u.Scheme) {
		return fmt.Errorf("%w: it must start with https://", ErrResetURL)
	}
	if !insecure {
		return fmt.Errorf("%w: it must start with https://, or say LATCHKEY_INSECURE_LINKS=true for the scheme of an app: any other app on a device can claim it", ErrResetURL)
	}
	return nil
}

// isLocalNetwork returns whether host is an address or a name that only a local network knows.
func isLocalNetwork(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		return ip.IsPrivate() || ip.IsLinkLocalUnicast()
	}
	return !strings.Contains(host, ".") || slices.ContainsFunc(
		[]string{".local", ".lan", ".home.arpa", ".internal", ".test"}, // RFC 6762, 8375, 6761, ICANN's .internal
		func(domain string) bool { return strings.HasSuffix(host, domain) })
}

// LinkWeakness says who else gets the links to a page that [ParseResetURL] accepts. It returns "" if nobody does.
func LinkWeakness(page *url.URL) string {
	switch {
	case page.Scheme == "https", page.Scheme == "http" && hosts.IsLoopbackInBrowsers(page.Hostname()):
		return ""
	case page.Scheme == "http":
		return "is in plaintext: anybody in that network can read links and set passwords with them. Use https outside development"
	}
	return "has the scheme of an app: any other app on a device can claim it, and gets the links then. Use an https address that the app is registered for (App Links, Universal Links)"
}

// pages are those to which links lead. A page that is nil gets none.
type pages struct{ reset, verify, change *url.URL }

func parsePages(cfg Config) (to pages, err error) {
	if to.reset, err = ParseResetURL(cfg.ResetURL, cfg.InsecureLinks); err != nil {
		return to, err
	}
	if cfg.VerifyURL != "" {
		if to.verify, err = ParseResetURL(cfg.VerifyURL, cfg.InsecureLinks); err != nil {
			return to, err
		}
	}
	if cfg.EmailChangeURL != "" {
		to.change, err = ParseEmailChangeURL(cfg.EmailChangeURL, cfg.InsecureLinks)
	}
	return to, err
}

func withToken(page *url.URL, token string) string {
	return withParameters(page, tokenParameter(token))
}

func tokenParameter(token string) string { return "token=" + url.QueryEscape(token) }

// withParameters appends parameters with the token, and changes nothing else: a new encoding could change a text that a
// router compares. If the page has a fragment, they are added to the fragment, because the router of such a page reads
// them there, and no server gets them. Otherwise they are added to the query.
func withParameters(page *url.URL, parameters string) string {
	u := *page
	if u.Fragment == bareFragment {
		u.Fragment, u.RawFragment = "", ""
		return u.String() + "#" + parameters
	}
	if u.Fragment != "" {
		fragment := u.EscapedFragment()
		u.Fragment, u.RawFragment = "", ""
		switch {
		case !strings.Contains(fragment, "?"):
			fragment += "?"
		case !strings.HasSuffix(fragment, "?") && !strings.HasSuffix(fragment, "&"):
			fragment += "&"
		}
		return u.String() + "#" + fragment + parameters
	}
	if u.RawQuery != "" && !strings.HasSuffix(u.RawQuery, "&") {
		u.RawQuery += "&"
	}
	u.RawQuery += parameters
	return u.String()
}
