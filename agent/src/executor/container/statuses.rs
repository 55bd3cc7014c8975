//! Bytes from inside a container → what its loop has to say, as far as it can be understood.
//!
//! The job may write there too: it can lie about the end of its own steps, and gains nothing by it but a wrong verdict of its
//! own.

/// Bytes of one line at most: two numbers. What is longer is none of the loop's.
const LINE_BYTES: usize = 64;

/// Something the loop says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is there and takes orders.
    Ready,
    /// A step has ended.
    Ended {
        /// Its index, from 0.
        step: usize,
        /// Its exit status.
        status: i32,
    },
}

/// Lines that are not complete yet.
#[derive(Debug, Default)]
pub struct Statuses {
    line: Vec<u8>,
    too_long: bool,
}

impl Statuses {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Said> {
        let mut said = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.too_long |= self.line.len() >= LINE_BYTES;
                if !self.too_long {
                    self.line.push(*byte);
                }
                continue;
            }
            if !std::mem::take(&mut self.too_long) {
                said.extend(std::str::from_utf8(&self.line).ok().and_then(understand));
            }
            self.line.clear();
        }
        said
    }
}

fn understand(line: &str) -> Option<Said> {
    if line == "ready" {
        return Some(Said::Ready);
    }
    let (number, status) = line.split_once(' ')?;
    let step = number.parse::<usize>().ok()?.checked_sub(1)?;
    Some(Said::Ended { step, status: status.parse().ok().filter(|status| (0..=255).contains(status))? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood_wherever_they_are_cut_and_nonsense_is_not() {
        let mut statuses = Statuses::default();
        assert_eq!(statuses.push(b"rea"), []);
        assert_eq!(statuses.push(b"dy\n1 0\n2 2"), [Said::Ready, Said::Ended { step: 0, status: 0 }]);
        assert_eq!(statuses.push(b"55\n"), [Said::Ended { step: 1, status: 255 }]);
        assert_eq!(statuses.push(b"0 1\n1 256\n1 -1\n1\n\n \nx y\n\xff 0\n99999999999999999999999 0\nready \n"), []);
        assert_eq!(statuses.push(&[b'1'; 1 << 20]), []);
        assert_eq!(statuses.push(b" 0\n1 3\n"), [Said::Ended { step: 0, status: 3 }]);
        assert!(statuses.line.capacity() <= 4 * LINE_BYTES);
    }
}
