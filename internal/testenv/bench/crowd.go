package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv/benchkit"
)

// crowdCommand starts this program as the crowd of clients. They are a process of their own, so that the calls that are
// timed meanwhile do not wait for them within the client.
const crowdCommand = "crowd"

const (
	// crowdConnections carry the logins: 63 streams each, and a connection takes 128.
	crowdConnections = 32
	crowdDeadline    = 5 * time.Second
)

// crowdAnswers are the answers to a crowd.
type crowdAnswers struct {
	// First are the codes of the first calls, Codes those of all calls.
	First map[string]int `json:"first_codes"`
	Codes map[string]int `json:"codes"`
	// WithoutRetryInfo is how many refusals for overload do not say when to try again.
	WithoutRetryInfo int `json:"overloaded_without_retry_info"`
}

// crowdProcess is the process of the clients.
type crowdProcess struct{ *benchkit.Child }

func startCrowd(ctx context.Context, log, addr string, logins int) (*crowdProcess, error) {
	c, err := benchkit.StartSelf(ctx, log, crowdCommand, addr, strconv.Itoa(logins))
	if err != nil {
		return nil, err
	}
	_, err = c.Ready()
	return &crowdProcess{c}, err
}

// logIn lets all clients log in at once.
func (c *crowdProcess) logIn() (answers crowdAnswers, err error) {
	if _, err := io.WriteString(c.Stdin, "go\n"); err != nil {
		return answers, err
	}
	line, err := c.Line()
	if err != nil {
		return answers, err
	}
	return answers, json.Unmarshal([]byte(line), &answers)
}

// serveCrowd opens the connections and prints that it is ready. With each line from stdin all clients log in, and it
// prints the answers.
func serveCrowd(ctx context.Context, args []string, stdout io.Writer) (err error) {
	if len(args) != 2 {
		return &usageError{errors.New("crowd needs the address and the number of logins")}
	}
	logins, err := strconv.Atoi(args[1])
	if err != nil {
		return &usageError{err}
	}
	conns := make([]*grpc.ClientConn, crowdConnections)
	for i := range conns {
		if conns[i], err = dialOne(args[0]); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, conns[i].Close()) }()
	}
	if _, err := fmt.Fprintln(stdout, "ready"); err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answers := logInAtOnce(ctx, conns, logins)
		if err := json.NewEncoder(stdout).Encode(answers); err != nil {
			return err
		}
	}
	return lines.Err()
}

// logInAtOnce starts all logins at the same time. Who is turned away tries again when the answer says so, until the
// deadline of the first call.
func logInAtOnce(ctx context.Context, conns []*grpc.ClientConn, logins int) crowdAnswers {
	answers := crowdAnswers{First: map[string]int{}, Codes: map[string]int{}}
	var mu sync.Mutex
	var calls sync.WaitGroup
	ctx, cancel := context.WithTimeout(ctx, crowdDeadline)
	defer cancel()
	for i := range logins {
		calls.Go(func() {
			client := latchkeyv1.NewAuthServiceClient(conns[i%len(conns)])
			for first := true; ; first = false {
				call, cancel := context.WithTimeout(context.WithoutCancel(ctx), crowdDeadline)
				_, err := client.Login(call, &latchkeyv1.LoginRequest{Email: crowdEmail(i), Password: accountPassword})
				cancel()
				wait := retryAfter(err)
				mu.Lock()
				answers.Codes[status.Code(err).String()]++
				if first {
					answers.First[status.Code(err).String()]++
				}
				if status.Code(err) == codes.ResourceExhausted && wait == 0 {
					answers.WithoutRetryInfo++
				}
				mu.Unlock()
				if status.Code(err) == codes.OK || wait == 0 || benchkit.Pause(ctx, wait) != nil {
					return
				}
			}
		})
	}
	calls.Wait()
	return answers
}

// retryAfter returns how long to wait before the next try, 0 if the answer does not say.
func retryAfter(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}
