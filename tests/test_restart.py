import queue
import shutil
import threading
from signal import SIGINT, SIGTERM

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from load import Load
from parlance_client import persist, reason
from server import Server
from subscriber import Subscriber

from parlance.membership.v1 import membership_service_pb2
from parlance.message.v1 import mark_service_pb2 as mark_pb
from parlance.message.v1 import message_pb2, message_service_pb2, stream_service_pb2
from parlance.room.v1 import room_list_service_pb2, room_service_pb2

SENDERS = 4
KILLS = 3


def told(messages):
    return [(message.seq, message.sender_id, message.content.text) for message in messages]


def set_up(server, *users):
    service = server.service()
    service.upsert_users(users)
    return server.user(users[0]).create_group("a room", users[1:])


def test_a_killed_server_keeps_what_it_acknowledged_and_streams_go_on(own_server):
    """B-098, B-144: kill -9 under load. Acknowledged sends are there, a retried request id
    gets its first reply, subscribers resume from their cursors and miss nothing."""
    users = [f"sender{number}" for number in range(SENDERS)]
    room = set_up(own_server, *users, "reader", "watcher")
    reader = Subscriber(own_server.user("reader"), rooms=[room])
    watcher = Subscriber(own_server.user("watcher"), all_my_rooms=True)
    with reader, watcher:
        with Load(own_server, room, users) as load:
            for _ in range(KILLS):
                load.wait_for(50)
                own_server.kill()
                own_server.start()
            load.wait_for(50)
        expected = load.messages()
        last = expected[-1][0]
        # Made again, on the last start: the reply of the first time.
        clients = {user: own_server.user(user) for user in users}
        for (user, request_id, text), reply in load.acknowledged.items():
            again = clients[user].send(room, text, request_id)
            assert again == reply, f"a repeat got {again}, the first {reply}"
        assert told(clients[users[0]].history(room)) == expected
        for subscriber in (reader, watcher):
            subscriber.wait_for(room, last)
            assert not subscriber.faults
            assert not subscriber.rooms[room].resets, "nothing was rewound"
            assert subscriber.messages(room) == expected
            assert subscriber.streams > KILLS
        unread, _ = own_server.user("reader").unread(room)
        assert unread == {room: len(expected)}
        assert not own_server.user("reader").recount().differences
    own_server.stop()


def follow_to(server, user, room, seq, cursors=None):
    """What a client of `user` holds once it has handled `seq`: the subscriber, stopped."""
    subscriber = Subscriber(server.user(user), rooms=[room], cursors=cursors)
    with subscriber:
        subscriber.wait_for(room, seq)
    assert not subscriber.faults
    return subscriber


def copy(server, to):
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(server.data, to)


def restore(server, copied):
    shutil.rmtree(server.data)
    shutil.copytree(copied, server.data)


@pytest.mark.parametrize("first", ["readers", "senders"])
def test_a_restored_folder_resets_every_stale_cursor_and_honours_the_others(
    sqlite_server, tmp_path, first
):
    """An older copy of the data comes back: cursors above it are told to discard what did not
    happen, also when new messages have taken the numbers since, whoever comes first; cursors
    within it go on."""
    room = set_up(sqlite_server, "anna", "boris")
    anna = sqlite_server.user("anna")
    for number in range(5):
        kept = anna.send(room, f"kept {number}").seq
    valid = follow_to(sqlite_server, "boris", room, kept)
    assert not valid.rooms[room].resets
    copy(sqlite_server, tmp_path / "copy")

    # The same run goes on: these numbers belong to the epoch that the copy knows.
    for number in range(3):
        lost = anna.send(room, f"lost {number}").seq
    rewound = follow_to(sqlite_server, "boris", room, lost)
    sqlite_server.stop()
    # Another run: an epoch that the copy has never heard of.
    sqlite_server.start()
    forgotten = follow_to(sqlite_server, "boris", room, anna.send(room, "lost too").seq)
    assert not forgotten.rooms[room].resets
    sqlite_server.stop()

    restore(sqlite_server, tmp_path / "copy")
    sqlite_server.start()

    def resume(subscriber):
        """Subscribes with the cursor of `subscriber` and holds what it held."""
        cursor = {room: subscriber.cursor(room)}
        resumed = Subscriber(sqlite_server.user("boris"), rooms=[room], cursors=cursor)
        resumed.rooms[room].events = list(subscriber.rooms[room].events)
        resumed.rooms[room].begin = subscriber.rooms[room].begin
        return resumed

    # Before anything new was stored, and after new messages took the numbers.
    after = [f"new {number}" for number in range(6)]
    for new in ([], after) if first == "readers" else (after,):
        for text in new:
            anna.send(room, text)
        history = anna.history(room)
        head = history[-1].seq
        with resume(valid) as client:
            client.wait_for(room, head).wait_attached(room)
            assert not client.rooms[room].resets
            assert not client.faults
            assert client.messages(room) == told(history)
        for stale, why in ((rewound, "REWOUND"), (forgotten, "UNKNOWN_EPOCH")):
            with resume(stale) as client:
                client.wait(lambda me: me.rooms[room].resets)
                client.wait_for(room, head)
                assert not client.faults
                [reset] = client.rooms[room].resets
                assert stream_service_pb2.ResetReason.Name(reset.reason) == f"RESET_REASON_{why}"
                assert reset.keep_through <= kept
                held = client.messages(room)
                assert held == [entry for entry in told(history) if entry[0] >= client.rooms[room].begin]
                assert {text for _, _, text in held}.isdisjoint({"lost 0", "lost 1", "lost too"})
    assert head > lost, "the numbers were taken again"
    sqlite_server.stop()


def test_a_stopping_server_sends_its_streams_away_and_answers_what_it_accepted(own_server):
    """SIGTERM: GoAway with a cursor per room on every stream, then OK; sends that were
    accepted are answered; new ones are refused as unavailable; exit status 0."""
    users = [f"sender{number}" for number in range(SENDERS)]
    room = set_up(own_server, *users, "reader", "watcher")
    # Streams that are not opened again: what is seen is the drain.
    streams = {}
    for user, how in (("reader", {"rooms": True}), ("watcher", {"all_my_rooms": True})):
        cursors = [stream_service_pb2.RoomCursor(room_id=room)] if "rooms" in how else []
        request = stream_service_pb2.SubscribeRequest(
            rooms=cursors, all_my_rooms="all_my_rooms" in how
        )
        call = own_server.user(user).streams.Subscribe(request)
        attached = next(call).attached
        assert attached.room_id == room
        streams[user] = (call, attached.resume_from)

    outcomes = queue.SimpleQueue()

    def send(user):
        client, number = own_server.user(user), 0
        while True:
            content = message_pb2.MessageContent(text=f"{user} {number}")
            request = message_service_pb2.SendMessageRequest(room_id=room, content=content)
            try:
                outcomes.put(client.messages.SendMessage(request, timeout=20).seq)
            except grpc.RpcError as error:
                outcomes.put(error)
                return
            number += 1

    threads = [threading.Thread(target=send, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    answered = {outcomes.get(timeout=30) for _ in range(20)}
    own_server.terminate()

    for user, (call, begin) in streams.items():
        frames = list(call)  # Raises unless the stream ends with OK.
        kinds = [frame.WhichOneof("frame") for frame in frames]
        assert kinds[-1] == "go_away", f"{user}: {kinds[-5:]}"
        seqs = [frame.event.event.seq for frame in frames if frame.HasField("event")]
        assert seqs == list(range(begin + 1, begin + 1 + len(seqs)))
        [stands] = frames[-1].go_away.cursors
        assert (stands.room_id, stands.cursor.seq) == (room, begin + len(seqs))
        assert call.code() == grpc.StatusCode.OK
    for thread in threads:
        thread.join(30)
    assert own_server.wait() == 0, own_server.tail()

    while not outcomes.empty():
        outcome = outcomes.get()
        if isinstance(outcome, int):
            answered.add(outcome)
        else:
            assert outcome.code() == grpc.StatusCode.UNAVAILABLE, outcome
            assert reason(outcome) in ("DRAINING", None), outcome
    own_server.start()
    stored = {message.seq for message in own_server.user("reader").history(room)}
    assert answered <= stored
    own_server.stop()


@pytest.mark.parametrize("first, second", [(SIGTERM, SIGINT), (SIGINT, SIGTERM), (SIGTERM, SIGTERM)])
def test_a_second_signal_ends_a_draining_server_at_once(first, second):
    """A stream that its client does not end keeps the drain from ending, with status 0, for an
    hour; who does not want to wait asks again."""
    questions = queue.SimpleQueue()
    with Server(options=["--drain", "1h"]) as server:
        reflection = reflection_pb2_grpc.ServerReflectionStub(server.channel())
        metadata = [("authorization", f"Bearer {server.token('tests')}")]
        answers = reflection.ServerReflectionInfo(iter(questions.get, None), metadata=metadata)
        questions.put(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert next(answers).HasField("list_services_response"), "the server has the stream"
        health = health_pb2_grpc.HealthStub(server.channel())
        told = health.Watch(health_pb2.HealthCheckRequest())
        assert next(told).status == health_pb2.HealthCheckResponse.SERVING
        server.terminate(first)
        assert next(told).status == health_pb2.HealthCheckResponse.NOT_SERVING, "it drains"
        server.terminate(second)
        assert server.wait() == 1, server.tail()
        assert "asked to stop a second time" in server.tail()
        questions.put(None)


@pytest.mark.parametrize("signal_name", ["kill", "stop"])
def test_rooms_members_and_marks_are_there_after_a_restart(own_server, signal_name):
    """B-091, B-103: membership persists, with roles and times; so do rooms, messages, marks and
    counts."""
    room = set_up(own_server, "anna", "boris", "clara")
    anna, boris = own_server.user("anna"), own_server.user("boris")

    def known():
        """What the services say of the room, its members and the rooms of each."""
        members = membership_service_pb2.ListRoomMembersRequest(room_id=room)
        mine = membership_service_pb2.ListUserMembershipsRequest()
        entry = persist(boris.rooms.GetRoom, room_service_pb2.GetRoomRequest(room_id=room))
        rooms = persist(boris.lists.ListMyRooms, room_list_service_pb2.ListMyRoomsRequest())
        return (
            persist(anna.members.ListRoomMembers, members),
            persist(boris.members.ListUserMemberships, mine),
            entry,
            [(listed.room, listed.role, listed.unread) for listed in rooms.rooms],
            boris.history(room),
        )

    seqs = [anna.send(room, f"line {number}").seq for number in range(4)]
    mark = mark_pb.MarkReadRequest(room_id=room, seq=seqs[1])
    persist(boris.marks.MarkRead, mark)
    anna.remove(room, "clara")
    before = known()
    assert [member.user_id for member in before[0].members] == ["anna", "boris"]
    assert [message.seq for message in before[-1]] == seqs
    getattr(own_server, signal_name)()
    own_server.start()
    anna, boris = own_server.user("anna"), own_server.user("boris")
    assert known() == before
    assert boris.unread(room) == ({room: 2}, 2)
    with pytest.raises(grpc.RpcError) as refused:
        own_server.user("clara").messages.ListMessages(
            message_service_pb2.ListMessagesRequest(room_id=room), timeout=10
        )
    assert reason(refused.value) == "NOT_A_MEMBER"
    # The owner is one still.
    assert anna.add(room, "clara").added[0].user_id == "clara"
    own_server.stop()
