package userfile

// superTokensUser is a user of the bulk import, or of a list of users.
type superTokensUser struct {
	ID           string              `json:"id"`
	ExternalID   string              `json:"externalUserId"`
	TimeJoined   moment              `json:"timeJoined"`
	Metadata     namesText           `json:"userMetadata"`
	LoginMethods []superTokensMethod `json:"loginMethods"`
	// User is set in lists before version 7, which have the user in this member.
	User *superTokensUser `json:"user"`
	// Email is set before version 7.
	Email string `json:"email"`
}

// superTokensMethod is one of a user's ways to log in.
type superTokensMethod struct {
	Recipe     string `json:"recipeId"`
	Email      string `json:"email"`
	Hash       string `json:"passwordHash"`
	Plain      string `json:"plainTextPassword"`
	IsVerified bool   `json:"isVerified"`
	Verified   bool   `json:"verified"`
	Joined     moment `json:"timeJoinedInMSSinceEpoch"`
}

// superTokensTable is emailpassword_users.
func superTokensTable() table {
	return table{
		id: []string{"user_id"}, email: []string{"email"}, hash: []string{"password_hash"}, created: []string{"time_joined"},
		verified: []string{"verified", "email_verified"},
	}
}

func parseSuperTokens(o Options) parser {
	rows := superTokensTable().parser(o)
	return func(cut raw) (User, error) {
		if cut.json == nil {
			return rows(cut)
		}
		var a superTokensUser
		if err := unmarshal(cut.json, &a, false); err != nil {
			return User{}, err
		}
		switch {
		case a.User != nil:
			a = *a.User
		case len(a.LoginMethods) == 0:
			return rows(cut)
		}
		return a.user()
	}
}

// user prefers the method with a password to others with an address.
func (a *superTokensUser) user() (User, error) {
	method := superTokensMethod{Email: a.Email}
	for _, m := range a.LoginMethods {
		if m.Email != "" && (method.Email == "" || m.Recipe == "emailpassword" && method.Recipe != m.Recipe) {
			method = m
		}
	}
	u := User{
		ID: foreignID(a.ExternalID), Email: method.Email, PasswordHash: method.Hash, EmailVerified: method.IsVerified || method.Verified,
		CreatedAt: method.Joined.Time,
	}
	if a.ExternalID == "" {
		u.ID = foreignID(a.ID)
	}
	if u.CreatedAt.IsZero() {
		u.CreatedAt = a.TimeJoined.Time
	}
	u.FirstName, u.LastName = a.Metadata.firstLast()
	err := firstError(errNoAddress(u, a.ID+a.ExternalID), method.Joined.in("timeJoinedInMSSinceEpoch"), a.TimeJoined.in("timeJoined"))
	if err == nil && u.PasswordHash == "" && method.Plain != "" {
		err = errPlain
	}
	return u, err
}
