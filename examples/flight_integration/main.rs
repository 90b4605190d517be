//! Serves the scenarios of the Arrow project's integration tests of Flight, so
//! that the client of any other implementation can be run against Sheaf.
//!
//! `cargo run -p sheaf-examples --example flight_integration -- --scenario ordered --port 0`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what happens")]

mod app_metadata;
mod arguments;
mod auth;
mod data;
mod echo;
mod expiration;
mod middleware;
mod numbers;
mod ordered;
mod poll;
mod reuse;
mod session;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arguments::Arguments;
use sheaf_flight::{Error, Exposure, Fallback, FlightRouter, Listener, Server};
use tokio::signal::unix::{SignalKind, signal};

/// A scenario and its server, which may have to know its own address.
type Scenario = (&'static str, fn(SocketAddr) -> Result<Server, Error>);

/// The testers' names, but for `data`, which they run when they name none.
const SCENARIOS: [Scenario; 13] = [
    ("app_metadata_flight_info_endpoint", app_metadata::server),
    ("auth:basic_proto", auth::server),
    ("data", data::server),
    ("do_exchange:echo", echo::server),
    ("expiration_time:cancel_flight_info", expiration::server),
    ("expiration_time:do_get", expiration::server),
    ("expiration_time:list_actions", expiration::server),
    ("expiration_time:renew_flight_endpoint", expiration::server),
    ("location:reuse_connection", reuse::server),
    ("middleware", middleware::server),
    ("ordered", ordered::server),
    ("poll_flight_info", poll::server),
    ("session_options", session::server),
];

#[tokio::main]
async fn main() -> ExitCode {
    let names = SCENARIOS.map(|(name, _)| name);
    let served = match Arguments::parse(std::env::args().skip(1), &names) {
        Ok(arguments) => serve(&arguments).await,
        Err(wrong) => Err(wrong.into()),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flight_integration: {error}");
            ExitCode::from(2)
        }
    }
}

/// Serves a scenario until the process is told to end.
async fn serve(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let address = format!("localhost:{}", arguments.port);
    // The name is only for errors: "--port … is in use".
    let listener = Listener::bind(&address, "--port", Exposure::Loopback)?;
    let found = SCENARIOS.iter().find(|(name, _)| *name == arguments.scenario);
    let (_, server) = found.ok_or("the scenario was there a moment ago")?;
    let server = server(listener.local_addr())?.serve(listener).await?;
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // Testers read the port from the first line.
    println!("Server listening on localhost:{}", server.local_addr().port());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    server.drain(Duration::from_secs(1)).await;
    Ok(())
}

/// A server of nothing but what a scenario answers.
fn only(fallback: impl Fallback) -> Result<Server, Error> {
    Ok(Server::new(FlightRouter::builder().fallback(Arc::new(fallback)).build()?))
}
