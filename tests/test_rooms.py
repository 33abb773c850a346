"""Rooms, end to end: what callers of other languages see of each behaviour."""

import uuid

import grpc
import pytest
from google.protobuf import field_mask_pb2
from parlance_client import details, persist, reason, retry_after
from server import Server
from subscriber import Subscriber

from parlance.membership.v1 import membership_service_pb2 as membership_pb
from parlance.message.v1 import event_pb2, message_pb2, message_service_pb2, stream_service_pb2
from parlance.message.v1 import inbox_service_pb2 as inbox_pb
from parlance.room.v1 import metadata_service_pb2 as metadata_pb
from parlance.room.v1 import room_list_service_pb2 as list_pb
from parlance.room.v1 import room_pb2
from parlance.room.v1 import room_service_pb2 as room_pb


def users(server, *names):
    """Clients of new users, whose ids nobody else has."""
    ids = [f"{name}-{uuid.uuid4().hex[:6]}" for name in names]
    server.service().upsert_users(ids)
    return [(user, server.user(user)) for user in ids]


def refused(method, request):
    with pytest.raises(grpc.RpcError) as error:
        method(request, timeout=10)
    return error.value


def update(room_id, *paths, **fields):
    return room_pb.UpdateRoomRequest(
        room=room_pb2.Room(room_id=room_id, **fields),
        update_mask=field_mask_pb2.FieldMask(paths=paths),
        request_id=uuid.uuid4().hex,
    )


def test_an_update_is_seen_by_every_member_as_an_event(server):
    """B-029, B-036, B-038, B-139, B-142, B-198: by an admin or owner; the actor gets the event too."""
    (_, anna), (boris_id, boris) = users(server, "anna", "boris")
    room = anna.create_group("old", [boris_id])
    followers = [Subscriber(client, rooms=[room]) for client in (anna, boris)]
    change = update(
        room, "name", "description", "picture", "metadata",
        name="new", description="about", picture="file:1", metadata={"topic": "tea"},
    )
    with followers[0], followers[1]:
        assert reason(refused(boris.rooms.UpdateRoom, change)) == "NOT_ALLOWED"
        updated = persist(anna.rooms.UpdateRoom, change).room
        assert (updated.name, updated.description, updated.picture) == ("new", "about", "file:1")
        for follower in followers:
            follower.wait(lambda me: me.rooms and me.seq(room) >= 3)
            assert not follower.faults
            told = follower.rooms[room].events[-1].room_updated
            assert (told.name, dict(told.metadata)) == ("new", {"topic": "tea"})
            assert set(told.changed_fields) == {"name", "description", "picture", "metadata"}
    read = persist(boris.rooms.GetRoom, room_pb.GetRoomRequest(room_id=room)).room
    assert read == updated


def test_patched_metadata_is_seen_by_every_member_as_an_event(server):
    """B-029, B-031."""
    (_, anna), (boris_id, boris) = users(server, "anna", "boris")
    room = anna.create_group("seats", [boris_id])
    followers = [Subscriber(client, rooms=[room]) for client in (anna, boris)]
    take = metadata_pb.KeyPatch(key="seat 1", set="anna", if_absent=True)
    patch = metadata_pb.PatchMetadataRequest(room_id=room, patches=[take], request_id=uuid.uuid4().hex)
    with followers[0], followers[1]:
        assert dict(persist(anna.metadata.PatchMetadata, patch).metadata) == {"seat 1": "anna"}
        for follower in followers:
            follower.wait(lambda me: me.rooms and me.seq(room) >= 3)
            assert not follower.faults
            event = follower.rooms[room].events[-1]
            assert event.actor_id and dict(event.metadata_patched.set) == {"seat 1": "anna"}
    assert persist(anna.metadata.PatchMetadata, patch).metadata
    again = metadata_pb.PatchMetadataRequest(room_id=room, patches=[take])
    assert reason(refused(anna.metadata.PatchMetadata, again)) == "METADATA_CONFLICT"


def test_a_direct_room_starts_from_the_other_user_alone_and_has_nothing_to_update(server):
    """B-037, B-039, B-085, B-092, B-211, B-212."""
    (anna_id, anna), (boris_id, boris) = users(server, "anna", "boris")
    request = room_pb.GetOrCreateDirectRoomRequest(user_id=boris_id)
    made = persist(anna.rooms.GetOrCreateDirectRoom, request)
    assert made.created
    # No stream, no join: the other side sends at once.
    found = persist(
        boris.rooms.GetOrCreateDirectRoom, room_pb.GetOrCreateDirectRoomRequest(user_id=anna_id)
    )
    assert not found.created and found.room.room_id == made.room.room_id
    boris.send(found.room.room_id, "hello")
    change = update(made.room.room_id, "name", name="us")
    assert reason(refused(anna.rooms.UpdateRoom, change)) == "DIRECT_ROOM"
    # Either of the two ends it for both.
    persist(boris.rooms.DeleteRoom, room_pb.DeleteRoomRequest(room_id=found.room.room_id))
    gone = room_pb.GetRoomRequest(room_id=found.room.room_id)
    assert reason(refused(anna.rooms.GetRoom, gone)) == "ROOM_NOT_FOUND"


def test_a_room_is_deleted_for_everyone_by_its_owner_and_its_id_lives_again(server):
    """B-039, B-133, B-188: streams end with the closing event; nothing of the old room is in the new."""
    (_, anna), (boris_id, boris) = users(server, "anna", "boris")
    room = anna.create_group("short", [boris_id], f"again-{uuid.uuid4().hex[:6]}")
    old = anna.send(room, "of the old life")
    taken = room_pb.CreateRoomRequest(room_id=room, kind=event_pb2.ROOM_KIND_GROUP)
    error = refused(anna.rooms.CreateRoom, taken)
    assert (error.code(), reason(error)) == (grpc.StatusCode.ALREADY_EXISTS, "ROOM_ID_TAKEN")
    delete = room_pb.DeleteRoomRequest(room_id=room)
    with Subscriber(boris, rooms=[room]) as follower:
        follower.wait_for(room, old.seq)
        assert reason(refused(boris.rooms.DeleteRoom, delete)) == "NOT_ALLOWED"
        persist(anna.rooms.DeleteRoom, delete)
        follower.wait(lambda me: me.rooms[room].closed is not None)
        assert not follower.faults
        assert follower.rooms[room].events[-1].HasField("room_closed")
        told = follower.rooms[room].closed.reason
        assert told == stream_service_pb2.CLOSED_REASON_ROOM_DELETED
    get = room_pb.GetRoomRequest(room_id=room)
    assert reason(refused(boris.rooms.GetRoom, get)) == "ROOM_NOT_FOUND"
    anna.create_group("long", [boris_id], room)
    assert boris.history(room) == []
    assert boris.unread(room) == ({room: 0}, 0)
    lost = message_service_pb2.GetMessageRequest(message_id=old.message_id)
    assert reason(refused(boris.messages.GetMessage, lost)) in ("MESSAGE_NOT_FOUND", "ROOM_NOT_FOUND")


def test_rooms_are_read_by_id_and_unique_id_in_one_request(server):
    """B-043, B-045, B-052, B-213: a stranger sees the channel alone."""
    [(_, anna), (boris_id, _), (_, eve)] = users(server, "anna", "boris", "eve")
    group = anna.create_group("a group")
    unique = f"news-{uuid.uuid4().hex[:6]}"
    channel = persist(
        anna.rooms.GetOrCreateChannel, room_pb.GetOrCreateChannelRequest(unique_id=unique)
    ).room
    request = room_pb.BatchGetRoomsRequest(room_ids=[group, "nowhere"], unique_ids=[unique])
    rooms = persist(anna.rooms.BatchGetRooms, request).rooms
    assert [room.room_id for room in rooms] == [group, channel.room_id]
    pair = room_pb.GetOrCreateDirectRoomRequest(user_id=boris_id)
    pair = persist(anna.rooms.GetOrCreateDirectRoom, pair).room.room_id
    request.room_ids.append(pair)
    assert len(persist(anna.rooms.BatchGetRooms, request).rooms) == 3
    assert list(persist(eve.rooms.BatchGetRooms, request).rooms) == [channel]
    for room, expected in ((group, "NOT_A_MEMBER"), (pair, "ROOM_NOT_FOUND")):
        error = refused(eve.rooms.GetRoom, room_pb.GetRoomRequest(room_id=room))
        assert reason(error) == expected
    asked = room_pb.GetRoomRequest(room_id=channel.room_id)
    assert persist(eve.rooms.GetRoom, asked).room == channel


def test_a_channel_is_entered_by_its_unique_id_and_named_by_who_may(server):
    """B-003, B-010, B-011, B-012, B-014, B-015, B-197: made by the first caller, entered by the next."""
    (anna_id, anna), (boris_id, boris) = users(server, "anna", "boris")
    unique = f"news-{uuid.uuid4().hex[:6]}"

    def enter(client, **fields):
        request = room_pb.GetOrCreateChannelRequest(unique_id=unique, **fields)
        reply = persist(client.rooms.GetOrCreateChannel, request)
        return reply.created, reply.room

    def members():
        request = membership_pb.ListRoomMembersRequest(room_id=made.room_id)
        listed = persist(anna.members.ListRoomMembers, request).members
        return {member.user_id: member.role for member in listed}

    created, made = enter(anna, metadata={"topic": "tea"})
    assert created and made.room_id and made.creator_user_id == anna_id
    assert (made.name, dict(made.metadata), made.unique_id) == ("", {"topic": "tea"}, unique)
    assert members() == {anna_id: event_pb2.MEMBER_ROLE_OWNER}
    # A member's name for it is not taken over, the owner's is.
    assert enter(boris, name="mine") == (False, made)
    assert members()[boris_id] == event_pb2.MEMBER_ROLE_MEMBER
    assert enter(anna, name="News")[1].name == "News"
    read = persist(boris.rooms.GetRoom, room_pb.GetRoomRequest(room_id=made.room_id)).room
    assert (read.name, read.room_id) == ("News", made.room_id)
    for bad in ("a#b", "a+b"):
        error = refused(anna.rooms.GetOrCreateChannel, room_pb.GetOrCreateChannelRequest(unique_id=bad))
        [violation] = details(error)["BadRequest"].field_violations
        assert (error.code(), violation.field) == (grpc.StatusCode.INVALID_ARGUMENT, "unique_id")
    nowhere = membership_pb.JoinRoomRequest(room_id=f"{made.room_id}-not")
    error = refused(boris.members.JoinRoom, nowhere)
    assert (error.code(), reason(error)) == (grpc.StatusCode.NOT_FOUND, "ROOM_NOT_FOUND")


def test_a_room_takes_as_many_members_as_its_capacity(server):
    """B-054: all or none."""
    (_, anna), (boris_id, _), (clara_id, _) = users(server, "anna", "boris", "clara")
    request = room_pb.CreateRoomRequest(
        kind=event_pb2.ROOM_KIND_GROUP, settings=room_pb2.RoomSettings(capacity=2)
    )
    room = persist(anna.rooms.CreateRoom, request).room.room_id
    both = membership_pb.AddMembersRequest(room_id=room, user_ids=[boris_id, clara_id])
    error = refused(anna.members.AddMembers, both)
    assert (error.code(), reason(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "ROOM_FULL")
    listing = membership_pb.ListRoomMembersRequest(room_id=room)
    assert persist(anna.members.ListRoomMembers, listing).total_size == 1
    anna.add(room, boris_id)


def my_rooms(client, page_size, between=lambda: None):
    """The walk through a user's rooms; `between` happens after every page."""
    request, seen, sizes = list_pb.ListMyRoomsRequest(page_size=page_size), [], []
    while True:
        page = persist(client.lists.ListMyRooms, request)
        seen += [entry.room.room_id for entry in page.rooms]
        sizes.append(len(page.rooms))
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return seen, sizes
        between()


def test_a_walk_through_my_rooms_misses_none_while_they_move(server, chance):
    """B-051: the latest activity comes first; rooms that move may come twice."""
    [(_, anna)] = users(server, "anna")
    rooms = [anna.create_group(f"room {number}") for number in range(25)]
    for room in rooms:
        anna.send(room, "first")
    still, _ = my_rooms(anna, 100)
    assert still == rooms[::-1]
    moving, _ = my_rooms(anna, 4, between=lambda: anna.send(chance.choice(rooms), "again"))
    assert set(moving) == set(rooms)


def test_a_page_has_at_most_100_entries_and_its_token_belongs_to_its_query(server):
    """B-180, B-182: 10 entries by default; a token of another query is INVALID_ARGUMENT."""
    [(_, anna), (_, boris)] = users(server, "anna", "boris")
    room = anna.create_group("long")
    for number in range(105):
        anna.send(room, f"line {number}")

    def page(client=anna, **fields):
        request = message_service_pb2.ListMessagesRequest(room_id=room, **fields)
        return persist(client.messages.ListMessages, request)

    assert len(page().messages) == 10
    hundred = page(after_seq=0, page_size=1000)
    assert len(hundred.messages) == 100
    rest = page(after_seq=0, page_size=1000, page_token=hundred.next_page_token)
    assert len(rest.messages) == 5 and not rest.next_page_token
    for wrong in (
        {"page_token": hundred.next_page_token, "before_seq": 50},
        {"page_token": "nonsense", "after_seq": 0},
    ):
        request = message_service_pb2.ListMessagesRequest(room_id=room, **wrong)
        error = refused(anna.messages.ListMessages, request)
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, wrong
        [violation] = details(error)["BadRequest"].field_violations
        assert violation.field == "page_token"


def test_too_many_calls_are_refused_with_the_time_to_wait():
    """B-191: and after that time the next one is not."""
    with Server(options=["--rate", "5", "--burst", "5"]) as server:
        anna = server.user("anna")
        request = inbox_pb.GetUnreadRequest()
        with pytest.raises(grpc.RpcError) as over:
            for _ in range(50):
                anna.inbox.GetUnread(request, timeout=10)
        error = over.value
        assert (error.code(), reason(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert details(error)["QuotaFailure"].violations
        assert 0 < retry_after(error) <= 2
        # It waits as long as it was told, and is served.
        assert persist(anna.inbox.GetUnread, request).total == 0
        # Another user is not held up.
        assert server.user("boris").inbox.GetUnread(request, timeout=10).total == 0
        server.stop()


def test_a_text_with_a_null_character_is_refused_naming_the_field(server):
    """B-186: on both databases alike."""
    [(_, anna)] = users(server, "anna")
    room = anna.create_group("clean")
    request = message_service_pb2.SendMessageRequest(
        room_id=room, content=message_pb2.MessageContent(text="a\0b")
    )
    error = refused(anna.messages.SendMessage, request)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    [violation] = details(error)["BadRequest"].field_violations
    assert violation.field.endswith("text")
