//! What the system says of this process, under the names that every Prometheus client gives it.

use std::fs;
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::family::{Family, counter, gauge};

/// Where the system does not say, the series is missing.
pub(super) fn families(started: SystemTime) -> [Family; 6] {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = Duration::new(cpu.tv_sec.unsigned_abs(), u32::try_from(cpu.tv_nsec).unwrap_or_default());
    // The folder is open itself while it is read.
    let open = fs::read_dir("/proc/self/fd").ok().map(|folder| folder.count().saturating_sub(1));
    let since_1970 = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let given = |family: Family, value: Option<f64>| match value {
        Some(value) => family.with([], value),
        None => family,
    };
    [
        counter("process_cpu_seconds_total", "Time on processors, user and system.").with([], cpu.as_secs_f64()),
        gauge("process_start_time_seconds", "When the process started, in seconds since 1970.")
            .with([], since_1970.as_secs_f64()),
        given(gauge("process_resident_memory_bytes", "Memory in use."), bytes(&status, "VmRSS:")),
        given(gauge("process_virtual_memory_bytes", "Address space in use."), bytes(&status, "VmSize:")),
        given(gauge("process_open_fds", "Open files and sockets."), open.map(|open| open as f64)),
        given(
            gauge("process_max_fds", "Files and sockets that may be open."),
            getrlimit(Resource::Nofile).current.map(|most| most as f64),
        ),
    ]
}

/// A line of proc_pid_status(5), which counts in units of 1024 bytes.
fn bytes(status: &str, key: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some((kibibytes * 1024) as f64)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn memory_is_read_in_bytes_and_nothing_is_made_up() {
        let status = "Name:\tsidegate\nVmSize:\t  123456 kB\nVmRSS:\t    2048 kB\n";
        assert_eq!(bytes(status, "VmRSS:"), Some(2_097_152.0));
        assert_eq!(bytes(status, "VmSwap:"), None);
        assert_eq!(bytes("VmRSS:\tmany kB\n", "VmRSS:"), None);
    }
}
