//go:build world

package world

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/devstack"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// catcher is a mail server that keeps what it is given.
type catcher struct {
	addr  string
	mu    sync.Mutex
	mails []string
}

func catchMails(t *testing.T) *catcher {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	c := &catcher{addr: listener.Addr().String()}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { c.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); serving.Wait() })
	return c
}

// serve speaks as much of RFC 5321 as a client without extensions needs.
func (c *catcher) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(startTime))
	say := func(text string) { _, _ = io.WriteString(conn, text+"\r\n") }
	lines := bufio.NewScanner(conn)
	say("220 mail.example.com")
	for lines.Scan() {
		verb, _, _ := strings.Cut(strings.ToUpper(lines.Text()), " ")
		switch verb {
		case "DATA":
			say("354 go on")
			var mail strings.Builder
			for lines.Scan() && lines.Text() != "." {
				mail.WriteString(lines.Text() + "\n")
			}
			c.mu.Lock()
			c.mails = append(c.mails, mail.String())
			c.mu.Unlock()
			say("250 kept")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 mail.example.com")
		}
	}
}

var resetLink = regexp.MustCompile(`https://app\.example\.com/reset\?token=[\w%.-]+`)

// resetToken waits for the link that was mailed to an address.
func (c *catcher) resetToken(t *testing.T, email string) string {
	t.Helper()
	link := ""
	testenv.Eventually(t, startTime, "the reset mail is there", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, mail := range c.mails {
			// Quoted-printable: lines are broken by "=", and "=" is "=3D".
			mail = strings.ReplaceAll(strings.ReplaceAll(mail, "=\n", ""), "=3D", "=")
			if found := resetLink.FindString(mail); found != "" && strings.Contains(mail, "<"+email+">") {
				link = found
			}
		}
		return link != ""
	})
	page, err := url.Parse(link)
	check(t, err)
	return page.Query().Get("token")
}

// storeEnviron is serveEnviron with a catcher of mails and hashes that are as cheap as is allowed.
func storeEnviron(t *testing.T, database, redisURL string, mails *catcher, settings ...string) []string {
	t.Helper()
	return serveEnviron(t, redisURL, append([]string{
		"LATCHKEY_DATABASE_URL=" + database, "LATCHKEY_SMTP_URL=smtp://" + mails.addr + "?starttls=never", "LATCHKEY_ARGON2_MEMORY_KIB=7168", "LATCHKEY_ARGON2_TIME=5",
	}, settings...)...)
}

// customer is a person with sessions, at two replicas.
type customer struct {
	t          *testing.T
	email      string
	one, other latchkeyv1.AuthServiceClient
	sessions   latchkeyv1.SessionServiceClient // of other
	ended      []*latchkeyv1.Tokens
}

func newCustomer(t *testing.T, one, other *service, email string) *customer {
	t.Helper()
	there := testenv.Dial(t, other.grpc)
	return &customer{
		t: t, email: email, one: latchkeyv1.NewAuthServiceClient(testenv.Dial(t, one.grpc)), other: latchkeyv1.NewAuthServiceClient(there),
		sessions: latchkeyv1.NewSessionServiceClient(there),
	}
}

func (c *customer) login(at latchkeyv1.AuthServiceClient, password string) *latchkeyv1.Tokens {
	c.t.Helper()
	got, err := at.Login(c.t.Context(), &latchkeyv1.LoginRequest{Email: c.email, Password: password})
	check(c.t, err)
	return got.GetTokens()
}

func (c *customer) isRefused(password string) {
	c.t.Helper()
	for _, at := range []latchkeyv1.AuthServiceClient{c.one, c.other} {
		if _, err := at.Login(c.t.Context(), &latchkeyv1.LoginRequest{Email: c.email, Password: password}); status.Code(err) != codes.Unauthenticated {
			c.t.Errorf("a former password: %v", err)
		}
	}
}

// are says whether every one of these tokens is valid, or none, at a replica.
func (c *customer) are(at latchkeyv1.AuthServiceClient, valid bool, tokens ...*latchkeyv1.Tokens) {
	c.t.Helper()
	for _, one := range tokens {
		got, err := at.ValidateToken(c.t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: one.GetAccessToken()})
		if err != nil || got.GetValid() != valid {
			c.t.Errorf("a token that should be valid: %t, is: %v, %v", valid, got, err)
		}
	}
}

// end notes tokens that must be refused at both replicas from now on.
func (c *customer) end(tokens ...*latchkeyv1.Tokens) {
	c.t.Helper()
	c.ended = append(c.ended, tokens...)
	c.staysEnded()
}

func (c *customer) staysEnded() {
	c.t.Helper()
	for _, at := range []latchkeyv1.AuthServiceClient{c.other, c.one} {
		c.are(at, false, c.ended...)
		for _, tokens := range c.ended {
			if _, err := at.RefreshToken(c.t.Context(), &latchkeyv1.RefreshTokenRequest{RefreshToken: tokens.GetRefreshToken()}); status.Code(err) != codes.Unauthenticated {
				c.t.Errorf("the refresh token of an ended session: %v", err)
			}
		}
	}
}

// live goes through what a person does, each step at another replica than the one before, and returns the tokens of a
// session that stays, whose password is password.
func (c *customer) live(mails *catcher) (stays *latchkeyv1.Tokens, password string) {
	t := c.t
	t.Helper()
	ctx := t.Context()
	first, second, third := "correct horse battery", "another horse battery", "yet another horse battery"
	_, err := c.one.SignUp(ctx, &latchkeyv1.SignUpRequest{Email: c.email, Password: first, FirstName: "Ada", LastName: "L"})
	check(t, err)
	phone, laptop, tablet := c.login(c.other, first), c.login(c.one, first), c.login(c.other, first)
	c.are(c.one, true, phone, laptop, tablet)

	attempt := &latchkeyv1.RefreshTokenRequest{RefreshToken: laptop.GetRefreshToken(), RequestId: uuid.NewString()}
	refreshed, err := c.one.RefreshToken(ctx, attempt)
	check(t, err)
	repeated, err := c.other.RefreshToken(ctx, attempt)
	check(t, err)
	if refreshed.GetTokens().GetRefreshToken() != repeated.GetTokens().GetRefreshToken() {
		t.Error("a repeated refresh has another answer")
	}
	laptop = refreshed.GetTokens()

	asPhone := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+phone.GetAccessToken())
	list, err := c.sessions.ListSessions(asPhone, &latchkeyv1.ListSessionsRequest{})
	if err != nil || len(list.GetSessions()) != 3 {
		t.Fatalf("%d sessions: %v", len(list.GetSessions()), err)
	}
	_, err = c.one.Logout(ctx, &latchkeyv1.LogoutRequest{RefreshToken: tablet.GetRefreshToken()})
	check(t, err)
	c.end(tablet)

	_, err = c.one.ChangePassword(asPhone, &latchkeyv1.ChangePasswordRequest{CurrentPassword: first, NewPassword: second})
	check(t, err)
	c.end(laptop)
	c.are(c.other, true, phone)
	c.isRefused(first)

	_, err = c.other.ForgotPassword(ctx, &latchkeyv1.ForgotPasswordRequest{Email: c.email})
	check(t, err)
	_, err = c.one.ResetPassword(ctx, &latchkeyv1.ResetPasswordRequest{Token: mails.resetToken(t, c.email), NewPassword: third})
	check(t, err)
	c.end(phone)
	c.isRefused(second)
	return c.login(c.other, third), third
}

// allFlows is what is written down about live.
const allFlows = "two replicas: sign up, log in, refresh and repeat it, list, log out, change and reset the password; ends seen by both at once"

// outage takes the primary away that has a session, and says for how long the session's writes were refused, from then
// on: it is refreshed at both replicas in turn, as a client does, with the same request id until there is an answer. Its
// access token is valid all the time.
func (c *customer) outage(session *latchkeyv1.Tokens, lose func()) (refused time.Duration, newest *latchkeyv1.Tokens) {
	t := c.t
	t.Helper()
	lose()
	began := time.Now()
	refusals := 0
	for streak := 0; streak < 20; {
		attempt := &latchkeyv1.RefreshTokenRequest{RefreshToken: session.GetRefreshToken(), RequestId: uuid.NewString()}
		for answered := false; !answered; {
			for _, at := range []latchkeyv1.AuthServiceClient{c.one, c.other} {
				got, err := at.RefreshToken(t.Context(), attempt)
				switch {
				case err == nil && streak == 0:
					refused = time.Since(began)
					fallthrough
				case err == nil:
					session, answered = got.GetTokens(), true
					streak++
				case status.Code(err) == codes.Unavailable && time.Since(began) < startTime:
					refusals, streak = refusals+1, 0
					c.are(at, true, session)
				default:
					t.Fatalf("a refresh %s after the failure: %v", time.Since(began), err)
				}
			}
		}
	}
	if refusals == 0 {
		t.Error("nothing was refused: nothing failed")
	}
	return refused.Round(100 * time.Millisecond), session
}

// redisServer is a running server of a package.
type redisServer struct {
	addr string
	stop func() // kills it
}

// portPair is a free port whose cluster port, 10000 above, is free too, and out of the range of what others are given.
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

// startRedis runs a server with these arguments; --sentinel makes it a Sentinel.
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

// replicated waits until all that a primary has now is at so many replicas.
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

const (
	storesFile = "../docs/operations.md"
	storesFrom = "<!-- made by `task test:world -- -run TestStores -update`: do not edit -->\n"
	storesTo   = "<!-- end of what is made -->"
)

// storesTable is what was run, for the documentation.
type storesTable struct {
	mu   sync.Mutex
	rows []string
}

// add notes a case, for the list of the run too. store is such as "Redis 7.0".
func (s *storesTable) add(store string, of storePrograms, how, seen string) {
	record(of.pkg, of.version, store+", "+how+": "+allFlows, seen)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = append(s.rows, fmt.Sprintf("| %s | `%s` %s | %s | %s |\n", store, of.pkg, of.version, how, seen))
}

// measured are the parts of a row that another run, or another build of the same version, may see otherwise.
var measured = regexp.MustCompile("\\| `[^`]*` [^|]*\\||\\d+(\\.\\d+)? s ")

// check compares with the documentation, or rewrites it. A run that leaves cases out is compared with what it has.
func (s *storesTable) check(t *testing.T) {
	t.Helper()
	slices.Sort(s.rows)
	text, err := os.ReadFile(storesFile)
	check(t, err)
	before, rest, found := strings.Cut(string(text), storesFrom)
	documented, after, ended := strings.Cut(rest, storesTo)
	if !found || !ended {
		t.Fatalf("%s has no place for the table", storesFile)
	}
	if *update {
		table := "| store | package | how it ran | seen |\n|---|---|---|---|\n" + strings.Join(s.rows, "")
		check(t, os.WriteFile(storesFile, []byte(before+storesFrom+table+storesTo+after), 0o644))
		return
	}
	known := measured.ReplaceAllString(documented, "*")
	for _, row := range s.rows {
		if !strings.Contains(known, measured.ReplaceAllString(row, "*")) {
			t.Errorf("%s lacks a line (run with -update):\n%s", storesFile, row)
		}
	}
	if cases := 3*len(redisVersions()) + len(postgresVersions()); strings.Count(documented, "\n") != cases+2 {
		t.Errorf("%s lists %d cases, there are %d: run with -update", storesFile, strings.Count(documented, "\n")-2, cases)
	}
}

// TestStores runs two replicas of the real binary on every version of the stores that can be had, and keeps the table
// of docs/operations.md true.
func TestStores(t *testing.T) { //nolint:tparallel // the table is compared when the group has ended
	t.Parallel()
	table := &storesTable{}
	t.Run("all", func(t *testing.T) { // until its parallel cases have ended
		for name, programs := range redisVersions() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				of := programs(t)
				t.Run("one server", func(t *testing.T) { t.Parallel(); oneRedis(t, table, name, of) })
				t.Run("Sentinel", func(t *testing.T) { t.Parallel(); sentinel(t, table, name, of) })
				t.Run("Cluster", func(t *testing.T) { t.Parallel(); cluster(t, table, name, of) })
			})
		}
		for major, programs := range postgresVersions() {
			t.Run("PostgreSQL "+major, func(t *testing.T) {
				t.Parallel()
				onPostgres(t, table, major, programs(t))
			})
		}
	})
	if !t.Failed() {
		table.check(t)
	}
}

// redisVersions are the servers that the flows run on.
func redisVersions() map[string]func(*testing.T) storePrograms {
	from := func(suite, base, pkg string) func(*testing.T) storePrograms {
		return func(t *testing.T) storePrograms {
			t.Helper()
			return redisPrograms(t, release{suite, base}, pkg)
		}
	}
	return map[string]func(*testing.T) storePrograms{
		"Redis 7.0":  from("bookworm", "bookworm", "redis-server"),
		"Redis 8.0":  from("trixie", "trixie", "redis-server"),
		"Valkey 8.0": from("bookworm-backports", "bookworm", "valkey-server"),
		"Valkey 8.1": from("trixie", "trixie", "valkey-server"),
	}
}

// oneRedis is the plainest way to run it.
func oneRedis(t *testing.T, table *storesTable, name string, of storePrograms) {
	t.Helper()
	mails, server := catchMails(t), startRedis(t, of)
	environ := storeEnviron(t, testenv.EmptyDatabase(t), "redis://"+server.addr+"/0", mails)
	newCustomer(t, serve(t, environ), serve(t, environ), "ada@example.com").live(mails)
	table.add(name, of, "one server", "ok")
}

// Both are what an operator who wants a quick failover sets: Redis' own are 30 s and 15 s.
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

// cluster is three masters with a replica each; the master that holds the person's session is killed.
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

// failOver lives before, during and after the loss of a primary, the one that has the session that settle is told. What was ended stays so; a session that the replicas
// had goes on.
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
	// Noticing takes detects, and choosing another primary and hearing of it some seconds.
	if outage > detects+15*time.Second {
		t.Errorf("writes were refused for %s", outage)
	}
	return fmt.Sprintf("ok before and after, also with a session from before; writes refused for %.1f s", outage.Seconds())
}

// postgresVersions are the servers that the flows run on.
func postgresVersions() map[string]func(*testing.T) storePrograms {
	fromNPM := func(version string) func(*testing.T) storePrograms {
		return func(t *testing.T) storePrograms {
			t.Helper()
			return npmPostgres(t, version)
		}
	}
	return map[string]func(*testing.T) storePrograms{
		"15": func(t *testing.T) storePrograms {
			t.Helper()
			if _, err := os.Stat("/etc/debian_version"); err == nil && exec.CommandContext(t.Context(), "apt-cache", "show", "postgresql-15").Run() == nil {
				return debianPostgres(t, "15")
			}
			return npmPostgres(t, "15.18.0-beta.17") // another release has no 15
		},
		"16": fromNPM("16.14.0-beta.17"), "17": fromNPM("17.10.0-beta.17"), "18": fromNPM("18.4.0-beta.17"),
	}
}

// onPostgres has migrations both ways and two replicas.
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

// latchkey runs a command that must end well, and returns what it says.
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
