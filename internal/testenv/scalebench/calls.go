package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv/benchkit"
)

const (
	// callers call at once: few, so that the time of a call is its own and not that of a queue.
	callers = 4
	// checked is how many accounts log in, and how many sessions are refreshed, before anything is measured.
	checked = 20
)

// call is something that is measured. It must choose another account each time.
type call struct {
	name    string
	callers int
	do      func(ctx context.Context, s *site, caller int, n int64) error
}

// pairOf has the figures of one call on both sites.
type pairOf struct {
	Name  string               `json:"name"`
	Large benchkit.Result      `json:"large"`
	Small benchkit.Result      `json:"small"`
	Ratio float64              `json:"p99_ratio"`
	Each  [2][]benchkit.Result `json:"rounds"`
	Load  []float64            `json:"load_average"`
}

// summarise takes the median of each figure; the ratio is the median of the rounds' ratios.
func (p *pairOf) summarise() {
	of := func(rounds []benchkit.Result) benchkit.Result {
		get := func(read func(benchkit.Result) float64) float64 { return benchkit.MedianOf(rounds, read) }
		return benchkit.Result{
			Requests:  int(get(func(r benchkit.Result) float64 { return float64(r.Requests) })),
			Seconds:   get(func(r benchkit.Result) float64 { return r.Seconds }),
			PerSecond: get(func(r benchkit.Result) float64 { return r.PerSecond }),
			P50:       get(func(r benchkit.Result) float64 { return r.P50 }), P99: get(func(r benchkit.Result) float64 { return r.P99 }),
		}
	}
	p.Large, p.Small = of(p.Each[0]), of(p.Each[1])
	ratios := make([]float64, len(p.Each[0]))
	for i := range ratios {
		ratios[i] = p.Each[0][i].P99 / p.Each[1][i].P99
	}
	p.Ratio = benchkit.Median(ratios)
}

// any returns the id of an account that was chosen by a number.
func (s *site) any(of string, n int64) person { return s.person(number(of, n, s.accounts)) }

// calls are those whose time should not depend on how many accounts there are. Those that end sessions come last.
func calls() []call {
	return []call{
		{"Login's look-up (GetUser by address)", callers, func(ctx context.Context, s *site, caller int, n int64) error {
			p := s.any("look-up", n)
			got, err := s.admin(caller).GetUser(bearer(ctx, adminKey), &latchkeyv1.GetUserRequest{Account: &latchkeyv1.GetUserRequest_Email{Email: p.email}})
			if err == nil && got.GetAccount().GetUser().GetId() != p.id.String() {
				err = errors.New("GetUser found another account")
			}
			return err
		}},
		// Two: as many as the processors that hash.
		{"Login", 2, func(ctx context.Context, s *site, caller int, n int64) error {
			_, err := s.auth(caller).Login(ctx, &latchkeyv1.LoginRequest{Email: s.any("login", n).email, Password: accountPassword})
			return err
		}},
		{"RefreshToken", callers, func(ctx context.Context, s *site, caller int, n int64) error { return s.refresh(ctx, caller, n) }},
		{"ListSessions", callers, func(ctx context.Context, s *site, caller int, n int64) error {
			l := s.logins.all[number("list", n, int64(len(s.logins.all)))]
			got, err := latchkeyv1.NewSessionServiceClient(s.conns[caller]).ListSessions(bearer(ctx, l.access), &latchkeyv1.ListSessionsRequest{})
			if err == nil && len(got.GetSessions()) == 0 {
				err = errors.New("ListSessions shows none")
			}
			return err
		}},
		{"ListUsers, first 100", callers, func(ctx context.Context, s *site, caller int, _ int64) error {
			return s.listUsers(ctx, caller, "")
		}},
		{"ListUsers, 100 anywhere", callers, func(ctx context.Context, s *site, caller int, n int64) error {
			p := s.person(100 + number("page", n, s.accounts-100))
			return s.listUsers(ctx, caller, s.pages.Seal(latchkeyv1.AdminService_ListUsers_FullMethodName, "", p.created, p.id))
		}},
		{"RevokeUserSession", callers, func(ctx context.Context, s *site, caller int, n int64) error {
			_, err := s.admin(caller).RevokeUserSession(bearer(ctx, adminKey), &latchkeyv1.RevokeUserSessionRequest{
				UserId: s.any("session's account", n).id.String(), SessionId: id(s.name+" revoked", n).String(),
			})
			return err
		}},
		{"RevokeUserSessions", callers, func(ctx context.Context, s *site, caller int, n int64) error {
			_, err := s.admin(caller).RevokeUserSessions(bearer(ctx, adminKey), &latchkeyv1.RevokeUserSessionsRequest{UserId: s.any("revoked account", n).id.String()})
			return err
		}},
	}
}

func (s *site) listUsers(ctx context.Context, caller int, token string) error {
	got, err := s.admin(caller).ListUsers(bearer(ctx, adminKey), &latchkeyv1.ListUsersRequest{PageToken: token})
	if err == nil && len(got.GetAccounts()) != 100 {
		err = fmt.Errorf("ListUsers shows %d accounts", len(got.GetAccounts()))
	}
	return err
}

// refresh refreshes one of the sessions whose tokens are known, each in turn. There are more of them than callers, so
// no session is refreshed twice at once.
func (s *site) refresh(ctx context.Context, caller int, _ int64) error {
	l := s.logins.all[(s.logins.next.Add(1)-1)%int64(len(s.logins.all))]
	got, err := s.auth(caller).RefreshToken(ctx, &latchkeyv1.RefreshTokenRequest{RefreshToken: l.refresh})
	if err == nil {
		l.refresh, l.access = got.GetTokens().GetRefreshToken(), got.GetTokens().GetAccessToken()
	}
	return err
}

// check lets some loaded accounts log in, and refreshes all sessions whose tokens are known: the shape of what was
// loaded is that of the service.
func (s *site) check(ctx context.Context) error {
	for i := range int64(checked) {
		p := s.person(i * (s.accounts / checked))
		got, err := s.auth(0).Login(ctx, &latchkeyv1.LoginRequest{Email: p.email, Password: accountPassword})
		if err != nil {
			return fmt.Errorf("a loaded account cannot log in: %w", err)
		}
		if got.GetUser().GetId() != p.id.String() {
			return errors.New("a login is to another account")
		}
	}
	return s.refreshAll(ctx)
}

// refreshAll gets a fresh access token for each of the sessions.
func (s *site) refreshAll(ctx context.Context) error {
	errs := make([]error, callers)
	share := (len(s.logins.all) + callers - 1) / callers
	var refreshing sync.WaitGroup
	for c := range callers {
		refreshing.Go(func() {
			for range share {
				if errs[c] = s.refresh(ctx, c, 0); errs[c] != nil {
					errs[c] = fmt.Errorf("a loaded session cannot be refreshed: %w", errs[c])
					return
				}
			}
		})
	}
	refreshing.Wait()
	return errors.Join(errs...)
}

// measureCalls measures each call on both sites in turn.
func (st *stand) measureCalls(ctx context.Context) ([]*pairOf, error) {
	var all []*pairOf
	counts := map[string]int64{} // so that a round goes on with other accounts than the one before
	for _, c := range calls() {
		p := &pairOf{Name: c.name}
		for range st.o.rounds {
			for i, s := range st.sites {
				if c.name == "ListSessions" { // access tokens live 15 minutes
					if err := s.refreshAll(ctx); err != nil {
						return nil, err
					}
				}
				r, done, err := s.measureCall(ctx, c, counts[c.name+s.name])
				if err != nil {
					return nil, fmt.Errorf("%s with %d accounts: %w", c.name, s.accounts, err)
				}
				counts[c.name+s.name] = done
				p.Each[i] = append(p.Each[i], r)
			}
			p.Load = append(p.Load, benchkit.LoadAverage())
		}
		p.summarise()
		st.progress("%s: p99 %.2f ms beside %.2f ms, ratio %.2f", c.name, p.Large.P99, p.Small.P99, p.Ratio)
		all = append(all, p)
	}
	return all, nil
}

func (s *site) measureCall(ctx context.Context, c call, from int64) (r benchkit.Result, done int64, err error) {
	made := make([]int64, c.callers)
	r, err = benchkit.ClosedLoop(ctx, c.callers, s.stand.o.window, func(ctx context.Context, caller int) error {
		n := from + made[caller]*int64(c.callers) + int64(caller)
		made[caller]++
		return c.do(ctx, s, caller, n)
	}, func() error { return nil })
	for _, n := range made {
		done = max(done, n)
	}
	if err == nil && r.Requests == 0 {
		err = fmt.Errorf("no call was answered within %s", s.stand.o.window)
	}
	return r, from + done*int64(c.callers), err
}

// starts has how long a start takes, from the process's begin to its ready line.
type starts struct {
	Name  string       `json:"name"`
	Large float64      `json:"large_ms"`
	Small float64      `json:"small_ms"`
	Ratio float64      `json:"ratio"`
	Each  [2][]float64 `json:"rounds_ms"`
}

func (p *starts) summarise() {
	ratios := make([]float64, len(p.Each[0]))
	for i := range ratios {
		ratios[i] = p.Each[0][i] / p.Each[1][i]
	}
	p.Large, p.Small, p.Ratio = benchkit.Median(append([]float64(nil), p.Each[0]...)), benchkit.Median(append([]float64(nil), p.Each[1]...)), benchkit.Median(ratios)
}

// measureStarts starts replicas of both sites in turn. With cold, PostgreSQL is started anew for each, and none of its
// files is in the kernel's cache; nothing else may use it then.
func (st *stand) measureStarts(ctx context.Context, name string, cold bool) (*starts, error) {
	p := &starts{Name: name}
	for range st.o.rounds {
		for i, s := range st.sites {
			if cold {
				if err := st.restartCold(ctx); err != nil {
					return nil, err
				}
			}
			took, err := s.timeStart(ctx)
			if err != nil {
				return nil, err
			}
			p.Each[i] = append(p.Each[i], took)
		}
	}
	p.summarise()
	st.progress("%s: %.0f ms beside %.0f ms", p.Name, p.Large, p.Small)
	return p, nil
}

func (s *site) timeStart(ctx context.Context) (float64, error) {
	began := time.Now()
	l, err := s.start(ctx)
	if err != nil {
		return 0, err
	}
	took := benchkit.Millis(time.Since(began))
	return took, l.End()
}

// restartCold starts PostgreSQL anew with empty caches. Its address changes.
func (st *stand) restartCold(ctx context.Context) error {
	stopping, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	if err := st.postgres.Stop(stopping); err != nil {
		return err
	}
	if err := st.forget(); err != nil {
		return err
	}
	if err := st.startPostgres(ctx); err != nil {
		return err
	}
	for _, s := range st.sites {
		s.moved()
	}
	return nil
}
