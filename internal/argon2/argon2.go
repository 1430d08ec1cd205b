// Package argon2 computes Argon2 version 1.3 (RFC 9106) with the AVX2 and AVX-512 instructions of amd64, in memory that
// is mapped once and used again, and bit for bit as golang.org/x/crypto/argon2 does. A hash takes about a third of the
// processor time that x/crypto takes, and no allocation.
//
// Without AVX2, and on other processors, x/crypto computes the hash, unless it needs what x/crypto lacks: a secret,
// associated data or Argon2d. Those are then computed by Go code, several times slower.
//
// The decision page docs/decisions/2026-11-29-own-argon2.md says why this is here and how to go back.
package argon2

import (
	"cmp"
	"errors"
	"fmt"

	xargon2 "golang.org/x/crypto/argon2"
)

// Variant is the type y of RFC 9106, section 3.1.
type Variant uint32

// The variants. Argon2id is the one for new hashes (RFC 9106, section 4).
const (
	D  Variant = 0
	I  Variant = 1
	ID Variant = 2
)

const (
	version = 0x13
	// slices of a lane. In one slice, no lane reads what another writes.
	slices = 4
)

// Params are what a hash costs.
type Params struct {
	Variant Variant
	// Passes over the memory, at least 1.
	Passes uint32
	// MemoryKiB is rounded down to a multiple of 4*Lanes, but 8*Lanes are taken at least, as in x/crypto. The number as
	// given is part of the hash.
	MemoryKiB uint32
	// Lanes, at least 1, are computed by up to as many goroutines, but no more than GOMAXPROCS.
	Lanes uint8
}

// Input is what is hashed. Secret (a pepper) and Data are empty for most hashes; they are K and X of RFC 9106.
type Input struct {
	Password, Salt, Secret, Data []byte
}

// ErrParams is what Derive returns if the number of passes or lanes or the length of the key is 0.
var ErrParams = errors.New("argon2: passes, lanes and length of the key must be at least 1")

// blocks is the number of blocks in all, m' of RFC 9106. Without lanes there are none.
func (p Params) blocks() uint32 {
	if p.Lanes == 0 {
		return 0
	}
	unit := slices * uint32(p.Lanes)
	return max(p.MemoryKiB/unit*unit, 2*unit)
}

// IDKey returns a key of keyLen bytes, Argon2id of the password and the salt: the same bytes as IDKey of
// golang.org/x/crypto/argon2 with the same arguments, memory being in KiB. It maps memory for this one call; Pool keeps
// it. It panics if time, threads or keyLen is 0.
func IDKey(password, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte {
	return derive(Params{ID, time, memory, threads}, Input{Password: password, Salt: salt}, keyLen)
}

// Key is IDKey for Argon2i.
func Key(password, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte {
	return derive(Params{I, time, memory, threads}, Input{Password: password, Salt: salt}, keyLen)
}

func derive(p Params, in Input, keyLen uint32) []byte {
	key := make([]byte, keyLen)
	a := newArena(preferred())
	defer a.close()
	if _, err := a.compute(nil, key, p, &in); err != nil { // nothing stops it
		panic(err)
	}
	return key
}

// Kernel names the code that computes hashes on this machine: "avx512", "avx2" or "x/crypto".
func Kernel() string {
	return cmp.Or(preferred().name, "x/crypto")
}

// preferred returns the fastest kernel, or the zero kernel, which means x/crypto.
func preferred() kernel {
	if all := kernels(); len(all) > 0 {
		return all[0]
	}
	return kernel{}
}

// deriveX computes a hash with x/crypto, if it can.
func deriveX(dst []byte, p Params, in *Input) bool {
	if len(in.Secret) > 0 || len(in.Data) > 0 {
		return false
	}
	n := uint32(len(dst)) //nolint:gosec // G115: derive has checked it
	switch p.Variant {
	case ID:
		copy(dst, xargon2.IDKey(in.Password, in.Salt, p.Passes, p.MemoryKiB, p.Lanes, n))
	case I:
		copy(dst, xargon2.Key(in.Password, in.Salt, p.Passes, p.MemoryKiB, p.Lanes, n))
	default:
		return false
	}
	return true
}

// String returns the name as in PHC strings, such as "argon2id".
func (v Variant) String() string {
	switch v {
	case D:
		return "argon2d"
	case I:
		return "argon2i"
	case ID:
		return "argon2id"
	}
	return fmt.Sprintf("Variant(%d)", uint32(v))
}
