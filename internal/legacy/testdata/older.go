// The stand-in for internal/app/older.go when the tree of the older backends is deleted: nothing is taken over.
package app

import (
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"

	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/login"
	"github.com/latchkey-auth/latchkey/internal/signing"
	"github.com/latchkey-auth/latchkey/internal/validate"
	"github.com/latchkey-auth/latchkey/server/auth"
)

type older struct {
	key   *signing.OlderKey
	until time.Time
}

func newOlder(*config.Config, redis.UniversalClient, func() time.Time) (*older, error) {
	return &older{}, nil
}

func (*older) hookCache(*validate.CacheConfig)          {}
func (*older) hookFlows(*login.Config, *account.Config) {}
func (*older) hookService(*auth.Service)                {}
func (*older) connect(*flows)                           {}
func (*older) register(grpc.ServiceRegistrar)           {}
func judgesOfOlder() []config.Judge                     { return nil }
