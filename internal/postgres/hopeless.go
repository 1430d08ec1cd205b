package postgres

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// hopelessCode is Hopeless for errors that the server or a pooler returned.
func hopelessCode(err error) string {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return ""
	}
	switch pg.Code {
	case "28000":
		switch {
		case strings.Contains(pg.Message, "client certificate"):
			return "it asks for a certificate of the client, signed by an authority that it trusts: name yours by sslcert and sslkey in the URL (" + pg.Message + ")"
		case strings.Contains(pg.Message, "no encryption"):
			return "it takes no connection without TLS from here: set sslmode=verify-full in the URL (" + pg.Message + ")"
		}
		return "it refuses the role or its password (" + pg.Message + ")"
	case "28P01":
		return "it refuses the role or its password (" + pg.Message + ")"
	case "3D000":
		return "the database is not there (" + pg.Message + ")"
	case "08P01", "42704", "22023":
		return "it refuses what the URL asks for (" + pg.Message + ")"
	case "42501":
		return "the role lacks a right (" + pg.Message + ")"
	}
	return ""
}

// standby is the reason for a server that is not the primary.
const standby = "it is a standby, or read-only, and takes no writes: name the primary, or all hosts and target_session_attrs=read-write"

// Explain returns what is wrong with the server or its URL if a command failed because of that, or "" if it failed for
// another reason. Unlike [Hopeless] it is for commands that try only once, so it also names a server that may still
// become the primary.
func Explain(err error) string {
	if IsReadOnly(err) {
		return standby
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return Hopeless(err)
	}
	return ""
}

// HopelessTLS returns why a TLS connection is impossible however long one waits, or "" if err is of another kind.
func HopelessTLS(err error) string {
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	var alert *net.OpError
	switch {
	case errors.As(err, &unknown):
		return "no authority that is trusted here has signed its certificate (one of your own is named by sslrootcert in the URL of PostgreSQL, and by LATCHKEY_REDIS_CA_FILE)"
	case errors.As(err, &name):
		return "its certificate is for another name (" + name.Error() + ")"
	case errors.As(err, &invalid):
		return "its certificate is not valid (" + invalid.Error() + ")"
	case errors.As(err, &record):
		return "it does not speak TLS on this port"
	case errors.As(err, &alert) && alert.Op == "remote error": // the error that crypto/tls makes from the peer's alert
		return "it ended the TLS handshake (" + alert.Err.Error() + ")"
	case err != nil && strings.Contains(err.Error(), "server refused TLS connection"):
		return "it does not speak TLS"
	}
	return ""
}
