"""Broadcasts, end to end: made by operators, read by everybody, written to by services."""

import uuid

from parlance_client import Client, persist, refused
from subscriber import Subscriber

from parlance.membership.v1 import membership_service_pb2 as membership_pb
from parlance.message.v1 import event_pb2, message_pb2
from parlance.message.v1 import mark_service_pb2 as mark_pb
from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.message.v1 import stream_service_pb2 as stream_pb
from parlance.presence.v1 import presence_service_pb2 as presence_pb
from parlance.room.v1 import room_list_service_pb2 as list_pb
from parlance.room.v1 import room_service_pb2 as room_pb


def test_a_broadcast_reaches_every_user_of_its_tenant_from_its_creation_to_its_deletion(server):
    """B-004, B-005: with lists, unread counts and streams; nobody of another tenant sees it."""
    tenant = f"t-{uuid.uuid4().hex[:6]}"
    operator = Client(server.channel(), server.token("olga", role="operator", tenant=tenant))
    backend = server.service(tenant=tenant)
    anna, boris = (server.user(name, tenant=tenant) for name in ("anna", "boris"))
    stranger = server.user("anna", tenant=f"{tenant}-other")

    def listed(client):
        request = list_pb.ListMyRoomsRequest(
            include_empty=True, kinds=[event_pb2.ROOM_KIND_BROADCAST]
        )
        return persist(client.lists.ListMyRooms, request).rooms

    assert len(listed(anna)) == 0
    with Subscriber(anna, all_my_rooms=True) as follower:
        follower.wait(lambda me: me.streams > 0)
        create = room_pb.CreateRoomRequest(
            kind=event_pb2.ROOM_KIND_BROADCAST, name="News", request_id=uuid.uuid4().hex
        )
        assert refused(anna.rooms.CreateRoom, create) == "NOT_ALLOWED"
        news = persist(operator.rooms.CreateRoom, create).room.room_id
        first = backend.send(news, "welcome")
        follower.wait_for(news, first.seq)
        assert [event.seq for event in follower.rooms[news].events] == list(range(1, first.seq + 1))

        # Boris has never called before: what was written is read, and he sees it.
        [entry] = listed(boris)
        assert (entry.room.name, entry.unread, entry.role) == ("News", 0, event_pb2.MEMBER_ROLE_MEMBER)
        assert entry.last_message.content.text == "welcome"
        second = operator.send(news, "maintenance tonight")
        assert boris.unread(news) == ({news: 1}, 1)
        persist(boris.marks.MarkRead, mark_pb.MarkReadRequest(room_id=news, seq=second.seq))
        assert boris.unread(news) == ({news: 0}, 0)
        assert [message.sender_id for message in boris.history(news)] == ["", ""]

        say = message_pb.SendMessageRequest(
            room_id=news, content=message_pb2.MessageContent(text="me too")
        )
        assert refused(boris.messages.SendMessage, say) == "POSTING_RESTRICTED"
        members = membership_pb.ListRoomMembersRequest(room_id=news)
        assert refused(boris.members.ListRoomMembers, members) == "BROADCAST_ROOM"
        online = presence_pb.GetRoomOnlineCountRequest(room_id=news)
        assert refused(boris.presence.GetRoomOnlineCount, online) == "BROADCAST_ROOM"
        assert refused(stranger.rooms.GetRoom, room_pb.GetRoomRequest(room_id=news)) == "ROOM_NOT_FOUND"
        assert len(listed(stranger)) == 0

        delete = room_pb.DeleteRoomRequest(room_id=news, request_id=uuid.uuid4().hex)
        assert refused(boris.rooms.DeleteRoom, delete) == "NOT_ALLOWED"
        persist(operator.rooms.DeleteRoom, delete)
        follower.wait(lambda me: me.rooms[news].closed is not None)
        assert follower.rooms[news].closed.reason == stream_pb.CLOSED_REASON_ROOM_DELETED
        assert not follower.faults
    assert len(listed(anna)) == 0 == len(listed(boris))
    assert refused(boris.messages.SendMessage, say) == "ROOM_NOT_FOUND"
