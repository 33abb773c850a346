use parlance_proto::membership::v1 as membership;
use parlance_proto::message::v1 as message;
use parlance_proto::room::v1 as room;
use parlance_rpc::Role;
use parlance_rpc::testing::{eventually, in_time};
use parlance_types::{TenantId, UserId};
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::*;
use crate::settings::Settings;

#[tokio::test]
async fn a_process_that_has_lost_a_task_is_not_ready_and_ends() {
    let nobody = "127.0.0.1:1";
    for part in [Part::Whole, Part::Message, Part::Membership, Part::Room, Part::Presence] {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            store: Some(Store::Sqlite(folder.path().join("data"))),
            message: Some(nobody.parse().expect("an address")),
            membership: Some(nobody.parse().expect("an address")),
            ..Settings::default()
        };
        let config = settings.resolve().expect("good settings");
        let (clock, stop) = (Arc::new(SystemClock), CancellationToken::new());
        let process = Process::open(part, &config, clock, stop).await.expect("it opens");
        let url = format!("http://{}", process.address);
        let tasks = process.env.tasks.clone();
        let serving = tokio::spawn(process.serve());

        let channel = Endpoint::from_shared(url).expect("a URL").connect().await;
        let mut health = HealthClient::new(channel.expect("it listens"));
        let watch = health.watch(HealthCheckRequest::default()).await;
        let mut watch = watch.expect("a watch").into_inner();
        let mut is_ready = async || {
            let told = in_time(watch.message()).await.expect("no failure").expect("no end");
            told.status() == ServingStatus::Serving
        };
        assert!(is_ready().await, "{part}");
        tasks.vital("a test", async { panic!("it panics") });
        assert!(!is_ready().await, "{part}");
        let ended = in_time(serving).await.expect("it ends by itself");
        assert_eq!(ended.expect_err("a failure").to_string(), "lost the task \"a test\"");
    }
}

/// The embedded mode, and the folder of its data.
async fn embedded(stop: &CancellationToken) -> (tempfile::TempDir, Process) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        store: Some(Store::Sqlite(folder.path().join("data"))),
        ..Settings::default()
    };
    let config = settings.resolve().expect("good settings");
    let process = Process::open(Part::Whole, &config, Arc::new(SystemClock), stop.clone()).await;
    (folder, process.expect("it opens"))
}

/// What runs beside the requests is known by name, and told of.
#[tokio::test]
async fn every_task_of_the_embedded_mode_is_watched() {
    let stop = CancellationToken::new();
    let (_folder, process) = embedded(&stop).await;
    let names: Vec<_> = process.env.tasks.report().into_keys().collect();
    let expected = [
        "attachments that are gone",
        "closed rooms",
        "closed rosters",
        "head check",
        "hidden messages that are left",
        "key reload",
        "listener",
        "membership relay",
        "membership requests",
        "notices",
        "presence look",
        "messages that expire",
        "reactions that are left",
        "readiness",
        "room janitor",
        "room relay",
        "room requests",
        "writer",
    ];
    assert!(expected.iter().all(|name| names.contains(name)), "{names:?}");
    stop.cancel();
    in_time(process.serve()).await.expect("it ends well");
}

/// Every service of a process shows all of its tasks.
#[tokio::test]
async fn an_operator_sees_how_tasks_are_doing() {
    let stop = CancellationToken::new();
    let (_folder, process) = embedded(&stop).await;
    process.env.tasks.every("a test", Duration::from_millis(1), Arc::default(), || async {
        Err::<(), _>("it fails")
    });
    let minter = process.minter.as_ref().expect("a key of its own");
    let (tenant, user, life) = (TenantId::new("acme"), UserId::new("ada"), Duration::from_mins(1));
    let token = minter.token(&tenant, Role::Operator, &user, SystemClock.now(), life);
    let bearer: MetadataValue<_> = format!("Bearer {token}").parse().expect("a value");
    let as_operator = move |mut request: Request<()>| {
        request.metadata_mut().insert("authorization", bearer.clone());
        Ok(request)
    };
    let url = format!("http://{}", process.address);
    let serving = tokio::spawn(process.serve());
    let channel = Endpoint::from_shared(url).expect("a URL").connect().await;
    let channel = InterceptedService::new(channel.expect("it listens"), as_operator);

    let logs = message::operator_service_client::OperatorServiceClient::new(channel.clone());
    let rosters = membership::operator_service_client::OperatorServiceClient::new(channel.clone());
    let rooms = room::operator_service_client::OperatorServiceClient::new(channel);
    let done = |tasks: Vec<message::TaskCounters>| {
        let of = |name: &str| tasks.iter().find(|task| task.name == name).expect("it is shown");
        let (janitor, test, keys) = (of("room janitor"), of("a test"), of("key reload"));
        assert_eq!((janitor.failures, keys.runs), (0, 0));
        assert_eq!((test.runs, test.since_last_run), (test.failures, test.since_last_failure));
        assert!(test.runs == 0 || test.last_failure == "it fails");
        janitor.runs > 0 && janitor.since_last_run.is_some() && test.failures > 1
    };
    eventually(|| async {
        let counters = logs.clone().get_counters(message::GetCountersRequest {}).await;
        done(counters.expect("counters").into_inner().tasks)
    })
    .await;
    eventually(|| async {
        let counters = rosters.clone().get_counters(membership::GetCountersRequest {}).await;
        done(counters.expect("counters").into_inner().tasks)
    })
    .await;
    eventually(|| async {
        let counters = rooms.clone().get_counters(room::GetCountersRequest {}).await;
        done(counters.expect("counters").into_inner().tasks)
    })
    .await;
    stop.cancel();
    in_time(serving).await.expect("no panic").expect("it ends well");
}
