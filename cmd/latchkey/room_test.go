package main

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

// TestRoomBesideHashes: serve lets Go run as many goroutines at once as there are processors and hash slots, unless
// GOMAXPROCS is set.
func TestRoomBesideHashes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		environ []string
		want    int
	}{
		"by itself":  {nil, runtime.NumCPU() + 3},
		"GOMAXPROCS": {[]string{"GOMAXPROCS=2"}, 2},
		"many slots": {[]string{"LATCHKEY_HASH_SLOTS=1000"}, runtime.NumCPU() + maxRoom},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := serveSettings(t)
			settings["LATCHKEY_HASH_SLOTS"] = "3"
			addrs := start(t, append(pairs(settings), test.environ...), "serve").addrs(t)
			metrics := get(t, http.DefaultClient, "http://"+addrs["ops"]+"/metrics")
			if want := fmt.Sprintf("\ngo_sched_gomaxprocs_threads %d\n", test.want); !strings.Contains(metrics, want) {
				t.Errorf("the metrics lack %q", want)
			}
		})
	}
}
