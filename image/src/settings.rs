//! Text of `sai.json` on a card → what its owner wants of this machine, or all that is wrong with it, each by line and column.

use crate::keys::PublicKey;
use sai_core::join::{JoinLine, check_host};
use sai_core::limits::{PLATFORMS, SLOTS};
use sai_core::platform;
use sai_core::selftest::ends;
use sai_core::settings::{self, Reader, Section};
use std::net::{IpAddr, Ipv4Addr};

/// What stands where a secret was, with blanks to its length. No secret is as short.
pub const MOVED: &str = "moved";
/// What the file is called, on the boot partition and in messages.
pub const FILE: &str = "sai.json";

/// Keys of the file.
const KEYS: [&str; 11] =
    ["join", "hostname", "ethernet", "wifi", "hosts", "ntp", "platforms", "slots", "images", "selftest", "shell"];
/// Keys of a network with a fixed address.
const FIXED: [&str; 3] = ["address", "gateway", "dns"];
/// Keys of a wireless network.
const WIFI: [&str; 6] = ["ssid", "passphrase", "country", "address", "gateway", "dns"];

/// Keys of a self-test.
const SELFTEST: [&str; 3] = ["gpio", "serial", "unplug"];

/// Bytes of a host's name at most: one label of RFC 1035.
pub const HOSTNAME_MOST: usize = 63;
/// Bytes of the name of a wireless network at most: IEEE 802.11.
const SSID_MOST: usize = 32;
/// Characters of a passphrase: IEEE 802.11. What is one longer is the key itself, in hexadecimal digits.
const PASSPHRASE: std::ops::RangeInclusive<usize> = 8..=63;
/// Images at most: a card has no room for more.
const IMAGES_MOST: usize = 8;
/// Bytes of a file's name at most: VFAT has 255 characters.
const FILE_NAME_MOST: usize = 255;
/// Name servers that are asked: resolv.conf(5) takes no more.
const DNS_MOST: usize = 3;
/// Names with addresses of their own at most.
const HOSTS_MOST: usize = 32;
/// Time servers at most: more are of no use.
const NTP_MOST: usize = 4;
/// Keys that may log in at most: those of a few people, each of which somebody has looked at.
const SHELL_MOST: usize = 8;

/// A secret that stands in the file, or of which the file says that it was moved from there before.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret<T> {
    /// It stands there.
    Here(T),
    /// It was moved to the data partition.
    Moved,
}

impl<T> std::fmt::Debug for Secret<T> {
    /// Without the secret.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(if matches!(self, Self::Here(_)) { "Here(***)" } else { "Moved" })
    }
}

/// How an interface gets its address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// It is left alone.
    Off,
    /// The network says.
    #[default]
    Dhcp,
    /// The file says.
    Fixed {
        /// The address.
        address: Ipv4Addr,
        /// Bits of it that are the network's, 1 to 32.
        prefix: u8,
        /// The way out of that network.
        gateway: Option<Ipv4Addr>,
        /// Who is asked for names.
        dns: Vec<IpAddr>,
    },
}

/// A wireless network to be in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wifi {
    /// Its name.
    pub ssid: String,
    /// What opens it: 8 to 63 characters, or 64 hexadecimal digits; none of an open network.
    pub passphrase: Option<Secret<String>>,
    /// The country whose rules of radio hold here, two letters of ISO 3166-1.
    pub country: String,
    /// How it gets its address.
    pub addressing: Addressing,
}

/// What of the hardware is tried at each start, beside that which needs nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelfTest {
    /// GPIOs that a wire leads from and to.
    pub gpio: Option<(u32, u32)>,
    /// A serial line with a wire from TX to RX.
    pub serial: Option<String>,
    /// Whether somebody is there to pull a plug.
    pub unplug: bool,
}

/// All of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The line that `sai-master agent add` printed.
    pub join: Secret<JoinLine>,
    /// What the machine is called, and its agent; where nothing is said, as the join line says.
    pub hostname: Option<String>,
    /// The cable.
    pub ethernet: Addressing,
    /// The radio; off where nothing is said.
    pub wifi: Option<Wifi>,
    /// Names and their addresses, for who has no server that knows them.
    pub hosts: Vec<(String, IpAddr)>,
    /// Who is asked for the time.
    pub ntp: Vec<String>,
    /// What the agent offers instead of what it finds.
    pub platforms: Option<Vec<String>>,
    /// Jobs at once.
    pub slots: Option<u32>,
    /// Platforms whose jobs run in a root file system of their own, and the archive of each on the boot partition.
    pub images: Vec<(String, String)>,
    /// The self-test, if there is to be one.
    pub selftest: Option<SelfTest>,
    /// Whose keys may log in. Where there are none nobody can, and nothing listens.
    pub shell: Vec<PublicKey>,
}

/// The settings that a file has.
///
/// # Errors
/// Lines of `sai.json:LINE:COLUMN: KEY: expected …`, in file order. None of them holds a secret.
pub fn read(bytes: &[u8]) -> Result<Settings, Vec<String>> {
    read_by(Reader::new(), bytes)
}

/// The same without the keys that are not known here: what a later image has set the machine up by, an earlier one on the same card must
/// be able to go on with.
///
/// # Errors
/// The others.
pub fn read_known(bytes: &[u8]) -> Result<Settings, Vec<String>> {
    read_by(Reader::skipping(), bytes)
}

fn read_by(mut reader: Reader, bytes: &[u8]) -> Result<Settings, Vec<String>> {
    let tree = settings::parse(FILE, bytes).map_err(|error| vec![error])?;
    let root = reader.root(&tree, &KEYS);
    // A line that was saved by an editor may have spaces around it, as `join` reads it.
    let join = reader.needed(&root, "join", |text| {
        if is_moved(text) { Ok(()) } else { text.parse::<JoinLine>().map(|_| ()).map_err(|why| hushed(&why, text)) }
    });
    let join = join.map(|text| text.parse().map_or(Secret::Moved, Secret::Here));
    let hostname = reader.checked(&root, "hostname", check_hostname);
    let ethernet = if reader.is_off(&root, "ethernet") {
        Addressing::Off
    } else {
        let section = reader.object(&root, "ethernet", &FIXED);
        section.map_or(Addressing::Dhcp, |section| addressing(&mut reader, &section))
    };
    let wifi = reader.object(&root, "wifi", &WIFI).and_then(|section| wifi(&mut reader, &section));
    let hosts = hosts(&mut reader, &root);
    let ntp = reader.checked_texts(&root, "ntp", check_host).unwrap_or_else(|| vec![SERVERS.to_owned()]);
    if ntp.len() > NTP_MOST {
        reader.report(&root, "ntp", &format!("at most {NTP_MOST} servers"));
    }
    let platforms = reader.checked_texts(&root, "platforms", platform::check_name);
    if platforms.as_ref().is_some_and(|all| all.len() > PLATFORMS) {
        reader.report(&root, "platforms", &format!("at most {PLATFORMS} platforms"));
    }
    let slots = reader.count(&root, "slots", 1..=u64::from(SLOTS)).and_then(|slots| u32::try_from(slots).ok());
    let images = images(&mut reader, &root);
    let selftest = reader.object(&root, "selftest", &SELFTEST).map(|section| selftest(&mut reader, &section));
    let shell = shell(&mut reader, &root);
    reader.finish(FILE)?;
    let Some(join) = join else { return Err(vec![format!("{FILE}:1:1: expected a key join")]) };
    Ok(Settings { join, hostname, ethernet, wifi, hosts, ntp, platforms, slots, images, selftest, shell })
}

/// Who is asked for the time where the file names nobody.
const SERVERS: &str = "pool.ntp.org";

/// Whether a text says that a secret was moved: the word, and blanks where the rest of the secret was.
fn is_moved(text: &str) -> bool {
    text.trim_end() == MOVED
}

/// An error about a secret, without the secret: a message may quote what it found.
fn hushed(why: &str, secret: &str) -> String {
    match why.split_once(", found") {
        Some((expected, _)) => expected.to_owned(),
        None if secret.len() > 3 && why.contains(secret) => "a line that sai-master agent add printed".to_owned(),
        None => why.to_owned(),
    }
}

fn check_hostname(name: &str) -> Result<(), String> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if plain && !name.is_empty() && name.len() <= HOSTNAME_MOST && !name.starts_with('-') && !name.ends_with('-') {
        Ok(())
    } else {
        Err(format!("1 to {HOSTNAME_MOST} letters, digits and `-`, which is neither first nor last"))
    }
}

fn hosts(reader: &mut Reader, root: &Section<'_>) -> Vec<(String, IpAddr)> {
    let mut hosts = Vec::new();
    for (name, value, path) in reader.entries(root, "hosts", "an object of IP addresses by names") {
        let address = value.as_text().and_then(|text| text.parse().ok());
        match (check_host(&name.value), address) {
            (Ok(()), Some(address)) => hosts.push((name.value.clone(), address)),
            (Ok(()), None) => reader.wrong(value, &path, "an IP address"),
            (Err(expected), _) => reader.wrong_at(name.at, &path, &expected),
        }
    }
    if hosts.len() > HOSTS_MOST {
        reader.report(root, "hosts", &format!("at most {HOSTS_MOST} names"));
    }
    hosts
}

fn images(reader: &mut Reader, root: &Section<'_>) -> Vec<(String, String)> {
    let mut images = Vec::new();
    for (name, value, path) in reader.entries(root, "images", "an object of archives by platforms") {
        let plain = |file: &&str| {
            let known = file.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte));
            known && !file.starts_with(['.', '-']) && (1..=FILE_NAME_MOST).contains(&file.len())
        };
        match (platform::check_name(&name.value), value.as_text().filter(plain)) {
            (Ok(()), Some(file)) => images.push((name.value.clone(), file.to_owned())),
            (Ok(()), None) => reader.wrong(value, &path, ARCHIVE),
            (Err(expected), _) => reader.wrong_at(name.at, &path, &expected),
        }
    }
    if images.len() > IMAGES_MOST {
        reader.report(root, "images", &format!("at most {IMAGES_MOST} images"));
    }
    images
}

/// What the file of an image must look like.
const ARCHIVE: &str = "the name of a tar archive beside this file, of letters, digits and `-_.+`, as debian-12.tar.xz";

/// The address of an interface, by the keys of its section.
fn addressing(reader: &mut Reader, section: &Section<'_>) -> Addressing {
    let address = reader.checked(section, "address", |text| check(cidr(text).is_some(), ADDRESS));
    let gateway = reader.checked(section, "gateway", |text| check(text.parse::<Ipv4Addr>().is_ok(), GATEWAY));
    let dns = reader.checked_texts(section, "dns", |text| check(text.parse::<IpAddr>().is_ok(), "an IP address"));
    let dns: Vec<IpAddr> = dns.unwrap_or_default().iter().filter_map(|text| text.parse().ok()).collect();
    if dns.len() > DNS_MOST {
        reader.report(section, "dns", &format!("at most {DNS_MOST} addresses"));
    }
    let Some((address, prefix)) = address.as_deref().and_then(cidr) else {
        for key in ["gateway", "dns"] {
            if section.get(key).is_some() && section.get("address").is_none() {
                reader.report(section, key, "an address beside it: without one the network says all of this");
            }
        }
        return Addressing::Dhcp;
    };
    Addressing::Fixed { address, prefix, gateway: gateway.and_then(|text| text.parse().ok()), dns }
}

/// Keys of people, each of which is one that the server knows.
fn shell(reader: &mut Reader, root: &Section<'_>) -> Vec<PublicKey> {
    let keys = reader.checked_texts(root, "shell", |text| text.parse::<PublicKey>().map(|_| ()));
    if keys.as_ref().is_some_and(|keys| !(1..=SHELL_MOST).contains(&keys.len())) {
        reader.report(root, "shell", &format!("1 to {SHELL_MOST} public keys, or no such key"));
    }
    keys.unwrap_or_default().iter().filter_map(|text| text.parse().ok()).collect()
}

fn selftest(reader: &mut Reader, section: &Section<'_>) -> SelfTest {
    let gpio = reader.checked(section, "gpio", |text| check(ends(text).is_some(), PINS));
    let serial = reader.checked(section, "serial", |text| {
        check(text.strip_prefix("/dev/").is_some_and(|name| !name.is_empty()), "a path below /dev, as /dev/ttyUSB0")
    });
    let unplug = reader.boolean(section, "unplug").unwrap_or_default();
    SelfTest { gpio: gpio.as_deref().and_then(ends), serial, unplug }
}

/// What the ends of a wire must look like.
const PINS: &str = "the GPIOs that a wire leads from and to, as 17,27";

/// What an address must look like.
const ADDRESS: &str = "an IPv4 address and the bits of its network, as 192.0.2.7/24";
/// What a gateway must look like.
const GATEWAY: &str = "an IPv4 address, as 192.0.2.1";

fn check(right: bool, expected: &str) -> Result<(), String> {
    if right { Ok(()) } else { Err(expected.to_owned()) }
}

fn cidr(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let plain = (1..=2).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = prefix.parse().ok().filter(|prefix| plain && (1..=32).contains(prefix))?;
    Some((address.parse().ok()?, prefix))
}

fn wifi(reader: &mut Reader, section: &Section<'_>) -> Option<Wifi> {
    let ssid = reader.needed(section, "ssid", |text| {
        check((1..=SSID_MOST).contains(&text.len()), &format!("1 to {SSID_MOST} bytes"))
    });
    let passphrase = reader.checked(section, "passphrase", |text| {
        let visible = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let key = text.len() == PASSPHRASE.end() + 1 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let right = is_moved(text) || key || (visible && PASSPHRASE.contains(&text.len()));
        check(right, "8 to 63 printable characters of ASCII, or 64 hexadecimal digits")
    });
    let passphrase = passphrase.map(|text| if is_moved(&text) { Secret::Moved } else { Secret::Here(text) });
    let country = reader.needed(section, "country", |text| {
        let right = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase());
        check(right, "the country that this machine is in, as two capital letters, whose rules of radio it keeps")
    });
    let addressing = addressing(reader, section);
    Some(Wifi { ssid: ssid?, passphrase, country: country?, addressing })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "sai1:192.0.2.1:4433:shed:0123456789abcdef0123:system";

    #[test]
    fn a_join_line_alone_is_enough() {
        let settings = read(format!("{{ \"join\": \"{LINE}\" }}").as_bytes()).expect("settings");
        assert_eq!(settings.join, Secret::Here(LINE.parse().expect("a line")));
        assert_eq!(
            (settings.ethernet, settings.wifi, settings.ntp),
            (Addressing::Dhcp, None, vec![SERVERS.to_owned()])
        );
    }

    #[test]
    fn the_file_that_is_shipped_can_be_read() {
        let text = include_str!("../../configs/sai-pi.json");
        let settings = read(text.as_bytes()).expect("an example that can be read");
        assert!(settings.wifi.is_some() && settings.hostname.is_some() && settings.platforms.is_some());
        for key in KEYS.iter().chain(&WIFI).chain(&SELFTEST) {
            assert!(text.contains(&format!("\"{key}\":")), "configs/sai-pi.json does not show {key}");
        }
        assert_eq!(settings.shell, [], "who copies the example has no door that they do not know of");
    }

    #[test]
    fn every_mistake_is_named_by_its_place() {
        let text = "{\n  \"hostname\": \"-shed\",\n  \"ethernet\": { \"gateway\": \"192.0.2.1\", \"dns\": \"x\" },\n  \
            \"wifi\": { \"ssid\": \"\", \"passphrase\": \"short\", \"country\": \"de\", \"address\": \"192.0.2.7\" },\n  \
            \"slots\": 0, \"platforms\": \"a//b\", \"ntp\": [\"a b\"], \"hosts\": {\"a\": \"b\", \"a b\": \"::1\"}, \"sudo\": true\n}";
        let errors = read(text.as_bytes()).expect_err("nothing is right");
        let places: Vec<&str> =
            errors.iter().map(|error| error.split(": expected").next().unwrap_or_default()).collect();
        assert_eq!(
            places,
            [
                "sai.json:1:1",
                "sai.json:2:15: hostname",
                "sai.json:3:28: ethernet.gateway",
                "sai.json:3:48: ethernet.dns",
                "sai.json:3:48: ethernet.dns",
                "sai.json:4:21: wifi.ssid",
                "sai.json:4:39: wifi.passphrase",
                "sai.json:4:59: wifi.country",
                "sai.json:4:76: wifi.address",
                "sai.json:5:12: slots",
                "sai.json:5:28: platforms",
                "sai.json:5:44: ntp",
                "sai.json:5:67: hosts.a",
                "sai.json:5:72: hosts.a b",
                "sai.json:5:87: sudo",
            ],
            "{errors:#?}"
        );
        assert_eq!(errors[0], "sai.json:1:1: expected a key join");
    }

    #[test]
    fn what_a_later_version_knows_is_told_and_keeps_nobody_from_the_rest() {
        let text = format!(
            "{{\"join\": \"{LINE}\", \"later\": [1], \"hostname\": \"shed\", \"ethernet\": {{\"later\": 1, \"address\": \"192.0.2.7/24\"}}}}"
        );
        let wrong = read(text.as_bytes()).expect_err("two keys that are not known");
        assert!(wrong.len() == 2 && wrong.iter().all(|line| line.contains("later: expected one of")), "{wrong:?}");
        let known = read_known(text.as_bytes()).expect("settings");
        assert_eq!(known.hostname.as_deref(), Some("shed"));
        assert!(matches!(known.ethernet, Addressing::Fixed { prefix: 24, .. }), "{known:?}");
        assert!(
            read_known(text.replace("shed\", \"eth", "-\", \"eth").as_bytes()).is_err(),
            "what is known must be right"
        );
    }

    #[test]
    fn images_are_archives_beside_the_file() {
        let read = |images: &str| read(format!("{{\"join\": \"{LINE}\", \"images\": {images}}}").as_bytes());
        let images = read("{\"linux-debian-12/aarch64\": \"debian-12.tar.xz\"}").expect("settings").images;
        assert_eq!(images, [("linux-debian-12/aarch64".to_owned(), "debian-12.tar.xz".to_owned())]);
        for (images, wrong) in [
            ("{\"a//b\": \"x.tar\"}", "images.a//b: expected"),
            ("{\"linux-a\": \"../x.tar\"}", "images.linux-a: expected the name of a tar archive beside this file"),
            ("{\"linux-a\": \"-x.tar\"}", "images.linux-a: expected the name of a tar archive beside this file"),
            ("{\"linux-a\": 1}", "images.linux-a: expected the name of a tar archive beside this file"),
            ("[]", "images: expected an object of archives by platforms"),
        ] {
            let errors = read(images).expect_err(images);
            assert!(errors.len() == 1 && errors[0].contains(wrong), "{images}: {errors:?}");
        }
        let many: Vec<String> = (0..=IMAGES_MOST).map(|number| format!("\"linux-{number}\": \"x\"")).collect();
        let errors = read(&format!("{{{}}}", many.join(", "))).expect_err("too many");
        assert!(errors[0].contains("at most 8 images"), "{errors:?}");
    }

    #[test]
    fn no_message_holds_a_secret() {
        let token = "0123456789abcdef0123";
        for line in [
            format!("sai1:host:443:shed:{token}"),
            format!("sai1:host:port:shed:{token}:system"),
            format!("sai1:host:443:shed:{token}!:system"),
            format!("sai2:host:443:shed:{token}:system"),
            format!("{token}:system"),
            token.to_owned(),
        ] {
            let errors = read(format!("{{ \"join\": \"{line}\" }}").as_bytes()).expect_err(&line).join("\n");
            assert!(errors.starts_with("sai.json:1:11: join: expected") && !errors.contains(token), "{errors}");
        }
        let text = format!(
            "{{\"join\": \"{LINE}\", \"wifi\": {{\"ssid\": \"x\", \"country\": \"DE\", \"passphrase\": \"secret secret\"}}}}"
        );
        let settings = format!("{:?}", read(text.as_bytes()).expect("settings"));
        assert!(!settings.contains("secret secret") && !settings.contains(token), "{settings}");
    }

    #[test]
    fn a_fixed_address_is_read() {
        let read = |ethernet: &str| read(format!("{{\"join\": \"{LINE}\", \"ethernet\": {ethernet}}}").as_bytes());
        let fixed = read(
            "{\"address\": \"192.0.2.7/24\", \"gateway\": \"192.0.2.1\", \"dns\": [\"192.0.2.1\", \"2001:db8::1\"]}",
        );
        let Ok(Settings { ethernet: Addressing::Fixed { address, prefix, gateway, dns }, .. }) = fixed else {
            panic!("{fixed:?}")
        };
        assert_eq!((address, prefix, gateway), (Ipv4Addr::new(192, 0, 2, 7), 24, Some(Ipv4Addr::new(192, 0, 2, 1))));
        assert_eq!(dns.len(), 2);
        assert_eq!(read("false").map(|settings| settings.ethernet), Ok(Addressing::Off));
        for wrong in ["192.0.2.7", "192.0.2.7/0", "192.0.2.7/33", "192.0.2.7/+8", "192.0.2/24", "/24", "192.0.2.7/024"]
        {
            assert!(read(&format!("{{\"address\": {wrong:?}}}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_self_test_is_asked_for_with_what_it_needs() {
        let read = |selftest: &str| read(format!("{{\"join\": \"{LINE}\", \"selftest\": {selftest}}}").as_bytes());
        assert_eq!(read("{}").map(|settings| settings.selftest), Ok(Some(SelfTest::default())));
        let all = read("{\"gpio\": \"17, 27\", \"serial\": \"/dev/ttyUSB0\", \"unplug\": true}");
        let wanted = SelfTest { gpio: Some((17, 27)), serial: Some("/dev/ttyUSB0".to_owned()), unplug: true };
        assert_eq!(all.map(|settings| settings.selftest), Ok(Some(wanted)));
        for wrong in
            ["\"gpio\": \"17\"", "\"gpio\": \"17,17\"", "\"gpio\": \"a,b\"", "\"serial\": \"ttyUSB0\"", "\"unplug\": 1"]
        {
            assert!(read(&format!("{{{wrong}}}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_shell_is_asked_for_with_keys() {
        let read = |shell: &str| read(format!("{{\"join\": \"{LINE}\",\n \"shell\": {shell}}}").as_bytes());
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOd7E2jHbvaZX8BgMUMwkvNzpewTB0AvTjZFwPryjPiq";
        let keys =
            |shell: &str| -> Vec<String> { read(shell).expect(shell).shell.iter().map(ToString::to_string).collect() };
        assert_eq!(keys(&format!("\"{key} somebody\"")), [key]);
        assert_eq!(keys(&format!("[\"{key}\", \"{key} else\"]")), [key, key]);
        let many = |count: usize| format!("[{}]", vec![format!("\"{key}\""); count].join(", "));
        assert_eq!(keys(&many(SHELL_MOST)).len(), SHELL_MOST);
        for (wrong, place) in [
            ("true", "2:11"),
            ("\"\"", "2:11"),
            ("[]", "2:11"),
            (&*many(SHELL_MOST + 1), "2:11"),
            ("[1]", "2:11"),
            (&*format!("[\"{key}\", \"no-pty {key}\"]"), "2:96"),
            (&*format!("\"{key}\\n{key}\""), "2:11"),
        ] {
            let errors = read(wrong).expect_err(wrong);
            assert!(
                errors.len() == 1 && errors[0].starts_with(&format!("sai.json:{place}: shell: expected")),
                "{errors:?}"
            );
        }
    }

    #[test]
    fn a_secret_that_was_moved_is_said_to_be_so() {
        let text = "{\"join\": \"moved       \", \"wifi\": {\"ssid\": \"x\", \"country\": \"DE\", \"passphrase\": \"moved    \"}}";
        let settings = read(text.as_bytes()).expect("settings");
        assert_eq!(settings.join, Secret::Moved);
        assert_eq!(settings.wifi.and_then(|wifi| wifi.passphrase), Some(Secret::Moved));
    }
}
