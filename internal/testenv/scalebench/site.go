package main

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/devstack"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/session"
	"github.com/latchkey-auth/latchkey/internal/testenv/benchkit"
	"github.com/latchkey-auth/latchkey/server/page"
)

const (
	adminKey        = "the admin key of a bench"
	accountPassword = "correct horse battery staple"
	// stopPatience is for a PostgreSQL with gigabytes in its buffers.
	stopPatience = 2 * time.Minute
)

// stand is one machine with the stores of all sites.
type stand struct {
	o        options
	dir      string
	program  string
	hash     string // of accountPassword, with the service's parameters
	secret   string
	postgres *devstack.Postgres
	undo     benchkit.Undo
	sites    []*site // the large one, then the small one
	progress func(format string, args ...any)
}

// site is one database with its Redis and its Latchkey.
type site struct {
	name                     string
	accounts, sessions, rows int64
	stand                    *stand

	url       string
	pool      *pgxpool.Pool
	redis     *redis.Client
	redisURL  string
	store     *session.Store
	pages     page.Tokens
	environ   []string
	serve     *benchkit.Latchkey
	conns     []*grpc.ClientConn
	logins    *logins
	redisUsed [2]int64 // bytes before and after its sessions were loaded
}

// subkey derives a key as internal/app does, so that loaded sessions and made page tokens are good. The check of the
// loaded data notices if the labels differ.
func (st *stand) subkey(label string) ([]byte, error) {
	secret, err := base64.StdEncoding.DecodeString(st.secret)
	if err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, secret, nil, "latchkey "+label, 32)
}

// startPostgres starts PostgreSQL with the settings of a machine that is its own; the rest are defaults. It waits for
// the disk at each commit.
func (st *stand) startPostgres(ctx context.Context) (err error) {
	st.postgres, err = devstack.StartPostgres(ctx, devstack.PostgresConfig{
		DataDir: filepath.Join(st.dir, "postgres"), Durable: true,
		Settings: map[string]string{
			"shared_buffers": st.o.sharedBuffers, "maintenance_work_mem": "512MB", "max_wal_size": "1GB", "checkpoint_timeout": "30min",
		},
	})
	return err
}

// open makes the database, the Redis and the schema of a site.
func (s *site) open(ctx context.Context) error {
	st := s.stand
	if err := st.postgres.EnsureDatabase(ctx, s.name); err != nil {
		return err
	}
	server, err := devstack.StartRedis(ctx, devstack.RedisConfig{DataDir: filepath.Join(st.dir, "redis-"+s.name), AppendOnly: true})
	if err != nil {
		return err
	}
	st.undo.Stop(ctx, server.Stop)
	s.redisURL = server.URL()
	address, err := redis.ParseURL(s.redisURL)
	if err != nil {
		return err
	}
	address.PoolSize = sessionWriters
	s.redis = redis.NewClient(address)
	st.undo.Add(s.redis.Close)
	s.moved()
	mac, err := st.subkey("refresh token mac")
	if err != nil {
		return err
	}
	s.store, err = session.New(session.Config{
		Redis: s.redis, MACKeys: [][]byte{mac}, IdleTTL: 7 * 24 * time.Hour, MaxTTL: 30 * 24 * time.Hour, Grace: 10 * time.Second, Limit: 50,
	})
	if err != nil {
		return err
	}
	pageKey, err := st.subkey("page token")
	if err != nil {
		return err
	}
	if s.pages, err = page.New(pageKey); err != nil {
		return err
	}
	migrate := exec.CommandContext(ctx, st.program, "migrate", "up") //nolint:gosec // G204: the binary that is measured
	migrate.Env = s.environ
	if text, err := migrate.CombinedOutput(); err != nil {
		return fmt.Errorf("migrate: %w\n%s", err, text)
	}
	return s.connect(ctx)
}

// moved sets what depends on PostgreSQL's address, which another start changes.
func (s *site) moved() {
	s.url = s.stand.postgres.URL(s.name)
	sum := sha256.Sum256([]byte(adminKey))
	s.environ = append(benchkit.Settings(s.url, s.redisURL, s.stand.secret),
		"LATCHKEY_ADMIN_KEY_SHA256="+hex.EncodeToString(sum[:]), "LATCHKEY_NEW_DEVICE_MAILS=false")
}

// connect opens the pool, with the settings of the service's own.
func (s *site) connect(ctx context.Context) (err error) {
	s.pool, err = postgres.Open(ctx, postgres.Config{URL: s.url, MaxConns: 20})
	return err
}

// begin starts the Latchkey of a site.
func (s *site) begin(ctx context.Context) (err error) {
	if s.serve, err = s.start(ctx); err != nil {
		return err
	}
	s.conns = nil
	s.stand.undo.Add(s.serve.End)
	for range callers {
		conn, err := grpc.NewClient("passthrough:///"+s.serve.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		s.stand.undo.Add(conn.Close)
		s.conns = append(s.conns, conn)
	}
	return nil
}

func (s *site) start(ctx context.Context) (*benchkit.Latchkey, error) {
	return benchkit.Serve(ctx, s.name, filepath.Join(s.stand.dir, s.name+".log"), s.environ, s.stand.program)
}

func (s *site) auth(caller int) latchkeyv1.AuthServiceClient {
	return latchkeyv1.NewAuthServiceClient(s.conns[caller%len(s.conns)])
}

func (s *site) admin(caller int) latchkeyv1.AdminServiceClient {
	return latchkeyv1.NewAdminServiceClient(s.conns[caller%len(s.conns)])
}

func bearer(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// connectLoading opens a connection whose triggers are off, for loading.
func (s *site) connectLoading(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return nil, err
	}
	// What triggers do for rows of the service is in the loaded rows already.
	_, err = conn.Exec(ctx, "SET session_replication_role = replica; SET synchronous_commit = off; SET maintenance_work_mem = '512MB'")
	return conn, err
}

// forget drops PostgreSQL's files from the kernel's cache, so that the next reading is one of the disk. The server must
// not run.
func (st *stand) forget() error {
	return filepath.WalkDir(filepath.Join(st.dir, "postgres"), func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		return dropCached(path)
	})
}
