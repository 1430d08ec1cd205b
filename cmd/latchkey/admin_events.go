package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/audit"
)

// eventFilter has the flags that choose events.
type eventFilter struct {
	kinds      []string
	start, end *timestamppb.Timestamp
}

func eventFlags() []string { return []string{"kind", "since", "until"} }

func (f *eventFilter) addKind(text string) error {
	if !slices.Contains(audit.Kinds(), audit.Kind(text)) {
		return errors.New("there is no such kind: docs/operations.md lists them")
	}
	f.kinds = append(f.kinds, text)
	return nil
}

func (f *eventFilter) setStart(text string) (err error) {
	f.start, err = eventTime(text)
	return err
}

func (f *eventFilter) setEnd(text string) (err error) {
	f.end, err = eventTime(text)
	return err
}

// eventTime reads a time, or how long ago it was.
func eventTime(text string) (*timestamppb.Timestamp, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return timestamppb.New(time.Now().Add(-ago)), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, errors.New("must be a time such as 2026-11-30T06:00:00Z, or how long ago, such as 24h")
	}
	return timestamppb.New(at), nil
}

// adminEvents lists the events of an account, or of all. An account that is deleted is found by its identifier.
func adminEvents(ctx context.Context, a *adminCall) error {
	id := ""
	if a.command.account {
		var err error
		if id, err = a.id(ctx); err != nil {
			return err
		}
	}
	return a.eachPage(func(token string) (string, error) {
		resp, err := call(ctx, a.client.ListAuditEvents, &latchkeyv1.ListAuditEventsRequest{
			UserId: id, Kinds: a.events.kinds, StartTime: a.events.start, EndTime: a.events.end,
			PageSize: int32(a.size), PageToken: token, //nolint:gosec // G115: check bounds it
		})
		if err != nil {
			return "", err
		}
		return resp.GetNextPageToken(), a.showEvents(resp, token == a.page)
	})
}
