// A caller over TLS, or over plain text, which tells how a call and a stream went: one line of JSON,
// with the seq of what it sent and of what it heard first, or the code and the text of the error.
"use strict";

const { readFileSync } = require("node:fs");
const { parseArgs } = require("node:util");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const DEADLINE = 10_000;

const { values: options } = parseArgs({
  options: {
    address: { type: "string" }, // Where the server is.
    ca: { type: "string" }, // Whom to trust; without it plain text is spoken.
    name: { type: "string" }, // Whom to take the server for.
    protos: { type: "string" }, // The folder of the contracts.
    room: { type: "string" }, // The room to write to.
    token: { type: "string" }, // Who we are.
  },
});

const names = ["message_service", "stream_service"].map((name) => `parlance/message/v1/${name}.proto`);
const how = { includeDirs: [options.protos], keepCase: true, longs: Number, enums: String, oneofs: true };
const { MessageService, StreamService } = grpc.loadPackageDefinition(loader.loadSync(names, how)).parlance.message.v1;

const trusted = options.ca ? grpc.credentials.createSsl(readFileSync(options.ca)) : grpc.credentials.createInsecure();
const called = options.ca ? { "grpc.ssl_target_name_override": options.name, "grpc.default_authority": options.name } : {};
const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${options.token}`);
const within = () => ({ deadline: Date.now() + DEADLINE });

const failed = ({ code, details }) => ({ seq: 0, code: grpc.status[code], text: details });

function send() {
  const messages = new MessageService(options.address, trusted, called);
  const request = { room_id: options.room, content: { text: "from Node" } };
  return new Promise((resolve) => {
    messages.SendMessage(request, metadata, within(), (error, reply) => {
      messages.close();
      resolve(error ? failed(error) : { seq: reply.seq, code: "OK", text: "" });
    });
  });
}

async function follow() {
  const streams = new StreamService(options.address, trusted, called);
  const call = streams.Subscribe({ rooms: [{ room_id: options.room, cursor: {} }] }, metadata, within());
  // Of what we cancelled nobody wants to hear.
  call.on("error", () => {});
  try {
    for await (const { event } of call) {
      if (event) return { seq: event.event.seq, code: "OK", text: "" };
    }
    throw new Error("the stream ended");
  } catch (error) {
    return failed(error);
  } finally {
    call.cancel();
    streams.close();
  }
}

async function main() {
  const [sent, heard] = [await send(), await follow()];
  process.stdout.write(`${JSON.stringify({ sent, heard })}\n`);
}

main();
