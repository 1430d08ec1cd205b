// Checks the access token of a request: 204 if it is good, 401 if it is not.
import fs from 'fs'

const algorithms = {
    ES256: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
    RS256: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
    EdDSA: { name: 'Ed25519' },
}

async function verify(token, v) {
    const parts = token.split('.')
    const header = JSON.parse(Buffer.from(parts[0], 'base64url'))
    const claims = JSON.parse(Buffer.from(parts[1], 'base64url'))
    if (parts.length !== 3 || header.alg !== v.token_algorithm) throw new Error('another algorithm')
    if (!/^[\w-]+$/.test(header.kid)) throw new Error('no kid')
    const algorithm = algorithms[header.alg]
    const pem = fs.readFileSync(`${v.token_keys}/${header.kid}.pem`, 'utf8')
    const der = Buffer.from(pem.replace(/-----[A-Z ]+-----|\s/g, ''), 'base64')
    const key = await crypto.subtle.importKey('spki', der, algorithm, false, ['verify'])
    const good = await crypto.subtle.verify(algorithm, key, Buffer.from(parts[2], 'base64url'), Buffer.from(`${parts[0]}.${parts[1]}`))
    if (!good) throw new Error('the signature is wrong')
    if (claims.iss !== v.token_issuer) throw new Error('another issuer')
    if (claims.aud !== v.token_audience) throw new Error('another audience')
    if (!(claims.exp > Date.now() / 1000)) throw new Error('expired')
}

async function check(r) {
    try {
        const found = /^Bearer ([\w.-]+)$/i.exec(r.headersIn.Authorization || '')
        if (!found) throw new Error('no token')
        await verify(found[1], r.variables)
        r.return(204)
    } catch (e) {
        r.error(`access token refused: ${e.message}`)
        r.return(401)
    }
}

export default { check }
