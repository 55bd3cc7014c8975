//! One line of a public SSH key, as `ssh-keygen` writes it → a key that is whole, of a kind that the image's server knows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::str::FromStr;

/// Kinds of keys that may stand there. Debian's dropbear 2022.83 knows others, which nobody who has none of these should begin with.
const KINDS: [&str; 3] = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"];
/// Bytes of a line at most. dropbear passes over lines of more than 4200 bytes without a word; a key of RSA with 16384 bits has 2800.
const LINE_MOST: usize = 4096;
/// Bytes of a point of Ed25519: RFC 8709.
const EDWARDS_POINT: usize = 32;
/// Bytes of a point of NIST P-256 that is not compressed, which begins with 4: RFC 5656 and SEC 1.
const NIST_POINT: usize = 65;
/// Bytes of a modulus of RSA at least: 2048 bits, which is the least that NIST SP 800-131A still has for signatures.
const MODULUS_LEAST: usize = 256;

/// A public key, without the comment behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    kind: &'static str,
    base64: String,
}

impl fmt::Display for PublicKey {
    /// As a line of `authorized_keys`, which grants what is there by default and nothing else.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.kind, self.base64)
    }
}

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        // A second line would be a second key, that nobody has looked at.
        if line.len() > LINE_MOST || line.chars().any(char::is_control) {
            return Err(format!("one line of at most {LINE_MOST} bytes, without control characters"));
        }
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let first = words.next().unwrap_or_default();
        // What stands before the kind would be options, which may run other programs.
        let kind = KINDS.into_iter().find(|kind| *kind == first);
        let kind = kind.ok_or_else(|| format!("a public SSH key, that begins with one of {}", KINDS.join(", ")))?;
        let base64 = words.next().unwrap_or_default();
        let bytes = STANDARD.decode(base64).unwrap_or_default();
        if is_whole(kind, &bytes) {
            return Ok(Self { kind, base64: base64.to_owned() });
        }
        Err(match kind {
            "ssh-rsa" => format!("a whole key, of {} bits at least, as ssh-keygen writes it", MODULUS_LEAST * 8),
            _ => "a whole key, as ssh-keygen writes it".to_owned(),
        })
    }
}

/// Whether these are the fields of a key of this kind, and nothing behind them: a line that was copied in part may decode, too.
fn is_whole(kind: &str, bytes: &[u8]) -> bool {
    let fields = fields(bytes).unwrap_or_default();
    let Some((name, numbers)) = fields.split_first() else { return false };
    *name == kind.as_bytes()
        && match (kind, numbers) {
            ("ssh-ed25519", [point]) => point.len() == EDWARDS_POINT,
            ("ecdsa-sha2-nistp256", [curve, point]) => {
                *curve == b"nistp256" && point.len() == NIST_POINT && point.first() == Some(&4)
            }
            ("ssh-rsa", [exponent, modulus]) => {
                let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
                !exponent.is_empty() && modulus.len() - zeros >= MODULUS_LEAST
            }
            _ => false,
        }
}

/// Fields of bytes, each behind its length: RFC 4251, section 5.
fn fields(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let (field, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        fields.push(field);
        bytes = rest;
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys whose private halves were thrown away.
    const KEYS: [&str; 3] = [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOd7E2jHbvaZX8BgMUMwkvNzpewTB0AvTjZFwPryjPiq",
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHgw9lN4gkMpTmhD+uxagUtOH3Ba\
         HS0c8KLzhSn4BlrAlZ9BdK393EXrE4UxjsoUZOrcyYO/mFm7efiPmTbDRgs=",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDCu6QpUfd3lsrL3/jwmOdW14hGMv9vpLjFKsANJrCSenaf2Rf9bJkwUZlp0Fj2\
         bdWodIKMD3P3zznhQ/qkcVkUvCSal4FWe37umHa0AJ35K/101iwvOvNF+jwsMxurC4KvBWX2OR+IjGTx4pInm8NAssbdmaAwERbh\
         aZRPN2besSk8iv3Z2hzRQOHoWcuOZxK5+qr0YZt02PBGiH/Aa764KKK1AaGhObqexITzz5/Rz60u5twBmvRzjU8NqPrhzsYuw4VL\
         J0TSwYaPbYawTMAGE0RWOuFS5ee/6PntEFjfNnfmCstrHDAUmkvzg/Ev6z2bJHQFsoNzWny8r8fdbdQn",
    ];

    fn read(line: &str) -> Result<String, String> {
        line.parse().map(|key: PublicKey| key.to_string())
    }

    /// A line of any fields.
    fn line(kind: &str, fields: &[&[u8]]) -> String {
        let lengths = fields.iter().map(|field| u32::try_from(field.len()).expect("a short field").to_be_bytes());
        let bytes: Vec<u8> = lengths.zip(fields).flat_map(|(length, field)| [&length[..], *field].concat()).collect();
        format!("{kind} {}", STANDARD.encode(bytes))
    }

    #[test]
    fn keys_as_ssh_keygen_writes_them_are_read_and_lose_their_comments() {
        for key in KEYS {
            assert_eq!(read(key).as_deref(), Ok(key));
            assert_eq!(read(&format!(" {key}  somebody's laptop, ä ")).as_deref(), Ok(key));
        }
    }

    #[test]
    fn what_is_no_whole_key_is_refused() {
        let key = KEYS[0];
        for (wrong, expected) in [
            (String::new(), "begins with one of"),
            ("ssh-ed25519".to_owned(), "a whole key"),
            (key.replace("ssh-ed25519 ", ""), "begins with one of"),
            (format!("command=\"/bin/sh\" {key}"), "begins with one of"),
            (format!("no-pty {key}"), "begins with one of"),
            (format!("# {key}"), "begins with one of"),
            (key.replace("ssh-ed25519", "ssh-dss"), "begins with one of"),
            (key.replace("ssh-ed25519", "ssh-rsa"), "of 2048 bits"),
            (key.replace("ssh-ed25519", "SSH-ED25519"), "begins with one of"),
            (format!("{key}\n"), "one line"),
            (format!("{key}\n{key}"), "one line"),
            (key.replace(' ', "\t"), "one line"),
            (format!("{key} \u{7f}"), "one line"),
            (format!("{key} {}", "x".repeat(LINE_MOST)), "one line"),
            (key[..key.len() - 4].to_owned(), "a whole key"),
            (format!("{key}AAAA"), "a whole key"),
            (format!("{key}="), "a whole key"),
            (key.replace("AAAA", "AA*A"), "a whole key"),
            (line("ssh-ed25519", &[b"ssh-ed25519", &[7; 31]]), "a whole key"),
            (line("ssh-ed25519", &[b"ssh-ed25519", &[7; 32], b""]), "a whole key"),
            (line("ssh-ed25519", &[b"ssh-rsa", &[7; 32]]), "a whole key"),
            (line("ecdsa-sha2-nistp256", &[b"ecdsa-sha2-nistp256", b"nistp384", &[4; 65]]), "a whole key"),
            (line("ecdsa-sha2-nistp256", &[b"ecdsa-sha2-nistp256", b"nistp256", &[2; 65]]), "a whole key"),
            (line("ssh-rsa", &[b"ssh-rsa", &[3], &[0; 300]]), "of 2048 bits"),
            (line("ssh-rsa", &[b"ssh-rsa", &[3], &[[0; 1].as_slice(), &[200; 255]].concat()]), "of 2048 bits"),
            (line("ssh-rsa", &[b"ssh-rsa", &[], &[200; 256]]), "of 2048 bits"),
        ] {
            let error = read(&wrong).expect_err(&wrong);
            assert!(error.contains(expected), "{wrong}: {error}");
        }
        assert!(read(&line("ssh-rsa", &[b"ssh-rsa", &[3], &[200; 256]])).is_ok());
    }
}
