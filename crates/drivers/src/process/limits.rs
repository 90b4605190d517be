//! What an instance may use.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sheaf_pipeline::spec::{Resources, Size};

/// Microseconds in which a share of the processors is counted.
const PERIOD: u64 = 100_000;
/// Steps by which an instance with less than all processors lets others go first, where its
/// share cannot be held.
const NICE: i32 = 5;
const ROOT: &str = "/sys/fs/cgroup";

/// How the resources of one instance are bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bounds {
    memory_bytes: Option<u64>,
    millicores: Option<u32>,
    cgroup: Option<PathBuf>,
}

impl Bounds {
    /// What the file asks for: with a control group of its own where this process may make
    /// one, else by what a process can be told. The texts say what is not held.
    pub(super) fn of(resources: &Resources, name: &str) -> (Self, Vec<String>) {
        let mut bounds = Bounds {
            memory_bytes: resources.memory.map(|size| size.0),
            millicores: resources.cpu.map(|cpu| cpu.millicores),
            cgroup: None,
        };
        if bounds.memory_bytes.is_none() && bounds.millicores.is_none() {
            return (bounds, Vec::new());
        }
        match own_group().and_then(|group| bounds.make(&group.join(name))) {
            Ok(cgroup) => {
                bounds.cgroup = Some(cgroup);
                (bounds, Vec::new())
            }
            Err(error) => {
                let warnings = bounds.weaker(&error);
                (bounds, warnings)
            }
        }
    }

    fn weaker(&self, error: &io::Error) -> Vec<String> {
        let mut warnings = Vec::new();
        let why = format!("there is no control group to be had: {error}");
        if let Some(bytes) = self.memory_bytes {
            let size = Size(bytes);
            warnings.push(format!(
                "resources.memory of {size} bounds what the process allocates, not what its children do: {why}"
            ));
        }
        if self.millicores.is_some() {
            warnings.push(format!(
                "resources.cpu is not held, the process only lets others go first (nice {NICE}): {why}"
            ));
        }
        warnings
    }

    fn make(&self, group: &Path) -> io::Result<PathBuf> {
        match fs::create_dir(group) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let set = || {
            if let Some(bytes) = self.memory_bytes {
                fs::write(group.join("memory.max"), bytes.to_string())?;
                // Not everywhere: without it, it is swapped out first.
                drop(fs::write(group.join("memory.swap.max"), "0"));
            }
            if let Some(millicores) = self.millicores {
                let quota = u64::from(millicores) * PERIOD / 1_000;
                fs::write(group.join("cpu.max"), format!("{quota} {PERIOD}"))?;
            }
            Ok(())
        };
        if let Err(error) = set() {
            drop(fs::remove_dir(group));
            return Err(error);
        }
        Ok(group.to_owned())
    }

    /// Bytes that the process limits itself to.
    pub(super) fn rlimit_bytes(&self) -> Option<u64> {
        self.memory_bytes.filter(|_| self.cgroup.is_none())
    }

    pub(super) fn nice(&self) -> Option<i32> {
        self.millicores.filter(|_| self.cgroup.is_none()).map(|_| NICE)
    }

    pub(super) fn cgroup(&self) -> Option<&Path> {
        self.cgroup.as_deref()
    }

    /// Whether the kernel ended it for its memory.
    pub(super) fn exceeded(&self) -> Option<String> {
        let group = self.cgroup.as_ref()?;
        let events = fs::read_to_string(group.join("memory.events")).ok()?;
        let killed = events.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
        let limit = Size(self.memory_bytes?);
        (killed.trim() != "0")
            .then(|| format!("out of memory: it needs more than resources.memory allows, {limit}"))
    }

    /// Takes the control group away; nobody is in it any more.
    pub(super) fn release(&self) {
        if let Some(group) = &self.cgroup {
            drop(fs::remove_dir(group));
        }
    }
}

/// The group that this process is in, where version 2 is mounted.
fn own_group() -> io::Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.ok_or_else(|| io::Error::other("version 2 is not mounted"))?;
    let group = Path::new(ROOT).join(path);
    let controllers = fs::read_to_string(group.join("cgroup.subtree_control"))?;
    let has = |name| controllers.split_ascii_whitespace().any(|found| found == name);
    match has("memory") && has("cpu") {
        true => Ok(group),
        false => Err(io::Error::other(format!(
            "{} does not delegate memory and cpu to its children",
            group.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(text: &str) -> Resources {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_asks_for_nothing_is_bounded_by_nothing() {
        assert_eq!(Bounds::of(&Resources::default(), "x"), (Bounds::default(), Vec::new()));
    }

    #[test]
    fn without_a_group_the_process_bounds_itself_and_that_is_said() {
        let asked = resources(r#"{"memory": "256MB", "cpu": "500m"}"#);
        let bounds = Bounds {
            memory_bytes: asked.memory.map(|size| size.0),
            millicores: asked.cpu.map(|cpu| cpu.millicores),
            cgroup: None,
        };
        assert_eq!((bounds.rlimit_bytes(), bounds.nice()), (Some(256_000_000), Some(NICE)));
        let warnings = bounds.weaker(&io::Error::other("read-only"));
        assert!(warnings[0].contains("256 MB") && warnings[0].contains("read-only"));
        assert!(warnings[1].contains("resources.cpu is not held"), "{warnings:?}");
    }

    #[test]
    fn a_group_is_given_the_limits_in_the_words_of_the_kernel() {
        let folder = tempfile::tempdir().unwrap();
        let bounds = Bounds { memory_bytes: Some(1_000), millicores: Some(500), cgroup: None };
        let group = bounds.make(&folder.path().join("linear")).unwrap();
        let read = |name: &str| fs::read_to_string(group.join(name)).unwrap();
        assert_eq!((read("memory.max"), read("cpu.max")), ("1000".into(), "50000 100000".into()));
        fs::write(group.join("memory.events"), "oom 1\noom_kill 1\n").unwrap();
        let bounds = Bounds { cgroup: Some(group), ..bounds };
        assert!(bounds.exceeded().unwrap().starts_with("out of memory"));
        assert_eq!((bounds.rlimit_bytes(), bounds.nice()), (None, None));
    }
}
