package main

import (
	"context"
	"fmt"
	"time"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

func adminDelete(ctx context.Context, a *adminCall) error {
	id, err := a.id(ctx)
	if err != nil {
		return err
	}
	resp, err := call(ctx, a.client.DeleteUser, &latchkeyv1.DeleteUserRequest{UserId: id, Immediately: a.now})
	if err != nil {
		return err
	}
	words := "the account " + id + " is deleted, and all its sessions are ended"
	if at := resp.GetDeleteTime(); at.AsTime().After(time.Now()) {
		words = "the account " + id + " will be deleted at " + when(at) + ", and all its sessions are ended; `latchkey admin user restore` keeps it"
	}
	return a.showDone(resp, words)
}

func adminRestore(ctx context.Context, a *adminCall) error {
	return changeAccount(ctx, a, a.client.RestoreUser, func(id string) *latchkeyv1.RestoreUserRequest {
		return &latchkeyv1.RestoreUserRequest{UserId: id}
	})
}

func adminVerifyEmail(ctx context.Context, a *adminCall) error {
	return changeAccount(ctx, a, a.client.VerifyUserEmail, func(id string) *latchkeyv1.VerifyUserEmailRequest {
		return &latchkeyv1.VerifyUserEmailRequest{UserId: id}
	})
}

// adminExport prints the JSON as the service wrote it: with --json too, for it is JSON in any case.
func adminExport(ctx context.Context, a *adminCall) error {
	id, err := a.id(ctx)
	if err != nil {
		return err
	}
	resp, err := call(ctx, a.client.ExportUser, &latchkeyv1.ExportUserRequest{UserId: id})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.out, resp.GetAccountJson())
	return err
}
