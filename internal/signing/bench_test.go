package signing

import (
	"testing"
)

func BenchmarkSign(b *testing.B) {
	for _, algorithm := range algorithms() {
		b.Run(string(algorithm), func(b *testing.B) {
			b.ReportAllocs()
			f := newForger(b, algorithm)
			claims := testClaims()
			for b.Loop() {
				if _, err := f.Sign(b.Context(), claims); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
