//! Each RPC end to end within one process: real gRPC over the real message,
//! membership and room services, in both modes.

mod harness;
mod silence;
mod state;

mod presence {
    mod batch_get_presence;
    mod loss;
    mod room_online_count;
    mod watch_presence;
}
mod seat {
    mod ends;
    mod renewals;
}
mod session {
    mod keep_session;
    mod open_session;
}
mod typing {
    mod set_typing;
}

/// Runs every named `async fn(World)` beside it as embedded (SQLite, memory) and
/// as distributed (Postgres, Redis).
macro_rules! test_in_each_mode {
    ($($test:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                crate::harness::embedded(super::$test).await;
            })+
        }
        mod distributed {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                crate::harness::distributed(super::$test).await;
            })+
        }
    };
}
pub(crate) use test_in_each_mode;
