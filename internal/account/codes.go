package account

import (
	"context"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/address"
)

const (
	// codeTries is how often the digits of one secret are compared.
	codeTries = 5
	// codeRange is the number of codes with six digits.
	codeRange = 1_000_000
	// Of ten codes in a day with five tries each, somebody who asks for mails and guesses finds the right one with a
	// probability of 1 in 20,000. A code that nobody has tried out stays the same when it is mailed again, so people
	// who read their mails do not come near the limit.
	codesInWindow = 10
	codeWindow    = 24 * time.Hour
)

// code returns the six digits of the owner's secret, which issue has just made or found. They stay the same until the
// secret is replaced or the digits were tried five times. ok is false if the address had as many codes as it may in a
// day: then the mail has only the link.
func (s secrets) code(ctx context.Context, tx pgx.Tx, o owner) (digits string, ok bool, err error) {
	queries := db.New()
	row, err := queries.FindCode(ctx, tx, db.FindCodeParams{UserID: o.userID, Purpose: s.purpose.name, Asker: o.asker})
	if err != nil {
		return "", false, fmt.Errorf("look for the code: %w", err)
	}
	if row.CodeNonce != nil && row.Tries < codeTries {
		digits := s.digits(o.userID, row.CodeNonce)
		if subtle.ConstantTimeCompare(s.hashCode(o.userID, o.address, digits), row.CodeHash) == 1 {
			return digits, true, nil
		}
	}
	admitted, err := queries.AdmitNotice(ctx, tx, db.AdmitNoticeParams{
		UserID: addressID(o.address), Kind: s.codesKind(), Now: s.now(),
		WindowSeconds: codeWindow.Seconds(), WindowLimit: codesInWindow,
	})
	if err != nil {
		return "", false, fmt.Errorf("count the codes: %w", err)
	}
	if admitted == 0 {
		return "", false, nil
	}
	nonce := newNonce()
	digits = s.digits(o.userID, nonce)
	return digits, true, queries.SetCode(ctx, tx, db.SetCodeParams{
		UserID: o.userID, Purpose: s.purpose.name, Asker: o.asker,
		CodeNonce: nonce, CodeHash: s.hashCode(o.userID, o.address, digits),
	})
}

// codesKind is the kind under which the codes of an address are counted, beside the notices. It is stored: do not change
// it.
func (s secrets) codesKind() string { return "code " + s.purpose.name }

// match is a secret whose digits were typed.
type match struct {
	owner
	codeHash []byte
}

// try compares digits with those of every secret that proves one of the addresses. It counts the try first. It returns
// errSecret if none matches, at the same cost whether or not there is such a secret.
func (s secrets) try(ctx context.Context, on db.DBTX, addresses []string, digits string) (match, error) {
	rows, err := db.New().TryCodes(ctx, on, db.TryCodesParams{
		Purpose: s.purpose.name, Addresses: addresses, Most: codeTries, Now: s.now(),
	})
	if err != nil {
		return match{}, fmt.Errorf("count the try: %w", err)
	}
	var found match
	for _, row := range rows {
		hash := s.hashCode(row.UserID, row.Address, digits)
		if subtle.ConstantTimeCompare(hash, row.CodeHash) == 1 {
			found = match{owner{userID: row.UserID, address: row.Address, asker: row.Asker}, hash}
		}
	}
	if found.codeHash == nil {
		return match{}, errSecret
	}
	return found, nil
}

// tryAsked is try for the secret that the client with the hash asker asked for. It also returns the ledger's position at
// which it asked. With errSecret, match has the account if there is such a secret.
func (s secrets) tryAsked(ctx context.Context, on db.DBTX, asker []byte, digits string) (match, int64, error) {
	row, err := db.New().TryAskedCode(ctx, on, db.TryAskedCodeParams{
		Purpose: s.purpose.name, Asker: asker, Most: codeTries, Now: s.now(),
	})
	if err != nil {
		return match{}, 0, fmt.Errorf("count the try: %w", err)
	}
	found := match{owner{userID: row.UserID, address: row.Address, asker: row.Asker}, row.CodeHash}
	isRight := subtle.ConstantTimeCompare(s.hashCode(row.UserID, row.Address, digits), row.CodeHash) == 1
	if !isRight || row.UserID == uuid.Nil {
		return match{owner: owner{userID: row.UserID}}, 0, errSecret
	}
	return found, row.Position, nil
}

// spendCode is spend for a secret whose digits were typed.
func (s secrets) spendCode(ctx context.Context, tx pgx.Tx, m match) error {
	spent, err := db.New().SpendCode(ctx, tx, db.SpendCodeParams{
		Purpose: s.purpose.name, Asker: m.asker, CodeHash: m.codeHash, UserID: m.userID, Now: s.now(),
	})
	if err != nil {
		return fmt.Errorf("spend the code: %w", err)
	}
	if spent == 0 {
		return errSecret
	}
	return nil
}

// digits returns the code that a nonce stands for. 2^64 is so much more than a million that each code is as likely as
// any other, to 1 in 10^13.
func (s secrets) digits(userID uuid.UUID, nonce []byte) string {
	number := binary.BigEndian.Uint64(s.mac(s.purpose.label+"digits\x00", userID, nonce))
	return fmt.Sprintf("%06d", number%codeRange)
}

// hashCode returns what is stored for a code. A plain hash of six digits can be reversed by trying all; without the key
// this one cannot.
func (s secrets) hashCode(userID uuid.UUID, of, digits string) []byte {
	return s.mac(s.purpose.label+"code hash\x00", userID, []byte(of+"\x00"+digits))
}

// addressID is the name under which mails to an address are counted, whatever account they are for.
func addressID(lookup string) uuid.UUID {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("mailto:"+lookup))
}

// typedForms returns the lookup forms of a typed address: of the text, and of the text without white space around it.
func typedForms(email string) []string {
	forms := []string{address.Lookup(email)}
	if trimmed := bare(email); trimmed != "" && trimmed != email {
		forms = append(forms, address.Lookup(trimmed))
	}
	return forms
}
