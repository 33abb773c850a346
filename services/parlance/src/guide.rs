//! What is printed for people after a start: lines to paste.

use std::net::SocketAddr;
use std::time::Duration;

use parlance_rpc::{Minter, Role};
use parlance_types::{Micros, TenantId, UserId};

/// How long the printed tokens hold.
const LIFE: Duration = Duration::from_hours(24);

/// What to try first, on a server whose secret is known.
pub(crate) fn guide(address: SocketAddr, minter: &Minter, now: Micros) -> String {
    let tenant = TenantId::new("demo");
    let mint = |role, subject| minter.token(&tenant, role, &UserId::new(subject), now, LIFE);
    let (shop, anna) = (mint(Role::Service, "shop"), mint(Role::User, "anna"));
    let calls = [
        (
            "Create two users, as a backend:",
            "BACKEND",
            "membership.v1.UserService/BatchUpsertUsers",
            r#"{"users": [{"user_id": "anna", "name": "Anna"}, {"user_id": "boris", "name": "Boris"}]}"#,
        ),
        (
            "Create a room, as Anna:",
            "ANNA",
            "room.v1.RoomService/CreateRoom",
            r#"{"room_id": "tea", "kind": "ROOM_KIND_GROUP", "name": "Tea", "member_user_ids": ["boris"], "request_id": "make-tea"}"#,
        ),
        (
            "Send:",
            "ANNA",
            "message.v1.MessageService/SendMessage",
            r#"{"room_id": "tea", "content": {"text": "hello, Boris"}}"#,
        ),
        ("Read:", "ANNA", "message.v1.MessageService/ListMessages", r#"{"room_id": "tea"}"#),
        (
            "Follow everything, in another terminal; then send again:",
            "ANNA",
            "message.v1.StreamService/Subscribe",
            r#"{"all_my_rooms": true, "start": "STREAM_START_FROM_JOIN"}"#,
        ),
    ];
    let calls = calls.map(|(title, caller, method, request)| {
        format!(
            "\n{title}\ngrpcurl -plaintext -H \"${caller}\" -d '{request}' {address} \
             parlance.{method}\n"
        )
    });
    format!(
        "\nParlance listens on {address}\n\n\
         Tokens of the tenant demo, for {} hours (others: parlance token --help):\n\n\
         export BACKEND=\"authorization: Bearer {shop}\"\n\
         export ANNA=\"authorization: Bearer {anna}\"\n{}",
        LIFE.as_secs() / 3600,
        calls.concat()
    )
}
