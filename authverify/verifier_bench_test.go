package authverify_test

import "testing"

// BenchmarkVerifier is a token that was seen before: what each request of a session costs but for its first.
func BenchmarkVerifier(b *testing.B) {
	w := newWorld(b)
	v, s := w.ready(b, nil)
	for position := int64(2); position < 1000; position++ {
		s.give(b, partial(1000, "c", sessionRow(position, newPerson(b))))
	}
	s.send(b, v, complete(1000))
	token := w.token(b, newPerson(b))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := v.Verify(b.Context(), token); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
