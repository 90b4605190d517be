//! Every fault of a connection happens, and ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sheaf_retry::SystemClock;
use sheaf_testkit::{Fault, FaultProxy, Noise, free_port, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing has to happen before a test believes it.
const QUIET: Duration = Duration::from_millis(150);

/// Sends back what it gets, and counts it.
struct Echo {
    addr: SocketAddr,
    received: Arc<AtomicU64>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, received) = (listener.local_addr().unwrap(), Arc::<AtomicU64>::default());
        let count = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, count) = (stream.unwrap(), Arc::clone(&count));
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut buffer) {
                        count.fetch_add(read as u64, Ordering::SeqCst);
                        if stream.write_all(&buffer[..read]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Echo { addr, received }
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::SeqCst)
    }
}

fn client(proxy: &FaultProxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Whether words go there and come back.
fn talks(mut stream: &TcpStream) -> bool {
    let mut answer = [0; 4];
    stream.write_all(b"ping").and_then(|()| stream.read_exact(&mut answer)).is_ok()
        && &answer == b"ping"
}

fn is_quiet(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(QUIET)).unwrap();
    let read = stream.read(&mut [0; 16]);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    matches!(read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

fn is_closed(mut stream: &TcpStream) -> bool {
    match stream.read(&mut [0; 16]) {
        Ok(read) => read == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

#[test]
fn without_a_fault_every_byte_passes_and_each_direction_ends_by_itself() {
    let echo = Echo::start();
    let proxy = FaultProxy::start(echo.addr).unwrap();
    let stream = client(&proxy);
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let bytes = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&bytes).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    (&stream).read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == sent, "{} bytes of {}", received.len(), sent.len());
    assert_eq!(proxy.accepted(), 1);
    wait_until(PATIENCE, "the connection to be over", || proxy.open() == 0).unwrap();
}

#[test]
fn cut_ends_connections_and_refuses_new_ones_until_it_is_over() {
    let echo = Echo::start();
    let proxy = FaultProxy::start(echo.addr).unwrap();
    let before = client(&proxy);
    assert!(talks(&before));
    proxy.set(Fault::Cut);
    assert!(is_closed(&before));
    assert!(is_closed(&client(&proxy)));
    proxy.set(Fault::None);
    assert!(talks(&client(&proxy)));
    assert!(is_closed(&before), "what was closed stays closed");

    let one = client(&proxy);
    assert!(talks(&one));
    proxy.close_connections();
    assert!(is_closed(&one));
    assert!(talks(&client(&proxy)), "new ones are as before");
}

#[test]
fn silence_passes_nothing_and_loses_nothing() {
    let echo = Echo::start();
    let proxy = FaultProxy::start(echo.addr).unwrap();
    let before = client(&proxy);
    assert!(talks(&before));
    proxy.set(Fault::Silent);
    let within = client(&proxy);
    for mut stream in [&before, &within] {
        stream.write_all(b"more").unwrap();
        assert!(is_quiet(stream));
    }
    assert_eq!(echo.received(), 4, "nothing reached the server");
    proxy.set(Fault::None);
    for mut stream in [&before, &within] {
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"more");
    }
}

#[test]
fn connections_that_are_silenced_stay_so_and_new_ones_are_not() {
    let echo = Echo::start();
    let proxy = FaultProxy::start(echo.addr).unwrap();
    let mut before = client(&proxy);
    assert!(talks(&before));
    proxy.silence_connections();
    before.write_all(b"more").unwrap();
    assert!(is_quiet(&before));
    assert!(talks(&client(&proxy)));
    proxy.set(Fault::None);
    assert!(is_quiet(&before), "for good");
    proxy.close_connections();
    assert!(is_closed(&before));
}

#[test]
fn lost_answers_are_those_of_requests_that_arrived() {
    let echo = Echo::start();
    let proxy = FaultProxy::start(echo.addr).unwrap();
    let stream = client(&proxy);
    assert!(talks(&stream));
    proxy.set(Fault::AnswersLost);
    (&stream).write_all(b"more").unwrap();
    wait_until(PATIENCE, "the request to arrive", || echo.received() == 8).unwrap();
    assert!(is_quiet(&stream));
    proxy.set(Fault::None);
    assert!(is_closed(&stream), "a stream with a hole does not go on");
    assert!(talks(&client(&proxy)));
}

#[test]
fn delay_and_throttle_take_their_time_and_change_nothing() {
    let echo = Echo::start();
    let proxy = FaultProxy::start(echo.addr).unwrap();
    let clock = SystemClock::shared();
    let stream = client(&proxy);
    assert!(talks(&stream));
    proxy.set(Fault::Delay(Duration::from_millis(100)));
    let start = clock.elapsed();
    assert!(talks(&stream));
    let took = clock.elapsed() - start;
    assert!(took >= Duration::from_millis(200), "there and back in {took:?}");

    proxy.set(Fault::Throttle { bytes_per_second: 50_000 });
    let start = clock.elapsed();
    let sent = [7; 20_000];
    (&stream).write_all(&sent).unwrap();
    let mut received = [0; 20_000];
    (&stream).read_exact(&mut received).unwrap();
    let took = clock.elapsed() - start;
    assert_eq!(received, sent);
    // 0.4 s but for what was written last.
    assert!(took >= Duration::from_millis(340), "20,000 bytes in {took:?}");
    proxy.set(Fault::None);
    assert!(talks(&stream));
}

/// What comes back of 60,000 bytes that are all 0, until the connection ends.
fn through(noise: Noise, seed: u64) -> Vec<u8> {
    let echo = Echo::start();
    let proxy = FaultProxy::start(echo.addr).unwrap();
    proxy.set(Fault::Noise { noise, one_in: 5_000, seed });
    let mut stream = client(&proxy);
    // It may be over before everything is written.
    drop(stream.write_all(&[0; 60_000]));
    drop(stream.shutdown(Shutdown::Write));
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        received.extend_from_slice(&buffer[..read]);
    }
    received
}

#[test]
fn noise_flips_repeats_and_truncates_at_places_of_the_seed() {
    let flipped = through(Noise::Flip, 1);
    assert_eq!(flipped.len(), 60_000);
    let bits: u32 = flipped.iter().map(|byte| byte.count_ones()).sum();
    // Twelve in each direction.
    assert!((10..40).contains(&bits), "{bits} bits");
    assert!(flipped.iter().all(|byte| byte.count_ones() <= 1));
    assert_eq!(through(Noise::Flip, 1), flipped);
    assert_ne!(through(Noise::Flip, 2), flipped);
    let repeated = through(Noise::Repeat, 1).len();
    assert!((60_010..60_040).contains(&repeated), "{repeated} bytes");
    let truncated = through(Noise::Truncate, 1).len();
    assert!(truncated < 10_000, "{truncated} bytes");
}

#[test]
fn lost_packets_make_the_others_wait_and_nothing_is_missing() {
    let echo = Echo::start();
    let proxy = FaultProxy::start(echo.addr).unwrap();
    let mut stream = client(&proxy);
    let clock = SystemClock::shared();
    proxy.set(Fault::loss(500, 3));
    let start = clock.elapsed();
    stream.write_all(&[7; 20_000]).unwrap();
    let mut received = [0; 20_000];
    stream.read_exact(&mut received).unwrap();
    let took = clock.elapsed() - start;
    assert_eq!(received, [7; 20_000]);
    // Six or more of seven packets in each direction.
    assert!(took >= Duration::from_millis(600), "20,000 bytes in {took:?}");
}

#[test]
fn a_server_that_is_not_there_is_none_until_it_is() {
    let port = free_port().unwrap();
    let addr = port.release();
    let proxy = FaultProxy::start(addr).unwrap();
    assert!(is_closed(&client(&proxy)));
    let listener = TcpListener::bind(addr).unwrap();
    let stream = client(&proxy);
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"here").unwrap();
    let mut answer = [0; 4];
    (&stream).read_exact(&mut answer).unwrap();
    drop(proxy);
    assert!(is_closed(&stream), "connections end with their proxy");
}
