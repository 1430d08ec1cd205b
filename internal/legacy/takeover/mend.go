package takeover

import (
	"fmt"
	"strings"

	"github.com/latchkey-auth/latchkey/internal/postgres"
)

// Tables that were made by hand differ from that of the older backends in small ways. If Latchkey cannot work with a
// table, it refuses the table and shows the statements that mend it. Only the operator knows whether an older backend
// works after them.

// alterColumn returns one statement that changes a column of users.
func alterColumn(name string, changes ...string) string {
	for i, change := range changes {
		changes[i] = "ALTER COLUMN " + ident(name) + " " + change
	}
	return "ALTER TABLE users " + strings.Join(changes, ", ")
}

// addedDefault returns the value for accounts that have none, if all can get the same one.
func addedDefault(want postgres.UserColumn) string {
	switch want.Name {
	case "first_name", "last_name":
		return "''"
	case "created_at", "updated_at":
		return "now()"
	}
	return defaultOf(want)
}

// defaultOf returns the default that a column needs for an INSERT that leaves it out; "": it needs none.
func defaultOf(want postgres.UserColumn) string {
	if want.Name == "id" {
		return "gen_random_uuid()"
	}
	return want.Default
}

func nullness(want postgres.UserColumn) string {
	if want.Nullable {
		return ""
	}
	return " NOT NULL"
}

// mendMissing returns the statement that adds the column; "" if there is no value for it.
func mendMissing(want postgres.UserColumn) string {
	value := addedDefault(want)
	switch {
	case want.Nullable:
		return "ALTER TABLE users ADD COLUMN " + want.Name + " " + want.Type
	case value == "" || want.Name == "id":
		return ""
	}
	return fmt.Sprintf("ALTER TABLE users ADD COLUMN %s %s NOT NULL DEFAULT %s", want.Name, want.Type, value)
}

// mendType returns the wanted type, and the statement that converts the column; "" if no statement can.
func mendType(want postgres.UserColumn, got foundColumn) (right, sql string) {
	convert := func(using string) string {
		changes := []string{fmt.Sprintf("TYPE %s USING %s", want.Type, using)}
		if got.Default != "" {
			changes = append([]string{"DROP DEFAULT"}, changes...)
			if value := addedDefault(want); value != "" {
				changes = append(changes, "SET DEFAULT "+value)
			}
		}
		return alterColumn(want.Name, changes...)
	}
	name := ident(want.Name)
	switch {
	case want.Type == "uuid" && !isText(got.Type):
		return "uuid: accounts cannot keep other ids; move them with `latchkey users import` (docs/import.md)", ""
	case want.Type == "uuid" || want.Type == "boolean":
		return want.Type, convert(name + "::text::" + want.Type)
	case strings.HasPrefix(got.Type, "timestamp") && strings.HasSuffix(got.Type, "without time zone"):
		return want.Type + "; the statement takes the present times for UTC and writes every row again, and the older backend must be able to read the new type",
			convert(name + " AT TIME ZONE 'UTC'")
	case want.Type == "timestamp with time zone":
		return want.Type, convert(name + "::" + want.Type)
	}
	return want.Type + ", or longer, or text", convert(name + "::" + want.Type)
}

func isText(kind string) bool {
	return kind == "text" || strings.HasPrefix(kind, "character")
}

// mendNull returns the statement that gives a value to accounts without one and forbids NULL from then on.
func mendNull(want postgres.UserColumn, got foundColumn) string {
	value := addedDefault(want)
	changes := []string{"SET NOT NULL"}
	if got.Default == "" && value != "" {
		changes = append([]string{"SET DEFAULT " + value}, changes...)
	}
	if want.Name == "password_hash" {
		value = "'!'" // no password: its owner resets it
	}
	forbid := alterColumn(want.Name, changes...)
	if value == "" || want.Name == "id" {
		return forbid
	}
	return fmt.Sprintf("UPDATE users SET %[1]s = %[2]s WHERE %[1]s IS NULL; %[3]s", ident(want.Name), value, forbid)
}
