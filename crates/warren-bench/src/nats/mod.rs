//! NATS with JetStream, as a yardstick for developers: the same load as for AMQP, in the words of its own protocol.

pub(crate) mod link;
pub(crate) mod role;
pub(crate) mod stream;
pub(crate) mod wire;

use self::link::{FIRST_SID, Link};
use self::role::NatsRole;
use self::wire::Template;
use crate::arguments::{Plan, queues_of};
use crate::dialect::{Dialect, Parts};
use crate::error::BenchError;
use crate::pacing::Pacing;
use crate::producer::Producer;
use crate::uri::{BrokerUri, Scheme};

/// Servers of NATS that keep streams.
#[derive(Debug)]
pub(crate) struct Nats;

/// What the subject of a producer's answers says that they are.
const CONFIRMS: &str = "confirm";

impl Dialect for Nats {
    const SCHEME: Scheme = Scheme::Nats;
    type Link = Link;
    type Role = NatsRole;

    fn control(plan: &Plan) -> Result<Link, BenchError> {
        plan.check_for_nats()?;
        let link = Link::open(&plan.control_uri)?;
        if !link.info().jetstream {
            return Err(BenchError::protocol(link.address(), "no JetStream"));
        }
        if link.info().max_payload < plan.body_bytes {
            let max = link.info().max_payload;
            return Err(BenchError::Usage(format!("the server takes {max} bytes at most (max_payload)")));
        }
        Ok(link)
    }

    fn set_up(plan: &Plan, link: &mut Link) -> Result<(), BenchError> {
        stream::set_up(plan, link)
    }

    fn tear_down(plan: &Plan, link: &mut Link) -> Result<(), BenchError> {
        stream::tear_down(plan, link)
    }

    fn depth(plan: &Plan, link: &mut Link) -> Result<u64, BenchError> {
        stream::depth(plan, link)
    }

    fn close(mut link: Link) -> Result<(), BenchError> {
        // There is no goodbye: what was sent is handled when the answer to a PING is here.
        link.settle()
    }

    fn open_idle(uri: &BrokerUri) -> Result<Link, BenchError> {
        Link::open(uri)
    }

    fn open_consumer(_plan: &Plan, uri: &BrokerUri, _index: usize) -> Result<Link, BenchError> {
        Link::open(uri)
    }

    fn subscribe(plan: &Plan, index: usize, link: &mut Link) -> Result<(), BenchError> {
        for (sid, queue) in (FIRST_SID..).zip(queues_of(index, plan.consumers, plan.queues)) {
            let group = (plan.sharing(queue) > 1).then_some(stream::GROUP);
            link.subscribe(&plan.deliver_subject(queue), group, sid)?;
        }
        Ok(())
    }

    fn consumer(plan: &Plan, index: usize, link: Link) -> (Parts, NatsRole) {
        (link.into_parts(), NatsRole::Consumer(queues_of(index, plan.consumers, plan.queues)))
    }

    fn open_producer(plan: &Plan, uri: &BrokerUri, _index: usize) -> Result<Link, BenchError> {
        let mut link = Link::open(uri)?;
        if plan.confirm_window.is_some() {
            let inbox = link.own_subject(CONFIRMS);
            link.subscribe(&format!("{inbox}.*"), None, FIRST_SID)?;
        }
        Ok(link)
    }

    fn producer(plan: &Plan, index: usize, run: u8, link: Link, pacing: Pacing) -> (Parts, NatsRole) {
        let inbox = plan.confirm_window.map(|_window| link.own_subject(CONFIRMS));
        let producer = Producer::new(plan, index, run, pacing, |queue| {
            Template::new(&plan.subject(queue), inbox.as_deref(), plan.body_bytes)
        });
        (link.into_parts(), NatsRole::Producer(Box::new(producer)))
    }

    fn end(parts: Parts, output: &[u8]) -> Result<(), BenchError> {
        let mut link = Link::from_parts(parts)?;
        link.send(output)?;
        link.settle()
    }
}
