"""Live rooms, end to end: devices come and go, the room ends by itself."""

import uuid

from parlance_client import DEADLINE, persist, refused
from subscriber import Subscriber

from parlance.message.v1 import stream_service_pb2 as stream_pb
from parlance.presence.v1 import session_service_pb2 as session_pb
from parlance.room.v1 import live_room_service_pb2 as live_pb
from parlance.room.v1 import room_service_pb2 as room_pb


def enter(client, room, device, **new):
    """Enters with a session of the device; the answer."""
    opened = client.sessions.OpenSession(
        session_pb.OpenSessionRequest(resource=device), timeout=DEADLINE
    )
    request = live_pb.EnterRoomRequest(
        room_id=room,
        resource=device,
        session_id=opened.session.session_id,
        create_if_missing=bool(new),
        room=live_pb.NewLiveRoom(**new) if new else None,
    )
    return persist(client.live.EnterRoom, request)


def test_a_device_that_takes_the_place_of_another_is_told_to_its_user_alone(server):
    """B-027: what is no leave is no event, and the last one to leave ends the room."""
    anna, boris = server.user("anna-live"), server.user("boris-live")
    den = f"den-{uuid.uuid4().hex[:6]}"
    assert enter(anna, den, "phone", name="Den", single_device=True).created
    assert not enter(boris, den, "phone").created
    with Subscriber(anna, [den]) as hers, Subscriber(boris, [den]) as his:
        hers.wait_attached(den)
        his.wait_attached(den)
        enter(anna, den, "laptop")
        hers.wait(lambda me: me.notices)
        [lost] = hers.notices
        assert lost.seat_ended.resource == "phone"
        assert lost.seat_ended.cause == stream_pb.SEAT_END_CAUSE_REPLACED
        # Of no effect: the device is not in any more.
        anna.live.LeaveRoom(live_pb.LeaveRoomRequest(room_id=den, resource="phone"), timeout=DEADLINE)
        sent = anna.send(den, "still here")
        his.wait_for(den, sent.seq)
        assert [event.WhichOneof("body") for event in his.rooms[den].events] == [
            "members_joined",
            "message_sent",
        ]
        assert not his.notices
        for client, device in ((anna, "laptop"), (boris, "phone")):
            leave = live_pb.LeaveRoomRequest(room_id=den, resource=device)
            client.live.LeaveRoom(leave, timeout=DEADLINE)
        his.wait(lambda me: me.rooms[den].closed is not None)
    assert refused(anna.rooms.GetRoom, room_pb.GetRoomRequest(room_id=den)) == "ROOM_NOT_FOUND"
