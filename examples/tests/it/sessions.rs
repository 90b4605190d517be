//! The scenario `session_options`, as the Arrow project's testers play it.

use std::collections::HashMap;

use prost::Message;

use crate::integration::{Client, Server, act_with};

#[derive(Clone, PartialEq, Message)]
struct StringList {
    #[prost(string, repeated, tag = "1")]
    values: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    String(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Int64(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    StringList(StringList),
}

#[derive(Clone, PartialEq, Message)]
struct OptionValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5")]
    value: Option<Value>,
}

/// What is set, and what is got.
#[derive(Clone, PartialEq, Message)]
struct Options {
    #[prost(map = "string, message", tag = "1")]
    options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
struct OptionError {
    #[prost(int32, tag = "1")]
    value: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SetResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, OptionError>,
}

const INVALID_NAME: i32 = 1;
const INVALID_VALUE: i32 = 2;

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn options<const N: usize>(pairs: [(&str, Option<Value>); N]) -> Options {
    let pairs = pairs.map(|(name, value)| (name.to_owned(), OptionValue { value }));
    Options { options: pairs.into() }
}

/// A client that keeps its cookie.
struct Session {
    client: Client,
    cookie: Option<String>,
}

impl Session {
    async fn act(&mut self, name: &str, body: Vec<u8>) -> Vec<u8> {
        let answer = act_with(&mut self.client, name, body, self.cookie.as_deref()).await.unwrap();
        if let Some(cookie) = answer.metadata().get("set-cookie") {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
            self.cookie = (!pair.ends_with('=')).then_some(pair);
        }
        answer.into_inner()
    }

    async fn set<const N: usize>(
        &mut self,
        pairs: [(&str, Option<Value>); N],
    ) -> Vec<(String, i32)> {
        let answer = self.act("SetSessionOptions", options(pairs).encode_to_vec()).await;
        let errors = SetResult::decode(answer.as_slice()).unwrap().errors.into_iter();
        let mut errors: Vec<_> = errors.map(|(name, error)| (name, error.value)).collect();
        errors.sort_unstable();
        errors
    }

    async fn get(&mut self) -> Options {
        let answer = self.act("GetSessionOptions", Vec::new()).await;
        Options::decode(answer.as_slice()).unwrap()
    }
}

#[tokio::test]
async fn options_of_every_type_are_set_refused_taken_away_and_closed() {
    let server = Server::start("session_options");
    let mut session = Session { client: server.client().await, cookie: None };
    assert_eq!(session.get().await, options([]));

    let words = ["a", "b", "sea", "dee", " ", "  ", "geee", "(づ｡◕‿‿◕｡)づ"];
    let list = || Some(Value::StringList(StringList { values: words.map(str::to_owned).into() }));
    let refused = session
        .set([
            ("foolong", Some(Value::Int64(123))),
            ("bardouble", Some(Value::Double(456.0))),
            ("lol_invalid", Some(text("this won't get set"))),
            ("key_with_invalid_value", Some(text("lol_invalid"))),
            ("big_ol_string_list", list()),
        ])
        .await;
    let expected = [("key_with_invalid_value", INVALID_VALUE), ("lol_invalid", INVALID_NAME)];
    assert_eq!(refused, expected.map(|(name, problem)| (name.to_owned(), problem)));
    let double = || ("bardouble", Some(Value::Double(456.0)));
    let all =
        options([("foolong", Some(Value::Int64(123))), double(), ("big_ol_string_list", list())]);
    assert_eq!(session.get().await, all);

    let joined = || ("big_ol_string_list", Some(text(&words.join(","))));
    let flag = || ("flag", Some(Value::Bool(false)));
    assert_eq!(session.set([("foolong", None), joined(), flag()]).await, []);
    assert_eq!(session.get().await, options([double(), joined(), flag()]));

    // Another client has another session.
    let mut other = Session { client: server.client().await, cookie: None };
    assert_eq!(other.set([flag()]).await, []);
    assert_ne!(other.cookie, session.cookie);
    assert_eq!(other.get().await, options([flag()]));

    let stolen = session.cookie.clone();
    // CloseSessionResult { status: CLOSED }
    assert_eq!(session.act("CloseSession", Vec::new()).await, [8, 1]);
    assert_eq!(session.cookie, None, "the client is told to forget it");
    assert_eq!(session.get().await, options([]));
    session.cookie = stolen;
    assert_eq!(session.get().await, options([]));
    assert_eq!(other.get().await, options([flag()]));
    server.stop();
}
