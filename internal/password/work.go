package password

// engine is what computes a hash. Each has a pace of its own on every machine: some have instructions for
// SHA-256, some have slow memory.
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

// maxForeignTime bounds what one hash of another program may take of a core, in nanoseconds, on the machine of
// foreignWork: a sixth of the longest time of a call. What takes longer is refused when it is imported, so that
// its owner learns of it by a mail and not by a login that never succeeds.
const maxForeignTime = 2_500_000_000

// work is what a hash costs, in units of one KiB and one pass of Argon2.
type work struct {
	engine engine
	units  uint64
}

// foreignWork converts nanoseconds into units. They were measured on the machine where a unit takes
// nominalRate (one core of a Xeon with SHA instructions).
func foreignWork(e engine, nanoseconds uint64) work {
	return work{engine: e, units: 1 + nanoseconds/nominalRate}
}
