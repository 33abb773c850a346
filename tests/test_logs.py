"""What the logs say at the start, and what they never hold, however much is logged: words of
users, tokens, other tenants."""

import contextlib
import json
import threading
import uuid

import grpc
import pytest
from google.protobuf import field_mask_pb2
from parlance_client import reason
from postgres import database
from server import Server
from subscriber import Subscriber

from parlance.membership.v1 import membership_service_pb2 as membership_pb
from parlance.membership.v1 import user_service_pb2 as user_pb
from parlance.message.v1 import event_pb2, message_pb2
from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.presence.v1 import session_service_pb2 as session_pb
from parlance.room.v1 import room_pb2
from parlance.room.v1 import room_service_pb2 as room_pb


@pytest.fixture(params=["sqlite", "postgres"])
def talkative(request):
    """A server that logs all it can, for one test, which stops it before it reads the log."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(database()) if request.param == "postgres" else None
        options = ["--log-filter", "trace", "--log-format", "json"]
        yield stack.enter_context(Server(url, options=options))


class Caller:
    """Calls under request ids of its own, which it keeps."""

    def __init__(self, client, prefix):
        self.client = client
        self._prefix = prefix
        self.request_ids = []

    def __call__(self, method, request):
        """The reply, or the reason of the refusal."""
        self.request_ids.append(f"{self._prefix}-{uuid.uuid4().hex}")
        metadata = [("x-request-id", self.request_ids[-1])]
        try:
            return method(request, timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            return reason(error)


def lines(server):
    """The log of a server that was stopped: each line as it stands, and what it says."""
    for line in server.log.read_text().splitlines():
        if line.startswith("{"):
            yield line, json.loads(line)


def ids_in(said):
    """The ids of the requests that a line belongs to."""
    return {span["request_id"] for span in said.get("spans", []) if "request_id" in span}


def secret(word):
    """A text that is found wherever it stands."""
    return f"secret-{word}-{uuid.uuid4().hex}"


def spellings(text):
    """The text, and its bytes as a list of numbers."""
    return text, ", ".join(str(byte) for byte in text.encode())


def talk(anna, boris_id, stranger, secrets):
    """Calls with a secret in every text that a caller may write; each is done or refused."""

    def hide(word):
        secrets[word] = secret(word)
        return secrets[word]

    def content(word, **more):
        return message_pb2.MessageContent(text=hide(word), **more)

    client = anna.client
    anna_user = user_pb.User(
        user_id="anna", name=hide("user name"), metadata={"k": hide("user metadata")}
    )
    assert anna(client.users.UpsertUser, user_pb.UpsertUserRequest(user=anna_user)).user
    create = room_pb.CreateRoomRequest(
        room_id="den",
        kind=event_pb2.ROOM_KIND_GROUP,
        name=hide("room name"),
        description=hide("description"),
        metadata={"k": hide("room metadata")},
        member_user_ids=[boris_id],
    )
    assert anna(client.rooms.CreateRoom, create).room
    create.name = hide("name of a taken id")
    assert anna(client.rooms.CreateRoom, create) == "ROOM_ID_TAKEN"
    update = room_pb.UpdateRoomRequest(
        room=room_pb2.Room(room_id="den", name=hide("late name"), etag="old"),
        update_mask=field_mask_pb2.FieldMask(paths=["name"]),
    )
    assert anna(client.rooms.UpdateRoom, update) == "ETAG_MISMATCH"
    update.update_mask.paths[:] = [hide("mask")]
    assert anna(client.rooms.UpdateRoom, update) == "INVALID_FIELD"

    def send(sender, expected=None, **fields):
        reply = sender(
            sender.client.messages.SendMessage, message_pb.SendMessageRequest(room_id="den", **fields)
        )
        assert reply == expected if expected else reply.seq, reply
        return reply

    sent = send(anna, content=content("text", properties={hide("key"): hide("value")}))
    send(anna, content=content("once"), request_id="once")
    send(anna, "REQUEST_ID_REUSED", content=content("twice"), request_id="once")
    send(stranger, "NOT_A_MEMBER", content=content("of a stranger"))
    send(anna, "INVALID_FIELD", content=message_pb2.MessageContent(text=hide("long") * 99))
    send(anna, "INVALID_FIELD", content=message_pb2.MessageContent(text=f"\0{hide('null')}"))
    send(
        anna, "MESSAGE_TOO_LARGE", content=message_pb2.MessageContent(text=hide("huge") * 9999)
    )
    edit = message_pb.EditMessageRequest(message_id=sent.message_id, content=content("edit"))
    assert anna(client.messages.EditMessage, edit).seq
    edit.content.text = hide("edit of a stranger")
    assert stranger(stranger.client.messages.EditMessage, edit) == "NOT_A_MEMBER"
    listing = message_pb.ListMessagesRequest(room_id="den")
    assert len(anna(client.messages.ListMessages, listing).messages) == 2
    delete = message_pb.DeleteMessageRequest(message_id=sent.message_id)
    last = anna(client.messages.DeleteMessage, delete).seq
    edit.content.text = hide("edit of the deleted")
    assert anna(client.messages.EditMessage, edit) == "MESSAGE_DELETED"
    here = session_pb.OpenSessionRequest(resource="phone", status=hide("status"))
    assert anna(client.sessions.OpenSession, here).session
    remove = membership_pb.RemoveMembersRequest(
        room_id="den", user_ids=[boris_id], reason=hide("reason")
    )
    assert anna(client.members.RemoveMembers, remove).removed_user_ids
    return last


def test_no_line_holds_a_word_of_a_user_or_a_token_but_every_request_id(talkative):
    """Sends, edits, names and reasons, done and refused; at the level that says the most."""
    tokens = {user: talkative.token(user) for user in ("anna", "boris", "eve")}
    talkative.service().upsert_users(["anna", "boris", "eve"])
    anna, eve = (Caller(talkative.user(user), f"by-{user}") for user in ("anna", "eve"))
    secrets = {}
    with Subscriber(talkative.user("anna"), all_my_rooms=True) as follower:
        last = talk(anna, "boris", eve, secrets)
        follower.wait_for("den", last)
        assert not follower.faults
    talkative.stop()
    seen, count = set(), 0
    for line, said in lines(talkative):
        count += 1
        seen |= ids_in(said)
        for word, text in [*secrets.items(), *tokens.items()]:
            assert not any(spelling in line for spelling in spellings(text)), f"{word}: {line}"
    assert len(secrets) > 15 and count > 1000
    assert {*anna.request_ids, *eve.request_ids} <= seen


def converse(server, tenant, barrier):
    """Two users of a tenant talk while others do. Every name has the tenant's in it."""
    names = [f"{tenant}-anna", f"{tenant}-boris"]
    server.service(tenant=tenant).upsert_users(names)
    anna = Caller(server.user(names[0], tenant=tenant), tenant)
    room = f"{tenant}-room"
    create = room_pb.CreateRoomRequest(
        room_id=room, kind=event_pb2.ROOM_KIND_GROUP, member_user_ids=names[1:]
    )
    assert anna(anna.client.rooms.CreateRoom, create).room
    with Subscriber(server.user(names[1], tenant=tenant), rooms=[room]) as follower:
        follower.wait_attached(room)
        barrier.wait(60)
        for number in range(50):
            say = message_pb.SendMessageRequest(
                room_id=room,
                content=message_pb2.MessageContent(text=f"line {number}"),
                request_id=f"{tenant}-{number}",
            )
            reply = anna(anna.client.messages.SendMessage, say)
        # What is not there, and what is refused.
        get = room_pb.GetRoomRequest(room_id=f"{tenant}-nowhere")
        assert anna(anna.client.rooms.GetRoom, get) == "ROOM_NOT_FOUND"
        add = membership_pb.AddMembersRequest(room_id=room, user_ids=[f"{tenant}-nobody"])
        assert anna(anna.client.members.AddMembers, add) == "USER_NOT_FOUND"
        follower.wait_for(room, reply.seq)
        assert not follower.faults
    log_id = reply.message_id.rsplit("-", 1)[0]
    return anna.request_ids, {tenant, log_id, str(uuid.UUID(log_id))}


def test_lines_of_one_tenants_requests_name_nothing_of_another(talkative):
    """B-176: two tenants talk at the same time, so that their sends share batches."""
    tenants = [f"{side}{uuid.uuid4().hex[:8]}" for side in ("left", "right")]
    told, barrier = {}, threading.Barrier(len(tenants))

    def run(tenant):
        told[tenant] = converse(talkative, tenant, barrier)

    threads = [threading.Thread(target=run, args=(tenant,)) for tenant in tenants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(told) == set(tenants), "a conversation failed"
    talkative.stop()
    seen = {tenant: set() for tenant in tenants}
    for line, said in lines(talkative):
        for tenant, other in (tenants, tenants[::-1]):
            mine = ids_in(said) & set(told[tenant][0])
            if mine:
                seen[tenant] |= mine
                assert not any(name in line for name in told[other][1]), line
                assert said.get("tenant", tenant) == tenant
    for tenant in tenants:
        assert seen[tenant] == set(told[tenant][0])


def test_a_start_on_a_database_that_may_lose_writes_says_so_however_little_is_logged():
    with database() as url:
        with Server(url, options=["--log-filter", "warn"]) as safe:
            safe.stop()
            assert "UNSAFE" not in safe.log.read_text()
        careless = f"{url}?options=-c%20synchronous_commit%3Doff"
        with Server(careless, options=["--log-filter", "warn"]) as server:
            [said] = [line for line in server.log.read_text().splitlines() if "UNSAFE" in line]
            assert "WARN" in said and "synchronous_commit=off" in said
            server.stop()
        options = ["--log-filter", "info", "--log-format", "json"]
        with Server(careless, options=options) as server:
            [started] = [said for _, said in lines(server) if said["message"] == "started"]
            assert "UNSAFE" in started["durability"]
            server.stop()
