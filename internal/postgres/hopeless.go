package postgres

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// hopelessCode is Hopeless for what the server, or a pooler before it, answers.
func hopelessCode(err error) string {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return ""
	}
	switch pg.Code {
	case "28P01", "28000":
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

// HopelessTLS says why no TLS connection comes about, however long one waits, "" if err is of another kind.
func HopelessTLS(err error) string {
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &unknown):
		return "no authority that is trusted here has signed its certificate (one of your own is named by sslrootcert in the URL of PostgreSQL, and by LATCHKEY_REDIS_CA_FILE)"
	case errors.As(err, &name):
		return "its certificate is for another name (" + name.Error() + ")"
	case errors.As(err, &invalid):
		return "its certificate is not valid (" + invalid.Error() + ")"
	case errors.As(err, &record):
		return "it does not speak TLS on this port"
	case errors.As(err, &alert):
		return "it ended the TLS handshake (" + alert.Error() + ")"
	case err != nil && strings.Contains(err.Error(), "server refused TLS connection"):
		return "it does not speak TLS"
	}
	return ""
}
