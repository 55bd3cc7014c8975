//! What a chip says that it is → the pages of its flash: AN2606's product ids, and the reference manuals' memory maps.
//!
//! Of parts with the same id the largest is meant: what is not there refuses to be erased, and that is told.

/// Where flash begins.
pub const FLASH: u32 = 0x0800_0000;
/// Where it ends at the latest.
const FLASH_END: u32 = 0x1000_0000;

const K: u32 = 1024;

/// A family of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    id: u32,
    /// Its name, for people.
    pub name: &'static str,
    /// So many pages of so many bytes, from the beginning on.
    runs: &'static [(u32, u32)],
}

const fn part_of(id: u32, name: &'static str, runs: &'static [(u32, u32)]) -> Part {
    Part { id, name, runs }
}

/// 16 KiB four times, 64 KiB, then 128 KiB: each bank of an F4.
const F4: &[(u32, u32)] = &[(4, 16 * K), (1, 64 * K), (7, 128 * K)];

const PARTS: &[Part] = &[
    part_of(0x410, "STM32F10x, medium density", &[(128, K)]),
    part_of(0x411, "STM32F2xx", F4),
    part_of(0x412, "STM32F10x, low density", &[(32, K)]),
    part_of(0x413, "STM32F405/407/415/417", F4),
    part_of(0x414, "STM32F10x, high density", &[(256, 2 * K)]),
    part_of(0x415, "STM32L475/476/486", &[(512, 2 * K)]),
    part_of(0x418, "STM32F105/107", &[(128, 2 * K)]),
    part_of(0x419, "STM32F42x/43x", &[(4, 16 * K), (1, 64 * K), (7, 128 * K), (4, 16 * K), (1, 64 * K), (7, 128 * K)]),
    part_of(0x420, "STM32F100, medium density", &[(128, K)]),
    part_of(0x421, "STM32F446", &[(4, 16 * K), (1, 64 * K), (3, 128 * K)]),
    part_of(0x422, "STM32F302/303xB/C", &[(128, 2 * K)]),
    part_of(0x423, "STM32F401xB/C", &[(4, 16 * K), (1, 64 * K), (1, 128 * K)]),
    part_of(0x425, "STM32L031/041", &[(256, 128)]),
    part_of(0x428, "STM32F100, high density", &[(256, 2 * K)]),
    part_of(0x431, "STM32F411", &[(4, 16 * K), (1, 64 * K), (3, 128 * K)]),
    part_of(0x432, "STM32F373", &[(128, 2 * K)]),
    part_of(0x433, "STM32F401xD/E", &[(4, 16 * K), (1, 64 * K), (3, 128 * K)]),
    part_of(0x435, "STM32L43x/44x", &[(128, 2 * K)]),
    part_of(0x438, "STM32F303x6/8, F334", &[(32, 2 * K)]),
    part_of(0x439, "STM32F301/302x6/8", &[(32, 2 * K)]),
    part_of(0x440, "STM32F030x8, F05x", &[(64, K)]),
    part_of(0x442, "STM32F030xC, F09x", &[(128, 2 * K)]),
    part_of(0x444, "STM32F03xx4/6", &[(32, K)]),
    part_of(0x445, "STM32F04x, F070x6", &[(32, K)]),
    part_of(0x446, "STM32F302/303xD/E", &[(256, 2 * K)]),
    part_of(0x448, "STM32F070xB, F071/072", &[(64, 2 * K)]),
    part_of(0x450, "STM32H742/743/750/753", &[(16, 128 * K)]),
    part_of(0x452, "STM32F72x/73x", &[(4, 16 * K), (1, 64 * K), (3, 128 * K)]),
    part_of(0x456, "STM32G05x/06x", &[(32, 2 * K)]),
    part_of(0x460, "STM32G07x/08x", &[(64, 2 * K)]),
    part_of(0x461, "STM32L496/4A6", &[(512, 2 * K)]),
    part_of(0x462, "STM32L45x/46x", &[(256, 2 * K)]),
    part_of(0x464, "STM32L41x/42x", &[(64, 2 * K)]),
    part_of(0x466, "STM32G03x/04x", &[(32, 2 * K)]),
    part_of(0x468, "STM32G431/441", &[(64, 2 * K)]),
    part_of(0x495, "STM32WB55/35", &[(256, 4 * K)]),
    part_of(0x497, "STM32WLE5/WL55", &[(128, 2 * K)]),
];

/// The family with this id.
pub fn part(id: u32) -> Option<&'static Part> {
    PARTS.iter().find(|part| part.id == id)
}

/// Whether an address is one of flash, which must be erased before it is written.
pub fn is_flash(address: u32) -> bool {
    (FLASH..FLASH_END).contains(&address)
}

impl Part {
    /// Bytes of its flash.
    pub fn bytes(&self) -> u32 {
        self.runs.iter().map(|(count, bytes)| count * bytes).sum()
    }

    /// The pages that hold so many bytes from an address on, if there are such and the first begins there: what is before it in a
    /// page would be erased with it.
    pub fn pages(&self, address: u32, length: usize) -> Option<Vec<u16>> {
        let (mut begin, mut number) = (u64::from(FLASH), 0_u16);
        let (from, to) = (u64::from(address), u64::from(address) + length as u64);
        let mut pages = Vec::new();
        let mut aligned = false;
        for (count, bytes) in self.runs {
            for _ in 0..*count {
                let end = begin + u64::from(*bytes);
                if begin < to && end > from {
                    pages.push(number);
                    aligned |= begin == from;
                }
                begin = end;
                number += 1;
            }
        }
        (aligned && to <= begin).then_some(pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_those_of_the_reference_manuals() {
        let f411 = part(0x431).expect("an F411");
        assert_eq!((f411.bytes(), f411.pages(FLASH, 1)), (512 * K, Some(vec![0])));
        assert_eq!(f411.pages(FLASH, 65 * K as usize), Some(vec![0, 1, 2, 3, 4]));
        assert_eq!(f411.pages(FLASH + 0x6_0000, 100), Some(vec![7]));
        assert_eq!(f411.pages(FLASH, 512 * K as usize + 1), None);
        // In the middle of a page, which would lose its beginning.
        assert_eq!(f411.pages(FLASH + 0x100, 4), None);
        assert_eq!(part(0x419).map(Part::bytes), Some(2048 * K));
        assert_eq!(part(0x450).map(Part::bytes), Some(2048 * K));
        assert_eq!(part(0x999), None);
    }
}
