//! Policies.

use warren_proto::catalogue::PolicyRecord;
use warren_types::AmqpError;

use super::Effect;
use crate::names::{check_name, no_vhost};
use crate::policy::Policy;
use crate::state::Catalogue;

impl Catalogue {
    pub(super) fn set_policy(&mut self, record: &PolicyRecord) -> Result<Effect, AmqpError> {
        let vhost = self.vhosts.get_mut(record.vhost.as_str()).ok_or_else(|| no_vhost(&record.vhost))?;
        check_name("policy name", &record.name)?;
        let known = vhost.policies.get(record.operator, &record.name);
        if known == Some(record) {
            return Ok(Effect::unchanged());
        }
        let created = known.is_none();
        vhost.policies.insert(Policy::compile(record.clone())?);
        vhost.apply_policies();
        Ok(Effect { created, ..Effect::changed() }.in_topology(&record.vhost))
    }

    pub(super) fn clear_policy(&mut self, vhost: &str, name: &str, operator: bool) -> Effect {
        let Some(state) = self.vhosts.get_mut(vhost) else { return Effect::unchanged() };
        if !state.policies.remove(operator, name) {
            return Effect::unchanged();
        }
        state.apply_policies();
        Effect::changed().in_topology(vhost)
    }
}
