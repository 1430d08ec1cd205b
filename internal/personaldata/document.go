package personaldata

import (
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/audit"
)

// document is the JSON. docs/personal-data.md describes each member. Its order is that of the fields and of the lists,
// which is the same for the same data.
type document struct {
	Schema     string    `json:"schema"`
	ExportTime time.Time `json:"export_time"`
	Account    owner     `json:"account"`
	Factors    []factor  `json:"factors"`
	Sessions   []session `json:"sessions"`
	Mails      []mailed  `json:"mails"`
	Activity   []event   `json:"activity"`
	// ActivityIsCut is true if there are older events.
	ActivityIsCut bool `json:"activity_is_cut"`
}

type owner struct {
	ID            string     `json:"id"`
	Email         string     `json:"email"`
	EmailVerified bool       `json:"email_verified"`
	FirstName     string     `json:"first_name"`
	LastName      string     `json:"last_name"`
	CreateTime    time.Time  `json:"create_time"`
	UpdateTime    time.Time  `json:"update_time"`
	LastLoginTime *time.Time `json:"last_login_time"`
	// Disabled is true if it may not be used.
	Disabled   bool       `json:"disabled"`
	DeleteTime *time.Time `json:"delete_time"`
}

func accountOf(row db.User) owner {
	o := owner{
		ID: row.ID.String(), Email: row.Email, EmailVerified: row.IsVerified, FirstName: row.FirstName, LastName: row.LastName,
		CreateTime: row.CreatedAt.UTC(), UpdateTime: row.UpdatedAt.UTC(), Disabled: !row.IsActive,
	}
	if row.LastLoginAt != nil {
		o.LastLoginTime = instant(*row.LastLoginAt)
	}
	return o
}

type factor struct {
	Kind        string     `json:"kind"`
	ID          string     `json:"id,omitempty"`
	Name        string     `json:"name"`
	CreateTime  *time.Time `json:"create_time"`
	LastUseTime *time.Time `json:"last_use_time"`
	// Remaining is for recovery codes only.
	Remaining *int `json:"remaining,omitempty"`
}

type session struct {
	ID          string    `json:"id"`
	DeviceName  string    `json:"device_name"`
	Address     string    `json:"address"`
	Methods     []string  `json:"methods"`
	CreateTime  time.Time `json:"create_time"`
	LastUseTime time.Time `json:"last_use_time"`
	ExpireTime  time.Time `json:"expire_time"`
}

type mailed struct {
	Purpose    string    `json:"purpose"`
	Address    string    `json:"address"`
	CreateTime time.Time `json:"create_time"`
	ExpireTime time.Time `json:"expire_time"`
}

type event struct {
	Kind      string    `json:"kind"`
	Time      time.Time `json:"time"`
	SessionID string    `json:"session_id,omitempty"`
	Address   string    `json:"address"`
	Actor     string    `json:"actor,omitempty"`
	TraceID   string    `json:"trace_id"`
	Times     int32     `json:"times"`
}

func eventOf(e audit.Listed) event {
	one := event{
		Kind: string(e.Kind), Time: e.Time.UTC(), Address: e.Address, Actor: e.Actor, TraceID: e.TraceID, Times: e.Times,
	}
	if e.SessionID != uuid.Nil {
		one.SessionID = e.SessionID.String()
	}
	return one
}

// hideOperators removes the keys and the addresses of operators from what the owner gets, as ListActivity does.
func (d *document) hideOperators() {
	for i := range d.Activity {
		if d.Activity[i].Actor != "" {
			d.Activity[i].Actor, d.Activity[i].Address = audit.Operator, ""
		}
	}
}

// instant returns nil for the zero time, which is null in JSON.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
