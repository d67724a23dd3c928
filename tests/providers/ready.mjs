// What both providers share: a free loopback port, one line that says what the tests must know, and a life that ends with the test's.
// Import it first: it decides what may be printed.
import http from 'node:http';
import { once } from 'node:events';

// Stdout is for the one line; advice for production is noise here, errors are not.
console.log = console.info = console.debug = console.warn = () => {};

export async function listen() {
  const server = http.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, origin: `http://127.0.0.1:${server.address().port}` };
}

export function ready(facts) {
  // However a test dies, our stdin closes with it.
  process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume();
  process.stdout.write(`${JSON.stringify(facts)}\n`);
}
