//! Servers that the machine may lack.

use std::net::TcpStream;
use std::process::Command;

use sheaf_testkit::{Error, Flavour, Reply, Valkey, ValkeyConnection, python};

fn refusal(error: Error) -> String {
    match error {
        Error::Refused { message, .. } => message,
        other => panic!("{other}"),
    }
}

#[test]
fn a_server_answers_and_keeps_what_it_was_told_to_keep() {
    for flavour in Flavour::ALL {
        let args = ["--appendonly", "yes", "--appendfsync", "always"];
        let Some(mut server) = Valkey::options(flavour).args(&args).start().unwrap() else {
            continue;
        };
        assert_eq!(server.flavour(), flavour);
        let ok = server.command(&["SET", "sheaf", "bound \r\n"]).unwrap();
        assert_eq!(ok, Reply::Status("OK".into()));
        server.kill9().unwrap();
        assert!(!server.is_running().unwrap());
        assert!(TcpStream::connect(server.addr()).is_err(), "still listening after kill -9");
        assert!(matches!(server.command(&["PING"]), Err(Error::Io { .. })));
        server.restart().unwrap();
        assert!(server.is_running().unwrap());
        assert_eq!(server.command(&["GET", "sheaf"]).unwrap().text(), Some("bound \r\n"));
    }
}

#[test]
fn two_valkeys_share_nothing() {
    let Some(first) = Valkey::start(&[]).unwrap() else { return };
    let Some(second) = Valkey::start(&[]).unwrap() else { return };
    assert_ne!(first.addr(), second.addr());
    first.command(&["SET", "sheaf", "bound"]).unwrap();
    assert_eq!(second.command(&["GET", "sheaf"]).unwrap(), Reply::Nil);
}

#[test]
fn servers_tell_about_themselves_and_refuse_with_their_own_words() {
    for flavour in Flavour::ALL {
        let Some(server) = Valkey::options(flavour).start().unwrap() else { continue };
        let name = server.info("server").unwrap();
        assert_eq!(name.contains_key("valkey_version"), flavour == Flavour::Valkey, "{name:?}");

        server.command(&["CONFIG", "RESETSTAT"]).unwrap();
        let script = "return {1, {redis.call('GET', KEYS[1]), 'b'}}";
        let reply = server.command(&["EVAL", script, "1", "nothing"]).unwrap();
        let pair = Reply::Array(vec![Reply::Nil, Reply::Bulk(b"b".into())]);
        assert_eq!(reply.items(), [Reply::Integer(1), pair]);
        let stats = server.command_stats().unwrap();
        assert_eq!((stats["eval"].calls, stats["eval"].failed_calls), (1, 0));
        assert!(!stats.contains_key("evalsha"));

        server.command(&["SCRIPT", "FLUSH"]).unwrap();
        let missing = server.command(&["EVALSHA", &"0".repeat(40), "0"]).unwrap_err();
        assert!(refusal(missing).starts_with("NOSCRIPT"));
    }
}

#[test]
fn commands_of_one_connection_belong_together() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let mut connection = server.connect().unwrap();
    connection.command(&["MULTI"]).unwrap();
    connection.command(&["SET", "text", "x"]).unwrap();
    connection.command(&["INCR", "text"]).unwrap();
    let done = connection.command(&["EXEC"]).unwrap();
    assert!(matches!(done.items(), [Reply::Status(_), Reply::Error(_)]), "{done:?}");
}

#[test]
fn users_have_to_give_their_name_where_a_password_is_asked_for() {
    for flavour in Flavour::ALL {
        let options = Valkey::options(flavour).args(&["--requirepass", "of the kit"]).user(
            "sheaf",
            "secret",
            &["~sheaf:*", "&*", "+@all", "-@dangerous"],
        );
        let Some(server) = options.start().unwrap() else { continue };
        let kit = server.command(&["ACL", "WHOAMI"]).unwrap();
        assert_eq!(kit.text(), Some("default"));

        let mut nobody = ValkeyConnection::open(server.addr(), None).unwrap();
        assert!(refusal(nobody.command(&["PING"]).unwrap_err()).starts_with("NOAUTH"));
        let wrong = ValkeyConnection::open(server.addr(), Some("another")).unwrap_err();
        assert!(!wrong.to_string().contains("another"), "{wrong}");
        assert!(refusal(wrong).starts_with("WRONGPASS"));

        nobody.command(&["AUTH", "sheaf", "secret"]).unwrap();
        nobody.command(&["SET", "sheaf:a", "1"]).unwrap();
        for refused in [["SET", "other", "1"].as_slice(), &["FLUSHALL"]] {
            let refused = nobody.command(refused).unwrap_err();
            assert!(refusal(refused).starts_with("NOPERM"));
        }
    }
}

#[test]
fn a_server_that_does_not_start_says_why() {
    let options = Valkey::options(Flavour::Valkey).args(&["--no-such-option", "1"]);
    if !Flavour::Valkey.is_there() {
        return;
    }
    let error = options.start().unwrap_err();
    assert!(matches!(&error, Error::Ended { .. }));
    assert!(error.to_string().contains("no-such-option"), "{error}");
}

#[test]
fn python_has_arrow() {
    let Some(python) = python() else { return };
    let script = "import pyarrow; print(pyarrow.array([1, 2]).sum())";
    let output = Command::new(python).args(["-c", script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "3\n");
}
