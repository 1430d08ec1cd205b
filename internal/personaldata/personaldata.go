// Package personaldata is a flow: it writes everything that the service has about the owner of an account as JSON.
package personaldata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/factors"
	"github.com/latchkey-auth/latchkey/internal/login"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

const (
	// Schema names the form of the JSON. It changes when a member changes its meaning.
	Schema = "latchkey-personal-data/1"
	// maxEvents is how many events it has: some 1.5 MB. Clients of gRPC take 4 MiB, unless they say otherwise.
	maxEvents = 5000
	// eventsPage is how many events are read at once.
	eventsPage = 1000

	exportsScope = "ExportAccount of an account"
)

// exportsRate limits the exports of an account: each is some megabytes, and a row of the audit trail.
func exportsRate() ratelimit.Rate { return ratelimit.Rate{PerMinute: 1, Burst: 10} }

// Config has the settings of a Flow. All fields are required.
type Config struct {
	Pool     *pgxpool.Pool
	Accounts *account.Accounts
	Factors  *factors.Flow
	Logins   *login.Flow
	Trail    *audit.Trail
	Redis    *besteffort.Redis
	// Now is the clock.
	Now func() time.Time
}

// Flow has the flows of this package. Use New.
type Flow struct {
	cfg     Config
	queries *db.Queries
}

// New returns a Flow.
func New(cfg Config) *Flow { return &Flow{cfg: cfg, queries: db.New()} }

// Own returns the data of the account of a session.
func (f *Flow) Own(ctx context.Context, by revoke.Authority) (string, error) {
	if err := f.cfg.Redis.Allow(ctx, exportsScope, by.UserID.String(), exportsRate()); err != nil {
		return "", err
	}
	if err := f.cfg.Accounts.RecheckFactor(ctx, by); err != nil {
		return "", err
	}
	return f.export(ctx, by.UserID, by.SessionID, true, refusal.AccountGone)
}

// ByOperator returns the data of an account for an operator. It refuses an id that no account has.
func (f *Flow) ByOperator(ctx context.Context, id uuid.UUID) (string, error) {
	return f.export(ctx, id, uuid.Nil, false, refusal.AccountNotFound)
}

// export records the export first: what was handed out must not be missing in the trail.
func (f *Flow) export(ctx context.Context, id, acting uuid.UUID, forOwner bool, unknown func() error) (string, error) {
	row, err := f.queries.FindUser(ctx, f.cfg.Pool, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", unknown()
	}
	if err != nil {
		return "", fmt.Errorf("look the account up: %w", err)
	}
	if err := f.cfg.Trail.Record(ctx, f.cfg.Pool, audit.AccountExported, id, acting); err != nil {
		return "", fmt.Errorf("record the export: %w", err)
	}
	d := document{Schema: Schema, ExportTime: f.cfg.Now().UTC(), Account: accountOf(row)}
	for _, fill := range []func(ctx context.Context, id uuid.UUID, d *document) error{
		f.fillDeletion, f.fillFactors, f.fillSessions, f.fillMails, f.fillActivity,
	} {
		if err := fill(ctx, id, &d); err != nil {
			return "", err
		}
	}
	if forOwner {
		d.hideOperators()
	}
	text, err := json.Marshal(d)
	if err != nil {
		return "", fmt.Errorf("write the data: %w", err)
	}
	return string(text), nil
}

func (f *Flow) fillDeletion(ctx context.Context, id uuid.UUID, d *document) error {
	times, err := f.cfg.Accounts.DeleteTimes(ctx, id)
	if at, marked := times[id]; marked {
		d.Account.DeleteTime = instant(at)
	}
	return err
}

func (f *Flow) fillFactors(ctx context.Context, id uuid.UUID, d *document) error {
	list, err := f.cfg.Factors.List(ctx, id)
	if err != nil {
		return err
	}
	d.Factors = []factor{} // an array also if there is none
	for _, has := range list {
		one := factor{
			Kind: string(has.Kind), Name: has.Name, CreateTime: instant(has.CreateTime), LastUseTime: instant(has.LastUseTime),
		}
		if has.ID != uuid.Nil {
			one.ID = has.ID.String()
		}
		if has.Kind == factors.RecoveryCodes {
			one.Remaining = &has.Remaining
		}
		d.Factors = append(d.Factors, one)
	}
	return nil
}

func (f *Flow) fillSessions(ctx context.Context, id uuid.UUID, d *document) error {
	list, err := f.cfg.Logins.Sessions(ctx, id)
	if err != nil {
		return err
	}
	d.Sessions = []session{}
	for _, has := range list {
		d.Sessions = append(d.Sessions, session{
			ID: has.ID.String(), DeviceName: has.DeviceName, Address: has.Address, Methods: append([]string{}, has.AMR...),
			CreateTime: has.CreateTime.UTC(), LastUseTime: has.RotateTime.UTC(), ExpireTime: has.End.UTC(),
		})
	}
	return nil
}

// fillMails writes which mails can still be answered. Their secrets are not stored.
func (f *Flow) fillMails(ctx context.Context, id uuid.UUID, d *document) error {
	rows, err := f.queries.ListPending(ctx, f.cfg.Pool, db.ListPendingParams{UserID: id, Now: f.cfg.Now()})
	if err != nil {
		return fmt.Errorf("list the mails that can be answered: %w", err)
	}
	d.Mails = []mailed{}
	for _, row := range rows {
		d.Mails = append(d.Mails, mailed{Purpose: row.Purpose, Address: row.Address, CreateTime: row.CreatedAt.UTC(), ExpireTime: row.ExpiresAt.UTC()})
	}
	return nil
}

func (f *Flow) fillActivity(ctx context.Context, id uuid.UUID, d *document) error {
	d.Activity = []event{}
	query := audit.Query{UserID: uuid.NullUUID{UUID: id, Valid: true}, Size: eventsPage}
	for len(d.Activity) < maxEvents {
		events, next, err := f.cfg.Accounts.Events(ctx, query)
		if err != nil {
			return err
		}
		for _, e := range events {
			d.Activity = append(d.Activity, eventOf(e))
		}
		query.After = next
		if next == nil {
			return nil
		}
	}
	d.ActivityIsCut = true
	return nil
}
