//! A Valkey that cannot be used says why, and what to do.

use sheaf_testkit::{TempDir, Valkey, free_port};

use crate::harness::sheaf;

fn refused(code: i32, address: &str, words: &[&str]) -> String {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let first = ["serve", "--flight-addr", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
    sheaf(&[&first, &["--valkey-addr", address][..], words].concat()).failed(code)
}

#[test]
fn one_that_is_not_there_is_named() {
    let address = free_port().unwrap().release().to_string();
    let text = refused(7, &address, &[]);
    assert!(text.contains(&address) && text.contains("start Valkey there"), "{text}");
    let url = format!("valkey://u:hunter2@{address}");
    let text = sheaf(&["serve", "--mode", "worker", "--valkey-addr", &url]).failed(7);
    assert!(text.contains(&address) && !text.contains("hunter2"), "{text}");
}

#[test]
fn one_that_lets_nobody_in_says_which_password_to_give() {
    let Some(valkey) = Valkey::start(&["--requirepass", "hunter2"]).unwrap() else { return };
    let address = valkey.addr().to_string();
    for words in [&[][..], &["--valkey-password", "wrong"], &["--valkey-user", "nobody"]] {
        let text = refused(8, &address, words);
        assert!(text.contains(&address) && text.contains("--valkey-password-file"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let url = format!("valkey://:wrong1@{address}");
    assert!(!refused(8, &url, &[]).contains("wrong1"));
}

#[test]
fn one_that_could_forget_batches_is_refused() {
    let Some(valkey) = Valkey::start(&["--maxmemory-policy", "allkeys-lru"]).unwrap() else {
        return;
    };
    let address = valkey.addr().to_string();
    let text = refused(5, &address, &[]);
    assert!(text.contains("maxmemory-policy noeviction") && text.contains(&address), "{text}");
    valkey.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).unwrap();
    for (durability, says) in [("fsynced", "appendonly yes"), ("replicated", "replica")] {
        let text = refused(5, &address, &["--valkey-durability", durability]);
        assert!(text.contains(says), "{text}");
    }
}
