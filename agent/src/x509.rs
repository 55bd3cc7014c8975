//! Certificate DER → SubjectPublicKeyInfo that names its curve: just enough of X.509 (RFC 5280) to find a
//! certificate's key, and to rewrite a key whose elliptic curve is spelled out as parameters.
//!
//! `openssl ecparam -param_enc explicit` writes the curve's prime, coefficients and generator into the key instead of
//! its name (RFC 3279 §2.3.5). TLS libraries rightly refuse such keys (RFC 5480 §2.1.1 forbids them), so the
//! parameters are dropped and replaced by the name of the standard curve with points of that size. Parameters that
//! somebody made up therefore have no effect: every computation uses the standard generator.

use core::fmt;

/// DER tag of an INTEGER (X.690 §8.3).
pub const INTEGER: u8 = 0x02;
/// DER tag of a BIT STRING (X.690 §8.6).
pub const BIT_STRING: u8 = 0x03;
/// DER tag of an OCTET STRING (X.690 §8.7).
pub const OCTET_STRING: u8 = 0x04;
/// DER tag of an OBJECT IDENTIFIER (X.690 §8.19).
pub const OBJECT_IDENTIFIER: u8 = 0x06;
/// DER tag of a SEQUENCE (X.690 §8.9).
pub const SEQUENCE: u8 = 0x30;
/// DER tag of a constructed, context-specific element numbered 0.
pub const CONTEXT_0: u8 = 0xa0;
/// DER tag of a constructed, context-specific element numbered 1.
pub const CONTEXT_1: u8 = 0xa1;

/// Contents of the object identifier id-ecPublicKey, 1.2.840.10045.2.1 (RFC 5480 §2.1.1).
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// The NIST curves that TLS 1.3 signs with (RFC 8446 §4.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// secp256r1
    P256,
    /// secp384r1
    P384,
    /// secp521r1
    P521,
}

impl Curve {
    /// The curve whose scalars and coordinates are `length` bytes long.
    #[must_use]
    pub fn with_field_bytes(length: usize) -> Option<Self> {
        [Self::P256, Self::P384, Self::P521].into_iter().find(|curve| curve.field_bytes() == length)
    }

    /// Bytes of one coordinate or scalar.
    #[must_use]
    pub fn field_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// Contents of the curve's object identifier (RFC 5480 §2.1.1.1).
    fn object_identifier(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Self::P384 => &[0x2b, 0x81, 0x04, 0x00, 0x22],
            Self::P521 => &[0x2b, 0x81, 0x04, 0x00, 0x23],
        }
    }
}

/// What in a certificate or key could not be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// One DER element: a tag and what it holds.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    /// Identifier octet; tags above 30, which X.509 does not use, are not understood.
    pub tag: u8,
    /// Header and contents.
    pub whole: &'a [u8],
    /// Contents alone.
    pub contents: &'a [u8],
}

/// Walks DER elements that follow one another.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    /// The elements in `bytes`.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next element, if it has this tag; otherwise nothing is consumed.
    pub fn with_tag(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.next()?;
        if element.tag != tag {
            return None;
        }
        *self = ahead;
        Some(element)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, after_tag) = self.rest.split_first()?;
        let (&first, after_first) = after_tag.split_first()?;
        let (length, after_length) = if first < 0x80 {
            (usize::from(first), after_first)
        } else {
            // Four bytes of length are more than any certificate needs, and cannot overflow.
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return None;
            }
            let (digits, after) = after_first.split_at_checked(count)?;
            let length = digits.iter().fold(0_u64, |sum, &digit| sum << 8 | u64::from(digit));
            (usize::try_from(length).ok()?, after)
        };
        let (contents, rest) = after_length.split_at_checked(length)?;
        let whole = self.rest.get(..self.rest.len() - rest.len())?;
        self.rest = rest;
        Some(Element { tag, whole, contents })
    }
}

/// Encodes one DER element around the concatenation of `parts`.
#[must_use]
pub fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let digits = length.to_be_bytes();
            let zeros = digits.iter().take_while(|&&digit| digit == 0).count();
            let digits = digits.get(zeros..).unwrap_or_default();
            // A length has at most eight digits, which fits the seven bits of the count.
            out.push(0x80 | digits.len() as u8);
            out.extend_from_slice(digits);
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// The SubjectPublicKeyInfo (RFC 5280 §4.1) of a certificate, with explicit curve parameters replaced by the name of
/// the standard curve.
///
/// # Errors
/// [`Malformed`] when the bytes are not a certificate, or its key is on no curve that TLS knows.
pub fn public_key_info(certificate: &[u8]) -> Result<Vec<u8>, Malformed> {
    const NOT_ONE: Malformed = Malformed("not an X.509 certificate");
    let certificate = Elements::of(certificate).with_tag(SEQUENCE).ok_or(NOT_ONE)?;
    let body = Elements::of(certificate.contents).with_tag(SEQUENCE).ok_or(NOT_ONE)?;
    let mut fields = Elements::of(body.contents);
    // The version is absent from certificates of version 1.
    fields.with_tag(CONTEXT_0);
    fields.with_tag(INTEGER).ok_or(NOT_ONE)?;
    for _signature_issuer_validity_subject in 0..4 {
        fields.with_tag(SEQUENCE).ok_or(NOT_ONE)?;
    }
    let key = fields.with_tag(SEQUENCE).ok_or(NOT_ONE)?;
    name_the_curve(key)
}

/// Rewrites a SubjectPublicKeyInfo with explicit curve parameters; any other is returned as it is.
fn name_the_curve(key: Element<'_>) -> Result<Vec<u8>, Malformed> {
    const NO_KEY: Malformed = Malformed("the certificate's public key cannot be read");
    let mut fields = Elements::of(key.contents);
    let algorithm = fields.with_tag(SEQUENCE).ok_or(NO_KEY)?;
    let bits = fields.with_tag(BIT_STRING).ok_or(NO_KEY)?;
    let mut algorithm = Elements::of(algorithm.contents);
    let identifier = algorithm.with_tag(OBJECT_IDENTIFIER).ok_or(NO_KEY)?;
    if identifier.contents != EC_PUBLIC_KEY || algorithm.with_tag(SEQUENCE).is_none() {
        return Ok(key.whole.to_vec());
    }
    // The bit string is a count of unused bits (none), then an uncompressed point: 4, x, y (SEC 1 §2.3.3).
    let [0, 4, coordinates @ ..] = bits.contents else {
        return Err(NO_KEY);
    };
    let curve = Curve::with_field_bytes(coordinates.len() / 2)
        .filter(|curve| curve.field_bytes() * 2 == coordinates.len())
        .ok_or(Malformed(
            "the certificate's key is on a curve that TLS does not know; expected P-256, P-384 or P-521",
        ))?;
    Ok(ec_public_key_info(curve, bits.contents.get(1..).unwrap_or_default()))
}

/// The SubjectPublicKeyInfo of an uncompressed point (SEC 1 §2.3.3, beginning with the byte 4) on a curve, with the
/// curve named (RFC 5480 §2).
#[must_use]
pub fn ec_public_key_info(curve: Curve, point: &[u8]) -> Vec<u8> {
    let algorithm = element(
        SEQUENCE,
        &[&element(OBJECT_IDENTIFIER, &[EC_PUBLIC_KEY]), &element(OBJECT_IDENTIFIER, &[curve.object_identifier()])],
    );
    element(SEQUENCE, &[&algorithm, &element(BIT_STRING, &[&[0], point])])
}

/// The key bits of a SubjectPublicKeyInfo: the contents of its BIT STRING after the count of unused bits.
#[must_use]
pub fn public_key_bits(public_key_info: &[u8]) -> Option<&[u8]> {
    let info = Elements::of(public_key_info).with_tag(SEQUENCE)?;
    let mut fields = Elements::of(info.contents);
    fields.with_tag(SEQUENCE)?;
    fields.with_tag(BIT_STRING)?.contents.get(1..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_p521_key_begins_with_the_bytes_of_rfc_5480() {
        let mut point = vec![4];
        point.extend([7; 132]);
        let info = ec_public_key_info(Curve::P521, &point);
        assert_eq!(
            info.get(..25).unwrap(),
            [
                0x30, 0x81, 0x9b, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
                0x81, 0x04, 0x00, 0x23, 0x03, 0x81, 0x86, 0x00
            ]
        );
        assert_eq!(public_key_bits(&info), Some(&point[..]));
    }

    #[test]
    fn lengths_that_lie_end_the_walk() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 0x80],
            &[0x30, 0x02, 0x01],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x85, 0, 0, 0, 0, 1, 0],
        ] {
            assert!(Elements::of(bytes).next().is_none(), "{bytes:02x?}");
            assert!(public_key_info(bytes).is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn every_truncation_of_a_key_is_refused_without_panic() {
        let mut point = vec![4];
        point.extend([9; 64]);
        let info = ec_public_key_info(Curve::P256, &point);
        for length in 0..info.len() {
            assert_eq!(public_key_bits(&info[..length]), None, "{length}");
        }
    }
}
