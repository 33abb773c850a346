//! Senders and viewers, and the verdict on what they saw.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use parlance_proto::message::v1::RoomUnread;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::checker::{Finding, check};
use crate::history::{History, Listed, Reacted, Send, Unread, View};
use crate::sender::Sender;
use crate::{Client, Cluster, Viewer};

/// How long streams may take to reach the head once nothing is wrong any more.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// How long a number of acknowledgements may take.
const FLOW_WITHIN: Duration = Duration::from_mins(1);

/// What traffic there is.
#[derive(Clone, Debug)]
pub struct Plan {
    pub rooms: usize,
    /// Each sends to every room, by turns.
    pub senders: usize,
    /// Each follows every room.
    pub viewers: usize,
    /// Every so many messages, one is sent to two replicas at once, with one request id.
    pub twins: usize,
    /// Every so many messages, one is a reply, and its sender reacts to something; 0: none is.
    pub marks: usize,
    /// Between two messages of a sender.
    pub pause: Duration,
    /// Code points that each text has beside what names it.
    pub padding: usize,
    /// Whether every second viewer drops its stream at random and resumes elsewhere.
    pub restless: bool,
}

impl Default for Plan {
    fn default() -> Self {
        let pause = Duration::from_millis(10);
        Self {
            rooms: 2,
            senders: 6,
            viewers: 4,
            twins: 5,
            marks: 3,
            pause,
            padding: 0,
            restless: true,
        }
    }
}

/// Running senders and viewers.
#[derive(Debug)]
pub struct Traffic {
    pub rooms: Vec<String>,
    /// The owner of every room.
    pub owner: Client,
    senders: JoinSet<Vec<Reacted>>,
    sender_names: Vec<String>,
    viewers: Vec<Viewer>,
    /// More who follow; what is unread to them is not asked.
    crowd: Vec<Viewer>,
    sends: Arc<Mutex<Vec<Send>>>,
    acks: watch::Receiver<usize>,
    stop: CancellationToken,
}

/// What a run amounted to.
#[derive(Debug)]
pub struct Report {
    pub sends: usize,
    pub refused: usize,
    pub deliveries: usize,
    pub streams: usize,
    /// The longest that a send took until it was acknowledged.
    pub slowest: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sends, refused, deliveries, streams, slowest } = self;
        write!(
            f,
            "{sends} sends acknowledged (the slowest in {slowest:.1?}), {refused} refused, \
             {deliveries} events delivered on {streams} streams"
        )
    }
}

impl Traffic {
    /// Makes users and rooms, and begins to send and to follow.
    pub async fn start(cluster: &Cluster, plan: Plan) -> Self {
        let names = |what: &str, count: usize| -> Vec<String> {
            (0..count).map(|number| format!("{what}-{number}")).collect()
        };
        let (rooms, sender_names) = (names("room", plan.rooms), names("sender", plan.senders));
        let viewer_names = names("viewer", plan.viewers);
        let members = [sender_names.clone(), viewer_names.clone()].concat();
        cluster.service().know(&[members.clone(), vec!["owner".to_owned()]].concat()).await;
        let owner = cluster.user("owner");
        for room in &rooms {
            owner.create_group(room, &members).await.expect("a room");
        }
        let viewer = |(number, user): (usize, &String)| {
            let restless = plan.restless && number % 2 == 1;
            Viewer::start(cluster.user(user), user, &rooms, number, restless)
        };
        let viewers = viewer_names.iter().enumerate().map(viewer).collect();
        let (acked, acks) = watch::channel(0);
        let (stop, sends) = (CancellationToken::new(), Arc::new(Mutex::new(Vec::new())));
        let mut senders = JoinSet::new();
        for (number, name) in sender_names.iter().enumerate() {
            let sender = Sender {
                client: cluster.user(name),
                name: name.clone(),
                replica: number,
                rooms: rooms.clone(),
                plan: plan.clone(),
                sends: Arc::clone(&sends),
                acked: acked.clone(),
                latest: BTreeMap::new(),
                reactions: BTreeMap::new(),
            };
            senders.spawn(sender.run(stop.clone()));
        }
        let crowd = Vec::new();
        Self { rooms, owner, senders, sender_names, viewers, crowd, sends, acks, stop }
    }

    /// Lets others be judged too, once they are as far as everybody else.
    pub fn join(&mut self, crowd: Vec<Viewer>) {
        self.crowd.extend(crowd);
    }

    /// Waits for so many more acknowledgements.
    pub async fn flows(&self, count: usize) {
        let mut acks = self.acks.clone();
        let goal = *acks.borrow() + count;
        let flowed = timeout(FLOW_WITHIN, acks.wait_for(|acks| *acks >= goal)).await;
        assert!(flowed.is_ok(), "{} of {goal} sends were acknowledged", *self.acks.borrow());
    }

    /// Everybody who follows the rooms.
    pub fn viewers(&self) -> &[Viewer] {
        &self.viewers
    }

    /// The viewer of a name.
    pub fn viewer(&self, user: &str) -> &Viewer {
        self.viewers.iter().find(|viewer| viewer.user == user).expect("a viewer")
    }

    /// Ends the traffic and judges everything that was seen; panics with what is wrong.
    pub async fn judge(self, cluster: &Cluster) -> Report {
        self.judge_with(cluster, Vec::new()).await
    }

    /// As `judge`, with what others saw of the same rooms.
    pub async fn judge_with(self, cluster: &Cluster, others: Vec<View>) -> Report {
        let rooms = self.rooms.clone();
        let (mut history, streams) = self.end(cluster).await;
        assert_eq!(cluster.database.epochs().await, 1, "nothing here puts the database back");
        history.views.extend(others);
        let mut logs = Vec::new();
        for room in &rooms {
            logs.push(cluster.database.log(room).await);
        }
        let findings = check(&history, &logs);
        let shown: Vec<String> = findings.iter().take(20).map(Finding::to_string).collect();
        assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), shown.join("\n"));
        let report = report(&history, streams);
        println!("{report}");
        report
    }

    /// Stops everybody, once every stream had its time to reach the head.
    async fn end(mut self, cluster: &Cluster) -> (History, usize) {
        self.stop.cancel();
        let mut history = History::default();
        while let Some(ended) = self.senders.join_next().await {
            history.reactions.extend(ended.expect("a sender"));
        }
        let mut heads = BTreeMap::new();
        for room in &self.rooms {
            heads.insert(room.clone(), cluster.database.log(room).await.head);
        }
        for viewer in self.viewers.iter().chain(&self.crowd) {
            for (room, head) in &heads {
                // Who does not reach it is found by the checker.
                viewer.reaches(room, *head, HEAD_WITHIN).await;
            }
        }
        for room in &self.rooms {
            let messages = self.owner.messages(room).await.into_iter();
            history.messages.extend(messages.map(Listed::of));
        }
        let users = self.viewers.iter().map(|viewer| &viewer.user).chain(&self.sender_names);
        for (number, user) in users.enumerate() {
            let client = cluster.user(user);
            history.unread.extend(self.unread(&client, user, number, &heads).await);
            assert_eq!(client.recount().await, 0, "{user} is told another count than is counted");
        }
        let mut streams = 0;
        for viewer in self.viewers.into_iter().chain(self.crowd) {
            let (views, opened) = viewer.stop().await;
            history.views.extend(views);
            streams += opened;
        }
        history.sends = std::mem::take(&mut *self.sends.lock().expect("no panic"));
        (history, streams)
    }

    /// What a user is told of each room, some of them after they marked a part as read.
    async fn unread(
        &self,
        client: &Client,
        user: &str,
        number: usize,
        heads: &BTreeMap<String, i64>,
    ) -> Vec<Unread> {
        let mut marks = BTreeMap::new();
        for (room, head) in heads {
            let part = i64::try_from(number % 4).expect("small");
            let mark = head * part / 4;
            if mark > 0 && client.mark_read(room, mark).await.is_ok() {
                marks.insert(room.clone(), mark);
            }
        }
        let told = client.unread(&self.rooms).await.into_iter();
        let unread = |told: RoomUnread| Unread {
            user: user.to_owned(),
            marked: marks.get(&told.room_id).copied().unwrap_or(0),
            room: told.room_id,
            unread: told.unread,
        };
        told.map(unread).collect()
    }
}

fn report(history: &History, streams: usize) -> Report {
    let took = |send: &Send| Some(send.acks.iter().map(|ack| ack.at).min()? - send.began);
    Report {
        sends: history.sends.iter().filter(|send| !send.acks.is_empty()).count(),
        refused: history.sends.iter().filter(|send| send.refused).count(),
        deliveries: history.views.iter().map(|view| view.frames.len()).sum(),
        streams,
        slowest: history.sends.iter().filter_map(took).max().unwrap_or_default(),
    }
}
