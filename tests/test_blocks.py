"""Users who block one another, in a group and in their direct room."""

import time
import uuid

from google.protobuf import field_mask_pb2
from parlance_client import Client, persist, refused
from subscriber import Subscriber

from parlance.membership.v1 import block_service_pb2 as block_pb
from parlance.membership.v1 import privacy_list_service_pb2 as privacy_pb
from parlance.message.v1 import event_pb2, message_pb2
from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.room.v1 import room_service_pb2 as room_pb
from parlance.room.v1 import tenant_settings_service_pb2 as settings_pb


def tenant(server):
    """A tenant of its own, with three users: their ids and clients."""
    name = f"blocks-{uuid.uuid4().hex[:6]}"
    ids = ["anna", "boris", "clara"]
    server.service(tenant=name).upsert_users(ids)
    return name, [server.user(user, tenant=name) for user in ids]


def direct(client, user_id):
    request = room_pb.GetOrCreateDirectRoomRequest(user_id=user_id)
    return persist(client.rooms.GetOrCreateDirectRoom, request).room.room_id


def block(client, user_id):
    persist(client.blocks.BlockUser, block_pb.BlockUserRequest(user_id=user_id))


def unblock(client, user_id):
    persist(client.blocks.UnblockUser, block_pb.UnblockUserRequest(user_id=user_id))


def say(room_id):
    content = message_pb2.MessageContent(text="hello")
    return message_pb.SendMessageRequest(room_id=room_id, content=content)


def texts(client, room_id):
    return [message.content.text for message in client.history(room_id)]


def seen(subscriber, room_id):
    """The texts of a room that its stream gave out."""
    room = subscriber.rooms.get(room_id)
    events = room.events if room else []
    sent = [event.message_sent for event in events if event.WhichOneof("body") == "message_sent"]
    return [message.content.text for message in sent]


def follows(subscriber, room_id, client):
    """Waits until the stream has what was written before it."""
    text = uuid.uuid4().hex
    client.send(room_id, text)
    deadline = time.monotonic() + 30
    while text not in seen(subscriber, room_id):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_whom_a_user_blocks_is_refused_in_their_room_and_not_seen_in_the_group(server):
    """B-158, B-160, B-192."""
    _, (anna, boris, clara) = tenant(server)
    lobby = anna.create_group("Lobby", ["boris", "clara"])
    pair = direct(anna, "boris")
    boris.send(pair, "before")
    block(anna, "boris")
    listed = persist(anna.blocks.ListBlockedUsers, block_pb.ListBlockedUsersRequest())
    assert [user.user_id for user in listed.users] == ["boris"]
    assert refused(boris.messages.SendMessage, say(pair)) == "BLOCKED"
    assert texts(anna, pair) == texts(boris, pair) == ["before"]
    with Subscriber(anna, rooms=[lobby]) as stream:
        boris.send(lobby, "of boris")
        clara.send(lobby, "of clara")
        follows(stream, lobby, clara)
        assert "of boris" not in seen(stream, lobby) and not stream.faults
    assert "of boris" not in texts(anna, lobby) and "of clara" in texts(anna, lobby)
    assert "of boris" in texts(clara, lobby)
    assert anna.unread(lobby)[0][lobby] == 2
    unblock(anna, "boris")
    assert "of boris" in texts(anna, lobby)
    boris.send(pair, "after")
    assert texts(anna, pair) == ["before", "after"]


def test_in_a_silent_tenant_whom_a_user_blocks_is_told_nothing(server):
    """B-159."""
    name, (anna, boris, _) = tenant(server)
    operator = Client(server.channel(), server.token("olga", role="operator", tenant=name))
    settings = settings_pb.TenantSettings(block_policy=settings_pb.BLOCK_POLICY_SILENT)
    mask = field_mask_pb2.FieldMask(paths=["block_policy"])
    request = settings_pb.SetTenantSettingsRequest(settings=settings, update_mask=mask)
    persist(operator.settings.SetTenantSettings, request)
    pair = direct(anna, "boris")
    boris.send(pair, "before")
    with Subscriber(anna, rooms=[pair]) as stream:
        follows(stream, pair, anna)
        block(anna, "boris")
        # Open streams know within two seconds.
        heard = True
        deadline = time.monotonic() + 30
        while heard:
            assert time.monotonic() < deadline
            text = uuid.uuid4().hex
            boris.send(pair, text)
            follows(stream, pair, anna)
            heard = text in seen(stream, pair)
        boris.send(pair, "unheard")
        follows(stream, pair, anna)
        assert "unheard" not in seen(stream, pair) and not stream.faults
    assert "before" not in texts(anna, pair) and "unheard" not in texts(anna, pair)
    assert {"before", "unheard"} <= set(texts(boris, pair))
    assert anna.unread()[1] == 0
    unblock(anna, "boris")
    assert {"before", "unheard"} <= set(texts(anna, pair))


def test_whom_the_default_list_denies_is_blocked_until_it_is_declined(server):
    """B-153, B-155, B-157: also its owner, where it denies mutually."""
    _, (anna, boris, clara) = tenant(server)
    with_boris, with_clara = direct(anna, "boris"), direct(anna, "clara")
    deny = privacy_pb.PRIVACY_ACTION_DENY
    items = [
        privacy_pb.PrivacyItem(user_id="boris", action=deny),
        privacy_pb.PrivacyItem(user_id="clara", action=deny, mutual=True),
    ]
    put = privacy_pb.PutPrivacyListRequest(list=privacy_pb.PrivacyList(name="quiet", items=items))
    persist(anna.privacy.PutPrivacyList, put)
    boris.send(with_boris, "before")
    default = privacy_pb.SetDefaultPrivacyListRequest(name="quiet")
    persist(anna.privacy.SetDefaultPrivacyList, default)
    assert refused(boris.messages.SendMessage, say(with_boris)) == "BLOCKED"
    assert refused(clara.messages.SendMessage, say(with_clara)) == "BLOCKED"
    assert refused(anna.messages.SendMessage, say(with_clara)) == "BLOCKED"
    anna.send(with_boris, "who denies may write")
    assert refused(anna.privacy.PutPrivacyList, put) == "PRIVACY_LIST_IN_USE"
    persist(anna.privacy.DeclineDefaultPrivacyList, privacy_pb.DeclineDefaultPrivacyListRequest())
    for client, room in [(boris, with_boris), (clara, with_clara), (anna, with_clara)]:
        client.send(room, "after")


def test_operators_limit_the_users_of_a_tenant(server):
    """A first call too many is refused, and nobody who is there."""
    name, (anna, _, _) = tenant(server)
    operator = Client(server.channel(), server.token("olga", role="operator", tenant=name))
    limits = settings_pb.TenantLimits(users=4)
    request = settings_pb.SetTenantSettingsRequest(
        settings=settings_pb.TenantSettings(limits=limits),
        update_mask=field_mask_pb2.FieldMask(paths=["limits"]),
    )
    persist(operator.settings.SetTenantSettings, request)
    server.user("dora", tenant=name).create_group("Dora's")
    eve = server.user("eve", tenant=name)
    create = room_pb.CreateRoomRequest(kind=event_pb2.ROOM_KIND_GROUP, name="Eve's")
    assert refused(eve.rooms.CreateRoom, create) == "QUOTA_EXCEEDED"
    anna.create_group("Anna's")
    got = persist(operator.settings.GetTenantSettings, settings_pb.GetTenantSettingsRequest())
    assert got.use.users == 4 and got.settings.limits.users == 4
