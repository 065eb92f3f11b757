//! Who may do what: three regular expressions for each user and virtual host, compiled once, when they are set.

use std::fmt;

use regex::{Regex, RegexBuilder};
use warren_proto::catalogue::PermissionRecord;
use warren_types::{AmqpError, ReplyCode};

use crate::names::{exchange_resource, no_vhost, queue_resource, refuse};
use crate::state::Catalogue;

/// Longest pattern, in bytes.
const PATTERN_MAX: usize = 4096;
/// Most memory of one compiled pattern, in bytes: what a hostile pattern may cost every node.
const COMPILED_MAX: usize = 1 << 20;
/// Most steps that one match of a pattern with look-around or references may take: a few milliseconds.
const STEPS_MAX: usize = 100_000;

/// What a permission is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Declaring and deleting.
    Configure,
    /// Publishing, and binding to.
    Write,
    /// Consuming, and binding from.
    Read,
}

impl Access {
    /// Its word in texts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// What is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource<'a> {
    /// An exchange; the empty name is the default exchange, known to permissions as `amq.default`.
    Exchange(&'a str),
    /// A queue.
    Queue(&'a str),
}

/// A user's permissions in a virtual host, ready to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) record: PermissionRecord,
    configure: Pattern,
    write: Pattern,
    read: Pattern,
}

/// A regular expression on names, matched without anchors, with the common ones recognised.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// The empty one: it covers no name.
    Nothing,
    /// Every name.
    Everything,
    /// Those that match.
    Matching(Regex),
    /// One that looks around or refers back, as Perl's may.
    Perl(Box<fancy_regex::Regex>),
}

impl Pattern {
    /// Reads one.
    ///
    /// # Errors
    /// 406 `invalid regexp '…': …` for a pattern that does not compile or is too large.
    pub fn compile(pattern: &str) -> Result<Self, AmqpError> {
        let refused = |reason: &dyn fmt::Display| {
            refuse(ReplyCode::PreconditionFailed, format!("invalid regexp '{pattern}': {reason}"))
        };
        match pattern {
            "" | "^$" => Ok(Self::Nothing),
            ".*" | "^.*" | "^.*$" | ".*$" => Ok(Self::Everything),
            long if long.len() > PATTERN_MAX => {
                let text = format!("a regexp of {} bytes is longer than {PATTERN_MAX}", long.len());
                Err(refuse(ReplyCode::PreconditionFailed, text))
            }
            other => match RegexBuilder::new(other).size_limit(COMPILED_MAX).build() {
                Ok(regex) => Ok(Self::Matching(regex)),
                Err(error) => fancy_regex::RegexBuilder::new(other)
                    .delegate_size_limit(COMPILED_MAX)
                    .backtrack_limit(STEPS_MAX)
                    .build()
                    .map(|regex| Self::Perl(Box::new(regex)))
                    .map_err(|_| refused(&reason(&error))),
            },
        }
    }

    /// Whether it covers a name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Matching(regex) => regex.is_match(name),
            // One that takes too many steps matches nothing, on every node alike.
            Self::Perl(regex) => regex.is_match(name).unwrap_or(false),
        }
    }
}

// The last line says why; those before draw the place.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

impl Grant {
    /// # Errors
    /// 406 `invalid regexp '…': …` for a pattern that does not compile.
    pub(crate) fn compile(record: PermissionRecord) -> Result<Self, AmqpError> {
        Ok(Self {
            configure: Pattern::compile(&record.configure)?,
            write: Pattern::compile(&record.write)?,
            read: Pattern::compile(&record.read)?,
            record,
        })
    }

    fn allows(&self, access: Access, name: &str) -> bool {
        match access {
            Access::Configure => &self.configure,
            Access::Write => &self.write,
            Access::Read => &self.read,
        }
        .matches(name)
    }
}

impl Catalogue {
    /// May the user do this to the resource? Cost: two look-ups and one match.
    ///
    /// # Errors
    /// 403 `write access to exchange 'x' in vhost '/' refused for user 'u'`; also when the user, the virtual host or
    /// the permission does not exist.
    pub fn check_access(
        &self,
        user: &str,
        vhost: &str,
        access: Access,
        resource: Resource<'_>,
    ) -> Result<(), AmqpError> {
        let name = match resource {
            Resource::Exchange("") => "amq.default",
            Resource::Exchange(name) | Resource::Queue(name) => name,
        };
        if self.grant(user, vhost).is_some_and(|grant| grant.allows(access, name)) {
            return Ok(());
        }
        let resource = match resource {
            Resource::Exchange(_) => exchange_resource(vhost, name),
            Resource::Queue(_) => queue_resource(vhost, name),
        };
        Err(refuse(
            ReplyCode::AccessRefused,
            format!("{} access to {resource} refused for user '{user}'", access.as_str()),
        ))
    }

    /// May the user open a connection to the virtual host?
    ///
    /// # Errors
    /// 530 `vhost <v> not found`, or `access to vhost '<v>' refused for user '<u>'`.
    pub fn vhost_access(&self, user: &str, vhost: &str) -> Result<(), AmqpError> {
        if !self.vhosts.contains_key(vhost) {
            return Err(no_vhost(vhost));
        }
        if self.grant(user, vhost).is_none() {
            return Err(refuse(
                ReplyCode::NotAllowed,
                format!("access to vhost '{vhost}' refused for user '{user}'"),
            ));
        }
        Ok(())
    }

    pub(crate) fn grant(&self, user: &str, vhost: &str) -> Option<&Grant> {
        self.grants.get(user)?.get(vhost)
    }
}
