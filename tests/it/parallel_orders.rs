//! Two branches of two steps, in every order of their outcomes, with a cold resume after every
//! event: each branch gets its own values, and each effect is asked for once.

use crate::play::Play;
use dormouse::codecs::event::Event;
use serde_json::{Value, json};

const KEYS: [&str; 4] = ["p0[0]/build#0", "p0[1]/build#0", "p0[1]/deploy#0", "p0[0]/deploy#0"];

fn permutations() -> Vec<Vec<usize>> {
    let mut all = Vec::new();
    for n in 0..256_usize {
        let order: Vec<usize> = (0..4).map(|i| n >> (2 * i) & 3).collect();
        if (0..4).all(|k| order.contains(&k)) {
            all.push(order);
        }
    }
    all
}

/// What is posted for a key.
fn answer(key: &str) -> Value {
    let name = if key.starts_with("p0[0]") { "a" } else { "b" };
    if key.contains("build") {
        json!({ "image": format!("image-{name}") })
    } else {
        json!({ "url": format!("url-{name}") })
    }
}

/// Keys in the order of their requests.
fn requested(play: &Play) -> Vec<String> {
    let key = |event: &Event| match event {
        Event::EffectRequested(asked) => Some(asked.key.clone()),
        _ => None,
    };
    play.records().iter().filter_map(|r| key(&r.event)).collect()
}

fn check(order: &[usize]) {
    let play = Play::fixture("two_by_two.js", json!({}));
    play.go_on();
    let mut wanted: Vec<&str> = order.iter().map(|k| KEYS[*k]).collect();
    while !wanted.is_empty() {
        // A deploy that would come before its build comes as soon as it is asked for.
        let open = play.open();
        let next = wanted.iter().position(|key| open.iter().any(|o| o == key)).unwrap();
        let key = wanted.remove(next);
        play.post(key, answer(key));
        play.assert_checks(key);
    }
    let result = |name: &str, index: usize| {
        json!({ "name": name, "index": index, "image": format!("image-{name}"),
            "url": format!("url-{name}") })
    };
    assert_eq!(play.output(), json!([result("a", 0), result("b", 1)]), "{order:?}");
    let mut keys = requested(&play);
    if order == [1, 2, 0, 3] {
        assert_eq!(keys, KEYS);
    }
    keys.sort_unstable();
    let mut all = KEYS;
    all.sort_unstable();
    assert_eq!(keys, all, "{order:?}: each once");
}

#[test]
fn every_order_gives_every_branch_its_own_values() {
    let orders = permutations();
    assert_eq!(orders.len(), 24);
    for order in orders {
        check(&order);
    }
}
