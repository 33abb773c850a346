//! Each anomaly, planted into a history that is right.

use std::time::{Duration, Instant};

use super::*;
use crate::history::{Ack, Listed, Reacted, Reaction};

const ROOM: &str = "room";

/// Two users join, ann sends at 2, 3, 4, is removed at 5, and bob sends at 6.
fn right() -> (History, StoredLog) {
    let began = Instant::now();
    let at = |millis| began + Duration::from_millis(millis);
    let mut entries = vec![Entry {
        seq: 1,
        gained: vec!["ann".to_owned(), "bob".to_owned()],
        ..Entry::default()
    }];
    let mut sends = Vec::new();
    for (seq, sender) in [(2, "ann"), (3, "ann"), (4, "ann"), (6, "bob")] {
        let (request_id, text) = (format!("request {seq}"), format!("text {seq}"));
        let time = u64::try_from(seq).expect("small") * 10;
        sends.push(Send {
            room: ROOM.to_owned(),
            sender: sender.to_owned(),
            request_id: request_id.clone(),
            text: text.clone(),
            began: at(time),
            acks: vec![Ack { seq, at: at(time + 5) }],
            refused: false,
        });
        let (sender, text) = (sender.to_owned(), Some(text));
        let said = Said { sender, request_id, text, ..Said::default() };
        entries.push(Entry { seq, said, counted: true, ..Entry::default() });
    }
    let removal = Entry { seq: 5, lost: vec!["ann".to_owned()], ..Entry::default() };
    entries.insert(4, removal);
    // Bob replied to what stands at 2, and reacted to it.
    entries[5].said.root = "message 2".to_owned();
    let reaction = Some(Reaction { message_seq: 2, kind: "like".to_owned(), added: true });
    let said = Said { sender: "bob".to_owned(), reaction, ..Said::default() };
    entries.push(Entry { seq: 7, said, ..Entry::default() });
    let log = StoredLog { room: ROOM.to_owned(), head: 7, entries };
    let frames = |to: i64| {
        let event = |entry: &Entry| Frame::Event { seq: entry.seq, said: entry.said.clone() };
        let mut frames = vec![Frame::Attached { resume_from: 0, head: 7 }];
        frames.extend(log.entries.iter().filter(|entry| entry.seq <= to).map(event));
        frames
    };
    let mut views = Vec::new();
    for (user, to) in [("ann", 5), ("bob", 7)] {
        let (user, room) = (user.to_owned(), ROOM.to_owned());
        views.push(View { user, room, frames: frames(to) });
    }
    views[0].frames.push(Frame::Closed { seq: 5 });
    views[1].frames.push(Frame::CaughtUp { seq: 7 });
    let (user, room) = ("bob".to_owned(), ROOM.to_owned());
    let unread = vec![Unread { user, room, unread: 0, marked: 0 }];
    let reacted = Reacted {
        room: ROOM.to_owned(),
        user: "bob".to_owned(),
        message_seq: 2,
        kind: "like".to_owned(),
        there: true,
    };
    let listed = Listed {
        room: ROOM.to_owned(),
        seq: 2,
        message_id: "message 2".to_owned(),
        reactions: [("like".to_owned(), 1)].into(),
        replies: 1,
    };
    let (reactions, messages) = (vec![reacted], vec![listed]);
    (History { sends, views, unread, reactions, messages }, log)
}

/// The anomalies of a history after a change.
fn found(corrupt: impl FnOnce(&mut History, &mut StoredLog)) -> Vec<Anomaly> {
    let (mut history, mut log) = right();
    corrupt(&mut history, &mut log);
    let mut found: Vec<_> = check(&history, &[log]).iter().map(|finding| finding.anomaly).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn nothing_is_found_in_what_is_right() {
    assert_eq!(found(|_, _| {}), []);
}

#[test]
fn an_acknowledged_send_that_is_not_there_is_a_lost_write() {
    let lost = found(|_, log| {
        log.entries.truncate(5);
        log.head = 5;
    });
    assert!(lost.contains(&Anomaly::LostWrite), "{lost:?}");
    let elsewhere = found(|history, _| history.sends[3].acks[0].seq = 5);
    assert!(elsewhere.contains(&Anomaly::LostWrite), "{elsewhere:?}");
}

#[test]
fn a_request_that_is_stored_twice_is_a_duplicate() {
    let stored = found(|_, log| {
        let again = Entry { seq: 8, ..log.entries[5].clone() };
        log.entries.push(again);
        log.head = 8;
    });
    assert!(stored.contains(&Anomaly::Duplicate), "{stored:?}");
}

#[test]
fn an_event_that_is_delivered_twice_is_a_duplicate() {
    let frame = |history: &mut History| {
        let again = history.views[1].frames[3].clone();
        history.views[1].frames.insert(3, again);
    };
    assert_eq!(found(|history, _| frame(history)), [Anomaly::Duplicate]);
}

#[test]
fn a_number_that_is_missing_is_a_skip() {
    let streamed = found(|history, _| drop(history.views[1].frames.remove(3)));
    assert_eq!(streamed, [Anomaly::Skip]);
    let resumed = found(|history, _| {
        history.views[1].frames[4] = Frame::Attached { resume_from: 4, head: 7 };
    });
    assert_eq!(resumed, [Anomaly::Skip]);
    let stored = found(|_, log| drop(log.entries.remove(4)));
    assert!(stored.contains(&Anomaly::Skip), "{stored:?}");
}

#[test]
fn later_before_earlier_is_an_inversion() {
    let streamed = found(|history, _| history.views[1].frames.swap(2, 4));
    assert!(streamed.contains(&Anomaly::Inversion), "{streamed:?}");
    // As if the send at 2 had begun when the one at 6 was acknowledged.
    let sent = found(|history, _| {
        history.sends[0].began = history.sends[3].acks[0].at + Duration::from_millis(1);
    });
    assert_eq!(sent, [Anomaly::Inversion]);
}

#[test]
fn what_nobody_sent_is_a_phantom() {
    assert_eq!(found(|history, _| drop(history.sends.remove(1))), [Anomaly::Phantom]);
    assert_eq!(
        found(|_, log| log.entries[1].said.text = Some("other".to_owned())).first(),
        Some(&Anomaly::Phantom)
    );
    let refused = found(|history, _| {
        history.sends[3].acks.clear();
        history.sends[3].refused = true;
    });
    assert_eq!(refused, [Anomaly::Phantom]);
    let delivered = found(|history, _| {
        let text = Some("more".to_owned());
        let said = Said { sender: "bob".to_owned(), text, ..Said::default() };
        history.views[1].frames.push(Frame::Event { seq: 8, said });
    });
    assert_eq!(delivered, [Anomaly::Phantom]);
}

#[test]
fn different_answers_are_a_disagreement() {
    let replies = found(|history, _| {
        let at = history.sends[0].acks[0].at;
        history.sends[0].acks.push(Ack { seq: 3, at });
    });
    assert!(replies.contains(&Anomaly::Disagreement), "{replies:?}");
    let told = |change: fn(&mut Said)| {
        found(|history, log| {
            let mut said = log.entries[1].said.clone();
            change(&mut said);
            history.views[1].frames[2] = Frame::Event { seq: 2, said };
        })
    };
    assert_eq!(told(|said| said.text = Some("other".to_owned())), [Anomaly::Disagreement]);
    assert_eq!(told(|said| said.request_id = "other".to_owned()), [Anomaly::Disagreement]);
    assert_eq!(told(|said| said.root = "other".to_owned()), [Anomaly::Disagreement]);
}

#[test]
fn an_event_above_the_removal_is_an_unauthorised_delivery() {
    let told = found(|history, log| {
        let said = log.entries[5].said.clone();
        history.views[0].frames.insert(6, Frame::Event { seq: 6, said });
    });
    assert_eq!(told, [Anomaly::UnauthorisedDelivery]);
}

#[test]
fn a_message_of_somebody_removed_is_an_unauthorised_accept() {
    let accepted = found(|history, log| {
        log.entries[5].said.sender = "ann".to_owned();
        history.sends[3].sender = "ann".to_owned();
    });
    assert!(accepted.contains(&Anomaly::UnauthorisedAccept), "{accepted:?}");
}

#[test]
fn a_frame_after_the_last_one_is_after_closed() {
    let frame = Frame::Skipped { from: 6, to: 6 };
    assert_eq!(found(|history, _| history.views[0].frames.push(frame)), [Anomaly::AfterClosed]);
}

#[test]
fn an_event_that_a_heartbeat_ruled_out_is_after_heartbeat() {
    let frame = Frame::Heartbeat { seq: 4 };
    let found = found(|history, _| history.views[1].frames.insert(3, frame));
    assert_eq!(found, [Anomaly::AfterHeartbeat]);
}

#[test]
fn a_stream_that_ends_below_the_head_is_stuck() {
    assert_eq!(found(|history, _| history.views[1].frames.truncate(4)), [Anomaly::Stuck]);
}

#[test]
fn a_count_that_is_not_the_naive_one_is_wrong_unread() {
    assert_eq!(found(|history, _| history.unread[0].unread = 1), [Anomaly::WrongUnread]);
}

#[test]
fn a_reaction_that_is_not_as_it_was_acknowledged_is_a_lost_write() {
    let lost = found(|history, _| history.reactions[0].there = false);
    assert_eq!(lost, [Anomaly::LostWrite]);
}

#[test]
fn a_reaction_that_comes_twice_is_a_duplicate() {
    let twice = found(|history, log| {
        let again = Entry { seq: 8, ..log.entries[6].clone() };
        history.views[1].frames.push(Frame::Event { seq: 8, said: again.said.clone() });
        log.entries.push(again);
        log.head = 8;
    });
    assert_eq!(twice, [Anomaly::Duplicate]);
}

#[test]
fn a_list_that_counts_otherwise_than_the_log_is_a_wrong_count() {
    let reactions = found(|history, _| history.messages[0].reactions.clear());
    assert_eq!(reactions, [Anomaly::WrongCount]);
    assert_eq!(found(|history, _| history.messages[0].replies = 0), [Anomaly::WrongCount]);
}
