//! Every limit, with its name and reason. Units are in the names.
//!
//! May not know who enforces a limit. Invariant: the relations between limits hold at compile time.

/// Size at which a journal segment is closed and the next one opened: bounds copies and rebuilds.
pub const JOURNAL_SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// Longest journal line: lines stay greppable.
pub const JOURNAL_RECORD_BYTES_MAX: usize = 256 * 1024;
/// Longest value kept inside a record; a longer one becomes a blob. Leaves room for the envelope.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;
/// Most records in one journal: bounds replay time.
pub const RUN_EVENTS_MAX: u64 = 1_000_000;
/// Most bytes in one journal: bounds replay time.
pub const RUN_JOURNAL_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Most effects of one run: stops runaway loops.
pub const RUN_EFFECTS_MAX: u32 = 100_000;
/// Deepest nesting of any JSON that is accepted; `serde_json` itself stops at 128.
pub const JSON_DEPTH_MAX: usize = 100;
/// How long a command waits for a lock unless told otherwise.
pub const LOCK_WAIT_MS_DEFAULT: u64 = 5_000;

/// Size of a segment of the commit log: making its zeros takes about 17 ms, in the background.
pub const LOG_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Smallest segment that may be configured, for tests.
pub const LOG_SEGMENT_BYTES_MIN: u64 = 256 * 1024;
/// Most bytes of one batch of the log: bounds how long a record waits.
pub const LOG_BATCH_BYTES_MAX: u64 = 1024 * 1024;
/// Most records of one batch: bounds the fan-out to journals.
pub const LOG_BATCH_RECORDS_MAX: u64 = 4_096;
/// Most records that may wait for the log.
pub const LOG_QUEUE_RECORDS_MAX: u64 = 65_536;
/// Most bytes that may wait for the log.
pub const LOG_QUEUE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Quiet time after which the log says that its last batch was acknowledged.
pub const LOG_MARK_AFTER_MS: u64 = 100;
/// Most bytes of the log that journals do not hold durably yet: bounds recovery.
pub const LOG_UNSETTLED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Room in the log that is kept for outcomes when the disk is full.
pub const LOG_RESERVE_BYTES: u64 = 1024 * 1024;
/// Quiet time after which the log is emptied.
pub const LOG_IDLE_ROTATE_MS: u64 = 30_000;
/// Quiet time of a run after which its journal is settled.
pub const SETTLE_IDLE_MS: u64 = 2_000;
/// Longest time a record may stay unsettled.
pub const SETTLE_MAX_AGE_MS: u64 = 30_000;
/// Journals that are synced at a time: more gains little.
pub const SETTLE_THREADS: u64 = 8;
/// Free space below which new work is refused: stop before the kernel does.
pub const DISK_FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;
/// How long a daemon that stops may take to finish and settle.
pub const DRAIN_TIMEOUT_MS: u64 = 30_000;
/// Child processes that run processes.
pub const HOST_CHILDREN: u64 = 4;
/// Memory of all instances that are kept warm.
pub const HOST_MEMORY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Runs that a daemon keeps in memory at a time.
pub const RUNS_LOADED_MAX: u64 = 10_000;
/// Memory that those may take.
pub const RUNS_LOADED_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Runs a second that are audited: slow enough to cost nothing.
pub const AUDIT_RATE: u64 = 100;
/// Time between two passes over the inbox when nothing hints at a new file.
pub const INBOX_SCAN_EVERY_MS: u64 = 5_000;

/// Largest JSON value that crosses the boundary (arguments, results, outputs).
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest error text kept in a record; a longer one is cut and marked.
pub const ERROR_BYTES_MAX: usize = 64 * 1024;
/// Most effects of one run that may be open at once.
pub const OPEN_EFFECTS_MAX: u32 = 10_000;
/// Most signals of one run that no wait has consumed yet.
pub const SIGNAL_BACKLOG_MAX: usize = 1_000;
/// How long clean-up effects may take after a cancel request.
pub const CLEANUP_TIMEOUT_MS: i64 = 60_000;
/// Most refused posts kept as evidence for one effect.
pub const STALE_FILES_MAX: usize = 16;

/// Heap of one process instance: one run must not take the host.
pub const HEAP_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Native stack of one process instance.
pub const STACK_BYTES_MAX: u64 = 1024 * 1024;
/// CPU time of one turn.
pub const TURN_CPU_MAX_MS: u64 = 2_000;
/// CPU time of loading a process.
pub const LOAD_CPU_MAX_MS: u64 = 10_000;
/// How far beyond the CPU limit a host may go before it is killed: native calls cannot be
/// interrupted.
pub const HOST_KILL_AFTER_MS: u64 = 2_000;
/// Hosts that one run may bring down in a row before it is held.
pub const HOST_FAILURES_MAX: u32 = 3;
/// Most outputs of one turn: the size of a batch.
pub const TURN_OUTPUTS_MAX: u32 = 1_000;
/// Most modules in the pinned graph of a process.
pub const MODULE_FILES_MAX: usize = 512;
/// Most bytes in the pinned graph of a process.
pub const MODULE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most generations in a row that do nothing but begin the next: more are a loop without end.
pub const IDLE_GENERATIONS_MAX: u32 = 100;
/// Most records of one generation: a cold resume stays near 0.1 s.
pub const GENERATION_EVENTS_MAX: u64 = 50_000;
/// Deepest nesting of parallel groups.
pub const PARALLEL_DEPTH_MAX: u32 = 32;
/// Deepest nesting of child runs.
pub const CHILD_DEPTH_MAX: u32 = 16;
/// Log lines kept of one turn; the rest is counted.
pub const TURN_LOG_LINES_MAX: u32 = 1_000;
/// Log bytes kept of one turn; the rest is counted.
pub const TURN_LOG_BYTES_MAX: usize = 1024 * 1024;
/// Longest invocation key; a longer one is cut and completed by a digest.
pub const KEY_BYTES_MAX: usize = 512;

/// Largest body of a request: a value of `VALUE_BYTES_MAX` and its envelope.
pub const HTTP_BODY_BYTES_MAX: usize = 17 * 1024 * 1024;
/// How long a body may take to arrive.
pub const HTTP_BODY_WAIT_MS: u64 = 60_000;
/// How long the head of a request may take to arrive.
pub const HTTP_HEADERS_WAIT_MS: u64 = 5_000;
/// How long a peer may read nothing of what is sent to it.
pub const HTTP_WRITE_WAIT_MS: u64 = 60_000;
/// How long requests may take to finish once the daemon stops.
pub const HTTP_DRAIN_MS: u64 = 30_000;
/// Most connections of one listener at a time; more wait to be accepted.
pub const HTTP_CONNECTIONS_MAX: usize = 512;
/// Most header fields of a request.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Longest head of a request, and most bytes that are read ahead of a connection.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most clients that follow runs at a time: each keeps a connection.
pub const SSE_FOLLOWERS_MAX: usize = 256;
/// How often a follower hears that the daemon lives, when nothing else happens.
pub const SSE_COMMENT_MS: u64 = 15_000;
/// Most records that are read at a time for one follower, and most in a page of events.
pub const EVENTS_PAGE_MAX: usize = 1_000;
/// Most bytes of records that are read at a time for one follower.
pub const EVENTS_PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Most entries of one page of a list.
pub const PAGE_SIZE_MAX: usize = 1_000;
/// Entries of one page of a list unless told otherwise.
pub const PAGE_SIZE_DEFAULT: usize = 200;
/// Most bytes of the file of tokens.
pub const TOKENS_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Longest name of a token.
pub const TOKEN_NAME_BYTES_MAX: usize = 64;
/// Longest name that an operator gives themselves.
pub const OPERATOR_NAME_BYTES_MAX: usize = 64;

const _: () = {
    assert!(INLINE_BYTES_MAX < JOURNAL_RECORD_BYTES_MAX);
    assert!((JOURNAL_RECORD_BYTES_MAX as u64) <= JOURNAL_SEGMENT_BYTES);
    assert!(ERROR_BYTES_MAX + 3 * INLINE_BYTES_MAX <= JOURNAL_RECORD_BYTES_MAX);
    assert!(INLINE_BYTES_MAX <= VALUE_BYTES_MAX);
    assert!(JSON_DEPTH_MAX < 128);
    assert!(LOG_BATCH_BYTES_MAX <= LOG_SEGMENT_BYTES);
    assert!(LOG_BATCH_BYTES_MAX <= LOG_QUEUE_BYTES_MAX);
    assert!(LOG_SEGMENT_BYTES <= LOG_UNSETTLED_BYTES_MAX);
    assert!(SETTLE_IDLE_MS <= SETTLE_MAX_AGE_MS);
    assert!(VALUE_BYTES_MAX < HTTP_BODY_BYTES_MAX);
    assert!(SSE_FOLLOWERS_MAX < HTTP_CONNECTIONS_MAX);
};
