// Package devstack starts PostgreSQL and redis-server as child processes of this one, for `latchkey dev` and for tests.
//
// The servers listen on unix sockets in a private directory and on no network port. They end with the process
// that started them, even if it is killed: on Linux the kernel sends them a signal; on other systems the next
// start on the same data ends them. A data directory is locked as long as any process of its server lives. A
// start after a crash therefore waits for the old server instead of corrupting its files.
//
// PostgreSQL refuses to run as root. A root process therefore runs its servers as the owner of the data
// directory, or of the nearest existing directory above it. If that is root, they run as the user postgres,
// or as nobody if there is no such user.
package devstack

import "errors"

var (
	// ErrNoPostgres is wrapped in the error of [StartPostgres] if no usable PostgreSQL was found. The text
	// says how to install one.
	ErrNoPostgres = errors.New("no usable PostgreSQL found")

	// ErrNoRedis is wrapped in the error of [StartRedis] if PATH has neither redis-server nor valkey-server.
	ErrNoRedis = errors.New("no redis-server found on PATH")
)
