#!/usr/bin/env bash
# @azure/msal-node 7.2.3 (npm), protocol mode OIDC, run on Node.js 20.20.2
#
# Expected: slow_down is a kind of authorization_pending (RFC 8628, 3.5): the client goes on, 5 s slower.
# Instead: acquireTokenByDeviceCode rejects at once with an AuthError; authorization_pending alone goes on. A server
#   that asks this client for patience ends the sign-in.
#
# Seen 2026-11-30:
#   answers given: authorization_pending, slow_down
#   acquireTokenByDeviceCode: post_request_failed slow_down
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "Node.js $(node --version)"
cd "$work"
npm install --silent --no-audit --no-fund --save-exact @azure/msal-node@7.2.3
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem 2>/dev/null
cat >run.mjs <<'JS'
import assert from 'node:assert'
import fs from 'node:fs'
import https from 'node:https'
import { PublicClientApplication } from '@azure/msal-node'

const given = []
const token = () => {
  given.push(['authorization_pending', 'slow_down'][given.length] ?? 'tokens')
  return given.at(-1) === 'tokens' ? [200, { access_token: 't', token_type: 'Bearer', expires_in: 60 }] : [400, { error: given.at(-1) }]
}
const server = https.createServer({ key: fs.readFileSync('key.pem'), cert: fs.readFileSync('cert.pem') }, (request, response) => {
  request.resume()
  const path = new URL(request.url, base).pathname
  const [status, body] =
    path.endsWith('/openid-configuration') ? [200, { issuer: base, authorization_endpoint: `${base}/authorize`, token_endpoint: `${base}/token`, jwks_uri: `${base}/jwks` }]
    : path === '/devicecode' ? [200, { device_code: 'c', user_code: 'u', verification_uri: base, expires_in: 60, interval: 1, message: 'go there' }]
    : token()
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}).listen(0, '127.0.0.1')
await new Promise((listening) => server.once('listening', listening))
const base = `https://127.0.0.1:${server.address().port}`

const app = new PublicClientApplication({ auth: { clientId: 'device', authority: base, protocolMode: 'OIDC', knownAuthorities: [new URL(base).host] } })
const outcome = await app.acquireTokenByDeviceCode({ scopes: ['openid'], deviceCodeCallback() {} }).then(() => 'signed in', (e) => `${e.errorCode} ${e.errorMessage}`)
console.log(`answers given: ${given.join(', ')}`)
console.log(`acquireTokenByDeviceCode: ${outcome}`)
assert.deepEqual([given.length, outcome], [2, 'post_request_failed slow_down'], 'no longer as described')
process.exit()
JS
NODE_EXTRA_CA_CERTS=cert.pem node run.mjs
