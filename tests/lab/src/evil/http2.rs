//! Below gRPC: sockets that say nothing, TLS of yesterday, and HTTP/2 by hand.
//!
//! The floods write as fast as the client reads and never stop by themselves.

use std::future::pending;

use smol::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::Instead;
use crate::{ca, server::Tls};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status: 200` and `content-type: application/grpc` in HPACK (RFC 7541).
const OK: &[u8] = b"\x88\x0f\x10\x10application/grpc";
/// Length of the client's preface (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;
/// Frames that are written at once.
const BATCH: usize = 500;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    let [_, high, middle, low] = length;
    let mut out = vec![high, middle, low, kind, flags];
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

pub(super) fn tcp_stall(tcp: TcpStream, _: u64) -> Instead {
    Box::pin(async move {
        pending::<()>().await;
        drop(tcp);
    })
}

pub(super) fn tcp_close(tcp: TcpStream, _: u64) -> Instead {
    Box::pin(async move { drop(tcp) })
}

/// A ServerHello of TLS 1.1 (RFC 4346 §7.4.1.3) for whatever was asked.
pub(super) fn tls11(mut tcp: TcpStream, _: u64) -> Instead {
    Box::pin(async move {
        let mut hello = [0; 512];
        if tcp.read(&mut hello).await.is_err() {
            return;
        }
        let body = [&[3, 2][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
        let length = u8::try_from(body.len()).unwrap_or_default();
        let record = [&[0x16, 3, 2, 0, length + 4, 2, 0, 0, length][..], &body].concat();
        if tcp.write_all(&record).await.is_ok() {
            // What the client thinks of it is its own affair; leave it the time to say so.
            drop(tcp.read(&mut hello).await);
        }
    })
}

pub(super) fn garbage(mut tls: Tls, _: u64) -> Instead {
    Box::pin(async move {
        while let Ok(noise) = ca::random::<4096>() {
            if tls.write_all(&noise).await.is_err() || tls.flush().await.is_err() {
                return;
            }
        }
    })
}

pub(super) fn http1(mut tls: Tls, _: u64) -> Instead {
    Box::pin(async move {
        let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        if tls.write_all(answer).await.is_ok() && tls.flush().await.is_ok() {
            drop(tls.close().await);
        }
    })
}

/// Greets, waits for the client's first request, writes `once`, and then `again` for ever. Both
/// are told the request's stream.
fn flood(
    mut tls: Tls,
    once: impl FnOnce(u32) -> Vec<u8> + 'static,
    again: impl Fn(u32) -> Vec<u8> + 'static,
) -> Instead {
    Box::pin(async move {
        let Some(stream) = first_request(&mut tls).await else { return };
        let again = again(stream);
        if tls.write_all(&once(stream)).await.is_err() || tls.flush().await.is_err() {
            return;
        }
        if again.is_empty() {
            return pending().await;
        }
        loop {
            if tls.write_all(&again).await.is_err() || tls.flush().await.is_err() {
                return;
            }
            smol::future::yield_now().await;
        }
    })
}

/// Reads up to the first HEADERS frame; tells its stream.
async fn first_request(tls: &mut Tls) -> Option<u32> {
    let hello = [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat();
    tls.write_all(&hello).await.ok()?;
    tls.flush().await.ok()?;
    tls.read_exact(&mut [0; PREFACE_BYTES]).await.ok()?;
    loop {
        let mut head = [0; 9];
        tls.read_exact(&mut head).await.ok()?;
        let [high, middle, low, kind, _, s1, s2, s3, s4] = head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let mut payload = vec![0; usize::try_from(length).ok()?];
        tls.read_exact(&mut payload).await.ok()?;
        if kind == HEADERS {
            return Some(u32::from_be_bytes([s1, s2, s3, s4]));
        }
    }
}

fn nothing(_: u32) -> Vec<u8> {
    Vec::new()
}

pub(super) fn goaway(tls: Tls, _: u64) -> Instead {
    // Last stream 0: nothing was processed. ENHANCE_YOUR_CALM.
    flood(tls, |_| frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11]), nothing)
}

pub(super) fn rst(tls: Tls, _: u64) -> Instead {
    flood(tls, nothing, |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]).repeat(BATCH))
}

pub(super) fn settings(tls: Tls, _: u64) -> Instead {
    flood(tls, nothing, |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]).repeat(BATCH))
}

pub(super) fn ping(tls: Tls, _: u64) -> Instead {
    flood(tls, nothing, |_| frame(PING, 0, 0, b"evilping").repeat(BATCH))
}

pub(super) fn window(tls: Tls, _: u64) -> Instead {
    flood(tls, nothing, |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(BATCH))
}

pub(super) fn priority(tls: Tls, _: u64) -> Instead {
    flood(tls, nothing, |stream| {
        let unknown = frame(0xbe, 0, 0, &[0; 64]);
        [frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 1]), unknown].concat().repeat(BATCH)
    })
}

pub(super) fn continuation(tls: Tls, _: u64) -> Instead {
    // A literal header field that is not indexed: x: yyyy…
    let field = [&[0x00, 0x01, b'x', 0x7e][..], &[b'y'; 126]].concat();
    let more = field.repeat(100);
    flood(
        tls,
        |stream| frame(HEADERS, 0, stream, OK),
        move |stream| frame(CONTINUATION, 0, stream, &more),
    )
}

pub(super) fn header_bomb(tls: Tls, _: u64) -> Instead {
    flood(
        tls,
        |stream| {
            // One field of 4000 bytes goes into the table, 16 000 bytes refer to it.
            let field = [&[0x40, 0x01, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat();
            let first = [OK, &field].concat();
            let mut out = frame(HEADERS, 0, stream, &first);
            out.extend(frame(CONTINUATION, END_HEADERS, stream, &[0xbe; 16_000]));
            out
        },
        nothing,
    )
}

pub(super) fn informational(tls: Tls, _: u64) -> Instead {
    // `:status: 103`, as a literal for the name of index 8.
    let status = b"\x08\x03103";
    flood(tls, nothing, move |stream| frame(HEADERS, END_HEADERS, stream, status).repeat(BATCH))
}

pub(super) fn empty_data(tls: Tls, _: u64) -> Instead {
    flood(
        tls,
        |stream| frame(HEADERS, END_HEADERS, stream, OK),
        |stream| frame(DATA, 0, stream, &[]).repeat(BATCH),
    )
}
