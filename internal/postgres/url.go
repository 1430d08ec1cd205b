package postgres

import (
	"errors"
	"io/fs"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
)

// CheckURL returns an error that names the wrong part of a connection string. It contains nothing of the string.
func CheckURL(text string) error {
	_, err := pgxpool.ParseConfig(text)
	if err == nil {
		return nil
	}
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return errors.New("a file that it names cannot be read: " + file.Err.Error())
	}
	// The error of pgx contains parts of the string. It only selects one of our own texts.
	said := err.Error()
	for part, wrong := range map[string]string{
		"invalid port": "its port is not a number from 1 to 65535", "could not match": "it has not as many ports as hosts",
		"failed to configure TLS": "its sslmode or one of its certificates is not understood", "sslcertmode": "its sslcertmode has an unknown value",
		"invalid connect_timeout": "its connect_timeout is not a number of seconds", "unknown target_session_attrs": "its target_session_attrs has an unknown value",
		"invalid default_query_exec_mode": "its default_query_exec_mode has an unknown value", "cannot parse pool_": "one of its pool_ parameters is not understood",
		"pool_max_conns too small": "its pool_max_conns is under 1", "_cache_capacity": "one of its cache capacities is not a number",
		"channel_binding": "its channel_binding has an unknown value", "protocol_version": "its protocol version has an unknown value",
		"require_auth": "its require_auth is not understood", "failed to read service": "its service is in no service file",
		"failed to parse as keyword/value": "it is no URL, and is not of the form key=value key=value either",
	} {
		if strings.Contains(said, "`: "+part) || strings.Contains(said, part) && !strings.Contains(text, part) {
			return errors.New(wrong)
		}
	}
	return errors.New(wrongEscape(text))
}

// wrongEscape finds the part of a URL with a percent sign that does not begin an escape.
func wrongEscape(text string) string {
	_, rest, _ := strings.Cut(text, "://")
	user := ""
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
		user, rest = rest[:i], rest[i+1:]
	}
	name, password, _ := strings.Cut(user, ":")
	rest, query, _ := strings.Cut(rest, "?")
	hosts, database, _ := strings.Cut(rest, "/")
	for _, part := range []struct{ name, text string }{
		{"password", password}, {"user", name}, {"host", hosts}, {"database", database}, {"parameters", query},
	} {
		if _, err := url.PathUnescape(part.text); err != nil {
			return "its " + part.name + " has a % that begins no escape: write %25 for it, and escape the other reserved characters of a password likewise"
		}
	}
	if strings.Count(hosts, "[") != strings.Count(hosts, "]") {
		return "its host has a bracket that is not closed"
	}
	return "it is not of the form postgres://user:password@host:5432/database?sslmode=verify-full"
}
