//! Messages and pieces of streams ↔ frames of the link of the moment, until one of both is gone.

use super::{Event, FAREWELL, Piece};
use crate::blocking::unblock;
use crate::link::{Closed, Frame, Link, LinkSender};
use sai_core::wire::DATA_HEADER_BYTES;
use smol::Timer;
use smol::channel::{Receiver, Sender};
use smol::future::{self, FutureExt as _};
use std::io;

/// Carries frames between the link and the loop until the link is gone, or the queues that lead to it are.
pub(super) async fn carry(
    generation: u64,
    link: Link,
    to_send: Receiver<String>,
    to_read: Receiver<Piece>,
    events: Sender<Event>,
) {
    let Link { sender, receiver, driver } = link;
    let receive = async {
        while let Some(frame) = receiver.receive().await {
            if events.send(Event::Frame(generation, frame)).await.is_err() {
                return;
            }
        }
    };
    let drive = async {
        if let Some(driver) = driver {
            driver.await;
        }
    };
    let work = async {
        let (sent, ()) = future::zip(transmit(generation, sender, to_send, to_read, &events), drive).await;
        if sent == Err(Closed) {
            // What arrived before the end, a farewell perhaps, is still to be read.
            Timer::after(FAREWELL).await;
        }
    };
    receive.or(work).await;
    let _ = events.send(Event::Gone(generation, receiver.why_closed())).await;
}

/// Sends messages, and pieces of streams when there is no message, until their queues are gone.
async fn transmit(
    generation: u64,
    sender: LinkSender,
    to_send: Receiver<String>,
    to_read: Receiver<Piece>,
    events: &Sender<Event>,
) -> Result<(), Closed> {
    enum Next {
        Message(String),
        Piece(Piece),
        Over,
    }
    loop {
        let message = async { to_send.recv().await.map_or(Next::Over, Next::Message) };
        let piece = async { to_read.recv().await.map_or(Next::Over, Next::Piece) };
        match message.or(piece).await {
            Next::Over => return Ok(()),
            Next::Message(text) => sender.send(Frame::Text(text)).await?,
            Next::Piece(piece) => {
                let key = piece.header.key;
                // While the link sends what is queued, the disk is read for the next.
                match unblock(move || read(&piece)).await {
                    Ok(frame) => sender.send(Frame::Binary(frame)).await?,
                    Err(why) => drop(events.send(Event::Unreadable(key, why)).await),
                }
                drop(events.send(Event::Taken(generation)).await);
            }
        }
    }
}

/// A data frame with a piece of a stream.
fn read(piece: &Piece) -> Result<Vec<u8>, String> {
    let Piece { directory, header, length } = piece;
    let mut frame = Vec::with_capacity(DATA_HEADER_BYTES + length);
    frame.extend_from_slice(&header.encode());
    frame.resize(DATA_HEADER_BYTES + length, 0);
    let mut offset = header.offset;
    let mut rest = &mut frame[DATA_HEADER_BYTES..];
    while !rest.is_empty() {
        let unreadable = |error: &dyn std::fmt::Display| format!("stream {} at {offset}: {error}", header.stream);
        match directory.read(header.stream, offset, rest) {
            Ok(0) => return Err(unreadable(&"it is shorter than it was")),
            Ok(count) => {
                offset += count as u64;
                rest = &mut rest[count..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(&error)),
        }
    }
    Ok(frame)
}
