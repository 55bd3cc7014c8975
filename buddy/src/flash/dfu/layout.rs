//! The name of an alternate setting of ST's → what memory is behind it, and which of its sectors an image is in (ST's UM0424).
//!
//! `@Internal Flash /0x08000000/04*016Kg,01*064Kg,07*128Kg`: how many sectors of which size follow one another, and what can be done
//! with them. Only what this says is there is erased.

/// Most runs of sectors: more than any part has.
const RUNS_MAX: usize = 64;
/// Most sectors that are erased for one image.
const SECTORS_MAX: usize = 65_536;

/// Sectors of the same size that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub start: u64,
    pub size: u64,
    pub count: u64,
    pub readable: bool,
    pub erasable: bool,
    pub writable: bool,
}

/// The memory of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// What people call it.
    pub name: String,
    pub runs: Vec<Run>,
}

impl Run {
    fn end(&self) -> u64 {
        self.start + self.size * self.count
    }
}

impl Layout {
    /// What a name says.
    pub fn of(text: &str) -> Option<Layout> {
        let mut parts = text.strip_prefix('@')?.split('/');
        let name = parts.next()?.trim().to_string();
        let mut runs = Vec::new();
        while let Some(start) = parts.next() {
            let digits = start.trim().strip_prefix("0x").or_else(|| start.trim().strip_prefix("0X"))?;
            let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let mut start = u64::from_str_radix(digits, 16).ok().filter(|_| plain)?;
            for run in parts.next()?.split(',') {
                let run = one(run.trim(), start)?;
                start = run.end();
                runs.push(run);
                // A memory that reaches beyond what an address can say is none.
                if start > 1 << 32 || runs.len() > RUNS_MAX {
                    return None;
                }
            }
        }
        (!runs.is_empty()).then_some(Layout { name, runs })
    }

    /// The sectors to be erased before an image of this length is at this address, in order.
    ///
    /// # Errors
    /// Why it cannot be there.
    pub fn sectors(&self, address: u32, length: usize, verify: bool) -> Result<Vec<u32>, String> {
        let (mut at, end) = (u64::from(address), u64::from(address) + length as u64);
        let mut sectors = Vec::new();
        while at < end {
            let Some(run) = self.runs.iter().find(|run| (run.start..run.end()).contains(&at)) else {
                return Err(format!("{} has no memory at {at:#010x}", self.name));
            };
            if !run.writable {
                return Err(format!("{} cannot be written at {at:#010x}", self.name));
            }
            if verify && !run.readable {
                return Err(format!("{} cannot be read back at {at:#010x}", self.name));
            }
            let first = (at - run.start) / run.size;
            let behind = (end.min(run.end()) - run.start).div_ceil(run.size);
            if run.erasable {
                if sectors.len() as u64 + (behind - first) > SECTORS_MAX as u64 {
                    return Err(format!("{} has more than {SECTORS_MAX} sectors for it", self.name));
                }
                sectors.extend((first..behind).map(|sector| (run.start + sector * run.size) as u32));
            }
            at = run.start + behind * run.size;
        }
        Ok(sectors)
    }
}

/// `04*016Kg`: how many, how large, and what can be done with them: bits of the letter, of which `a` is the first.
fn one(text: &str, start: u64) -> Option<Run> {
    let (count, rest) = text.split_once('*')?;
    let number = |digits: &str| {
        let plain = (1..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|number| plain && *number > 0)
    };
    let kind = rest.chars().next_back().filter(|letter| ('a'..='g').contains(letter))?;
    let bits = u32::from(kind) - u32::from('a') + 1;
    let size = rest.strip_suffix(kind)?;
    let digits = size.trim_end_matches(['K', 'M', 'B', ' ']);
    let unit = match size.get(digits.len()..)? {
        "K" => 1 << 10,
        "M" => 1 << 20,
        "" | "B" | " " => 1,
        _ => return None,
    };
    let size = number(digits)? * unit;
    let (readable, erasable, writable) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
    Some(Run { start, size, count: number(count)?, readable, erasable, writable })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_real_parts_say_what_is_erased_and_no_more() {
        // An STM32F407's, as its ROM says it.
        let flash = Layout::of("@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg").expect("a layout");
        assert_eq!(flash.name, "Internal Flash");
        assert_eq!(flash.sectors(0x0800_0000, 1, true), Ok([0x0800_0000].to_vec()));
        let touched = flash.sectors(0x0800_c000, 0x8001, true);
        assert_eq!(touched, Ok([0x0800_c000, 0x0801_0000].to_vec()));
        let whole = flash.sectors(0x0800_0000, 1 << 20, true).expect("all of it");
        assert_eq!((whole.len(), whole.last()), (12, Some(&0x080e_0000)));
        assert!(flash.sectors(0x0800_0000, (1 << 20) + 1, true).is_err());
        assert!(flash.sectors(0x2000_0000, 4, true).is_err());
        // Option bytes: nothing of them is erased.
        let option = Layout::of("@Option Bytes  /0x1FFFC000/01*016 e").expect("a layout");
        assert_eq!(option.sectors(0x1fff_c000, 16, true), Ok(Vec::new()));
        // Two pieces, as dfu-util's page about DfuSe has them.
        let two = Layout::of("@SPI Flash : M25P64/0x00000000/64*064Kg,64*064Kg/0x80000000/1*4Ka").expect("a layout");
        assert_eq!(two.sectors(0x003f_0000, 0x2_0000, true), Ok([0x003f_0000, 0x0040_0000].to_vec()));
        assert!(two.sectors(0x8000_0000, 4, false).is_err_and(|why| why.contains("cannot be written")));
        // What can be written and not read.
        let secret = Layout::of("@S/0x0/1*4Kf").expect("a layout");
        assert!(secret.sectors(0, 4, true).is_err() && secret.sectors(0, 4, false).is_ok());
        for wrong in [
            "",
            "@",
            "flash",
            "@a/0x0",
            "@a/0/1*1Kg",
            "@a/0x0/1*1Kh",
            "@a/0x0/0*1Kg",
            "@a/0x0/1*0Kg",
            "@a/0x0/1Kg",
            "@a/0x0/1*1KKg",
            "@a/0xfffffffff/1*1Kg",
            "@a/0xffff0000/9999*9999Mg",
            "@a/0x0/1*1K",
            "@a/0x0/é",
            "@a/0x0/1*é",
        ] {
            assert_eq!(Layout::of(wrong), None, "{wrong}");
        }
        let many = Layout::of("@a/0x0/9999*9999 g").expect("a layout");
        assert!(many.sectors(0, 99_980_001, true).is_ok());
        assert!(
            Layout::of("@a/0x0/9999*1Bg,9999*1Bg,9999*1Bg,9999*1Bg,9999*1Bg,9999*1Bg,9999*1Bg")
                .expect("a layout")
                .sectors(0, 69_000, true)
                .is_err()
        );
    }
}
