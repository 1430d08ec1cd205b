package argon2

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"
)

// everyKernel returns what this machine can run, with the code that runs everywhere.
func everyKernel() []kernel { return append(kernels(), kernelGo()) }

// compute returns a key of n bytes, computed by a kernel. The zero kernel is x/crypto.
func compute(t testing.TB, k kernel, p Params, in Input, n int) []byte {
	t.Helper()
	a := newArena(k)
	defer a.close()
	key := make([]byte, n)
	if err := a.derive(t.Context(), key, p, &in); err != nil {
		t.Fatalf("%s: %+v: %v", k.name, p, err)
	}
	return key
}

// TestRFC9106 has the vectors of RFC 9106, section 5, with a secret and associated data.
func TestRFC9106(t *testing.T) {
	t.Parallel()
	in := Input{
		Password: bytes.Repeat([]byte{1}, 32), Salt: bytes.Repeat([]byte{2}, 16),
		Secret: bytes.Repeat([]byte{3}, 8), Data: bytes.Repeat([]byte{4}, 12),
	}
	for _, v := range []struct {
		variant Variant
		tag     string
	}{
		{D, "512b391b6f1162975371d30919734294f868e3be3984f3c1a13a4db9fabe4acb"},
		{I, "c814d9d1dc7f37aa13f0d77f2494bda1c8de6b016dd388d29952a4c4672b6ce8"},
		{ID, "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"},
	} {
		// The zero kernel has no secret: it must not leave it out, but compute with Go code.
		for _, k := range append(everyKernel(), kernel{}) {
			t.Run(fmt.Sprint(v.variant, " ", k.name), func(t *testing.T) {
				t.Parallel()
				got := compute(t, k, Params{v.variant, 3, 32, 4}, in, 32)
				if hex.EncodeToString(got) != v.tag {
					t.Errorf("the tag is %x, not %s", got, v.tag)
				}
			})
		}
	}
}

// TestReference has the vectors of the reference implementation's src/test.c, all of version 1.3 but the one that takes
// 1 GiB.
func TestReference(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		variant        Variant
		passes         uint32
		logMemory      int
		lanes          uint8
		password, salt string
		tag            string
	}{
		{I, 2, 16, 1, "password", "somesalt", "c1628832147d9720c5bd1cfd61367078729f6dfb6f8fea9ff98158e0d7816ed0"},
		{I, 2, 18, 1, "password", "somesalt", "296dbae80b807cdceaad44ae741b506f14db0959267b183b118f9b24229bc7cb"},
		{I, 2, 8, 1, "password", "somesalt", "89e9029f4637b295beb027056a7336c414fadd43f6b208645281cb214a56452f"},
		{I, 2, 8, 2, "password", "somesalt", "4ff5ce2769a1d7f4c8a491df09d41a9fbe90e5eb02155a13e4c01e20cd4eab61"},
		{I, 1, 16, 1, "password", "somesalt", "d168075c4d985e13ebeae560cf8b94c3b5d8a16c51916b6f4ac2da3ac11bbecf"},
		{I, 4, 16, 1, "password", "somesalt", "aaa953d58af3706ce3df1aefd4a64a84e31d7f54175231f1285259f88174ce5b"},
		{I, 2, 16, 1, "differentpassword", "somesalt", "14ae8da01afea8700c2358dcef7c5358d9021282bd88663a4562f59fb74d22ee"},
		{I, 2, 16, 1, "password", "diffsalt", "b0357cccfbef91f3860b0dba447b2348cbefecadaf990abfe9cc40726c521271"},
		{ID, 2, 16, 1, "password", "somesalt", "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"},
		{ID, 2, 18, 1, "password", "somesalt", "78fe1ec91fb3aa5657d72e710854e4c3d9b9198c742f9616c2f085bed95b2e8c"},
		{ID, 2, 8, 1, "password", "somesalt", "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"},
		{ID, 2, 8, 2, "password", "somesalt", "6d093c501fd5999645e0ea3bf620d7b8be7fd2db59c20d9fff9539da2bf57037"},
		{ID, 1, 16, 1, "password", "somesalt", "f6a5adc1ba723dddef9b5ac1d464e180fcd9dffc9d1cbf76cca2fed795d9ca98"},
		{ID, 4, 16, 1, "password", "somesalt", "9025d48e68ef7395cca9079da4c4ec3affb3c8911fe4f86d1a2520856f63172c"},
		{ID, 2, 16, 1, "differentpassword", "somesalt", "0b84d652cf6b0c4beaef0dfe278ba6a80df6696281d7e0d2891b817d8c458fde"},
		{ID, 2, 16, 1, "password", "diffsalt", "bdf32b05ccc42eb15d58fd19b1f856b113da1e9a5874fdcc544308565aa8141c"},
	} {
		for _, k := range everyKernel() {
			if k.name == "go" && v.logMemory > 8 {
				continue // half a minute under the race detector; TestAsOthers has many more for it
			}
			p := Params{v.variant, v.passes, 1 << v.logMemory, v.lanes}
			t.Run(fmt.Sprintf("%+v %s %s", p, v.password, k.name), func(t *testing.T) {
				t.Parallel()
				got := compute(t, k, p, Input{Password: []byte(v.password), Salt: []byte(v.salt)}, 32)
				if hex.EncodeToString(got) != v.tag {
					t.Errorf("the tag is %x, not %s", got, v.tag)
				}
			})
		}
	}
}
