//! What the kernel says about this process.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Ticks per second in `/proc/PID/stat`: fixed at 100 for user space on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// The page size of `/proc/PID/statm`, in KiB, is read from `status` instead,
/// which states kilobytes: no page size is assumed.
const KIB: u64 = 1024;

/// Metrics of the process under the names that Prometheus client libraries
/// share: CPU seconds, memory, file descriptors, threads.
///
/// Read from `/proc` at each scrape; what cannot be read is left out, so that
/// other platforms simply have fewer metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessMetrics;

impl ProcessMetrics {
    /// Bytes of memory in use (resident set), where the platform tells.
    pub fn resident_bytes() -> Option<u64> {
        Reading::now().resident_bytes
    }
}

#[derive(Debug, Default, PartialEq)]
struct Reading {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

impl Reading {
    fn now() -> Self {
        let text =
            |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let status = text("status");
        Reading {
            cpu_seconds: cpu_seconds(&text("stat")),
            resident_bytes: field(&status, "VmRSS:").map(|kib| kib * KIB),
            virtual_bytes: field(&status, "VmSize:").map(|kib| kib * KIB),
            threads: field(&status, "Threads:"),
            // The listing itself holds one descriptor open.
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|entries| (entries.count() as u64).saturating_sub(1)),
            max_fds: field(&text("limits"), "Max open files"),
        }
    }
}

/// The first number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line[name.len()..].split_whitespace().next()?.parse().ok()
}

/// User and system time: fields 14 and 15. The second field, the name of the
/// program, may contain spaces and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let reading = Reading::now();
        if let Some(seconds) = reading.cpu_seconds {
            let metric = ConstCounter::new(seconds);
            let help = "User and system CPU time in seconds";
            let kind = prometheus_client::encoding::EncodeMetric::metric_type(&metric);
            metric.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, kind)?)?;
        }
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory", reading.resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory", reading.virtual_bytes),
            ("process_threads", "Threads of the operating system", reading.threads),
            ("process_open_fds", "Open file descriptors", reading.open_fds),
            ("process_max_fds", "Most file descriptors allowed", reading.max_fds),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let kind = metric.metric_type();
            metric.encode(encoder.encode_descriptor(name, help, None, kind)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_hostile_program_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 99 0 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (sheaf"), None);
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn fields_of_status_and_limits() {
        assert_eq!(field("Name:\tx\nVmRSS:\t   2048 kB\n", "VmRSS:"), Some(2048));
        let limits = "Limit   Soft  Hard\nMax open files            1024    4096    files\n";
        assert_eq!(field(limits, "Max open files"), Some(1024));
        assert_eq!(field("VmRSS: unlimited", "VmRSS:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_a_size() {
        let reading = Reading::now();
        assert!(reading.resident_bytes.unwrap() > 100_000, "{reading:?}");
        assert!(reading.open_fds.unwrap() >= 3, "{reading:?}");
        assert!(reading.threads.unwrap() >= 1 && reading.max_fds.is_some(), "{reading:?}");
    }
}
