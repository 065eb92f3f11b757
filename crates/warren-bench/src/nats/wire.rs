//! The client's half of the NATS protocol, as far as the bench speaks it: lines and payloads, without allocation on the
//! way in and with one copy on the way out.

use crate::dialect::Message;
use crate::stamp::{STAMP_BYTES, Stamp, noise};

/// The longest line that is believed; the first one of a server, INFO, lists its cluster.
const LINE_MAX: usize = 64 * 1024;

/// The largest payload that is believed: eight times what a server takes by default.
const PAYLOAD_MAX: usize = 8 << 20;

/// Why bytes are nothing that a server says.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// A line that is no operation, or one with other arguments than its operation has.
    #[error("a line that is no operation of NATS: {0}")]
    Unknown(String),
    /// A line without an end.
    #[error("a line of more than {LINE_MAX} bytes")]
    LongLine,
    /// A payload of more bytes than any server is set to pass on here.
    #[error("a payload of {0} bytes")]
    LargePayload(usize),
    /// The bytes after a payload are no line's end.
    #[error("a payload that does not end where its size says")]
    NoEnd,
}

/// One thing that a server says; everything borrowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// INFO: a JSON object about the server.
    Info(&'a [u8]),
    /// MSG or HMSG: a message for a subscription.
    Message(Incoming<'a>),
    /// PING: to be answered with PONG.
    Ping,
    /// PONG: everything before our PING has been handled.
    Pong,
    /// +OK: only said to those who ask for it.
    Ok,
    /// -ERR: what is wrong with what we said, or why the connection ends.
    Refusal(&'a [u8]),
}

/// A message for a subscription.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Incoming<'a> {
    /// What it was published to.
    pub(crate) subject: &'a [u8],
    /// Our number of the subscription.
    pub(crate) sid: u32,
    /// Where an answer goes; empty: nowhere.
    pub(crate) reply: &'a [u8],
    /// `NATS/1.0 STATUS …` and lines of headers; empty for most messages.
    pub(crate) headers: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// Takes the first thing that `input` says, and how many bytes that was; nothing when it is not there as a whole yet.
///
/// # Errors
/// [`WireError`] when the bytes cannot become sense by waiting.
#[inline]
pub(crate) fn next_said(input: &[u8]) -> Result<Option<(Said<'_>, usize)>, WireError> {
    let Some(end) = input.iter().take(LINE_MAX).position(|byte| *byte == b'\n') else {
        return if input.len() >= LINE_MAX { Err(WireError::LongLine) } else { Ok(None) };
    };
    let line = input.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let used = end + 1;
    if let Some(arguments) = line.strip_prefix(b"MSG ") {
        return message(line, arguments, Layout::Plain, input, used);
    }
    if let Some(arguments) = line.strip_prefix(b"HMSG ") {
        return message(line, arguments, Layout::WithHeaders, input, used);
    }
    let said = match line {
        b"PING" => Said::Ping,
        b"PONG" => Said::Pong,
        b"+OK" => Said::Ok,
        other => match (other.strip_prefix(b"INFO "), other.strip_prefix(b"-ERR ")) {
            (Some(info), _) => Said::Info(info),
            (None, Some(text)) => Said::Refusal(text),
            (None, None) => return Err(unknown(line)),
        },
    };
    Ok(Some((said, used)))
}

/// What a message's line counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// MSG subject sid \[reply\] bytes
    Plain,
    /// HMSG subject sid \[reply\] bytes-of-headers bytes-of-all
    WithHeaders,
}

/// A message whose line is `line`, the payload after `used` bytes of `input`.
#[inline]
fn message<'a>(
    line: &'a [u8],
    arguments: &'a [u8],
    layout: Layout,
    input: &'a [u8],
    used: usize,
) -> Result<Option<(Said<'a>, usize)>, WireError> {
    let mut words = [arguments; 5];
    let mut count = 0;
    for word in arguments.split(|byte| *byte == b' ').filter(|word| !word.is_empty()) {
        *words.get_mut(count).ok_or_else(|| unknown(line))? = word;
        count += 1;
    }
    let [first, second, third, fourth, fifth] = words;
    let nothing: &[u8] = b"";
    let (reply, headers, all) = match (layout, count) {
        (Layout::Plain, 3) => (nothing, nothing, third),
        (Layout::Plain, 4) => (third, nothing, fourth),
        (Layout::WithHeaders, 4) => (nothing, third, fourth),
        (Layout::WithHeaders, 5) => (third, fourth, fifth),
        (Layout::Plain | Layout::WithHeaders, _) => return Err(unknown(line)),
    };
    let sid = number(second).and_then(|sid| u32::try_from(sid).ok()).ok_or_else(|| unknown(line))?;
    let size = |word| number(word).and_then(|size| usize::try_from(size).ok()).ok_or_else(|| unknown(line));
    let all = size(all)?;
    let headers = if headers.is_empty() { 0 } else { size(headers)? };
    if all > PAYLOAD_MAX {
        return Err(WireError::LargePayload(all));
    }
    let Some((content, end)) = input.get(used..).and_then(|rest| rest.split_at_checked(all)) else {
        return Ok(None);
    };
    match end {
        [b'\r', b'\n', ..] => {}
        [] | [b'\r'] => return Ok(None),
        _ => return Err(WireError::NoEnd),
    }
    let (headers, payload) = content.split_at_checked(headers).ok_or_else(|| unknown(line))?;
    let message = Incoming { subject: first, sid, reply, headers, payload };
    Ok(Some((Said::Message(message), used + all + 2)))
}

/// A line for a person: the first of it.
fn unknown(line: &[u8]) -> WireError {
    WireError::Unknown(String::from_utf8_lossy(line.get(..80).unwrap_or(line)).into_owned())
}

/// A decimal number of at most 19 digits.
#[inline]
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0, |number: u64, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })
}

/// Appends what starts a connection. No `+OK` after each line; headers, so that a request that nobody listens to is
/// answered with a status instead of never.
pub(crate) fn put_connect(out: &mut Vec<u8>) {
    let version = env!("CARGO_PKG_VERSION");
    out.extend_from_slice(
        format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"lang\":\"rust\",\
             \"name\":\"warren-bench\",\"version\":\"{version}\",\"protocol\":1,\"headers\":true,\
             \"no_responders\":true}}\r\n"
        )
        .as_bytes(),
    );
}

/// Appends a subscription; with a `group`, its members share the messages.
pub(crate) fn put_subscribe(out: &mut Vec<u8>, subject: &str, group: Option<&str>, sid: u32) {
    let group = group.map(|group| format!(" {group}")).unwrap_or_default();
    out.extend_from_slice(format!("SUB {subject}{group} {sid}\r\n").as_bytes());
}

/// Appends a message; an empty `reply` asks for no answer.
pub(crate) fn put_publish(out: &mut Vec<u8>, subject: &str, reply: &str, payload: &[u8]) {
    let space = if reply.is_empty() { "" } else { " " };
    out.extend_from_slice(format!("PUB {subject} {reply}{space}{}\r\n", payload.len()).as_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Appends JetStream's acknowledgement to a delivery's reply subject.
#[inline]
pub(crate) fn put_ack(out: &mut Vec<u8>, reply: &[u8]) {
    out.extend_from_slice(b"PUB ");
    out.extend_from_slice(reply);
    out.extend_from_slice(b" 4\r\n+ACK\r\n");
}

/// Digits of a message's number at the end of its reply subject: as many as the sequences that the books hold need.
const NUMBER_DIGITS: usize = 10;

/// The bytes of one message, made once; each message sent is a copy of them with another stamp in its body and another
/// number at the end of its reply subject.
#[derive(Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    /// Where the number starts in `bytes`; none: no answer is asked for.
    number_at: Option<usize>,
    body_at: usize,
}

impl Template {
    /// A message of `body_bytes` to `subject`. With an `inbox` it asks for an answer to `INBOX.NUMBER`, where the number
    /// counts the producer's messages from 1.
    pub(crate) fn new(subject: &str, inbox: Option<&str>, body_bytes: usize) -> Self {
        let mut bytes = format!("PUB {subject} ").into_bytes();
        let number_at = inbox.map(|inbox| {
            bytes.extend_from_slice(format!("{inbox}.").as_bytes());
            let at = bytes.len();
            bytes.resize(at + NUMBER_DIGITS, b'0');
            bytes.push(b' ');
            at
        });
        bytes.extend_from_slice(format!("{body_bytes}\r\n").as_bytes());
        let body_at = bytes.len();
        bytes.extend_from_slice(&noise(body_bytes));
        bytes.extend_from_slice(b"\r\n");
        Self { bytes, number_at, body_at }
    }
}

impl Message for Template {
    #[inline]
    fn put(&self, out: &mut Vec<u8>, stamp: Stamp) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let body_at = start + self.body_at;
        if let Some(place) = out.get_mut(body_at..body_at + STAMP_BYTES) {
            place.copy_from_slice(&stamp.to_bytes());
        }
        if let Some(number_at) = self.number_at {
            let number_at = start + number_at;
            let mut rest = stamp.sequence + 1;
            for digit in out.get_mut(number_at..number_at + NUMBER_DIGITS).into_iter().flatten().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::SEQUENCE_MAX;

    const STREAM: &[u8] = b"INFO {\"server_name\":\"n\"}\r\nPING\r\nPONG\r\n+OK\r\nMSG a.b 7 5\r\nhello\r\n\
        MSG a 7  in.box 0\r\n\r\nHMSG a 12 in.box 16 18\r\nNATS/1.0 503\r\n\r\nhi\r\nHMSG a 12 16 16\r\n\
        NATS/1.0 503\r\n\r\n\r\n-ERR 'Stale Connection'\r\n";

    fn told(mut input: &[u8]) -> (Vec<String>, usize) {
        let mut found = Vec::new();
        let all = input.len();
        while let Some((said, used)) = next_said(input).unwrap() {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            found.push(match said {
                Said::Info(json) => format!("info {}", text(json)),
                Said::Message(Incoming { subject, sid, reply, headers, payload }) => {
                    let (subject, reply, payload) = (text(subject), text(reply), text(payload));
                    format!("message {subject} {sid} ({reply}) {} {payload}", headers.len())
                }
                Said::Ping => "ping".to_owned(),
                Said::Pong => "pong".to_owned(),
                Said::Ok => "ok".to_owned(),
                Said::Refusal(what) => format!("refusal {}", text(what)),
            });
            input = &input[used..];
        }
        (found, all - input.len())
    }

    fn expected() -> Vec<&'static str> {
        vec![
            "info {\"server_name\":\"n\"}",
            "ping",
            "pong",
            "ok",
            "message a.b 7 () 0 hello",
            "message a 7 (in.box) 0 ",
            "message a 12 (in.box) 16 hi",
            "message a 12 () 16 ",
            "refusal 'Stale Connection'",
        ]
    }

    #[test]
    fn everything_a_server_says_is_understood() {
        assert_eq!(told(STREAM), (expected().into_iter().map(str::to_owned).collect(), STREAM.len()));
    }

    #[test]
    fn wherever_the_bytes_are_cut_the_same_comes_out() {
        for cut in 0..=STREAM.len() {
            let (mut found, used) = told(&STREAM[..cut]);
            let (rest, _) = told(&STREAM[used..]);
            found.extend(rest);
            assert_eq!(found, expected(), "cut after {cut} bytes");
        }
    }

    #[test]
    fn garbage_is_refused_and_not_waited_for() {
        let cases: [&[u8]; 14] = [
            b"\r\n",
            b"HELLO\r\n",
            b"AMQP\x00\x00\x09\x01\n",
            b"\xff\xfe\xfd\n",
            b"MSG\r\n",
            b"MSG a 1\r\n",
            b"MSG a x 5\r\nhello\r\n",
            b"MSG a 1 -5\r\nhello\r\n",
            b"MSG a 1 r 5 5\r\nhello\r\n",
            b"MSG a 1 r 5 5 5\r\nhello\r\n",
            b"MSG a 99999999999 5\r\nhello\r\n",
            b"MSG a 1 99999999999999999999\r\n",
            b"HMSG a 1 5\r\nhello\r\n",
            b"HMSG a 1 6 5\r\nhello\r\n",
        ];
        for input in cases {
            let text = String::from_utf8_lossy(input);
            assert!(matches!(next_said(input), Err(WireError::Unknown(_))), "{text}");
        }
        assert_eq!(next_said(b"MSG a 1 5\r\nhello, "), Err(WireError::NoEnd));
        assert_eq!(next_said(b"MSG a 1 9000000\r\n"), Err(WireError::LargePayload(9_000_000)));
        assert_eq!(next_said(&vec![b'x'; LINE_MAX]), Err(WireError::LongLine));
        assert_eq!(next_said(&vec![b'x'; LINE_MAX - 1]), Ok(None));
    }

    #[test]
    fn a_message_carries_its_stamp_and_its_number() {
        let template = Template::new("queue", Some("in.box"), 20);
        let stamp = Stamp { run: 1, producer: 2, sequence: SEQUENCE_MAX - 1, sent_ns: 4 };
        let mut out = b"PING\r\n".to_vec();
        template.put(&mut out, stamp);
        let line = b"PUB queue in.box.4294967296 20\r\n";
        assert!(out[6..].starts_with(line), "{}", String::from_utf8_lossy(&out));
        let body = &out[6 + line.len()..];
        assert_eq!((Stamp::read(body), body.len(), &body[20..]), (Some(stamp), 22, b"\r\n".as_slice()));
    }

    #[test]
    fn without_an_inbox_no_answer_is_asked_for() {
        let mut out = Vec::new();
        Template::new("queue", None, 16)
            .put(&mut out, Stamp { run: 1, producer: 2, sequence: 3, sent_ns: 4 });
        assert!(out.starts_with(b"PUB queue 16\r\n") && out.len() == 14 + 18);
    }

    #[test]
    fn what_is_said_to_a_server_is_in_its_words() {
        let mut out = Vec::new();
        put_subscribe(&mut out, "a.*", None, 1);
        put_subscribe(&mut out, "a", Some("g"), 2);
        put_publish(&mut out, "a", "", b"x");
        put_publish(&mut out, "a", "in.box", b"");
        put_ack(&mut out, b"$JS.ACK.s.c.1.2.3.4.5");
        let said = "SUB a.* 1\r\nSUB a g 2\r\nPUB a 1\r\nx\r\nPUB a in.box 0\r\n\r\n\
            PUB $JS.ACK.s.c.1.2.3.4.5 4\r\n+ACK\r\n";
        assert_eq!(String::from_utf8_lossy(&out), said);
    }
}
