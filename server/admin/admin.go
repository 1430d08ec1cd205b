// Package admin serves latchkey.v1.AdminService: it translates messages and calls flows.
package admin

import (
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/factors"
	"github.com/latchkey-auth/latchkey/internal/login"
	"github.com/latchkey-auth/latchkey/internal/personaldata"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/server/page"
)

// userSessionsPage is the purpose of page tokens of ListUserSessions.
const userSessionsPage = "ListUserSessions"

// Config has the settings of a Service. All fields are required.
type Config struct {
	Accounts *account.Accounts
	Logins   *login.Flow
	Factors  *factors.Flow
	Revoker  *revoke.Revoker
	Pages    page.Tokens
	// PersonalData writes all data about the owner of an account.
	PersonalData *personaldata.Flow
	// Pool is the database for imports.
	Pool *pgxpool.Pool
	// HasPepper reports whether the service can compare passwords with hashes that name this pepper.
	HasPepper func(id string) bool
	Logger    *slog.Logger
	// Now is the clock.
	Now func() time.Time
}

// Service implements latchkey.v1.AdminService. Use New.
type Service struct {
	latchkeyv1.UnimplementedAdminServiceServer
	Config

	importing chan struct{} // has one value for each import
}

// New returns a Service.
func New(cfg Config) *Service { return &Service{Config: cfg, importing: make(chan struct{}, imports)} }

// Importing returns how many imports are running.
func (s *Service) Importing() int { return len(s.importing) }
