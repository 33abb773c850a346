"""What each role may do in a group, end to end: a table of all of it."""

import uuid

from google.protobuf import field_mask_pb2
from parlance_client import people, persist, refused

from parlance.membership.v1 import invitation_service_pb2 as invitation_pb
from parlance.membership.v1 import invite_link_service_pb2 as link_pb
from parlance.membership.v1 import membership_service_pb2 as membership_pb
from parlance.membership.v1 import moderation_service_pb2 as moderation_pb
from parlance.message.v1 import event_pb2, message_pb2
from parlance.message.v1 import message_service_pb2 as message_pb
from parlance.room.v1 import metadata_service_pb2 as metadata_pb
from parlance.room.v1 import room_pb2
from parlance.room.v1 import room_service_pb2 as room_pb

ROLES = {
    "owner": event_pb2.MEMBER_ROLE_OWNER,
    "admin": event_pb2.MEMBER_ROLE_ADMIN,
    "member": event_pb2.MEMBER_ROLE_MEMBER,
}

# Everybody who may do it; the others get NOT_ALLOWED, or NOT_THE_SENDER of a message.
POWERS = {
    "send": ("owner", "admin", "member"),
    "add": ("owner", "admin", "member"),
    "invite": ("owner", "admin", "member"),
    "make a link": ("owner", "admin"),
    "update the room": ("owner", "admin"),
    "patch the metadata": ("owner", "admin"),
    "delete another's message": ("owner", "admin"),
    "remove a member": ("owner", "admin"),
    "ban a member": ("owner", "admin"),
    "lift a ban": ("owner", "admin"),
    "list bans": ("owner", "admin"),
    "mute a member": ("owner", "admin"),
    "unmute a member": ("owner", "admin"),
    "list mutes": ("owner", "admin"),
    "mute an admin": ("owner",),
    "ban an admin": ("owner",),
    "remove an admin": ("owner",),
    "remove an owner": ("owner",),
    "make an admin": ("owner",),
    "demote an admin": ("owner",),
    "delete the room": ("owner",),
}


class Room:
    """A group with an actor of a role, and another user of each role."""

    def __init__(self, server, role):
        names = ("founder", "actor", "owner", "admin", "member", "stranger")
        found = people(server, *names)
        self.ids = dict(zip(names, found[::2]))
        clients = dict(zip(names, found[1::2]))
        founder, self.actor = clients["founder"], clients["actor"]
        self.id = founder.create_group("a group", [self.ids[name] for name in names[1:5]])
        self.said = founder.send(self.id, "by the founder").message_id
        for name, given in {"actor": role, "owner": "owner", "admin": "admin"}.items():
            if given != "member":
                persist(founder.members.ChangeRole, self.change(name, given))

    def change(self, name, role):
        return membership_pb.ChangeRoleRequest(
            room_id=self.id, user_id=self.ids[name], role=ROLES[role], request_id=uuid.uuid4().hex
        )

    def call(self, what):
        """The method and the request that do it."""
        actor, room = self.actor, self.id

        def removal(name):
            return actor.members.RemoveMembers, membership_pb.RemoveMembersRequest(
                room_id=room, user_ids=[self.ids[name]]
            )

        def ban(name):
            return actor.moderation.BanUsers, moderation_pb.BanUsersRequest(
                room_id=room, user_ids=[self.ids[name]]
            )

        def mute(name):
            return actor.moderation.MuteMembers, moderation_pb.MuteMembersRequest(
                room_id=room, user_ids=[self.ids[name]]
            )

        return {
            "ban a member": ban("member"),
            "ban an admin": ban("admin"),
            "mute a member": mute("member"),
            "mute an admin": mute("admin"),
            "unmute a member": (
                actor.moderation.UnmuteMembers,
                moderation_pb.UnmuteMembersRequest(room_id=room, user_ids=[self.ids["member"]]),
            ),
            "list mutes": (
                actor.moderation.ListMutes,
                moderation_pb.ListMutesRequest(room_id=room),
            ),
            "lift a ban": (actor.moderation.UnbanUsers, moderation_pb.UnbanUsersRequest(
                room_id=room, user_ids=[self.ids["stranger"]]
            )),
            "list bans": (
                actor.moderation.ListBans,
                moderation_pb.ListBansRequest(room_id=room),
            ),
            "remove a member": removal("member"),
            "remove an admin": removal("admin"),
            "remove an owner": removal("owner"),
            "send": (actor.messages.SendMessage, message_pb.SendMessageRequest(
                room_id=room, content=message_pb2.MessageContent(text="hello")
            )),
            "add": (actor.members.AddMembers, membership_pb.AddMembersRequest(
                room_id=room, user_ids=[self.ids["stranger"]]
            )),
            "invite": (actor.invitations.InviteUsers, invitation_pb.InviteUsersRequest(
                room_id=room, user_ids=[self.ids["stranger"]]
            )),
            "make a link": (
                actor.links.CreateInviteLink,
                link_pb.CreateInviteLinkRequest(room_id=room),
            ),
            "update the room": (actor.rooms.UpdateRoom, room_pb.UpdateRoomRequest(
                room=room_pb2.Room(room_id=room, name="another name"),
                update_mask=field_mask_pb2.FieldMask(paths=["name"]),
            )),
            "patch the metadata": (actor.metadata.PatchMetadata, metadata_pb.PatchMetadataRequest(
                room_id=room, patches=[metadata_pb.KeyPatch(key="key", set="value")]
            )),
            "delete another's message": (
                actor.messages.DeleteMessage,
                message_pb.DeleteMessageRequest(message_id=self.said),
            ),
            "make an admin": (actor.members.ChangeRole, self.change("member", "admin")),
            "demote an admin": (actor.members.ChangeRole, self.change("admin", "member")),
            "delete the room": (actor.rooms.DeleteRoom, room_pb.DeleteRoomRequest(room_id=room)),
        }[what]


def test_each_role_has_its_powers_and_no_other(server):
    """B-038, B-039, B-072, B-082, B-083, B-106: an admin does what an owner does, but for other
    admins and owners, and the end of the room."""
    for role in ROLES:
        room = Room(server, role)
        # First what is refused, for that changes nothing; the room is deleted last.
        for what, who in POWERS.items():
            if role not in who:
                told = refused(*room.call(what))
                expected = "NOT_THE_SENDER" if "message" in what else "NOT_ALLOWED"
                assert told == expected, f"{role}: {what}: {told}"
        for what, who in POWERS.items():
            # Whom one line took away, the next one finds no more: a new room for each.
            if role in who:
                persist(*Room(server, role).call(what))
