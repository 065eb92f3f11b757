//! `amqp://user:password@host:port/vhost`, the common form of a broker's address; for NATS `nats://host:port`.

use crate::error::BenchError;

/// Which protocol a run speaks, and so what its brokers' addresses start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// AMQP 0-9-1.
    Amqp,
    /// The protocol of NATS.
    Nats,
}

impl Scheme {
    /// Where a broker is looked for when nothing was said.
    pub(crate) fn default_uri(self) -> &'static str {
        match self {
            Self::Amqp => "amqp://guest:guest@127.0.0.1:5672",
            Self::Nats => "nats://127.0.0.1:4222",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Amqp => "amqp://",
            Self::Nats => "nats://",
        }
    }

    /// The protocol's registered port.
    fn default_port(self) -> u16 {
        match self {
            Self::Amqp => 5672,
            Self::Nats => 4222,
        }
    }
}

/// Where a broker listens and as whom to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BrokerUri {
    /// Host name or address; an IPv6 address without its brackets.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// User name.
    pub(crate) user: String,
    /// Password.
    pub(crate) password: String,
    /// Virtual host.
    pub(crate) vhost: String,
}

impl BrokerUri {
    /// Reads a URI. What is missing is guest, guest, 127.0.0.1, the registered port and `/`.
    ///
    /// # Errors
    /// [`BenchError::Usage`] naming the URI (without its password) and what is wrong with it.
    pub(crate) fn parse(text: &str, scheme: Scheme) -> Result<Self, BenchError> {
        let wrong = |what: &str| {
            BenchError::Usage(format!("'{}' is no broker's URI: {what}", without_password(text)))
        };
        let prefix = scheme.prefix();
        let rest =
            text.strip_prefix(prefix).ok_or_else(|| wrong(&format!("it does not start with {prefix}")))?;
        let rest = rest.split_once('?').map_or(rest, |(before, _parameters)| before);
        let (authority, vhost) = match rest.split_once('/') {
            Some((authority, vhost)) => (authority, Some(vhost)),
            None => (rest, None),
        };
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (user, password) = match login {
            Some(login) => login.split_once(':').unwrap_or((login, "")),
            None => ("guest", "guest"),
        };
        let (host, port) = host_and_port(place, scheme.default_port())
            .ok_or_else(|| wrong("its host or port cannot be read"))?;
        let decode =
            |part: &str| percent_decode(part).ok_or_else(|| wrong("a percent escape cannot be read"));
        let vhost = match vhost {
            Some(name) => decode(name)?,
            None => "/".to_owned(),
        };
        Ok(Self { host, port, user: decode(user)?, password: decode(password)?, vhost })
    }

    /// `host:port`, for messages.
    pub(crate) fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn host_and_port(place: &str, default_port: u16) -> Option<(String, u16)> {
    if let Some(bracketed) = place.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None if rest.is_empty() => default_port,
            None => return None,
        };
        return (!host.is_empty()).then(|| (host.to_owned(), port));
    }
    let (host, port) = match place.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (place, default_port),
    };
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Some((host.to_owned(), port))
}

fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

fn without_password(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_login, place)) => format!("***@{place}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, u16, String, String, String) {
        let uri = BrokerUri::parse(text, Scheme::Amqp).unwrap();
        (uri.host, uri.port, uri.user, uri.password, uri.vhost)
    }

    #[test]
    fn every_part_of_a_uri_may_be_missing() {
        let cases = [
            ("amqp://", ("127.0.0.1", 5672, "guest", "guest", "/")),
            ("amqp://h", ("h", 5672, "guest", "guest", "/")),
            ("amqp://h:5", ("h", 5, "guest", "guest", "/")),
            ("amqp://u:p@h:5/v", ("h", 5, "u", "p", "v")),
            ("amqp://u@h", ("h", 5672, "u", "", "/")),
            ("amqp://u:p%40%3A@h/%2f", ("h", 5672, "u", "p@:", "/")),
            ("amqp://u:a@b@h", ("h", 5672, "u", "a@b", "/")),
            ("amqp://[::1]:7/x?heartbeat=3", ("::1", 7, "guest", "guest", "x")),
        ];
        for (text, (host, port, user, password, vhost)) in cases {
            let expected = (host.to_owned(), port, user.to_owned(), password.to_owned(), vhost.to_owned());
            assert_eq!(parsed(text), expected, "{text}");
        }
    }

    #[test]
    fn an_address_of_another_protocol_is_refused() {
        let uri = BrokerUri::parse("nats://h", Scheme::Nats).unwrap();
        assert_eq!((uri.host.as_str(), uri.port), ("h", 4222));
        assert!(BrokerUri::parse("amqp://h", Scheme::Nats).is_err());
        assert!(BrokerUri::parse("nats://h", Scheme::Amqp).is_err());
    }

    #[test]
    fn a_wrong_uri_is_refused_without_showing_its_password() {
        for text in [
            "http://h",
            "amqp://u:secret@h:70000",
            "amqp://u:secret@[::1",
            "amqp://u:secret%zz@h",
            "amqps://u:secret@h",
        ] {
            let message = BrokerUri::parse(text, Scheme::Amqp).unwrap_err().to_string();
            assert!(!message.contains("secret"), "{text}: {message}");
        }
    }
}
