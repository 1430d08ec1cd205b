// Checks access tokens with packages of npm. Reads a JSON list of {name, issuer, audience, jwksUri, algorithm, token} on
// standard input, one entry a case; writes a list of {name, error}, in the same order, without an error where the
// package took the token. Each package is used as its own documentation shows.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)

const verifiers = {
  async jose(c) {
    const { createRemoteJWKSet, jwtVerify } = await import('jose')
    await jwtVerify(c.token, createRemoteJWKSet(new URL(c.jwksUri)), { issuer: c.issuer, audience: c.audience, typ: c.type })
  },
}

const results = []
for (const c of JSON.parse(readFileSync(0, 'utf8'))) {
  try {
    await verifiers[c.name](c)
    results.push({ name: c.name })
  } catch (e) {
    results.push({ name: c.name, error: `${e?.name ?? 'Error'}: ${e?.message ?? e}`.split('\n')[0] })
  }
}
process.stdout.write(JSON.stringify(results))
process.exit(0)
