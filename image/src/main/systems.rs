//! A card's systems → the one that runs: the first stage starts another kernel by kexec, which goes on; updates are put into slots.
//!
//! What the firmware starts is never written to, so it always starts. It runs with one processor, because a kernel that has woken the
//! others up cannot give them back on a Pi, and so another could not be started.

use crate::boot::{self, PLACE};
use crate::data;
use crate::machine::{self, Watchdog, argument, restart};
use crate::tell::tell;
use rustix::mount::{UnmountFlags, unmount};
use rustix::system::{RebootCommand, reboot};
use sai_core::card::{CARD, Card, DIRECTORY, HANDED, REFUSED};
use sai_core::join::UPDATE_KEY_BYTES;
use sai_core::limits::Millis;
use sai_core::slots::{Input, Kept, Output, REJOIN_MS, Slots, System};
use sai_core::update::{HEAD_MOST, Head, MAGIC, Piece, Purpose, TAKEN, head};
use sai_init::arguments::{self, ALONE, RUNS};
use sai_init::digest::Digest;
use sai_init::kept::{self, PLACES, SECTOR};
use sai_init::signature;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Another number of seconds that a new slot has to reach the master.
const REJOIN: &str = "sai.rejoin=";
/// Where the slots are.
const SLOTS: &str = "/data/slots";
/// Kernels on the boot partition, as the firmware knows them, and what is unpacked into memory.
const KERNELS: [&str; 3] = ["a/kernel8.img", "a/kernel7.img", "a/kernel.img"];
/// See `KERNELS`.
const INITRAMFS: &str = "a/initramfs.zst";
/// Where kernel and the rest of a slot are for the moment of a start.
const UNPACKED: [&str; 2] = ["/tmp/kernel", "/tmp/initramfs"];
/// Memory that kexec leaves to a 32-bit kernel, which unpacks itself there; the system begins behind it. Debian's kernel for many boards
/// begins 2 MiB further on than kexec knows, so that what it takes, 27 MiB, would reach into the system.
const KERNEL_SPACE: &str = "--image-size=50331648";
/// Bytes that are copied at once.
const PART: usize = 64 << 10;
/// Bytes after which what was written is flushed, so that the watchdog does not starve meanwhile: a slow card writes 2 MiB a second.
const FLUSHED: u64 = 4 << 20;

/// The system that this is; `None` in the first stage.
pub fn running() -> Option<System> {
    System::of(&argument(RUNS)?)
}

/// What became of an image that somebody wants in a slot.
enum Put {
    /// It is there, and tried at the next start.
    Written,
    /// It stays where it is until what is being tried has proven itself, or not.
    Later,
    /// It is not taken, and why.
    Refused(String),
}

/// What is known of the systems, and where that is written down.
pub struct Systems {
    slots: Slots,
    card: String,
    turn: u64,
}

fn slot(system: System) -> PathBuf {
    Path::new(SLOTS).join(system.word())
}

fn name(system: System) -> String {
    match system {
        System::Factory => "the factory's system".to_owned(),
        slot => format!("slot {}", slot.word()),
    }
}

/// The first stage: starts the system that is to run, and comes back only where this is it, or where there is no other way. Whether
/// it is what was to run.
pub fn start(card: &str, watchdog: &mut Watchdog) -> bool {
    let mut systems = Systems::read(card);
    let mut next = Some(Input::Power);
    while let Some(input) = next.take() {
        let mut out = Vec::new();
        systems.slots.handle(millis(), input, &mut out);
        for output in out {
            match output {
                Output::Keep(kept) if !systems.keep(&kept) => return false,
                // What has all processors already needs no other kernel.
                Output::Start(System::Factory) if !argument(ALONE).is_some_and(|rest| rest.is_empty()) => return true,
                Output::Start(system) => {
                    if let Err(error) = kexec(system, card, watchdog) {
                        // Whoever goes on needs the memory.
                        UNPACKED.iter().for_each(|path| drop(fs::remove_file(path)));
                        tell(&format!("{} cannot be started: {error}", name(system)));
                        next = Some(Input::Cannot(system));
                    }
                }
                Output::Stay => tell("going on with one processor"),
                other => told(&other),
            }
        }
    }
    false
}

/// Tells what is only told.
fn told(output: &Output) {
    match output {
        Output::Left(left, good) => {
            tell(&format!("{} did not prove itself, or is damaged: going on with {}", name(*left), name(*good)));
        }
        Output::Proven(slot) => tell(&format!("{} has reached the master, and stays", name(*slot))),
        Output::Keep(_)
        | Output::Start(_)
        | Output::Stay
        | Output::Restart
        | Output::Write(_)
        | Output::Refused(_)
        | Output::Later => {}
    }
}

/// Starts another kernel, and comes back with the reason why not.
fn kexec(system: System, card: &str, watchdog: &mut Watchdog) -> io::Result<()> {
    if system == System::Factory {
        boot::mount_boot(card)?;
        let kernel = KERNELS.into_iter().map(|name| Path::new(PLACE).join(name)).find(|path| path.exists());
        let kernel = kernel.unwrap_or_else(|| Path::new(PLACE).join(KERNELS[0]));
        // In large parts, since kexec reads in small ones.
        let copied = fs::copy(kernel, UNPACKED[0]).and_then(|_| {
            watchdog.feed();
            fs::copy(Path::new(PLACE).join(INITRAMFS), UNPACKED[1])
        });
        unmount(PLACE, UnmountFlags::empty())?;
        copied?;
    } else {
        data::mounted(card, watchdog)?;
        let unpacked = unpack(system, watchdog);
        data::leave()?;
        unpacked?;
    }
    load(system, watchdog)?;
    watchdog.feed();
    // The last line before the next kernel's first one, and so the moment in which this one's clock ends.
    tell(&format!("{} is started", name(system)));
    Ok(reboot(RebootCommand::Kexec)?)
}

/// Gets kernel and the rest out of a slot.
fn unpack(system: System, watchdog: &mut Watchdog) -> io::Result<()> {
    let mut file = File::open(slot(system))?;
    let head = read_head(&mut file)?;
    for (piece, path) in [&head.said.kernel, &head.said.initramfs].into_iter().zip(UNPACKED) {
        copy(&mut file, piece, &mut File::create(path)?, watchdog)?;
    }
    Ok(())
}

/// Readies another kernel.
fn load(system: System, watchdog: &mut Watchdog) -> io::Result<()> {
    let arguments = arguments::next(&fs::read_to_string("/proc/cmdline")?, system);
    let mut load = Command::new("/sbin/kexec");
    // What is loaded was compared with its digest, and a processor without caches would take long to do so once more.
    load.args(["--load", "--no-checks"]).arg(format!("--initrd={}", UNPACKED[1]));
    if cfg!(target_arch = "arm") {
        load.arg(KERNEL_SPACE);
    }
    let status = watchdog.during(load.arg(format!("--command-line={arguments}")).arg(UNPACKED[0]))?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("kexec has ended with {status}"))) }
}

fn read_head(file: &mut File) -> io::Result<Head> {
    let mut bytes = vec![0; HEAD_MOST];
    let mut length = 0;
    while length < HEAD_MOST {
        match file.read(&mut bytes[length..])? {
            0 => break,
            read => length += read,
        }
    }
    bytes.truncate(length);
    let head = head(&bytes).map_err(io::Error::other)?;
    head.is_for(&machine::model()).map_err(io::Error::other)?;
    io::Seek::seek(file, io::SeekFrom::Start(head.length))?;
    Ok(head)
}

/// Copies a piece, and compares it with its digest.
fn copy(from: &mut impl Read, piece: &Piece, to: &mut File, watchdog: &mut Watchdog) -> io::Result<()> {
    let (mut digest, mut left, mut dirty) = (Digest::default(), piece.bytes, 0);
    let mut part = vec![0; PART];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(PART).min(PART);
        from.read_exact(&mut part[..most])?;
        digest.update(&part[..most]);
        to.write_all(&part[..most])?;
        left -= most as u64;
        dirty += most as u64;
        if dirty >= FLUSHED {
            to.sync_data()?;
            dirty = 0;
        }
        watchdog.feed();
    }
    if digest.finish().eq_ignore_ascii_case(&piece.sha256) {
        Ok(())
    } else {
        Err(io::Error::other("it is damaged: it has another digest than its first lines say"))
    }
}

impl Systems {
    /// Reads what is written down; a card that was just written has nothing.
    fn read(card: &str) -> Self {
        let card = format!("/dev/{card}");
        let mut sectors = [[0; SECTOR]; 2];
        let read = File::open(&card).and_then(|file| {
            let places = sectors.iter_mut().zip(PLACES);
            places.into_iter().try_for_each(|(sector, place)| file.read_exact_at(sector, place))
        });
        if let Err(error) = read {
            tell(&format!("{card}: {error}"));
        }
        let (kept, turn) = kept::read(&sectors).unwrap_or_else(|| (Kept::new(machine::made()), 0));
        let seconds = argument(REJOIN).and_then(|text| text.parse::<Millis>().ok());
        let rejoin = seconds.map_or(REJOIN_MS, |seconds| seconds.saturating_mul(1000));
        Self { slots: Slots::new(kept, rejoin), card, turn }
    }

    /// Writes down what is known. Whether that is flushed.
    fn keep(&mut self, kept: &Kept) -> bool {
        self.turn += 1;
        let (place, sector) = kept::sector(kept, self.turn);
        let written = OpenOptions::new().write(true).open(&self.card).and_then(|file| {
            file.write_all_at(&sector, place)?;
            file.sync_all()
        });
        written.map_err(|error| tell(&format!("{}: {error}", self.card))).is_ok()
    }

    /// Goes on with a system that has come up; none where it is not the one that was to.
    pub fn new(card: &str, runs: Option<System>) -> Self {
        machine::private(SLOTS);
        let mut systems = Self::read(card);
        if let Some(system) = runs {
            tell(&format!("this is {}, image {}", name(system), machine::made()));
            systems.take(Input::Runs(system));
        }
        systems
    }

    /// When [`Self::look`] is wanted.
    pub fn deadline(&self) -> Option<Millis> {
        self.slots.deadline()
    }

    /// Looks at the time, and at whether the master was reached.
    pub fn look(&mut self, reached: bool) {
        if reached {
            self.take(Input::Contact);
        }
        if self.deadline().is_some_and(|at| at <= millis()) {
            tell("the master was not reached in time: the older system is started");
            self.take(Input::Tick);
        }
    }

    /// Takes one thing, and carries out what comes of it.
    fn take(&mut self, input: Input) {
        let mut out = Vec::new();
        self.slots.handle(millis(), input, &mut out);
        for output in out {
            match output {
                Output::Keep(kept) if !self.keep(&kept) => return,
                Output::Restart => restart(),
                other => told(&other),
            }
        }
    }

    /// Takes an update that somebody has put onto the boot partition, and starts the machine anew with it. It is marked in its place
    /// afterwards, so that it is taken once, and nothing else of the partition changes.
    pub fn take_from_card(&mut self, card: &str, watchdog: &mut Watchdog) {
        let path = Path::new(PLACE).join(format!("sai-{}.update", machine::model()));
        if let Err(error) = boot::mount_boot(card) {
            return tell(&format!("the boot partition: {error}"));
        }
        if path.exists()
            && let Err(error) = self.take_file(&path, watchdog)
        {
            tell(&format!("{}: {error}", path.display()));
        }
        let _ = unmount(PLACE, UnmountFlags::empty());
    }

    fn take_file(&mut self, path: &Path, watchdog: &mut Watchdog) -> io::Result<()> {
        let mut file = File::open(path)?;
        let mut begins = [0; MAGIC.len()];
        file.read_exact(&mut begins)?;
        if begins == TAKEN.as_bytes() {
            return Ok(());
        }
        io::Seek::rewind(&mut file)?;
        let head = read_head(&mut file)?;
        // Who has the card in the hand may also go back.
        match self.put(&mut file, &head, true, watchdog)? {
            Put::Written => {
                mark(path);
                restart();
            }
            Put::Later => tell("the update is looked at at the next start: another one is being tried"),
            Put::Refused(why) => {
                tell(&format!("the update is not taken: {why}"));
                mark(path);
            }
        }
        Ok(())
    }

    /// Writes an image into a slot, and has it tried at the next start.
    fn put(&mut self, file: &mut File, head: &Head, may_be_older: bool, watchdog: &mut Watchdog) -> io::Result<Put> {
        let mut out = Vec::new();
        self.slots.handle(millis(), Input::Offered(head.said.number, may_be_older), &mut out);
        let unkept = || io::Error::other("what is known of the systems cannot be written down");
        let mut next = None;
        for output in out {
            match output {
                Output::Keep(kept) if !self.keep(&kept) => return Err(unkept()),
                Output::Write(slot) => next = Some(slot),
                Output::Refused(why) => return Ok(Put::Refused(why)),
                Output::Later => return Ok(Put::Later),
                _ => {}
            }
        }
        let slot = next.ok_or_else(unkept)?;
        tell(&format!("image {} is put into {}", head.said.number, name(slot)));
        write(slot, file, head, watchdog)?;
        let mut out = Vec::new();
        self.slots.handle(millis(), Input::Written(head.said.number), &mut out);
        for output in out {
            if matches!(output, Output::Keep(kept) if !self.keep(&kept)) {
                return Err(unkept());
            }
        }
        Ok(Put::Written)
    }

    /// What the agent tells its master of this card.
    pub fn show(&self, agent: &str, key: Option<&[u8; UPDATE_KEY_BYTES]>) {
        let place = Path::new(agent).join(DIRECTORY);
        machine::private(&place.display().to_string());
        let kept = self.slots.kept();
        let card = Card {
            model: machine::model(),
            number: self.slots.number(),
            left: kept.left,
            lefts: Some(kept.lefts),
            key: key.map(|key| key.iter().map(|byte| format!("{byte:02x}")).collect()),
        };
        // It is made at each start, so nothing depends on its being flushed.
        if let Err(error) = fs::write(place.join(CARD), miniserde::json::to_string(&card)) {
            tell(&format!("{}: {error}", place.display()));
        }
    }

    /// Takes an image that the agent has handed on, and starts the machine anew with it. The agent is not believed: what is not signed
    /// by the key that came with the join line is not taken, wherever it is from.
    pub fn take_handed(&mut self, agent: &str, key: Option<&[u8; UPDATE_KEY_BYTES]>, watchdog: &mut Watchdog) {
        let place = Path::new(agent).join(DIRECTORY);
        let handed = place.join(HANDED);
        if !handed.exists() {
            return;
        }
        let mut take = || -> io::Result<Put> {
            let mut file = File::open(&handed)?;
            let head = read_head(&mut file)?;
            match signature::purpose(&head, key) {
                Ok(purpose) => self.put(&mut file, &head, purpose == Purpose::Downgrade, watchdog),
                Err(why) => Ok(Put::Refused(why)),
            }
        };
        let why = match take() {
            Ok(Put::Written) => {
                let _ = fs::remove_file(&handed);
                return restart();
            }
            Ok(Put::Later) => return,
            Ok(Put::Refused(why)) => why,
            Err(error) => error.to_string(),
        };
        tell(&format!("the image that was handed on is not taken: {why}"));
        let told = fs::write(place.join(REFUSED), why).and_then(|()| fs::remove_file(&handed));
        if let Err(error) = told {
            tell(&format!("{}: {error}", place.display()));
        }
    }
}

/// Writes an update into a slot: it is there whole, or not at all.
fn write(system: System, file: &mut File, head: &Head, watchdog: &mut Watchdog) -> io::Result<()> {
    let (new, path) = (slot(system).with_extension("new"), slot(system));
    for old in [&new, &path] {
        if old.exists() {
            fs::remove_file(old)?;
        }
    }
    let mut written = || -> io::Result<()> {
        let mut to = File::create(&new)?;
        io::Seek::rewind(file)?;
        io::copy(&mut Read::by_ref(file).take(head.length), &mut to)?;
        for piece in [&head.said.kernel, &head.said.initramfs] {
            copy(file, piece, &mut to, watchdog)?;
        }
        to.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(SLOTS)?.sync_all()
    };
    let written = written();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// Marks a file of the boot partition as taken.
fn mark(path: &Path) {
    boot::change("the mark that the update was taken", || {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.write_all(TAKEN.as_bytes())?;
        file.sync_all()
    });
}

fn millis() -> Millis {
    machine::since_start().as_millis().try_into().unwrap_or(Millis::MAX)
}
