//! A time server's answer → the time: SNTP, RFC 4330, as a client that trusts whoever its owner named.

/// Bytes of a request, and of an answer without extensions.
pub const LENGTH: usize = 48;
/// The port that servers answer at.
pub const PORT: u16 = 123;
/// Seconds between 1900, where NTP begins, and 1970.
const TO_1970: i64 = 2_208_988_800;
/// Seconds after which NTP's count begins anew, in 2036.
const ERA: i64 = 1 << 32;

/// Where fields of a packet are.
const ORIGINATE: usize = 24;
/// See `ORIGINATE`.
const TRANSMIT: usize = 40;

/// A request: version 4, from a client. The mark is a number that a server sends back; who cannot see the request cannot guess it.
pub fn request(mark: u64) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[0] = 4 << 3 | 3;
    packet[TRANSMIT..].copy_from_slice(&mark.to_be_bytes());
    packet
}

/// The time that an answer to the request with this mark tells: seconds since 1970, and nanoseconds.
///
/// # Errors
/// Why it is none that can be gone by.
pub fn answer(packet: &[u8], mark: u64) -> Result<(i64, u32), &'static str> {
    let (Some(head), Some(originate), Some(transmit)) =
        (packet.get(..2), packet.get(ORIGINATE..ORIGINATE + 8), packet.get(TRANSMIT..TRANSMIT + 8))
    else {
        return Err("it is too short");
    };
    if originate != mark.to_be_bytes() {
        return Err("it is not to our request");
    }
    if head[0] & 7 != 4 || head[0] >> 6 == 3 {
        return Err("the server does not know the time itself");
    }
    if !(1..=15).contains(&head[1]) {
        return Err("the server wants to be left alone");
    }
    let number =
        |at: usize| i64::from(u32::from_be_bytes([transmit[at], transmit[at + 1], transmit[at + 2], transmit[at + 3]]));
    let (seconds, fraction) = (number(0), number(4));
    if seconds == 0 {
        return Err("it has no time");
    }
    // What looks as if it were before 1968 is after 2036.
    let era = if seconds < ERA / 2 { ERA } else { 0 };
    let nanoseconds = (fraction * 1_000_000_000) >> 32;
    Ok((seconds + era - TO_1970, u32::try_from(nanoseconds).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer of stratum 2 with this time, in NTP's seconds and 2^-32 of them.
    fn packet(mark: u64, seconds: u32, fraction: u32) -> [u8; LENGTH] {
        let mut packet = [0; LENGTH];
        packet[0] = 4 << 3 | 4;
        packet[1] = 2;
        packet[ORIGINATE..ORIGINATE + 8].copy_from_slice(&mark.to_be_bytes());
        packet[TRANSMIT..TRANSMIT + 4].copy_from_slice(&seconds.to_be_bytes());
        packet[TRANSMIT + 4..].copy_from_slice(&fraction.to_be_bytes());
        packet
    }

    #[test]
    fn the_time_is_read_in_both_eras() {
        assert_eq!(answer(&packet(7, 3_944_678_400, 1 << 31), 7), Ok((1_735_689_600, 500_000_000)));
        // The first second of the next era is 2036-02-07 06:28:16.
        assert_eq!(answer(&packet(7, 1, u32::MAX), 7), Ok((2_085_978_497, 999_999_999)));
    }

    #[test]
    fn what_is_no_answer_of_a_server_sets_no_clock() {
        let good = packet(7, 3_944_678_400, 0);
        assert_eq!(answer(&good, 8), Err("it is not to our request"));
        for length in 0..LENGTH {
            assert_eq!(answer(&good[..length], 7), Err("it is too short"));
        }
        for (at, value) in [(0, 4 << 3 | 3), (0, 3 << 6 | 4 << 3 | 4), (1, 0), (1, 16)] {
            let mut bad = good;
            bad[at] = value;
            assert!(answer(&bad, 7).is_err(), "{at} {value}");
        }
        assert_eq!(answer(&packet(7, 0, 1), 7), Err("it has no time"));
    }

    #[test]
    fn a_request_is_a_clients() {
        let request = request(0x0102_0304_0506_0708);
        assert_eq!((request[0], &request[TRANSMIT..]), (0x23, &[1, 2, 3, 4, 5, 6, 7, 8][..]));
    }
}
