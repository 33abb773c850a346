"""Messages that expire, are hidden, or come from elsewhere, as clients see them."""

import time

from google.protobuf import duration_pb2, timestamp_pb2
from parlance_client import people, persist, refused
from subscriber import Subscriber

from parlance.message.v1 import hide_service_pb2 as hide_pb
from parlance.message.v1 import message_pb2
from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.message.v1 import stream_service_pb2 as stream_pb


def read(client, message_id):
    return persist(client.messages.GetMessage, message_pb.GetMessageRequest(message_id=message_id)).message


def deletions(stream, room):
    held = stream.rooms[room].events if room in stream.rooms else []
    return [event for event in held if event.WhichOneof("body") == "message_deleted"]


def test_a_message_expires_and_everybody_sees_that_it_is_gone(server):
    """B-108."""
    _, anna, boris_id, boris = people(server, "anna", "boris")
    room = anna.create_group("Secrets", [boris_id])
    with Subscriber(boris, rooms=[room]) as stream:
        stream.wait_attached(room)
        second = duration_pb2.Duration(seconds=1)
        sent = anna.send(room, "a secret", expire_after=second)
        stays = anna.send(room, "the weather")
        stream.wait(lambda me: deletions(me, room) and me.seq(room) >= stays.seq)
        [deleted] = deletions(stream, room)
        body = deleted.message_deleted
        assert (body.message_id, body.expired, deleted.actor_id) == (sent.message_id, True, "")
        assert deleted.time.ToNanoseconds() >= sent.send_time.ToNanoseconds() + 1_000_000_000
        assert [text for _, _, text in stream.messages(room)] == ["a secret", "the weather"]
    assert not read(boris, sent.message_id).HasField("content")
    assert [message.content.text for message in boris.history(room)] == ["", "the weather"]
    # A replay from the beginning has no content any more.
    with Subscriber(boris, rooms=[room], start=stream_pb.STREAM_START_FROM_JOIN) as again:
        again.wait_for(room, max(stays.seq, deleted.seq))
        assert [text for _, _, text in again.messages(room)] == ["", "the weather"]
    assert boris.unread(room)[0][room] == 1
    edit = message_pb.EditMessageRequest(
        message_id=sent.message_id, content=message_pb2.MessageContent(text="late")
    )
    assert refused(anna.messages.EditMessage, edit) == "MESSAGE_DELETED"


def test_what_a_user_hides_is_gone_on_all_of_their_devices_and_nobody_elses(server):
    """B-105."""
    _, anna, boris_id, boris = people(server, "anna", "boris")
    room = anna.create_group("Tea", [boris_id])
    with Subscriber(boris, rooms=[room]) as phone:
        sent = [anna.send(room, text) for text in ("one", "two", "three")]
        phone.wait_for(room, sent[-1].seq)
        persist(boris.hides.HideMessages, hide_pb.HideMessagesRequest(message_ids=[sent[1].message_id]))
        phone.wait(lambda me: any(it.WhichOneof("notice") == "messages_hidden" for it in me.notices))
        [told] = [it for it in phone.notices if it.WhichOneof("notice") == "messages_hidden"]
        assert list(told.messages_hidden.seqs) == [sent[1].seq]
    assert [message.content.text for message in boris.history(room)] == ["one", "three"]
    assert [message.content.text for message in anna.history(room)] == ["one", "two", "three"]
    assert boris.unread(room)[0][room] == 2
    assert not boris.recount().differences


def test_a_backend_brings_in_what_was_written_elsewhere(server):
    _, anna, boris_id, boris = people(server, "anna", "boris")
    room = anna.create_group("Archive", [boris_id])
    backend = server.service()
    for year, (sender, text) in enumerate([("somebody", "long ago"), (boris_id, "and then")]):
        origin = message_pb.Origin(time=timestamp_pb2.Timestamp(seconds=year), sender_id=sender)
        backend.send(room, text, origin=origin)
    found = [(it.sender_id, it.content.text, it.origin_time.seconds) for it in anna.history(room)]
    assert found == [("somebody", "long ago", 0), (boris_id, "and then", 1)]
    assert anna.unread(room)[0][room] == 0
    origin = message_pb.Origin(time=timestamp_pb2.Timestamp(seconds=1))
    request = message_pb.SendMessageRequest(
        room_id=room, content=message_pb2.MessageContent(text="x"), origin=origin
    )
    assert refused(boris.messages.SendMessage, request) == "NOT_ALLOWED"
    request.origin.time.seconds = int(time.time()) + 3600
    assert refused(backend.messages.SendMessage, request) == "INVALID_FIELD"
