//! Interfaces that come and go → those that get an address: by the network's word, or as the settings say.

use crate::tell::tell;
use crate::write;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use sai_init::files;
use sai_init::services::Service;
use sai_init::settings::{Addressing, Settings, Wifi};
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;

/// The kernel's list of interfaces.
const INTERFACES: &str = "/sys/class/net";
/// The type of Ethernet's, and of those that look so.
const ETHERNET: &str = "1";
/// The wireless network's configuration, in memory alone.
const CONFIGURATION: &str = "/run/wifi.conf";
/// What the kernel itself says of devices, to whoever listens.
const KERNEL: u32 = 1;
/// Bytes of such a message at most.
const MESSAGE: usize = 8 << 10;

/// What is known of the network.
pub struct Network {
    ethernet: Addressing,
    wifi: Option<Wifi>,
    passphrase: Option<String>,
    socket: Option<OwnedFd>,
    known: BTreeSet<String>,
}

impl Network {
    /// Listens for interfaces.
    pub fn new(settings: &Settings, passphrase: Option<String>) -> Self {
        let listening = || -> rustix::io::Result<OwnedFd> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
            bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
            Ok(socket)
        };
        let socket =
            listening().map_err(|error| tell(&format!("interfaces are looked for now and then: {error}"))).ok();
        ip(&["link", "set", "lo", "up"]);
        let (ethernet, wifi) = (settings.ethernet.clone(), settings.wifi.clone());
        Self { ethernet, wifi, passphrase, socket, known: BTreeSet::new() }
    }

    /// Becomes readable when something about the machine's devices has changed.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.as_fd())
    }

    /// Where the wireless network's configuration is.
    #[allow(clippy::unused_self, reason = "it is written by `look`")]
    pub fn configuration(&self) -> &'static str {
        CONFIGURATION
    }

    /// Sets up interfaces that have come, and says what is to run for them.
    pub fn look(&mut self) -> Vec<Service> {
        if let Some(socket) = &self.socket {
            // What exactly was said is of no consequence: it is looked at what there is now.
            let mut message = [0; MESSAGE];
            while recv(socket, &mut message, RecvFlags::DONTWAIT).is_ok() {}
        }
        let there: BTreeSet<String> = fs::read_dir(INTERFACES)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| is_ethernet(name))
            .collect();
        let new: Vec<String> = there.difference(&self.known).cloned().collect();
        self.known = there;
        new.into_iter().flat_map(|name| self.came(&name)).collect()
    }

    fn came(&self, name: &str) -> Vec<Service> {
        let wireless = Path::new(INTERFACES).join(name).join("phy80211").exists();
        let mut wanted = Vec::new();
        let addressing = match (&self.wifi, wireless) {
            (Some(wifi), true) => {
                write(CONFIGURATION, &files::wireless(wifi, self.passphrase.as_deref()), 0o600);
                wanted.push(Service::Wireless(name.to_owned()));
                &wifi.addressing
            }
            (None, true) => &Addressing::Off,
            (_, false) => &self.ethernet,
        };
        if *addressing == Addressing::Off {
            return wanted;
        }
        tell(&format!("{name} is there"));
        ip(&["link", "set", name, "up"]);
        match addressing {
            Addressing::Fixed { address, prefix, gateway, .. } => {
                ip(&["address", "replace", &format!("{address}/{prefix}"), "dev", name]);
                if let Some(gateway) = gateway {
                    ip(&["route", "replace", "default", "via", &gateway.to_string(), "dev", name]);
                }
            }
            Addressing::Dhcp => wanted.push(Service::Address(name.to_owned())),
            Addressing::Off => {}
        }
        wanted
    }
}

fn is_ethernet(name: &str) -> bool {
    let attributes = Path::new(INTERFACES).join(name);
    attributes.join("device").exists()
        && fs::read_to_string(attributes.join("type")).is_ok_and(|kind| kind.trim() == ETHERNET)
}

fn ip(words: &[&str]) {
    let status = Command::new("/bin/busybox").arg("ip").args(words).status();
    if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        tell(&format!("ip {}: {how}", words.join(" ")));
    }
}
