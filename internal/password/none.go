package password

// None is stored where an account has no password: it is no hash of any kind, so
// Verify refuses it as it refuses every malformed one, and no password matches. Its
// owner gets in by a reset.
const None = "!"
