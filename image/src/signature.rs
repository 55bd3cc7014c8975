//! The head of an update and the key that came with the join line → what the update is signed for, by ring.

use ring::signature::{ED25519, UnparsedPublicKey};
use sai_core::join::UPDATE_KEY_BYTES;
use sai_core::update::{Head, Purpose};

/// What an update is signed for.
///
/// # Errors
/// Why it is not to be believed.
pub fn purpose(head: &Head, key: Option<&[u8; UPDATE_KEY_BYTES]>) -> Result<Purpose, String> {
    let key = key.ok_or("the join line of this card had no update key")?;
    let signature = head.signature.ok_or("nobody has signed it")?;
    let signed = head.signed(signature.purpose);
    match UnparsedPublicKey::new(&ED25519, key).verify(&signed, &signature.bytes) {
        Ok(()) => Ok(signature.purpose),
        Err(_) => Err("its signature is not by the update key that came with this card's join line".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use sai_core::update::{Signature, head};

    #[test]
    fn only_the_one_key_is_believed_and_only_for_what_it_has_signed() {
        let piece = format!("{{\"bytes\": 8, \"sha256\": \"{}\"}}", "0f".repeat(32));
        let text = |third: &str, number: u32| {
            format!(
                "sai-update 1\n{{\"model\": \"pi3\", \"number\": {number}, \"kernel\": {piece}, \"initramfs\": {piece}}}\n\
                 {third}\nk"
            )
        };
        let read = |text: &str| head(text.as_bytes()).expect("a head");
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
        let key: [u8; UPDATE_KEY_BYTES] = pair.public_key().as_ref().try_into().expect("a public half");
        let unsigned = read(&text("unsigned", 1));
        assert!(purpose(&unsigned, Some(&key)).unwrap_err().contains("nobody has signed it"));
        for what in [Purpose::Update, Purpose::Downgrade] {
            let bytes = pair.sign(&unsigned.signed(what)).as_ref().try_into().expect("a signature");
            let line = |purpose| Signature { purpose, bytes }.line();
            let good = read(&text(&line(what), 1));
            assert_eq!(purpose(&good, Some(&key)), Ok(what));
            assert!(purpose(&good, None).unwrap_err().contains("had no update key"));
            assert!(purpose(&good, Some(&[9; 32])).is_err(), "another master's key");
            assert!(purpose(&read(&text(&line(what), 2)), Some(&key)).is_err(), "another image");
        }
        let bytes = pair.sign(&unsigned.signed(Purpose::Update)).as_ref().try_into().expect("a signature");
        let line = Signature { purpose: Purpose::Downgrade, bytes }.line();
        assert!(purpose(&read(&text(&line, 1)), Some(&key)).is_err(), "what may not go back does not");
    }
}
