package session

import (
	"context"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/refreshtoken"
)

// trips counts the round trips to Redis.
type trips struct{ n atomic.Int64 }

func (c *trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmd)
	}
}

func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmds)
	}
}

// A long token is claimed without Redis and rotated in one trip. A short one needs one trip for each.
func TestTrips(t *testing.T) {
	t.Parallel()
	for form, claiming := range map[string]int64{"short": 1, "long": 0} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			store := b.withForm(t, forms()[form])
			_, text := create(t, store)
			text = mustRefresh(t, store, text, "", Advanced).RefreshToken // Redis has the script now
			counted := &trips{}
			b.client.AddHook(counted)
			for range 3 {
				before := counted.n.Load()
				claim, err := store.Claim(t.Context(), text)
				if err != nil {
					t.Fatal(err)
				}
				if n := counted.n.Load() - before; n != claiming {
					t.Errorf("Claim: %d trips, want %d", n, claiming)
				}
				before = counted.n.Load()
				rotation, err := store.Rotate(t.Context(), claim, "request", Mark{})
				if err != nil {
					t.Fatal(err)
				}
				if n := counted.n.Load() - before; n != 1 {
					t.Errorf("Rotate: %d trips, want 1", n)
				}
				text = rotation.RefreshToken
			}
		})
	}
}

func TestClaimWithoutRedis(t *testing.T) {
	t.Parallel()
	b := setup(t)
	created, long := create(t, b.store)
	_, short := create(t, b.withForm(t, forms()["short"]))
	_ = b.client.Close()
	claim, err := b.store.Claim(t.Context(), long)
	if err != nil {
		t.Fatal(err)
	}
	if claim.SessionID != created.ID || claim.UserID != created.UserID || claim.Position != created.Position || claim.Generation != 1 {
		t.Errorf("claimed %+v of %+v", claim, created)
	}
	if _, err := b.store.Claim(t.Context(), short); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a short token: %v", err)
	}
	if _, err := b.store.Rotate(t.Context(), claim, "", Mark{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Rotate: %v", err)
	}
}

// A setting that changes, or replicas with two settings, change no answer: a repeat gets the text that was lost, at
// whichever replica, and tokens of both forms go on.
func TestChangeOfForm(t *testing.T) {
	t.Parallel()
	b := setup(t)
	short, long := b.withForm(t, forms()["short"]), b.withForm(t, forms()["long"])
	_, text := create(t, short)
	for i, store := range []*Store{short, long, short, long, long, short} {
		other := map[*Store]*Store{short: long, long: short}[store]
		next := mustRefresh(t, store, text, "request", Advanced)
		if isLong := parse(t, next.RefreshToken).Carried != nil; isLong != (store == long) {
			t.Fatalf("%d: long: %v", i, isLong)
		}
		for _, again := range []Rotation{
			mustRefresh(t, other, text, "request", RepeatedSameRequest), mustRefresh(t, store, text, "request", RepeatedSameRequest),
			mustRefresh(t, other, text, "", RepeatedInGrace),
		} {
			if again.RefreshToken != next.RefreshToken || !reflect.DeepEqual(again.Session, next.Session) || !again.IssueTime.Equal(next.IssueTime) {
				t.Fatalf("%d: %+v, want %+v", i, again, next)
			}
		}
		text = next.RefreshToken
	}
}

// A release that knows only short tokens reads no name of a maker of long ones: it answers a repeat with a short token
// of its current key, which is as good.
func TestEarlierReleaseRepeats(t *testing.T) {
	t.Parallel()
	b := setup(t)
	created, text := create(t, b.withForm(t, forms()["short"]))
	mustRefresh(t, b.store, text, "request", Advanced)
	name := b.client.HGet(t.Context(), redisKey(created.ID), fieldKey).Val()
	if name != b.store.keys.Current().ID.String()+".2" {
		t.Fatalf("the name is %q", name)
	}
	// What that release writes when it advances is the id alone.
	if err := b.client.HSet(t.Context(), redisKey(created.ID), fieldKey, b.store.keys.Current().ID.String()).Err(); err != nil {
		t.Fatal(err)
	}
	repeat := mustRefresh(t, b.store, text, "request", RepeatedSameRequest).RefreshToken
	if parse(t, repeat).Carried != nil {
		t.Fatal("the repeat of a short answer is long")
	}
	mustRefresh(t, b.store, repeat, "", Advanced)
}

// Somebody knows the secret, and everything about a session but its salt: also its live token's number and its spent
// tokens. Nothing that can be made of that finds the session, and it stays as it is.
func TestSecretWithoutSalt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	created, first := create(t, b.store)
	second := mustRefresh(t, b.store, first, "", Advanced).RefreshToken
	third := mustRefresh(t, b.store, second, "", Advanced).RefreshToken
	known := parse(t, second)
	before := b.dump(t)
	key := b.store.keys.Current()
	guess := refreshtoken.Binding{SessionID: created.ID, UserID: created.UserID, End: created.End.UnixMilli(), Position: created.Position}
	for generation := uint64(1); generation < 6; generation++ {
		for name, proof := range map[string][refreshtoken.ProofSize]byte{
			"none": {}, "a salt of zeros": guess.Proof(generation), "that of a spent token": known.Carried.Proof,
		} {
			if generation == known.Generation && proof == known.Carried.Proof {
				continue // the spent token itself
			}
			forged := known
			forged.Generation = generation
			carried := *known.Carried
			carried.Proof = proof
			forged.Carried = &carried
			forged.MAC = key.LongMAC(forged)
			claim, err := b.store.Claim(t.Context(), forged.Encode())
			if err != nil {
				t.Fatalf("the MAC is right: %v", err)
			}
			var unknown *UnknownError
			if _, err := b.store.Rotate(t.Context(), claim, "", Mark{Generation: 3}); !errors.As(err, &unknown) {
				t.Errorf("generation %d, proof %s: Rotate: %v, want UnknownError", generation, name, err)
			}
			if _, err := b.store.Open(t.Context(), forged.Encode()); !errors.Is(err, ErrForged) {
				t.Errorf("generation %d, proof %s: Open: %v, want ErrForged", generation, name, err)
			}
		}
	}
	if !reflect.DeepEqual(before, b.dump(t)) {
		t.Error("a forged token changed something")
	}
	mustRefresh(t, b.store, third, "", Advanced)
}

// A hash in Redis without a salt, or with a cut one, has no proof that could be guessed.
func TestSessionWithoutSalt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, salt := range []string{"", "00", strings.Repeat("0", 63), strings.Repeat("0", 66)} {
		created, text := create(t, b.store)
		if err := b.client.HSet(t.Context(), redisKey(created.ID), fieldSalt, salt).Err(); err != nil {
			t.Fatal(err)
		}
		claim, err := b.store.Claim(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := b.client.Eval(t.Context(), "return redis.sha1hex(ARGV[1])", nil, salt+refreshtoken.ProofLabel(1)).Text()
		if err != nil {
			t.Fatal(err)
		}
		if claim.proof, err = unhex(reply); err != nil {
			t.Fatal(err)
		}
		if _, err := b.store.Rotate(t.Context(), claim, "", Mark{}); !errors.Is(err, ErrUnknown) {
			t.Errorf("a salt of %d characters: %v", len(salt), err)
		}
		if got := b.dump(t)[redisKey(created.ID)][fieldGen]; got != "1" {
			t.Errorf("a salt of %d characters: advanced to %s", len(salt), got)
		}
	}
}

// The proof that Redis computes is that of Binding.Proof.
func TestProofInRedis(t *testing.T) {
	t.Parallel()
	b := setup(t)
	binding := refreshtoken.Binding{SessionID: uuid.New()}
	for i := range binding.Salt {
		binding.Salt[i] = byte(7 * i)
	}
	rec := record{Binding: binding}
	fields, err := rec.fields()
	if err != nil {
		t.Fatal(err)
	}
	var salt string
	for i := 0; i < len(fields); i += 2 {
		if fields[i] == fieldSalt {
			salt, _ = fields[i+1].(string)
		}
	}
	for _, generation := range []uint64{1, 255, refreshtoken.LastGeneration} {
		reply, err := b.client.Eval(t.Context(), "return redis.sha1hex(ARGV[1] .. ARGV[2])", nil, salt, refreshtoken.ProofLabel(generation)).Text()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := unhex(reply); err != nil || got != binding.Proof(generation) {
			t.Errorf("generation %d: %s, %v", generation, reply, err)
		}
	}
}

func unhex(text string) (proof [refreshtoken.ProofSize]byte, err error) {
	raw, err := hex.DecodeString(text)
	copy(proof[:], raw)
	return proof, err
}
