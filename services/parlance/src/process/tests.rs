use parlance_rpc::testing::in_time;
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

/// What runs beside the requests is known by name, and told of.
#[tokio::test]
async fn every_task_of_the_embedded_mode_is_watched() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        store: Some(Store::Sqlite(folder.path().join("data"))),
        ..Settings::default()
    };
    let config = settings.resolve().expect("good settings");
    let (clock, stop) = (Arc::new(SystemClock), CancellationToken::new());
    let process = Process::open(Part::Whole, &config, clock, stop.clone()).await;
    let process = process.expect("it opens");
    let tasks = process.env.tasks.clone();
    let names: Vec<_> = tasks.report().into_keys().collect();
    let expected = [
        "key reload",
        "membership relay",
        "presence look",
        "readiness",
        "room janitor",
        "room relay",
    ];
    assert!(expected.iter().all(|name| names.contains(name)), "{names:?}");
    in_time(async {
        while tasks.report()["room janitor"].last.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    stop.cancel();
    in_time(process.serve()).await.expect("it ends well");
}
