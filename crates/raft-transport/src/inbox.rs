//! Messages that wait for `receive_message`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sheaf_retry::Code;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{Error, NodeId};

/// When a sender that found the inbox full may come back.
const FULL_RETRY: Duration = Duration::from_millis(50);

/// A message of another node. Dropped without a reply, it is refused.
#[derive(Debug)]
pub struct IncomingMessage {
    /// Who sent it.
    pub from: NodeId,
    /// The message.
    pub payload: Bytes,
    reply: oneshot::Sender<Bytes>,
}

impl IncomingMessage {
    /// Answers it; an empty reply only says that it was received. Whether somebody
    /// still waits for that.
    pub fn reply(self, payload: impl Into<Bytes>) -> bool {
        self.reply.send(payload.into()).is_ok()
    }
}

/// Bounded by messages and by bytes. A message that finds no room is refused with
/// `overloaded`, and counted: a consensus engine sends again, and knows better than
/// a queue what is worth it.
#[derive(Debug)]
pub(crate) struct Inbox {
    sender: mpsc::Sender<IncomingMessage>,
    receiver: tokio::sync::Mutex<mpsc::Receiver<IncomingMessage>>,
    waiting_bytes: Arc<Mutex<usize>>,
    max_bytes: usize,
    closed: watch::Sender<bool>,
}

impl Inbox {
    pub(crate) fn new(messages: usize, max_bytes: usize) -> Self {
        let (sender, receiver) = mpsc::channel(messages);
        let receiver = tokio::sync::Mutex::new(receiver);
        let closed = watch::Sender::new(false);
        Inbox { sender, receiver, waiting_bytes: Arc::default(), max_bytes, closed }
    }

    /// Ends who waits for messages.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Puts a message in; what resolves is its reply.
    ///
    /// # Errors
    /// A refusal, where there is no room.
    pub(crate) fn offer(
        &self,
        from: NodeId,
        payload: Bytes,
    ) -> Result<oneshot::Receiver<Bytes>, sheaf_flight::Error> {
        let bytes = payload.len();
        let mut waiting = self.waiting_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let after = waiting.saturating_add(bytes);
        if after > self.max_bytes {
            return Err(full(format!(
                "{after} bytes would wait, inbox_bytes is {}",
                self.max_bytes
            )));
        }
        let (reply, answer) = oneshot::channel();
        let message = IncomingMessage { from, payload, reply };
        match self.sender.try_send(message) {
            Ok(()) => {
                *waiting = after;
                Ok(answer)
            }
            Err(_) => {
                let limit = self.sender.max_capacity();
                Err(full(format!("{limit} messages wait, inbox_messages allows no more")))
            }
        }
    }

    /// The next message. Cancel-safe: a message is taken or left.
    pub(crate) async fn take(&self) -> Result<IncomingMessage, Error> {
        let mut receiver = self.receiver.lock().await;
        let mut closed = self.closed.subscribe();
        let message = tokio::select! {
            biased;
            _ = closed.wait_for(|is_closed| *is_closed) => None,
            message = receiver.recv() => message,
        };
        let message = message.ok_or(Error::Closed)?;
        let mut waiting = self.waiting_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = waiting.saturating_sub(message.payload.len());
        Ok(message)
    }
}

fn full(text: String) -> sheaf_flight::Error {
    let text = format!("the inbox of this node is full: {text}");
    sheaf_flight::Error::new(Code::Overloaded, text).with_retry_after(FULL_RETRY)
}

#[cfg(test)]
mod tests {
    use sheaf_retry::Retryable as _;

    use super::*;

    #[tokio::test]
    async fn what_finds_no_room_is_refused_and_room_comes_back() {
        let inbox = Inbox::new(2, 100);
        let _first = inbox.offer(1, vec![0; 60].into()).unwrap();
        let error = inbox.offer(1, vec![0; 60].into()).unwrap_err();
        assert!(error.message().contains("inbox_bytes is 100"), "{error}");
        let _second = inbox.offer(1, Bytes::new()).unwrap();
        let error = inbox.offer(1, Bytes::new()).unwrap_err();
        assert_eq!(error.code(), Code::Overloaded);
        assert!(error.message().contains("inbox_messages"), "{error}");
        assert_eq!(inbox.take().await.unwrap().payload.len(), 60);
        assert!(inbox.offer(1, vec![0; 100].into()).is_ok());
    }

    #[tokio::test]
    async fn who_sent_a_message_learns_its_reply_or_that_there_is_none() {
        let inbox = Inbox::new(2, 100);
        let answer = inbox.offer(7, "ping".into()).unwrap();
        let message = inbox.take().await.unwrap();
        assert_eq!((message.from, &message.payload[..]), (7, &b"ping"[..]));
        assert!(message.reply("pong"));
        assert_eq!(answer.await.unwrap(), "pong");
        let answer = inbox.offer(7, "ping".into()).unwrap();
        drop(inbox.take().await.unwrap());
        assert!(answer.await.is_err());
    }
}
