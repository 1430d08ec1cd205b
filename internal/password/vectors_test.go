package password

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// vector is a password and its hash, made by another program.
type vector struct {
	name     string
	password string
	salt     string // empty: not known apart from encoded
	hexKey   string // empty: likewise
	encoded  string
	params   Params
}

// referenceVectors are the version 0x13 Argon2id hashes of src/test.c in the
// reference implementation, github.com/P-H-C/phc-winner-argon2 (CC0 or Apache-2.0).
func referenceVectors() []vector {
	return []vector{
		{
			"t=2 m=2^16 p=1", "password", "somesalt",
			"09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7",
			"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
			Params{65536, 2, 1},
		},
		{
			"t=2 m=2^18 p=1", "password", "somesalt",
			"78fe1ec91fb3aa5657d72e710854e4c3d9b9198c742f9616c2f085bed95b2e8c",
			"$argon2id$v=19$m=262144,t=2,p=1$c29tZXNhbHQ$eP4eyR+zqlZX1y5xCFTkw9m5GYx0L5YWwvCFvtlbLow",
			Params{262144, 2, 1},
		},
		{
			"t=2 m=2^8 p=1", "password", "somesalt",
			"9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe",
			"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
			Params{256, 2, 1},
		},
		{
			"t=2 m=2^8 p=2", "password", "somesalt",
			"6d093c501fd5999645e0ea3bf620d7b8be7fd2db59c20d9fff9539da2bf57037",
			"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
			Params{256, 2, 2},
		},
		{
			"t=1 m=2^16 p=1", "password", "somesalt",
			"f6a5adc1ba723dddef9b5ac1d464e180fcd9dffc9d1cbf76cca2fed795d9ca98",
			"$argon2id$v=19$m=65536,t=1,p=1$c29tZXNhbHQ$9qWtwbpyPd3vm1rB1GThgPzZ3/ydHL92zKL+15XZypg",
			Params{65536, 1, 1},
		},
		{
			"t=4 m=2^16 p=1", "password", "somesalt",
			"9025d48e68ef7395cca9079da4c4ec3affb3c8911fe4f86d1a2520856f63172c",
			"$argon2id$v=19$m=65536,t=4,p=1$c29tZXNhbHQ$kCXUjmjvc5XMqQedpMTsOv+zyJEf5PhtGiUghW9jFyw",
			Params{65536, 4, 1},
		},
		{
			"t=2 m=2^16 p=1 other password", "differentpassword", "somesalt",
			"0b84d652cf6b0c4beaef0dfe278ba6a80df6696281d7e0d2891b817d8c458fde",
			"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$C4TWUs9rDEvq7w3+J4umqA32aWKB1+DSiRuBfYxFj94",
			Params{65536, 2, 1},
		},
		{
			"t=2 m=2^16 p=1 other salt", "password", "diffsalt",
			"bdf32b05ccc42eb15d58fd19b1f856b113da1e9a5874fdcc544308565aa8141c",
			"$argon2id$v=19$m=65536,t=2,p=1$ZGlmZnNhbHQ$vfMrBczELrFdWP0ZsfhWsRPaHppYdP3MVEMIVlqoFBw",
			Params{65536, 2, 1},
		},
	}
}

// backendVectors were written by running services: two by one in Go (x/crypto), two by one in Rust (the argon2 crate).
func backendVectors() []vector {
	return []vector{
		{
			name: "Go service 0", password: "Pass-nora-0!Aa1",
			encoded: "$argon2id$v=19$m=65536,t=3,p=2$kfJ+n3FOVtLL8IIpnrxWWA$b6iLF+nraIXrshjCzNbh6opIhu3yfGzBS88KEt9wX7I",
			params:  Params{65536, 3, 2},
		},
		{
			name: "Go service 1", password: "Pass-nora-1!Aa1",
			encoded: "$argon2id$v=19$m=65536,t=3,p=2$d1H599uXvzk0QjfbeiVVag$B9mFxq/VlsJ2EIXc1RhL8C5cxohRGdeM5b1xnhJ5Ao0",
			params:  Params{65536, 3, 2},
		},
		{
			name: "Rust service 0", password: "rust pass nora 0",
			encoded: "$argon2id$v=19$m=19456,t=2,p=1$YzdkYzlkOTI0YTUwZjMyMw$5dotjLcNi5m1fyJ2HiaQKjhmVew4POzxI7Edf6xl/yI",
			params:  Params{19456, 2, 1},
		},
		{
			name: "Rust service 1", password: "rust pass nora 1",
			encoded: "$argon2id$v=19$m=19456,t=2,p=1$MzcyMmY4MTExZjFhNzZhNg$109xIoARxeyd5eJeZsIlTbALAY66MY/gQM4xg21MJk4",
			params:  Params{19456, 2, 1},
		},
	}
}

// One slot: the test itself stays within the memory of one hash.
func vectorHasher(t *testing.T) *Hasher {
	t.Helper()
	return newHasher(t, Config{Params: Params{MemoryKiB: 19456, Time: 2, Threads: 1}, Slots: 1, Queue: 100})
}

func TestVectorsVerify(t *testing.T) {
	t.Parallel()
	h := vectorHasher(t)
	for _, v := range append(referenceVectors(), backendVectors()...) {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			result, err := h.Verify(t.Context(), Claim{}, v.encoded, v.password)
			if err != nil || !result.Match {
				t.Fatalf("Verify with the right password: %+v, %v", result, err)
			}
			if want := v.params.cost() < h.params.cost(); result.Weaker != want {
				t.Errorf("Weaker is %v, want %v", result.Weaker, want)
			}
			if v.params.cost() > 1000 {
				return // the small ones suffice for the rest
			}
			result, err = h.Verify(t.Context(), Claim{}, v.encoded, v.password+"x")
			if err != nil || result.Match || result.Weaker {
				t.Errorf("Verify with a wrong password: %+v, %v", result, err)
			}
		})
	}
}

func TestVectorsParseAndEncode(t *testing.T) {
	t.Parallel()
	for _, v := range append(referenceVectors(), backendVectors()...) {
		hash, err := parse(v.encoded)
		if err != nil {
			t.Fatalf("%s: %v", v.name, err)
		}
		if hash.Params != v.params {
			t.Errorf("%s: parameters %+v, want %+v", v.name, hash.Params, v.params)
		}
		if v.salt != "" && string(hash.salt) != v.salt {
			t.Errorf("%s: salt %q, want %q", v.name, hash.salt, v.salt)
		}
		if v.hexKey != "" && hex.EncodeToString(hash.key) != v.hexKey {
			t.Errorf("%s: key %x, want %s", v.name, hash.key, v.hexKey)
		}
		if got := hash.encode(); got != v.encoded {
			t.Errorf("%s: encodes to %s", v.name, got)
		}
	}
}

// The error cases of the reference test. Those that exist only for Argon2i are changed to Argon2id.
func TestVectorsRefused(t *testing.T) {
	t.Parallel()
	for name, encoded := range map[string]string{
		"missing $ before the salt": "$argon2id$v=19$m=65536,t=2,p=1c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"missing $ before the key":  "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQCTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"no salt":                   "$argon2id$v=19$m=65536,t=2,p=1$$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"salt of one byte":          "$argon2id$v=19$m=4096,t=2,p=1$cw$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"memory of 1 KiB":           "$argon2id$v=19$m=1,t=2,p=1$ZGlmZnNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"version 0x10":              "$argon2id$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"Argon2i":                   "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA",
	} {
		_, err := parse(encoded)
		if !errors.Is(err, ErrMalformedHash) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "TFhFdXPJO1") || strings.Contains(err.Error(), "tZXNhb") {
			t.Errorf("%s: the error shows the hash: %v", name, err)
		}
	}
}
