//! A hook in memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use parlance_db::Db;
use parlance_message::Config;
use parlance_message::hook::{OnFailure, Options};
use parlance_proto::hook::v1 as hook;
use parlance_proto::hook::v1::check_response::Verdict;
use parlance_proto::hook::v1::hook_service_server::{HookService, HookServiceServer};
use parlance_proto::message::v1 as pb;
use parlance_rpc::in_process;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::harness::{World, text};

/// Does what the text says, and remembers what it was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judge {
    asked: Arc<Mutex<Vec<hook::CheckRequest>>>,
    /// Whatever the text says, it is away.
    away: Arc<AtomicBool>,
}

impl Judge {
    pub(crate) fn asked(&self) -> Vec<hook::CheckRequest> {
        self.asked.lock().expect("a lock").clone()
    }

    /// The texts that it was asked about.
    pub(crate) fn texts(&self) -> Vec<String> {
        let text = |asked: hook::CheckRequest| asked.content.expect("a content").text;
        self.asked().into_iter().map(text).collect()
    }

    pub(crate) fn is_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    pub(crate) fn options(&self, on_failure: OnFailure) -> Options {
        let routes = Routes::new(HookServiceServer::new(self.clone()));
        let (transport, deadline) = (in_process(routes), Duration::from_millis(300));
        Options { transport, tenants: Vec::new(), deadline, on_failure }
    }

    /// A service that asks it.
    pub(crate) async fn world(&self, db: Db, on_failure: OnFailure) -> World {
        asking(db, self.options(on_failure)).await
    }
}

/// A service that asks a hook.
pub(crate) async fn asking(db: Db, hook: Options) -> World {
    World::laid_out(db, Config { hook: Some(hook), ..Config::default() }).await
}

fn replace(content: pb::MessageContent) -> Verdict {
    Verdict::Replace(hook::Replace { content: Some(content) })
}

#[tonic::async_trait]
impl HookService for Judge {
    async fn check(
        &self,
        request: Request<hook::CheckRequest>,
    ) -> Result<Response<hook::CheckResponse>, Status> {
        let request = request.into_inner();
        self.asked.lock().expect("a lock").push(request.clone());
        if self.away.load(Ordering::Relaxed) {
            return Err(Status::unavailable("away"));
        }
        let content = request.content.expect("a content");
        let verdict = match content.text.as_str() {
            "bad" => {
                let (reason, text) = ("BAD_WORD".to_owned(), "we do not say bad".to_owned());
                Some(Verdict::Refuse(hook::Refuse { reason, text }))
            }
            "refused at length" => {
                let (reason, text) = ("€".repeat(1000), "€".repeat(1000));
                Some(Verdict::Refuse(hook::Refuse { reason, text }))
            }
            "dies" => return Err(Status::unknown("a bug")),
            "hangs" => std::future::pending().await,
            "is late" => {
                tokio::time::sleep(Duration::from_millis(600)).await;
                Some(Verdict::Allow(hook::Allow {}))
            }
            "is silent" => None,
            "replaces by nothing" => Some(Verdict::Replace(hook::Replace { content: None })),
            "replaces by an empty text" => Some(replace(text(""))),
            "replaces by too much" => Some(replace(text(&"x".repeat(4001)))),
            said => Some(match said.strip_prefix("darn ") {
                Some(rest) => {
                    replace(pb::MessageContent { text: format!("**** {rest}"), ..content })
                }
                None => Verdict::Allow(hook::Allow {}),
            }),
        };
        Ok(Response::new(hook::CheckResponse { verdict }))
    }
}

/// What gives no verdict of use.
pub(crate) const FAILURES: [&str; 7] = [
    "dies",
    "hangs",
    "is late",
    "is silent",
    "replaces by nothing",
    "replaces by an empty text",
    "replaces by too much",
];
