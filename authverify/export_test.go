package authverify

// DefaultMaxStaleness is what an empty Config.MaxStaleness stands for.
const DefaultMaxStaleness = defaultMaxStaleness
