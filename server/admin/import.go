package admin

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/userfile"
	"github.com/latchkey-auth/latchkey/internal/userimport"
)

const (
	// imports limits how many run at once. Together with rememberedImports and the sizes of batches and messages it
	// limits their memory: 30 MiB each.
	imports = 4
	// rememberedImports is how many addresses of a stream are remembered.
	rememberedImports = 1 << 20
	// refusalsKept is the limit of the contract.
	refusalsKept = 1000
	// importSilence is how long a stream may keep its place without a message.
	importSilence = time.Minute
)

// ImportUsers implements latchkey.v1.AdminService. It writes no audit event for each account: the audit trail is about
// what people do to accounts, and a million equal rows would double the work. The log has one line for the import.
func (s *Service) ImportUsers(stream grpc.ClientStreamingServer[latchkeyv1.ImportUsersRequest, latchkeyv1.ImportUsersResponse]) error {
	select {
	case s.importing <- struct{}{}:
		defer func() { <-s.importing }()
	default:
		return refusal.New(codes.ResourceExhausted, latchkeyv1.ErrorReason_ERROR_REASON_OVERLOADED,
			"as many imports as this replica takes are under way: try again later", refusal.RetryInfo(10*time.Second))
	}
	ctx := stream.Context()
	source := &importSource{ctx: ctx, messages: make(chan importMessage)}
	go source.receive(stream)
	if err := source.first(); err != nil {
		return err
	}
	dryRun := source.dryRun // Run may return while another goroutine still reads from the source
	resp := &latchkeyv1.ImportUsersResponse{}
	counts, err := userimport.Run(ctx, userimport.Config{
		Pool: s.Pool, DryRun: dryRun, Remember: rememberedImports, HasPepper: s.HasPepper, Now: s.Now,
		Refused: func(r userimport.Refusal) {
			if len(resp.GetRefusals()) < refusalsKept {
				resp.Refusals = append(resp.Refusals, &latchkeyv1.ImportRefusal{Number: r.Number, Email: r.Email, Reason: r.Reason})
			}
		},
	}, source)
	s.Logger.InfoContext(ctx, "accounts imported", "created", counts.Created, "existing", counts.Existing, "refused", counts.Refused,
		"dry_run", dryRun, "whole", err == nil, "trace_id", caller.From(ctx).TraceID, "call_id", caller.From(ctx).CallID)
	if err != nil {
		return err
	}
	resp.CreatedCount, resp.ExistingCount, resp.RefusedCount = counts.Created, counts.Existing, counts.Refused
	return stream.SendAndClose(resp)
}

// importMessage is a message of the stream, or its end.
type importMessage struct {
	req *latchkeyv1.ImportUsersRequest
	err error
}

// importSource reads accounts from a stream, one message at a time.
type importSource struct {
	ctx      context.Context //nolint:containedctx // that of the stream, which it reads
	messages chan importMessage
	users    []*latchkeyv1.ImportedUser // of the current message
	number   int64
	dryRun   bool
	begun    bool
}

// receive runs in a goroutine of its own, because a Recv ends only with its stream, and a stop of the server must end
// the handler even if the client sends nothing.
func (i *importSource) receive(stream grpc.ClientStreamingServer[latchkeyv1.ImportUsersRequest, latchkeyv1.ImportUsersResponse]) {
	for {
		req, err := stream.Recv()
		select {
		case i.messages <- importMessage{req, err}:
		case <-i.ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// first waits for the first message, which says which kind of import it is. A stream without messages imports nobody.
func (i *importSource) first() error {
	if err := i.message(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// message waits for the next message. It returns io.EOF if there is none.
func (i *importSource) message() error {
	silence := time.NewTimer(importSilence)
	defer silence.Stop()
	select {
	case m := <-i.messages:
		if m.err != nil {
			close(i.messages) // nothing more is sent, so later calls return io.EOF too
			return m.err
		}
		if m.req == nil {
			return io.EOF
		}
		if i.begun && m.req.GetDryRun() != i.dryRun {
			return refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, "dry_run", "DRY_RUN_CHANGED",
				"must be the same in all messages of a stream")
		}
		i.begun, i.dryRun, i.users = true, m.req.GetDryRun(), m.req.GetUsers()
		return nil
	case <-silence.C:
		return status.Error(codes.DeadlineExceeded, "no message came for a minute: send the accounts again")
	case <-i.ctx.Done():
		return i.ctx.Err()
	}
}

// Next implements userimport.Source.
func (i *importSource) Next() (userfile.Record, error) {
	for len(i.users) == 0 {
		if err := i.message(); err != nil {
			return userfile.Record{}, err
		}
	}
	user := i.users[0]
	i.users = i.users[1:]
	i.number++
	return importRecord(i.number, user), nil
}

func importRecord(number int64, user *latchkeyv1.ImportedUser) userfile.Record {
	record := userfile.Record{Number: number, User: userfile.User{
		Email: user.GetEmail(), PasswordHash: user.GetPasswordHash(), FirstName: user.GetFirstName(), LastName: user.GetLastName(),
		Suspended: user.GetSuspended(), EmailVerified: user.GetEmailVerified(),
	}}
	if text := user.GetId(); text != "" {
		id, err := uuid.Parse(text)
		if err != nil || len(text) != len(id.String()) {
			record.Err = errors.New("id is not a UUID")
		}
		record.User.ID = id
	}
	for _, t := range []struct {
		from *timestamppb.Timestamp
		to   *time.Time
	}{{user.GetCreateTime(), &record.User.CreatedAt}, {user.GetLastLoginTime(), &record.User.LastLoginAt}} {
		switch {
		case t.from == nil:
		case t.from.IsValid():
			*t.to = t.from.AsTime()
		default:
			record.Err = errors.New("create_time or last_login_time is no time")
		}
	}
	return record
}
