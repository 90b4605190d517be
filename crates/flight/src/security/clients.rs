//! Open connections of clients with certificates: a certificate that is not
//! accepted any more ends its connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use tokio_util::sync::CancellationToken;

/// The connections that showed a certificate; as many as are open.
#[derive(Debug, Default)]
pub(super) struct Clients {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: HashMap<u64, Client>,
}

#[derive(Debug)]
struct Client {
    chain: Vec<CertificateDer<'static>>,
    over: CancellationToken,
}

/// Keeps a connection on the list while it is open.
#[derive(Debug)]
pub(super) struct Listed {
    clients: Arc<Clients>,
    id: u64,
    pub(super) over: CancellationToken,
}

impl Clients {
    fn state(&self) -> MutexGuard<'_, State> {
        // Single insertions and removals: a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(self: &Arc<Self>, chain: Vec<CertificateDer<'static>>) -> Listed {
        let over = CancellationToken::new();
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.open.insert(id, Client { chain, over: over.clone() });
        Listed { clients: Arc::clone(self), id, over }
    }

    /// Ends the connections whose certificate `verifier` would turn down now;
    /// how many these are.
    pub(super) fn check(&self, verifier: &dyn ClientCertVerifier, now: UnixTime) -> usize {
        let mut ended = 0;
        for client in self.state().open.values() {
            let stands = client
                .chain
                .split_first()
                .is_some_and(|(leaf, rest)| verifier.verify_client_cert(leaf, rest, now).is_ok());
            if !stands && !client.over.is_cancelled() {
                client.over.cancel();
                ended += 1;
            }
        }
        ended
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.clients.state().open.remove(&self.id);
    }
}
