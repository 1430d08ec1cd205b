package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const (
	halfSentPeers   = 30
	halfSentStreams = 100
	// halfSentGrowth is in KiB.
	halfSentGrowth = 64 << 10
	halfSentGone   = 15 * time.Second
)

// TestAttack08HalfSentCallsMemory: 300 calls on three connections, then 3,000 on thirty. None of them ends its message.
// Each way to send has a service of its own, whose memory is measured.
func TestAttack08HalfSentCallsMemory(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("resident memory is read from /proc")
	}
	signUp := latchkeyv1.AuthService_SignUp_FullMethodName
	for name, way := range map[string]struct {
		method               string
		announced, sent, per int
		headers              []string
	}{
		"a megabyte":                     {method: signUp, announced: 1 << 20, sent: 1<<20 - 5, per: 16384},
		"just within the limit":          {method: signUp, announced: 16 << 10, sent: 16<<10 - 5, per: 16384},
		"headers alone":                  {method: signUp},
		"frames that fill half a buffer": {method: latchkeyv1.AuthService_ValidateToken_FullMethodName, announced: 16 << 10, sent: 16<<10 - 5, per: 1025},
		"frames of a byte":               {method: latchkeyv1.AuthService_Login_FullMethodName, announced: 16 << 10, sent: 512, per: 1},
		"an import without a key":        {method: latchkeyv1.AdminService_ImportUsers_FullMethodName, announced: 1 << 20, sent: 1<<20 - 5, per: 16384},
		"revocations without a key":      {method: latchkeyv1.RevocationService_WatchRevocations_FullMethodName, announced: 1 << 20, sent: 1<<20 - 5, per: 16384},
		"health":                         {method: "/grpc.health.v1.Health/Check", announced: 1 << 20, sent: 1<<20 - 5, per: 16384},
		"large headers":                  {method: signUp, headers: []string{"x-large", strings.Repeat("x", 12<<10)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := start(t, pairs(serveSettings(t)), "serve")
			addrs := service.addrs(t)
			addr := addrs["grpc"]
			before := residentKiB(t, service)
			peak := &peakMemory{}
			stop := peak.watch(t, service)
			attack := func(peers []*testenv.RawPeer) {
				began := time.Now()
				var sending sync.WaitGroup
				for _, p := range peers {
					sending.Go(func() {
						for range halfSentStreams {
							stream, err := p.Begin(way.method, way.headers...)
							if err != nil {
								return
							}
							if way.sent > 0 {
								_ = p.Send(stream, testenv.Message(way.announced, way.sent), way.per, false, time.Second)
							}
						}
					})
				}
				sending.Wait()
				sent := time.Now()
				testenv.Eventually(t, halfSentGone, "all calls are gone", func() bool {
					open := 0
					for _, p := range peers {
						open += p.Open()
					}
					return open == 0
				})
				t.Logf("%d connections: sent in %v, gone %v later", len(peers), sent.Sub(began).Round(time.Millisecond), time.Since(sent).Round(time.Millisecond))
			}
			peers := make([]*testenv.RawPeer, halfSentPeers)
			for i := range peers {
				peers[i] = testenv.DialRaw(t, addr)
			}
			attack(peers[:3])
			attack(peers)
			stop()
			grown := peak.kib - before
			t.Logf("resident: %d KiB before, %d KiB more at the most, %d KiB more afterwards", before, grown, residentKiB(t, service)-before)
			if grown > halfSentGrowth && !raceDetector {
				t.Errorf("resident memory has grown by %d KiB", grown)
			}
		})
	}
}

type peakMemory struct{ kib int }

// watch reads the process's resident memory until stop is called.
func (m *peakMemory) watch(t *testing.T, p *process) (stop func()) {
	t.Helper()
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ended:
				return
			case <-ticker.C:
				m.kib = max(m.kib, residentKiB(t, p))
			}
		}
	}()
	return func() {
		close(ended)
		<-done
	}
}

func residentKiB(t *testing.T, p *process) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Error(err)
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			if err != nil {
				t.Error(err)
			}
			return kib
		}
	}
	t.Error("no VmRSS")
	return 0
}
