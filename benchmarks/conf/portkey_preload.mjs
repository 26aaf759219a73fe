// Loaded before Portkey's gateway (node --import), because as released for Node it
// - answers every stream with 500: it sets headers on the response that fetch() returned, which are immutable there.
//   It is given a copy with headers of its own. That copy is paid for in each of its figures.
// - listens on all addresses and has no option against it: it is kept on loopback.
import net from "node:net";

const fetched = globalThis.fetch;
globalThis.fetch = async (...request) => {
  const { body, status, statusText, headers } = await fetched(...request);
  return new Response(body, { status, statusText, headers: new Headers(headers) });
};

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  const done = rest.find((each) => typeof each === "function");
  return typeof port === "object" ? listen.call(this, port, ...rest) : listen.call(this, { port, host: "127.0.0.1" }, done);
};
