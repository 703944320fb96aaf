//! What the operating system knows about a process: a child, or this one.
//!
//! May not know what the process does. Invariant: reads only.

use rustix::process::{Resource, getrlimit};

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

/// When process `pid` was started, in the kernel's counting: two processes with one number differ
/// in it. Nothing once it is gone.
#[must_use]
pub fn started_ticks(pid: u32) -> Option<u64> {
    #[allow(clippy::disallowed_methods)] // Not a file on a disk: the kernel's view of a process.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Processes whose parent is `pid`.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    #[allow(clippy::disallowed_methods)] // Not a directory on a disk either.
    let Ok(listed) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|child| parent(*child) == Some(pid)).collect()
}

/// The words that process `pid` was started with, each with a zero behind it; nothing once it is
/// gone.
#[must_use]
pub fn command_line(pid: u32) -> Vec<u8> {
    #[allow(clippy::disallowed_methods)] // Not a file on a disk: the kernel's view of a process.
    std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

fn parent(pid: u32) -> Option<u32> {
    #[allow(clippy::disallowed_methods)] // Not a file on a disk: the kernel's view of a process.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Numbers of the descriptors that this process has open; the listing's own may be among them.
#[must_use]
pub fn descriptors() -> Vec<i32> {
    #[allow(clippy::disallowed_methods)] // Not a directory on a disk either.
    let Ok(listed) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Memory of this process that is in RAM, in bytes.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    #[allow(clippy::disallowed_methods)] // Not a file on a disk: the kernel's view of a process.
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).unwrap_or(4096))
}

/// File descriptors that this process may have open.
#[must_use]
pub fn descriptors_max() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// File descriptors that this process has open.
#[must_use]
pub fn open_fds() -> Option<u64> {
    #[allow(clippy::disallowed_methods)] // Not a directory on a disk either.
    let listed = std::fs::read_dir("/proc/self/fd").ok()?;
    // The listing itself is one of them.
    Some(u64::try_from(listed.count()).unwrap_or(u64::MAX).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_cpu_time_is_readable_and_a_missing_process_has_none() {
        assert!(cpu_millis(std::process::id()).is_some());
        assert_eq!(cpu_millis(u32::MAX), None);
    }

    #[test]
    fn our_own_memory_and_descriptors_are_known() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 4096));
        let before = open_fds();
        let more = std::os::unix::net::UnixStream::pair();
        assert!(more.is_ok() && before.is_some() && open_fds() > before);
    }
}
