//! GPIO lines by the kernel's second interface, over gpiocdev: edges with the kernel's own stamps and numbers, so that what is lost
//! is counted.
//!
//! When its buffer is full the oldest edges are dropped; the numbers of the others go on.

use super::{CONSUMER, Group, Inputs, Levels, Reading, Seen, driving, reading};
use gpiocdev::line::{self, EdgeDetection, EdgeKind, Value, Values};
use gpiocdev::{AbiVersion, Request};
use gpiocdev_uapi::v2;
use sai_core::bench::{Bias, Drive};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Edges that the kernel keeps for one that is late: as many as it lets anybody have.
const KEPT: u32 = 1024;
/// Edges that are taken out at once.
const TAKEN: usize = 64;

/// Requests lines as outputs, at their safe levels.
pub(super) fn drive(path: &Path, group: &Group, offsets: &[u32]) -> io::Result<OwnedFd> {
    // By the interface itself: the crate's own request sorts lines, and bits are in the order of the bench.
    let mut request =
        v2::LineRequest { num_lines: offsets.len() as u32, consumer: CONSUMER.into(), ..Default::default() };
    for (place, offset) in offsets.iter().enumerate() {
        request.offsets.set(place, *offset);
    }
    let flags = match driving(group) {
        // Others are none of the kernel's, and no bench has them of a chip of its.
        Drive::PushPull | Drive::Pulses { .. } | Drive::Function(_) => v2::LineFlags::OUTPUT,
        Drive::OpenDrain => v2::LineFlags::OUTPUT | v2::LineFlags::OPEN_DRAIN,
        Drive::OpenSource => v2::LineFlags::OUTPUT | v2::LineFlags::OPEN_SOURCE,
    };
    request.config.flags = flags;
    request.config.add_values(&v2::LineValues { bits: group.safe(), mask: group.mask() });
    let chip = File::options().read(true).write(true).open(path)?;
    v2::get_line(&chip, request).map(OwnedFd::from).map_err(io::Error::other)
}

/// Sets lines of a file.
pub(super) fn set(file: BorrowedFd<'_>, mask: u64, levels: u64) -> io::Result<()> {
    let file = File::from(file.try_clone_to_owned()?);
    v2::set_line_values(&file, &v2::LineValues { bits: levels, mask }).map_err(io::Error::other)
}

/// Edges of lines, all by one file.
#[derive(Debug)]
pub(super) struct Edges {
    group: Group,
    request: Request,
    offsets: Vec<u32>,
    /// The number of the last edge of each.
    numbers: Vec<u64>,
}

impl Edges {
    pub(super) fn request(path: &Path, group: &Group, offsets: &[u32]) -> io::Result<Self> {
        let Reading { bias, debounce_us, poll_ms } = reading(group);
        let mut builder = Request::builder();
        builder.using_abi_version(AbiVersion::V2).on_chip(path).with_consumer(CONSUMER).with_lines(offsets).as_input();
        match bias {
            Bias::AsIs => {}
            Bias::Disabled => _ = builder.with_bias(line::Bias::Disabled),
            Bias::PullUp => _ = builder.with_bias(line::Bias::PullUp),
            Bias::PullDown => _ = builder.with_bias(line::Bias::PullDown),
        }
        // A chip that tells nobody of edges may refuse to be asked for them.
        if poll_ms == 0 {
            builder.with_edge_detection(EdgeDetection::BothEdges);
        }
        if debounce_us > 0 {
            builder.with_debounce_period(Duration::from_micros(debounce_us.into()));
        }
        builder.with_kernel_event_buffer_size(KEPT).with_user_event_buffer_size(TAKEN);
        let request = builder.request().map_err(io::Error::other)?;
        let numbers = vec![0; offsets.len()];
        Ok(Edges { group: group.clone(), request, offsets: offsets.to_vec(), numbers })
    }
}

impl Levels for Edges {
    fn levels(&self) -> io::Result<u64> {
        let mut values = Values::from_offsets(&self.offsets);
        self.request.values(&mut values).map_err(io::Error::other)?;
        let mut levels = 0;
        for (place, (offset, line)) in self.offsets.iter().zip(&self.group.lines).enumerate() {
            let pin = values.get(*offset) == Some(Value::Active);
            levels |= u64::from(pin != line.active_low) << place;
        }
        Ok(levels)
    }
}

impl Inputs for Edges {
    fn files(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.request.as_fd()]
    }

    fn take(&mut self, out: &mut Vec<Seen>) -> io::Result<()> {
        let mut events = self.request.edge_events();
        while events.has_event().map_err(io::Error::other)? {
            let event = events.read_event().map_err(io::Error::other)?;
            let Some(line) = self.offsets.iter().position(|offset| *offset == event.offset) else { continue };
            let (Some(of), Some(last)) = (self.group.lines.get(line), self.numbers.get_mut(line)) else { continue };
            // They are counted up in 32 bits.
            let more = u64::from(event.line_seqno.wrapping_sub(*last as u32));
            let (ns, lost) = (event.timestamp_ns, more.saturating_sub(1));
            if lost > 0 {
                out.push(Seen::Lost { line, count: Some(lost), ns });
            }
            *last += more;
            let level = (event.kind == EdgeKind::Rising) != of.active_low;
            out.push(Seen::Edge { line, level, ns, number: *last });
        }
        Ok(())
    }

    fn counts_losses(&self) -> bool {
        true
    }
}
