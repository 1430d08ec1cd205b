package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"
)

// Examples that stand in the RFCs.
const (
	rfc8037Private = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
	rfc8037JWS     = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc." +
		"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"

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
)

func mustSigningKey(t *testing.T, algorithm Algorithm, private crypto.Signer) *signingKey {
	t.Helper()
	key, err := newSigningKey("", algorithm, private)
	if err != nil {
		t.Fatal(err)
	}
	return key
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

// RFC 8037, appendix A: key, thumbprint, signature.
func TestRFC8037(t *testing.T) {
	t.Parallel()
	key := mustSigningKey(t, EdDSA, ed25519.NewKeyFromSeed(decodeBase64(t, rfc8037Private)))
	if got, want := key.id, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"; got != want {
		t.Errorf("A.3: thumbprint %s, want %s", got, want)
	}
	dot := strings.LastIndex(rfc8037JWS, ".")
	signature, err := key.method.Sign(rfc8037JWS[:dot], key.private)
	if err != nil || encodeSegment(signature) != rfc8037JWS[dot+1:] {
		t.Errorf("A.4: signed %s, %v", encodeSegment(signature), err)
	}
}

// RFC 7515, appendix A.2: signing by PKCS #1 v1.5 has one result.
func TestRFC7515A2(t *testing.T) {
	t.Parallel()
	key := mustSigningKey(t, RS256, rfc7515A2Key(t))
	signed := "eyJhbGciOiJSUzI1NiJ9." + rfc7515Payload
	signature, err := key.method.Sign(signed, key.private)
	if err != nil || encodeSegment(signature) != rfc7515A2Signature {
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
	key := mustSigningKey(t, ES256, private)
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
		signature, err := signingMethod(ES256).Sign(message, private)
		if err != nil || hex.EncodeToString(signature) != want {
			t.Errorf("%s: %x, %v", message, signature, err)
		}
	}
}
