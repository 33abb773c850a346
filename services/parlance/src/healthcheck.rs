//! `parlance healthcheck`: for containers and scripts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use parlance_rpc::probe;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::Failure;
use crate::settings::Settings;

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the check comes from on the server's own machine. A server bounds the connections of
/// an address; a proxy beside it may have all of 127.0.0.1, and the check would find
/// none left.
const OWN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Says by its exit code whether a server is ready.
#[derive(Args, Debug)]
pub(crate) struct Healthcheck {
    /// The address of the server [default: 127.0.0.1:7070]
    #[arg(long, env = "PARLANCE_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The service to ask for; empty asks for all of them
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,
    /// The certificate that the server shows; that there is one is why TLS is spoken. Nothing is
    /// told that is secret, so the certificate is not judged
    #[arg(long, env = "PARLANCE_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// A TOML file with settings
    #[arg(long, env = "PARLANCE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Healthcheck {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Self { listen, service, tls_cert, config } = self;
        let settings = Settings { config, listen, tls_cert, ..Settings::default() };
        let (address, secure) = settings.listening()?;
        let channel = connect(address, secure).await?;
        let request = HealthCheckRequest { service };
        match HealthClient::new(channel).check(request).await.map(tonic::Response::into_inner) {
            Ok(answer) if answer.status() == ServingStatus::Serving => Ok(()),
            Ok(answer) => Err(Failure::Fatal(format!("the server is {:?}", answer.status()))),
            Err(status) => Err(Failure::Fatal(format!("the server answers {}", status.message()))),
        }
    }
}

async fn connect(server: SocketAddr, secure: bool) -> Result<Channel, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{server}"))
        .map_err(|error| Failure::fatal("cannot use the address", &error))?
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE);
    let ip = server.ip();
    if ip.is_ipv4() && (ip.is_loopback() || ip.is_unspecified()) {
        // Not every system has that address.
        if let Ok(channel) = probe(endpoint.clone(), server, Some(IpAddr::V4(OWN)), secure).await {
            return Ok(channel);
        }
    }
    let channel = probe(endpoint, server, None, secure).await;
    channel.map_err(|error| Failure::fatal("cannot reach the server", &error))
}
