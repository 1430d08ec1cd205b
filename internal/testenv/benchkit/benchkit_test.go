package benchkit

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestRelease: the image has the binary that is measured.
func TestRelease(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\n    go run ./internal/release ") || strings.Contains(string(text), "go build") {
		t.Error("the Dockerfile does not build with internal/release")
	}
}

func TestClosedLoop(t *testing.T) {
	t.Parallel()
	var marks, calls atomic.Int64
	r, err := ClosedLoop(t.Context(), 3, 200*time.Millisecond, func(ctx context.Context, _ int) error {
		calls.Add(1)
		return Pause(ctx, 5*time.Millisecond)
	}, func() error { marks.Add(1); return nil })
	if err != nil || marks.Load() != 2 {
		t.Fatalf("%d marks, %v", marks.Load(), err)
	}
	if r.Requests == 0 || int64(r.Requests) >= calls.Load() || r.P50 < 5 || r.P99 < r.P50 {
		t.Errorf("%+v of %d calls", r, calls.Load())
	}
	errRefused := errors.New("refused")
	_, err = ClosedLoop(t.Context(), 3, time.Hour, func(context.Context, int) error { return errRefused }, func() error { return nil })
	if !errors.Is(err, errRefused) {
		t.Errorf("a failed call gives %v", err)
	}
}
