//go:build unix

package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// storeUp reads the gauge of the documented alert.
func storeUp(t *testing.T, registry *prometheus.Registry, store string) float64 {
	t.Helper()
	families, _ := registry.Gather() // like the metrics page, it shows the rest while a store does not answer
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == "latchkey_store_up" && metric.GetLabel()[0].GetValue() == store {
				return metric.GetGauge().GetValue()
			}
		}
	}
	t.Fatal("no such gauge")
	return 0
}

// says waits until /readyz shows these states of the stores, and the gauges match.
func says(t *testing.T, s *testenv.Server, postgres, inRedis string) {
	t.Helper()
	want := `"postgres":"` + postgres + `","redis":"` + inRedis + `"}`
	var body string
	defer func() {
		if t.Failed() {
			t.Log(body)
		}
	}()
	testenv.Eventually(t, patience, "readyz says "+want, func() bool {
		var code int
		code, body = get(t, s.HTTP+"/readyz")
		return strings.HasSuffix(body, want+"\n") && (code == http.StatusOK) == (postgres == "ok") &&
			(storeUp(t, s.Metrics, "postgres") == 1) == (postgres == "ok") && (storeUp(t, s.Metrics, "redis") == 1) == (inRedis == "ok")
	})
}

// It still answers a PING.
func TestAttack13RedisThatTakesNoWrite(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		state        string
		damage, mend [][]any
	}{
		"a replica": {"read-only", [][]any{{"REPLICAOF", "127.0.0.1", "1"}}, [][]any{{"REPLICAOF", "NO", "ONE"}}},
		"full":      {"out of memory", [][]any{{"CONFIG", "SET", "maxmemory", "1"}}, [][]any{{"CONFIG", "SET", "maxmemory", "0"}}},
		"too few replicas": {
			"refuses writes", [][]any{{"CONFIG", "SET", "min-replicas-to-write", "1"}}, [][]any{{"CONFIG", "SET", "min-replicas-to-write", "0"}},
		},
		"no permission to write": {
			"refuses writes", [][]any{{"ACL", "SETUSER", "default", "-@write"}}, [][]any{{"ACL", "SETUSER", "default", "+@all"}},
		},
		"no permission for scripts": {
			"refuses writes", [][]any{{"ACL", "SETUSER", "default", "-@scripting"}}, [][]any{{"ACL", "SETUSER", "default", "+@all"}},
		},
		"no permission for our keys": {
			"refuses writes", [][]any{{"ACL", "SETUSER", "default", "resetkeys", "~other:*"}}, [][]any{{"ACL", "SETUSER", "default", "allkeys"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.RealRedis(t)
			s := testenv.Start(t, testenv.Options{RedisURL: url})
			tokens := account(t, s)
			do(t, s.Redis, c.damage)
			says(t, s, "ok", c.state)
			wantRefused(t, tryLogin(t.Context(), s, email, password), codes.Unavailable, "STORE_UNAVAILABLE")
			wantValid(t, s, tokens.GetAccessToken(), latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED)
			do(t, s.Redis, c.mend)
			s.Server.DropDoubts() // they would last for half a minute
			says(t, s, "ok", "ok")
		})
	}
}

// do runs commands.
func do(t *testing.T, client redis.UniversalClient, commands [][]any) {
	t.Helper()
	for _, command := range commands {
		if err := client.Do(t.Context(), command...).Err(); err != nil {
			t.Fatalf("%v: %v", command, err)
		}
	}
}

// The other errors that a server, or a proxy before it, may answer.
func TestAttack13RedisThatRefuses(t *testing.T) {
	t.Parallel()
	for reply, state := range map[string]string{
		"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.": "refuses writes",
		"MOVED 3999 127.0.0.1:6381":                             "refuses writes",
		"CLUSTERDOWN The cluster is down":                       "refuses writes",
		"LOADING Redis is loading the dataset in memory":        "refuses writes",
		"NOAUTH Authentication required.":                       "refuses writes",
		"ERR something new":                                     "refuses writes",
		"READONLY You can't write against a read only replica.": "read-only",
		"ERR Error running script (call to f_0): @user_script:4: @user_script: 4: -OOM command not allowed when used memory > 'maxmemory'.": "out of memory",
	} {
		t.Run(reply, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{RedisURL: "redis://" + refusingRedis(t, reply)})
			says(t, s, "ok", state)
		})
	}
}

// refusingRedis accepts clients and answers PING, and answers everything else with one error.
func refusingRedis(t *testing.T, reply string) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go refuseAll(conn, reply)
		}
	}()
	return l.Addr().String()
}

func refuseAll(conn net.Conn, reply string) {
	defer conn.Close() //nolint:errcheck // read from only
	in := bufio.NewReader(conn)
	for {
		var words int
		if _, err := fmt.Fscanf(in, "*%d\r\n", &words); err != nil {
			return
		}
		name := ""
		for i := range words {
			var size int
			if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
				return
			}
			word := make([]byte, size+2)
			if _, err := io.ReadFull(in, word); err != nil {
				return
			}
			if i == 0 {
				name = strings.ToLower(string(word[:size]))
			}
		}
		answer := "-" + reply
		switch name {
		case "hello":
			answer = "-ERR unknown command 'HELLO'"
		case "client":
			answer = "+OK"
		case "ping":
			answer = "+PONG"
		}
		if _, err := io.WriteString(conn, answer+"\r\n"); err != nil {
			return
		}
	}
}

// A primary that was set read-only, without a successor, and a standby. Nothing is decided with their data.
func TestAttack13ReadOnlyPostgres(t *testing.T) {
	t.Parallel()
	pair := testenv.NewPair(t)
	servers := map[string]*testenv.Server{}
	for name, url := range map[string]string{"alone": pair.PrimaryURL(), "with a standby": pair.URL()} {
		servers[name] = testenv.Start(t, testenv.Options{DatabaseURL: url, Lease: failoverLease, WallClock: true})
	}
	tokens := account(t, servers["alone"])
	pair.SetReadOnly()
	for name, s := range servers {
		t.Log(name)
		says(t, s, "read-only", "ok")
		testenv.Eventually(t, patience, "memory is not trusted", func() bool { return !s.Ledger.Trusted() })
		for _, call := range []func() error{
			func() error {
				_, err := s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: tokens.GetAccessToken()})
				return err
			},
			func() error { return tryLogin(t.Context(), s, email, password) },
		} {
			wantRefused(t, call(), codes.Unavailable, "STORE_UNAVAILABLE")
		}
	}
	// A call that needs Redis looks the account up first, so it is refused too.
	_, err := tryRefresh(t.Context(), servers["alone"], tokens.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unavailable, "STORE_UNAVAILABLE")
	wantRefused(t, tryLogout(t.Context(), servers["alone"], tokens.GetRefreshToken()), codes.Unavailable, "STORE_UNAVAILABLE")
	pair.Promote()
	says(t, servers["with a standby"], "ok", "ok")
	testenv.Eventually(t, patience, "logins work at the new primary", func() bool {
		return tryLogin(t.Context(), servers["with a standby"], email, password) == nil
	})
}

// A primary whose synchronous standby is gone answers reads, but no commit.
func TestAttack13LostStandby(t *testing.T) {
	t.Parallel()
	pair := testenv.NewPair(t)
	s := testenv.Start(t, testenv.Options{DatabaseURL: pair.URL(), Lease: failoverLease, WallClock: true})
	says(t, s, "ok", "ok")
	pair.StopStandby()
	says(t, s, "answers, but commits nothing", "ok")
}

// Calls meet a full disk, although the check's own row still has room.
func TestAttack13PostgresDiskFull(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	account(t, s)
	execSQL(t, s, `CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN RAISE 'could not extend file' USING ERRCODE = '53100'; END $$`)
	execSQL(t, s, "CREATE TRIGGER full_disk BEFORE INSERT ON audit_events EXECUTE FUNCTION full_disk()")
	wantRefused(t, tryLogin(t.Context(), s, email, password), codes.Unavailable, "STORE_UNAVAILABLE")
	says(t, s, "disk full", "ok")
	execSQL(t, s, "DROP TRIGGER full_disk ON audit_events")
	s.Server.DropDoubts() // they would last for half a minute
	says(t, s, "ok", "ok")
	// And if the check itself meets it.
	execSQL(t, s, "CREATE TRIGGER full_disk BEFORE INSERT ON store_checks EXECUTE FUNCTION full_disk()")
	says(t, s, "disk full", "ok")
}
