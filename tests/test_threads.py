"""Threads, mentions and slow mode, through the services as clients reach them."""

import uuid

from google.protobuf import duration_pb2, field_mask_pb2
from parlance_client import persist, refused

from parlance.message.v1 import mention_service_pb2 as mention_pb
from parlance.message.v1 import message_pb2
from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.message.v1 import thread_service_pb2 as thread_pb
from parlance.room.v1 import room_list_service_pb2 as list_pb
from parlance.room.v1 import room_pb2
from parlance.room.v1 import room_service_pb2 as room_pb


def pair(server):
    """A group of two users of a tenant of its own: its id and their clients."""
    tenant = f"threads-{uuid.uuid4().hex[:6]}"
    server.service(tenant=tenant).upsert_users(["anna", "boris"])
    anna, boris = (server.user(user, tenant=tenant) for user in ("anna", "boris"))
    return anna.create_group("Lobby", ["boris"]), anna, boris


def say(room_id, text, **content):
    content = message_pb2.MessageContent(text=text, **content)
    return message_pb.SendMessageRequest(room_id=room_id, content=content)


def line(client, room_id):
    rooms = persist(client.lists.ListMyRooms, list_pb.ListMyRoomsRequest()).rooms
    [found] = [entry for entry in rooms if entry.room.room_id == room_id]
    return found


def test_a_thread_is_counted_on_its_first_message_and_read_by_itself(server):
    """B-115."""
    room, anna, boris = pair(server)
    root = anna.send(room, "Tea?").message_id
    yes = persist(boris.messages.SendMessage, say(room, "Yes", reply_to_message_id=root)).message_id
    anna.send(room, "beside it")
    persist(anna.messages.SendMessage, say(room, "With milk?", reply_to_message_id=yes))
    [first, *_, last] = boris.history(room)
    assert (first.reply_count, last.thread_root_id) == (2, root)
    request = thread_pb.ListRepliesRequest(message_id=root)
    replies = persist(boris.threads.ListReplies, request).replies
    assert [reply.content.text for reply in replies] == ["Yes", "With milk?"]


def test_a_list_of_rooms_says_how_many_mentions_are_unread(server):
    room, anna, boris = pair(server)
    mention = message_pb2.Mentions(user_ids=["boris"])
    everyone = message_pb2.Mentions(everyone=True)
    persist(anna.messages.SendMessage, say(room, "Boris?", mentions=mention))
    anna.send(room, "nobody")
    persist(anna.messages.SendMessage, say(room, "All!", mentions=everyone))
    found = line(boris, room)
    assert (found.unread, found.mentions) == (3, 2)
    request = mention_pb.ListMentionsRequest(room_id=room)
    messages = persist(boris.mentions.ListMentions, request).messages
    assert [message.content.text for message in messages] == ["All!", "Boris?"]
    boris.send(room, "Yes?")
    assert line(boris, room).mentions == 0


def test_slow_mode_is_a_setting_of_the_room_that_binds_its_members(server):
    """B-053."""
    room, anna, boris = pair(server)
    wait = duration_pb2.Duration(seconds=3600)
    change = room_pb.UpdateRoomRequest(
        room=room_pb2.Room(room_id=room, settings=room_pb2.RoomSettings(slow_mode=wait)),
        update_mask=field_mask_pb2.FieldMask(paths=["settings.slow_mode"]),
    )
    persist(anna.rooms.UpdateRoom, change)
    boris.send(room, "one")
    assert refused(boris.messages.SendMessage, say(room, "two")) == "SLOW_MODE"
    anna.send(room, "one")
    anna.send(room, "two")
