//! Parameters: what is kept for components, and global ones. Limits of vhosts and policies are among them, as in RabbitMQ,
//! though they are kept elsewhere.

use serde_json::{Value, json};
use warren_broker::admin::ParameterRecord;

use super::components;
use super::limits::{read_vhost_limits, shape_vhost_limits};
use super::policies::shape_policy;
use super::{Asked, checked_name, created};
use crate::answer::Answer;
use crate::error::ApiError;

const VHOST_LIMITS: &str = "vhost-limits";
pub(super) const OPERATOR_POLICY: &str = "operator_policy";
/// The one parameter of [`VHOST_LIMITS`].
const LIMITS: &str = "limits";
/// Components whose parameters are kept so that nothing of a set of definitions is lost. Nothing acts upon them here.
const KEPT: &[&str] = &["shovel", "federation-upstream", "federation-upstream-set"];
/// Global parameters that begin so are a cluster's own.
const INTERNAL: &str = "internal";
/// The global parameter that is the cluster's name.
const CLUSTER_NAME: &str = "cluster_name";

/// What a parameter is here.
pub(super) enum Kind {
    /// Limits of a vhost.
    VhostLimits,
    /// Kept for a component.
    Kept,
}

/// # Errors
/// 400 `component … not found`; for policies, that they are not set so.
pub(super) fn kind_of(component: &str, name: &str) -> Result<Kind, ApiError> {
    match component {
        VHOST_LIMITS if name == LIMITS => Ok(Kind::VhostLimits),
        "policy" | OPERATOR_POLICY => {
            Err(ApiError::BadRequest("policies may not be set using this method".to_owned()))
        }
        known if KEPT.contains(&known) => Ok(Kind::Kept),
        other => Err(ApiError::BadRequest(format!("Validation failed\n\ncomponent {other} not found\n"))),
    }
}

impl Asked<'_> {
    pub(super) fn parameters(
        &self,
        component: Option<&str>,
        vhost: Option<&str>,
    ) -> Result<Answer, ApiError> {
        self.caller.must_make_policies()?;
        if let Some(vhost) = vhost {
            self.caller.must_see(self.admin, vhost)?;
        }
        let wanted = |parameter: &Value| {
            let is = |key: &str, value: &str| parameter.get(key).and_then(Value::as_str) == Some(value);
            component.is_none_or(|component| is("component", component))
                && vhost.is_none_or(|vhost| is("vhost", vhost))
        };
        Ok(Answer::List(self.vhost_parameters(None).into_iter().filter(wanted).collect()))
    }

    pub(super) fn parameter(&self, component: &str, vhost: &str, name: &str) -> Result<Answer, ApiError> {
        let Answer::List(found) = self.parameters(Some(component), Some(vhost))? else {
            return Err(ApiError::ObjectNotFound);
        };
        let named = |parameter: &Value| parameter.get("name").and_then(Value::as_str) == Some(name);
        found.into_iter().find(named).map(Answer::Document).ok_or(ApiError::ObjectNotFound)
    }

    pub(super) async fn put_parameter(
        &self,
        component: &str,
        vhost: &str,
        name: &str,
    ) -> Result<Answer, ApiError> {
        self.caller.must_make_policies()?;
        self.vhost_of_put(vhost)?;
        checked_name("parameter's name", name)?;
        self.object.must_have(&["value"])?;
        let value = self.object.get("value").cloned().unwrap_or_default();
        match kind_of(component, name)? {
            Kind::VhostLimits => {
                self.caller.must_administrate()?;
                self.admin.set_vhost_limits(vhost, read_vhost_limits(&value)?).await?;
                Ok(Answer::Done)
            }
            Kind::Kept => {
                components::check(component, name, &value)?;
                let record = record(Some(vhost), component, name, &value);
                let new = self.admin.set_parameter(record).await;
                new.map(created).map_err(|error| ApiError::on_put(error, "vhost_not_found"))
            }
        }
    }

    pub(super) async fn delete_parameter(
        &self,
        component: &str,
        vhost: &str,
        name: &str,
    ) -> Result<Answer, ApiError> {
        // Says 404 for one that is not there.
        self.parameter(component, vhost, name)?;
        match kind_of(component, name)? {
            Kind::VhostLimits => {
                self.caller.must_administrate()?;
                self.admin.set_vhost_limits(vhost, Default::default()).await?;
            }
            Kind::Kept => self.admin.clear_parameter(Some(vhost), component, name).await?,
        }
        Ok(Answer::Done)
    }

    pub(super) fn global_parameters(&self) -> Result<Answer, ApiError> {
        self.caller.must_make_policies()?;
        Ok(Answer::List(self.all_global_parameters()))
    }

    pub(super) fn global_parameter(&self, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_make_policies()?;
        // Also one that listings and definitions leave out.
        let all = self.admin.parameters();
        let found = all.iter().find(|one| one.vhost.is_none() && one.name == name);
        found.map(|one| Answer::Document(shape_global(one))).ok_or(ApiError::ObjectNotFound)
    }

    pub(super) async fn put_global_parameter(&self, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_make_policies()?;
        checked_name("parameter's name", name)?;
        self.object.must_have(&["value"])?;
        let value = self.object.get("value").cloned().unwrap_or_default();
        check_global(name, &value)?;
        let new = self.admin.set_parameter(record(None, "", name, &value)).await;
        new.map(created).map_err(|error| ApiError::on_put(error, "not_found"))
    }

    pub(super) async fn delete_global_parameter(&self, name: &str) -> Result<Answer, ApiError> {
        // Says 404 for one that is not there.
        self.global_parameter(name)?;
        self.admin.clear_parameter(None, "", name).await?;
        Ok(Answer::Done)
    }

    pub(super) async fn put_cluster_name(&self) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        self.object.must_have(&["name"])?;
        let name = self.object.text("name")?.unwrap_or_default();
        checked_name("cluster's name", name)?;
        self.admin.set_parameter(record(None, "", CLUSTER_NAME, &json!(name))).await?;
        Ok(Answer::Done)
    }

    /// All parameters of vhosts that the caller sees, or of one vhost, but for users' policies.
    pub(super) fn vhost_parameters(&self, vhost: Option<&str>) -> Vec<Value> {
        let vhosts = self.admin.vhosts().into_iter();
        let vhosts = vhosts.filter(|name| self.caller.sees(name) && vhost.is_none_or(|vhost| vhost == name));
        let kept = self.admin.parameters();
        let mut found = Vec::new();
        for vhost in vhosts {
            for policy in self.admin.policies(Some(&vhost), true) {
                let mut value = shape_policy(&policy);
                if let Value::Object(value) = &mut value {
                    value.remove("vhost");
                    value.remove("name");
                }
                found.push(shape(&vhost, OPERATOR_POLICY, &policy.name, value));
            }
            let limits = shape_vhost_limits(self.admin.vhost_limits(&vhost));
            if limits != json!({}) {
                found.push(shape(&vhost, VHOST_LIMITS, LIMITS, limits));
            }
            for record in kept.iter().filter(|record| record.vhost.as_deref() == Some(&*vhost)) {
                found.push(shape(&vhost, &record.component, &record.name, value_of(record)));
            }
        }
        found
    }

    /// All global parameters but a cluster's own.
    pub(super) fn all_global_parameters(&self) -> Vec<Value> {
        let all = self.admin.parameters();
        let global = all.iter().filter(|one| one.vhost.is_none() && !one.name.starts_with(INTERNAL));
        global.map(shape_global).collect()
    }
}

/// # Errors
/// 400 for a name of the cluster that is none.
pub(super) fn check_global(name: &str, value: &Value) -> Result<(), ApiError> {
    if name == CLUSTER_NAME && !value.is_string() {
        return Err(ApiError::BadRequest("cluster_name must be a string".to_owned()));
    }
    Ok(())
}

pub(super) fn record(vhost: Option<&str>, component: &str, name: &str, value: &Value) -> ParameterRecord {
    ParameterRecord {
        vhost: vhost.map(str::to_owned),
        component: component.to_owned(),
        name: name.to_owned(),
        value: value.to_string(),
    }
}

/// What is kept was JSON when it came.
fn value_of(record: &ParameterRecord) -> Value {
    serde_json::from_str(&record.value).unwrap_or_default()
}

fn shape_global(record: &ParameterRecord) -> Value {
    json!({ "name": record.name, "value": value_of(record) })
}

fn shape(vhost: &str, component: &str, name: &str, value: Value) -> Value {
    json!({ "value": value, "vhost": vhost, "component": component, "name": name })
}
