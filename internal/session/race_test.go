package session

import (
	"errors"
	"sync"
	"testing"
	"time"
)

type answer struct {
	rotation Rotation
	err      error
}

// racing refreshes one token from n sides at once.
func racing(t *testing.T, n int, call func(i int) (Rotation, error)) []answer {
	t.Helper()
	answers := make([]answer, n)
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			answers[i].rotation, answers[i].err = call(i)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	return answers
}

func TestConcurrentRefreshesOfOneToken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, text := create(t, b.store)
	for range 10 {
		answers := racing(t, 64, func(int) (Rotation, error) { return refresh(t.Context(), b.store, text, "") })
		advanced := 0
		for _, a := range answers {
			if a.err != nil {
				t.Fatal(a.err)
			}
			if a.rotation.RefreshToken != answers[0].rotation.RefreshToken {
				t.Fatal("two successors")
			}
			if !a.rotation.IssueTime.Equal(answers[0].rotation.IssueTime) {
				t.Fatal("two times of issue")
			}
			switch a.rotation.Outcome {
			case Advanced:
				advanced++
			case RepeatedInGrace:
			default:
				t.Fatalf("outcome %v", a.rotation.Outcome)
			}
		}
		if advanced != 1 {
			t.Fatalf("%d calls advanced", advanced)
		}
		text = answers[0].rotation.RefreshToken
	}
}

// With a clock that moves on during the race, and a grace that runs out in it, some are refused. Nobody gets
// a second line of tokens.
func TestConcurrentRefreshesBeyondTheGrace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store := b.configured(t, Config{IdleTTL: testIdle, MaxTTL: testMax, Grace: 20 * time.Millisecond})
	store.now = func() time.Time {
		b.clock.Advance(time.Millisecond)
		return b.clock.Now()
	}
	_, text := create(t, store)
	for range 10 {
		answers := racing(t, 64, func(int) (Rotation, error) { return refresh(t.Context(), store, text, "") })
		successors, advanced, refused := map[string]bool{}, 0, 0
		last := text
		for _, a := range answers {
			if errors.Is(a.err, ErrReused) {
				refused++
				continue
			}
			if a.err != nil {
				t.Fatal(a.err)
			}
			last = a.rotation.RefreshToken
			successors[last] = true
			if a.rotation.Outcome == Advanced {
				advanced++
			}
		}
		if advanced != 1 || len(successors) != 1 {
			t.Fatalf("%d advanced, %d successors, %d refused", advanced, len(successors), refused)
		}
		text = last
	}
}

// The predecessor, the token itself and its successor race. At the end there is one line, and one token that
// advances.
func TestConcurrentRefreshesOfThreeGenerations(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, first := create(t, b.store)
	second := mustRefresh(t, b.store, first, "", Advanced).RefreshToken
	third := mustRefresh(t, b.store, second, "", Advanced).RefreshToken
	line := []string{first, second, third}
	answers := racing(t, 63, func(i int) (Rotation, error) { return refresh(t.Context(), b.store, line[i%3], "") })
	successors := map[uint64]string{2: second, 3: third}
	for _, a := range answers {
		if errors.Is(a.err, ErrLate) || errors.Is(a.err, ErrReused) {
			continue
		}
		if a.err != nil {
			t.Fatal(a.err)
		}
		generation := a.rotation.Session.Generation
		if known, found := successors[generation]; found && known != a.rotation.RefreshToken {
			t.Fatalf("two tokens of generation %d", generation)
		}
		successors[generation] = a.rotation.RefreshToken
	}
	if len(successors) != 3 || successors[4] == "" {
		t.Fatalf("generations up to %d", len(successors))
	}
	mustRefresh(t, b.store, successors[4], "", Advanced)
}
