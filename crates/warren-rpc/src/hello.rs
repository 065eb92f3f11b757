//! Who a node is, as it tells every other on connecting.

use std::fmt;

use tonic::Status;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use warren_types::NodeId;

use crate::generated::Greeting;

/// The version of this protocol. Nodes of different versions refuse each other.
pub const PROTOCOL: u32 = 1;

/// The header that says who calls.
const PEER_HEADER: &str = "warren-peer";

/// A cluster's random number, drawn when it is formed; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The node.
    pub node: NodeId,
    /// Which start of the node this is (milliseconds since 1970 at its start).
    pub incarnation: u64,
    /// The cluster that it belongs to; `None` before it has joined or formed one.
    pub cluster: Option<ClusterId>,
    /// Where other nodes reach its cluster port, `HOST:PORT`.
    pub address: String,
    /// Its name, for people.
    pub name: String,
    /// It holds no data of a cluster: it may form or join one.
    pub fresh: bool,
    /// When fresh: the fresh nodes that it sees, itself included, ascending.
    pub sees: Vec<NodeId>,
    /// The zone that it stands in.
    pub zone: Option<String>,
}

impl Hello {
    pub(crate) fn to_wire(&self) -> Greeting {
        Greeting {
            protocol: PROTOCOL,
            node: self.node.0,
            incarnation: self.incarnation,
            cluster: self.cluster.map_or(0, |cluster| cluster.0),
            address: self.address.clone(),
            name: self.name.clone(),
            fresh: self.fresh,
            sees: self.sees.iter().map(|node| node.0).collect(),
            zone: self.zone.clone().unwrap_or_default(),
        }
    }

    pub(crate) fn from_wire(greeting: Greeting) -> Self {
        Self {
            node: NodeId(greeting.node),
            incarnation: greeting.incarnation,
            cluster: (greeting.cluster != 0).then_some(ClusterId(greeting.cluster)),
            address: greeting.address,
            name: greeting.name,
            fresh: greeting.fresh,
            sees: greeting.sees.into_iter().map(NodeId).collect(),
            zone: Some(greeting.zone).filter(|zone| !zone.is_empty()),
        }
    }

    /// The header for a request.
    pub(crate) fn caller(&self) -> Caller {
        Caller { node: self.node, incarnation: self.incarnation, cluster: self.cluster, protocol: PROTOCOL }
    }
}

/// Who makes a request, as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) node: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) protocol: u32,
}

impl Caller {
    /// Writes the header. A value of hexadecimal digits and dashes is always a valid one.
    pub(crate) fn write(self, metadata: &mut MetadataMap) {
        let cluster = self.cluster.map_or(0, |cluster| cluster.0);
        let text = format!("{:x}-{:x}-{:x}-{:x}", self.protocol, self.node.0, self.incarnation, cluster);
        if let Ok(value) = MetadataValue::<Ascii>::try_from(text) {
            metadata.insert(PEER_HEADER, value);
        }
    }

    /// Reads the header.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when it is missing or malformed.
    pub(crate) fn read(metadata: &MetadataMap) -> Result<Self, Status> {
        let refused = || Status::unauthenticated("a request without a valid warren-peer header");
        let text = metadata.get(PEER_HEADER).and_then(|value| value.to_str().ok()).ok_or_else(refused)?;
        let mut numbers = text.splitn(4, '-').map(|part| u64::from_str_radix(part, 16));
        let mut next = || numbers.next().and_then(Result::ok).ok_or_else(refused);
        let protocol = u32::try_from(next()?).map_err(|_| refused())?;
        let (node, incarnation, cluster) = (NodeId(next()?), next()?, next()?);
        Ok(Self { node, incarnation, cluster: (cluster != 0).then_some(ClusterId(cluster)), protocol })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_survives_its_header() {
        let caller = Caller {
            node: NodeId(u64::MAX),
            incarnation: 7,
            cluster: Some(ClusterId(9)),
            protocol: PROTOCOL,
        };
        let mut metadata = MetadataMap::new();
        caller.write(&mut metadata);
        assert_eq!(Caller::read(&metadata).unwrap(), caller);
    }

    #[test]
    fn malformed_headers_are_refused() {
        for text in ["", "1-2-3", "1-2-3-x", "zz", "1-2-3-4-5", "-1-2-3"] {
            let mut metadata = MetadataMap::new();
            metadata.insert(PEER_HEADER, text.parse().unwrap());
            assert!(Caller::read(&metadata).is_err(), "{text:?}");
        }
        assert!(Caller::read(&MetadataMap::new()).is_err());
    }
}
