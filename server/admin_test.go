package server_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func byID(id string) *latchkeyv1.GetUserRequest {
	return &latchkeyv1.GetUserRequest{Account: &latchkeyv1.GetUserRequest_UserId{UserId: id}}
}

func byEmail(address string) *latchkeyv1.GetUserRequest {
	return &latchkeyv1.GetUserRequest{Account: &latchkeyv1.GetUserRequest_Email{Email: address}}
}

func getUser(t *testing.T, s *testenv.Server, req *latchkeyv1.GetUserRequest) *latchkeyv1.Account {
	t.Helper()
	resp, err := s.Admin.GetUser(asAdmin(t), req)
	if err != nil {
		t.Fatalf("get %v: %v", req, err)
	}
	return resp.GetAccount()
}

func TestGetUser(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user := signUp(t, s, email)
	account := getUser(t, s, byID(user.GetId()))
	if !proto.Equal(account.GetUser(), user) || account.GetSuspended() || account.GetLastLoginTime() != nil {
		t.Errorf("got %v", account)
	}
	s.Clock.Advance(time.Minute)
	logIn(t, s, email)
	for _, address := range []string{email, strings.ToLower(email), strings.ToUpper(email)} {
		account := getUser(t, s, byEmail(address))
		if !proto.Equal(account.GetUser(), user) || !account.GetLastLoginTime().AsTime().Equal(s.Clock.Now()) {
			t.Errorf("%s: %v", address, account)
		}
	}
	if got := getUser(t, s, byID(strings.ToUpper(user.GetId()))); !proto.Equal(got.GetUser(), user) {
		t.Errorf("an identifier in upper case: %v", got)
	}
	// An older backend allowed addresses that differ only in letter case: the exact one wins.
	twin := strings.ToUpper(email)
	execSQL(t, s, `INSERT INTO users (email, password_hash, first_name, last_name, is_active) VALUES ($1, 'x', 'T', 'W', false)`, twin)
	if got := getUser(t, s, byEmail(twin)); got.GetUser().GetEmail() != twin || !got.GetSuspended() {
		t.Errorf("got %v", got)
	}
	for name, test := range map[string]struct {
		req    *latchkeyv1.GetUserRequest
		code   codes.Code
		reason string
		field  []string
	}{
		"unknown id":      {byID(uuid.NewString()), codes.NotFound, "USER_NOT_FOUND", nil},
		"zero id":         {byID(uuid.Nil.String()), codes.NotFound, "USER_NOT_FOUND", nil},
		"unknown address": {byEmail("nobody@example.com"), codes.NotFound, "USER_NOT_FOUND", nil},
		"no uuid":         {byID("ada"), codes.InvalidArgument, "VALIDATION_FAILED", []string{"user_id"}},
		"no dashes":       {byID(strings.ReplaceAll(user.GetId(), "-", "")), codes.InvalidArgument, "VALIDATION_FAILED", []string{"user_id"}},
		"braces":          {byID("{" + user.GetId() + "}"), codes.InvalidArgument, "VALIDATION_FAILED", []string{"user_id"}},
		"empty id":        {byID(""), codes.InvalidArgument, "VALIDATION_FAILED", []string{"user_id"}},
		"empty address":   {byEmail(""), codes.InvalidArgument, "VALIDATION_FAILED", []string{"email"}},
		"long address":    {byEmail(strings.Repeat("a", 256)), codes.InvalidArgument, "VALIDATION_FAILED", []string{"email"}},
		"NUL":             {byEmail("a\x00b"), codes.InvalidArgument, "VALIDATION_FAILED", []string{"email"}},
		"neither":         {&latchkeyv1.GetUserRequest{}, codes.InvalidArgument, "VALIDATION_FAILED", []string{"account"}},
	} {
		t.Log(name)
		_, err := s.Admin.GetUser(asAdmin(t), test.req)
		wantRefused(t, err, test.code, test.reason, test.field...)
	}
}

// listUsers reads all pages. It calls between before each page except the first.
func listUsers(t *testing.T, s *testenv.Server, size int32, between func()) (ids []string) {
	t.Helper()
	token := ""
	for {
		resp, err := s.Admin.ListUsers(asAdmin(t), &latchkeyv1.ListUsersRequest{PageSize: size, PageToken: token})
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		if n := len(resp.GetAccounts()); n > int(size) && size > 0 || n == 0 && token != "" {
			t.Fatalf("a page of %d has %d accounts", size, n)
		}
		for _, account := range resp.GetAccounts() {
			ids = append(ids, account.GetUser().GetId())
		}
		token = resp.GetNextPageToken()
		if token == "" {
			return ids
		}
		between()
	}
}

// insertUsers makes accounts that were created n seconds ago, three at the same time.
func insertUsers(t *testing.T, s *testenv.Server, prefix string, from, count int) {
	t.Helper()
	execSQL(t, s, `INSERT INTO users (email, password_hash, first_name, last_name, created_at)
		SELECT $1 || i || '@example.com', 'x', 'A', 'B', $2::timestamptz - make_interval(secs => i / 3)
		FROM generate_series($3::int, $3::int + $4::int - 1) AS i`, prefix, s.Clock.Now(), from, count)
}

// Every account that exists from the first page to the last is shown once, newest first, even if others are made and
// deleted in between, and even if accounts have the same time.
func TestListUsers(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	if ids := listUsers(t, s, 0, func() {}); len(ids) != 0 {
		t.Fatalf("nobody is there: %v", ids)
	}
	insertUsers(t, s, "old", 1000, 50)
	var want []string
	rows, err := s.Pool.Query(t.Context(), "SELECT id::text FROM users ORDER BY created_at DESC, id DESC")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		want = append(want, id)
	}
	if rows.Err() != nil || len(want) != 50 {
		t.Fatalf("%d: %v", len(want), rows.Err())
	}
	for _, size := range []int32{1, 2, 3, 7, 49, 50, 51, 1000, 0} {
		if got := listUsers(t, s, size, func() {}); !slices.Equal(got, want) {
			t.Errorf("pages of %d: %d accounts, or another order", size, len(got))
		}
	}
	made := 0
	got := listUsers(t, s, 7, func() {
		made++
		insertUsers(t, s, fmt.Sprintf("new%d-", made), 0, 5)    // before the accounts that were shown
		insertUsers(t, s, fmt.Sprintf("older%d-", made), 30, 5) // after the newest, before the rest
		execSQL(t, s, "DELETE FROM users WHERE email LIKE 'new%' AND random() < 0.5")
	})
	if got = slices.DeleteFunc(got, func(id string) bool { return !slices.Contains(want, id) }); made < 5 || !slices.Equal(got, want) {
		t.Errorf("%d of 50 accounts, or another order, with %d changes meanwhile", len(got), made)
	}
	// The default is a hundred.
	insertUsers(t, s, "more", 2000, 100)
	resp, err := s.Admin.ListUsers(asAdmin(t), &latchkeyv1.ListUsersRequest{})
	if err != nil || len(resp.GetAccounts()) != 100 || resp.GetNextPageToken() == "" {
		t.Errorf("%d accounts, %v", len(resp.GetAccounts()), err)
	}
}

func TestListUsersRefuses(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	insertUsers(t, s, "u", 0, 3)
	resp, err := s.Admin.ListUsers(asAdmin(t), &latchkeyv1.ListUsersRequest{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	good := resp.GetNextPageToken()
	other := testenv.Start(t, testenv.Options{Secret: "another"})
	insertUsers(t, other, "u", 0, 3)
	elsewhere, err := other.Admin.ListUsers(asAdmin(t), &latchkeyv1.ListUsersRequest{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, req := range map[string]*latchkeyv1.ListUsersRequest{
		"garbage":                {PageToken: "garbage"},
		"forged":                 {PageToken: flip(good, 12)},
		"forged MAC":             {PageToken: flip(good, len(good)-3)},
		"shortened":              {PageToken: good[:len(good)-1]},
		"of another service":     {PageToken: elsewhere.GetNextPageToken()},
		"of another list":        {PageToken: s.App.Pages.Seal("another list", "", s.Clock.Now(), uuid.New())},
		"of a list with owners":  {PageToken: s.App.Pages.Seal(latchkeyv1.AdminService_ListUsers_FullMethodName, "owner", s.Clock.Now(), uuid.New())},
		"an identifier":          {PageToken: uuid.NewString()},
		"longer than any can be": {PageToken: strings.Repeat("A", 257)},
	} {
		t.Log(name)
		_, err := s.Admin.ListUsers(asAdmin(t), req)
		wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "page_token")
	}
	for _, size := range []int32{-1, 1001} {
		_, err := s.Admin.ListUsers(asAdmin(t), &latchkeyv1.ListUsersRequest{PageSize: size})
		wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "page_size")
	}
	// A replica with the same secret accepts it, with another page size than before.
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL})
	if resp, err := replica.Admin.ListUsers(asAdmin(t), &latchkeyv1.ListUsersRequest{PageSize: 1000, PageToken: good}); err != nil || len(resp.GetAccounts()) != 2 {
		t.Errorf("%v, %v", resp, err)
	}
}
