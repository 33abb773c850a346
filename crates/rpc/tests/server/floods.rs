//! Clients that send frames without end: their connection ends, nobody else notices,
//! and no memory is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parlance_rpc::ConnectionLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::Harness;

/// Kinds of frames, and flags.
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const UNKNOWN: u8 = 0xbe;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// By when a flood must have ended its connection, and after how many bytes at most.
const PATIENCE: Duration = Duration::from_secs(30);
const MOST: usize = 64 << 20;

/// By how much the memory of this process may grow meanwhile, in bytes; other tests
/// run in it too.
const GROWTH: usize = 128 << 20;

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len()).expect("small").to_be_bytes();
    let mut frame = vec![size[1], size[2], size[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(content);
    frame
}

/// The headers of a call: POST, http, a path, and application/grpc, without tables.
fn headers() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    literal(&mut block, &[0x04], "/parlance.membership.v1.UserService/GetUser");
    literal(&mut block, &[0x01], "server");
    literal(&mut block, &[0x0f, 0x10], "application/grpc");
    block
}

/// Adds a header whose name has a number.
fn literal(block: &mut Vec<u8>, name: &[u8], value: &str) {
    block.extend(name);
    let byte = |number: usize| u8::try_from(number).expect("a byte");
    if value.len() < 127 {
        block.push(byte(value.len()));
    } else {
        let rest = value.len() - 127;
        block.extend([127, byte(rest % 128) | 0x80, byte(rest / 128)]);
    }
    block.extend(value.as_bytes());
}

/// The memory of this process, in bytes.
fn memory() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let resident = pages.split(' ').nth(1).expect("a second number");
    resident.parse::<usize>().expect("a number") * 4096
}

/// A server that lets the other client call as often as it can.
async fn unlimited() -> Harness {
    Harness::with(Duration::from_secs(1), |mut layers| {
        layers.rate = None;
        layers
    })
    .await
}

/// Sends what `next` makes, over and over, until the server ends the connection; how
/// many bytes that took. Another client calls meanwhile.
async fn flood(harness: &Harness, reads: bool, mut next: impl FnMut(u32) -> Vec<u8>) -> usize {
    let stream = TcpStream::connect(harness.address).await.expect("a connection");
    let (mut incoming, mut outgoing) = stream.into_split();
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, &[])[..]].concat();
    outgoing.write_all(&hello).await.expect("written");
    let ended = Arc::new(AtomicBool::new(false));
    let sees = Arc::clone(&ended);
    let reading = tokio::spawn(async move {
        let mut rest = [0; 16 * 1024];
        while reads && matches!(incoming.read(&mut rest).await, Ok(1..)) {}
        if !reads {
            std::future::pending::<()>().await;
        }
        sees.store(true, Ordering::Relaxed);
    });
    let before = memory();
    let mut sent = 0;
    let flooding = async {
        for number in 0.. {
            let bytes = next(number);
            if ended.load(Ordering::Relaxed) || outgoing.write_all(&bytes).await.is_err() {
                return;
            }
            sent += bytes.len();
            assert!(sent < MOST, "the connection goes on");
        }
    };
    let mut users = harness.users();
    let calls = async {
        loop {
            users.get_user(harness.get("me")).await.expect("others are served");
        }
    };
    tokio::select! {
        ended = timeout(PATIENCE, flooding) => ended.expect("the connection ends"),
        () = calls => {}
    }
    users.get_user(harness.get("me")).await.expect("others are served");
    assert!(memory() < before + GROWTH, "{} bytes more", memory() - before);
    reading.abort();
    sent
}

/// Each frame a hundred times, so that little time is lost in writing.
fn repeated(frame: &[u8]) -> impl FnMut(u32) -> Vec<u8> {
    let many = frame.repeat(100);
    move |_| many.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_reset_at_once_end_their_connection_and_no_other() {
    let harness = unlimited().await;
    let block = headers();
    let calls = |number: u32| {
        let mut bytes = Vec::new();
        for call in 0..50 {
            let stream = 2 * (50 * number + call) + 1;
            bytes.extend(frame(HEADERS, END_HEADERS, stream, &block));
            bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        bytes
    };
    flood(&harness, true, calls).await;
}

/// To cancel is no attack: whoever does it often is read more slowly.
#[tokio::test]
async fn calls_that_are_reset_slow_their_connection_down_and_do_not_end_it() {
    let every = Duration::from_millis(5);
    let limits = ConnectionLimits { in_vain: 20, in_vain_every: every, ..Default::default() };
    let harness = Harness::limited(limits).await;
    let mut waits = headers();
    let request = harness.ann(());
    let bearer = request.metadata().get("authorization").expect("a token");
    literal(&mut waits, &[0x0f, 0x08], bearer.to_str().expect("text"));
    // Without a token it is answered at once, in vain as well.
    for (block, refused) in [(headers(), true), (waits, false)] {
        let mut stream = TcpStream::connect(harness.address).await.expect("a connection");
        let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, &[])[..]];
        stream.write_all(&hello.concat()).await.expect("written");
        let began = Instant::now();
        for number in 0..100_u32 {
            let id = 2 * number + 1;
            let call = frame(HEADERS, END_HEADERS, id, &block);
            let ping = frame(PING, 0, 0, &u64::from(number).to_be_bytes());
            stream.write_all(&[call, ping].concat()).await.expect("written");
            assert!(answered(&mut stream, number, refused.then_some(id)).await, "{number}");
            if !refused {
                let cancel = frame(RST_STREAM, 0, id, &8_u32.to_be_bytes());
                stream.write_all(&cancel).await.expect("written");
            }
        }
        assert!(began.elapsed() >= 75 * every, "{:?}", began.elapsed());
    }
}

/// Reads until a ping is answered, and a call if one is named; no if it ends first.
async fn answered(stream: &mut TcpStream, ping: u32, mut call: Option<u32>) -> bool {
    let mut ponged = false;
    while !ponged || call.is_some() {
        let mut head = [0; 9];
        if timeout(PATIENCE, stream.read_exact(&mut head)).await.expect("in time").is_err() {
            return false;
        }
        let mut content = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        if stream.read_exact(&mut content).await.is_err() {
            return false;
        }
        ponged |= head[3] == PING && content == u64::from(ping).to_be_bytes();
        call = call.filter(|id| head[3] != HEADERS || head[5..] != id.to_be_bytes());
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_carry_nothing_end_their_connection_and_no_other() {
    let harness = unlimited().await;
    for frame in [
        frame(PING, 0, 0, &[7; 8]),
        frame(PING, ACK, 0, &[7; 8]),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]),
        frame(UNKNOWN, 0, 0, &[0; 100]),
    ] {
        for reads in [true, false] {
            let sent = flood(&harness, reads, repeated(&frame)).await;
            // What fills the buffers of the system, and not much more.
            assert!(sent < 16 << 20, "{sent} bytes of kind {}", frame[3]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_never_end_end_their_connection_and_no_other() {
    let harness = unlimited().await;
    for part in [&b""[..], &[0x0f, 0x10, 1, b'x'].repeat(1000)] {
        let more = frame(CONTINUATION, 0, 1, part).repeat(20);
        let block = headers();
        let parts = move |number| {
            if number == 0 { frame(HEADERS, 0, 1, &block) } else { more.clone() }
        };
        flood(&harness, true, parts).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_calls_than_allowed_at_once_end_their_connection_and_no_other() {
    let harness = unlimited().await;
    let block = headers();
    // Their requests never end.
    let calls = |number: u32| frame(HEADERS, END_HEADERS, 2 * number + 1, &block);
    flood(&harness, true, calls).await;
}
