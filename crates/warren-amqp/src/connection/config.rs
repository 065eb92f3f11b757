//! What a server offers its clients and allows them.

use warren_types::FieldTable;

use super::server_properties;

/// What a server offers and allows.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionConfig {
    /// Told to clients first; see [`server_properties`].
    pub server_properties: FieldTable,
    /// Most channels of a connection; 0 is no limit. Default 2047.
    pub channel_max: u16,
    /// Largest frame in bytes, its overhead included; 0 is no limit. Default 131072.
    pub frame_max: u32,
    /// Heartbeat interval proposed to clients, in seconds. Default 60.
    pub heartbeat_s: u16,
    /// Largest message body in bytes. Default 16 MiB.
    pub max_message_size: u64,
    /// Most consumers of a channel. Default none.
    pub consumers_per_channel: Option<u32>,
    /// Most bytes of unfinished messages and uncommitted transactions of a connection; more closes it (506). Default
    /// 256 MiB.
    pub max_held_bytes: u64,
    /// Whether a client may log in as whom its certificate names. Default not known.
    pub external: External,
}

/// What becomes of the mechanism `EXTERNAL`. Some clients take it wherever it is offered, though they have a password:
/// it is offered only where it leads in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum External {
    /// There is no such mechanism.
    Unknown,
    /// Not offered, but decided by the shell, which says why not.
    Taken,
    /// Offered: the shell knows who the client is.
    Offered,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            server_properties: server_properties(env!("CARGO_PKG_VERSION"), "warren"),
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat_s: 60,
            max_message_size: 16 * 1024 * 1024,
            consumers_per_channel: None,
            max_held_bytes: 256 * 1024 * 1024,
            external: External::Unknown,
        }
    }
}
