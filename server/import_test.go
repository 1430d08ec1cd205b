package server_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	argon "github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// bcryptHash is the hash of "user1password", with cost 5.
const bcryptHash = "$2a$05$bOWCsAoQI28jvWHl8Sb33.EBN8EikqMmUWUavEVg7Jh7a9MmCVCJO"

type importStream = grpc.ClientStreamingClient[latchkeyv1.ImportUsersRequest, latchkeyv1.ImportUsersResponse]

func openImport(ctx context.Context, t *testing.T, s *testenv.Server) importStream {
	t.Helper()
	stream, err := s.Admin.ImportUsers(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// importUsers sends one message for each list.
func importUsers(t *testing.T, s *testenv.Server, dryRun bool, lists ...[]*latchkeyv1.ImportedUser) *latchkeyv1.ImportUsersResponse {
	t.Helper()
	stream := openImport(asAdmin(t), t, s)
	for _, list := range lists {
		if err := stream.Send(&latchkeyv1.ImportUsersRequest{Users: list, DryRun: dryRun}); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func manyUsers(from, n int) []*latchkeyv1.ImportedUser {
	list := make([]*latchkeyv1.ImportedUser, n)
	for i := range list {
		list[i] = &latchkeyv1.ImportedUser{Email: fmt.Sprintf("user%d@example.com", from+i), PasswordHash: bcryptHash}
	}
	return list
}

func wantCounts(t *testing.T, resp *latchkeyv1.ImportUsersResponse, created, existing, refused int64, reasons ...string) {
	t.Helper()
	if resp.GetCreatedCount() != created || resp.GetExistingCount() != existing || resp.GetRefusedCount() != refused {
		t.Errorf("created %d, existing %d, refused %d; want %d, %d, %d",
			resp.GetCreatedCount(), resp.GetExistingCount(), resp.GetRefusedCount(), created, existing, refused)
	}
	if len(resp.GetRefusals()) != len(reasons) {
		t.Fatalf("refusals %v, want %v", resp.GetRefusals(), reasons)
	}
	for i, reason := range reasons {
		got := resp.GetRefusals()[i]
		if text := fmt.Sprintf("%d %s: %s", got.GetNumber(), got.GetEmail(), got.GetReason()); !strings.Contains(text, reason) {
			t.Errorf("refusal %q, want %q", text, reason)
		}
	}
}

// Imported users log in with their old passwords, and everything else about their accounts is as it was.
func TestImportedLogin(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	id, made := uuid.NewString(), s.Clock.Now().Add(-1000*time.Hour)
	resp := importUsers(t, s, false, []*latchkeyv1.ImportedUser{
		{
			Id: id, Email: email, PasswordHash: bcryptHash, FirstName: "Ada", LastName: "Lovelace", EmailVerified: true,
			CreateTime: timestamppb.New(made), LastLoginTime: timestamppb.New(made.Add(time.Hour)),
		},
		{Email: "suspended@example.com", PasswordHash: bcryptHash, Suspended: true},
		{Email: "social@example.com"},
	})
	wantCounts(t, resp, 3, 0, 0)
	found := getUser(t, s, byID(id))
	if u := found.GetUser(); u.GetEmail() != email || u.GetFirstName() != "Ada" || u.GetLastName() != "Lovelace" || !u.GetEmailVerified() ||
		!u.GetCreateTime().AsTime().Equal(made) || !found.GetLastLoginTime().AsTime().Equal(made.Add(time.Hour)) || found.GetSuspended() {
		t.Errorf("got %v", found)
	}
	login := func(address, typed string) error {
		_, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: address, Password: typed})
		return err
	}
	wantRefused(t, login(email, "user2password"), codes.Unauthenticated, "INVALID_CREDENTIALS")
	for range 2 { // the second one uses the hash that the first one wrote
		if err := login(strings.ToUpper(email), "user1password"); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, s, "SELECT count(*) FROM users WHERE id = $1 AND password_hash LIKE '$argon2id$%'", id); n != 1 {
		t.Error("the login has not rewritten the hash")
	}
	wantRefused(t, login("suspended@example.com", "user1password"), codes.PermissionDenied, "ACCOUNT_DISABLED")
	// An account without a password accepts no typed text, and the log has no line about it.
	for _, typed := range []string{"!", "user1password"} {
		wantRefused(t, login("social@example.com", typed), codes.Unauthenticated, "INVALID_CREDENTIALS")
	}
	if logs := string(s.Logs.Bytes()); strings.Contains(logs, "unusable password hash") || !strings.Contains(logs, "accounts imported") || strings.Contains(logs, bcryptHash) {
		t.Errorf("log:\n%s", logs)
	}
	// The same import again does not change the new hash.
	before := count(t, s, "SELECT hashtext(string_agg(u::text || xmin, ',' ORDER BY id)) FROM users u")
	wantCounts(t, importUsers(t, s, false, []*latchkeyv1.ImportedUser{{Id: id, Email: email, PasswordHash: bcryptHash}}), 0, 1, 0)
	if after := count(t, s, "SELECT hashtext(string_agg(u::text || xmin, ',' ORDER BY id)) FROM users u"); after != before {
		t.Error("the second import changed something")
	}
}

// TestImportPeppers: a stored hash that names a pepper is taken where the service has it, and refused by name where not.
func TestImportPeppers(t *testing.T) {
	t.Parallel()
	const pepper = "password" // bcryptHash is of "user1" and this
	p, err := argon.NewPepper([]byte(pepper))
	if err != nil {
		t.Fatal(err)
	}
	users := []*latchkeyv1.ImportedUser{
		{Email: email, PasswordHash: "{PEPPER-SUFFIX:" + p.ID() + "}" + bcryptHash}, {Email: "bo@example.com", PasswordHash: bcryptHash},
	}
	without := testenv.Start(t, testenv.Options{Peppers: []string{"another"}})
	wantCounts(t, importUsers(t, without, false, users), 1, 0, 1, "1 "+email+": the hash was made with pepper "+p.ID())
	s := testenv.Start(t, testenv.Options{Peppers: []string{"another", pepper}})
	wantCounts(t, importUsers(t, s, false, users), 2, 0, 0)
	if n := count(t, s, "SELECT count(*) FROM password_peppers WHERE id = $1 AND imported_at IS NOT NULL", p.ID()); n != 1 {
		t.Error("the import has not noted the pepper")
	}
	login := func(typed string) error {
		_, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: typed})
		return err
	}
	wantRefused(t, login("user1"+pepper), codes.Unauthenticated, "INVALID_CREDENTIALS")
	for range 2 {
		if err := login("user1"); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, s, "SELECT count(*) FROM users WHERE email = $1 AND password_hash LIKE '$argon2id$%'", email); n != 1 {
		t.Error("the login has not rewritten the hash")
	}
}

// Bad accounts are reported with their number in the stream, and a dry run writes nothing.
func TestImportRefusals(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	lists := [][]*latchkeyv1.ImportedUser{
		append(manyUsers(0, 900), &latchkeyv1.ImportedUser{Email: strings.ToLower(email)}, &latchkeyv1.ImportedUser{Email: "x@example.com", Id: "17"}),
		nil,
		append(
			manyUsers(900, 900), nil, &latchkeyv1.ImportedUser{Email: "h@example.com", PasswordHash: "$2a$99$" + strings.Repeat("a", 53)},
			&latchkeyv1.ImportedUser{Email: "t@example.com", CreateTime: &timestamppb.Timestamp{Nanos: -1}}, &latchkeyv1.ImportedUser{Email: "user5@example.com"},
		),
	}
	reasons := []string{
		"901 ada.lovelace@example.com: the address differs in letter case only", "902 x@example.com: id is not a UUID", "1803 : it has no address",
		"1804 h@example.com: ", "1805 t@example.com: create_time", "1806 user5@example.com: record 6 has this address",
	}
	wantCounts(t, importUsers(t, s, true, lists...), 1800, 0, 6, reasons...)
	if n := count(t, s, "SELECT count(*) FROM users"); n != 1 {
		t.Errorf("the dry run made %d", n)
	}
	wantCounts(t, importUsers(t, s, false, lists...), 1800, 0, 6, reasons...)
	wantCounts(t, importUsers(t, s, false), 0, 0, 0)

	// The list of refusals is limited, the count is not.
	var bad [][]*latchkeyv1.ImportedUser
	for range 3 {
		bad = append(bad, make([]*latchkeyv1.ImportedUser, 1000))
	}
	resp := importUsers(t, s, false, bad...)
	if resp.GetRefusedCount() != 3000 || len(resp.GetRefusals()) != 1000 || resp.GetRefusals()[999].GetNumber() != 1000 {
		t.Errorf("refused %d, %d told", resp.GetRefusedCount(), len(resp.GetRefusals()))
	}
}

// No other key and no token is accepted.
func TestImportNeedsAdminKey(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	for name, ctx := range map[string]context.Context{
		"none":        t.Context(),
		"service key": testenv.WithKey(t.Context(), testenv.ServiceKey),
		"token":       testenv.WithKey(t.Context(), tokens.GetAccessToken()),
	} {
		stream := openImport(ctx, t, s)
		_ = stream.Send(&latchkeyv1.ImportUsersRequest{Users: manyUsers(0, 3)}) // may be refused already
		_, err := stream.CloseAndRecv()
		t.Log(name)
		wantRefused(t, err, codes.Unauthenticated, "KEY_INVALID")
	}
	if n := count(t, s, "SELECT count(*) FROM users"); n != 1 {
		t.Errorf("%d accounts", n)
	}
}

// The stream itself has limits.
func TestImportShape(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	stream := openImport(asAdmin(t), t, s)
	_ = stream.Send(&latchkeyv1.ImportUsersRequest{Users: manyUsers(0, 1001)}) // the answer is read below
	_, err := stream.CloseAndRecv()
	wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "users")

	stream = openImport(asAdmin(t), t, s)
	for _, dryRun := range []bool{true, false} {
		_ = stream.Send(&latchkeyv1.ImportUsersRequest{Users: manyUsers(0, 10), DryRun: dryRun})
	}
	_, err = stream.CloseAndRecv()
	wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "dry_run")
	if n := count(t, s, "SELECT count(*) FROM users"); n != 0 {
		t.Errorf("%d accounts", n)
	}

	// Four run at a time, and when one has ended its place is free.
	ctx, cancel := context.WithCancel(asAdmin(t))
	for range 4 {
		if err := openImport(ctx, t, s).Send(&latchkeyv1.ImportUsersRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	try := func() error {
		_, err := openImport(asAdmin(t), t, s).CloseAndRecv()
		return err
	}
	// An earlier try would take the place of one that has not started.
	testenv.Eventually(t, patience, "all four have begun", func() bool { return s.App.Admin.Importing() == 4 })
	wantRefused(t, try(), codes.ResourceExhausted, "OVERLOADED")
	cancel()
	testenv.Eventually(t, patience, "there is a place again", func() bool { return try() == nil })
}

// Before the end, whole batches were written, and the rest can be sent again.
func TestImportCancelled(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	ctx, cancel := context.WithCancel(asAdmin(t))
	stream := openImport(ctx, t, s)
	for i := range 12 {
		if err := stream.Send(&latchkeyv1.ImportUsersRequest{Users: manyUsers(1000*i, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	written := func() int { return count(t, s, "SELECT count(*) FROM users") }
	testenv.Eventually(t, patience, "two batches are written", func() bool { return written() == 10_000 })
	cancel()
	if _, err := stream.CloseAndRecv(); status.Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}
	testenv.Eventually(t, patience, "the server has noticed", func() bool { return strings.Contains(string(s.Logs.Bytes()), `"whole":false`) })
	if n := written(); n != 10_000 {
		t.Errorf("%d accounts", n)
	}
	var lists [][]*latchkeyv1.ImportedUser
	for i := range 12 {
		lists = append(lists, manyUsers(1000*i, 1000))
	}
	wantCounts(t, importUsers(t, s, false, lists...), 2000, 10_000, 0)
}

// A stream on which nothing comes, or nothing more, does not hold up a stop.
func TestImportStops(t *testing.T) {
	t.Parallel()
	for name, messages := range map[string]int{"no message": 0, "one message": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{})
			stream := openImport(asAdmin(t), t, s)
			for range messages {
				if err := stream.Send(&latchkeyv1.ImportUsersRequest{Users: manyUsers(0, 1)}); err != nil {
					t.Fatal(err)
				}
			}
			// The server has started the import when a place is taken.
			testenv.Eventually(t, patience, "the import has begun", func() bool { return s.App.Admin.Importing() == 1 })
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			s.Server.Shutdown(ctx, 0, nil)
			if ctx.Err() != nil {
				t.Error("the stop waited for the import")
			}
			var resp latchkeyv1.ImportUsersResponse
			if err := stream.RecvMsg(&resp); err == nil || err == io.EOF { //nolint:errorlint // io.EOF would be an answer
				t.Errorf("the import ended with %v, %v", &resp, err)
			}
		})
	}
}
