//! A disk that is full, and has room again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redb::{Database, StorageBackend, backends::FileBackend};
use sheaf_pipeline::control::{ControlPlane, Options};
use sheaf_pipeline::registry::{Event, Filter, Kind, Status};
use sheaf_retry::{Code, ManualClock, Retryable as _, Timestamp};

use crate::harness::{beat, clock, directory, file, plan, registration};

/// A file that can be told to be full.
#[derive(Debug)]
struct Full {
    file: FileBackend,
    full: Arc<AtomicBool>,
}

impl StorageBackend for Full {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // The header is there already and is only written over.
        match data.len() > 512 && self.full.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => self.file.write(offset, data),
        }
    }
}

fn fillable(home: &Path, full: &Arc<AtomicBool>, clock: Arc<ManualClock>) -> ControlPlane {
    let (flag, name): (_, PathBuf) = (Arc::clone(full), home.join("control.redb"));
    let opener = move || {
        let mut options = std::fs::File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(&name);
        let file = FileBackend::new(file.unwrap())?;
        Database::builder().create_with_backend(Full { file, full: Arc::clone(&flag) })
    };
    let options = Options { state: file(home), ..Options::default() };
    ControlPlane::open_with(options, Arc::new(opener), clock).unwrap()
}

#[tokio::test]
async fn nothing_is_promised_on_a_full_disk_and_health_is_told_on() {
    let (home, full) = (directory(), Arc::new(AtomicBool::new(false)));
    let manual = ManualClock::new(Timestamp::from_millis(1_800_000_000_000));
    let plane = fillable(home.path(), &full, manual.clone());
    plane.plan(plan("orders")).await.unwrap();
    let source = registration("orders:read", Kind::Source);
    plane.register(source.clone()).await.unwrap();
    let mut events = plane.watch(Filter::default()).await.unwrap().changes;

    full.store(true, Ordering::SeqCst);
    let sink = registration("orders:write", Kind::Sink);
    for _ in 0..3 {
        let error = plane.register(sink.clone()).await.unwrap_err();
        assert_eq!(error.code(), Code::DiskFull, "{error}");
    }
    assert_eq!(plane.begin_run("orders".to_owned()).await.unwrap_err().code(), Code::DiskFull);
    let status = async |id: &str| plane.component(id.to_owned()).await.unwrap().status;
    assert_eq!(status("orders:write").await, Status::Expected);
    assert_eq!(plane.pipeline("orders".to_owned()).await.unwrap().last_run, 0);
    assert!(events.try_recv().is_err(), "what was not kept is not told");
    manual.advance(Duration::from_secs(31));
    plane.check().await.unwrap();
    assert_eq!(status("orders:read").await, Status::Unhealthy);
    assert!(matches!(events.try_recv(), Ok(Event::Changed(_))));
    plane.beat(beat(&source, 1)).await.unwrap();
    assert_eq!(status("orders:read").await, Status::Healthy);

    full.store(false, Ordering::SeqCst);
    let fence = plane.register(sink).await.unwrap().fence;
    assert_eq!(plane.begin_run("orders".to_owned()).await.unwrap(), 1);
    plane.close().await.unwrap();
    let options = Options { state: file(home.path()), ..Options::default() };
    let plane = ControlPlane::open(options, clock()).unwrap();
    let found = plane.component("orders:write".to_owned()).await.unwrap();
    assert_eq!((found.status, found.fence), (Status::Healthy, fence));
    let read = plane.component("orders:read".to_owned()).await.unwrap();
    assert_eq!((read.status, read.progress), (Status::Healthy, 1));
}
