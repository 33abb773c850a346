"""Many messages through one stream, over a socket, by a client made from the contract alone."""

import itertools
import queue
import threading
import time
import uuid

import grpc
import pytest
from google.rpc import code_pb2, status_pb2
from parlance_client import people, reason, retry_after, unpacked
from server import Server

from parlance.message.v1 import message_pb2
from parlance.message.v1 import message_service_pb2 as message_pb

PATH = "/parlance.message.v1.MessageService/SendMessages"


def asking(room, text, request_id):
    content = message_pb2.MessageContent(text=text)
    message = message_pb.SendMessageRequest(room_id=room, content=content, request_id=request_id)
    return message_pb.SendMessagesRequest(message=message)


def refusal(answer):
    """The status of an answer, and its reason."""
    status = status_pb2.Status.FromString(answer.refused)
    return status, unpacked(status)["ErrorInfo"].reason


def answered(answers):
    """The answers without signs of life."""
    return [answer for answer in answers if answer.WhichOneof("answer")]


def test_a_stream_sends_in_order_refuses_in_its_midst_and_is_taken_up_again(server):
    """B-095, B-098."""
    _, anna, _, _ = people(server, "anna", "boris")
    room = anna.create_group("many")
    requests = [asking(room, f"line {n}", f"id {n}") for n in range(1000)]
    requests.insert(500, asking("no such room", "lost", "lost"))

    def cut_off():
        yield from requests[:400]
        # Never closed: the client goes away.
        threading.Event().wait(10)

    stream = anna.messages.SendMessages(cut_off())
    first = answered(itertools.islice(stream, 300))
    stream.cancel()
    answers = answered(anna.messages.SendMessages(iter(requests)))
    assert answers[: len(first)] == first
    status, why = refusal(answers.pop(500))
    assert (status.code, why) == (code_pb2.NOT_FOUND, "ROOM_NOT_FOUND")
    seqs = [answer.sent.seq for answer in answers]
    assert seqs == sorted(seqs) and len(set(seqs)) == 1000
    texts = [message.content.text for message in anna.history(room)]
    assert texts == [f"line {n}" for n in range(1000)]


def test_an_answer_comes_while_the_caller_goes_on(server):
    _, anna = people(server, "anna")
    room = anna.create_group("slowly")
    requests = queue.Queue()
    stream = anna.messages.SendMessages(iter(requests.get, None))
    for n in range(5):
        requests.put(asking(room, f"line {n}", f"id {n}"))
        assert next(stream).sent.message_id
    requests.put(None)
    assert answered(stream) == []


@pytest.mark.parametrize(
    ("bytes_of_it", "code", "why"),
    [
        (b"\xff\xff", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        (b"x" * 300_000, grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_TOO_LARGE"),
    ],
)
def test_what_is_no_request_ends_the_stream_after_the_answers(server, bytes_of_it, code, why):
    """B-186."""
    user, anna = people(server, "anna")
    room = anna.create_group("broken")
    good = asking(room, "hello", "one").SerializeToString()
    metadata = [("authorization", f"Bearer {server.token(user)}")]
    call = server.channel().stream_stream(PATH)(iter([good, bytes_of_it]), metadata=metadata)
    answer = message_pb.SendMessagesResponse.FromString(next(call))
    assert answer.sent.message_id
    with pytest.raises(grpc.RpcError) as ended:
        next(call)
    assert (ended.value.code(), reason(ended.value)) == (code, why)


def test_each_message_counts_for_the_rates():
    """B-191."""
    with Server(options=["--rate", "20", "--burst", "20"]) as server:
        _, anna = people(server, "anna")
        room = anna.create_group("fast")
        waiting = {f"id {n}": asking(room, f"line {n}", f"id {n}") for n in range(40)}
        refused = 0
        give_up = time.monotonic() + 60
        while waiting:
            assert time.monotonic() < give_up
            asked, wait = list(waiting.items()), 0
            try:
                answers = answered(anna.messages.SendMessages(iter([ask for _, ask in asked])))
            except grpc.RpcError as error:
                # To open a stream is a call, too.
                assert reason(error) == "RATE_LIMITED"
                answers, wait = [], retry_after(error)
            for (name, _), answer in zip(asked, answers):
                if answer.WhichOneof("answer") == "sent":
                    del waiting[name]
                    continue
                status, why = refusal(answer)
                assert (status.code, why) == (code_pb2.RESOURCE_EXHAUSTED, "RATE_LIMITED")
                retry = unpacked(status)["RetryInfo"].retry_delay
                wait, refused = max(wait, retry.ToTimedelta().total_seconds()), refused + 1
            # That is when one more call is let in, and to open the next stream is one.
            time.sleep(wait + 0.5)
        assert refused > 0
        assert len({message.seq for message in anna.history(room)}) == 40


def test_a_caller_has_a_bounded_number_of_streams_that_send(server):
    user = f"anna-{uuid.uuid4().hex[:6]}"
    server.service().upsert_users([user])
    anna, requests = server.user(user), queue.Queue()
    room = anna.create_group("open")
    streams = [anna.messages.SendMessages(iter(requests.get, None)) for _ in range(64)]
    for stream in streams:
        # The headers come when the stream has its place.
        stream.initial_metadata()
    with pytest.raises(grpc.RpcError) as refused:
        list(anna.messages.SendMessages(iter([asking(room, "x", "one too many")])))
    assert reason(refused.value) == "TOO_MANY_STREAMS"
    for _ in streams:
        requests.put(None)
    for stream in streams:
        assert answered(stream) == []
    give_up = time.monotonic() + 20
    while True:
        try:
            [answer] = answered(anna.messages.SendMessages(iter([asking(room, "x", "again")])))
            break
        except grpc.RpcError as error:
            assert reason(error) == "TOO_MANY_STREAMS" and time.monotonic() < give_up
    assert answer.sent.seq
