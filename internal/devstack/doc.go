// Package devstack starts PostgreSQL and redis-server as child processes of this one, for `latchkey dev` and
// for tests.
//
// The servers listen on unix sockets in a private directory and on no network port. They end with the process
// that started them, also when it is killed: on Linux the kernel signals them, elsewhere the next start on
// the same data ends what is left. A data directory is locked for as long as any process of its server lives,
// so a start that follows a crash waits for the old server instead of corrupting its files.
//
// PostgreSQL refuses to run as root. A root process therefore runs its servers as the owner of the data
// directory or of the nearest existing directory above it, or where that is root as the user postgres, else
// nobody.
package devstack

import "errors"

var (
	// ErrNoPostgres is wrapped by what [StartPostgres] returns when no usable PostgreSQL was found; the text
	// says how to install one.
	ErrNoPostgres = errors.New("no usable PostgreSQL found")

	// ErrNoRedis is wrapped by what [StartRedis] returns when PATH has no redis-server (nor valkey-server).
	ErrNoRedis = errors.New("no redis-server found on PATH")
)
