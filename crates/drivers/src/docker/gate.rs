//! A gate for containers to a control plane that listens on this machine only.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Connections that may be open at once: a few for each component of a large pipeline.
const MAX_CONNECTIONS: usize = 4_096;

/// Takes connections at the gateway of a network and hands them on to the control plane, with
/// the same port, so that containers find it again when both have started anew.
///
/// It ends with this value. Who comes through it is no more trusted than anybody else: the
/// control plane asks for tokens.
pub(super) struct Gate {
    task: Option<JoinHandle<()>>,
}

impl Gate {
    /// Opens a gate at `gateway` to `control`, an address of this machine.
    ///
    /// Where the port is taken at the gateway, the control plane listens on every address of
    /// this machine, and needs no gate.
    ///
    /// # Errors
    /// Where the gateway is no address of this machine.
    pub(super) async fn open(gateway: Ipv4Addr, control: SocketAddr) -> io::Result<Self> {
        let listener = match TcpListener::bind((gateway, control.port())).await {
            Ok(listener) => listener,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Ok(Gate { task: None });
            }
            Err(error) => return Err(error),
        };
        Ok(Gate { task: Some(tokio::spawn(serve(listener, control))) })
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn serve(listener: TcpListener, control: SocketAddr) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut open = tokio::task::JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((mut inside, _)) => {
                open.spawn(async move {
                    if let Ok(mut outside) = TcpStream::connect(control).await {
                        // Either end may break it off: the component tries again.
                        drop(tokio::io::copy_bidirectional(&mut inside, &mut outside).await);
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the gate to the control plane takes no connection");
                // Out of descriptors, most likely: some are given back when a connection ends.
                drop(open.join_next().await);
            }
        }
    }
}

/// Where a control plane listens, if that is on this machine only.
pub(super) fn on_loopback(control: &str) -> Option<SocketAddr> {
    let address = ["grpc://", "grpc+tls://"].iter().find_map(|scheme| control.strip_prefix(scheme));
    let address = address?.replace("localhost", "127.0.0.1");
    let address: SocketAddr = address.parse().ok()?;
    address.ip().is_loopback().then_some(address)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn only_what_listens_on_this_machine_alone_needs_a_gate() {
        assert_eq!(on_loopback("grpc://127.0.0.1:8080"), "127.0.0.1:8080".parse().ok());
        assert_eq!(on_loopback("grpc://localhost:8080"), "127.0.0.1:8080".parse().ok());
        assert_eq!(on_loopback("grpc://[::1]:8080"), "[::1]:8080".parse().ok());
        assert_eq!(on_loopback("grpc+tls://127.0.0.1:1"), "127.0.0.1:1".parse().ok());
        for other in ["grpc://10.0.0.1:8080", "grpc+tls://10.0.0.1:1", "grpc://control:8080"] {
            assert_eq!(on_loopback(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn what_comes_in_goes_on_until_the_gate_is_closed() {
        let control = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = control.local_addr().unwrap();
        let gateway = Ipv4Addr::new(127, 0, 0, 9);
        let gate = Gate::open(gateway, address).await.unwrap();
        let mut inside = TcpStream::connect((gateway, address.port())).await.unwrap();
        let (mut outside, _) = control.accept().await.unwrap();
        inside.write_all(b"ping").await.unwrap();
        let mut got = [0; 4];
        outside.read_exact(&mut got).await.unwrap();
        outside.write_all(b"pong").await.unwrap();
        inside.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"pong");
        drop(gate);
        assert_eq!(inside.read(&mut got).await.unwrap_or_default(), 0);
    }
}
