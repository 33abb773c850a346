//! Who sends, replies and reacts, whatever happens, and keeps what was answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use parlance_proto::message::v1::SendMessageResponse;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::client::is_final;
use crate::history::{Ack, Reacted, Send};
use crate::{Client, Plan};

const KINDS: [&str; 2] = ["like", "heart"];

pub(crate) struct Sender {
    pub client: Client,
    pub name: String,
    pub replica: usize,
    pub rooms: Vec<String>,
    pub plan: Plan,
    pub sends: Arc<Mutex<Vec<Send>>>,
    pub acked: watch::Sender<usize>,
    /// Per room what this sender sent last.
    pub latest: BTreeMap<String, SendMessageResponse>,
    /// By room, message and kind: whether this sender's reaction is there.
    pub reactions: BTreeMap<(String, i64, &'static str), bool>,
}

impl Sender {
    /// Sends to every room by turns, until it is stopped or may send to none; what it knows of
    /// its reactions in the end.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Vec<Reacted> {
        let mut rooms = self.rooms.clone();
        for number in 0.. {
            if stop.is_cancelled() || rooms.is_empty() {
                break;
            }
            let turn = number % rooms.len();
            if self.send(&rooms[turn].clone(), number).await {
                rooms.remove(turn);
            }
            sleep(self.plan.pause).await;
        }
        let reacted = |((room, message_seq, kind), there): ((String, i64, &str), bool)| {
            let (user, kind) = (self.name.clone(), kind.to_owned());
            Reacted { room, user, message_seq, kind, there }
        };
        self.reactions.into_iter().map(reacted).collect()
    }

    /// Sends one message; whether it was refused for good.
    async fn send(&mut self, room: &str, number: usize) -> bool {
        let request_id = format!("{} {number}", self.name);
        let text = format!("{request_id} to {room}{}", "x".repeat(self.plan.padding));
        let marks = self.plan.marks > 0 && number.is_multiple_of(self.plan.marks);
        let target = self.latest.get(room).filter(|_| marks).cloned();
        let to = target.as_ref().map_or("", |target| &target.message_id);
        let began = Instant::now();
        let one = async |replica| {
            let answer = self.client.reply(replica, room, &request_id, &text, to).await;
            (answer, Instant::now())
        };
        let first = self.replica + number;
        let answers = if number.is_multiple_of(self.plan.twins) {
            let (one, other) = tokio::join!(one(first), one(first + 1));
            vec![one, other]
        } else {
            vec![one(first).await]
        };
        let refused = |status: &Status| is_final(status);
        let refused = answers.iter().any(|(answer, _)| answer.as_ref().is_err_and(refused));
        let mut acks = Vec::new();
        for (answer, at) in answers {
            let Ok(sent) = answer else { continue };
            acks.push(Ack { seq: sent.seq, at });
            self.latest.insert(room.to_owned(), sent);
        }
        // Of twins one may be refused and the other not, if a removal came between.
        let refused_all = refused && acks.is_empty();
        if !acks.is_empty() {
            self.acked.send_modify(|acked| *acked += 1);
        }
        let (room_id, sender) = (room.to_owned(), self.name.clone());
        let send =
            Send { room: room_id, sender, request_id, text, began, acks, refused: refused_all };
        self.sends.lock().expect("no panic").push(send);
        if let Some(target) = target {
            self.react(room, &target, number).await;
        }
        refused
    }

    /// Reacts to a message, or takes that back, at two replicas at once.
    async fn react(&mut self, room: &str, target: &SendMessageResponse, number: usize) {
        let kind = KINDS[number % KINDS.len()];
        let key = (room.to_owned(), target.seq, kind);
        let add = !self.reactions.get(&key).copied().unwrap_or(false);
        let first = self.replica + number;
        let one = |replica| self.client.react(replica, &target.message_id, kind, add);
        let (one, other) = tokio::join!(one(first), one(first + 1));
        if one.is_ok() && other.is_ok() {
            self.reactions.insert(key, add);
        } else {
            // Whether it came about is not known.
            self.reactions.remove(&key);
        }
    }
}
