package accesstoken

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/testenv/josetest"
)

// Examples that stand in the RFCs.
const (
	rfc8037Public = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"

	rfc7638Modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3" +
		"oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5" +
		"hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"

	rfc7515A3Private   = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"
	rfc7515A3X         = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
	rfc7515A3Y         = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
	rfc7515A3Signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
)

// verifyParts runs the signature check that Verify runs.
func verifyParts(t *testing.T, key *signer, signed, signature string) error {
	t.Helper()
	parsed := &Token{
		signed: signed, signature: josetest.Base64(t, signature), payload: signed[strings.Index(signed, ".")+1:],
		algorithm: key.algorithm, keyID: key.id,
	}
	_, err := parsed.verify(key.Key)
	return err
}

// RFC 8037, appendix A: key, thumbprint, signature check.
func TestRFC8037(t *testing.T) {
	t.Parallel()
	key := signerOf(t, EdDSA, ed25519.NewKeyFromSeed(josetest.Base64(t, josetest.RFC8037Private)))
	if key.jwk.X != rfc8037Public || key.jwk.KeyType != "OKP" || key.jwk.Curve != "Ed25519" {
		t.Errorf("A.2: got %+v", key.jwk)
	}
	if got, want := key.id, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"; got != want {
		t.Errorf("A.3: thumbprint %s, want %s", got, want)
	}
	dot := strings.LastIndex(josetest.RFC8037JWS, ".")
	if err := verifyParts(t, key, josetest.RFC8037JWS[:dot], josetest.RFC8037JWS[dot+1:]); err != nil {
		t.Errorf("A.5: %v", err)
	}
}

// RFC 7638, section 3.1.
func TestRFC7638(t *testing.T) {
	t.Parallel()
	described, err := NewJWK(&rsa.PublicKey{N: josetest.BigInt(t, rfc7638Modulus), E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	if described.N != rfc7638Modulus || described.E != "AQAB" {
		t.Errorf("JWK: %+v", described)
	}
	if got, want := described.Thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"; got != want {
		t.Errorf("thumbprint %s, want %s", got, want)
	}
}

// RFC 7515, appendix A.2.
func TestRFC7515A2(t *testing.T) {
	t.Parallel()
	key := signerOf(t, RS256, josetest.RFC7515A2Key(t))
	signed := "eyJhbGciOiJSUzI1NiJ9." + josetest.RFC7515Payload
	if err := verifyParts(t, key, signed, josetest.RFC7515A2Signature); err != nil {
		t.Error(err)
	}
}

// RFC 7515, appendix A.3.
func TestRFC7515A3(t *testing.T) {
	t.Parallel()
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), josetest.Base64(t, rfc7515A3Private))
	if err != nil {
		t.Fatal(err)
	}
	key := signerOf(t, ES256, private)
	if key.jwk.X != rfc7515A3X || key.jwk.Y != rfc7515A3Y || key.jwk.Curve != "P-256" || key.jwk.KeyType != "EC" {
		t.Errorf("JWK: %+v", key.jwk)
	}
	if err := verifyParts(t, key, "eyJhbGciOiJFUzI1NiJ9."+josetest.RFC7515Payload, rfc7515A3Signature); err != nil {
		t.Error(err)
	}
	if err := verifyParts(t, key, "eyJhbGciOiJFUzI1NiJ9."+josetest.RFC7515Payload+"A", rfc7515A3Signature); err == nil {
		t.Error("the signature holds for another payload")
	}
}
