CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID, STRICT;

CREATE TABLE runs (
  run_id TEXT PRIMARY KEY,
  state TEXT NOT NULL,
  native_state TEXT NOT NULL,
  open INTEGER NOT NULL,
  runnable INTEGER NOT NULL,
  process_id TEXT,
  process_digest TEXT,
  parent_id TEXT,
  parent_effect INTEGER,
  parent_depth INTEGER,
  tags TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  head_seq INTEGER NOT NULL,
  head_sum BLOB NOT NULL,
  pending TEXT NOT NULL,
  create_key TEXT,
  create_digest TEXT,
  reasons INTEGER NOT NULL,
  wake_at INTEGER,
  problem TEXT
) WITHOUT ROWID, STRICT;
CREATE INDEX runs_created ON runs (created_at, run_id);
CREATE INDEX runs_by_state ON runs (state, created_at, run_id);
CREATE INDEX runs_open ON runs (created_at, run_id) WHERE open = 1;
CREATE INDEX runs_open_by_id ON runs (run_id) WHERE open = 1;
CREATE INDEX runs_runnable ON runs (run_id) WHERE runnable = 1;
CREATE INDEX runs_due ON runs (wake_at, run_id) WHERE wake_at IS NOT NULL;
CREATE INDEX runs_by_process ON runs (process_id, created_at, run_id)
  WHERE process_id IS NOT NULL;
CREATE INDEX runs_by_parent ON runs (parent_id, created_at, run_id) WHERE parent_id IS NOT NULL;
CREATE INDEX runs_by_create_key ON runs (create_key, created_at, run_id)
  WHERE create_key IS NOT NULL;

CREATE TABLE tags (
  tag TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  run_id TEXT NOT NULL,
  PRIMARY KEY (tag, created_at, run_id)
) WITHOUT ROWID, STRICT;

CREATE TABLE effects (
  run_id TEXT NOT NULL,
  effect INTEGER NOT NULL,
  kind TEXT NOT NULL,
  status TEXT NOT NULL,
  key TEXT NOT NULL,
  title TEXT,
  task_id TEXT,
  requested_at INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  worker TEXT,
  due_at INTEGER,
  signal_name TEXT,
  signal_key TEXT,
  ready_at INTEGER,
  not_before INTEGER,
  priority INTEGER,
  rank INTEGER,
  requires TEXT,
  agent TEXT,
  ttl_ms INTEGER,
  claim TEXT,
  overdue_at INTEGER,
  limit_keys TEXT NOT NULL,
  since INTEGER NOT NULL,
  PRIMARY KEY (run_id, effect)
) WITHOUT ROWID, STRICT;
CREATE INDEX effects_since ON effects (since, run_id, effect);
CREATE INDEX effects_by_kind ON effects (kind, since, run_id, effect);
CREATE INDEX effects_uncertain ON effects (since, run_id, effect)
  WHERE status = 'uncertain';
CREATE INDEX effects_started ON effects (run_id, effect) WHERE status = 'started';
CREATE INDEX effects_ready ON effects (kind, rank, run_id, effect)
  WHERE ready_at IS NOT NULL AND not_before IS NULL;
CREATE INDEX effects_ready_of_run ON effects (run_id, kind, rank, effect)
  WHERE ready_at IS NOT NULL;
CREATE INDEX effects_ready_by_limit ON effects (kind, limit_keys, run_id, rank, effect)
  WHERE ready_at IS NOT NULL;
CREATE INDEX effects_delayed ON effects (kind, not_before) WHERE not_before IS NOT NULL;
CREATE INDEX effects_by_worker ON effects (worker, since, run_id, effect)
  WHERE worker IS NOT NULL;
CREATE INDEX effects_by_signal ON effects (signal_name, signal_key, requested_at, run_id, effect)
  WHERE signal_name IS NOT NULL;
CREATE INDEX effects_by_signal_key ON effects (signal_key, requested_at, run_id, effect)
  WHERE signal_key IS NOT NULL;

CREATE TABLE claims (
  claim TEXT NOT NULL,
  worker TEXT NOT NULL,
  run_id TEXT NOT NULL,
  effect INTEGER NOT NULL,
  PRIMARY KEY (claim, worker, run_id, effect)
) WITHOUT ROWID, STRICT;
CREATE INDEX claims_by_run ON claims (run_id, effect);

CREATE TABLE effect_keys (
  key TEXT NOT NULL,
  run_id TEXT NOT NULL,
  effect INTEGER NOT NULL,
  kind TEXT NOT NULL,
  status TEXT NOT NULL,
  digest TEXT NOT NULL,
  standing TEXT,
  outcome_seq INTEGER,
  value_digest TEXT,
  decided INTEGER NOT NULL,
  until INTEGER,
  PRIMARY KEY (key, run_id, effect)
) WITHOUT ROWID, STRICT;
CREATE INDEX effect_keys_by_run ON effect_keys (run_id, effect);
CREATE INDEX effect_keys_live ON effect_keys (until, run_id, effect) WHERE until IS NOT NULL;

CREATE TABLE rereads (run_id TEXT PRIMARY KEY, head_seq INTEGER NOT NULL) WITHOUT ROWID, STRICT;
