package takeover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/legacy"
)

const (
	// scanPage is how many keys are requested, and read, at once.
	scanPage = 1000
	// patternsNamed is how many patterns of other programs' keys are counted separately.
	patternsNamed = 20
)

// scanner reads every key once, a page at a time.
type scanner struct {
	cfg   Config
	users bool // accounts can be looked up
	// seen is locked: a cluster's masters are scanned at the same time.
	mu       sync.Mutex
	found    Redis
	patterns map[string]int64
	genuine  int64
	prefix   *regexp.Regexp
	lives    legacy.StoreConfig
	longest  map[string]time.Duration // by the first part of the names
}

// scanRedis counts the keys. While others write, SCAN may return a key twice: then the counts are a little high.
func scanRedis(ctx context.Context, cfg Config, users bool) (*Redis, error) {
	s := &scanner{cfg: cfg, users: users, patterns: map[string]int64{}, lives: cfg.Keys.Store.Defaults(), longest: map[string]time.Duration{}, prefix: regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,39}:`)}
	var err error
	if cluster, ok := cfg.Redis.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return s.scan(ctx, node) })
	} else {
		err = s.scan(ctx, cfg.Redis)
	}
	if err != nil {
		return nil, err
	}
	if cfg.Keys.IsRust != nil {
		s.found.RustRefresh.Genuine = &s.genuine
	}
	s.found.longest = s.longest
	s.found.Patterns = []Pattern{}
	for _, prefix := range slices.Sorted(maps.Keys(s.patterns)) {
		s.found.Patterns = append(s.found.Patterns, Pattern{prefix, s.patterns[prefix]})
	}
	slices.SortStableFunc(s.found.Patterns, func(a, b Pattern) int { return cmp.Compare(b.Count, a.Count) })
	return &s.found, nil
}

func (s *scanner) scan(ctx context.Context, node redis.Cmdable) error {
	for cursor := uint64(0); ; {
		keys, next, err := node.Scan(ctx, cursor, "*", scanPage).Result()
		if err != nil {
			return err
		}
		if err := s.page(ctx, keys); err != nil {
			return err
		}
		if next == 0 {
			return nil
		}
		cursor = next
	}
}

// entry is a key of a backend with its value.
type entry struct {
	kind, name string // before and after the first colon
	value      string
}

func (s *scanner) page(ctx context.Context, keys []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found.Keys += int64(len(keys))
	var known []string
	for _, key := range keys {
		switch kind, _, _ := strings.Cut(key, ":"); kind {
		case "refresh_token", "password_reset", "reset_token", "login_attempts":
			known = append(known, key)
		case "latchkey":
			s.found.Latchkey++
		default:
			s.unknown(key)
		}
	}
	entries, err := s.values(ctx, known)
	if err != nil {
		return err
	}
	owners := map[uuid.UUID][]*Refresh{}
	for _, e := range entries {
		s.count(e, owners)
	}
	return s.owners(ctx, owners)
}

// unknown counts a key of another program under its first part. A name without a first part may be anything, also a
// secret: it is not shown.
func (s *scanner) unknown(key string) {
	s.found.Unknown++
	prefix := s.prefix.FindString(key)
	if _, ok := s.patterns[prefix]; !ok && (prefix == "" || len(s.patterns) >= patternsNamed) {
		prefix = "(others)"
	}
	s.patterns[prefix]++
}

func (s *scanner) values(ctx context.Context, keys []string) ([]entry, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	gets, ttls := make([]*redis.StringCmd, len(keys)), make([]*redis.DurationCmd, len(keys))
	_, err := s.cfg.Redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, key := range keys {
			gets[i], ttls[i] = p.Get(ctx, key), p.PTTL(ctx, key)
		}
		return nil
	})
	var answered redis.Error
	if err != nil && !errors.As(err, &answered) { // redis.Nil is such an answer too
		return nil, err
	}
	entries := make([]entry, 0, len(keys))
	for i, key := range keys {
		value, err := gets[i].Result()
		switch {
		case errors.Is(err, redis.Nil):
			s.found.Keys-- // it has expired meanwhile
			continue
		case redis.HasErrorPrefix(err, "WRONGTYPE"):
			s.found.Unreadable++
			continue
		case err != nil:
			return nil, err
		}
		count(&s.found.WithoutTTL, ttls[i].Err() == nil && ttls[i].Val() == -1)
		kind, name, _ := strings.Cut(key, ":")
		s.longest[kind] = max(s.longest[kind], ttls[i].Val())
		entries = append(entries, entry{kind, name, value})
	}
	return entries, nil
}

func (s *scanner) count(e entry, owners map[uuid.UUID][]*Refresh) {
	f := &s.found
	id, err := uuid.Parse(e.value)
	isID := err == nil
	switch {
	case e.kind == "refresh_token" && isID:
		f.GoRefresh.Total++
		owners[id] = append(owners[id], &f.GoRefresh)
	case e.kind == "refresh_token" && strings.Count(e.value, ".") == 2:
		f.RustRefresh.Total++
		count(&s.genuine, s.cfg.Keys.IsRust != nil && s.cfg.Keys.IsRust(e.value))
		owner, _ := uuid.Parse(e.name) // a name that is not an id belongs to nobody
		owners[owner] = append(owners[owner], &f.RustRefresh)
	case e.kind == "password_reset" && isID:
		f.GoResets++
	case e.kind == "reset_token" && isID:
		f.RustResets++
	case e.kind == "login_attempts":
		n, err := strconv.ParseInt(e.value, 10, 64)
		if err != nil {
			f.Unreadable++
			return
		}
		f.LoginAttempts++
		count(&f.LockedOut, n >= int64(s.lives.Attempts))
	default:
		f.Unreadable++
	}
}

// owners looks up the owners of the refresh tokens of a page.
func (s *scanner) owners(ctx context.Context, owners map[uuid.UUID][]*Refresh) error {
	if !s.users || len(owners) == 0 {
		return nil
	}
	err := pgx.BeginTxFunc(ctx, s.cfg.Conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT id, is_active FROM users WHERE id = ANY($1)", slices.Collect(maps.Keys(owners)))
		if err != nil {
			return err
		}
		var id uuid.UUID
		var active bool
		_, err = pgx.ForEachRow(rows, []any{&id, &active}, func() error {
			for _, r := range owners[id] {
				count(&r.DisabledUser, !active)
			}
			delete(owners, id)
			return nil
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("ask for the owners of refresh tokens: %w", err)
	}
	for _, list := range owners {
		for _, r := range list {
			r.UnknownUser++
		}
	}
	return nil
}

// judgeRedis warns of keys that are not as the backends write them.
func (r *Report) judgeRedis() {
	f := r.Redis
	if f.Unreadable > 0 {
		r.warn(Finding{Code: "unreadable_keys", Count: f.Unreadable, Text: fmt.Sprintf("%d keys have the name of a token or counter, but a value that neither backend writes: Latchkey ignores them", f.Unreadable)})
	}
	if f.WithoutTTL > 0 {
		r.warn(Finding{Code: "keys_without_ttl", Count: f.WithoutTTL, Text: fmt.Sprintf("%d keys of the backends never expire", f.WithoutTTL), Right: "delete them when the older backend is gone; until then tokens among them are accepted until they expire"})
	}
	if n := f.GoRefresh.UnknownUser + f.RustRefresh.UnknownUser + f.GoRefresh.DisabledUser + f.RustRefresh.DisabledUser; n > 0 {
		r.warn(Finding{Code: "worthless_tokens", Count: n, Text: fmt.Sprintf("%d refresh tokens belong to accounts that are disabled or deleted: Latchkey refuses them", n)})
	}
	if f.Keys == f.Unknown+f.Latchkey && f.Unknown > 0 {
		r.warn(Finding{Code: "no_keys", Text: fmt.Sprintf("Redis has %d keys, and none of them is an older backend's", f.Keys), Right: "the older backends' server and database number in LATCHKEY_REDIS_URL"})
	}
}
