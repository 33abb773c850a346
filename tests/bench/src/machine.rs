//! What the figures were measured on.

use std::fs::read_to_string;
use std::path::Path;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// Settings of Postgres that say how strong "stored" is, and where it is.
const SETTINGS: [&str; 6] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "data_directory",
];

pub(crate) async fn print() {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = field("/proc/cpuinfo", "model name");
    let memory = field("/proc/meminfo", "MemTotal");
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{cores} cores, {processor}, {memory}; load at the start {}", load.trim());
    println!("Postgres: {}", postgres().await);
    let folder = std::env::temp_dir();
    println!("SQLite in {}: {}, WAL, synchronous FULL", folder.display(), file_system(&folder));
    println!("Settings of the services: the defaults, but no limit on the rate of a caller");
}

fn field(file: &str, name: &str) -> String {
    let text = read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
    line.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
}

async fn postgres() -> String {
    let url = std::env::var("TEST_POSTGRES_URL");
    let url = url.expect("TEST_POSTGRES_URL is not set; scripts/with-postgres sets it");
    let mut connection = PgConnection::connect(&url).await.expect("Postgres");
    let mut told = Vec::new();
    for setting in SETTINGS {
        let show = sqlx::query_scalar(AssertSqlSafe(format!("SHOW {setting}")));
        let value: String = show.fetch_one(&mut connection).await.expect("a setting");
        told.push(match setting {
            "server_version" => value,
            "data_directory" => format!("data on {}", file_system(Path::new(&value))),
            _ => format!("{setting} {value}"),
        });
    }
    connection.close().await.ok();
    told.join(", ")
}

/// The kind of file system that a folder is on.
fn file_system(folder: &Path) -> String {
    let mounts = read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (fields.next()?, fields.next()?);
        folder.starts_with(at).then(|| (at.len(), kind.to_owned()))
    });
    mounts.max_by_key(|(length, _)| *length).map_or_else(|| "unknown".to_owned(), |(_, kind)| kind)
}
