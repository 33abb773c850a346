"""The long share of test_edges.py, for `make soak`: what is ended by a timer of a minute or so."""

import uuid

from hostile import Hostile, message
from test_edges import DEADLINE_EXCEEDED, EXHAUSTED, LIST, SUBSCRIBE, big_room

from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.message.v1 import stream_service_pb2 as stream_pb


def test_streams_answers_and_strangers_stay_no_longer_than_their_bounds_say(edge, beside):
    """Of a hundred streams nothing is taken for 70 s; answers of megabytes wait for the longest
    deadline, a minute; and connections say nothing for a minute."""
    user = f"sloth-{uuid.uuid4().hex[:6]}"
    client, room = big_room(edge, user, 100)
    page = message_pb.ListMessagesRequest(room_id=room, page_size=100)
    ask = message(page.SerializeToString())
    follow = message(stream_pb.SubscribeRequest(all_my_rooms=True).SerializeToString())
    token = edge.token(user)
    with beside(edge), Hostile(edge, window=0) as reader, Hostile(edge, window=1) as asker:
        strangers = [Hostile(edge) for _ in range(50)]
        streams = [reader.call(SUBSCRIBE, follow, token) for _ in range(100)]
        answers = [asker.call(LIST, ask, token, grpc_timeout="1H") for _ in range(60)]
        reader.wait(lambda: len(reader.began) == len(streams))
        assert not reader.ended(streams)
        for stranger in strangers:
            stranger.wait(lambda it=stranger: it.closed, 90)
        asker.wait(lambda: len(asker.ended(answers)) == len(answers), 90)
        assert asker.resets and set(asker.status.values()) <= {DEADLINE_EXCEEDED, EXHAUSTED}
        reader.wait(lambda: len(reader.resets) == len(streams), 120)
        assert not reader.closed and not asker.closed
    # All is given back.
    assert client.messages.ListMessages(page, timeout=10).messages
    subscribe = stream_pb.SubscribeRequest(rooms=[{"room_id": room}])
    opened = [client.streams.Subscribe(subscribe) for _ in range(100)]
    for stream in opened:
        assert next(stream)
        stream.cancel()
