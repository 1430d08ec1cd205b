package password

// Claim identifies the client that a hash is computed for. If many callers wait, the claim decides which of them is
// next. The zero Claim is a client of whom nothing is known.
type Claim struct {
	// Network is the client's network. All claims of one network share one line of the queue. Claims with an empty
	// Network share one line too.
	Network string
	// Address is the client's address. The addresses of a network take turns among themselves.
	Address string
	// Known means that the client has proved an earlier visit, with something that only an account's owner received.
	// Known clients have their own share of the queue.
	Known bool
}
