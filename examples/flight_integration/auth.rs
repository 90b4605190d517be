//! Who logs in is told its own name.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sheaf_flight::{
    ActionHandler, CallContext, Error, FlightRouter, Logins, Passwords, Security, Server,
};
use sheaf_retry::SystemClock;

struct OneUser;

#[async_trait]
impl Passwords for OneUser {
    async fn verify(&self, name: &str, password: &str) -> Result<bool, Error> {
        Ok(name == "arrow" && password == "flight")
    }
}

struct WhoAmI;

#[async_trait]
impl ActionHandler for WhoAmI {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        // The testers' clients send an action without a name.
        vec![("", "The name of the caller")]
    }

    async fn call(&self, context: &CallContext, _: &str, _: Bytes) -> Result<Vec<Bytes>, Error> {
        Ok(vec![context.identity.clone().unwrap_or_default().into()])
    }
}

pub(crate) fn server(_: SocketAddr) -> Result<Server, Error> {
    let router = FlightRouter::builder().actions(Arc::new(WhoAmI)).build()?;
    let logins = Logins::new(Arc::new(OneUser), SystemClock::shared());
    Ok(Server::new(router).security(Security::none().with_logins(logins)))
}
