//! Workflow documents: read, checked, and folded into requests.
//!
//! May not know journals, hosts or files. Invariant: what a document does is a function of the
//! document, the run's inputs and the outcomes in their order.

mod cel;
pub mod cron;
mod executors;
pub mod expression;
pub mod fields;
pub mod finding;
pub mod graph;
mod graphs;
pub mod model;
pub mod plan;
pub mod read;
pub mod reference;
pub mod rehearse;
mod rounds;
pub mod schema;
pub mod shape;
pub mod signatures;
pub mod snapshot;
pub mod span;
pub mod values;
mod views;
