package revoke

import (
	"context"
	"errors"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/panics"
)

// TestDetachedGoesOn checks that work continues after its caller returned, that its result is then not written
// anywhere, and that its panic becomes an error.
func TestDetachedGoesOn(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	begun, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		<-begun
		cancel()
	}()
	result, err := detached(ctx, func(ctx context.Context) (int, error) {
		close(begun)
		<-release
		ended <- ctx.Err()
		return 1, nil
	})
	if result != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("the caller got %d, %v", result, err)
	}
	close(release)
	if err := <-ended; err != nil {
		t.Errorf("the work was cancelled: %v", err)
	}
	result, err = detached(t.Context(), func(context.Context) (int, error) { return 7, nil })
	if result != 7 || err != nil {
		t.Errorf("got %d, %v", result, err)
	}
	_, err = detached(t.Context(), func(context.Context) (int, error) { panic("a fault") })
	if _, ok := errors.AsType[*panics.Error](err); !ok {
		t.Errorf("a panic became %v", err)
	}
}
