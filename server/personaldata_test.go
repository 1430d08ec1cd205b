package server_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// exported is the JSON as a reader sees it.
type exported struct {
	Schema  string `json:"schema"`
	Account struct {
		ID         string     `json:"id"`
		Email      string     `json:"email"`
		FirstName  string     `json:"first_name"`
		DeleteTime *time.Time `json:"delete_time"`
	} `json:"account"`
	Factors []struct {
		Kind      string `json:"kind"`
		Remaining *int   `json:"remaining"`
	} `json:"factors"`
	Sessions []struct {
		ID         string   `json:"id"`
		DeviceName string   `json:"device_name"`
		Address    string   `json:"address"`
		Methods    []string `json:"methods"`
	} `json:"sessions"`
	Mails []struct {
		Purpose string `json:"purpose"`
	} `json:"mails"`
	Activity []struct {
		Kind    string `json:"kind"`
		Actor   string `json:"actor"`
		Address string `json:"address"`
	} `json:"activity"`
	ActivityIsCut bool `json:"activity_is_cut"`
}

func readExport(t *testing.T, text string) (e exported) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if e.Schema != "latchkey-personal-data/1" {
		t.Errorf("schema %q", e.Schema)
	}
	return e
}

// People get all about themselves, and nothing secret or of others; twice the same, but for the export itself.
func TestExportAccount(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	_, recovery, tokens := guarded(t, s)
	other := signUp(t, s, "bob@example.com")
	forgot(t, s, email)
	_, reset := resetMail(t, s, email)
	if _, err := s.Admin.RemoveUserFactors(asAdmin(t), &latchkeyv1.RemoveUserFactorsRequest{UserId: other.GetId()}); err != nil {
		t.Fatal(err)
	}
	resp, err := s.AccountService.ExportAccount(as(t, tokens), &latchkeyv1.ExportAccountRequest{})
	if err != nil {
		t.Fatal(err)
	}
	text := resp.GetAccountJson()
	e := readExport(t, text)
	if e.Account.Email != email || e.Account.FirstName != "Ada" || e.Account.DeleteTime != nil {
		t.Errorf("the account: %+v", e.Account)
	}
	if len(e.Factors) != 3 || e.Factors[0].Kind != "password" || e.Factors[1].Kind != "totp" || e.Factors[2].Kind != "recovery_codes" ||
		e.Factors[2].Remaining == nil || *e.Factors[2].Remaining != 10 || e.Factors[1].Remaining != nil {
		t.Errorf("factors: %+v", e.Factors)
	}
	if len(e.Sessions) != 1 || e.Sessions[0].ID != tokens.GetSessionId() || e.Sessions[0].DeviceName != "test" || e.Sessions[0].Methods[0] != "pwd" {
		t.Errorf("sessions: %+v", e.Sessions)
	}
	if len(e.Mails) != 1 || e.Mails[0].Purpose != "password_reset" {
		t.Errorf("mails: %+v", e.Mails)
	}
	if len(e.Activity) != 5 || e.Activity[0].Kind != "account_exported" || e.Activity[4].Kind != "signed_up" || e.ActivityIsCut {
		t.Errorf("activity: %+v", e.Activity)
	}
	for name, secret := range map[string]string{
		"hash": "argon2id", "reset token": reset, "recovery code": recovery[0], "refresh token": tokens.GetRefreshToken(),
		"access token": tokens.GetAccessToken(), "another account": other.GetId(),
	} {
		if strings.Contains(text, secret) {
			t.Errorf("it has the %s", name)
		}
	}
	again, err := s.AccountService.ExportAccount(as(t, tokens), &latchkeyv1.ExportAccountRequest{})
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(text, `"activity"`)
	after, _, _ := strings.Cut(again.GetAccountJson(), `"activity"`)
	if before != after {
		t.Errorf("the order changes:\n%s\n%s", before, after)
	}
}

// An operator's export says who acted; the owner's does not. Each is recorded.
func TestExportUser(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{DeletionGrace: grace})
	tokens := account(t, s)
	id := wantValid(t, s, tokens.GetAccessToken(), 0).GetUser().GetId()
	resp, err := s.Admin.ExportUser(asAdmin(t), &latchkeyv1.ExportUserRequest{UserId: id})
	if err != nil {
		t.Fatal(err)
	}
	e := readExport(t, resp.GetAccountJson())
	if !strings.HasPrefix(e.Activity[0].Actor, "operator:") || e.Activity[0].Kind != "account_exported" {
		t.Errorf("activity: %+v", e.Activity)
	}
	own, err := s.AccountService.ExportAccount(as(t, tokens), &latchkeyv1.ExportAccountRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if e = readExport(t, own.GetAccountJson()); e.Activity[1].Actor != "operator" || e.Activity[1].Address != "" {
		t.Errorf("activity: %+v", e.Activity)
	}
	mustDelete(t, s, tokens.GetAccessToken())
	resp, err = s.Admin.ExportUser(asAdmin(t), &latchkeyv1.ExportUserRequest{UserId: id})
	if err != nil {
		t.Fatal(err)
	}
	if e = readExport(t, resp.GetAccountJson()); e.Account.DeleteTime == nil || len(e.Sessions) != 0 {
		t.Errorf("to be deleted: %+v", e)
	}
	_, err = s.Admin.ExportUser(asAdmin(t), &latchkeyv1.ExportUserRequest{UserId: tokens.GetSessionId()})
	wantRefused(t, err, codes.NotFound, "USER_NOT_FOUND")
	_, err = s.Admin.ExportUser(as(t, tokens), &latchkeyv1.ExportUserRequest{UserId: id})
	wantRefused(t, err, codes.Unauthenticated, "KEY_INVALID")
}

// However much happened, an export stays below what clients take, and says that it was cut.
func TestExportIsBounded(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	id := wantValid(t, s, tokens.GetAccessToken(), 0).GetUser().GetId()
	execSQL(t, s, `INSERT INTO audit_events (created_at, kind, user_id, session_id, address, trace_id)
		SELECT $2::timestamptz - i * interval '1 second', 'refresh_repeated', $1, gen_random_uuid(), '2001:db8:1111:2222:3333:4444:5555:6666',
			'0123456789abcdef0123456789abcdef' FROM generate_series(1, 20000) AS i`, id, s.Clock.Now())
	resp, err := s.AccountService.ExportAccount(as(t, tokens), &latchkeyv1.ExportAccountRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(resp.GetAccountJson()); n > 3<<20 {
		t.Errorf("%d bytes", n)
	}
	if e := readExport(t, resp.GetAccountJson()); len(e.Activity) != 5000 || !e.ActivityIsCut || e.Activity[0].Kind != "account_exported" {
		t.Errorf("%d events, cut: %v", len(e.Activity), e.ActivityIsCut)
	}
	for range 9 {
		if _, err := s.AccountService.ExportAccount(as(t, tokens), &latchkeyv1.ExportAccountRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.AccountService.ExportAccount(as(t, tokens), &latchkeyv1.ExportAccountRequest{})
	wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
}

// An operator's word proves an address: it is recorded with the key, mailed to the address, shown by every replica, and
// takes nothing.
func TestVerifyUserEmail(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{EmailVerification: "optional"})
	replica := twin(t, s, testenv.Options{EmailVerification: "optional"})
	tokens := account(t, s)
	id := wantValid(t, replica, tokens.GetAccessToken(), 0).GetUser().GetId()
	for range 2 { // the second time changes nothing
		resp, err := s.Admin.VerifyUserEmail(asAdmin(t), &latchkeyv1.VerifyUserEmailRequest{UserId: id})
		if err != nil || !resp.GetAccount().GetUser().GetEmailVerified() || resp.GetAccount().GetUser().GetFirstName() != "Ada" {
			t.Fatalf("%v, %v", resp, err)
		}
	}
	for _, on := range []*testenv.Server{s, replica} {
		if !wantValid(t, on, tokens.GetAccessToken(), 0).GetUser().GetEmailVerified() {
			t.Error("a replica does not show it")
		}
	}
	events, _ := listEvents(t, s, &latchkeyv1.ListAuditEventsRequest{UserId: id, Kinds: []string{"user_email_verified"}})
	if len(events) != 1 || !strings.HasPrefix(events[0].GetActor(), "operator:") {
		t.Errorf("events: %v", events)
	}
	waitMail(t, s, "was confirmed")
	logIn(t, s, email)
	if n := count(t, s, "SELECT count(*) FROM unproved_sign_ups"); n != 0 {
		t.Errorf("%d sign-ups are not proved", n)
	}
	_, err := s.Admin.VerifyUserEmail(asAdmin(t), &latchkeyv1.VerifyUserEmailRequest{UserId: tokens.GetSessionId()})
	wantRefused(t, err, codes.NotFound, "USER_NOT_FOUND")
}
