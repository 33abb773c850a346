//! What is printed for people after a start: lines to paste.

use std::net::SocketAddr;
use std::time::Duration;

use parlance_rpc::{Minter, Role};
use parlance_types::{Micros, TenantId, UserId};

/// How long the printed tokens hold.
const LIFE: Duration = Duration::from_hours(24);

/// What to try first, on a server whose secret is known.
pub(crate) fn guide(address: SocketAddr, minter: &Minter, now: Micros) -> String {
    let tenant = TenantId::new("acme");
    let mint = |role, subject| minter.token(&tenant, role, &UserId::new(subject), now, LIFE);
    let (service, ann) = (mint(Role::Service, "backend"), mint(Role::User, "ann"));
    let calls = [
        (
            "Create two users, as a backend:",
            "SERVICE_TOKEN",
            "membership.v1.UserService/BatchUpsertUsers",
            r#"{"users": [{"user_id": "ann", "name": "Ann"}, {"user_id": "bob", "name": "Bob"}]}"#,
        ),
        (
            "Create a room, as ann:",
            "TOKEN",
            "room.v1.RoomService/CreateRoom",
            r#"{"kind": "ROOM_KIND_GROUP", "room_id": "kitchen", "name": "Kitchen", "member_user_ids": ["bob"], "request_id": "make-kitchen"}"#,
        ),
        (
            "Send:",
            "TOKEN",
            "message.v1.MessageService/SendMessage",
            r#"{"room_id": "kitchen", "content": {"text": "hello, bob"}}"#,
        ),
        ("Read:", "TOKEN", "message.v1.MessageService/ListMessages", r#"{"room_id": "kitchen"}"#),
        (
            "Follow everything, in another terminal; then send again:",
            "TOKEN",
            "message.v1.StreamService/Subscribe",
            r#"{"all_my_rooms": true, "start": "STREAM_START_FROM_JOIN"}"#,
        ),
    ];
    let calls = calls.map(|(title, token, method, request)| {
        format!(
            "\n{title}\ngrpcurl -plaintext -H \"authorization: Bearer ${token}\" \
             -d '{request}' {address} parlance.{method}\n"
        )
    });
    format!(
        "\nParlance listens on {address}\n\n\
         Tokens of the tenant acme, for {} hours (others: parlance token --help):\n\n\
         export SERVICE_TOKEN={service}\nexport TOKEN={ann}\n{}",
        LIFE.as_secs() / 3600,
        calls.concat()
    )
}
