//! Traces: what travels with a batch, and who records what is done with it.

use std::fmt::{self, Debug, Write as _};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Which span of which trace caused something, and whether it is sampled: the `traceparent`
/// of the W3C, without its vendors' `tracestate`.
///
/// ```
/// use sheaf_proto::TraceContext;
///
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let context: TraceContext = text.parse()?;
/// assert!(context.is_sampled());
/// assert_eq!(context.to_string(), text);
/// # Ok::<(), sheaf_proto::InvalidTraceContext>(())
/// ```
///
/// # Source
/// W3C Trace Context, Level 1, section 3.2.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
}

/// The text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no traceparent: it is 00-TRACE-SPAN-FLAGS with 32, 16 and 2 small hexadecimal digits")]
pub struct InvalidTraceContext;

/// The flag of spans that are recorded.
const SAMPLED: u8 = 1;

impl TraceContext {
    /// The length of its text.
    pub const LENGTH: usize = 55;

    /// Of these identifiers; `None` where one of them is nothing but zeroes, which stands for
    /// none.
    pub fn new(trace: [u8; 16], span: [u8; 8], is_sampled: bool) -> Option<Self> {
        let is_there = trace != [0; 16] && span != [0; 8];
        is_there.then_some(TraceContext { trace, span, flags: u8::from(is_sampled) })
    }

    /// The trace.
    pub fn trace(&self) -> [u8; 16] {
        self.trace
    }

    /// The span of it.
    pub fn span(&self) -> [u8; 8] {
        self.span
    }

    /// Whether it is recorded by who made it.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Its text, without anything on the heap.
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut text = [b'-'; Self::LENGTH];
        hex(&[0], &mut text[..2]);
        hex(&self.trace, &mut text[3..35]);
        hex(&self.span, &mut text[36..52]);
        hex(&[self.flags], &mut text[53..]);
        text
    }

    /// Reads its text. Of a version that is to come, what is known of it.
    pub fn from_bytes(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(Self::LENGTH)?;
        let [version] = digits(&known[..2])?;
        let has_dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
        let is_whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        if !has_dashes || !is_whole {
            return None;
        }
        let [flags] = digits(&known[53..])?;
        TraceContext::new(digits(&known[3..35])?, digits(&known[36..52])?, flags & SAMPLED != 0)
    }
}

fn hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes().iter().try_for_each(|byte| f.write_char(char::from(*byte)))
    }
}

impl Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TraceContext {
    type Err = InvalidTraceContext;

    fn from_str(text: &str) -> Result<Self, InvalidTraceContext> {
        TraceContext::from_bytes(text.as_bytes()).ok_or(InvalidTraceContext)
    }
}

/// Records spans. It is given to who does the work, as clocks are.
///
/// 1. Nothing of it waits: where spans come faster than they can be sent, some are lost.
/// 2. What is not sampled because its parent is not costs no allocation.
pub trait Tracer: Send + Sync + Debug + 'static {
    /// Begins a span: its context, and where it is sampled the span.
    fn start(&self, begin: Begin<'_>) -> (Option<TraceContext>, Option<Box<dyn Recording>>);
}

/// A tracer that many hold.
pub type SharedTracer = Arc<dyn Tracer>;

/// How a span begins.
#[derive(Clone, Copy, Debug)]
pub struct Begin<'a> {
    /// What is done.
    pub name: &'static str,
    /// Who does it: the span is called by both.
    pub of: &'a str,
    /// What caused it; without it a trace begins.
    pub parent: Option<TraceContext>,
    /// So long ago.
    pub ago: Duration,
}

/// A span that is recorded. It ends when it is dropped.
pub trait Recording: Send {
    /// Says something of it.
    fn set(&mut self, key: &'static str, value: Value<'_>);

    /// Something happened now.
    fn event(&mut self, name: &'static str, text: &str);

    /// This caused it too.
    fn link(&mut self, cause: TraceContext);

    /// It came to nothing, and why.
    fn fail(&mut self, why: &str);
}

/// Of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A text.
    Text(&'a str),
    /// A number; more than [`i64::MAX`] counts as that.
    Number(u64),
}

/// Work that may be recorded.
#[derive(Default)]
pub struct Span {
    context: Option<TraceContext>,
    recording: Option<Box<dyn Recording>>,
}

impl Span {
    /// Begins one. Without a tracer nothing is recorded, and what caused it is passed on.
    pub fn start(tracer: Option<&SharedTracer>, begin: Begin<'_>) -> Self {
        let Some(tracer) = tracer else {
            return Span { context: begin.parent, recording: None };
        };
        let (context, recording) = tracer.start(begin);
        Span { context, recording }
    }

    /// What is caused by it carries this on.
    pub fn context(&self) -> Option<TraceContext> {
        self.context
    }

    /// The span where it is recorded: nothing is to be worked out for it where it is not.
    pub fn recorded(&mut self) -> Option<&mut dyn Recording> {
        match &mut self.recording {
            Some(recording) => Some(recording.as_mut()),
            None => None,
        }
    }
}

impl Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_recorded = self.recording.is_some();
        f.debug_struct("Span")
            .field("context", &self.context)
            .field("is_recorded", &is_recorded)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_text_reads_back() {
        let context: TraceContext = TEXT.parse().unwrap();
        assert_eq!(context.to_string(), TEXT);
        assert_eq!((context.trace()[0], context.span()[7]), (0x0a, 0x31));
        let other = TraceContext::new(context.trace(), context.span(), false).unwrap();
        assert!(context.is_sampled() && !other.is_sampled());
        assert!(other.to_string().ends_with("-00"));
    }

    #[test]
    fn of_a_version_that_is_to_come_what_is_known_is_read() {
        let later = TEXT.replacen("00-", "7f-", 1);
        assert_eq!(later.parse(), TEXT.parse::<TraceContext>());
        assert_eq!(format!("{later}-more").parse(), TEXT.parse::<TraceContext>());
        // Flags that nobody knows are not passed on.
        let flags = TEXT.replace("-01", "-ff");
        assert_eq!(flags.parse(), TEXT.parse::<TraceContext>());
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        let zero_trace = format!("00-{}-b7ad6b7169203331-01", "0".repeat(32));
        let zero_span = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", "0".repeat(16));
        let wrong = [
            "",
            &TEXT[..54],
            &format!("{TEXT}-"),
            &TEXT.replace("00-0", "ff-0"),
            &TEXT.replace("af", "AF"),
            &TEXT.replace('-', "_"),
            &format!("{}more", TEXT.replacen("00-", "01-", 1)),
            &zero_trace,
            &zero_span,
            &"é".repeat(40),
        ];
        for text in wrong {
            assert_eq!(text.parse::<TraceContext>(), Err(InvalidTraceContext), "{text}");
        }
    }

    #[test]
    fn without_a_tracer_the_cause_is_passed_on() {
        let parent = TEXT.parse().ok();
        let begin = Begin { name: "process", of: "even", parent, ago: Duration::ZERO };
        let mut span = Span::start(None, begin);
        assert_eq!(span.context(), parent);
        assert!(span.recorded().is_none());
    }
}
