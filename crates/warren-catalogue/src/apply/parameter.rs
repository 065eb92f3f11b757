//! Parameters: kept for components, which alone know what they mean.

use warren_proto::catalogue::ParameterRecord;
use warren_types::{AmqpError, ReplyCode};

use super::Effect;
use crate::names::{check_length, check_name, no_vhost, refuse};
use crate::state::Catalogue;

/// Longest value, in bytes.
const VALUE_MAX: usize = 256 * 1024;

impl Catalogue {
    pub(super) fn set_parameter(&mut self, record: &ParameterRecord) -> Result<Effect, AmqpError> {
        if let Some(vhost) = record.vhost.as_deref()
            && !self.vhosts.contains_key(vhost)
        {
            return Err(no_vhost(vhost));
        }
        check_name("parameter name", &record.name)?;
        check_length("component", &record.component)?;
        if record.value.len() > VALUE_MAX {
            let text = format!("a parameter's value is at most {VALUE_MAX} bytes long");
            return Err(refuse(ReplyCode::PreconditionFailed, text));
        }
        let key = (record.vhost.clone(), record.component.clone(), record.name.clone());
        match self.parameters.insert(key, record.clone()) {
            None => Ok(Effect::created()),
            Some(before) if before == *record => Ok(Effect::unchanged()),
            Some(_) => Ok(Effect::changed()),
        }
    }

    pub(super) fn clear_parameter(&mut self, vhost: Option<&str>, component: &str, name: &str) -> Effect {
        let key = (vhost.map(str::to_owned), component.to_owned(), name.to_owned());
        if self.parameters.remove(&key).is_some() { Effect::changed() } else { Effect::unchanged() }
    }
}
