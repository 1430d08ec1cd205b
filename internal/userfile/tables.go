package userfile

import (
	"strings"
	"time"
)

// tableSpecs are the formats that are rows of a table, as CSV or JSON: the tables in the databases of programs.
func tableSpecs() []spec {
	var specs []spec
	for _, entry := range []func() (spec, table){
		aspNetTable, betterAuthTable, deviseTable, djangoTable, drupalTable, laravelTable, mattermostTable, supabaseTable, wordPressTable,
	} {
		s, t := entry()
		s.json, s.csv, s.parse = true, true, t.parser
		if s.email == nil {
			s.email = []string{"email"}
		}
		specs = append(specs, s)
	}
	return specs
}

func aspNetTable() (spec, table) {
	s := spec{
		format: ASPNET, title: "the table AspNetUsers of ASP.NET Identity",
		signs: []sign{"normalizedemail", "securitystamp", "emailconfirmed passwordhash", "emailconfirmed lockoutend"},
	}
	return s, table{
		id: []string{"id"}, email: []string{"email"}, hash: []string{"passwordhash"},
		first: []string{"firstname", "givenname"}, last: []string{"lastname", "surname"}, whole: []string{"fullname", "displayname", "name"},
		created: []string{"createdat", "createdon", "createddate"}, verified: []string{"emailconfirmed"},
		username: []string{"username"}, more: aspNetLockout,
	}
}

func betterAuthTable() (spec, table) {
	s := spec{
		format: BetterAuth, title: "the tables of better-auth or Auth.js",
		signs: []sign{
			"emailverified createdat name !localid !createdtimestamp !authservice", "emailverified image !localid", "emailverified password !authservice !localid",
			"email_verified name password !user_metadata", "user_id email_verified name password_hash !user_id|",
		},
	}
	return s, table{
		id: []string{"id", "user_id", "userid"}, email: []string{"email"}, hash: []string{"password", "password_hash"}, whole: []string{"name"},
		created: []string{"createdat", "created_at"}, verified: []string{"emailverified", "email_verified"}, more: betterAuthMore,
	}
}

func deviseTable() (spec, table) {
	s := spec{
		format: Devise, title: "the table users of Rails with Devise or has_secure_password",
		signs: []sign{
			"reset_password_token !raw_user_meta_data !email_confirmed_at", "reset_password_sent_at !email_confirmed_at", "remember_created_at",
			"sign_in_count", "current_sign_in_at", "current_sign_in_ip", "unconfirmed_email", "failed_attempts encrypted_password",
			"password_digest !password_hasher",
		},
		hints: []sign{"encrypted_password"},
	}
	return s, table{
		id: []string{"id"}, email: []string{"email"}, hash: []string{"encrypted_password", "password_digest"},
		first: []string{"first_name"}, last: []string{"last_name"}, whole: []string{"full_name", "name"},
		created: []string{"created_at"}, login: []string{"current_sign_in_at", "last_sign_in_at"}, verified: []string{"confirmed_at"},
		deleted: []string{"deleted_at", "discarded_at"},
	}
}

func djangoTable() (spec, table) {
	s := spec{
		format: Django, title: "the table auth_user of Django, or dumpdata of it",
		signs: []sign{"date_joined", "is_staff", "is_superuser password", "model pk fields"},
	}
	return s, table{
		id: []string{"id", "uuid", "pk"}, email: []string{"email"}, hash: []string{"password"},
		first: []string{"first_name"}, last: []string{"last_name"}, whole: []string{"name"},
		created: []string{"date_joined"}, login: []string{"last_login"}, active: []string{"is_active"},
		username: []string{"username"}, inner: "fields",
	}
}

func drupalTable() (spec, table) {
	s := spec{
		format: Drupal, title: "the table users_field_data of Drupal",
		signs: []sign{"mail pass", "mail uid"},
		email: []string{"mail"},
	}
	return s, table{
		email: []string{"mail"}, username: []string{"name"}, hash: []string{"pass"}, created: []string{"created"}, login: []string{"login"}, active: []string{"status"},
	}
}

func laravelTable() (spec, table) {
	s := spec{
		format: Laravel, title: "the table users of Laravel",
		signs: []sign{"remember_token", "email_verified_at"},
	}
	return s, table{
		id: []string{"id", "uuid"}, email: []string{"email"}, hash: []string{"password"},
		first: []string{"first_name"}, last: []string{"last_name"}, whole: []string{"name"},
		created: []string{"created_at"}, login: []string{"last_login_at"}, verified: []string{"email_verified_at"}, deleted: []string{"deleted_at"},
	}
}

func mattermostTable() (spec, table) {
	s := spec{
		format: Mattermost, title: "the table Users of Mattermost",
		signs: []sign{"authservice"},
	}
	return s, table{
		email: []string{"email"}, username: []string{"username"}, hash: []string{"password"}, first: []string{"firstname"}, last: []string{"lastname"},
		created: []string{"createat"}, verified: []string{"emailverified"}, suspended: []string{"deleteat"},
	}
}

func supabaseTable() (spec, table) {
	s := spec{
		format: Supabase, title: "Supabase's auth.users", hints: []sign{"encrypted_password"},
		signs: []sign{"raw_user_meta_data", "email_confirmed_at", "encrypted_password instance_id", "encrypted_password aud"},
	}
	return s, table{
		id: []string{"id"}, email: []string{"email"}, username: []string{"phone"}, hash: []string{"encrypted_password"},
		created: []string{"created_at"}, login: []string{"last_sign_in_at"}, verified: []string{"email_confirmed_at"},
		deleted: []string{"deleted_at"}, more: supabaseMore,
	}
}

func wordPressTable() (spec, table) {
	s := spec{
		format: WordPress, title: "the table wp_users of WordPress",
		signs: []sign{"user_pass", "user_email user_login", "user_registered"},
		email: []string{"user_email"},
	}
	return s, table{
		email: []string{"user_email"}, username: []string{"user_login"}, hash: []string{"user_pass"}, first: []string{"first_name"}, last: []string{"last_name"},
		whole: []string{"display_name"}, created: []string{"user_registered"}, suspended: []string{"spam"}, deleted: []string{"deleted"},
	}
}

// aspNetLockout suspends accounts that are locked for longer than wrong passwords lock one.
func aspNetLockout(c cells, u *User, now time.Time) error {
	const byHand = 24 * time.Hour
	locked, err := c.until(now, byHand, "lockoutend", "lockoutenddateutc")
	u.Suspended = u.Suspended || locked
	return err
}

// betterAuthMore names the scheme of salt:key, which other programs write too, and suspends accounts that are banned
// for good or until a future time.
func betterAuthMore(c cells, u *User, now time.Time) error {
	if strings.Contains(u.PasswordHash, ":") && !strings.HasPrefix(u.PasswordHash, "$") {
		u.PasswordParts.Scheme = "better-auth"
	}
	banned, err := c.flag([]string{"banned"})
	if err != nil || !banned {
		return err
	}
	u.Suspended = true
	if c.get("banexpires", "ban_expires") != "" {
		u.Suspended, err = c.until(now, 0, "banexpires", "ban_expires")
	}
	return err
}
