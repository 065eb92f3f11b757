//! Certificates and secrets. Who may talk to the cluster port: what nodes prove themselves with, and where the port is open when they prove
//! nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use warren_broker::security::{Credentials, Encryption, Secrets};
use warren_broker::tls::{ClientCertificates, ServerTls, TlsFiles};

use super::reader::{HostPort, Reader};

/// What it means to do without.
const INSECURE: &str = "whoever reaches the cluster port can read and change everything";

const HOW: &str = "give all nodes the same secret in cluster_secret_file (`openssl rand -base64 32` makes one), or \
                   certificates in cluster_tls_cert, cluster_tls_key and cluster_tls_ca; cluster_insecure = true does without and without this advice";

/// The cluster port as it will be opened.
pub(super) struct ClusterPort {
    pub(super) listen: SocketAddr,
    pub(super) advertise: String,
    pub(super) credentials: Credentials,
    pub(super) encryption: Encryption,
    /// What the operator should know at start.
    pub(super) warning: Option<String>,
}

/// Reads everything about the cluster port. Without a proof it is open on loopback only, unless an address or nodes on
/// other machines were asked for: then it is open to them, and the operator is told what that means.
pub(super) fn cluster_port(reader: &mut Reader<'_>, seeds: &[HostPort], host_name: &str) -> ClusterPort {
    let credentials = credentials(reader);
    let insecure = reader.truth("cluster_insecure", false);
    let encryption = match reader.truth("cluster_encrypt", true) {
        true => Encryption::Always,
        false => Encryption::ProofOnly,
    };
    let asked = reader.address("cluster_listen");
    let given = reader
        .is_given("cluster_advertise")
        .then(|| reader.advertised("cluster_advertise", asked, host_name));
    let unproved = credentials == Credentials::None;
    let mut listen = asked;
    let mut warning = None;
    if unproved && !asked.ip().is_loopback() {
        let local = seeds.iter().chain(&given).all(HostPort::is_loopback);
        if asked.ip().is_unspecified() && local && !insecure && !reader.is_given("cluster_listen") {
            // Nobody asked for more, and nobody from elsewhere is expected.
            let v4 = asked.is_ipv4() || seeds.iter().any(|seed| !seed.is_v6());
            let ip = if v4 { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
            listen = SocketAddr::new(ip, asked.port());
            reader.reshow("cluster_listen", listen.to_string());
        } else if insecure {
            warning = Some(INSECURE.to_owned());
        } else {
            warning = Some(format!("{INSECURE}: {HOW}"));
        }
    }
    // A node alone keeps the name under which others will know it when it is given a secret and company.
    let known_as = if seeds.is_empty() { asked } else { listen };
    let advertise =
        given.unwrap_or_else(|| reader.advertised("cluster_advertise", known_as, host_name)).to_string();
    ClusterPort { listen, advertise, credentials, encryption, warning }
}

fn credentials(reader: &mut Reader<'_>) -> Credentials {
    let secret = reader.optional_text("cluster_secret");
    let file = reader.optional_path("cluster_secret_file");
    let [certificate, key, authority] =
        ["cluster_tls_cert", "cluster_tls_key", "cluster_tls_ca"].map(|name| reader.optional_path(name));
    let certificates = match (certificate, key, authority) {
        (Some(certificate), Some(key), Some(authority)) => {
            Some(Credentials::Certificate { certificate, key, authority })
        }
        (None, None, None) => None,
        (_, _, _) => {
            reader.refuse("cluster_tls_cert", "goes together with cluster_tls_key and cluster_tls_ca");
            None
        }
    };
    if [secret.is_some(), file.is_some(), certificates.is_some()].iter().filter(|given| **given).count() > 1 {
        reader.refuse_all(
            "only one of cluster_secret, cluster_secret_file and cluster_tls_cert can prove a node",
        );
    }
    if let Some(certificates) = certificates {
        return checked(reader, "cluster_tls_cert", certificates);
    }
    if let Some(file) = file {
        return checked(reader, "cluster_secret_file", Credentials::SecretFile(file));
    }
    match secret.map(|secret| Secrets::parse(secret.as_bytes())) {
        Some(Ok(secrets)) => Credentials::Secret(secrets),
        Some(Err(error)) => {
            reader.refuse("cluster_secret", &error.to_string());
            Credentials::None
        }
        None => Credentials::None,
    }
}

fn checked(reader: &mut Reader<'_>, key: &str, credentials: Credentials) -> Credentials {
    if let Err(error) = credentials.check() {
        reader.refuse(key, &error.to_string());
    }
    credentials
}

/// The certificates of the listeners for clients that there are.
pub(super) struct Listeners {
    pub(super) amqps: Option<TlsFiles>,
    pub(super) https: Option<TlsFiles>,
}

/// Reads the settings of AMQPS and HTTPS; the files must be there and right when one of the two is wanted.
pub(super) fn listeners(reader: &mut Reader<'_>, amqps: bool, https: bool) -> Listeners {
    let [certificate, key, authority] =
        ["tls_cert", "tls_key", "tls_ca"].map(|name| reader.optional_path(name));
    let verify = reader.truth("tls_verify_peer", false);
    let required = reader.truth("tls_fail_if_no_peer_cert", false);
    let clients = match (verify, required) {
        (true, true) => ClientCertificates::Required,
        (true, false) => ClientCertificates::Optional,
        (false, false) => ClientCertificates::NotAsked,
        (false, true) => {
            reader.refuse("tls_fail_if_no_peer_cert", "works only with tls_verify_peer = true");
            ClientCertificates::NotAsked
        }
    };
    if verify && authority.is_none() {
        reader.refuse("tls_verify_peer", "needs tls_ca, the authority of the clients' certificates");
    }
    let wanted = match (amqps, https) {
        (true, _) => "amqps_listen",
        (false, true) => "https_listen",
        (false, false) => return Listeners { amqps: None, https: None },
    };
    let (Some(certificate), Some(key)) = (certificate, key) else {
        reader.refuse(wanted, "needs tls_cert and tls_key");
        return Listeners { amqps: None, https: None };
    };
    let plain = TlsFiles {
        certificate: certificate.clone(),
        key: key.clone(),
        authority: None,
        clients: ClientCertificates::NotAsked,
    };
    let files = TlsFiles { certificate, key, authority, clients };
    let right = verify && files.authority.is_none() || {
        let loaded = ServerTls::load(files.clone());
        loaded.map_err(|error| reader.refuse("tls_cert", &error.to_string())).is_ok()
    };
    if !right {
        return Listeners { amqps: None, https: None };
    }
    Listeners { amqps: amqps.then_some(files), https: https.then_some(plain) }
}
