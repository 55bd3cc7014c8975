//! The head of a file `sai-MODEL.update` → which system is in it, for which machines, and how what is read of it is known to be whole.
//!
//! A line says what it is and in which format, one has JSON, one the signature of that line, and then come the kernel and what it
//! unpacks into memory. So whoever believes the second line believes the rest by its digests.

use miniserde::Deserialize;

/// What the file begins with.
pub const MAGIC: &str = "sai-update 1\n";
/// What it begins with after it was taken: as long, so that it goes into the same sector.
pub const TAKEN: &str = "sai-taken  1\n";
/// Bytes of a head at most.
pub const HEAD_MOST: usize = 4096;
/// Bytes of a piece at most: twice what an image may have.
const PIECE_MOST: u64 = 128 << 20;

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
    /// What is said of the rest.
    pub said: Said,
}

/// Reads the beginning of a file, for a machine of this model.
///
/// # Errors
/// Why it is nothing that this machine can be started with.
pub fn head(bytes: &[u8], model: &str) -> Result<Head, String> {
    let bytes = bytes.get(..HEAD_MOST).unwrap_or(bytes);
    let Some(rest) = bytes.strip_prefix(MAGIC.as_bytes()) else {
        return Err("it is no update of a version that is known here".to_owned());
    };
    let mut lines = rest.splitn(3, |byte| *byte == b'\n');
    let (Some(said), Some(_signature), Some(behind)) = (lines.next(), lines.next(), lines.next()) else {
        return Err("it ends before its contents begin".to_owned());
    };
    let said: Said = std::str::from_utf8(said)
        .ok()
        .and_then(|text| miniserde::json::from_str(text).ok())
        .ok_or("what it says of itself cannot be read")?;
    if said.model != model {
        return Err(format!("it is for {}, and this is {model}", said.model));
    }
    for piece in [&said.kernel, &said.initramfs] {
        let digest = piece.sha256.len() == 64 && piece.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !digest || piece.bytes == 0 || piece.bytes > PIECE_MOST {
            return Err("what it says of its contents cannot be".to_owned());
        }
    }
    Ok(Head { length: (bytes.len() - behind.len()) as u64, said })
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
        let head = head(file.as_bytes(), "pi3").expect("a head");
        assert_eq!(&file[head.length as usize..], "kernel\n\n");
        assert_eq!((head.said.number, head.said.kernel.bytes), (1_764_000_000, 8));
        assert_eq!(MAGIC.len(), TAKEN.len());
    }

    #[test]
    fn what_is_for_others_or_cannot_be_is_not_taken() {
        let whole = |said: &str| format!("{MAGIC}{said}\nunsigned\nk");
        let long = whole(&format!("{}{}", text("pi3", "1", 8), " ".repeat(HEAD_MOST)));
        for (file, why) in [
            (whole(&text("pi0", "1", 8)), "it is for pi0, and this is pi3"),
            (whole(&text("pi3", "\"x\"", 8)), "cannot be read"),
            (whole(&text("pi3", "1", 0)), "cannot be"),
            (whole(&text("pi3", "1", PIECE_MOST + 1)), "cannot be"),
            (whole(&text("pi3", "1", 8).replace("0f", "0")), "cannot be"),
            (whole(&text("pi3", "1", 8)).replace(MAGIC, TAKEN), "no update"),
            (whole(&text("pi3", "1", 8)).replace("update 1", "update 2"), "no update"),
            (format!("{MAGIC}{}\nunsigned", text("pi3", "1", 8)), "ends before"),
            (long, "ends before"),
            (String::new(), "no update"),
        ] {
            let told = head(file.as_bytes(), "pi3").expect_err(why);
            assert!(told.contains(why), "{told}: {why}");
        }
    }
}
