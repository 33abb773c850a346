"""The largest that may be stored, read by a client as grpcio makes it: it accepts 4 MiB."""

from parlance_client import people, persist

from parlance.membership.v1 import user_service_pb2 as user_pb
from parlance.message.v1 import event_pb2, message_pb2
from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.room.v1 import room_list_service_pb2 as list_pb
from parlance.room.v1 import room_service_pb2 as room_pb

ACCEPTED = 4 << 20
PAIRS = {f"{number:0>64}": "x" * 1024 for number in range(32)}
WIDE = "\U00010348"


def pages(method, request, field):
    """Every entry of a list, page by page; each page is accepted and none is empty."""
    while True:
        page = persist(method, request)
        assert getattr(page, field) and page.ByteSize() < ACCEPTED
        yield list(getattr(page, field))
        request.page_token = page.next_page_token
        if not request.page_token:
            return


def whole(method, request, asked, got, name):
    """The names of all that was asked for, whatever number of calls it takes."""
    found = []
    while getattr(request, asked):
        reply = persist(method, request)
        assert getattr(reply, got) and reply.ByteSize() < ACCEPTED
        found += [getattr(entry, name) for entry in getattr(reply, got)]
        getattr(request, asked)[:] = getattr(reply, f"left_out_{asked}")
    return found


def test_pages_and_batches_of_the_largest_can_be_received(server):
    """B-181."""
    anna_id, anna = people(server, "anna")
    backend = server.service()
    room_ids = [f"{number:0>120}{anna_id[-8:]}" for number in range(80)]
    content = message_pb2.MessageContent(text=WIDE * 4000, properties=PAIRS)
    for room_id in room_ids:
        create = room_pb.CreateRoomRequest(
            room_id=room_id,
            kind=event_pb2.ROOM_KIND_GROUP,
            name=WIDE * 256,
            picture="x" * 2048,
            description=WIDE * 4000,
            metadata=PAIRS,
            request_id=f"make-{room_id}"[:128],
        )
        persist(anna.rooms.CreateRoom, create)
        send = message_pb.SendMessageRequest(room_id=room_id, content=content, request_id="one")
        persist(anna.messages.SendMessage, send)
    for number in range(100):
        send = message_pb.SendMessageRequest(
            room_id=room_ids[0], content=content, request_id=f"more-{number}"
        )
        persist(anna.messages.SendMessage, send)

    mine = list_pb.ListMyRoomsRequest(page_size=100)
    listed = [my.room.room_id for page in pages(anna.lists.ListMyRooms, mine, "rooms") for my in page]
    assert sorted(listed) == sorted(room_ids)

    listing = message_pb.ListMessagesRequest(room_id=room_ids[0], page_size=100, after_seq=0)
    seqs = [m.seq for page in pages(anna.messages.ListMessages, listing, "messages") for m in page]
    assert len(seqs) == 101 and seqs == sorted(set(seqs))

    batch = room_pb.BatchGetRoomsRequest(room_ids=room_ids)
    assert whole(anna.rooms.BatchGetRooms, batch, "room_ids", "rooms", "room_id") == room_ids

    user_ids = [f"{number:0>120}{anna_id[-8:]}" for number in range(100)]
    for user_id in user_ids:
        user = user_pb.User(user_id=user_id, name=WIDE * 256, picture="x" * 2048, metadata=PAIRS)
        persist(backend.users.BatchUpsertUsers, user_pb.BatchUpsertUsersRequest(users=[user]))
    batch = user_pb.BatchGetUsersRequest(user_ids=user_ids)
    assert whole(backend.users.BatchGetUsers, batch, "user_ids", "users", "user_id") == user_ids
