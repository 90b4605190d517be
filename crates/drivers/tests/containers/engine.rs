//! A Docker engine for tests: the machine's own, or one that is started here.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use futures::TryStreamExt as _;
use tempfile::TempDir;

/// What the machine's own engine listens at.
const SOCKET: &str = "/var/run/docker.sock";

/// An engine. One that was started here ends with the last test that uses it.
pub(crate) struct Engine {
    pub(crate) address: String,
    own: Option<(Child, TempDir)>,
}

static ENGINE: Mutex<Weak<Engine>> = Mutex::new(Weak::new());

/// The engine, with an image of tests that is built of this context. `None`, after a `SKIP`
/// line, where there is none.
pub(crate) fn engine(
    image: &str,
    context: impl FnOnce() -> std::io::Result<Vec<u8>> + Send,
) -> Option<Arc<Engine>> {
    let mut shared = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(engine) = shared.upgrade() {
        return Some(engine);
    }
    match Engine::start(image, context) {
        Ok(engine) => {
            let engine = Arc::new(engine);
            *shared = Arc::downgrade(&engine);
            Some(engine)
        }
        Err(why) => {
            // Also where servers are required: not every machine lets an engine run.
            // Not `eprintln!`, which the harness swallows in tests that pass.
            drop(writeln!(std::io::stderr(), "SKIP no Docker engine: {why}"));
            None
        }
    }
}

/// Where `cargo xtask services` installs what tests need.
#[allow(clippy::disallowed_methods, reason = "the test runner says where servers are")]
fn services() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/services");
    std::env::var_os("SHEAF_SERVICES_DIR").map_or(folder, PathBuf::from)
}

impl Engine {
    fn start(
        image: &str,
        context: impl FnOnce() -> std::io::Result<Vec<u8>> + Send,
    ) -> Result<Self, String> {
        if Path::new(SOCKET).exists() {
            let engine = Engine { address: format!("unix://{SOCKET}"), own: None };
            return blocking(engine.build(image, context)).map(|()| engine);
        }
        let programs = services().join("docker/package");
        let daemon = programs.join("usr/sbin/dockerd");
        if !daemon.is_file() {
            return Err(format!(
                "nothing listens at {SOCKET}, and there is no {}: run `cargo xtask services docker`",
                daemon.display()
            ));
        }
        // Paths of sockets are short.
        let folder = tempfile::Builder::new().prefix("sd").tempdir_in("/tmp");
        let folder = folder.map_err(|error| format!("no folder in /tmp: {error}"))?;
        let child = spawn(&daemon, &programs, folder.path())?;
        let socket = folder.path().join("docker.sock");
        let address = format!("unix://{}", socket.display());
        let engine = Engine { address, own: Some((child, folder)) };
        let mut looks = 0;
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            looks += 1;
            if looks > 600 {
                return Err(format!("dockerd does not run here:\n{}", engine.log()));
            }
            // sleep: between two looks at the condition, which has a deadline.
            std::thread::sleep(Duration::from_millis(100));
        }
        blocking(engine.build(image, context)).map_err(|why| format!("{why}\n{}", engine.log()))?;
        Ok(engine)
    }

    /// The end of what the daemon wrote.
    fn log(&self) -> String {
        let log = self.own.as_ref().map(|(_, folder)| folder.path().join("log"));
        let log = log.and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn client(&self) -> Docker {
        Docker::connect_with_unix(&self.address, 60, API_DEFAULT_VERSION).expect("it listens")
    }

    async fn build(
        &self,
        image: &str,
        context: impl FnOnce() -> std::io::Result<Vec<u8>>,
    ) -> Result<(), String> {
        let said = |error: bollard::errors::Error| error.to_string();
        let client = self.client().negotiate_version().await.map_err(said)?;
        let context = context().map_err(|error| error.to_string())?;
        let options = bollard::query_parameters::BuildImageOptionsBuilder::new().t(image).build();
        let body = bollard::body_full(context.into());
        let steps: Vec<_> =
            client.build_image(options, None, Some(body)).try_collect().await.map_err(said)?;
        match steps.iter().find_map(|step| step.error_detail.as_ref()) {
            Some(error) => Err(format!("the image is not built: {error:?}")),
            None => Ok(()),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some((child, _)) = &mut self.own else { return };
        // By its own id, and in good order: it ends the daemon of its containers too.
        let process = rustix::process::Pid::from_child(child);
        let asked = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        assert!(asked.is_ok(), "the daemon cannot be ended: {asked:?}");
        drop(child.wait());
    }
}

fn spawn(daemon: &Path, programs: &Path, folder: &Path) -> Result<Child, String> {
    let said = |error: std::io::Error| format!("{} does not start: {error}", daemon.display());
    let log = std::fs::File::create(folder.join("log")).map_err(said)?;
    let path =
        format!("{0}/usr/bin:{0}/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin", programs.display());
    let at = |name: &str| folder.join(name).display().to_string();
    Command::new(daemon)
        .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
        .args(["--storage-driver", "vfs", "--data-root", &at("data"), "--exec-root", &at("exec")])
        .args(["--pidfile", &at("pid"), "-H", &format!("unix://{}", at("docker.sock"))])
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(said)
}

/// The shared libraries of a program, its loader among them.
pub(crate) fn libraries(program: &str) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(PathBuf::from).collect()
}

/// Runs on a thread of its own: tests have a runtime already.
pub(crate) fn blocking<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(future)
        };
        scope.spawn(run).join().expect("it does not panic")
    })
}
