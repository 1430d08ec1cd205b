package config

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var errRedisComma = errors.New("has a comma in its password, or credentials before a later address: write %2C for , and give credentials before the first address only")

// checkRedisHosts checks what go-redis does not check until it connects.
func checkRedisHosts(text string) error {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("has a line break or another control character in it")
	}
	parts := splitURL(text)
	if parts.scheme == "unix" {
		return nil
	}
	if strings.Contains(parts.user, ",") {
		return errRedisComma
	}
	hosts := strings.Split(parts.hosts, ",")
	for i, host := range hosts {
		wrong := wrongRedisHost(host)
		switch {
		case wrong != "" && len(hosts) > 1:
			return fmt.Errorf("has %s in address %d of %d", wrong, i+1, len(hosts))
		case wrong != "":
			return errors.New("has " + wrong)
		case host == "" && len(hosts) > 1:
			return errors.New("has an empty address between commas")
		}
	}
	return nil
}

func wrongRedisHost(host string) string {
	const port = "a port that is not a number from 1 to 65535"
	parsed, err := url.Parse("redis://" + host)
	switch {
	case err != nil && strings.Contains(err.Error(), "invalid port"):
		return port
	case err != nil && strings.Contains(host, ":") && strings.Count(host, "[") != strings.Count(host, "]"):
		return "a host with a bracket that is not closed"
	case err != nil:
		return "a host with a character that hosts do not have"
	case parsed.Port() == "":
		return ""
	}
	if n, err := strconv.ParseUint(parsed.Port(), 10, 16); err != nil || n == 0 {
		return port
	}
	return ""
}

// wrongRedis says which part of a URL go-redis or net/url refused. Their own errors contain parts of the URL,
// so it takes only names of options from them.
func wrongRedis(text string, said error) error {
	parts := splitURL(text)
	user, password, _ := strings.Cut(parts.user, ":")
	for _, part := range []struct{ name, text string }{
		{"password", password}, {"user", user}, {"path", parts.path},
	} {
		if _, err := url.PathUnescape(part.text); err != nil {
			return fmt.Errorf("has a %s with a %% that begins no escape: write %%25 for it, and percent-encode other special characters too", part.name)
		}
	}
	words := said.Error()
	switch {
	case strings.Contains(words, "invalid userinfo"):
		return errors.New("has a user or password with a character that must be percent-encoded: anything but letters, digits and -._~!$&'()*+;=")
	case strings.Contains(words, "empty unix socket path"):
		return errors.New("names no socket")
	case strings.Contains(words, "invalid database number"), strings.Contains(words, "invalid URL path"):
		return errors.New("has a database that is not a number")
	}
	if bad := regexp.MustCompile(`^redis: invalid ([a-z_]+) (number|duration|boolean)`).FindStringSubmatch(words); bad != nil {
		wanted := map[string]string{"number": "a number", "duration": "a number of seconds or a duration such as 500ms", "boolean": "true or false"}
		return fmt.Errorf("has an option %s that is not %s", bad[1], wanted[bad[2]])
	}
	if names, ok := strings.CutPrefix(words, "redis: unexpected option: "); ok {
		return errors.New("has an unknown option: " + whichOption(parts.query, strings.Split(names, ", ")))
	}
	return errRedisURL
}

// whichOption names the first unknown option by its number and by the option that was probably meant. It does
// not repeat the name, which may be the rest of a password.
func whichOption(query string, unknown []string) string {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		name, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
		if !slices.Contains(unknown, name) {
			continue
		}
		which := fmt.Sprintf("number %d of %d", i+1, len(pairs))
		for _, known := range redisOptions() {
			if isNear(name, known) {
				return which + ", where " + known + " may be meant"
			}
		}
		return which
	}
	return "one of them"
}

// redisOptions returns the options that people set.
func redisOptions() []string {
	return []string{
		"db", "protocol", "client_name", "max_retries", "min_retry_backoff", "max_retry_backoff", "dial_timeout", "read_timeout", "write_timeout",
		"pool_fifo", "pool_size", "pool_timeout", "min_idle_conns", "max_idle_conns", "max_active_conns", "conn_max_idle_time", "conn_max_lifetime",
		"skip_verify", "sentinel_username", "sentinel_password",
	}
}

// isNear reports whether the names differ in one letter that was mistyped, left out or added.
func isNear(name, known string) bool {
	for len(name) > 0 && len(known) > 0 && name[0] == known[0] {
		name, known = name[1:], known[1:]
	}
	for len(name) > 0 && len(known) > 0 && name[len(name)-1] == known[len(known)-1] {
		name, known = name[:len(name)-1], known[:len(known)-1]
	}
	return len(name) <= 1 && len(known) <= 1
}
