//! What a client may make of the limits that it is offered (0-9-1 §1.4.2.6). Knows RabbitMQ's texts.

use warren_types::{AmqpError, ReplyCode};

use super::ConnectionConfig;
use crate::frame::FRAME_MIN;

/// The limits in force on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most channels at once; 0 is no limit.
    pub channel_max: u16,
    /// Largest frame in bytes, its overhead included; 0 is no limit.
    pub frame_max: u32,
    /// Heartbeat interval in seconds, as the client wants it; 0 is none.
    pub heartbeat_s: u16,
}

impl Limits {
    /// What the client wants, if it may.
    ///
    /// # Errors
    /// 530 (closes the connection, blaming `connection.tune`) when it wants more than offered or too small frames.
    pub(super) fn negotiate(wanted: Self, config: &ConnectionConfig) -> Result<Self, AmqpError> {
        check("channel_max", wanted.channel_max.into(), 1, config.channel_max.into())?;
        check("frame_max", wanted.frame_max, FRAME_MIN, config.frame_max)?;
        Ok(wanted)
    }

    /// The largest frame as a number to compare with.
    pub(super) fn frame_max_or_all(self) -> u32 {
        if self.frame_max == 0 { u32::MAX } else { self.frame_max }
    }
}

fn check(field: &str, wanted: u32, minimum: u32, maximum: u32) -> Result<(), AmqpError> {
    let detail = if field == "channel_max" && wanted == 0 { " (no limit)" } else { "" };
    let (relation, bound, limit) = if wanted != 0 && wanted < minimum {
        ("lower", "minimum", minimum)
    } else if maximum != 0 && (wanted == 0 || wanted > maximum) {
        ("higher", "maximum", maximum)
    } else {
        return Ok(());
    };
    Err(AmqpError::new(
        ReplyCode::NotAllowed,
        format!(
            "negotiated {field} = {wanted}{detail} is {relation} than the {bound} allowed value ({limit})"
        ),
    ))
}
