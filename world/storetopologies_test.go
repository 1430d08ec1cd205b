//go:build world

package world

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/devstack"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// redisServer is a running server of a package.
type redisServer struct {
	addr string
	stop func() // kills it
}

// portPair returns a free port whose cluster port, 10000 above it, is free too and outside the range that the kernel
// gives to others.
func portPair(t *testing.T) int {
	t.Helper()
	for range 100 {
		random, err := rand.Int(rand.Reader, big.NewInt(10000))
		check(t, err)
		port := 12000 + int(random.Int64())
		free := true
		for _, one := range []int{port, port + 10000} {
			listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(one))
			if err != nil {
				free = false
				continue
			}
			_ = listener.Close()
		}
		if free {
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// startRedis runs a server with these arguments; with --sentinel it is a Sentinel.
func startRedis(t *testing.T, programs storePrograms, args ...string) *redisServer {
	t.Helper()
	port := strconv.Itoa(portPair(t))
	r := &redisServer{addr: "127.0.0.1:" + port}
	dir := t.TempDir()
	first := []string{"--port", port, "--bind", "127.0.0.1", "--dir", dir}
	if len(args) > 0 && args[0] == "--sentinel" {
		config := filepath.Join(dir, "sentinel.conf")
		check(t, os.WriteFile(config, fmt.Appendf(nil, "port %s\nbind 127.0.0.1\ndir %s\n%s", port, dir, args[1]), 0o600))
		first, args = []string{config, "--sentinel"}, nil
	} else {
		first = append(first, "--save", "", "--appendonly", "no")
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(programs.dir, "redis-server"), append(first, args...)...)
	var log tail
	cmd.Stdout, cmd.Stderr = &log, &log
	check(t, cmd.Start())
	r.stop = sync.OnceFunc(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Logf("%s:\n%s", r.addr, log.text())
		}
	})
	client := r.client(t)
	testenv.Eventually(t, startTime, "redis-server answers", func() bool { return client.Ping(t.Context()).Err() == nil })
	info, err := client.Info(t.Context(), "server").Result()
	check(t, err)
	if version, _, _ := strings.Cut(programs.version[strings.Index(programs.version, ":")+1:], "-"); !strings.Contains(info, "_version:"+strings.TrimSuffix(version, "+dfsg1")) {
		t.Fatalf("the server is not %s:\n%s", programs.version, info)
	}
	return r
}

func (r *redisServer) client(t *testing.T) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: r.addr})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

var (
	offsetOfPrimary = regexp.MustCompile(`(?m)^master_repl_offset:(\d+)`)
	offsetOfReplica = regexp.MustCompile(`(?m)^slave\d+:.*state=online,offset=(\d+)`)
)

// replicated waits until so many replicas have everything that the primary has now.
func (r *redisServer) replicated(t *testing.T, replicas int) {
	t.Helper()
	client := r.client(t)
	offsets := func(which *regexp.Regexp) (found []int) {
		info, err := client.Info(t.Context(), "replication").Result()
		check(t, err)
		for _, match := range which.FindAllStringSubmatch(info, -1) {
			offset, err := strconv.Atoi(match[1])
			check(t, err)
			found = append(found, offset)
		}
		return found
	}
	has := offsets(offsetOfPrimary)[0]
	testenv.Eventually(t, startTime, "the replicas have everything", func() bool {
		n := 0
		for _, offset := range offsets(offsetOfReplica) {
			if offset >= has {
				n++
			}
		}
		return n >= replicas
	})
}

// oneRedis is the simplest topology.
func oneRedis(t *testing.T, table *storesTable, name string, of storePrograms) {
	t.Helper()
	mails, server := catchMails(t), startRedis(t, of)
	environ := storeEnviron(t, testenv.EmptyDatabase(t), "redis://"+server.addr+"/0", mails)
	newCustomer(t, serve(t, environ), serve(t, environ), "ada@example.com").live(mails)
	table.add(name, of, "one server", "ok")
}

// An operator who wants a quick failover sets both like this: Redis' own defaults are 30 s and 15 s.
const (
	sentinelDownAfter  = 2 * time.Second
	clusterNodeTimeout = 2 * time.Second
)

// sentinel is a primary, two replicas and three Sentinels; the primary is killed.
func sentinel(t *testing.T, table *storesTable, name string, of storePrograms) {
	t.Helper()
	mails := catchMails(t)
	primary := startRedis(t, of)
	host, port, _ := net.SplitHostPort(primary.addr)
	for range 2 {
		startRedis(t, of, "--replicaof", host+" "+port)
	}
	var sentinels []string
	for range 3 {
		sentinel := startRedis(t, of, "--sentinel", fmt.Sprintf("sentinel monitor mymaster %s %s 2\nsentinel down-after-milliseconds mymaster %d\nsentinel failover-timeout mymaster 5000\n",
			host, port, sentinelDownAfter.Milliseconds()))
		sentinels = append(sentinels, sentinel.addr)
	}
	for _, addr := range sentinels {
		client := (&redisServer{addr: addr}).client(t)
		testenv.Eventually(t, startTime, "the Sentinels know each other and the replicas", func() bool {
			info, err := client.Info(t.Context(), "sentinel").Result()
			return err == nil && strings.Contains(info, "status=ok") && strings.Contains(info, "slaves=2,sentinels=3")
		})
	}
	environ := storeEnviron(t, testenv.EmptyDatabase(t), "redis+sentinel://"+strings.Join(sentinels, ",")+"/mymaster/0", mails)
	one, other := serve(t, environ), serve(t, environ)
	outage := failOver(t, one, other, mails, sentinelDownAfter, func(string) { primary.replicated(t, 2) }, primary.stop)
	table.add(name, of, "Sentinel: 1 primary, 2 replicas, 3 Sentinels with `down-after-milliseconds 2000`; the primary is killed", outage)
}

// cluster is three masters with a replica each; the master that holds the customer's session is killed.
func cluster(t *testing.T, table *storesTable, name string, of storePrograms) {
	t.Helper()
	mails := catchMails(t)
	nodes := map[string]*redisServer{}
	var addrs []string
	for range 6 {
		node := startRedis(t, of, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", strconv.FormatInt(clusterNodeTimeout.Milliseconds(), 10))
		nodes[node.addr] = node
		addrs = append(addrs, node.addr)
	}
	create := append(append([]string{"--cluster", "create"}, addrs...), "--cluster-replicas", "1", "--cluster-yes")
	command(t, startTime, nil, filepath.Join(of.dir, "redis-cli"), create...)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	t.Cleanup(func() { _ = client.Close() })
	for _, node := range nodes {
		direct := node.client(t)
		testenv.Eventually(t, startTime, "the node sees a cluster that is up", func() bool {
			info, err := direct.ClusterInfo(t.Context()).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:6")
		})
	}
	environ := storeEnviron(t, testenv.EmptyDatabase(t), "redis://"+strings.Join(addrs, ","), mails)
	one, other := serve(t, environ), serve(t, environ)
	var master *redisServer
	outage := failOver(t, one, other, mails, clusterNodeTimeout, func(session string) {
		holder, err := client.MasterForKey(t.Context(), "latchkey:session:{"+session+"}")
		check(t, err)
		if n, err := holder.Exists(t.Context(), "latchkey:session:{"+session+"}").Result(); err != nil || n != 1 {
			t.Fatalf("%d sessions at its master: %v", n, err)
		}
		master = nodes[holder.Options().Addr]
		master.replicated(t, 1)
	}, func() { master.stop() })
	table.add(name, of, "Cluster: 3 masters, 3 replicas with `cluster-node-timeout 2000`; a master is killed", outage)
}

// failOver makes all calls of a customer before, during and after the loss of the primary that holds the session, which
// settle receives. Ended sessions stay ended; a session that the replicas had continues.
func failOver(t *testing.T, one, other *service, mails *catcher, detects time.Duration, settle func(session string), lose func()) (seen string) {
	t.Helper()
	ada := newCustomer(t, one, other, "ada@example.com")
	session, password := ada.live(mails)
	settle(session.GetSessionId())
	outage, session := ada.outage(session, lose)
	ada.staysEnded()
	ada.are(ada.one, true, session)
	ada.are(ada.other, true, ada.login(ada.one, password))
	newCustomer(t, other, one, "grace@example.com").live(mails)
	// Redis needs detects to notice, and some seconds to choose another primary and to announce it.
	if outage > detects+15*time.Second {
		t.Errorf("writes were refused for %s", outage)
	}
	return fmt.Sprintf("ok before and after, also with a session from before; writes refused for %.1f s", outage.Seconds())
}

// onPostgres runs the migrations in both directions, and two replicas.
func onPostgres(t *testing.T, table *storesTable, major string, of storePrograms) {
	t.Helper()
	mails := catchMails(t)
	scratch, err := devstack.NewScratch(os.TempDir())
	check(t, err)
	t.Cleanup(func() { check(t, scratch.Remove()) })
	server, err := devstack.StartPostgres(t.Context(), devstack.PostgresConfig{DataDir: filepath.Join(scratch.Dir, "data"), BinDir: of.dir})
	check(t, err)
	t.Cleanup(func() { check(t, server.Stop(context.WithoutCancel(t.Context()))) })
	check(t, server.EnsureDatabase(t.Context(), "latchkey"))
	database := server.URL("latchkey")
	conn, err := pgx.Connect(t.Context(), database)
	check(t, err)
	var version string
	check(t, conn.QueryRow(t.Context(), "SHOW server_version").Scan(&version))
	check(t, conn.Close(t.Context()))
	if number, _, _ := strings.Cut(version, "."); number != major {
		t.Fatalf("PostgreSQL %s runs", version)
	}
	environ := storeEnviron(t, database, testenv.RealRedis(t), mails, "LATCHKEY_MIGRATE=false")

	if said := refused(t, environ, "serve"); !strings.Contains(said, "latchkey migrate up") {
		t.Errorf("serve on an empty database says %s", said)
	}
	latchkey(t, environ, "migrate", "up")
	if said := latchkey(t, environ, "migrate", "status"); strings.Contains(said, "pending") || !strings.Contains(said, "applied") {
		t.Errorf("after migrate up:\n%s", said)
	}
	t.Run("serve", func(t *testing.T) {
		newCustomer(t, serve(t, environ), serve(t, environ), "ada@example.com").live(mails)
		if said := refused(t, environ, "migrate", "down", "--yes"); !strings.Contains(said, "replica") {
			t.Errorf("migrate down beside replicas says %s", said)
		}
	})
	// Nobody answers the question.
	cmd := exec.CommandContext(t.Context(), binary(t), "migrate", "down")
	cmd.Env = environ
	if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.ExitCode() != 2 || !bytes.Contains(out, []byte("--yes")) {
		t.Errorf("migrate down that nobody answers: %v: %s", err, out)
	}
	if said := latchkey(t, environ, "migrate", "status"); strings.Contains(said, "pending") {
		t.Errorf("it changed something:\n%s", said)
	}
	latchkey(t, environ, "migrate", "down", "--yes")
	if said := latchkey(t, environ, "migrate", "status"); strings.Count(said, "pending") != 1 {
		t.Errorf("after migrate down:\n%s", said)
	}
	latchkey(t, environ, "migrate", "up")
	t.Run("serve again", func(t *testing.T) {
		newCustomer(t, serve(t, environ), serve(t, environ), "grace@example.com").live(mails)
	})
	table.add("PostgreSQL "+major, of, "`migrate up`, `status`, `down` (refused beside replicas, asks), `up`", "ok")
}

// latchkey runs a command that must succeed, and returns its output.
func latchkey(t *testing.T, environ []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary(t), args...)
	cmd.Env = environ
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("latchkey %v: %v\n%s", args, err, out)
	}
	return string(out)
}
