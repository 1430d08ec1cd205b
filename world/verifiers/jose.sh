#!/bin/sh
# Checks the signature of one access token with the command jose: jose.sh TOKEN ALGORITHM ISSUER AUDIENCE < jwks.json.
# Exit code 0: it is good, 3: refused.
token=$(mktemp)
trap 'rm -f "$token"' EXIT
printf %s "$1" > "$token"
said=$(jose jws ver -i "$token" -k - -O /dev/null 2>&1) || { echo "jose jws ver: $said"; exit 3; }
