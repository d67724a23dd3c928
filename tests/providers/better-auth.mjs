// better-auth: answers slow_down to a device that polls too fast, and its `interval` and expiry can be set.
// Usage: node better-auth.mjs [--interval=SECONDS] [--expires-in=SECONDS]   for all device codes (default 5 and 600)
import { listen, ready } from './ready.mjs';
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { oauthDeviceAuthorization, oauthProvider } from '@better-auth/oauth-provider';
import { betterAuth } from 'better-auth';
import { memoryAdapter } from 'better-auth/adapters/memory';
import { toNodeHandler } from 'better-auth/node';
import { jwt } from 'better-auth/plugins';

const { values: options } = parseArgs({
  options: { interval: { type: 'string', default: '5' }, 'expires-in': { type: 'string', default: '600' } },
});
const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code';
const person = { login: 'alice@example.test', password: 'password1234' };

// The memory adapter finds only tables that exist.
const TABLES = [
  'user', 'session', 'account', 'verification', 'jwks', 'rateLimit', 'deviceCode', 'oauthClient', 'oauthResource', 'oauthClientResource',
  'oauthAccessToken', 'oauthRefreshToken', 'oauthConsent', 'oauthClientAssertion',
];

const { server, origin } = await listen();
const auth = betterAuth({
  baseURL: origin,
  secret: randomBytes(32).toString('base64'),
  database: memoryAdapter(Object.fromEntries(TABLES.map((table) => [table, []]))),
  telemetry: { enabled: false },
  emailAndPassword: { enabled: true },
  rateLimit: { enabled: false },
  trustedOrigins: [origin],
  plugins: [
    jwt(),
    oauthProvider({
      loginPage: '/login',
      consentPage: '/consent',
      scopes: ['openid', 'profile', 'email', 'offline_access'],
      grantTypes: ['authorization_code', 'refresh_token', 'client_credentials', DEVICE_GRANT],
      silenceWarnings: { oauthAuthServerConfig: true, openidConfig: true },
    }),
    oauthDeviceAuthorization({
      verificationUri: '/device',
      interval: `${options.interval}s`,
      expiresIn: `${options['expires-in']}s`,
    }),
  ],
});
server.on('request', toNodeHandler(auth));

async function signIn() {
  const { login: email, password } = person;
  await auth.api.signUpEmail({ body: { email, password, name: 'Alice' } });
  const { headers } = await auth.api.signInEmail({ body: { email, password }, returnHeaders: true });
  const cookie = headers.getSetCookie().map((line) => line.split(';', 1)[0]).join('; ');
  return new Headers({ cookie, origin });
}

async function register(headers, client_name, auth_method, grant_types) {
  const body = { client_name, token_endpoint_auth_method: auth_method, grant_types, scope: 'openid profile email offline_access' };
  const { client_id: id, client_secret: secret } = await auth.api.adminCreateOAuthClient({ headers, body });
  return { id, secret, auth: auth_method };
}

const headers = await signIn();
const grants = [DEVICE_GRANT, 'refresh_token'];
const clients = {
  public: await register(headers, 'public', 'none', grants),
  basic: await register(headers, 'basic', 'client_secret_basic', grants),
  post: await register(headers, 'post', 'client_secret_post', grants),
  no_device: await register(headers, 'no_device', 'client_secret_basic', ['client_credentials']),
};
ready({ issuer: `${origin}/api/auth`, person, clients });
