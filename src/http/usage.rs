//! What this process takes, as the kernel counts it.

/// What the kernel counts of this process; none of what cannot be read.
#[derive(Default)]
pub(super) struct Usage {
    pub(super) memory_bytes: Option<u64>,
    pub(super) cpu_ms: Option<u64>,
    pub(super) open_files: Option<u64>,
}

impl Usage {
    pub(super) fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|kib| kib.trim().trim_end_matches(" kB").parse::<u64>().ok());
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu_ms = u64::try_from(cpu.tv_sec)
            .ok()
            .zip(u64::try_from(cpu.tv_nsec / 1_000_000).ok());
        let files = std::fs::read_dir("/proc/self/fd").map(Iterator::count);
        Self {
            memory_bytes: kib.map(|kib| kib.saturating_mul(1024)),
            cpu_ms: cpu_ms.map(|(s, ms)| s.saturating_mul(1_000).saturating_add(ms)),
            // The folder itself is open while it is read.
            open_files: files
                .ok()
                .and_then(|n| u64::try_from(n.saturating_sub(1)).ok()),
        }
    }
}
