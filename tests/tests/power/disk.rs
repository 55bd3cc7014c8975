//! Writes, syncs and a power cut → what a file system may have after it: a disk that forgets what was not synced.
//!
//! Bytes are durable when their file was synced, names when a directory was. What was not may be there or not: of the names
//! what was done first, as a journal has it; of a file's bytes any pages, its length with or without them, and zeros where
//! bytes are missing. It is in memory and mounted by FUSE. It counts the operations that change it, and at any of them can kill
//! who asks for it, be full, or fail.

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::process::{Pid, Signal, kill_process};
use sai_tests::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

const PAGE: usize = 4096;
/// Nothing is remembered by the kernel, so that it forgets with the disk.
const NEVER: Duration = Duration::ZERO;

/// What becomes of an operation that would change the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Who asks for it is killed before it is done; nothing is done any more.
    Kill,
    /// What needs room, this and all later ones, gets none.
    Full,
    /// It alone fails (EIO).
    Failure,
    /// The first flush from then on of a file with this in its path fails (EIO), and what it was to make durable never is,
    /// although later flushes succeed and all of it can be read: so Linux has it.
    Flush(&'static str),
    /// The same, and who asked for it is killed before it hears of that.
    FlushUnheard(&'static str),
}

#[derive(Default)]
struct Faults {
    /// Operations so far.
    operations: u64,
    /// At which of them, from 1, and what.
    planned: Option<(u64, Fault)>,
    /// Whether it has happened.
    struck: bool,
}

#[derive(Clone)]
struct Node {
    kind: FileType,
    mode: u16,
    modified: SystemTime,
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Pages that were written since the last sync.
    dirty: BTreeSet<usize>,
}

/// A change of a directory: its node, a name, and what that names from now on.
type Naming = (u64, String, Option<u64>);

/// All that is on a disk, as it is and as it would be after a power cut.
#[derive(Clone, Default)]
pub struct Content {
    /// Numbers of nodes that were given; none is given again, whatever the disk is set back to.
    given: u64,
    nodes: BTreeMap<u64, Node>,
    names: BTreeMap<(u64, String), u64>,
    durable_names: BTreeMap<(u64, String), u64>,
    /// Changes that are not durable; those of one inner list are all there or none.
    namings: Vec<Vec<Naming>>,
}

impl Content {
    fn make(&mut self, parent: u64, name: &OsStr, kind: FileType, mode: u32) -> FileAttr {
        self.given += 1;
        let number = self.given;
        let node = Node {
            kind,
            mode: (mode & 0o7777) as u16,
            modified: SystemTime::now(),
            bytes: Vec::new(),
            durable: Vec::new(),
            dirty: BTreeSet::new(),
        };
        self.nodes.insert(number, node);
        if parent > 0 {
            self.rename(vec![(parent, name.to_string_lossy().into_owned(), Some(number))]);
        }
        self.about(number).expect("it was just made")
    }

    fn rename(&mut self, namings: Vec<Naming>) {
        apply(&mut self.names, &namings);
        self.namings.push(namings);
    }

    fn find(&self, parent: INodeNo, name: &OsStr) -> Option<u64> {
        self.names.get(&(parent.into(), name.to_string_lossy().into_owned())).copied()
    }

    /// Where a node is, from below the disk's root.
    fn path(&self, mut number: u64) -> String {
        let mut path = String::new();
        while let Some(((parent, name), _)) = self.names.iter().find(|(_, named)| **named == number) {
            path = format!("/{name}{path}");
            number = *parent;
        }
        path
    }

    fn about(&self, number: u64) -> Option<FileAttr> {
        let node = self.nodes.get(&number)?;
        let length = node.bytes.len() as u64;
        Some(FileAttr {
            ino: INodeNo(number),
            size: length,
            blocks: length.div_ceil(512),
            atime: node.modified,
            mtime: node.modified,
            ctime: node.modified,
            crtime: node.modified,
            kind: node.kind,
            perm: node.mode,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: PAGE as u32,
            flags: 0,
        })
    }

    /// Makes all of it durable.
    fn sync(&mut self) {
        self.namings.clear();
        self.durable_names.clone_from(&self.names);
        for node in self.nodes.values_mut() {
            node.dirty.clear();
            node.durable.clone_from(&node.bytes);
        }
    }

    /// What is there after the power was gone.
    fn cut(&mut self, random: &mut Random) {
        let kept = random.below(self.namings.len() as u64 + 1) as usize;
        for namings in self.namings.drain(..).take(kept) {
            apply(&mut self.durable_names, &namings);
        }
        self.names.clone_from(&self.durable_names);
        for node in self.nodes.values_mut() {
            let mut bytes = node.durable.clone();
            match random.below(3) {
                // The length came before the bytes.
                0 => bytes.resize(node.bytes.len(), 0),
                1 => {}
                _ => {
                    bytes.resize(node.bytes.len(), 0);
                    for page in &node.dirty {
                        if random.once_in(2) {
                            copy_page(&node.bytes, &mut bytes, *page);
                        }
                    }
                }
            }
            node.dirty.clear();
            node.durable.clone_from(&bytes);
            node.bytes = bytes;
        }
    }
}

fn apply(names: &mut BTreeMap<(u64, String), u64>, namings: &[Naming]) {
    for (parent, name, number) in namings {
        match number {
            Some(number) => names.insert((*parent, name.clone()), *number),
            None => names.remove(&(*parent, name.clone())),
        };
    }
}

fn copy_page(from: &[u8], to: &mut [u8], page: usize) {
    let range = page * PAGE..((page + 1) * PAGE).min(from.len()).min(to.len());
    if let (Some(from), Some(to)) = (from.get(range.clone()), to.get_mut(range)) {
        to.copy_from_slice(from);
    }
}

/// The disk, mounted.
pub struct Disk {
    content: Arc<Mutex<Content>>,
    faults: Arc<Mutex<Faults>>,
    path: PathBuf,
    session: Option<BackgroundSession>,
}

struct Mounted(Arc<Mutex<Content>>, Arc<Mutex<Faults>>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mounted {
    fn lock(&self) -> MutexGuard<'_, Content> {
        locked(&self.0)
    }

    /// Counts an operation, and says whether it is done. `room`: whether it needs some.
    fn ask(&self, request: &Request, room: bool) -> Result<(), Errno> {
        let mut faults = locked(&self.1);
        faults.operations += 1;
        let Some((at, fault)) = faults.planned.filter(|(at, _)| faults.operations >= *at) else { return Ok(()) };
        match fault {
            Fault::Kill => {
                if let Some(asks) = Pid::from_raw(request.pid() as i32).filter(|_| !faults.struck) {
                    let _ = kill_process(asks, Signal::KILL);
                }
            }
            Fault::Full if !room => return Ok(()),
            Fault::Failure if faults.operations > at => return Ok(()),
            Fault::Flush(_) | Fault::FlushUnheard(_) => return Ok(()),
            Fault::Full | Fault::Failure => {}
        }
        faults.struck = true;
        Err(if fault == Fault::Full { Errno::ENOSPC } else { Errno::EIO })
    }

    /// Whether a flush of this file, which has been counted, fails.
    fn fails_to_flush(&self, request: &Request, path: &str) -> bool {
        let mut faults = locked(&self.1);
        let fails = match faults.planned {
            Some((at, Fault::Flush(of) | Fault::FlushUnheard(of))) => {
                faults.operations >= at && !faults.struck && path.contains(of)
            }
            _ => false,
        };
        faults.struck |= fails;
        if fails
            && let Some((_, Fault::FlushUnheard(_))) = faults.planned
            && let Some(asks) = Pid::from_raw(request.pid() as i32)
        {
            let _ = kill_process(asks, Signal::KILL);
        }
        fails
    }
}

impl Disk {
    /// Mounts an empty one; `None` for those who may not.
    pub fn mount(path: &Path) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
            eprintln!("SKIPPED: only root can mount a disk of this test's own, with /dev/fuse");
            return None;
        }
        std::fs::create_dir_all(path).expect("a directory");
        let mut content = Content::default();
        content.make(0, OsStr::new(""), FileType::Directory, 0o711);
        let (content, faults) = (Arc::new(Mutex::new(content)), Arc::default());
        let mut disk = Self { content, faults, path: path.to_path_buf(), session: None };
        match disk.attach() {
            Ok(()) => Some(disk),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                eprintln!("SKIPPED: this machine does not let a FUSE file system be mounted: {error}");
                None
            }
            Err(error) => panic!("the disk cannot be mounted: {error}"),
        }
    }

    fn attach(&mut self) -> std::io::Result<()> {
        let mounted = Mounted(Arc::clone(&self.content), Arc::clone(&self.faults));
        self.session = Some(fuser::spawn_mount(mounted, &self.path, &Config::default())?);
        Ok(())
    }

    /// Takes the power away and gives it back. Nobody may have the disk open.
    pub fn cut(&mut self, random: &mut Random) {
        drop(self.session.take());
        locked(&self.content).cut(random);
        self.attach().expect("it can be mounted again");
    }

    /// What is on it, all of it durable from now on.
    pub fn save(&self) -> Content {
        let mut content = locked(&self.content);
        content.sync();
        content.clone()
    }

    /// Sets it back to what it was. Nobody may have it open.
    pub fn set_back(&self, saved: &Content) {
        let mut content = locked(&self.content);
        let given = content.given;
        content.clone_from(saved);
        content.given = given;
    }

    /// Counts operations from 1 again, with this to happen at one of them.
    pub fn plan(&self, fault: Option<(u64, Fault)>) {
        *locked(&self.faults) = Faults { planned: fault, ..Faults::default() };
    }

    /// How many operations there were, and whether what was planned has happened. Nothing more will.
    pub fn heal(&self) -> (u64, bool) {
        let mut faults = locked(&self.faults);
        faults.planned = None;
        (faults.operations, faults.struck)
    }

    /// Whether what was planned has happened.
    pub fn struck(&self) -> bool {
        locked(&self.faults).struck
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let content = self.lock();
        match content.find(parent, name).and_then(|number| content.about(number)) {
            Some(about) => reply.entry(&NEVER, &about, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.lock().about(number.into()) {
            Some(about) => reply.attr(&NEVER, &about),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if let Err(error) = self.ask(request, false) {
            return reply.error(error);
        }
        let mut content = self.lock();
        let Some(node) = content.nodes.get_mut(&number.into()) else { return reply.error(Errno::ENOENT) };
        if let Some(mode) = mode {
            node.mode = (mode & 0o7777) as u16;
        }
        if let Some(size) = size {
            node.bytes.resize(size as usize, 0);
            node.dirty.insert(size as usize / PAGE);
        }
        match content.about(number.into()) {
            Some(about) => reply.attr(&NEVER, &about),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn mknod(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: u32, reply: ReplyEntry) {
        if let Err(error) = self.ask(request, true) {
            return reply.error(error);
        }
        let kind = if mode & 0o170_000 == 0o140_000 { FileType::Socket } else { FileType::RegularFile };
        reply.entry(&NEVER, &self.lock().make(parent.into(), name, kind, mode), Generation(0));
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        if let Err(error) = self.ask(request, true) {
            return reply.error(error);
        }
        reply.entry(&NEVER, &self.lock().make(parent.into(), name, FileType::Directory, mode), Generation(0));
    }

    fn create(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        if let Err(error) = self.ask(request, true) {
            return reply.error(error);
        }
        let about = self.lock().make(parent.into(), name, FileType::RegularFile, mode);
        reply.created(&NEVER, &about, Generation(0), FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if let Err(error) = self.ask(request, false) {
            return reply.error(error);
        }
        self.lock().rename(vec![(parent.into(), name.to_string_lossy().into_owned(), None)]);
        reply.ok();
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let content = self.lock();
        let number = content.find(parent, name).unwrap_or(0);
        let empty =
            content.names.range((number, String::new())..).next().is_none_or(|((parent, _), _)| *parent != number);
        drop(content);
        if empty { self.unlink(request, parent, name, reply) } else { reply.error(Errno::ENOTEMPTY) }
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !(flags - RenameFlags::RENAME_EXCHANGE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        if let Err(error) = self.ask(request, false) {
            return reply.error(error);
        }
        let mut content = self.lock();
        let Some(number) = content.find(parent, name) else { return reply.error(Errno::ENOENT) };
        let other = if flags.is_empty() { None } else { content.find(new_parent, new_name) };
        let text = |name: &OsStr| name.to_string_lossy().into_owned();
        content.rename(vec![(parent.into(), text(name), other), (new_parent.into(), text(new_name), Some(number))]);
        reply.ok();
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let content = self.lock();
        let Some(node) = content.nodes.get(&number.into()) else { return reply.error(Errno::ENOENT) };
        let from = (offset as usize).min(node.bytes.len());
        reply.data(&node.bytes[from..(from + size as usize).min(node.bytes.len())]);
    }

    fn write(
        &self,
        request: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let end = offset + data.len() as u64;
        let grows = self.lock().nodes.get(&number.into()).is_none_or(|node| end > node.bytes.len() as u64);
        if let Err(error) = self.ask(request, grows) {
            return reply.error(error);
        }
        let mut content = self.lock();
        let Some(node) = content.nodes.get_mut(&number.into()) else { return reply.error(Errno::ENOENT) };
        let (from, end) = (offset as usize, offset as usize + data.len());
        if node.bytes.len() < end {
            node.bytes.resize(end, 0);
        }
        node.bytes[from..end].copy_from_slice(data);
        node.dirty.extend(from / PAGE..=end.saturating_sub(1) / PAGE);
        node.modified = SystemTime::now();
        reply.written(data.len() as u32);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, request: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        if let Err(error) = self.ask(request, false) {
            return reply.error(error);
        }
        let mut content = self.lock();
        let path = content.path(number.into());
        let Some(node) = content.nodes.get_mut(&number.into()) else { return reply.error(Errno::ENOENT) };
        if self.fails_to_flush(request, &path) {
            node.dirty.clear();
            return reply.error(Errno::EIO);
        }
        node.durable.resize(node.bytes.len(), 0);
        for page in std::mem::take(&mut node.dirty) {
            copy_page(&node.bytes, &mut node.durable, page);
        }
        reply.ok();
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let content = self.lock();
        let number = u64::from(number);
        let names = content.names.range((number, String::new())..).take_while(|((parent, _), _)| *parent == number);
        for (index, ((_, name), child)) in names.enumerate().skip(offset as usize) {
            let kind = content.nodes.get(child).map_or(FileType::RegularFile, |node| node.kind);
            if reply.add(INodeNo(*child), index as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn fsyncdir(&self, request: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        if let Err(error) = self.ask(request, false) {
            return reply.error(error);
        }
        let content = &mut *self.lock();
        for namings in content.namings.drain(..) {
            apply(&mut content.durable_names, &namings);
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 22, 1 << 21, 1 << 21, 1 << 20, 1 << 20, PAGE as u32, 255, PAGE as u32);
    }
}
