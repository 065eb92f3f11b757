//! The codec: bytes to frames and methods and back (0-9-1 §4.2). Knows no state of connections or channels.

mod decode;
mod encode;
mod limits;
mod method;
mod shape;

pub(crate) use decode::next_is_settle;
pub use decode::{Frame, next_frame};
pub use encode::{
    Content, DeliveryCounts, ack, body_frames, content, deliver, get_ok, heartbeat, method, nack, publish,
    reject, returned,
};
pub(crate) use limits::describe_octets;
pub use limits::{
    BODY_MAX, FRAME_MIN, FRAME_OVERHEAD, FrameError, INITIAL_FRAME_MAX, KIND_BODY, KIND_HEADER,
    KIND_HEARTBEAT, KIND_METHOD, PROTOCOL_HEADER,
};
pub use method::{
    DecodeError, Method, PublishMethod, ServerContent, ServerContentKind, decode_method,
    decode_server_content, method_id,
};
pub use shape::ShapeError;
