import grpc
import pytest
from parlance_client import DEADLINE, reason
from subscriber import Subscriber

from parlance.presence.v1 import availability_pb2 as availability
from parlance.presence.v1 import presence_service_pb2 as pb
from parlance.presence.v1 import session_service_pb2 as session_pb
from parlance.presence.v1 import typing_service_pb2 as typing_pb


def presence(client, user_id):
    request = pb.BatchGetPresenceRequest(user_ids=[user_id])
    [found] = client.presence.BatchGetPresence(request, timeout=DEADLINE).presences
    return found


def told(frames):
    """What the next frame tells that is no heartbeat."""
    return next(frame.presences for frame in frames if frame.presences)


def test_a_session_is_watched_from_its_opening_on(server):
    """B-135, B-204."""
    anna, boris = server.user("anna-here"), server.user("boris-here")
    # After a start, who has no session is unknown: devices may yet come back.
    assert presence(boris, "anna-here").availability == availability.AVAILABILITY_UNKNOWN
    watched = pb.WatchPresenceRequest(user_ids=["anna-here"])
    frames = boris.presence.WatchPresence(watched, timeout=60)
    assert [p.availability for p in told(frames)] == [availability.AVAILABILITY_UNKNOWN]
    kept = anna.sessions.KeepSession(session_pb.KeepSessionRequest(resource="phone", status="at sea"))
    assert next(kept).session.lease.seconds == 30
    [change] = told(frames)
    assert (change.availability, change.status) == (availability.AVAILABILITY_ONLINE, "at sea")
    away = session_pb.OpenSessionRequest(resource="phone", availability=availability.AVAILABILITY_AWAY)
    anna.sessions.OpenSession(away, timeout=DEADLINE)
    [change] = told(frames)
    assert (change.availability, change.status) == (availability.AVAILABILITY_AWAY, "")
    frames.cancel()
    kept.cancel()
    anna.sessions.CloseSession(session_pb.CloseSessionRequest(resource="phone"), timeout=DEADLINE)
    with pytest.raises(grpc.RpcError) as refused:
        anna.sessions.Heartbeat(session_pb.HeartbeatRequest(resource="phone"), timeout=DEADLINE)
    assert reason(refused.value) == "SESSION_NOT_FOUND"


def test_typing_reaches_the_streams_of_the_others(server):
    """B-128."""
    anna, boris = server.user("anna-types"), server.user("boris-types")
    server.service().upsert_users(["anna-types", "boris-types"])
    room = anna.create_group("tea", ["boris-types"])
    with Subscriber(boris, [room]) as stream:
        stream.wait_attached(room)
        for typing in (True, False):
            request = typing_pb.SetTypingRequest(room_id=room, typing=typing)
            anna.typing.SetTyping(request, timeout=DEADLINE)
            stream.wait(
                lambda me, want=typing: me.notices and me.notices[-1].typing.typing == want
            )
    told = [(notice.typing.user_id, notice.typing.typing) for notice in stream.notices]
    assert told == [("anna-types", True), ("anna-types", False)]
    request = pb.GetRoomOnlineCountRequest(room_id=room)
    assert anna.presence.GetRoomOnlineCount(request, timeout=DEADLINE).member_count == 2
