package server

import (
	"fmt"
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/latchkey-auth/latchkey/internal/inbound"
)

// registerMetrics adds the server's own metrics to the registry. Their values are read when they are scraped, so
// nothing is counted twice.
func (s *Server) registerMetrics() error {
	collectors := s.rpcMetrics.vectors
	collectors = append(collectors, s.hashMetrics()...)
	collectors = append(collectors, s.poolMetrics()...)
	collectors = append(collectors, s.ledgerMetrics()...)
	collectors = append(collectors, s.arrivalMetrics()...)
	collectors = append(collectors, gauge("latchkey_signing_key_age_seconds", "How long the active signing key has been so; NaN without one.", s.keyAge))
	for _, store := range []string{"postgres", "redis"} {
		collectors = append(collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "latchkey_store_up", Help: "Whether the store answered, and took writes, when it was last asked (every second).",
			ConstLabels: prometheus.Labels{"store": store},
		}, func() float64 { return s.storeUp(store) }))
	}
	for _, c := range collectors {
		if err := s.cfg.Metrics.Register(c); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	return nil
}

func (s *Server) storeUp(store string) float64 {
	s.ready.mu.Lock()
	defer s.ready.mu.Unlock()
	state := s.ready.redis
	if store == "postgres" {
		state = s.ready.postgres
	}
	if state == storeOK {
		return 1
	}
	return 0
}

func (s *Server) keyAge() float64 {
	since := s.cfg.Keyring.ActiveSince()
	if since.IsZero() {
		return math.NaN()
	}
	return s.cfg.Now().Sub(since).Seconds()
}

func (s *Server) hashMetrics() []prometheus.Collector {
	stats := s.cfg.Passwords.Stats
	return []prometheus.Collector{
		gauge("latchkey_hash_slots", "Passwords that can be hashed at once.", func() float64 { return float64(stats().Slots) }),
		gauge("latchkey_hash_in_use", "Passwords being hashed.", func() float64 { return float64(stats().InUse) }),
		gauge("latchkey_hash_waiting", "Calls that wait for a hash.", func() float64 { return float64(stats().Waiting) }),
		counter("latchkey_hash_total", "Passwords hashed.", func() float64 { return float64(stats().Hashed) }),
		counter("latchkey_hash_foreign_total", "Of these, hashes of other kinds than Argon2: the accounts of other programs that log in, and what hides them.", func() float64 { return float64(stats().Foreign) }),
		counter("latchkey_hash_turned_away_total", "Calls refused because a hash would not have finished in time, or the queue was full.", func() float64 { return float64(stats().TurnedAway) }),
		counter("latchkey_hash_known_turned_away_total", "Of these, calls of clients with a live session, a device's or a reset's token.", func() float64 { return float64(stats().KnownTurnedAway) }),
		counter("latchkey_hash_seconds_total", "Time spent hashing.", func() float64 { return stats().HashingTime.Seconds() }),
		counter("latchkey_hash_wait_seconds_total", "Time spent waiting for a hash.", func() float64 { return stats().WaitingTime.Seconds() }),
	}
}

func (s *Server) poolMetrics() []prometheus.Collector {
	return []prometheus.Collector{
		gauge("latchkey_postgres_connections", "Open connections to PostgreSQL.", func() float64 { return float64(s.cfg.Pool.Stat().TotalConns()) }),
		gauge("latchkey_postgres_connections_max", "Connections to PostgreSQL at most.", func() float64 { return float64(s.cfg.Pool.Stat().MaxConns()) }),
		gauge("latchkey_postgres_connections_in_use", "Connections to PostgreSQL in use.", func() float64 { return float64(s.cfg.Pool.Stat().AcquiredConns()) }),
		counter("latchkey_postgres_wait_seconds_total", "Time spent waiting for a connection to PostgreSQL.", func() float64 { return s.cfg.Pool.Stat().EmptyAcquireWaitTime().Seconds() }),
		counter("latchkey_postgres_acquires_total", "Times a connection to PostgreSQL was taken: one for each statement outside a transaction, and for each transaction.", func() float64 { return float64(s.cfg.Pool.Stat().AcquireCount()) }),
		gauge("latchkey_redis_connections", "Open connections to Redis.", func() float64 { return float64(s.cfg.Redis.PoolStats().TotalConns) }),
		gauge("latchkey_redis_connections_idle", "Idle connections to Redis.", func() float64 { return float64(s.cfg.Redis.PoolStats().IdleConns) }),
		counter("latchkey_redis_acquires_total", "Times a connection to Redis was taken: one for each command or pipeline.", func() float64 {
			stats := s.cfg.Redis.PoolStats()
			return float64(stats.Hits) + float64(stats.Misses)
		}),
		counter("latchkey_redis_wait_timeouts_total", "Calls that got no connection to Redis in time.", func() float64 { return float64(s.cfg.Redis.PoolStats().Timeouts) }),
	}
}

func (s *Server) ledgerMetrics() []prometheus.Collector {
	stats := s.cfg.Ledger.Stats
	return []prometheus.Collector{
		gauge("latchkey_ledger_trusted", "Whether validations are answered from memory (1), or ask PostgreSQL (0).", func() float64 {
			if stats().Trusted {
				return 1
			}
			return 0
		}),
		gauge("latchkey_ledger_applied_position", "The newest row of the revocation ledger that this replica has applied.", func() float64 { return float64(stats().Applied) }),
		gauge("latchkey_ledger_rows", "Rows of the revocation ledger in memory.", func() float64 { return float64(stats().Rows) }),
		counter("latchkey_ledger_waits_total", "Revocations that waited here until they were final.", func() float64 { return float64(stats().Waits) }),
		counter("latchkey_ledger_waits_timed_out_total", "Revocations among them that waited a whole lease, because some replica did not answer.", func() float64 { return float64(stats().TimedOut) }),
		counter("latchkey_ledger_wait_seconds_total", "Time that revocations took to become final after their commit.", func() float64 { return stats().WaitTime.Seconds() }),
		counter("latchkey_ledger_session_ends_total", "Ended sessions that were written to the ledger.", func() float64 { return float64(stats().Appends) }),
		counter("latchkey_ledger_session_end_flushes_total", "Transactions that they shared.", func() float64 { return float64(stats().Flushes) }),
		counter("latchkey_validations_in_store_total", "Validations that asked PostgreSQL, because memory was not trusted.", func() float64 { return float64(s.cfg.Validation.InStore()) }),
	}
}

func gauge(name, help string, read func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read)
}

func counter(name, help string, read func() float64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, read)
}

// turnedAway counts calls or connections that ended for a reason before gRPC saw them.
func turnedAway(name, help, reason string, read func() int64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: prometheus.Labels{"reason": reason}},
		func() float64 { return float64(read()) })
}

func (s *Server) arrivalMetrics() []prometheus.Collector {
	stats := s.guard.Stats
	const name, help = "latchkey_calls_cut_off_total", "Calls that ended before their message was here."
	return []prometheus.Collector{
		turnedAway(name, help, "late", func() int64 { return stats().Late }),
		turnedAway(name, help, "too_large", func() int64 { return stats().Large }),
		turnedAway(name, help, "evicted", func() int64 { return stats().Evicted }),
		counter("latchkey_connections_stalled_total", "Connections closed because a frame did not end.", func() float64 { return float64(stats().Stalled) }),
	}
}

// registerListener adds the metrics of the connections of a listener.
func (s *Server) registerListener(name string, stats func() inbound.LimiterStats) {
	const closed, help = "latchkey_connections_closed_total", "Connections closed because there were too many."
	prometheus.WrapRegistererWith(prometheus.Labels{"listener": name}, s.cfg.Metrics).MustRegister(
		gauge("latchkey_connections", "Open connections.", func() float64 { return float64(stats().Open) }),
		turnedAway(closed, help, "all", func() int64 { return stats().RefusedAll }),
		turnedAway(closed, help, "address", func() int64 { return stats().RefusedAddress }),
		turnedAway(closed, help, "displaced", func() int64 { return stats().Displaced }),
	)
}
