// oidc-provider: a second redemption of a device code revokes all that it issued, and no `interval` is ever sent.
// Usage: node oidc-provider.mjs [--expires-in=SECONDS]   how long a code of the client `short` lives (default 3)
import { listen, ready } from './ready.mjs';
import { parseArgs } from 'node:util';
import { Provider } from 'oidc-provider';

const { values: options } = parseArgs({ options: { 'expires-in': { type: 'string', default: '3' } } });
const shortLife = Number(options['expires-in']);
const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code';
const person = { login: 'alice', password: 'any password does' };

const device = (client) => ({ grant_types: [DEVICE_GRANT, 'refresh_token'], response_types: [], redirect_uris: [], ...client });
const clients = {
  public: device({ client_id: 'dev-public', token_endpoint_auth_method: 'none' }),
  basic: device({ client_id: 'dev-basic', client_secret: 'test-only-basic', token_endpoint_auth_method: 'client_secret_basic' }),
  post: device({ client_id: 'dev-post', client_secret: 'test-only-post', token_endpoint_auth_method: 'client_secret_post' }),
  short: device({ client_id: 'dev-short', token_endpoint_auth_method: 'none' }),
  no_device: device({
    client_id: 'dev-no-device',
    client_secret: 'test-only-no-device',
    token_endpoint_auth_method: 'client_secret_basic',
    grant_types: ['client_credentials'],
  }),
};

const { server, origin } = await listen();
const provider = new Provider(origin, {
  clients: Object.values(clients),
  features: {
    deviceFlow: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
  },
  cookies: { keys: ['test-only'] },
  scopes: ['openid', 'offline_access'],
  claims: { openid: ['sub'], profile: ['name'], email: ['email'] },
  findAccount: (_ctx, id) => ({
    accountId: id,
    claims: async () => ({ sub: id, name: `User ${id}`, email: `${id}@example.test` }),
  }),
  ttl: {
    DeviceCode: (_ctx, _token, client) => (client.clientId === clients.short.client_id ? shortLife : 600),
    AccessToken: 3600,
    ClientCredentials: 600,
    Grant: 86400,
    IdToken: 3600,
    Interaction: 3600,
    RefreshToken: 86400,
    Session: 86400,
  },
});
server.on('request', provider.callback());

const told = ([name, { client_id: id, client_secret: secret, token_endpoint_auth_method: auth }]) => [name, { id, secret, auth }];
ready({ issuer: origin, person, clients: Object.fromEntries(Object.entries(clients).map(told)) });
