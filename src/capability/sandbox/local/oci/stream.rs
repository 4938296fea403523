//! Bytes on their way: unpacked, counted, hashed, and stopped at a limit.

use super::{invalid, too_large};
use crate::capability::{CapabilityError, Result};
use crate::id::Digest;
use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, BufReader, Cursor, Read};

/// Bytes moved at once.
const PIECE: usize = 64 << 10;
/// Enough of a file to tell how it is compressed.
const MAGIC: usize = 4;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Tells it by the first bytes, whatever the file is called.
pub(super) fn compression(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // A frame, or one of those that readers skip.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// The content of a stream, unpacked where it is compressed.
pub(super) fn decompress<'a>(mut source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut start = Vec::with_capacity(MAGIC);
    source.by_ref().take(MAGIC as u64).read_to_end(&mut start)?;
    let kind = compression(&start);
    let whole = BufReader::with_capacity(PIECE, Cursor::new(start).chain(source));
    Ok(match kind {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Compression::Zstd => Box::new(Zstd { source: whole, decoder: FrameDecoder::new(), within: false }),
    })
}

/// Reads all frames of a zstd stream, one after the other.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    /// Whether a frame has begun and not all of it is handed out.
    within: bool,
}

impl<R: BufRead> Zstd<R> {
    /// Begins the next frame; `false` at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.within && !self.next_frame()? {
                return Ok(0);
            }
            self.within = true;
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            let stored = self.decoder.get_checksum_from_data();
            if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
                return Err(io::Error::other("the checksum of a zstd frame is wrong"));
            }
            self.within = false;
        }
    }
}

/// Hashes and counts what is read through it, and reads no more than a limit.
pub(super) struct Measured<R> {
    source: R,
    hash: Sha256,
    count: u64,
    limit: u64,
    /// What is measured, for the message at the limit.
    what: &'static str,
}

impl<R: Read> Measured<R> {
    pub(super) fn new(source: R, limit: u64, what: &'static str) -> Self {
        Self { source, hash: Sha256::new(), count: 0, limit, what }
    }

    /// Reads to the end. Returns the digest and number of all bytes.
    pub(super) fn finish(mut self) -> io::Result<(Digest, u64)> {
        let mut buffer = vec![0; PIECE];
        while self.read(&mut buffer)? > 0 {}
        Ok((self.hash.into(), self.count))
    }
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.count += count as u64;
        if self.count > self.limit {
            let message = format!("{} holds more than {} MiB", self.what, self.limit >> 20);
            return Err(io::Error::other(too_large(message)));
        }
        Ok(count)
    }
}

/// An error of a stream, as what it is where one of ours lies within.
pub(super) fn broken(what: &str, error: io::Error) -> CapabilityError {
    match error.downcast::<CapabilityError>() {
        Ok(ours) => ours,
        Err(error) => invalid(format!("{what} is broken: {error}")),
    }
}

/// Reads a document of at most `limit` bytes.
pub(super) fn read_document(source: impl Read, limit: u64, what: &'static str) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    source.take(limit + 1).read_to_end(&mut content).map_err(|error| broken(what, error))?;
    if content.len() as u64 > limit {
        return Err(too_large(format!("{what} holds more than {} MiB", limit >> 20)));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::ErrorKind;
    use flate2::{Compression as Level, write::GzEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        compress_to_vec(content, CompressionLevel::Fastest)
    }

    fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        decompress(bytes)?.read_to_end(&mut content)?;
        Ok(content)
    }

    #[test]
    fn streams_in_several_parts_are_read_to_their_end() {
        let (one, two) = (vec![7; 300_000], b"second".to_vec());
        let both = [&one[..], &two].concat();
        assert_eq!(unpacked(&[gzip(&one), gzip(&two)].concat()).unwrap(), both);
        let skipped = [0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        assert_eq!(unpacked(&[zstd(&one), skipped.to_vec(), zstd(&two)].concat()).unwrap(), both);
        assert_eq!(unpacked(&both).unwrap(), both);
        assert_eq!(unpacked(b"").unwrap(), b"");
    }

    #[test]
    fn a_stream_that_is_cut_is_an_error() {
        for whole in [gzip(&[7; 10_000]), zstd(&[7; 10_000])] {
            assert!(unpacked(&whole[..whole.len() - 5]).is_err());
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        for bomb in [gzip(&vec![0; 8 << 20]), zstd(&vec![0; 8 << 20])] {
            assert!(bomb.len() < 1 << 20);
            let measured = Measured::new(decompress(&bomb[..]).unwrap(), 1 << 20, "the bomb");
            let error = broken("it", measured.finish().map(drop).unwrap_err());
            assert_eq!(
                (error.kind, &*error.message),
                (ErrorKind::TOO_LARGE, "the bomb holds more than 1 MiB")
            );
        }
    }
}
