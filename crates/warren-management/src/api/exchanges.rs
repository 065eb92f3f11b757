//! Exchanges.

use serde_json::{Value, json};
use warren_broker::admin::ExchangeInfo;

use super::{Asked, checked_name, created};
use crate::answer::Answer;
use crate::auth::Access;
use crate::body::Object;
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

    pub(super) async fn put_exchange(&self, vhost: &str, name: &str) -> Result<Answer, ApiError> {
        self.vhost_of_put(vhost)?;
        checked_name("exchange's name", name)?;
        self.caller.must_have(Access::Configure, vhost, name)?;
        // As in AMQP, whoever wants it durable says so.
        let exchange = read_exchange(self.object, vhost, name, false)?;
        if self.exchange(vhost, name).is_err() {
            let alternate = exchange.arguments.inner().get("alternate-exchange");
            self.caller.must_forward(vhost, name, alternate)?;
        }
        let new = self.admin.declare_exchange(exchange).await;
        new.map(created).map_err(|error| ApiError::on_put(error, "vhost_not_found"))
    }

    pub(super) async fn delete_exchange(&self, vhost: &str, name: &str) -> Result<Answer, ApiError> {
        // Says 404 for one that is not there: the broker deletes that without complaint.
        self.exchange(vhost, name)?;
        self.caller.must_have(Access::Configure, vhost, name)?;
        self.admin.delete_exchange(vhost, name, self.flag("if-unused")).await?;
        Ok(Answer::Done)
    }
}

/// An exchange as a PUT or a set of definitions describes it; without a type it is direct, and `durable` is what it is
/// without a word about that.
///
/// # Errors
/// 400 for a field of the wrong kind.
pub(super) fn read_exchange(
    object: &Object,
    vhost: &str,
    name: &str,
    durable: bool,
) -> Result<ExchangeInfo, ApiError> {
    Ok(ExchangeInfo {
        vhost: vhost.to_owned(),
        name: name.to_owned(),
        kind: object.text("type")?.unwrap_or("direct").to_owned(),
        durable: object.truth("durable", durable)?,
        auto_delete: object.truth("auto_delete", false)?,
        internal: object.truth("internal", false)?,
        arguments: table::from_json(object.get("arguments"))?,
        policy: None,
    })
}

fn shape_exchange(exchange: &ExchangeInfo) -> Value {
    let mut shape = json!({
        "name": exchange.name,
        "vhost": exchange.vhost,
        "type": exchange.kind,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": table::to_json(&exchange.arguments),
        "user_who_performed_action": "",
    });
    if let (Some(policy), Value::Object(shape)) = (&exchange.policy, &mut shape) {
        shape.insert("policy".to_owned(), policy.as_str().into());
    }
    shape
}
