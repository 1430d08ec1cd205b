package app

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/device"
	"github.com/latchkey-auth/latchkey/internal/factors"
	"github.com/latchkey-auth/latchkey/internal/login"
	"github.com/latchkey-auth/latchkey/internal/personaldata"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/validate"
	"github.com/latchkey-auth/latchkey/server"
	"github.com/latchkey-auth/latchkey/server/accounts"
	"github.com/latchkey-auth/latchkey/server/admin"
	"github.com/latchkey-auth/latchkey/server/auth"
	"github.com/latchkey-auth/latchkey/server/page"
	"github.com/latchkey-auth/latchkey/server/revocations"
	"github.com/latchkey-auth/latchkey/server/sessions"
)

// flows are the flows that the services call, and what they share with the server.
type flows struct {
	log        *server.Log
	keys       server.Keys
	rates      *ratelimit.GCRA
	redis      *besteffort.Redis
	afterwards *besteffort.Afterwards
	revoker    *revoke.Revoker
	validation *validate.Validator
	accounts   *account.Accounts
	factors    *factors.Flow
	logins     *login.Flow
	personal   *personaldata.Flow
	older      *older
}

// newServer builds the flows, the services, and the server around them.
func (a *App) newServer(keys *subkeys, cache *validate.Cache, older *older) error {
	cfg := a.cfg
	f, err := a.newFlows(keys, cache, older)
	if err != nil {
		return err
	}
	a.Accounts = f.accounts
	if a.Pages, err = page.New(keys.pageToken); err != nil {
		return err
	}
	if a.certificate, err = loadTLS(cfg); err != nil {
		return err
	}
	if err := a.certificate.register(a.Metrics); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	pages, err := newAccountPages(cfg)
	if err != nil {
		return err
	}
	a.newServices(f)
	a.Server, err = server.New(server.Config{
		Register: func(r grpc.ServiceRegistrar) { a.register(r, f) }, Validation: f.validation, Keys: f.keys, FreshWithin: cfg.FreshWithin,
		Pool: a.stores.Pool, Redis: a.stores.Redis, Ledger: a.Ledger, Keyring: a.Keyring, Passwords: a.hasher,
		Rates: f.rates, BestEffort: f.redis, AddressLimit: cfg.AddressRateLimit, Afterwards: f.afterwards,
		TLS: cmp.Or(a.overrides.TLS, a.certificate.config()), Reflection: cfg.Reflection,
		WebOrigins: cfg.WebOrigins, LocalOrigins: a.localPages, WebCookies: cfg.WebCookies, OwnPages: pages != nil, AccountPages: pages,
		TrustedProxies: cfg.TrustedProxies, ProxyProtocol: cfg.ProxyProtocol,
		MaxConnections: cfg.MaxConnections, MaxConnectionsPerAddress: cfg.MaxConnectionsPerAddress,
		Metrics: a.Metrics, Log: f.log, Now: a.now, Warnings: a.certificate.warnings,
		ArrivalTime: a.overrides.ArrivalTime, ConnectionAge: a.overrides.ConnectionAge,
	})
	return err
}

// newFlows builds what does not depend on gRPC.
func (a *App) newFlows(keys *subkeys, cache *validate.Cache, older *older) (*flows, error) {
	st, cfg := a.stores, a.cfg
	f := &flows{older: older, log: server.NewLog(a.log, cfg.LogLines, a.now), keys: server.Keys{Admin: cfg.AdminKeySHA256, Service: cfg.ServiceKeySHA256}}
	log, trail := f.log.Bounded, audit.New(a.now)
	var err error
	if f.rates, err = ratelimit.NewGCRA(ratelimit.GCRAConfig{Redis: st.Redis, Now: a.now}); err != nil {
		return nil, err
	}
	if f.redis, err = besteffort.NewRedis(f.rates, log, a.now); err != nil {
		return nil, err
	}
	f.afterwards = besteffort.NewAfterwards(log)
	f.revoker = revoke.New(revoke.Config{Pool: st.Pool, Ledger: a.Ledger, Sessions: a.Sessions, Trail: trail, Redis: f.redis, Logger: log})
	f.validation = validate.New(validate.Config{Pool: st.Pool, Keyring: a.Keyring, Ledger: a.Ledger, Cache: cache, Now: a.now})
	f.factors = factors.New(factors.Config{
		Pool: st.Pool, Sealer: a.sealer, Notifier: a.outbox, Revoker: f.revoker, Trail: trail, Redis: f.redis,
		Passkeys: a.passkeys, LoginByCode: cfg.LoginByCode, Product: ProductName(cfg), Afterwards: f.afterwards, Now: a.now,
	})
	logins, accounts, err := a.flowConfigs(keys, f, trail)
	if err != nil {
		return nil, err
	}
	older.hookFlows(&logins, &accounts)
	f.logins = login.New(logins)
	accounts.Guesses = f.logins
	f.accounts = account.New(accounts)
	f.personal = personaldata.New(personaldata.Config{
		Pool: st.Pool, Accounts: f.accounts, Factors: f.factors, Logins: f.logins, Trail: trail, Redis: f.redis, Now: a.now,
	})
	older.connect(f)
	return f, nil
}

// flowConfigs returns the configurations of logins and accounts, without the hooks of the older backends.
func (a *App) flowConfigs(keys *subkeys, f *flows, trail *audit.Trail) (logins login.Config, accounts account.Config, err error) {
	st, cfg := a.stores, a.cfg
	failures, err := ratelimit.NewAttempts(ratelimit.AttemptsConfig{
		Redis: st.Redis, Name: "login", Key: keys.attempts, Limit: failuresAllowed, Window: failureWindow, Now: a.now,
	})
	if err != nil {
		return logins, accounts, err
	}
	resets, err := ratelimit.NewAttempts(ratelimit.AttemptsConfig{
		Redis: st.Redis, Name: "reset", Key: keys.attempts, Limit: failuresAllowed, Window: failureWindow, Now: a.now,
	})
	if err != nil {
		return logins, accounts, err
	}
	devices, err := device.New(keys.device, a.now)
	if err != nil {
		return logins, accounts, err
	}
	clockRight := a.Ledger.ClockRight
	if a.overrides.Now != nil && !a.overrides.CheckClock {
		clockRight = nil
	}
	logins = login.Config{
		Pool: st.Pool, Sessions: a.Sessions, Keyring: a.Keyring, Passwords: a.hasher, Failures: failures, Rates: f.rates,
		Devices: devices, NewDeviceMails: cfg.NewDeviceMails, Notifier: a.outbox, Factors: f.factors,
		RequestVerification: a.outbox.RequestVerification, ProveFirst: account.Verification(cfg.EmailVerification) == account.VerificationRequired,
		Accounts: laterAccounts{f},
		Revoker:  f.revoker, Trail: trail, Redis: f.redis, Afterwards: f.afterwards,
		AccessTokenTTL: cfg.AccessTokenTTL, ClientID: cfg.ClientID, ReturnURLs: cfg.ReturnURLs, Logger: f.log.Bounded, Now: a.now, ClockRight: clockRight,
	}
	accounts = account.Config{
		Pool: st.Pool, Passwords: a.hasher, Policy: a.policy,
		LoginFailures: failures, ResetRequests: resets, Rates: f.rates,
		Uncounted: func(ctx context.Context) bool { return !cfg.AddressRateLimit || f.keys.Shown(ctx) },
		Mailer:    a.outbox, HideAccounts: cfg.HideAccounts, Verification: account.Verification(cfg.EmailVerification), LoginByCode: cfg.LoginByCode, LinkKey: keys.resetLink,
		UndoLinks:     cfg.EmailChangeURL != "",
		DeletionGrace: cfg.DeletionGrace,
		Revoker:       f.revoker, Trail: trail, Redis: f.redis, Now: a.now,
	}
	return logins, accounts, nil
}

func (a *App) newServices(f *flows) {
	a.Auth = &auth.Service{Accounts: f.accounts, Logins: f.logins, Validation: f.validation, KeyShown: f.keys.Shown}
	f.older.hookService(a.Auth)
	a.Admin = admin.New(admin.Config{
		Accounts: f.accounts, Logins: f.logins, Factors: f.factors, Revoker: f.revoker, Pages: a.Pages, PersonalData: f.personal, Pool: a.stores.Pool,
		HasPepper: a.hasher.HasPepper, Logger: f.log.Bounded, Now: a.now,
	})
}

// register registers the services of the contract.
func (a *App) register(r grpc.ServiceRegistrar, f *flows) {
	latchkeyv1.RegisterAuthServiceServer(r, a.Auth)
	latchkeyv1.RegisterAdminServiceServer(r, a.Admin)
	latchkeyv1.RegisterRevocationServiceServer(r, &revocations.Service{Ledger: a.Ledger})
	latchkeyv1.RegisterAccountServiceServer(r, &accounts.Service{Accounts: f.accounts, Logins: f.logins, Factors: f.factors, Pages: a.Pages, PersonalData: f.personal})
	latchkeyv1.RegisterSessionServiceServer(r, &sessions.Service{Logins: f.logins, Revoker: f.revoker, Pages: a.Pages})
	f.older.register(r)
}

// laterAccounts are the accounts of the flows, which are built after the logins that need them.
type laterAccounts struct{ f *flows }

// LeavesAt implements login.Accounts.
func (l laterAccounts) LeavesAt(ctx context.Context, id uuid.UUID) (time.Time, error) {
	return l.f.accounts.LeavesAt(ctx, id)
}

// Keep implements login.Accounts.
func (l laterAccounts) Keep(ctx context.Context, id uuid.UUID, position int64) (int64, error) {
	return l.f.accounts.Keep(ctx, id, position)
}

// UseLoginCode implements login.Accounts.
func (l laterAccounts) UseLoginCode(ctx context.Context, token, code string) (account.CodeLogin, error) {
	return l.f.accounts.UseLoginCode(ctx, token, code)
}
