package userfile

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/password"
)

func date(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return t
}

const (
	bcryptHash = "$2b$10$Z6hUTEEeoJXN5/AmSm/4.eZ75RYgFVriQM9LPhNEC7kbAbS/VAaJ2"
	someID     = "5f7c8f0a-9d3e-4b57-8d1c-0b6f5a1e2d3c"
)

// TestAuth0 has examples that follow Auth0's "User data JSON schema for bulk user imports", the fields of its user
// export, and the password export of its support.
func TestAuth0(t *testing.T) {
	t.Parallel()
	list := read(t, `{"_id":{"$oid":"60425dc43519d90068f82973"},"email_verified":false,"email":"test2@example.com","passwordHash":"`+bcryptHash+`","password_set_date":{"$date":"2021-03-05T16:35:16.775Z"},"tenant":"dev-x","connection":"Username-Password-Authentication","_tmp_is_unique":true}
{"user_id":"auth0|`+someID+`","email":"ada@example.com","email_verified":true,"name":"ada@example.com","given_name":"Ada","family_name":"Lovelace","nickname":"ada","blocked":true,"created_at":"2019-05-01T12:00:00.123Z","last_login":"2020-05-01T12:00:00.000Z","logins_count":5,"identities":[{"provider":"auth0"}],"app_metadata":{"plan":"x"}}
{"user_id":"google-oauth2|1034","email":"grace@example.com","email_verified":true,"name":"Grace Brewster Hopper","user_metadata":"text"}
{"email":"meta@example.com","name":"meta@example.com","user_metadata":{"first_name":"Me","last_name":"Ta"}}
{"email":"argon@example.com","custom_password_hash":{"algorithm":"argon2","hash":{"value":"$argon2id$v=19$m=16,t=2,p=1$x$y","encoding":"utf8"}}}
{"email":"scrypt@example.com","custom_password_hash":{"algorithm":"scrypt","hash":{"value":"00010203","encoding":"hex"},"salt":{"value":"salt","encoding":"utf8"},"password":{"encoding":"utf8"},"keylen":4,"cost":16384,"blockSize":8,"parallelization":1}}
{"email":"scrypt2@example.com","custom_password_hash":{"algorithm":"scrypt","hash":{"value":"AAECAw==","encoding":"base64"},"salt":{"value":"73616c74","encoding":"hex"},"cost":1000}}
{"email":"md5@example.com","custom_password_hash":{"algorithm":"md5","hash":{"value":"5f4dcc3b5aa765d61d8327deb882cf99","encoding":"hex"}}}
`, "")
	wantRecords(
		t, list,
		User{Email: "test2@example.com", PasswordHash: bcryptHash},
		User{
			ID: uuid.MustParse(someID), Email: "ada@example.com", FirstName: "Ada", LastName: "Lovelace", EmailVerified: true, Suspended: true,
			CreatedAt: date("2019-05-01T12:00:00.123Z"), LastLoginAt: date("2020-05-01T12:00:00Z"),
		},
		User{Email: "grace@example.com", FirstName: "Grace", LastName: "Brewster Hopper", EmailVerified: true},
		User{Email: "meta@example.com", FirstName: "Me", LastName: "Ta"},
		User{Email: "argon@example.com", PasswordHash: "$argon2id$v=19$m=16,t=2,p=1$x$y"},
		User{Email: "scrypt@example.com", PasswordHash: "$scrypt$ln=14,r=8,p=1$c2FsdA$AAECAw"},
		"cost is not a power of two",
		`"md5" cannot be imported`,
	)
	// The bulk import format is an array.
	list = read(t, `[ {"email":"a@example.com","password_hash":"`+bcryptHash+`","user_id":"x"}, {"email":"b@example.com"} ]`, Auth0)
	wantRecords(t, list, User{Email: "a@example.com", PasswordHash: bcryptHash}, User{Email: "b@example.com"})
}

// TestFirebase has the form of firebase-tools' accountExporter, with the example hash of github.com/firebase/scrypt,
// whose password is user1password.
func TestFirebase(t *testing.T) {
	t.Parallel()
	const user = `{
      "localId": "ePwXHHyUcJY2JKiiy8G0YuQ3EtD3",
      "email": "ada@example.com",
      "emailVerified": true,
      "passwordHash": "lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==",
      "salt": "42xEC+ixf3L2lw==",
      "displayName": "Ada King, Lovelace",
      "lastSignedInAt": "1554273912318",
      "createdAt": "1508163776686",
      "disabled": false,
      "providerUserInfo": []
    }`
	ada := User{
		Email: "ada@example.com", EmailVerified: true, FirstName: "Ada", LastName: "King, Lovelace",
		CreatedAt: time.UnixMilli(1508163776686).UTC(), LastLoginAt: time.UnixMilli(1554273912318).UTC(),
	}
	list := read(t, `{"users": [`+user+`,
{"localId":"Nz2V","displayName":"Jean","phoneNumber":"+4912345","createdAt":"1554279706438","disabled":true,"providerUserInfo":[{"providerId":"phone"}]},
{"localId":"x","email":"b@example.com","passwordHash":"$$","salt":""}
]}`, "")
	hash := list[0].User.PasswordHash
	if canonical, err := password.Canonical(hash); err != nil || canonical != hash {
		t.Errorf("%q: %v", hash, err)
	}
	checkPassword(t, hash, "user1password")
	ada.PasswordHash = hash
	wantRecords(t, list, ada, `it has no address (email): it is the account of "Jean"`, "passwordHash: is not base64")

	// CSV has no names at its top, quotes only around fields with a comma, and one more comma at its end.
	line := "ePwXHHyUcJY2JKiiy8G0YuQ3EtD3,ada@example.com,true,lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==,42xEC+ixf3L2lw==,\"Ada King, Lovelace\",,,,,,,,,,,,,,,,,,1508163776686,1554273912318,,false,,\n"
	quoted := `id2,q@example.com,false,,,"Ann "Q" Smith, Jr",,,,,,,,,,,,,,,,,,1508163776686,,,true,"{""a"":1}",` + "\n"
	list = read(t, line+quoted+"short,b@example.com\n", "")
	wantRecords(
		t, list, ada,
		User{Email: "q@example.com", FirstName: "Ann", LastName: `"Q" Smith, Jr`, CreatedAt: ada.CreatedAt, Suspended: true},
		"it has 2 fields",
	)
	// Without the project's parameters the hashes are useless, so the error comes at once.
	r, err := NewReader(strings.NewReader(line), Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err == nil || !strings.Contains(err.Error(), "line 1: ") || !strings.Contains(err.Error(), "--firebase-config") {
		t.Errorf("without parameters: %v", err)
	}
}

func checkPassword(t *testing.T, hash, typed string) {
	t.Helper()
	hasher, err := password.New(password.Config{
		Params: password.Params{MemoryKiB: 64, Time: 1, Threads: 1}, Slots: 1, DecoyKey: make([]byte, 32),
	})
	if err != nil {
		t.Fatal(err)
	}
	for candidate, match := range map[string]bool{typed: true, typed + "x": false} {
		if result, err := hasher.Verify(t.Context(), password.Claim{}, hash, candidate); err != nil || result.Match != match {
			t.Errorf("%s: %v, %v", candidate, result, err)
		}
	}
}

func TestParseFirebaseConfig(t *testing.T) {
	t.Parallel()
	config := firebaseConfig(t)
	if len(config.SignerKey) != 64 || string(config.SaltSeparator) != "\x07" || config.Rounds != 8 || config.MemCost != 14 {
		t.Errorf("%d, %q, %d, %d", len(config.SignerKey), config.SaltSeparator, config.Rounds, config.MemCost)
	}
	same, err := ParseFirebaseConfig([]byte(`{"algorithm":"SCRYPT","base64_signer_key": "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==", "base64_salt_separator":"Bw==","rounds":8,"mem_cost":14}`))
	if err != nil || string(same.SignerKey) != string(config.SignerKey) || same.MemCost != 14 {
		t.Errorf("JSON: %v", err)
	}
	for text, wanted := range map[string]string{
		"":                                "base64_signer_key",
		"base64_signer_key: c2VjcmV0c2Vj": "rounds or mem_cost",
		"algorithm: BCRYPT":               "BCRYPT",
		"base64_signer_key: c2VjcmV0c":    "base64_signer_key",
	} {
		if _, err := ParseFirebaseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), wanted) || strings.Contains(err.Error(), "c2Vj") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestKeycloak has the form of `kc.sh export --users realm_file` of Keycloak 26, and credentials of former versions.
func TestKeycloak(t *testing.T) {
	t.Parallel()
	realm := `{
  "id" : "acme", "realm" : "acme", "attributes": {"users": "no", "x": [{"users":[]}]},
  "roles" : { "realm" : [ { "id" : "r", "name" : "a \"quoted\\\" ] name" } ] },
  "users" : [ {
    "id" : "` + someID + `", "username" : "jane.doe", "email" : "jane@example.com", "emailVerified" : true,
    "firstName" : "Jane", "lastName" : "Doe", "enabled" : false, "createdTimestamp" : 1508163776686,
    "credentials" : [
      {"type":"otp","secretData":"{\"value\":\"JBSWY3DPEHPK3PXP\"}","credentialData":"{\"subType\":\"totp\",\"digits\":6}"},
      {"id":"c","type":"password","userLabel":"My password","createdDate":1776007399750,"secretData":"{\"value\":\"xKjWvB9+0sSP6wTqI1JoEI7w+iA0x9VDhPgmrOHRG80=\",\"salt\":\"LRScGShC7shkdoU5B1UgUQ==\",\"additionalParameters\":{}}","credentialData":"{\"hashIterations\":5,\"algorithm\":\"argon2\",\"additionalParameters\":{\"hashLength\":[\"32\"],\"memory\":[\"7168\"],\"type\":[\"id\"],\"version\":[\"1.3\"],\"parallelism\":[\"1\"]}}"}
    ], "realmRoles": ["default-roles-acme"] },
  { "username":"pbkdf2", "email":"p@example.com", "enabled":true, "credentials":[{"type":"password","secretData":"{\"value\":\"1u7BLvfSPxQFpwc5jpGSA+88EGl9pZYKhaZ8YPIu9N4=\",\"salt\":\"x/bm4Y3DcuV9eU97ervkPA==\"}","credentialData":"{\"hashIterations\": 27500,\"algorithm\": \"pbkdf2-sha256\"}"}] },
  { "username":"old", "email":"old@example.com", "credentials":[{"type":"password","hashedSaltedValue":"1u7BLvfSPxQFpwc5jpGSA+88EGl9pZYKhaZ8YPIu9N4=","salt":"x/bm4Y3DcuV9eU97ervkPA==","hashIterations":27500,"algorithm":"pbkdf2-sha256"}] },
  { "username":"service-account-x", "serviceAccountClientId":"x" },
  { "email":"plain@example.com", "credentials":[{"type":"password","value":"hunter2"}] },
  { "email":"md5@example.com", "credentials":[{"type":"password","secretData":"{}","credentialData":"{\"algorithm\":\"md5\"}"}] },
  { "email":"bad@example.com", "credentials":[{"type":"password","secretData":"x","credentialData":""}] }
  ],
  "clients" : [ { "clientId": "x" } ]
}`
	r, list, err := readAll(t, strings.NewReader(realm), "")
	if err != nil || r.Format() != Keycloak || r.Unit() != "element" {
		t.Fatalf("%v, %v", r, err)
	}
	checkPassword(t, list[0].User.PasswordHash, "secret")
	checkPassword(t, list[1].User.PasswordHash, "admin")
	wantRecords(
		t, list,
		User{
			ID: uuid.MustParse(someID), Email: "jane@example.com", EmailVerified: true, FirstName: "Jane", LastName: "Doe", Suspended: true,
			CreatedAt:    time.UnixMilli(1508163776686).UTC(),
			PasswordHash: "$argon2id$v=19$m=7168,t=5,p=1$LRScGShC7shkdoU5B1UgUQ$xKjWvB9+0sSP6wTqI1JoEI7w+iA0x9VDhPgmrOHRG80",
		},
		User{Email: "p@example.com", PasswordHash: list[1].User.PasswordHash},
		User{Email: "old@example.com", PasswordHash: list[1].User.PasswordHash},
		"service account",
		"plain text",
		`"md5" cannot be imported`,
		"secretData",
	)
	for _, record := range list {
		if record.Err != nil && strings.Contains(record.Err.Error(), "hunter2") {
			t.Errorf("a password is told: %v", record.Err)
		}
	}
	if _, _, err := readAll(t, strings.NewReader(`{"realm":"acme","roles":{}}`), ""); err == nil || !strings.Contains(err.Error(), `no "users"`) {
		t.Errorf("an export without users: %v", err)
	}
}

// TestSupabase has auth.users in the form of `\copy (SELECT * FROM auth.users) TO … CSV HEADER` and as JSON.
func TestSupabase(t *testing.T) {
	t.Parallel()
	ada := User{
		ID: uuid.MustParse(someID), Email: "ada@example.com", PasswordHash: bcryptHash, EmailVerified: true,
		FirstName: "Ada", LastName: "Lovelace",
		CreatedAt: date("2023-01-02T03:04:05.678901Z"), LastLoginAt: date("2024-01-02T01:04:05Z"),
	}
	banned := User{Email: "ban@example.com", Suspended: true}
	over := User{Email: "over@example.com"}
	list := read(t, `instance_id,id,aud,role,email,encrypted_password,email_confirmed_at,last_sign_in_at,raw_user_meta_data,created_at,phone,banned_until,deleted_at
00000000-0000-0000-0000-000000000000,`+someID+`,authenticated,authenticated,ada@example.com,`+bcryptHash+`,2023-01-02 03:04:05+00,2024-01-02 03:04:05+02,"{""full_name"": ""Ada Lovelace"", ""n"": 1}",2023-01-02 03:04:05.678901+00,,,
,,authenticated,authenticated,ban@example.com,,,,{},,,2999-01-01 00:00:00+00,
,,authenticated,authenticated,over@example.com,,,,"not json",,,2001-01-01 00:00:00+00,
,,authenticated,authenticated,gone@example.com,,,,,,,,2001-01-01 00:00:00+00
,,authenticated,authenticated,time@example.com,,yesterday,,,,,,
`, "")
	wantRecords(t, list, ada, banned, over, "was deleted", `email_confirmed_at "yesterday" is neither true nor false, nor a time`)
	list = read(t, `[{"instance_id":"0","id":"`+someID+`","aud":"authenticated","email":"ada@example.com","encrypted_password":"`+bcryptHash+`","email_confirmed_at":"2023-01-02T03:04:05+00:00","last_sign_in_at":"2024-01-02 03:04:05+02","raw_user_meta_data":{"first_name":"Ada","last_name":"Lovelace"},"created_at":"2023-01-02T03:04:05.678901+00:00","banned_until":null},
 {"email":"ban@example.com","banned_until":"2999-01-01T00:00:00Z","raw_user_meta_data":"{\"x\":[1]}"}]`, "")
	wantRecords(t, list, ada, banned)
}

// TestKratos has the forms of Ory's "Import identities" and of the identity API.
func TestKratos(t *testing.T) {
	t.Parallel()
	list := read(t, `[
 {"id":"`+someID+`","schema_id":"default","schema_url":"x","state":"active","traits":{"email":"Ada@example.com","name":{"first":"Ada","last":"Lovelace"}},"created_at":"2023-01-02T03:04:05Z",
  "verifiable_addresses":[{"value":"other@example.com","verified":false,"via":"email"},{"value":"ada@example.com","verified":true,"via":"email","status":"completed"}],
  "credentials":{"password":{"type":"password","identifiers":["ada@example.com"],"config":{"hashed_password":"`+bcryptHash+`"}}}},
 {"traits":{"email":"b@example.com","name":"Bo Li"},"state":"inactive","credentials":{"password":{"config":{"hashed_password":"$argon2id$v=19$m=32,t=2,p=4$cm94YnRVOW5jZzFzcVE4bQ$MNzk5BtR2vUhrp6qQEjRNw"}}}},
 {"traits":{"email":"c@example.com"},"credentials":{"password":{"config":{"password":"hunter2"}}}},
 {"traits":{"username":"no-mail"}}
]`, "")
	wantRecords(
		t, list,
		User{
			ID: uuid.MustParse(someID), Email: "Ada@example.com", PasswordHash: bcryptHash, FirstName: "Ada", LastName: "Lovelace", EmailVerified: true,
			CreatedAt: date("2023-01-02T03:04:05Z"),
		},
		User{Email: "b@example.com", FirstName: "Bo", LastName: "Li", Suspended: true, PasswordHash: "$argon2id$v=19$m=32,t=2,p=4$cm94YnRVOW5jZzFzcVE4bQ$MNzk5BtR2vUhrp6qQEjRNw"},
		"plain text",
		`it has no address (email): it is the account of "no-mail"`,
	)
	lines := read(t, `{"traits":{"email":"b@example.com"}}`+"\n"+`{"traits":{"email":"c@example.com"}}`, "")
	wantRecords(t, lines, User{Email: "b@example.com"}, User{Email: "c@example.com"})
	// As jq prints objects.
	lines = read(t, "{\n  \"traits\": {\n    \"email\": \"b@example.com\"\n  }\n}\n{\n  \"traits\": {\"email\": \"c@example.com\"}\n}\n", "")
	wantRecords(t, lines, User{Email: "b@example.com"}, User{Email: "c@example.com"})
}
