package password

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Decoy says how many stored hashes use some parameters.
type Decoy struct {
	Params Params
	Weight int64 // a count; only its proportion to the others matters
}

// decoyTable is immutable; the Hasher swaps whole tables.
type decoyTable struct {
	params []Params
	upTo   []float64 // running sums of the weights
}

// newDecoyTable leaves out what no stored hash could be verified with: weights
// below one and parameters out of bounds. If nothing is left, every draw gives
// fallback. The order is fixed by cost, so that the same proportions make the
// same table however they were listed, and a migration to stronger hashes moves
// accounts only at the borders.
func newDecoyTable(decoys []Decoy, fallback Params) *decoyTable {
	weights := make(map[Params]float64, len(decoys))
	for _, d := range decoys {
		if d.Weight > 0 && d.Params.Validate() == nil {
			weights[d.Params] += float64(d.Weight)
		}
	}
	if len(weights) == 0 {
		weights[fallback] = 1
	}
	table := &decoyTable{}
	for p := range weights {
		table.params = append(table.params, p)
	}
	slices.SortFunc(table.params, func(a, b Params) int {
		return cmp.Or(
			cmp.Compare(a.cost(), b.cost()),
			cmp.Compare(a.MemoryKiB, b.MemoryKiB),
			cmp.Compare(a.Threads, b.Threads),
		)
	})
	var sum float64
	for _, p := range table.params {
		sum += weights[p]
		table.upTo = append(table.upTo, sum)
	}
	return table
}

// draw maps an account to parameters. Without the key nobody can tell what an
// address would cost if it were unknown, and asking twice tells nothing new.
func (d *decoyTable) draw(key []byte, account string) Params {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(account))
	// 53 bits are a fraction of [0, 1) that a float64 holds exactly.
	fraction := float64(binary.BigEndian.Uint64(mac.Sum(nil))>>11) / (1 << 53)
	at := fraction * d.upTo[len(d.upTo)-1]
	i := slices.IndexFunc(d.upTo, func(sum float64) bool { return at < sum })
	if i < 0 { // rounding up to the whole sum
		i = len(d.params) - 1
	}
	return d.params[i]
}
