package server_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/jobs"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// listEvents reads all pages as an operator.
func listEvents(t *testing.T, s *testenv.Server, req *latchkeyv1.ListAuditEventsRequest) (all []*latchkeyv1.AuditEvent, pages int) {
	t.Helper()
	for {
		resp, err := s.Admin.ListAuditEvents(asAdmin(t), req)
		if err != nil {
			t.Fatalf("list %v: %v", req, err)
		}
		pages++
		all = append(all, resp.GetEvents()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return all, pages
		}
	}
}

func kindsOf(events []*latchkeyv1.AuditEvent) (kinds []string) {
	for _, e := range events {
		kinds = append(kinds, e.GetKind())
	}
	return kinds
}

// TestAuditEvents checks that operators see the events of an account with who acted, and that its owner sees the same
// events without the key, the address and the ids of rows that operators see.
func TestAuditEvents(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user := signUp(t, s, email)
	s.Clock.Advance(time.Minute)
	first := logIn(t, s, email)
	s.Clock.Advance(time.Minute)
	if _, err := s.Admin.RevokeUserSession(asAdmin(t), &latchkeyv1.RevokeUserSessionRequest{UserId: user.GetId(), SessionId: first.GetSessionId()}); err != nil {
		t.Fatal(err)
	}
	s.Clock.Advance(time.Minute)
	if _, err := s.Admin.RevokeUserSessions(asAdmin(t), &latchkeyv1.RevokeUserSessionsRequest{UserId: user.GetId()}); err != nil {
		t.Fatal(err)
	}
	s.Clock.Advance(time.Minute)
	tokens := logIn(t, s, email)
	signUp(t, s, "bob@example.com")

	sum := sha256.Sum256([]byte(testenv.AdminKey))
	key := "operator:" + hex.EncodeToString(sum[:])[:8]
	got, _ := listEvents(t, s, &latchkeyv1.ListAuditEventsRequest{UserId: user.GetId()})
	want := []string{"logged_in", "user_sessions_revoked", "user_session_revoked", "logged_in", "signed_up"}
	if !slices.Equal(kindsOf(got), want) {
		t.Fatalf("got %v", got)
	}
	for i, actor := range []string{"", key, key, "", ""} {
		e := got[i]
		if e.GetActor() != actor || e.GetAddress() != "127.0.0.1" || len(e.GetTraceId()) != 32 || e.GetUserId() != user.GetId() || e.GetTimes() != 1 {
			t.Errorf("event %d: %v", i, e)
		}
	}
	if got[2].GetSessionId() != first.GetSessionId() || got[1].GetSessionId() != "" || !got[0].GetTime().AsTime().Equal(s.Clock.Now()) {
		t.Errorf("got %v", got)
	}

	own, err := s.AccountService.ListActivity(as(t, tokens), &latchkeyv1.ListActivityRequest{})
	if err != nil || own.GetNextPageToken() != "" || !slices.Equal(kindsOf(own.GetEvents()), want) {
		t.Fatalf("got %v, %v", own, err)
	}
	for i, actor := range []string{"", "operator", "operator", "", ""} {
		e := own.GetEvents()[i]
		if e.GetActor() != actor || (e.GetAddress() == "") != (actor != "") || e.GetId() == got[i].GetId() || len(e.GetId()) != 22 {
			t.Errorf("event %d as its owner sees it: %v", i, e)
		}
	}

	// An earlier version did not record who acted.
	execSQL(t, s, "UPDATE audit_events SET actor = ''")
	if got, _ := listEvents(t, s, &latchkeyv1.ListAuditEventsRequest{UserId: user.GetId(), Kinds: []string{"user_session_revoked"}}); len(got) != 1 || got[0].GetActor() != "operator" {
		t.Errorf("got %v", got)
	}
}

// TestNobodyReadsAnotherAccountsEvents checks that page tokens of one account, of other filters and of operators are
// refused.
func TestNobodyReadsAnotherAccountsEvents(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	signUp(t, s, "bob@example.com")
	ada, bob := logIn(t, s, email), logIn(t, s, "bob@example.com")
	page := func(by *latchkeyv1.Tokens, req *latchkeyv1.ListActivityRequest) string {
		resp, err := s.AccountService.ListActivity(as(t, by), req)
		if err != nil || len(resp.GetEvents()) != 1 || resp.GetNextPageToken() == "" {
			t.Fatalf("got %v, %v", resp, err)
		}
		return resp.GetNextPageToken()
	}
	token := page(ada, &latchkeyv1.ListActivityRequest{PageSize: 1})
	resp, err := s.AccountService.ListActivity(as(t, ada), &latchkeyv1.ListActivityRequest{PageSize: 1, PageToken: token})
	if err != nil || !slices.Equal(kindsOf(resp.GetEvents()), []string{"signed_up"}) || resp.GetNextPageToken() != "" {
		t.Errorf("the next page: %v, %v", resp, err)
	}
	for name, req := range map[string]*latchkeyv1.ListActivityRequest{
		"other kinds":   {PageToken: token, Kinds: []string{"logged_in"}},
		"another start": {PageToken: token, StartTime: timestamppb.New(time.Unix(0, 0))},
	} {
		t.Log(name)
		_, err := s.AccountService.ListActivity(as(t, ada), req)
		wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "page_token")
	}
	_, err = s.AccountService.ListActivity(as(t, bob), &latchkeyv1.ListActivityRequest{PageToken: token})
	wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "page_token")
	operators, err := s.Admin.ListAuditEvents(asAdmin(t), &latchkeyv1.ListAuditEventsRequest{PageSize: 1})
	if err != nil || operators.GetNextPageToken() == "" {
		t.Fatalf("got %v, %v", operators, err)
	}
	_, err = s.AccountService.ListActivity(as(t, bob), &latchkeyv1.ListActivityRequest{PageToken: operators.GetNextPageToken()})
	wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "page_token")
	_, err = s.Admin.ListAuditEvents(asAdmin(t), &latchkeyv1.ListAuditEventsRequest{PageToken: token})
	wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "page_token")
	_, err = s.Admin.ListAuditEvents(as(t, ada), &latchkeyv1.ListAuditEventsRequest{})
	wantRefused(t, err, codes.Unauthenticated, "KEY_INVALID")
}

// TestEventFilters checks kinds, times and pages of every size, also where many events have one time and where a page
// looks at more rows than it may.
func TestEventFilters(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user, start := uuid.New(), s.Clock.Now().UTC().Truncate(time.Second).Add(-time.Hour) // the sweep keeps them
	// The newest 6,000 are of a frequent kind, three at a time; 10 older ones are of a rare kind.
	execSQL(t, s, `INSERT INTO audit_events (created_at, kind, user_id, address, trace_id)
		SELECT $2::timestamptz + make_interval(secs => i / 3), CASE WHEN i < 10 THEN 'logged_out' ELSE 'logged_in' END, $1, '192.0.2.1', ''
		FROM generate_series(0, 6009) AS i`, user, start)
	execSQL(t, s, `INSERT INTO audit_events (created_at, kind, user_id, address, trace_id) VALUES ($1, 'all_sessions_revoked', $2, '', '')`, start, uuid.Nil)
	for _, size := range []int32{1, 3, 9, 10, 11, 1000, 0} {
		for _, of := range []string{user.String(), ""} {
			got, pages := listEvents(t, s, &latchkeyv1.ListAuditEventsRequest{UserId: of, Kinds: []string{"logged_out", "signed_up"}, PageSize: size})
			if len(got) != 10 || slices.Contains(kindsOf(got), "logged_in") || pages < 2 {
				t.Errorf("pages of %d of %q: %d events in %d pages", size, of, len(got), pages)
			}
		}
	}
	all, pages := listEvents(t, s, &latchkeyv1.ListAuditEventsRequest{UserId: user.String(), PageSize: 999})
	ids := map[string]bool{}
	for _, e := range all {
		ids[e.GetId()] = true
	}
	sorted := slices.IsSortedFunc(all, func(a, b *latchkeyv1.AuditEvent) int { return b.GetTime().AsTime().Compare(a.GetTime().AsTime()) })
	if len(all) != 6010 || len(ids) != 6010 || pages != 7 || !sorted {
		t.Errorf("%d events, %d different, in %d pages", len(all), len(ids), pages)
	}
	req := &latchkeyv1.ListAuditEventsRequest{
		UserId: user.String(), PageSize: 2,
		StartTime: timestamppb.New(start.Add(2 * time.Second)), EndTime: timestamppb.New(start.Add(4 * time.Second)),
	}
	if got, _ := listEvents(t, s, req); len(got) != 6 || !got[5].GetTime().AsTime().Equal(start.Add(2*time.Second)) {
		t.Errorf("got %v", got)
	}
	if got, _ := listEvents(t, s, &latchkeyv1.ListAuditEventsRequest{UserId: uuid.Nil.String()}); len(got) != 1 || got[0].GetUserId() != "" {
		t.Errorf("events of no account: %v", got)
	}
	for field, req := range map[string]*latchkeyv1.ListAuditEventsRequest{
		"kinds[1]":   {Kinds: []string{"logged_in", "loged_out"}},
		"start_time": {StartTime: &timestamppb.Timestamp{Nanos: -1}},
		"page_size":  {PageSize: 1001},
		"user_id":    {UserId: "ada"},
		"end_time":   {StartTime: timestamppb.New(start), EndTime: timestamppb.New(start)},
	} {
		_, err := s.Admin.ListAuditEvents(asAdmin(t), req)
		wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", field)
	}
}

// TestEventsOfADeletedAccountHaveIDsOnly checks that no list shows the addresses of an account once it is deleted, by
// whatever program, and that the sweep removes them.
func TestEventsOfADeletedAccountHaveIDsOnly(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user := signUp(t, s, email)
	logIn(t, s, email)
	signUp(t, s, "bob@example.com")
	execSQL(t, s, "DELETE FROM users WHERE id = $1", user.GetId())
	shown := func(of string) string {
		var addresses strings.Builder
		got, _ := listEvents(t, s, &latchkeyv1.ListAuditEventsRequest{UserId: of})
		for _, e := range got {
			fmt.Fprintf(&addresses, "%s %q;", e.GetKind(), e.GetAddress())
		}
		return addresses.String()
	}
	if got := shown(user.GetId()); got != `logged_in "";signed_up "";` {
		t.Errorf("got %s", got)
	}
	if got := shown(""); strings.Count(got, "127.0.0.1") != 1 {
		t.Errorf("got %s", got)
	}
	sweep := func() {
		if err := (jobs.Upkeep{Pool: s.Pool, AuditRetention: time.Hour, Now: s.Clock.Now}).Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sweep()
	if n := count(t, s, "SELECT count(*) FROM audit_erasures"); n != 1 {
		t.Errorf("a call may still write an event: %d accounts are kept", n)
	}
	execSQL(t, s, "UPDATE audit_erasures SET deleted_at = deleted_at - interval '6 minutes'")
	sweep()
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE address <> ''"); n != 1 || count(t, s, "SELECT count(*) FROM audit_erasures") != 0 {
		t.Errorf("%d addresses are left", n)
	}
	if got := shown(user.GetId()); got != `logged_in "";signed_up "";` {
		t.Errorf("after the sweep: %s", got)
	}
}
