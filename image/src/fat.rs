//! The first sector and the table of a FAT32 file system → where nothing of a file is, and what of a secret still lies there.
//!
//! Whoever saves a file anew may have it put elsewhere, and what it held before stays where it was: of no file any more, and read by
//! anybody who looks. See Microsoft's "FAT: General Overview of On-Disk Format".

use std::ops::Range;

/// Bytes of the first sector.
pub const SECTOR: usize = 512;
/// Bytes of an entry in the table.
const ENTRY: usize = 4;
/// The first cluster's number.
const FIRST: u64 = 2;
/// The bits of an entry that count.
const MASK: u32 = 0x0fff_ffff;
/// Bytes of a table at most: that of 127 MiB in clusters of 1 KiB has half of that.
const TABLE_MOST: u64 = 1 << 20;

/// Where parts of a file system are, in bytes from its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The first table.
    pub table: Range<u64>,
    /// The first cluster.
    clusters: u64,
    /// Bytes of a cluster.
    cluster: u64,
    /// How many there are.
    count: u64,
}

/// Reads the first sector.
///
/// # Errors
/// It is not that of a file system as an image has it.
pub fn layout(sector: &[u8; SECTOR]) -> Result<Layout, &'static str> {
    let byte = |at: usize| u64::from(sector[at]);
    let short = |at: usize| byte(at) | byte(at + 1) << 8;
    let long = |at: usize| short(at) | short(at + 2) << 16;
    let bytes = short(11);
    let (cluster, table, tables) = (byte(13) * bytes, long(36) * bytes, byte(16));
    // A short number of sectors, or of entries of a first directory, has a FAT12 or FAT16.
    if sector[510..] != [0x55, 0xaa] || bytes != SECTOR as u64 || cluster == 0 || short(17) != 0 || short(19) != 0 {
        return Err("it is no FAT32");
    }
    let begin = short(14) * bytes;
    let clusters = begin + tables * table;
    let count = (long(32) * bytes).saturating_sub(clusters) / cluster;
    if table == 0 || table > TABLE_MOST || (count + FIRST) * ENTRY as u64 > table {
        return Err("its table is not as large as it must be");
    }
    Ok(Layout { table: begin..begin + table, clusters, cluster, count })
}

impl Layout {
    /// Where no file has anything, in bytes from the beginning: neighbours are one.
    pub fn free(&self, table: &[u8]) -> Vec<Range<u64>> {
        let entries =
            table.chunks_exact(ENTRY).map(|entry| u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]));
        let numbers = (0..self.count).zip(entries.skip(FIRST as usize));
        let mut free: Vec<Range<u64>> = Vec::new();
        for (number, _) in numbers.filter(|(_, entry)| entry & MASK == 0) {
            let begin = self.clusters + number * self.cluster;
            match free.last_mut() {
                Some(last) if last.end == begin => last.end += self.cluster,
                _ => free.push(begin..begin + self.cluster),
            }
        }
        free
    }
}

/// Overwrites what is in these bytes of any of the secrets; how often something was there.
pub fn blank(bytes: &mut [u8], secrets: &[&[u8]]) -> usize {
    let mut found = 0;
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        let mut from = 0;
        while let Some(at) = bytes[from..].windows(secret.len()).position(|part| part == *secret) {
            bytes[from + at..][..secret.len()].fill(0);
            from += at + secret.len();
            found += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As mformat makes one: 127 MiB, clusters of 1 KiB, 32 sectors before two tables of 1007.
    fn sector() -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        for (at, bytes) in [
            (11, &[0, 2, 2, 32, 0, 2][..]),
            (32, &260_096u32.to_le_bytes()),
            (36, &1_016u32.to_le_bytes()),
            (510, &[0x55, 0xaa]),
        ] {
            sector[at..at + bytes.len()].copy_from_slice(bytes);
        }
        sector
    }

    #[test]
    fn what_no_file_has_is_found() {
        let layout = layout(&sector()).expect("a layout");
        assert_eq!(layout.table, 32 * 512..1_048 * 512);
        let begin = 2_064 * 512;
        let mut table = vec![0xff; layout.table.end as usize - layout.table.start as usize];
        for number in [2, 3, 7, 129_017] {
            table[number * 4..number * 4 + 4].copy_from_slice(&0xf000_0000u32.to_le_bytes());
        }
        let last = begin + 129_015 * 1024;
        assert_eq!(last + 1024, 260_096 * 512, "the last cluster ends where the partition does");
        assert_eq!(layout.free(&table), [begin..begin + 2048, begin + 5 * 1024..begin + 6 * 1024, last..last + 1024]);
        let short = layout.free(&table[..12]);
        assert_eq!((short.len(), short.first()), (1, Some(&(begin..begin + 1024))), "no more than there is of it");
    }

    #[test]
    fn no_other_file_systems_are_written_to() {
        for (at, value) in [(510, 0), (12, 4), (13, 0), (17, 1), (19, 1), (36, 0), (37, 0), (39, 1)] {
            let mut sector = sector();
            sector[at] = value;
            assert!(layout(&sector).is_err() || at == 36, "{at}");
        }
    }

    #[test]
    fn secrets_are_blanked_wherever_they_are() {
        let mut bytes = b"token-x, tokentoken-x; pass and passpass".to_vec();
        assert_eq!(blank(&mut bytes, &[b"token-x", b"pass", b""]), 5);
        assert_eq!(bytes, b"\0\0\0\0\0\0\0, token\0\0\0\0\0\0\0; \0\0\0\0 and \0\0\0\0\0\0\0\0");
        assert_eq!(blank(&mut bytes, &[b"pass"]), 0);
    }
}
