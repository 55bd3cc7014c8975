//! A board's USB port → the device that is plugged in there, if it is the one that is meant, and transfers to it, over nusb.
//!
//! It is found by its port and by nothing else: no other device is ever opened, whatever it is.

use crate::flash::{Transfer, Trouble};
use crate::flashing::{Event, Port};
use crate::stop::{self, Stop};
use nusb::transfer::{
    Buffer, Bulk, BulkOrInterrupt, ControlIn, ControlOut, ControlType, EndpointDirection, In, Out, Recipient,
    TransferError,
};
use nusb::{DeviceInfo, Endpoint, ErrorKind, Interface, MaybeFuture as _};
use sai_core::bench::AtUsb;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Time between two looks at whether a transfer is to be broken off.
const LOOK: Duration = Duration::from_millis(200);
/// Time in which a device that was pulled out is gone for the kernel, too.
const GONE: Duration = Duration::from_millis(1_000);
/// Time in which a transfer that was broken off has ended.
const BROKEN_OFF: Duration = Duration::from_secs(1);

/// The device at a port, of a board that somebody has.
pub struct AtPort<'a> {
    at: AtUsb,
    stop: Stop,
    /// Brings the board into its loader.
    enters: &'a dyn Fn() -> io::Result<()>,
    entered: bool,
    open: Option<Opened>,
}

/// A device that is open.
struct Opened {
    device: nusb::Device,
    /// Where the kernel shows it, and its number there, which no other one gets while it is.
    shown: PathBuf,
    number: u8,
    interface: Option<Interface>,
    from: Option<Endpoint<Bulk, In>>,
    to: Option<Endpoint<Bulk, Out>>,
}

impl<'a> AtPort<'a> {
    /// The device at this port, which is not opened yet.
    #[must_use]
    pub fn new(at: AtUsb, stop: Stop, enters: &'a dyn Fn() -> io::Result<()>) -> Self {
        AtPort { at, stop, enters, entered: false, open: None }
    }

    fn open(&mut self) -> Result<Vec<u8>, Trouble> {
        self.open = None;
        let found = nusb::list_devices().wait().map_err(refused)?.find(|device| is_at(device, &self.at.port));
        let found = found.ok_or(Trouble::Gone)?;
        let product = format!("{:04x}:{:04x}", found.vendor_id(), found.product_id());
        if let Some(wanted) = self.at.product.as_ref().filter(|wanted| !wanted.eq_ignore_ascii_case(&product)) {
            return Err(Trouble::Another(format!("{product}, not {wanted}")));
        }
        let serial = found.serial_number().unwrap_or_default();
        if let Some(wanted) = self.at.serial.as_ref().filter(|wanted| *wanted != serial) {
            return Err(Trouble::Another(format!("its serial number is {serial:?}, not {wanted:?}")));
        }
        let (shown, number) = (found.sysfs_path().to_path_buf(), found.device_address());
        // By its number: one that took its place since then is not opened.
        let device = found.open().wait().map_err(refused)?;
        let configuration = device.active_configuration().map_err(|error| Trouble::Refused(error.to_string()))?;
        let bytes = configuration.as_bytes().to_vec();
        self.open = Some(Opened { device, shown, number, interface: None, from: None, to: None });
        Ok(bytes)
    }
}

impl Port for AtPort<'_> {
    fn wait(&mut self, _: &mut [u8], within: Duration) -> io::Result<Event> {
        if std::mem::take(&mut self.entered) {
            return Ok(Event::Entered);
        }
        if self.stop.wait(within) {
            return Err(stop::given_up());
        }
        Ok(Event::Nothing)
    }

    fn send(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::Error::other("a USB device has no line that bytes are sent by"))
    }

    fn enter(&mut self) -> io::Result<()> {
        // What is there leaves the bus on the way.
        self.open = None;
        self.entered = true;
        (self.enters)()
    }

    fn transfer(&mut self, transfer: &Transfer, within: Duration) -> Result<Vec<u8>, Trouble> {
        if self.stop.said() {
            return Err(Trouble::GivenUp);
        }
        if *transfer == Transfer::Open {
            return self.open();
        }
        let opened = self.open.as_mut().ok_or(Trouble::Gone)?;
        if *transfer == Transfer::Reset {
            let reset = opened.device.reset().wait();
            self.open = None;
            return reset.map(|()| Vec::new()).map_err(refused);
        }
        opened.transfer(transfer, within, &self.stop)
    }
}

impl Opened {
    fn transfer(&mut self, transfer: &Transfer, within: Duration, stop: &Stop) -> Result<Vec<u8>, Trouble> {
        match transfer {
            Transfer::Open | Transfer::Reset => Err(Trouble::Gone),
            Transfer::Claim { interface, setting } => {
                let claimed = self.device.claim_interface(*interface).wait().map_err(refused)?;
                if claimed.get_alt_setting() != *setting {
                    claimed.set_alt_setting(*setting).wait().map_err(refused)?;
                }
                self.interface = Some(claimed);
                Ok(Vec::new())
            }
            Transfer::In(setup, length) => {
                let (control_type, recipient) = kind(setup.kind);
                let (request, value, index) = (setup.request, setup.value, setup.index);
                let asked = ControlIn { control_type, recipient, request, value, index, length: *length };
                self.device.control_in(asked, within).wait().map_err(|error| self.trouble(error))
            }
            Transfer::Out(setup, bytes) => {
                let (control_type, recipient) = kind(setup.kind);
                let (request, value, index) = (setup.request, setup.value, setup.index);
                let asked = ControlOut { control_type, recipient, request, value, index, data: bytes };
                let sent = self.device.control_out(asked, within).wait();
                sent.map(|()| Vec::new()).map_err(|error| self.trouble(error))
            }
            Transfer::BulkIn(address, length) => {
                let mut endpoint = match self.from.take().filter(|endpoint| endpoint.endpoint_address() == *address) {
                    Some(endpoint) => endpoint,
                    None => self.claimed()?.endpoint::<Bulk, In>(*address).map_err(refused)?,
                };
                // What is received ends with a packet, so there is room for whole ones.
                let length = length.next_multiple_of(endpoint.max_packet_size().max(1));
                let received = carry(&mut endpoint, Buffer::new(length), within, stop);
                self.from = Some(endpoint);
                received.map_err(|failed| self.failed(failed)).map(|(buffer, count)| {
                    let mut bytes = buffer.into_vec();
                    bytes.truncate(count);
                    bytes
                })
            }
            Transfer::BulkOut(address, bytes) => {
                let mut endpoint = match self.to.take().filter(|endpoint| endpoint.endpoint_address() == *address) {
                    Some(endpoint) => endpoint,
                    None => self.claimed()?.endpoint::<Bulk, Out>(*address).map_err(refused)?,
                };
                let sent = carry(&mut endpoint, bytes.clone().into(), within, stop);
                self.to = Some(endpoint);
                match sent {
                    Ok((_, count)) if count == bytes.len() => Ok(Vec::new()),
                    Ok((_, count)) => Err(Trouble::Refused(format!("{count} of {} bytes were taken", bytes.len()))),
                    Err(failed) => Err(self.failed(failed)),
                }
            }
        }
    }

    fn claimed(&self) -> Result<&Interface, Trouble> {
        self.interface.as_ref().ok_or_else(|| Trouble::Refused("no interface of the device is claimed".into()))
    }

    fn failed(&self, failed: Failed) -> Trouble {
        match failed {
            Failed::GivenUp => Trouble::GivenUp,
            Failed::Of(error) => self.trouble(error),
        }
    }

    /// What is behind an error. A device that is pulled out in the middle of something fails in many ways before it is gone.
    fn trouble(&self, error: TransferError) -> Trouble {
        match error {
            TransferError::Stall => Trouble::Stalled,
            TransferError::Disconnected => Trouble::Gone,
            TransferError::Cancelled if self.is_there() => Trouble::Late,
            _ => {
                let began = Instant::now();
                while self.is_there() {
                    if began.elapsed() >= GONE {
                        return Trouble::Refused(error.to_string());
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                Trouble::Gone
            }
        }
    }

    /// Whether the kernel still has it.
    fn is_there(&self) -> bool {
        let number = std::fs::read_to_string(self.shown.join("devnum"));
        number.is_ok_and(|number| number.trim().parse() == Ok(self.number))
    }
}

/// Why a transfer did not come to its end.
enum Failed {
    GivenUp,
    Of(TransferError),
}

/// One transfer at an endpoint, up to its end, the time limit or the word to stop: what was filled or emptied, and by how many bytes.
fn carry<Type: BulkOrInterrupt, Direction: EndpointDirection>(
    endpoint: &mut Endpoint<Type, Direction>,
    buffer: Buffer,
    within: Duration,
    stop: &Stop,
) -> Result<(Buffer, usize), Failed> {
    let began = Instant::now();
    endpoint.submit(buffer);
    loop {
        let left = within.saturating_sub(began.elapsed());
        if let Some(done) = endpoint.wait_next_complete(left.min(LOOK)) {
            done.status.map_err(Failed::Of)?;
            return Ok((done.buffer, done.actual_len));
        }
        let stopped = stop.said();
        if stopped || left.is_zero() {
            endpoint.cancel_all();
            let _ = endpoint.wait_next_complete(BROKEN_OFF);
            return Err(if stopped { Failed::GivenUp } else { Failed::Of(TransferError::Cancelled) });
        }
    }
}

/// Whether a device is plugged in at this port, by the name that the kernel gives to the place.
fn is_at(device: &DeviceInfo, port: &str) -> bool {
    device.sysfs_path().file_name().is_some_and(|name| name == port)
}

fn kind(kind: u8) -> (ControlType, Recipient) {
    let control_type = match kind >> 5 & 3 {
        0 => ControlType::Standard,
        1 => ControlType::Class,
        _ => ControlType::Vendor,
    };
    let recipient = match kind & 0x1f {
        0 => Recipient::Device,
        1 => Recipient::Interface,
        2 => Recipient::Endpoint,
        _ => Recipient::Other,
    };
    (control_type, recipient)
}

fn refused(error: nusb::Error) -> Trouble {
    match error.kind() {
        ErrorKind::Disconnected | ErrorKind::NotFound => Trouble::Gone,
        ErrorKind::Busy => Trouble::Refused(format!("another program or a driver has it: {error}")),
        ErrorKind::PermissionDenied => {
            Trouble::Refused(format!("this user may not open it, which a rule of udev's can allow: {error}"))
        }
        _ => Trouble::Refused(error.to_string()),
    }
}
