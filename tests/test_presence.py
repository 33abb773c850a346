import grpc
import pytest
from parlance_client import DEADLINE, reason
from subscriber import Subscriber

from parlance.presence.v1 import presence_service_pb2 as pb


def presence(client, user_id):
    request = pb.BatchGetPresenceRequest(user_ids=[user_id])
    [found] = client.presence.BatchGetPresence(request, timeout=DEADLINE).presences
    return found


def test_a_session_is_watched_from_its_opening_on(server):
    """B-135, B-204."""
    anna, boris = server.user("anna-here"), server.user("boris-here")
    # After a start, who has no session is unknown: devices may yet come back.
    assert presence(boris, "anna-here").availability == pb.AVAILABILITY_UNKNOWN
    watched = pb.WatchPresenceRequest(user_ids=["anna-here"])
    frames = boris.presence.WatchPresence(watched, timeout=60)
    assert [p.availability for p in next(frames).presences] == [pb.AVAILABILITY_UNKNOWN]
    kept = anna.presence.KeepSession(pb.KeepSessionRequest(resource="phone", status="at sea"))
    assert next(kept).session.lease.seconds == 30
    [change] = next(frames).presences
    assert (change.availability, change.status) == (pb.AVAILABILITY_ONLINE, "at sea")
    away = pb.OpenSessionRequest(resource="phone", availability=pb.AVAILABILITY_AWAY)
    anna.presence.OpenSession(away, timeout=DEADLINE)
    [change] = next(frames).presences
    assert (change.availability, change.status) == (pb.AVAILABILITY_AWAY, "")
    frames.cancel()
    kept.cancel()
    anna.presence.CloseSession(pb.CloseSessionRequest(resource="phone"), timeout=DEADLINE)
    with pytest.raises(grpc.RpcError) as refused:
        anna.presence.Heartbeat(pb.HeartbeatRequest(resource="phone"), timeout=DEADLINE)
    assert reason(refused.value) == "SESSION_NOT_FOUND"


def test_typing_reaches_the_streams_of_the_others(server):
    """B-128."""
    anna, boris = server.user("anna-types"), server.user("boris-types")
    server.service().upsert_users(["anna-types", "boris-types"])
    room = anna.create_group("tea", ["boris-types"])
    with Subscriber(boris, [room]) as stream:
        stream.wait_attached(room)
        for typing in (True, False):
            request = pb.SetTypingRequest(room_id=room, typing=typing)
            anna.presence.SetTyping(request, timeout=DEADLINE)
            stream.wait(
                lambda me, want=typing: me.notices and me.notices[-1].typing.typing == want
            )
    told = [(notice.typing.user_id, notice.typing.typing) for notice in stream.notices]
    assert told == [("anna-types", True), ("anna-types", False)]
    request = pb.GetRoomOnlineCountRequest(room_id=room)
    assert anna.presence.GetRoomOnlineCount(request, timeout=DEADLINE).member_count == 2
