//! Tests through the public interface, one module for each subject.

mod pin_graph;
