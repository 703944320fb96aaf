//! Tests of the whole: one binary, one module a subject.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(clippy::disallowed_methods, reason = "tests look at files from outside")]

mod cancel_halt;
mod cli;
mod cli_bad_input;
mod cli_code_changes;
mod cli_help;
mod cli_locks;
mod cli_main_job;
mod cli_recovery;
mod cli_repair;
mod commit_log_crash;
mod commit_log_recovery;
mod commit_log_support;
mod commit_service;
mod compat_forms;
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
mod journal_crash;
mod journal_damage;
mod journal_on_disk;
mod kill_syscalls;
mod log_by_hand;
mod parallel_orders;
mod pin_graph;
mod play;
mod replay_prefix;
mod replay_random;
mod support;
mod tidy;
