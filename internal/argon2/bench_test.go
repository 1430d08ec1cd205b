package argon2

import (
	"testing"
	"time"

	xargon2 "golang.org/x/crypto/argon2"
)

// BenchmarkIDKey hashes with the service's own parameters, on each kernel in turn with x/crypto, since other work on
// the machine slows both. "of-x/crypto" is the share of its time, and the two differ by processor time only if the
// machine is idle: see BenchmarkShare.
func BenchmarkIDKey(b *testing.B) {
	password, salt := []byte("correct horse battery"), []byte("sixteen bytes...")
	p := Params{ID, 2, 19456, 1}
	key := make([]byte, 32)
	for _, k := range everyKernel() {
		b.Run(k.name, func(b *testing.B) {
			a := newArena(k)
			defer a.close()
			in := Input{Password: password, Salt: salt}
			var own, other time.Duration
			b.ReportAllocs()
			for b.Loop() {
				started := processorTime(b)
				if err := a.derive(b.Context(), key, p, &in); err != nil {
					b.Fatal(err)
				}
				own += processorTime(b) - started
				b.StopTimer()
				started = processorTime(b)
				xargon2.IDKey(password, salt, p.Passes, p.MemoryKiB, p.Lanes, 32)
				other += processorTime(b) - started
				b.StartTimer()
			}
			b.ReportMetric(float64(own)/float64(other), "of-x/crypto")
			b.ReportMetric(float64(own.Microseconds())/float64(b.N), "cpu-us/op")
		})
	}
}
