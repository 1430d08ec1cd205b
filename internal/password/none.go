package password

// None is stored for an account without a password. It is not a hash of any kind, so Verify returns ErrMalformedHash
// for it, as for every malformed hash, and no password matches. The owner can log in after a reset.
const None = "!"
