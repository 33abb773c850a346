"""What is judged before it is accepted: by a hook in front of the real server, and by words."""

import contextlib

import grpc
import hook
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from parlance.message.v1 import content_filter_pb2 as filter_pb
from parlance.message.v1 import message_pb2
from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.room.v1 import tenant_settings_service_pb2 as settings_pb
from parlance_client import DEADLINE, Client, details, people, persist, refused
from server import Server
from suite import Message, started


def saying(room, text):
    content = message_pb2.MessageContent(text=text)
    return message_pb.SendMessageRequest(room_id=room, content=content, request_id=text)


@contextlib.contextmanager
def embedded(options):
    with Server(options=options) as server:
        yield server


@contextlib.contextmanager
def distributed(options):
    with started(replicas=1) as (state, _), Message(state, options) as server:
        yield server


@pytest.mark.parametrize("mode", [embedded, distributed])
@pytest.mark.parametrize("failure", ["open", "closed"])
def test_a_hook_refuses_and_replaces_and_may_go_away(mode, failure):
    """B-162: the server is ready whether the hook is there or not."""
    judge, port = hook.serve()
    with mode(["--hook", f"127.0.0.1:{port}", "--hook-failure", failure]) as server:
        _, anna = people(server, "anna")
        room = anna.create_group("looked at")
        persist(anna.messages.SendMessage, saying(room, "hello"))
        first = persist(anna.messages.SendMessage, saying(room, "darn it"))
        answers = anna.messages.SendMessages(
            iter([message_pb.SendMessagesRequest(message=saying(room, f"darn {n}")) for n in "12"]),
            timeout=DEADLINE,
        )
        assert [answer.sent.seq for answer in answers] == [first.seq + 1, first.seq + 2]
        assert refused(anna.messages.SendMessage, saying(room, "come to the casino")) == "HOOK_REFUSED"
        judge.stop(None).wait()
        assert server.health() == "SERVING"
        assert persist(anna.messages.SendMessage, saying(room, "darn it")) == first, "a repeat"
        gone = saying(room, "casino again")
        if failure == "open":
            persist(anna.messages.SendMessage, gone)
        else:
            assert refused(anna.messages.SendMessage, gone) == "HOOK_UNAVAILABLE"
            again, _ = hook.serve(f"127.0.0.1:{port}")
            persist(anna.messages.SendMessage, saying(room, "welcome back"))
            again.stop(None).wait()
        last = "casino again" if failure == "open" else "welcome back"
        texts = [message.content.text for message in anna.history(room)]
        assert texts == ["hello", "**** it", "**** 1", "**** 2", last]


def test_a_refusal_of_a_hook_says_why_in_its_own_words():
    """B-162."""
    judge, port = hook.serve()
    with Server(options=["--hook", f"127.0.0.1:{port}"]) as server:
        _, anna = people(server, "anna")
        room = anna.create_group("looked at")
        with pytest.raises(grpc.RpcError) as failed:
            anna.messages.SendMessage(saying(room, "a casino"), timeout=DEADLINE)
        assert dict(details(failed.value)["ErrorInfo"].metadata) == {
            "hook_reason": "ADVERTISING",
            "hook_text": "no advertisements, please",
        }
    judge.stop(None).wait()


def put(operator, words, action):
    content_filter = filter_pb.ContentFilter(words=words, action=action)
    request = settings_pb.SetTenantSettingsRequest(
        settings=settings_pb.TenantSettings(content_filter=content_filter),
        update_mask=FieldMask(paths=["content_filter"]),
    )
    return persist(operator.settings.SetTenantSettings, request).settings.content_filter


def test_words_that_operators_do_not_want_are_masked_or_refused():
    """B-053."""
    with Server() as server:
        _, anna = people(server, "anna")
        room = anna.create_group("watched")
        operator = Client(server.channel(), server.token("olga", role="operator"))
        put(operator, ["darn", "buy now"], filter_pb.FILTER_ACTION_MASK)
        sent = persist(anna.messages.SendMessage, saying(room, "Darn, BUY now!"))
        put(operator, ["darn"], filter_pb.FILTER_ACTION_REFUSE)
        assert refused(anna.messages.SendMessage, saying(room, "darn!")) == "CONTENT_FILTERED"
        assert persist(anna.messages.SendMessage, saying(room, "Darn, BUY now!")) == sent, "a repeat"
        got = persist(operator.settings.GetTenantSettings, settings_pb.GetTenantSettingsRequest())
        assert list(got.settings.content_filter.words) == ["darn"]
        put(operator, [], filter_pb.FILTER_ACTION_MASK)
        persist(anna.messages.SendMessage, saying(room, "darn!"))
        texts = [message.content.text for message in anna.history(room)]
        assert texts == ["****, *** ***!", "darn!"]
