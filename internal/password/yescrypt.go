package password

import (
	"crypto/subtle"
	"strings"

	"github.com/go-crypt/x/yescrypt"
)

const (
	// yescryptTime is in nanoseconds per N*r: 45 ms for N=2^12, r=32, which libxcrypt makes.
	yescryptTime = 340
	// go-crypt computes these. N*r is bounded as for scrypt, to 256 MiB.
	minYescryptLogN, maxYescryptLogN = 10, 18
	maxYescryptR                     = 32
	maxYescryptSalt                  = 64
	yescryptKey                      = 32
)

func yescryptKinds() []kind {
	return []kind{{
		[]string{"$y$"},
		readYescrypt, `\$y\$j[./0-9A-Za-z]{2}\$`, dots(22) + "$" + dots(43),
		[]naming{{`^\$y\$(j[./0-9A-Za-z]{2})\$`, "yescrypt $1"}},
	}}
}

// yescryptHash is the default of libxcrypt, on Debian since 11 and Fedora since 35.
type yescryptHash struct {
	logN, r    uint64
	salt, want []byte
}

func readYescrypt(encoded string) (digest, error) {
	parts := strings.Split(encoded, "$")
	if len(parts) != 5 {
		return nil, malformed("parameters, salt and key are not three parts")
	}
	if len(parts[2]) != 3 || parts[2][0] != 'j' {
		return nil, malformed("parameters of yescrypt are not the three characters that libxcrypt writes, such as j9T")
	}
	h := yescryptHash{}
	h.logN = uint64(1 + strings.IndexByte(cryptAlphabet, parts[2][1])) //nolint:gosec // G115: at least 0
	h.r = uint64(1 + strings.IndexByte(cryptAlphabet, parts[2][2]))    //nolint:gosec // G115: likewise
	if h.logN < minYescryptLogN || h.logN > maxYescryptLogN || h.r < 1 || h.r > maxYescryptR || h.r<<h.logN > maxScryptBlocks {
		return nil, malformed("yescrypt N must be 2^%d to 2^%d, r 1 to %d, and N*r at most %d",
			minYescryptLogN, maxYescryptLogN, maxYescryptR, maxScryptBlocks)
	}
	var err error
	if h.salt, err = decodeYescrypt("salt", parts[3], minForeignSalt, maxYescryptSalt); err != nil {
		return nil, err
	}
	if h.want, err = decodeYescrypt("key", parts[4], yescryptKey, yescryptKey); err != nil {
		return nil, err
	}
	return h, nil
}

// decodeYescrypt refuses another spelling of the same bytes, which go-crypt's decoder accepts.
func decodeYescrypt(what, text string, shortest, longest int) ([]byte, error) {
	if strings.Trim(text, cryptAlphabet) != "" {
		return nil, malformed("%s is not in the alphabet of crypt", what)
	}
	data := yescrypt.Decode64([]byte(text))
	if err := checkLength(what, data, shortest, longest); err != nil {
		return nil, err
	}
	if string(yescrypt.Encode64(data)) != text {
		return nil, malformed("%s is not in the alphabet of crypt", what)
	}
	return data, nil
}

func (y yescryptHash) setting() string {
	return "$y$j" + cryptAlphabet[y.logN-1:y.logN] + cryptAlphabet[y.r-1:y.r] + "$"
}

func (y yescryptHash) encode() string {
	return y.setting() + string(yescrypt.Encode64(y.salt)) + "$" + string(yescrypt.Encode64(y.want))
}

func (y yescryptHash) work(string) work { return foreignWork(engineYescrypt, yescryptTime*y.r<<y.logN) }

func (y yescryptHash) accepts(string) bool { return true }

func (y yescryptHash) whole(password string) bool { return wholeKey(password) }

func (y yescryptHash) matches(password string) bool {
	key := y.key(password)
	return len(key) > 0 && subtle.ConstantTimeCompare(key, y.want) == 1
}

// key returns nothing if it fails, which the bounds make impossible.
func (y yescryptHash) key(password string) []byte {
	key, err := yescrypt.Key([]byte(password), y.salt, 1<<y.logN, int(y.r), 1, yescryptKey) //nolint:gosec // G115: at most 32
	if err != nil {
		return nil
	}
	return key
}

func (y yescryptHash) weakerThan(Params) bool { return true }
