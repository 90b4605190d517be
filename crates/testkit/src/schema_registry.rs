//! A schema registry as Confluent's.

mod catalog;
mod fault;
mod routes;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::background::Background;
use crate::{Error, free_port};

use catalog::Catalog;

pub use catalog::{Reference, RegisteredSchema, SchemaKind};
pub use fault::RegistryFault;

/// How many requests are remembered for tests to look at.
const MAX_LOG: usize = 10_000;

/// A schema registry in this process, on a free port of 127.0.0.1: the REST
/// interface of Confluent's, with what it registered in memory.
///
/// It knows subjects, versions, ids, references and the three kinds of schema,
/// and answers with Confluent's error codes. It does not compare versions for
/// compatibility, and of Avro and JSON it checks only that they are JSON.
/// Servers run on a thread of their own, so tests that block may use them.
///
/// ```
/// use sheaf_testkit::{RegisteredSchema, RegistryFault, SchemaRegistry};
///
/// let mut registry = SchemaRegistry::start()?;
/// let id = registry.register("orders-value", RegisteredSchema::avro(r#""string""#));
/// registry.fault(RegistryFault::Status(503)); // from now on
/// registry.heal();
/// registry.stop(); // nobody listens
/// registry.restart()?; // on the same port, with the same schemas
/// assert_eq!(id, 1);
/// # Ok::<(), sheaf_testkit::Error>(())
/// ```
#[derive(Debug)]
pub struct SchemaRegistry {
    addr: SocketAddr,
    shared: Arc<Shared>,
    background: Option<Background>,
}

/// What requests and the test see.
#[derive(Debug, Default)]
struct Shared {
    catalog: Mutex<Catalog>,
    fault: Mutex<Option<RegistryFault>>,
    log: Mutex<Vec<String>>,
    /// What `Authorization` has to be.
    authorization: Option<String>,
}

impl SchemaRegistry {
    /// A registry without a schema that lets everybody in.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no port or no thread.
    pub fn start() -> Result<Self, Error> {
        Self::serve(Shared::default())
    }

    /// A registry that asks for a user and a password (basic authentication).
    ///
    /// # Errors
    /// As [`SchemaRegistry::start`].
    pub fn start_with_login(user: &str, password: &str) -> Result<Self, Error> {
        let authorization = Some(routes::basic(user, password));
        Self::serve(Shared { authorization, ..Shared::default() })
    }

    fn serve(shared: Shared) -> Result<Self, Error> {
        let (shared, listener) = (Arc::new(shared), free_port()?.into_listener());
        let background = routes::start(listener, Arc::clone(&shared))?;
        Ok(SchemaRegistry { addr: background.addr(), shared, background: Some(background) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The same as an `http://` URL, without a login.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Registers a schema without a request, and gives its id: the one that it
    /// has if it is registered already.
    ///
    /// # Panics
    /// When the schema is not valid or a reference leads nowhere.
    pub fn register(&self, subject: &str, schema: RegisteredSchema) -> u32 {
        match lock(&self.shared.catalog).register(subject, schema) {
            Ok(id) => id,
            Err(refusal) => panic!("{subject}: {}", refusal.message),
        }
    }

    /// From now on every request meets this fault.
    pub fn fault(&self, fault: RegistryFault) {
        *lock(&self.shared.fault) = Some(fault);
    }

    /// From now on requests are answered as they should be.
    pub fn heal(&self) {
        *lock(&self.shared.fault) = None;
    }

    /// The requests so far, such as `GET /schemas/ids/1`, the last 10,000.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.log).clone()
    }

    /// Ends it with all of its connections; schemas and port stay its own.
    pub fn stop(&mut self) {
        self.background = None;
    }

    /// Starts it again on the same port with the same schemas; ends it before
    /// if it runs.
    ///
    /// # Errors
    /// [`Error::Io`] when another has the port by now.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.stop();
        let listener =
            TcpListener::bind(self.addr).map_err(Error::io(format!("bind {}", self.addr)))?;
        self.background = Some(routes::start(listener, Arc::clone(&self.shared))?);
        Ok(())
    }
}

impl Shared {
    fn record(&self, request: String) {
        let mut log = lock(&self.log);
        if log.len() == MAX_LOG {
            log.remove(0);
        }
        log.push(request);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
