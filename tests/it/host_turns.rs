//! Turns through a real process host.

use crate::host::*;
use dormouse::codecs::event::Profile::{Babysitter, Dormouse};

#[test]
fn a_task_is_requested_and_its_value_comes_back() {
    let mut run = Driver::new(start(Babysitter, &fixture("one_task.js")));
    let first = run.begin();
    assert_eq!(keys(&first), ["greet#0"]);
    let request = requests(&first)[0];
    assert_eq!(request.ordinal, 1);
    assert_eq!(request.kind, "agent");
    assert_eq!(request.title.as_deref(), Some("Greet"));
    assert_eq!(request.labels, ["a", "b"]);
    assert_eq!(request.args.as_ref().unwrap().as_str(), r#"{"who":"you"}"#);
    assert_eq!(
        request.def.to_value()["io"]["inputJsonPath"].as_str(),
        Some("tasks/e0001/inputs.json")
    );
    assert!(request.site.as_deref().unwrap().starts_with("main.js:"), "{:?}", request.site);
    let last = run.resolve(1, r#"{"text":"hello"}"#);
    assert_eq!(output(&last), r#"{"said":"hello","at":"2026-11-20T12:00:00.000Z"}"#);
    assert!(last.warnings.is_empty());
}

#[test]
fn what_a_process_throws_is_its_failure() {
    let source = "export async function process(inputs, ctx) {
        class Mine extends Error { constructor(m) { super(m); this.name = 'Mine'; this.data = {x: 1}; } }
        throw new Mine('no');
    }";
    for profile in [Dormouse, Babysitter] {
        let done = Driver::new(start(profile, source)).begin();
        let error = failure(&done);
        assert_eq!((error.name.as_str(), error.message.as_str()), ("Mine", "no"));
        assert_eq!(error.data.as_ref().unwrap().as_str(), r#"{"x":1}"#);
        assert!(error.stack.as_deref().unwrap().contains("main.js:3:"), "{:?}", error.stack);
    }
}
