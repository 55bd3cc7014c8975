//! WebSocket → a page's socket: what a viewer is sent through, kept alive by pings while there is nothing to say.
//!
//! Proxies close what is silent for a minute, and a phone that went away says nothing. So a page is pinged, and taken
//! for gone when it has not answered for a while.

use crate::front::{Message, Socket, SocketWriter};
use crate::prefix::Prefix;
use crate::viewers;
use sai_agent::link::Timing;
use smol::Timer;
use smol::future::or;
use smol::lock::Mutex;
use smol::stream::StreamExt as _;
use std::future::Future;
use std::sync::Arc;

/// The writing half.
pub struct PageSocket {
    writer: Arc<Mutex<SocketWriter>>,
    prefix: Prefix,
}

impl viewers::Socket for PageSocket {
    async fn send(&mut self, text: String) -> Result<(), String> {
        self.writer
            .lock()
            .await
            .send(Message::Text(self.prefix.message(text).into()))
            .await
            .map_err(|error| error.to_string())
    }

    async fn give(&mut self, bytes: Vec<u8>) -> Result<(), String> {
        let sent = self.writer.lock().await.send(Message::Binary(bytes.into())).await;
        sent.map_err(|error| error.to_string())
    }
}

/// The writing half of a page's socket, through which addresses get this prefix, and what ends when the page is gone.
pub fn page_socket(socket: Socket, timing: Timing, prefix: Prefix) -> (PageSocket, impl Future<Output = ()> + Send) {
    let (writer, mut reader) = socket.split();
    let writer = Arc::new(Mutex::new(writer));
    let pinged = Arc::clone(&writer);
    let ping = async move {
        loop {
            Timer::after(timing.ping).await;
            if pinged.lock().await.send(Message::Ping(Default::default())).await.is_err() {
                return;
            }
        }
    };
    let read = async move {
        loop {
            // What a page says means nothing; reading is what answers its pings, hears its answers and sees it go.
            let next = or(async { matches!(reader.next().await, Some(Ok(_))) }, async {
                Timer::after(timing.dead).await;
                false
            });
            if !next.await {
                return;
            }
        }
    };
    (PageSocket { writer, prefix }, or(read, ping))
}
