//! Hosts that are killed while they load code: what that says about the code, which is nothing.

use dormouse::codecs::turn::{FromHost, ToHost};
use dormouse::services::runs::create::NewRun;
use dormouse::services::runs::hosts::{Host, Hosts, Silence};
use dormouse::services::runs::{Error, Result};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::play::Play;

/// Hosts of which the first ones die in their first call.
struct Dying {
    hosts: Arc<dyn Hosts>,
    left: AtomicU32,
}

struct Dead;

impl Hosts for Dying {
    fn program(&self) -> &Path {
        self.hosts.program()
    }

    fn spawn(&self) -> std::result::Result<Box<dyn Host>, Silence> {
        let next = |left: u32| left.checked_sub(1);
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next) {
            Ok(_) => Ok(Box::new(Dead)),
            Err(_) => self.hosts.spawn(),
        }
    }
}

impl Host for Dead {
    fn call(&mut self, _: &ToHost, _: u64, _: u64) -> std::result::Result<FromHost, Silence> {
        Err(Silence::Died("signal: 9 (SIGKILL)".into()))
    }
}

/// Creates a run and gives the bare one a process, each while so many hosts die.
fn create_and_assign(deaths: u32, code: &str) -> [Result<()>; 2] {
    let mut play = Play::bare();
    let hosts = Arc::clone(&play.runs.hosts);
    let dying = || Arc::new(Dying { hosts: Arc::clone(&hosts), left: AtomicU32::new(deaths) });
    let source = play.code(code);
    play.runs.hosts = dying();
    let new = NewRun { source: Some(source.clone()), ..NewRun::default() };
    let created = play.runs.create(&new).map(drop);
    play.runs.hosts = dying();
    let assigned = play.runs.assign(&play.id, &source, None, false, None).map(drop);
    [created, assigned]
}

#[test]
fn a_host_that_dies_while_it_loads_code_is_not_the_codes_fault() {
    for done in create_and_assign(1, "export const process = () => 1;") {
        done.unwrap();
    }
    for refused in create_and_assign(2, "export const process = () => 1;") {
        let error = refused.unwrap_err();
        assert!(matches!(&error, Error::Storage { unknown: false, .. }), "{error:?}");
        assert_eq!(error.trouble().code, "host_failed");
    }
    for refused in create_and_assign(1, "throw new Error('no');") {
        assert_eq!(refused.unwrap_err().trouble().code, "E_MODULE_ERROR");
    }
}
