package userfile

import "time"

// supabaseMore reads the names that programs keep in the metadata, and bans that have not ended. The API has
// the metadata under a name without raw.
func supabaseMore(c cells, u *User, now time.Time) error {
	var meta namesText
	_ = meta.UnmarshalJSON([]byte(c.get("raw_user_meta_data", "user_metadata"))) // never fails
	u.FirstName, u.LastName = meta.firstLast()
	var err error
	u.Suspended, err = c.until(now, 0, "banned_until")
	return err
}
