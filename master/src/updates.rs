//! A file that `cross/image` made → the same with this master's signature, kept by its digest for the agents that are to have it.

use crate::http::{Request, Response};
use crate::update_key::UpdateKey;
use sai_agent::digest::Sha256;
use sai_agent::durable;
use sai_agent::pin::fingerprint_text;
use sai_core::card::Wanted;
use sai_core::ledger::AgentRecord;
use sai_core::update::{HEAD_MOST, Head, PIECE_MOST, Purpose, head};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Where images are kept, below the state directory.
const DIRECTORY: &str = "updates";
/// What is said of anything else than an image.
const EXPECTED: &str = "expected a file sai-MODEL.update, as cross/image makes it";
/// Bytes that are copied at once.
const PART: usize = 128 << 10;

/// Keeps an image, signed, and compares what is in it with what its head says.
///
/// # Errors
/// What is wrong with it, or in the way here.
pub fn keep(
    key: &UpdateKey,
    image: &Path,
    head: &Head,
    purpose: Purpose,
    agents: &[AgentRecord],
) -> Result<Wanted, String> {
    let signature = key.signature(head, purpose).map_err(|why| named(image, &why))?;
    let place = key.state().join(DIRECTORY);
    let ours = |error: io::Error| format!("the image cannot be kept in {}: {error}", place.display());
    DirBuilder::new().recursive(true).mode(0o700).create(&place).map_err(ours)?;
    forget(&place, agents).map_err(ours)?;
    let draft = place.join("new");
    let mut to = Copy { file: create(&draft).map_err(ours)?, digest: Sha256::default(), size: 0 };
    let first = [&head.lines, signature.line().as_bytes(), b"\n"].concat();
    to.take(&first).map_err(ours)?;
    let mut from = File::open(image).map_err(|error| named(image, &error))?;
    io::Seek::seek(&mut from, io::SeekFrom::Start(head.length)).map_err(|error| named(image, &error))?;
    for (name, piece) in [("kernel", &head.said.kernel), ("system", &head.said.initramfs)] {
        let (mut digest, mut left, mut part) = (Sha256::default(), piece.bytes, vec![0; PART]);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(PART).min(PART);
            let short = |error: io::Error| match error.kind() {
                ErrorKind::UnexpectedEof => named(image, &"it is cut short"),
                _ => named(image, &error),
            };
            from.read_exact(&mut part[..most]).map_err(short)?;
            digest.update(&part[..most]);
            to.take(&part[..most]).map_err(ours)?;
            left -= most as u64;
        }
        if !fingerprint_text(&digest.finish()).eq_ignore_ascii_case(&piece.sha256) {
            let why = format!("it is damaged: its {name} has another SHA-256 than its second line says");
            return Err(named(image, &why));
        }
    }
    let Copy { file, digest, size } = to;
    let sha256 = fingerprint_text(&digest.finish());
    file.sync_all().map_err(ours)?;
    fs::rename(&draft, place.join(&sha256)).map_err(ours)?;
    durable::sync_directory(&place).map_err(ours)?;
    Ok(Wanted { number: head.said.number, sha256, size, after: None, lefts: None, failed: None })
}

/// A file that is written, and its digest meanwhile.
struct Copy {
    file: File,
    digest: Sha256,
    size: u64,
}

impl Copy {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn named(file: &Path, why: &dyn std::fmt::Display) -> String {
    format!("{}: {why}", file.display())
}

/// Removes images that no agent is to have any more.
fn forget(place: &Path, agents: &[AgentRecord]) -> io::Result<()> {
    let wanted: Vec<&String> = agents.iter().filter_map(|agent| Some(&agent.update.as_ref()?.sha256)).collect();
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        if !wanted.iter().any(|sha256| entry.file_name() == sha256.as_str()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Reads the head of an image.
///
/// # Errors
/// It cannot be read by the master, or is no image.
pub fn read_head(image: &Path) -> Result<Head, String> {
    let unreadable = |error: io::Error| match error.kind() {
        ErrorKind::PermissionDenied => named(image, &"the master may not read it, and runs as another user than you"),
        _ => named(image, &error),
    };
    let about = fs::metadata(image).map_err(unreadable)?;
    // Another kind of file could keep us waiting.
    if !about.is_file() || about.len() > 2 * PIECE_MOST + HEAD_MOST as u64 {
        return Err(named(image, &EXPECTED));
    }
    let mut bytes = Vec::new();
    File::open(image).and_then(|file| file.take(HEAD_MOST as u64).read_to_end(&mut bytes)).map_err(unreadable)?;
    head(&bytes).map_err(|why| named(image, &format!("{why}; {EXPECTED}")))
}

/// Gives an agent the image that its card is to have.
pub fn respond(state: &Path, agents: &[AgentRecord], agent: &str, sha256: &str, request: &Request) -> Option<Response> {
    let wanted = agents.iter().find(|record| record.name == agent)?.update.as_ref()?;
    if !wanted.sha256.eq_ignore_ascii_case(sha256) || wanted.failed.is_some() {
        return None;
    }
    let file = match File::open(state.join(DIRECTORY).join(&wanted.sha256)) {
        Ok(file) => file,
        Err(error) => return Some(Response::text(410, format!("the image cannot be read: {error}"))),
    };
    let tag = format!("\"{sha256}\"");
    let response = Response::file(request, file, "application/octet-stream", Some(&tag));
    Some(match response {
        Ok(response) => response.with("cache-control", "no-store"),
        Err(error) => Response::text(500, format!("the image cannot be read: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::digest_hex;
    use crate::update_key::{PRIVATE, draw};
    use ring::signature::{ED25519, UnparsedPublicKey};
    use std::os::unix::fs::PermissionsExt as _;

    fn image(number: u64, third: &str) -> Vec<u8> {
        let piece = |text: &str| format!("{{\"bytes\": {}, \"sha256\": \"{}\"}}", text.len(), digest_hex(text));
        let (kernel, rest) = (piece("kernel"), piece("system\n"));
        let said = format!("{{\"model\": \"pi3\", \"number\": {number}, \"kernel\": {kernel}, \"initramfs\": {rest}}}");
        format!("sai-update 1\n{said}\n{third}\nkernelsystem\n").into_bytes()
    }

    #[test]
    fn an_image_is_signed_by_a_key_that_is_made_once() {
        let state = std::env::temp_dir().join(format!("sai-update-key-{}", std::process::id()));
        fs::create_dir_all(&state).unwrap();
        let key = UpdateKey::load(&state).unwrap();
        assert_eq!(UpdateKey::load(&state).unwrap().public(), key.public());
        let private = state.join(PRIVATE);
        assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);

        let file = state.join("sai-pi3.update");
        let keep = |key: &UpdateKey, purpose| {
            let head = read_head(&file)?;
            super::keep(key, &file, &head, purpose, &[])
        };
        fs::write(&file, image(7, "unsigned")).unwrap();
        let mut kept = Vec::new();
        for purpose in [Purpose::Update, Purpose::Downgrade] {
            let wanted = keep(&key, purpose).unwrap();
            let bytes = fs::read(state.join(DIRECTORY).join(&wanted.sha256)).unwrap();
            assert_eq!((bytes.len() as u64, wanted.number), (wanted.size, 7));
            assert!(bytes.ends_with(b"\nkernelsystem\n"));
            let head = head(&bytes).unwrap();
            let signature = head.signature.unwrap();
            let public = UnparsedPublicKey::new(&ED25519, key.public());
            assert!(signature.purpose == purpose && public.verify(&head.signed(purpose), &signature.bytes).is_ok());
            kept.push(bytes);
        }
        assert_eq!(fs::read_dir(state.join(DIRECTORY)).unwrap().count(), 1, "nobody wants the first any more");

        // The private half is taken elsewhere: what is signed there is taken as it is, for what it is signed for.
        fs::remove_file(&private).unwrap();
        let elsewhere = UpdateKey::load(&state).unwrap();
        assert_eq!(elsewhere.public(), key.public());
        assert!(keep(&elsewhere, Purpose::Update).unwrap_err().contains("nobody has signed it"));
        fs::write(&file, &kept[0]).unwrap();
        assert!(keep(&elsewhere, Purpose::Update).is_ok());
        assert!(keep(&elsewhere, Purpose::Downgrade).unwrap_err().contains("for no downgrade"));

        for (bytes, why) in [
            (kept[0][..kept[0].len() - 1].to_vec(), "cut short"),
            ([&kept[0][..kept[0].len() - 1], b"x"].concat(), "another SHA-256"),
            (b"MZ".to_vec(), "expected a file sai-MODEL.update"),
        ] {
            fs::write(&file, bytes).unwrap();
            let told = keep(&elsewhere, Purpose::Update).unwrap_err();
            assert!(told.starts_with(file.to_str().unwrap()) && told.contains(why), "{told}");
        }
        fs::write(&private, "no key").unwrap();
        assert!(UpdateKey::load(&state).err().unwrap().contains("openssl genpkey"));
        fs::write(&private, draw().unwrap()).unwrap();
        assert!(UpdateKey::load(&state).err().unwrap().contains("not the public half"));
        fs::remove_dir_all(state).unwrap();
    }
}
