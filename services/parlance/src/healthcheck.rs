//! `parlance healthcheck`: for containers and scripts.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::Failure;

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Says by its exit code whether a server is ready.
#[derive(Args, Debug)]
pub(crate) struct Healthcheck {
    /// The address of the server
    #[arg(long, env = "PARLANCE_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:7070")]
    listen: SocketAddr,
    /// The service to ask for; empty asks for all of them
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,
}

impl Healthcheck {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.listen))
            .map_err(|error| Failure::fatal("cannot use the address", &error))?
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE);
        let channel = endpoint.connect().await;
        let channel = channel.map_err(|error| Failure::fatal("cannot reach the server", &error))?;
        let request = HealthCheckRequest { service: self.service };
        match HealthClient::new(channel).check(request).await.map(tonic::Response::into_inner) {
            Ok(answer) if answer.status() == ServingStatus::Serving => Ok(()),
            Ok(answer) => Err(Failure::Fatal(format!("the server is {:?}", answer.status()))),
            Err(status) => Err(Failure::Fatal(format!("the server answers {}", status.message()))),
        }
    }
}
