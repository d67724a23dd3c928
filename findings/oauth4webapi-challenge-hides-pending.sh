#!/usr/bin/env bash
# oauth4webapi 3.8.8 and openid-client 6.9.0 (npm; the second polls with the first), run on Node.js 20.20.2
#
# Expected: a poll that is answered with {"error":"authorization_pending"} goes on, whatever other headers the
#   answer has. WWW-Authenticate is only information there; with a 401 HTTP even demands it.
# Instead: with that header, at 400 as at 401, the body is not looked at: the error is a
#   WWWAuthenticateChallengeError without .error, and openid-client's polling ends the sign-in with it. Without the
#   header both statuses are "pending".
#
# Seen 2026-11-30:
#   400 plain: authorization_pending
#   401 plain: authorization_pending
#   400 with WWW-Authenticate: OAUTH_WWW_AUTHENTICATE_CHALLENGE
#   401 with WWW-Authenticate: OAUTH_WWW_AUTHENTICATE_CHALLENGE
#   openid-client, header on the first poll: OAUTH_WWW_AUTHENTICATE_CHALLENGE after 1 poll
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "Node.js $(node --version)"
cd "$work"
npm install --silent --no-audit --no-fund --save-exact oauth4webapi@3.8.8 openid-client@6.9.0
cat >run.mjs <<'JS'
import assert from 'node:assert'
import http from 'node:http'
import * as oauth from 'oauth4webapi'
import * as client from 'openid-client'

const challenge = { 'www-authenticate': 'Basic realm="token"' }
const pending = JSON.stringify({ error: 'authorization_pending' })

const seen = []
for (const [name, extra] of [['plain', {}], ['with WWW-Authenticate', challenge]]) {
  for (const status of [400, 401]) {
    const answer = new Response(pending, { status, headers: { 'content-type': 'application/json', ...extra } })
    const error = await oauth.processDeviceCodeResponse({ issuer: 'http://127.0.0.1' }, { client_id: 'd' }, answer).catch((e) => e)
    seen.push(error.error ?? error.code)
    console.log(`${status} ${name}: ${seen.at(-1)}`)
  }
}

let polls = 0
const server = http.createServer((request, response) => {
  request.resume()
  polls += 1
  const first = polls === 1
  response.writeHead(first ? 400 : 200, { 'content-type': 'application/json', ...(first ? challenge : {}) })
  response.end(first ? pending : JSON.stringify({ access_token: 't', token_type: 'bearer' }))
}).listen(0, '127.0.0.1')
await new Promise((listening) => server.once('listening', listening))
const issuer = `http://127.0.0.1:${server.address().port}`
const config = new client.Configuration({ issuer, token_endpoint: `${issuer}/token` }, 'd')
client.allowInsecureRequests(config)
const error = await client.pollDeviceAuthorizationGrant(config,
  { device_code: 'c', user_code: 'u', verification_uri: issuer, expires_in: 60, interval: 1 }).catch((e) => e)
server.close()
console.log(`openid-client, header on the first poll: ${error.code ?? 'signed in'} after ${polls} poll`)
assert.deepEqual([...seen, error.code, polls], ['authorization_pending', 'authorization_pending',
  'OAUTH_WWW_AUTHENTICATE_CHALLENGE', 'OAUTH_WWW_AUTHENTICATE_CHALLENGE', 'OAUTH_WWW_AUTHENTICATE_CHALLENGE', 1], 'no longer as described')
JS
node run.mjs
