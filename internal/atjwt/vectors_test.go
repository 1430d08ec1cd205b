package atjwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"math/big"
	"strings"
	"testing"
)

// Examples that stand in the RFCs.
const (
	rfc8037Private = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
	rfc8037Public  = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
	rfc8037JWS     = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc." +
		"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"

	rfc7638Modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3" +
		"oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5" +
		"hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"

	rfc7515Payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"

	rfc7515A2Modulus = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-" +
		"pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdV" +
		"MTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
	rfc7515A2Exponent = "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-p" +
		"WJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTC" +
		"Br6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ"
	rfc7515A2P = "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5" +
		"t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc"
	rfc7515A2Q = "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-nj" +
		"bglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc"
	rfc7515A2Signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7" +
		"t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-e" +
		"OkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"

	rfc7515A3Private   = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"
	rfc7515A3X         = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
	rfc7515A3Y         = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
	rfc7515A3Signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
)

// verifyParts runs the signature check that Verify runs.
func verifyParts(t *testing.T, key *signer, signed, signature string) error {
	t.Helper()
	parsed := &Token{
		signed: signed, signature: decodeBase64(t, signature), payload: signed[strings.Index(signed, ".")+1:],
		algorithm: key.algorithm, keyID: key.id,
	}
	_, err := parsed.verify(key.Key)
	return err
}

// rfc7515A2Key is the RSA key of RFC 7515, appendix A.2.
func rfc7515A2Key(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	private := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: bigInt(t, rfc7515A2Modulus), E: 65537},
		D:         bigInt(t, rfc7515A2Exponent),
		Primes:    []*big.Int{bigInt(t, rfc7515A2P), bigInt(t, rfc7515A2Q)},
	}
	private.Precompute()
	return private
}

func bigInt(t testing.TB, text string) *big.Int {
	t.Helper()
	return new(big.Int).SetBytes(decodeBase64(t, text))
}

// RFC 8037, appendix A: key, thumbprint, signature check.
func TestRFC8037(t *testing.T) {
	t.Parallel()
	key := signerOf(t, EdDSA, ed25519.NewKeyFromSeed(decodeBase64(t, rfc8037Private)))
	if key.jwk.X != rfc8037Public || key.jwk.KeyType != "OKP" || key.jwk.Curve != "Ed25519" {
		t.Errorf("A.2: got %+v", key.jwk)
	}
	if got, want := key.id, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"; got != want {
		t.Errorf("A.3: thumbprint %s, want %s", got, want)
	}
	dot := strings.LastIndex(rfc8037JWS, ".")
	if err := verifyParts(t, key, rfc8037JWS[:dot], rfc8037JWS[dot+1:]); err != nil {
		t.Errorf("A.5: %v", err)
	}
}

// RFC 7638, section 3.1.
func TestRFC7638(t *testing.T) {
	t.Parallel()
	described, err := NewJWK(&rsa.PublicKey{N: bigInt(t, rfc7638Modulus), E: 65537})
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
	key := signerOf(t, RS256, rfc7515A2Key(t))
	signed := "eyJhbGciOiJSUzI1NiJ9." + rfc7515Payload
	if err := verifyParts(t, key, signed, rfc7515A2Signature); err != nil {
		t.Error(err)
	}
}

// RFC 7515, appendix A.3.
func TestRFC7515A3(t *testing.T) {
	t.Parallel()
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), decodeBase64(t, rfc7515A3Private))
	if err != nil {
		t.Fatal(err)
	}
	key := signerOf(t, ES256, private)
	if key.jwk.X != rfc7515A3X || key.jwk.Y != rfc7515A3Y || key.jwk.Curve != "P-256" || key.jwk.KeyType != "EC" {
		t.Errorf("JWK: %+v", key.jwk)
	}
	if err := verifyParts(t, key, "eyJhbGciOiJFUzI1NiJ9."+rfc7515Payload, rfc7515A3Signature); err != nil {
		t.Error(err)
	}
	if err := verifyParts(t, key, "eyJhbGciOiJFUzI1NiJ9."+rfc7515Payload+"A", rfc7515A3Signature); err == nil {
		t.Error("the signature holds for another payload")
	}
}
