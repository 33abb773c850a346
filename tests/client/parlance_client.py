"""A small client for tests: stubs with a token, refusals as values, retries."""

import base64
import hashlib
import hmac
import json
import random
import time
import uuid

import generated  # noqa: F401  (puts the generated code on the path)
import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from parlance.membership.v1 import (
    block_service_pb2_grpc,
    invitation_service_pb2_grpc,
    invite_link_service_pb2_grpc,
    join_request_service_pb2_grpc,
    membership_service_pb2,
    member_service_pb2_grpc,
    membership_service_pb2_grpc,
    moderation_service_pb2_grpc,
    privacy_list_service_pb2_grpc,
    user_service_pb2,
    user_service_pb2_grpc,
)
from parlance.message.v1 import (
    attachment_service_pb2_grpc,
    event_pb2,
    fact_service_pb2,
    fact_service_pb2_grpc,
    hide_service_pb2_grpc,
    inbox_service_pb2,
    inbox_service_pb2_grpc,
    mark_service_pb2_grpc,
    mention_service_pb2_grpc,
    message_pb2,
    message_service_pb2,
    message_service_pb2_grpc,
    reaction_service_pb2_grpc,
    stream_service_pb2,
    stream_service_pb2_grpc,
    thread_service_pb2_grpc,
)
from parlance.presence.v1 import (
    presence_service_pb2_grpc,
    session_service_pb2_grpc,
    typing_service_pb2_grpc,
)
from parlance.room.v1 import live_room_service_pb2_grpc, metadata_service_pb2_grpc
from parlance.room.v1 import tenant_settings_service_pb2_grpc
from parlance.room.v1 import room_list_service_pb2_grpc, room_service_pb2, room_service_pb2_grpc

DEADLINE = 10.0

# What may be repeated: the call was not done, or is safe to do again.
RETRYABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}
# Of those, what no waiting helps against.
FINAL = {"ROOM_FULL", "TOO_MANY_SESSIONS", "TOO_MANY_STREAMS"}


def mint(key, tenant, subject, role="user", lifetime=3600, **claims):
    """A bearer token signed with HS256."""
    now = int(time.time())
    payload = {
        "iss": "parlance",
        "aud": "parlance",
        "sub": subject,
        "tenant": tenant,
        "role": role,
        "iat": now,
        "nbf": now - 5,
        "exp": now + lifetime,
        **claims,
    }

    def encode(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    head = encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    signed = head + b"." + encode(json.dumps(payload).encode())
    signature = hmac.new(key, signed, hashlib.sha256).digest()
    return (signed + b"." + encode(signature)).decode()


def details(error):
    """The `google.rpc` details of a refusal, by the name of their type."""
    return unpacked(rpc_status.from_call(error))


def unpacked(status):
    """The details of a `google.rpc.Status`, if there is one, by the name of their type."""
    found = {}
    for packed in status.details if status else []:
        name = packed.TypeName().rsplit(".", 1)[-1]
        detail = getattr(error_details_pb2, name)()
        packed.Unpack(detail)
        found[name] = detail
    return found


def reason(error):
    """The documented reason of a refusal; None if it carries none."""
    info = details(error).get("ErrorInfo")
    return info.reason if info else None


def retry_after(error):
    """How long the server asks to wait before a repeat, in seconds; None if it does not."""
    info = details(error).get("RetryInfo")
    return info.retry_delay.seconds + info.retry_delay.nanos / 1e9 if info else None


class _WithMetadata(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds metadata to every call."""

    def __init__(self, metadata):
        self._metadata = tuple(metadata)

    def _details(self, call):
        class Details(grpc.ClientCallDetails):
            method = call.method
            timeout = call.timeout
            metadata = tuple(call.metadata or ()) + self._metadata
            credentials = call.credentials
            wait_for_ready = call.wait_for_ready
            compression = call.compression

        return Details()

    def intercept_unary_unary(self, continuation, call, request):
        return continuation(self._details(call), request)

    def intercept_unary_stream(self, continuation, call, request):
        return continuation(self._details(call), request)

    def intercept_stream_unary(self, continuation, call, requests):
        return continuation(self._details(call), requests)

    def intercept_stream_stream(self, continuation, call, requests):
        return continuation(self._details(call), requests)


def open_channel(address):
    """A connection of its own that notices a dead server soon."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.ping_timeout_ms", 10_000),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]
    return grpc.insecure_channel(address, options=options)


class Client:
    """One caller: the stubs of every public service, over a channel that may be shared."""

    def __init__(self, channel, token, acting_user=None):
        metadata = [("authorization", f"Bearer {token}")]
        if acting_user:
            metadata.append(("parlance-acting-user", acting_user))
        channel = grpc.intercept_channel(channel, _WithMetadata(metadata))
        self.users = user_service_pb2_grpc.UserServiceStub(channel)
        self.members = membership_service_pb2_grpc.MembershipServiceStub(channel)
        self.member = member_service_pb2_grpc.MemberServiceStub(channel)
        self.moderation = moderation_service_pb2_grpc.ModerationServiceStub(channel)
        self.invitations = invitation_service_pb2_grpc.InvitationServiceStub(channel)
        self.requests = join_request_service_pb2_grpc.JoinRequestServiceStub(channel)
        self.blocks = block_service_pb2_grpc.BlockServiceStub(channel)
        self.privacy = privacy_list_service_pb2_grpc.PrivacyListServiceStub(channel)
        self.links = invite_link_service_pb2_grpc.InviteLinkServiceStub(channel)
        self.presence = presence_service_pb2_grpc.PresenceServiceStub(channel)
        self.sessions = session_service_pb2_grpc.SessionServiceStub(channel)
        self.typing = typing_service_pb2_grpc.TypingServiceStub(channel)
        self.rooms = room_service_pb2_grpc.RoomServiceStub(channel)
        self.lists = room_list_service_pb2_grpc.RoomListServiceStub(channel)
        self.live = live_room_service_pb2_grpc.LiveRoomServiceStub(channel)
        self.metadata = metadata_service_pb2_grpc.MetadataServiceStub(channel)
        self.settings = tenant_settings_service_pb2_grpc.TenantSettingsServiceStub(channel)
        self.messages = message_service_pb2_grpc.MessageServiceStub(channel)
        self.attachments = attachment_service_pb2_grpc.AttachmentServiceStub(channel)
        self.hides = hide_service_pb2_grpc.HideServiceStub(channel)
        self.reactions = reaction_service_pb2_grpc.ReactionServiceStub(channel)
        self.marks = mark_service_pb2_grpc.MarkServiceStub(channel)
        self.threads = thread_service_pb2_grpc.ThreadServiceStub(channel)
        self.mentions = mention_service_pb2_grpc.MentionServiceStub(channel)
        self.inbox = inbox_service_pb2_grpc.InboxServiceStub(channel)
        self.streams = stream_service_pb2_grpc.StreamServiceStub(channel)
        self.facts = fact_service_pb2_grpc.FactServiceStub(channel)

    def send(self, room_id, text, request_id=None, patience=60.0, reply_to="", **fields):
        """Sends a text and retries, with one request id, until it is answered."""
        request = message_service_pb2.SendMessageRequest(
            room_id=room_id,
            content=message_pb2.MessageContent(text=text, reply_to_message_id=reply_to),
            request_id=request_id or uuid.uuid4().hex,
            **fields,
        )
        return persist(self.messages.SendMessage, request, patience)

    def history(self, room_id, page_size=100):
        """Every message of a room in order, read page by page from the start."""
        request = message_service_pb2.ListMessagesRequest(
            room_id=room_id, after_seq=0, page_size=page_size
        )
        messages = []
        while True:
            page = persist(self.messages.ListMessages, request)
            messages += page.messages
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return messages

    def unread(self, *room_ids):
        """The unread counts of rooms, by room, and the total."""
        request = inbox_service_pb2.GetUnreadRequest(room_ids=room_ids)
        reply = persist(self.inbox.GetUnread, request)
        return {room.room_id: room.unread for room in reply.rooms}, reply.total

    def recount(self):
        request = inbox_service_pb2.RecountUnreadRequest()
        return persist(self.inbox.RecountUnread, request)

    def create_group(self, name, members=(), room_id=""):
        """Creates a group and returns its id."""
        request = room_service_pb2.CreateRoomRequest(
            room_id=room_id,
            kind=event_pb2.ROOM_KIND_GROUP,
            name=name,
            member_user_ids=members,
            request_id=uuid.uuid4().hex,
        )
        return persist(self.rooms.CreateRoom, request).room.room_id

    def upsert_users(self, user_ids):
        users = [user_service_pb2.User(user_id=user, name=user) for user in user_ids]
        for begin in range(0, len(users), 100):
            batch = users[begin : begin + 100]
            request = user_service_pb2.BatchUpsertUsersRequest(users=batch)
            persist(self.users.BatchUpsertUsers, request)

    def remove(self, room_id, *user_ids):
        request = membership_service_pb2.RemoveMembersRequest(
            room_id=room_id, user_ids=user_ids, request_id=uuid.uuid4().hex
        )
        return persist(self.members.RemoveMembers, request)

    def add(self, room_id, *user_ids):
        request = membership_service_pb2.AddMembersRequest(
            room_id=room_id, user_ids=user_ids, request_id=uuid.uuid4().hex
        )
        return persist(self.members.AddMembers, request)


def people(server, *names):
    """Ids that nobody else has, of users who exist, and a client of each."""
    ids = [f"{name}-{uuid.uuid4().hex[:6]}" for name in names]
    server.service().upsert_users(ids)
    return [value for user in ids for value in (user, server.user(user))]


def refused(method, request):
    """The reason for which a call is refused, as it must be."""
    try:
        method(request, timeout=DEADLINE)
    except grpc.RpcError as error:
        return reason(error)
    raise AssertionError(f"not refused: {request}")


def persist(method, request, patience=60.0):
    """Calls until there is an answer that no repeat would change.

    Only for calls that are safe to repeat: with a request_id, or idempotent.
    """
    give_up = time.monotonic() + patience
    pause = 0.05
    while True:
        try:
            return method(request, timeout=DEADLINE)
        except grpc.RpcError as error:
            if error.code() not in RETRYABLE or reason(error) in FINAL:
                raise
            wait = retry_after(error) or pause * random.uniform(0.5, 1.0)
            if time.monotonic() + wait > give_up:
                raise
            time.sleep(wait)
            pause = min(pause * 2, 1.0)
