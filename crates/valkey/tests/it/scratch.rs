use sheaf_coordinator::*;
use sheaf_retry::SystemClock;
use sheaf_valkey::ValkeyCoordinator;
use std::sync::Arc;
use std::time::Duration;

async fn stats(addr: &str, what: &str, jobs: f64) {
    let out = std::process::Command::new("redis-cli").args(["-h", "127.0.0.1", "-p", addr.rsplit(':').next().unwrap(), "info", "commandstats"]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).to_string();
    for line in text.lines().filter(|l| l.contains("fcall:")) {
        let usec: f64 = line.split("usec=").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
        let calls: f64 = line.split("calls=").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
        eprintln!("{what}: {:.1} us/job, {:.1} us/call, {calls} calls", usec / jobs, usec / calls);
    }
    std::process::Command::new("redis-cli").args(["-p", addr.rsplit(':').next().unwrap(), "config", "resetstat"]).output().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scratch_perf() {
    let Ok(addr) = std::env::var("PERF_ADDR") else { return };
    let small = std::env::var("PERF_SMALL").is_ok();
    for n in if small { vec![std::env::var("PERF_SMALL").unwrap().parse().unwrap()] } else { vec![1_u32, 64] } {
        let ns = format!("perf{n}");
        let c = Arc::new(ValkeyCoordinator::builder(&addr).unwrap().namespace(ns).timeout(Duration::from_secs(60)).connect(SystemClock::shared()).await.unwrap());
        if std::env::var("PROF").is_ok() { std::process::Command::new("sh").args(["-c", "redis-cli -p 7999 fcall $(redis-cli -p 7999 function list | grep -o 'sheaf_1_[0-9a-f]*_prof'|head -1) 0"]).output().unwrap(); }
        stats(&addr, "reset", 1.0).await;
        let jobs = if small { std::env::var("PERF_JOBS").unwrap().parse().unwrap() } else { 20_000_u32 / if n == 1 { 4 } else { 1 } };
        let spec = |i: u32| BatchSpec { rows: 100, bytes: 4096, checksum: "0123456789abcdef0123456789abcdef".into(), schema_fingerprint: "0123456789abcdef".into(), locations: vec!["grpc://127.0.0.1:8080".into()], ..BatchSpec::new(format!("0190b0f0-0000-7000-8000-{:012}", i).parse().unwrap()) };
        let t = std::time::Instant::now();
        for i in 0..jobs / n { c.register((0..n).map(|k| spec(i * n + k)).collect()).await.unwrap(); }
        eprintln!("register n={n}: {:.0}/s", jobs as f64 / t.elapsed().as_secs_f64());
        stats(&addr, &format!("register n={n}"), jobs as f64).await;
        let t = std::time::Instant::now();
        let mut done = Vec::new();
        let mut seen = 0;
        let mut k = 0;
        loop {
            k += 1;
            let mut claim = ClaimRequest::new("w", format!("r{k}"), n, Duration::from_secs(30));
            claim.start = true;
            claim.locations = vec!["grpc://127.0.0.1:8080".into()];
            let reply = c.settle(SettleRequest { outcomes: std::mem::take(&mut done), started: vec![], claim: Some(claim) }).await.unwrap();
            let leases = reply.claim.unwrap().leases;
            if leases.is_empty() { break }
            seen += leases.len();
            done = leases.iter().map(|l| Outcome { lease: LeaseRef { id: l.spec.id.clone(), fence: l.fence }, resolution: Resolution::Completed, error: None, outputs: vec![], delay: Duration::ZERO }).collect();
        }
        eprintln!("process n={n}: {:.0}/s {seen}", jobs as f64 / t.elapsed().as_secs_f64());
        stats(&addr, &format!("process n={n}"), jobs as f64).await;
        c.close().await;
    }
}
