//! What a decoder does with schemas that were refused, or that are wrong.

use sheaf_kafka::{Decoded, Decoder, Format, Messages};

use crate::avro::registered;
use crate::common::{decode, messages, of};

/// A message of this schema: a text of three letters.
fn framed(id: u8, text: &[u8; 3]) -> Vec<u8> {
    [&[0, 0, 0, 0, id, 6], &text[..]].concat()
}

const RECORD: &str = r#"{"type":"record","name":"T","fields":[{"name":"a","type":"string"}]}"#;

fn asked(decoder: &mut Decoder, messages: &Messages) -> Vec<u32> {
    match decoder.decode(0, messages).unwrap() {
        Decoded::Batch(_) => Vec::new(),
        Decoded::Unknown(ids) => ids,
    }
}

#[test]
fn what_was_refused_or_rejects_messages_is_asked_for_again() {
    let mut decoder = of(Format::Avro);
    let both = messages([1, 2, 3].map(|id| Some(framed(id, b"ulm"))));
    assert_eq!(asked(&mut decoder, &both), [1, 2, 3]);
    decoder.learn(1, &registered(RECORD));
    // It compiles, and no message is of it.
    decoder.learn(2, &registered(&RECORD.replace("string", "boolean")));
    decoder.refuse(3, "not there");
    let decoded = decode(&mut decoder, &both);
    assert_eq!(decoded.rejected.iter().map(|one| one.index).collect::<Vec<_>>(), [1, 2]);
    assert!(asked(&mut decoder, &both).is_empty());
    decoder.forget_refused();
    assert_eq!(asked(&mut decoder, &both), [3]);
    assert_eq!(decoder.take_doubted(9), [2]);
    assert!(decoder.take_doubted(9).is_empty());
    decoder.learn(2, &registered(RECORD));
    decoder.learn(3, &registered(RECORD));
    assert!(decode(&mut decoder, &both).rejected.is_empty());
    decoder.forget_refused();
    assert!(asked(&mut decoder, &both).is_empty() && decoder.take_doubted(9).is_empty());
}

/// Else a registry that is wrong at the start decides for ever what a topic is.
#[test]
fn refused_schemas_do_not_tell_the_format() {
    let mut decoder = of(Format::Auto);
    let some =
        messages([Some(framed(1, b"ulm")), Some(framed(1, b"jena"[..3].try_into().unwrap()))]);
    assert_eq!(asked(&mut decoder, &some), [1]);
    decoder.refuse(1, "not there");
    let decoded = decode(&mut decoder, &some);
    assert_eq!((decoder.format(), decoded.rejected.len()), (None, 2));
    assert_eq!(decoded.rejected[0].error, "schema 1: not there");
    decoder.forget_refused();
    assert_eq!(asked(&mut decoder, &some), [1]);
    decoder.learn(1, &registered(RECORD));
    assert_eq!(decode(&mut decoder, &some).batch.unwrap().num_rows(), 2);
    assert_eq!(decoder.format(), Some(Format::Avro));
}

#[test]
fn most_of_the_others_tell_the_format() {
    let mut decoder = of(Format::Auto);
    let json = || Some(b"{\"a\":1}".to_vec());
    let some = messages([Some(framed(1, b"ulm")), json(), json()]);
    assert_eq!(asked(&mut decoder, &some), [1]);
    decoder.refuse(1, "not there");
    let decoded = decode(&mut decoder, &some);
    assert_eq!((decoder.format(), decoded.rejected.len()), (Some(Format::Json), 1));

    let mut decoder = of(Format::Auto);
    decoder.refuse(1, "not there");
    let some = messages([Some(framed(1, b"ulm")), json(), Some(framed(1, b"ulm"))]);
    let decoded = decode(&mut decoder, &some);
    assert_eq!((decoder.format(), decoded.rejected.len()), (None, 3));
}

#[test]
fn without_a_registry_nothing_is_asked_for() {
    let mut avro = of(Format::Avro);
    avro.without_registry();
    let decoded = decode(&mut avro, &messages([Some(framed(1, b"ulm"))]));
    assert!(decoded.rejected[0].error.contains("--schema-registry"), "{decoded:?}");
    // They are no values of a registry then.
    let mut auto = of(Format::Auto);
    auto.without_registry();
    let decoded = decode(&mut auto, &messages([Some(vec![0, 0, 0, 0, 1, 0xff])]));
    assert_eq!((auto.format(), decoded.rejected.len()), (Some(Format::Bytes), 0));
}
