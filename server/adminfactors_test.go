package server_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// An operator lists accounts by factor, and removes the factors of one whose owner has lost them: that ends its sessions
// on every replica, is recorded and mailed.
func TestOperatorRemovesFactors(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	replica := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Clock: s.Clock})
	operator := testenv.WithKey(t.Context(), testenv.AdminKey)
	_, recovery, tokens := guarded(t, s)
	plain := signUp(t, s, "eve@example.com")
	id := wantValid(t, s, tokens.GetAccessToken(), 0).GetUser().GetId()
	open := challenge(t, s)

	guardedAccounts := func() (ids []string) {
		t.Helper()
		listed, err := s.Admin.ListUsers(operator, &latchkeyv1.ListUsersRequest{Factor: latchkeyv1.FactorKind_FACTOR_KIND_TOTP, PageSize: 1})
		if err != nil || listed.GetNextPageToken() != "" {
			t.Fatalf("%v, %v", listed, err)
		}
		for _, account := range listed.GetAccounts() {
			ids = append(ids, account.GetUser().GetId())
		}
		return ids
	}
	if got := guardedAccounts(); !slices.Equal(got, []string{id}) {
		t.Errorf("accounts with an app: %v", got)
	}
	_, err := s.Admin.ListUsers(operator, &latchkeyv1.ListUsersRequest{Factor: latchkeyv1.FactorKind_FACTOR_KIND_PASSWORD})
	wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "factor")
	listed, err := s.Admin.ListUserFactors(operator, &latchkeyv1.ListUserFactorsRequest{UserId: id})
	if err != nil || !slices.Equal(kinds(listed.GetFactors()), []string{"PASSWORD", "TOTP", "RECOVERY_CODES"}) {
		t.Errorf("%v, %v", listed, err)
	}

	if _, err := replica.Admin.RemoveUserFactors(operator, &latchkeyv1.RemoveUserFactorsRequest{UserId: id}); err != nil {
		t.Fatal(err)
	}
	for _, at := range []*testenv.Server{s, replica} {
		wantValid(t, at, tokens.GetAccessToken(), ended)
	}
	_, err = tryAnswer(t.Context(), s, withRecovery(open, recovery[0]))
	wantRefused(t, err, codes.Unauthenticated, "CHALLENGE_INVALID")
	if got := guardedAccounts(); got != nil {
		t.Errorf("accounts with an app: %v", got)
	}
	logIn(t, s, email)
	if n := count(t, s, "SELECT count(*) FROM audit_events WHERE kind = 'user_factors_removed' AND user_id = $1", id); n != 1 {
		t.Errorf("%d events", n)
	}
	testenv.Eventually(t, patience, "the owner is told", func() bool {
		sent := append(s.Mailbox.Messages(), replica.Mailbox.Messages()...) // either of them does the work
		return slices.ContainsFunc(sent, func(m mail.Message) bool { return strings.Contains(m.Subject, "was removed") })
	})
	for _, account := range []string{id, plain.GetId()} { // twice, and of an account without
		if _, err := s.Admin.RemoveUserFactors(operator, &latchkeyv1.RemoveUserFactorsRequest{UserId: account}); err != nil {
			t.Error(err)
		}
	}
	for _, call := range []func(ctx context.Context, id string) error{
		func(ctx context.Context, id string) error {
			_, err := s.Admin.RemoveUserFactors(ctx, &latchkeyv1.RemoveUserFactorsRequest{UserId: id})
			return err
		},
		func(ctx context.Context, id string) error {
			_, err := s.Admin.ListUserFactors(ctx, &latchkeyv1.ListUserFactorsRequest{UserId: id})
			return err
		},
	} {
		wantRefused(t, call(operator, uuid.NewString()), codes.NotFound, "USER_NOT_FOUND")
		wantRefused(t, call(as(t, tokens), id), codes.Unauthenticated, "KEY_INVALID")
	}
}

// Lists by factor know every kind, and the reset of an owner's factors takes passkeys too.
func TestOperatorKnowsEveryFactor(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{PasskeyOrigins: []string{"https://app.example.com"}})
	tokens := account(t, s)
	id := wantValid(t, s, tokens.GetAccessToken(), 0).GetUser().GetId()
	addPasskey(t, s, tokens.GetAccessToken(), newAuthenticator(t))
	signUp(t, s, "eve@example.com")
	listed := func() map[latchkeyv1.FactorKind]int {
		t.Helper()
		found := map[latchkeyv1.FactorKind]int{}
		for _, kind := range []latchkeyv1.FactorKind{
			latchkeyv1.FactorKind_FACTOR_KIND_TOTP, latchkeyv1.FactorKind_FACTOR_KIND_PASSKEY, latchkeyv1.FactorKind_FACTOR_KIND_RECOVERY_CODES,
		} {
			resp, err := s.Admin.ListUsers(asAdmin(t), &latchkeyv1.ListUsersRequest{Factor: kind})
			if err != nil {
				t.Fatal(err)
			}
			if len(resp.GetAccounts()) > 0 && resp.GetAccounts()[0].GetUser().GetId() != id {
				t.Errorf("%v: %v", kind, resp)
			}
			found[kind] = len(resp.GetAccounts())
		}
		return found
	}
	if got := listed(); got[latchkeyv1.FactorKind_FACTOR_KIND_TOTP] != 0 || got[latchkeyv1.FactorKind_FACTOR_KIND_PASSKEY] != 1 || got[latchkeyv1.FactorKind_FACTOR_KIND_RECOVERY_CODES] != 1 {
		t.Errorf("listed: %v", got)
	}
	if _, err := s.Admin.RemoveUserFactors(asAdmin(t), &latchkeyv1.RemoveUserFactorsRequest{UserId: id}); err != nil {
		t.Fatal(err)
	}
	for kind, n := range listed() {
		if n != 0 {
			t.Errorf("%v: %d accounts", kind, n)
		}
	}
	if n := count(t, s, "SELECT count(*) FROM passkeys"); n != 0 {
		t.Errorf("%d passkeys are left", n)
	}
	wantValid(t, s, tokens.GetAccessToken(), ended)
	logIn(t, s, email)
}
