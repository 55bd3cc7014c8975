//! A card's first sector and its size → where its data partition is, or is to be.
//!
//! The image has a boot partition alone, since nobody knows how large the card is that it is written to. The rest of the card is
//! formatted first, and named in the table of partitions afterwards: a single sector, which a power cut leaves old or new.

/// Bytes of a sector, as the table counts them.
pub const SECTOR: u64 = 512;
/// Where a partition may begin, in sectors: 4 MiB, a multiple of what cards erase at once.
const ALIGNED: u64 = 8192;
/// Sectors that a data partition has at least: 128 MiB, in which a mirror and a checkout fit.
const LEAST: u64 = 128 << 11;
/// The largest number of sectors that the table can say.
const MOST: u64 = u32::MAX as u64;
/// Where the table is in the sector, how long an entry is, and how many there are.
const TABLE: (usize, usize, usize) = (446, 16, 4);
/// The type of Linux's partitions.
const LINUX: u8 = 0x83;

/// A part of a card, in sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The first one.
    pub first: u64,
    /// How many.
    pub count: u64,
}

/// What is known of the data partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// It is there.
    There(Part),
    /// It is to be made here, and then the first sector is to be this.
    Missing(Part, Box<[u8; SECTOR as usize]>),
}

/// Looks for the data partition, which is the second one.
///
/// # Errors
/// Why there can be none.
pub fn data(first_sector: &[u8; SECTOR as usize], sectors: u64) -> Result<Data, String> {
    if first_sector[510..] != [0x55, 0xaa] {
        return Err("the card's first sector is no table of partitions".to_owned());
    }
    let (table, length, entries) = TABLE;
    let entry = |index: usize| &first_sector[table + index * length..][..length];
    let part = |entry: &[u8]| {
        let number =
            |at: usize| u64::from(u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]));
        Part { first: number(8), count: number(12) }
    };
    let second = entry(1);
    if second[4] == LINUX {
        return Ok(Data::There(part(second)));
    }
    if second[4] != 0 || (2..entries).any(|index| entry(index)[4] != 0) {
        return Err("the card has other partitions than the image's".to_owned());
    }
    let boot = part(entry(0));
    let end = boot.first.saturating_add(boot.count);
    let first = end.div_ceil(ALIGNED) * ALIGNED;
    let count = sectors.min(MOST).saturating_sub(first) / ALIGNED * ALIGNED;
    if count < LEAST || boot.count == 0 {
        let mib = (sectors * SECTOR) >> 20;
        return Err(format!("a card of {mib} MiB has no room for a data partition of {} MiB", (LEAST * SECTOR) >> 20));
    }
    let mut written = Box::new(*first_sector);
    let new = &mut written[table + length..][..length];
    // Heads and cylinders are of no meaning any more: what cannot be said by them is said so.
    new[..8].copy_from_slice(&[0, 0xfe, 0xff, 0xff, LINUX, 0xfe, 0xff, 0xff]);
    for (at, number) in [(8, first), (12, count)] {
        new[at..at + 4].copy_from_slice(&(number as u32).to_le_bytes());
    }
    Ok(Data::Missing(Part { first, count }, written))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sector with a boot partition from 4 MiB up to 64 MiB.
    fn image() -> [u8; 512] {
        let mut sector = [0; 512];
        sector[450] = 0x0c;
        sector[454..458].copy_from_slice(&8192u32.to_le_bytes());
        sector[458..462].copy_from_slice(&(120u32 << 10).to_le_bytes());
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector
    }

    #[test]
    fn the_rest_of_a_card_becomes_the_data_partition_once() {
        // 4 GB, and a little that is no whole 4 MiB.
        let Ok(Data::Missing(part, written)) = data(&image(), 7_812_500) else { panic!("it is missing") };
        assert_eq!(part, Part { first: 131_072, count: 7_675_904 });
        assert!(part.first + part.count <= 7_812_500);
        assert_eq!(written[..462], image()[..462], "what was there stays");
        assert_eq!(data(&written, 7_812_500), Ok(Data::There(part)), "and then it is there");
        assert_eq!(data(&written, 99_999_999), Ok(Data::There(part)), "also on a larger card that it was copied to");
    }

    #[test]
    fn no_other_cards_are_touched() {
        let image = image();
        let wrong = |at: usize, value: u8, sectors: u64| {
            let mut sector = image;
            sector[at] = value;
            data(&sector, sectors).expect_err("not to be touched")
        };
        assert!(wrong(511, 0, 9_000_000).contains("no table"));
        assert!(wrong(446 + 16 + 4, 0x07, 9_000_000).contains("other partitions"));
        assert!(wrong(446 + 48 + 4, 0x82, 9_000_000).contains("other partitions"));
        assert!(wrong(0, 0, 300_000).contains("146 MiB"), "{}", wrong(0, 0, 300_000));
        let Ok(Data::Missing(part, _)) = data(&image, u64::MAX >> 20) else { panic!("it is missing") };
        assert!(part.first + part.count <= MOST);
    }
}
