//! A stored log → its output alone, from any byte on.

use super::log::{READ_BYTES, pump};
use super::log_fold::Folder;
use sai_core::record::{Decoder, Item};
use std::io::{self, Read};

/// A log's output alone, byte for byte as it was printed, all channels in the order seen.
pub struct RawText {
    log: Box<dyn Read + Send>,
    decoder: Decoder,
    text: Vec<u8>,
    at: usize,
    skip: u64,
}

impl RawText {
    /// The output of `log` from its byte `from` on.
    pub fn new(log: Box<dyn Read + Send>, from: u64) -> Self {
        Self { log, decoder: Decoder::new(), text: Vec::new(), at: 0, skip: from }
    }

    /// How many bytes of output a log holds.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn measure(log: &mut dyn Read) -> io::Result<u64> {
        let mut folder = Folder::new([]);
        pump(log, |bytes| folder.push(bytes))?;
        Ok(folder.text_bytes())
    }
}

impl Read for RawText {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut buffer = Vec::new();
        while self.at == self.text.len() {
            buffer.resize(READ_BYTES, 0);
            let length = self.log.read(&mut buffer)?;
            if length == 0 {
                return Ok(0);
            }
            self.text.clear();
            self.at = 0;
            let (text, skip) = (&mut self.text, &mut self.skip);
            let result = self.decoder.push(buffer.get(..length).unwrap_or_default(), |item| {
                if let Item::Data { bytes, .. } = item {
                    let passed = usize::try_from(*skip).unwrap_or(usize::MAX).min(bytes.len());
                    *skip -= passed as u64;
                    text.extend_from_slice(bytes.get(passed..).unwrap_or_default());
                }
            });
            if let (Err(what), true) = (result, self.text.is_empty()) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
        let ready = self.text.get(self.at..).unwrap_or_default();
        let length = ready.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..length), ready.get(..length)) {
            to.copy_from_slice(from);
        }
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::super::log_fold::tests::Maker;
    use super::*;
    use sai_core::record::Record;

    #[test]
    fn the_raw_text_is_what_was_printed_from_any_byte_on() {
        let mut log = Maker::new();
        let mut printed = String::new();
        for number in 0..500 {
            let text = format!("{number}\0\u{1b}[31m\n");
            log.data(1 + (number % 2) as u8, &text);
            printed.push_str(&text);
            log.add(&Record::Note("not printed".to_string()));
        }
        assert_eq!(RawText::measure(&mut log.0.as_slice()).unwrap(), printed.len() as u64);
        for from in [0, 1, 1234, printed.len(), printed.len() + 5] {
            let mut text = Vec::new();
            RawText::new(Box::new(io::Cursor::new(log.0.clone())), from as u64).read_to_end(&mut text).unwrap();
            assert_eq!(text, printed.as_bytes().get(from..).unwrap_or_default());
        }
    }
}
