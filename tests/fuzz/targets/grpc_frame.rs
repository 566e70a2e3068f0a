//! gRPC frames in pieces: the same messages whatever the pieces, and none above the limit.

use edgeagent::rpc::FrameReader;

const LIMIT: usize = 64;

fn read(data: &[u8], step: usize) -> (Vec<Vec<u8>>, bool) {
    let mut reader = FrameReader::new(LIMIT);
    let mut messages = Vec::new();
    for mut piece in data.chunks(step) {
        loop {
            match reader.take(&mut piece) {
                Ok(Some(message)) => messages.push(message.to_vec()),
                Ok(None) => break,
                Err(_) => return (messages, false),
            }
        }
        assert!(piece.is_empty(), "a piece is read to its end");
    }
    (messages, true)
}

/// Reads `data` whole and byte by byte, and compares.
pub fn run(data: &[u8]) {
    let (whole, good) = read(data, data.len().max(1));
    assert!(whole.iter().all(|message| message.len() <= LIMIT));
    assert_eq!(read(data, 1), (whole.clone(), good));
    if good {
        let read: usize = whole.iter().map(|message| message.len() + 5).sum();
        assert!(read <= data.len());
    }
}
