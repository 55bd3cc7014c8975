//! GPIO lines by the kernel's first interface, over gpio-cdev: lines that are driven, and edges where there is no second one.
//!
//! When its buffer of 16 edges of a line is full, the newest are dropped and nothing tells it. All that can be seen is that a line
//! rose, or fell, twice in a row.

use super::{CONSUMER, Group, Inputs, Levels, Reading, Seen, driving, reading};
use crate::calls;
use crate::serial::{monotonic_ns, realtime_ns};
use gpio_cdev::{Chip, EventRequestFlags, EventType, LineEventHandle, LineRequestFlags, MultiLineHandle};
use gpiocdev_uapi::v1;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sai_core::bench::{Bias, Drive};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

/// Biases came to the interface in Linux 5.5, after the crate: bits 5 to 7.
const PULL_UP: u32 = 1 << 5;
const PULL_DOWN: u32 = 1 << 6;
const NO_PULL: u32 = 1 << 7;

/// Requests lines as outputs, at their safe levels.
pub(super) fn drive(path: &Path, group: &Group, offsets: &[u32]) -> io::Result<OwnedFd> {
    let mut flags = LineRequestFlags::OUTPUT;
    match driving(group) {
        // Others are none of the kernel's, and no bench has them of a chip of its.
        Drive::PushPull | Drive::Pulses { .. } | Drive::Function(_) => {}
        Drive::OpenDrain => flags |= LineRequestFlags::OPEN_DRAIN,
        Drive::OpenSource => flags |= LineRequestFlags::OPEN_SOURCE,
    }
    let levels: Vec<u8> = (0..offsets.len()).map(|place| (group.safe() >> place & 1) as u8).collect();
    let lines = Chip::new(path).and_then(|mut chip| chip.get_lines(offsets)).map_err(io::Error::other)?;
    let handle = lines.request(flags, &levels, CONSUMER).map_err(io::Error::other)?;
    calls::copy_of(&handle)
}

/// Sets all lines of a file.
pub(super) fn set(file: BorrowedFd<'_>, levels: u64) -> io::Result<()> {
    let values = std::array::from_fn(|place| (levels >> place & 1) as u8);
    let file = File::from(file.try_clone_to_owned()?);
    v1::set_line_values(&file, &v1::LineValues(values)).map_err(io::Error::other)
}

/// What lines are asked for with that are read.
fn read_flags(bias: Bias) -> LineRequestFlags {
    let pull = match bias {
        Bias::AsIs => 0,
        Bias::Disabled => NO_PULL,
        Bias::PullUp => PULL_UP,
        Bias::PullDown => PULL_DOWN,
    };
    LineRequestFlags::from_bits_retain(LineRequestFlags::INPUT.bits() | pull)
}

/// Levels of lines, without their edges, all by one file.
#[derive(Debug)]
pub(super) struct Read {
    group: Group,
    handle: MultiLineHandle,
}

impl Read {
    pub(super) fn request(path: &Path, group: &Group, offsets: &[u32]) -> io::Result<Self> {
        let lines = Chip::new(path).and_then(|mut chip| chip.get_lines(offsets)).map_err(io::Error::other)?;
        // Levels are asked for of outputs, but one for each line is to be there.
        let none = vec![0; offsets.len()];
        let handle = lines.request(read_flags(reading(group).bias), &none, CONSUMER).map_err(io::Error::other)?;
        Ok(Read { group: group.clone(), handle })
    }
}

impl Levels for Read {
    fn levels(&self) -> io::Result<u64> {
        let pins = self.handle.get_values().map_err(io::Error::other)?;
        let lines = pins.iter().zip(&self.group.lines).enumerate();
        Ok(lines.fold(0, |levels, (place, (pin, line))| levels | u64::from((*pin != 0) != line.active_low) << place))
    }
}

/// Edges of lines, each by a file of its own.
#[derive(Debug)]
pub(super) struct Edges {
    group: Group,
    handles: Vec<LineEventHandle>,
    numbers: Vec<u64>,
    /// The direction of the last edge of each.
    last: Vec<Option<bool>>,
}

impl Edges {
    pub(super) fn request(path: &Path, group: &Group, offsets: &[u32]) -> io::Result<Self> {
        let Reading { bias, debounce_us, .. } = reading(group);
        if debounce_us > 0 {
            let text = "this kernel has no `debounce`: it came with the second interface for GPIOs, in Linux 5.10";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let flags = || read_flags(bias);
        let mut chip = Chip::new(path).map_err(io::Error::other)?;
        let mut handle =
            |offset: &u32| chip.get_line(*offset)?.events(flags(), EventRequestFlags::BOTH_EDGES, CONSUMER);
        let handles = offsets.iter().map(&mut handle).collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
        let (numbers, last) = (vec![0; handles.len()], vec![None; handles.len()]);
        Ok(Edges { group: group.clone(), handles, numbers, last })
    }
}

impl Levels for Edges {
    fn levels(&self) -> io::Result<u64> {
        let mut levels = 0;
        for (place, (handle, line)) in self.handles.iter().zip(&self.group.lines).enumerate() {
            let pin = handle.get_value().map_err(io::Error::other)? != 0;
            levels |= u64::from(pin != line.active_low) << place;
        }
        Ok(levels)
    }
}

impl Inputs for Edges {
    fn files(&self) -> Vec<BorrowedFd<'_>> {
        self.handles.iter().map(|handle| handle.as_fd()).collect()
    }

    fn take(&mut self, out: &mut Vec<Seen>) -> io::Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        for (place, handle) in self.handles.iter_mut().enumerate() {
            let (Some(of), Some(number), Some(last)) =
                (self.group.lines.get(place), self.numbers.get_mut(place), self.last.get_mut(place))
            else {
                continue;
            };
            while poll(&mut [PollFd::new(&handle.as_fd(), PollFlags::IN)], Some(&now))? > 0 {
                let event = handle.get_event().map_err(io::Error::other)?;
                let rose = event.event_type() == EventType::RisingEdge;
                let ns = monotonic(event.timestamp());
                if last.replace(rose) == Some(rose) {
                    *number += 1;
                    out.push(Seen::Lost { line: place, count: None, ns });
                }
                *number += 1;
                out.push(Seen::Edge { line: place, level: rose != of.active_low, ns, number: *number });
            }
        }
        out.sort_by_key(|seen| match seen {
            Seen::Edge { ns, .. } | Seen::Lost { ns, .. } => *ns,
        });
        Ok(())
    }

    fn counts_losses(&self) -> bool {
        false
    }
}

/// A stamp as one of CLOCK_MONOTONIC. Before Linux 5.7 they are of CLOCK_REALTIME, and later than any moment that comes.
fn monotonic(ns: u64) -> u64 {
    let now = monotonic_ns();
    if ns > now { ns.saturating_sub(realtime_ns().saturating_sub(now)) } else { ns }
}
