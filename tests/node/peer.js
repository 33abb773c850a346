// A client of Parlance in Node: what docs/clients.md asks for, and the contracts of proto/, which
// are read when it starts.
//
// It follows a room from its first event and prints each event that it handles; every line of its
// input is sent to the room. Now and then it drops its stream. It ends when its input does.
"use strict";

const { randomInt, randomUUID } = require("node:crypto");
const { readFileSync } = require("node:fs");
const readline = require("node:readline");
const { setTimeout: sleep } = require("node:timers/promises");
const { parseArgs } = require("node:util");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
const protobuf = require("protobufjs");

const FIRST_PAUSE = 100;
const LONGEST_PAUSE = 10_000;
const LONG_SILENCE = 60_000;

const AGAIN = [grpc.status.UNAVAILABLE, grpc.status.DEADLINE_EXCEEDED, grpc.status.RESOURCE_EXHAUSTED];
const BROKEN = [grpc.status.UNKNOWN, grpc.status.INTERNAL, grpc.status.CANCELLED];

// The details of a refusal, which grpc-js leaves packed.
const Status = protobuf.parse(`
  syntax = "proto3";
  message Status { repeated Any details = 3; }
  message Any { string type_url = 1; bytes value = 2; }
  message RetryInfo { Duration retry_delay = 1; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
`).root;

const { values: options } = parseArgs({
  options: {
    addresses: { type: "string" }, // Replicas of message, separated by commas.
    "service-config": { type: "string" }, // deploy/grpc-service-config.json
    protos: { type: "string" }, // The folder of the contracts.
    room: { type: "string" },
    token: { type: "string" },
  },
});

const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${options.token}`);

/** Clients of the message service: one channel to all replicas, with the service config of the
 * installation. */
function connect() {
  const names = ["message_service", "stream_service"].map((name) => `parlance/message/v1/${name}.proto`);
  const how = { includeDirs: [options.protos], keepCase: true, longs: Number, enums: String, oneofs: true, defaults: true };
  const { parlance } = grpc.loadPackageDefinition(loader.loadSync(names, how));
  const target = `ipv4:${options.addresses}`;
  const channel = new grpc.Channel(target, grpc.credentials.createInsecure(), {
    "grpc.service_config": readFileSync(options["service-config"], "utf8"),
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.keepalive_permit_without_calls": 1,
  });
  const over = (Service) => new Service(target, null, { channelOverride: channel });
  const { MessageService, StreamService } = parlance.message.v1;
  return { channel, messages: over(MessageService), streams: over(StreamService) };
}

/** Whether to go on after this end of a stream or a call, and how long the server asks to wait.
 * With a token that is renewed, UNAUTHENTICATED would be among them. */
function again(error) {
  const [packed] = error.metadata?.get("grpc-status-details-bin") ?? [];
  const details = packed ? Status.lookupType("Status").decode(packed).details : [];
  const find = (name) => details.find((detail) => detail.type_url.endsWith(`/google.rpc.${name}`));
  const info = find("RetryInfo");
  const delay = info && Status.lookupType("RetryInfo").decode(info.value).retry_delay;
  const asked = delay ? Number(delay.seconds) * 1000 + delay.nanos / 1e6 : 0;
  const broken = BROKEN.includes(error.code) && !find("ErrorInfo");
  return { retry: AGAIN.includes(error.code) || broken, asked };
}

/** Lets a pause with jitter pass, or what the server asked for, and gives the next pause. */
async function wait(pause, asked) {
  await sleep(Math.max(asked, pause * (0.5 + Math.random() / 2)));
  return Math.min(pause * 2, LONGEST_PAUSE);
}

/** Sends a text until it is answered, always with the same request id. */
async function send(messages, text) {
  const request = { room_id: options.room, content: { text }, request_id: randomUUID() };
  const once = () =>
    new Promise((resolve, reject) => {
      messages.SendMessage(request, metadata, (error, reply) => (error ? reject(error) : resolve(reply)));
    });
  for (let pause = FIRST_PAUSE; ; ) {
    try {
      const reply = await once();
      print({ sent: reply.seq, text });
      return;
    } catch (error) {
      const { retry, asked } = again(error);
      if (!retry) throw error;
      pause = await wait(pause, asked);
    }
  }
}

/** Subscribes again and again, each time with the cursor. */
async function follow(streams) {
  const cursor = { epoch: "", seq: 0, time: null };
  for (let pause = FIRST_PAUSE; ; ) {
    const before = cursor.seq;
    let asked = 0;
    try {
      asked = await stream(streams, cursor);
    } catch (error) {
      const end = again(error);
      if (!end.retry) throw error;
      print({ ended: grpc.status[error.code] });
      asked = end.asked;
    }
    if (cursor.seq > before) pause = FIRST_PAUSE;
    pause = await wait(pause, asked);
  }
}

/** Sets the position of a cursor; the time is that of the event there, if it is known. */
function moveTo(cursor, seq, time) {
  if (cursor.seq !== seq) Object.assign(cursor, { seq, time });
}

/** One stream until its end; how long the server then asks to wait. The cursor stands behind what
 * was handled: where it would be stored, that would happen here. */
async function stream(streams, cursor) {
  const call = streams.Subscribe({ rooms: [{ room_id: options.room, cursor }] }, metadata);
  // Of what we cancelled nobody wants to hear.
  call.on("error", () => {});
  const silence = setTimeout(() => call.cancel(), LONG_SILENCE);
  let asked = 0;
  const length = randomInt(10, 30);
  let handled = 0;
  try {
    for await (const { attached, event, skipped, reset, closed, go_away } of call) {
      silence.refresh();
      if (attached) {
        cursor.epoch = attached.epoch;
        moveTo(cursor, attached.resume_from, null);
        print({ stream: call.getPeer(), length });
      } else if (event && event.event.seq > cursor.seq) {
        const { seq, actor_id, message_sent } = event.event;
        print({ seq, actor: actor_id, text: message_sent?.content.text ?? "" });
        moveTo(cursor, seq, event.event.time);
        handled += 1;
        if (handled === length) {
          print({ dropped: seq });
          return 0;
        }
      } else if (skipped) {
        moveTo(cursor, skipped.to_seq, null);
      } else if (reset) {
        print({ reset: reset.keep_through });
        cursor.epoch = reset.epoch;
        moveTo(cursor, reset.resume_from, null);
      } else if (closed) {
        throw new Error("the room is closed to us");
      } else if (go_away) {
        asked = Number(go_away.after.seconds) * 1000 + go_away.after.nanos / 1e6;
      }
    }
    return asked;
  } finally {
    clearTimeout(silence);
    call.cancel();
  }
}

async function main() {
  const { channel, messages, streams } = connect();
  follow(streams).catch((error) => {
    console.error(error);
    process.exit(1);
  });
  for await (const text of readline.createInterface({ input: process.stdin })) {
    await send(messages, text);
  }
  channel.close();
  process.exit(0);
}

main();
