//! A text that the build script has packed into the program → the text.

use flate2::{Decompress, FlushDecompress};

/// The packed text of a file that `build.rs` names.
macro_rules! packed {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name)).as_slice()
    };
}
pub(super) use packed;

/// The text.
pub(super) fn text(packed: &[u8]) -> String {
    // What the build script makes begins with its length; the tests compare each with its file.
    let Some((length, packed)) = packed.split_first_chunk() else { return String::new() };
    let mut plain = Vec::with_capacity(u32::from_le_bytes(*length) as usize);
    let _ = Decompress::new(false).decompress_vec(packed, &mut plain, FlushDecompress::Finish);
    String::from_utf8(plain).unwrap_or_default()
}
