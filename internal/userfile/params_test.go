package userfile

import "testing"

// TestPartsOfHashes: a hash in several columns is read whole, in JSON Lines and in CSV.
func TestPartsOfHashes(t *testing.T) {
	t.Parallel()
	want := User{
		Email: "ada@example.com", PasswordHash: "00ff",
		PasswordParts: PasswordParts{Scheme: "pbkdf2", Salt: "5a", Params: "digest=sha256,iterations=25000"},
	}
	for name, params := range map[string]string{
		"an object": `{"iterations":25000,"digest":"sha256"}`,
		"a text":    `"digest=sha256,iterations=25000"`,
	} {
		line := `{"email":"ada@example.com","password_hash":"00ff","password_scheme":"pbkdf2","password_salt":"5a","password_params":` + params + `}`
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRecords(t, read(t, line, JSONL), want)
		})
	}
	wantRecords(t, read(t, "email,password_hash,password_salt,password_scheme,password_params\n"+
		`ada@example.com,00ff,5a,pbkdf2,"digest=sha256,iterations=25000"`+"\n", CSV), want)
	for _, params := range []string{`5`, `["a"]`, `{"a":{"b":1}}`, `{"a":"b,c=d"}`, `{"a=b":"c"}`} {
		wantRecords(t, read(t, `{"email":"ada@example.com","password_params":`+params+`}`, JSONL), "password_params")
	}
}
