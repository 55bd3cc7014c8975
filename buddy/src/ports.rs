//! Where a tty is found → its name today: by the USB port that it hangs at, which stays the same over unplugging and resets.

use sai_core::bench::{Console, Tty};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where the kernel shows devices, and where their files are; tests have some of their own.
#[derive(Clone, Debug)]
pub struct Places {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Places { sys: "/sys".into(), dev: "/dev".into() }
    }
}

/// The tty of a console, if it is there.
///
/// # Errors
/// What is there instead: an adapter that is another than the bench says.
pub fn find(console: &Console, places: &Places) -> Result<Option<PathBuf>, String> {
    let (path, device) = match &console.tty {
        Tty::Path(path) => (PathBuf::from(path), None),
        Tty::ById(name) => (places.dev.join("serial/by-id").join(name), None),
        Tty::Usb(port, interface) => match at_port(places, port, *interface) {
            Some((name, device)) => (places.dev.join(name), Some(device)),
            None => return Ok(None),
        },
    };
    // The kernel's name, since links may lead elsewhere by the time that it is opened.
    let Ok(path) = fs::canonicalize(&path) else { return Ok(None) };
    let name = path.file_name().map(PathBuf::from).unwrap_or_default();
    let device = device.or_else(|| usb_device(&fs::canonicalize(places.sys.join("class/tty").join(name)).ok()?));
    let said = |file: &str| {
        let text = device.as_ref().and_then(|device| fs::read_to_string(device.join(file)).ok());
        text.unwrap_or_default().trim().to_string()
    };
    if let Some(wanted) = &console.serial {
        let serial = said("serial");
        if serial != *wanted {
            return Err(format!("the adapter at {} has the serial number {serial:?}, not {wanted:?}", path.display()));
        }
    }
    if let Some(wanted) = &console.product {
        let product = format!("{}:{}", said("idVendor"), said("idProduct"));
        if !product.eq_ignore_ascii_case(wanted) {
            return Err(format!("the adapter at {} is {product:?}, not {wanted:?}", path.display()));
        }
    }
    Ok(Some(path))
}

/// Whoever has locked a tty, as all do that are built on serialport, and terminal programs: found without opening it, which would raise
/// DTR and reset the board that another one uses.
pub fn user(path: &Path) -> Option<String> {
    let found = fs::metadata(path).ok()?;
    let device = found.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let place = format!("{major:02x}:{minor:02x}:{}", found.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // `1: FLOCK  ADVISORY  WRITE 812 00:05:97 0 EOF`. Those who only wait for one have an arrow.
    let process = locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_held = words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&place.as_str());
        words.get(4).filter(|_| is_held)?.parse::<i32>().ok()
    })?;
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    // Whoever locked it may have ended since, and have left its open file to another.
    Some(match name.trim() {
        "" => format!("what process {process} opened"),
        name => format!("process {process} ({name})"),
    })
}

/// By what the tty of a console is known again that is found by a path, which says nothing of what is plugged in there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// An adapter: its port, vendor and product, and serial number, empty where it has none.
    Adapter(String, String, String),
    /// A pty, whose number another has when it has ended: the link to it, if there is one, by device, inode and when it was made.
    Pty(Option<(u64, u64, i64, i64)>),
    /// What nobody unplugs.
    Fixed,
}

impl Identity {
    /// That of a console's tty now; `None` where it is not there, or where it is found by more than a path. That of a pty is told when
    /// it has ended, too: it is the link's to it.
    pub fn of(console: &Console, places: &Places) -> Option<Identity> {
        let Tty::Path(path) = &console.tty else { return None };
        let found = fs::canonicalize(path).ok().or_else(|| {
            let named = fs::read_link(path).unwrap_or_else(|_| path.into());
            Some(named).filter(|named| named.starts_with("/dev/pts"))
        })?;
        if found.starts_with("/dev/pts") {
            let link = fs::symlink_metadata(path).ok().filter(|link| link.file_type().is_symlink());
            return Some(Identity::Pty(link.map(|link| (link.dev(), link.ino(), link.ctime(), link.ctime_nsec()))));
        }
        let device = fs::canonicalize(places.sys.join("class/tty").join(found.file_name()?)).ok();
        Some(match device.and_then(|path| usb_device(&path)) {
            Some(device) => {
                let said = |file: &str| fs::read_to_string(device.join(file)).unwrap_or_default().trim().to_string();
                let port = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Identity::Adapter(port, format!("{}:{}", said("idVendor"), said("idProduct")), said("serial"))
            }
            None => Identity::Fixed,
        })
    }

    /// Whether what is there now may be what was there before it hung up.
    ///
    /// # Errors
    /// It is another's.
    pub fn comes_back_as(&self, now: &Identity) -> Result<(), String> {
        match (self, now) {
            (Identity::Adapter(port, product, serial), Identity::Adapter(port_now, product_now, serial_now)) => {
                let place = serial.is_empty() && port != port_now;
                if product == product_now && serial == serial_now && !place {
                    return Ok(());
                }
                let named = |port: &str, product: &str, serial: &str| match serial {
                    "" => format!("{product} at USB port {port}"),
                    serial => format!("{product} with serial number {serial:?}"),
                };
                let (before, now) = (named(port, product, serial), named(port_now, product_now, serial_now));
                Err(format!("another adapter has its name: {now}, and it was {before}"))
            }
            (Identity::Adapter(..), _) => Err("what has its name is no USB adapter any more".to_string()),
            (Identity::Pty(before), Identity::Pty(now)) if before == now => {
                Err("the pty that it was has ended, and its number may be another's".to_string())
            }
            _ => Ok(()),
        }
    }
}

/// Something at a USB port that has ttys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// The port.
    pub port: String,
    /// Vendor and product, as `0403:6001`.
    pub product: String,
    /// Its serial number; empty where it has none.
    pub serial: String,
    /// The names of its ttys, in the order of its interfaces.
    pub ttys: Vec<String>,
}

/// All that has ttys, in the order of ports.
pub fn adapters(places: &Places) -> Vec<Adapter> {
    let mut found: Vec<(PathBuf, String)> = Vec::new();
    for entry in fs::read_dir(places.sys.join("class/tty")).into_iter().flatten().flatten() {
        let device = fs::canonicalize(entry.path()).ok().and_then(|path| usb_device(&path));
        found.extend(device.map(|device| (device, entry.file_name().to_string_lossy().into_owned())));
    }
    found.sort();
    let mut adapters: Vec<Adapter> = Vec::new();
    for (device, tty) in found {
        let port = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match adapters.last_mut().filter(|last| last.port == port) {
            Some(last) => last.ttys.push(tty),
            None => {
                let said = |file: &str| fs::read_to_string(device.join(file)).unwrap_or_default().trim().to_string();
                let product = format!("{}:{}", said("idVendor"), said("idProduct"));
                adapters.push(Adapter { port, product, serial: said("serial"), ttys: vec![tty] });
            }
        }
    }
    adapters
}

/// The tty at an interface of what is plugged into a port, and the device in sysfs.
fn at_port(places: &Places, port: &str, interface: u8) -> Option<(String, PathBuf)> {
    let mut found: Vec<(u8, String, PathBuf)> = Vec::new();
    for entry in fs::read_dir(places.sys.join("class/tty")).ok()?.flatten() {
        let Ok(path) = fs::canonicalize(entry.path()) else { continue };
        let Some(device) = usb_device(&path) else { continue };
        if device.file_name().is_none_or(|name| name != port) {
            continue;
        }
        // `1-1.2:1.0`: the configuration, and the interface of it.
        let rest = path.strip_prefix(&device).ok()?.iter().next()?.to_string_lossy().into_owned();
        let number = rest.rsplit_once('.').and_then(|(_, number)| number.parse().ok()).unwrap_or(0);
        found.push((number, entry.file_name().to_string_lossy().into_owned(), device));
    }
    found.sort();
    // The so-manieth tty of the adapter: other interfaces of it, as that of a debugger, are none.
    found.into_iter().nth(interface.into()).map(|(_, name, device)| (name, device))
}

/// The USB device that something in sysfs belongs to: the directory above that of an interface.
fn usb_device(path: &Path) -> Option<PathBuf> {
    let is_interface = |path: &&Path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(':'));
    let interface = path.ancestors().find(|path| is_interface(path) && path.with_file_name("idVendor").exists())?;
    interface.parent().map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A machine where one adapter after the other has the name ttyUSB0.
    struct Machine {
        top: PathBuf,
        places: Places,
    }

    impl Machine {
        fn plug(&self, port: &str, product: &str, serial: &str) -> Option<Identity> {
            let (sys, dev) = (&self.places.sys, &self.places.dev);
            let _ = fs::remove_dir_all(&self.top);
            let tty = sys.join(format!("devices/{port}/{port}:1.0/ttyUSB0"));
            fs::create_dir_all(&tty).expect("a directory");
            for (file, text) in [("idVendor", "0403"), ("idProduct", product), ("serial", serial)] {
                fs::write(sys.join("devices").join(port).join(file), text).expect("written");
            }
            fs::create_dir_all(sys.join("class/tty")).expect("a directory");
            symlink(&tty, sys.join("class/tty/ttyUSB0")).expect("a link");
            fs::create_dir_all(dev).expect("a directory");
            fs::write(dev.join("ttyUSB0"), "").expect("written");
            let text = r#"{ "boards": { "b": { "type": "t", "consoles": { "main": { "path": "/dev/ttyUSB0" } } } } }"#;
            let mut console =
                sai_core::bench::read("", text.as_bytes()).expect("a bench").boards[0].consoles[0].clone();
            console.tty = Tty::Path(dev.join("ttyUSB0").display().to_string());
            Identity::of(&console, &self.places)
        }
    }

    #[test]
    fn an_adapter_that_was_unplugged_is_known_again_whatever_took_its_name() {
        let top = std::env::temp_dir().join(format!("sai-ports-{}", std::process::id()));
        let machine = Machine { places: Places { sys: top.join("sys"), dev: top.join("dev") }, top };
        for (before, now, same) in [
            (["1-2", "6001", "A"], ["1-2", "6001", "A"], true),
            // A serial number is its own, wherever it is plugged in.
            (["1-2", "6001", "A"], ["1-3", "6001", "A"], true),
            (["1-2", "6001", "A"], ["1-2", "6001", "B"], false),
            (["1-2", "6001", "A"], ["1-2", "6015", "A"], false),
            // Where it has none, the port is.
            (["1-2", "6001", ""], ["1-2", "6001", ""], true),
            (["1-2", "6001", ""], ["1-3", "6001", ""], false),
        ] {
            let plug = |[port, product, serial]: [&str; 3]| machine.plug(port, product, serial).expect("a tty");
            let (first, second) = (plug(before), plug(now));
            assert!(matches!(first, Identity::Adapter(..)), "{first:?}");
            assert_eq!(first.comes_back_as(&second).is_ok(), same, "{first:?} {second:?}");
            assert!(first.comes_back_as(&Identity::Fixed).is_err());
        }
        let link = |made| Identity::Pty(Some((1, 2, made, 0)));
        assert!(link(1).comes_back_as(&link(1)).is_err() && link(1).comes_back_as(&link(2)).is_ok());
        assert!(Identity::Pty(None).comes_back_as(&Identity::Pty(None)).is_err());
        let _ = fs::remove_dir_all(&machine.top);
    }
}
