//! The requests of the bulk streams: gRPC messages `Frame` (`proto/member.proto`) whose payloads go to the socket from where
//! they are. tonic's encoder copies a payload into a buffer that grows as it goes, which was a sixth of what a message of
//! 100 KiB cost.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use prost::encoding::{encode_varint, encoded_len_varint};
use tonic::body::Body;
use tonic::codec::{Codec, Streaming};
use tonic::codegen::http::header::{CONTENT_TYPE, HeaderValue, TE};
use tonic::codegen::http::{Method, Request, Uri, Version};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tower::ServiceExt;

use crate::MAX_MESSAGE_BYTES;
use crate::generated::Frame;

/// `bytes payload = 1`.
const PAYLOAD_TAG: u8 = 0x0a;
/// Smaller pieces are copied together: a frame of HTTP/2 of their own would cost more.
const PIECE_BYTES: usize = 2048;
/// What is ready is gathered up to here before it is handed on.
const GATHER_BYTES: usize = 64 * 1024;

/// A payload in pieces, sent one after the other.
#[derive(Clone, Debug)]
pub struct Rope(Pieces);

#[derive(Clone, Debug)]
enum Pieces {
    One(Bytes),
    Many(Vec<Bytes>),
}

impl From<Bytes> for Rope {
    fn from(whole: Bytes) -> Self {
        Self(Pieces::One(whole))
    }
}

impl From<Vec<Bytes>> for Rope {
    fn from(pieces: Vec<Bytes>) -> Self {
        Self(Pieces::Many(pieces))
    }
}

impl From<Rope> for Bytes {
    /// Copies where there is more than one piece.
    fn from(rope: Rope) -> Self {
        match rope.0 {
            Pieces::One(whole) => whole,
            Pieces::Many(pieces) => pieces.concat().into(),
        }
    }
}

impl Rope {
    fn pieces(&self) -> &[Bytes] {
        match &self.0 {
            Pieces::One(whole) => std::slice::from_ref(whole),
            Pieces::Many(pieces) => pieces,
        }
    }
}

/// The body of a request that goes on as long as its frames do.
pub(crate) struct FrameBody<S> {
    frames: S,
    /// Encoded, in order; then what is in `buffer`.
    ready: VecDeque<Bytes>,
    buffer: BytesMut,
    ended: bool,
}

impl<S> FrameBody<S> {
    pub(crate) fn new(frames: S) -> Self {
        Self { frames, ready: VecDeque::new(), buffer: BytesMut::new(), ended: false }
    }

    /// Takes a frame in; returns its length. One that no receiver would accept ends the stream.
    fn push(&mut self, rope: &Rope) -> usize {
        let length: usize = rope.pieces().iter().map(Bytes::len).sum();
        let message = 1 + encoded_len_varint(length as u64) + length;
        let Some(announced) = u32::try_from(message).ok().filter(|_| message <= MAX_MESSAGE_BYTES) else {
            tracing::error!(length, "a frame is too large to be sent: the stream ends");
            self.ended = true;
            return 0;
        };
        // Not compressed.
        self.buffer.put_u8(0);
        self.buffer.put_u32(announced);
        self.buffer.put_u8(PAYLOAD_TAG);
        encode_varint(length as u64, &mut self.buffer);
        for piece in rope.pieces() {
            if piece.len() < PIECE_BYTES {
                self.buffer.put_slice(piece);
            } else {
                self.ready.push_back(self.buffer.split().freeze());
                self.ready.push_back(piece.clone());
            }
        }
        message
    }
}

impl<S: Stream<Item = Rope> + Unpin> http_body::Body for FrameBody<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let mut gathered = 0;
        while this.ready.is_empty() && !this.ended && gathered < GATHER_BYTES {
            match this.frames.poll_next_unpin(context) {
                Poll::Ready(Some(rope)) => gathered += this.push(&rope),
                Poll::Ready(None) => this.ended = true,
                // What is left of a frame whose large pieces are gone is not kept for the next one.
                Poll::Pending if !this.buffer.is_empty() => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        if let Some(piece) = this.ready.pop_front() {
            return Poll::Ready(Some(Ok(http_body::Frame::data(piece))));
        }
        let rest = this.buffer.split().freeze();
        Poll::Ready((!rest.is_empty()).then(|| Ok(http_body::Frame::data(rest))))
    }
}

/// Opens a stream in both directions.
pub(crate) async fn open(
    channel: Channel,
    path: &'static str,
    metadata: MetadataMap,
    frames: impl Stream<Item = Rope> + Send + Unpin + 'static,
) -> Result<Streaming<Frame>, Status> {
    let mut request = Request::new(Body::new(FrameBody::new(frames)));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = Uri::from_static(path);
    *request.headers_mut() = metadata.into_headers();
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let broken = |error: tonic::transport::Error| Status::from_error(error.into());
    let (head, body) = channel.oneshot(request).await.map_err(broken)?.into_parts();
    match Status::from_header_map(&head.headers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        Some(_) | None => {
            let decoder = ProstCodec::<Frame, Frame>::default().decoder();
            Ok(Streaming::new_response(decoder, body, head.status, None, Some(MAX_MESSAGE_BYTES)))
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use prost::Message;

    use super::*;

    /// What is sent though the stream does not end, or does.
    fn bytes_of(ropes: Vec<Rope>) -> Vec<u8> {
        let ropes = futures_util::stream::iter(ropes);
        let ended = sent(FrameBody::new(ropes.clone()));
        assert_eq!(sent(FrameBody::new(ropes.chain(futures_util::stream::pending()))), ended);
        ended
    }

    fn sent(mut body: FrameBody<impl Stream<Item = Rope> + Unpin>) -> Vec<u8> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut bytes = Vec::new();
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut context) {
            bytes.extend(frame.expect("no error").into_data().expect("data"));
        }
        bytes
    }

    fn by_prost(payload: Bytes) -> Vec<u8> {
        let message = Frame { payload }.encode_to_vec();
        let length = u32::try_from(message.len()).expect("small");
        [&[0], &length.to_be_bytes()[..], &message].concat()
    }

    #[test]
    fn a_frame_is_on_the_wire_what_tonic_would_make_of_it() {
        let piece = |length: usize| Bytes::from((0..length).map(|at| at as u8).collect::<Vec<_>>());
        for lengths in [
            &[1][..],
            &[127],
            &[128],
            &[2047],
            &[2048, 3],
            &[5, 100_000, 7, 9000, 1],
            &[0, 3],
            &[70_000, 70_000],
        ] {
            let pieces: Vec<Bytes> = lengths.iter().map(|length| piece(*length)).collect();
            let expected = by_prost(pieces.concat().into());
            assert_eq!(bytes_of(vec![pieces.clone().into()]), expected, "{lengths:?}");
            let twice = vec![pieces.into(), Rope::from(piece(300))];
            assert_eq!(bytes_of(twice), [expected, by_prost(piece(300))].concat(), "{lengths:?}");
        }
    }

    #[test]
    fn what_is_too_large_for_any_receiver_ends_the_stream() {
        let large = Rope::from(vec![Bytes::from(vec![0; MAX_MESSAGE_BYTES / 2]); 3]);
        let bytes =
            bytes_of(vec![Rope::from(Bytes::from_static(b"a")), large, Rope::from(Bytes::from_static(b"b"))]);
        assert_eq!(bytes, by_prost(Bytes::from_static(b"a")));
    }
}
