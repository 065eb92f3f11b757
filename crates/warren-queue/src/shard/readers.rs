//! Streams: what their readers get, and what leaves them.

use warren_proto::session::LeaderFrame;
use warren_types::{QueueId, UnixMillis};

use super::{HostLeader, touch};
use crate::Output;

impl HostLeader {
    /// Sends readers what is there, reads what is not, and lets go of what the stream does not keep.
    pub(super) fn tend_stream(&mut self, now: UnixMillis, id: QueueId, outputs: &mut Vec<Output>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.serve_readers();
        for ((session, subscription), deliveries) in queue.take_outboxes() {
            let automatic = queue.consumers.is_automatic((session, subscription));
            let total = &mut queue.meter.total;
            *(if automatic { &mut total.deliver_no_ack } else { &mut total.deliver }) +=
                deliveries.len() as u64;
            let frame = LeaderFrame::Deliver { subscription, queue: id, deliveries, active_since: 0 };
            self.sessions.send(session, frame, outputs);
        }
        queue.meter.look(now);
        queue.retain(now);
        let read = queue.stream_read_wanted();
        for (session, request, answer) in queue.take_browsed() {
            self.sessions.send(session, LeaderFrame::Reply { request, answer }, outputs);
        }
        if let Some(read) = read {
            outputs.push(Output::Load {
                queue: id,
                after: read.after,
                max_messages: read.max_messages,
                max_bytes: read.max_bytes,
            });
        }
        self.depart(now, id, outputs);
    }

    /// Has the age of every stream's head looked at.
    pub(super) fn look_at_streams(&mut self) {
        for queue in self.queues.values_mut() {
            if queue.look_at_head() {
                touch(queue, &mut self.touched);
            }
        }
    }
}
