"""Reactions, end to end."""

from parlance_client import people, persist, refused
from subscriber import Subscriber

from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.message.v1 import reaction_service_pb2 as pb


def add(client, message_id, kind, replace=False):
    request = pb.AddReactionRequest(message_id=message_id, kind=kind, replace=replace)
    return persist(client.reactions.AddReaction, request).reaction_seq


def shown(client, room_id):
    """The reactions to the last message of a room's page, and of the message alone."""
    request = message_pb.ListMessagesRequest(room_id=room_id)
    last = persist(client.messages.ListMessages, request).messages[-1]
    alone = persist(client.messages.GetMessage, message_pb.GetMessageRequest(message_id=last.message_id))
    assert alone.message == last
    return [(counted.kind, counted.count, counted.own) for counted in last.reactions]


def test_two_users_react_and_the_page_shows_counts_and_own(server):
    """B-114: and a stream has what changed the counts."""
    anna_id, anna, boris_id, boris = people(server, "anna", "boris")
    room = anna.create_group("Tea", [boris_id])
    sent = anna.send(room, "tea at four")
    with Subscriber(anna, rooms=[room]) as stream:
        stream.wait(lambda me: me.seq(room) >= sent.seq)
        assert add(boris, sent.message_id, "👍") == sent.seq + 1
        assert add(anna, sent.message_id, "👍") == sent.seq + 2
        assert add(anna, sent.message_id, "👍") == sent.seq + 2, "a repeat is no event"
        assert shown(anna, room) == shown(boris, room) == [("👍", 2, True)]
        last = add(boris, sent.message_id, "☕", replace=True)
        assert shown(anna, room) == [("👍", 1, True), ("☕", 1, False)]
        assert shown(boris, room) == [("👍", 1, False), ("☕", 1, True)]
        request = pb.RemoveReactionRequest(message_id=sent.message_id, kind="👍")
        persist(anna.reactions.RemoveReaction, request)
        stream.wait(lambda me: me.seq(room) > last)
        bodies = [event.WhichOneof("body") for event in stream.rooms[room].events]
        assert bodies[-4:] == ["reaction_added"] * 3 + ["reaction_removed"]
        replacing = stream.rooms[room].events[-2]
        assert replacing.actor_id == boris_id and replacing.reaction_added.replaced_kinds == ["👍"]
    listed = persist(anna.reactions.ListReactions, pb.ListReactionsRequest(message_id=sent.message_id))
    assert [(it.user_id, it.kind, it.reaction_seq) for it in listed.reactions] == [(boris_id, "☕", last)]
    delete = message_pb.DeleteMessageRequest(message_id=sent.message_id)
    persist(anna.messages.DeleteMessage, delete)
    assert shown(boris, room) == []
    again = pb.AddReactionRequest(message_id=sent.message_id, kind="👍")
    assert refused(boris.reactions.AddReaction, again) == "MESSAGE_DELETED"
