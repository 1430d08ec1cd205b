package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

// Examples that stand in the RFCs.
const ()

func mustSigningKey(t *testing.T, algorithm accesstoken.Algorithm, private crypto.Signer) *signingKey {
	t.Helper()
	key, err := newSigningKey("", algorithm, private)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// RFC 8037, appendix A: key, thumbprint, signature.
func TestRFC8037(t *testing.T) {
	t.Parallel()
	key := mustSigningKey(t, accesstoken.EdDSA, ed25519.NewKeyFromSeed(josetest.Base64(t, josetest.RFC8037Private)))
	if got, want := key.id, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"; got != want {
		t.Errorf("A.3: thumbprint %s, want %s", got, want)
	}
	dot := strings.LastIndex(josetest.RFC8037JWS, ".")
	signature, err := key.method.Sign(josetest.RFC8037JWS[:dot], key.private)
	if err != nil || encodeSegment(signature) != josetest.RFC8037JWS[dot+1:] {
		t.Errorf("A.4: signed %s, %v", encodeSegment(signature), err)
	}
}

// RFC 7515, appendix A.2: signing by PKCS #1 v1.5 has one result.
func TestRFC7515A2(t *testing.T) {
	t.Parallel()
	key := mustSigningKey(t, accesstoken.RS256, josetest.RFC7515A2Key(t))
	signed := "eyJhbGciOiJSUzI1NiJ9." + josetest.RFC7515Payload
	signature, err := key.method.Sign(signed, key.private)
	if err != nil || encodeSegment(signature) != josetest.RFC7515A2Signature {
		t.Errorf("signed %s, %v", encodeSegment(signature), err)
	}
}

// RFC 6979, appendix A.2.5: the nonce is derived, so the signature is fixed.
func TestRFC6979(t *testing.T) {
	t.Parallel()
	scalar, err := hex.DecodeString("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721")
	if err != nil {
		t.Fatal(err)
	}
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	if err != nil {
		t.Fatal(err)
	}
	// R of one and S of the other begin with a zero byte, which must stay.
	key := mustSigningKey(t, accesstoken.ES256, private)
	for message, zero := range map[string]int{"281": 0, "192": es256Width} {
		signature, err := key.method.Sign(message, private)
		if err != nil || len(signature) != 2*es256Width || signature[zero] != 0 {
			t.Errorf("%s: %x, %v", message, signature, err)
		}
		if err := key.method.Verify(message, signature, key.public); err != nil {
			t.Errorf("%s: %v", message, err)
		}
	}
	for message, want := range map[string]string{
		"sample": "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716" +
			"f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
		"test": "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367" +
			"019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083",
	} {
		signature, err := signingMethod(accesstoken.ES256).Sign(message, private)
		if err != nil || hex.EncodeToString(signature) != want {
			t.Errorf("%s: %x, %v", message, signature, err)
		}
	}
}
