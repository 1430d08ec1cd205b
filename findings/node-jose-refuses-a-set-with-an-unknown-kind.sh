#!/usr/bin/env bash
# node-jose 2.2.0 (npm): JWK.asKeyStore refuses a whole JWK set when one of its keys is of a kind that it does not know,
# such as Ed25519 ("unsupported key type"). RFC 7517, section 5: implementations should ignore such keys. So an issuer that
# adds a key of a newer kind, or changes from one to another, locks its users out although their own key is in the set.
#
# Seen: a set with a P-256 key is taken, the same set with an Ed25519 key beside it is refused.
# What helps: filter the set by "kty" before it is handed over, or use jose.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' > package.json
npm install --ignore-scripts --no-audit --no-fund --no-package-lock --save-exact --loglevel=error node-jose@2.2.0 >/dev/null
cat > main.js <<'M'
const { generateKeyPairSync } = require('node:crypto')
const { JWK } = require('node-jose')

const jwk = (type, options) => ({ ...generateKeyPairSync(type, options).publicKey.export({ format: 'jwk' }), use: 'sig', kid: type })
const said = (keys) => JWK.asKeyStore({ keys }).then(() => 'taken', (e) => `refused: ${e.message}`)

;(async () => {
  const ec = jwk('ec', { namedCurve: 'P-256' })
  const alone = await said([ec])
  const beside = await said([ec, jwk('ed25519')])
  console.log(`node-jose 2.2.0: P-256 alone ${alone}; beside Ed25519 ${beside}`)
  process.exit(alone === 'taken' && beside === 'refused: unsupported key type' ? 0 : 1)
})()
M
node main.js || { echo "the behaviour has changed" >&2; exit 1; }
