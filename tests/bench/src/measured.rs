//! The suite in one of its modes, with the rooms and users that figures need.

use clap::ValueEnum;
use futures::{StreamExt as _, stream};
use parlance_cluster::client::{add, adding};
use parlance_cluster::{Client, Cluster, Embedded, Kind};
use parlance_proto::membership::v1::AddMembersRequest;

use crate::caller::{Caller, connect};

/// Users who send, each on a connection of its own.
pub(crate) const SENDERS: usize = 8;

/// Rooms of the figure over many rooms.
pub(crate) const ROOMS: usize = 1000;

/// Rooms made at the same time.
const MAKING: usize = 32;

/// Users that one request may name.
const NAMED: usize = 100;

/// How the suite runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Distributed,
    Embedded,
}

impl Mode {
    pub(crate) const ALL: [Self; 2] = [Self::Distributed, Self::Embedded];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Distributed => "Distributed: two replicas of each service, Postgres, Redis",
            Self::Embedded => "Embedded: one process, SQLite",
        }
    }
}

/// A suite that is measured.
#[derive(Debug)]
pub(crate) enum Measured {
    Distributed(Cluster),
    Embedded(Embedded),
}

impl Measured {
    pub(crate) async fn start(mode: Mode) -> Self {
        eprintln!("starting");
        match mode {
            Mode::Distributed => Self::Distributed(Cluster::with_defaults(2).await),
            Mode::Embedded => Self::Embedded(Embedded::start().await),
        }
    }

    pub(crate) async fn finish(self) {
        match self {
            Self::Distributed(cluster) => cluster.finish().await,
            Self::Embedded(embedded) => embedded.finish().await,
        }
    }

    /// How many replicas of message there are.
    pub(crate) const fn replicas(&self) -> usize {
        match self {
            Self::Distributed(_) => 2,
            Self::Embedded(_) => 1,
        }
    }

    /// Where a replica of message listens; numbers beyond the last begin anew.
    pub(crate) fn address(&self, replica: usize) -> String {
        match self {
            Self::Distributed(cluster) => {
                cluster.address(Kind::Message.replica(replica % self.replicas()))
            }
            Self::Embedded(embedded) => embedded.address(),
        }
    }

    /// The process of a replica of message.
    pub(crate) fn process_id(&self, replica: usize) -> u32 {
        match self {
            Self::Distributed(cluster) => cluster.process_id(Kind::Message.replica(replica)),
            Self::Embedded(embedded) => embedded.process_id(),
        }
    }

    /// Starts the first replica of message anew.
    pub(crate) async fn restart(&mut self) {
        match self {
            Self::Distributed(cluster) => {
                cluster.stop(Kind::Message.replica(0)).await;
                cluster.restart(Kind::Message.replica(0)).await;
            }
            Self::Embedded(embedded) => embedded.restart().await,
        }
    }

    pub(crate) fn token(&self, user: &str) -> String {
        match self {
            Self::Distributed(cluster) => cluster.token(user),
            Self::Embedded(embedded) => embedded.token(user),
        }
    }

    /// Tokens of the listeners `0..count`.
    pub(crate) fn listeners(&self, count: usize) -> Vec<String> {
        listeners(count).iter().map(|user| self.token(user)).collect()
    }

    /// Every sender, by turns on a connection to each of so many replicas.
    pub(crate) async fn senders(&self, replicas: usize) -> Vec<Caller> {
        let mut senders = Vec::new();
        for number in 0..SENDERS {
            let channel = connect(&self.address(number % replicas)).await;
            senders.push(Caller::new(channel, &self.token(&sender(number))));
        }
        senders
    }

    pub(crate) fn user(&self, user: &str) -> Client {
        match self {
            Self::Distributed(cluster) => cluster.user(user),
            Self::Embedded(embedded) => embedded.user(user),
        }
    }

    fn service(&self) -> Client {
        match self {
            Self::Distributed(cluster) => cluster.service(),
            Self::Embedded(embedded) => embedded.service(),
        }
    }

    /// Makes a room of all senders and so many listeners.
    pub(crate) async fn room(&self, room: &str, count: usize) {
        let senders: Vec<String> = (0..SENDERS).map(sender).collect();
        let listeners = listeners(count);
        self.service().know(&[senders.clone(), listeners.clone()].concat()).await;
        let owner = self.user(&senders[0]);
        owner.create_group(room, &senders[1..]).await.expect("a room");
        for users in listeners.chunks(NAMED) {
            let request = AddMembersRequest {
                user_ids: users.to_vec(),
                ..adding(room, "", &format!("add {} to {room}", users[0]))
            };
            owner.call((Kind::Membership, 0), request, add).await.expect("members");
        }
    }

    /// Makes the many rooms, of three senders each: room n has the senders n, n + 1
    /// and n + 2.
    pub(crate) async fn many_rooms(&self) {
        eprintln!("making {ROOMS} rooms");
        let senders: Vec<String> = (0..SENDERS).map(sender).collect();
        self.service().know(&senders).await;
        let owners: Vec<Client> = senders.iter().map(|user| self.user(user)).collect();
        let make = |number: usize| {
            let owner = &owners[number % SENDERS];
            let others = [1, 2].map(|after| senders[(number + after) % SENDERS].clone());
            async move { owner.create_group(&numbered(number), &others).await.expect("a room") }
        };
        stream::iter((0..ROOMS).map(make)).buffer_unordered(MAKING).collect::<()>().await;
    }
}

fn sender(number: usize) -> String {
    format!("sender-{number}")
}

pub(crate) fn listener(number: usize) -> String {
    format!("listener-{number}")
}

fn listeners(count: usize) -> Vec<String> {
    (0..count).map(listener).collect()
}

/// The name of one of the many rooms.
pub(crate) fn numbered(room: usize) -> String {
    format!("room-{room}")
}
