//! AMQP 0-9-1: its connections, its queues, and what is measured with nothing but them.

pub(crate) mod churn;
pub(crate) mod consumer;
pub(crate) mod content;
pub(crate) mod declare;
pub(crate) mod link;
pub(crate) mod publisher;
pub(crate) mod role;
pub(crate) mod topology;
pub(crate) mod wire;

use self::consumer::Consumer;
use self::link::Link;
use self::publisher::{Publisher, put_confirm_select};
use self::role::AmqpRole;
use self::wire::{Template, method};
use crate::arguments::Plan;
use crate::dialect::{Dialect, Parts};
use crate::error::BenchError;
use crate::pacing::Pacing;
use crate::producer::Producer;
use crate::uri::{BrokerUri, Scheme};

/// Brokers that speak AMQP 0-9-1.
#[derive(Debug)]
pub(crate) struct Amqp;

impl Dialect for Amqp {
    const SCHEME: Scheme = Scheme::Amqp;
    type Link = Link;
    type Role = AmqpRole;

    fn control(plan: &Plan) -> Result<Link, BenchError> {
        Link::open_with_channel(&plan.control_uri)
    }

    fn set_up(plan: &Plan, link: &mut Link) -> Result<(), BenchError> {
        plan.set_up(link)
    }

    fn tear_down(plan: &Plan, link: &mut Link) -> Result<(), BenchError> {
        plan.tear_down(link)
    }

    fn depth(plan: &Plan, link: &mut Link) -> Result<u64, BenchError> {
        plan.depth(link)
    }

    fn close(link: Link) -> Result<(), BenchError> {
        link.close()
    }

    fn open_idle(uri: &BrokerUri) -> Result<Link, BenchError> {
        Link::open_with_channel(uri)
    }

    fn open_consumer(plan: &Plan, uri: &BrokerUri, _index: usize) -> Result<Link, BenchError> {
        let mut link = Link::open_with_channel(uri)?;
        Consumer::prepare(plan, &mut link)?;
        Ok(link)
    }

    fn subscribe(plan: &Plan, index: usize, link: &mut Link) -> Result<(), BenchError> {
        Consumer::subscribe(plan, index, link)
    }

    fn consumer(plan: &Plan, _index: usize, link: Link) -> (Parts, AmqpRole) {
        (link.into_parts(), AmqpRole::Consumer(Consumer::new(plan)))
    }

    fn open_producer(plan: &Plan, uri: &BrokerUri, _index: usize) -> Result<Link, BenchError> {
        let mut link = Link::open_with_channel(uri)?;
        if plan.confirm_window.is_some() {
            let mut out = Vec::new();
            put_confirm_select(&mut out);
            link.call(&out, method::CONFIRM_SELECT_OK, "confirm.select")?;
        }
        Ok(link)
    }

    fn producer(plan: &Plan, index: usize, run: u8, link: Link, pacing: Pacing) -> (Parts, AmqpRole) {
        let frame_max = link.frame_max();
        let producer = Producer::new(plan, index, run, pacing, |queue| {
            Template::new(link::CHANNEL, &plan.envelope(queue), plan.body_bytes, frame_max)
        });
        (link.into_parts(), AmqpRole::Producer(Box::new(Publisher::new(producer))))
    }

    fn end(parts: Parts, output: &[u8]) -> Result<(), BenchError> {
        let mut link = Link::from_parts(parts)?;
        link.send(output)?;
        link.close()
    }
}
