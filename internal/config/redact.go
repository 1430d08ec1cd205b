package config

import (
	"errors"
	"slices"
	"strings"
)

const hidden = "xxxxx"

// urlParts are the parts of a URL as its reader takes them.
type urlParts struct{ scheme, user, hosts, path, query string }

// splitURL does what the reader of the scheme does: for PostgreSQL the first "@" before any "/" ends the
// password, as in libpq and pgx, whatever else is in it; for others "?" and "/" end the host before it is
// looked for, as in net/url.
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

// readOneWay refuses a URL whose password ends before its own end for the reader of the URL, who would take
// the rest for hosts and names, and show those.
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

// redact returns a URL without the parts that are or may be secret: all before the hosts except a user of
// PostgreSQL, and all query parameters that are not known to be harmless. Of a text that can be read in two
// ways it shows the scheme only.
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

// harmless lists parameters that people look for when they ask what is in force.
func harmless(name string) bool {
	return slices.Contains([]string{
		"sslmode", "sslrootcert", "host", "hostaddr", "port", "dbname", "target_session_attrs", "application_name", "connect_timeout", "search_path",
		"pool_max_conns", "starttls", "auth", "smtputf8", "db", "protocol", "pool_size", "min_idle_conns", "max_retries", "dial_timeout", "read_timeout", "write_timeout", "skip_verify",
	}, name)
}

// plain says whether text has only letters and digits of ASCII, and marks.
func plain(text, marks string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(marks, r)
	})
}
