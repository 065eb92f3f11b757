//! Policies of users and of operators.

use serde_json::{Value, json};
use warren_broker::admin::PolicyInfo;

use super::{Asked, checked_name, created};
use crate::answer::Answer;
use crate::body::Object;
use crate::error::ApiError;
use crate::table;

impl Asked<'_> {
    pub(super) fn policies(&self, vhost: Option<&str>, operator: bool) -> Result<Answer, ApiError> {
        self.caller.must_make_policies()?;
        if let Some(vhost) = vhost {
            self.caller.must_see(self.admin, vhost)?;
        }
        let mut policies = self.admin.policies(vhost, operator);
        policies.retain(|policy| self.caller.sees(&policy.vhost));
        Ok(Answer::List(policies.iter().map(shape_policy).collect()))
    }

    pub(super) fn policy(&self, vhost: &str, name: &str, operator: bool) -> Result<Answer, ApiError> {
        self.caller.must_make_policies()?;
        self.caller.must_see(self.admin, vhost)?;
        let policies = self.admin.policies(Some(vhost), operator);
        let policy = policies.iter().find(|policy| policy.name == name).ok_or(ApiError::ObjectNotFound)?;
        Ok(Answer::Document(shape_policy(policy)))
    }

    pub(super) async fn put_policy(
        &self,
        vhost: &str,
        name: &str,
        operator: bool,
    ) -> Result<Answer, ApiError> {
        self.may_set(operator)?;
        self.vhost_of_put(vhost)?;
        checked_name("policy's name", name)?;
        let policy = read_policy(self.object, vhost, name, operator)?;
        let new = self.admin.put_policy(policy).await;
        new.map(created).map_err(|error| ApiError::on_put(error, "vhost_not_found"))
    }

    pub(super) async fn delete_policy(
        &self,
        vhost: &str,
        name: &str,
        operator: bool,
    ) -> Result<Answer, ApiError> {
        self.may_set(operator)?;
        // Says 404 for one that is not there.
        self.policy(vhost, name, operator)?;
        self.admin.delete_policy(vhost, name, operator).await?;
        Ok(Answer::Done)
    }

    fn may_set(&self, operator: bool) -> Result<(), ApiError> {
        if operator { self.caller.must_administrate() } else { self.caller.must_make_policies() }
    }
}

/// A policy as a PUT or a set of definitions describes it.
///
/// # Errors
/// 400 for a field that is absent or of the wrong kind.
pub(super) fn read_policy(
    object: &Object,
    vhost: &str,
    name: &str,
    operator: bool,
) -> Result<PolicyInfo, ApiError> {
    object.must_have(&["pattern", "definition"])?;
    let priority = match object.get("priority") {
        None => 0,
        Some(value) => {
            let bad = || ApiError::BadRequest("priority must be a whole number".to_owned());
            // Old clients write it as a string, others as 1.0.
            let whole = || value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 1e15);
            let text = || value.as_str().and_then(|text| text.parse::<i64>().ok());
            #[expect(clippy::cast_possible_truncation, reason = "whole and small")]
            let priority = value.as_i64().or_else(text).or_else(|| whole().map(|number| number as i64));
            priority.ok_or_else(bad)?
        }
    };
    Ok(PolicyInfo {
        vhost: vhost.to_owned(),
        name: name.to_owned(),
        operator,
        pattern: object.text("pattern")?.unwrap_or_default().to_owned(),
        apply_to: object.text("apply-to")?.unwrap_or(if operator { "queues" } else { "all" }).to_owned(),
        priority,
        definition: table::from_json(object.get("definition"))?,
    })
}

pub(super) fn shape_policy(policy: &PolicyInfo) -> Value {
    json!({
        "vhost": policy.vhost,
        "name": policy.name,
        "pattern": policy.pattern,
        "apply-to": policy.apply_to,
        "priority": policy.priority,
        "definition": table::to_json(&policy.definition),
    })
}
