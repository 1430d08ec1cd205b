package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
)

// adminTimeout bounds one call. The service answers within 15 s, even if a revocation has to wait for a lease.
const adminTimeout = 20 * time.Second

// adminCommand is one thing that an operator can do.
type adminCommand struct {
	words   string   // its name
	account bool     // takes an identifier or an address
	session bool     // also takes a session of that account
	flags   []string // its flags beside the common ones
	about   string
	run     func(ctx context.Context, a *adminCall) error
}

func adminCommands() []adminCommand {
	pages := []string{"page-size", "page-token", "all"}
	return []adminCommand{
		{"user get", true, false, nil, "show an account", adminGet},
		{"user list", false, false, append([]string{"factor"}, pages...), "list accounts, newest first, a page or all", adminList},
		{"user suspend", true, false, nil, "suspend an account, and end its sessions", adminSuspend},
		{"user reactivate", true, false, nil, "let a suspended account log in again", adminReactivate},
		{"user delete", true, false, []string{"now", "yes"}, "delete an account, after LATCHKEY_DELETION_GRACE or at once, and end its sessions", adminDelete},
		{"user restore", true, false, nil, "keep an account that is to be deleted", adminRestore},
		{"user export", true, false, nil, "print everything that the service has about the owner of an account, as JSON", adminExport},
		{"user verify-email", true, false, nil, "mark the address of an account as proved", adminVerifyEmail},
		{"user sessions", true, false, pages, "list the live sessions of an account, newest first, a page or all", adminSessions},
		{"user revoke-session", true, true, nil, "end one session of an account", adminRevokeSession},
		{"user revoke-sessions", true, false, nil, "end all sessions of an account", adminRevokeSessions},
		{"user factors", true, false, nil, "list the factors with which the owner of an account logs in", adminFactors},
		{"user remove-factors", true, false, nil, "remove the second factors of an account whose owner has lost them, and end its sessions", adminRemoveFactors},
		{"user change-email", true, false, []string{"to"}, "give an account whose owner gets no mail another address, and end its sessions", adminChangeEmail},
		{"user events", true, false, append(eventFlags(), pages...), "list what happened to an account, newest first, a page or all", adminEvents},
		{"events", false, false, append(eventFlags(), pages...), "list what happened to all accounts, also deleted ones, newest first, a page or all", adminEvents},
		{"revoke-all-sessions", false, false, []string{"yes"}, "end all sessions of all accounts", adminRevokeAll},
	}
}

func adminGroup() command {
	group := command{
		name: "admin", noun: "command ", about: "find, suspend, delete and export accounts, end sessions, remove second factors, list events: calls a running service",
		common: []string{"json", "addr", "ca", "server-name", "plaintext"},
		more: `The service is the one at LATCHKEY_GRPC_ADDR on this machine, or at --addr. The key is read from LATCHKEY_ADMIN_KEY or the
file LATCHKEY_ADMIN_KEY_FILE. Another machine is called over TLS, verified with the system's authorities or those in --ca;
--plaintext sends the key without encryption. Exit codes: 0 done, 1 refused or failed, 2 usage or settings.`,
	}
	for _, c := range adminCommands() {
		group.group = append(group.group, command{name: c.words, usage: c.usage(), about: c.about, flags: c.define})
	}
	return group
}

// usage returns the text after the name in the usage line.
func (c adminCommand) usage() string {
	var parts []string
	if c.account {
		parts = append(parts, "ID|EMAIL")
	}
	if c.session {
		parts = append(parts, "SESSION")
	}
	for _, name := range c.flags {
		switch name {
		case "factor":
			parts = append(parts, "[--factor "+strings.Join(factorNames(), "|")+"]")
		case "page-size":
			parts = append(parts, "[--page-size N]")
		case "page-token":
			parts = append(parts, "[--page-token TOKEN]")
		case "all", "now":
			parts = append(parts, "[--"+name+"]")
		case "kind":
			parts = append(parts, "[--kind KIND]...")
		case "since", "until":
			parts = append(parts, "[--"+name+" TIME]")
		case "to":
			parts = append(parts, "--to ADDRESS")
		default:
			parts = append(parts, "--"+name)
		}
	}
	return strings.Join(parts, " ")
}

// warning says what a command with --yes does.
func (c adminCommand) warning() string {
	if c.account {
		return "the account and everything in it is lost"
	}
	return "all sessions of all accounts are ended, and everybody has to log in again"
}

// factorNames returns the kinds of factors by which accounts are listed.
func factorNames() []string { return []string{"totp", "passkey", "recovery_codes"} }

// define defines the flags of the command and returns its runner.
func (c adminCommand) define(flags *flag.FlagSet) runner {
	a := &adminCall{command: c}
	a.target.flags(flags)
	flags.BoolVar(&a.json, "json", false, "print the answer as JSON, one line for each page")
	for _, name := range c.flags {
		switch name {
		case "factor":
			flags.StringVar(&a.factor, name, "", "list only accounts with a second factor of this `KIND`, or with recovery codes: "+strings.Join(factorNames(), ", "))
		case "page-size":
			flags.IntVar(&a.size, name, 0, "list `N` in a page, at most 1000; 0 is 100")
		case "page-token":
			flags.StringVar(&a.page, name, "", "begin with the page of this `TOKEN`, which the page before names")
		case "all":
			flags.BoolVar(&a.all, name, false, "list every page from there on")
		case "kind":
			flags.Func(name, "list only events of this `KIND`; may be given several times", a.events.addKind)
		case "since":
			flags.Func(name, "list only events from this `TIME` on: 2026-11-30T06:00:00Z, or 24h for the last day", a.events.setStart)
		case "until":
			flags.Func(name, "list only events before this `TIME`", a.events.setEnd)
		case "to":
			flags.StringVar(&a.to, name, "", "the new `ADDRESS`, which is the owner's for sure")
		case "yes":
			flags.BoolVar(&a.yes, name, false, "do it: "+c.warning())
		case "now":
			flags.BoolVar(&a.now, name, false, "delete it at once, whatever LATCHKEY_DELETION_GRACE is")
		}
	}
	return a.runner
}

// adminCall is a command line of `latchkey admin`, with the means to run it.
type adminCall struct {
	command adminCommand
	account string
	session string
	target  adminTarget
	json    bool
	factor  string
	size    int
	page    string
	all     bool
	yes     bool
	now     bool
	to      string
	events  eventFilter

	client latchkeyv1.AdminServiceClient
	out    io.Writer
}

// runner calls a running service as an operator. It takes the key from the environment, because everybody on
// the machine can read a command line.
func (a *adminCall) runner(ctx context.Context, words, environ []string, stdout io.Writer) error {
	if err := a.take(words); err != nil {
		return err
	}
	if err := a.check(); err != nil {
		return err
	}
	cfg, err := app.LoadSettings(environ, config.Admin)
	if err != nil {
		return err
	}
	if cfg.AdminKey == "" {
		return noAdminKey(cfg, environ)
	}
	conn, err := a.target.dial(cfg)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // the answer is in
	a.client, a.out = latchkeyv1.NewAdminServiceClient(conn), stdout
	return a.command.run(ctx, a)
}

// noAdminKey returns the error for a missing key. It says where `dev` keeps one.
func noAdminKey(cfg *config.Config, environ []string) error {
	dir := cfg.DevDir
	if dir == "" {
		dir = defaultDevDir(environ)
	}
	missing := config.Reject("LATCHKEY_ADMIN_KEY", "is not set")
	return &usageError{fmt.Sprintf("%s; for `latchkey dev` set LATCHKEY_ADMIN_KEY_FILE=%s", missing, filepath.Join(dir, adminKeyFile))}
}

// take reads the words after the name of the command.
func (a *adminCall) take(words []string) error {
	c := a.command
	switch {
	case c.session && len(words) == 2 && words[0] != "" && isID(words[1]):
		a.account, a.session = words[0], words[1]
	case c.session:
		return &usageError{fmt.Sprintf("latchkey admin %s takes an account, by its identifier or address, and the identifier of a session", c.words)}
	case c.account && len(words) == 1 && words[0] != "":
		a.account = words[0]
	case c.account:
		return &usageError{fmt.Sprintf("latchkey admin %s takes one account: an identifier or an address", c.words)}
	case len(words) > 0:
		return &usageError{fmt.Sprintf("latchkey admin %s takes no %q", c.words, words[0])}
	}
	return nil
}

// check returns an error for flags whose values the command cannot use.
func (a *adminCall) check() error {
	switch {
	case a.size < 0 || a.size > 1000:
		return &usageError{"--page-size must be from 1 to 1000"}
	case a.factor != "" && !slices.Contains(factorNames(), a.factor):
		return &usageError{"--factor must be one of " + strings.Join(factorNames(), ", ")}
	case slices.Contains(a.command.flags, "to") && a.to == "":
		return &usageError{"latchkey admin " + a.command.words + " needs the new address: add --to ADDRESS"}
	case slices.Contains(a.command.flags, "yes") && !a.yes:
		return &usageError{"latchkey admin " + a.command.words + ": " + a.command.warning() + ": add --yes"}
	}
	return a.target.check()
}

// id returns the identifier of the account on the command line. It asks the service if that is an address.
func (a *adminCall) id(ctx context.Context) (string, error) {
	if isID(a.account) {
		return a.account, nil
	}
	account, err := a.find(ctx)
	return account.GetUser().GetId(), err
}

// isID reports whether text is a UUID in its usual form. An address never is: it has an @.
func isID(text string) bool {
	_, err := uuid.Parse(text)
	return err == nil && len(text) == len(uuid.Nil.String())
}

func (a *adminCall) find(ctx context.Context) (*latchkeyv1.Account, error) {
	req := &latchkeyv1.GetUserRequest{Account: &latchkeyv1.GetUserRequest_Email{Email: a.account}}
	if isID(a.account) {
		req.Account = &latchkeyv1.GetUserRequest_UserId{UserId: a.account}
	}
	resp, err := call(ctx, a.client.GetUser, req)
	return resp.GetAccount(), err
}

func adminGet(ctx context.Context, a *adminCall) error {
	account, err := a.find(ctx)
	if err != nil {
		return err
	}
	return a.showAccount(account)
}

func adminList(ctx context.Context, a *adminCall) error {
	return a.eachPage(func(token string) (string, error) {
		//nolint:gosec // G115: check bounds it
		req := &latchkeyv1.ListUsersRequest{PageSize: int32(a.size), PageToken: token}
		if a.factor != "" {
			req.Factor = latchkeyv1.FactorKind(latchkeyv1.FactorKind_value["FACTOR_KIND_"+strings.ToUpper(a.factor)])
		}
		resp, err := call(ctx, a.client.ListUsers, req)
		if err != nil {
			return "", err
		}
		return resp.GetNextPageToken(), a.showUsers(resp, token == a.page)
	})
}

func adminSessions(ctx context.Context, a *adminCall) error {
	id, err := a.id(ctx)
	if err != nil {
		return err
	}
	return a.eachPage(func(token string) (string, error) {
		//nolint:gosec // G115: check bounds it
		req := &latchkeyv1.ListUserSessionsRequest{UserId: id, PageSize: int32(a.size), PageToken: token}
		resp, err := call(ctx, a.client.ListUserSessions, req)
		if err != nil {
			return "", err
		}
		return resp.GetNextPageToken(), a.showSessions(resp, token == a.page)
	})
}

// eachPage shows one page of a list, or with --all that page and all that follow it. show returns the token
// of the next page.
func (a *adminCall) eachPage(show func(token string) (next string, err error)) error {
	for token := a.page; ; {
		next, err := show(token)
		if err != nil {
			return err
		}
		if next == "" || !a.all {
			return nil
		}
		if next == token {
			return errors.New("the service names the same page again")
		}
		token = next
	}
}

// changeAccount calls a method that changes the account, and shows it as it is then.
func changeAccount[Q any, A interface{ GetAccount() *latchkeyv1.Account }](
	ctx context.Context, a *adminCall, method func(context.Context, Q, ...grpc.CallOption) (A, error), request func(id string) Q,
) error {
	id, err := a.id(ctx)
	if err != nil {
		return err
	}
	resp, err := call(ctx, method, request(id))
	if err != nil {
		return err
	}
	return a.showAccount(resp.GetAccount())
}

func adminSuspend(ctx context.Context, a *adminCall) error {
	return changeAccount(ctx, a, a.client.SuspendUser, func(id string) *latchkeyv1.SuspendUserRequest {
		return &latchkeyv1.SuspendUserRequest{UserId: id}
	})
}

func adminReactivate(ctx context.Context, a *adminCall) error {
	return changeAccount(ctx, a, a.client.ReactivateUser, func(id string) *latchkeyv1.ReactivateUserRequest {
		return &latchkeyv1.ReactivateUserRequest{UserId: id}
	})
}

func adminRevokeSession(ctx context.Context, a *adminCall) error {
	id, err := a.id(ctx)
	if err != nil {
		return err
	}
	resp, err := call(ctx, a.client.RevokeUserSession, &latchkeyv1.RevokeUserSessionRequest{UserId: id, SessionId: a.session})
	if err != nil {
		return err
	}
	return a.showDone(resp, "the session "+a.session+" of "+id+" is ended")
}

func adminRevokeSessions(ctx context.Context, a *adminCall) error {
	id, err := a.id(ctx)
	if err != nil {
		return err
	}
	resp, err := call(ctx, a.client.RevokeUserSessions, &latchkeyv1.RevokeUserSessionsRequest{UserId: id})
	if err != nil {
		return err
	}
	return a.showDone(resp, "all sessions of "+id+" are ended")
}

func adminFactors(ctx context.Context, a *adminCall) error {
	id, err := a.id(ctx)
	if err != nil {
		return err
	}
	resp, err := call(ctx, a.client.ListUserFactors, &latchkeyv1.ListUserFactorsRequest{UserId: id})
	if err != nil {
		return err
	}
	return a.showFactors(resp)
}

func adminRemoveFactors(ctx context.Context, a *adminCall) error {
	id, err := a.id(ctx)
	if err != nil {
		return err
	}
	resp, err := call(ctx, a.client.RemoveUserFactors, &latchkeyv1.RemoveUserFactorsRequest{UserId: id})
	if err != nil {
		return err
	}
	return a.showDone(resp, "the second factors of "+id+" are removed, and all its sessions are ended")
}

func adminChangeEmail(ctx context.Context, a *adminCall) error {
	return changeAccount(ctx, a, a.client.ChangeUserEmail, func(id string) *latchkeyv1.ChangeUserEmailRequest {
		return &latchkeyv1.ChangeUserEmailRequest{UserId: id, NewEmail: a.to}
	})
}

func adminRevokeAll(ctx context.Context, a *adminCall) error {
	resp, err := call(ctx, a.client.RevokeAllSessions, &latchkeyv1.RevokeAllSessionsRequest{})
	if err != nil {
		return err
	}
	return a.showDone(resp, "all sessions of all accounts are ended")
}
