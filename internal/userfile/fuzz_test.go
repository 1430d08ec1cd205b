package userfile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"unicode/utf8"
)

// fuzzFormat reads any text in a format: it does not panic, the numbers rise, and the reading ends.
func fuzzFormat(f *testing.F, format Format, seeds ...string) {
	f.Helper()
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, list, err := readAll(t, bytes.NewReader(data), format)
		if err != nil && utf8.Valid(data) && !utf8.ValidString(err.Error()) {
			t.Errorf("an error that is no text: %q", err)
		}
		last := int64(0)
		for _, record := range list {
			if record.Number <= last {
				t.Fatalf("number %d behind %d", record.Number, last)
			}
			last = record.Number
		}
		if r != nil && r.Format() != format {
			t.Errorf("format %s", r.Format())
		}
	})
}

func FuzzJSONL(f *testing.F) {
	fuzzFormat(f, JSONL, `{"id":"`+someID+`","email":"a@example.com","created_at":"2023-01-02T03:04:05Z","active":true}`+"\n{", "[{}]", "{\n}", "")
}

func FuzzCSV(f *testing.F) {
	fuzzFormat(f, CSV, "email,first_name\na@example.com,\"A\nB\"\nb,\"\n", "email\r\n\"a\"\"b\"", "\ufeffemail")
}

func FuzzAuth0(f *testing.F) {
	fuzzFormat(f, Auth0, `{"email":"a","user_id":"auth0|x","custom_password_hash":{"algorithm":"scrypt","hash":{"value":"00","encoding":"hex"},"salt":{"value":"AA==","encoding":"base64"},"cost":4}}`)
}

func FuzzFirebase(f *testing.F) {
	fuzzFormat(f, Firebase, `{"users":[{"localId":"x","email":"a","passwordHash":"AAAA","salt":"AAAA","createdAt":"1"}]}`, "a,b,true,,,\"x\"y\",,,,,,,,,,,,,,,,,,1,2,,false,,")
}

func FuzzKeycloak(f *testing.F) {
	fuzzFormat(f, Keycloak, `{"realm":"x","users":[{"email":"a","credentials":[{"type":"password","secretData":"{\"value\":\"AAAA\",\"salt\":\"AAAA\"}","credentialData":"{\"hashIterations\":5,\"algorithm\":\"argon2\",\"additionalParameters\":{\"memory\":[\"64\"],\"type\":[\"id\"],\"version\":[\"1.3\"],\"parallelism\":[\"1\"]}}"}]}]}`)
}

// fuzzExports is fuzzFormat with the exports of the format as seeds.
func fuzzExports(f *testing.F, format Format) {
	f.Helper()
	var seeds []string
	for _, file := range exportFiles(f) {
		if formatOf(f, file) == format {
			seeds = append(seeds, readFile(f, file))
		}
	}
	fuzzFormat(f, format, seeds...)
}

func FuzzAppwrite(f *testing.F) { fuzzExports(f, Appwrite) }

func FuzzASPNET(f *testing.F) { fuzzExports(f, ASPNET) }

func FuzzBetterAuth(f *testing.F) { fuzzExports(f, BetterAuth) }

func FuzzClerk(f *testing.F) { fuzzExports(f, Clerk) }

func FuzzCognito(f *testing.F) { fuzzExports(f, Cognito) }

func FuzzDevise(f *testing.F) { fuzzExports(f, Devise) }

func FuzzDjango(f *testing.F) { fuzzExports(f, Django) }

func FuzzDrupal(f *testing.F) { fuzzExports(f, Drupal) }

func FuzzFusionAuth(f *testing.F) { fuzzExports(f, FusionAuth) }

func FuzzLaravel(f *testing.F) { fuzzExports(f, Laravel) }

func FuzzMattermost(f *testing.F) { fuzzExports(f, Mattermost) }

func FuzzOkta(f *testing.F) { fuzzExports(f, Okta) }

func FuzzSuperTokens(f *testing.F) { fuzzExports(f, SuperTokens) }

func FuzzWordPress(f *testing.F) { fuzzExports(f, WordPress) }

func FuzzZitadel(f *testing.F) { fuzzExports(f, Zitadel) }

// FuzzAnyFile: for any file, the format is found or not, and the file is read or not.
func FuzzAnyFile(f *testing.F) {
	for _, file := range exportFiles(f) {
		f.Add([]byte(readFile(f, file)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, _, err := readAll(t, bytes.NewReader(data), "")
		if err == nil && r.Format().Describe() == "" {
			t.Errorf("format %q", r.Format())
		}
	})
}

func FuzzSupabase(f *testing.F) {
	fuzzFormat(f, Supabase, "id,email,encrypted_password,raw_user_meta_data\n,a,,\"{\"\"name\"\":1}\"", `[{"email":"a","raw_user_meta_data":{"name":{"first":"x"}},"banned_until":"2999-01-01 00:00:00+00"}]`)
}

func FuzzKratos(f *testing.F) {
	fuzzFormat(f, Kratos, `[{"traits":{"email":"a","name":{"first":"x"}},"credentials":{"password":{"config":{"hashed_password":"x"}}}}]`)
}

// FuzzElements: every array that is JSON has the same elements as with encoding/json.
func FuzzElements(f *testing.F) {
	for _, seed := range []string{`[1, "a]\"", {"b":[{}]}, null, []]`, `[ ]`, `["\\"]`, `[-1e5,true]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var wanted []json.RawMessage
		valid := json.Unmarshal(data, &wanted) == nil && wanted != nil
		e := newElements(bufio.NewReader(bytes.NewReader(data)), []string{eachOf})
		var got [][]byte
		for {
			cut, err := e.next()
			if err != nil {
				if valid && !errors.Is(err, io.EOF) {
					t.Fatalf("%q: %v", data, err)
				}
				break
			}
			got = append(got, bytes.Clone(cut.json))
		}
		if !valid {
			return
		}
		if len(got) != len(wanted) {
			t.Fatalf("%q: %d elements, want %d", data, len(got), len(wanted))
		}
		for i := range got {
			if !bytes.Equal(got[i], wanted[i]) {
				t.Errorf("element %d is %q, want %q", i, got[i], wanted[i])
			}
		}
	})
}

// FuzzFirebaseConfig: it does not panic, and a key that is read has bytes.
func FuzzFirebaseConfig(f *testing.F) {
	f.Add([]byte("hash_config { base64_signer_key: AAAA, rounds: 8, mem_cost: 14 }"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if config, err := ParseFirebaseConfig(data); err == nil && len(config.SignerKey) == 0 {
			t.Error("a config without a key")
		}
	})
}
