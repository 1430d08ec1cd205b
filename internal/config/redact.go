package config

import (
	"errors"
	"slices"
	"strings"
)

const hidden = "xxxxx"

// urlParts are the parts of a URL, split as the library that reads it splits them.
type urlParts struct{ scheme, user, hosts, path, query string }

// splitURL splits a URL as the library for its scheme does. For PostgreSQL (libpq and pgx) the first "@"
// before any "/" ends the password, whatever the password contains. For other schemes (net/url) "?" and "/"
// end the host before "@" is looked for.
func splitURL(text string) urlParts {
	var p urlParts
	var rest string
	p.scheme, rest, _ = strings.Cut(text, "://")
	if p.isPostgres() {
		if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
			p.user, rest = rest[:i], rest[i+1:]
		}
	}
	rest, p.query, _ = strings.Cut(rest, "?")
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		rest, p.path = rest[:i], rest[i:]
	}
	p.hosts = rest
	if i := strings.LastIndexByte(rest, '@'); i >= 0 && !p.isPostgres() {
		p.user, p.hosts = rest[:i], rest[i+1:]
	}
	return p
}

func (p urlParts) isPostgres() bool { return p.scheme == "postgres" || p.scheme == "postgresql" }

var errURLMark = errors.New("has a password that ends early: write %23 for # in it, %40 for @, %2F for /, %3F for ? and %25 for %")

// readOneWay returns an error for a URL whose password ends too early for the library that reads it. The
// library would take the rest of the password for hosts and names, and would show those.
func readOneWay(text string) error {
	if isKeywords(text) {
		return nil // a password in it is quoted, not escaped
	}
	p := splitURL(text)
	after := p.hosts + p.path + p.query
	if strings.Contains(after, "@") || strings.Contains(text, "#") && !p.isPostgres() {
		return errURLMark
	}
	return nil
}

// redact returns a URL without the parts that are or may be secret: everything before the hosts, except a
// user of PostgreSQL, and all query parameters that are not known to be harmless. If a text can be split in
// two ways, it shows the scheme only.
func redact(text string) string {
	p := splitURL(text)
	if !slices.Contains([]string{"postgres", "postgresql", "smtp", "smtps", "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"}, p.scheme) {
		return "(hidden)"
	}
	if readOneWay(text) != nil || !plain(p.hosts, ".-_:,[]%") || !plain(p.path, ".-_/") {
		return p.scheme + "://" + hidden
	}
	user := ""
	if p.user != "" || strings.Contains(text, "@") {
		user = hidden + "@"
		if name, _, withPassword := strings.Cut(p.user, ":"); p.isPostgres() && plain(name, ".-_") {
			user = name + "@"
			if withPassword {
				user = name + ":" + hidden + "@"
			}
		}
	}
	var query []string
	for pair := range strings.SplitSeq(p.query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		switch {
		case pair == "":
		case harmless(name) && plain(value, ".-_:/,"):
			query = append(query, pair)
		case !slices.Contains(query, hidden):
			query = append(query, hidden)
		}
	}
	shown := p.scheme + "://" + user + p.hosts + p.path
	if len(query) > 0 {
		shown += "?" + strings.Join(query, "&")
	}
	return shown
}

// harmless reports whether a parameter is one that people look for in the output of `latchkey config`, and
// that is no secret.
func harmless(name string) bool {
	return slices.Contains([]string{
		"sslmode", "sslrootcert", "host", "hostaddr", "port", "dbname", "target_session_attrs", "application_name", "connect_timeout", "search_path",
		"pool_max_conns", "starttls", "auth", "smtputf8", "db", "protocol", "pool_size", "min_idle_conns", "max_retries", "dial_timeout", "read_timeout", "write_timeout", "skip_verify",
	}, name)
}

// plain reports whether text consists of ASCII letters, digits and these marks.
func plain(text, marks string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(marks, r)
	})
}
