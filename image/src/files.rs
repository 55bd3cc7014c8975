//! Settings → the files by which programs of the image are told: the agent, the wireless network, the resolver of names.

use crate::settings::{Addressing, HOSTNAME_MOST, SelfTest, Settings, Wifi};
use sai_core::join::JoinLine;
use std::fmt::Write as _;
use std::net::IpAddr;

/// Whom steps of jobs run as: boards are offered only where that is not who has the boards.
pub const USER: &str = "sai";
/// MiB that are kept free on the data partition, less than elsewhere since small cards are usual here.
const KEEP_FREE_MIB: u32 = 64;

/// The agent's configuration.
pub fn agent(settings: &Settings, line: &JoinLine, state: &str, boards: Option<&str>) -> String {
    let quoted = |text: &str| miniserde::json::to_string(text);
    let list = |texts: &[String]| miniserde::json::to_string(texts);
    let mut text = format!("{{ \"master\": {}, \"token\": {}", quoted(&line.address.to_string()), quoted(&line.token));
    let mut add = |key: &str, value: String| {
        let _ = write!(text, ",\n  \"{key}\": {value}");
    };
    if let Some(fingerprint) = &line.fingerprint {
        add("pin", quoted(&fingerprint.iter().map(|byte| format!("{byte:02x}")).collect::<String>()));
    }
    if !line.others.is_empty() {
        add("others", list(&line.others));
    }
    if let Some(platforms) = &settings.platforms {
        add("platforms", list(platforms));
    }
    if let Some(slots) = settings.slots {
        add("slots", slots.to_string());
    }
    if let Some(boards) = boards {
        add("boards", quoted(boards));
    }
    add("state", quoted(state));
    add("user", quoted(USER));
    add("keep_free_mib", KEEP_FREE_MIB.to_string());
    text.push_str(" }\n");
    text
}

/// The words behind `sai-agent` that try the hardware, and write a report to a file.
pub fn selftest(wanted: Option<&SelfTest>, output: &str) -> Vec<String> {
    let mut words = ["selftest", "--disk", "/data", "--output", output].map(str::to_owned).to_vec();
    let mut add = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
    if let Some((out, into)) = wanted.and_then(|wanted| wanted.gpio) {
        add(&["--gpio", &format!("{out},{into}")]);
    }
    if let Some(serial) = wanted.and_then(|wanted| wanted.serial.as_deref()) {
        add(&["--serial", serial]);
    }
    if wanted.is_some_and(|wanted| wanted.unplug) {
        add(&["--unplug"]);
    }
    words
}

/// Keys that may log in, one a line: `authorized_keys` of sshd(8), which dropbear reads, too.
pub fn authorized(settings: &Settings) -> Option<String> {
    let lines: String = settings.shell.iter().map(|key| format!("{key}\n")).collect();
    (!lines.is_empty()).then_some(lines)
}

/// What the machine is called. An agent's name may have letters that a host's has not.
pub fn hostname(settings: &Settings, line: Option<&JoinLine>) -> String {
    let of_agent = |line: &JoinLine| {
        let name: String = line.name.chars().take(HOSTNAME_MOST).collect();
        name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-").trim_end_matches('-').to_owned()
    };
    settings.hostname.clone().or_else(|| line.map(of_agent)).unwrap_or_else(|| "sai".to_owned())
}

/// wpa_supplicant.conf(5) for one network, of which nothing but this program makes the configuration.
pub fn wireless(wifi: &Wifi, passphrase: Option<&str>) -> String {
    // As hexadecimal digits no name can mean anything but itself.
    let ssid: String = wifi.ssid.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut text = format!("country={}\nnetwork={{\n    ssid={ssid}\n    scan_ssid=1\n", wifi.country);
    let _ = match passphrase {
        Some(key) if key.len() == 64 => writeln!(text, "    psk={key}"),
        // It has no line break, and the last quote is the one that ends it.
        Some(passphrase) => writeln!(text, "    psk=\"{passphrase}\""),
        None => writeln!(text, "    key_mgmt=NONE"),
    };
    text.push_str("}\n");
    text
}

/// Who is asked for names, where the file says that and no network does: resolv.conf(5).
pub fn resolver<'a>(addressings: impl IntoIterator<Item = &'a Addressing>) -> Option<String> {
    let mut text = String::new();
    for addressing in addressings {
        if let Addressing::Fixed { dns, .. } = addressing {
            for server in dns {
                let _ = writeln!(text, "nameserver {server}");
            }
        }
    }
    (!text.is_empty()).then_some(text)
}

/// Names that need no network: hosts(5). Those of the settings go before.
pub fn hosts(hostname: &str, settings: &Settings) -> String {
    let mut text = String::new();
    for (name, address) in &settings.hosts {
        let _ = writeln!(text, "{address} {name}");
    }
    for address in [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])] {
        for name in ["localhost", hostname] {
            if settings.hosts.iter().all(|(other, _)| other != name) {
                let _ = writeln!(text, "{address} {name}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::read;

    const LINE: &str = "sai1:192.0.2.1,sai.example.org:4433:shed:0123456789abcdef0123:";

    #[test]
    fn the_agent_is_told_all_of_the_line() {
        let line = format!("{LINE}{}", "0f".repeat(32));
        let text = format!("{{ \"join\": \"{line}\", \"platforms\": \"linux-pi\", \"slots\": 1 }}");
        let settings = read(text.as_bytes()).expect("settings");
        let line: JoinLine = line.parse().expect("a line");
        let told = agent(&settings, &line, "/data/agent", Some("/data/boards.json"));
        let tree = sai_core::json::parse(told.as_bytes()).expect("JSON");
        for (key, value) in [
            ("master", "wss://192.0.2.1:4433"),
            ("token", "0123456789abcdef0123"),
            ("pin", &"0f".repeat(32)),
            ("state", "/data/agent"),
            ("boards", "/data/boards.json"),
            ("user", "sai"),
        ] {
            assert_eq!(tree.get(key).and_then(|value| value.as_text()), Some(value), "{key}");
        }
        assert_eq!(tree.get("slots").and_then(|value| value.as_integer()), Some(1));
        assert_eq!(hostname(&settings, Some(&line)), "shed");
        let odd: JoinLine = format!("{LINE}system").replace("shed", "my_2nd.shed.").parse().expect("a line");
        assert_eq!(hostname(&settings, Some(&odd)), "my-2nd-shed");
    }

    #[test]
    fn no_name_of_a_network_is_a_setting() {
        let wifi = |ssid: &str| Wifi {
            ssid: ssid.to_owned(),
            passphrase: None,
            country: "DE".to_owned(),
            addressing: Addressing::Dhcp,
        };
        let text = wireless(&wifi("a\"\n}\nctrl_interface=/x"), Some("with \"quotes\" in it"));
        assert!(text.contains("ssid=61220a7d0a") && text.contains("psk=\"with \"quotes\" in it\"\n"), "{text}");
        assert_eq!(text.lines().count(), 6);
        assert!(wireless(&wifi("open"), None).contains("key_mgmt=NONE"));
        assert!(wireless(&wifi("key"), Some(&"ab".repeat(32))).contains("psk=abab"));
    }

    #[test]
    fn a_self_test_is_told_what_is_wired() {
        assert_eq!(selftest(None, "/run/x").join(" "), "selftest --disk /data --output /run/x");
        let wanted = SelfTest { gpio: Some((17, 27)), serial: Some("/dev/ttyUSB0".to_owned()), unplug: true };
        let words = selftest(Some(&wanted), "/run/x").join(" ");
        assert!(words.ends_with("--gpio 17,27 --serial /dev/ttyUSB0 --unplug"), "{words}");
    }

    #[test]
    fn keys_are_a_line_each_and_nothing_where_nobody_may_log_in() {
        let read = |more: &str| read(format!("{{ \"join\": \"{LINE}system\"{more} }}").as_bytes()).expect("settings");
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOd7E2jHbvaZX8BgMUMwkvNzpewTB0AvTjZFwPryjPiq";
        let two = read(&format!(", \"shell\": [\"{key} somebody\", \"{key}\"]"));
        assert_eq!(authorized(&two), Some(format!("{key}\n{key}\n")));
        assert_eq!(authorized(&read("")), None);
    }

    #[test]
    fn names_of_the_settings_go_before() {
        let text = format!(
            "{{ \"join\": \"{LINE}system\", \"hosts\": {{ \"ci\": \"192.0.2.1\", \"localhost\": \"192.0.2.2\" }} }}"
        );
        let settings = read(text.as_bytes()).expect("settings");
        assert_eq!(hosts("shed", &settings), "192.0.2.1 ci\n192.0.2.2 localhost\n127.0.0.1 shed\n::1 shed\n");
    }

    #[test]
    fn names_are_asked_of_whom_the_file_says() {
        assert_eq!(resolver([&Addressing::Dhcp, &Addressing::Off]), None);
        let fixed = Addressing::Fixed {
            address: [192, 0, 2, 7].into(),
            prefix: 24,
            gateway: None,
            dns: vec![[192, 0, 2, 1].into(), "2001:db8::1".parse().expect("an address")],
        };
        assert_eq!(resolver([&fixed]).as_deref(), Some("nameserver 192.0.2.1\nnameserver 2001:db8::1\n"));
    }
}
