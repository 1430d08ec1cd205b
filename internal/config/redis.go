package config

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/hosts"
)

// clusterReload bounds how long writes go to a failed master of a cluster. With the 60 s of go-redis, writes
// fail for a minute after a failover.
const clusterReload = 2 * time.Second

// How often and how long a command is tried before it fails. If a store is down, the caller should learn that
// in milliseconds, not after the several seconds of go-redis's default of 4 times 5 dials. One retry is for a
// connection that has gone stale. The time of a command covers the wait for a connection, the dial and the
// retry together. The first command that fails also fails its call, so a call fails within two seconds.
const (
	redisRetries     = 1
	redisDials       = 1
	redisDialTimeout = 2 * time.Second
	redisCommandTime = 1500 * time.Millisecond
)

// RedisURL names one server, the Sentinels of a pair, or nodes of a cluster:
//
//	redis://[user:password@]host:port[/db]            rediss:// with TLS
//	unix:///path/to/redis.sock[?db=0]
//	redis://[user:password@]host:port,host:port,…      a cluster
//	redis+sentinel://[user:password@]host:port,…/master[/db][?sentinel_password=…]
//
// Query parameters are those of go-redis, such as pool_size=20.
type RedisURL struct {
	text   string
	client func(roots *x509.CertPool) redis.UniversalClient
	roots  *x509.CertPool
}

// UnmarshalText checks the form. Its error never contains the text.
func (u *RedisURL) UnmarshalText(text []byte) error {
	if err := readOneWay(string(text)); err != nil {
		return err
	}
	scheme, authority, tail := splitRedis(string(text))
	if authority+tail == "" {
		return errors.New("is not a URL")
	}
	hosts := strings.Split(authority, ",")
	var err error
	if !slices.Contains([]string{"redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"}, scheme) {
		return errors.New("has a scheme other than redis, rediss, unix, redis+sentinel and rediss+sentinel")
	}
	if err := checkRedisHosts(string(text)); err != nil {
		return err
	}
	switch {
	case scheme == "redis+sentinel", scheme == "rediss+sentinel":
		u.client, err = sentinelClient(strings.TrimSuffix(scheme, "+sentinel"), hosts, tail)
	case len(hosts) > 1 && scheme != "unix":
		u.client, err = clusterClient(scheme, hosts, tail)
	default:
		u.client, err = singleClient(string(text))
	}
	if said, ok := errors.AsType[*redisURLError](err); ok {
		return wrongRedis(string(text), said.error)
	}
	if err != nil {
		return err
	}
	u.text = string(text)
	return nil
}

// splitRedis splits a URL. The authority is what comes before the path or the query; of unix:// it is
// everything.
func splitRedis(text string) (scheme, authority, tail string) {
	scheme, authority, _ = strings.Cut(text, "://")
	if i := strings.IndexAny(authority, "/?"); i >= 0 && scheme != "unix" {
		authority, tail = authority[:i], authority[i:]
	}
	return scheme, authority, tail
}

// IsZero reports whether no URL was set.
func (u RedisURL) IsZero() bool { return u.client == nil }

// WithRoots returns the same URL, except that one of roots must have signed the servers' certificates,
// instead of an authority of the system. Nil changes nothing.
func (u RedisURL) WithRoots(roots *x509.CertPool) RedisURL {
	u.roots = roots
	return u
}

// trusting returns cfg with these roots. It returns nil for nil, as of a URL without TLS.
func trusting(cfg *tls.Config, roots *x509.CertPool) *tls.Config {
	if cfg == nil || roots == nil {
		return cfg
	}
	cfg = cfg.Clone()
	cfg.RootCAs = roots
	return cfg
}

// IsTLS reports whether the URL asks for TLS.
func (u RedisURL) IsTLS() bool { return strings.HasPrefix(u.text, "rediss") }

// Client makes a client. It connects when it is first used, and no command takes longer than
// redisCommandTime. It panics if no URL is set.
func (u RedisURL) Client() redis.UniversalClient {
	client := u.client(u.roots)
	client.AddHook(commandTime{})
	return client
}

// Resolve returns the client to use from then on. Call it when the server of client answers. It returns client
// itself, or a client for a cluster if a single address was set and a node of a cluster answers, as a managed
// cluster's endpoint does; client is closed then. An error is permanent: the server that answers cannot be
// used with these settings.
func (u RedisURL) Resolve(ctx context.Context, client redis.UniversalClient) (redis.UniversalClient, error) {
	single, ok := client.(*redis.Client)
	if !ok || u.sentinels() {
		return client, nil
	}
	info, err := single.Info(ctx, "server").Result()
	if err == nil && strings.Contains(info, "redis_mode:sentinel") {
		return client, &RedisUnfitError{"it is a Sentinel, which keeps nothing: write redis+sentinel://host:26379,host:26379/master"}
	}
	info, err = single.Info(ctx, "cluster").Result()
	if err == nil && strings.Contains(info, "cluster_enabled:1") {
		cluster, err := u.asCluster()
		if err != nil {
			return client, err
		}
		_ = client.Close() // it was not used for writes
		return cluster, nil
	}
	info, err = single.Info(ctx, "replication").Result()
	if err == nil && strings.Contains(info, "role:slave") {
		return client, &RedisUnfitError{"it is a replica, which takes no writes: name the master, or the Sentinels (redis+sentinel://host:26379,host:26379/master)"}
	}
	return client, nil
}

// RedisUnfitError is about a Redis that answers and cannot be used. Waiting does not help.
type RedisUnfitError struct{ Reason string }

// Error implements error.
func (e *RedisUnfitError) Error() string { return "this Redis cannot be used: " + e.Reason }

func (u RedisURL) sentinels() bool { return strings.Contains(splitURL(u.text).scheme, "sentinel") }

func (u RedisURL) asCluster() (redis.UniversalClient, error) {
	scheme, authority, tail := splitRedis(u.text)
	path, query, _ := strings.Cut(tail, "?")
	if database := strings.Trim(path, "/"); scheme == "unix" || database != "" && database != "0" {
		return nil, &RedisUnfitError{"it is a node of a cluster, which has database 0 only and is reached by host and port: redis://host:port"}
	}
	client, err := clusterClient(scheme, []string{authority}, "?"+query)
	if err != nil {
		return nil, &RedisUnfitError{"it is a node of a cluster, and the URL does not have the form for one: redis://host:port,host:port"}
	}
	return RedisURL{client: client, roots: u.roots}.Client(), nil
}

// HopelessRedis says why waiting does not help against an error of Redis, "" if it may help.
func HopelessRedis(err error) string {
	if unfit, ok := errors.AsType[*RedisUnfitError](err); ok {
		return unfit.Reason
	}
	if errors.Is(err, redis.Nil) { // the answer of a Sentinel; no other request is for a key that may be missing
		return "its Sentinels know no master of that name: redis+sentinel://host:26379,host:26379/master"
	}
	var answer redis.Error
	if !errors.As(err, &answer) {
		return ""
	}
	text := answer.Error()
	if strings.HasPrefix(text, "ERR This instance has cluster support disabled") {
		return "it is no cluster, and several addresses mean a cluster: name one server (redis://host:port), or its Sentinels (redis+sentinel://host:26379,host:26379/master)"
	}
	for _, start := range []string{"WRONGPASS", "NOAUTH", "NOPERM", "ERR invalid password", "ERR Client sent AUTH", "ERR AUTH", "ERR DB index", "ERR invalid DB index", "ERR SELECT", "ERR unknown command"} {
		if strings.HasPrefix(text, start) {
			return "it refuses what the URL asks for (" + text + ")"
		}
	}
	return ""
}

// commandTime bounds the time of every command and every pipeline.
type commandTime struct{}

// DialHook implements redis.Hook.
func (commandTime) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (commandTime) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		ctx, cancel := context.WithTimeout(ctx, redisCommandTime)
		defer cancel()
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (commandTime) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		ctx, cancel := context.WithTimeout(ctx, redisCommandTime)
		defer cancel()
		return next(ctx, cmds)
	}
}

// Redacted returns the URL without its secret parts.
func (u RedisURL) Redacted() string { return redact(u.text) }

// RemotePassword returns the password that Latchkey sends to another machine, "" if there is none.
func (u RedisURL) RemotePassword() string {
	if !u.remote() {
		return ""
	}
	_, secret, _ := strings.Cut(splitURL(u.text).user, ":")
	if decoded, err := url.PathUnescape(secret); err == nil {
		return decoded
	}
	return secret
}

// remote reports whether the URL names another machine.
func (u RedisURL) remote() bool {
	if u.client == nil || strings.HasPrefix(u.text, "unix:") {
		return false
	}
	return slices.ContainsFunc(strings.Split(splitURL(u.text).hosts, ","), func(host string) bool {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		return host != "" && !hosts.IsLoopback(strings.Trim(host, "[]"))
	})
}

// weakness says who other than Latchkey can reach the keys, "" if nobody.
func (u RedisURL) weakness() string {
	parts := splitURL(u.text)
	query, _ := url.ParseQuery(parts.query)
	switch {
	case !u.remote():
		return ""
	case !strings.HasPrefix(parts.scheme, "rediss"):
		return "goes to another machine in plaintext: somebody in between can read the password and change sessions. Use rediss://"
	case query.Get("skip_verify") == "true":
		return "does not verify the server: somebody in between can pose as Redis. Remove skip_verify"
	case !strings.Contains(parts.user, ":"):
		return "has no password for a Redis on another machine: anybody who reaches it can end sessions and delete counts of failed logins. Set requirepass or an ACL user there"
	}
	return ""
}

var errRedisURL = errors.New("has a part that is not understood")

// redisURLError holds an error of go-redis or net/url, which contains parts of the URL: it must not be shown.
type redisURLError struct{ error }

func singleClient(text string) (func(*x509.CertPool) redis.UniversalClient, error) {
	opts, err := redis.ParseURL(text)
	if err != nil {
		return nil, &redisURLError{err}
	}
	opts.ContextTimeoutEnabled = true
	opts.MaxRetries, opts.DialerRetries, opts.DialTimeout = redisRetries, redisDials, redisDialTimeout
	return func(roots *x509.CertPool) redis.UniversalClient {
		mine := *opts
		mine.TLSConfig = trusting(opts.TLSConfig, roots)
		return redis.NewClient(&mine)
	}, nil
}

func clusterClient(scheme string, hosts []string, tail string) (func(*x509.CertPool) redis.UniversalClient, error) {
	text, err := withAddresses(scheme, hosts, tail)
	if err != nil {
		return nil, err
	}
	opts, err := redis.ParseClusterURL(text.String())
	if err != nil {
		return nil, &redisURLError{err}
	}
	opts.ContextTimeoutEnabled = true
	opts.MaxRetries, opts.DialerRetries, opts.DialTimeout = redisRetries, redisDials, redisDialTimeout
	opts.ClusterStateReloadInterval = clusterReload
	return func(roots *x509.CertPool) redis.UniversalClient {
		mine := *opts
		mine.TLSConfig = trusting(opts.TLSConfig, roots)
		return redis.NewClusterClient(&mine)
	}, nil
}

// sentinelClient uses the credentials before the addresses for the servers. Credentials for the Sentinels are
// query parameters.
func sentinelClient(scheme string, hosts []string, tail string) (func(*x509.CertPool) redis.UniversalClient, error) {
	path, rawQuery, _ := strings.Cut(tail, "?")
	master, db, _ := strings.Cut(strings.Trim(path, "/"), "/")
	if master == "" {
		return nil, errors.New("names no master after the Sentinels' addresses")
	}
	text, err := withAddresses(scheme, hosts, "/"+db+"?"+rawQuery)
	if err != nil {
		return nil, err
	}
	query := text.Query()
	user, password := query.Get("sentinel_username"), query.Get("sentinel_password")
	query.Del("sentinel_username")
	query.Del("sentinel_password")
	query.Set("master_name", master)
	text.RawQuery = query.Encode()
	opts, err := redis.ParseFailoverURL(text.String())
	if err != nil {
		return nil, &redisURLError{err}
	}
	opts.Username, opts.Password = opts.SentinelUsername, opts.SentinelPassword
	opts.SentinelUsername, opts.SentinelPassword = user, password
	opts.ContextTimeoutEnabled = true
	opts.MaxRetries, opts.DialerRetries, opts.DialTimeout = redisRetries, redisDials, redisDialTimeout
	return func(roots *x509.CertPool) redis.UniversalClient {
		mine := *opts
		mine.TLSConfig = trusting(opts.TLSConfig, roots)
		return redis.NewFailoverClient(&mine)
	}, nil
}

// withAddresses writes the hosts after the first as addr parameters, as go-redis expects them.
func withAddresses(scheme string, hosts []string, tail string) (*url.URL, error) {
	parsed, err := url.Parse(scheme + "://" + hosts[0] + tail)
	if err != nil {
		return nil, &redisURLError{err}
	}
	query := parsed.Query()
	for _, host := range hosts[1:] {
		query.Add("addr", host)
	}
	parsed.RawQuery = query.Encode()
	return parsed, nil
}
