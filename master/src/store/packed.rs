//! A log that is complete → a packed one, and either → its bytes again; what an ended attempt leaves.
//!
//! The only file that knows lz4_flex. A packed log is LZ4 frames end to end (lz4 Frame Format Description 1.6), which `lz4 -d`
//! reads. Each holds `PIECE_BYTES` and says its length in its header, so that a reader finds its place by headers alone.

use super::paths::{Paths, sync_directory};
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use sai_core::job::JobKey;
use sai_core::ordered::Map;
use sai_core::record::{Decoder, Item, Record};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// Bytes of a log in one LZ4 frame: large enough to pack well, small enough to unpack for one line.
const PIECE_BYTES: usize = 1 << 20;
/// A log shorter than this stays as it is: there is little to gain and two names to sync.
const PACK_FROM_BYTES: u64 = 16 << 10;
/// Bytes of a log that are read at once to know what it announced.
const PRUNE_BYTES: usize = 256 << 10;

impl Paths {
    /// Unlinks the files of an ended attempt that are not as its log announced them. A log that cannot be read decides
    /// nothing: damage to it must not cost files that are whole.
    pub(super) fn prune(&self, key: JobKey) -> io::Result<()> {
        let directory = self.artifacts(key);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        let mut sizes: Map<u16, u64> = Map::new();
        let mut left = false;
        let mut decoder = Decoder::new();
        let mut buffer = vec![0; PRUNE_BYTES];
        match LogReader::open(self, key) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(mut log) => loop {
                let taken = log.read(&mut buffer)?;
                let read = decoder.push(buffer.get(..taken).unwrap_or_default(), |item| {
                    if let Item::Record(_, Record::Artifact(artifact)) = item {
                        sizes.insert(artifact.stream, artifact.size);
                    }
                });
                read.map_err(io::Error::other)?;
                if taken == 0 {
                    break;
                }
            },
        }
        for entry in entries {
            let entry = entry?;
            let stream = entry.file_name().to_str().and_then(|name| name.parse::<u16>().ok());
            let announced = stream.and_then(|stream| sizes.get(&stream));
            if announced == Some(&entry.metadata()?.len()) {
                left = true;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        if left { Ok(()) } else { fs::remove_dir(directory) }
    }

    /// Packs a complete log: written beside, synced, renamed, and only then is the plain one unlinked.
    pub(super) fn pack(&self, key: JobKey) -> io::Result<()> {
        let plain_path = self.log(key);
        let plain = File::open(&plain_path)?;
        let length = plain.metadata()?.len();
        if length < PACK_FROM_BYTES {
            return Ok(());
        }
        let packed_path = self.packed_log(key);
        let temporary = packed_path.with_extension("lz4.tmp");
        let packed = || -> io::Result<()> {
            let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            loop {
                piece.clear();
                (&plain).take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
                if piece.is_empty() {
                    break;
                }
                let info = FrameInfo::new()
                    .block_mode(BlockMode::Independent)
                    .block_size(BlockSize::Max1MB)
                    .content_checksum(true)
                    .content_size(Some(piece.len() as u64));
                let mut frame = FrameEncoder::with_frame_info(info, Vec::with_capacity(PIECE_BYTES / 2));
                frame.write_all(&piece)?;
                out.write_all(&frame.finish().map_err(io::Error::other)?)?;
            }
            out.sync_all()?;
            if plain.metadata()?.len() != length {
                return Err(io::Error::other("the log grew while it was packed"));
            }
            fs::rename(&temporary, &packed_path)?;
            sync_directory(&self.logs())
        };
        if let Err(error) = packed() {
            // A full disk is the likely reason: leave nothing behind. The plain log is as good; the next start tries anew.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        fs::remove_file(&plain_path)
    }
}

/// One frame of a packed log.
struct Frame {
    /// Bytes of the log in it.
    length: u64,
    /// Where the next one begins in the file.
    end: u64,
}

/// Reads the headers of the frame at an offset of the file; none at the end of the file.
fn frame_at(file: &File, offset: u64) -> io::Result<Option<Frame>> {
    let foreign = || io::Error::new(ErrorKind::InvalidData, "a packed log that Sai did not write or that is damaged");
    // Magic number, two bytes of flags, content size, header checksum, size of the first block.
    let mut head = [0; 19];
    let size = file.metadata()?.len();
    if offset >= size {
        return Ok(None);
    }
    file.read_exact_at(&mut head, offset).map_err(|_| foreign())?;
    let [m0, m1, m2, m3, flags, _, l0, l1, l2, l3, l4, l5, l6, l7, _, b0, b1, b2, b3] = head;
    // Version 1, blocks independent and without checksum, content size and content checksum present.
    if [m0, m1, m2, m3] != [0x04, 0x22, 0x4d, 0x18] || flags != 0b0110_1100 {
        return Err(foreign());
    }
    let length = u64::from_le_bytes([l0, l1, l2, l3, l4, l5, l6, l7]);
    if length == 0 || length > PIECE_BYTES as u64 {
        return Err(foreign());
    }
    let mut block = u32::from_le_bytes([b0, b1, b2, b3]);
    let mut end = offset + 19;
    while block != 0 {
        // The highest bit says that the block is stored as it is.
        end += u64::from(block & 0x7fff_ffff);
        let mut next = [0; 4];
        file.read_exact_at(&mut next, end).map_err(|_| foreign())?;
        block = u32::from_le_bytes(next);
        end += 4;
    }
    let end = end + 4;
    if end > size {
        return Err(foreign());
    }
    Ok(Some(Frame { length, end }))
}

/// A log's bytes, packed or not. Seeking unpacks nothing but the frame it ends in.
#[derive(Debug)]
pub struct LogReader {
    file: File,
    /// Bytes of the log, when it is packed; a plain one may still grow.
    packed: Option<u64>,
    position: u64,
    /// The unpacked frame and its offset in the log.
    piece: (u64, Vec<u8>),
    /// Offset in the log and in the file of a frame's beginning, from which to look further.
    mark: (u64, u64),
}

impl LogReader {
    pub(super) fn open(paths: &Paths, key: JobKey) -> io::Result<Self> {
        let new = |file, packed| Self { file, packed, position: 0, piece: (0, Vec::new()), mark: (0, 0) };
        match File::open(paths.log(key)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            plain => return Ok(new(plain?, None)),
        }
        // The packed one has its name before the plain one loses it, so that one of the two is always there.
        let file = File::open(paths.packed_log(key))?;
        let (mut length, mut offset) = (0, 0);
        while let Some(frame) = frame_at(&file, offset)? {
            length += frame.length;
            offset = frame.end;
        }
        Ok(new(file, Some(length)))
    }

    /// Bytes of the log, as of now when it still grows.
    pub fn length(&self) -> u64 {
        self.packed.unwrap_or_else(|| self.file.metadata().map_or(0, |metadata| metadata.len()))
    }

    /// Unpacks the frame that holds the current position.
    fn unpack(&mut self) -> io::Result<()> {
        if self.mark.0 > self.position {
            self.mark = (0, 0);
        }
        while let Some(frame) = frame_at(&self.file, self.mark.1)? {
            let (start, offset) = self.mark;
            if start + frame.length > self.position {
                let mut content = std::mem::take(&mut self.piece.1);
                content.clear();
                (&self.file).seek(SeekFrom::Start(offset))?;
                let packed = (&self.file).take(frame.end - offset);
                // One byte more than there may be: only at its end does the decoder compare the checksum.
                FrameDecoder::new(packed).take(frame.length + 1).read_to_end(&mut content)?;
                if content.len() as u64 != frame.length {
                    return Err(io::Error::new(ErrorKind::InvalidData, "a packed log that is damaged"));
                }
                self.piece = (start, content);
                return Ok(());
            }
            self.mark = (start + frame.length, frame.end);
        }
        Ok(())
    }
}

impl Read for LogReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(length) = self.packed else {
            let taken = self.file.read_at(buffer, self.position)?;
            self.position += taken as u64;
            return Ok(taken);
        };
        if self.position >= length || buffer.is_empty() {
            return Ok(0);
        }
        let held = |piece: &(u64, Vec<u8>), position: u64| {
            usize::try_from(position.checked_sub(piece.0)?).ok().filter(|at| *at < piece.1.len())
        };
        if held(&self.piece, self.position).is_none() {
            self.unpack()?;
        }
        let Some(rest) = held(&self.piece, self.position).and_then(|at| self.piece.1.get(at..)) else { return Ok(0) };
        let taken = rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        self.position += taken as u64;
        Ok(taken)
    }
}

impl Seek for LogReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.length().checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}
