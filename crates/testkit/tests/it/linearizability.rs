//! The checker of histories, on known ones and against one that tries everything.

use proptest::prelude::*;
use sheaf_testkit::linearizability::{
    Model, Operation, Register, RegisterOp, RegisterRet, Verdict, Violation, WORK, check,
    check_by_key,
};

type Op = RegisterOp<u8>;
type Ret = RegisterRet<u8>;
type Event = Operation<Op, Ret>;

fn write(value: u8, invoked: u64, returned: u64) -> Event {
    Operation::returned(1, Op::Write(value), Ret::Done, invoked, returned)
}

fn read(value: u8, invoked: u64, returned: u64) -> Event {
    Operation::returned(2, Op::Read, Ret::Value(value), invoked, returned)
}

fn cas(expected: u8, new: u8, swapped: bool, invoked: u64, returned: u64) -> Event {
    Operation::returned(3, Op::Cas { expected, new }, Ret::Swapped(swapped), invoked, returned)
}

fn unknown(op: Op, invoked: u64) -> Event {
    Operation::unknown(4, op, invoked)
}

fn small(number: u64) -> u8 {
    number.try_into().unwrap()
}

fn verdict(history: &[Event]) -> Verdict {
    check::<Register<u8>>(0, history, WORK)
}

fn violation(history: &[Event]) -> Violation {
    match verdict(history) {
        Verdict::Violation(violation) => violation,
        other => panic!("{other} is not a violation"),
    }
}

#[test]
fn a_read_sees_what_is_written_or_what_is_being_written() {
    for seen in [0, 1] {
        assert!(verdict(&[write(1, 0, 10), read(seen, 5, 6)]).is_linearizable());
    }
    // Those that touch in time overlap.
    assert!(verdict(&[write(1, 0, 10), read(0, 10, 11)]).is_linearizable());
    assert!(verdict(&[write(1, 0, 10), read(0, 11, 12)]).is_violation());
    assert!(verdict(&[]).is_linearizable());
}

#[test]
fn a_stale_read_is_found_and_shown() {
    let mut history = vec![write(9, 0, 1)];
    history.extend((0..500).map(|n| write(small(n % 7), 10 + 10 * n, 12 + 10 * n)));
    history.extend([write(8, 6000, 6001), read(8, 6002, 6003), read(9, 6004, 6005)]);
    history.extend((0..500).map(|n| read(8, 7000 + 10 * n, 7001 + 10 * n)));
    let found = violation(&history);
    assert_eq!(found.culprit, 503);
    assert!(found.window.len() <= 20, "{found:?}");
    let report = found.to_string();
    assert!(report.contains("#503 6004..6005 client 2: Read -> Value(9)"), "{report}");
    assert!(report.contains("#501 6000..6001 client 1: Write(8) -> Done"), "{report}");
    assert!(report.lines().count() < 30, "{report}");
}

#[test]
fn a_lost_update_is_found() {
    let both = [cas(0, 1, true, 0, 10), cas(0, 2, true, 5, 15)];
    assert!(verdict(&both).is_violation());
    let one = [cas(0, 1, true, 0, 10), cas(0, 2, false, 5, 15), read(1, 20, 21)];
    assert!(verdict(&one).is_linearizable());
    let lost = [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)];
    assert_eq!(violation(&lost).culprit, 2);
}

#[test]
fn reads_that_go_back_are_found() {
    let flips = [write(1, 0, 100), read(1, 10, 11), read(0, 20, 21)];
    assert_eq!(violation(&flips).culprit, 2);
}

#[test]
fn a_write_of_unknown_outcome_is_seen_late_or_never() {
    let lost = unknown(Op::Write(5), 0);
    let late = [lost.clone(), write(1, 10, 11), read(1, 20, 21), read(5, 1000, 1001)];
    assert!(verdict(&late).is_linearizable());
    let never = [lost.clone(), write(1, 10, 11), read(1, 20, 21), read(1, 1000, 1001)];
    assert!(verdict(&never).is_linearizable());
    // But not before it was asked for, and only once.
    let early = [read(5, 0, 1), unknown(Op::Write(5), 2)];
    assert_eq!(violation(&early).culprit, 0);
    let twice = [lost, read(5, 5, 6), write(1, 10, 11), read(1, 20, 21), read(5, 30, 31)];
    assert_eq!(violation(&twice).culprit, 4);
}

#[test]
fn a_swap_of_unknown_outcome_takes_place_only_where_it_can() {
    let swap = unknown(Op::Cas { expected: 3, new: 4 }, 0);
    assert!(verdict(&[swap.clone(), write(3, 1, 2), read(4, 3, 4)]).is_linearizable());
    assert!(verdict(&[swap.clone(), write(2, 1, 2), read(4, 3, 4)]).is_violation());
}

#[test]
fn too_much_work_is_undecided() {
    // Writes that all overlap, and a read of none of them.
    let mut history: Vec<Event> = (1..=14).map(|n| write(n, 0, 100)).collect();
    history.push(read(99, 50, 60));
    assert_eq!(check::<Register<u8>>(0, &history, 1000), Verdict::Undecided { steps: 1000 });
    // The same is found where only few overlap.
    assert!(verdict(&history[9..]).is_violation());
}

#[test]
fn long_histories_of_a_few_clients_are_checked() {
    // Four clients, each of whose writes overlap those of the others.
    let writes = |n: u64| write(small(n % 256), 10 * n, 10 * n + 35);
    let history: Vec<Event> = (0..50_000).map(writes).collect();
    assert!(verdict(&history).is_linearizable());
}

#[test]
fn many_unknown_writes_of_values_never_seen_are_no_burden() {
    let mut history: Vec<Event> = (0..200).map(|n| unknown(Op::Write(200), 10 * n)).collect();
    history.extend(
        (0..200).flat_map(|n| [write(1, 10 * n, 10 * n + 2), read(1, 10 * n + 4, 10 * n + 5)]),
    );
    assert!(verdict(&history).is_linearizable());
}

#[test]
fn each_key_is_a_history_of_its_own() {
    /// A register by name.
    struct Named;
    impl Model for Named {
        type Op = (char, Op);
        type Ret = Ret;
        type State = u8;
        fn step(state: &u8, op: &(char, Op), ret: Option<&Ret>) -> Option<u8> {
            Register::step(state, &op.1, ret)
        }
    }
    let named = |name, event: Event| {
        let Operation { client, op, invoked, outcome } = event;
        Operation { client, op: (name, op), invoked, outcome }
    };
    let history = [
        named('a', write(1, 0, 1)),
        named('b', read(0, 2, 3)),
        named('b', write(2, 4, 5)),
        named('a', read(1, 6, 7)),
    ];
    let checked = check_by_key::<Named, _>(&0, history.clone(), |op| op.0, WORK);
    assert!(checked.is_linearizable(), "{checked}");
    let stale = named('b', read(0, 8, 9));
    let checked = check_by_key::<Named, _>(&0, history.into_iter().chain([stale]), |op| op.0, WORK);
    assert!(checked.is_violation());
    assert_eq!(checked.failed.keys().collect::<Vec<_>>(), [&'b']);
    assert!(
        checked.to_string().starts_with("1 of 2 keys failed\nkey 'b': not linear"),
        "{checked}"
    );
}

/// Tries every order of every choice of what returned by `end` and of the others.
fn by_trying_everything(state: u8, history: &[Event], placed: u32, end: u64) -> bool {
    let is_open = |index: usize| placed & (1 << index) == 0;
    let returned = |index: usize| history[index].returned_at().filter(|at| *at < end);
    let open = || (0..history.len()).filter(|index| is_open(*index));
    let Some(first_return) = open().filter_map(returned).min() else { return true };
    open().filter(|index| history[*index].invoked <= first_return).any(|index| {
        let operation = &history[index];
        Register::step(&state, &operation.op, operation.ret())
            .is_some_and(|after| by_trying_everything(after, history, placed | 1 << index, end))
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    let value = || 0..3u8;
    let asked = prop_oneof![
        3 => value().prop_map(|seen| (Op::Read, Ret::Value(seen))),
        2 => value().prop_map(|value| (Op::Write(value), Ret::Done)),
        2 => (value(), value(), any::<bool>())
            .prop_map(|(expected, new, swapped)| (Op::Cas { expected, new }, Ret::Swapped(swapped))),
    ];
    (asked, 0..12u64, 0..6u64, 0..5u8).prop_map(|((op, ret), invoked, takes, fate)| {
        if fate == 0 {
            unknown(op, invoked)
        } else {
            Operation::returned(1, op, ret, invoked, invoked + takes)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn it_agrees_with_trying_everything(history in prop::collection::vec(any_event(), 0..8)) {
        let expected = by_trying_everything(0, &history, 0, u64::MAX);
        let found = verdict(&history);
        prop_assert_eq!(found.is_linearizable(), expected, "{}", found);
        prop_assert_eq!(found.is_violation(), !expected, "{}", found);
    }

    /// The culprit is where the history goes wrong: what returned before is in order.
    #[test]
    fn a_violation_is_the_first_return_that_cannot_be_explained(
        history in prop::collection::vec(any_event(), 0..8),
    ) {
        let Verdict::Violation(found) = verdict(&history) else { return Ok(()) };
        let at = history[found.culprit].returned_at().unwrap();
        prop_assert!(by_trying_everything(0, &history, 0, at));
        prop_assert!(!by_trying_everything(0, &history, 0, at + 1));
    }
}
