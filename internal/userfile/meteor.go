package userfile

// meteorUser is a document of the collection users of Meteor, and of Rocket.Chat, which is made with it.
type meteorUser struct {
	ID     loose `json:"_id"`
	Emails []struct {
		Address  loose `json:"address"`
		Verified any   `json:"verified"`
	} `json:"emails"`
	Username loose     `json:"username"`
	Name     loose     `json:"name"`
	Profile  namesText `json:"profile"`
	Services struct {
		Password struct {
			Bcrypt loose `json:"bcrypt"`
			Argon2 loose `json:"argon2"`
		} `json:"password"`
	} `json:"services"`
	CreatedAt moment `json:"createdAt"`
	LastLogin moment `json:"lastLogin"`
	// Active is Rocket.Chat's.
	Active any `json:"active"`
}

// meteorPrehash is what Meteor's clients send in place of a password.
const meteorPrehash = "sha256-hex"

// parseMeteor takes the first address that is verified, or else the first one.
func parseMeteor(cut raw) (User, error) {
	var a meteorUser
	if err := unmarshal(cut.json, &a, false); err != nil {
		return User{}, err
	}
	u := User{
		ID: foreignID(string(a.ID)), PasswordHash: string(a.Services.Password.Bcrypt), CreatedAt: a.CreatedAt.Time, LastLoginAt: a.LastLogin.Time,
		Suspended: a.Active == false,
	}
	if u.PasswordHash == "" {
		u.PasswordHash = string(a.Services.Password.Argon2)
	}
	u.PasswordParts.Prehash = meteorPrehash
	for _, email := range a.Emails {
		verified := email.Verified == true
		if u.Email == "" || verified && !u.EmailVerified {
			u.Email, u.EmailVerified = string(email.Address), verified
		}
	}
	u.FirstName, u.LastName = a.Profile.firstLast()
	if u.FirstName == "" && u.LastName == "" {
		u.FirstName, u.LastName = splitName(string(a.Name))
	}
	return u, firstError(a.CreatedAt.in("createdAt"), a.LastLogin.in("lastLogin"), errNoAddress(u, string(a.Username)))
}
