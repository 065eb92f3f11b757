//! Exchanges.

use serde_json::{Value, json};
use warren_broker::admin::ExchangeInfo;

use super::Asked;
use crate::answer::Answer;
use crate::error::ApiError;
use crate::table;

impl Asked<'_> {
    pub(super) fn exchanges(&self, vhost: Option<&str>) -> Result<Answer, ApiError> {
        if let Some(vhost) = vhost {
            self.caller.must_see(self.admin, vhost)?;
        }
        let mut exchanges = self.admin.exchanges(vhost);
        exchanges.retain(|exchange| self.caller.sees(&exchange.vhost));
        Ok(Answer::List(exchanges.iter().map(shape_exchange).collect()))
    }

    pub(super) fn exchange(&self, vhost: &str, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_see(self.admin, vhost)?;
        let exchanges = self.admin.exchanges(Some(vhost));
        let exchange =
            exchanges.iter().find(|exchange| exchange.name == name).ok_or(ApiError::ObjectNotFound)?;
        Ok(Answer::Document(shape_exchange(exchange)))
    }
}

fn shape_exchange(exchange: &ExchangeInfo) -> Value {
    json!({
        "name": exchange.name,
        "vhost": exchange.vhost,
        "type": exchange.kind,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": table::to_json(&exchange.arguments),
        "user_who_performed_action": "",
    })
}
