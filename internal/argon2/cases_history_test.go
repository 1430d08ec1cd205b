//go:build history

package argon2

const randomCases = 100_000
