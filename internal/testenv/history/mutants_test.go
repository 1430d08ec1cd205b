//go:build linux && history

package history

import (
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/password"
)

// mutant is a Latchkey without one of the mechanisms, and the scenario that shows it.
type mutant struct {
	name     string
	edits    []edit
	scenario scenario
	settings settings
	// control is the code with which the scenario is also run, and must show nothing. None: the unchanged code.
	control []edit
}

// joinGap is a pause that makes the moment between two steps long enough to be seen.
const joinGap = `time.Sleep(700 * time.Millisecond)`

// changeEnds is the last step of a change on the authority of a session, and lateGap a pause before it, in which the session
// can end.
const (
	changeEnds = "\t\tended, err = r.AnnounceChangesFor(ctx, tx, by)\n"
	lateGap    = `time.Sleep(200 * time.Millisecond)`
)

const (
	joinOrder = `		if !l.tail.joined {
			if err := l.join(ctx); err != nil {
				return err
			}
`
	slowJoin = joinOrder + "\t\t\t" + joinGap + "\n"
	lateJoin = `		if !l.tail.joined {
			early := uuid.New()
			l.id.Store(&early)
			if err := l.renewInTime(ctx, conn); err != nil {
				return err
			}
			` + joinGap + `
			if err := l.join(ctx); err != nil {
				return err
			}
`
)

func mutants() []mutant {
	quick := settings{lease: leaseTime, hash: cheapHash()}
	// Hashes of about 20 ms, as by default, and of about 60 ms.
	usual := settings{lease: leaseTime, hash: password.Params{MemoryKiB: 19456, Time: 2, Threads: 1}}
	slow := settings{lease: leaseTime, hash: password.Params{MemoryKiB: 19456, Time: 6, Threads: 1}}
	rehashing := usual
	rehashing.planted = cheapHash()
	paired := quick
	paired.pair = true
	graceful := quick
	graceful.grace = time.Hour
	return []mutant{
		{name: "the revoker does not wait", scenario: revokeWhileFrozen, settings: quick, edits: []edit{{
			"internal/ledger/wait.go", "\tif position == 0 {\n", "\tif position >= 0 {\n",
		}}},
		{name: "trust has no end", scenario: revokeUntilLeaseEnds, settings: quick, edits: []edit{{
			"internal/ledger/trust.go", "return now.boot < until.boot && now.wall.Before(until.wall)", "return now.boot > 0",
		}}},
		{name: "tokens carry the position of their making", scenario: loginDuringReset, settings: usual, edits: []edit{{
			"internal/login/login.go", "Position: found.Position,",
			"Position: func() int64 { head, _ := f.queries.LedgerHead(ctx, f.cfg.Pool); return head }(),",
		}}},
		{
			name: "read before joining", scenario: revokeWhileJoining, settings: quick,
			edits: []edit{
				{"internal/ledger/tail.go", joinOrder, lateJoin},
				{"internal/ledger/tail.go", "\tif !head.Joined {\n", "\tif !head.Joined && t.joined {\n"},
			},
			control: []edit{{"internal/ledger/tail.go", joinOrder, slowJoin}},
		},
		{name: "no second look at the session in the transaction", scenario: changeAfterLogout, settings: slow, edits: []edit{{
			"internal/revoke/authority.go", "\tcase found.Revoked:\n", "\tcase false:\n",
		}}},
		{name: "rehash whatever hash is there", scenario: loginDuringReset, settings: rehashing, edits: []edit{{
			"gen/db/users.sql.go", "WHERE id = $2 AND password_hash = $3 AND set_config('latchkey.rehash'",
			"WHERE id = $2 AND $3::text IS NOT NULL AND set_config('latchkey.rehash'",
		}}},
		{name: "the lease does not prove the primary", scenario: revokeAtNewPrimary, settings: paired, edits: []edit{{
			"gen/db/ledger.sql.go", "FROM ledger_head h\nWHERE latchkey_on_primary()\n`", "FROM ledger_head h\n`",
		}}},
		{name: "removed factors end no session", scenario: removeSecondFactors, settings: quick, edits: []edit{{
			"internal/factors/factors.go", "ended, err := f.cfg.Revoker.AppendUser(ctx, tx, audit.UserFactorsRemoved, userID)",
			"ended, err := revoke.Ended{}, f.cfg.Trail.Record(ctx, tx, audit.UserFactorsRemoved, userID, uuid.Nil)",
		}}},
		{name: "a deletion does not wait", scenario: deleteWhileFrozen, settings: quick, edits: []edit{{
			"internal/account/deletion.go", "\tended.Deleted = true\n", "\tended.Deleted, ended.Position = true, 0\n",
		}}},
		{name: "a second deletion does not wait", scenario: deleteAgainWhileFrozen, settings: quick, edits: []edit{{
			"internal/account/deletion.go", "\treturn at, head, err\n", "\thead.Position = 0\n\treturn at, head, err\n",
		}}},
		{name: "an account in its grace can be used", scenario: logInDuringTheGrace, settings: graceful, edits: []edit{{
			"internal/account/deletion.go", "db.SetUserActiveParams{ID: row.ID, IsActive: false}", "db.SetUserActiveParams{ID: row.ID, IsActive: row.IsActive}",
		}}},
		{name: "a mailed code logs in again", scenario: useCodeTwice, settings: quick, edits: []edit{{
			"internal/account/codes.go", "\tif spent == 0 {\n", "\tif spent < 0 {\n",
		}}},
		{name: "an address that is taken back ends no session", scenario: takeBackByCode, settings: quick, edits: []edit{{
			"internal/account/verify.go", "ended, err := a.cfg.Revoker.AppendUser(ctx, tx, audit.AddressReclaimed, before.ID)",
			"ended, err := revoke.Ended{}, a.cfg.Trail.Record(ctx, tx, audit.AddressReclaimed, before.ID, before.ID)",
		}}},
		{name: "an answer of a passkey logs in again", scenario: usePasskeyTwice, settings: quick, edits: []edit{{
			"internal/factors/provepasskey.go", "\t\tcase !done.Spent:\n", "\t\tcase false:\n",
		}}},
		{name: "a password is enough beside a passkey", scenario: passwordBesidePasskey, settings: quick, edits: []edit{{
			"internal/login/login.go", "\tcase len(found.Factors) == 0:\n", "\tcase true:\n",
		}}},
		{
			name: "no last look at a session that changes factors", scenario: removeAfterLogout, settings: quick,
			edits:   []edit{{"internal/revoke/authority.go", changeEnds, "\t\t" + lateGap + "\n\t\tended, err = r.AnnounceChanges(ctx, tx)\n"}},
			control: []edit{{"internal/revoke/authority.go", changeEnds, "\t\t" + lateGap + "\n" + changeEnds}},
		},
		{name: "a change of address does not wait", scenario: changeWhileFrozen, settings: quick, edits: []edit{{
			"internal/account/change.go", "return a.cfg.Revoker.AnnounceChanges(ctx, tx)", "return revoke.Ended{}, nil",
		}}},
		{name: "an undo ends no session", scenario: undoAfterChange, settings: quick, edits: []edit{{
			"internal/account/undo.go", "return a.cfg.Revoker.AppendUser(ctx, tx, audit.EmailChangeUndone, userID)",
			"return revoke.Ended{}, a.cfg.Trail.Record(ctx, tx, audit.EmailChangeUndone, userID, uuid.Nil)",
		}}},
		{name: "an undo leaves the password", scenario: undoAfterPassword, settings: quick, edits: []edit{{
			"internal/account/undo.go", "if has.Epoch != had.Epoch {", "if has.Epoch < 0 {",
		}}},
		{name: "an undo leaves the passkey", scenario: undoAfterPasskey, settings: quick, edits: []edit{{
			"internal/account/undo.go", "Kept: append([]uuid.UUID{}, had.Factors...)", "Kept: append([]uuid.UUID{}, has.Factors...)",
		}}},
		{name: "the end of sessions ends the undo", scenario: undoAfterEnd, settings: quick, edits: []edit{
			{"gen/db/email_changes.sql.go", "$10::text, true, $11::bytea", "$10::text, false, $11::bytea"},
			{"gen/db/email_changes.sql.go", "AND s.token_hash = $2 AND s.lasting AND", "AND s.token_hash = $2 AND"},
			{"gen/db/email_changes.sql.go", "AND user_id = $3 AND lasting AND", "AND user_id = $3 AND"},
		}},
		{name: "an undo is used again", scenario: undoAgain, settings: quick, edits: []edit{{
			"gen/db/email_changes.sql.go", "DELETE FROM one_time_secrets\nWHERE purpose = $1 AND token_hash = $2 AND user_id = $3",
			"UPDATE one_time_secrets SET lasting = true\nWHERE purpose = $1 AND token_hash = $2 AND user_id = $3",
		}}},
		{name: "a code of an app logs in again", scenario: useAppTwice, settings: quick, edits: []edit{{
			"gen/db/factors.sql.go", "t.last_step < $6 AND (", "t.last_step <= $6 AND (",
		}}},
		{name: "an app is asked for no more", scenario: passwordBesideApp, settings: quick, edits: []edit{{
			"internal/login/login.go", "\tcase len(found.Factors) == 0:\n", "\tcase len(found.Factors) == 0, found.Factors[0] == \"totp\":\n",
		}}},
		{name: "a removed app is asked for", scenario: passwordBesideApp, settings: quick, edits: []edit{{
			"internal/factors/totp.go", "removed, err := f.queries.DeleteFactorsOfKind(ctx, tx, db.DeleteFactorsOfKindParams{UserID: by.UserID, Kind: string(TOTP)})",
			"removed, err := len(second), ctx.Err()",
		}}},
		{name: "recovery codes outlive the app", scenario: recoverWithoutApp, settings: quick, edits: []edit{{
			"internal/factors/totp.go", "\t\tif len(second) == int(removed) {\n", "\t\tif len(second) < int(removed) {\n",
		}}},
		{name: "a recovery code logs in again", scenario: useRecoveryTwice, settings: quick, edits: []edit{{
			"gen/db/factors.sql.go", "c.code_hash = $3 AND c.spent_at IS NULL RETURNING", "c.code_hash = $3 RETURNING",
		}}},
		{name: "a challenge is answered by several codes", scenario: answerTwice, settings: quick, edits: []edit{{
			"internal/factors/loginchallenge.go", "\tif err == nil && !done.Spent {\n", "\tif err == nil && !done.Present {\n",
		}}},
		{name: "a code of an app leaves its challenge", scenario: answerAgain, settings: quick, edits: []edit{{
			"gen/db/factors.sql.go", "FROM live, accepted WHERE c.token_hash = live.token_hash", "FROM live, accepted WHERE c.token_hash <> live.token_hash",
		}}},
		{name: "a challenge outlives the sessions", scenario: answerAfterEnd, settings: quick, edits: []edit{
			{"gen/db/factors.sql.go", "        AND NOT latchkey_ended_since(c.user_id, c.ledger)\n", ""},
			{"gen/db/challenges.sql.go", "NOT c.spent AND c.tries < $3::integer) AND NOT latchkey_ended_since(u.id, $4)\n", "NOT c.spent AND c.tries < $3::integer)\n"},
		}},
		{name: "a proof by the mail alone takes nothing", scenario: verifyByMail, settings: quick, edits: []edit{{
			"internal/account/verify.go", "\t\treturn a.takeBack(ctx, tx, row)\n", "\t\treturn a.prove(ctx, tx, row.ID, nil)\n",
		}}},
		{name: "a proof by the mail alone ends no session", scenario: verifyByMail, settings: quick, edits: []edit{{
			"internal/account/verify.go", "ended, err := a.cfg.Revoker.AppendUser(ctx, tx, audit.AddressReclaimed, before.ID)",
			"ended, err := revoke.Ended{}, a.cfg.Trail.Record(ctx, tx, audit.AddressReclaimed, before.ID, before.ID)",
		}}},
		{name: "a proof by the mail alone leaves the app", scenario: verifyByMail, settings: quick, edits: []edit{{
			"internal/account/verify.go", "_, err := a.queries.DeleteFactors(ctx, tx, userID); err != nil", "err := ctx.Err(); err != nil",
		}}},
		{name: "a proof with the password takes the account", scenario: verifyByOwner, settings: quick, edits: []edit{{
			"internal/account/verify.go", "\t\tcase by != nil, compared != \"\":\n", "\t\tcase by != nil:\n",
		}}},
		{name: "a proof with a session takes the account", scenario: verifyByOwner, settings: quick, edits: []edit{{
			"internal/account/verify.go", "\t\tcase by != nil, compared != \"\":\n", "\t\tcase compared != \"\":\n",
		}}},
		{name: "a wrong password proves", scenario: verifyByGuess, settings: quick, edits: []edit{{
			"internal/account/verify.go", "p.Password); err != nil {", "p.Password); compared == \"\" {",
		}}},
		{name: "a session that has ended is no session at a proof", scenario: verifyByGuess, settings: quick, edits: []edit{{
			"server/auth/verify.go", "\tcase v.Reason != latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED:\n",
			"\tcase v.Reason == latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED:\n\t\treturn nil, nil\n" +
				"\tcase v.Reason != latchkeyv1.ErrorReason_ERROR_REASON_UNSPECIFIED:\n",
		}}},
		{name: "a mail proves again", scenario: verifyTwice, settings: quick, edits: []edit{{
			"internal/account/secrets.go", "\tif spent == 0 {\n", "\tif spent < 0 {\n",
		}}},
		{name: "a retried logout does not wait", scenario: retryWhileFrozen, settings: quick, edits: []edit{{
			"internal/login/refresh.go", "err = f.cfg.Revoker.WaitFinal(ctx, ended.Position)", "err = ctx.Err()",
		}}},
	}
}

// TestMutantsApply notices within a second what TestMutants would say after minutes.
func TestMutantsApply(t *testing.T) {
	t.Parallel()
	for _, m := range mutants() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			overlay(t, m.edits...)
		})
	}
}

// TestMutants removes the mechanisms that keep the promise, one at a time, and requires that the check fails. Otherwise
// the check would prove nothing about the unchanged code.
func TestMutants(t *testing.T) {
	const (
		controlTries = 3
		// On an idle machine each is found in the first tries.
		mostTries = 60
		longest   = 2 * time.Minute
	)
	asIs := build(t, "")
	for _, m := range mutants() {
		t.Run(m.name, func(t *testing.T) {
			control := asIs
			if m.control != nil {
				control = build(t, overlay(t, m.control...))
			}
			w := newWorld(t, m.settings, control, control)
			for try := range controlTries {
				m.scenario(t.Context(), w, try)
				for _, v := range w.violations() {
					t.Error("with nothing removed:", v)
				}
			}
			broken := build(t, overlay(t, m.edits...))
			w = newWorld(t, m.settings, broken, broken)
			began := time.Now()
			for try := 0; try < mostTries && time.Since(began) < longest; try++ {
				m.scenario(t.Context(), w, try)
				if found := w.violations(); len(found) > 0 {
					t.Logf("found in try %d, after %s: %s", try+1, time.Since(began).Round(time.Millisecond), found[0])
					return
				}
				w.dropCalls()
			}
			t.Errorf("%d tries found no violation", mostTries)
		})
	}
}
