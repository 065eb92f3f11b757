//! One node's HTTP API, asked with a deadline.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// The largest answer that is read: a listing of some hundred thousand queues.
const ANSWER_MAX_BYTES: u64 = 512 * 1024 * 1024;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The check was made and the answer is no.
    #[error("{0}")]
    No(String),
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// What was asked for does not exist.
    #[error("{path}: not found ({reason})")]
    NotFound {
        /// What was asked.
        path: String,
        /// What the node said.
        reason: String,
    },
    /// The node does not let this user.
    #[error("not allowed: {0} (see --user)")]
    NotAllowed(String),
    /// Nobody answers there.
    #[error("cannot reach {node}: {reason} (see --node)")]
    Unreachable {
        /// Where.
        node: String,
        /// Why.
        reason: String,
    },
    /// No answer in time.
    #[error("{node} did not answer within {timeout_s} s")]
    Timeout {
        /// Where.
        node: String,
        /// How long it had.
        timeout_s: u64,
    },
    /// The node refused or failed.
    #[error("the node answered {status}: {reason}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the node said.
        reason: String,
    },
    /// The answer is no JSON.
    #[error("the answer makes no sense: {0}")]
    Nonsense(String),
}

impl Failure {
    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::No(_) | Self::Refused { .. } | Self::Nonsense(_) => 1,
            Self::Usage(_) => 2,
            Self::NotFound { .. } => 4,
            Self::NotAllowed(_) => 6,
            Self::Unreachable { .. } => 7,
            Self::Timeout { .. } => 8,
        }
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Makes or replaces what the path names.
    Put,
    /// Does something below the path.
    Post,
    /// Deletes what the path names; has no body.
    Delete,
}

/// A node's HTTP API.
pub(crate) struct Api {
    agent: Agent,
    base: String,
    authorization: String,
    timeout_s: u64,
}

impl Api {
    /// An API at `node` (`http://HOST:PORT` or `https://HOST:PORT`, without a scheme it is http), asked as `user`
    /// (`NAME:PASSWORD`). `ca` is the authority of its certificate, if not a public one.
    ///
    /// # Errors
    /// [`Failure::Usage`] when either has another form.
    pub(crate) fn new(node: &str, user: &str, timeout_s: u64, ca: Option<&Path>) -> Result<Self, Failure> {
        let base = match node.split_once("://") {
            Some(("http" | "https", _)) => node.to_owned(),
            Some((scheme, _)) => {
                return Err(Failure::Usage(format!(
                    "--node: {scheme} is not supported, write http://HOST:PORT or https://HOST:PORT"
                )));
            }
            None => format!("http://{node}"),
        };
        if !user.contains(':') {
            return Err(Failure::Usage("--user: write NAME:PASSWORD".to_owned()));
        }
        let config = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(timeout_s)))
            .http_status_as_error(false)
            .max_redirects(0)
            // A proxy of the environment has no business between an operator and a node.
            .proxy(None)
            .tls_config(
                TlsConfig::builder().root_certs(ca.map_or(Ok(RootCerts::WebPki), authorities)?).build(),
            )
            .build();
        Ok(Self {
            agent: config.into(),
            base: base.trim_end_matches('/').to_owned(),
            authorization: format!("Basic {}", STANDARD.encode(user)),
            timeout_s,
        })
    }

    /// The JSON at `path`.
    ///
    /// # Errors
    /// [`Failure`] by what went wrong; never [`Failure::No`].
    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        let (status, body) = self.ask(path)?;
        judge(path, status, body)
    }

    /// Changes something at `path`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn change(&self, change: Change, path: &str, body: &Value) -> Result<(), Failure> {
        let url = format!("{}{path}", self.base);
        let authorization = self.authorization.as_str();
        let answer = match change {
            Change::Put => self.agent.put(url).header("authorization", authorization).send(body.to_string()),
            Change::Post => {
                self.agent.post(url).header("authorization", authorization).send(body.to_string())
            }
            Change::Delete => self.agent.delete(url).header("authorization", authorization).call(),
        };
        let (status, body) = self.read(answer.map_err(|error| self.failure(error))?)?;
        judge(path, status, body).map(drop)
    }

    /// The JSON of a health check at `path` that says yes.
    ///
    /// # Errors
    /// [`Failure::No`] when it says no, another [`Failure`] when it cannot be asked.
    pub(crate) fn check(&self, path: &str) -> Result<Value, Failure> {
        match self.get(path) {
            Err(Failure::Refused { status: 503, reason }) => Err(Failure::No(reason)),
            answer => answer,
        }
    }

    fn ask(&self, path: &str) -> Result<(u16, Value), Failure> {
        let request =
            self.agent.get(format!("{}{path}", self.base)).header("authorization", &self.authorization);
        let response = request.call().map_err(|error| self.failure(error))?;
        self.read(response)
    }

    fn read(&self, mut response: ureq::http::Response<ureq::Body>) -> Result<(u16, Value), Failure> {
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(ANSWER_MAX_BYTES).read_to_string();
        let body = body.map_err(|error| self.failure(error))?;
        match serde_json::from_str(&body) {
            Ok(value) => Ok((status, value)),
            Err(_) if status >= 300 || body.is_empty() => Ok((status, Value::Null)),
            Err(error) => Err(Failure::Nonsense(error.to_string())),
        }
    }

    fn failure(&self, error: ureq::Error) -> Failure {
        let node = self.base.clone();
        if let ureq::Error::Timeout(_) = error {
            return Failure::Timeout { node, timeout_s: self.timeout_s };
        }
        if let ureq::Error::BadUri(reason) = error {
            return Failure::Usage(format!("--node: {reason}"));
        }
        Failure::Unreachable { node, reason: error.to_string() }
    }
}

fn authorities(path: &Path) -> Result<RootCerts, Failure> {
    let wrong =
        |reason: &dyn std::fmt::Display| Failure::Usage(format!("--ca: {}: {reason}", path.display()));
    let text = std::fs::read(path).map_err(|error| wrong(&error))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(&error))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(wrong(&"holds no certificate"));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

fn judge(path: &str, status: u16, body: Value) -> Result<Value, Failure> {
    match status {
        200..=299 => Ok(body),
        401 | 403 => Err(Failure::NotAllowed(reason(&body, "login failed"))),
        404 => Err(Failure::NotFound { path: path.to_owned(), reason: reason(&body, "nothing there") }),
        status => Err(Failure::Refused { status, reason: reason(&body, "without a reason") }),
    }
}

fn reason(body: &Value, otherwise: &str) -> String {
    body.get("reason").and_then(Value::as_str).unwrap_or(otherwise).to_owned()
}

/// A path part with everything encoded that is not unreserved (RFC 3986).
pub(crate) fn encode(part: &str) -> String {
    part.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    /// A server that gives one answer; the API at its address.
    fn answering(answer: &'static str) -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 4096];
            let _bytes = stream.read(&mut asked).unwrap();
            let _gone = stream.write_all(answer.as_bytes());
        });
        Api::new(&address.to_string(), "guest:guest", 5, None).unwrap()
    }

    #[test]
    fn each_kind_of_answer_has_its_exit_code() {
        for (answer, code) in [
            ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", 6),
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}", 4),
            ("HTTP/1.1 503 No\r\ncontent-length: 20\r\n\r\n{\"reason\":\"no quorum\"}", 1),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n<html", 1),
            ("not http at all\r\n\r\n", 7),
        ] {
            assert_eq!(answering(answer).check("/").unwrap_err().exit_code(), code, "{answer}");
        }
        let api = answering("HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}");
        assert_eq!(api.check("/").unwrap(), serde_json::json!({ "status": "ok" }));
    }

    #[test]
    fn a_port_where_nobody_listens_is_unreachable() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let api = Api::new(&format!("http://{free}"), "guest:guest", 5, None).unwrap();
        assert_eq!(api.get("/api/nodes").unwrap_err().exit_code(), 7);
    }

    #[test]
    fn a_node_without_http_and_a_user_without_a_password_are_usage_errors() {
        for (node, user) in [("amqp://a:1", "a:b"), ("ftp://a", "a:b"), ("http://a:1", "guest")] {
            assert_eq!(Api::new(node, user, 1, None).err().unwrap().exit_code(), 2, "{node} {user}");
        }
    }

    #[test]
    fn the_vhost_slash_is_encoded_in_a_path() {
        assert_eq!(encode("/"), "%2F");
        assert_eq!(encode("a b~ü"), "a%20b~%C3%BC");
    }
}
