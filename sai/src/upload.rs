//! A file → the same at the master, by its digest, however often the link breaks.

use crate::answers::Done;
use crate::master::{Master, Trouble, Waiting};
use sai_agent::digest::Sha256;
use sai_agent::pin::fingerprint_text;
use sai_core::bundle::PIECE_BYTES;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

/// Time for which a piece is sent again while the master cannot be reached.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Sends a file by its digest, piece by piece, from wherever the master has come to with it: the digest.
///
/// # Errors
/// Why the master does not have it.
pub async fn upload(
    master: &mut Master,
    place: &str,
    file: &mut (impl Read + Seek),
    size: u64,
) -> Result<String, Trouble> {
    let wrong = |error: std::io::Error| Trouble::Here(format!("what is to be sent: {error}"));
    let (mut sum, mut piece) = (Sha256::default(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece).map_err(wrong)? {
            0 => break,
            count => sum.update(piece.get(..count).unwrap_or_default()),
        }
    }
    let digest = fingerprint_text(&sum.finish());
    let mut waiting = Waiting::new(PATIENCE);
    // It may have all of it, or a part, from before.
    let (mut at, mut count) = (0, 0);
    loop {
        let path = format!("{place}/{digest}?size={size}&at={at}");
        match master.post::<Done>(&path, piece.get(..count).unwrap_or_default()).await {
            Ok(done) => {
                let there: u64 = done.done.parse().unwrap_or(u64::MAX);
                if there == size {
                    return Ok(digest);
                }
                if there > size {
                    return Err(Trouble::Here("the master says that it has more than there is".to_owned()));
                }
                if there > at {
                    waiting.came();
                } else if count > 0 {
                    waiting.pause("the master takes no more of it".to_owned()).await?;
                }
                at = there;
            }
            Err(Trouble::Link(why)) => waiting.pause(why).await?,
            Err(trouble) => return Err(trouble),
        }
        file.seek(SeekFrom::Start(at)).map_err(wrong)?;
        let most = usize::try_from(size - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let room = piece.get_mut(..most).unwrap_or_default();
        file.read_exact(room).map_err(wrong)?;
        count = most;
    }
}
