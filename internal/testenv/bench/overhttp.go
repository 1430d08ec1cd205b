package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

const (
	// httpEchoCommand starts this program as the bare JSON echo.
	httpEchoCommand = "http-echo"
	httpEchoName    = "bare JSON echo"
	// httpPatience is how long an answer over HTTP may take.
	httpPatience = 10 * time.Second
	// httpIdle is less than the service keeps an idle connection, which is 2 minutes.
	httpIdle = time.Minute
)

// The bars for Latchkey's share of the bare JSON echo's requests in a second.
const (
	barProtobuf = .72
	barJSON     = .66
)

// plainRequest and plainAnswer are the messages of ValidateToken as structs of encoding/json.
type plainRequest struct {
	AccessToken string `json:"accessToken"`
}

type plainAnswer struct {
	Valid      bool      `json:"valid"`
	User       plainUser `json:"user"`
	SessionID  string    `json:"sessionId"`
	ExpireTime time.Time `json:"expireTime"`
}

type plainUser struct {
	ID         string    `json:"id"`
	Email      string    `json:"email"`
	FirstName  string    `json:"firstName"`
	LastName   string    `json:"lastName"`
	CreateTime time.Time `json:"createTime"`
}

// serveHTTPEcho does the least that a service of JSON does for a call: net/http reads it, encoding/json decodes the
// request and encodes the same answer each time.
func serveHTTPEcho(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) != 1 {
		return &usageError{errors.New("http-echo needs the answer")}
	}
	var answer plainAnswer
	if err := json.Unmarshal([]byte(args[0]), &answer); err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	//nolint:gosec // G112: only the bench calls it, and deadlines would cost it time
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request plainRequest
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil || request.AccessToken == "" {
			http.Error(w, "no token", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(&answer) // the client sees what fails
	})}
	context.AfterFunc(ctx, func() { _ = s.Close() })
	if _, err := fmt.Fprintf(stdout, "ready http=%s\n", l.Addr()); err != nil {
		return err
	}
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// httpForm is a form of messages over HTTP.
type httpForm struct {
	name        string
	contentType string
	bar         float64
	marshal     func(proto.Message) ([]byte, error)
	unmarshal   func([]byte, proto.Message) error
}

func httpForms() []httpForm {
	return []httpForm{{"protobuf", "application/proto", barProtobuf, proto.Marshal, proto.Unmarshal}, jsonForm()}
}

func jsonForm() httpForm {
	return httpForm{"JSON", "application/json", barJSON, protojson.Marshal, protojson.Unmarshal}
}

// named is the name of a program's target that takes this form.
func (f httpForm) named(program string) string { return program + ", " + f.name }

func (s *stack) startHTTPEcho(ctx context.Context, accounts []account) (target, error) {
	answer, err := protojson.Marshal(accounts[0].answer)
	if err != nil {
		return target{}, err
	}
	c, addrs, err := s.startSelf(ctx, httpEchoCommand, string(answer))
	if err != nil {
		return target{}, err
	}
	call, err := s.validateOverHTTP(ctx, addrs["http"], jsonForm(), accounts)
	return target{name: httpEchoName, workers: len(accounts), call: call, pid: c.PID}, err
}

// overHTTP returns a target for each form of a program's messages: t with its own name and calls.
func (s *stack) overHTTP(ctx context.Context, p program, addr string, t target) ([]target, error) {
	var all []target
	for _, form := range httpForms() {
		var err error
		t.name, t.part = form.named(p.name), p.part("validate-"+strings.ToLower(form.name))
		t.call, err = s.validateOverHTTP(ctx, addr, form, s.accounts)
		if errors.Is(err, errNotServed) && p.name != measured {
			return nil, nil // an older build
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
		all = append(all, t)
	}
	return all, nil
}

// errNotServed is a server that does not take the call over HTTP.
var errNotServed = errors.New("it is not served over HTTP")

// validateOverHTTP opens a connection for each worker, and makes sure that each token is accepted.
func (s *stack) validateOverHTTP(ctx context.Context, addr string, form httpForm, accounts []account) (func(context.Context, int) error, error) {
	callers := make([]*httpCaller, len(accounts))
	for i, a := range accounts {
		body, err := form.marshal(&latchkeyv1.ValidateTokenRequest{AccessToken: a.token})
		if err != nil {
			return nil, err
		}
		c := &httpCaller{addr: addr, request: fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
			latchkeyv1.AuthService_ValidateToken_FullMethodName, addr, form.contentType, len(body), body)}
		s.undo.Add(c.close)
		if callers[i], err = c, c.first(ctx, form); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context, worker int) error {
		c := callers[worker]
		answer, err := c.call(ctx)
		if err == nil && !bytes.Equal(answer, c.want) {
			err = fmt.Errorf("another answer than the first: %q", answer)
		}
		return err
	}, nil
}

// httpCaller sends one request over and over on a connection with HTTP/1.1 (RFC 9112). It costs a small part of
// net/http's client: here the client has the same processors as the server, and its own work would hide differences.
type httpCaller struct {
	addr    string
	request []byte
	want    []byte // the answer

	conn   net.Conn
	answer *bufio.Reader
	used   time.Time
}

// first makes the first call, and reads its answer.
func (c *httpCaller) first(ctx context.Context, form httpForm) error {
	raw, err := c.call(ctx)
	if err != nil {
		return err
	}
	c.want = bytes.Clone(raw)
	var answer latchkeyv1.ValidateTokenResponse
	if err := form.unmarshal(c.want, &answer); err != nil {
		return err
	}
	if !answer.GetValid() {
		return fmt.Errorf("a good token is refused: %v", answer.GetReason())
	}
	return nil
}

// call returns the body of an answer with the status 200. It is valid until the next call.
func (c *httpCaller) call(ctx context.Context) ([]byte, error) {
	now := time.Now()
	if now.Sub(c.used) > httpIdle {
		if err := c.dial(ctx); err != nil {
			return nil, err
		}
	}
	c.used = now
	if err := c.conn.SetDeadline(now.Add(httpPatience)); err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return nil, err
	}
	status, err := c.answer.ReadSlice('\n')
	switch {
	case err != nil:
		return nil, err
	case bytes.HasPrefix(status, []byte("HTTP/1.1 404 ")):
		return nil, errNotServed
	case !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")):
		return nil, fmt.Errorf("over HTTP: %q", status)
	}
	return c.body()
}

// body reads the headers and the body.
func (c *httpCaller) body() ([]byte, error) {
	length := -1
	for {
		line, err := c.answer.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return nil, err
			}
		}
	}
	if length < 0 {
		return nil, errors.New("over HTTP: an answer without its length")
	}
	body, err := c.answer.Peek(length)
	if err != nil {
		return nil, err
	}
	_, err = c.answer.Discard(length)
	return body, err
}

func (c *httpCaller) dial(ctx context.Context) (err error) {
	_ = c.close() // the server may have closed it already
	if c.conn, err = new(net.Dialer).DialContext(ctx, "tcp", c.addr); err != nil {
		return err
	}
	c.answer = bufio.NewReader(c.conn)
	return nil
}

func (c *httpCaller) close() error {
	if c.conn == nil {
		return nil
	}
	return c.conn.Close()
}
