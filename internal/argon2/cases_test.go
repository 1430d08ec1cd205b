//go:build !history

package argon2

// randomCases take a second. The tag history makes them 100,000.
const randomCases = 300
