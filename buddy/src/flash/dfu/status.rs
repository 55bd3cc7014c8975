//! Six bytes of a loader → how it is: its status, its state and the time that it wants.

use crate::flash::{Whose, shown};
use sai_core::limits::Millis;

/// States that a loader can be in (DFU 1.1, 6.1.2).
pub(super) mod state {
    pub const IDLE: u8 = 2;
    pub const DOWNLOAD_SYNC: u8 = 3;
    pub const DOWNLOAD_BUSY: u8 = 4;
    pub const DOWNLOAD_IDLE: u8 = 5;
    pub const MANIFEST_SYNC: u8 = 6;
    pub const MANIFEST: u8 = 7;
    pub const WAIT_RESET: u8 = 8;
    pub const UPLOAD_IDLE: u8 = 9;
    pub const ERROR: u8 = 10;
}

/// Bytes of an answer to GETSTATUS.
pub(super) const STATUS_BYTES: usize = 6;

/// What a loader says of how it is.
pub(super) struct Status {
    pub status: u8,
    pub poll: Millis,
    pub state: u8,
}

impl Status {
    pub fn of(bytes: &[u8]) -> Result<Status, String> {
        match bytes {
            [status, low, middle, high, state, _] => {
                let poll = u32::from_le_bytes([*low, *middle, *high, 0]).into();
                Ok(Status { status: *status, poll, state: *state })
            }
            _ => Err(format!("the loader's status is none: {}", shown(bytes))),
        }
    }

    /// It for people: the statuses of 6.1.2.
    pub fn text(&self) -> String {
        let status = match self.status {
            0 => "no error",
            1 => "the image is not for this device (errTARGET)",
            2 => "the image is not what it wants (errFILE)",
            3 => "its memory cannot be written (errWRITE)",
            4 => "its memory cannot be erased (errERASE)",
            5 => "its memory is not erased (errCHECK_ERASED)",
            6 => "its memory cannot be programmed (errPROG)",
            7 => "its memory does not hold what was written (errVERIFY)",
            8 => "no memory is there, or it is protected (errADDRESS)",
            9 => "it has not had all (errNOTDONE)",
            10 => "what is there cannot run (errFIRMWARE)",
            11 => "an error of its maker's own (errVENDOR)",
            12 => "it was reset by the bus (errUSBR)",
            13 => "it was reset by power (errPOR)",
            15 => "what was asked was not expected (errSTALLEDPKT)",
            _ => "an error that it does not know (errUNKNOWN)",
        };
        format!("{status}, state {}", self.state)
    }

    pub fn whose(&self) -> Whose {
        match self.status {
            1 | 2 => Whose::Image,
            _ => Whose::Board,
        }
    }
}
