// Registers a service of every kind of function, and stays.
const { url, token, transport } = globalThis.config;
const server = await hyphaWebsocketClient.connectToServer({ server_url: url, token, client_id: "js-provider", transport });
let kept = null;

await server.registerService({
  id: "s",
  config: { require_context: ["who"] },
  echo: (value) => value,
  nested: { deep: { increment: (x) => x + 1 } },
  typed: () => new Float32Array([1.5, 2.5]),
  call: async (callback, ...args) => await callback(...args),
  count: function* (n) {
    for (let i = 0; i < n; i++) yield i;
  },
  options: (options) => ({ a: options.a, b: options.b }),
  who: (context) => ({ user: context.user.id, from: context.from }),
  fail: () => {
    throw new Error("bad thing");
  },
  keep: (callbacks) => {
    kept = callbacks;
  },
  call_kept: async (...args) => await kept.call(...args),
});
console.log("registered");
