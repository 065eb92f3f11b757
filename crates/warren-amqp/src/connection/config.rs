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
    /// Offer the mechanism `EXTERNAL`: the shell knows who the client is. Default not.
    pub offers_external: bool,
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
            offers_external: false,
        }
    }
}
