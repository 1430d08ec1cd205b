//go:build linux

package history

import (
	"context"
	"sync"
	"sync/atomic"
)

const (
	clientCount = 8
	// accountsAtOnce is few enough that two clients or more use each account.
	accountsAtOnce = 3
	// callsPerAccount bounds the number of events that porcupine must order.
	callsPerAccount = 250
	// maxSecrets is below maxSessions by more than the secrets of the calls that are under way.
	maxSecrets = 480
	// maxUnknown is how many calls for a whole account may get no answer. With each of them the model allows more.
	maxUnknown = 3
	// firstRevoking is how many of 100 calls revoke nothing.
	firstRevoking = 86
	// callsAfterDeletion is how many more calls a deleted account gets.
	callsAfterDeletion = 15
	// probesAtOnce is how many validations wait in a frozen replica.
	probesAtOnce = 32
)

// load is the work of the clients until enough calls were answered and nothing disturbs them any more.
type load struct {
	w      *world
	target int64
	// answered counts the calls that were answered so far.
	answered  atomic.Int64
	disturbed atomic.Bool

	mu     sync.Mutex
	active [accountsAtOnce]*account
	failed error

	probes chan struct{}
	wait   sync.WaitGroup
}

// run returns when target calls were answered and disturbed is set, or ctx ends. It calls reached when the first of the
// two is so.
func (l *load) run(ctx context.Context, reached func()) error {
	l.probes = make(chan struct{}, probesAtOnce)
	for i := range clientCount {
		// The seeds are fixed: each run makes the same calls, but not at the same times.
		c := &client{load: l, random: random(i + 1)}
		l.wait.Go(func() {
			for ctx.Err() == nil && l.failure() == nil {
				if l.answered.Load() >= l.target {
					reached()
					if l.disturbed.Load() {
						return
					}
				}
				c.act(ctx)
			}
		})
	}
	l.wait.Wait()
	reached()
	return l.failure()
}

func (l *load) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// account returns one in use, or a new one in its place if it has had all its calls.
func (l *load) account(ctx context.Context, slot int) *account {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.active[slot]
	if a != nil && !a.used() {
		return a
	}
	a, err := l.w.newAccount(ctx, slot > 0)
	if err != nil {
		l.failed = err
		return nil
	}
	l.active[slot] = a
	return a
}

func (a *account) used() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	if a.deleted {
		a.last++
	}
	return a.last > callsAfterDeletion || a.calls > callsPerAccount || a.secrets > maxSecrets || a.lockedOut || a.unknown >= maxUnknown
}

func (l *load) count(c *call) {
	if c != nil && c.Answer != unknown {
		l.answered.Add(1)
	}
}

// probe asks the other replicas about a session that has just ended. It does not wait for the answer of a replica that
// is frozen.
func (l *load) probe(ctx context.Context, s *session, by *replica) {
	for _, r := range l.w.replicas {
		if r == by || r.down.Load() {
			continue
		}
		if !r.frozen.Load() {
			l.count(l.w.validate(ctx, r, s))
			continue
		}
		select {
		case l.probes <- struct{}{}:
			l.wait.Go(func() {
				defer func() { <-l.probes }()
				l.count(l.w.validate(ctx, r, s))
			})
		default:
		}
	}
}

// client makes one call after the other.
type client struct {
	load   *load
	random random
}

// random is splitmix64: a repeatable choice of the next call.
type random uint64

func (r *random) below(n int) int {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int((z ^ z>>31) >> 33 % uint64(n)) //nolint:gosec // G115: below n
}

func (r *random) percent(n int) bool { return r.below(100) < n }

// replica returns any replica. It seldom returns a frozen one, or all clients would wait there.
func (c *client) replica() *replica {
	all := c.load.w.replicas
	r := all[c.random.below(len(all))]
	for range 3 {
		if !r.down.Load() && (!r.frozen.Load() || c.random.percent(3)) {
			break
		}
		r = all[c.random.below(len(all))]
	}
	return r
}

// session returns one of the account's sessions: one that is live as far as is known, or one that was ended. It chooses
// among the last few, since races are about those. Nil: there is none.
func (c *client) session(a *account, wantLive bool) *session {
	a.mu.Lock()
	defer a.mu.Unlock()
	const recent = 12
	held := a.held[max(0, len(a.held)-recent):]
	var fit []*session
	for _, s := range held {
		if s.isRevoked() != wantLive {
			fit = append(fit, s)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	return fit[c.random.below(len(fit))]
}

// act makes a call, and asks about the session that it has ended.
func (c *client) act(ctx context.Context) {
	a := c.load.account(ctx, c.random.below(accountsAtOnce))
	if a == nil {
		return
	}
	r := c.replica()
	choice := c.random.below(100)
	wrong := 30 // of 100 calls of a session, these use one that has ended
	if choice >= firstRevoking {
		wrong = 10
	}
	s := c.session(a, !c.random.percent(wrong))
	var done *call
	switch {
	case s == nil || choice < 12:
		done = c.login(ctx, r, a)
	case choice < 75:
		done = c.load.w.look(ctx, r, s, c.random.percent(10))
	case choice < 80:
		done = c.changeFactor(ctx, r, a, s)
	case choice < firstRevoking:
		done = c.load.w.refresh(ctx, r, s)
	default:
		done = c.revoke(ctx, r, a, s, choice)
		if ended := c.session(a, false); done != nil && done.Answer == accepted && ended != nil {
			c.load.probe(ctx, ended, r)
		}
	}
	c.load.count(done)
}

// login types the right password, most of the time.
func (c *client) login(ctx context.Context, r *replica, a *account) *call {
	a.mu.Lock()
	address, typed, suspended := a.address, a.password, a.suspended
	if c.random.percent(8) {
		typed = a.tried[c.random.below(len(a.tried))]
	}
	if c.random.percent(8) {
		address = a.addresses[c.random.below(len(a.addresses))]
	}
	a.mu.Unlock()
	if suspended && c.random.percent(60) {
		return c.load.w.operate(ctx, r, a, reactivate)
	}
	if used := c.otherWay(ctx, r, a, typed); used != nil || typed == noPassword {
		return used
	}
	_, done := c.load.w.loginAt(ctx, r, a, address, typed)
	if done.Answer == challenged {
		c.load.count(done)
		return c.useSomeCode(ctx, r, a, done)
	}
	if done.Answer == wrongPassword {
		a.mu.Lock()
		a.address = a.addresses[c.random.below(len(a.addresses))]
		a.password = a.tried[c.random.below(len(a.tried))]
		a.mu.Unlock()
	}
	return done
}

// otherWay logs in otherwise than by the password: more often if the account has none, or a passkey. It returns nil for a
// login by password.
func (c *client) otherWay(ctx context.Context, r *replica, a *account, typed string) *call {
	a.mu.Lock()
	hasPasskey := a.passkey != nil
	a.mu.Unlock()
	switch {
	case typed == noPassword && c.random.percent(50):
		return c.load.w.resetPassword(ctx, r, a)
	case typed == noPassword, c.random.percent(4):
		return c.useCode(ctx, r, a)
	case c.random.percent(4): //nolint:gocritic // dupCase: each draws anew
		return c.verify(ctx, r, a, typed)
	case c.random.percent(5), hasPasskey && c.random.percent(70):
		return c.useSomeKey(ctx, r, a)
	}
	return nil
}

// revoke ends the session s, or others.
func (c *client) revoke(ctx context.Context, r *replica, a *account, s *session, choice int) *call {
	w := c.load.w
	a.mu.Lock()
	current := a.password
	a.mu.Unlock()
	switch {
	case choice < 91:
		deadline := changeTime
		if c.random.percent(10) {
			deadline = changeTime / 50 // shorter than a freeze, so a client may retry
		}
		return w.logout(ctx, r, s, deadline)
	case choice < 92:
		if c.random.percent(40) {
			return w.undoChange(ctx, r, a)
		}
		return w.confirmChange(ctx, r, a)
	case choice < 94:
		if target := c.session(a, true); target != nil {
			if c.random.percent(33) {
				return w.revokeOne(ctx, r, target)
			}
			return w.revokeSession(ctx, r, s, target)
		}
		return nil
	case choice < 95:
		return w.revokeOthers(ctx, r, s)
	case choice < 97 && current != noPassword:
		return w.changePassword(ctx, r, s, current)
	case choice < 98:
		return w.resetPassword(ctx, r, a)
	case choice < 99:
		return w.operate(ctx, r, a, suspend)
	case c.random.percent(15):
		return w.operate(ctx, r, a, deleteUser)
	case c.random.percent(25):
		return w.operate(ctx, r, a, revokeUser)
	case c.random.percent(33):
		return w.operate(ctx, r, a, removeFactors)
	}
	return w.operate(ctx, r, a, reactivate)
}
