"""Connections that get old, and what browsers say."""

import base64
import http.client
import ssl
import struct
import threading
import time

import grpc
from balancer import Balancer
from certificates import Ca, Secret
from google.rpc import error_details_pb2, status_pb2
from parlance.membership.v1 import user_service_pb2 as users_pb
from parlance.message.v1 import stream_service_pb2 as stream_pb
from parlance_client import DEADLINE, Client, people
from server import Server
from test_tls import Secure

AGE = 4


def test_new_machines_get_their_share_within_an_age_and_a_quarter():
    """Stock clients with streams behind one address: no call fails, each stream is told to come again."""
    with Server(options=["--connection-age", f"{AGE}s", "--stream-life", "1h"]) as server:
        user_id, _ = people(server, "anna")
        balancer = Balancer(server.address, 2)
        # As they come, but each with a connection of its own.
        own = [("grpc.use_local_subchannel_pool", 1)]
        clients = [grpc.insecure_channel(balancer.address, own) for _ in range(40)]
        over, failed, opened = threading.Event(), [], [0] * len(clients)

        def follow(number):
            client = Client(clients[number], server.token(user_id))
            while not over.is_set():
                stream = client.streams.Subscribe(stream_pb.SubscribeRequest(all_my_rooms=True))
                opened[number] += 1
                try:
                    told = [frame.WhichOneof("frame") for frame in stream][-1]
                except grpc.RpcError as error:
                    told = error
                if told != "go_away" and not over.is_set():
                    failed.append(told)

        def call(number):
            client = Client(clients[number], server.token(user_id))
            while not over.wait(0.05):
                try:
                    client.users.GetUser(users_pb.GetUserRequest(user_id=user_id), timeout=DEADLINE)
                except grpc.RpcError as error:
                    failed.extend([] if over.is_set() else [error])

        work = [threading.Thread(target=follow, args=[n]) for n in range(len(clients))]
        work += [threading.Thread(target=call, args=[n]) for n in range(4)]
        for thread in work:
            thread.start()
        try:
            until = time.monotonic() + 20
            while sum(balancer.machines) < len(clients):
                assert time.monotonic() < until
                time.sleep(0.02)
            balancer.add(2)
            began = time.monotonic()
            while min(balancer.machines) < len(clients) / len(balancer.machines) / 2:
                # A little for a machine that is busy with other tests.
                assert time.monotonic() < began + 1.25 * AGE + 2, balancer.machines
                time.sleep(0.05)
            while min(opened) < 3:
                assert time.monotonic() < began + 3 * AGE + 5, opened
                time.sleep(0.05)
        finally:
            over.set()
            for channel in clients:
                channel.close()
            for thread in work:
                thread.join()
            balancer.close()
        assert not failed, failed[:3]


def frames(body):
    """The messages of an answer of gRPC-Web, and its trailers."""
    messages = []
    while body:
        kind, length = struct.unpack(">BI", body[:5])
        part, body = body[5 : 5 + length], body[5 + length :]
        if kind & 0x80:
            lines = part.decode().strip().split("\r\n")
            return messages, dict(line.split(":", 1) for line in lines)
        messages.append(part)
    return messages, {}


def test_a_browser_calls_over_http1(tmp_path):
    """Over TLS: a call, a stream as it comes, and a refusal with its details."""
    ca = Ca(tmp_path / "ca")
    secret = Secret(tmp_path / "secret", ca.issue("localhost"))
    with Secure(ca, secret, ["--grpc-web", "true"]) as server:
        user_id, anna = people(server, "anna")
        room = anna.create_group("from a browser")
        context = ssl.create_default_context(cadata=ca.pem.decode())
        context.set_alpn_protocols(["http/1.1"])
        port = int(server.address.rsplit(":", 1)[1])
        # The name is that of the certificate, and leads to this machine.
        browser = http.client.HTTPSConnection("localhost", port, context=context, timeout=20)

        def ask(path, message, user=user_id):
            headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
            headers["authorization"] = f"Bearer {server.token(user)}"
            body = struct.pack(">BI", 0, len(message)) + message
            browser.request("POST", path, body, headers)
            return browser.getresponse()

        get = "/parlance.membership.v1.UserService/GetUser"
        answer = ask(get, users_pb.GetUserRequest(user_id=user_id).SerializeToString())
        [message], trailers = frames(answer.read())
        assert users_pb.GetUserResponse.FromString(message).user.user_id == user_id
        assert trailers["grpc-status"].strip() == "0"
        # Over the same connection.
        answer = ask(get, users_pb.GetUserRequest(user_id="nobody").SerializeToString())
        body = answer.read()
        told = {**dict(answer.getheaders()), **frames(body)[1]}
        assert told["grpc-status"].strip() == str(grpc.StatusCode.NOT_FOUND.value[0])
        packed = told["grpc-status-details-bin"].strip()
        status = status_pb2.Status.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4)))
        info = error_details_pb2.ErrorInfo()
        assert any(detail.Unpack(info) for detail in status.details) and info.reason == "USER_NOT_FOUND"
        subscribe = stream_pb.SubscribeRequest(all_my_rooms=True).SerializeToString()
        answer = ask("/parlance.message.v1.StreamService/Subscribe", subscribe)
        anna.send(room, "for the browser")
        seen = b""
        while b"for the browser" not in seen:
            part = answer.read1()
            assert part, seen
            seen += part
        browser.close()
    # What is not asked for is not there.
    with Server() as server:
        host, port = server.address.split(":")
        closed = http.client.HTTPConnection(host, int(port), timeout=20)
        try:
            closed.request("POST", get, b"", {"content-type": "application/grpc-web"})
            closed.getresponse()
        except (http.client.HTTPException, OSError):
            return
        raise AssertionError("HTTP/1 was answered")
