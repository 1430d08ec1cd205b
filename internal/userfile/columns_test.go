package userfile

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// readColumns reads a file whose columns are named.
func readColumns(t *testing.T, text, named string) ([]Record, error) {
	t.Helper()
	columns, err := ParseColumns(named)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(strings.NewReader(text), Options{Columns: columns, Now: now})
	if err != nil {
		return nil, err
	}
	var list []Record
	for {
		record, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		list = append(list, record)
	}
}

// TestColumns: a table of anybody's own, as CSV and as JSON of any arrangement.
func TestColumns(t *testing.T) {
	t.Parallel()
	ada := User{
		Email: "ada@example.com", PasswordHash: "$2b$12$x", FirstName: "Ada", LastName: "Lovelace", CreatedAt: time.Unix(1700000000, 0).UTC(),
		EmailVerified: true,
	}
	parts := ada
	parts.PasswordParts = PasswordParts{Scheme: "pbkdf2", Salt: "abcd", Params: "iterations=5"}
	for name, c := range map[string]struct {
		text, columns string
		want          User
	}{
		"CSV": {
			"uid;Mail;PW;full_name;since;ok;shoe size\n17;ada@example.com;$2b$12$x;Ada Lovelace;1700000000;1;38\n",
			"id=uid,email=mail,hash=pw,name=full_name,created_at=since,email_verified=ok", ada,
		},
		"our own names where none is given": {
			"email,PASSWD,name,created_at,email_verified\nada@example.com,$2b$12$x,Ada Lovelace,1700000000,true\n", "password_hash=passwd", ada,
		},
		"salt and parameters": {
			"email,h,s,p,sc,name,created_at,email_verified\nada@example.com,$2b$12$x,abcd,iterations=5,pbkdf2,Ada Lovelace,1700000000,true\n",
			"password_hash=h,password_salt=s,password_params=p,password_scheme=sc", parts,
		},
		"JSON": {
			`{"data":1,"users":[{"Mail":"ada@example.com","pw":"$2b$12$x","first_name":"Ada","last_name":"Lovelace","created_at":1700000000,"ok":true}]}`,
			"email=mail,password_hash=pw,email_verified=ok", ada,
		},
		"nested JSON": {
			`{"emails":[{"address":"ada@example.com","verified":true}],"auth":{"Password":{"hash":"$2b$12$x"}},"name":"Ada Lovelace","created_at":1700000000}`,
			"email=emails.0.address,email_verified=emails.0.verified,hash=auth.password.hash", ada,
		},
		"a format of a program, read by other names": {
			"ID,user_login,user_pass,user_email,name,created_at,email_verified\n1,ada,$2b$12$x,ada@example.com,Ada Lovelace,1700000000,1\n",
			"email=user_email,hash=user_pass", ada,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, err := readColumns(t, c.text, c.columns)
			if err != nil {
				t.Fatal(err)
			}
			wantRecords(t, list, c.want)
		})
	}
	list, err := readColumns(t, "mail,gone,off\na@example.com,1,\nb@example.com,,1\n,,\n", "email=mail,deleted=gone,suspended=off")
	if err != nil {
		t.Fatal(err)
	}
	wantRecords(t, list, "was deleted (gone is set)", User{Email: "b@example.com", Suspended: true}, "no address")
	for _, text := range []string{`{"a":{"b":1}}`, `{"a":[]}`, `{"a":"x"}`, `{"a":null}`, `{}`, `{"a":{"b":{"c":{}}}}`} {
		if list, err := readColumns(t, text, "email=a.b.c.d"); err != nil || len(list) != 1 || list[0].User.Email != "" {
			t.Errorf("%s: %+v, %v", text, list, err)
		}
	}
}

// TestBadColumns: a misspelt name would leave everybody without a password.
func TestBadColumns(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                    `there is no column ""`,
		"mail=email":          `there is no column "mail"`,
		"email":               "email=NAME",
		"email=":              "email=NAME",
		"email=a,email=b":     "named twice",
		"hash=a,email=x":      "",
		"email=a,hash=b, ":    `there is no column ""`,
		"hash=a, Email = b":   `there is no column "Email"`,
		"password_hash=a.b.c": "",
	} {
		if _, err := ParseColumns(text); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for named, want := range map[string]string{
		"email=mail,hash=pww": `no column "pww" for password_hash: mail, pw`,
		"hash=pw":             "--columns email=NAME",
	} {
		if list, err := readColumns(t, "mail,pw\na@example.com,x\n", named); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v", named, list, err)
		}
	}
	if _, err := NewReader(strings.NewReader("mail\n"), Options{Columns: Columns{"email": "mail"}, Format: WordPress, Now: now}); err == nil {
		t.Error("another format is taken")
	}
}
