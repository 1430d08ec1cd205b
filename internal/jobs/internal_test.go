package jobs

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Rows that an earlier release inserted must find their worker.
func TestKind(t *testing.T) {
	t.Parallel()
	if (sweepArgs{}).Kind() != "sweep" {
		t.Error("a job kind changed")
	}
}

// These queues have the rows of earlier versions, and none of other programs.
func TestQueues(t *testing.T) {
	t.Parallel()
	if got := slices.Sorted(maps.Keys(queues())); !slices.Equal(got, []string{"mail", "mail_links", "mail_notices", "upkeep"}) {
		t.Errorf("%q", got)
	}
}

// If one part of a sweep fails, the others still run, and the error names it.
func TestSweepsEach(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), "postgres://127.0.0.1:1/none")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	err = Upkeep{Pool: pool, Now: time.Now}.Sweep(t.Context())
	for _, s := range (Upkeep{}).sweeps(time.Now()) {
		if err == nil || !strings.Contains(err.Error(), s.name+": ") {
			t.Errorf("%v does not name %q", err, s.name)
		}
	}
}

func TestQuietHandler(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(&quietHandler{next: slog.NewTextHandler(&out, nil), mute: &atomic.Bool{}}).With("args", "ada@example.org", "client_id", "c1")
	log.Info("job done")
	if out.Len() != 0 {
		t.Errorf("ordinary work is logged: %s", &out)
	}
	log.WithGroup("g").Warn("job errored", "job_id", 7, "error", errors.New("mail: x"), "panic_val", "token=abc", "encoded_args", "ada@example.org",
		slog.Group("job", "args", "ada@example.org"))
	text := out.String()
	for _, want := range []string{"jobs: job errored", "client_id=c1", "g.job_id=7", `g.error="mail: x"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s misses %s", text, want)
		}
	}
	for _, secret := range []string{"ada@", "token"} {
		if strings.Contains(text, secret) {
			t.Errorf("%s has %s", text, secret)
		}
	}
}
