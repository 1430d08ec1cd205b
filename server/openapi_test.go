package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// openAPI reads the description that the server serves.
func openAPI(t *testing.T, s *testenv.Server) (document map[string]any, schemas *jsonschema.Compiler) {
	t.Helper()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.HTTP+"/openapi.json", http.NoBody)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	raw, err := jsonschema.UnmarshalJSON(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", resp.Status, err)
	}
	schemas = jsonschema.NewCompiler()
	if err := schemas.AddResource("openapi.json", raw); err != nil {
		t.Fatal(err)
	}
	return raw.(map[string]any), schemas //nolint:forcetypeassert // it fails the test
}

// The description has every method that HTTP serves, and says how callers prove who they are.
func TestOpenAPIHasEveryMethod(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	document, _ := openAPI(t, s)
	paths, _ := document["paths"].(map[string]any)
	for service, methods := range everyMethod() {
		for _, method := range methods {
			item, _ := paths["/"+service+"/"+method].(map[string]any)
			if item["post"] == nil || len(item) != 1 {
				t.Errorf("/%s/%s: %v", service, method, item)
			}
		}
	}
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	for service, scheme := range map[string]string{
		"AuthService/Login": "null", "AccountService/GetAccount": `[{"session":[]}]`, "AdminService/GetUser": `[{"operatorKey":[]}]`,
		"RevocationService/WatchRevocations": `[{"serviceKey":[]}]`,
	} {
		post, _ := paths["/latchkey.v1."+service].(map[string]any)["post"].(map[string]any)
		if got, err := json.Marshal(post["security"]); err != nil || string(got) != scheme {
			t.Errorf("%s: %s, %v", service, got, err)
		}
	}
	if strings.Contains(string(text), "= true //") || document["info"].(map[string]any)["title"] != "Latchkey" { //nolint:forcetypeassert // it fails the test
		t.Error("the description was not mended")
	}
}

// What the service answers is what the description says, also for messages with a oneof and for errors with details.
func TestOpenAPIDescribesAnswers(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	_, schemas := openAPI(t, s)
	check := func(method, body, schema, authorization string, status int) {
		t.Helper()
		compiled, err := schemas.Compile("openapi.json#/components/schemas/" + schema)
		if err != nil {
			t.Fatal(err)
		}
		resp, text := post(t, s.HTTP+"/latchkey.v1."+method, "application/json", body, "Authorization", authorization)
		instance, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil || resp.StatusCode != status {
			t.Fatalf("%s: %d %s, %v", method, resp.StatusCode, text, err)
		}
		if err := compiled.Validate(instance); err != nil {
			t.Errorf("%s answers %s\n%v", method, text, err)
		}
	}
	const signUp = `{"email":"` + email + `","password":"` + password + `","firstName":"Ada","lastName":"Lovelace"}`
	const login = `{"email":"` + email + `","password":"` + password + `"}`
	check("AuthService/SignUp", signUp, "latchkey.v1.SignUpResponse", "", http.StatusOK)
	check("AuthService/SignUp", signUp, "connect.error", "", http.StatusConflict)
	check("AuthService/SignUp", `{}`, "connect.error", "", http.StatusBadRequest)
	check("AuthService/Login", login, "latchkey.v1.LoginResponse", "", http.StatusOK)
	tokens := logIn(t, s, email)
	bearer := "Bearer " + tokens.GetAccessToken()
	check("AccountService/GetAccount", `{}`, "latchkey.v1.GetAccountResponse", bearer, http.StatusOK)
	check("SessionService/ListSessions", `{}`, "latchkey.v1.ListSessionsResponse", bearer, http.StatusOK)
	check("AccountService/ListActivity", `{}`, "latchkey.v1.ListActivityResponse", bearer, http.StatusOK)
	check("AdminService/ListUsers", `{}`, "latchkey.v1.ListUsersResponse", "Bearer "+testenv.AdminKey, http.StatusOK)
	check("AuthService/ValidateToken", `{"accessToken":"`+tokens.GetAccessToken()+`"}`, "latchkey.v1.ValidateTokenResponse", "", http.StatusOK)
	enrol(t, s, tokens.GetAccessToken())
	check("AuthService/Login", login, "latchkey.v1.LoginResponse", "", http.StatusOK)
	check("AccountService/ListFactors", `{}`, "latchkey.v1.ListFactorsResponse", bearer, http.StatusOK)
	resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
	if err != nil || resp.GetChallenge() == nil {
		t.Errorf("no challenge was checked: %v, %v", resp, err)
	}
}
