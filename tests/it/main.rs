//! Tests of the whole: one binary, one module a subject.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(clippy::disallowed_methods, reason = "tests look at files from outside")]

mod cancel_halt;
mod cli;
mod cli_bad_input;
mod cli_code_changes;
mod cli_completions;
mod cli_help;
mod cli_locks;
mod cli_main_job;
mod cli_repair;
mod compat_forms;
mod daemon_cli;
mod demo;
mod divergence;
mod docs;
mod example_runs;
mod examples;
mod fold_table;
mod golden_runs;
mod host;
mod host_ctx;
mod host_parallel;
mod host_sandbox;
mod host_tasks;
mod host_turns;
mod http_contract;
mod http_events;
mod http_runs;
mod journal_crash;
mod journal_damage;
mod journal_on_disk;
mod kill_syscalls;
mod parallel_orders;
mod pin_graph;
mod play;
mod replay_prefix;
mod replay_random;
mod served;
mod support;
mod tidy;
