// Command go checks access tokens with Go modules; its input and output are those of ../node.mjs. It is a separate
// module, so that Latchkey depends on none of these modules.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/auth0/go-jwt-middleware/v2/jwks"
	"github.com/auth0/go-jwt-middleware/v2/validator"
	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v3/jwk"
	jwxjwt "github.com/lestrrat-go/jwx/v3/jwt"
	"github.com/zitadel/oidc/v3/pkg/client"
	"github.com/zitadel/oidc/v3/pkg/client/rp"
	zitadel "github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

type verification struct {
	Name      string `json:"name"`
	Issuer    string `json:"issuer"`
	Audience  string `json:"audience"`
	JWKSURI   string `json:"jwksUri"`
	Algorithm string `json:"algorithm"`
	Token     string `json:"token"`
}

type verdict struct {
	Name  string `json:"name"`
	Error string `json:"error,omitempty"`
}

func main() {
	var cases []verification
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		panic(err)
	}
	verifiers := map[string]func(context.Context, verification) error{
		"github.com/coreos/go-oidc/v3":          goOIDC,
		"github.com/lestrrat-go/jwx/v3":         jwx,
		"github.com/MicahParks/keyfunc/v3":      golangJWT,
		"github.com/go-jose/go-jose/v4":         goJOSE,
		"github.com/zitadel/oidc/v3":            zitadelOIDC,
		"github.com/auth0/go-jwt-middleware/v2": auth0,
	}
	verdicts := make([]verdict, len(cases))
	for i, c := range cases {
		verdicts[i].Name = c.Name
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if err := verifiers[c.Name](ctx, c); err != nil {
			verdicts[i].Error, _, _ = strings.Cut(err.Error(), "\n")
		}
		cancel()
	}
	if err := json.NewEncoder(os.Stdout).Encode(verdicts); err != nil {
		panic(err)
	}
}

// goOIDC reads the algorithms from the discovery document.
func goOIDC(ctx context.Context, c verification) error {
	provider, err := oidc.NewProvider(ctx, c.Issuer)
	if err != nil {
		return err
	}
	_, err = provider.Verifier(&oidc.Config{ClientID: c.Audience}).Verify(ctx, c.Token)
	return err
}

func jwx(ctx context.Context, c verification) error {
	set, err := jwk.Fetch(ctx, c.JWKSURI)
	if err != nil {
		return err
	}
	_, err = jwxjwt.Parse([]byte(c.Token), jwxjwt.WithKeySet(set), jwxjwt.WithIssuer(c.Issuer), jwxjwt.WithAudience(c.Audience))
	return err
}

func golangJWT(ctx context.Context, c verification) error {
	keys, err := keyfunc.NewDefaultCtx(ctx, []string{c.JWKSURI})
	if err != nil {
		return err
	}
	_, err = jwt.Parse(c.Token, keys.Keyfunc, jwt.WithValidMethods([]string{c.Algorithm}), jwt.WithIssuer(c.Issuer), jwt.WithAudience(c.Audience))
	return err
}

func goJOSE(ctx context.Context, c verification) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.JWKSURI, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var set jose.JSONWebKeySet
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		return err
	}
	parsed, err := josejwt.ParseSigned(c.Token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(c.Algorithm)})
	if err != nil {
		return err
	}
	var claims josejwt.Claims
	if err := parsed.Claims(set, &claims); err != nil {
		return err
	}
	return claims.Validate(josejwt.Expected{Issuer: c.Issuer, AnyAudience: josejwt.Audience{c.Audience}})
}

func zitadelOIDC(ctx context.Context, c verification) error {
	found, err := client.Discover(ctx, c.Issuer, http.DefaultClient)
	if err != nil {
		return err
	}
	keys := rp.NewRemoteKeySet(http.DefaultClient, found.JwksURI)
	verifier := op.NewAccessTokenVerifier(found.Issuer, keys, op.WithSupportedAccessTokenSigningAlgorithms(found.IDTokenSigningAlgValuesSupported...))
	claims, err := op.VerifyAccessToken[*zitadel.AccessTokenClaims](ctx, c.Token, verifier)
	if err == nil && (len(claims.Audience) != 1 || claims.Audience[0] != c.Audience) {
		err = errors.New("another audience")
	}
	return err
}

func auth0(ctx context.Context, c verification) error {
	issuer, err := url.Parse(c.Issuer)
	if err != nil {
		return err
	}
	keys := jwks.NewCachingProvider(issuer, time.Minute)
	v, err := validator.New(keys.KeyFunc, validator.SignatureAlgorithm(c.Algorithm), c.Issuer, []string{c.Audience})
	if err != nil {
		return fmt.Errorf("validator: %w", err)
	}
	_, err = v.ValidateToken(ctx, c.Token)
	return err
}
