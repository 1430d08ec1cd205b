// Checks access tokens with packages of npm. Reads a JSON list of {name, issuer, audience, jwksUri, algorithm, token}
// from standard input, one entry for each case; writes a list of {name, error} in the same order, without an error if
// the package accepted the token. Each package is used as its own documentation shows.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)

const bearer = (c) => ({ headers: { authorization: `Bearer ${c.token}` } })

// asked serves handler on a port of its own, sends it a request with the token, and fails unless it answers 200.
async function asked(c, handler) {
  const server = createServer(handler)
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    const response = await fetch(`http://127.0.0.1:${server.address().port}/`, bearer(c))
    if (response.status !== 200) throw new Error(`${response.status} ${(await response.text()).trim()}`)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

// Express and packages with its interface: a middleware that calls next if the token is good.
async function askedExpress(c, ...middleware) {
  const express = require('express')
  const app = express()
  app.use(...middleware)
  app.get('/', (_req, res) => res.send('ok'))
  app.use((err, _req, res, _next) => res.status(err.status ?? 500).send(err.message))
  await asked(c, app)
}

const verifiers = {
  async jose(c) {
    const { createRemoteJWKSet, jwtVerify } = await import('jose')
    await jwtVerify(c.token, createRemoteJWKSet(new URL(c.jwksUri)), { issuer: c.issuer, audience: c.audience })
  },
  async 'jsonwebtoken'(c) {
    const jwt = require('jsonwebtoken')
    const client = require('jwks-rsa')({ jwksUri: c.jwksUri })
    const key = (header, done) => client.getSigningKey(header.kid).then((k) => done(null, k.getPublicKey()), done)
    await new Promise((resolve, reject) =>
      jwt.verify(c.token, key, { algorithms: [c.algorithm], issuer: c.issuer, audience: c.audience }, (e, claims) => (e ? reject(e) : resolve(claims))),
    )
  },
  async 'express-jwt'(c) {
    const { expressjwt } = require('express-jwt')
    const secret = require('jwks-rsa').expressJwtSecret({ jwksUri: c.jwksUri })
    await askedExpress(c, expressjwt({ secret, algorithms: [c.algorithm], issuer: c.issuer, audience: c.audience }))
  },
  async 'passport-jwt'(c) {
    const { Passport } = require('passport')
    const { Strategy, ExtractJwt } = require('passport-jwt')
    const passport = new Passport()
    const options = {
      jwtFromRequest: ExtractJwt.fromAuthHeaderAsBearerToken(), issuer: c.issuer, audience: c.audience, algorithms: [c.algorithm],
      secretOrKeyProvider: require('jwks-rsa').passportJwtSecret({ jwksUri: c.jwksUri }),
    }
    passport.use(new Strategy(options, (claims, done) => done(null, claims)))
    await askedExpress(c, passport.authenticate('jwt', { session: false }))
  },
  async 'koa-jwt'(c) {
    const Koa = require('koa')
    const app = new Koa()
    app.silent = true
    const secret = require('jwks-rsa').koaJwtSecret({ jwksUri: c.jwksUri })
    app.use(require('koa-jwt')({ secret, algorithms: [c.algorithm], issuer: c.issuer, audience: c.audience }))
    app.use((ctx) => { ctx.body = 'ok' })
    await asked(c, app.callback())
  },
  async 'fast-jwt'(c) {
    const { createVerifier } = require('fast-jwt')
    const { createPublicKey } = require('node:crypto')
    const { keys } = await (await fetch(c.jwksUri)).json()
    const key = async ({ header }) => createPublicKey({ key: keys.find((k) => k.kid === header.kid), format: 'jwk' }).export({ type: 'spki', format: 'pem' })
    await createVerifier({ key, algorithms: [c.algorithm], allowedIss: c.issuer, allowedAud: c.audience })(c.token)
  },
  async 'get-jwks'(c) {
    const { createVerifier } = require('fast-jwt')
    const jwks = require('get-jwks')({ issuersWhitelist: [c.issuer] })
    const key = ({ header, payload }) => jwks.getPublicKey({ kid: header.kid, alg: header.alg, domain: payload.iss })
    await createVerifier({ key, algorithms: [c.algorithm], allowedIss: c.issuer, allowedAud: c.audience })(c.token)
  },
  async '@fastify/jwt'(c) {
    const app = require('fastify')()
    const jwks = require('get-jwks')({ issuersWhitelist: [c.issuer] })
    await app.register(require('@fastify/jwt'), {
      decode: { complete: true },
      secret: (_request, { header, payload }) => jwks.getPublicKey({ kid: header.kid, alg: header.alg, domain: payload.iss }),
      verify: { algorithms: [c.algorithm], allowedIss: c.issuer, allowedAud: c.audience },
    })
    app.get('/', async (request) => { await request.jwtVerify(); return 'ok' })
    try {
      const response = await app.inject({ url: '/', ...bearer(c) })
      if (response.statusCode !== 200) throw new Error(response.body)
    } finally {
      await app.close()
    }
  },
  async '@hapi/jwt'(c) {
    const server = require('@hapi/hapi').server()
    await server.register(require('@hapi/jwt'))
    server.auth.strategy('jwt', 'jwt', {
      keys: { uri: c.jwksUri, algorithms: [c.algorithm] },
      verify: { iss: c.issuer, aud: c.audience, sub: false },
      validate: () => ({ isValid: true }),
    })
    server.auth.default('jwt')
    server.route({ method: 'GET', path: '/', handler: () => 'ok' })
    await server.initialize()
    try {
      const response = await server.inject({ url: '/', ...bearer(c) })
      if (response.statusCode !== 200) throw new Error(response.payload)
    } finally {
      await server.stop()
    }
  },
  async 'express-oauth2-jwt-bearer'(c) {
    const { auth } = require('express-oauth2-jwt-bearer')
    await askedExpress(c, auth({ issuerBaseURL: c.issuer, audience: c.audience, tokenSigningAlg: c.algorithm }))
  },
  async oauth4webapi(c) {
    const oauth = await import('oauth4webapi')
    const insecure = { [oauth.allowInsecureRequests]: true }
    const issuer = new URL(c.issuer)
    const server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure }))
    const request = new Request('http://127.0.0.1/', bearer(c))
    await oauth.validateJwtAccessToken(server, request, c.audience, { signingAlgorithms: [c.algorithm], ...insecure })
  },
  async 'openid-client'(c) {
    const client = await import('openid-client')
    const { createRemoteJWKSet, jwtVerify } = await import('jose')
    const found = await client.discovery(new URL(c.issuer), 'a-client', undefined, undefined, { execute: [client.allowInsecureRequests] })
    const { issuer, jwks_uri } = found.serverMetadata()
    await jwtVerify(c.token, createRemoteJWKSet(new URL(jwks_uri)), { issuer, audience: c.audience })
  },
  async hono(c) {
    const { Hono } = await import('hono')
    const { jwk } = await import('hono/jwk')
    const app = new Hono()
    app.use(jwk({ jwks_uri: c.jwksUri, alg: [c.algorithm], verification: { iss: c.issuer, aud: c.audience } }))
    app.get('/', (context) => context.text('ok'))
    const response = await app.request('/', bearer(c))
    if (response.status !== 200) throw new Error(`${response.status} ${response.headers.get('www-authenticate') ?? ''}`)
  },
  async 'aws-jwt-verify'(c) {
    const { JwtVerifier } = require('aws-jwt-verify')
    const verifier = JwtVerifier.create({ issuer: c.issuer, audience: c.audience, jwksUri: c.jwksUri })
    verifier.cacheJwks(await (await fetch(c.jwksUri)).json()) // by itself it only fetches from https
    verifier.verifySync(c.token)
  },
  async jsrsasign(c) {
    const { KEYUTIL, KJUR } = require('jsrsasign')
    const { keys } = await (await fetch(c.jwksUri)).json()
    const { kid } = JSON.parse(Buffer.from(c.token.split('.')[0], 'base64url'))
    const key = KEYUTIL.getKey(keys.find((k) => k.kid === kid))
    if (!KJUR.jws.JWS.verifyJWT(c.token, key, { alg: [c.algorithm], iss: [c.issuer], aud: [c.audience] })) throw new Error('false')
  },
  async 'node-jose'(c) {
    const { JWK, JWS } = require('node-jose')
    const keys = await JWK.asKeyStore(await (await fetch(c.jwksUri)).json())
    await JWS.createVerify(keys).verify(c.token)
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
process.stdout.write(JSON.stringify(results), () => process.exit(0))
