//! Arrow Flight sessions: options that a client keeps with the server.
//!
//! # Source
//! The messages are those of `Flight.proto` in Apache Arrow 15 and later.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use sheaf_retry::{Code, SharedClock};

use super::session_options::SessionCheck;
use crate::error::Error;

/// The cookie that names a session.
pub(crate) const COOKIE: &str = "arrow_flight_session_id";

/// Most options of one session.
const MAX_OPTIONS: usize = 64;
/// Longest name of an option, in bytes.
const MAX_NAME: usize = 256;
/// Largest value of an option, in encoded bytes.
const MAX_VALUE: usize = 4 << 10;
/// Bytes of all names and encoded values of one session.
const MAX_BYTES: usize = 64 << 10;
/// One owner may have this part of all sessions.
const SHARE: usize = 4;

/// The protobuf messages of the session actions.
pub(crate) mod pb {
    use std::collections::BTreeMap;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct StringList {
        #[prost(string, repeated, tag = "1")]
        pub(crate) values: Vec<String>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(crate) enum Value {
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

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct OptionValue {
        #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5")]
        pub(crate) value: Option<Value>,
    }

    /// `SetSessionOptionsRequest` and `GetSessionOptionsResult` alike.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Options {
        #[prost(btree_map = "string, message", tag = "1")]
        pub(crate) options: BTreeMap<String, OptionValue>,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
    #[repr(i32)]
    pub(crate) enum Problem {
        Unspecified = 0,
        InvalidName = 1,
        InvalidValue = 2,
        Refused = 3,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct OptionError {
        #[prost(enumeration = "Problem", tag = "1")]
        pub(crate) value: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct SetResult {
        #[prost(btree_map = "string, message", tag = "1")]
        pub(crate) errors: BTreeMap<String, OptionError>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct CloseResult {
        /// 1 is closed.
        #[prost(int32, tag = "1")]
        pub(crate) status: i32,
    }
}

#[derive(Debug)]
struct Session {
    /// Encoded: decoded a value may take a dozen times as much.
    options: BTreeMap<String, Bytes>,
    /// Who opened it.
    owner: String,
    used: Duration,
}

impl Session {
    /// Bytes of its options but for that of this name.
    fn bytes_without(&self, name: &str) -> usize {
        let others = self.options.iter().filter(|(other, _)| *other != name);
        others.map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// The sessions of one server: at most so many, each until it is idle too long.
pub(crate) struct Sessions {
    clock: SharedClock,
    max: usize,
    idle: Duration,
    /// Which options there may be; without it any.
    check: Option<SessionCheck>,
    table: Mutex<HashMap<String, Session>>,
}

impl Sessions {
    pub(crate) fn new(clock: SharedClock, max: usize, idle: Duration) -> Self {
        Sessions { clock, max, idle, check: None, table: Mutex::default() }
    }

    /// Has options checked before they are set.
    pub(crate) fn checked(mut self, check: Option<SessionCheck>) -> Self {
        self.check = check;
        self
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        // Every change below is one insertion or removal: a panic between them harms nothing.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self, session: &Session) -> bool {
        self.clock.elapsed().saturating_sub(session.used) < self.idle
    }

    /// Whether the session is there; it counts as used now.
    pub(crate) fn touch(&self, id: &str) -> bool {
        let mut table = self.table();
        match table.get_mut(id) {
            Some(session) if self.live(session) => {
                session.used = self.clock.elapsed();
                true
            }
            Some(_) => {
                table.remove(id);
                false
            }
            None => false,
        }
    }

    /// Opens a session and returns its id, which cannot be guessed. No owner has
    /// more than a quarter of all, so that there are some left for others.
    pub(crate) fn open(&self, owner: &str) -> Result<String, Error> {
        let share = (self.max / SHARE).max(1);
        let mut table = self.table();
        let owned = |table: &HashMap<String, Session>| {
            table.values().filter(|session| session.owner == owner).count()
        };
        if table.len() >= self.max || owned(&table) >= share {
            table.retain(|_, session| self.live(session));
        }
        if table.len() >= self.max {
            return Err(Error::new(
                Code::Overloaded,
                format!("{} sessions are open, max_sessions allows no more", self.max),
            )
            .with_retry_after(Duration::from_secs(1)));
        }
        if owned(&table) >= share {
            let text = format!(
                "{share} sessions of {owner} are open, no more than a quarter of max_sessions may be"
            );
            return Err(Error::new(Code::Overloaded, text).with_retry_after(Duration::from_secs(1)));
        }
        let id = uuid::Uuid::new_v4().to_string();
        let (owner, used) = (owner.to_owned(), self.clock.elapsed());
        let session = Session { options: BTreeMap::new(), owner, used };
        table.insert(id.clone(), session);
        Ok(id)
    }

    /// Sets options of an open session; one without a value is taken away.
    pub(crate) fn set(&self, id: &str, options: pb::Options) -> Result<pb::SetResult, Error> {
        // An embedder's check may take its time: nothing is locked meanwhile.
        let mut errors = BTreeMap::new();
        let mut refuse = |name: String, problem: pb::Problem| {
            errors.insert(name, pb::OptionError { value: problem as i32 });
        };
        let mut sound = Vec::new();
        for (name, value) in options.options {
            match self.problem(&name, &value) {
                Some(problem) => refuse(name.chars().take(MAX_NAME).collect(), problem),
                None => sound.push((name, value)),
            }
        }
        let mut table = self.table();
        let session = table.get_mut(id).ok_or_else(|| unknown(id))?;
        for (name, value) in sound {
            if value.value.is_none() {
                session.options.remove(&name);
                continue;
            }
            let is_many =
                session.options.len() >= MAX_OPTIONS && !session.options.contains_key(&name);
            let bytes = session.bytes_without(&name) + name.len() + value.encoded_len();
            if is_many || bytes > MAX_BYTES {
                refuse(name, pb::Problem::Refused);
            } else {
                session.options.insert(name, value.encode_to_vec().into());
            }
        }
        Ok(pb::SetResult { errors })
    }

    /// What is wrong with an option, whatever else the session has.
    fn problem(&self, name: &str, value: &pb::OptionValue) -> Option<pb::Problem> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Some(pb::Problem::InvalidName);
        }
        if value.encoded_len() > MAX_VALUE {
            return Some(pb::Problem::InvalidValue);
        }
        let (check, value) = (self.check.as_ref()?, value.value.clone()?);
        check(name, &value.into()).err().map(pb::Problem::from)
    }

    /// The options of an open session.
    pub(crate) fn get(&self, id: &str) -> Result<pb::Options, Error> {
        let table = self.table();
        let session = table.get(id).filter(|session| self.live(session));
        let options = session.ok_or_else(|| unknown(id))?.options.clone();
        drop(table);
        let decoded = options.into_iter().map(|(name, value)| Ok((name, decoded(value)?)));
        Ok(pb::Options { options: decoded.collect::<Result<_, Error>>()? })
    }

    /// One option of an open session.
    pub(crate) fn option(&self, id: &str, name: &str) -> Option<pb::Value> {
        let table = self.table();
        let session = table.get(id).filter(|session| self.live(session))?;
        let value = session.options.get(name)?.clone();
        drop(table);
        decoded(value).ok()?.value
    }

    /// Closes a session.
    pub(crate) fn close(&self, id: &str) -> Result<(), Error> {
        self.table().remove(id).map(|_| ()).ok_or_else(|| unknown(id))
    }
}

/// An option as it was set.
fn decoded(value: Bytes) -> Result<pb::OptionValue, Error> {
    pb::OptionValue::decode(value)
        .map_err(|error| Error::new(Code::Internal, format!("an option of a session: {error}")))
}

fn unknown(id: &str) -> Error {
    Error::new(
        Code::NotFound,
        format!("no session {id:?}: it was closed, was idle too long, or is another server's"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_retry::{ManualClock, Retryable as _, Timestamp};

    fn text(value: &str) -> pb::OptionValue {
        pb::OptionValue { value: Some(pb::Value::String(value.to_owned())) }
    }

    fn options<const N: usize>(pairs: [(&str, pb::OptionValue); N]) -> pb::Options {
        let options = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        pb::Options { options }
    }

    #[test]
    fn options_are_set_read_and_taken_away() {
        let sessions =
            Sessions::new(ManualClock::new(Timestamp::EPOCH), 2, Duration::from_secs(10));
        let id = sessions.open("a").unwrap();
        let set =
            options([("tz", text("UTC")), ("", text("x")), ("big", text(&"x".repeat(5_000)))]);
        let result = sessions.set(&id, set).unwrap();
        assert_eq!(result.errors[""].value, pb::Problem::InvalidName as i32);
        assert_eq!(result.errors["big"].value, pb::Problem::InvalidValue as i32);
        assert_eq!(sessions.get(&id).unwrap(), options([("tz", text("UTC"))]));
        let unset = options([("tz", pb::OptionValue { value: None })]);
        sessions.set(&id, unset).unwrap();
        assert_eq!(sessions.get(&id).unwrap(), options([]));
        sessions.close(&id).unwrap();
        assert_eq!(sessions.get(&id).unwrap_err().code(), Code::NotFound);
    }

    #[test]
    fn the_table_is_bounded_and_idle_sessions_make_room() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let sessions = Sessions::new(clock.clone(), 2, Duration::from_secs(10));
        let (old, used) = (sessions.open("a").unwrap(), sessions.open("b").unwrap());
        assert_eq!(sessions.open("c").unwrap_err().code(), Code::Overloaded);
        clock.advance(Duration::from_secs(9));
        assert!(sessions.touch(&used));
        clock.advance(Duration::from_secs(2));
        sessions.open("c").unwrap();
        assert!(sessions.touch(&used) && !sessions.touch(&old));
    }

    #[test]
    fn one_owner_has_a_quarter_of_all_sessions_at_most() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let sessions = Sessions::new(clock.clone(), 8, Duration::from_secs(10));
        let first = sessions.open("a").unwrap();
        sessions.open("a").unwrap();
        let error = sessions.open("a").unwrap_err();
        assert_eq!(error.code(), Code::Overloaded);
        assert!(error.message().contains("2 sessions of a are open"), "{error}");
        sessions.open("b").unwrap();
        sessions.close(&first).unwrap();
        sessions.open("a").unwrap();
        clock.advance(Duration::from_secs(10));
        sessions.open("a").unwrap();
    }

    #[test]
    fn all_options_of_a_session_are_bounded_together_and_kept_encoded() {
        let sessions =
            Sessions::new(ManualClock::new(Timestamp::EPOCH), 2, Duration::from_secs(10));
        let id = sessions.open("a").unwrap();
        let list = pb::StringList { values: vec![String::new(); 2_000] };
        let list = pb::OptionValue { value: Some(pb::Value::StringList(list)) };
        let names: Vec<String> = (0..MAX_OPTIONS).map(|number| format!("n{number}")).collect();
        let all = names.iter().map(|name| (name.clone(), list.clone())).collect();
        let refused = sessions.set(&id, pb::Options { options: all }).unwrap().errors;
        assert!(refused.values().all(|error| error.value == pb::Problem::Refused as i32));
        let kept = sessions.table()[&id].bytes_without("");
        assert!(kept <= MAX_BYTES && kept > MAX_BYTES - MAX_VALUE - MAX_NAME, "{kept}");
        // One that takes the place of another of its name still fits.
        let got = sessions.get(&id).unwrap().options;
        assert_eq!(got.len(), MAX_OPTIONS - refused.len());
        let again = pb::Options { options: got.clone() };
        assert!(sessions.set(&id, again).unwrap().errors.is_empty());
        assert_eq!(sessions.get(&id).unwrap().options, got);
    }

    #[test]
    fn an_embedder_decides_which_options_there_are() {
        use super::super::session_options::{SessionProblem, SessionValue};
        let check = |name: &str, value: &SessionValue| match (name, value) {
            ("limit", SessionValue::Int64(1..)) | ("tags", SessionValue::StringList(_)) => Ok(()),
            ("limit", _) => Err(SessionProblem::InvalidValue),
            ("locked", _) => Err(SessionProblem::Refused),
            _ => Err(SessionProblem::InvalidName),
        };
        let sessions =
            Sessions::new(ManualClock::new(Timestamp::EPOCH), 2, Duration::from_secs(10))
                .checked(Some(std::sync::Arc::new(check)));
        let id = sessions.open("a").unwrap();
        let number = |n| pb::OptionValue { value: Some(pb::Value::Int64(n)) };
        let list = pb::StringList { values: vec!["a".to_owned(), "b".to_owned()] };
        let tags = pb::OptionValue { value: Some(pb::Value::StringList(list)) };
        let set = options([("limit", number(5)), ("tags", tags.clone()), ("locked", text("x"))]);
        let refused = sessions.set(&id, set).unwrap().errors;
        assert_eq!(refused.len(), 1);
        assert_eq!(refused["locked"].value, pb::Problem::Refused as i32);
        let set = options([("limit", number(0)), ("color", text("red"))]);
        let refused = sessions.set(&id, set).unwrap().errors;
        assert_eq!(refused["limit"].value, pb::Problem::InvalidValue as i32);
        assert_eq!(refused["color"].value, pb::Problem::InvalidName as i32);
        assert_eq!(sessions.get(&id).unwrap(), options([("limit", number(5)), ("tags", tags)]));
        // What is taken away is not asked about.
        let unset = options([("limit", pb::OptionValue { value: None })]);
        assert!(sessions.set(&id, unset).unwrap().errors.is_empty());
        assert_eq!(sessions.get(&id).unwrap().options.len(), 1);
    }
}
