// Perfetto's trace processor, compiled to WebAssembly, on standard input and output: what passes are the bytes of its
// RPC protocol. The code around the program is written for a browser's worker, and finds here what it looks for there.
"use strict";
const {readFileSync, writeSync} = require("node:fs");
const {join} = require("node:path");
const vm = require("node:vm");

const folder = process.argv[2];
const program = readFileSync(join(folder, "trace_processor.wasm"));
const say = line => process.stderr.write(`${line}\n`);

const worker = {
  TextDecoder, URL, performance, setTimeout, clearTimeout, crypto: globalThis.crypto,
  console: {log: say, warn: say, error: say},
  location: {href: "file:///worker.js"},
  WorkerGlobalScope: function () {},
  XMLHttpRequest: class { open() {} send() { this.response = program; } },
};
worker.self = worker;

const source = readFileSync(join(folder, "engine_bundle.node.js"), "utf8")
  .replace("this.useMemory64 = hasMemory64Support();", "this.useMemory64 = false;")  // the other program is not here
  .replace("const wasmBridge = new ", "const wasmBridge = self.bridge = new ");
vm.runInNewContext(source, worker, {filename: "engine_bundle.js"});

const inside = vm.runInContext("Uint8Array", worker);
const port = {postMessage: reply => { for (let sent = 0; sent < reply.length;) sent += writeSync(1, reply, sent); }};
worker.onmessage({data: port});

function serve() {
  if (!worker.bridge.reqBufferAddr) { setTimeout(serve, 5); return; }  // the program has not started yet
  process.stdin.on("data", request => port.onmessage({data: inside.from(request)}));
  process.stdin.on("end", () => process.exit(0));
}
serve();
