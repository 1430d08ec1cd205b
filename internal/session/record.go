package session

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/refreshtoken"
)

// The fields of the hash in Redis. rotate.lua has the same names.
const (
	fieldUser    = "user"
	fieldEnd     = "end"
	fieldLedger  = "ledger"
	fieldSalt    = "salt"
	fieldGen     = "gen"
	fieldRequest = "request"
	fieldRotated = "rotated"
	fieldSpent   = "spent"
	fieldIdleEnd = "idle_end"
	fieldKey     = "key"
	fieldCreated = "created"
	fieldAuth    = "authenticated"
	fieldDevice  = "device"
	fieldAddress = "address"
	fieldAMR     = "amr"
)

// record is a session as it is stored in Redis. Times are milliseconds since 1970. It does not have the field
// that only the script needs: the hash of the request id of the latest advance.
type record struct {
	refreshtoken.Binding

	generation             uint64
	created, authenticated int64
	rotated, idleEnd       int64
	spent                  int64  // when the generation two before the latest was spent; 0 if there is none, or if it is unknown
	key                    string // the name of the maker of the latest generation's token
	device, address        string
	amr                    []string
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// fields returns the pairs of a new session for HSET.
func (r record) fields() ([]any, error) {
	amr, err := json.Marshal(r.amr)
	if err != nil {
		return nil, fmt.Errorf("session: encode the authentication methods: %w", err)
	}
	return []any{
		fieldUser, r.UserID.String(), fieldEnd, decimal(r.End), fieldLedger, decimal(r.Position),
		fieldSalt, hex.EncodeToString(r.Salt[:]),
		fieldGen, strconv.FormatUint(r.generation, 10),
		fieldRequest, "", fieldRotated, decimal(r.rotated), fieldSpent, "",
		fieldIdleEnd, decimal(r.idleEnd), fieldKey, r.key,
		fieldCreated, decimal(r.created), fieldAuth, decimal(r.authenticated),
		fieldDevice, r.device, fieldAddress, r.address, fieldAMR, string(amr),
	}, nil
}

// readRecord decodes a hash. It returns an error if the hash is not a complete session.
func readRecord(id uuid.UUID, fields map[string]string) (record, error) {
	var bad error
	integer := func(name string) int64 {
		n, err := strconv.ParseInt(fields[name], 10, 64)
		if err != nil {
			bad = errors.Join(bad, fmt.Errorf("field %s: %w", name, err))
		}
		return n
	}
	r := record{
		Binding:       refreshtoken.Binding{SessionID: id, End: integer(fieldEnd), Position: integer(fieldLedger)},
		created:       integer(fieldCreated),
		authenticated: integer(fieldAuth),
		rotated:       integer(fieldRotated),
		idleEnd:       integer(fieldIdleEnd),
		key:           fields[fieldKey],
		device:        fields[fieldDevice],
		address:       fields[fieldAddress],
	}
	if fields[fieldSpent] != "" {
		r.spent = integer(fieldSpent)
	}
	var err error
	if r.generation, err = strconv.ParseUint(fields[fieldGen], 10, 53); err != nil {
		bad = errors.Join(bad, fmt.Errorf("field %s: %w", fieldGen, err))
	}
	if r.UserID, err = uuid.Parse(fields[fieldUser]); err != nil {
		bad = errors.Join(bad, fmt.Errorf("field %s: %w", fieldUser, err))
	}
	salt, err := hex.DecodeString(fields[fieldSalt])
	if err != nil || len(salt) != refreshtoken.SaltSize {
		bad = errors.Join(bad, fmt.Errorf("field %s: not %d bytes in hex", fieldSalt, refreshtoken.SaltSize))
	} else {
		r.Salt = [refreshtoken.SaltSize]byte(salt)
	}
	if err := json.Unmarshal([]byte(fields[fieldAMR]), &r.amr); err != nil {
		bad = errors.Join(bad, fmt.Errorf("field %s: %w", fieldAMR, err))
	}
	return r, bad
}

func (r record) session() Session {
	return Session{
		ID: r.SessionID, UserID: r.UserID,
		Generation: r.generation, Position: r.Position,
		CreateTime: fromMillis(r.created), AuthTime: fromMillis(r.authenticated),
		RotateTime: fromMillis(r.rotated),
		IdleEnd:    fromMillis(r.idleEnd), End: fromMillis(r.End),
		DeviceName: r.device, Address: r.address,
		AMR: r.amr,
	}
}

func fromMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
