//! A component that does nothing but what each has to do: it registers, beats, answers
//! `/health`, and leaves when it is told to. For tests of what starts and stops components.
//!
//! Its `config` says how it behaves:
//!
//! | field | what it does |
//! |---|---|
//! | `livesMs` | ends with success after so long |
//! | `exit` | ends with this status, after it has registered |
//! | `ignoresTerm` | does not end on SIGTERM |
//! | `drainMs` | takes so long to end |
//! | `child` | starts a program of its own, in a group of its own |
#![allow(clippy::print_stdout, reason = "who starts it reads what it does")]

use std::error::Error;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sheaf_dataflow::Assignment;
use sheaf_flight::{ChannelPool, ClientConfig, Secret};
use sheaf_pipeline::control::{ClientOptions, ControlClient};
use sheaf_pipeline::health::HealthServer;
use sheaf_pipeline::registry::{Kind, Metadata, Registration, incarnation};
use sheaf_pipeline::spec::Role;
use sheaf_retry::{SharedClock, SystemClock};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let clock = SystemClock::shared();
    #[allow(clippy::disallowed_methods, reason = "a program, not a library")]
    let path = std::env::var_os("SHEAF_ASSIGNMENT").ok_or("SHEAF_ASSIGNMENT is not set")?;
    let assignment: Assignment = serde_json::from_slice(&std::fs::read(path)?)?;
    let config = assignment.definition.config.clone();
    let number = |name: &str| config.get(name).and_then(Value::as_u64);
    let mut terminate = signal(SignalKind::terminate())?;
    if let Some(program) = config.get("child").and_then(Value::as_str) {
        let words: Vec<&str> = program.split(' ').collect();
        let child = std::process::Command::new(words[0]).args(&words[1..]).process_group(0).spawn();
        println!("child {}", child?.id());
    }
    let vitals = Arc::new(|| Ok(()));
    let health = HealthServer::bind(&assignment.health_listen, vitals, clock.clone()).await?;
    let listener = std::net::TcpListener::bind(&assignment.listen)?;
    let member = join(&assignment, &health, listener.local_addr()?.port(), &clock).await?;
    println!("registered {}", assignment.place);
    let pulse = member.pulse();
    let ticks = async {
        loop {
            pulse.tick();
            clock.sleep(Duration::from_millis(20)).await;
        }
    };
    let lifetime = number("livesMs").map_or(Duration::MAX, Duration::from_millis);
    let ends = async {
        match number("exit") {
            Some(code) => u8::try_from(code).unwrap_or(1),
            None => {
                clock.sleep(lifetime.min(Duration::from_secs(3_600))).await;
                0
            }
        }
    };
    let told = async {
        terminate.recv().await;
        eprintln!("told to end");
        if config.get("ignoresTerm").is_some() {
            std::future::pending::<()>().await;
        }
        clock.sleep(Duration::from_millis(number("drainMs").unwrap_or(0))).await;
        0
    };
    let code = tokio::select! {
        never = ticks => never,
        code = ends => code,
        code = told => code,
    };
    if code == 0 {
        member.leave("done").await?;
    } else {
        eprintln!("fails as it is told to");
    }
    Ok(ExitCode::from(code))
}

async fn join(
    assignment: &Assignment,
    health: &HealthServer,
    port: u16,
    clock: &SharedClock,
) -> Result<sheaf_pipeline::control::Member, Box<dyn Error>> {
    let pool = ChannelPool::new(ClientConfig::default(), clock.clone());
    let target = assignment.control.parse()?;
    let client = ControlClient::new(pool, target, ClientOptions::default(), clock.clone());
    let kind = match assignment.role {
        Role::Source => Kind::Source,
        Role::Processor => Kind::Processor,
        Role::Sink => Kind::Sink,
    };
    let registration = Registration {
        id: assignment.place.clone(),
        kind,
        token: Secret::new(assignment.token.clone()),
        incarnation: incarnation(clock.now().as_millis()),
        address: format!("grpc://127.0.0.1:{port}"),
        health_endpoint: format!(":{}", health.local_addr().port()),
        endpoints: Vec::new(),
        metadata: Metadata::default(),
        load: None,
    };
    Ok(client.join(registration).await?)
}
