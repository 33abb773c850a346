// A page that calls the server as pages do, with two clients of gRPC-Web that know each other not:
// it tells where it came from how each call went. Who it is, and where the server is, its URL says.
import { fromBinary, toBinary, create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { GrpcWebClientBase, MethodDescriptor, MethodType } from "grpc-web";
import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { MessageService } from "./gen/parlance/message/v1/message_service_pb.js";
import { StreamService } from "./gen/parlance/message/v1/stream_service_pb.js";

const PATIENCE = 10_000;

const options = Object.fromEntries(new URLSearchParams(location.search));
const metadata = { authorization: `Bearer ${options.token}` };

/** The text of a message in a frame of a stream, if there is one. */
function textOf({ frame }) {
  const body = frame.case === "event" ? frame.value.event.body : null;
  return body?.case === "messageSent" ? body.value.content.text : null;
}

/** By connect-web, over fetch. */
function byConnect() {
  const transport = createGrpcWebTransport({ baseUrl: options.server });
  const messages = createClient(MessageService, transport);
  const streams = createClient(StreamService, transport);
  const asked = { headers: metadata };
  return {
    send: async (roomId, text) => (await messages.sendMessage({ roomId, content: { text } }, asked)).seq,
    async follow(roomId, until, attached) {
      const over = new AbortController();
      const heard = [];
      for await (const frame of streams.subscribe({ rooms: [{ roomId, cursor: {} }] }, { ...asked, signal: over.signal })) {
        if (frame.frame.case === "attached") attached();
        const text = textOf(frame);
        if (text) heard.push(text);
        if (text === until) break;
      }
      over.abort();
      return heard;
    },
    refusal(error) {
      const { code, rawMessage } = ConnectError.from(error);
      const [info] = ConnectError.from(error).findDetails(ErrorInfoSchema);
      return { code: Code[code], text: rawMessage, reason: info?.reason ?? null };
    },
  };
}

/** By grpc-web, over XMLHttpRequest: streams only come as they are sent in its form of text. */
function byGrpcWeb() {
  const described = (service, method) =>
    new MethodDescriptor(
      `/${service.typeName}/${method.name}`,
      method.methodKind === "unary" ? MethodType.UNARY : MethodType.SERVER_STREAMING,
      Object,
      Object,
      (request) => toBinary(method.input, create(method.input, request)),
      (bytes) => fromBinary(method.output, bytes),
    );
  const call = (format, kind, service, method, request) => {
    const descriptor = described(service, method);
    const client = new GrpcWebClientBase({ format });
    return client[kind](options.server + descriptor.getName(), request, metadata, descriptor);
  };
  return {
    async send(roomId, text) {
      const request = { roomId, content: { text } };
      return (await call("binary", "unaryCall", MessageService, MessageService.method.sendMessage, request)).seq;
    },
    follow: (roomId, until, attached) =>
      new Promise((resolve, reject) => {
        const request = { rooms: [{ roomId, cursor: {} }] };
        const stream = call("text", "serverStreaming", StreamService, StreamService.method.subscribe, request);
        const heard = [];
        stream.on("error", reject);
        stream.on("data", (frame) => {
          if (frame.frame.case === "attached") attached();
          const text = textOf(frame);
          if (text) heard.push(text);
          if (text !== until) return;
          stream.cancel();
          resolve(heard);
        });
      }),
    refusal({ code, message, metadata }) {
      const packed = metadata?.["grpc-status-details-bin"];
      return { code: String(code), text: message, packed: packed ?? null };
    },
  };
}

/** Fails after a while. */
const late = () => new Promise((_, reject) => setTimeout(() => reject(new Error("no answer in time")), PATIENCE));

/** A call, a stream that hears a message which is sent once it is there, and a refusal. */
async function tried(name, client) {
  const step = async (work) => {
    const outcome = await Promise.race([work(), late()]).catch((error) => client.refusal(error));
    console.log(name, JSON.stringify(outcome));
    return outcome;
  };
  const sent = await step(async () => Number(await client.send(options.room, `${name} calls`)));
  const heard = await step(() =>
    client.follow(options.room, `${name} hears`, () => client.send(options.room, `${name} hears`)),
  );
  const refused = await step(() => client.send(`${options.room}-of-nobody`, "lost"));
  return { sent, heard, refused };
}

async function main() {
  const told = { connect: await tried("connect", byConnect()), grpcWeb: await tried("grpcWeb", byGrpcWeb()) };
  await fetch("/told", { method: "POST", body: JSON.stringify(told) });
}

main();
