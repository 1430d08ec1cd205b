package password

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

func testKey() []byte { return bytes.Repeat([]byte{9}, 32) }

func setting(p Params) string { return argon2Hash{Params: p}.setting() }

func account(i int) string { return "user" + strconv.Itoa(i) + "@example.com" }

func TestDecoysFollowTheProportions(t *testing.T) {
	t.Parallel()
	a, b, c := Params{65536, 3, 2}, Params{19456, 2, 1}, Params{64, 1, 1}
	table := newDecoyTable([]Decoy{{setting(a), 500_000}, {setting(b), 300_000}, {setting(c), 200_000}}, tiny(), nil)
	const accounts = 20_000
	counts := make(map[string]float64)
	for i := range accounts {
		counts[table.draw(testKey(), account(i)).setting()]++
	}
	for p, want := range map[string]float64{setting(a): 0.5, setting(b): 0.3, setting(c): 0.2} {
		// Five standard deviations. The key is fixed, so the result is the same in each run.
		if got := counts[p] / accounts; math.Abs(got-want) > 5*math.Sqrt(want*(1-want)/accounts) {
			t.Errorf("%+v: drawn for %.3f of the accounts, want %.3f", p, got, want)
		}
	}
}

// The draw depends on the key, the account and the proportions only: not on the
// order of the list, on how it is split up, or on the size of the table.
func TestDecoysAreStable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		decoys := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Decoy {
			return Decoy{drawHash(t).setting(), rapid.Int64Range(1, 1<<30).Draw(t, "weight")}
		}), 1, 5).Draw(t, "decoys")
		table := newDecoyTable(decoys, tiny(), nil)
		other := slices.Clone(decoys)
		slices.Reverse(other)
		other = append(other, decoys...)
		other = append(other, Decoy{setting(Params{MemoryKiB: 1, Time: 1, Threads: 1}), 1 << 40}, Decoy{setting(Params{96, 1, 1}), 0}, Decoy{setting(Params{96, 1, 1}), -7})
		doubled := newDecoyTable(other, tiny(), nil)
		for i := range 50 {
			first, again := table.draw(testKey(), account(i)).setting(), doubled.draw(testKey(), account(i)).setting()
			if first != again {
				t.Fatalf("%s: %+v, then %+v", account(i), first, again)
			}
			if !slices.ContainsFunc(decoys, func(d Decoy) bool { return d.Setting == first }) {
				t.Fatalf("%s is not in the list", first)
			}
		}
	})
}

func TestDecoysDependOnTheKey(t *testing.T) {
	t.Parallel()
	table := newDecoyTable([]Decoy{{setting(Params{128, 1, 1}), 1}, {setting(tiny()), 1}}, tiny(), nil)
	differ := 0
	for i := range 1000 {
		if table.draw(testKey(), account(i)).setting() != table.draw(make([]byte, 32), account(i)).setting() {
			differ++
		}
	}
	if differ < 400 || differ > 600 {
		t.Errorf("%d of 1000 accounts differ between two keys, want about half", differ)
	}
}

func TestDecoysFallBack(t *testing.T) {
	t.Parallel()
	for name, decoys := range map[string][]Decoy{
		"none":          nil,
		"no weight":     {{setting(Params{128, 1, 1}), 0}},
		"out of bounds": {{setting(Params{1 << 20, 1, 1}), 9}},
	} {
		table := newDecoyTable(decoys, tiny(), nil)
		if got := table.draw(testKey(), "a@example.com").setting(); got != setting(tiny()) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Even the largest weights neither overflow nor hide each other.
func TestDecoysHugeWeights(t *testing.T) {
	t.Parallel()
	table := newDecoyTable([]Decoy{{setting(Params{128, 1, 1}), math.MaxInt64}, {setting(Params{256, 1, 1}), math.MaxInt64}, {setting(tiny()), math.MaxInt64}}, tiny(), nil)
	seen := make(map[string]bool)
	for i := range 100 {
		seen[table.draw(testKey(), account(i)).setting()] = true
	}
	if len(seen) != 3 {
		t.Errorf("drawn: %v", seen)
	}
}
