package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

const redisSocket = "redis.sock"

// RedisConfig says what to start.
type RedisConfig struct {
	// DataDir keeps the append-only file. It is required with AppendOnly and unused without. The lock file is
	// its path with ".lock" appended. [CheckDir] says which directories a root process can use.
	DataDir string
	// AppendOnly writes every change to DataDir, and to the disk every second. Without it the data is lost
	// when the server ends.
	AppendOnly bool
	// LogFile is appended to. Its directory must exist. If it is empty, the log is deleted with the server.
	LogFile string
	// Bin is the program. If it is empty, PATH is searched for redis-server and then for valkey-server.
	Bin string
}

// Redis is a running server: redis-server, or the replacement of [StartMiniredis].
type Redis struct {
	url     string
	stop    func(context.Context) error
	done    <-chan struct{}
	whyDone func() error
}

// FindRedis returns the program that [StartRedis] uses by default, or [ErrNoRedis].
func FindRedis() (string, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if program, err := exec.LookPath(name); err == nil {
			return program, nil
		}
	}
	return "", ErrNoRedis
}

// StartRedis starts a redis-server and returns when it answers. Like [StartPostgres] it waits for the server
// of a killed process, and its errors contain the last lines of the server's log. Without a program the error
// is [ErrNoRedis]. ctx bounds the start only.
func StartRedis(ctx context.Context, cfg RedisConfig) (*Redis, error) {
	if runtime.GOOS == "windows" {
		return nil, fmt.Errorf("starting redis-server on Windows: %w", errors.ErrUnsupported)
	}
	program, err := cfg.program()
	if err != nil {
		return nil, err
	}
	start := launch{
		logFile: cfg.LogFile,
		socket:  redisSocket,
		// The server writes every change to the kernel before it answers, so SIGKILL loses nothing. redis-server can
		// ignore SIGTERM: it keeps running until its first append-only file is written, for ever if that is impossible.
		onDeath: syscall.SIGKILL,
		// There is nothing to save, so the server is killed: an orderly end of redis-server takes up to 100 ms.
		signals:   []syscall.Signal{syscall.SIGKILL},
		arguments: cfg.arguments,
		ready:     func(_ int, socketDir string) bool { return answersPing(ctx, filepath.Join(socketDir, redisSocket)) },
	}
	owner := os.TempDir()
	if cfg.AppendOnly {
		if cfg.DataDir == "" {
			return nil, errors.New("RedisConfig.AppendOnly needs a DataDir")
		}
		if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
			return nil, fmt.Errorf("resolve the data directory: %w", err)
		}
		owner = cfg.DataDir
		start.dataDir = cfg.DataDir
		start.signals = []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}
	}
	if start.acct, err = accountFor(owner); err != nil {
		return nil, err
	}
	start.arguments = cfg.arguments
	start.prepare = func(context.Context, *fileLock) (string, error) { return program, cfg.prepareData(start.acct) }
	running, err := start.run(ctx)
	if err != nil {
		return nil, err
	}
	return &Redis{
		url:     "unix://" + filepath.Join(running.socketDir, redisSocket) + "?db=0",
		stop:    running.Stop,
		done:    running.Done(),
		whyDone: running.Err,
	}, nil
}

func (cfg RedisConfig) program() (string, error) {
	if cfg.Bin == "" {
		return FindRedis()
	}
	program, err := exec.LookPath(cfg.Bin)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoRedis, err)
	}
	return program, nil
}

// prepareData makes the data directory.
func (cfg RedisConfig) prepareData(acct account) error {
	if !cfg.AppendOnly {
		return nil
	}
	err := os.Mkdir(cfg.DataDir, 0o700)
	switch {
	case err == nil:
		return acct.own(cfg.DataDir)
	case errors.Is(err, os.ErrExist):
		return nil
	default:
		return fmt.Errorf("create the data directory: %w", acct.explain(err, cfg.DataDir))
	}
}

// arguments returns the arguments of the program redis-server.
func (cfg RedisConfig) arguments(socketDir string) []string {
	args := []string{
		"--port", "0", "--unixsocket", filepath.Join(socketDir, redisSocket), "--unixsocketperm", "700",
		"--daemonize", "no", "--save", "",
	}
	if cfg.AppendOnly {
		return append(args, "--dir", cfg.DataDir, "--appendonly", "yes", "--appendfsync", "everysec")
	}
	return append(args, "--dir", socketDir, "--appendonly", "no")
}

// answersPing returns false while the server reads its append-only file: it answers -LOADING then.
func answersPing(ctx context.Context, socket string) bool {
	const patience = time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return false
	}
	answer := make([]byte, len("+PONG"))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return false
	}
	return string(answer) == "+PONG"
}

// URL returns the server's address in the form that go-redis reads, with the password if there is one.
func (r *Redis) URL() string { return r.url }

// Stop ends the server and waits until it is gone. With AppendOnly, everything is on the disk then. If ctx
// ends first, the server is killed. Only the first call does anything.
func (r *Redis) Stop(ctx context.Context) error { return r.stop(ctx) }

// Done returns a channel that is closed when the server has ended, by itself or because of Stop.
func (r *Redis) Done() <-chan struct{} { return r.done }

// Err returns why the server stopped by itself, with the last lines of its log. It returns nil while the
// server runs and after Stop.
func (r *Redis) Err() error { return r.whyDone() }
