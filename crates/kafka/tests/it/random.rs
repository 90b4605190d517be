//! Together is the same as one by one.

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use proptest::prelude::*;
use sheaf_kafka::{Decoder, DecoderOptions, Format, conform};

use crate::common::{decode, messages};

/// Decodes values together and one by one; both must say the same.
pub(crate) fn together_is_one_by_one(decoder: impl Fn() -> Decoder, values: &[Option<Vec<u8>>]) {
    let mut single = decoder();
    let (mut batches, mut rejected) = (Vec::new(), Vec::new());
    for (index, value) in values.iter().enumerate() {
        let decoded = decode(&mut single, &messages([value.as_ref()]));
        batches.extend(decoded.batch);
        rejected.extend(decoded.rejected.iter().map(|r| (index, r.error.clone())));
    }
    let schema = single.schema();
    let batches: Vec<RecordBatch> =
        batches.iter().map(|batch| conform(batch, schema).unwrap()).collect();
    let mut decoder = decoder();
    // Twice: with the columns unknown at first, and known.
    for known in [false, true] {
        let decoded = decode(&mut decoder, &messages(values.iter().map(Option::as_ref)));
        assert_eq!(decoder.schema(), schema);
        let found: Vec<_> = decoded.rejected.into_iter().map(|r| (r.index, r.error)).collect();
        let indices = |list: &[(usize, String)]| list.iter().map(|r| r.0).collect::<Vec<_>>();
        if known {
            // What was accepted is accepted again; more may fit by now.
            assert!(indices(&found).iter().all(|index| indices(&rejected).contains(index)));
            continue;
        }
        assert_eq!(found, rejected);
        let rows = concat_batches(schema, &batches).unwrap();
        let batch = decoded.batch.unwrap_or_else(|| RecordBatch::new_empty(schema.clone()));
        let own = batch.num_columns() - 6;
        assert_eq!(batch.columns()[..own], rows.columns()[..own]);
    }
}

/// Values that an `Int64` column may have and keep as floats.
fn json_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i32>().prop_map(|n| n.to_string()),
        any::<f32>().prop_filter("finite", |f| f.is_finite()).prop_map(|f| f.to_string()),
        "[a-z\u{e9}\\\\n]{0,4}".prop_map(|s| format!("\"{}\"", s.replace('\\', "\\\\"))),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|v| format!("[{}]", v.join(","))),
            prop::collection::vec(("[abc]", inner), 0..3).prop_map(object),
        ]
    })
}

fn object(pairs: Vec<(String, String)>) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", pairs.join(","))
}

fn message() -> impl Strategy<Value = Option<Vec<u8>>> {
    let good = prop::collection::vec(("[a-d]", json_value()), 0..4)
        .prop_map(|pairs| Some(object(pairs).into_bytes()));
    let cut = (prop::collection::vec(("[a-d]", json_value()), 1..4), any::<prop::sample::Index>())
        .prop_map(|(pairs, at)| {
            let text = object(pairs);
            Some(text.as_bytes()[..at.index(text.len())].to_vec())
        });
    let noise = prop::collection::vec(any::<u8>(), 0..8).prop_map(Some);
    prop_oneof![8 => good, 2 => cut, 1 => noise, 1 => Just(None)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_together_is_json_one_by_one(values in prop::collection::vec(message(), 0..80)) {
        // A vote over many messages may end otherwise than the first one.
        let options = || DecoderOptions { format: Format::Json, sample: 1, ..DecoderOptions::default() };
        together_is_one_by_one(|| Decoder::try_new("t", options()).unwrap(), &values);
    }
}
