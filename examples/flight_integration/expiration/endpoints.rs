//! What became of the endpoints of the last answer.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sheaf_flight::{Error, invalid};
use sheaf_retry::Timestamp;

pub(super) struct Endpoint {
    pub(super) expires: Option<Timestamp>,
    is_read: bool,
    is_cancelled: bool,
}

#[derive(Default)]
pub(super) struct Endpoints(Mutex<Vec<Endpoint>>);

impl Endpoint {
    /// Reads it, or says why it cannot be read.
    pub(super) fn read(&mut self, now: Timestamp) -> Result<(), &'static str> {
        match self.expires {
            _ if self.is_cancelled => Err("it was given up"),
            Some(at) if at <= now => Err("it has expired"),
            None if self.is_read => Err("it can be read once only"),
            _ => {
                self.is_read = true;
                Ok(())
            }
        }
    }

    /// Gives it up; tells whether it was there.
    pub(super) fn cancel(&mut self) -> bool {
        !std::mem::replace(&mut self.is_cancelled, true)
    }
}

impl Endpoints {
    fn table(&self) -> MutexGuard<'_, Vec<Endpoint>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins anew, with one endpoint for each time.
    pub(super) fn reset(&self, times: impl Iterator<Item = Option<Timestamp>>) {
        let endpoint = |expires| Endpoint { expires, is_read: false, is_cancelled: false };
        *self.table() = times.map(endpoint).collect();
    }

    /// Does something with the endpoint whose number a ticket begins with.
    pub(super) fn with<T>(
        &self,
        ticket: &str,
        act: impl FnOnce(u32, &mut Endpoint) -> T,
    ) -> Result<T, Error> {
        let number: Option<u32> = ticket.split(':').next().and_then(|first| first.parse().ok());
        let mut table = self.table();
        let found = number.and_then(|number| Some((number, table.get_mut(number as usize)?)));
        let (number, endpoint) =
            found.ok_or_else(|| invalid(format!("no ticket {ticket:?} here")))?;
        Ok(act(number, endpoint))
    }
}
