//! Bindings, by vhost and from either end.

use std::fmt::Write as _;

use serde_json::{Value, json};
use warren_broker::admin::BindingInfo;

use super::Asked;
use crate::answer::Answer;
use crate::auth::Access;
use crate::error::ApiError;
use crate::path::End;
use crate::query::decode_part;
use crate::table;

impl Asked<'_> {
    pub(super) fn bindings(&self, vhost: Option<&str>) -> Result<Answer, ApiError> {
        if let Some(vhost) = vhost {
            self.caller.must_see(self.admin, vhost)?;
        }
        let mut bindings = self.admin.bindings(vhost);
        bindings.retain(|binding| self.caller.sees(&binding.vhost));
        Ok(Answer::List(bindings.iter().map(shape_binding).collect()))
    }

    pub(super) async fn bindings_of_queue(&self, vhost: &str, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_see(self.admin, vhost)?;
        self.must_exist(vhost, name).await?;
        Ok(self.bindings_where(vhost, |binding| binding.to_queue && binding.destination == name))
    }

    pub(super) fn bindings_of_exchange(&self, vhost: &str, name: &str, end: End) -> Result<Answer, ApiError> {
        // Says 404 for an exchange that is not there.
        self.exchange(vhost, name)?;
        Ok(self.bindings_where(vhost, |binding| match end {
            End::Source => binding.source == name,
            End::Destination => !binding.to_queue && binding.destination == name,
        }))
    }

    pub(super) fn bindings_between(
        &self,
        vhost: &str,
        source: &str,
        destination: &str,
        to_queue: bool,
    ) -> Result<Answer, ApiError> {
        self.caller.must_see(self.admin, vhost)?;
        Ok(self.bindings_where(vhost, |binding| is_between(binding, source, destination, to_queue)))
    }

    pub(super) fn binding(
        &self,
        vhost: &str,
        source: &str,
        destination: &str,
        to_queue: bool,
        properties: &str,
    ) -> Result<Answer, ApiError> {
        let binding = self.named_binding(vhost, source, destination, to_queue, properties)?;
        Ok(Answer::Document(shape_binding(&binding)))
    }

    pub(super) async fn post_binding(
        &self,
        vhost: &str,
        source: &str,
        destination: &str,
        to_queue: bool,
    ) -> Result<Answer, ApiError> {
        self.vhost_of_put(vhost)?;
        let routing_key = self.object.text("routing_key")?.unwrap_or_default();
        self.may_bind(vhost, source, destination, routing_key)?;
        let binding = BindingInfo {
            vhost: vhost.to_owned(),
            source: source.to_owned(),
            destination: destination.to_owned(),
            to_queue,
            routing_key: routing_key.to_owned(),
            arguments: table::from_json(self.object.get("arguments"))?,
        };
        let properties = properties_key(&binding.routing_key, &table::to_json(&binding.arguments));
        self.admin.bind(binding).await.map_err(|error| ApiError::on_put(error, "not_found"))?;
        // The name within its path, encoded once more to stand in one.
        Ok(Answer::CreatedAt(format!("{}/{}", percent_encoded(destination), percent_encoded(&properties))))
    }

    pub(super) async fn delete_binding(
        &self,
        vhost: &str,
        source: &str,
        destination: &str,
        to_queue: bool,
        properties: &str,
    ) -> Result<Answer, ApiError> {
        let binding = self.named_binding(vhost, source, destination, to_queue, properties)?;
        self.may_bind(vhost, source, destination, &binding.routing_key)?;
        self.admin.unbind(binding).await?;
        Ok(Answer::Done)
    }

    fn may_bind(
        &self,
        vhost: &str,
        source: &str,
        destination: &str,
        routing_key: &str,
    ) -> Result<(), ApiError> {
        self.caller.must_have(Access::Write, vhost, destination)?;
        self.caller.must_have(Access::Read, vhost, source)?;
        if !self.caller.is_administrator() {
            self.admin.may_bind_topic(&self.caller.name, vhost, source, routing_key)?;
        }
        Ok(())
    }

    /// Clients put the name that a listing gave into the path as it is, or encoded once more.
    fn named_binding(
        &self,
        vhost: &str,
        source: &str,
        destination: &str,
        to_queue: bool,
        properties: &str,
    ) -> Result<BindingInfo, ApiError> {
        self.caller.must_see(self.admin, vhost)?;
        let named = |binding: &BindingInfo| {
            let key = properties_key(&binding.routing_key, &table::to_json(&binding.arguments));
            key == properties || decode_part(&key).is_ok_and(|key| key == properties)
        };
        let mut bindings = self.admin.bindings(Some(vhost)).into_iter();
        let ends = |binding: &BindingInfo| is_between(binding, source, destination, to_queue);
        bindings.find(|binding| ends(binding) && named(binding)).ok_or(ApiError::ObjectNotFound)
    }

    fn bindings_where(&self, vhost: &str, wanted: impl Fn(&BindingInfo) -> bool) -> Answer {
        let bindings = self.admin.bindings(Some(vhost));
        Answer::List(bindings.iter().filter(|binding| wanted(binding)).map(shape_binding).collect())
    }
}

fn is_between(binding: &BindingInfo, source: &str, destination: &str, to_queue: bool) -> bool {
    binding.source == source && binding.to_queue == to_queue && binding.destination == destination
}

fn shape_binding(binding: &BindingInfo) -> Value {
    let arguments = table::to_json(&binding.arguments);
    json!({
        "source": binding.source,
        "vhost": binding.vhost,
        "destination": binding.destination,
        "destination_type": if binding.to_queue { "queue" } else { "exchange" },
        "routing_key": binding.routing_key,
        "properties_key": properties_key(&binding.routing_key, &arguments),
        "arguments": arguments,
    })
}

/// What names a binding among those with the same ends: `~`, the encoded key, or `KEY~HASH` with arguments.
fn properties_key(routing_key: &str, arguments: &Value) -> String {
    // What separates is not to be in the key: the key `~` has another name than none.
    let key = percent_encoded(routing_key).replace('~', "%7E");
    let without_arguments = arguments.as_object().is_none_or(serde_json::Map::is_empty);
    match (key.is_empty(), without_arguments) {
        (true, true) => "~".to_owned(),
        (false, true) => key,
        (_, false) => format!("{key}~{:016x}", fnv1a(arguments.to_string().as_bytes())),
    }
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            byte => {
                // Writing to a string cannot fail.
                let _infallible = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// FNV-1a: any hash does that stays the same from one version to the next.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_is_named_by_its_key_and_arguments() {
        assert_eq!(properties_key("", &json!({})), "~");
        assert_eq!(properties_key("a/b.*", &json!({})), "a%2Fb.%2A");
        assert_eq!(properties_key("~", &json!({})), "%7E");
        assert_eq!(properties_key("k", &json!({ "x": 1 })), properties_key("k", &json!({ "x": 1 })));
        assert_ne!(properties_key("k", &json!({ "x": 1 })), properties_key("k", &json!({ "x": 2 })));
        assert!(properties_key("", &json!({ "x": 1 })).starts_with('~'));
    }
}
