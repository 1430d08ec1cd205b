package password

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
)

const (
	scryptKDF     = "$scrypt-kdf$"
	scryptKDFSalt = 32
	scryptKDFMAC  = 32
	// scryptKDFKey is how many bytes scrypt derives; the second half is the key of the MAC.
	scryptKDFKey = 64
)

// scryptKDFHash is the header of a file of scrypt(1): parameters, salt, a checksum of both, and an HMAC-SHA-256 of all
// that with the derived key. scrypt-kdf, and so Medusa, stores that header as the hash of a password.
type scryptKDFHash struct {
	scryptParams
	salt, want []byte
}

func readScryptKDF(encoded string) (digest, error) {
	parts := strings.Split(encoded, "$")
	if len(parts) != 5 {
		return nil, malformed("parameters, salt and MAC are not three parts")
	}
	params, err := newScryptParams(parts[2])
	if err != nil {
		return nil, err
	}
	salt, err := decodeEither("salt", parts[3], scryptKDFSalt, scryptKDFSalt)
	if err != nil {
		return nil, err
	}
	mac, err := decodeEither("MAC", parts[4], scryptKDFMAC, scryptKDFMAC)
	if err != nil {
		return nil, err
	}
	return scryptKDFHash{params, salt, mac}, nil
}

func (s scryptKDFHash) setting() string { return scryptKDF + s.scryptParams.encode() + "$" }

func (s scryptKDFHash) encode() string {
	base64 := base64.RawStdEncoding.EncodeToString
	return s.setting() + base64(s.salt) + "$" + base64(s.want)
}

func (s scryptKDFHash) work(string) work { return s.scryptParams.work() }

func (s scryptKDFHash) accepts(string) bool { return true }

func (s scryptKDFHash) whole(password string) bool { return wholeKey(password) }

func (s scryptKDFHash) matches(password string) bool {
	mac := s.mac(password)
	return len(mac) > 0 && hmac.Equal(mac, s.want)
}

// mac returns nothing if scrypt fails, which the bounds make impossible.
func (s scryptKDFHash) mac(password string) []byte {
	key, err := s.key(password, s.salt, scryptKDFKey)
	if err != nil {
		return nil
	}
	header := append([]byte("scrypt\x00"), byte(s.logN))        //nolint:gosec // G115: at most 20
	header = binary.BigEndian.AppendUint32(header, uint32(s.r)) //nolint:gosec // G115: at most 64
	header = binary.BigEndian.AppendUint32(header, uint32(s.p)) //nolint:gosec // G115: at most 64
	header = append(header, s.salt...)
	sum := sha256.Sum256(header)
	mac := hmac.New(sha256.New, key[scryptKDFKey/2:])
	mac.Write(header)
	mac.Write(sum[:16])
	return mac.Sum(nil)
}

func (s scryptKDFHash) weakerThan(Params) bool { return true }
