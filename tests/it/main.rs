//! Tests of the whole: one binary, one module a subject.

mod tidy;
