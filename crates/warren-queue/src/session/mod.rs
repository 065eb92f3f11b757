//! Both ends of a session: `home` at the client's node, `leader` where the queues are.

pub(crate) mod home;
pub(crate) mod leader;
