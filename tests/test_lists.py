"""What users see of their rooms, end to end: lists, who comes and goes, rules of rooms."""

import uuid

from google.protobuf import field_mask_pb2
from parlance_client import Client, people, persist, refused
from subscriber import Subscriber

from parlance.membership.v1 import member_service_pb2 as member_pb
from parlance.membership.v1 import membership_service_pb2 as membership_pb
from parlance.message.v1 import event_pb2, message_pb2
from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.message.v1 import stream_service_pb2 as stream_pb
from parlance.presence.v1 import typing_service_pb2 as typing_pb
from parlance.room.v1 import room_list_service_pb2 as list_pb
from parlance.room.v1 import room_pb2
from parlance.room.v1 import room_service_pb2 as room_pb
from parlance.room.v1 import tenant_settings_service_pb2 as settings_pb


def channel(client, unique_id):
    request = room_pb.GetOrCreateChannelRequest(unique_id=unique_id)
    return persist(client.rooms.GetOrCreateChannel, request).room.room_id


def direct(client, user_id):
    request = room_pb.GetOrCreateDirectRoomRequest(user_id=user_id)
    return persist(client.rooms.GetOrCreateDirectRoom, request).room.room_id


def leave(client, room_id):
    request = membership_pb.LeaveRoomRequest(room_id=room_id, request_id=uuid.uuid4().hex)
    return persist(client.members.LeaveRoom, request)


def listed(client, **fields):
    """Every room of the caller's list, page by page, and the sizes of the pages."""
    rooms, sizes, token = [], [], ""
    while True:
        request = list_pb.ListMyRoomsRequest(page_token=token, **fields)
        page = persist(client.lists.ListMyRooms, request)
        rooms += page.rooms
        sizes.append(len(page.rooms))
        token = page.next_page_token
        if not token:
            return rooms, sizes


def say(room_id, text="hello"):
    return message_pb.SendMessageRequest(
        room_id=room_id, content=message_pb2.MessageContent(text=text)
    )


def test_the_list_of_my_rooms_is_narrowed_and_ordered_and_rooms_in_common_are_listed(server):
    """B-032, B-034, B-047, B-049, B-062, B-090, B-198: over all services."""
    anna_id, anna, boris_id, boris, clara_id, clara = people(server, "anna", "boris", "clara")
    operator = Client(server.channel(), server.token("olga", role="operator"))
    settings = settings_pb.SetTenantSettingsRequest(
        settings=settings_pb.TenantSettings(allowed_fields=["topic"]),
        update_mask=field_mask_pb2.FieldMask(paths=["allowed_fields"]),
    )
    persist(operator.settings.SetTenantSettings, settings)
    create = room_pb.CreateRoomRequest(
        kind=event_pb2.ROOM_KIND_GROUP,
        name="Tea",
        member_user_ids=[boris_id],
        fields={"topic": "tea", "size": "7"},
        request_id=uuid.uuid4().hex,
    )
    made = persist(anna.rooms.CreateRoom, create)
    assert list(made.ignored_fields) == ["size"]
    tea, ale = made.room.room_id, anna.create_group("Ale", [boris_id])
    ours = direct(anna, clara_id)
    boris.send(tea, "hello")

    def found(**fields):
        rooms, _ = listed(anna, include_empty=True, **fields)
        return [entry.room.room_id for entry in rooms]

    assert found(order=list_pb.MY_ROOMS_ORDER_NAME) == [ours, ale, tea]
    assert found(order=list_pb.MY_ROOMS_ORDER_NAME, page_size=1) == [ours, ale, tea]
    assert found(order=list_pb.MY_ROOMS_ORDER_CREATION) == [ours, ale, tea]
    assert found(unread_only=True) == [tea]
    assert found(kinds=[event_pb2.ROOM_KIND_DIRECT]) == [ours]
    assert set(found(roles=[event_pb2.MEMBER_ROLE_OWNER])) == {tea, ale}
    assert found(name_contains="te") == [tea] == found(fields={"topic": "tea"})
    rooms, _ = listed(anna, include_empty=True, include_members=True)
    members = {entry.room.room_id: sorted(entry.member_user_ids) for entry in rooms}
    assert members[ours] == sorted([anna_id, clara_id]) and members[tea] == sorted([anna_id, boris_id])

    def common(*others):
        request = membership_pb.ListUserMembershipsRequest(with_user_ids=others)
        page = persist(anna.members.ListUserMemberships, request)
        return {membership.room_id for membership in page.memberships}

    assert common(boris_id) == {tea, ale} and common(boris_id, clara_id) == set()
    change = room_pb.UpdateRoomRequest(
        room=room_pb2.Room(room_id=tea, name="Ale and tea"),
        update_mask=field_mask_pb2.FieldMask(paths=["name"]),
        add_user_ids=[clara_id],
        remove_user_ids=[boris_id],
        request_id=uuid.uuid4().hex,
    )
    persist(anna.rooms.UpdateRoom, change)
    assert common(boris_id) == {ale} and common(clara_id) == {ours, tea}
    said = member_pb.UpdateMemberMetadataRequest(room_id=tea, set={"seat": "1"})
    assert persist(clara.member.UpdateMemberMetadata, said).member.user_id == clara_id
    asked = member_pb.BatchGetMemberMetadataRequest(room_id=tea, user_ids=[anna_id, clara_id])
    members = persist(anna.member.BatchGetMemberMetadata, asked).members
    assert [dict(member.metadata) for member in members] == [{}, {"seat": "1"}]


def test_the_list_of_my_rooms_has_each_kind_that_i_am_in_and_no_other(server):
    """B-004, B-047, B-048, B-050: with the role, what is unread, the last message and the activity."""
    anna_id, anna, boris_id, boris, clara_id, clara = people(server, "anna", "boris", "clara")
    ours = direct(boris, anna_id)
    group = boris.create_group("group", [anna_id])
    open_to_all = channel(boris, f"channel-{uuid.uuid4().hex[:6]}")
    persist(anna.members.JoinRoom, membership_pb.JoinRoomRequest(room_id=open_to_all))
    left = boris.create_group("left", [anna_id])
    leave(anna, left)
    direct(boris, clara_id)
    channel(clara, f"other-{uuid.uuid4().hex[:6]}")

    # Nobody has written: the list is empty unless such rooms are asked for.
    assert listed(anna)[0] == []
    rooms, _ = listed(anna, include_empty=True)
    kinds = {entry.room.room_id: entry.room.kind for entry in rooms}
    assert kinds == {
        ours: event_pb2.ROOM_KIND_DIRECT,
        group: event_pb2.ROOM_KIND_GROUP,
        open_to_all: event_pb2.ROOM_KIND_CHANNEL,
    }
    sent = boris.send(group, "hello")
    [entry] = listed(anna)[0]
    assert (entry.room.room_id, entry.role, entry.unread) == (group, event_pb2.MEMBER_ROLE_MEMBER, 1)
    assert entry.last_message.content.text == "hello"
    assert entry.activity_time == entry.last_message.send_time == sent.send_time
    assert entry.cursor.seq == sent.seq


def test_the_list_of_my_rooms_has_ten_a_page_and_a_hundred_at_most(server):
    """B-046, B-180."""
    _, anna = people(server, "anna")
    for number in range(101):
        anna.create_group(f"room {number}")
    everything, sizes = listed(anna, include_empty=True)
    assert len({entry.room.room_id for entry in everything}) == 101
    assert sizes[0] == 10
    everything, sizes = listed(anna, include_empty=True, page_size=1000)
    assert (len(everything), sizes[0]) == (101, 100)
    memberships = membership_pb.ListUserMembershipsRequest()
    assert len(persist(anna.members.ListUserMemberships, memberships).memberships) == 10
    memberships.page_size = 1000
    page = persist(anna.members.ListUserMemberships, memberships)
    memberships.page_token = page.next_page_token
    rest = persist(anna.members.ListUserMemberships, memberships)
    assert (len(page.memberships), len(rest.memberships)) == (100, 1)


def test_members_who_are_added_and_removed_have_the_room_in_their_lists_and_not(server):
    """B-064, B-067, B-068, B-069, B-072, B-085, B-190: an added user may send with the first call."""
    _, anna, boris_id, boris, clara_id, clara = people(server, "anna", "boris", "clara")
    room = anna.create_group("group", [boris_id])
    anna.send(room, "hello")
    boris.add(room, clara_id)
    persist(clara.messages.SendMessage, say(room, "my first call"))

    def lists(client):
        mine = membership_pb.ListUserMembershipsRequest(page_size=100)
        members = persist(client.members.ListUserMemberships, mine).memberships
        seen = {entry.room.room_id for entry in listed(client)[0]}
        return room in seen, room in {membership.room_id for membership in members}

    assert lists(clara) == (True, True)
    # Unless the room says otherwise owners and admins remove.
    removal = membership_pb.RemoveMembersRequest(room_id=room, user_ids=[clara_id])
    assert refused(boris.members.RemoveMembers, removal) == "NOT_ALLOWED"
    anna.remove(room, clara_id)
    assert lists(clara) == (False, False)
    assert lists(boris) == (True, True)


def test_a_user_who_leaves_gets_the_leaving_and_nothing_after(server):
    """B-057, B-084, B-088, B-116, B-138: on a stream of the room and on one of all rooms; the others see who
    came and who left, as lists."""
    _, anna, boris_id, boris, clara_id, _ = people(server, "anna", "boris", "clara")
    room = anna.create_group("group")
    with Subscriber(anna, [room]) as witness:
        witness.wait_attached(room)
        anna.add(room, boris_id, clara_id)
        named, everything = Subscriber(boris, [room]), Subscriber(boris, all_my_rooms=True)
        with named, everything:
            named.wait_attached(room)
            everything.wait_attached(room)
            leave(boris, room)
            after = anna.send(room, "without boris").seq
            for subscriber in (named, everything):
                subscriber.wait(lambda me: me.rooms[room].closed is not None)
                closed = subscriber.rooms[room].closed
                assert closed.reason == stream_pb.CLOSED_REASON_REMOVED
                assert closed.seq == subscriber.seq(room) == after - 1
                assert not subscriber.faults
        witness.wait_for(room, after)
    events = witness.rooms[room].events
    [*_, joined] = [event.members_joined for event in events if event.HasField("members_joined")]
    assert {member.user_id for member in joined.members} == {boris_id, clara_id}
    [left] = [event.members_left for event in events if event.HasField("members_left")]
    assert (list(left.user_ids), left.removed) == ([boris_id], False)
    reading = message_pb.ListMessagesRequest(room_id=room)
    assert refused(boris.messages.ListMessages, reading) == "NOT_A_MEMBER"
    assert refused(boris.messages.SendMessage, say(room)) == "NOT_A_MEMBER"


def test_a_user_goes_from_channel_to_channel_on_an_open_stream(server):
    """B-015, B-020, B-028, B-074, B-079, B-084, B-087, B-211: what is joined is attached and
    what is left is closed, each for itself; the others see who came and who left."""
    anna_id, anna, boris_id, boris = people(server, "anna", "boris")
    first, second = (channel(anna, f"{name}-{uuid.uuid4().hex[:6]}") for name in ("old", "new"))
    witness, mine = Subscriber(anna, [first, second]), Subscriber(boris, all_my_rooms=True)
    joining = membership_pb.JoinRoomRequest
    persist(boris.members.JoinRoom, joining(room_id=first))
    with witness, mine:
        mine.wait_attached(first)
        witness.wait_attached(first, second)
        persist(boris.members.JoinRoom, joining(room_id=second))
        # No other call is needed before the first message.
        said = persist(boris.messages.SendMessage, say(second))
        mine.wait_for(second, said.seq)
        assert mine.rooms[first].closed is None
        leave(boris, first)
        mine.wait(lambda me: me.rooms[first].closed is not None)
        assert mine.rooms[second].closed is None
        everyone = membership_pb.ListRoomMembersRequest(room_id=second, page_size=1)
        page = persist(boris.members.ListRoomMembers, everyone)
        assert (len(page.members), page.total_size, page.next_page_token != "") == (1, 2, True)
        assert {entry.room.room_id for entry in listed(boris, include_empty=True)[0]} == {second}
        leave(boris, second)
        mine.wait(lambda me: me.rooms[second].closed is not None)
        closed = {room: mine.rooms[room].closed for room in (first, second)}
        for room, frame in closed.items():
            assert frame.reason == stream_pb.CLOSED_REASON_REMOVED
            witness.wait_for(room, frame.seq)
            events = witness.rooms[room].events
            bodies = [event.WhichOneof("body") for event in events if event.actor_id == boris_id]
            assert (bodies[0], bodies[-1]) == ("members_joined", "members_left")
        assert listed(boris, include_empty=True)[0] == []
        # Who left comes back at will; who was removed does not.
        persist(boris.members.JoinRoom, joining(room_id=second))
        removal = membership_pb.RemoveMembersRequest(
            room_id=second, user_ids=[boris_id], reason="noise", request_id=uuid.uuid4().hex
        )
        persist(anna.members.RemoveMembers, removal)
        witness.wait(lambda me: me.rooms[second].events[-1].members_left.removed)
        gone = witness.rooms[second].events[-1]
        assert (gone.actor_id, gone.members_left.reason) == (anna_id, "noise")
        assert refused(boris.members.JoinRoom, joining(room_id=second)) == "REMOVED_FROM_ROOM"
        assert not mine.faults and not witness.faults


def test_typing_is_stored_nowhere(server):
    """B-130: not in the log, the history or a stream that comes later."""
    anna_id, anna, boris_id, boris = people(server, "anna", "boris")
    room = anna.create_group("group", [boris_id])
    head = anna.send(room, "hello").seq
    with Subscriber(boris, [room]) as stream:
        stream.wait_attached(room)
        for typing in (True, False):
            request = typing_pb.SetTypingRequest(room_id=room, typing=typing)
            anna.typing.SetTyping(request, timeout=10)
            stream.wait(lambda me, want=typing: me.notices and me.notices[-1].typing.typing == want)
    assert [message.seq for message in boris.history(room)] == [head]
    with Subscriber(boris, [room], cursors={room: ("", 0)}) as later:
        later.wait_for(room, anna.send(room, "the next").seq)
        assert later.seq(room) == head + 1, "typing took no number"
        assert not [notice for notice in later.notices if notice.HasField("typing")]


def test_rules_of_a_room_reach_those_who_read_and_send(server):
    """B-035, B-053, B-075: previews, who posts, and what newcomers see, from the settings of a room."""
    _, anna, boris_id, boris, _, eve = people(server, "anna", "boris", "eve")
    room = anna.create_group("group", [boris_id])
    boris.send(room, "before the rules")
    preview = message_pb.ListMessagesRequest(room_id=room, preview=True)
    assert refused(eve.messages.ListMessages, preview) == "PREVIEW_NOT_ALLOWED"
    settings = room_pb2.RoomSettings(
        allow_preview=True,
        post=event_pb2.POST_RULE_ADMINS,
        history=event_pb2.HISTORY_VISIBILITY_SINCE_JOIN,
    )
    paths = ["settings.allow_preview", "settings.post", "settings.history"]
    change = room_pb.UpdateRoomRequest(
        room=room_pb2.Room(room_id=room, settings=settings),
        update_mask=field_mask_pb2.FieldMask(paths=paths),
        request_id=uuid.uuid4().hex,
    )
    persist(anna.rooms.UpdateRoom, change)
    shown = persist(eve.messages.ListMessages, preview).messages
    assert [message.content.text for message in shown] == ["before the rules"]
    assert refused(boris.messages.SendMessage, say(room)) == "POSTING_RESTRICTED"
    newcomer_id, newcomer = people(server, "newcomer")
    anna.add(room, newcomer_id)
    anna.send(room, "after the join")
    assert [message.content.text for message in newcomer.history(room)] == ["after the join"]


def test_members_and_memberships_come_a_hundred_a_page_at_most(server):
    """B-068, B-069, B-080, B-178, B-179, B-180: ten by default; the number of all comes along."""
    _, anna = people(server, "anna")
    others = [f"one-of-many-{uuid.uuid4().hex}" for _ in range(101)]
    server.service().upsert_users(others)
    room = anna.create_group("group")
    assert len(anna.add(room, *others[:100]).added) == 100
    anna.add(room, others[100])
    shortest = membership_pb.ListRoomMembersRequest(room_id=room)
    page = persist(anna.members.ListRoomMembers, shortest)
    assert (len(page.members), page.total_size) == (10, 102)
    request = membership_pb.ListRoomMembersRequest(room_id=room, page_size=1000)
    first = persist(anna.members.ListRoomMembers, request)
    request.page_token = first.next_page_token
    second = persist(anna.members.ListRoomMembers, request)
    assert (len(first.members), len(second.members)) == (100, 2)
    assert not second.next_page_token
    assert len(anna.remove(room, *others[:100]).removed_user_ids) == 100
    assert persist(anna.members.ListRoomMembers, shortest).total_size == 2
