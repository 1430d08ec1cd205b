package session

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/refreshtoken"
)

// rotateLua compares the generation of a token with that of the session, and advances the session or returns
// why not, in one step.
//
//go:embed rotate.lua
var rotateLua string

// Claim is a refresh token whose MAC is right. The token may be spent. If it is a long one, Redis has not seen it
// yet: its session may be gone, or somebody has made it who knows the secret key and not the session's salt. So
// nothing may change because of a Claim alone. Rotate compares it with the session as it is then stored, so a Claim
// does not become outdated.
type Claim struct {
	// SessionID and UserID name the session and its user.
	SessionID, UserID uuid.UUID
	// Position is the position of the ledger at the login.
	Position int64
	// Generation is that of the token.
	Generation uint64

	end   int64
	key   refreshtoken.KeyID
	proof [refreshtoken.ProofSize]byte
	salt  *[refreshtoken.SaltSize]byte // of a short token
}

// Presented is a Claim that is right for the session as it was stored when the token was opened.
type Presented struct {
	Claim

	// Session is the session as it was stored then.
	Session Session

	rec record
}

// Claim parses a refresh token and checks its MAC. For a long one it asks no store. For a short one it reads the
// session, as Open does. It changes nothing, so an attacker who knows only the id of a session cannot disturb it. It
// does not check whether the session has ended or the token is spent.
//
// The errors are ErrMalformed and ErrForged, which are ErrInvalid, and for a short token *UnknownError and
// ErrUnavailable.
func (s *Store) Claim(ctx context.Context, refreshToken string) (*Claim, error) {
	tok, key, err := s.parse(refreshToken)
	if err != nil {
		return nil, err
	}
	if c := tok.Carried; c != nil {
		return &Claim{
			SessionID: tok.SessionID, UserID: c.UserID, Position: c.Position, Generation: tok.Generation,
			end: c.End, key: tok.KeyID, proof: c.Proof,
		}, nil
	}
	presented, err := s.open(ctx, tok, key)
	if err != nil {
		return nil, err
	}
	return &presented.Claim, nil
}

// Open is Claim for callers that need the session: it reads the session for a long token too, and compares both. It
// changes nothing either.
//
// The errors are ErrMalformed and ErrForged, which are ErrInvalid, *UnknownError, and ErrUnavailable.
func (s *Store) Open(ctx context.Context, refreshToken string) (*Presented, error) {
	tok, key, err := s.parse(refreshToken)
	if err != nil {
		return nil, err
	}
	return s.open(ctx, tok, key)
}

// parse checks what needs no store: the form, the key, and the MAC of a long token.
func (s *Store) parse(refreshToken string) (refreshtoken.Token, refreshtoken.Key, error) {
	tok, err := refreshtoken.Parse(refreshToken)
	if err != nil {
		return tok, refreshtoken.Key{}, ErrMalformed
	}
	key, found := s.keys.Find(tok.KeyID)
	if !found {
		return tok, key, ErrForged
	}
	if tok.Carried != nil {
		if mac := key.LongMAC(tok); !hmac.Equal(mac[:], tok.MAC[:]) {
			return tok, key, ErrForged
		}
	}
	return tok, key, nil
}

// open reads the session, and compares a parsed token with it.
func (s *Store) open(ctx context.Context, tok refreshtoken.Token, key refreshtoken.Key) (*Presented, error) {
	fields, err := s.redis.HGetAll(ctx, redisKey(tok.SessionID)).Result()
	if err != nil {
		return nil, unavailable("read a session", err)
	}
	rec, err := readRecord(tok.SessionID, fields)
	if err != nil {
		// There is no hash, or it has lost fields. In both cases the session is gone, and a login makes a new one.
		return nil, &UnknownError{SessionID: tok.SessionID}
	}
	claim := Claim{
		SessionID: tok.SessionID, UserID: rec.UserID, Position: rec.Position, Generation: tok.Generation,
		end: rec.End, key: tok.KeyID, proof: rec.Proof(tok.Generation),
	}
	if c := tok.Carried; c != nil {
		sameFacts := c.UserID == rec.UserID && c.End == rec.End && c.Position == rec.Position
		if !sameFacts || !hmac.Equal(c.Proof[:], claim.proof[:]) {
			return nil, ErrForged
		}
	} else {
		mac, err := key.MAC(rec.Binding, tok.Generation)
		if err != nil {
			return nil, err
		}
		if !hmac.Equal(mac[:], tok.MAC[:]) {
			return nil, ErrForged
		}
		claim.salt = &rec.Salt
	}
	return &Presented{Claim: claim, Session: rec.session(), rec: rec}, nil
}

// requestHash returns what Redis stores instead of a request id. It depends on the form: the salt of a long token is
// not known yet.
func (c *Claim) requestHash(key refreshtoken.Key, requestID string) (string, error) {
	if c.salt == nil {
		return key.LongRequestHash(c.SessionID, c.Generation, requestID), nil
	}
	return key.RequestHash(refreshtoken.Binding{Salt: *c.salt}, c.Generation, requestID)
}

// Outcome is why a rotation returned its successor.
type Outcome int

const (
	// Advanced is the normal case: the token was the latest, and is spent now.
	Advanced Outcome = iota + 1
	// RepeatedSameRequest is a retry with the request id of the advance.
	RepeatedSameRequest
	// RepeatedInGrace is a repeat without the request id of the advance, within the grace. Callers should write
	// it to the audit trail: an answer was lost, a client sent two requests at once, or two clients share a
	// token.
	RepeatedInGrace
	// CaughtUp is an advance from a generation that the stored session had not reached: Redis was rolled back.
	CaughtUp
)

// String returns the name in snake case, for logs and metrics.
func (o Outcome) String() string {
	switch o {
	case Advanced:
		return "advanced"
	case RepeatedSameRequest:
		return "repeated_same_request"
	case RepeatedInGrace:
		return "repeated_in_grace"
	case CaughtUp:
		return "caught_up"
	default:
		return "outcome_" + strconv.Itoa(int(o))
	}
}

// Rotation is the result of Rotate.
type Rotation struct {
	// Session is the session as it is stored now.
	Session Session
	// RefreshToken is the successor. A repeat gets the identical text.
	RefreshToken string
	Outcome      Outcome
	// IssueTime is the time of the advance, also for repeats within the grace, so that the caller can make the
	// identical access token. For a later retry it is the time of the retry, since the first access token may
	// have expired.
	IssueTime time.Time
}

// Rotate spends a refresh token and returns its successor. requestID is an id that the client uses again
// until it has an answer, or empty. mark is a generation that the session is known to have reached. If Redis
// is behind it, tokens of lower generations count as spent, and only the last of them may be a repeat, within
// the grace.
//
// The errors are ErrReused (revoke the session: append to the ledger, then Delete), ErrLate and ErrEnded
// (refuse the token), *UnknownError if the session is gone or was replaced, ErrForged if the token's key is
// no longer accepted, and ErrUnavailable. After all of these but ErrUnavailable, the session is unchanged.
//
// If a connection breaks, the script may run twice. Both runs have the same time, so the second is a repeat
// within the grace.
func (s *Store) Rotate(ctx context.Context, c *Claim, requestID string, mark Mark) (Rotation, error) {
	now, err := s.millis()
	if err != nil {
		return Rotation{}, err
	}
	if now >= c.end || c.Generation >= refreshtoken.LastGeneration {
		return Rotation{}, ErrEnded
	}
	// Hash the request id with the key of the presented token: a retry presents the same token, so it has the
	// same hash even if the current key changes in between.
	key, found := s.keys.Find(c.key)
	if !found {
		return Rotation{}, ErrForged
	}
	request, err := c.requestHash(key, requestID)
	if err != nil {
		return Rotation{}, err
	}
	reply, err := s.runRotate(ctx, c, request, now, mark)
	if err != nil {
		return Rotation{}, err
	}
	return s.rotation(c, reply, now)
}

func (s *Store) runRotate(ctx context.Context, c *Claim, request string, now int64, mark Mark) ([]string, error) {
	idleEnd := min(now+s.idle, c.end)
	reply, err := s.rotate.Run(ctx, s.redis, []string{redisKey(c.SessionID)},
		c.UserID.String(), c.end, c.Position, hex.EncodeToString(c.proof[:]),
		c.Generation, c.Generation+1, request, s.maker(),
		now, s.grace, idleEnd, s.lifetime(idleEnd, now).Milliseconds(),
		mark.Generation, mark.Time.UnixMilli(), refreshtoken.ProofLabel(c.Generation),
	).StringSlice()
	if err != nil {
		return nil, unavailable("advance a session", err)
	}
	if len(reply) == 0 {
		return nil, fmt.Errorf("%w: advance a session: empty answer", ErrUnavailable)
	}
	return reply, nil
}

// rotation turns the script's answer into the caller's.
func (s *Store) rotation(c *Claim, reply []string, now int64) (Rotation, error) {
	var outcome Outcome
	switch reply[0] {
	case "advanced":
		outcome = Advanced
	case "same_request":
		outcome = RepeatedSameRequest
	case "in_grace":
		outcome = RepeatedInGrace
	case "caught_up":
		outcome = CaughtUp
	case "reused":
		return Rotation{}, ErrReused
	case "late":
		return Rotation{}, ErrLate
	case "ended":
		return Rotation{}, ErrEnded
	case "unknown":
		return Rotation{}, &UnknownError{SessionID: c.SessionID}
	default:
		return Rotation{}, fmt.Errorf("%w: advance a session: unforeseen answer", ErrUnavailable)
	}
	if len(reply) != 10 {
		return Rotation{}, fmt.Errorf("%w: advance a session: answer of %d parts", ErrUnavailable, len(reply))
	}
	// A repeat must get the identical token, so Redis stores which key the first answer used, and which form. With
	// the key of the presented token, the session would use an old key until its end. With the current key, a change
	// of keys would change the answer. If the stored key is no longer accepted, the first answer is worthless, and
	// Named returns the current key.
	rec, err := readRecord(c.SessionID, map[string]string{
		fieldUser: c.UserID.String(), fieldEnd: decimal(c.end), fieldLedger: decimal(c.Position),
		fieldGen:     strconv.FormatUint(c.Generation+1, 10),
		fieldRotated: reply[1], fieldIdleEnd: reply[2], fieldKey: reply[3], fieldSalt: reply[4],
		fieldCreated: reply[5], fieldAuth: reply[6], fieldDevice: reply[7], fieldAddress: reply[8], fieldAMR: reply[9],
	})
	if err != nil { // as in open: the session has lost fields
		return Rotation{}, &UnknownError{SessionID: c.SessionID}
	}
	text, err := s.keys.Named(rec.key).Issue(rec.Binding, rec.generation)
	if err != nil {
		return Rotation{}, err
	}
	return Rotation{
		Session:      rec.session(),
		RefreshToken: text,
		Outcome:      outcome,
		IssueTime:    s.issueTime(rec.rotated, now),
	}, nil
}

// Reissue returns the first refresh token of a session again, the identical text, for a client whose answer
// was lost. sum is the SHA-256 of that text, which the caller has stored elsewhere. It is needed because
// there is no token whose MAC would show that nobody has changed the session in Redis. Reissue changes
// nothing, and does not ask the ledger.
//
// The errors are ErrReused if the first token was spent, so that a client must have received it, ErrEnded,
// ErrForged if the text would differ, *UnknownError if the session is gone, and ErrUnavailable.
func (s *Store) Reissue(ctx context.Context, sessionID uuid.UUID, sum [sha256.Size]byte) (Rotation, error) {
	now, err := s.millis()
	if err != nil {
		return Rotation{}, err
	}
	fields, err := s.redis.HGetAll(ctx, redisKey(sessionID)).Result()
	if err != nil {
		return Rotation{}, unavailable("read a session", err)
	}
	rec, err := readRecord(sessionID, fields)
	switch {
	case err != nil:
		return Rotation{}, &UnknownError{SessionID: sessionID}
	case rec.session().Ended(fromMillis(now)):
		return Rotation{}, ErrEnded
	case rec.generation != refreshtoken.FirstGeneration:
		return Rotation{}, ErrReused
	}
	text, err := s.keys.Named(rec.key).Issue(rec.Binding, refreshtoken.FirstGeneration)
	if err != nil {
		return Rotation{}, err
	}
	if derived := sha256.Sum256([]byte(text)); !hmac.Equal(derived[:], sum[:]) {
		return Rotation{}, ErrForged
	}
	return Rotation{
		Session: rec.session(), RefreshToken: text, Outcome: RepeatedSameRequest,
		IssueTime: s.issueTime(rec.rotated, now),
	}, nil
}

// InGrace returns whether a token that was spent at this time is still within the grace.
func (s *Store) InGrace(spent time.Time) bool {
	return s.now().UnixMilli()-spent.UnixMilli() <= s.grace
}

// issueTime is that of Rotation.
func (s *Store) issueTime(rotated, now int64) time.Time {
	if now-rotated <= s.grace {
		return fromMillis(rotated)
	}
	return fromMillis(now)
}
