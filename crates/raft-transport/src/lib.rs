//! Messages of any consensus engine over Arrow Flight.
//!
//! ```
//! use sheaf_raft_transport::{Config, RaftTransport, create_arrow_flight_transport};
//! use sheaf_retry::SystemClock;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), sheaf_raft_transport::Error> {
//! let start = async |node| {
//!     let config = Config::new("demo-cluster", node);
//!     create_arrow_flight_transport("localhost:0", config, SystemClock::shared()).await
//! };
//! let (one, two) = (start(1).await?, start(2).await?);
//! let address = two.local_addr().expect("it listens").to_string();
//! one.connect_to_peer(2, vec![address]).await?;
//!
//! let answering = async {
//!     let message = two.receive_message().await?;
//!     assert_eq!((message.from, &message.payload[..]), (1, &b"vote for me"[..]));
//!     message.reply("granted");
//!     Ok::<_, sheaf_raft_transport::Error>(())
//! };
//! let (reply, answered) = tokio::join!(one.send_message(2, "vote for me".into()), answering);
//! answered?;
//! assert_eq!(reply?, "granted");
//! assert_eq!(one.metrics().counter("messages_sent"), Some(1));
//! assert!(one.health_status()["peer 2"]);
//! # Ok(())
//! # }
//! ```
//!
//! # Parts
//!
//! | question | answer |
//! |---|---|
//! | What does a simple engine need? | [`RaftTransport`]: connect, disconnect, send, receive |
//! | What does a fast one need? | [`FlightTransport`]: [`call`](FlightTransport::call), [`open_stream`](FlightTransport::open_stream), [`send_bulk`](FlightTransport::send_bulk); [`Engine`] answers them |
//! | What travels? | [`Packet`]: a small header and payloads, which are not copied on their way out |
//! | Over what? | [`Lane`]: three HTTP/2 connections to each address of a peer |
//! | Where does it listen? | on a port of its own ([`FlightTransport::listen`], [`create_arrow_flight_transport`]), or on one that others serve ([`FlightTransport::serve`]) |
//! | How much? | [`Config`]; [`WindowConfig`] |
//! | What went wrong? | [`Error`]; bad frames have a [`Reason`] |
//!
//! # On the wire
//!
//! | what | RPC | named |
//! |---|---|---|
//! | call | DoAction | `raft.KIND.v1` |
//! | message to the inbox | DoAction | `raft.message.v1` |
//! | hello | DoAction | `raft.hello.v1` |
//! | stream | DoExchange | `["raft", KIND]` |
//! | bulk transfer | DoPut: the schema, dictionaries and record batches | `["raft", KIND]` |
//!
//! Each message carries a frame: a fixed header of 68 bytes (magic, version, cluster,
//! sender, receiver, session, sequence, lengths, CRC-32C) with the packets' headers in
//! `app_metadata`, their payloads one after the other in the body. Streams and bulk
//! transfers begin with a hello: cluster id and versions. A frame that is not what it
//! has to be ends its stream with an error that says why; none is passed over.
//!
//! gRPC runs over TCP: it has no RDMA, and so has this transport none.
//!
//! # What holds
//!
//! - A message is carried once or not at all: nothing that was sent is sent again
//!   here. Another address is taken for the next message, never for the same one.
//! - An address that does not answer is left alone for 50 ms to 5 s, spread by a
//!   fifth ([`Config::RECONNECT`]); meanwhile, where there is no other one, calls fail
//!   at once.
//! - What is sent and not answered is bounded for each lane to each peer, and so are
//!   peers, frames, and the inbox.
//! - What stands still on one lane holds up nothing on the others. The control lane
//!   never waits for compression.
//! - Under TLS a node's certificate names it ([`certificate_name`]), and its owner
//!   speaks as that node and as no other. A token is only sent under TLS, or within
//!   this machine.
//!
//! Messages are logged at debug level under the target `transport`.

mod balance;
mod batch;
mod bulk;
mod call;
mod config;
mod context;
mod engine;
mod error;
mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod inbox;
mod metrics;
mod packet;
mod peer;
mod serve;
mod stream;
mod transport;
mod window;

pub use config::{Compression, Config, WindowConfig};
pub use engine::{Engine, NoEngine, PacketStream};
pub use error::Error;
pub use frame::{PROTOCOL_VERSION, Reason};
pub use identity::certificate_name;
pub use inbox::IncomingMessage;
pub use metrics::Metrics;
pub use packet::{Lane, NodeId, Packet};
pub use stream::{StreamReceiver, StreamSender};
pub use transport::{FlightTransport, RaftTransport, create_arrow_flight_transport};
