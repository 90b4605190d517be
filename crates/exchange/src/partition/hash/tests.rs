//! The hash is a format: its values, and what agrees.

use std::sync::Arc;

use arrow_array::builder::{Int32Builder, MapBuilder, StringBuilder};
use arrow_array::types::{
    Decimal128Type, Int8Type, Int32Type, Int64Type, IntervalDayTime, IntervalMonthDayNano,
    TimestampSecondType, UInt16Type,
};
use arrow_array::*;
use arrow_buffer::{NullBuffer, i256};
use arrow_cast::cast;
use arrow_schema::{DataType, Field, Fields, UnionFields};

use super::{Hasher, ODD, mix, partition_of};

#[test]
fn the_mixer_is_that_of_splitmix64() {
    // The published outputs of the generator with the state 1234567.
    let state = 1_234_567_u64;
    assert_eq!(mix(state.wrapping_add(ODD)), 6_457_827_717_110_365_317);
    assert_eq!(mix(state.wrapping_add(ODD.wrapping_mul(2))), 3_203_168_211_198_807_973);
}

#[test]
fn the_high_bits_choose_the_partition() {
    assert_eq!(partition_of(0, 7), 0);
    assert_eq!(partition_of(u64::MAX, 7), 6);
    assert_eq!(partition_of(u64::from(u32::MAX), 7), 0, "low bits do not matter");
    assert_eq!(partition_of(u64::MAX, 65_536), 65_535);
    assert_eq!(partition_of(1 << 63, 2), 1);
}

fn hashes(array: ArrayRef) -> Vec<u64> {
    Hasher::new(0).rows(&[array]).unwrap()
}

fn array(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}

fn map() -> ArrayRef {
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    map.keys().append_value("a");
    map.values().append_value(1);
    map.append(true).unwrap();
    array(map.finish())
}

fn pair() -> ArrayRef {
    let fields = Fields::from(vec![
        Field::new("n", DataType::Int32, true),
        Field::new("s", DataType::Utf8, true),
    ]);
    let columns = vec![array(Int32Array::from(vec![7])), array(StringArray::from(vec!["seven"]))];
    array(StructArray::new(fields, columns, None))
}

fn union() -> ArrayRef {
    let fields = [(5, Arc::new(Field::new("n", DataType::Int32, true)))];
    let fields: UnionFields = fields.into_iter().collect();
    let values = vec![array(Int32Array::from(vec![7]))];
    array(UnionArray::try_new(fields, vec![5].into(), None, values).unwrap())
}

/// A value of each class, by what it is called, with the hash of seed 0.
fn golden() -> Vec<(&'static str, ArrayRef, u64)> {
    let decimal = |value| Decimal128Array::from(vec![value]);
    let lists = vec![Some(vec![Some(1), None, Some(3)])];
    vec![
        ("null", array(NullArray::new(1)), 3_525_220_995_607_857_673),
        ("0", array(Int64Array::from(vec![0])), 5_197_578_548_964_807_871),
        ("7", array(Int64Array::from(vec![7])), 236_966_933_211_079_599),
        ("-1", array(Int64Array::from(vec![-1])), 17_492_683_508_065_611_904),
        ("u64 max", array(UInt64Array::from(vec![u64::MAX])), 17_492_683_508_065_611_904),
        ("true", array(BooleanArray::from(vec![true])), 11_385_487_063_155_714_807),
        ("1.5", array(Float64Array::from(vec![1.5])), 8_778_262_762_665_239_311),
        ("nan", array(Float64Array::from(vec![-f64::NAN])), 9_124_168_669_941_195_709),
        ("10^30", array(decimal(10_i128.pow(30))), 15_530_027_560_322_640_308),
        (
            "2^200",
            array(Decimal256Array::from(vec![i256::from_parts(0, 1 << 72)])),
            9_007_943_430_248_251_801,
        ),
        ("empty", array(StringArray::from(vec![""])), 2_238_759_660_615_534_562),
        ("sheaf", array(StringArray::from(vec!["sheaf"])), 7_823_937_216_427_183_206),
        (
            "long",
            array(StringArray::from(vec!["a sheaf is a bundle of arrows".repeat(10)])),
            15_226_991_450_578_192_400,
        ),
        ("bytes", array(BinaryArray::from(vec![&b"\x00\xff"[..]])), 11_150_008_945_540_392_997),
        (
            "day time",
            array(IntervalDayTimeArray::from(vec![IntervalDayTime::new(1, -2)])),
            6_137_253_084_872_650_614,
        ),
        (
            "month day nano",
            array(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, -2, 3)])),
            9_037_112_924_213_297_034,
        ),
        (
            "list",
            array(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)),
            6_210_874_818_149_402_850,
        ),
        ("map", map(), 5_520_259_027_944_880_701),
        ("struct", pair(), 2_379_483_883_451_420_873),
    ]
}

#[test]
fn hashes_are_those_that_were_committed() {
    let found: Vec<(&str, u64)> =
        golden().into_iter().map(|(name, array, _)| (name, hashes(array)[0])).collect();
    let wanted: Vec<(&str, u64)> =
        golden().into_iter().map(|(name, _, hash)| (name, hash)).collect();
    assert_eq!(found, wanted, "whoever changes the hash sends keys to other workers");
}

#[test]
fn keys_and_seeds_are_those_that_were_committed() {
    let columns = [array(Int32Array::from(vec![7])), array(StringArray::from(vec!["sheaf"]))];
    assert_eq!(Hasher::new(0).rows(&columns).unwrap(), [4_149_149_358_480_371_617]);
    assert_eq!(Hasher::new(42).rows(&columns).unwrap(), [4_474_669_403_517_401_255]);
    let swapped = [columns[1].clone(), columns[0].clone()];
    let hash = |columns: &[ArrayRef]| Hasher::new(0).rows(columns).unwrap();
    assert_ne!(hash(&swapped), hash(&columns), "order matters");
}

/// Every array has the hashes of the first.
fn agree(arrays: &[ArrayRef]) {
    let first = hashes(arrays[0].clone());
    for array in arrays {
        assert_eq!(
            hashes(array.clone()),
            first,
            "{} and {}",
            arrays[0].data_type(),
            array.data_type()
        );
    }
}

#[test]
fn text_agrees_in_every_representation() {
    let long = "more than fits into a view, by far";
    let text = array(StringArray::from(vec![Some("a"), None, Some(""), Some(long), Some("a")]));
    let keys =
        |width: DataType| DataType::Dictionary(Box::new(width), Box::new(DataType::Utf8View));
    let mut all = vec![text.clone()];
    for to in [
        DataType::LargeUtf8,
        DataType::Utf8View,
        DataType::Binary,
        DataType::LargeBinary,
        DataType::BinaryView,
        keys(DataType::Int8),
        keys(DataType::UInt64),
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
    ] {
        all.push(cast(&text, &to).unwrap());
    }
    let ends = Int32Array::from_iter_values(1..=5);
    all.push(array(
        RunArray::<Int32Type>::try_new(&ends, &StringArray::from_iter(text_values(&text))).unwrap(),
    ));
    // More values than rows, some not used, one of them null.
    let values =
        StringArray::from(vec![None, Some("z"), Some(long), Some(""), Some("a"), Some("q")]);
    let keys = UInt16Array::from(vec![4, 0, 3, 2, 4]);
    all.push(array(DictionaryArray::<UInt16Type>::new(keys, array(values))));
    agree(&all);
    let fixed = FixedSizeBinaryArray::try_from_iter([b"ab", b"cd"].into_iter()).unwrap();
    agree(&[array(fixed), array(StringArray::from(vec!["ab", "cd"]))]);
}

fn text_values(text: &ArrayRef) -> Vec<Option<String>> {
    let text = text.as_any().downcast_ref::<StringArray>().unwrap();
    text.iter().map(|value| value.map(str::to_owned)).collect()
}

#[test]
fn numbers_agree_in_every_width() {
    let numbers = array(Int64Array::from(vec![Some(0), Some(-1), None, Some(100)]));
    let mut all = vec![numbers.clone()];
    for to in [
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Decimal32(4, 0),
        DataType::Decimal64(9, 0),
        DataType::Decimal128(20, 0),
        DataType::Decimal256(50, 0),
        DataType::Date64,
        DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Int32)),
    ] {
        all.push(cast(&numbers, &to).unwrap());
    }
    all.push(array(
        numbers
            .to_data()
            .into_builder()
            .data_type(DataType::Time64(arrow_schema::TimeUnit::Nanosecond))
            .build()
            .map(PrimitiveArray::<arrow_array::types::Time64NanosecondType>::from)
            .unwrap(),
    ));
    agree(&all);
    let unsigned = array(UInt64Array::from(vec![0, 7, 200]));
    agree(&[
        unsigned.clone(),
        cast(&unsigned, &DataType::UInt8).unwrap(),
        cast(&unsigned, &DataType::UInt16).unwrap(),
        cast(&unsigned, &DataType::UInt32).unwrap(),
        cast(&unsigned, &DataType::Int64).unwrap(),
    ]);
    let wide = array(PrimitiveArray::<Decimal128Type>::from(vec![i128::MAX / 2, -(1 << 90)]));
    agree(&[wide.clone(), cast(&wide, &DataType::Decimal256(60, 10)).unwrap()]);
    let seconds = array(PrimitiveArray::<TimestampSecondType>::from(vec![5]));
    let zoned =
        cast(&seconds, &DataType::Timestamp(arrow_schema::TimeUnit::Second, Some("UTC".into())));
    agree(&[seconds, zoned.unwrap(), array(Int64Array::from(vec![5]))]);
}

#[test]
fn floats_agree_in_every_width_and_zeros_and_nans_with_each_other() {
    let floats = array(Float64Array::from(vec![1.5, 0.0, -0.0, f64::NAN, f64::INFINITY]));
    agree(&[
        floats.clone(),
        cast(&floats, &DataType::Float32).unwrap(),
        cast(&floats, &DataType::Float16).unwrap(),
    ]);
    let strange = f64::from_bits(0xfff8_0000_0000_0001);
    let hashes = hashes(array(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, strange])));
    assert_eq!((hashes[0], hashes[2]), (hashes[1], hashes[3]));
    assert_eq!(hashes[2], hashes[4]);
    assert_ne!(hashes[0], hashes[2]);
}

#[test]
fn lists_agree_in_every_representation() {
    let lists = [Some(vec![Some(1), None]), None, Some(vec![Some(3), Some(3)])];
    let list = array(ListArray::from_iter_primitive::<Int64Type, _, _>(lists));
    let field = Arc::new(Field::new_list_field(DataType::Int8, true));
    agree(&[
        list.clone(),
        cast(&list, &DataType::LargeList(field.clone())).unwrap(),
        cast(&list, &DataType::ListView(field.clone())).unwrap(),
        cast(&list, &DataType::LargeListView(field.clone())).unwrap(),
        cast(&list, &DataType::FixedSizeList(field, 2)).unwrap(),
    ]);
}

#[test]
fn what_lies_under_a_null_does_not_matter() {
    let nulls = NullBuffer::from(vec![false, true]);
    let one = Int32Array::new(vec![1, 5].into(), Some(nulls.clone()));
    let two = Int32Array::new(vec![2, 5].into(), Some(nulls.clone()));
    let wrap = |values: Int32Array| {
        let fields = Fields::from(vec![Field::new("n", DataType::Int32, true)]);
        array(StructArray::new(fields, vec![array(values)], Some(nulls.clone())))
    };
    agree(&[array(one.clone()), array(two.clone())]);
    agree(&[wrap(one), wrap(two)]);
    agree(&[
        array(NullArray::new(2)),
        new_null_array(&DataType::Utf8, 2),
        new_null_array(&DataType::Int8, 2),
    ]);
}

#[test]
fn a_union_and_a_dictionary_have_the_hash_of_their_value() {
    let seven = array(Int32Array::from(vec![7]));
    let keys = Int8Array::from(vec![0]);
    agree(&[seven.clone(), union(), array(DictionaryArray::<Int8Type>::new(keys, seven))]);
}

#[test]
fn keys_that_follow_each_other_are_spread_evenly() {
    for step in [1, 8, 1_000, 1 << 32, 1 << 48] {
        let keys = (0..64_000_i64).map(|key| key.wrapping_mul(step));
        let mut counts = [0_u32; 64];
        for hash in hashes(array(Int64Array::from_iter_values(keys))) {
            counts[partition_of(hash, 64) as usize] += 1;
        }
        // 1,000 each; six standard deviations of a random spread, and multiples
        // of 2^48 are only 65,536 different keys.
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{step}: {counts:?}");
    }
}
