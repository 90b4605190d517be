//! The words after a token: until when it counts, and how far.

use sheaf_retry::{HumanBytes, Timestamp};

use super::rights::Allowed;

/// How a line of a token file is written.
pub(super) const FORM: &str =
    "[NAME] TOKEN [expires=TIME] [allow=NAMESPACE:RIGHTS,…] [calls=N] [quota=SIZE]";
const WORDS: [&str; 4] = ["expires=", "allow=", "calls=", "quota="];

/// What a token may do, and how much of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenLimits {
    pub(crate) allowed: Allowed,
    /// Calls under way at once.
    pub(crate) calls: Option<usize>,
    /// Bytes of payloads that it may have stored.
    pub(crate) quota_bytes: Option<u64>,
}

/// What stands after one token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) expires: Option<Timestamp>,
    pub(super) limits: TokenLimits,
}

/// Takes the words after the token off the end of a line. What is none of them
/// may be a token and is not shown.
pub(super) fn take(words: &mut Vec<&str>) -> Result<Words, String> {
    let (mut taken, mut known) = (Words::default(), [false; WORDS.len()]);
    while words.len() > 1
        && let Some((at, value)) = words.last().and_then(|word| split(word))
    {
        words.pop();
        if std::mem::replace(&mut known[at], true) {
            return Err(format!("{} is there twice", WORDS[at]));
        }
        match at {
            0 => taken.expires = Some(timestamp(value)?),
            1 => taken.limits.allowed = Allowed::parse(value)?,
            2 => taken.limits.calls = Some(calls(value)?),
            _ => taken.limits.quota_bytes = Some(quota(value)?),
        }
    }
    Ok(taken)
}

fn split(word: &str) -> Option<(usize, &str)> {
    let mut words = WORDS.iter().enumerate();
    words.find_map(|(at, name)| Some((at, word.strip_prefix(name)?)))
}

fn timestamp(text: &str) -> Result<Timestamp, String> {
    let time = chrono::DateTime::parse_from_rfc3339(text)
        .map_err(|_| "after expires= stands a time such as 2027-01-31T00:00:00Z")?;
    // A time before 1970 has passed like any other.
    Ok(Timestamp::from_micros(u64::try_from(time.timestamp_micros()).unwrap_or(0)))
}

fn calls(text: &str) -> Result<usize, String> {
    let calls = text.parse().ok().filter(|calls| *calls > 0);
    calls.ok_or_else(|| "after calls= stands a number of calls from 1 on, such as 16".to_owned())
}

fn quota(text: &str) -> Result<u64, String> {
    let bytes = text.parse::<HumanBytes>().ok().filter(|bytes| bytes.0 > 0);
    bytes.map(|bytes| bytes.0).ok_or_else(|| {
        "after quota= stands a size above 0: a number and B, KB, MB, GB, TB, KiB, MiB, GiB or \
         TiB, such as 10GiB"
            .to_owned()
    })
}
