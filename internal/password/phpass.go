package password

import (
	"crypto/md5" //nolint:gosec // G501: other programs' hashes are of it, and are rewritten
	"crypto/sha512"
	"crypto/subtle"
	"strings"
)

const (
	// phpass uses 2^8 to 2^13 rounds in practice and allows 2^30. 2^20 take 0.1 s, and 0.7 s with 512 bytes.
	minPHPass, maxPHPass = 7, 20
	phpassSalt           = 8
	phpassKey            = 22

	// Drupal makes 2^15 and 2^16 rounds of SHA-512. 2^20 take 0.25 s, and 1.0 s with 512 bytes.
	drupalKey = 43
)

// phpassKinds are the "portable" hash and that of Drupal.
func phpassKinds() []kind {
	names := []naming{{`^\$([PHS])\$([./0-9A-Za-z])`, "phpass $$$1$$$2"}}
	return []kind{
		{[]string{"$P$"}, readPHPass, `\$P\$[./0-9A-Za-z]`, dots(phpassSalt) + dots(phpassKey), names},
		{[]string{"$S$"}, readDrupal, `\$S\$[./0-9A-Za-z]`, dots(phpassSalt) + dots(drupalKey), names},
	}
}

// phpass is the "portable" hash of phpass 0.3. WordPress has used it, and phpBB as $H$.
type phpass struct {
	logRounds  uint64
	salt, want string
}

func readPHPass(encoded string) (digest, error) {
	const head = len("$P$9")
	if len(encoded) != head+phpassSalt+phpassKey {
		return nil, malformed("phpass hash does not have 34 characters")
	}
	logRounds := strings.IndexByte(cryptAlphabet, encoded[head-1])
	if logRounds < minPHPass || logRounds > maxPHPass {
		return nil, malformed("phpass rounds must be 2^%d to 2^%d", minPHPass, maxPHPass)
	}
	salt, key := encoded[head:head+phpassSalt], encoded[head+phpassSalt:]
	if err := checkCrypt(salt, phpassSalt, key, phpassKey, cryptAlphabet[:4]); err != nil {
		return nil, err
	}
	return phpass{uint64(logRounds), salt, key}, nil
}

func (p phpass) setting() string { return "$P$" + cryptAlphabet[p.logRounds:p.logRounds+1] }

func (p phpass) encode() string { return p.setting() + p.salt + p.want }

// work was measured: 89 ns a round with 13 bytes, 0.22 µs with 128, 0.65 with 512.
func (p phpass) work(password string) work {
	return foreignWork(engineMD5, perRound{74, 113}.times(1<<p.logRounds, password))
}

func (p phpass) accepts(password string) bool { return len(password) <= maxCryptPassword }

func (p phpass) whole(string) bool { return true }

func (p phpass) matches(password string) bool {
	return subtle.ConstantTimeCompare(p.key(password), []byte(p.want)) == 1
}

func (p phpass) key(password string) []byte {
	sum := md5.Sum(join([]byte(p.salt), []byte(password))) //nolint:gosec // G401: see the import
	round := join(sum[:], []byte(password))
	for range 1 << p.logRounds {
		sum = md5.Sum(round) //nolint:gosec // G401: see the import
		copy(round, sum[:])
	}
	return encodeCrypt(sum[:])
}

func (p phpass) weakerThan(Params) bool { return true }

// drupal is phpass with SHA-512. Drupal 7 to 10.0 keeps the first 43 characters of it.
type drupal struct {
	logRounds  uint64
	salt, want string
}

func readDrupal(encoded string) (digest, error) {
	const head = len("$S$D")
	if len(encoded) != head+phpassSalt+drupalKey {
		return nil, malformed("hash of Drupal does not have 55 characters")
	}
	logRounds := strings.IndexByte(cryptAlphabet, encoded[head-1])
	if logRounds < minPHPass || logRounds > maxPHPass {
		return nil, malformed("rounds of Drupal's hash must be 2^%d to 2^%d", minPHPass, maxPHPass)
	}
	salt, key := encoded[head:head+phpassSalt], encoded[head+phpassSalt:]
	if err := checkCrypt(salt, phpassSalt, key, drupalKey, cryptAlphabet); err != nil {
		return nil, err
	}
	return drupal{uint64(logRounds), salt, key}, nil
}

func (d drupal) setting() string { return "$S$" + cryptAlphabet[d.logRounds:d.logRounds+1] }

func (d drupal) encode() string { return d.setting() + d.salt + d.want }

// work was measured: 0.24 µs a round with 13 bytes, 0.46 with 128, 1.2 with 512.
func (d drupal) work(password string) work {
	return foreignWork(engineSHA512, perRound{215, 190}.times(1<<d.logRounds, password))
}

func (d drupal) accepts(password string) bool { return len(password) <= maxCryptPassword }

func (d drupal) whole(string) bool { return true }

func (d drupal) matches(password string) bool {
	return subtle.ConstantTimeCompare(d.key(password), []byte(d.want)) == 1
}

func (d drupal) key(password string) []byte {
	sum := sha512.Sum512(join([]byte(d.salt), []byte(password)))
	round := join(sum[:], []byte(password))
	for range 1 << d.logRounds {
		sum = sha512.Sum512(round)
		copy(round, sum[:])
	}
	return encodeCrypt(sum[:])[:drupalKey]
}

func (d drupal) weakerThan(Params) bool { return true }
