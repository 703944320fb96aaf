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

/// Size of a commit-log segment: zeroing one takes some 17 ms, in the background.
pub const LOG_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Smallest segment that may be configured, for tests.
pub const LOG_SEGMENT_BYTES_MIN: u64 = 256 * 1024;
/// Size beyond which a batch takes no further unit: bounds what one commit waits for.
pub const LOG_BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Longest frame: a unit that needs more is refused.
pub const LOG_FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most records in a batch: bounds how many journals are written after one frame.
pub const LOG_BATCH_RECORDS_MAX: usize = 4_096;
/// Most records that wait for the commit log.
pub const LOG_QUEUE_RECORDS_MAX: usize = 65_536;
/// Most bytes that wait for the commit log.
pub const LOG_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Quiet time after which a mark proves the last batch.
pub const LOG_MARK_AFTER_MS: u64 = 100;
/// Most bytes in commit-log segments that are not released: recovery time and disk.
pub const LOG_UNSETTLED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes of the last segment that are kept for outcomes when there is no room for another.
pub const LOG_RESERVE_BYTES: u64 = 1024 * 1024;
/// Quiet time after which the log begins a new segment, so that the old one can be released.
pub const LOG_IDLE_ROTATE_MS: u64 = 30_000;
/// Quiet time after which a run's journal is synced.
pub const SETTLE_IDLE_MS: u64 = 2_000;
/// Age of the oldest unsynced record at which a run's journal is synced.
pub const SETTLE_AGE_MAX_MS: u64 = 30_000;
/// Threads that sync journals: more gain little.
pub const SETTLE_THREADS: usize = 8;
/// Free space below which no new work is taken: stop before the kernel does.
pub const DISK_FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;
/// Most journal files that the commit log keeps open; unsynced ones are settled first.
pub const FD_CACHE_MAX: usize = 512;
/// Daemons that may fail to write in a row: the next one does not begin until somebody has looked.
pub const FAILURES_MAX: u32 = 3;
/// Longest time between the start of a daemon and the failure of the next one for both to count.
pub const FAILURES_WITHIN_MS: i64 = 10 * 60 * 1000;
/// What a run may have set aside before a check says so: evidence is never removed by itself.
pub const QUARANTINE_BYTES_WARN: u64 = 1024 * 1024 * 1024;
/// Defects that one check lists; more are counted.
pub const DEFECTS_LISTED_MAX: usize = 10_000;
/// How long a daemon that stops may take to finish and settle.
pub const DRAIN_TIMEOUT_MS: u64 = 30_000;
/// Child processes that run processes.
pub const HOST_CHILDREN: u64 = 4;
/// Memory of all instances that are kept warm.
pub const HOST_MEMORY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Runs that a daemon keeps in memory at a time.
pub const RUNS_LOADED_MAX: u64 = 4_096;
/// Files that a run in memory keeps open: its directory and its lock.
pub const RUN_DESCRIPTORS: u64 = 2;
/// Open files that are left for everything else: journals, connections, hosts, the index.
pub const DESCRIPTORS_KEPT: u64 = 2_048;
/// Open files without which no daemon begins.
pub const DESCRIPTORS_MIN: u64 = 256;
/// Runs that may wait for a place in memory before no new ones are taken.
pub const RUNS_WAITING_MAX: usize = 10_000;
/// Processes whose verified code a daemon keeps in memory.
pub const CODE_SHELF_MAX: usize = 32;
/// Memory that their code may take.
pub const CODE_SHELF_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Memory that runs in memory may take.
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
/// Silence that is taken for life unless a claim says otherwise; renewed at a third of it.
pub const LEASE_TTL_MS_DEFAULT: u64 = 60_000;
/// Shortest such silence that a claim may ask for.
pub const LEASE_TTL_MS_MIN: u64 = 5_000;
/// Longest such silence that a claim may ask for.
pub const LEASE_TTL_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// How long a lease may be overdue before it lapses; never more than half of its silence.
pub const LEASE_GRACE_MS_MAX: u64 = 30_000;
/// Times that one effect may be given back before it was begun.
pub const RELEASES_MAX: u32 = 100;
/// Failed attempts of one effect that its error tells of.
pub const FAILURES_TOLD_MAX: usize = 5;
/// Longest delay that a failed attempt may ask for with `Retry-After`.
pub const RETRY_AFTER_MS_MAX: u64 = 60 * 60 * 1000;
/// How long an explicit idempotency key is known after its effect has ended.
pub const LEDGER_KEY_KEEP_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// How long the holder of an effect may take to stop after it was told to.
pub const CANCEL_GRACE_MS: u64 = 30_000;
/// How long clean-up effects may take after a cancel request.
pub const CLEANUP_TIMEOUT_MS: i64 = 60_000;
/// Most refused posts kept as evidence for one effect.
pub const STALE_FILES_MAX: usize = 16;

/// Longest name of an agent that tasks may be claimed by.
pub const AGENT_NAME_BYTES_MAX: usize = 255;
/// Most tasks of one claim: they become one commit.
pub const CLAIM_MAX: usize = 64;
/// Most kinds, agents, offers or runs that one claim names.
pub const CLAIM_NAMES_MAX: usize = 64;
/// How long a claim waits for something to do unless told otherwise.
pub const CLAIM_WAIT_MS_DEFAULT: u64 = 20_000;
/// Longest time that a claim may wait.
pub const CLAIM_WAIT_MS_MAX: u64 = 60_000;
/// Longest name of a worker, of a claim, or of anything that a claim names.
pub const CLAIM_NAME_BYTES_MAX: usize = 255;
/// Most claims that wait at a time.
pub const WAITERS_MAX: usize = 10_000;
/// Ready effects that are looked at for claims of one sort, of which the first come first.
pub const CLAIM_CANDIDATES_MAX: usize = 256;
/// Most tasks of one heartbeat.
pub const HEARTBEAT_TASKS_MAX: usize = 256;
/// Workers that a daemon remembers having seen.
pub const WORKERS_SEEN_MAX: usize = 10_000;

/// Most requests that a daemon works on at once: beyond it, callers are told to come back.
pub const ASKS_MAX: usize = 10_000;

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
/// Hosts that may die while code is tried before the answer is that nobody knows.
pub const LOADING_HOSTS_MAX: u32 = 2;
/// Instances that one host of the pool holds: what its death costs in replays.
pub const HOST_INSTANCES_MAX: usize = 10_000;
/// What an instance counts for until its host has told its size.
pub const HOST_INSTANCE_BYTES_GUESS: u64 = 1024 * 1024;
/// Heap of instances that could not be taken down, above which a host gets no new ones.
pub const HOST_LEFT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most bytes of messages that wait for one host: it takes nothing more and is given up.
pub const HOST_BACKLOG_BYTES_MAX: usize = 256 * 1024 * 1024;
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

/// Most rows of the index that are read for one page of a list: a filter that fits few rows gives
/// short pages, not long ones to wait for.
pub const INDEX_SCAN_ROWS_MAX: usize = 10_000;
/// Most rows that one page of a list may ask for.
pub const INDEX_PAGE_ROWS_MAX: usize = 1_000;
/// Most changes that wait for the index. Beyond it they are dropped, and the index is made anew:
/// memory is bounded, and nothing is lost that journals do not hold.
pub const INDEX_QUEUE_CHANGES_MAX: usize = 200_000;
/// Most changes that become one transaction of the index: a query waits for one at most.
pub const INDEX_BATCH_CHANGES_MAX: usize = 4_096;
/// Most queries that wait for the index.
pub const INDEX_QUEUE_QUERIES_MAX: usize = 1_024;
/// Most values of one label of a metric; further ones count as `other`: bounds what a scrape costs.
pub const LABEL_VALUES_MAX: usize = 64;
/// Longest value of a label.
pub const LABEL_BYTES_MAX: usize = 64;
/// Spans that may wait for the collector; further ones are dropped and counted.
pub const SPAN_QUEUE_MAX: usize = 8_192;
/// Most spans of one export.
pub const SPAN_BATCH_MAX: usize = 512;
/// Longest file of the inbox: a value of the largest size and its envelope.
pub const INBOX_FILE_BYTES_MAX: usize = 17 * 1024 * 1024;
/// Most names of the inbox that one pass looks at.
pub const INBOX_PASS_FILES_MAX: usize = 1_024;
/// Files of the inbox that are posted at the same time, and in memory.
pub const INBOX_CONCURRENT_MAX: usize = 16;
/// Time between two removals of old files from the inbox.
pub const INBOX_CLEAN_EVERY_MS: i64 = 60 * 60 * 1000;
/// How long files of the inbox that were dealt with are kept.
pub const INBOX_KEEP_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// Largest body of a request: a value of `VALUE_BYTES_MAX` and its envelope.
pub const HTTP_BODY_BYTES_MAX: usize = 17 * 1024 * 1024;
/// Most bytes of a body that are read although no route wants them.
pub const HTTP_UNREAD_BYTES_MAX: usize = 64 * 1024;
/// How long a body may take to arrive.
pub const HTTP_BODY_WAIT_MS: u64 = 60_000;
/// How long the head of a request may take to arrive.
pub const HTTP_HEADERS_WAIT_MS: u64 = 5_000;
/// How long a peer may read nothing of what is sent to it.
pub const HTTP_WRITE_WAIT_MS: u64 = 60_000;
/// How long requests may take to finish once the daemon stops.
pub const HTTP_DRAIN_MS: u64 = 5_000;
/// The part of the time for stopping that requests get at most: settling has the rest.
pub const HTTP_DRAIN_SHARE: u64 = 3;
/// Most connections of one listener at a time; more wait to be accepted.
pub const HTTP_CONNECTIONS_MAX: usize = 512;
/// Most header fields of a request.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Longest head of a request, and most bytes that are read ahead of a connection.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 * 1024;
/// How often a log that somebody follows is looked at.
pub const LOG_LOOK_MS: u64 = 250;
/// Longest label of a worker's progress.
pub const PROGRESS_LABEL_BYTES_MAX: usize = 256;
/// Most durable records that are remembered by name for whoever follows all runs.
pub const FEED_RECORDS_MAX: usize = 16_384;
/// Most passing notes that wait for one follower; older ones are dropped.
pub const FEED_NOTES_MAX: usize = 256;
/// Largest content that is uploaded in one go, in a stream.
pub const BLOB_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How much of a file goes over the wire at a time.
pub const HTTP_CHUNK_BYTES: usize = 256 * 1024;
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
/// A job that time alone wakes within this is waiting, one that sleeps longer is parked.
pub const COMPAT_WAITING_MS: i64 = 60_000;
/// Most jobs of one page, each of which is read.
pub const COMPAT_JOBS_MAX: usize = 100;
/// Most steps of one page of a trace.
pub const COMPAT_STEPS_MAX: usize = 500;
/// Most records of one page of a job's events, and of a trace.
pub const COMPAT_EVENTS_MAX: usize = 1_000;
/// Most runs that are asked why they do not go on, for one answer about stuck jobs.
pub const COMPAT_STUCK_MAX: usize = 100;
/// Most bytes of a form, answers of people.
pub const COMPAT_FORM_BYTES_MAX: usize = 256 * 1024;
/// Most characters of a value that a job's page shows.
pub const COMPAT_SHOWN_CHARS_MAX: usize = 16 * 1024;
/// Most bytes of the file of tokens.
pub const TOKENS_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Longest name of a token.
pub const TOKEN_NAME_BYTES_MAX: usize = 64;
/// Longest name that an operator gives themselves.
pub const OPERATOR_NAME_BYTES_MAX: usize = 64;
/// Most bytes of each stream of a command that are kept.
pub const SHELL_LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most bytes of each stream that stand in the value itself.
pub const SHELL_INLINE_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of each stream that stand in the error of a command that failed.
pub const SHELL_ERROR_BYTES_MAX: usize = 4 * 1024;
/// How long a command may take whose author said nothing about it.
pub const SHELL_TIMEOUT_MS: u64 = 600_000;
/// How long a command may take to end once it was told to.
pub const SHELL_KILL_GRACE_MS: u64 = 5_000;
/// How long an attempt in the daemon may take to end once it was told to.
pub const EXECUTOR_STOP_MS: u64 = 30_000;
/// Most kinds of effects that are limited, and most keys.
pub const LIMITS_MAX: usize = 64;
/// Longest name of a limit.
pub const LIMIT_NAME_BYTES_MAX: usize = 255;
/// Largest concurrency or burst of a limit.
pub const LIMIT_COUNT_MAX: u64 = 1_000_000;
/// Most starts that a rate names.
pub const LIMIT_RATE_MAX: u64 = 1_000_000;
/// Longest file of limits that were set while a daemon ran.
pub const LIMITS_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Most names in each list of who has a slot of a limit, or waits for one.
pub const LIMIT_NAMES_SHOWN_MAX: usize = 10;
/// How long whoever may still be at an effect is given before the outside is asked about it.
pub const PROBE_AFTER_MS_DEFAULT: u64 = 10_000;
/// How often the outside is asked unless its author says otherwise.
pub const PROBE_ATTEMPTS_DEFAULT: u32 = 3;
/// How often an author may have it asked.
pub const PROBE_ATTEMPTS_MAX: u32 = 100;
/// Longest definition of such a question: it stands in the record of the request.
pub const PROBE_BYTES_MAX: usize = 16 * 1024;
/// Most statuses that mean that an effect did not happen.
pub const PROBE_STATUSES_MAX: usize = 16;
/// How long an answer may take.
pub const PROBE_MS_MAX: u64 = 30_000;
/// Most questions that are under way at a time; others wait.
pub const PROBES_CONCURRENT_MAX: usize = 32;
/// Most answers of one effect that are kept.
pub const PROBE_FILES_MAX: usize = 16;

/// Longest answer that an effect of kind `http` keeps unless it says otherwise; what an agent may
/// stream in all.
pub const HTTP_ANSWER_BYTES_MAX: usize = 10 * 1024 * 1024;
/// How much of an answer that was not expected is read and shown.
pub const HTTP_ERROR_BODY_BYTES_MAX: usize = 16 * 1024;
/// How long a request may take unless told otherwise.
pub const HTTP_ATTEMPT_MS_DEFAULT: u64 = 30_000;
/// How long its connection may take unless told otherwise.
pub const HTTP_CONNECT_MS_DEFAULT: u64 = 10_000;
/// Most redirects that one request follows.
pub const HTTP_FOLLOW_MAX: u64 = 5;
/// Most addresses of one name that are tried.
pub const HTTP_ADDRESSES_MAX: usize = 8;
/// Longest secret.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;
/// Shortest secret that is looked for in what is kept: shorter ones would be found everywhere.
pub const SECRET_REDACTED_BYTES_MIN: usize = 8;
/// How long a command that prints a secret may take.
pub const SECRET_COMMAND_MS: u64 = 10_000;
/// Most values of a YAML document.
pub const YAML_NODES_MAX: usize = 100_000;
/// Longest file of agents.
pub const AGENTS_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How long an agent may take unless told otherwise.
pub const AGENT_ATTEMPT_MS_DEFAULT: u64 = 120_000;
/// Time that an agent which posts its answer later has for it, and for each sign of life.
pub const AGENT_LEASE_MS_DEFAULT: u64 = 3_600_000;
/// Longest line of an agent's event stream.
pub const AGENT_LINE_BYTES_MAX: usize = 64 * 1024;
/// Most reasons that one answer gives why a run does not go on.
pub const WHY_REASONS_MAX: usize = 100;
/// Most child runs that are looked at for it.
pub const WHY_RUNS_MAX: usize = 64;
/// How long something may be overdue in a daemon before it counts as forgotten.
pub const WHY_LOST_AFTER_MS: i64 = 10_000;
/// How long ago a worker may have asked for work to count as one that is there.
pub const WHY_WORKERS_SEEN_MS: i64 = 60_000;
/// Most ended, and most open effects of one brief.
pub const BRIEF_EFFECTS_MAX: usize = 200;
/// Longest summary of an outcome in a brief.
pub const BRIEF_SUMMARY_BYTES_MAX: usize = 1024;

/// Most servers of tools.
pub const MCP_SERVERS_MAX: usize = 64;
/// How long a server of tools may take until it has said what it can do, unless configured.
pub const MCP_START_MS: u64 = 10_000;
/// How long a call of a tool may take unless told otherwise.
pub const MCP_ATTEMPT_MS_DEFAULT: u64 = 60_000;
/// Longest message of a server of tools: a value of the largest size and its envelope.
pub const MCP_MESSAGE_BYTES_MAX: usize = 17 * 1024 * 1024;
/// How much of what a server of tools complained of is told when it cannot be talked to.
pub const MCP_STDERR_BYTES: usize = 4 * 1024;
/// How long such complaints are waited for.
pub const MCP_STDERR_WAIT_MS: u64 = 1_000;
/// How long a server of tools may take to hear that a call is not wanted any more.
pub const MCP_CANCEL_MS: u64 = 1_000;
/// Longest text of an error that a tool reports; the whole stands beside it.
pub const MCP_ERROR_TEXT_BYTES: usize = 4 * 1024;
/// How long a program that was spoken to may take to end before it is killed.
pub const PIPED_END_MS: u64 = 5_000;
/// Most files in an export: what is read of a foreign list before anything is written.
pub const EXPORT_FILES_MAX: usize = 300_000;
/// Longest list of files in an export.
pub const EXPORT_MANIFEST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most bytes in all files of an export: bounds what a small foreign file may unfold to.
pub const EXPORT_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Deepest path in an export.
pub const EXPORT_DEPTH_MAX: usize = 64;
/// Most memory, as a power of two, that unfolding an export may ask for.
pub const EXPORT_WINDOW_LOG: u32 = 23;
/// Content of small files that an export keeps in memory, so that they are read only once.
pub const EXPORT_KEPT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Longest mark of a deleted run that is read.
pub const REMOVED_MARK_BYTES_MAX: u64 = 64 * 1024;

/// Longest workflow document.
pub const WORKFLOW_DOCUMENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How deep the values of a workflow document may be nested.
pub const WORKFLOW_DOCUMENT_DEPTH_MAX: usize = 64;
/// Most templates of a workflow document.
pub const WORKFLOW_TEMPLATES_MAX: usize = 1_000;
/// Most tasks of one dag.
pub const WORKFLOW_NODES_MAX: usize = 10_000;
/// Most kinds of work whose inputs and outputs are known.
pub const WORKFLOW_SIGNATURES_MAX: usize = 1_000;
/// Most places of a document from which its paths lead somewhere: those in a template count once
/// for each of its calls.
pub const WORKFLOW_SIGHTS_MAX: usize = 2_000_000;
/// Most parameters of one list.
pub const WORKFLOW_PARAMETERS_MAX: usize = 256;
/// Longest expression.
pub const WORKFLOW_EXPRESSION_BYTES_MAX: usize = 8 * 1024;
/// How deep brackets of an expression may be nested.
pub const WORKFLOW_EXPRESSION_DEPTH_MAX: usize = 64;
/// Longest list that an expression walks over.
pub const WORKFLOW_EXPRESSION_ITEMS_MAX: usize = 10_000;
/// Most task runs of one run.
pub const WORKFLOW_TASK_RUNS_MAX: usize = 100_000;
/// Most rounds of one loop.
pub const WORKFLOW_ITERATIONS_MAX: usize = 10_000;
/// Most rounds at once of a loop that names no limit.
pub const WORKFLOW_LIVE_ITERATIONS_MAX: usize = 256;
/// How often one task run may wait for an answer in the middle of its work.
pub const WORKFLOW_SUSPENSIONS_MAX: u32 = 1_000;
/// Most effects of a workflow that are open at once; the others wait their turn.
pub const WORKFLOW_OPEN_EFFECTS_MAX: usize = 900;
/// Most notes of one task run.
pub const WORKFLOW_NOTES_MAX: usize = 32;
/// Most schedules of a root: each is looked at whenever one is due.
pub const SCHEDULES_MAX: usize = 1_000;
/// Longest time between two looks at the clock for schedules: it may have been set.
pub const SCHEDULE_LOOK_EVERY_MS: u64 = 500;
/// Times of a schedule that one look decides: ten weeks of minutes.
pub const SCHEDULE_LOOKED_AT_MAX: usize = 100_000;
/// How late a time counts as on time where nothing is made up for: a start, a slow disk.
pub const SCHEDULE_ON_TIME_MS: i64 = 10_000;
/// Most runs of a schedule that have not ended.
pub const SCHEDULE_OPEN_RUNS_MAX: usize = 1_000;
/// Most times that are made up for at once, and that may be asked for.
pub const SCHEDULE_CATCH_UP_MAX: usize = 1_000;
/// Most ended runs that a schedule counts, and may keep.
pub const SCHEDULE_ENDED_RUNS_MAX: usize = 1_000;
/// Last decisions of a schedule that are shown; the others are counted.
pub const SCHEDULE_DECISIONS_SHOWN_MAX: usize = 100;
/// Largest state of a schedule: what the limits above allow.
pub const SCHEDULE_STATE_BYTES_MAX: u64 = 1024 * 1024;
/// How long a run that could not be created now waits for the next try.
pub const SCHEDULE_RETRY_MS: i64 = 5_000;
/// Time between two looks at runs of schedules that have not ended.
pub const SCHEDULE_RUNS_EVERY_MS: i64 = 5_000;

const _: () = {
    assert!(WORKFLOW_OPEN_EFFECTS_MAX < TURN_OUTPUTS_MAX as usize);
    assert!(INDEX_PAGE_ROWS_MAX <= INDEX_SCAN_ROWS_MAX);
    assert!(INDEX_BATCH_CHANGES_MAX <= INDEX_QUEUE_CHANGES_MAX);
    assert!(INLINE_BYTES_MAX < JOURNAL_RECORD_BYTES_MAX);
    assert!((JOURNAL_RECORD_BYTES_MAX as u64) <= JOURNAL_SEGMENT_BYTES);
    assert!(ERROR_BYTES_MAX + 3 * INLINE_BYTES_MAX <= JOURNAL_RECORD_BYTES_MAX);
    assert!(INLINE_BYTES_MAX <= VALUE_BYTES_MAX);
    assert!((VALUE_BYTES_MAX as u64) < BLOB_BYTES_MAX);
    assert!(JSON_DEPTH_MAX < 128);
    assert!(LOG_RESERVE_BYTES < LOG_SEGMENT_BYTES);
    assert!(LOG_BATCH_BYTES_MAX <= LOG_FRAME_BYTES_MAX);
    assert!((LOG_FRAME_BYTES_MAX as u64) <= LOG_SEGMENT_BYTES);
    assert!(JOURNAL_RECORD_BYTES_MAX < LOG_BATCH_BYTES_MAX);
    assert!(VALUE_BYTES_MAX < HOST_BACKLOG_BYTES_MAX);
    assert!(INBOX_FILE_BYTES_MAX > VALUE_BYTES_MAX);
    assert!(INBOX_CONCURRENT_MAX <= INBOX_PASS_FILES_MAX);
    assert!(SPAN_BATCH_MAX <= SPAN_QUEUE_MAX);
    assert!(LOG_BATCH_BYTES_MAX <= LOG_QUEUE_BYTES_MAX);
    assert!(LOG_SEGMENT_BYTES <= LOG_UNSETTLED_BYTES_MAX);
    assert!(SETTLE_IDLE_MS <= SETTLE_AGE_MAX_MS);
    assert!(HTTP_ANSWER_BYTES_MAX < VALUE_BYTES_MAX);
    assert!(HTTP_DRAIN_MS <= DRAIN_TIMEOUT_MS / HTTP_DRAIN_SHARE);
    assert!(VALUE_BYTES_MAX < HTTP_BODY_BYTES_MAX);
    assert!(VALUE_BYTES_MAX < MCP_MESSAGE_BYTES_MAX);
    assert!(LEASE_TTL_MS_MIN <= LEASE_TTL_MS_DEFAULT && LEASE_TTL_MS_DEFAULT <= LEASE_TTL_MS_MAX);
    assert!(SSE_FOLLOWERS_MAX < HTTP_CONNECTIONS_MAX);
};
