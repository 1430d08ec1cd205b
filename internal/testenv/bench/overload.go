package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv/benchkit"
)

const (
	// probeEach is how often ValidateToken is called meanwhile, whether or not the last call has ended: a closed loop
	// would call less when the answers are slow, and hide them.
	probeEach = 5 * time.Millisecond
)

// overload has the answers to many logins that begin at the same time, and to validations meanwhile.
type overload struct {
	Name   string `json:"name"`
	Logins int    `json:"logins_at_once"`
	// Median of the rounds.
	OK int `json:"ok"`
	// OKLater is how many got in with a later call, when the answer told them to try again.
	OKLater    int `json:"ok_later"`
	Overloaded int `json:"overloaded"`
	// Late is how many ran into their deadline, Unavailable how many got the answer that a store
	// does not answer.
	Late        int `json:"deadline_exceeded"`
	Unavailable int `json:"unavailable"`
	Other       int `json:"other"`
	// WithoutRetryInfo is how many of Overloaded do not say when to try again, over all rounds.
	WithoutRetryInfo int `json:"overloaded_without_retry_info"`
	// Quiet and Busy are ValidateToken's latency before and during the logins, Ratio is that of the p99.
	Quiet latency `json:"validate_quiet"`
	Busy  latency `json:"validate_busy"`
	Ratio float64 `json:"validate_p99_ratio"`
	// EchoQuiet and EchoBusy are the same of the bare echo at the same time, which is another process.
	EchoQuiet latency `json:"echo_quiet"`
	EchoBusy  latency `json:"echo_busy"`
	// Peak is the most resident memory.
	Peak   int64           `json:"peak_memory_bytes"`
	Rounds []overloadRound `json:"rounds"`
}

// overloadRound is one such moment.
type overloadRound struct {
	crowdAnswers
	Quiet     latency `json:"validate_quiet"`
	Busy      latency `json:"validate_busy"`
	QuietEcho latency `json:"echo_quiet"`
	BusyEcho  latency `json:"echo_busy"`
	Peak      int64   `json:"peak_memory_bytes"`
}

// crowdEmail is the address of one of the accounts that log in at once.
func crowdEmail(i int) string { return fmt.Sprintf("crowd%d@example.com", i) }

// importCrowd makes the accounts: all have the password of the others, so one hash is enough.
func (s *stack) importCrowd(ctx context.Context, program, hash string, accounts int) error {
	var file bytes.Buffer
	for i := range accounts {
		line, err := json.Marshal(map[string]string{"email": crowdEmail(i), "password_hash": hash})
		if err != nil {
			return err
		}
		file.Write(append(line, '\n'))
	}
	name := filepath.Join(s.dir, "crowd.jsonl")
	if err := os.WriteFile(name, file.Bytes(), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, "users", "import", name) //nolint:gosec // G204: the binary that is measured
	cmd.Env = s.environ
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("import the accounts: %w: %s", err, text)
	}
	return nil
}

// measureOverload lets all accounts log in at the same time, round after round, on each of the programs in turn.
func (s *stack) measureOverload(ctx context.Context, o options) ([]*overload, error) {
	if err := s.importCrowd(ctx, o.latchkey, s.crowdHash, o.crowd); err != nil {
		return nil, err
	}
	var all []*overload
	for _, l := range s.started {
		all = append(all, &overload{Name: l.Name, Logins: o.crowd})
	}
	for range o.rounds {
		for i, l := range s.started {
			one, err := s.overload(ctx, o, l)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", l.Name, err)
			}
			all[i].Rounds = append(all[i].Rounds, one)
		}
	}
	for _, each := range all {
		each.summarise()
	}
	return all, nil
}

func (s *stack) overload(ctx context.Context, o options, l *benchkit.Latchkey) (one overloadRound, err error) {
	conns := make([]*grpc.ClientConn, 2)
	for i, addr := range []string{l.GRPC, s.echo} {
		if conns[i], err = dialOne(addr); err != nil {
			return one, err
		}
		defer func() { err = errors.Join(err, conns[i].Close()) }()
	}
	crowd, err := startCrowd(ctx, filepath.Join(s.dir, "crowd.log"), l.GRPC, o.crowd)
	if err != nil {
		return one, err
	}
	defer func() { err = errors.Join(err, crowd.End()) }()
	if err := benchkit.ResetPeak(l.PID); err != nil {
		return one, err
	}
	quiet, cancel := context.WithTimeout(ctx, o.window)
	one.Quiet, one.QuietEcho, err = s.probeBoth(quiet, conns)
	cancel()
	if err != nil {
		return one, err
	}
	busy, cancel := context.WithCancel(ctx)
	defer cancel()
	probing := make(chan error, 1)
	go func() {
		var err error
		one.Busy, one.BusyEcho, err = s.probeBoth(busy, conns)
		probing <- err
	}()
	one.crowdAnswers, err = crowd.logIn()
	cancel()
	if err := errors.Join(err, <-probing); err != nil {
		return one, err
	}
	_, one.Peak, err = benchkit.Memory(l.PID)
	return one, err
}

// probeBoth probes Latchkey and the bare echo at the same time: the echo shows how long a call takes on this machine
// while it is so busy, whatever the service does.
func (s *stack) probeBoth(ctx context.Context, conns []*grpc.ClientConn) (latchkey, echo latency, err error) {
	var probing errgroup.Group
	for i, result := range []*latency{&latchkey, &echo} {
		probing.Go(func() (err error) {
			*result, err = s.probe(ctx, latchkeyv1.NewAuthServiceClient(conns[i]))
			return err
		})
	}
	err = probing.Wait()
	return latchkey, echo, err
}

// probe calls ValidateToken until the context ends.
func (s *stack) probe(ctx context.Context, client latchkeyv1.AuthServiceClient) (latency, error) {
	ticker := time.NewTicker(probeEach)
	defer ticker.Stop()
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	var calls sync.WaitGroup
	for n := 0; ctx.Err() == nil; n++ {
		select {
		case <-ctx.Done():
			continue
		case <-ticker.C:
		}
		calls.Go(func() {
			began := time.Now()
			answer, err := client.ValidateToken(context.WithoutCancel(ctx), &latchkeyv1.ValidateTokenRequest{AccessToken: s.accounts[n%len(s.accounts)].token})
			if err == nil && !answer.GetValid() {
				err = fmt.Errorf("a good token is refused: %v", answer.GetReason())
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(began))
			failed = errors.Join(failed, err)
		})
	}
	calls.Wait()
	return latencyOf(took), failed
}

func (v *overload) summarise() {
	of := func(read func(overloadRound) float64) float64 { return benchkit.MedianOf(v.Rounds, read) }
	count := func(code codes.Code) int {
		return int(of(func(r overloadRound) float64 { return float64(r.First[code.String()]) }))
	}
	v.OKLater = int(of(func(r overloadRound) float64 { return float64(r.Codes[codes.OK.String()] - r.First[codes.OK.String()]) }))
	v.OK, v.Overloaded = count(codes.OK), count(codes.ResourceExhausted)
	v.Late, v.Unavailable = count(codes.DeadlineExceeded), count(codes.Unavailable)
	v.Other = int(of(func(r overloadRound) float64 {
		others := v.Logins // of the first calls
		for _, code := range []codes.Code{codes.OK, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Unavailable} {
			others -= r.First[code.String()]
		}
		return float64(others)
	}))
	for _, r := range v.Rounds {
		v.WithoutRetryInfo += r.WithoutRetryInfo
	}
	times := func(read func(overloadRound) latency) latency {
		return latency{of(func(r overloadRound) float64 { return read(r).P50 }), of(func(r overloadRound) float64 { return read(r).P99 })}
	}
	v.Quiet = times(func(r overloadRound) latency { return r.Quiet })
	v.Busy = times(func(r overloadRound) latency { return r.Busy })
	v.EchoQuiet = times(func(r overloadRound) latency { return r.QuietEcho })
	v.EchoBusy = times(func(r overloadRound) latency { return r.BusyEcho })
	v.Ratio = of(func(r overloadRound) float64 { return r.Busy.P99 / r.Quiet.P99 })
	v.Peak = int64(of(func(r overloadRound) float64 { return float64(r.Peak) }))
}

// printOverload writes the lines for people.
func printOverload(w io.Writer, all []*overload) error {
	title := fmt.Sprintf("%d logins at once, each with a deadline of %s; ValidateToken %.0f times a second meanwhile",
		all[0].Logins, crowdDeadline, 1/probeEach.Seconds())
	t, err := benchkit.NewTable(w, title, "", "OK", "OK later", "OVERLOADED", "no RetryInfo", "deadline", "UNAVAILABLE", "other", "p50 ms", "p99 ms", "quiet p99 ms", "ratio", "echo p99 ms", "quiet echo", "peak MiB")
	if err != nil {
		return err
	}
	for _, v := range all {
		t.Line(v.Name, v.OK, v.OKLater, v.Overloaded, v.WithoutRetryInfo, v.Late, v.Unavailable, v.Other,
			fmt.Sprintf("%.2f", v.Busy.P50), fmt.Sprintf("%.2f", v.Busy.P99), fmt.Sprintf("%.2f", v.Quiet.P99), fmt.Sprintf("%.1f", v.Ratio),
			fmt.Sprintf("%.2f", v.EchoBusy.P99), fmt.Sprintf("%.2f", v.EchoQuiet.P99), v.Peak>>20)
	}
	return t.Flush()
}
