package userfile

import "errors"

// zitadelUser is an entry of humanUsers in Zitadel's export and import, or of its lists of users, or the request that
// imports one user.
type zitadelUser struct {
	User    *zitadelHuman `json:"user"`  // of humanUsers
	Human   *zitadelHuman `json:"human"` // of lists
	Machine *struct{}     `json:"machine"`
	State   string        `json:"state"`
	Name    string        `json:"preferredLoginName"`
	Details struct {
		Created moment `json:"creationDate"`
	} `json:"details"`
	zitadelHuman
}

type zitadelHuman struct {
	UserName string `json:"userName"`
	Profile  struct {
		FirstName   string `json:"firstName"`
		LastName    string `json:"lastName"`
		GivenName   string `json:"givenName"`
		FamilyName  string `json:"familyName"`
		DisplayName string `json:"displayName"`
	} `json:"profile"`
	Email struct {
		Email           string `json:"email"`
		IsEmailVerified bool   `json:"isEmailVerified"`
		IsVerified      bool   `json:"isVerified"`
	} `json:"email"`
	HashedPassword struct {
		Value string `json:"value"`
		Hash  string `json:"hash"` // of version 2
	} `json:"hashedPassword"`
	Password any `json:"password"`
}

func parseZitadel(cut raw) (User, error) {
	var a zitadelUser
	if err := unmarshal(cut.json, &a, false); err != nil {
		return User{}, err
	}
	person := a.zitadelHuman
	switch {
	case a.User != nil:
		person = *a.User
	case a.Human != nil:
		person = *a.Human
	case a.Machine != nil:
		return User{}, errors.New("it is a machine user, not a person's")
	}
	if person.UserName == "" {
		person.UserName = a.UserName + a.Name
	}
	u := User{
		Email: person.Email.Email, EmailVerified: person.Email.IsEmailVerified || person.Email.IsVerified,
		PasswordHash: person.HashedPassword.Value + person.HashedPassword.Hash,
		FirstName:    person.Profile.FirstName + person.Profile.GivenName, LastName: person.Profile.LastName + person.Profile.FamilyName,
		Suspended: a.State != "" && a.State != "USER_STATE_ACTIVE" && a.State != "USER_STATE_INITIAL", CreatedAt: a.Details.Created.Time,
	}
	if u.FirstName == "" && u.LastName == "" {
		u.FirstName, u.LastName = splitName(person.Profile.DisplayName)
	}
	err := firstError(errNoAddress(u, person.UserName), a.Details.Created.in("creationDate"))
	if err == nil && a.State == "USER_STATE_DELETED" {
		err = errDeleted("state")
	}
	if err == nil && u.PasswordHash == "" && person.Password != nil {
		err = errPlain
	}
	return u, err
}
