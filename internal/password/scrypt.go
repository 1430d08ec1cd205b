package password

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"golang.org/x/crypto/scrypt"
)

const (
	// scryptTime is in nanoseconds per N*r*p: 35 ms for N=2^14, r=8, and 303 ms for N=2^17, r=8, p=1.
	scryptTime = 270
	// maxScryptBlocks bounds N*r*p, and with it the memory, 128*N*r bytes, to 256 MiB and the time to 0.6 s.
	maxScryptBlocks = MaxMemoryKiB * 1024 / 128
	maxScryptLogN   = 20
	// maxScryptR and maxScryptP are far above the values in use (8, and 1 to 10), and keep the buffers that grow with r
	// and p below 1 MiB.
	maxScryptR, maxScryptP = 64, 64

	// maxForeignSalt is for PBKDF2 and scrypt, which read a salt once. Some programs use the text of 64 bytes as the
	// salt.
	minForeignSalt, maxForeignSalt = 1, 256

	// The signer key is 64 bytes long. The stored hash is that key, encrypted.
	minSignerKey, maxSignerKey = 32, 64
	maxSeparator               = 16
	firebaseKey                = 32 // AES-256
)

func scryptKinds() []kind {
	const setting = `scrypt\$ln=\d{1,2},r=\d{1,2},p=\d{1,2}\$`
	return []kind{
		{
			[]string{"$scrypt$"},
			readScrypt, `\$` + setting, zeros(newSaltLength) + "$" + zeros(newKeyLength),
			[]naming{{`^\$(scrypt)\$(ln=\d{1,2},r=\d{1,3},p=\d{1,3})\$`, "$1 $2"}},
		},
		{
			[]string{"$firescrypt$"},
			readFirebase, `\$fire` + setting,
			padded(8) + "$" + padded(64) + "$" + padded(1) + "$" + padded(64),
			[]naming{{`^\$firescrypt\$(ln=\d{1,2},r=\d{1,3},p=\d{1,3})\$`, "Firebase's scrypt $1"}},
		},
		{
			[]string{scryptKDF},
			readScryptKDF, `\$scrypt-kdf\$ln=\d{1,2},r=\d{1,2},p=\d{1,2}\$`,
			zeros(scryptKDFSalt) + "$" + zeros(scryptKDFMAC),
			[]naming{{`^\$scrypt-kdf\$(ln=\d{1,2},r=\d{1,3},p=\d{1,3})\$`, "scrypt-kdf $1"}},
		},
		{[]string{"scrypt$"}, readDjangoScrypt, "", "", []naming{{`^scrypt\$(\d{1,9})\$`, "Django scrypt N=$1"}}},
	}
}

// scryptParams are those of RFC 7914, with N = 2^logN.
type scryptParams struct {
	logN, r, p uint64
}

// newScryptParams also accepts N itself for ln, since Kratos writes it. The two cannot be confused: no logarithm within
// the bounds is as large as the least N.
func newScryptParams(text string) (scryptParams, error) {
	values, err := fields(text, "ln", "r", "p")
	if err != nil {
		return scryptParams{}, err
	}
	logN, err := number("scrypt ln", values["ln"], 1, 1<<maxScryptLogN)
	if err != nil {
		return scryptParams{}, err
	}
	if logN > maxScryptLogN {
		if bits.OnesCount64(logN) != 1 {
			return scryptParams{}, malformed("scrypt N is not a power of two")
		}
		logN = uint64(bits.TrailingZeros64(logN)) //nolint:gosec // G115: at most 20
	}
	r, err := number("scrypt r", values["r"], 1, maxScryptR)
	if err != nil {
		return scryptParams{}, err
	}
	p, err := number("scrypt p", values["p"], 1, maxScryptP)
	if err != nil {
		return scryptParams{}, err
	}
	params := scryptParams{logN: logN, r: r, p: p}
	if params.blocks() > maxScryptBlocks {
		return scryptParams{}, malformed("scrypt N*r*p must be at most %d, not %d", maxScryptBlocks, params.blocks())
	}
	return params, nil
}

func (s scryptParams) blocks() uint64 { return s.r * s.p << s.logN }

func (s scryptParams) work() work {
	return foreignWork(engineScrypt, scryptTime*s.blocks())
}

func (s scryptParams) encode() string {
	return "ln=" + strconv.FormatUint(s.logN, 10) + ",r=" + strconv.FormatUint(s.r, 10) + ",p=" + strconv.FormatUint(s.p, 10)
}

// key cannot fail: the bounds are narrower than those of the library.
func (s scryptParams) key(password string, salt []byte, length int) ([]byte, error) {
	return scrypt.Key([]byte(password), salt, 1<<s.logN, int(s.r), int(s.p), length) //nolint:gosec // G115: at most 64
}

// scryptHash is the form of passlib and go-crypt.
type scryptHash struct {
	scryptParams
	salt, want []byte
}

func readScrypt(encoded string) (digest, error) {
	parts := strings.Split(encoded, "$")
	if len(parts) != 5 {
		return nil, malformed("parameters, salt and key are not three parts")
	}
	params, err := newScryptParams(parts[2])
	if err != nil {
		return nil, err
	}
	salt, err := decodeEither("salt", parts[3], minForeignSalt, maxForeignSalt)
	if err != nil {
		return nil, err
	}
	key, err := decodeEither("key", parts[4], minKeyLength, maxKeyLength)
	if err != nil {
		return nil, err
	}
	return scryptHash{params, salt, key}, nil
}

// readDjangoScrypt reads scrypt$N$SALT$r$p$KEY, whose salt is text.
func readDjangoScrypt(encoded string) (digest, error) {
	parts := strings.Split(encoded, "$")
	if len(parts) != 6 {
		return nil, malformed("N, salt, r, p and key are not five parts")
	}
	return readScrypt("$scrypt$ln=" + parts[1] + ",r=" + parts[3] + ",p=" + parts[4] +
		"$" + base64.StdEncoding.EncodeToString([]byte(parts[2])) + "$" + parts[5])
}

func (s scryptHash) setting() string { return "$scrypt$" + s.scryptParams.encode() + "$" }

func (s scryptHash) encode() string {
	return s.setting() + base64.RawStdEncoding.EncodeToString(s.salt) + "$" + base64.RawStdEncoding.EncodeToString(s.want)
}

func (s scryptHash) work(string) work { return s.scryptParams.work() }

func (s scryptHash) accepts(string) bool { return true }

func (s scryptHash) whole(password string) bool { return wholeKey(password) }

func (s scryptHash) matches(password string) bool {
	key, err := s.key(password, s.salt, len(s.want))
	return err == nil && subtle.ConstantTimeCompare(key, s.want) == 1
}

func (s scryptHash) weakerThan(Params) bool { return true }

// FirebaseScrypt are a Firebase project's parameters, as its console shows them (the console shows the bytes in
// base64).
type FirebaseScrypt struct {
	SignerKey     []byte // base64_signer_key, 32 to 64 bytes
	SaltSeparator []byte // base64_salt_separator, at most 16 bytes
	Rounds        int    // rounds, scrypt's r, 1 to 64
	MemCost       int    // mem_cost, the logarithm of scrypt's N, 1 to 20
}

// Encode returns the text to store for an account's salt and passwordHash, which are bytes here. It checks them as
// Canonical does. The text holds the project's signer key, without which nobody can guess passwords: the key is in the
// database until the last such account has logged in.
func (f FirebaseScrypt) Encode(salt, key []byte) (string, error) {
	if f.MemCost > maxScryptLogN {
		return "", malformed("mem_cost must be 1 to %d, not %d", maxScryptLogN, f.MemCost)
	}
	base64 := base64.StdEncoding.EncodeToString
	return Canonical(fmt.Sprintf("$firescrypt$ln=%d,r=%d,p=1$%s$%s$%s$%s", f.MemCost, f.Rounds,
		base64(salt), base64(key), base64(f.SaltSeparator), base64(f.SignerKey)))
}

// firebaseHash is the signer key, encrypted with a key that scrypt derives from the password
// (github.com/firebase/scrypt).
type firebaseHash struct {
	scryptParams
	salt, want, separator, signer []byte
}

func readFirebase(encoded string) (digest, error) {
	parts := strings.Split(encoded, "$")
	if len(parts) != 7 {
		return nil, malformed("parameters, salt, hash, salt separator and signer key are not five parts")
	}
	params, err := newScryptParams(parts[2])
	if err != nil {
		return nil, err
	}
	if params.p != 1 {
		return nil, malformed("scrypt p of Firebase must be 1, not %d", params.p)
	}
	hash := firebaseHash{scryptParams: params}
	if hash.salt, err = decodeEither("salt", parts[3], minForeignSalt, maxSaltLength); err != nil {
		return nil, err
	}
	if hash.want, err = decodeEither("hash", parts[4], minSignerKey, maxSignerKey); err != nil {
		return nil, err
	}
	if hash.separator, err = decodeEither("salt separator", parts[5], 0, maxSeparator); err != nil {
		return nil, err
	}
	if hash.signer, err = decodeEither("signer key", parts[6], minSignerKey, maxSignerKey); err != nil {
		return nil, err
	}
	if len(hash.want) != len(hash.signer) {
		return nil, malformed("hash has %d bytes and the signer key %d", len(hash.want), len(hash.signer))
	}
	return hash, nil
}

func (f firebaseHash) setting() string { return "$firescrypt$" + f.scryptParams.encode() + "$" }

func (f firebaseHash) encode() string {
	base64 := base64.StdEncoding.EncodeToString
	return f.setting() + base64(f.salt) + "$" + base64(f.want) + "$" + base64(f.separator) + "$" + base64(f.signer)
}

func (f firebaseHash) work(string) work { return f.scryptParams.work() }

func (f firebaseHash) accepts(string) bool { return true }

func (f firebaseHash) whole(password string) bool { return wholeKey(password) }

func (f firebaseHash) matches(password string) bool {
	encrypted := f.encrypt(password)
	return len(encrypted) > 0 && subtle.ConstantTimeCompare(encrypted, f.want) == 1
}

// encrypt returns nothing if it fails, which the bounds make impossible.
func (f firebaseHash) encrypt(password string) []byte {
	key, err := f.key(password, join(f.salt, f.separator), firebaseKey)
	if err != nil {
		return nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil
	}
	encrypted := make([]byte, len(f.signer))
	cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(encrypted, f.signer) //nolint:gosec // G407: Firebase's, for the comparison
	return encrypted
}

func (f firebaseHash) weakerThan(Params) bool { return true }
