// Node's fetch as a client; see fetch.sh. Node reads HTTPS_PROXY by itself from 24 on, with NODE_USE_ENV_PROXY=1; older
// ones are given a dispatcher that asks the proxy for a tunnel, as undici's ProxyAgent does.
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { createInterface } from "node:readline";
import { connect as connectTls } from "node:tls";

const proxy = process.env.HTTPS_PROXY;
const older = Number(process.versions.node.split(".")[0]) < 24;

function connect({ hostname, port, servername }, callback) {
  const { hostname: host, port: proxyPort } = new URL(proxy);
  const path = `${hostname}:${port || 443}`;
  request({ host, port: proxyPort, method: "CONNECT", path, headers: { host: path } })
    .once("connect", ({ statusCode }, socket) => {
      if (statusCode !== 200) return callback(new Error(`the proxy says ${statusCode}`));
      const tls = connectTls({ socket, servername: servername || hostname, ALPNProtocols: ["http/1.1"] });
      tls.once("secureConnect", () => callback(null, tls)).once("error", (error) => callback(error));
    })
    .once("error", (error) => callback(error))
    .end();
}

let dispatcher;
if (proxy && older) {
  await fetch("data:,");
  const { constructor: Agent } = globalThis[Symbol.for("undici.globalDispatcher.1")];
  dispatcher = new Agent({ connect });
}

for await (const line of createInterface({ input: process.stdin })) {
  const [method, url, file] = line.split(" ");
  // By itself fetch offers other encodings over https: than over http:.
  const options = { method, dispatcher, redirect: "manual", headers: { "Accept-Encoding": "gzip" } };
  if (file !== "-") {
    options.body = readFileSync(file);
    options.headers["Content-Type"] = "application/octet-stream";
  }
  try {
    const answer = await fetch(url, options);
    const head = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    const body = Buffer.from(await answer.arrayBuffer());
    console.log([answer.status, Buffer.from(head, "latin1").toString("base64"), body.toString("base64")].join("\t"));
  } catch (error) {
    console.log(`ERROR\t${error} ${error.cause ?? ""}`.replaceAll("\n", " "));
  }
}
// Connections that are kept do not keep us.
process.stdout.write("", () => process.exit(0));
