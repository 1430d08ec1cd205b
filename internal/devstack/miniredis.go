package devstack

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"sync"

	"github.com/alicebob/miniredis/v2"
)

// StartMiniredis starts a replacement for redis-server inside this process, for systems without one. It
// listens on a loopback port with a random password; keys expire with the clock. It loses all data when it
// stops, and lacks functions, client tracking, clusters, and cmsgpack in scripts.
func StartMiniredis() (*Redis, error) {
	mini := miniredis.NewMiniRedis()
	mini.ClockTTL(true)
	password := rand.Text()
	mini.RequireAuth(password)
	if err := mini.Start(); err != nil {
		return nil, fmt.Errorf("start miniredis: %w", err)
	}
	address := url.URL{Scheme: "redis", User: url.UserPassword("", password), Host: mini.Addr(), Path: "/0"}
	done := make(chan struct{})
	return &Redis{
		url: address.String(),
		stop: func() func(context.Context) error {
			once := sync.OnceFunc(func() {
				mini.Close()
				close(done)
			})
			return func(context.Context) error {
				once()
				return nil
			}
		}(),
		done:    done,
		whyDone: func() error { return nil },
	}, nil
}
