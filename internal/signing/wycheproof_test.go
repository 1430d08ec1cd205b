package signing

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"testing"

	"github.com/c2sp/wycheproof"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

// PKCS #1 v1.5 signatures have one right value; those with SHA-256 are ours.
func TestWycheproofSigning(t *testing.T) {
	t.Parallel()
	data, err := fs.ReadFile(wycheproof.TestVectors, "rsa_pkcs1_2048_sig_gen_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			PrivatePKCS8 string `json:"privateKeyPkcs8"`
			SHA          string `json:"sha"`
			Tests        []struct {
				ID        int    `json:"tcId"`
				Message   string `json:"msg"`
				Signature string `json:"sig"`
			} `json:"tests"`
		} `json:"testGroups"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	signed := 0
	for _, group := range file.Groups {
		if group.SHA != "SHA-256" {
			continue
		}
		private, err := x509.ParsePKCS8PrivateKey(josetest.Hex(t, group.PrivatePKCS8))
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range group.Tests {
			signature, err := signingMethod(accesstoken.RS256).Sign(string(josetest.Hex(t, test.Message)), private)
			if err != nil || hex.EncodeToString(signature) != test.Signature {
				t.Errorf("test %d: %x, %v", test.ID, signature, err)
			}
			signed++
		}
	}
	if signed == 0 {
		t.Error("no vector with SHA-256")
	}
}
