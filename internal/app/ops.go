package app

import (
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/latchkey-auth/latchkey/internal/operatorpage"
)

// opsPages returns the pages for operators: metrics, profiles, and the page of internal/operatorpage with its calls.
func (a *App) opsPages() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.Metrics, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	if a.cfg.OperatorsPage != "off" {
		a.Server.MountOperators(mux, a.cfg.OperatorsPage == "change")
		operatorpage.Register(mux, operatorpage.Config{IsOperator: a.Server.IsOperator, Status: a.operatorStatus})
	}
	return ownHosts(mux, append(slices.Clone(a.cfg.OpsHosts), hostOf(a.cfg.OpsAddr))...)
}

// ownHosts answers requests that name this machine by an IP address, as localhost, or by one of names. An
// operator may have a page of an attacker open. That page's own name can resolve to this machine (DNS
// rebinding), and then its scripts can read the answers. Even without that, the page can make the browser
// send requests, and a profile is half a minute of work.
func ownHosts(next http.Handler, names ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostOf(r.Host)
		switch {
		case !isThisMachine(host) && (host == "" || !slices.Contains(names, host)):
			http.Error(w, "this listener is not known by that name: ask by its address, or set LATCHKEY_OPS_HOSTS", http.StatusMisdirectedRequest)
		case fromAnotherSite(r):
			http.Error(w, "not for pages of other sites", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// hostOf returns the host of host:port, in small letters, without the brackets of IPv6.
func hostOf(hostPort string) string {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostPort, "["), "]")
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// isThisMachine reports whether no DNS server of others decides where host leads: browsers do not ask DNS for
// names below .localhost (RFC 6761, section 6.3).
func isThisMachine(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// fromAnotherSite reports whether a browser sends the request for a page of another site. Other programs send
// neither header.
func fromAnotherSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
		return true
	case "":
	default:
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	from, err := url.Parse(origin)
	return err != nil || !strings.EqualFold(from.Host, r.Host)
}
