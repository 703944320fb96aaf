//! Telemetry: what the lower floors may say about their work without knowing who listens.
//!
//! [`Metrics`] is one set of numbers, handed down as `Arc<Metrics>`; there is no global one. May
//! not know how numbers are shown. Invariant: no label holds a run id, and nothing here can fail
//! or wait.

mod instruments;

pub use instruments::{
    COUNTS, Counter, Family, Gauge, Histogram, Instrument, LONG_SECONDS, Reading, Readings,
    SHORT_SECONDS, Shape,
};

/// One metric at one moment.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its name for those who read it; counters get `_total` behind it.
    pub name: &'static str,
    /// The field that writes it.
    pub field: &'static str,
    /// What it says.
    pub help: &'static str,
    /// The shape of its readings.
    pub shape: Shape,
    /// The names of its labels.
    pub labels: Vec<&'static str>,
    /// Its readings; none while nobody has written it.
    pub readings: Readings,
}

/// Declares the fields and what shows them from one list.
macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $type:ty = $make:expr, $name:literal;)*) => {
        /// Every number that the runtime keeps about itself. Cheap to write from any thread.
        #[derive(Debug)]
        pub struct Metrics {
            $($(#[doc = $help])+ pub $field: $type,)*
        }

        impl Default for Metrics {
            fn default() -> Self {
                Self { $($field: $make,)* }
            }
        }

        impl Metrics {
            /// All of them as they stand now, in the order of their declaration.
            #[must_use]
            pub fn show(&self) -> Vec<Shown> {
                vec![$(Shown {
                    name: $name,
                    field: stringify!($field),
                    help: concat!($($help),+).trim_ascii_start(),
                    shape: <$type as Instrument>::SHAPE,
                    labels: self.$field.labels(),
                    readings: self.$field.read(),
                },)*]
            }
        }
    };
}

fn short() -> Histogram {
    Histogram::new(SHORT_SECONDS)
}

fn long() -> Histogram {
    Histogram::new(LONG_SECONDS)
}

type Count = Counter;
type Counts<const N: usize> = Family<Counter, N>;
type Levels<const N: usize> = Family<Gauge, N>;
type Spreads<const N: usize> = Family<Histogram, N>;

metrics! {
    /// Runs by state, as the index counts them.
    runs: Levels<1> = Family::new(["state"], Gauge::default), "dormouse_runs";
    /// Runs created, by who asked: client, operator, parent.
    runs_created: Counts<1> = Family::new(["via"], Counter::default), "dormouse_runs_created";
    /// Runs that ended, by outcome.
    runs_ended: Counts<1> = Family::new(["outcome"], Counter::default), "dormouse_runs_ended";
    /// From creation to end, by outcome.
    run_duration: Spreads<1> = Family::new(["outcome"], long), "dormouse_run_duration_seconds";
    /// Runs whose instance is in memory.
    runs_warm: Gauge = Gauge::default(), "dormouse_runs_warm";
    /// Runs in memory, or on their way in or out.
    runs_loaded: Gauge = Gauge::default(), "dormouse_runs_loaded";
    /// Wake-ups of runs: create, inflow, outcome, iterate, timer, start, audit.
    wakes: Counts<1> = Family::new(["reason"], Counter::default), "dormouse_wakes";
    /// Replays in a new instance, by result: ok, diverged, failed.
    replays: Counts<1> = Family::new(["result"], Counter::default), "dormouse_replays";
    /// How long a replay took.
    replay: Histogram = short(), "dormouse_replay_seconds";
    /// Runs held because process and journal disagree.
    divergences: Count = Counter::default(), "dormouse_divergences";
    /// Runs that were met with a damaged journal, by the case that it is.
    runs_set_aside: Levels<1> =
        Family::new(["case"], Gauge::default), "dormouse_runs_set_aside";

    /// Effects requested, by kind.
    effects_requested: Counts<1> =
        Family::new(["kind"], Counter::default), "dormouse_effects_requested";
    /// Effects ended, by kind and outcome: ok, error, cancelled.
    effect_outcomes: Counts<2> =
        Family::new(["kind", "outcome"], Counter::default), "dormouse_effect_outcomes";
    /// From request to end, by kind and outcome.
    effect_duration: Spreads<2> =
        Family::new(["kind", "outcome"], long), "dormouse_effect_duration_seconds";
    /// Posts by result: accepted, repeat, stale, closed, conflict, invalid.
    posts: Counts<1> = Family::new(["result"], Counter::default), "dormouse_posts";
    /// Claims by result: given, empty, refused.
    claims: Counts<1> = Family::new(["result"], Counter::default), "dormouse_claims";
    /// Claims that wait for something to do.
    claims_waiting: Gauge = Gauge::default(), "dormouse_claims_waiting";
    /// Effects that workers outside are at.
    leases: Gauge = Gauge::default(), "dormouse_leases";
    /// Leases that ended without an outcome, by why: silent, timeout.
    leases_lapsed: Counts<1> = Family::new(["why"], Counter::default), "dormouse_leases_lapsed";

    /// Frames that the commit log made durable.
    commit_log_frames: Count = Counter::default(), "dormouse_commit_log_frames";
    /// Records in them.
    commit_log_records: Count = Counter::default(), "dormouse_commit_log_records";
    /// Bytes in them.
    commit_log_bytes: Count = Counter::default(), "dormouse_commit_log_bytes";
    /// Records of one frame.
    commit_log_batch: Histogram =
        Histogram::new(COUNTS), "dormouse_commit_log_batch_records";
    /// Writing one frame durably.
    commit: Histogram = short(), "dormouse_commit_seconds";
    /// Records that wait for a frame.
    commit_log_queue: Gauge = Gauge::default(), "dormouse_commit_log_queue_records";
    /// Bytes in the log that are not settled into journals.
    commit_log_unsettled: Gauge = Gauge::default(), "dormouse_commit_log_unsettled_bytes";
    /// Segments of the log.
    commit_log_segments: Gauge = Gauge::default(), "dormouse_commit_log_segments";
    /// Segments that were begun.
    commit_log_rotations: Count = Counter::default(), "dormouse_commit_log_rotations";
    /// Runs whose journal lags behind the log.
    commit_log_lagging: Gauge = Gauge::default(), "dormouse_commit_log_lagging_runs";
    /// Journals settled.
    settles: Count = Counter::default(), "dormouse_settles";
    /// Settling one journal.
    settle: Histogram = short(), "dormouse_settle_seconds";
    /// 1 for the state that the writer is in: healthy, full, failed.
    writer_state: Levels<1> = Family::new(["state"], Gauge::default), "dormouse_writer_state";

    /// Changes that are not in the index yet.
    index_lag: Gauge = Gauge::default(), "dormouse_index_lag_changes";
    /// One transaction of the index.
    index_transaction: Histogram = short(), "dormouse_index_transaction_seconds";
    /// Indexes built anew from journals.
    index_rebuilds: Count = Counter::default(), "dormouse_index_rebuilds";
    /// Runs that the auditor compared with their journals.
    wake_audit_checked: Count = Counter::default(), "dormouse_wake_audit_checked";
    /// What the auditor found wrong, by what it is.
    wake_audit_findings: Counts<1> =
        Family::new(["what"], Counter::default), "dormouse_wake_audit_findings";
    /// Findings that it mended.
    wake_audit_healed: Count = Counter::default(), "dormouse_wake_audit_healed";
    /// Timers that will fire.
    timers_armed: Gauge = Gauge::default(), "dormouse_timers_armed";
    /// Effects that time ended.
    timer_fires: Count = Counter::default(), "dormouse_timer_fires";
    /// How long after its time a timer's record was written.
    timer_late: Histogram = long(), "dormouse_timer_late_seconds";

    /// Host processes.
    host_children: Gauge = Gauge::default(), "dormouse_host_children";
    /// Host processes started.
    hosts_spawned: Count = Counter::default(), "dormouse_hosts_spawned";
    /// Host processes killed, by why: cpu, silent, nonsense, unneeded.
    hosts_killed: Counts<1> = Family::new(["why"], Counter::default), "dormouse_hosts_killed";
    /// Instances in host processes.
    host_instances: Gauge = Gauge::default(), "dormouse_host_instances";
    /// Memory that instances use.
    host_memory: Gauge = Gauge::default(), "dormouse_host_bytes";

    /// Requests answered, by route and status.
    http_requests: Counts<2> =
        Family::new(["route", "status"], Counter::default), "dormouse_http_requests";
    /// From a request to the beginning of its answer, by route.
    http_request: Spreads<1> = Family::new(["route"], short), "dormouse_http_request_seconds";
    /// Followers of event streams.
    sse_followers: Gauge = Gauge::default(), "dormouse_sse_followers";
    /// Requests refused before they reached a route, by why.
    http_rejected: Counts<1> = Family::new(["why"], Counter::default), "dormouse_http_rejected";
    /// Files of the inbox by result: posted, repeat, refused, later.
    inbox_files: Counts<1> = Family::new(["result"], Counter::default), "dormouse_inbox_files";
    /// Commands that are watched.
    shell_processes: Gauge = Gauge::default(), "dormouse_shell_processes";
    /// HTTP attempts, by agent (`none` for `http` itself) and class.
    http_executor: Counts<2> =
        Family::new(["agent", "class"], Counter::default), "dormouse_http_executor";
    /// Calls of tools, by server and class.
    mcp_calls: Counts<2> = Family::new(["server", "class"], Counter::default), "dormouse_mcp_calls";
    /// Requests that were not sent because of where they would have gone.
    ssrf_refusals: Count = Counter::default(), "dormouse_ssrf_refusals";
    /// Secrets asked for, by result: ok, missing.
    secret_resolutions: Counts<1> =
        Family::new(["result"], Counter::default), "dormouse_secret_resolutions";
    /// Places where a secret was hidden in what is kept.
    redactions: Count = Counter::default(), "dormouse_redactions";
    /// Spans by what became of them: exported, dropped, failed.
    trace_spans: Counts<1> = Family::new(["result"], Counter::default), "dormouse_trace_spans";

    /// When this process started, in seconds since 1970.
    start_time: Gauge = Gauge::default(), "dormouse_start_time_seconds";
    /// Memory of this process.
    resident_bytes: Gauge = Gauge::default(), "process_resident_memory_bytes";
    /// Open file descriptors of this process.
    open_fds: Gauge = Gauge::default(), "process_open_fds";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_no_label_is_about_one_run() {
        let all = Metrics::default().show();
        let names: std::collections::BTreeSet<&str> = all.iter().map(|m| m.name).collect();
        assert_eq!(names.len(), all.len());
        for metric in all {
            assert!(!metric.help.is_empty() && metric.readings.is_empty(), "{}", metric.name);
            assert!(!metric.labels.iter().any(|l| l.contains("run")), "{}", metric.name);
            assert!(!metric.name.ends_with("_total"), "{}: it is added", metric.name);
        }
    }
}
