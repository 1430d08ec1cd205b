package testenv

import (
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/devstack"
)

// clusterPatience is how long the nodes of a cluster may take to agree.
const clusterPatience = 30 * time.Second

// RedisCluster starts three masters, each with its maxmemory-policy.
func RedisCluster(t testing.TB, policies [3]string) []*redis.Client {
	t.Helper()
	program, err := devstack.FindRedis()
	if err != nil {
		t.Skip(err)
	}
	freePort := func() string {
		free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = free.Close() }()
		_, port, _ := net.SplitHostPort(free.Addr().String())
		return port
	}
	var nodes []*redis.Client
	slots := []int{0, 5000, 11000, 16384}
	for i, policy := range policies {
		port, bus := freePort(), freePort()
		cmd := exec.CommandContext(t.Context(), program, "--port", port, "--cluster-port", bus, "--bind", "127.0.0.1", "--cluster-enabled", "yes", //nolint:gosec // G204: the program that devstack found
			"--cluster-config-file", "nodes.conf", "--save", "", "--maxmemory", "100mb", "--maxmemory-policy", policy)
		cmd.Dir = t.TempDir()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		node := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port})
		t.Cleanup(func() { _ = node.Close() })
		Eventually(t, clusterPatience, "the node has its slots", func() bool {
			return node.Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", slots[i], slots[i+1]-1).Err() == nil
		})
		// Nodes with the same epoch need time to resolve that; with different epochs they agree at once.
		if err := node.Do(t.Context(), "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			if err := nodes[0].Do(t.Context(), "CLUSTER", "MEET", "127.0.0.1", port, bus).Err(); err != nil {
				t.Fatal(err)
			}
		}
		nodes = append(nodes, node)
	}
	Eventually(t, clusterPatience, "the cluster is up", func() bool {
		for _, node := range nodes {
			if info, err := node.ClusterInfo(t.Context()).Result(); err != nil || !strings.Contains(info, "cluster_state:ok") {
				return false
			}
		}
		return true
	})
	return nodes
}
