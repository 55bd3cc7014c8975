//! The head of a file `sai-MODEL.update` → which system is in it, for which machines, and how what is read of it is known to be whole.
//!
//! A line says what it is and in which format, one has JSON, one the signature of both, and then come the kernel and what it
//! unpacks into memory. So whoever believes the second line believes the rest by its digests. What is signed ends with a line of what
//! it is signed for: an image that may take the place of a newer one has another signature than one that may not.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use miniserde::Deserialize;

/// What the file begins with.
pub const MAGIC: &str = "sai-update 1\n";
/// What it begins with after it was taken: as long, so that it goes into the same sector.
pub const TAKEN: &str = "sai-taken  1\n";
/// Bytes of a head at most.
pub const HEAD_MOST: usize = 4096;
/// Bytes of a piece at most: twice what an image may have.
pub const PIECE_MOST: u64 = 128 << 20;
/// What the third line says where nobody has signed it.
const UNSIGNED: &str = "unsigned";
/// Bytes of an Ed25519 signature: RFC 8032 §5.1.6.
pub const SIGNATURE_BYTES: usize = 64;

/// What an image is signed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To take the place of an older one.
    Update,
    /// To take the place of a newer one, too.
    Downgrade,
}

impl Purpose {
    const ALL: [Self; 2] = [Self::Update, Self::Downgrade];

    /// Its word, before the signature and in what is signed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Downgrade => "downgrade",
        }
    }
}

/// A signature, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// What for.
    pub purpose: Purpose,
    /// Ed25519's.
    pub bytes: [u8; SIGNATURE_BYTES],
}

impl Signature {
    /// The third line, without its end.
    pub fn line(&self) -> String {
        let digits: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} {digits}", self.purpose.word())
    }

    /// What a third line says.
    fn of(line: &[u8]) -> Option<Self> {
        let (word, digits) = core::str::from_utf8(line).ok()?.split_once(' ')?;
        let purpose = Purpose::ALL.into_iter().find(|purpose| purpose.word() == word)?;
        let bytes = from_digits(digits)?;
        Some(Self { purpose, bytes })
    }
}

/// Hexadecimal digits as so many bytes.
pub fn from_digits<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let pairs: &[[u8; 2]; BYTES] = pairs.try_into().ok()?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut bytes = [0; BYTES];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(bytes)
}

/// A piece of the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Piece {
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// What the second line says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Said {
    /// Which machines it is for.
    pub model: String,
    /// Seconds since 1970 of the commit that it was made of, larger than that of any older one.
    pub number: u64,
    /// The kernel.
    pub kernel: Piece,
    /// What it unpacks into memory.
    pub initramfs: Piece,
}

/// What a head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head, behind which the kernel begins.
    pub length: u64,
    /// Its first two lines, which are signed.
    pub lines: Vec<u8>,
    /// What is said of the rest.
    pub said: Said,
    /// The signature; none where nobody has signed it.
    pub signature: Option<Signature>,
}

impl Head {
    /// What is signed for a purpose.
    pub fn signed(&self, purpose: Purpose) -> Vec<u8> {
        [&self.lines, purpose.word().as_bytes(), b"\n"].concat()
    }

    /// Whether it is for machines of this model.
    ///
    /// # Errors
    /// Which it is for.
    pub fn is_for(&self, model: &str) -> Result<(), String> {
        if self.said.model == model {
            Ok(())
        } else {
            Err(format!("it is for {}, and this is {model}", self.said.model))
        }
    }

    /// Bytes of the whole file.
    pub fn bytes(&self) -> u64 {
        self.length + self.said.kernel.bytes + self.said.initramfs.bytes
    }
}

/// Reads the beginning of a file.
///
/// # Errors
/// Why it is nothing that a machine can be started with.
pub fn head(bytes: &[u8]) -> Result<Head, String> {
    let bytes = bytes.get(..HEAD_MOST).unwrap_or(bytes);
    let Some(rest) = bytes.strip_prefix(MAGIC.as_bytes()) else {
        return Err("it is no update of a version that is known here".to_owned());
    };
    let mut lines = rest.splitn(3, |byte| *byte == b'\n');
    let (Some(first), Some(third), Some(behind)) = (lines.next(), lines.next(), lines.next()) else {
        return Err("it ends before its contents begin".to_owned());
    };
    let said: Said = core::str::from_utf8(first)
        .ok()
        .and_then(|text| miniserde::json::from_str(text).ok())
        .ok_or("what it says of itself cannot be read")?;
    for piece in [&said.kernel, &said.initramfs] {
        let digest = piece.sha256.len() == 64 && piece.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !digest || piece.bytes == 0 || piece.bytes > PIECE_MOST {
            return Err("what it says of its contents cannot be".to_owned());
        }
    }
    let signature = match third {
        line if line == UNSIGNED.as_bytes() => None,
        line => Some(Signature::of(line).ok_or("its third line is no signature of a kind that is known here")?),
    };
    let lines = [MAGIC.as_bytes(), first, b"\n"].concat();
    Ok(Head { length: (bytes.len() - behind.len()) as u64, lines, said, signature })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(model: &str, number: &str, bytes: u64) -> String {
        let piece = format!("{{\"bytes\": {bytes}, \"sha256\": \"{}\"}}", "0f".repeat(32));
        format!(
            "{{\"model\": \"{model}\", \"number\": {number}, \"kernel\": {piece}, \"initramfs\": {piece}, \"new\": 1}}"
        )
    }

    #[test]
    fn a_head_is_read_up_to_where_the_kernel_begins() {
        let file = format!("{MAGIC}{}\nunsigned\nkernel\n\n", text("pi3", "1764000000", 8));
        let head = head(file.as_bytes()).expect("a head");
        assert_eq!(&file[head.length as usize..], "kernel\n\n");
        assert_eq!((head.said.number, head.said.kernel.bytes), (1_764_000_000, 8));
        assert_eq!((head.bytes(), head.signature), (head.length + 16, None));
        assert_eq!((head.is_for("pi3"), MAGIC.len()), (Ok(()), TAKEN.len()));
    }

    #[test]
    fn what_is_signed_is_the_first_two_lines_and_what_for() {
        let said = text("pi3", "1", 8);
        for purpose in Purpose::ALL {
            let signature = Signature { purpose, bytes: [0xa5; SIGNATURE_BYTES] };
            let head = head(format!("{MAGIC}{said}\n{}\nk", signature.line()).as_bytes()).expect("a head");
            assert_eq!(head.signature, Some(signature));
            assert_eq!(head.signed(purpose), format!("{MAGIC}{said}\n{}\n", purpose.word()).into_bytes());
        }
    }

    #[test]
    fn what_is_for_others_or_cannot_be_is_not_taken() {
        let whole = |said: &str| format!("{MAGIC}{said}\nunsigned\nk");
        let long = whole(&format!("{}{}", text("pi3", "1", 8), " ".repeat(HEAD_MOST)));
        for (file, why) in [
            (whole(&text("pi3", "\"x\"", 8)), "cannot be read"),
            (whole(&text("pi3", "1", 0)), "cannot be"),
            (whole(&text("pi3", "1", PIECE_MOST + 1)), "cannot be"),
            (whole(&text("pi3", "1", 8).replace("0f", "0")), "cannot be"),
            (whole(&text("pi3", "1", 8)).replace(MAGIC, TAKEN), "no update"),
            (whole(&text("pi3", "1", 8)).replace("update 1", "update 2"), "no update"),
            (format!("{MAGIC}{}\nunsigned", text("pi3", "1", 8)), "ends before"),
            (whole(&text("pi3", "1", 8)).replace("unsigned", "update 0f"), "no signature"),
            (whole(&text("pi3", "1", 8)).replace("unsigned", &format!("later {}", "0f".repeat(64))), "no signature"),
            (long, "ends before"),
            (String::new(), "no update"),
        ] {
            let told = head(file.as_bytes()).expect_err(why);
            assert!(told.contains(why), "{told}: {why}");
        }
        let other = head(whole(&text("pi0", "1", 8)).as_bytes()).expect("a head");
        assert_eq!(other.is_for("pi3"), Err("it is for pi0, and this is pi3".to_owned()));
    }
}
