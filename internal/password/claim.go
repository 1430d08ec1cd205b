package password

// Claim says for whom a hash is computed: where many want one, it decides whose turn
// is next. The zero Claim is a client of whom nothing is known.
type Claim struct {
	// Network is the client's network: all claims of one are one bucket of the queue.
	// Empty means none, which is a bucket too.
	Network string
	// Address is the client within its network, which has its turns among those.
	Address string
	// Known says that the client has proved to be one that was here before, by
	// something that only an account's owner was given: room is kept for it.
	Known bool
}
