//! What the operating system knows about a process that is not ours to ask directly.
//!
//! May not know what the process does. Invariant: reads only.

/// CPU time that process `pid` has used, user and system, in milliseconds; nothing once it is gone.
#[must_use]
pub fn cpu_millis(pid: u32) -> Option<u64> {
    #[allow(clippy::disallowed_methods)] // Not a file on a disk: the kernel's view of a process.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything.
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    Some((user + system) * 1000 / ticks_per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_cpu_time_is_readable_and_a_missing_process_has_none() {
        assert!(cpu_millis(std::process::id()).is_some());
        assert_eq!(cpu_millis(u32::MAX), None);
    }
}
