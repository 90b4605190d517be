//! The scripts: put together from parts, called by their digest.

use std::fmt::Write as _;
use std::sync::LazyLock;

macro_rules! part {
    ($name:literal) => {
        include_str!(concat!("../scripts/", $name, ".lua"))
    };
}

/// Version of the scripts, of what they write and of what they are asked: two
/// versions may run beside each other as long as this number is the same.
pub(crate) const LAYOUT: u32 = 1;

/// A script as the server is sent it.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) text: String,
    /// SHA-1 of the text: how the server knows it.
    pub(crate) sha: String,
}

impl Script {
    pub(crate) fn new(name: &'static str, flags: &str, parts: &[&str]) -> Self {
        let mut text = String::new();
        if !flags.is_empty() {
            // With room kept for the work that makes room.
            text.push_str("#!lua flags=");
            text.push_str(flags);
            text.push('\n');
        }
        text.push_str("-- sheaf ");
        text.push_str(name);
        text.push('\n');
        for part in parts {
            text.push_str(part);
        }
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let mut sha = String::with_capacity(40);
        for byte in digest.as_ref() {
            // Writing to a text cannot fail.
            let _written = write!(sha, "{byte:02x}");
        }
        Script { name, text, sha }
    }
}

/// All scripts of this version.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) register: Script,
    pub(crate) work: Script,
    pub(crate) extend: Script,
    pub(crate) control: Script,
    pub(crate) sweep: Script,
    pub(crate) list: Script,
    pub(crate) stats: Script,
}

const BASE: &str = part!("base");
const CHANGE: &str = part!("change");
const DEPEND: &str = part!("depend");
const REGISTER: &str = part!("register");
const TICK: &str = part!("tick");
const SETTLE: &str = part!("settle");
const CLAIM: &str = part!("claim");
const CONTROL: &str = part!("control");

/// Work may end where memory is full, or nothing would ever make room.
const ALLOW_OOM: &str = "allow-oom";
const NO_WRITES: &str = "no-writes";

impl Scripts {
    fn new() -> Self {
        let change = [BASE, CHANGE];
        let settle = [BASE, CHANGE, DEPEND, TICK, SETTLE];
        let work = [BASE, CHANGE, DEPEND, REGISTER, TICK, SETTLE, CLAIM];
        let control = [BASE, CHANGE, DEPEND, REGISTER, TICK, SETTLE, CONTROL];
        let script = |name, flags, base: &[&'static str], op: &'static str| {
            let parts: Vec<&str> = base.iter().copied().chain([op]).collect();
            Script::new(name, flags, &parts)
        };
        Scripts {
            register: script(
                "register",
                "",
                &[BASE, CHANGE, DEPEND, REGISTER],
                part!("op_register"),
            ),
            work: script("work", ALLOW_OOM, &work, part!("op_work")),
            extend: script("extend", ALLOW_OOM, &settle, part!("op_extend")),
            control: script("control", ALLOW_OOM, &control, part!("op_control")),
            sweep: script("sweep", ALLOW_OOM, &control, part!("op_sweep")),
            list: script("list", NO_WRITES, &[BASE], part!("op_list")),
            stats: script("stats", NO_WRITES, &change, part!("op_stats")),
        }
    }
}

/// See [`Scripts`].
pub(crate) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(Scripts::new);
