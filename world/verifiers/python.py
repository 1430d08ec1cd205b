"""Checks access tokens with Debian's Python packages; in and out as in node.mjs."""
import json
import sys
import urllib.request


def fetch(url):
    with urllib.request.urlopen(url) as response:
        return json.load(response)


def pyjwt(c):
    import jwt
    key = jwt.PyJWKClient(c["jwksUri"]).get_signing_key_from_jwt(c["token"])
    jwt.decode(c["token"], key.key, algorithms=[c["algorithm"]], issuer=c["issuer"], audience=c["audience"])


def python_jose(c):
    from jose import jwt
    jwt.decode(c["token"], fetch(c["jwksUri"]), algorithms=[c["algorithm"]], issuer=c["issuer"], audience=c["audience"])


def authlib(c):
    from authlib.jose import JsonWebKey, JsonWebToken
    keys = JsonWebKey.import_key_set(fetch(c["jwksUri"]))
    claims = JsonWebToken([c["algorithm"]]).decode(c["token"], keys, claims_options={
        "iss": {"essential": True, "value": c["issuer"]}, "aud": {"essential": True, "value": c["audience"]}})
    claims.validate()


def jwcrypto(c):
    from jwcrypto import jwk, jwt
    keys = jwk.JWKSet.from_json(json.dumps(fetch(c["jwksUri"])))
    jwt.JWT(jwt=c["token"], key=keys, algs=[c["algorithm"]], check_claims={"iss": c["issuer"], "aud": c["audience"]})


VERIFIERS = {"python3-jwt": pyjwt, "python3-jose": python_jose, "python3-authlib": authlib, "python3-jwcrypto": jwcrypto}

results = []
for case in json.load(sys.stdin):
    try:
        VERIFIERS[case["name"]](case)
        results.append({"name": case["name"]})
    except Exception as e:  # any error means that the token is refused
        results.append({"name": case["name"], "error": f"{type(e).__name__}: {e}".split("\n")[0]})
json.dump(results, sys.stdout)
