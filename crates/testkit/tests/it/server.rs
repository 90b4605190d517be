//! Servers that the machine may lack.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use sheaf_testkit::{Valkey, python};

fn ask(valkey: &Valkey, command: &str) -> String {
    let mut stream = TcpStream::connect(valkey.addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "{command}\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn valkey_answers_and_keeps_what_it_was_told_to_keep() {
    let args = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut valkey) = Valkey::start(&args).unwrap() else { return };
    assert!(ask(&valkey, "SET sheaf bound").starts_with("+OK"));
    valkey.kill9().unwrap();
    assert!(TcpStream::connect(valkey.addr()).is_err(), "still listening after kill -9");
    valkey.restart().unwrap();
    assert!(ask(&valkey, "GET sheaf").contains("bound"));
}

#[test]
fn two_valkeys_share_nothing() {
    let Some(first) = Valkey::start(&[]).unwrap() else { return };
    let Some(second) = Valkey::start(&[]).unwrap() else { return };
    assert_ne!(first.addr(), second.addr());
    assert!(ask(&first, "SET sheaf bound").starts_with("+OK"));
    assert!(ask(&second, "GET sheaf").starts_with("$-1"));
}

#[test]
fn python_has_arrow() {
    let Some(python) = python() else { return };
    let script = "import pyarrow; print(pyarrow.array([1, 2]).sum())";
    let output = Command::new(python).args(["-c", script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "3\n");
}
