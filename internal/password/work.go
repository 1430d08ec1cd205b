package password

// engine is the algorithm family that computes a hash. Each has its own pace on every machine: some machines have
// instructions for SHA-256, some have slow memory.
type engine uint8

const (
	engineArgon2 engine = iota
	engineBcrypt
	engineScrypt
	engineYescrypt
	engineSHA1
	engineSHA256
	engineSHA512
	engineMD5
	engineSaltedSHA
	engines // how many there are
)

// maxForeignTime is the most time, in nanoseconds of a core on the machine of foreignWork, that one hash of another
// program may take: a sixth of the longest time of a call. A slower hash is refused when it is imported, so that its
// owner learns of it from a mail and not from a login that never succeeds.
const maxForeignTime = 2_500_000_000

// work is the cost of a hash, in units of one KiB and one pass of Argon2. For other engines the unit is that of x/crypto.
// Each engine has its own pace, so that units of two engines are never added.
type work struct {
	engine engine
	units  uint64
}

// foreignWork converts nanoseconds into units. The nanoseconds were measured on a machine where a unit of
// x/crypto takes nominalRate (one core of a Xeon with SHA instructions).
func foreignWork(e engine, nanoseconds uint64) work {
	return work{engine: e, units: 1 + nanoseconds/nominalRate}
}
