//! Text of `HTTPS_PROXY` and `NO_PROXY` → the way to a master: straight, or by a tunnel through an HTTP proxy
//! (CONNECT, RFC 9110 §9.3.6).

use data_encoding::BASE64;
use smol::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use std::env;
use std::fmt;
use std::io;
use std::net::IpAddr;

/// The port of a proxy that names none: the one curl takes.
const PORT: u16 = 1080;
/// Bytes of a proxy's answer that are read: status line and headers.
const ANSWER_BYTES: usize = 8 << 10;
/// Characters of a proxy's status line that are quoted.
const QUOTE: usize = 100;

/// An HTTP proxy. What it wants to know of its user is a secret: neither `Debug` nor `Display` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// DNS name or IP address, an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `USER:PASSWORD` as it was given.
    credentials: Option<String>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = if self.credentials.is_some() { "***@" } else { "" };
        match self.host.contains(':') {
            true => write!(out, "http://{secret}[{}]:{}", self.host, self.port),
            false => write!(out, "http://{secret}{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Proxy {
    /// Reads `http://[USER:PASSWORD@]HOST[:PORT][/]`, or the same without `http://`.
    ///
    /// # Errors
    /// What was expected, without a word of the text: it may hold a secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || "expected a proxy as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT".to_owned();
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(format!("{}; no other kind of proxy is understood", expected())),
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, place) = match rest.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials.to_owned()), place),
            None => (None, rest),
        };
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, after)) => (host, Some(after.strip_prefix(':').ok_or_else(expected)?)),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| expected()))?;
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        let secret_fits = credentials.as_deref().is_none_or(|text| decoded(text).is_some());
        if host.is_empty() || host.starts_with('-') || !host.bytes().all(fine) || port == 0 || !secret_fits {
            return Err(expected());
        }
        Ok(Self { host: host.to_owned(), port, credentials })
    }

    /// The text that [`Proxy::parse`] reads as this, with its secret: for a file that only its user can read.
    #[must_use]
    pub fn text(&self) -> String {
        let credentials = self.credentials.as_ref().map(|text| format!("{text}@")).unwrap_or_default();
        Self { credentials: None, ..self.clone() }.to_string().replacen("http://", &format!("http://{credentials}"), 1)
    }

    /// Asks for a tunnel to this host and port.
    ///
    /// # Errors
    /// In one line: what the proxy says instead, or that it says nothing of the kind.
    pub async fn tunnel<S>(&self, mut stream: S, host: &str, port: u16) -> Result<S, String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n");
        if let Some(secret) = self.credentials.as_deref().and_then(decoded) {
            request.push_str(&format!("Proxy-Authorization: Basic {}\r\n", BASE64.encode(&secret)));
        }
        request.push_str("\r\n");
        let trouble = |error: io::Error| format!("the proxy {self} broke off: {error}");
        stream.write_all(request.as_bytes()).await.map_err(trouble)?;
        let mut answer = Vec::new();
        // The master says nothing before it is greeted, so that nothing of its own can be in what is read here.
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut piece = [0; 512];
            let count = stream.read(&mut piece).await.map_err(trouble)?;
            answer.extend_from_slice(piece.get(..count).unwrap_or_default());
            if count == 0 || answer.len() > ANSWER_BYTES {
                return Err(format!("the proxy {self} answers with something else than HTTP"));
            }
        }
        let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line: String =
            String::from_utf8_lossy(line).chars().filter(|letter| !letter.is_control()).take(QUOTE).collect();
        let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
        match status {
            Some(status) if status.len() == 3 && status.starts_with('2') => Ok(stream),
            Some("407") => Err(format!(
                "the proxy {self} wants to know who asks ({line}): http://USER:PASSWORD@{}:{} says it",
                self.host, self.port
            )),
            _ => Err(format!("the proxy {self} lets nobody through to {place}: {line}")),
        }
    }
}

/// What `%40` and its like stand for in a name or password (RFC 3986 §2.1).
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            byte if byte.is_ascii_control() => return None,
            byte => byte,
        });
    }
    Some(out)
}

/// Which proxy is taken to which host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// The proxy, if any.
    pub proxy: Option<Proxy>,
    /// Hosts that are reached without it: names with all below them, addresses, networks as 10.0.0.0/8, or `*`.
    pub direct: Vec<String>,
}

impl Proxies {
    /// What the environment says: `https_proxy` or `HTTPS_PROXY`, and `no_proxy` or `NO_PROXY`.
    ///
    /// # Errors
    /// Which variable is not understood, without its text.
    pub fn of_environment() -> Result<Self, String> {
        let read = |names: [&str; 2]| names.into_iter().find_map(|name| Some((name.to_owned(), env::var(name).ok()?)));
        let proxy = match read(["https_proxy", "HTTPS_PROXY"]) {
            Some((_, text)) if text.trim().is_empty() => None,
            Some((name, text)) => Some(Proxy::parse(text.trim()).map_err(|why| format!("{name}: {why}"))?),
            None => None,
        };
        let direct = read(["no_proxy", "NO_PROXY"]).map(|(_, text)| list(&text)).unwrap_or_default();
        Ok(Self { proxy, direct })
    }

    /// The proxy on the way to a host; none where it is reached without one.
    #[must_use]
    pub fn to(&self, host: &str, port: u16) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|_| !self.direct.iter().any(|entry| matches(entry, host, port)))
    }
}

/// The entries of a list that commas or blanks divide.
#[must_use]
pub fn list(text: &str) -> Vec<String> {
    text.split([',', ' ', '\t']).filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
}

fn matches(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    if let Ok(address) = host.parse::<IpAddr>() {
        return match entry.split_once('/') {
            Some((network, bits)) => {
                bare(network).zip(bits.parse().ok()).is_some_and(|(network, bits)| within(network, bits, address))
            }
            None => {
                bare(entry) == Some(address) || entry == format!("{host}:{port}") || entry == format!("[{host}]:{port}")
            }
        };
    }
    let name = match entry.rsplit_once(':') {
        Some((name, digits)) if digits.parse() == Ok(port) => name,
        Some(_) => return false,
        None => entry,
    };
    let (name, host) = (name.trim_start_matches(['*', '.']).to_ascii_lowercase(), host.to_ascii_lowercase());
    !name.is_empty() && host.strip_suffix(&name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// Whether an address is in a network.
fn within(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    let (network, address, all) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => (network.to_bits().into(), address.to_bits().into(), 32),
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    let rest = |bits_of: u128| bits_of.checked_shr(all - bits.min(all)).unwrap_or(0);
    bits <= all && rest(network) == rest(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_kept_and_never_shown() {
        let proxy = Proxy::parse("http://ann:s3%40cret@proxy.example.org:3128/").expect("a proxy");
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.example.org", 3128));
        assert_eq!(format!("{proxy} {proxy:?}").matches("***@").count(), 2);
        assert!(!format!("{proxy} {proxy:?}").contains("cret"));
        assert_eq!(proxy.text(), "http://ann:s3%40cret@proxy.example.org:3128");
        assert_eq!(Proxy::parse(&proxy.text()), Ok(proxy));
        assert_eq!(decoded("ann:s3%40cret").expect("text"), b"ann:s3@cret");
        for (text, host, port) in [
            ("proxy", "proxy", 1080),
            ("HTTP://10.0.0.1:8080", "10.0.0.1", 8080),
            ("http://[2001:db8::1]:1", "2001:db8::1", 1),
        ] {
            let proxy = Proxy::parse(text).expect(text);
            assert_eq!((proxy.host.as_str(), proxy.port), (host, port));
            assert_eq!(Proxy::parse(&proxy.text()), Ok(proxy));
        }
        for wrong in [
            "",
            "socks5://s3cret",
            "http://",
            "http://a:b",
            "http://s3cret@",
            "a b",
            "http://s3cret%zz@a",
            "http://a:0",
            "-x",
        ] {
            let why = Proxy::parse(wrong).expect_err(wrong);
            assert!(!why.contains("s3cret"), "{why}");
        }
    }

    #[test]
    fn some_hosts_are_reached_without_it() {
        let direct = list("example.org, .corp 10.0.0.0/8,192.0.2.7,2001:db8::/32,ci.net:4433");
        let proxies = Proxies { proxy: Proxy::parse("proxy").ok(), direct };
        for (host, port) in [
            ("example.org", 1),
            ("CI.Example.ORG", 1),
            ("a.corp", 1),
            ("10.255.0.1", 1),
            ("192.0.2.7", 1),
            ("2001:db8:1::1", 1),
            ("ci.net", 4433),
        ] {
            assert_eq!(proxies.to(host, port), None, "{host}");
        }
        for (host, port) in
            [("anexample.org", 1), ("11.0.0.1", 1), ("192.0.2.70", 1), ("2001:db9::1", 1), ("ci.net", 1)]
        {
            assert!(proxies.to(host, port).is_some(), "{host}");
        }
        let all = Proxies { direct: vec!["*".to_owned()], ..proxies };
        assert_eq!(all.to("anywhere", 1), None);
        assert!(!within(IpAddr::from([10, 0, 0, 0]), 33, IpAddr::from([10, 0, 0, 0])));
        assert!(within(IpAddr::from([10, 0, 0, 0]), 0, IpAddr::from([11, 0, 0, 0])));
    }
}
