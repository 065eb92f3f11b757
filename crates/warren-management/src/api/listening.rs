//! Health checks about this node's listeners: their ports, protocols and certificates.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Asked;
use crate::answer::Answer;
use crate::error::ApiError;
use crate::listeners::{Listener, protocol_named};

const DAY_S: u64 = 24 * 60 * 60;
/// The last second that can be written with four digits for the year.
const LAST_S: u64 = 253_402_300_799;

impl Asked<'_> {
    /// Whether this node listens on the port.
    pub(super) fn port_listener(&self, port: &str) -> Result<Answer, ApiError> {
        let port: u64 = port.parse().map_err(|_| ApiError::BadRequest("Invalid port".to_owned()))?;
        let ports: Vec<u16> = self.listeners.iter().map(|listener| listener.address.port()).collect();
        if ports.iter().any(|open| u64::from(*open) == port) {
            return Ok(Answer::Document(json!({ "status": "ok", "port": port })));
        }
        Ok(Answer::No(
            json!({ "status": "failed", "reason": "No active listener", "missing": port, "ports": ports }),
        ))
    }

    /// Whether this node speaks all of the protocols.
    pub(super) fn protocol_listener(&self, protocols: &str) -> Answer {
        let mut active: Vec<&str> = self.listeners.iter().map(|listener| listener.protocol).collect();
        active.sort_unstable();
        active.dedup();
        let mut missing: Vec<String> = protocols.split(',').map(protocol_named).collect();
        missing.retain(|protocol| !active.contains(&protocol.as_str()));
        if missing.is_empty() {
            return Answer::Document(json!({ "status": "ok", "protocols": active }));
        }
        Answer::No(json!({
            "status": "failed",
            "reason": "No active listener",
            "missing": missing,
            "protocols": active,
        }))
    }

    /// Whether a certificate of a listener runs out within a time.
    pub(super) fn certificates(&self, within: &str, unit: &str) -> Result<Answer, ApiError> {
        let bad = |text: &str| ApiError::BadRequest(text.to_owned());
        let count: u64 = within.parse().map_err(|_| bad("Invalid expiration value."))?;
        let days = match unit.to_lowercase().as_str() {
            "days" => 1,
            "weeks" => 7,
            "months" => 30,
            "years" => 365,
            _ => return Err(bad("Time unit not recognised. Supported units: days, weeks, months, years.")),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let until = written(now.saturating_add(count.saturating_mul(days * DAY_S)));
        let node = self.admin.node_name();
        let expired: Vec<Value> =
            self.listeners.iter().filter_map(|listener| shape_expired(listener, &node, &until)).collect();
        if expired.is_empty() {
            return Ok(Answer::Document(json!({ "status": "ok" })));
        }
        Ok(Answer::No(json!({ "status": "failed", "reason": "Certificates expiring", "expired": expired })))
    }
}

/// `None` where everything outlives `until`.
fn shape_expired(listener: &Listener, node: &str, until: &str) -> Option<Value> {
    let expiries = listener.tls.as_ref()?.expiries();
    // Written like this times are ordered like texts.
    let early = |times: &[String]| -> Vec<String> {
        times
            .iter()
            .filter(|time| time.as_str() < until)
            .map(|time| time.replace(['T', 'Z'], " ").trim().to_owned())
            .collect()
    };
    let (certificate, times) = &expiries.certificate;
    let expires = early(times);
    let authority = expiries.authority.as_ref();
    let authority_expires = authority.map(|(_, times)| early(times)).unwrap_or_default();
    if expires.is_empty() && authority_expires.is_empty() {
        return None;
    }
    Some(json!({
        "node": node,
        "protocol": listener.protocol,
        "interface": listener.address.ip().to_string(),
        "port": listener.address.port(),
        "certfile": certificate.to_string_lossy(),
        "cacertfile": authority.map_or(String::new(), |(path, _)| path.to_string_lossy().into_owned()),
        "certfile_expires_on": expires,
        "cacertfile_expires_on": authority_expires,
    }))
}

/// A time in seconds since 1970 as certificates' are written, `2027-01-31T00:00:00Z`.
fn written(seconds: u64) -> String {
    let seconds = seconds.min(LAST_S);
    let (mut days, of_day) = (seconds / DAY_S, seconds % DAY_S);
    let mut year = 1970;
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_in_certificates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_796_083_200, "2026-12-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(written(seconds), text, "{seconds}");
        }
    }
}
