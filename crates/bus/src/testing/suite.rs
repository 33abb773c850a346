//! The conformance suite of the bus. Each test takes a function that makes a
//! further node on the same bus.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{next, payload, until_state};
use crate::{Bus, Heard, SHARDS, State};

/// Makes a further node of one bus that nobody else uses.
pub type Nodes<'a> = &'a (dyn Fn() -> Arc<dyn Bus> + Sync);

/// Runs every test of the suite on a bus: `$bus` is an expression that gives a
/// function which makes nodes of a new bus.
#[macro_export]
macro_rules! test_bus {
    ($name:ident => $bus:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "what the expression names")]
            use super::*;

            $crate::test_bus!(@each $bus =>
                every_node_hears_what_any_node_publishes,
                payloads_of_one_publisher_and_shard_arrive_in_order,
                every_shard_is_carried,
                payloads_arrive_byte_for_byte,
                a_subscriber_that_lags_too_far_is_told_so,
                no_loss_in_a_flood_goes_unnoticed,
                notices_are_carried_and_crowd_out_no_payload,
                publishing_needs_no_runtime_and_no_subscriber,
            );
        }
    };
    (@each $bus:expr => $($test:ident),+ $(,)?) => {
        $(#[tokio::test]
        async fn $test() {
            let nodes = $bus;
            $crate::testing::$test(&nodes).await;
        })+
    };
}

/// More than any queue holds.
const FLOOD: usize = 20_000;

/// A node whose bus is up.
async fn up(nodes: Nodes<'_>) -> Arc<dyn Bus> {
    let node = nodes();
    until_state(&*node, State::Up).await;
    node
}

pub async fn every_node_hears_what_any_node_publishes(nodes: Nodes<'_>) {
    let (here, there) = (up(nodes).await, up(nodes).await);
    let mut heard = [here.subscribe(), there.subscribe(), there.subscribe()];
    for (node, text) in [(&here, "a"), (&there, "b")] {
        node.publish(3, text.into());
        for heard in &mut heard {
            assert_eq!(payload(heard).await, text);
        }
    }
}

pub async fn payloads_of_one_publisher_and_shard_arrive_in_order(nodes: Nodes<'_>) {
    let (here, there) = (up(nodes).await, up(nodes).await);
    let mut heard = there.subscribe();
    for number in 0..500_u32 {
        here.publish(
            u16::try_from(number % 2).expect("a shard"),
            number.to_be_bytes().to_vec().into(),
        );
    }
    let mut last = [None, None];
    for _ in 0..500 {
        let bytes = payload(&mut heard).await;
        let number = u32::from_be_bytes(bytes.as_ref().try_into().expect("a number"));
        let last = &mut last[usize::try_from(number % 2).expect("a shard")];
        assert!(last.is_none_or(|last| last < number));
        *last = Some(number);
    }
    assert_eq!(last, [Some(498), Some(499)]);
}

pub async fn every_shard_is_carried(nodes: Nodes<'_>) {
    let (here, there) = (up(nodes).await, up(nodes).await);
    let mut heard = there.subscribe();
    let mut expected = BTreeSet::new();
    for shard in 0..SHARDS {
        let bytes = Bytes::copy_from_slice(&shard.to_be_bytes());
        here.publish(shard, bytes.clone());
        expected.insert(bytes);
    }
    while !expected.is_empty() {
        assert!(expected.remove(&payload(&mut heard).await), "heard once");
    }
}

pub async fn payloads_arrive_byte_for_byte(nodes: Nodes<'_>) {
    let (here, there) = (up(nodes).await, up(nodes).await);
    let mut heard = there.subscribe();
    let every_byte: Bytes = (0..=u8::MAX).collect();
    for bytes in [Bytes::new(), every_byte, vec![0; 200_000].into(), "\r\n$-1\r\n".into()] {
        here.publish(SHARDS - 1, bytes.clone());
        assert!(payload(&mut heard).await == bytes);
    }
}

pub async fn a_subscriber_that_lags_too_far_is_told_so(nodes: Nodes<'_>) {
    let (here, there) = (up(nodes).await, up(nodes).await);
    let (mut slow, mut quick) = (there.subscribe(), there.subscribe());
    for _ in 0..3000 {
        here.publish(0, Bytes::from_static(b"x"));
        payload(&mut quick).await;
    }
    while next(&mut slow).await != Heard::Lagged {}
    // It goes on from there.
    here.publish(0, Bytes::from_static(b"last"));
    while payload(&mut slow).await != "last" {}
}

pub async fn no_loss_in_a_flood_goes_unnoticed(nodes: Nodes<'_>) {
    let (here, there) = (up(nodes).await, up(nodes).await);
    let mut heard = there.subscribe();
    for _ in 0..FLOOD {
        here.publish(9, Bytes::from_static(b"x"));
    }
    let mut count = 0;
    while count < FLOOD {
        match next(&mut heard).await {
            Heard::Payload(_) => count += 1,
            Heard::Disturbed | Heard::Lagged => return,
        }
    }
    assert_eq!(here.dropped(), 0);
}

pub async fn notices_are_carried_and_crowd_out_no_payload(nodes: Nodes<'_>) {
    let (here, there) = (up(nodes).await, up(nodes).await);
    let (_ours, mut heard) = (here.subscribe(), there.subscribe());
    assert!(here.reaches_others());
    here.publish_notice(0, "notice".into());
    assert_eq!(payload(&mut heard).await, "notice");
    for _ in 0..FLOOD {
        here.publish_notice(0, "notice".into());
    }
    here.publish(0, "payload".into());
    while payload(&mut heard).await != "payload" {}
    assert_eq!(here.dropped(), 0, "nobody has to look for notices");
}

pub async fn publishing_needs_no_runtime_and_no_subscriber(nodes: Nodes<'_>) {
    let node = up(nodes).await;
    let publisher = Arc::clone(&node);
    let thread = std::thread::spawn(move || publisher.publish(0, Bytes::from_static(b"a")));
    thread.join().expect("published");
    let mut heard = node.subscribe();
    node.publish(1, Bytes::from_static(b"b"));
    while payload(&mut heard).await != "b" {}
}
