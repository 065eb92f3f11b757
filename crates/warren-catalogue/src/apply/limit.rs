//! Limits, and what operators say of virtual hosts.

use warren_proto::catalogue::{UserLimits, VhostLimits, VhostMetadata};
use warren_types::{AmqpError, ReplyCode};

use super::Effect;
use crate::names::{check_length, no_user, no_vhost, refuse};
use crate::state::Catalogue;

/// Longest description of a virtual host, in bytes; most tags.
const DESCRIPTION_MAX: usize = 4096;
const TAGS_MAX: usize = 64;

impl Catalogue {
    pub(super) fn set_vhost_metadata(
        &mut self,
        vhost: &str,
        metadata: &VhostMetadata,
    ) -> Result<Effect, AmqpError> {
        let state = self.vhosts.get_mut(vhost).ok_or_else(|| no_vhost(vhost))?;
        let invalid = |text: String| Err(refuse(ReplyCode::PreconditionFailed, text));
        if metadata.description.len() > DESCRIPTION_MAX {
            return invalid(format!("a description is at most {DESCRIPTION_MAX} bytes long"));
        }
        if metadata.tags.len() > TAGS_MAX {
            return invalid(format!("a vhost has at most {TAGS_MAX} tags"));
        }
        metadata.tags.iter().try_for_each(|tag| check_length("tag", tag))?;
        if !matches!(metadata.default_queue_type.as_str(), "" | "classic" | "quorum" | "stream") {
            return invalid(format!("unsupported queue type '{}'", metadata.default_queue_type));
        }
        if state.metadata == *metadata {
            return Ok(Effect::unchanged());
        }
        state.metadata = metadata.clone();
        Ok(Effect::changed())
    }

    pub(super) fn set_vhost_limits(&mut self, vhost: &str, limits: VhostLimits) -> Result<Effect, AmqpError> {
        let state = self.vhosts.get_mut(vhost).ok_or_else(|| no_vhost(vhost))?;
        if state.limits == limits {
            return Ok(Effect::unchanged());
        }
        state.limits = limits;
        Ok(Effect::changed())
    }

    pub(super) fn set_user_limits(&mut self, user: &str, limits: UserLimits) -> Result<Effect, AmqpError> {
        if !self.users.contains_key(user) {
            return Err(no_user(user));
        }
        let before = if limits == UserLimits::default() {
            self.user_limits.remove(user)
        } else {
            self.user_limits.insert(user.to_owned(), limits)
        };
        Ok(if before.unwrap_or_default() == limits { Effect::unchanged() } else { Effect::changed() })
    }
}
