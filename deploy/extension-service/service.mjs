// An extension service for Pawl: answers allocate_k8s_token as ePoxy's does. Needs Node.js 22 and the package jose (npm install jose).
//
// It believes nobody but Pawl: the JWT must be signed by a key of Pawl's set, be made for this URL and this body, be of this minute,
// and be used once. What it hands out is a stand-in, the same for everyone: put a call to your cluster into `allocate`.
//
//   PAWL_ISSUER   as `pawl extension keys` prints it, https://boot.example.com:8443/v1/extensions
//   PAWL_JWKS     a file with the key set ({"keys": [...]}, from ISSUER/jwks.json), read again for a key that is not known;
//                 left out, it is fetched from there (NODE_EXTRA_CA_CERTS=ca.crt trusts Pawl's own CA)
//   AUDIENCE      this service's URL, as the extension has it
//   CERT, KEY     files: our certificate and key; without them it speaks HTTP, for a network that is closed
//   PORT          8480
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer as createHttp } from 'node:http'
import { createServer as createHttps } from 'node:https'
import { createLocalJWKSet, createRemoteJWKSet, jwtVerify } from 'jose'

const { PAWL_ISSUER, PAWL_JWKS, AUDIENCE, CERT, KEY, PORT = '8480' } = process.env
if (PAWL_ISSUER === undefined || AUDIENCE === undefined) throw new Error('PAWL_ISSUER and AUDIENCE must be set')

const keys =
  PAWL_JWKS === undefined
    ? createRemoteJWKSet(new URL(`${PAWL_ISSUER}/jwks.json`))
    : (header, token) => createLocalJWKSet(JSON.parse(readFileSync(PAWL_JWKS, 'utf8')))(header, token)

/** Who has asked within the last minutes: a JWT is good for 60 s, and once. With several processes, keep this in one place. */
const used = new Map()
const maxUsed = 100_000

async function check(request, body) {
  const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '')?.[1]
  if (token === undefined) throw new Error('no JWT')
  const { payload } = await jwtVerify(token, keys, {
    algorithms: ['ES256'],
    typ: 'pawl-extension+jwt',
    issuer: PAWL_ISSUER,
    audience: AUDIENCE,
    maxTokenAge: '60s',
    clockTolerance: 5,
    requiredClaims: ['sub', 'jti', 'iat', 'exp', 'operation', 'session', 'body_sha256'],
  })
  if (payload.body_sha256 !== createHash('sha256').update(body).digest('base64url'))
    throw new Error('the JWT is for another body')
  const now = Date.now()
  for (const [jti, until] of used) {
    if (until > now) break // they are in the order of their time
    used.delete(jti)
  }
  if (used.has(payload.jti)) throw new Error('the JWT was used before')
  if (used.size >= maxUsed) throw new Error('too many questions in a minute')
  used.set(payload.jti, now + 120_000)
  return payload
}

/** A stand-in: make a bootstrap token of this node's own here. */
function allocate() {
  return {
    api_address: 'api.example.com:6443',
    token: 'abcdef.0123456789abcdef',
    ca_hash: `sha256:${'0'.repeat(64)}`,
  }
}

const maxBody = 16 * 1024
const maxBootSeconds = 120 * 60

async function answer(request, response) {
  const chunks = []
  let bytes = 0
  for await (const chunk of request) {
    bytes += chunk.length
    if (bytes > maxBody) return end(response, 413, { error: 'too large' })
    chunks.push(chunk)
  }
  const body = Buffer.concat(chunks)
  let who
  try {
    who = await check(request, body)
  } catch (error) {
    console.error(`refused: ${error.message}`)
    return end(response, 403, { error: 'refused' })
  }
  if (who.operation !== 'allocate_k8s_token') return end(response, 404, { error: 'unknown operation' })
  const { v1 } = JSON.parse(body.toString())
  // As ePoxy's service has it: a boot that began two hours ago is none.
  if (Date.now() - Date.parse(v1.last_boot) > maxBootSeconds * 1000) return end(response, 408, { error: 'too late' })
  console.error(`a token for ${who.sub}, session ${who.session}, ${who.jti}`)
  end(response, 200, allocate())
}

function end(response, status, value) {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))
}

const handle = (request, response) =>
  answer(request, response).catch((error) => {
    console.error(error.message)
    response.destroy()
  })
const server =
  CERT === undefined || KEY === undefined
    ? createHttp(handle)
    : createHttps({ cert: readFileSync(CERT), key: readFileSync(KEY) }, handle)
server.requestTimeout = 10_000
server.listen(Number(PORT), () => console.log(`listening on ${server.address().port}`))
