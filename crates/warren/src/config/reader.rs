//! From text to values: each read checks one setting, notes what is wrong and goes on with the built-in value, so
//! that one run lists every mistake.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use warren_broker::MemoryWatermark;

use super::settings::{Privacy, Setting, suggestion};
use super::sources::{Gathered, Given, Mistake, Origin};

/// A host name or address, and a port, as another node would dial it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    fn parse(text: &str) -> Result<Self, String> {
        let (host, port) =
            text.rsplit_once(':').ok_or_else(|| format!("{text:?} has no port: write HOST:PORT"))?;
        let port =
            port.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("{port:?} is no port"))?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let known = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host.len() <= 253
                    && host
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
            }
        };
        if !known {
            return Err(format!("{host:?} is no host name or address (an IPv6 address needs brackets)"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl HostPort {
    /// Whether it can only be this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether it is an IPv6 address.
    pub(crate) fn is_v6(&self) -> bool {
        self.host.starts_with('[')
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Reads settings, one method a kind of value.
pub(crate) struct Reader<'a> {
    gathered: &'a Gathered,
    shown: BTreeMap<&'static str, Vec<String>>,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    /// A reader over what the sources gave.
    pub(crate) fn new(gathered: &'a Gathered) -> Self {
        Self { gathered, shown: BTreeMap::new(), mistakes: Vec::new() }
    }

    /// The values as they will be used, by key, and everything that was wrong.
    pub(crate) fn finish(self) -> (BTreeMap<&'static str, Vec<String>>, Vec<Mistake>) {
        (self.shown, self.mistakes)
    }

    /// Notes that the setting's value is wrong for another reason than its form.
    pub(crate) fn refuse(&mut self, key: &str, text: &str) {
        let origin = self.gathered.given.get(key).map_or(Origin::BuiltIn, |given| given.origin.clone());
        self.mistakes.push(Mistake { origin, text: format!("{key}: {text}") });
    }

    /// Notes something that is wrong between settings.
    pub(crate) fn refuse_all(&mut self, text: &str) {
        let mistake = Mistake { origin: Origin::BuiltIn, text: text.to_owned() };
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }

    /// A path; the built-in one is worked out only if needed.
    pub(crate) fn path(&mut self, key: &'static str, built_in: impl FnOnce() -> PathBuf) -> PathBuf {
        let parse = |text: &str| match text {
            "" => Err("is empty".to_owned()),
            text => Ok(PathBuf::from(text)),
        };
        let path = self.parsed(key, parse).unwrap_or_else(built_in);
        self.show(key, [path.display().to_string()]);
        path
    }

    /// A name: 1 to 255 bytes without blanks or control characters.
    pub(crate) fn name(&mut self, key: &'static str, built_in: &str) -> String {
        let parse = |text: &str| match text {
            "" => Err("is empty".to_owned()),
            text if text.len() > 255 => Err("is longer than 255 bytes".to_owned()),
            text if text.chars().any(|c| c.is_control() || c.is_whitespace()) => {
                Err("has blanks or control characters".to_owned())
            }
            text => Ok(text.to_owned()),
        };
        let name = self.parsed(key, parse).unwrap_or_else(|| built_in.to_owned());
        self.show(key, [name.clone()]);
        name
    }

    /// Whether anybody said anything.
    pub(crate) fn is_given(&self, key: &str) -> bool {
        self.given(key).is_some()
    }

    /// Shows another value than was read: the one that will be used.
    pub(crate) fn reshow(&mut self, key: &'static str, value: String) {
        self.show(key, [value]);
    }

    /// A text, or nothing.
    pub(crate) fn optional_text(&mut self, key: &'static str) -> Option<String> {
        let text = self.parsed(key, |text| Ok(text.to_owned())).filter(|text| !text.is_empty());
        self.show(key, [text.clone().unwrap_or_default()]);
        text
    }

    /// A path, or nothing.
    pub(crate) fn optional_path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.optional_text(key).map(PathBuf::from)
    }

    /// Any text that is not empty.
    pub(crate) fn text(&mut self, key: &'static str, built_in: &str) -> String {
        let parse =
            |text: &str| if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) };
        let text = self.parsed(key, parse).unwrap_or_else(|| built_in.to_owned());
        self.show(key, [text.clone()]);
        text
    }

    /// A whole number within bounds.
    pub(crate) fn number<N: TryFrom<u64> + Default>(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<u64>,
        built_in: u64,
    ) -> N {
        let parse = |text: &str| {
            let number = text
                .trim()
                .replace('_', "")
                .parse::<u64>()
                .map_err(|_| format!("{text:?} is no whole number"))?;
            if bounds.contains(&number) {
                Ok(number)
            } else {
                Err(format!("{number} is not within {} to {}", bounds.start(), bounds.end()))
            }
        };
        let number = self.parsed(key, parse).unwrap_or(built_in);
        self.show(key, [number.to_string()]);
        N::try_from(number).unwrap_or_default()
    }

    /// A size in bytes, with or without a unit.
    pub(crate) fn size(&mut self, key: &'static str, built_in: u64) -> u64 {
        let size = self.parsed(key, bytes).unwrap_or(built_in);
        self.show(key, [size.to_string()]);
        size
    }

    /// A share of the memory, or a size. A number up to 1 with a point in it, and 0 and 1, are shares.
    pub(crate) fn watermark(&mut self, key: &'static str, built_in: MemoryWatermark) -> MemoryWatermark {
        let parse = |text: &str| match text.trim().parse::<f64>() {
            Ok(share) if (0.0..=1.0).contains(&share) => {
                // Within 0 to 100.
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
                let percent = (share * 100.0).round() as u8;
                Ok(MemoryWatermark::Percent(percent))
            }
            Ok(_) | Err(_) => bytes(text)
                .map(MemoryWatermark::Bytes)
                .map_err(|_| format!("{text:?} is neither a share from 0 to 1 nor a size such as 2GB")),
        };
        let watermark = self.parsed(key, parse).unwrap_or(built_in);
        let shown = match watermark {
            MemoryWatermark::Percent(percent) => format!("{:.2}", f64::from(percent) / 100.0),
            MemoryWatermark::Bytes(bytes) => bytes.to_string(),
        };
        self.show(key, [shown]);
        watermark
    }

    /// `true` or `false`.
    pub(crate) fn truth(&mut self, key: &'static str, built_in: bool) -> bool {
        self.choice(key, &[("true", true), ("false", false)], built_in)
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
        built_in: T,
    ) -> T {
        let parse = |text: &str| {
            let found =
                words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| *value);
            found.ok_or_else(|| {
                let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let meant = suggestion(text, names.iter().copied());
                let hint = meant.map(|meant| format!(", did you mean {meant:?}?")).unwrap_or_default();
                format!("{text:?} is none of {}{hint}", names.join(", "))
            })
        };
        let value = self.parsed(key, parse).unwrap_or(built_in);
        let word =
            words.iter().find(|(_, candidate)| *candidate == value).map(|(word, _)| (*word).to_owned());
        self.show(key, word);
        value
    }

    /// A list of addresses to listen on.
    pub(crate) fn addresses(&mut self, key: &'static str) -> Vec<SocketAddr> {
        let addresses = self.listed(key, listen_address);
        self.show(key, addresses.iter().map(ToString::to_string));
        addresses
    }

    /// One address to listen on.
    pub(crate) fn address(&mut self, key: &'static str) -> SocketAddr {
        let address = self.parsed(key, listen_address).unwrap_or_else(|| built_in_address(key));
        self.show(key, [address.to_string()]);
        address
    }

    /// One address to listen on, or `none`.
    pub(crate) fn optional_address(&mut self, key: &'static str) -> Option<SocketAddr> {
        let parse = |text: &str| match text {
            "none" | "" => Ok(None),
            text => listen_address(text).map(Some).map_err(|reason| format!("{reason}, or 'none'")),
        };
        let built_in = || {
            let text = Setting::find(key).and_then(|setting| setting.default).unwrap_or_default();
            parse(text).unwrap_or_default()
        };
        let address = self.parsed(key, parse).unwrap_or_else(built_in);
        self.show(key, [address.map_or("none".to_owned(), |address| address.to_string())]);
        address
    }

    /// A list of addresses to dial.
    pub(crate) fn host_ports(&mut self, key: &'static str) -> Vec<HostPort> {
        let mut list = self.listed(key, HostPort::parse);
        list.sort();
        list.dedup();
        self.show(key, list.iter().map(ToString::to_string));
        list
    }

    /// How others dial what listens on `listen`.
    pub(crate) fn advertised(&mut self, key: &'static str, listen: SocketAddr, host_name: &str) -> HostPort {
        let built_in = || {
            let host = match listen.ip() {
                ip if ip.is_unspecified() => host_name.to_owned(),
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            };
            HostPort { host, port: listen.port() }
        };
        let address = self.parsed(key, HostPort::parse).unwrap_or_else(built_in);
        self.show(key, [address.to_string()]);
        address
    }

    /// A level, or a list of `target=level`.
    pub(crate) fn log_level(&mut self, key: &'static str) -> String {
        let parse = |text: &str| match tracing_subscriber::EnvFilter::try_new(text) {
            // A single unknown word would be taken for the name of a target.
            Ok(_)
                if text
                    .split(',')
                    .all(|part| part.contains('=') || part.parse::<tracing::Level>().is_ok()) =>
            {
                Ok(text.to_owned())
            }
            Ok(_) => Err(format!("{text:?} is none of error, warn, info, debug, trace")),
            Err(error) => Err(format!("{text:?}: {error}")),
        };
        let level = self.parsed(key, parse).unwrap_or_else(|| "info".to_owned());
        self.show(key, [level.clone()]);
        level
    }

    /// The setting's single value, if given and right.
    fn parsed<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let given = self.given(key)?;
        match given.values.as_slice() {
            [text] => self.noted(key, given, parse(text)),
            values => self.noted(key, given, Err(format!("{} values where one is expected", values.len()))),
        }
    }

    /// Each of the setting's values that is right; the built-in ones when it was not given.
    fn listed<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let wrong = Cell::new(false);
        let list = match self.given(key) {
            Some(given) => given
                .values
                .iter()
                .filter_map(|text| {
                    let value = self.noted(key, given, parse(text));
                    wrong.set(wrong.get() || value.is_none());
                    value
                })
                .collect(),
            None => Vec::new(),
        };
        if self.given(key).is_some() && !wrong.get() {
            return list;
        }
        let built_in = Setting::find(key).and_then(|setting| setting.default).unwrap_or_default();
        built_in.split(',').filter(|part| !part.is_empty()).filter_map(|part| parse(part).ok()).collect()
    }

    fn given(&self, key: &str) -> Option<&'a Given> {
        self.gathered.given.get(key)
    }

    fn noted<T>(&mut self, key: &'static str, given: &Given, result: Result<T, String>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(reason) => {
                let secret = Setting::find(key).is_some_and(|setting| setting.privacy == Privacy::Secret);
                let text =
                    if secret { format!("{key}: not a usable value") } else { format!("{key}: {reason}") };
                self.mistakes.push(Mistake { origin: given.origin.clone(), text });
                None
            }
        }
    }

    fn show(&mut self, key: &'static str, values: impl IntoIterator<Item = String>) {
        self.shown.insert(key, values.into_iter().collect());
    }
}

/// A whole number with a unit: none, k, M, G, T (a `B` after it is allowed) count in thousands, as RabbitMQ does it;
/// Ki, Mi, Gi, Ti in 1024s.
fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let wrong = || format!("{text:?} is no size such as 50MB or 2GiB");
    let number = number.replace('_', "").parse::<u64>().map_err(|_| wrong())?;
    let factor: u64 = match unit.trim().trim_end_matches(['b', 'B']).to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "t" => 1_000_000_000_000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        "ti" => 1 << 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    // ":5672" is what people write for every address.
    let whole = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    let whole = whole.strip_prefix("localhost:").map_or(whole.clone(), |port| format!("127.0.0.1:{port}"));
    whole.parse().map_err(|_| format!("{text:?} is no ADDRESS:PORT"))
}

fn built_in_address(key: &str) -> SocketAddr {
    let text = Setting::find(key).and_then(|setting| setting.default).unwrap_or_default();
    // Every default in the table parses: a test reads them all.
    text.parse().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)))
}
