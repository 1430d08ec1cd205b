package userfile

import "time"

// supabaseMore reads the names that programs keep in the metadata, and bans that have not ended. The name of the
// metadata has no "raw" in the API.
func supabaseMore(c cells, u *User, now time.Time) error {
	var meta namesText
	_ = meta.UnmarshalJSON([]byte(c.get("raw_user_meta_data", "user_metadata"))) // never fails
	u.FirstName, u.LastName = meta.firstLast()
	var err error
	u.Suspended, err = c.until(now, 0, "banned_until")
	return err
}
