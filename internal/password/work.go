package password

// engine is what computes a hash. Each has a pace of its own on every machine: some have instructions for
// SHA-256, some have slow memory.
type engine uint8

const (
	engineArgon2 engine = iota
	engineBcrypt
	engineScrypt
	engineSHA1
	engineSHA256
	engineSHA512
	engineMD5
	engineSaltedSHA
	engines // how many there are
)

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
