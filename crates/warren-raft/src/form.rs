//! How a cluster begins, and how a fresh node joins one.
//!
//! A fresh node greets all seeds. When exactly as many fresh nodes as expected see each other, and all say that they see
//! the same, the one with the lowest number asks all for a promise: to belong to the cluster with this random number,
//! these members and no other. A promise is on disk before it is given, and a node that has given one is not fresh any
//! more: whatever happens, a node ends up in one cluster. With the promises of all (or, when one stays away, of a
//! majority) the asker initialises the metadata group. A node with data never forms, and a node that belongs to no
//! cluster takes no part in Raft: one that has lost its log must not vote.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use warren_proto::catalogue::{Command, Duty, Form, NodeRecord, UserRecord};
use warren_rpc::{CallError, ClusterId, Hello, HelloError};
use warren_store::{Store, StoreError};
use warren_types::{GroupId, NodeId, UnixMillis};

use crate::blocking;
use crate::group::Group;
use crate::member::kind;
use crate::node::Shared;
use crate::read;
use crate::types::Member;
use crate::wire::{self, Malformed, Reader};

/// The blob that holds the promise.
const BLOB: &str = "promise";
const VERSION: u8 = 1;
/// How often a fresh node greets the seeds.
const GREET: Duration = Duration::from_millis(200);
/// How long one question to a peer may take.
const ASK: Duration = Duration::from_secs(2);
/// How long a member that stays away is waited for.
const ABSENT: Duration = Duration::from_secs(10);
/// How long an asker without a majority holds on to its plan.
const ABANDON: Duration = Duration::from_secs(30);
/// How often a node that waits says so.
const REMIND: Duration = Duration::from_secs(15);

/// To belong to one cluster and no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Promise {
    pub(crate) cluster: ClusterId,
    /// Who asked for it; only this node initialises the cluster.
    pub(crate) asker: NodeId,
    /// The first members; empty for a node that joined later.
    pub(crate) members: Vec<NodeRecord>,
}

impl Promise {
    fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.cluster.0.to_le_bytes());
        out.extend_from_slice(&self.asker.0.to_le_bytes());
        out.extend_from_slice(&u32::try_from(self.members.len()).unwrap_or(u32::MAX).to_le_bytes());
        for member in &self.members {
            put_record(member, &mut out);
        }
        out.into()
    }

    fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "promise");
        if reader.u8()? != VERSION {
            return Err(Malformed("version of a promise"));
        }
        let (cluster, asker) = (ClusterId(reader.u64()?), NodeId(reader.u64()?));
        let mut members = Vec::new();
        for _ in 0..reader.u32()? {
            members.push(record(&mut reader)?);
        }
        reader.end()?;
        Ok(Self { cluster, asker, members })
    }

    pub(crate) fn has(&self, node: NodeId) -> bool {
        self.members.iter().any(|member| member.id == node)
    }
}

fn put_record(record: &NodeRecord, out: &mut Vec<u8>) {
    out.extend_from_slice(&record.id.0.to_le_bytes());
    wire::put_bytes(record.name.as_bytes(), out);
    wire::put_bytes(record.address.as_bytes(), out);
    wire::put_bytes(record.zone.as_deref().unwrap_or_default().as_bytes(), out);
}

fn record(reader: &mut Reader) -> Result<NodeRecord, Malformed> {
    let (id, name, address, zone) = (NodeId(reader.u64()?), reader.text()?, reader.text()?, reader.text()?);
    Ok(NodeRecord { id, name, address, zone: (!zone.is_empty()).then_some(zone) })
}

/// The promise that this node has given. Blocks.
pub(crate) fn load(store: &Store) -> Result<Option<Promise>, StoreError> {
    let Some(bytes) = store.get_blob(BLOB)?.filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
    let damaged = |_| StoreError::DamagedState { group: GroupId::METADATA, what: "the promise" };
    Promise::decode(bytes).map(Some).map_err(damaged)
}

async fn save(shared: &Shared, promise: Option<&Promise>) -> Result<(), StoreError> {
    let bytes = promise.map(Promise::encode).unwrap_or_default();
    let store = shared.store.clone();
    let saved = blocking(move || store.put_blob(BLOB, &bytes)).await;
    saved.unwrap_or(Err(StoreError::ShutDown))
}

/// Lets the others know what this node is.
pub(crate) fn introduce(shared: &Shared, promise: Option<&Promise>, fresh: bool) {
    let formed = shared.catalogue.read().cluster().map(|cluster| ClusterId(cluster.id));
    let cluster = formed.or(promise.map(|promise| promise.cluster));
    shared.belongs.store(cluster.is_some(), Ordering::Release);
    shared.peers.update_hello(|hello| {
        hello.cluster = cluster;
        hello.fresh = fresh;
        hello.sees = if fresh { vec![shared.options.node] } else { Vec::new() };
    });
    for member in promise.iter().flat_map(|promise| &promise.members) {
        shared.peers.set(member.id, &member.address);
    }
}

pub(crate) fn own_record(shared: &Shared) -> NodeRecord {
    let options = &shared.options;
    NodeRecord {
        id: options.node,
        name: options.name.clone(),
        address: options.advertise.clone(),
        zone: options.zone.clone(),
    }
}

fn random() -> Result<u64, getrandom::Error> {
    let mut drawn = [0; 8];
    getrandom::fill(&mut drawn)?;
    Ok(u64::from_le_bytes(drawn).max(1))
}

/// Forms or joins a cluster; ends when the metadata group has members.
pub(crate) async fn run(shared: Arc<Shared>, metadata: Arc<Group>) {
    let mut asking: Option<Instant> = None;
    let mut reminded = Instant::now();
    while !metadata.is_initialized().await {
        let promise = shared.promise.lock().await.clone();
        let step = match promise {
            Some(promise) if promise.asker == shared.options.node && !promise.members.is_empty() => {
                let since = *asking.get_or_insert_with(Instant::now);
                ask_all(&shared, &metadata, &promise, since).await
            }
            Some(_) => Ok(()),
            None => {
                asking = None;
                look_around(&shared).await
            }
        };
        if let Err(error) = step {
            shared.fail(&format!("cannot form a cluster: {error}"));
            return;
        }
        if reminded.elapsed() >= REMIND {
            reminded = Instant::now();
            let sees = shared.peers.own_hello().sees.len();
            tracing::info!(
                fresh_nodes = sees,
                expected = shared.options.expect,
                "waiting for the other nodes of the cluster"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(GREET) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

/// Greets the seeds: forms, joins, or only looks.
async fn look_around(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let me = shared.options.node;
    let mut hellos: BTreeMap<NodeId, Hello> = BTreeMap::new();
    let mut strangers = Vec::new();
    let greetings = shared.options.seeds.iter().map(|seed| shared.peers.hello(seed));
    for greeting in futures_util::future::join_all(greetings).await {
        match greeting {
            Ok(hello) => {
                hellos.insert(hello.node, hello);
            }
            Err(HelloError::ConnectionRefused { .. } | HelloError::Unreachable { .. }) => {}
            Err(
                error @ (HelloError::Protocol { .. }
                | HelloError::Unproven { .. }
                | HelloError::OtherCluster { .. }
                | HelloError::Refused { .. }
                | HelloError::OtherNode { .. }),
            ) => strangers.push(error.to_string()),
        }
    }
    let text = strangers.join("; ");
    if !text.is_empty() {
        let mut said = shared.refusal.lock();
        if *said != text {
            tracing::warn!("a seed is no peer: {text}");
            *said = text;
        }
    }
    hellos.remove(&me);
    let alone = shared.options.expect <= 1 && hellos.is_empty() && only_self(shared);
    if let Some(member) = hellos.values().find(|hello| hello.cluster.is_some() && !hello.fresh) {
        return join(shared, member).await;
    }
    let fresh: Vec<&Hello> = hellos.values().filter(|hello| hello.fresh).collect();
    let mut sees: Vec<NodeId> = fresh.iter().map(|hello| hello.node).chain([me]).collect();
    sees.sort_unstable();
    let agreed = fresh.iter().all(|hello| hello.sees == sees);
    let complete = sees.len() == shared.options.expect.max(1) && (alone || shared.options.expect > 1);
    if sees.len() > shared.options.expect.max(1) {
        tracing::warn!(
            found = sees.len(),
            expected = shared.options.expect,
            "more fresh nodes than expected"
        );
    }
    shared.peers.update_hello(|hello| hello.sees.clone_from(&sees));
    if !(complete && agreed && sees.first() == Some(&me)) {
        return Ok(());
    }
    let records = fresh.iter().map(|hello| NodeRecord {
        id: hello.node,
        name: hello.name.clone(),
        address: hello.address.clone(),
        zone: hello.zone.clone(),
    });
    let mut members: Vec<NodeRecord> = records.chain([own_record(shared)]).collect();
    members.sort_unstable_by_key(|member| member.id);
    let Ok(cluster) = random() else { return Ok(()) };
    promise(shared, Promise { cluster: ClusterId(cluster), asker: me, members }).await.map(|_| ())
}

/// No seed but this node itself.
fn only_self(shared: &Shared) -> bool {
    shared.options.seeds.iter().all(|seed| *seed == shared.options.advertise)
}

/// Gives a promise, unless another one stands. True when it stands now.
async fn promise(shared: &Shared, wanted: Promise) -> Result<bool, StoreError> {
    let mut held = shared.promise.lock().await;
    match &*held {
        Some(given) if *given == wanted => return Ok(true),
        // The asker has given up its older plan, which nobody else could carry out.
        Some(given) if given.asker != wanted.asker => return Ok(false),
        Some(_) | None => {}
    }
    save(shared, Some(&wanted)).await?;
    introduce(shared, Some(&wanted), false);
    *held = Some(wanted);
    Ok(true)
}

/// Asks the members for their promises; initialises when enough have given them.
async fn ask_all(
    shared: &Arc<Shared>,
    metadata: &Group,
    plan: &Promise,
    since: Instant,
) -> Result<(), StoreError> {
    let me = shared.options.node;
    let others = plan.members.iter().filter(|member| member.id != me);
    let asked = others
        .map(|member| shared.peers.call(member.id, GroupId::METADATA, kind::PROMISE, plan.encode(), ASK));
    let given =
        1 + futures_util::future::join_all(asked).await.iter().filter(|answer| answer.is_ok()).count();
    let all = plan.members.len();
    if given == all || (since.elapsed() >= ABSENT && given * 2 > all) {
        let members: BTreeMap<u64, Member> = plan
            .members
            .iter()
            .map(|member| (member.id.0, Member { address: member.address.clone() }))
            .collect();
        tracing::info!(cluster = %plan.cluster, members = members.len(), "forming a cluster");
        if let Err(error) = metadata.raft.initialize(members).await {
            tracing::debug!(%error, "not initialised");
        }
    } else if since.elapsed() >= ABANDON {
        tracing::warn!(given, all, "the others do not agree to form a cluster, starting over");
        let mut held = shared.promise.lock().await;
        save(shared, None).await?;
        *held = None;
        introduce(shared, None, true);
    }
    Ok(())
}

/// The other side of [`ask_all`].
pub(crate) async fn answer_promise(
    shared: &Shared,
    from: NodeId,
    payload: Bytes,
) -> Result<Bytes, CallError> {
    let wanted = Promise::decode(payload).map_err(|error| CallError::NotUnderstood(error.to_string()))?;
    if wanted.asker != from || !wanted.has(shared.options.node) || !wanted.has(from) {
        return Err(CallError::Refused("a promise for others".to_owned()));
    }
    let metadata = shared.groups.get(GroupId::METADATA).ok_or(CallError::Stopping)?;
    let known = shared.promise.lock().await.as_ref() == Some(&wanted);
    if !known && metadata.is_initialized().await {
        return Err(CallError::Refused("belongs to a cluster".to_owned()));
    }
    match promise(shared, wanted).await {
        Ok(true) => Ok(Bytes::new()),
        Ok(false) => Err(CallError::Refused("promised to another cluster".to_owned())),
        Err(error) => Err(CallError::Refused(error.to_string())),
    }
}

/// Makes the catalogue of a cluster whose metadata group was just initialised. Any member that leads it does.
pub(crate) async fn form(shared: &Shared) {
    let Some(promise) = shared.promise.lock().await.clone().filter(|promise| !promise.members.is_empty())
    else {
        return;
    };
    let options = &shared.options;
    let mut salt = [0; 4];
    if getrandom::fill(&mut salt).is_err() {
        return;
    }
    let command = Command::Form(Form {
        cluster_id: promise.cluster.0,
        name: options.cluster_name.clone(),
        nodes: promise.members,
        shards: options.shards,
        replication: options.replication,
        default_user: UserRecord {
            name: options.default_user.name.clone(),
            password_hash: warren_catalogue::hash_password(salt, options.default_user.password.as_bytes()),
            tags: vec!["administrator".to_owned()],
        },
        time: UnixMillis(options.incarnation),
    });
    match read::propose(shared, &command, Duration::from_secs(5)).await {
        Ok(Ok(_)) => tracing::info!(cluster = %promise.cluster, "cluster formed"),
        // Another leader has done it.
        Ok(Err(error)) => tracing::debug!(%error, "cluster not formed again"),
        Err(error) => tracing::warn!(%error, "cluster not formed yet"),
    }
}

/// Asks a formed cluster to take this node in.
async fn join(shared: &Arc<Shared>, member: &Hello) -> Result<(), StoreError> {
    let Some(cluster) = member.cluster else { return Ok(()) };
    shared.peers.set(member.node, &member.address);
    let question = request_to_join(&own_record(shared), JustAsking(false));
    let answer = shared.peers.call(member.node, GroupId::METADATA, kind::JOIN, question, ASK * 3).await;
    match answer {
        Ok(_) => {
            tracing::info!(%cluster, "joining a cluster");
            let joined = Promise { cluster, asker: member.node, members: Vec::new() };
            promise(shared, joined).await.map(|_| ())
        }
        Err(error) => {
            let text = error.to_string();
            let mut said = shared.refusal.lock();
            if *said != text {
                tracing::warn!(%cluster, %error, "the cluster does not take this node in now, asking on");
                *said = text;
            }
            Ok(())
        }
    }
}

/// Whether a request to join is only to learn what the answer would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JustAsking(pub(crate) bool);

/// What [`answer_join`] is asked.
pub(crate) fn request_to_join(node: &NodeRecord, just_asking: JustAsking) -> Bytes {
    let mut question = vec![u8::from(just_asking.0)];
    put_record(node, &mut question);
    question.into()
}

fn read_request_to_join(payload: Bytes) -> Result<(JustAsking, NodeRecord), Malformed> {
    let mut reader = Reader::new(payload, "request to join");
    let just_asking = match reader.u8()? {
        0 => JustAsking(false),
        1 => JustAsking(true),
        _ => return Err(Malformed("kind of a request to join")),
    };
    let node = record(&mut reader)?;
    reader.end()?;
    Ok((just_asking, node))
}

/// The other side of [`join`]: records the node; the metadata leader then makes it a member.
pub(crate) async fn answer_join(
    shared: &Shared,
    metadata: &Group,
    payload: Bytes,
) -> Result<Bytes, CallError> {
    let request = read_request_to_join(payload);
    let (just_asking, node) = request.map_err(|error| CallError::NotUnderstood(error.to_string()))?;
    if shared.catalogue.read().cluster().is_none() || !metadata.has_majority() {
        return Err(CallError::Refused("the cluster is not ready".to_owned()));
    }
    let votes = crate::status::of(metadata).members.contains(&node.id);
    if votes {
        // With an empty log its vote could undo what a majority has stored.
        return Err(CallError::Refused(format!(
            "node {} is a member already and has lost its data: start it with an empty data directory, as a new node",
            node.id
        )));
    }
    if just_asking.0 {
        return match former_selves(shared, &node).await?.is_empty() {
            true => {
                Err(CallError::Refused(format!("no node of the cluster was reached at {}", node.address)))
            }
            false => Ok(Bytes::new()),
        };
    }
    tracing::info!(node = %node.id, name = node.name, address = node.address, "a node joins the cluster");
    shared.peers.set(node.id, &node.address);
    let leaves = |node| Command::SetDuty { node, duty: Duty::Leaving };
    let mut stay = Vec::new();
    // First, for the newcomer asks no more once it is in: should this node end between the two, nobody would do it.
    for former in former_selves(shared, &node).await? {
        tracing::warn!(node = %former, "another node has come to this one's address: it is gone for good and is replaced");
        if propose(shared, leaves(former)).await.is_err() {
            // Where it is the last that holds anything, somebody must be there to take it.
            stay.push(former);
        }
    }
    propose(shared, Command::AddNode(node)).await?;
    for former in stay {
        propose(shared, leaves(former)).await?;
    }
    Ok(Bytes::new())
}

async fn propose(shared: &Shared, command: Command) -> Result<(), CallError> {
    match read::propose(shared, &command, ASK * 2).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(CallError::Refused(error.to_string())),
        Err(error) => Err(CallError::Refused(error.to_string())),
    }
}

/// Members that were reached where a newcomer is now and are not reached any more: the same node before it lost its data.
/// The newcomer starts without a vote, and its former self gives its replicas to it.
///
/// # Errors
/// [`CallError::Refused`] while one may still be there.
async fn former_selves(shared: &Shared, newcomer: &NodeRecord) -> Result<Vec<NodeId>, CallError> {
    let there: Vec<NodeId> = {
        let catalogue = shared.catalogue.read();
        let there = catalogue.nodes().filter(|node| {
            node.address == newcomer.address
                && node.id != newcomer.id
                && node.id != shared.options.node
                && node.duty != Duty::Leaving
        });
        there.map(|node| node.id).collect()
    };
    let table = shared.peers.table();
    if there.iter().any(|node| table.get(node).is_some_and(warren_rpc::PeerStatus::is_connected)) {
        // A machine that lost its power is missed only after a while, and may be back sooner. Who answers there now?
        let answers = shared.peers.hello(&newcomer.address).await;
        if !answers.is_ok_and(|hello| hello.node == newcomer.id) {
            let text = format!("another node is reached at {}", newcomer.address);
            return Err(CallError::Refused(text));
        }
    }
    Ok(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_to_join_survives_its_bytes_and_no_prefix_of_them_is_one() {
        let node = NodeRecord { id: NodeId(7), name: "n7".into(), address: "h7:1".into(), zone: None };
        for just_asking in [JustAsking(false), JustAsking(true)] {
            let bytes = request_to_join(&node, just_asking);
            assert_eq!(read_request_to_join(bytes.clone()), Ok((just_asking, node.clone())));
            for end in 0..bytes.len() {
                assert!(read_request_to_join(bytes.slice(..end)).is_err(), "prefix of {end}");
            }
        }
    }

    #[test]
    fn a_promise_survives_its_bytes_and_no_prefix_of_them_is_one() {
        let member = |id, zone: Option<&str>| NodeRecord {
            id: NodeId(id),
            name: format!("n{id}"),
            address: format!("h{id}:1"),
            zone: zone.map(str::to_owned),
        };
        let promise = Promise {
            cluster: ClusterId(77),
            asker: NodeId(1),
            members: vec![member(1, None), member(2, Some("west"))],
        };
        let bytes = promise.encode();
        assert_eq!(Promise::decode(bytes.clone()), Ok(promise));
        for end in 0..bytes.len() {
            assert!(Promise::decode(bytes.slice(..end)).is_err(), "prefix of {end}");
        }
    }
}
