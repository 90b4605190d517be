//! What `sheafctl console` prints, and to whom it gives the token.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::TIME;
use crate::pipelines::World;
use crate::{code, data, notes, sheafctl_in};

#[test]
fn the_link_has_the_token_of_the_server_and_is_gone_with_it() {
    let world = World::new("", "");
    let mut server = world.start(&["server", "--control-addr", "127.0.0.1:0"]);
    let ready = server.wait_ready(TIME).unwrap();
    let (control, console) =
        (ready.addr("control").unwrap().to_string(), ready.url("console").unwrap());
    let ask = |further: &[&str]| {
        sheafctl_in(world.folder.path(), &[&["console", "--server", &*control], further].concat())
    };
    let token = std::fs::read_to_string(world.folder.path().join(".sheaf/control-token")).unwrap();
    assert_eq!(data(&ask(&[])), format!("{console}/#token={}\n", token.trim()));
    assert_eq!(data(&ask(&["--no-token"])), format!("{console}/\n"));
    assert!(!server.stdout().contains(token.trim()) && !server.stderr().contains(token.trim()));
    // Another folder has neither the place nor the token.
    let output = ask(&["--data-dir", "elsewhere"]);
    assert_eq!(code(&output), 3, "{}", notes(&output));
    let output = sheafctl_in(world.folder.path(), &["console", "--server", "127.0.0.1:1"]);
    assert!(notes(&output).contains(&format!("--server may be {control}")), "{}", notes(&output));
    server.terminate(TIME).unwrap();
    assert_eq!(code(&ask(&[])), 3);
}

#[test]
fn whoever_took_the_port_of_a_killed_server_is_not_handed_its_token() {
    let world = World::new("", "");
    let mut server = world.start(&["server", "--control-addr", "127.0.0.1:0"]);
    let ready = server.wait_ready(TIME).unwrap();
    let control = ready.addr("control").unwrap().to_string();
    server.kill9().unwrap();
    let ask = || sheafctl_in(world.folder.path(), &["console", "--server", &control]);
    let token = std::fs::read_to_string(world.folder.path().join(".sheaf/control-token")).unwrap();
    let output = ask();
    assert_eq!((code(&output), data(&output)), (7, String::new()), "{}", notes(&output));
    let thief = TcpListener::bind(ready.addr("console").unwrap()).unwrap();
    let theft = std::thread::spawn(move || {
        let (mut stream, _) = thief.accept().unwrap();
        let mut asked = [0; 4_096];
        let length = stream.read(&mut asked).unwrap();
        let body = r#"{"proof":"0000"}"#;
        let length_of_body = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length_of_body}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&asked[..length]).into_owned()
    });
    let output = ask();
    assert_eq!((code(&output), data(&output)), (7, String::new()));
    assert!(notes(&output).contains("it is another one"), "{}", notes(&output));
    assert!(!notes(&output).contains(token.trim()));
    let asked = theft.join().unwrap();
    assert!(asked.contains("GET /api/proof?nonce=") && !asked.contains(token.trim()), "{asked}");
    // The next server forgets the place, and has its own.
    let mut next = world.start(&["server", "--control-addr", "127.0.0.1:0"]);
    next.wait_ready(TIME).unwrap();
    let places = std::fs::read_dir(world.folder.path().join(".sheaf/consoles")).unwrap().count();
    assert_eq!(places, 1);
}

#[test]
fn an_admin_port_that_others_could_reach_is_refused() {
    let world = World::new("", "");
    let arguments = ["server", "--control-addr", "127.0.0.1:0", "--admin-addr", "0.0.0.0:0"];
    let output = sheafctl_in(world.folder.path(), &arguments);
    assert_eq!(code(&output), 5, "{}", notes(&output));
    assert!(notes(&output).contains("--admin-addr 0.0.0.0:0"), "{}", notes(&output));
}
