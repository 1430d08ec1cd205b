package accesstoken

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"io/fs"
	"testing"

	"github.com/c2sp/wycheproof"

	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

// vectorFile is what the files used here have in common.
type vectorFile struct {
	NumberOfTests int           `json:"numberOfTests"`
	Groups        []vectorGroup `json:"testGroups"`
}

type vectorGroup struct {
	Comment      string `json:"comment"`
	PublicKeyDER string `json:"publicKeyDer"`
	// Public and Private are one JWK or a set of them.
	Public  json.RawMessage `json:"public"`
	Private json.RawMessage `json:"private"`
	Tests   []vectorTest    `json:"tests"`
}

type vectorTest struct {
	ID        int    `json:"tcId"`
	Comment   string `json:"comment"`
	Message   string `json:"msg"`
	Signature string `json:"sig"`
	// JWS is a string but for tokens in JSON serialisation.
	JWS    json.RawMessage `json:"jws"`
	Result string          `json:"result"`
}

func readVectors(t *testing.T, name string) vectorFile {
	t.Helper()
	data, err := fs.ReadFile(wycheproof.TestVectors, name)
	if err != nil {
		t.Fatal(err)
	}
	var file vectorFile
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, group := range file.Groups {
		count += len(group.Tests)
	}
	if count == 0 || count != file.NumberOfTests {
		t.Fatalf("%s: read %d tests of %d", name, count, file.NumberOfTests)
	}
	return file
}

// Bare signatures, through the method that Verify calls.
func TestWycheproofSignatures(t *testing.T) {
	t.Parallel()
	for name, algorithm := range map[string]Algorithm{
		"ed25519_test.json":                      EdDSA,
		"ecdsa_secp256r1_sha256_p1363_test.json": ES256,
		"rsa_signature_2048_sha256_test.json":    RS256,
		"rsa_signature_3072_sha256_test.json":    RS256,
		"rsa_signature_4096_sha256_test.json":    RS256,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, group := range readVectors(t, name).Groups {
				public, err := x509.ParsePKIXPublicKey(josetest.Hex(t, group.PublicKeyDER))
				if err != nil {
					t.Fatal(err)
				}
				// Not by NewKey: some RSA vectors have exponents that it refuses.
				key := &Key{algorithm: algorithm, method: algorithm.method(), public: public}
				for _, test := range group.Tests {
					checkSignatureVector(t, key, test)
				}
			}
		})
	}
}

func checkSignatureVector(t *testing.T, key *Key, test vectorTest) {
	t.Helper()
	parsed := &Token{
		signed: string(josetest.Hex(t, test.Message)), signature: josetest.Hex(t, test.Signature),
		algorithm: key.algorithm, keyID: "kid",
	}
	_, err := parsed.verify(key)
	switch {
	case test.Result == "valid" && err != nil:
		t.Errorf("test %d (%s): refused: %v", test.ID, test.Comment, err)
	case test.Result == "invalid" && !errors.Is(err, ErrInvalid):
		t.Errorf("test %d (%s): got %v, want ErrInvalid", test.ID, test.Comment, err)
	}
}

// Whole tokens in compact form. The vectors carry "foo" and the like for claims, so that they go through
// everything Verify does up to the type and the claims.
func TestWycheproofTokens(t *testing.T) {
	t.Parallel()
	const roca = "invalid elsewhere: a weak modulus from a faulty chip; keys here are made by crypto/rsa and nothing else"
	// Where this package is stricter or, by design, blind.
	exceptions := map[string]map[int]string{
		"json_web_signature_test.json": {
			259: "valid elsewhere: an empty payload holds no claims, so all three parts must be there",
		},
		"json_web_key_test.json":    {7: roca},
		"json_web_crypto_test.json": {46: roca},
	}
	for name, wantAccepted := range map[string]int{
		"json_web_signature_test.json": 9,
		"json_web_key_test.json":       2,
		"json_web_crypto_test.json":    3,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			accepted := 0
			for _, group := range readVectors(t, name).Groups {
				ring, ours := vectorRing(t, group)
				for _, test := range group.Tests {
					want := test.Result == "valid" && ours
					if reason := exceptions[name][test.ID]; reason != "" {
						want = !want
					}
					err := openVector(ring, test.JWS)
					if err == nil {
						accepted++
					}
					if want != (err == nil) || (err != nil && !errors.Is(err, ErrInvalid)) {
						t.Errorf("test %d (%s, %s): want accepted %v, got %v", test.ID, group.Comment, test.Comment, want, err)
					}
				}
			}
			if accepted != wantAccepted {
				t.Errorf("accepted %d, want %d", accepted, wantAccepted)
			}
		})
	}
}

// openVector does what Verify does before it looks at type and claims.
func openVector(ring map[string]*Key, serialised json.RawMessage) error {
	var token string
	if json.Unmarshal(serialised, &token) != nil {
		token = string(serialised)
	}
	parsed, err := parseJWS(token)
	if err != nil {
		return err
	}
	key := ring[parsed.keyID]
	if key == nil {
		return invalid("unknown key id")
	}
	_, err = parsed.verify(key)
	return err
}

// vectorRing returns the keys of group that are held after its set was read, and whether one of its
// algorithms is ours.
func vectorRing(t *testing.T, group vectorGroup) (ring map[string]*Key, ours bool) {
	t.Helper()
	source := group.Public
	if source == nil {
		source = group.Private
	}
	var set struct {
		Keys []struct {
			Algorithm string `json:"alg"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(source, &set); err != nil {
		t.Fatalf("group %s has no key: %v", group.Comment, err)
	}
	if set.Keys == nil {
		source = []byte(`{"keys":[` + string(source) + `]}`)
		if err := json.Unmarshal(source, &set); err != nil {
			t.Fatal(err)
		}
	}
	for _, described := range set.Keys {
		_, err := ParseAlgorithm(described.Algorithm)
		ours = ours || err == nil
	}
	ring, err := ParseJWKS(source)
	if err != nil && !errors.Is(err, ErrKey) {
		t.Fatal(err)
	}
	return ring, ours
}
