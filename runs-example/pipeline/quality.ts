/** What the pipeline knows about data. Plain functions: nothing here waits or asks for anything. */

export interface Source {
  name: string;
  kind: "table" | "file";
}

export interface Batch {
  name: string;
  rows: number;
  dropped?: number;
}

export interface Rules {
  droppedShareMax: number;
  requiredColumns: string[];
}

/** Whether cleaning took more of a batch than the rules allow. */
export function reject(batch: Batch, rules: Rules): boolean {
  return share(batch) > rules.droppedShareMax;
}

/** One line about a batch, for the person who decides. */
export const summary = (batch: Batch): string =>
  `${batch.name}: ${Math.round(share(batch) * 100)} % dropped, ${batch.rows} rows left`;

function share(batch: Batch): number {
  const dropped = batch.dropped ?? 0;
  const all = batch.rows + dropped;
  return all === 0 ? 0 : dropped / all;
}
