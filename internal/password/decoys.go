package password

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
)

// Decoy counts the stored hashes of one kind that have the same parameters.
type Decoy struct {
	// Setting is the text of those hashes up to the salt, such as "$argon2id$v=19$m=19456,t=2,p=1$",
	// "$2b$12$" or "{SSHA}".
	Setting string
	Weight  int64 // a count; only its proportion to the others matters
}

// decoyTable is immutable; the Hasher swaps whole tables.
type decoyTable struct {
	digests []digest
	upTo    []float64 // running sums of the weights
}

// newDecoyTable makes a table from decoys. It leaves out weights below one, settings that no stored hash can have, and
// those of peppers that are not in the set: Verify compares nothing with such hashes. If nothing is left, every draw
// returns fallback. The table is sorted by cost. So the same proportions make the same table, whatever their order in the
// list, and a migration to stronger hashes changes the decoys of few accounts: those at the borders.
func newDecoyTable(decoys []Decoy, fallback Params, peppers pepperSet) *decoyTable {
	weights := make(map[string]float64, len(decoys))
	table := &decoyTable{}
	add := func(setting string, weight float64) {
		d, err := readSetting(setting)
		if err == nil {
			d, err = peppers.season(d)
		}
		if err != nil {
			return
		}
		if _, known := weights[setting]; !known {
			table.digests = append(table.digests, d)
		}
		weights[setting] += weight
	}
	for _, d := range decoys {
		if d.Weight > 0 {
			add(d.Setting, float64(d.Weight))
		}
	}
	if len(table.digests) == 0 {
		add(argon2Hash{Params: fallback}.setting(), 1)
	}
	typical := strings.Repeat("x", typicalLength)
	slices.SortFunc(table.digests, func(a, b digest) int {
		return cmp.Or(
			cmp.Compare(a.work(typical).units, b.work(typical).units),
			cmp.Compare(a.setting(), b.setting()),
		)
	})
	var sum float64
	for _, d := range table.digests {
		sum += weights[d.setting()]
		table.upTo = append(table.upTo, sum)
	}
	return table
}

// typicalLength is the length in bytes of the password whose cost decides the order of the kinds.
const typicalLength = 12

// draw returns the decoy of an account: a hash that no password matches. Without the key nobody can compute
// what an address would cost if it were unknown, and a second try reveals nothing new, because the decoy of
// an account stays the same.
func (d *decoyTable) draw(key []byte, account string) digest {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(account))
	// 53 bits are a fraction of [0, 1) that a float64 holds exactly.
	fraction := float64(binary.BigEndian.Uint64(mac.Sum(nil))>>11) / (1 << 53)
	at := fraction * d.upTo[len(d.upTo)-1]
	i := slices.IndexFunc(d.upTo, func(sum float64) bool { return at < sum })
	if i < 0 { // rounding reached the whole sum
		i = len(d.digests) - 1
	}
	return d.digests[i]
}
