//! Join line ↔ what a new agent must know: where its master is, its token, and which certificate to believe.
//!
//! `sai1:HOST:PORT:NAME:TOKEN:FINGERPRINT` is one word of letters, digits and `. _ ~ - : , /`, so that no shell, mail program
//! or chat changes it, and it is read from its right end because an IPv6 address has colons of its own. The first field
//! is the version of the form. PORT has a path such as `/sai` behind it where the master is below one. HOST may be several,
//! separated by commas: a machine's own addresses, of which a new agent may be able to reach only some.
//!
//! TOKEN may end with `_u` and 64 hexadecimal digits: the public half of the key by which the master signs images for cards. To whoever
//! does not know that it is a part of the token, so that lines, programs and masters of older versions go on as ever.

use crate::update::from_digits;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

/// What a join line begins with.
const VERSION: &str = "sai1";
/// What stands for the fingerprint when the master has a certificate that the system's authorities vouch for.
const SYSTEM: &str = "system";
/// Bytes of a host name at most: RFC 1035 §2.3.4.
const HOST_MOST: usize = 253;
/// Bytes at most of the path that is before all others of a master: it stands before every address of every page.
const PATH_MOST: usize = 128;
/// Hosts of one line at most: a machine with more addresses has them for its containers, and a line is to be pasted.
pub const HOSTS_MOST: usize = 8;
/// Bytes of an agent's name at most: it is a column of a table on the page.
const NAME_MOST: usize = 64;
/// Characters of a token at least: below, it could be guessed.
const TOKEN_LEAST: usize = 16;
/// Characters of a token at most: it travels in one header line.
const TOKEN_MOST: usize = 256;
/// What stands in a token before the public half of the master's update key.
const UPDATE_KEY: &str = "_u";
/// Bytes of such a half: RFC 8032 §5.1.5.
pub const UPDATE_KEY_BYTES: usize = 32;
/// The port of `wss://` where none is given: RFC 6455 §3.
const PORT: u16 = 443;

/// Where a master listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// DNS name or IP address, an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What is before all paths there, such as `/sai`; empty where nothing is.
    pub path: String,
}

impl Address {
    /// A host that is nothing but a master.
    #[must_use]
    pub fn new(host: String, port: u16) -> Self {
        Self { host, port, path: String::new() }
    }

    /// Host and port, as they stand in a `host` header.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Address {
    /// `wss://HOST:PORT/PATH`, the form that configurations hold.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "wss://{}{}", self.authority(), self.path)
    }
}

impl FromStr for Address {
    type Err = String;
    /// Reads `wss://HOST`, `wss://HOST:PORT`, each with or without a path, or the `https://` address of the master's page,
    /// which is the same place.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected wss://HOST:PORT, found {text:?}");
        let rest = text.strip_prefix("wss://").or_else(|| text.strip_prefix("https://")).ok_or_else(expected)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (rest, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        check_path(path)?;
        let (host, port) = match rest.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed.split_once(']').ok_or_else(expected)?;
                let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(expected)?) };
                (host, port)
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = match port {
            Some(digits) => read_port(digits)?,
            None => PORT,
        };
        check_host(host)?;
        Ok(Self { host: host.to_owned(), port, path: path.to_owned() })
    }
}

/// All that a new machine needs to join. Its `Display` is the join line, its `FromStr` reads one.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinLine {
    /// Where the master listens.
    pub address: Address,
    /// More hosts where the same master may be reached, with the same port, to be tried when the first is not.
    pub others: Vec<String>,
    /// The name the master gave this agent.
    pub name: String,
    /// The agent's secret: 16 to 256 letters, digits, `-` and `_`.
    pub token: String,
    /// SHA-256 of the master's certificate; none when the system's authorities vouch for it.
    pub fingerprint: Option<[u8; 32]>,
}

impl fmt::Debug for JoinLine {
    /// Without the token, which must not reach a journal.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "JoinLine({} as {})", self.address, self.name)
    }
}

impl fmt::Display for JoinLine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { host, port, path } = &self.address;
        write!(out, "{VERSION}:{host}")?;
        self.others.iter().try_for_each(|other| write!(out, ",{other}"))?;
        write!(out, ":{port}{path}:{}:{}:", self.name, self.token)?;
        match &self.fingerprint {
            Some(bytes) => bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}")),
            None => out.write_str(SYSTEM),
        }
    }
}

impl JoinLine {
    /// Checks the parts, so that what is printed can be read again.
    ///
    /// # Errors
    /// Which part cannot stand in a join line, and what it should be.
    pub fn new(address: Address, name: &str, token: &str, fingerprint: Option<[u8; 32]>) -> Result<Self, String> {
        check_host(&address.host)?;
        check_path(&address.path)?;
        check_agent_name(name)?;
        check_token(token)?;
        Ok(Self { address, others: Vec::new(), name: name.to_owned(), token: token.to_owned(), fingerprint })
    }

    /// The same line with more hosts of the same master.
    ///
    /// # Errors
    /// Which of them is none, or that they are too many.
    pub fn with_others(mut self, others: &[&str]) -> Result<Self, String> {
        if others.len() >= HOSTS_MOST {
            return Err(format!("expected at most {HOSTS_MOST} hosts, found {}", others.len() + 1));
        }
        for other in others {
            check_host(other)?;
            self.others.push((*other).to_owned());
        }
        Ok(self)
    }
}

impl FromStr for JoinLine {
    type Err = String;
    /// Reads a line as it was pasted: quotes around it, and blanks and line breaks anywhere in it, mean nothing.
    fn from_str(pasted: &str) -> Result<Self, String> {
        let mut line = String::new();
        for letter in pasted.chars().filter(|letter| !letter.is_whitespace() && !"'\"`".contains(*letter)) {
            line.push(letter);
        }
        let whole = "paste the whole line that `sai-master agent add` printed";
        let Some((version, rest)) = line.split_once(':') else {
            return Err(format!("this is no join line; {whole}"));
        };
        if version != VERSION {
            let newer = version.strip_prefix("sai").is_some_and(|number| number.parse::<u32>().is_ok());
            return Err(if newer {
                format!("this join line is of form {version}, this program reads {VERSION}: update it")
            } else {
                format!("a join line begins with {VERSION}: ; {whole}")
            });
        }
        let mut fields = rest.rsplitn(5, ':');
        let (Some(fingerprint), Some(token), Some(name), Some(port), Some(host)) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(format!("the join line is cut short; {whole}"));
        };
        let fingerprint = if fingerprint == SYSTEM {
            None
        } else {
            Some(from_digits(fingerprint).ok_or_else(|| {
                format!(
                    "the join line ends in {} characters that are no fingerprint of 64 hexadecimal digits; {whole}",
                    fingerprint.chars().count()
                )
            })?)
        };
        let mut hosts = host.split(',');
        let first = hosts.next().unwrap_or_default();
        let others: Vec<&str> = hosts.collect();
        let (port, path) = port.split_at(port.find('/').unwrap_or(port.len()));
        let address = Address { host: first.to_owned(), port: read_port(port)?, path: path.to_owned() };
        Self::new(address, name, token, fingerprint)?.with_others(&others)
    }
}

fn read_port(digits: &str) -> Result<u16, String> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(port) if plain && port != 0 => Ok(port),
        _ => Err(format!("expected a port from 1 to 65535, found {digits:?}")),
    }
}

/// A token with the public half of an update key.
pub fn with_update_key(token: &str, key: &[u8; UPDATE_KEY_BYTES]) -> String {
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{token}{UPDATE_KEY}{digits}")
}

/// The public half of the update key that came with a token.
pub fn update_key(token: &str) -> Option<[u8; UPDATE_KEY_BYTES]> {
    token.rsplit_once(UPDATE_KEY).and_then(|(_, digits)| from_digits(digits))
}

/// Checks the name or address of a host.
///
/// # Errors
/// What was expected.
pub fn check_host(host: &str) -> Result<(), String> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    // A name that begins with a dash would be an option to whatever program it is handed to.
    if host.is_empty() || host.len() > HOST_MOST || host.starts_with('-') || !host.bytes().all(fine) {
        return Err(format!("expected a host name or address, found {host:?}"));
    }
    Ok(())
}

/// Checks what is before all paths of a master: nothing, or parts of letters, digits, `.`, `_`, `~` and `-` that each have a
/// slash before them and are more than dots.
///
/// # Errors
/// What was expected.
pub fn check_path(path: &str) -> Result<(), String> {
    let fine = |part: &str| {
        let plain = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-'));
        plain && part.bytes().any(|byte| byte != b'.')
    };
    let good = path.is_empty() || path.strip_prefix('/').is_some_and(|parts| parts.split('/').all(fine));
    if !good || path.len() > PATH_MOST {
        return Err(format!("expected a path as /sai, found {path:?}"));
    }
    Ok(())
}

/// Checks a name for an agent: 1 to 64 letters, digits, `.`, `_` and `-`, the first a letter or digit.
///
/// # Errors
/// What was expected.
pub fn check_agent_name(name: &str) -> Result<(), String> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !first || name.len() > NAME_MOST || !name.bytes().all(fine) {
        let most = NAME_MOST.to_string();
        return Err(format!(
            "expected a name of 1 to {most} letters, digits, dots, dashes and underscores that begins with a letter or \
             digit, found {name:?}"
        ));
    }
    Ok(())
}

/// Checks a token's form: 16 to 256 letters, digits, `-` and `_`. Its text is never part of the error.
///
/// # Errors
/// What was expected.
pub fn check_token(token: &str) -> Result<(), String> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !(TOKEN_LEAST..=TOKEN_MOST).contains(&token.len()) || !token.bytes().all(fine) {
        return Err(format!(
            "expected a token of {TOKEN_LEAST} to {TOKEN_MOST} letters, digits, dashes and underscores"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(host: &str, fingerprint: Option<[u8; 32]>) -> JoinLine {
        let address = Address::new(host.to_owned(), 4433);
        JoinLine::new(address, "shed-2", "0123456789abcdef_-ABCDEF", fingerprint).expect("a line")
    }

    #[test]
    fn a_token_may_bring_an_update_key() {
        let token = with_update_key("0123456789abcdef_-ABCDEF", &[0xb7; UPDATE_KEY_BYTES]);
        assert_eq!((check_token(&token), update_key(&token)), (Ok(()), Some([0xb7; UPDATE_KEY_BYTES])));
        let line = JoinLine::new(Address::new("ci".to_owned(), 4433), "shed", &token, None).expect("a line");
        let again: JoinLine = line.to_string().parse().expect("the line");
        assert_eq!(update_key(&again.token), Some([0xb7; UPDATE_KEY_BYTES]));
        for none in
            ["0123456789abcdef0123", "0123456789abcdef_u", &token[..token.len() - 1], &token.replace("b7", "bx")]
        {
            assert_eq!(update_key(none), None, "{none}");
        }
    }

    #[test]
    fn every_line_reads_back_as_it_was_printed() {
        for host in ["ci.example.org", "192.0.2.7", "2001:db8::7", "::1", "localhost"] {
            for fingerprint in [None, Some([0xa5; 32])] {
                let line = sample(host, fingerprint);
                assert_eq!(line.to_string().parse::<JoinLine>(), Ok(line));
            }
        }
    }

    #[test]
    fn a_line_may_name_several_hosts() {
        let others = ["192.0.2.7", "2001:db8::7", "shed.local"];
        for fingerprint in [None, Some([0xa5; 32])] {
            let line = sample("ci", fingerprint).with_others(&others).expect("a line");
            let text = line.to_string();
            assert!(text.starts_with("sai1:ci,192.0.2.7,2001:db8::7,shed.local:4433:shed-2:"), "{text}");
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":._-,".contains(&byte)), "{text}");
            assert_eq!(text.parse::<JoinLine>(), Ok(line));
        }
        let token = "0123456789abcdef";
        for hosts in ["a,", ",a", "a,,b", "a,-oProxy", "a,b/c", "a,b,c,d,e,f,g,h,i"] {
            let error = format!("sai1:{hosts}:4433:a:{token}:system").parse::<JoinLine>().expect_err(hosts);
            assert!(error.contains("host") && !error.contains(token), "{error}");
        }
    }

    #[test]
    fn a_line_may_name_a_master_below_a_path() {
        let address = "https://ci.example.org/sai/".parse::<Address>().expect("an address");
        assert_eq!((address.port, address.path.as_str()), (443, "/sai"));
        let line = JoinLine::new(address, "shed", "0123456789abcdef", None).expect("a line");
        assert_eq!(line.to_string(), "sai1:ci.example.org:443/sai:shed:0123456789abcdef:system");
        assert_eq!(line.to_string().parse::<JoinLine>(), Ok(line));
        for path in ["/", "//a", "/a/", "/..", "/a;b", "/a b/$c"] {
            let text = format!("sai1:host:443{path}:shed:0123456789abcdef:system");
            assert!(text.parse::<JoinLine>().expect_err(path).contains("path"), "{path}");
        }
    }

    #[test]
    fn a_shell_sees_one_plain_word() {
        let text = sample("2001:db8::7", Some([0x0f; 32])).to_string();
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":._-".contains(&byte)), "{text}");
    }

    #[test]
    fn what_a_paste_adds_means_nothing() {
        let line = sample("ci.example.org", Some([7; 32]));
        let text = line.to_string();
        let (front, back) = text.split_at(60);
        for pasted in [
            format!("  {text}\r\n"),
            format!("'{text}'"),
            format!("\"{text}\""),
            format!("`{text}`"),
            format!("{front}\n    {back}"),
        ] {
            assert_eq!(pasted.parse::<JoinLine>(), Ok(line.clone()), "{pasted:?}");
        }
    }

    #[test]
    fn a_line_cut_anywhere_is_refused_and_its_token_is_not_shown() {
        let line = sample("ci.example.org", Some([7; 32]));
        let text = line.to_string();
        for end in 0..text.len() {
            let error = text[..end].parse::<JoinLine>().expect_err("cut at the end");
            assert!(!error.contains("0123456789abcdef_-ABCDEF"), "{error}");
        }
        for start in 1..5 {
            text[start..].parse::<JoinLine>().expect_err("cut at the front");
        }
        assert!(!format!("{line:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn other_forms_say_what_to_do() {
        let error = |text: &str| text.parse::<JoinLine>().expect_err(text);
        assert!(error("sai2:whatever").contains("update"));
        assert!(error("hello").contains("paste the whole line"));
        assert!(error("http://x").contains("begins with sai1:"));
        assert!(error("sai1:-oProxy:1:a:0123456789abcdef:system").contains("host name"));
        assert!(error("sai1:host:0:a:0123456789abcdef:system").contains("port"));
        assert!(error("sai1:host:1:-a:0123456789abcdef:system").contains("name"));
        assert!(error("sai1:host:1:a:short:system").contains("token"));
    }

    #[test]
    fn addresses() {
        let read = |text: &str| text.parse::<Address>().map(|address| (address.host, address.port));
        let named = |host: &str, port| Ok((host.to_owned(), port));
        assert_eq!(read("wss://ci.example.org:4433"), named("ci.example.org", 4433));
        assert_eq!(read("https://ci.example.org/"), named("ci.example.org", 443));
        assert_eq!(read("wss://[2001:db8::7]:4433"), named("2001:db8::7", 4433));
        assert_eq!(read("wss://[::1]"), named("::1", 443));
        let wrong: Vec<&str> = [
            "ci.example.org:4433",
            "ws://a",
            "wss://",
            "wss://a:b",
            "wss://a:0",
            "wss://a:65536",
            "wss://a:+1",
            "wss://a//b",
            "wss://a/b//",
            "wss://a/..",
            "wss://a/b c",
            "wss://a/b?c",
            "wss://a/b:1",
            "wss://u@a",
            "wss://[::1",
            "wss://[::1]x",
            "wss://a b",
            "wss://-a",
        ]
        .to_vec();
        for text in wrong {
            assert!(read(text).is_err(), "{text}");
        }
        let long = "a".repeat(HOST_MOST + 1);
        assert!(read(&format!("wss://{long}")).is_err());
        for text in ["wss://ci.example.org:4433", "wss://[2001:db8::7]:4433", "wss://a:1/sai", "wss://[::1]:1/a/b-c_~d"]
        {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
    }
}
