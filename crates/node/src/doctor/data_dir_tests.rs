//! Every verdict on a data directory, from facts.

use std::path::PathBuf;

use sheaf_coordinator::embedded::Inspection;

use super::*;
use crate::doctor::Verdict;

const GIB: u64 = 1 << 30;

fn dir() -> DirFacts {
    DirFacts {
        path: PathBuf::from("/data"),
        kind: Kind::Directory,
        owner: Some(7),
        mode: Some(0o755),
        user: 7,
        space: Some(Space { free: 50 * GIB, total: 100 * GIB, free_files: Some(1_000_000) }),
        file_system: Some("ext4".to_owned()),
        syncs: Ok(vec![Duration::from_micros(400), Duration::from_millis(1)]),
    }
}

fn survey() -> Survey {
    Survey {
        format: Some(1),
        holder: Holder::Nobody,
        registrations: Registrations::Whole { records: 3, torn: 0 },
        payloads: 3,
        payload_bytes: GIB,
        quarantined: 0,
        quarantined_bytes: 0,
        partial: false,
    }
}

fn facts(dir: DirFacts) -> DataFacts {
    DataFacts { dir, survey: Some(Ok(survey())), records: Some(Ok(FileState::Absent)) }
}

#[test]
fn a_sound_directory_has_nothing_but_ok() {
    let checks = facts(dir()).checks(Durability::Disk, u64::MAX);
    assert!(checks.iter().all(|check| check.verdict == Verdict::Ok), "{checks:?}");
    let names: Vec<_> = checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names.len(), 9, "{names:?}");
}

#[test]
fn what_cannot_be_written_says_for_whom_and_how_to_mend_it() {
    let syncs = Err((Code::PermissionDenied, "permission denied".to_owned()));
    let check = directory("data_dir", &DirFacts { syncs, ..dir() });
    assert_eq!((check.verdict, check.code), (Verdict::Problem, Some(Code::PermissionDenied)));
    assert!(check.found.contains("user 7") && check.action.contains("chown 7 /data"), "{check:?}");
    let check = directory("data_dir", &DirFacts { kind: Kind::Other, ..dir() });
    assert!(check.action.contains("name a directory"), "{check:?}");
    let kind = Kind::Other;
    let checks = facts(DirFacts { kind, ..dir() }).checks(Durability::Disk, u64::MAX);
    assert_eq!(checks.len(), 2, "what depends on it is skipped once: {checks:?}");
    let open = directory("data_dir", &DirFacts { mode: Some(0o777), ..dir() });
    assert_eq!((open.verdict, open.action.as_str()), (Verdict::Warning, "run `chmod o-w /data`"));
    let foreign = directory("data_dir", &DirFacts { owner: Some(9), ..dir() });
    assert!(foreign.found.contains("belongs to user 9"), "{foreign:?}");
    let absent = DirFacts { kind: Kind::Absent("/".into()), mode: None, owner: None, ..dir() };
    assert_eq!(directory("data_dir", &absent).verdict, Verdict::Ok);
}

#[test]
fn space_is_judged_by_what_is_stored_and_what_may_come() {
    let of = |free, used, files, max_live| {
        let there = Space { free, total: 100 * GIB, free_files: files };
        space("s", Some(&there), used, max_live)
    };
    let verdict = |check: Check| check.verdict;
    assert_eq!(verdict(of(2 * GIB, 0, None, u64::MAX)), Verdict::Ok);
    assert_eq!(verdict(of(2 * GIB, 30 * GIB, None, u64::MAX)), Verdict::Warning);
    assert_eq!(verdict(of(GIB / 2, 0, None, u64::MAX)), Verdict::Warning);
    assert_eq!(verdict(of(2 * GIB, 0, Some(9), u64::MAX)), Verdict::Warning);
    let full = of(1 << 20, 0, None, u64::MAX);
    assert_eq!((full.verdict, full.code), (Verdict::Problem, Some(Code::DiskFull)));
    let check = of(2 * GIB, GIB, None, 10 * GIB);
    assert!(check.verdict == Verdict::Warning && check.action.contains("--max-live-bytes"));
    assert_eq!(verdict(of(2 * GIB, GIB, None, 3 * GIB)), Verdict::Ok);
    assert_eq!(verdict(space("s", None, 0, 0)), Verdict::Skipped);
}

#[test]
fn doubtful_file_systems_and_slow_disks_are_told() {
    for (kind, durability, expected) in [
        ("nfs", Durability::Memory, Verdict::Warning),
        ("overlay", Durability::Memory, Verdict::Warning),
        ("tmpfs", Durability::Disk, Verdict::Warning),
        ("tmpfs", Durability::Memory, Verdict::Ok),
        ("0x1234", Durability::Disk, Verdict::Ok),
    ] {
        assert_eq!(file_system(Some(kind), durability).verdict, expected, "{kind}");
    }
    let slow = DirFacts { syncs: Ok(vec![Duration::from_millis(30); 3]), ..dir() };
    let check = super::syncs(&slow, Durability::Disk);
    assert_eq!((check.verdict, &check.figures["median_ms"]), (Verdict::Warning, &30.0.into()));
    assert_eq!(super::syncs(&slow, Durability::Memory).verdict, Verdict::Ok);
}

#[test]
fn formats_and_records_of_newer_versions_are_problems() {
    let newer = Err((Code::FormatNewer, "it has format 99".to_owned()));
    let check = format(&newer);
    assert_eq!((check.verdict, check.code), (Verdict::Problem, Some(Code::FormatNewer)));
    assert!(check.action.contains("newer Sheaf"), "{check:?}");
    assert_eq!(
        records(&Err((Code::FormatNewer, "x".to_owned())), &Holding::Free).code,
        Some(Code::FormatNewer)
    );
    let corrupt = records(&Err((Code::Corrupt, "x".to_owned())), &Holding::Free);
    assert!(corrupt.action.contains("backup"), "{corrupt:?}");
    let damaged = Inspection { damaged: 1, batches: 5, ..Inspection::default() };
    let check = records(&Ok(FileState::Closed(damaged)), &Holding::Free);
    assert!(check.verdict == Verdict::Warning && check.found.contains("5 records"), "{check:?}");
    let other = records(&Ok(FileState::InUse), &Holding::Free);
    assert_eq!(other.code, Some(Code::DirectoryLocked), "{other:?}");
    let own = records(&Ok(FileState::InUse), &Holding::Held(Some(7)));
    assert_eq!(own.verdict, Verdict::Skipped);
    let check = quarantine(&Survey { quarantined: 2, ..survey() });
    assert!(check.verdict == Verdict::Warning && check.found.contains("2 damaged files"));
}

#[test]
fn who_holds_it_is_known_by_role() {
    let held = Survey { holder: Holder::Process("12".to_owned()), ..survey() };
    let with = |survey, records| DataFacts { dir: dir(), survey, records }.holding();
    assert_eq!(with(Some(Ok(held)), None), Holding::Held(Some(12)));
    assert_eq!(with(None, Some(Ok(FileState::InUse))), Holding::Held(None));
    // A coordinator of another process beside a store that is free.
    assert_eq!(with(Some(Ok(survey())), Some(Ok(FileState::InUse))), Holding::Free);
    assert_eq!(with(None, Some(Ok(FileState::Absent))), Holding::Free);
    assert_eq!(with(Some(Err((Code::Io, "x".to_owned()))), None), Holding::Unknown);
}

#[test]
fn a_number_of_the_format_that_is_none_has_its_own_advice() {
    let check = format(&Err((Code::Corrupt, "FORMAT holds \"x\"".to_owned())));
    assert_eq!((check.verdict, check.code), (Verdict::Problem, Some(Code::Corrupt)));
    assert!(check.action.contains("FORMAT") && !check.action.contains("quarantine"), "{check:?}");
}

#[test]
fn what_is_wrong_with_the_journal_says_what_to_do() {
    let torn = registrations(Registrations::Whole { records: 2, torn: 5 });
    assert!(torn.verdict == Verdict::Ok && torn.found.contains("2 records"), "{torn:?}");
    assert_eq!(registrations(Registrations::Absent).verdict, Verdict::Ok);
    let newer = registrations(Registrations::Newer { found: 9, supported: 1 });
    assert_eq!((newer.verdict, newer.code), (Verdict::Problem, Some(Code::FormatNewer)));
    let damaged = registrations(Registrations::Damaged { records: 2, bytes: 77 });
    assert!(
        damaged.verdict == Verdict::Warning && damaged.found.contains("77 bytes"),
        "{damaged:?}"
    );
    assert!(damaged.action.contains("start with the coordinator"), "{damaged:?}");
    let foreign = registrations(Registrations::Foreign);
    assert!(
        foreign.verdict == Verdict::Warning && foreign.action.contains("backup"),
        "{foreign:?}"
    );
}
