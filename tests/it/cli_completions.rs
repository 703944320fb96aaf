//! Completion scripts, called as shells call them.

use crate::cli::{Cli, Ran};
use std::process::Command;

/// What the program offers when `words` is typed so far, asked as `shell` asks.
fn offered(cli: &Cli, shell: &str, words: &[&str]) -> Vec<String> {
    let args = [&["--", "dormouse"], words].concat();
    let mut command = cli.command(&args);
    let index = words.len().to_string();
    command.env("DORMOUSE_COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", index);
    let ran = Ran::of(&words.join(" "), &command.env("_CLAP_IFS", "\n").output().unwrap()).ok();
    // Fish and zsh add what a candidate means.
    let names = ran.out.lines().map(|line| line.split(['\t', ':']).next().unwrap().to_owned());
    names.collect()
}

#[test]
fn run_ids_verbs_and_options_are_offered() {
    let cli = Cli::with_run();
    cli.run("run create --run-id release-1").ok();
    cli.run("run create --run-id release-2").ok();
    for shell in ["bash", "zsh", "fish"] {
        assert_eq!(offered(&cli, shell, &["run", "show", "rel"]), ["release-2", "release-1"]);
        assert!(offered(&cli, shell, &["task", "post", "r"]).contains(&"r".to_owned()), "{shell}");
        assert_eq!(offered(&cli, shell, &["run", "sho"]), ["show"], "{shell}");
        assert_eq!(offered(&cli, shell, &["run", "list", "--sta"]), ["--state"], "{shell}");
    }
    let elsewhere = ["--runs-root", "/nowhere", "run", "show", "rel"];
    assert!(offered(&cli, "bash", &elsewhere).is_empty());
}

#[test]
fn the_bash_script_completes_in_bash() {
    if Command::new("bash").arg("--version").output().is_err() {
        return;
    }
    let cli = Cli::with_run();
    let script = cli.run("completions bash").ok().out;
    let asked = format!(
        "{script}\nCOMP_WORDS=(dormouse run show '') COMP_CWORD=3 COMP_TYPE=9\n\
         _clap_complete_dormouse dormouse '' show\necho \"${{COMPREPLY[@]}}\""
    );
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_dormouse")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-c", &asked]).env("PATH", path).env("DORMOUSE_RUNS_ROOT", cli.root());
    let ran = Ran::of("bash", &bash.output().unwrap()).ok();
    assert!(ran.out.split_whitespace().any(|word| word == "r"), "{ran:?}");
    for shell in ["zsh", "fish"] {
        let script = cli.run(&format!("completions {shell}")).ok().out;
        assert!(script.contains("DORMOUSE_COMPLETE"), "{script}");
    }
}
