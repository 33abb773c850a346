//! The names of attributes, as the semantic conventions have them: they are renamed there now
//! and then.

pub const RPC_SYSTEM: &str = "rpc.system.name";
pub const RPC_METHOD: &str = "rpc.method";
pub const RPC_STATUS: &str = "rpc.response.status_code";
pub const ERROR_TYPE: &str = "error.type";

/// The service of the suite that something is of: a process may have all of them.
pub const SERVICE: &str = "parlance.service";
/// What a process is: the name of its program.
pub const PROGRAM: &str = "parlance.program";
pub const VERSION: &str = "parlance.version";
/// What runs beside the calls.
pub const TASK: &str = "parlance.task";
/// Connections for reads, or for writes.
pub const POOL: &str = "parlance.pool";
pub const STATE: &str = "parlance.state";
