//! What is printed for people after a start: lines to paste.

use std::net::SocketAddr;
use std::path::{Path, absolute};

use crate::settings::Config;

/// What to try first, on a server whose secret is in its folder. It prints no token: what
/// is printed may be kept for long, and read by others.
pub(crate) fn guide(address: SocketAddr, folder: &Path, config: &Config) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "parlance".into());
    let program = quoted(&program.display().to_string());
    let folder = absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let store = quoted(&format!("sqlite://{}", folder.display()));
    let (issuer, audience) = (quoted(&config.issuer), quoted(&config.audience));
    let mint = |holder: &str| {
        format!(
            "$({program} token --tenant demo {holder} --store {store} --issuer {issuer} \
             --audience {audience})"
        )
    };
    let (shop, anna) = (mint("--service shop"), mint("--user anna"));
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
         Tokens of the tenant demo, for an hour (others: parlance token --help):\n\n\
         export BACKEND=\"authorization: Bearer {shop}\"\n\
         export ANNA=\"authorization: Bearer {anna}\"\n{}",
        calls.concat()
    )
}

/// One word to a shell, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
