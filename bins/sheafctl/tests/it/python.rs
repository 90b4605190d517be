//! Components in Python, which know nothing but pyarrow.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sheaf_testkit::{Process, TempDir};

use super::flows::{LONG, component_program};

/// Copies what the example needs into a folder of its own.
pub(crate) fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in ["python.yaml", "ticker.py", "clean.py", "sheaf_source.py"] {
        std::fs::copy(super::example(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// What `PATH` is with a `python3` that has pyarrow, which is put into this folder.
pub(crate) fn path_with_python(own: &Path) -> Option<String> {
    let python = sheaf_testkit::python()?;
    std::fs::create_dir_all(own).unwrap();
    let link = own.join("python3");
    if !link.exists() {
        // A link to a Python of a virtual environment would not be in it.
        let script = format!("#!/bin/sh\nexec '{}' \"$@\"\n", python.display());
        std::fs::write(&link, script).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&link, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    #[allow(clippy::disallowed_methods, reason = "the shell's programs are found there")]
    let path = std::env::var("PATH").unwrap_or_default();
    Some(format!("{}:{path}", own.display()))
}

/// `sheafctl run` of the example.
pub(crate) fn run(folder: &TempDir, variables: &[(&str, &str)]) -> Option<Process> {
    component_program();
    let path = path_with_python(&folder.path().join("bin"))?;
    let mut command = Process::command(env!("CARGO_BIN_EXE_sheafctl"))
        .args(["run", "python.yaml", "--control-addr", "127.0.0.1:0"])
        .env("PATH", path)
        .current_dir(folder.path());
    for (name, value) in variables {
        command = command.env(name, value);
    }
    Some(command.spawn().unwrap())
}

/// The rows of the sink's files.
fn rows(folder: &TempDir) -> Vec<String> {
    let files = std::fs::read_dir(folder.path().join("out/prices")).into_iter().flatten().flatten();
    let files = files.filter(|file| file.path().extension().is_some_and(|it| it == "csv"));
    let texts = files.map(|file| std::fs::read_to_string(file.path()).unwrap());
    texts.flat_map(|text| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The process of the source that works in this folder.
fn ticker(folder: &TempDir) -> Option<String> {
    let here = folder.path().canonicalize().unwrap();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let is_it = |path: &Path| {
        let words = std::fs::read(path.join("cmdline")).unwrap_or_default();
        words.ends_with(b"ticker.py\0")
            && std::fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd == here)
    };
    let found = all.map(|entry| entry.path()).find(|path| is_it(path))?;
    Some(found.file_name()?.to_string_lossy().into_owned())
}

#[test]
fn a_source_and_a_processor_in_python_lose_nothing_and_come_to_their_end() {
    let folder = folder();
    let Some(mut process) = run(&folder, &[]) else { return };
    let status = process.wait_exit(LONG).unwrap();
    assert!(status.success(), "{}\n{}", process.stdout(), process.stderr());
    let rows = rows(&folder);
    // A thousand batches of three symbols; each tenth has a price that cannot be.
    assert_eq!(rows.len(), 2_700);
    assert!(rows.iter().all(|row| !row.ends_with("-1.0")), "{:?}", rows.first());
    let of = |symbol: &str| rows.iter().filter(|row| row.contains(symbol)).count();
    assert_eq!([of("AAA"), of("BBB"), of("CCC")], [900; 3]);
}

#[test]
fn a_source_in_python_that_is_killed_goes_on_where_its_readers_are() {
    let folder = folder();
    let Some(mut process) = run(&folder, &[]) else { return };
    let some = || rows(&folder).len() > 300;
    sheaf_testkit::wait_until(LONG, "some rows", some).unwrap();
    let pid = ticker(&folder).expect("it runs");
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    let status = process.wait_exit(LONG + Duration::from_secs(60)).unwrap();
    assert!(status.success(), "{}\n{}", process.stdout(), process.stderr());
    // At least once: what was on its way comes again, and nothing is missing.
    let rows = rows(&folder);
    assert!((2_700..3_000).contains(&rows.len()), "{}", rows.len());
}
