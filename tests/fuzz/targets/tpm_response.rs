//! Answers of a TPM, or of what poses as one on the bus; and the file that it sealed.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use edgeagent::{
    limits::TPM_AREA_MAX_BYTES,
    seal::{Tpm, TpmBlob},
};

/// Each command reads its next answer: two bytes of size, and the bytes.
struct Answers {
    rest: Vec<u8>,
}

impl Read for Answers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((size, rest)) = self.rest.split_first_chunk::<2>() else { return Ok(0) };
        let size = usize::from(u16::from_be_bytes(*size)).min(rest.len()).min(buffer.len());
        let (answer, rest) = rest.split_at(size);
        for (to, from) in buffer.iter_mut().zip(answer) {
            *to = *from;
        }
        self.rest = rest.to_vec();
        Ok(size)
    }
}

impl Write for Answers {
    fn write(&mut self, command: &[u8]) -> io::Result<usize> {
        Ok(command.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whatever is answered, what comes out is bounded, and a blob survives being stored.
pub fn run(data: &[u8]) {
    let tpm = || Tpm::over(Box::new(Answers { rest: data.to_vec() }), Duration::ZERO);
    if let Ok(blob) = tpm().seal(&[7; 32]) {
        assert!(
            blob.private.len() <= TPM_AREA_MAX_BYTES && blob.public.len() <= TPM_AREA_MAX_BYTES
        );
        assert_eq!(TpmBlob::parse(&blob.to_file()), Some(blob));
    }
    let blob = TpmBlob { private: vec![1; 120], public: vec![2; 80] };
    if let Ok(key) = tpm().unseal(&blob) {
        assert!(key.len() <= TPM_AREA_MAX_BYTES);
    }
    if let Some(blob) = TpmBlob::parse(data) {
        assert_eq!(blob.to_file(), data);
    }
}
