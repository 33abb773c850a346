"""What is promised to every client, tried where it is hardest to keep."""

import contextlib
import threading
import time
import uuid
from concurrent import futures

import grpc
import pytest
from hostile import Hostile, message
from load import Load
from parlance_client import Client, details, persist, reason, retry_after
from server import TENANT, Server
from subscriber import Subscriber

from parlance.membership.v1 import membership_service_pb2
from parlance.message.v1 import inbox_service_pb2 as inbox_pb
from parlance.message.v1 import mark_service_pb2 as mark_pb
from parlance.message.v1 import message_pb2, message_service_pb2, stream_service_pb2
from parlance.room.v1 import room_list_service_pb2 as list_pb


def new_room(server, *users):
    """A group of these users; the first one made it."""
    server.service().upsert_users(users)
    return server.user(users[0]).create_group(f"room {uuid.uuid4().hex[:6]}", users[1:])


def refusal(method, request):
    with pytest.raises(grpc.RpcError) as refused:
        method(request, timeout=10)
    return reason(refused.value)


def test_a_member_removed_under_fire_gets_everything_up_to_the_removal_and_nothing_after(server):
    """B-069, B-073, B-074, B-075, B-087, B-133, B-138, B-200, B-201: four users send, one of them is removed
    with two streams open."""
    senders = ["removed", "sender1", "sender2", "sender3"]
    room = new_room(server, "owner", *senders)
    named = Subscriber(server.user("removed"), rooms=[room])
    every = Subscriber(server.user("removed"), all_my_rooms=True)
    witness = Subscriber(server.user("owner"), rooms=[room])
    removed = server.user("removed")
    ends = {"removed": "NOT_A_MEMBER"}
    with named, every, witness:
        with Load(server, room, senders, ends) as load:
            for subscriber in (named, every, witness):
                subscriber.wait_attached(room)
            load.wait_for(40)
            reply = server.user("owner").remove(room, "removed")
            assert list(reply.removed_user_ids) == ["removed"]
            # From the reply on, nothing is read and nothing is sent.
            listing = message_service_pb2.ListMessagesRequest(room_id=room)
            assert refusal(removed.messages.ListMessages, listing) == "NOT_A_MEMBER"
            sending = message_service_pb2.SendMessageRequest(
                room_id=room, content=message_pb2.MessageContent(text="one more")
            )
            assert refusal(removed.messages.SendMessage, sending) == "NOT_A_MEMBER"
            joining = membership_service_pb2.JoinRoomRequest(room_id=room)
            assert refusal(removed.members.JoinRoom, joining) in ("REMOVED_FROM_ROOM", "JOIN_RESTRICTED")
            load.wait_for(40)
            for subscriber in (named, every):
                subscriber.wait(lambda me: me.rooms[room].closed is not None)
        expected = load.messages()
        witness.wait_for(room, expected[-1][0])
    [leaving] = [event for event in witness.rooms[room].events if event.HasField("members_left")]
    assert leaving.members_left.removed and list(leaving.members_left.user_ids) == ["removed"]
    assert leaving.actor_id == "owner"
    for subscriber in (named, every):
        assert not subscriber.faults
        closed = subscriber.rooms[room].closed
        assert closed.reason == stream_service_pb2.CLOSED_REASON_REMOVED
        assert closed.seq == leaving.seq
        assert subscriber.rooms[room].seq <= leaving.seq
        got = subscriber.messages(room)
        assert got == [entry for entry in expected if entry[0] <= got[-1][0]]
    accepted = [seq for seq, sender, _ in expected if sender == "removed"]
    assert accepted and max(accepted) < leaving.seq
    # What they had said stays.
    history = server.user("owner").history(room)
    assert [message.seq for message in history if message.sender_id == "removed"] == accepted


def test_a_room_comes_back_on_the_open_stream_of_who_is_added_again(server):
    """B-067, B-137: the stream of all rooms attaches it where the user was added."""
    room = new_room(server, "host", "guest")
    host = server.user("host")
    with Subscriber(server.user("guest"), all_my_rooms=True) as guest:
        guest.wait_for(room, host.send(room, "before").seq)
        host.remove(room, "guest")
        guest.wait(lambda me: me.rooms[room].closed is not None)
        missed = host.send(room, "while away").seq
        host.add(room, "guest")
        guest.wait(lambda me: me.rooms[room].closed is None and me.rooms[room].events)
        guest.wait_for(room, host.send(room, "after").seq)
        assert not guest.faults
        assert guest.rooms[room].begin == missed + 1
        assert [text for _, _, text in guest.messages(room)] == ["after"]
    texts = [message.content.text for message in server.user("guest").history(room)]
    assert texts == ["before", "while away", "after"]


def test_a_subscriber_who_stops_reading_misses_nothing_and_delays_nobody(server):
    """B-099: megabytes pass while it does not read; then it gets all of them, in order."""
    senders = [f"speaker{number}" for number in range(4)]
    room = new_room(server, *senders, "stalled", "quick")
    stalled = Subscriber(server.user("stalled"), rooms=[room])
    quick = Subscriber(server.user("quick"), rooms=[room])
    with stalled, quick:
        stalled.wait_attached(room)
        stalled.reading.clear()
        with Load(server, room, senders, text="x" * 3500) as load:
            load.wait_for(1200)
        expected = load.messages()
        quick.wait_for(room, expected[-1][0])
        behind = stalled.seq(room)
        assert behind < expected[-1][0], "it read on"
        stalled.reading.set()
        stalled.wait_for(room, expected[-1][0], timeout=120)
        for subscriber in (stalled, quick):
            assert not subscriber.faults
            assert subscriber.messages(room) == expected


def test_subscribers_who_stop_reading_hold_up_no_other_and_cost_no_memory(server):
    """More than 40 MB of events pass eight of them."""
    senders = [f"orator{number}" for number in range(4)]
    asleep = [f"sleeper{number}" for number in range(8)]
    room = new_room(server, *senders, *asleep, "awake")
    content = message_pb2.MessageContent(
        text="\U0001f375" * 3900, properties={f"key {number}": "x" * 1000 for number in range(32)}
    )
    rounds, each = 4, 60
    assert rounds * each * len(senders) * content.ByteSize() > 40_000_000

    def orate(user, count):
        client = server.user(user)
        for _ in range(count):
            request = message_service_pb2.SendMessageRequest(
                room_id=room, content=content, request_id=uuid.uuid4().hex
            )
            seq = persist(client.messages.SendMessage, request).seq
        return seq

    with contextlib.ExitStack() as stack:
        sleepers = [
            stack.enter_context(Subscriber(server.user(user), rooms=[room])) for user in asleep
        ]
        awake = stack.enter_context(Subscriber(server.user("awake"), rooms=[room]))
        for subscriber in (*sleepers, awake):
            subscriber.wait_attached(room)
        for sleeper in sleepers:
            sleeper.reading.clear()
        opened = [sleeper.streams for sleeper in sleepers]
        pool = stack.enter_context(futures.ThreadPoolExecutor(len(senders)))
        before = server.resident_mib()
        for number in range(rounds):
            head = max(pool.map(orate, senders, [each] * len(senders)))
            awake.wait_for(room, head)
            grown = server.resident_mib() - before
            assert grown < 64, f"round {number}: {grown:.0f} MiB more"
        assert not awake.faults
        for sleeper in sleepers:
            assert sleeper.seq(room) < 10, "it read on"
        assert [sleeper.streams for sleeper in sleepers] == opened, "one was sent away"


def judge_overloaded(error):
    assert (error.code(), reason(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert 0 < retry_after(error) < 5
    assert details(error)["QuotaFailure"].violations


SEND = "/parlance.message.v1.MessageService/SendMessage"
RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


def test_a_flood_is_refused_in_words_and_what_was_admitted_is_done():
    """B-191: one who floods leaves room for others; when all is taken, nobody waits unheard."""
    refused = []

    def flood(tenant, user, count, admitted):
        """Calls whose answers are not taken: so many of them are let in."""
        hostile = stack.enter_context(Hostile(server, window=0))
        content = message_pb2.MessageContent(text="one of many")
        request = message_service_pb2.SendMessageRequest(room_id=rooms[tenant], content=content)
        token = server.token(user, tenant=tenant)
        calls = [
            hostile.call(SEND, message(request.SerializeToString()), token, grpc_timeout="60S")
            for _ in range(count)
        ]
        hostile.wait(lambda: len(hostile.began) == count)
        over = hostile.ended(calls)
        refused.extend(hostile.status[call] for call in over)
        left = [call for call in calls if call not in over]
        assert len(left) == admitted, (user, hostile.status)
        return hostile, left

    with Server(options=["--max-calls", "8"]) as server, contextlib.ExitStack() as stack:
        rooms = {}
        for tenant in ("first", "second"):
            users = [f"flooder{number}" for number in range(3)]
            server.service(tenant=tenant).upsert_users(users)
            rooms[tenant] = server.user(users[0], tenant=tenant).create_group("flooded", users[1:])
        room = new_room(server, "calm")
        calm = server.user("calm")
        # A quarter of all is the most that one caller gets, and half a tenant.
        floods = [flood("first", "flooder0", 5, 2)]
        first = calm.send(room, "in the middle of it", patience=0).seq
        floods += [flood("first", "flooder1", 2, 2), flood("first", "flooder2", 2, 0)]
        floods += [flood("second", "flooder0", 2, 2), flood("second", "flooder1", 2, 2)]
        for _ in range(50):
            with pytest.raises(grpc.RpcError) as over:
                calm.inbox.GetUnread(inbox_pb.GetUnreadRequest(), timeout=10)
            judge_overloaded(over.value)
        assert server.health() == "SERVING"
        assert refused == [RESOURCE_EXHAUSTED] * 5
        # Those that were let in are done, whatever was refused around them.
        for hostile, calls in floods:
            for call in calls:
                hostile.grant(call)
            hostile.wait(lambda: len(hostile.ended(calls)) == len(calls))
            assert all(hostile.status[call] == 0 for call in calls)
        assert calm.send(room, "after it").seq == first + 1
        for tenant in rooms:
            assert len(server.user("flooder0", tenant=tenant).history(rooms[tenant])) == 4
        server.stop()


class Naive:
    """Unread by its definition, counted from the events that a backend's stream delivers."""

    def __init__(self, server, rooms):
        self.stream = Subscriber(
            server.service(), cursors={room: ("", 0) for room in rooms}, rooms=rooms
        )
        self.marks = {}

    def members(self, room):
        """Present members → the event that made them one."""
        joined = {}
        for event in self.stream.rooms[room].events:
            joined.update({grant.user_id: event.seq for grant in event.effects.gained})
            for user in event.effects.lost_user_ids:
                joined.pop(user, None)
        return joined

    def unread(self, room, user):
        """Messages of others after the user's mark, not deleted, not uncounted."""
        events = self.stream.rooms[room].events
        deleted = {event.message_deleted.message_seq for event in events}
        sent = [event for event in events if event.HasField("message_sent")]
        own = [event.seq for event in sent if event.actor_id == user]
        mark = max(self.members(room)[user], self.marks.get((room, user), 0), *own, 0)
        return sum(
            event.seq > mark
            and event.actor_id != user
            and event.seq not in deleted
            and not event.message_sent.uncounted
            for event in sent
        )


def test_unread_equals_its_naive_count_on_a_random_walk(server, chance):
    """B-121, B-123, B-124, B-127: sends, deletions, marks, leaving and coming back, in any
    order; after every step the counts are those of the definition."""
    users = [f"walker{number}" for number in range(4)]
    rooms = [new_room(server, "walk-owner", *users) for _ in range(2)]
    owner = server.user("walk-owner")
    clients = {user: server.user(user) for user in users}
    sent = {room: [] for room in rooms}
    naive = Naive(server, rooms)
    with naive.stream as stream:
        stream.wait_attached(*rooms)
        stream.wait(lambda _: all("walk-owner" in naive.members(room) for room in rooms))

        def say(room, user):
            reply = clients[user].send(room, f"by {user}", uncounted=chance.random() < 0.2)
            sent[room].append(reply)
            return reply.seq

        def delete(room, _):
            if not sent[room]:
                return 0
            message = sent[room].pop(chance.randrange(len(sent[room])))
            request = message_service_pb2.DeleteMessageRequest(message_id=message.message_id)
            return persist(owner.messages.DeleteMessage, request).seq

        def read(room, user):
            upto = chance.randint(1, stream.seq(room))
            request = mark_pb.MarkReadRequest(room_id=room, seq=upto)
            reply = persist(clients[user].marks.MarkRead, request)
            naive.marks[room, user] = max(naive.marks.get((room, user), 0), upto)
            assert reply.read_seq >= upto
            return 0

        def read_all(room, user):
            request = mark_pb.MarkAllReadRequest(room_id=room)
            naive.marks[room, user] = persist(clients[user].marks.MarkAllRead, request).read_seq
            return 0

        def come_or_go(room, user):
            present = user in naive.members(room)
            (owner.remove if present else owner.add)(room, user)
            stream.wait(lambda _: (user in naive.members(room)) != present)
            return 0

        steps = [say, say, say, say, delete, read, read_all, come_or_go]
        for number in range(120):
            room, user, step = chance.choice(rooms), chance.choice(users), chance.choice(steps)
            if user not in naive.members(room) and step is not come_or_go:
                continue
            stream.wait_for(room, step(room, user))
            for user in chance.sample(users, 2):
                mine = [room for room in rooms if user in naive.members(room)]
                expected = {room: naive.unread(room, user) for room in mine}
                told, total = clients[user].unread(*rooms)
                assert told == expected, f"step {number}, {step.__name__}: {user}"
                assert total == sum(expected.values())
        for client in clients.values():
            assert not client.recount().differences
        assert not stream.faults


def test_tenants_with_equal_ids_see_nothing_of_each_other(server):
    """B-173, B-176: the same users and the same room id in two tenants."""
    sides = {}
    for tenant in ("left", "right"):
        channel = server.channel()
        users = [server.user(user, channel, tenant) for user in ("anna", "boris")]
        server.service(channel, tenant).upsert_users(["anna", "boris"])
        users[0].create_group(f"of {tenant}", ["boris"], "same")
        sides[tenant] = users
    subscribers = {
        tenant: Subscriber(users[1], all_my_rooms=True) for tenant, users in sides.items()
    }
    with subscribers["left"], subscribers["right"]:
        last, request_id = {}, uuid.uuid4().hex
        for tenant, users in sides.items():
            for number in range(5):
                last[tenant] = users[0].send("same", f"{tenant} {number}", f"{request_id}-{number}")
        for tenant, users in sides.items():
            expected = [f"{tenant} {number}" for number in range(5)]
            assert [message.content.text for message in users[1].history("same")] == expected
            assert users[1].unread("same") == ({"same": 5}, 5)
            subscriber = subscribers[tenant].wait_for("same", last[tenant].seq)
            assert [text for _, _, text in subscriber.messages("same")] == expected
            assert not subscriber.faults
            mine = persist(users[1].lists.ListMyRooms, list_pb.ListMyRoomsRequest())
            assert [entry.room.name for entry in mine.rooms] == [f"of {tenant}"]
    foreign = message_service_pb2.GetMessageRequest(message_id=last["left"].message_id)
    assert refusal(sides["right"][0].messages.GetMessage, foreign) == "MESSAGE_NOT_FOUND"
    # A room that only the other tenant has.
    sides["left"][0].create_group("of left", [], "left only")
    listing = message_service_pb2.ListMessagesRequest(room_id="left only")
    assert refusal(sides["right"][0].messages.ListMessages, listing) == "ROOM_NOT_FOUND"


def test_an_open_stream_ends_when_its_token_expires(server):
    """B-183."""
    room = new_room(server, "brief")
    lifetime = 2
    began = time.monotonic()
    brief = Client(server.channel(), server.token("brief", lifetime=lifetime, tenant=TENANT))
    request = stream_service_pb2.SubscribeRequest(
        rooms=[stream_service_pb2.RoomCursor(room_id=room)]
    )
    with pytest.raises(grpc.RpcError) as ended:
        for _ in brief.streams.Subscribe(request, timeout=60):
            pass
    assert reason(ended.value) == "TOKEN_EXPIRED"
    # The leeway for clocks that differ is 5 s, and the end comes within one more.
    assert lifetime - 1 <= time.monotonic() - began <= lifetime + 8


def test_a_repeat_gets_the_first_reply_whatever_happened_since(server):
    """B-097, B-098: four repeats at once store one message; after a removal the reply is still the same."""
    room = new_room(server, "chief", "echo")
    request_id, replies = uuid.uuid4().hex, []

    def send():
        replies.append(server.user("echo").send(room, "once", request_id))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 4 and all(reply == replies[0] for reply in replies)
    server.user("chief").remove(room, "echo")
    assert server.user("echo").send(room, "once", request_id) == replies[0]
    other = message_service_pb2.SendMessageRequest(
        room_id=room, request_id=request_id, content=message_pb2.MessageContent(text="twice")
    )
    assert refusal(server.user("echo").messages.SendMessage, other) == "REQUEST_ID_REUSED"
    assert [message.content.text for message in server.user("chief").history(room)] == ["once"]
