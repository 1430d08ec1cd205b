package session

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/refreshtoken"
)

// rotateLua compares a token's generation with the session's and advances it, or says why not, in one step.
//
//go:embed rotate.lua
var rotateLua string

// Presented is a refresh token whose MAC was right for the session that the store holds. It is no verdict yet: the
// token may be spent. It stays usable: Rotate compares again with what the store holds by then.
type Presented struct {
	// Session is what the store held when the token was opened.
	Session Session
	// Generation is the token's own.
	Generation uint64

	key refreshtoken.KeyID
	rec record
}

// Open parses a refresh token, reads its session and checks the MAC. It changes nothing, so that knowing a session's
// id is not enough to disturb it, and it says nothing about whether the session has ended or the token is spent.
//
// The errors are ErrMalformed and ErrForged, which are ErrInvalid, *UnknownError, and ErrUnavailable.
func (s *Store) Open(ctx context.Context, refreshToken string) (*Presented, error) {
	tok, err := refreshtoken.Parse(refreshToken)
	if err != nil {
		return nil, ErrMalformed
	}
	key, found := s.keys.Find(tok.KeyID)
	if !found {
		return nil, ErrForged
	}
	fields, err := s.redis.HGetAll(ctx, redisKey(tok.SessionID)).Result()
	if err != nil {
		return nil, unavailable("read a session", err)
	}
	rec, err := readRecord(tok.SessionID, fields)
	if err != nil {
		// No hash, or one that lost fields: either way the session is gone, and logging in again repairs it.
		return nil, &UnknownError{SessionID: tok.SessionID}
	}
	mac, err := key.MAC(rec.Binding, tok.Generation)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(mac[:], tok.MAC[:]) {
		return nil, ErrForged
	}
	return &Presented{Session: rec.session(), Generation: tok.Generation, key: tok.KeyID, rec: rec}, nil
}

// Outcome says how a rotation came to its successor.
type Outcome int

const (
	// Advanced is the normal case: the token was the latest, and is spent now.
	Advanced Outcome = iota + 1
	// RepeatedSameRequest is a retry with the request id of the advance.
	RepeatedSameRequest
	// RepeatedInGrace is a repeat without the request id of the advance, within the grace. Worth a note in the audit
	// trail: it is a lost answer, a race of a client with itself, or two holders of one token.
	RepeatedInGrace
	// CaughtUp is an advance from a generation that the store had not reached: it was rolled back.
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

// Rotation is the answer to a refresh.
type Rotation struct {
	// Session is as the store holds it now.
	Session Session
	// RefreshToken is the successor. A repeat yields the identical text.
	RefreshToken string
	Outcome      Outcome
	// IssueTime is the time of the advance, for it and for repeats within the grace, so that their access tokens can
	// be made identical too. For a later retry it is the time of the retry, as the first access token may have expired.
	IssueTime time.Time
}

// Rotate spends a refresh token and returns its successor. requestID is what the client keeps until it has an answer,
// or empty. mark is what is known of the session elsewhere: where Redis is behind it, the tokens below are spent all the
// same, and only the last of them, within the grace, may be a repeat.
//
// The errors are ErrReused (revoke the session: append to the ledger, then Delete), ErrLate and ErrEnded (refuse),
// *UnknownError when the session is gone or another one stands in its place, ErrForged when the token's key is no
// longer accepted, and ErrUnavailable. None of them has changed the session, save perhaps ErrUnavailable.
//
// The script may run twice when a connection breaks: the second run repeats within the grace of the first, as both
// carry the same time.
func (s *Store) Rotate(ctx context.Context, p *Presented, requestID string, mark Mark) (Rotation, error) {
	now, err := s.millis()
	if err != nil {
		return Rotation{}, err
	}
	if now >= p.rec.End || p.Generation >= refreshtoken.LastGeneration {
		return Rotation{}, ErrEnded
	}
	// The request id is hashed under the key of the presented token, which a retry presents again: a change of the
	// current key between the two does not make the retry look like another request.
	key, found := s.keys.Find(p.key)
	if !found {
		return Rotation{}, ErrForged
	}
	request, err := key.RequestHash(p.rec.Binding, p.Generation, requestID)
	if err != nil {
		return Rotation{}, err
	}
	reply, err := s.runRotate(ctx, p, request, now, mark)
	if err != nil {
		return Rotation{}, err
	}
	return s.rotation(p, reply, now)
}

func (s *Store) runRotate(ctx context.Context, p *Presented, request string, now int64, mark Mark) ([]string, error) {
	user, end, ledger, salt := p.rec.bindings()
	idleEnd := min(now+s.idle, p.rec.End)
	reply, err := s.rotate.Run(ctx, s.redis, []string{redisKey(p.rec.SessionID)},
		user, end, ledger, salt,
		p.Generation, p.Generation+1, request, s.keys.Current().ID.String(),
		now, s.grace, idleEnd, s.lifetime(idleEnd, now).Milliseconds(),
		mark.Generation, mark.Time.UnixMilli(),
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
func (s *Store) rotation(p *Presented, reply []string, now int64) (Rotation, error) {
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
		return Rotation{}, &UnknownError{SessionID: p.rec.SessionID}
	default:
		return Rotation{}, fmt.Errorf("%w: advance a session: unforeseen answer", ErrUnavailable)
	}
	if len(reply) != 4 {
		return Rotation{}, fmt.Errorf("%w: advance a session: answer of %d parts", ErrUnavailable, len(reply))
	}
	rec := p.rec
	var err error
	if rec.rotated, err = strconv.ParseInt(reply[1], 10, 64); err != nil {
		return Rotation{}, unavailable("advance a session", err)
	}
	if rec.idleEnd, err = strconv.ParseInt(reply[2], 10, 64); err != nil {
		return Rotation{}, unavailable("advance a session", err)
	}
	rec.generation = p.Generation + 1
	// A repeat must yield the identical token, so the store remembers which key the first answer used. Using the
	// presented token's key instead would carry an old key on for as long as the session lives; using the current
	// key would change the answer with the key. When that key is gone the first answer is worthless, and the current
	// key serves.
	rec.key = reply[3]
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

// Reissue returns the answer to the creation of a session again, for a caller whose own answer was lost: the session's
// first refresh token, the identical text. sum is its SHA-256, which the caller has kept elsewhere: no token is presented
// here whose MAC would show that what Redis holds is what was written. It changes nothing.
//
// The errors are ErrReused when the first token was spent, so that its holder must have had it, ErrEnded, ErrForged when
// the text would be another one, *UnknownError when the session is gone, and ErrUnavailable. Whether the ledger has ended
// the session is for the caller to ask.
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

// InGrace says whether what was spent at a time is spent no longer than the grace.
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
