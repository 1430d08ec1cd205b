package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// sessionsEach is how many sessions an account has that has any.
const sessionsEach = 3

// The same number always gives the same row, so that two runs load the same accounts.

// digest returns bytes that look random.
func digest(of string, n int64) [sha256.Size]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte(of), uint64(n))) //nolint:gosec // G115: not negative
}

// number returns a number below n that looks random.
func number(of string, i, n int64) int64 {
	sum := digest(of, i)
	return int64(binary.BigEndian.Uint64(sum[:]) % uint64(n)) //nolint:gosec // G115: below n
}

// id returns a UUID of version 4, as the service makes them.
func id(of string, n int64) uuid.UUID {
	sum := digest(of, n)
	made := uuid.UUID(sum[:16])
	made[6], made[8] = made[6]&0x0f|0x40, made[8]&0x3f|0x80
	return made
}

// firstNames and lastNames make addresses whose order is not that of the accounts.
func firstNames() []string {
	return []string{"Ada", "Alan", "Barbara", "Claude", "Dennis", "Donald", "Edsger", "Frances", "Grace", "Hedy", "John", "Katherine", "Leslie", "Margaret", "Niklaus", "Radia"}
}

func lastNames() []string {
	return []string{"Allen", "Dijkstra", "Hamilton", "Hopper", "Johnson", "Kernighan", "Knuth", "Lamarr", "Lamport", "Liskov", "Lovelace", "McCarthy", "Perlman", "Ritchie", "Shannon", "Turing"}
}

// person is one of the accounts.
type person struct {
	id          uuid.UUID
	email       string
	first, last string
	created     time.Time
}

// person returns an account; they were created one after the other over three years.
func (s *site) person(n int64) person {
	sum := digest("person", n)
	p := person{id: id("account", n), first: firstNames()[sum[0]%16], last: lastNames()[sum[1]%16]}
	p.email = fmt.Sprintf("%s.%s%d@mail%d.example.com", p.first, p.last, n, sum[2]%100)
	const years = 3 * 365 * 24 * time.Hour
	p.created = time.Date(2023, time.January, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * (years / time.Duration(s.accounts)).Truncate(time.Microsecond))
	return p
}

// owner returns the number of the account that a session belongs to: owners are spread over all accounts.
func (s *site) owner(session int64) int64 {
	owners := (s.sessions + sessionsEach - 1) / sessionsEach
	return session / sessionsEach * (s.accounts / owners)
}
