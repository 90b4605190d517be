//! The messages that are measured, in each format.
//!
//! The short ones have six columns, those from 512 bytes on fourteen more: ten
//! integers and four texts. Texts fill what is left of the size, of letters that
//! differ from message to message.

use clap::{Args, ValueEnum};

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One object.
    Json,
    /// Behind the header of a schema registry.
    Avro,
    /// The same.
    Protobuf,
}

/// What values are.
#[derive(Debug, Args)]
pub(crate) struct Values {
    /// How they are written.
    #[arg(long, value_enum)]
    pub(super) format: Format,
    /// About how long each is.
    #[arg(long)]
    pub(super) bytes: usize,
    /// What Avro and Protobuf name as their schema.
    #[arg(long, default_value_t = 1)]
    pub(super) schema_id: u32,
}

/// Size from which on messages have more columns.
const WIDE: usize = 512;
const NUMBERS: usize = 10;
/// 2026-11-29T00:00:00Z, in seconds.
const BEGIN: u64 = 1_795_910_400;

/// One message before it is written.
struct Row {
    id: u64,
    user: String,
    amount: f64,
    is_active: bool,
    seconds: u64,
    numbers: Vec<u64>,
    texts: Vec<String>,
}

impl Row {
    /// The columns of message `id`, with texts of so many letters together.
    fn new(id: u64, bytes: usize, letters: usize) -> Self {
        let seed = mixed(id);
        let (numbers, texts) = if bytes < WIDE { (0, 1) } else { (NUMBERS, 5) };
        let share = letters / texts;
        let text = |at: usize| {
            let mut text = String::with_capacity(share + 16);
            let mut word = seed ^ at as u64;
            while text.len() < share {
                word = mixed(word);
                text.push_str(&format!("{word:016x}"));
            }
            text.truncate(share);
            text
        };
        Row {
            id,
            user: format!("user-{}", seed % 10_000),
            amount: (seed >> 32) as f64 / 100.0,
            is_active: seed & 1 == 1,
            seconds: BEGIN + id % 86_400,
            numbers: (0..numbers).map(|at| mixed(seed ^ at as u64) >> 40).collect(),
            texts: (0..texts).map(text).collect(),
        }
    }

    fn json(&self, out: &mut Vec<u8>) {
        let Row { id, user, amount, is_active, .. } = self;
        let (hours, minutes) = (self.seconds / 3_600 % 24, self.seconds / 60 % 60);
        let seconds = self.seconds % 60;
        let mut text =
            format!(r#"{{"id":{id},"user":"{user}","amount":{amount:.2},"active":{is_active},"#);
        text += &format!(r#""time":"2026-11-29T{hours:02}:{minutes:02}:{seconds:02}Z""#);
        for (at, number) in self.numbers.iter().enumerate() {
            text += &format!(r#","n{at}":{number}"#);
        }
        for (at, value) in self.texts.iter().enumerate() {
            text += &format!(r#","text{at}":"{value}""#);
        }
        out.extend_from_slice(text.as_bytes());
        out.push(b'}');
    }

    fn avro(&self, out: &mut Vec<u8>) {
        let text = |out: &mut Vec<u8>, text: &str| {
            varint(out, text.len() as u64 * 2);
            out.extend_from_slice(text.as_bytes());
        };
        varint(out, self.id * 2);
        text(out, &self.user);
        out.extend_from_slice(&self.amount.to_le_bytes());
        out.push(u8::from(self.is_active));
        varint(out, self.seconds * 1_000_000 * 2);
        self.numbers.iter().for_each(|number| varint(out, number * 2));
        self.texts.iter().for_each(|value| text(out, value));
    }

    fn protobuf(&self, out: &mut Vec<u8>) {
        let tag = |out: &mut Vec<u8>, field: u64, wire: u64| varint(out, field << 3 | wire);
        let number = |out: &mut Vec<u8>, field: u64, value: u64| {
            tag(out, field, 0);
            varint(out, value);
        };
        let text = |out: &mut Vec<u8>, field: u64, text: &str| {
            tag(out, field, 2);
            varint(out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        };
        number(out, 1, self.id);
        text(out, 2, &self.user);
        tag(out, 3, 1);
        out.extend_from_slice(&self.amount.to_le_bytes());
        number(out, 4, u64::from(self.is_active));
        number(out, 5, self.seconds * 1_000_000);
        (6..).zip(&self.numbers).for_each(|(field, value)| number(out, field, *value));
        (6 + self.numbers.len() as u64..)
            .zip(&self.texts)
            .for_each(|(field, value)| text(out, field, value));
    }
}

/// Appends the value of message `id`.
pub(super) fn value(out: &mut Vec<u8>, values: &Values, id: u64) {
    let (schema_id, bytes) = (values.schema_id, values.bytes);
    let write = |out: &mut Vec<u8>, row: &Row| match values.format {
        Format::Json => row.json(out),
        Format::Avro => {
            header(out, schema_id);
            row.avro(out);
        }
        Format::Protobuf => {
            header(out, schema_id);
            // The first message of the file.
            out.push(0);
            row.protobuf(out);
        }
    };
    let begin = out.len();
    write(out, &Row::new(id, bytes, 0));
    let letters = bytes.saturating_sub(out.len() - begin);
    out.truncate(begin);
    write(out, &Row::new(id, bytes, letters));
}

/// The schema of values in Avro and Protobuf.
pub(super) fn schema(format: Format, bytes: usize) -> Option<String> {
    let wide = bytes >= WIDE;
    let numbers = (0..if wide { NUMBERS } else { 0 }).map(|at| format!("n{at}"));
    let texts = (0..if wide { 5 } else { 1 }).map(|at| format!("text{at}"));
    match format {
        Format::Json => None,
        Format::Avro => {
            let field = |name: &str, of: &str| format!(r#"{{"name":"{name}","type":{of}}}"#);
            let mut fields = vec![
                field("id", r#""long""#),
                field("user", r#""string""#),
                field("amount", r#""double""#),
                field("active", r#""boolean""#),
                field("time", r#"{"type":"long","logicalType":"timestamp-micros"}"#),
            ];
            fields.extend(numbers.map(|name| field(&name, r#""long""#)));
            fields.extend(texts.map(|name| field(&name, r#""string""#)));
            let fields = fields.join(",");
            Some(format!(r#"{{"type":"record","name":"Event","fields":[{fields}]}}"#))
        }
        Format::Protobuf => {
            let first = ["int64 id", "string user", "double amount", "bool active", "int64 time"];
            let fields = first.into_iter().map(str::to_owned);
            let fields = fields.chain(numbers.map(|name| format!("int64 {name}")));
            let fields = fields.chain(texts.map(|name| format!("string {name}")));
            let mut text = String::from("syntax = \"proto3\"; message Event {");
            for (number, field) in (1_u32..).zip(fields) {
                text.push_str(&format!(" {field} = {number};"));
            }
            Some(text + " }")
        }
    }
}

fn header(out: &mut Vec<u8>, schema_id: u32) {
    out.push(0);
    out.extend_from_slice(&schema_id.to_be_bytes());
}

fn varint(out: &mut Vec<u8>, mut rest: u64) {
    while rest >= 0x80 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

/// A number that looks like chance (the finaliser of splitmix64).
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
