//! The PROXY protocol, versions 1 and 2: a load balancer in front says in the first octets who its client is. Where it is
//! configured it is mandatory; it is believed, so only the balancer may reach such a port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How long the header may take; a balancer sends it first of all.
const PATIENCE: Duration = Duration::from_secs(5);
/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of version 1, with its end.
const LINE_MAX: usize = 107;
/// The longest of version 2 after its first 16 octets: addresses and what balancers add.
const BLOCK_MAX: usize = 2048;

/// Why there is no usable header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("no PROXY header within {} s", PATIENCE.as_secs())]
    TooSlow,
    #[error("closed before a PROXY header")]
    Closed,
    #[error("no PROXY header, which this port expects")]
    Missing,
    #[error("a malformed PROXY header: {0}")]
    Malformed(&'static str),
}

/// Who talks to whom, as the balancer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
}

/// Reads the header and not an octet more. `None`: the balancer talks for itself, or does not know.
///
/// # Errors
/// [`ProxyError`]; nothing that follows can be understood.
pub(crate) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<Told>, ProxyError> {
    tokio::time::timeout(PATIENCE, header(stream)).await.unwrap_or(Err(ProxyError::TooSlow))
}

async fn header<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<Told>, ProxyError> {
    let mut start = [0; 12];
    fill(stream, &mut start).await?;
    if &start == SIGNATURE {
        let mut rest = [0; 4];
        fill(stream, &mut rest).await?;
        let [version_and_command, family, high, low] = rest;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > BLOCK_MAX {
            return Err(ProxyError::Malformed("too long"));
        }
        let mut block = vec![0; length];
        fill(stream, &mut block).await?;
        return binary(version_and_command, family, &block);
    }
    if !start.starts_with(b"PROXY ") {
        return Err(ProxyError::Missing);
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= LINE_MAX {
            return Err(ProxyError::Malformed("a line without an end"));
        }
        let mut octet = [0];
        fill(stream, &mut octet).await?;
        line.extend_from_slice(&octet);
    }
    text(&line)
}

async fn fill<S: AsyncRead + Unpin>(stream: &mut S, octets: &mut [u8]) -> Result<(), ProxyError> {
    stream.read_exact(octets).await.map(drop).map_err(|_| ProxyError::Closed)
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 40000 5672\r\n`
fn text(line: &[u8]) -> Result<Option<Told>, ProxyError> {
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Malformed("not ASCII"))?;
    let words: Vec<&str> = line.trim_end_matches("\r\n").split(' ').collect();
    let address = |ip: &str, port: &str| -> Result<SocketAddr, ProxyError> {
        let ip: IpAddr = ip.parse().map_err(|_| ProxyError::Malformed("no address"))?;
        let port = port.parse().map_err(|_| ProxyError::Malformed("no port"))?;
        Ok(SocketAddr::new(ip, port))
    };
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", family @ ("TCP4" | "TCP6"), from, to, from_port, to_port] => {
            let told = Told { client: address(from, from_port)?, server: address(to, to_port)? };
            if told.client.is_ipv4() != (*family == "TCP4") || told.client.is_ipv4() != told.server.is_ipv4()
            {
                return Err(ProxyError::Malformed("addresses of another family"));
            }
            Ok(Some(told))
        }
        _ => Err(ProxyError::Malformed("not six words")),
    }
}

fn binary(version_and_command: u8, family: u8, block: &[u8]) -> Result<Option<Told>, ProxyError> {
    match version_and_command {
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(ProxyError::Malformed("unknown version or command")),
    }
    let port = |at: usize| {
        block.get(at..at + 2).and_then(|octets| Some(u16::from_be_bytes(octets.try_into().ok()?)))
    };
    let v4 = |at: usize| {
        block.get(at..at + 4).and_then(|octets| Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)))
    };
    let v6 = |at: usize| {
        block.get(at..at + 16).and_then(|octets| Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)))
    };
    let told = match family {
        0x11 => v4(0).zip(v4(4)).zip(port(8).zip(port(10))).map(|((from, to), (from_port, to_port))| Told {
            client: SocketAddr::from((from, from_port)),
            server: SocketAddr::from((to, to_port)),
        }),
        0x21 => v6(0).zip(v6(16)).zip(port(32).zip(port(34))).map(|((from, to), (from_port, to_port))| {
            Told { client: SocketAddr::from((from, from_port)), server: SocketAddr::from((to, to_port)) }
        }),
        // Sockets of other kinds have no addresses for us.
        _ => return Ok(None),
    };
    told.map(Some).ok_or(ProxyError::Malformed("addresses cut short"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(octets: &[u8]) -> Result<Option<Told>, String> {
        let mut stream = octets;
        let told = read(&mut stream).await.map_err(|error| error.to_string())?;
        assert_eq!(stream, b"AMQP", "what follows is left");
        Ok(told)
    }

    fn v2(version_and_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[version_and_command, family][..], &length, block, b"AMQP"].concat()
    }

    #[tokio::test]
    async fn both_versions_tell_who_the_client_is() {
        let four =
            Told { client: "192.0.2.1:40000".parse().unwrap(), server: "192.0.2.2:5672".parse().unwrap() };
        let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 5672\r\nAMQP";
        assert_eq!(told(line).await, Ok(Some(four)));
        let block = [192, 0, 2, 1, 192, 0, 2, 2, 0x9c, 0x40, 0x16, 0x28, 3, 0, 1, 0];
        assert_eq!(told(&v2(0x21, 0x11, &block)).await, Ok(Some(four)));
        let six =
            Told { client: "[2001:db8::1]:1".parse().unwrap(), server: "[2001:db8::2]:2".parse().unwrap() };
        assert_eq!(told(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\nAMQP").await, Ok(Some(six)));
        let mut block = [0; 36];
        (block[0], block[1], block[2], block[3], block[15]) = (0x20, 1, 0x0d, 0xb8, 1);
        (block[16], block[17], block[18], block[19], block[31]) = (0x20, 1, 0x0d, 0xb8, 2);
        (block[33], block[35]) = (1, 2);
        assert_eq!(told(&v2(0x21, 0x21, &block)).await, Ok(Some(six)));
    }

    #[tokio::test]
    async fn a_balancers_own_connection_and_unknown_clients_tell_nothing() {
        assert_eq!(told(b"PROXY UNKNOWN\r\nAMQP").await, Ok(None));
        assert_eq!(told(&v2(0x20, 0, &[])).await, Ok(None));
        assert_eq!(told(&v2(0x21, 0x31, &[0; 216])).await, Ok(None));
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        for octets in [
            b"AMQP\0\0\x09\x01 and so on".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 40000\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 70000 1\r\n".to_vec(),
            [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat(),
            v2(0x31, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x11, &[0; 4000]),
            b"PROXY".to_vec(),
        ] {
            let mut stream = octets.as_slice();
            assert!(read(&mut stream).await.is_err(), "{octets:?}");
        }
    }
}
