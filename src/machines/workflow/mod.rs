//! Workflow documents: read, checked, and folded into requests.
//!
//! May not know journals, hosts or files. Invariant: what a document does is a function of the
//! document, the run's inputs and the outcomes in their order.

mod cel;
pub mod expression;
pub mod fields;
pub mod finding;
mod graphs;
pub mod model;
pub mod read;
pub mod reference;
mod rounds;
pub mod schema;
pub mod shape;
pub mod span;
pub mod values;
mod views;
