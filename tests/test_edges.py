"""What callers may hold, and that nobody's load or silence costs another: docs/operations.md has
the table. Hostile clients of one tenant do their worst while honest ones of others work."""

import concurrent.futures
import contextlib
import itertools
import time
import uuid

import grpc
import pytest
from honest import GROWTH, SOAK
from hostile import Hostile, message
from parlance_client import open_channel

from parlance.message.v1 import inbox_service_pb2 as inbox_pb
from parlance.message.v1 import message_pb2
from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.message.v1 import stream_service_pb2 as stream_pb

LIST = "/parlance.message.v1.MessageService/ListMessages"
EDIT = "/parlance.message.v1.MessageService/EditMessage"
SEND = "/parlance.message.v1.MessageService/SendMessage"
UNREAD = "/parlance.message.v1.InboxService/GetUnread"
SUBSCRIBE = "/parlance.message.v1.StreamService/Subscribe"
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
OK, CANCELLED, DEADLINE_EXCEEDED, EXHAUSTED = 0, 1, 4, 8
UNAVAILABLE, UNAUTHENTICATED = 14, 16
# How long a soak floods a server, in seconds: a hundredth of the calls beside it are several.
LASTS = 10


def big_room(server, user, messages):
    """A room with the longest texts, of 16 KB."""
    server.service().upsert_users([user])
    client = server.user(user)
    room = client.create_group("big")
    text = "\U0001d54f" * 4_000
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.send(room, text), range(messages)))
    return client, room


def test_answers_that_nobody_takes_are_few_and_are_given_up(edge, beside):
    """A page of megabytes is asked for sixty times, with a window of one byte."""
    user = f"greedy-{uuid.uuid4().hex[:6]}"
    client, room = big_room(edge, user, 100)
    page = message_pb.ListMessagesRequest(room_id=room, page_size=100)
    size = len(client.messages.ListMessages(page, timeout=10).SerializeToString())
    assert size > 1 << 20
    request = message(page.SerializeToString())
    with beside(edge) as honest, Hostile(edge, window=1) as hostile:
        calls = [hostile.call(LIST, request, edge.token(user), grpc_timeout="4S") for _ in range(60)]
        hostile.wait(lambda: len(hostile.began) == len(calls))
        grown = honest.grown()
        assert grown < GROWTH, f"{grown:.0f} MiB more"
        # Some are refused at once; the others are reset when their deadline has passed.
        hostile.wait(lambda: len(hostile.ended(calls)) == len(calls), 20)
        assert set(hostile.status.values()) <= {EXHAUSTED}
        assert hostile.resets, "some had begun"
        # All is given back, also to the same caller.
        for _ in range(10):
            again = client.messages.ListMessages(page, timeout=10)
            assert len(again.SerializeToString()) == size
        assert not hostile.closed, "its connection did nothing wrong"


def test_small_answers_that_nobody_takes_end_their_connection(edge, beside):
    """They were handed over with their end, so that no reset takes them back."""
    user = f"deaf-{uuid.uuid4().hex[:6]}"
    edge.service().upsert_users([user])
    room = edge.user(user).create_group("deaf")
    request = message(inbox_pb.GetUnreadRequest(room_ids=[room]).SerializeToString())
    with beside(edge), Hostile(edge, window=1) as hostile:
        for _ in range(100):
            hostile.call(UNREAD, request, edge.token(user), grpc_timeout="1S")
        hostile.wait(lambda: hostile.closed, 30)
    assert edge.user(user).unread(room)


def test_a_stream_that_nobody_reads_ends_with_its_token(edge, beside):
    """Its window is shut, so that the server cannot tell it."""
    user = f"asleep-{uuid.uuid4().hex[:6]}"
    edge.service().upsert_users([user])
    room = edge.user(user).create_group("asleep")
    request = stream_pb.SubscribeRequest(all_my_rooms=True)
    with beside(edge), Hostile(edge, window=0) as hostile:
        token = edge.token(user, lifetime=1)
        calls = [
            hostile.call(SUBSCRIBE, message(request.SerializeToString()), token) for _ in range(100)
        ]
        hostile.wait(lambda: len(hostile.ended(calls)) == len(calls), 30)
        # One that came too late is refused.
        assert hostile.resets and set(hostile.status.values()) <= {UNAUTHENTICATED}
        assert not hostile.closed
    # A user may have a hundred: they are given back.
    client = edge.user(user)
    opened = [client.streams.Subscribe(stream_pb.SubscribeRequest(rooms=[{"room_id": room}])) for _ in range(100)]
    for stream in opened:
        assert next(stream)
        stream.cancel()


def test_what_streams_are_asked_to_follow_is_held_within_a_bound(edge, beside):
    """Ten thousand long cursors each, of a user who has none of the rooms."""
    user = f"asks-{uuid.uuid4().hex[:6]}"
    edge.service().upsert_users([user])
    rooms = [
        {"room_id": f"{number:0128}", "cursor": {"epoch": "e" * 100, "seq": 1}}
        for number in range(10_000)
    ]
    request = stream_pb.SubscribeRequest(all_my_rooms=True, rooms=rooms)
    request = message(request.SerializeToString())
    with beside(edge) as honest, contextlib.ExitStack() as stack:
        for _ in range(3):
            hostile = stack.enter_context(Hostile(edge, window=0))
            for _ in range(10):
                hostile.call(SUBSCRIBE, request, edge.token(user, lifetime=5))
                grown = honest.grown()
                assert grown < GROWTH, f"{grown:.0f} MiB more"


def test_calls_that_never_come_to_their_end_take_no_place(start, beside):
    """From four users, and from one service that acts for four: more than all places together."""
    with start(options=["--max-calls", "64"]) as server, beside(server):
        with contextlib.ExitStack() as stack:
            calls = {}
            for number, path, caller in itertools.product(range(4), (SUBSCRIBE, SEND), ("user", "service")):
                name = f"never{number}"
                acting = {} if caller == "user" else {"parlance_acting_user": name}
                token = server.token(name if caller == "user" else "bot", role=caller)
                it = stack.enter_context(Hostile(server))
                calls[it] = [it.call(path, token=token, grpc_timeout="24H", **acting) for _ in range(64)]
            for it in calls:
                it.wait(lambda: len(it.ended(calls[it])) == len(calls[it]), 30)
                assert set(it.status.values()) <= {DEADLINE_EXCEEDED, EXHAUSTED}, it.status


def test_without_a_token_little_is_held_and_not_for_long(edge, beside):
    """Half-sent requests of 4 MiB to health, and questions to it that stay."""
    # As much as the window of a connection allows.
    half = b"\0" + (4 << 20).to_bytes(4, "big") + bytes(900)
    with beside(edge) as honest, contextlib.ExitStack() as stack:
        for path in (CHECK, WATCH, REFLECT):
            hostile = stack.enter_context(Hostile(edge))
            calls = [hostile.call(path, half, ends=False) for _ in range(60)]
            hostile.wait(lambda: len(hostile.ended(calls)) == len(calls), 30)
            assert OK not in hostile.status.values()
        # They are whole, and stay: a few on each connection.
        hostile = stack.enter_context(Hostile(edge, window=0))
        calls = [hostile.call(WATCH, message(b"")) for _ in range(60)]
        hostile.wait(lambda: len(hostile.began) == len(calls), 30)
        assert sum(call not in hostile.ended(calls) for call in calls) == 8
        assert edge.health() == "SERVING"
        grown = honest.grown()
        assert grown < GROWTH, f"{grown:.0f} MiB more"


@pytest.mark.parametrize("path", [EDIT, LIST])
def test_calls_in_flight_hold_up_nobody_of_another_tenant(edge, beside, path):
    """Edits or pages, of one user: in a soak almost as many as one may have."""
    edge.service().upsert_users(["busy"])
    busy, token = edge.user("busy"), edge.token("busy")
    requests = []
    for room in [busy.create_group("busy") for _ in range(8)]:
        edit = message_pb.EditMessageRequest(
            message_id=busy.send(room, "first").message_id,
            content=message_pb2.MessageContent(text="again and again"),
        )
        page = message_pb.ListMessagesRequest(room_id=room)
        requests.append(message((edit if path == EDIT else page).SerializeToString()))
    requests *= 15 if SOAK else 3
    with beside(edge):
        end = time.monotonic() + (LASTS if SOAK else 0)
        while True:
            flood(edge, path, requests, token)
            if time.monotonic() >= end:
                break


def flood(edge, path, requests, token):
    """All of them at once, on each of eight connections."""
    with contextlib.ExitStack() as stack:
        hostile = [stack.enter_context(Hostile(edge)) for _ in range(8)]
        calls = {it: [it.call(path, ask, token, grpc_timeout="60S") for ask in requests] for it in hostile}
        for it in hostile:
            it.wait(lambda: len(it.ended(calls[it])) == len(calls[it]))
            assert OK in it.status.values()
            assert set(it.status.values()) <= {OK, EXHAUSTED, UNAVAILABLE}, it.status


def test_reflection_is_for_whoever_has_a_token_unless_it_is_open_or_off(start):
    for choice, anonymous, known in (
        (None, UNAUTHENTICATED, OK),
        ("open", OK, OK),
        ("off", UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED.value[0]),
    ):
        options = ["--reflection", choice] if choice else []
        with start(options=options) as server, Hostile(server) as client:
            question = message(b"\x3a\x00")
            calls = [client.call(REFLECT, question, token) for token in (None, server.token("anna"))]
            client.wait(lambda: len(client.ended(calls)) == len(calls))
            assert [client.status[call] for call in calls] == [anonymous, known], choice


def test_calls_that_are_cancelled_end_no_connection(edge, beside):
    """As a search does at every key: a thousand within a second, beside a stream of the backend's."""
    edge.service().upsert_users(["typist"])
    room = edge.user("typist").create_group("search")
    token = edge.token("search", role="service")
    subscribe = stream_pb.SubscribeRequest(rooms=[{"room_id": room}])
    request = message(message_pb.ListMessagesRequest(room_id=room).SerializeToString())
    with beside(edge), Hostile(edge) as backend:
        stream = backend.call(SUBSCRIBE, message(subscribe.SerializeToString()), token)
        backend.wait(lambda: backend.data[stream] > 0)
        heard = backend.data[stream]
        for _ in range(10_000 if SOAK else 1_100):
            backend.call(LIST, request, token, cancels=True)
        edge.user("typist").send(room, "still there?")
        backend.wait(lambda: backend.data[stream] > heard)
        # It waits for those before it that had begun.
        last = backend.call(LIST, request, token, grpc_timeout="60S")
        backend.wait(lambda: backend.ended([last]), 90)
        assert backend.status.get(last) == OK
        assert not backend.closed and stream not in backend.ended([stream])


def test_cancelled_calls_are_charged_to_their_callers_rate(start):
    with start(options=["--rate", "1", "--burst", "100"]) as server, Hostile(server) as client:
        token = server.token("typist")
        request = message(inbox_pb.GetUnreadRequest().SerializeToString())
        for _ in range(500):
            client.call(UNREAD, request, token, cancels=True)
        last = [client.call(UNREAD, request, token) for _ in range(50)]
        client.wait(lambda: len(client.ended(last)) == len(last))
        # One a second is admitted.
        assert sum(client.status[call] == EXHAUSTED for call in last) > 25
        # That is its own rate, and nobody else's.
        other = server.user("typist", tenant="calm")
        assert not other.inbox.GetUnread(inbox_pb.GetUnreadRequest(), timeout=10).rooms


def test_connections_of_strangers_make_room_for_others(start, beside):
    """As many as there are files, from one address and from several."""
    with start(files=512) as server, beside(server), contextlib.ExitStack() as stack:

        def stranger(number):
            stranger = stack.enter_context(Hostile(server, source=f"127.0.0.{2 + number % 3}"))
            call = stranger.call(UNREAD, message(b""))
            stranger.wait(lambda: stranger.closed or call in stranger.status)
            return stranger

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            strangers = list(pool.map(stranger, range(700)))
        # New clients get in, and old ones are served.
        for _ in range(10):
            with open_channel(server.address) as channel:
                client = server.user("calm", channel, tenant="calm")
                client.inbox.GetUnread(inbox_pb.GetUnreadRequest(), timeout=10)
        assert sum(stranger.closed for stranger in strangers) > 100


def test_a_stranger_cannot_fill_the_log(start):
    """Refusals are told of ten times a second, and what was called only if there is such a method."""
    with start() as server:
        before, began = server.log.stat().st_size, time.monotonic()

        def stranger(_):
            # A connection that never has a good token ends after 128 refusals.
            with Hostile(server) as stranger:
                calls = [stranger.call("/" + "x" * 1_000, message(b"")) for _ in range(127)]
                stranger.wait(lambda: stranger.closed or len(stranger.ended(calls)) == len(calls))
                return len(stranger.status)

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(stranger, range(4))) > 400
        # What was left out is told a second later.
        while b"were not logged" not in (written := server.log.read_bytes()[before:]):
            assert time.monotonic() - began < 60, written
            with Hostile(server) as stranger:
                call = stranger.call(UNREAD, message(b""))
                stranger.wait(lambda: call in stranger.status)
        seconds = 1 + time.monotonic() - began
        assert written.count(b"finished") <= 10 * (seconds + 1)
        assert b"xxxx" not in written and b"_OTHER" in written
        server.stop()
