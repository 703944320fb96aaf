//! The fields of a document, once: the reader checks against this table, the JSON Schema is
//! printed from it.
//!
//! May not know values. Invariant: a member that stands nowhere in this table is refused.

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A text.
    Text,
    /// A DNS label: lower-case letters, digits and hyphens.
    Name,
    /// A name of a parameter: anything printable.
    ParameterName,
    /// `1.2.3`, `1.2.3-rc.1`.
    Version,
    /// True or false.
    Flag,
    /// A whole number in a range.
    Whole(i64, i64),
    /// A number in a range.
    Number(f64, f64),
    /// `1d2h3m4s`; with `true` also milliseconds.
    Span(bool),
    /// A condition or another expression.
    Expression,
    /// A path to a value: `inputs.parameters.x`.
    Reference,
    /// A number, or a text with a whole number and one of these units. With `m` among them it may
    /// have a fraction.
    Amount(&'static [&'static str]),
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any JSON.
    Any,
    /// Members with texts.
    Texts,
    /// Members with anything.
    Free,
    /// A list of something.
    List(&'static Self),
    /// A name, or a list of names.
    Names,
    /// An object with these fields.
    Object(&'static Shape),
    /// Not allowed here unless empty: code and reason.
    Barred(&'static str, &'static str),
}

/// A member of an object.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Whether it must be there.
    pub needed: bool,
    /// What it means.
    pub about: &'static str,
}

/// An object.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Its name in the schema.
    pub name: &'static str,
    /// Its members.
    pub fields: &'static [Field],
    /// What may stand in its `x-dormouse`.
    pub extension: &'static [Field],
}

const fn may(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, needed: false, about }
}

const fn must(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, needed: true, about }
}

const fn barred(name: &'static str, code: &'static str, why: &'static str) -> Field {
    Field { name, kind: Kind::Barred(code, why), needed: false, about: why }
}

const fn plain(name: &'static str, fields: &'static [Field]) -> Shape {
    Shape { name, fields, extension: &[] }
}

const E_ARTIFACTS: &str = "E-ARTIFACTS";
const E_NO_EFFECT: &str = "E-NO-EFFECT";

const NO_FILES: &str = "nothing moves artifacts: pass values as parameters";
const NOT_HERE: &str = "only a node of a dag has this: it would change nothing here";
const ONLY_EMPTY: &str = "an executor's result has no source: list names, types and defaults";

/// The whole document.
pub static DOCUMENT: Shape = plain(
    "Workflow",
    &[
        must("apiVersion", Kind::Word(&["aether/v1"]), "The version of this format."),
        must("kind", Kind::Word(&["Workflow"]), "What the document describes."),
        must("metadata", Kind::Object(&METADATA), "What it is called."),
        must("spec", Kind::Object(&SPEC), "What it does."),
    ],
);

/// A whole document that makes runs begin in time.
pub static CRON_DOCUMENT: Shape = plain(
    "CronWorkflow",
    &[
        must("apiVersion", Kind::Word(&["aether/v1"]), "The version of this format."),
        must("kind", Kind::Word(&["CronWorkflow"]), "What the document describes."),
        must("metadata", Kind::Object(&METADATA), "What it is called."),
        must("spec", Kind::Object(&CRON_SPEC), "When it does what."),
    ],
);

static CRON_SPEC: Shape = Shape {
    name: "CronSpec",
    fields: &[
        must("schedule", Kind::Text, "When: five fields of a crontab, or `@daily`."),
        may("timezone", Kind::Text, "On whose clocks: `Europe/Berlin`; `UTC`."),
        may("startAt", Kind::Text, "No time before this one counts."),
        may("endAt", Kind::Text, "No time after this one counts."),
        may(
            "concurrencyPolicy",
            Kind::Word(&["Allow", "Forbid", "Replace"]),
            "What happens while an earlier run has not ended; `Allow`.",
        ),
        may(
            "startingDeadlineSeconds",
            Kind::Whole(1, 1_000_000_000),
            "How late a run may begin; however late, if nothing is said.",
        ),
        may(
            "successfulJobsHistoryLimit",
            Kind::Whole(0, 1_000),
            "How many runs that ended well are kept; 3.",
        ),
        may("failedJobsHistoryLimit", Kind::Whole(0, 1_000), "How many others are kept; 1."),
        may("suspend", Kind::Flag, "It begins suspended."),
        must("workflowSpec", Kind::Object(&SPEC), "What each run does."),
    ],
    extension: &[
        may("catchUp", Kind::Word(&["latest", "all", "none"]), "Which missed times; `latest`."),
        may("maxCatchUp", Kind::Whole(1, 1_000), "How many missed times at most; 100."),
    ],
};

static METADATA: Shape = plain(
    "Metadata",
    &[
        must("name", Kind::Name, "Name of the workflow."),
        may("namespace", Kind::Name, "Where the name belongs; `default` unless told otherwise."),
        may("version", Kind::Version, "For people: `1.2.3`."),
        may("labels", Kind::Texts, "For people and tools: texts by name."),
        may("annotations", Kind::Texts, "Remarks: texts by name."),
    ],
);

static SPEC: Shape = Shape {
    name: "Spec",
    fields: &[
        must("entrypoint", Kind::Name, "The template that the run begins with."),
        may("arguments", Kind::Object(&CALL), "What the run is given, with defaults."),
        may("timeout", Kind::Span(false), "How long the run may take; `0s`: for ever."),
        may("priority", Kind::Whole(0, 1000), "Which run's work is taken first: the higher."),
        may("maxNestedDepth", Kind::Whole(1, 10), "How deep templates may stand in each other."),
        must("templates", Kind::List(&Kind::Object(&TEMPLATE)), "The parts of the workflow."),
        may("hooks", Kind::Object(&HOOKS), "Tasks that run when the run begins or ends."),
    ],
    extension: REPETITION,
};

static TEMPLATE: Shape = plain(
    "Template",
    &[
        may("task", Kind::Object(&LEAF), "One piece of work."),
        may("dag", Kind::Object(&DAG), "Tasks with dependencies."),
        may("loop", Kind::Object(&LOOP), "A template, again and again."),
    ],
);

const REPETITION: &[Field] = &[
    may("idempotent", Kind::Flag, "The work may be done again when its outcome is unknown."),
    may(
        "onUncertain",
        Kind::Word(&["hold", "retry", "error", "ask"]),
        "What happens to work whose outcome is unknown.",
    ),
];

static EXECUTOR: Shape = Shape {
    name: "Executor",
    fields: &[
        must("type", Kind::Text, "Who does the work: `shell`, `http`, `agent`, or your own kind."),
        may("config", Kind::Free, "Further inputs, fixed in the document."),
    ],
    extension: REPETITION,
};

static RETRY: Shape = Shape {
    name: "Retry",
    fields: &[
        may("limit", Kind::Whole(0, 100), "How often work is tried again."),
        may("expression", Kind::Expression, "When it is; else after Error and Timeout."),
    ],
    extension: &[
        may("backoff", Kind::Object(&BACKOFF), "How long to wait in between; else not at all."),
        may("maxElapsed", Kind::Span(true), "No retry starts later than this after the first."),
    ],
};

static BACKOFF: Shape = plain(
    "Backoff",
    &[
        may("initial", Kind::Span(true), "The first delay; `1s` unless told otherwise."),
        may("factor", Kind::Number(1.0, 100.0), "Each delay is that many times longer; 2."),
        may("max", Kind::Span(true), "The longest delay; `5m`."),
        may("jitter", Kind::Number(0.0, 1.0), "The share that chance takes off; 0."),
    ],
);

static TOLERANCE: Shape = plain(
    "ContinueOn",
    &[
        may("failed", Kind::Flag, "Go on after Failed."),
        may("error", Kind::Flag, "Go on after Error."),
        may("timeout", Kind::Flag, "Go on after Timeout."),
    ],
);

static CONDITIONS: Shape = plain(
    "PhaseConditions",
    &[
        may("succeeded", Kind::Expression, "When true, the phase is Succeeded."),
        may("failed", Kind::Expression, "Else, when true, it is Failed."),
        may("error", Kind::Expression, "Else, when true, it is Error."),
    ],
);

static HOOK: Shape = Shape {
    name: "Hook",
    fields: &[may("template", Kind::Text, "A task template.")],
    extension: &[may("timeout", Kind::Span(true), "How long it may take; `60s`.")],
};

static HOOKS: Shape = plain(
    "Hooks",
    &[
        may("onStart", Kind::Object(&HOOK), "When work begins."),
        may("onSuccess", Kind::Object(&HOOK), "After Succeeded."),
        may("onFailure", Kind::Object(&HOOK), "After Failed."),
        may("onError", Kind::Object(&HOOK), "After Error or Timeout."),
        may("onSuspend", Kind::Object(&HOOK), "When it waits for a person or a signal."),
        may("onResume", Kind::Object(&HOOK), "When it was answered."),
        may("onCancel", Kind::Object(&HOOK), "After Cancelled."),
        may("onExit", Kind::Object(&HOOK), "After every end, last."),
    ],
);

/// Words for the type of a parameter.
pub const TYPES: &[&str] = &[
    "string", "integer", "int", "number", "float", "boolean", "bool", "array", "list", "object",
    "any", "json",
];

static SOURCE: Shape = plain(
    "ValueFrom",
    &[
        may("parameter", Kind::Reference, "A path to a value: `tasks.a.outputs.parameters.x`."),
        may("path", Kind::Reference, "The old word for `parameter`."),
        may("expression", Kind::Expression, "A computed value."),
        may("secretKeyRef", Kind::Object(&SECRET), "A secret of the executor, by name."),
    ],
);

static SECRET: Shape = plain(
    "SecretKeyRef",
    &[
        must("name", Kind::Text, "Its name: `[secrets.NAME]` of the configuration."),
        may("key", Kind::Text, "A part of it: `[secrets.\"NAME.KEY\"]`."),
    ],
);

static RESOURCES: Shape = plain(
    "Resources",
    &[
        may("cpu", Kind::Amount(&["", "m"]), "Processors: `2`, `0.5`, `500m`."),
        may("memory", Kind::Amount(&["", "Ki", "Mi", "Gi", "Ti"]), "Memory: `512Mi`."),
        may("gpu", Kind::Amount(&[""]), "Graphics processors."),
    ],
);

const VERBATIM: &[Field] = &[may("verbatim", Kind::Flag, "`{{…}}` stays as it is.")];

static PARAMETER: Shape = Shape {
    name: "Parameter",
    fields: &[
        must("name", Kind::ParameterName, "Its name."),
        may("type", Kind::Word(TYPES), "What it may be; anything, if nothing is said."),
        may("value", Kind::Any, "Its value; `{{…}}` in texts is filled in."),
        may("valueFrom", Kind::Object(&SOURCE), "Where its value comes from."),
        may("default", Kind::Any, "Its value when nothing else gives one."),
        may("enum", Kind::List(&Kind::Any), "The values that are allowed."),
        may("description", Kind::Text, "For people."),
    ],
    extension: VERBATIM,
};

static RESULT: Shape = Shape {
    name: "Result",
    fields: &[
        must("name", Kind::ParameterName, "Its name."),
        may("type", Kind::Word(TYPES), "What it may be; anything, if nothing is said."),
        barred("value", E_NO_EFFECT, ONLY_EMPTY),
        barred("valueFrom", E_NO_EFFECT, ONLY_EMPTY),
        may("default", Kind::Any, "Its value when the work gave none."),
        may("enum", Kind::List(&Kind::Any), "The values that are allowed."),
        may("description", Kind::Text, "For people."),
    ],
    extension: VERBATIM,
};

static CALL: Shape = plain(
    "Parameters",
    &[
        may("parameters", Kind::List(&Kind::Object(&PARAMETER)), "Values by name."),
        barred("artifacts", E_ARTIFACTS, NO_FILES),
    ],
);

const READONLY: &str = "the runtime writes this: it cannot be given";

static RESULTS: Shape = plain(
    "Results",
    &[
        may("parameters", Kind::List(&Kind::Object(&RESULT)), "Values by name."),
        barred("artifacts", E_ARTIFACTS, NO_FILES),
        barred("phase", "E-READONLY", READONLY),
        barred("code", "E-READONLY", READONLY),
        barred("msg", "E-READONLY", READONLY),
        barred("metrics", "E-READONLY", READONLY),
        barred("progress", "E-READONLY", READONLY),
    ],
);

static OUTPUTS: Shape = plain(
    "Outputs",
    &[
        may("parameters", Kind::List(&Kind::Object(&PARAMETER)), "Values by name."),
        barred("artifacts", E_ARTIFACTS, NO_FILES),
        barred("phase", "E-READONLY", READONLY),
        barred("code", "E-READONLY", READONLY),
        barred("msg", "E-READONLY", READONLY),
        barred("metrics", "E-READONLY", READONLY),
        barred("progress", "E-READONLY", READONLY),
    ],
);

static LEAF: Shape = plain(
    "TaskTemplate",
    &[
        must("name", Kind::Name, "Its name."),
        must("executor", Kind::Object(&EXECUTOR), "Who does it."),
        may("inputs", Kind::Object(&CALL), "What it needs."),
        may("outputs", Kind::Object(&RESULTS), "What comes of it."),
        may("timeout", Kind::Span(false), "How long one attempt may take, waiting included."),
        may("retry", Kind::Object(&RETRY), "When it is tried again."),
        may("phaseConditions", Kind::Object(&CONDITIONS), "What its result means."),
        may("hooks", Kind::Object(&HOOKS), "Tasks that run when it begins or ends."),
        may("resources", Kind::Object(&RESOURCES), "What a worker needs for it."),
        barred("template", "E-TASK-TEMPLATE-REF", "a task template has an executor of its own"),
        barred("dependencies", E_NO_EFFECT, NOT_HERE),
        barred("when", E_NO_EFFECT, NOT_HERE),
        barred("continueOn", E_NO_EFFECT, NOT_HERE),
        barred("arguments", E_NO_EFFECT, NOT_HERE),
    ],
);

static NODE: Shape = plain(
    "Task",
    &[
        must("name", Kind::Name, "Its name in the dag."),
        may("template", Kind::Text, "The template that it runs."),
        may("executor", Kind::Object(&EXECUTOR), "Who does it, where there is no template."),
        may("inputs", Kind::Object(&CALL), "What it needs, where there is no template."),
        may("outputs", Kind::Object(&RESULTS), "What comes of it, where there is no template."),
        may("arguments", Kind::Object(&CALL), "What it is given."),
        may("dependencies", Kind::List(&Kind::Text), "The tasks that must be over before."),
        may("when", Kind::Expression, "It is skipped unless this is true."),
        may("timeout", Kind::Span(false), "How long it may take."),
        may("retry", Kind::Object(&RETRY), "When it is tried again."),
        may("continueOn", Kind::Object(&TOLERANCE), "Which of its ends let the others go on."),
        may("phaseConditions", Kind::Object(&CONDITIONS), "What its result means."),
        may("hooks", Kind::Object(&HOOKS), "Tasks that run when it begins or ends."),
        may("resources", Kind::Object(&RESOURCES), "What a worker needs for it."),
    ],
);

static DAG: Shape = plain(
    "Dag",
    &[
        must("name", Kind::Name, "Its name."),
        may("inputs", Kind::Object(&CALL), "What it needs."),
        must("tasks", Kind::List(&Kind::Object(&NODE)), "Its tasks."),
        may("entrypoints", Kind::Names, "Where it begins, if not with all that need nothing."),
        may("continueOn", Kind::Object(&TOLERANCE), "For tasks that say nothing themselves."),
        may("phaseConditions", Kind::Object(&CONDITIONS), "What its end means."),
        may("outputs", Kind::Object(&OUTPUTS), "What comes of it."),
        may("timeout", Kind::Span(false), "How long it may take."),
    ],
);

static AGGREGATE: Shape = plain(
    "Aggregate",
    &[
        may("strategy", Kind::Word(&["last", "first", "list"]), "Which rounds count; `last`."),
        may("parameters", Kind::List(&Kind::Text), "Which outputs; all, if nothing is said."),
    ],
);

static LOOP: Shape = Shape {
    name: "Loop",
    fields: &[
        must("name", Kind::Name, "Its name."),
        may("inputs", Kind::Object(&CALL), "What it needs."),
        must("body", Kind::Text, "The template of a round."),
        may("items", Kind::List(&Kind::Any), "One round for each of these."),
        may("itemsFrom", Kind::Text, "One round for each item of a list from elsewhere."),
        may("repeatCondition", Kind::Expression, "After a round: true means another one."),
        may("concurrency", Kind::Whole(0, 10_000), "Rounds at once; 1. 0: as many as may be."),
        may("maxIterations", Kind::Whole(1, 10_000), "Most rounds."),
        may("arguments", Kind::Object(&CALL), "What each round is given."),
        may("aggregate", Kind::Object(&AGGREGATE), "What the outputs of the rounds become."),
        may("phaseConditions", Kind::Object(&CONDITIONS), "What its end means."),
        may("outputs", Kind::Object(&RESULTS), "What comes of it."),
        may("timeout", Kind::Span(false), "How long it may take."),
    ],
    extension: &[
        may("failFast", Kind::Flag, "No new rounds after one that failed."),
        may("phaseFrom", Kind::Word(&["all", "last"]), "Which rounds decide how it ends; `all`."),
    ],
};

/// Words of other formats and what they are called here.
pub const SYNONYMS: &[(&str, &str)] = &[
    ("depends", "dependencies"),
    ("dependsOn", "dependencies"),
    ("needs", "dependencies"),
    ("args", "arguments"),
    ("params", "parameters"),
    ("withItems", "items"),
    ("withParam", "itemsFrom"),
    ("retryStrategy", "retry"),
    ("condition", "when"),
    ("if", "when"),
    ("backoff", "x-dormouse"),
];
