//! CPU time and memory of a process, from `/proc`.

use anyhow::{Context as _, Result};

/// The kernel reports CPU time to processes in hundredths of a second, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// CPU time of all its threads, in user and kernel.
    pub(crate) cpu_seconds: f64,
    /// Memory that it has in RAM now.
    pub(crate) resident_bytes: u64,
}

impl Usage {
    /// Reads both of the process `pid`.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("there is no process {pid}"))?;
        // The name, in parentheses, may hold anything; fields are counted from behind it.
        let (_, fields) = stat.rsplit_once(')').context("an unknown form of stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |at: usize| -> Result<f64> {
            Ok(fields
                .get(at)
                .context("stat is too short")?
                .parse::<f64>()?)
        };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|line| line.split_whitespace().next())
            .context("status says nothing of memory")?;
        Ok(Self {
            cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
            resident_bytes: resident.parse::<u64>()? * 1024,
        })
    }
}
