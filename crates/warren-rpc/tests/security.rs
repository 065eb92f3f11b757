//! Who may connect to the cluster port, and that nobody else harms it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use warren_rpc::tls::{Credentials, Encryption, Secrets, Security};
use warren_rpc::{CallError, ClusterId, Hello, HelloError, MemberService, PeerState, Peers, Services, serve};
use warren_types::{GroupId, NodeId};

const PATIENCE: Duration = Duration::from_secs(20);
const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const ONE: &str = "the first secret of this cluster";
const TWO: &str = "the second secret of this cluster";

struct Echo;

#[async_trait]
impl MemberService for Echo {
    async fn call(&self, _: NodeId, _: GroupId, _: u32, payload: Bytes) -> Result<Bytes, CallError> {
        Ok(payload)
    }

    async fn append_stream(
        &self,
        _: NodeId,
        _: GroupId,
        mut inbound: mpsc::Receiver<Bytes>,
        outbound: mpsc::Sender<Bytes>,
    ) {
        while let Some(frame) = inbound.recv().await {
            if outbound.send(frame).await.is_err() {
                return;
            }
        }
    }
}

fn secret(secret: &str) -> Security {
    with_secret(secret, Encryption::Always)
}

fn with_secret(secret: &str, encryption: Encryption) -> Security {
    let secrets = Secrets::parse(secret.as_bytes()).unwrap();
    Security::load(Credentials::Secret(secrets), encryption).unwrap()
}

async fn node_in(node: NodeId, security: Security, cluster: Option<u64>) -> (Peers, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hello = Hello {
        node,
        incarnation: 7,
        cluster: cluster.map(ClusterId),
        address: address.to_string(),
        name: format!("n{node}"),
        fresh: false,
        sees: Vec::new(),
        zone: None,
    };
    let peers = Peers::secured(hello, security);
    let services = Services { member: Arc::new(Echo), session: None };
    let serving = peers.clone();
    tokio::spawn(async move {
        serve(listener, serving, services, warren_rpc::CONNECTIONS_MAX, std::future::pending()).await.unwrap()
    });
    (peers, address)
}

async fn node(node: NodeId, security: Security) -> (Peers, SocketAddr) {
    node_in(node, security, Some(5)).await
}

async fn connect(peers: &Peers, node: NodeId, address: SocketAddr) {
    peers.set(node, &address.to_string());
    let mut liveness = peers.liveness();
    let reached = liveness.wait_for(|table| table[&node].state == PeerState::Connected);
    drop(tokio::time::timeout(PATIENCE, reached).await.expect("connected in time").unwrap());
}

/// A call and a stream with much in it come through.
async fn talk(peers: &Peers, node: NodeId) {
    let answer = peers.call(node, GroupId(3), 7, Bytes::from_static(b"x"), PATIENCE).await;
    assert_eq!(answer.unwrap(), "x");
    let (outbound, mut inbound) = peers.append_stream(node, GroupId(1)).await.unwrap();
    let sending = tokio::spawn(async move {
        for number in 0..200_u32 {
            outbound.send(Bytes::from(number.to_le_bytes().repeat(20_000)).into()).await.unwrap();
        }
    });
    for number in 0..200_u32 {
        let frame = tokio::time::timeout(PATIENCE, inbound.recv()).await.unwrap().unwrap();
        assert_eq!(frame, number.to_le_bytes().repeat(20_000));
    }
    sending.await.unwrap();
}

fn text(result: Result<Hello, HelloError>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_one_secret_talk_however_they_encrypt() {
    for (theirs, ours) in [
        (Encryption::Always, Encryption::Always),
        (Encryption::ProofOnly, Encryption::ProofOnly),
        (Encryption::Always, Encryption::ProofOnly),
        (Encryption::ProofOnly, Encryption::Always),
    ] {
        let (a, _) = node(A, with_secret(ONE, ours)).await;
        let (_b, b_address) = node(B, with_secret(ONE, theirs)).await;
        connect(&a, B, b_address).await;
        talk(&a, B).await;
    }
}

/// Passes everything on between a client and `to`, and remembers it.
async fn wiretap(to: SocketAddr) -> (SocketAddr, Arc<parking_lot::Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let ears = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let ears = Arc::clone(&ears);
            tokio::spawn(async move {
                let (mut from, mut back) = client.into_split();
                let (mut answers, mut on) = TcpStream::connect(to).await.unwrap().into_split();
                tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
                let mut buffer = vec![0; 65536];
                while let Ok(count @ 1..) = from.read(&mut buffer).await {
                    ears.lock().extend_from_slice(&buffer[..count]);
                    on.write_all(&buffer[..count]).await.unwrap();
                }
            });
        }
    });
    (address, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_cannot_be_read_on_the_way_unless_both_sides_want_it_so() {
    for (encryption, readable) in [(Encryption::Always, false), (Encryption::ProofOnly, true)] {
        let (a, _) = node(A, with_secret(ONE, encryption)).await;
        let (_b, b_address) = node(B, with_secret(ONE, encryption)).await;
        let (tap, heard) = wiretap(b_address).await;
        connect(&a, B, tap).await;
        let said = b"a needle in the hay";
        a.call(B, GroupId(3), 7, Bytes::from_static(said), PATIENCE).await.unwrap();
        let found = heard.lock().windows(said.len()).any(|window| window == said);
        assert_eq!(found, readable);
        assert!(!heard.lock().windows(ONE.len()).any(|window| window == ONE.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_secret_or_none_is_refused_in_both_directions_and_said_why() {
    let (a, a_address) = node(A, secret(ONE)).await;
    let (other, other_address) = node(B, secret(TWO)).await;
    let (plain, plain_address) = node(NodeId(3), Security::plain()).await;
    let greeted = text(a.hello(&other_address.to_string()).await);
    assert!(greeted.contains("another secret"), "{greeted}");
    let greeted = text(other.hello(&a_address.to_string()).await);
    assert!(greeted.contains("another secret"), "{greeted}");
    let greeted = text(a.hello(&plain_address.to_string()).await);
    assert!(greeted.contains("no cluster secret"), "{greeted}");
    let greeted = text(plain.hello(&a_address.to_string()).await);
    assert!(greeted.contains("cluster secret"), "{greeted}");
    // Whoever came is as it was.
    let (c, _) = node(NodeId(4), secret(ONE)).await;
    connect(&c, A, a_address).await;
    talk(&c, A).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_secret_does_not_make_one_cluster_of_two() {
    let (a, _) = node_in(A, secret(ONE), Some(5)).await;
    let (_b, b_address) = node_in(B, secret(ONE), Some(6)).await;
    let error = a.hello(&b_address.to_string()).await.unwrap_err();
    // The other side refuses first.
    assert!(error.to_string().contains("belongs to cluster"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_no_cluster_may_ask_but_opens_no_stream() {
    let (stranger, _) = node_in(A, secret(ONE), None).await;
    let (_b, b_address) = node_in(B, secret(ONE), Some(5)).await;
    connect(&stranger, B, b_address).await;
    let asked = stranger.call(B, GroupId(0), 9, Bytes::from_static(b"join"), PATIENCE).await;
    assert_eq!(asked.unwrap(), "join");
    let refused = stranger.append_stream(B, GroupId(1)).await.unwrap_err();
    assert!(refused.to_string().contains("belongs to no cluster"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_exchanged_one_node_after_the_other_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (a_file, b_file) = (folder.path().join("a"), folder.path().join("b"));
    let write = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
    let load =
        |path: &Path| Security::load(Credentials::SecretFile(path.to_owned()), Encryption::Always).unwrap();
    write(&a_file, ONE);
    write(&b_file, ONE);
    let (a_security, b_security) = (load(&a_file), load(&b_file));
    let (a, a_address) = node(A, a_security.clone()).await;
    let (b, b_address) = node(B, b_security.clone()).await;
    let both_ways = async || {
        (a.hello(&b_address.to_string()).await.is_ok(), b.hello(&a_address.to_string()).await.is_ok())
    };
    assert_eq!(both_ways().await, (true, true));
    assert!(!a_security.reload().unwrap(), "nothing has changed");
    let (new_and_old, new) = (format!("{TWO}\n{ONE}\n"), format!("{TWO}\n"));
    for (path, security, text) in [
        (&a_file, &a_security, &new_and_old),
        (&b_file, &b_security, &new_and_old),
        (&a_file, &a_security, &new),
        (&b_file, &b_security, &new),
    ] {
        write(path, text);
        assert!(security.reload().unwrap());
        assert_eq!(both_ways().await, (true, true), "after {text:?} in {path:?}");
    }
    // A file that makes no sense changes nothing.
    write(&a_file, "short");
    assert!(a_security.reload().is_err());
    assert_eq!(both_ways().await, (true, true));
    // And one with the old secret alone is out.
    write(&a_file, ONE);
    assert!(a_security.reload().unwrap());
    assert_eq!(both_ways().await, (false, false));
}

/// An authority's and a node's PEM files in a folder.
fn certified(folder: &Path, authority: &str) -> (Credentials, std::path::PathBuf) {
    use base64::Engine as _;
    let pem = |kind: &str, der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, authority);
    let root = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["node.example".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.join(format!("{authority}-{name}.pem"));
        std::fs::write(&path, text).unwrap();
        path
    };
    let authority = file("authority", pem("CERTIFICATE", root.der()));
    let credentials = Credentials::Certificate {
        certificate: file("certificate", pem("CERTIFICATE", leaf.der())),
        key: file("key", pem("PRIVATE KEY", &leaf_key.serialize_der())),
        authority: authority.clone(),
    };
    (credentials, authority)
}

#[tokio::test(flavor = "multi_thread")]
async fn given_certificates_prove_a_node_to_those_with_the_same_authority() {
    let folder = tempfile::tempdir().unwrap();
    let load = |credentials: &Credentials| Security::load(credentials.clone(), Encryption::Always).unwrap();
    let (ours, _) = certified(folder.path(), "ours");
    let (theirs, their_authority) = certified(folder.path(), "theirs");
    let (a, _) = node(A, load(&ours)).await;
    let (_b, b_address) = node(B, load(&ours)).await;
    connect(&a, B, b_address).await;
    talk(&a, B).await;
    let (_c, c_address) = node(NodeId(3), load(&theirs)).await;
    let greeted = text(a.hello(&c_address.to_string()).await);
    assert!(greeted.contains("another secret or authority"), "{greeted}");
    let missing = Credentials::Certificate {
        certificate: folder.path().join("nothing.pem"),
        key: folder.path().join("nothing.pem"),
        authority: their_authority,
    };
    let error = Security::load(missing, Encryption::Always).unwrap_err().to_string();
    assert!(error.contains("nothing.pem"), "{error}");
}

/// What a stranger may send, on a port of either kind.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_closed_and_harm_nobody() {
    for security in [Security::plain(), secret(ONE)] {
        let (_a, address) = node(A, security.clone()).await;
        let (b, _) = node(B, security).await;
        connect(&b, A, address).await;
        let garbage: Vec<u8> = (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let tls_garbage = [b"\x16\x03\x01\x02\x00".as_slice(), &garbage].concat();
        let http = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec();
        let http2_garbage = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &garbage].concat();
        for bytes in [garbage, tls_garbage, http, http2_garbage, b"AMQP\0\0\x09\x01".to_vec()] {
            let mut stranger = TcpStream::connect(address).await.unwrap();
            let _closed = stranger.write_all(&bytes).await;
            let mut answer = Vec::new();
            let _reset = tokio::time::timeout(PATIENCE, stranger.read_to_end(&mut answer))
                .await
                .expect("closed in time");
        }
        // More silent ones than may be there: the first are closed before their time, and a node comes through.
        let mut silent = Vec::new();
        for _ in 0..400 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        talk(&b, A).await;
        b.hello(&address.to_string()).await.unwrap();
        let mut octet = [0];
        let ended = tokio::time::timeout(PATIENCE, silent[399].read(&mut octet)).await;
        assert!(matches!(ended.expect("silence is not waited for"), Ok(0) | Err(_)));
        talk(&b, A).await;
    }
}
