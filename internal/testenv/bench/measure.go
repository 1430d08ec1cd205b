package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv/benchkit"
)

const (
	// connections with streamsEach calls under way on each are enough to keep two cores busy. The services that
	// Latchkey replaces were measured with the same numbers.
	connections = 16
	streamsEach = 4
	// loginWorkers keep every slot busy and a few calls waiting.
	loginWorkers = 4
	// refreshWorkers have a session each.
	refreshWorkers = 16

	accountPassword = "correct horse battery staple"
)

// The names of targets that a report looks for.
const (
	measured   = "latchkey" // the run is about this one
	besideName = "beside"
	othersName = "x/crypto's Argon2id"
)

// program is one of the binaries to compare.
type program struct{ name, path string }

// part is the name of a processor profile of this program. Only the one that is measured has them.
func (p program) part(name string) string {
	if p.name != measured {
		return ""
	}
	return name
}

// programs are the one that is measured, and the one beside it if there is one.
func (o options) programs() []program {
	all := []program{{measured, o.latchkey}}
	if o.beside != "" {
		all = append(all, program{besideName, o.beside})
	}
	return all
}

// target is one of the programs that are compared.
type target struct {
	name    string
	workers int
	call    func(ctx context.Context, worker int) error
	pid     int
	ops     string // "" = it has no stores
	idle    storeCalls
	part    string // the name of its processor profile; "" = it has none
}

// measure does the whole run.
func measure(ctx context.Context, o options) (_ *report, err error) {
	r := newReport(o)
	s, err := startStack(ctx, o.log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.undo.All()) }()
	if o.latchkey == "" {
		if o.latchkey, err = s.build(ctx); err != nil {
			return nil, err
		}
	}
	compared, err := s.targets(ctx, o)
	if err != nil {
		return nil, err
	}
	if r.ValidateToken, err = alternate(ctx, o, compared.validations); err != nil {
		return nil, fmt.Errorf("measure ValidateToken: %w", err)
	}
	if r.OverHTTP, err = alternate(ctx, o, compared.overHTTP); err != nil {
		return nil, fmt.Errorf("measure ValidateToken over HTTP: %w", err)
	}
	if !o.skipLogin {
		if r.Login, err = alternate(ctx, o, compared.logins); err != nil {
			return nil, fmt.Errorf("measure Login: %w", err)
		}
		if r.RefreshToken, err = alternate(ctx, o, compared.refreshes); err != nil {
			return nil, fmt.Errorf("measure RefreshToken: %w", err)
		}
		if r.Overload, err = s.measureOverload(ctx, o); err != nil {
			return nil, fmt.Errorf("measure an overload: %w", err)
		}
	}
	if r.Verify, err = s.measureVerify(ctx, o); err != nil {
		return nil, fmt.Errorf("measure authverify: %w", err)
	}
	if r.Alone, err = s.measureAlone(ctx, o, o.programs()); err != nil {
		return nil, fmt.Errorf("measure a start: %w", err)
	}
	if !o.skipRevocations {
		if r.Revocations, err = s.measureRevocations(ctx, o, s.measured, s.accounts); err != nil {
			return nil, fmt.Errorf("measure revocations: %w", err)
		}
		if err := s.measureWatchers(ctx, r.Revocations, s.measured, s.accounts); err != nil {
			return nil, fmt.Errorf("measure watchers: %w", err)
		}
	}
	r.LoadAfter = benchkit.LoadAverage()
	return r, nil
}

// targets are compared with each other. The first of each list is the baseline.
type targets struct{ validations, overHTTP, logins, refreshes []target }

// targets starts the programs to measure.
func (s *stack) targets(ctx context.Context, o options) (all targets, err error) {
	hash, encoded, err := pureHash(ctx)
	if err != nil {
		return all, err
	}
	s.crowdHash = encoded
	for _, p := range o.programs() {
		if err := s.addProgram(ctx, o, p, &all); err != nil {
			return all, err
		}
	}
	echo, err := s.startEcho(ctx, "bare gRPC echo", s.accounts)
	if err != nil {
		return all, err
	}
	httpEcho, err := s.startHTTPEcho(ctx, s.accounts)
	all.validations = append([]target{echo}, all.validations...)
	all.overHTTP = append([]target{httpEcho}, all.overHTTP...)
	all.logins = append([]target{
		{name: "pure hash", workers: loginWorkers, call: hash, pid: os.Getpid()},
		{name: othersName, workers: loginWorkers, call: othersHash(), pid: os.Getpid()},
	}, all.logins...)
	return all, err
}

// addProgram starts a Latchkey and its clients.
func (s *stack) addProgram(ctx context.Context, o options, p program, all *targets) error {
	l, err := s.startLatchkey(ctx, p.name, p.path)
	if err != nil {
		return err
	}
	s.started = append(s.started, l)
	clients, err := s.dial(l.GRPC)
	if err != nil {
		return err
	}
	if s.accounts == nil {
		s.measured = l
		if s.accounts, err = signUpAll(ctx, clients[0], "account"); err != nil {
			return err
		}
	}
	// Accounts of their own: each login past the session limit ends a session of its account.
	logins, err := signUpAll(ctx, clients[0], p.name)
	if err != nil {
		return err
	}
	refresh, err := refresh(ctx, clients, s.accounts)
	if err != nil {
		return err
	}
	idle, err := watchIdle(ctx, l.Ops, o.idle)
	if err != nil {
		return err
	}
	all.validations = append(all.validations, target{p.name, connections * streamsEach, validate(clients, s.accounts), l.PID, l.Ops, idle, p.part("validate")})
	all.logins = append(all.logins, target{p.name, loginWorkers, logIn(clients, logins), l.PID, l.Ops, idle, p.part("login")})
	all.refreshes = append(all.refreshes, target{p.name, refreshWorkers, refresh, l.PID, l.Ops, idle, p.part("refresh")})
	plain := target{workers: len(s.accounts), pid: l.PID, ops: l.Ops, idle: idle}
	overHTTP, err := s.overHTTP(ctx, p, l.HTTP, plain)
	all.overHTTP = append(all.overHTTP, overHTTP...)
	return err
}

func (s *stack) startEcho(ctx context.Context, name string, accounts []account) (target, error) {
	answer, err := echoArgument(accounts[0].answer)
	if err != nil {
		return target{}, err
	}
	c, addrs, err := s.startSelf(ctx, echoCommand, answer)
	if err != nil {
		return target{}, err
	}
	s.echo = addrs["grpc"]
	clients, err := s.dial(s.echo)
	if err != nil {
		return target{}, err
	}
	return target{name: name, workers: connections * streamsEach, call: validate(clients, accounts), pid: c.PID}, nil
}

// startSelf starts this program as one of the servers to compare with, and returns the addresses of its listeners.
func (s *stack) startSelf(ctx context.Context, args ...string) (*benchkit.Child, map[string]string, error) {
	c, err := benchkit.StartSelf(ctx, filepath.Join(s.dir, args[0]+".log"), args...)
	if err != nil {
		return nil, nil, err
	}
	s.undo.Add(c.End)
	addrs, err := c.Ready()
	return c, addrs, err
}

func (s *stack) dial(addr string) ([]latchkeyv1.AuthServiceClient, error) {
	clients := make([]latchkeyv1.AuthServiceClient, connections)
	for i := range clients {
		conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		s.undo.Add(conn.Close)
		clients[i] = latchkeyv1.NewAuthServiceClient(conn)
	}
	return clients, nil
}

// account is an account that is logged in.
type account struct {
	email  string
	token  string
	answer *latchkeyv1.ValidateTokenResponse
}

// signUpAll makes an account for each call under way, so that logins do not reach each other's limits.
func signUpAll(ctx context.Context, client latchkeyv1.AuthServiceClient, name string) ([]account, error) {
	accounts := make([]account, connections*streamsEach)
	var signing sync.WaitGroup
	errs := make([]error, loginWorkers)
	for w := range loginWorkers {
		signing.Go(func() {
			for i := w; i < len(accounts) && errs[w] == nil; i += loginWorkers {
				accounts[i], errs[w] = signUp(ctx, client, fmt.Sprintf("%s%d@example.com", name, i))
			}
		})
	}
	signing.Wait()
	return accounts, errors.Join(errs...)
}

func signUp(ctx context.Context, client latchkeyv1.AuthServiceClient, email string) (account, error) {
	_, err := client.SignUp(ctx, &latchkeyv1.SignUpRequest{Email: email, Password: accountPassword, FirstName: "Ada", LastName: "Lovelace"})
	if err != nil {
		return account{}, fmt.Errorf("sign up: %w", err)
	}
	login, err := client.Login(ctx, &latchkeyv1.LoginRequest{Email: email, Password: accountPassword})
	if err != nil {
		return account{}, fmt.Errorf("log in: %w", err)
	}
	a := account{email: email, token: login.GetTokens().GetAccessToken()}
	a.answer, err = client.ValidateToken(ctx, &latchkeyv1.ValidateTokenRequest{AccessToken: a.token})
	if err == nil && !a.answer.GetValid() {
		err = fmt.Errorf("a good token is refused: %v", a.answer.GetReason())
	}
	return a, err
}

func validate(clients []latchkeyv1.AuthServiceClient, accounts []account) func(context.Context, int) error {
	return func(ctx context.Context, worker int) error {
		answer, err := clients[worker%len(clients)].ValidateToken(ctx, &latchkeyv1.ValidateTokenRequest{AccessToken: accounts[worker].token})
		if err == nil && !answer.GetValid() {
			err = fmt.Errorf("a good token is refused: %v", answer.GetReason())
		}
		return err
	}
}

func logIn(clients []latchkeyv1.AuthServiceClient, accounts []account) func(context.Context, int) error {
	next := make([]int, loginWorkers)
	return func(ctx context.Context, worker int) error {
		next[worker] += loginWorkers
		a := accounts[(worker+next[worker])%len(accounts)]
		_, err := clients[worker].Login(ctx, &latchkeyv1.LoginRequest{Email: a.email, Password: accountPassword})
		return err
	}
}

// refresh rotates a session of each worker's own.
func refresh(ctx context.Context, clients []latchkeyv1.AuthServiceClient, accounts []account) (func(context.Context, int) error, error) {
	tokens := make([]string, refreshWorkers)
	for i := range tokens {
		login, err := clients[0].Login(ctx, &latchkeyv1.LoginRequest{Email: accounts[i].email, Password: accountPassword})
		if err != nil {
			return nil, fmt.Errorf("log in: %w", err)
		}
		tokens[i] = login.GetTokens().GetRefreshToken()
	}
	return func(ctx context.Context, worker int) error {
		resp, err := clients[worker%len(clients)].RefreshToken(ctx, &latchkeyv1.RefreshTokenRequest{RefreshToken: tokens[worker]})
		if err == nil {
			tokens[worker] = resp.GetTokens().GetRefreshToken()
		}
		return err
	}, nil
}

// watchIdle counts the calls of one Latchkey to its stores in a second while nobody calls it: health checks, its lease,
// the outbox.
func watchIdle(ctx context.Context, ops string, window time.Duration) (storeCalls, error) {
	before, err := readStoreCalls(ctx, ops)
	if err != nil {
		return storeCalls{}, err
	}
	if err := benchkit.Pause(ctx, window); err != nil {
		return storeCalls{}, err
	}
	after, err := readStoreCalls(ctx, ops)
	return after.minus(before).times(1 / window.Seconds()), err
}
