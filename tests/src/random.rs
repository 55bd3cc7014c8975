//! Seed → the same numbers every time, and from them output as awkward as any job's.

/// A small generator (xorshift64*, Marsaglia 2003, Vigna 2016): repeatable, which is all that is wanted of it.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator; every seed is good.
    pub fn new(seed: u64) -> Self {
        // A state of zero would stay zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from 0 to below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end.max(1)
    }

    /// True once in `many` times.
    pub fn once_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// Text, NULs, control sequences, invalid UTF-8, lone carriage returns, long lines, and no line feed at the end.
pub fn awkward(random: &mut Random, bytes: usize) -> Vec<u8> {
    let mut output = Vec::with_capacity(bytes + 64);
    while output.len() < bytes {
        match random.below(12) {
            0 => output.extend_from_slice(&[0; 7]),
            1 => output.extend_from_slice(b"\xff\xfe\xc3\x28\xf0\x9f"),
            2 => output.extend_from_slice(b"\x1b[31mred\x1b[0m\x1b[2K\r"),
            3 => {
                let count = random.below(60) as usize;
                output.extend((0..count).map(|_| random.number() as u8));
            }
            4 => {
                let count = random.below(3000) as usize;
                output.resize(output.len() + count, b'=');
            }
            _ => output.extend_from_slice(format!("line {} of a compiler\n", random.below(1_000_000)).as_bytes()),
        }
    }
    output.truncate(bytes.saturating_sub(1));
    output.push(b'.');
    output
}

/// The seed of a test: `SAI_SEED`, or the given one. It is printed, so that a failure can be repeated.
pub fn seed(test: &str, usual: u64) -> u64 {
    let seed = std::env::var("SAI_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    eprintln!("{test}: SAI_SEED={seed}");
    seed
}

/// How often something is to be done: `SAI_ROUNDS`, or as usual.
pub fn rounds(usual: u64) -> u64 {
    std::env::var("SAI_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
