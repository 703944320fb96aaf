//! What comes over a connection: requests, answers of a host, addresses to go to.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use dormouse::codecs::turn::{Answer, Message, ToHost};
use dormouse::daemon::Daemon;
use dormouse::daemon::config::Config;
use dormouse::doors::http::{self, Options};
use dormouse::ground::clock::SystemClock;
use dormouse::ports::disk::socket::listen_for_owner;
use dormouse::ports::disk::std::StdDisk;
use dormouse::services::executor::guard::{self, Guard, Listeners, Origin};
use dormouse::services::runs::Runs;
use dormouse::services::runs::create::host_limits;
use dormouse::services::runs::hosts::ChildHosts;
use dormouse::services::runs::kinds::KnownKinds;
use dormouse::services::telemetry::Telemetry;

/// What a request of a fuzzer may be answered with, beside success and refusals: it is not ready,
/// or there is no such thing.
const BY_DESIGN: &[u16] = &[501, 503, 507];

/// Any bytes on the daemon's socket get answers that are no fault of ours, or none.
pub fn http_request(data: &[u8]) {
    static SOCKET: OnceLock<PathBuf> = OnceLock::new();
    let socket = SOCKET.get_or_init(serve);
    let Ok(mut stream) = UnixStream::connect(socket) else { panic!("the daemon is gone") };
    // It may have hung up already.
    let _ = stream.write_all(data);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.take(1 << 20).read_to_end(&mut answer);
    let head = answer.strip_prefix(b"HTTP/1.").unwrap_or_default();
    let status = head.get(2..5).and_then(|digits| std::str::from_utf8(digits).ok());
    let Some(status) = status.and_then(|digits| digits.parse::<u16>().ok()) else { return };
    let text = String::from_utf8_lossy(&answer);
    assert!(status < 500 || BY_DESIGN.contains(&status), "{text}");
}

/// A daemon over a directory of its own, for as long as this process lives.
fn serve() -> PathBuf {
    let root = std::env::temp_dir().join(format!("dormouse-fuzz-{}", std::process::id()));
    let exe = option_env!("CARGO_BIN_EXE_dormouse").unwrap_or("dormouse");
    let runs = Runs {
        disk: Arc::new(StdDisk),
        clock: Arc::new(SystemClock),
        hosts: Arc::new(ChildHosts { exe: exe.into() }),
        root: root.clone(),
        lock_wait_ms: 0,
        allow_fs: None,
        limits: host_limits(),
        turn_wall_max_ms: 1_000,
        by: "operator:fuzz".into(),
        telemetry: Telemetry::default(),
        kinds: KnownKinds::default(),
    };
    let daemon = Daemon::start(&runs, &Config::default()).unwrap_or_else(|e| panic!("{e}"));
    let place = root.join(".dormouse/socket");
    let socket = listen_for_owner(&place).unwrap_or_else(|e| panic!("{e}"));
    let options = Options::new(daemon.handle(), daemon.schedules(), daemon.exposition(), socket);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap_or_else(|e| panic!("{e}"));
        // Its end is that of the process.
        let _ = runtime.block_on(http::serve(options, std::future::pending()));
        drop(daemon);
    });
    place
}

/// A message of either side is refused or read; what was read can be sent.
pub fn turn(data: &[u8]) {
    if let Ok(message) = rmp_serde::from_slice::<Message<ToHost>>(data) {
        let _ = rmp_serde::to_vec_named(&message).map(|bytes| bytes.len());
    }
    if let Ok(answer) = rmp_serde::from_slice::<Answer>(data) {
        let _ = rmp_serde::to_vec_named(&answer).map(|bytes| bytes.len());
    }
}

/// An address that is let through is a public one.
pub fn url_guard(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(guard) = Guard::new(&[], Listeners::default()) else { return };
    let Ok(url) = guard.look(text) else { return };
    let origin = Origin::of(&url);
    if let Ok(ip) = origin.host.parse::<std::net::IpAddr>() {
        assert_eq!(guard::class(ip), None, "{text} leads to {ip}");
    }
}
