package backend_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// recordedSetup is the first line of the records: the state that must exist before the requests are sent.
type recordedSetup struct {
	Accounts []struct {
		ID           uuid.UUID `json:"id"`
		Email        string    `json:"email"`
		PasswordHash string    `json:"password_hash"`
		FirstName    string    `json:"first_name"`
		LastName     string    `json:"last_name"`
		Disabled     bool      `json:"disabled"`
		Deleted      bool      `json:"deleted"`
	} `json:"setup"`
	Redis []struct {
		Key        string `json:"key"`
		Value      string `json:"value"`
		TTLSeconds int64  `json:"ttl_seconds"`
	} `json:"redis"`
	PublicKey string `json:"public_key_pem"`
}

// recorded is a request and the Go backend's answer.
type recorded struct {
	ID      string     `json:"id"`
	RPC     string     `json:"rpc"`
	Request fields     `json:"request"`
	Before  []repeated `json:"before"`
	Code    string     `json:"code"`
	Message string     `json:"message"`
	Body    any        `json:"body"`
}

// repeated is a call that is made several times before the recorded one.
type repeated struct {
	RPC     string `json:"rpc"`
	Request fields `json:"request"`
	Times   int    `json:"times"`
}

// fields are those of a request under their JSON names. They are bytes, since some are not UTF-8.
type fields map[string][]byte

// UnmarshalJSON implements json.Unmarshaler: a text, or {"base64": …} for bytes that are not a text.
func (f *fields) UnmarshalJSON(data []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return err
	}
	*f = fields{}
	for name, member := range members {
		var text string
		if err := json.Unmarshal(member, &text); err == nil {
			(*f)[name] = []byte(text)
			continue
		}
		var coded struct{ Base64 string }
		if err := json.Unmarshal(member, &coded); err != nil {
			return err
		}
		value, err := base64.StdEncoding.DecodeString(coded.Base64)
		if err != nil {
			return err
		}
		(*f)[name] = value
	}
	return nil
}

// answer is the answer that a client gets. Body is the response in JSON, with all its fields; it is {} with a refusal.
type answer struct {
	Code    string
	Message string
	Body    any
}

// String is the answer in one line.
func (a answer) String() string { return fmt.Sprintf("%s %q %v", a.Code, a.Message, a.Body) }

// isLike reports whether an answer is like the wanted one, in whose body <uuid>, <jwt> and <token> represent values
// that are new in each answer.
func (a answer) isLike(want answer) bool {
	return a.Code == want.Code && a.Message == want.Message && isShapedLike(a.Body, want.Body)
}

func isShapedLike(got, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		members, ok := got.(map[string]any)
		if !ok || len(members) != len(want) {
			return false
		}
		for name, member := range want {
			if !isShapedLike(members[name], member) {
				return false
			}
		}
		return true
	case string:
		text, ok := got.(string)
		switch want {
		case "<uuid>":
			id, err := uuid.Parse(text)
			return err == nil && id.String() == text
		case "<jwt>":
			return strings.Count(text, ".") == 2
		case "<token>":
			return len(text) > 20
		}
		return ok && text == want
	default:
		return got == want
	}
}

// formerService is a service that has taken over the state at the beginning of the records. Tests call it as an older
// client does.
type formerService struct {
	*testenv.Server
}

// readAnswers reads the records.
func readAnswers(t *testing.T) (recordedSetup, []recorded) {
	t.Helper()
	text, err := os.ReadFile("../testdata/answers.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var setup recordedSetup
	var records []recorded
	for line := range bytes.Lines(text) {
		if setup.Accounts == nil {
			err = json.Unmarshal(line, &setup)
		} else {
			records = append(records, recorded{})
			err = json.Unmarshal(line, &records[len(records)-1])
		}
		if err != nil {
			t.Fatalf("%.80s: %v", line, err)
		}
	}
	return setup, records
}

// takeOver starts a service on stores in the state that setup describes, as an older backend left them.
func takeOver(t *testing.T, setup recordedSetup) *formerService {
	t.Helper()
	old := testenv.Existing(t)
	old.PublicKey = []byte(setup.PublicKey)
	conn, err := pgx.Connect(t.Context(), old.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	made := time.Now().Add(-24 * time.Hour)
	for i, a := range setup.Accounts {
		if a.Deleted {
			continue
		}
		_, err := conn.Exec(t.Context(), `
			INSERT INTO users (id, email, password_hash, first_name, last_name, created_at, updated_at, is_active)
			VALUES ($1, $2, $3, $4, $5, $6, $6, $7)`,
			a.ID, a.Email, a.PasswordHash, a.FirstName, a.LastName, made.Add(time.Duration(i)*time.Second), !a.Disabled)
		if err != nil {
			t.Fatal(err)
		}
	}
	s := &formerService{testenv.Start(t, testenv.Options{Legacy: old})}
	for _, k := range setup.Redis {
		if err := s.Redis.Set(t.Context(), k.Key, k.Value, time.Duration(k.TTLSeconds)*time.Second).Err(); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// forgetFailures deletes all counts of failed logins, also those of an older backend.
func (s *formerService) forgetFailures(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"login_attempts:*", "latchkey:attempts:*"} {
		keys, err := s.Redis.Keys(t.Context(), pattern).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			s.Redis.Del(t.Context(), key)
		}
	}
}

// ask sends one request as bytes, since some requests are not valid.
func (s *formerService) ask(t *testing.T, rpc string, request fields) answer {
	t.Helper()
	method := authpb.File_auth_auth_proto.Services().ByName("AuthService").Methods().ByName(protoreflect.Name(rpc))
	if method == nil {
		t.Fatalf("no RPC is called %s", rpc)
	}
	var wire []byte
	for _, name := range slices.Sorted(maps.Keys(request)) {
		field := method.Input().Fields().ByJSONName(name)
		if field == nil {
			t.Fatalf("%s has no %s", rpc, name)
		}
		wire = protowire.AppendTag(wire, field.Number(), protowire.BytesType)
		wire = protowire.AppendBytes(wire, request[name])
	}
	response := dynamicpb.NewMessage(method.Output())
	err := s.Conn.Invoke(t.Context(), "/auth.AuthService/"+rpc, wire, response, grpc.ForceCodec(bytesOut{}))
	told := status.Convert(err)
	return answer{Code: code.Code(told.Code()).String(), Message: told.Message(), Body: bodyOf(t, response, err)}
}

// bodyOf returns a response in the form of the records: with the fields that are not set, and {} with a refusal.
func bodyOf(t *testing.T, response proto.Message, refused error) any {
	t.Helper()
	if refused != nil {
		return map[string]any{}
	}
	text, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(response)
	if err != nil {
		t.Fatal(err)
	}
	var body any
	if err := json.Unmarshal(text, &body); err != nil {
		t.Fatal(err)
	}
	return body
}

// bytesOut is the codec of a client that sends bytes and reads messages.
type bytesOut struct{}

// Name implements encoding.Codec.
func (bytesOut) Name() string { return "proto" }

// Marshal implements encoding.Codec.
func (bytesOut) Marshal(v any) ([]byte, error) {
	wire, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("%T is no bytes", v)
	}
	return wire, nil
}

// Unmarshal implements encoding.Codec.
func (bytesOut) Unmarshal(data []byte, v any) error {
	message, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no message", v)
	}
	return proto.Unmarshal(data, message)
}

// TestAnswers sends the requests that the Go backend received, and expects its answers, except for the differences that
// docs/takeover.md lists.
func TestAnswers(t *testing.T) {
	t.Parallel()
	setup, records := readAnswers(t)
	s := takeOver(t, setup)
	if len(records) < 131 {
		t.Fatalf("only %d records", len(records))
	}
	differ := differentAnswers()
	for _, r := range records {
		s.forgetFailures(t)
		for _, b := range r.Before {
			for range b.Times {
				s.ask(t, b.RPC, b.Request)
			}
		}
		got, recorded := s.ask(t, r.RPC, r.Request), answer{r.Code, r.Message, r.Body}
		want, differs := differ[r.ID]
		delete(differ, r.ID)
		switch {
		case !differs && !got.isLike(recorded):
			t.Errorf("%s: %.300s, want %.300s", r.ID, got, recorded)
		case differs && !got.isLike(want):
			t.Errorf("%s: %.300s, want %.300s in place of the recorded answer", r.ID, got, want)
		case differs && got.isLike(recorded):
			t.Errorf("%s: the answer is the recorded one: the list of differences is out of date", r.ID)
		}
	}
	for id := range differ {
		t.Errorf("no record is called %s", id)
	}
}
