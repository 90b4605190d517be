//! Errors cross the wire with code, text and variant.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use sheaf_coordinator::{
    Answer, BatchSpec, Claim, ClaimRequest, Control, ControlReply, Coordinator, Error, Event,
    Extended, Extension, Query, Registered, SettleReply, SettleRequest, WatchFilter,
};
use sheaf_retry::{Code, Retryable as _};

use crate::harness::{claim, embedded, json, once, rpc, serve, spec};

/// Answers everything with the error that it was given.
#[derive(Default)]
struct Failing(Mutex<Option<Error>>);

impl Failing {
    fn fail<T>(&self) -> Result<T, Error> {
        Err(self.0.lock().unwrap().take().expect("one call for each error"))
    }
}

#[async_trait]
impl Coordinator for Failing {
    async fn register(&self, _: Vec<BatchSpec>) -> Result<Vec<Registered>, Error> {
        self.fail()
    }
    async fn claim(&self, _: ClaimRequest) -> Result<Claim, Error> {
        self.fail()
    }
    async fn settle(&self, _: SettleRequest) -> Result<SettleReply, Error> {
        self.fail()
    }
    async fn extend(&self, _: Vec<Extension>) -> Result<Vec<Extended>, Error> {
        self.fail()
    }
    async fn query(&self, _: Query) -> Result<Answer, Error> {
        self.fail()
    }
    async fn control(&self, _: Control) -> Result<ControlReply, Error> {
        self.fail()
    }
    async fn watch(&self, _: WatchFilter) -> Result<BoxStream<'static, Event>, Error> {
        self.fail()
    }
}

fn errors() -> Vec<Error> {
    let id = || "orders:1".to_owned();
    vec![
        Error::Invalid { field: "max", problem: "0 is outside of 1 to 1024".to_owned() },
        Error::Limit { field: "leases", actual: 20_000, limit: 10_000 },
        Error::Unimplemented { what: "depends_on" },
        Error::Conflict {
            id: id(),
            field: "rows",
            registered: "1".to_owned(),
            asked: "2".to_owned(),
        },
        Error::Draining { queue: "q".to_owned() },
        Error::NotFound { id: id() },
        Error::Precondition { id: id(), problem: "is completed".to_owned() },
        Error::Unavailable { problem: "is closed".to_owned(), code: Code::Draining },
        Error::Full { holder: "queue \"q\"".to_owned(), live: 5, more: 6, limit: 10 },
        Error::Unavailable { problem: "is too busy".to_owned(), code: Code::Overloaded },
    ]
}

async fn call(client: &dyn Coordinator, number: usize) -> Error {
    match number % 6 {
        0 => client.register(vec![spec("a")]).await.map(drop),
        1 => client.claim(claim("c", 1)).await.map(drop),
        2 => client.settle(SettleRequest::default()).await.map(drop),
        3 => client.extend(Vec::new()).await.map(drop),
        4 => client.query(Query::Stats(None)).await.map(drop),
        _ => client.control(Control::Pause("q".to_owned())).await.map(drop),
    }
    .unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_comes_back_as_it_was() {
    let failing = Arc::new(Failing::default());
    let server = serve(Arc::clone(&failing) as Arc<dyn Coordinator>).await;
    let clients: [Box<dyn Coordinator>; 2] =
        [Box::new(rpc(&server.uri(), once())), Box::new(json(&server.uri(), once()))];
    for client in &clients {
        for call_number in 0..6 {
            for error in errors() {
                let expected = (format!("{error:?}"), error.code());
                *failing.0.lock().unwrap() = Some(error);
                let error = call(client.as_ref(), call_number).await;
                assert_eq!((format!("{error:?}"), error.code()), expected, "call {call_number}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_comes_back() {
    let failing = Arc::new(Failing::default());
    let server = serve(Arc::clone(&failing) as Arc<dyn Coordinator>).await;
    let clients: [Box<dyn Coordinator>; 2] =
        [Box::new(rpc(&server.uri(), once())), Box::new(json(&server.uri(), once()))];
    for client in &clients {
        for &code in Code::ALL {
            let source = Some(Box::from("the disk said no"));
            *failing.0.lock().unwrap() =
                Some(Error::Backend { operation: "write the state".to_owned(), code, source });
            let error = client.query(Query::Stats(None)).await.unwrap_err();
            assert_eq!(error.code(), code);
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert_eq!(cause, "write the state: the disk said no");
            assert!(error.to_string().contains(&server.uri()), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_coordinator_refuses_is_refused_through_both() {
    let server = serve(embedded().await).await;
    let clients: [Box<dyn Coordinator>; 2] =
        [Box::new(rpc(&server.uri(), once())), Box::new(json(&server.uri(), once()))];
    for client in &clients {
        let error = client.claim(claim("", 1)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(format!("{error} {:?}", std::error::Error::source(&error)).contains("request_id"));
        let error = client.claim(claim("c", 0)).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { field: "max", .. }), "{error:?}");
        let mut long = claim("c", 1);
        long.wait = std::time::Duration::MAX;
        let error = client.claim(long).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { field: "wait", .. }), "{error:?}");
    }
}
