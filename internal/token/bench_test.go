package token

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"
)

// BenchmarkVerify sets the verification of a whole token beside the bare
// signature check within it; "x-bare" is how many times as long it takes.
func BenchmarkVerify(b *testing.B) {
	f := newForger(b, EdDSA)
	token := mustSign(b, f.Keyring, testClaims())
	dot := strings.LastIndex(token, ".")
	public, ok := f.key.public.(ed25519.PublicKey)
	if !ok {
		b.Fatalf("a %T", f.key.public)
	}
	signature, err := decodeSegment(token[dot+1:])
	if err != nil {
		b.Fatal(err)
	}
	var bare time.Duration
	b.Run("bare Ed25519", func(b *testing.B) {
		b.ReportAllocs()
		message := []byte(token[:dot])
		for b.Loop() {
			if !ed25519.Verify(public, message, signature) {
				b.Fatal("refused")
			}
		}
		bare = b.Elapsed() / time.Duration(b.N)
	})
	b.Run("token", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := f.Verify(b.Context(), token); err != nil {
				b.Fatal(err)
			}
		}
		if bare > 0 {
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(bare), "x-bare")
		}
	})
}

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
