package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// showJSON writes a message as one line in the JSON form of proto. Fields without a value are there too, so
// that scripts find them.
func (a *adminCall) showJSON(m proto.Message) error {
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return err
	}
	// protojson adds spaces at random, so that nobody relies on its exact output.
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.out, line.String())
	return err
}

func (a *adminCall) showDone(m proto.Message, words string) error {
	if a.json {
		return a.showJSON(m)
	}
	_, err := fmt.Fprintln(a.out, words)
	return err
}

func (a *adminCall) showAccount(account *latchkeyv1.Account) error {
	if a.json {
		return a.showJSON(account)
	}
	user := account.GetUser()
	table := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"id", user.GetId()},
		{"email", user.GetEmail()},
		{"verified", yesNo(user.GetEmailVerified())},
		{"name", user.GetFirstName() + " " + user.GetLastName()},
		{"status", accountStatus(account)},
		{"created", when(user.GetCreateTime())},
		{"last login", when(account.GetLastLoginTime())},
	} {
		if _, err := fmt.Fprintf(table, "%s\t%s\n", row[0], printable(row[1])); err != nil {
			return err
		}
	}
	return table.Flush()
}

// showUsers writes one page. The names of the columns come before the first page.
func (a *adminCall) showUsers(page *latchkeyv1.ListUsersResponse, first bool) error {
	if a.json {
		return a.showJSON(page)
	}
	rows := [][]string{}
	if first {
		rows = append(rows, []string{"ID", "EMAIL", "VERIFIED", "NAME", "STATUS", "CREATED", "LAST LOGIN"})
	}
	for _, account := range page.GetAccounts() {
		user := account.GetUser()
		rows = append(rows, []string{
			user.GetId(), user.GetEmail(), yesNo(user.GetEmailVerified()), user.GetFirstName() + " " + user.GetLastName(),
			accountStatus(account), when(user.GetCreateTime()), when(account.GetLastLoginTime()),
		})
	}
	return a.showRows(rows, page.GetNextPageToken())
}

// showSessions does the same for sessions.
func (a *adminCall) showSessions(page *latchkeyv1.ListUserSessionsResponse, first bool) error {
	if a.json {
		return a.showJSON(page)
	}
	rows := [][]string{}
	if first {
		rows = append(rows, []string{"ID", "DEVICE", "ADDRESS", "CREATED", "LAST USED", "ENDS"})
	}
	for _, sess := range page.GetSessions() {
		rows = append(rows, []string{
			sess.GetId(), sess.GetDeviceName(), sess.GetAddress(),
			when(sess.GetCreateTime()), when(sess.GetLastUseTime()), when(sess.GetExpireTime()),
		})
	}
	return a.showRows(rows, page.GetNextPageToken())
}

// showFactors writes the factors of an account.
func (a *adminCall) showFactors(resp *latchkeyv1.ListUserFactorsResponse) error {
	if a.json {
		return a.showJSON(resp)
	}
	rows := [][]string{{"KIND", "NAME", "SINCE", "LAST USED", "LEFT"}}
	for _, f := range resp.GetFactors() {
		kind, left := strings.ToLower(strings.TrimPrefix(f.GetKind().String(), "FACTOR_KIND_")), ""
		if f.GetKind() == latchkeyv1.FactorKind_FACTOR_KIND_RECOVERY_CODES {
			left = strconv.Itoa(int(f.GetRemaining()))
		}
		rows = append(rows, []string{kind, f.GetName(), when(f.GetCreateTime()), when(f.GetLastUseTime()), left})
	}
	return a.showRows(rows, "")
}

// showEvents does the same for events.
func (a *adminCall) showEvents(page *latchkeyv1.ListAuditEventsResponse, first bool) error {
	if a.json {
		return a.showJSON(page)
	}
	rows := [][]string{}
	if first {
		rows = append(rows, []string{"TIME", "KIND", "TIMES", "ACCOUNT", "SESSION", "ADDRESS", "ACTOR", "TRACE ID"})
	}
	for _, e := range page.GetEvents() {
		rows = append(rows, []string{
			when(e.GetTime()), e.GetKind(), strconv.Itoa(int(e.GetTimes())), e.GetUserId(), e.GetSessionId(),
			e.GetAddress(), e.GetActor(), e.GetTraceId(),
		})
	}
	return a.showRows(rows, page.GetNextPageToken())
}

// showRows writes the rows of a page, and how to get the next.
func (a *adminCall) showRows(rows [][]string, next string) error {
	table := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i := range row {
			row[i] = printable(row[i])
		}
		if _, err := fmt.Fprintln(table, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if next != "" && !a.all {
		_, err := fmt.Fprintf(a.out, "\nthere are more: --page-token %s, or --all\n", printable(next))
		return err
	}
	return nil
}

func accountStatus(account *latchkeyv1.Account) string {
	switch at := account.GetDeleteTime(); {
	case at != nil:
		return "to be deleted at " + when(at)
	case account.GetSuspended():
		return "suspended"
	}
	return "active"
}

func yesNo(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

func when(at *timestamppb.Timestamp) string {
	if at == nil {
		return "never"
	}
	return at.AsTime().Format(time.RFC3339)
}

// printable replaces characters that could move a terminal's cursor or reverse its text: users choose their
// names freely.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
