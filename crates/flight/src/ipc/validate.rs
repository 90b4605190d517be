//! Checks a stream message by message, without decoding it.

use std::collections::HashSet;
use std::sync::Arc;

use super::Bounds;
use super::inspect::{Kind, Outline, limit, malformed, outline, parse};
use super::layout::SchemaLayout;
use super::walk::Walk;
use crate::error::Error;
use crate::message::Message;
use sheaf_retry::Retryable as _;

/// Takes the messages of one stream in order and says which of them cannot be
/// what they claim.
///
/// Accepted is: the schema first and once; then dictionaries that the schema
/// names and record batches; nodes and buffers as many as the schema asks for,
/// every buffer inside its body and long enough for its rows; dictionaries
/// defined before they are used (a column of nulls needs none), and added to
/// only after that; compression of a known kind. Values are not looked at: an
/// offset may point anywhere, text may be no UTF-8.
///
/// Works for every type of the format, whether this build can decode it or not.
#[derive(Clone, Debug, Default)]
pub struct StreamValidator {
    bounds: Bounds,
    layout: Option<Arc<SchemaLayout>>,
    defined: HashSet<i64>,
    replaced: bool,
    messages: u64,
    rows: u64,
}

impl StreamValidator {
    /// Nothing seen yet.
    pub fn new(bounds: Bounds) -> Self {
        StreamValidator { bounds, ..StreamValidator::default() }
    }

    /// Checks the next message.
    ///
    /// # Errors
    /// [`MalformedData`](sheaf_retry::Code::MalformedData) or
    /// [`LimitExceeded`](sheaf_retry::Code::LimitExceeded), with the number of
    /// the message from 0, what it has and what was wanted. The validator is of
    /// no use after an error.
    pub fn check(&mut self, message: &Message) -> Result<Outline, Error> {
        let checked = self.check_unnumbered(message).map_err(|error| {
            Error::new(error.code(), format!("message {}: {}", self.messages, error.message()))
        })?;
        self.messages += 1;
        if checked.kind == Kind::RecordBatch {
            self.rows = self.rows.saturating_add(checked.rows);
        }
        Ok(checked)
    }

    /// That the stream may end here.
    ///
    /// # Errors
    /// [`MalformedData`](sheaf_retry::Code::MalformedData) where there was no schema.
    pub fn finish(&self) -> Result<(), Error> {
        match self.layout {
            Some(_) => Ok(()),
            None => Err(malformed("the stream ended before its schema")),
        }
    }

    /// Messages that passed.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Rows of all record batches that passed.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether a dictionary was replaced, which the file format cannot express.
    pub fn has_replacement(&self) -> bool {
        self.replaced
    }

    fn check_unnumbered(&mut self, message: &Message) -> Result<Outline, Error> {
        let header = &message.header;
        let seen = outline(header, &self.bounds)?;
        let body = message.body_len() as u64;
        if seen.body_len != body {
            return Err(malformed(format!(
                "a body of {body} bytes where the header says {}",
                seen.body_len
            )));
        }
        match seen.kind {
            Kind::Metadata => {}
            Kind::Schema => self.schema(message)?,
            Kind::RecordBatch => {
                let layout = self.layout()?;
                let parsed = parse(header, &self.bounds)?;
                let batch = parsed.header_as_record_batch();
                let batch = batch.ok_or_else(|| malformed("no record batch in it"))?;
                let walk = Walk::new(message, batch, parsed.version(), &self.defined)?;
                let columns = layout.columns.iter().map(Arc::as_ref);
                walk.run(columns, seen.rows, false, &self.bounds)?;
                let (rows, max) = (self.rows.saturating_add(seen.rows), self.bounds.max_rows);
                if rows > max {
                    return Err(limit(format!(
                        "the stream has {rows} rows with it, the limit is {max}; send it as several streams"
                    )));
                }
            }
            Kind::Dictionary { id, is_delta } => {
                self.dictionary(message, seen.rows, id, is_delta)?;
            }
        }
        Ok(seen)
    }

    fn layout(&self) -> Result<Arc<SchemaLayout>, Error> {
        self.layout.clone().ok_or_else(|| malformed("data before the schema"))
    }

    fn schema(&mut self, message: &Message) -> Result<(), Error> {
        if self.layout.is_some() {
            return Err(malformed("a second schema"));
        }
        let (is, max) = (message.header.len(), self.bounds.max_schema_bytes);
        if is > max {
            return Err(limit(format!("the schema has {is} bytes, the limit is {max}")));
        }
        if message.body_len() > 0 {
            let has = message.body_len();
            return Err(malformed(format!("a schema with a body of {has} bytes")));
        }
        let parsed = parse(&message.header, &self.bounds)?;
        let schema = parsed.header_as_schema().ok_or_else(|| malformed("no schema in it"))?;
        self.layout = Some(Arc::new(SchemaLayout::try_new(schema, &self.bounds)?));
        Ok(())
    }

    fn dictionary(
        &mut self,
        message: &Message,
        rows: u64,
        id: i64,
        is_delta: bool,
    ) -> Result<(), Error> {
        let layout = self.layout()?;
        let field = layout.dictionaries.get(&id);
        let field = field.ok_or_else(|| malformed(format!("the schema has no dictionary {id}")))?;
        if is_delta && !self.defined.contains(&id) {
            return Err(malformed(format!("more values for dictionary {id}, which has none yet")));
        }
        let parsed = parse(&message.header, &self.bounds)?;
        let batch = parsed.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
        let batch = batch.ok_or_else(|| malformed("a dictionary without values"))?;
        let walk = Walk::new(message, batch, parsed.version(), &self.defined)?;
        walk.run(std::iter::once(field.as_ref()), rows, true, &self.bounds)?;
        self.replaced |= !self.defined.insert(id) && !is_delta;
        Ok(())
    }
}
