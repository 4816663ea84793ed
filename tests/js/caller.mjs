// Calls a Python service and the workspace manager, and asserts what it gets.
import assert from "node:assert/strict";

const { url, token, transport, service: serviceId } = globalThis.config;
const server = await hyphaWebsocketClient.connectToServer({ server_url: url, token, transport });
const service = await server.getService(serviceId);

for (const value of [null, true, -1, 1.5, "grüß", [1, [2]], { a: { b: null } }]) {
  assert.deepEqual(await service.echo(value), value);
}
assert.deepEqual(new Uint8Array(await service.echo(new Uint8Array([0, 255]))), new Uint8Array([0, 255]));
assert.deepEqual(await service.signature(1), [1, 2, 3]);
assert.deepEqual(await service.signature({ a: 1, c: 9, _rkwargs: true }), [1, 2, 9]);
assert.equal(await service.nested.deep.increment(1), 2);
assert.equal(await service.call((x) => x * 2, 21), 42);
assert.equal(await service.call(async (x) => x + 1, 1), 2);
await assert.rejects(service.fail(), /ValueError: bad thing/);

const counted = [];
for await (const i of await service.count(3)) counted.push(i);
assert.deepEqual(counted, [0, 1, 2]);

const array = await service.array();
assert.deepEqual(array._rshape, [2, 3]);
assert.equal(array._rdtype, "float32");
assert.equal(await service.total(array), 15);

await service.keep({
  typed: new Float32Array([1, 2]),
  bytes: new Uint8Array([1, 2]),
  set: new Set([1]),
  map: new Map([["k", 1]]),
});

const large = new Uint8Array(3 * 2 ** 20).fill(7);
assert.equal((await service.echo(large)).length, large.length);
const larger = new Uint8Array(12 * 2 ** 20).fill(8);
assert.equal((await service.echo(larger)).length, larger.length);

// The manager, as a JavaScript user writes it.
await server.setEnv({ key: "A", value: "1", _rkwargs: true });
assert.equal(await server.getEnv("A"), "1");
assert.equal((await server.listClients()).length, 1);
await server.registerService({ id: "own", type: "mine", f: () => 1 });
assert.deepEqual((await server.listServices({ type: "mine" })).map((s) => s.name), ["own"]);
assert.equal(await (await server.getService("own")).f(), 1);
assert.equal((await server.getServiceInfo("own")).type, "mine");
const child = await server.generateToken({ permission: "read", expires_in: 60 });
assert.equal((await server.parseToken(child)).parent, server.config.user.id);
const second = await hyphaWebsocketClient.connectToServer({ server_url: url, token: child, transport });
assert.equal(second.config.workspace, server.config.workspace);
await second.disconnect();
await server.log("hello");
assert.deepEqual((await server.getEvents()).map((event) => event.data), ["hello"]);

const events = server.on ? server : server.rpc; // over HTTP the client does not lift these to the server
const heard = new Promise((resolve) => events.on("news", resolve));
await server.subscribe("news");
await events.emit({ type: "news", to: "*", data: { n: 1 } });
assert.deepEqual((await heard).data, { n: 1 });
await server.unregisterService("own");
await assert.rejects(server.getService("own"), /Service not found/);

if (transport !== "http") { // there the client has no such function
  await server.registerProbes({ readiness: () => ({ status: "ok" }) });
  const probe = await fetch(`${url}/${server.config.workspace}/services/probes/readiness`);
  assert.deepEqual(await probe.json(), { status: "ok" });
}

console.log("done");
process.exit(0);
