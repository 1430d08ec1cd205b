package accesstoken

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"
)

// BenchmarkVerify runs the bare signature check and the verification of the whole token in turn, so that both
// see the same machine; "x-bare" is how many times as long the second takes. ns/op is both together.
func BenchmarkVerify(b *testing.B) {
	f := newForger(b, EdDSA)
	token := f.sign(b, testClaims())
	dot := strings.LastIndex(token, ".")
	public, ok := f.key.public.(ed25519.PublicKey)
	if !ok {
		b.Fatalf("a %T", f.key.public)
	}
	signature, err := decodeSegment(token[dot+1:])
	if err != nil {
		b.Fatal(err)
	}
	message := []byte(token[:dot])
	var bare, whole time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := b.Elapsed()
		if !ed25519.Verify(public, message, signature) {
			b.Fatal("refused")
		}
		middle := b.Elapsed()
		if _, err := f.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
		bare += middle - start
		whole += b.Elapsed() - middle
	}
	b.ReportMetric(float64(bare.Nanoseconds())/float64(b.N), "bare-ns/op")
	b.ReportMetric(float64(whole.Nanoseconds())/float64(b.N), "token-ns/op")
	b.ReportMetric(float64(whole)/float64(bare), "x-bare")
}
