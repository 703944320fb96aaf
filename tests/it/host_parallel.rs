//! Branches: attribution, order, limits, errors; against a real process host.

use crate::host::*;
use dormouse::codecs::event::Profile::{Babysitter, Dormouse};
use dormouse::shells::host::protocol::{Feed, Start, TurnDone};

fn sleeper(body: &str) -> Start {
    start(
        Dormouse,
        &format!(
            "import {{ defineTask }} from 'dormouse';
            const t = defineTask('t', {{kind: 'agent'}});
            const u = defineTask('u', {{kind: 'agent'}});
            export async function process(inputs, ctx) {{ {body} }}"
        ),
    )
}

fn run(body: &str) -> Driver {
    Driver::new(sleeper(body))
}

/// All orders in which two chains of two can be resolved, as indices of chains.
fn orders(left: [u32; 2]) -> Vec<Vec<usize>> {
    if left == [0, 0] {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for chain in 0..2 {
        if left[chain] > 0 {
            let mut rest = left;
            rest[chain] -= 1;
            for mut tail in orders(rest) {
                tail.insert(0, chain);
                all.push(tail);
            }
        }
    }
    all
}

/// Which branch and step a key of the two-by-two process stands for.
fn place(key: &str) -> (usize, usize) {
    let branch = usize::from(key.starts_with("p0[1]/"));
    (branch, usize::from(key.ends_with("/deploy#0")))
}

const VALUES: [[&str; 2]; 2] = [
    [r#"{"image":"img-a"}"#, r#"{"url":"url-a"}"#],
    [r#"{"image":"img-b"}"#, r#"{"url":"url-b"}"#],
];

/// Runs the two-by-two process, resolving in `order`; after every turn a second host is driven from
/// the start with the same inputs, and must say the same. Returns all keys and the output.
fn two_by_two(order: &[usize]) -> (Vec<String>, String) {
    let source = fixture("two_by_two.js");
    let mut live = Driver::new(start(Dormouse, &source));
    let mut pending = [0; 2];
    let mut said = vec![live.begin()];
    let mut inputs: Vec<Feed> = Vec::new();
    let mut steps = [0; 2];
    let mut all = Vec::new();
    let note = |done: &TurnDone, pending: &mut [u32; 2], all: &mut Vec<String>| {
        for request in requests(done) {
            pending[place(&request.key).0] = request.ordinal;
            all.push(request.key.clone());
        }
    };
    note(&said[0], &mut pending, &mut all);
    for &branch in order {
        let feed = resolved(pending[branch], VALUES[branch][steps[branch]]);
        steps[branch] += 1;
        inputs.push(feed.clone());
        let done = live.turn(feed);
        note(&done, &mut pending, &mut all);
        said.push(done);
        let mut cold = Driver::new(start(Dormouse, &source));
        assert_eq!(cold.begin(), said[0]);
        for (feed, done) in inputs.iter().zip(&said[1..]) {
            assert_eq!(&cold.turn(feed.clone()), done, "{order:?}");
        }
    }
    (all, output(said.last().unwrap()).to_owned())
}

#[test]
fn two_branches_of_two_steps_keep_their_own_values_in_every_order() {
    let all = orders([2, 2]);
    assert_eq!(all.len(), 6);
    for order in all {
        let (mut keys, output) = two_by_two(&order);
        assert_eq!(
            output,
            "[{\"name\":\"a\",\"index\":0,\"image\":\"img-a\",\"url\":\"url-a\"},\
             {\"name\":\"b\",\"index\":1,\"image\":\"img-b\",\"url\":\"url-b\"}]",
            "{order:?}"
        );
        keys.sort();
        let wanted = ["p0[0]/build#0", "p0[0]/deploy#0", "p0[1]/build#0", "p0[1]/deploy#0"];
        assert_eq!(keys, wanted, "{order:?}");
    }
}

#[test]
fn four_pending_effects_settle_right_in_all_24_orders() {
    let body = "return ctx.parallel.map([0, 1], async (n) => {
        const [a, b] = await ctx.parallel.all([(c) => c.task(t, n), (c) => c.task(u, n)]);
        return [n, a, b, ctx.random() < 1] })";
    let mut orders = vec![Vec::new()];
    for n in 1..=4_u32 {
        let spread = |order: Vec<u32>| {
            (0..=order.len()).map(move |at| {
                let mut longer = order.clone();
                longer.insert(at, n);
                longer
            })
        };
        orders = orders.into_iter().flat_map(spread).collect();
    }
    assert_eq!(orders.len(), 24);
    for order in orders {
        let mut run = run(body);
        let first = run.begin();
        assert_eq!(
            keys(&first),
            ["p0[0]/p0[0]/t#0", "p0[0]/p0[1]/u#0", "p0[1]/p0[0]/t#0", "p0[1]/p0[1]/u#0"]
        );
        let mut last = first;
        for ordinal in &order {
            last = run.resolve(*ordinal, &format!("\"v{ordinal}\""));
        }
        let wanted = r#"[[0,"v1","v2",true],[1,"v3","v4",true]]"#;
        assert_eq!(output(&last), wanted, "{order:?}");
    }
}

#[test]
fn results_keep_their_places_and_elements_may_be_many_things() {
    for (body, want) in [
        (
            "ctx.parallel.all([() => 1, async () => undefined, () => 3], {maxConcurrency: 2})",
            "[1,null,3]",
        ),
        ("ctx.parallel.all([Promise.resolve(1), () => 2])", "[1,2]"),
        ("ctx.parallel.all([])", "[]"),
        (
            "ctx.parallel.map(new Set([1, 2]), (x, i, b) => [x, i, b.index, b.key])",
            "[[1,0,0,\"0\"],[2,1,1,\"1\"]]",
        ),
        ("ctx.parallel.map(new Map([['k', 1]]), ([k, v]) => k + v)", "[\"k1\"]"),
        (
            "ctx.parallel.all([1]).catch((e) => e.message)",
            "\"ctx.parallel.all: element 0 is neither a function nor a promise\"",
        ),
        ("ctx.parallel.map(5, () => 1).catch((e) => e.name)", "\"TypeError\""),
        ("ctx.parallel.map([1], 5).catch((e) => e.name)", "\"TypeError\""),
        ("ctx.parallel.all([() => 1], {maxConcurency: 1}).catch((e) => e.name)", "\"TypeError\""),
        ("ctx.parallel.all([() => 1], {maxConcurrency: 0}).catch((e) => e.name)", "\"TypeError\""),
        (
            "ctx.parallel.all([() => { throw new RangeError('sync') }]).catch((e) => e.name)",
            "\"RangeError\"",
        ),
    ] {
        assert_eq!(output(&run(&format!("return {body}")).begin()), want, "{body}");
    }
    let lax = "export async function process(inputs, ctx) {
        return ctx.parallel.all([() => 1, () => 2], {maxConcurrency: 0, hint: 1}) }";
    assert_eq!(output(&Driver::new(start(Babysitter, lax)).begin()), "[1,2]");
}

#[test]
fn at_most_so_many_branches_are_open_at_once() {
    for options in ["{maxConcurrency: 2}", "{concurrency: 2}"] {
        let body =
            format!("return ctx.parallel.map([0, 1, 2, 3], (n) => ctx.task(t, n), {options})");
        let mut run = run(&body);
        assert_eq!(keys(&run.begin()), ["p0[0]/t#0", "p0[1]/t#0"]);
        assert_eq!(keys(&run.resolve(2, "12")), ["p0[2]/t#0"]);
        assert_eq!(keys(&run.resolve(3, "13")), ["p0[3]/t#0"]);
        run.resolve(4, "14");
        assert_eq!(output(&run.resolve(1, "11")), "[11,12,13,14]");
    }
    let mut run = run("return ctx.parallel.map([0, 1], (n) => ctx.task(t, n),
        {executionStrategy: 'sequential'})");
    assert_eq!(keys(&run.begin()), ["p0[0]/t#0"]);
    assert_eq!(keys(&run.resolve(1, "1")), ["p0[1]/t#0"]);
}

#[test]
fn names_are_stable_under_edits_of_other_scopes() {
    let body =
        "await ctx.task(t); const a = ctx.parallel.map(['x', 'y/z', 'x'], async (k, i, branch) => {
            await branch.task(t); await ctx.task(u); return branch.key },
            {branchKey: (k) => k});
        const list = await a; await ctx.task(u);
        await ctx.parallel.all([() => ctx.task(t)]);
        return list";
    let mut run = run(body);
    assert_eq!(keys(&run.begin()), ["t#0"]);
    assert_eq!(keys(&run.resolve(1, "1")), ["p0[x]/t#0", "p0[y%2Fz]/t#0", "p0[x~1]/t#0"]);
    assert_eq!(keys(&run.resolve(3, "1")), ["p0[y%2Fz]/u#0"]);
    assert_eq!(keys(&run.resolve(2, "1")), ["p0[x]/u#0"]);
    assert_eq!(keys(&run.resolve(4, "1")), ["p0[x~1]/u#0"]);
    run.resolve(5, "1");
    run.resolve(6, "1");
    assert_eq!(keys(&run.resolve(7, "1")), ["u#0"]);
    assert_eq!(keys(&run.resolve(8, "1")), ["p1[0]/t#0"]);
    assert_eq!(output(&run.resolve(9, "1")), r#"["x","y/z","x~1"]"#);
}

#[test]
fn a_failing_branch_cancels_its_siblings() {
    let body = "const seen = []; const p = ctx.task(t, 'outside');
        try { await ctx.parallel.all([() => ctx.task(t, 1), async () => { await ctx.task(t, 2) },
            async (b) => { await b.parallel.all([() => ctx.task(u, 3)]) }, ctx.task(u, 4)]) }
        catch (e) { seen.push(e.message) }
        ctx.task(t, 'after'); return await p.then((v) => [v, seen])";
    let mut run = run(body);
    let first = run.begin();
    assert_eq!(keys(&first).len(), 5);
    let done = run.fail(3, "Bad", "first", None);
    let given_up: Vec<u32> = done.cancels.iter().map(|(ordinal, _)| *ordinal).collect();
    // The task outside and the failed one stay; the passed promise was asked for before the group.
    assert_eq!(given_up, [2, 4, 5]);
    assert_eq!(keys(&done), ["t#1"]);
    for ordinal in given_up {
        let done = run.turn(Feed::Cancelled { ordinal, reason: "a sibling branch failed".into() });
        assert!(done.warnings.is_empty() && done.outputs.is_empty(), "{done:?}");
    }
    assert_eq!(output(&run.resolve(1, "\"out\"")), r#"["out",["first"]]"#);
}

#[test]
fn settle_waits_for_all_and_leave_lets_them_go() {
    let body = |on: &str| {
        format!(
            "return await ctx.parallel.map([1, 2, 3], (n) => ctx.task(t, n), {{onError: '{on}',
            maxConcurrency: 2}}).catch((e) => e.message)"
        )
    };
    let mut settle = run(&body("settle"));
    settle.begin();
    let done = settle.fail(2, "Bad", "second", None);
    assert_eq!((done.cancels.len(), keys(&done)), (0, vec!["p0[2]/t#0"]));
    settle.fail(1, "Bad", "first", None);
    assert_eq!(output(&settle.resolve(3, "1")), "\"second\"");

    let mut leave = run(&body("leave"));
    leave.begin();
    let done = leave.fail(2, "Bad", "second", None);
    assert!(done.cancels.is_empty() && keys(&done).is_empty());
    assert_eq!(output(&done), "\"second\"");
}

#[test]
fn groups_nest_to_a_limit() {
    let body = "let n = 0; const down = (b) => { n++; return b.parallel.all([down]) };
        try { await down(ctx) } catch (e) { return [e.name, n] }";
    assert_eq!(output(&run(body).begin()), r#"["RangeError",33]"#);
}

#[test]
fn plain_promise_combinators_work() {
    let body = "const [a, b] = await Promise.all([ctx.task(t, 1), ctx.task(t, 2)]);
        const c = await Promise.race([ctx.task(u, 3), ctx.task(u, 4)]);
        const d = await Promise.allSettled([ctx.task(u, 5), ctx.task(u, 6)]);
        const e = await Promise.any([ctx.task(t, 7)]);
        return [a, b, c, d.map((x) => x.status), e]";
    let mut run = run(body);
    assert_eq!(keys(&run.begin()), ["t#0", "t#1"]);
    run.resolve(2, "\"b\"");
    assert_eq!(keys(&run.resolve(1, "\"a\"")), ["u#0", "u#1"]);
    assert_eq!(keys(&run.resolve(4, "\"c\"")), ["u#2", "u#3"]);
    assert!(keys(&run.resolve(3, "\"late\"")).is_empty());
    run.fail(5, "X", "x", None);
    run.resolve(6, "1");
    assert_eq!(output(&run.resolve(7, "\"e\"")), r#"["a","b","c",["rejected","fulfilled"],"e"]"#);
}
