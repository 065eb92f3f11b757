//! A small AMQP 0-9-1 client, written for the simulation and by nothing that the broker uses.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use warren_rpc::network::Wire;

/// Seconds; a connection over which nothing comes for twice as long is given up.
pub(crate) const HEARTBEAT_S: u16 = 4;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the broker says.
#[derive(Debug)]
pub(crate) enum Event {
    Method {
        class: u16,
        method: u16,
        arguments: Arguments,
    },
    /// `basic.deliver` or `basic.get-ok`, with its body.
    Message {
        tag: u64,
        redelivered: bool,
        /// Where it is in a stream.
        offset: Option<u64>,
        body: Vec<u8>,
    },
    /// `basic.return`.
    Returned {
        body: Vec<u8>,
    },
    Heartbeat,
}

/// A method's arguments, read one after the other; what is not there reads as nothing.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    octets: Vec<u8>,
    at: usize,
}

impl Arguments {
    fn take(&mut self, count: usize) -> &[u8] {
        let from = self.at.min(self.octets.len());
        self.at = from.saturating_add(count).min(self.octets.len());
        self.octets.get(from..self.at).unwrap_or_default()
    }

    fn number(&mut self, count: usize) -> u64 {
        self.take(count).iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
    }

    pub(crate) fn octet(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::try_from(self.number(2)).unwrap_or_default()
    }

    pub(crate) fn long(&mut self) -> u32 {
        u32::try_from(self.number(4)).unwrap_or_default()
    }

    pub(crate) fn longlong(&mut self) -> u64 {
        self.number(8)
    }

    pub(crate) fn shortstr(&mut self) -> String {
        let length = usize::from(self.octet());
        String::from_utf8_lossy(self.take(length)).into_owned()
    }
}

impl Arguments {
    /// What a stream says in a message's headers, looked for by its name.
    fn stream_offset(&self) -> Option<u64> {
        const NAME: &[u8] = b"\x0fx-stream-offsetl";
        let rest = self.octets.get(self.at..)?;
        let at = rest.windows(NAME.len()).position(|window| window == NAME)?;
        Some(Self { octets: rest.get(at + NAME.len()..)?.to_vec(), at: 0 }.longlong())
    }
}

/// What an argument is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    Truth,
    Number(u64),
    Text(&'static str),
}

/// A method that is being written.
pub(crate) struct Method(Vec<u8>);

impl Method {
    pub(crate) fn new(class: u16, method: u16) -> Self {
        Self([class.to_be_bytes(), method.to_be_bytes()].concat())
    }

    pub(crate) fn octet(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn short(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn long(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn longlong(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn shortstr(mut self, value: &str) -> Self {
        self.0.push(u8::try_from(value.len()).unwrap_or_default());
        self.0.extend(value.as_bytes());
        self
    }

    /// An empty table.
    pub(crate) fn table(self) -> Self {
        self.long(0)
    }

    /// A table.
    pub(crate) fn arguments(mut self, arguments: &[(&str, Value)]) -> Self {
        self.0.extend(table(arguments));
        self
    }
}

fn table(arguments: &[(&str, Value)]) -> Vec<u8> {
    let mut table = Method(Vec::new());
    for (key, value) in arguments {
        table = table.shortstr(key);
        table = match value {
            Value::Truth => table.octet(b't').octet(1),
            Value::Number(number) => table.octet(b'l').longlong(*number),
            Value::Text(text) => {
                let mut table = table.octet(b'S').long(text.len() as u32);
                table.0.extend(text.as_bytes());
                table
            }
        };
    }
    Method(Vec::new()).long(table.0.len() as u32).0.into_iter().chain(table.0).collect()
}

/// What is published, beside its body.
pub(crate) struct Publish<'a> {
    pub(crate) exchange: &'a str,
    pub(crate) key: &'a str,
    pub(crate) priority: u8,
    pub(crate) headers: &'a [(&'a str, Value)],
    /// Its time to live.
    pub(crate) expires_in_ms: Option<u64>,
}

/// A connection with one channel.
pub(crate) struct Client {
    stream: Box<dyn Wire>,
    input: Vec<u8>,
    /// What waits for its header and body.
    content: Option<(Event, u64)>,
}

fn garbage(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Client {
    /// Logs in and opens channel 1.
    ///
    /// # Errors
    /// The connection ended, or the broker says something else.
    pub(crate) async fn open(mut stream: Box<dyn Wire>) -> io::Result<Self> {
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        let mut client = Self { stream, input: Vec::new(), content: None };
        client.wait_for(10, 10).await?;
        let response = b"\0guest\0guest";
        let mut start_ok = Method::new(10, 11).table().shortstr("PLAIN").long(response.len() as u32);
        start_ok.0.extend(response);
        client.send(0, start_ok.shortstr("en_US")).await?;
        client.wait_for(10, 30).await?;
        client.send(0, Method::new(10, 31).short(16).long(131_072).short(HEARTBEAT_S)).await?;
        client.send(0, Method::new(10, 40).shortstr("/").shortstr("").octet(0)).await?;
        client.wait_for(10, 41).await?;
        client.ask(Method::new(20, 10).shortstr(""), 20, 11).await?;
        Ok(client)
    }

    /// Sends a method on channel 1 and waits for its answer; everything else that comes meanwhile is an error.
    ///
    /// # Errors
    /// The connection or channel ended.
    pub(crate) async fn ask(&mut self, method: Method, class: u16, answer: u16) -> io::Result<Arguments> {
        self.send(1, method).await?;
        self.wait_for(class, answer).await
    }

    async fn wait_for(&mut self, class: u16, method: u16) -> io::Result<Arguments> {
        let waiting = async {
            loop {
                match self.next().await? {
                    Event::Method { class: c, method: m, arguments } if (c, m) == (class, method) => {
                        return Ok(arguments);
                    }
                    Event::Heartbeat => {}
                    Event::Method { class, method, mut arguments }
                        if matches!((class, method), (10, 50) | (20, 40)) =>
                    {
                        let (code, text) = (arguments.short(), arguments.shortstr());
                        return Err(io::Error::other(format!("closed: {code} {text}")));
                    }
                    other => return Err(garbage(&format!("{other:?} instead of {class}.{method}"))),
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends a method.
    ///
    /// # Errors
    /// The connection ended.
    pub(crate) async fn send(&mut self, channel: u16, method: Method) -> io::Result<()> {
        let mut out = Vec::new();
        frame(&mut out, 1, channel, &method.0);
        self.stream.write_all(&out).await
    }

    /// Publishes a persistent message, mandatory, on channel 1.
    ///
    /// # Errors
    /// The connection ended.
    pub(crate) async fn publish(&mut self, publish: Publish<'_>, body: &[u8]) -> io::Result<()> {
        let Publish { exchange, key, priority, headers, expires_in_ms } = publish;
        let mut out = Vec::new();
        frame(&mut out, 1, 1, &Method::new(60, 40).short(0).shortstr(exchange).shortstr(key).octet(1).0);
        // Headers, delivery mode 2, the priority, and the expiration.
        let flags = if expires_in_ms.is_some() { 0x3900 } else { 0x3800 };
        let properties = Method::new(60, 0).longlong(body.len() as u64).short(flags).arguments(headers);
        let mut properties = properties.octet(2).octet(priority);
        if let Some(ms) = expires_in_ms {
            properties = properties.shortstr(&ms.to_string());
        }
        frame(&mut out, 2, 1, &properties.0);
        for part in body.chunks(131_000) {
            frame(&mut out, 3, 1, part);
        }
        self.stream.write_all(&out).await
    }

    /// Tells the broker that this client lives.
    ///
    /// # Errors
    /// The connection ended.
    pub(crate) async fn beat(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        frame(&mut out, 8, 0, &[]);
        self.stream.write_all(&out).await
    }

    /// Closes in order.
    ///
    /// # Errors
    /// The connection ended before the answer.
    pub(crate) async fn close(mut self) -> io::Result<()> {
        self.send(0, Method::new(10, 50).short(200).shortstr("").short(0).short(0)).await?;
        let closing = async {
            loop {
                if let Event::Method { class: 10, method: 51, .. } = self.next().await? {
                    return Ok(());
                }
            }
        };
        tokio::time::timeout(PATIENCE, closing).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// What the broker says next. Cancel safe.
    ///
    /// # Errors
    /// The connection ended, or what comes makes no sense.
    pub(crate) async fn next(&mut self) -> io::Result<Event> {
        loop {
            while let Some((kind, payload)) = self.frame()? {
                if let Some(event) = self.take(kind, payload)? {
                    return Ok(event);
                }
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn frame(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let Some(&[kind, _, _, a, b, c, d]) = self.input.first_chunk::<7>() else { return Ok(None) };
        let size = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some(&end) = self.input.get(7 + size) else { return Ok(None) };
        if end != 0xce {
            return Err(garbage("a frame without its end"));
        }
        let payload = self.input.get(7..7 + size).unwrap_or_default().to_vec();
        self.input.drain(..8 + size);
        Ok(Some((kind, payload)))
    }

    fn take(&mut self, kind: u8, payload: Vec<u8>) -> io::Result<Option<Event>> {
        match kind {
            1 => {
                let mut arguments = Arguments { octets: payload, at: 0 };
                let (class, method) = (arguments.short(), arguments.short());
                match (class, method) {
                    (60, 60) => {
                        arguments.shortstr();
                        let (tag, redelivered) = (arguments.longlong(), arguments.octet() != 0);
                        let event = Event::Message { tag, redelivered, offset: None, body: Vec::new() };
                        self.content = Some((event, u64::MAX));
                    }
                    (60, 71) => {
                        let (tag, redelivered) = (arguments.longlong(), arguments.octet() != 0);
                        let event = Event::Message { tag, redelivered, offset: None, body: Vec::new() };
                        self.content = Some((event, u64::MAX));
                    }
                    (60, 50) => self.content = Some((Event::Returned { body: Vec::new() }, u64::MAX)),
                    (class, method) => return Ok(Some(Event::Method { class, method, arguments })),
                }
                Ok(None)
            }
            2 => {
                let mut header = Arguments { octets: payload, at: 4 };
                let size = header.longlong();
                let place = header.stream_offset();
                let (mut event, left) =
                    self.content.take().ok_or_else(|| garbage("a header without a method"))?;
                debug_assert_eq!(left, u64::MAX, "two headers");
                if let Event::Message { offset, .. } = &mut event {
                    *offset = place;
                }
                if size == 0 {
                    return Ok(Some(event));
                }
                self.content = Some((event, size));
                Ok(None)
            }
            3 => {
                let (mut event, left) =
                    self.content.take().ok_or_else(|| garbage("a body without a header"))?;
                let left =
                    left.checked_sub(payload.len() as u64).ok_or_else(|| garbage("a body too long"))?;
                match &mut event {
                    Event::Message { body, .. } | Event::Returned { body } => body.extend(payload),
                    Event::Method { .. } | Event::Heartbeat => {}
                }
                if left == 0 {
                    return Ok(Some(event));
                }
                self.content = Some((event, left));
                Ok(None)
            }
            8 => Ok(Some(Event::Heartbeat)),
            _ => Err(garbage("a frame of no known kind")),
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) {
    out.push(kind);
    out.extend(channel.to_be_bytes());
    out.extend((payload.len() as u32).to_be_bytes());
    out.extend(payload);
    out.push(0xce);
}
