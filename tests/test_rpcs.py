"""Every RPC that callers reach, over a socket and with tokens that were verified."""

import uuid

import grpc
import pytest
from google.protobuf import descriptor_pb2, field_mask_pb2
from parlance_client import Client, details, mint, people, persist, reason, refused
from server import TENANT
from subscriber import Subscriber
from test_reflection import INTERNAL, PUBLIC, reflect

from parlance.membership.v1 import membership_service_pb2 as membership_pb
from parlance.membership.v1 import user_service_pb2 as user_pb
from parlance.message.v1 import event_pb2, message_pb2
from parlance.message.v1 import inbox_service_pb2 as inbox_pb
from parlance.message.v1 import mark_service_pb2 as mark_pb
from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.room.v1 import room_list_service_pb2 as list_pb
from parlance.room.v1 import room_pb2
from parlance.room.v1 import room_service_pb2 as room_pb

STRANGE_KEY = b"a key that the server does not know"
OWNER, ADMIN, MEMBER = (
    event_pb2.MEMBER_ROLE_OWNER,
    event_pb2.MEMBER_ROLE_ADMIN,
    event_pb2.MEMBER_ROLE_MEMBER,
)


def methods(server, service):
    """The methods of a service as reflection describes them: path → whether it takes a stream,
    and whether it answers with one."""
    reply = reflect(server, "v1", file_containing_symbol=service)
    found = {}
    for encoded in reply.file_descriptor_response.file_descriptor_proto:
        file = descriptor_pb2.FileDescriptorProto.FromString(encoded)
        for described in file.service:
            if f"{file.package}.{described.name}" == service:
                for method in described.method:
                    streams = method.client_streaming, method.server_streaming
                    found[f"/{service}/{method.name}"] = streams
    assert found, service
    return found


def ask(channel, path, streams, token=None):
    """An empty request. How it was refused; None if it was not."""
    metadata = [("authorization", f"Bearer {token}")] if token is not None else []
    takes, answers = streams
    sides = {False: "unary", True: "stream"}
    call = getattr(channel, f"{sides[takes]}_{sides[answers]}")(path)
    try:
        answer = call(iter([b""]) if takes else b"", metadata=metadata, timeout=10)
        if answers:
            next(answer)
            answer.cancel()
    except grpc.RpcError as error:
        return error
    return None


def roles_of(server):
    """A good token of each kind of caller."""
    return {role: server.token("tests", role=role) for role in ("user", "service", "operator")}


def test_reflection_shows_no_service_that_is_not_tried_here(server):
    reply = reflect(server, "v1", list_services="")
    listed = {service.name for service in reply.list_services_response.service}
    assert {name for name in listed if name.startswith("parlance.")} == {*PUBLIC, *INTERNAL}


def test_no_method_answers_without_a_good_token_and_every_one_with_one(server):
    """B-172, B-177, B-183, B-187, B-216."""
    channel, good = server.channel(), roles_of(server)
    bad = {
        "TOKEN_MISSING": [None],
        "TOKEN_INVALID": ["garbage", "a.b.c", mint(STRANGE_KEY, TENANT, "anna"), good["user"][:-4]],
    }
    paths = {path: streams for name in PUBLIC for path, streams in methods(server, name).items()}
    assert len(paths) > 35
    for path, streams in paths.items():
        for expected, tokens in bad.items():
            for token in tokens:
                error = ask(channel, path, streams, token)
                assert error is not None, f"{path} answered {token}"
                info = details(error)["ErrorInfo"]
                assert error.code() == grpc.StatusCode.UNAUTHENTICATED, f"{path}: {token}"
                assert (info.domain, info.reason) == ("parlance", expected), f"{path}: {token}"
        for role, token in good.items():
            error = ask(channel, path, streams, token)
            if error is not None:
                told = reason(error)
                assert told and not told.startswith("TOKEN_"), f"{path}, {role}: {error}"
                assert told != "INTERNAL", f"{path}, {role}: {error}"


def test_internal_services_are_out_of_reach_for_every_caller(server):
    channel = server.channel()
    for name in INTERNAL:
        for path, streams in methods(server, name).items():
            error = ask(channel, path, streams)
            assert reason(error) == "TOKEN_MISSING", path
            for role, token in roles_of(server).items():
                error = ask(channel, path, streams, token)
                assert error is not None, f"{path} answered {role}"
                assert error.code() == grpc.StatusCode.PERMISSION_DENIED, f"{path}, {role}"
                assert reason(error) == "NOT_ALLOWED", f"{path}, {role}"


def test_what_the_transport_refuses_has_a_code_and_no_reason(server):
    """docs/errors.md says so: the request reached no service."""
    channel, token = server.channel(), server.token("anna")
    known = "/parlance.message.v1.InboxService/GetUnread"
    good = [("authorization", f"Bearer {token}")]
    for path, more, compression, code in (
        (f"{known}ish", [], None, grpc.StatusCode.UNIMPLEMENTED),
        ("/parlance.none.v1.NoService/Get", [], None, grpc.StatusCode.UNIMPLEMENTED),
        (known, [], grpc.Compression.Gzip, grpc.StatusCode.UNIMPLEMENTED),
        (known, [("x-padding", "x" * 25_000)], None, grpc.StatusCode.UNKNOWN),
    ):
        # Long enough that the client compresses it when it may.
        request = inbox_pb.GetUnreadRequest(room_ids=["a room"] * 50).SerializeToString()
        with pytest.raises(grpc.RpcError) as error:
            call = channel.unary_unary(path)
            call(request, metadata=good + more, compression=compression, timeout=10)
        assert (error.value.code(), reason(error.value)) == (code, None), path


def rename(room_id, name):
    return room_pb.UpdateRoomRequest(
        room=room_pb2.Room(room_id=room_id, name=name),
        update_mask=field_mask_pb2.FieldMask(paths=["name"]),
        request_id=uuid.uuid4().hex,
    )


def rooms_of(client, user_id=""):
    request = membership_pb.ListUserMembershipsRequest(user_id=user_id, page_size=100)
    page = persist(client.members.ListUserMemberships, request)
    return {membership.room_id: membership.role for membership in page.memberships}


def membership(client, room_id, user_id=""):
    request = membership_pb.GetMembershipRequest(room_id=room_id, user_id=user_id)
    return persist(client.members.GetMembership, request).membership


def test_users_write_themselves_and_are_read_by_all(server):
    """One, or several in the order asked for."""
    anna_id, anna, boris_id, boris = people(server, "anna", "boris")
    entry = user_pb.User(user_id=anna_id, name="Anna", metadata={"team": "red"})
    written = persist(anna.users.UpsertUser, user_pb.UpsertUserRequest(user=entry)).user
    assert persist(boris.users.GetUser, user_pb.GetUserRequest(user_id=anna_id)).user == written
    assert (written.name, dict(written.metadata)) == ("Anna", {"team": "red"})
    nobody = user_pb.GetUserRequest(user_id=f"{anna_id}-not")
    assert refused(boris.users.GetUser, nobody) == "USER_NOT_FOUND"
    wanted = user_pb.BatchGetUsersRequest(user_ids=[boris_id, nobody.user_id, anna_id])
    found = persist(boris.users.BatchGetUsers, wanted)
    assert [user.user_id for user in found.users] == [boris_id, anna_id]
    assert found.users[1] == written
    assert list(found.missing_user_ids) == [nobody.user_id]


def test_a_member_rises_and_the_owner_leaves_the_room_to_a_successor(server):
    """B-057, B-059, B-070, B-083, B-116: each step stands in the log and is obeyed at once."""
    anna_id, anna, boris_id, boris = people(server, "anna", "boris")
    room = anna.create_group("a group", [boris_id])
    with Subscriber(boris, rooms=[room]) as follower:
        follower.wait_attached(room)
        assert membership(boris, room).role == MEMBER
        assert refused(boris.rooms.UpdateRoom, rename(room, "mine")) == "NOT_ALLOWED"
        rise = membership_pb.ChangeRoleRequest(
            room_id=room, user_id=boris_id, role=ADMIN, request_id=uuid.uuid4().hex
        )
        assert refused(boris.members.ChangeRole, rise) == "NOT_ALLOWED"
        assert persist(anna.members.ChangeRole, rise).membership.role == ADMIN
        assert membership(anna, room, boris_id).role == ADMIN
        assert persist(boris.rooms.UpdateRoom, rename(room, "mine")).room.name == "mine"
        leave = membership_pb.LeaveRoomRequest(room_id=room, request_id=uuid.uuid4().hex)
        assert refused(anna.members.LeaveRoom, leave) == "LAST_OWNER"
        leave.successor_user_id = boris_id
        persist(anna.members.LeaveRoom, leave)
        assert refused(anna.members.GetMembership, membership_pb.GetMembershipRequest(room_id=room)) == (
            "NOT_A_MEMBER"
        )
        say = message_pb.SendMessageRequest(
            room_id=room, content=message_pb2.MessageContent(text="one more")
        )
        assert refused(anna.messages.SendMessage, say) == "NOT_A_MEMBER"
        assert room not in rooms_of(anna)
        assert rooms_of(boris)[room] == OWNER
        follower.wait_for(room, boris.send(room, "alone").seq)
        assert not follower.faults
        events = follower.rooms[room].events
    changes = [event for event in events if event.HasField("roles_changed")]
    assert [(event.actor_id, event.effects.roles[0].role) for event in changes][0] == (anna_id, ADMIN)
    [left] = [event for event in events if event.HasField("members_left")]
    assert list(left.members_left.user_ids) == [anna_id] and not left.members_left.removed


def test_marks_are_told_to_the_other_and_a_flag_changes_no_count(server):
    """B-117, B-118, B-119, B-207."""
    anna_id, anna, boris_id, boris = people(server, "anna", "boris")
    room = anna.create_group("a group", [boris_id])
    last = anna.send(room, "hello").seq

    def my_room():
        [entry] = persist(boris.lists.ListMyRooms, list_pb.ListMyRoomsRequest()).rooms
        return entry.unread, entry.marked_unread

    def unread():
        request = inbox_pb.GetUnreadRequest(room_ids=[room])
        [entry] = persist(boris.inbox.GetUnread, request).rooms
        return entry.unread, entry.marked_unread

    with Subscriber(anna, rooms=[room]) as follower:
        follower.wait_for(room, last)
        arrived = mark_pb.MarkDeliveredRequest(room_id=room, seq=last)
        assert persist(boris.marks.MarkDelivered, arrived).delivered_seq == last
        follower.wait(lambda me: me.notices)
        [notice] = follower.notices
        receipt = notice.receipt
        assert (receipt.user_id, receipt.delivered_seq) == (boris_id, last)
        assert receipt.read_seq < last
        arrived.seq = last + 1
        assert refused(boris.marks.MarkDelivered, arrived) == "INVALID_FIELD"
        assert unread() == my_room() == (1, False)
        persist(boris.marks.MarkUnread, mark_pb.MarkUnreadRequest(room_id=room))
        assert unread() == my_room() == (1, True)
        persist(boris.marks.MarkRead, mark_pb.MarkReadRequest(room_id=room, seq=last))
        assert unread() == my_room() == (0, False)
        follower.wait(lambda me: me.notices[-1].receipt.read_seq == last)
        persist(boris.marks.MarkUnread, mark_pb.MarkUnreadRequest(room_id=room))
        assert unread() == my_room() == (0, True)
    # Whoever comes later learns of it too.
    with Subscriber(anna, rooms=[room]) as follower:
        follower.wait(lambda me: room in me.marks)
        marks = persist(anna.marks.ListReceipts, mark_pb.ListReceiptsRequest(room_id=room)).receipts
        assert list(follower.marks[room]) == list(marks)
        assert {mark.user_id: mark.read_seq for mark in marks}[boris_id] == last


def test_an_edit_is_read_by_all_and_keeps_its_place(server):
    """B-104, B-106, B-193: a repeat of its request id changes nothing."""
    anna_id, anna, boris_id, boris = people(server, "anna", "boris")
    room = anna.create_group("a group", [boris_id])
    sent = anna.send(room, "helo")
    edit = message_pb.EditMessageRequest(
        message_id=sent.message_id,
        content=message_pb2.MessageContent(text="hello"),
        request_id=uuid.uuid4().hex,
    )
    with Subscriber(boris, rooms=[room]) as follower:
        follower.wait_attached(room)
        assert refused(boris.messages.EditMessage, edit) == "NOT_THE_SENDER"
        first = persist(anna.messages.EditMessage, edit)
        assert first.seq == sent.seq + 1
        assert persist(anna.messages.EditMessage, edit) == first
        follower.wait_for(room, first.seq)
        told = follower.rooms[room].events[-1].message_edited
        assert (told.message_seq, told.content.text) == (sent.seq, "hello")
    get = message_pb.GetMessageRequest(message_id=sent.message_id)
    message = persist(boris.messages.GetMessage, get).message
    assert (message.seq, message.edit_seq, message.content.text) == (sent.seq, first.seq, "hello")
    assert boris.history(room) == [message]
    delete = message_pb.DeleteMessageRequest(message_id=sent.message_id)
    with Subscriber(boris, rooms=[room]) as follower:
        follower.wait_attached(room)
        gone = persist(anna.messages.DeleteMessage, delete)
        follower.wait_for(room, gone.seq)
        assert follower.rooms[room].events[-1].message_deleted.message_seq == sent.seq
    edit.request_id = uuid.uuid4().hex
    assert refused(anna.messages.EditMessage, edit) == "MESSAGE_DELETED"
    assert not boris.history(room)[0].HasField("content")


def test_a_room_is_read_and_its_latest_messages_are_one_call_away(server):
    """B-042: and the last of them comes along in the list of my rooms."""
    anna_id, anna, boris_id, boris = people(server, "anna", "boris")
    room = anna.create_group("a group", [boris_id])
    for number in range(12):
        anna.send(room, f"line {number}")
    read = persist(boris.rooms.GetRoom, room_pb.GetRoomRequest(room_id=room)).room
    page = persist(boris.messages.ListMessages, message_pb.ListMessagesRequest(room_id=read.room_id))
    assert [message.content.text for message in page.messages] == [
        f"line {number}" for number in range(2, 12)
    ]
    [entry] = persist(boris.lists.ListMyRooms, list_pb.ListMyRoomsRequest()).rooms
    assert entry.room == read
    assert entry.last_message == page.messages[-1]


def test_what_is_unread_in_a_channel_counts_as_elsewhere(server):
    """B-125: channels send no receipts, but each member's mark is kept and counted from."""
    anna_id, anna, boris_id, boris = people(server, "anna", "boris")
    request = room_pb.GetOrCreateChannelRequest(unique_id=f"news-{uuid.uuid4().hex[:6]}")
    room = persist(anna.rooms.GetOrCreateChannel, request).room.room_id
    persist(boris.members.JoinRoom, membership_pb.JoinRoomRequest(room_id=room))
    seqs = [anna.send(room, f"news {number}").seq for number in range(3)]
    assert boris.unread(room) == ({room: 3}, 3)
    [entry] = persist(boris.lists.ListMyRooms, list_pb.ListMyRoomsRequest()).rooms
    assert entry.unread == 3
    persist(boris.marks.MarkRead, mark_pb.MarkReadRequest(room_id=room, seq=seqs[1]))
    assert boris.unread(room) == ({room: 1}, 1)


def test_an_operator_acts_for_the_whole_tenant_as_a_service_does(server):
    """B-009, B-025, B-086: rooms, members and messages, in rooms that it is not in; not in other tenants."""
    anna_id, anna, boris_id, boris = people(server, "anna", "boris")
    operator = Client(server.channel(), server.token("olga", role="operator"))
    created = room_pb.CreateRoomRequest(
        kind=event_pb2.ROOM_KIND_GROUP, owner_user_id=anna_id, request_id=uuid.uuid4().hex
    )
    room = persist(operator.rooms.CreateRoom, created).room
    assert room.creator_user_id == ""
    room = room.room_id
    added = operator.add(room, boris_id).added
    assert [member.user_id for member in added] == [boris_id]
    rise = membership_pb.ChangeRoleRequest(room_id=room, user_id=boris_id, role=ADMIN)
    assert persist(operator.members.ChangeRole, rise).membership.role == ADMIN
    assert membership(operator, room, boris_id).role == ADMIN
    listing = membership_pb.ListRoomMembersRequest(room_id=room)
    members = persist(operator.members.ListRoomMembers, listing).members
    assert {member.user_id: member.role for member in members} == {anna_id: OWNER, boris_id: ADMIN}
    assert room in rooms_of(operator, boris_id)
    assert persist(operator.rooms.UpdateRoom, rename(room, "ours")).room.name == "ours"
    by_anna = anna.send(room, "by anna")
    by_nobody = operator.send(room, "by nobody")
    assert [message.sender_id for message in operator.history(room)] == [anna_id, ""]
    for sent in (by_anna, by_nobody):
        delete = message_pb.DeleteMessageRequest(message_id=sent.message_id)
        persist(operator.messages.DeleteMessage, delete)
    with Subscriber(operator, rooms=[room], cursors={room: ("", 0)}) as follower:
        follower.wait_for(room, by_nobody.seq + 2)
        assert not follower.faults
        actors = {event.actor_id for event in follower.rooms[room].events}
    assert actors == {"", anna_id}, "an operator is told as nobody"
    assert list(operator.remove(room, boris_id).removed_user_ids) == [boris_id]
    # It never acts for a user, so what makes no sense without one stays refused.
    posing = Client(server.channel(), server.token("olga", role="operator"), acting_user=anna_id)
    assert refused(posing.rooms.GetRoom, room_pb.GetRoomRequest(room_id=room)) == "NOT_ALLOWED"
    assert refused(operator.members.JoinRoom, membership_pb.JoinRoomRequest(room_id=room)) == (
        "USER_REQUIRED"
    )
    assert refused(operator.marks.MarkAllRead, mark_pb.MarkAllReadRequest(room_id=room)) == (
        "USER_REQUIRED"
    )
    assert refused(operator.lists.ListMyRooms, list_pb.ListMyRoomsRequest()) == "USER_REQUIRED"
    abroad = Client(server.channel(), server.token("olga", role="operator", tenant="elsewhere"))
    assert refused(abroad.rooms.GetRoom, room_pb.GetRoomRequest(room_id=room)) == "ROOM_NOT_FOUND"
    persist(operator.rooms.DeleteRoom, room_pb.DeleteRoomRequest(room_id=room))
    assert refused(anna.rooms.GetRoom, room_pb.GetRoomRequest(room_id=room)) == "ROOM_NOT_FOUND"
